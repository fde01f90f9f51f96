"""Compare a bank with the bank that is the truth: the numbers of the README's accuracy table.

python tests/bench/accuracy.py BANK.h5 sample_captures/truth.h5
"""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import fourier_shift
from scipy.optimize import least_squares, minimize
from scipy.spatial.transform import Rotation

from psfbank import PsfBank
from psfbank.model import Calibration

COLUMNS, ROWS, MARGIN_PX = 11, 9, 8


def padded(kernel: np.ndarray, half: int) -> np.ndarray:
    return np.pad(kernel, half - len(kernel) // 2)


def psf_errors(got: np.ndarray, want_fine: np.ndarray, oversample: int) -> tuple[float, float]:
    """Relative L2 error and largest 1-D MTF error after the best sub-pixel shift of the truth."""
    half = max(len(got), len(want_fine) // oversample) // 2 + 2
    mine, fine = padded(got, half), padded(want_fine, half * oversample)
    spectrum = np.fft.fft2(fine)

    def shifted(move_px: np.ndarray) -> np.ndarray:
        moved = np.fft.ifft2(fourier_shift(spectrum, move_px * oversample)).real[::oversample, ::oversample]
        return moved / moved.sum()

    best = minimize(lambda m: np.sum((mine - shifted(m)) ** 2), np.zeros(2), method="Nelder-Mead").x
    true = shifted(best)
    mtf = [np.abs(np.abs(np.fft.rfft(mine.sum(k))) - np.abs(np.fft.rfft(true.sum(k)))).max() for k in (0, 1)]
    return float(np.linalg.norm(mine - true) / np.linalg.norm(true)), float(max(mtf))


def turned(rays: np.ndarray, turn: np.ndarray) -> np.ndarray:
    v = np.column_stack([rays, np.ones(len(rays))]) @ Rotation.from_rotvec(turn).as_matrix().T
    return v[:, :2] / v[:, 2:]


def rms(miss: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum(miss**2, axis=1))))


def compare(got: Calibration, want: Calibration, size_px: tuple[int, int]) -> dict[str, float]:
    x_px = np.linspace(MARGIN_PX, size_px[1] - 1 - MARGIN_PX, COLUMNS)
    y_px = np.linspace(MARGIN_PX, size_px[0] - 1 - MARGIN_PX, ROWS)
    fine = want.psf_grid.oversample
    psf = np.array(
        [
            psf_errors(got.psf(x, y, c), want.psf(x, y, c, oversample=fine), fine)
            for c, y, x in product(want.psf_grid.channels, y_px, x_px)
        ]
    )
    nodes = got.psf_grid.y_px, got.psf_grid.x_px
    sigma = [
        RegularGridInterpolator(nodes, got.psf_grid.sigma[got.psf_grid.channels.index(c)])((y, x))
        for c, y, x in product(want.psf_grid.channels, y_px, x_px)
    ]
    places = np.stack(np.meshgrid(x_px, y_px), axis=-1).reshape(-1, 2)
    rays = want.distortion.unproject(places)
    # the camera frame's own rotation is not observable
    turn = least_squares(lambda w: (got.distortion.project(turned(rays, w)) - places).ravel(), np.zeros(3)).x
    rays_there = turned(rays, turn)
    green = got.distortion.project(rays_there)
    lateral = {
        c: rms(got.distortion.project(rays_there, c) - green - want.distortion.project(rays, c) + places) for c in "RB"
    }
    shading = [cal.shading(*places.T) for cal in (got, want)]
    return {
        "psf_rel_l2_median": float(np.median(psf[:, 0])),
        "psf_rel_l2_p90": float(np.percentile(psf[:, 0], 90)),
        "psf_within_sigma": float(np.mean(psf[:, 0] < np.array(sigma))),
        "mtf_abs_err_p90": float(np.percentile(psf[:, 1], 90)),
        "geometry_rms_px": rms(green - places),
        **{f"lateral_ca_{c}_rms_px": value for c, value in lateral.items()},
        "gain_rel_err": float(np.abs(got.noise.gain_dn_per_e / want.noise.gain_dn_per_e - 1).max()),
        "read_noise_rel_err": float(np.abs(got.noise.read_noise_e / want.noise.read_noise_e - 1).max()),
        "black_err_dn": float(np.abs(got.noise.black_dn - want.noise.black_dn).max()),
        "shading_max_abs_err": float(np.abs(shading[0] / shading[0].max() - shading[1] / shading[1].max()).max()),
    }


if __name__ == "__main__":
    truth = PsfBank.open(sys.argv[2])
    for name, value in compare(PsfBank.open(sys.argv[1]).at(), truth.at(), truth.camera.size_px).items():
        sys.stdout.write(f"{name:24s} {value:.4f}\n")
