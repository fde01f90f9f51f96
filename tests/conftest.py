"""Shared fixtures: a small camera whose every part is known."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from calib.commands import main
from psfbank.bank import PsfBank
from psfbank.model import (
    Axis,
    Calibration,
    Camera,
    DistortionMap,
    EdgeResponses,
    Illumination,
    Imaging,
    MapUncertainty,
    NoiseByIso,
    NoiseModel,
    PsfEvidence,
    PsfGrid,
    Setting,
    ZernikeField,
)

# a busy machine must not fail a property
settings.register_profile("psfbank", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("psfbank")

SAMPLE_CAPTURES = Path(__file__).parents[1] / "sample_captures"
HEIGHT_PX, WIDTH_PX = 96, 128
X_PX, Y_PX = np.linspace(8.0, 119.0, 5), np.linspace(8.0, 87.0, 4)
CENTRE_PX = np.array([(WIDTH_PX - 1) / 2, (HEIGHT_PX - 1) / 2])
FOCAL_PX = 110.0


def comatic_kernel(x: float, y: float, channel: int, size: int = 15, oversample: int = 3) -> np.ndarray:
    """A core with a tail that points away from the image's centre and grows with the distance; centroid at 0."""
    away = (np.array([x, y]) - CENTRE_PX) / np.hypot(*CENTRE_PX)
    width = 0.50 + 0.05 * channel
    row, col = np.mgrid[:size, :size] - size // 2
    shift = np.zeros(2)
    for _ in range(30):  # move the centroid of the sampled, cut-off kernel to the array centre
        kernel = np.zeros((size, size))
        for weight, along in ((0.6, 0.0), (0.25, 0.7), (0.15, 1.4)):
            centre = along * away - shift
            spread = width * (1 + 0.3 * along * np.hypot(*away))
            r2 = (col / oversample - centre[0]) ** 2 + (row / oversample - centre[1]) ** 2
            kernel += weight / spread**2 * np.exp(-0.5 * r2 / spread**2)
        kernel /= kernel.sum()
        shift += np.array([(kernel * col).sum(), (kernel * row).sum()]) / oversample
    return kernel


def psf_grid() -> PsfGrid:
    kernels = [[[comatic_kernel(x, y, c) for x in X_PX] for y in Y_PX] for c in range(3)]
    tiles = (3, len(Y_PX), len(X_PX))
    counts = np.arange(60).reshape(tiles) + 3
    return PsfGrid(
        X_PX, Y_PX, np.array(kernels), oversample=3, sigma=np.full(tiles, 0.02), n_obs=counts, flags=counts % 2 * 128
    )


def evidence() -> PsfEvidence:
    """One tile unseen, and a residual that differs in every pixel."""
    tiles = (3, len(Y_PX), len(X_PX))
    chi2 = 1 + 0.01 * np.arange(60.0).reshape(tiles)
    chi2[0, 0, 0] = np.nan
    residual = 1e-4 * np.arange(60 * 49.0).reshape(*tiles, 7, 7)
    return PsfEvidence(X_PX, Y_PX, chi2, chi2 + 0.1, np.arange(60).reshape(tiles) % 4, 3 * chi2, residual)


def edges() -> EdgeResponses:
    """Edges across four directions in all channels, two in blue; one measured without noise, one never at a half."""
    freq = np.linspace(0.0, 1.0, 65)
    channel = np.array([0, 1, 2, 2, 0, 1])
    mtf = np.exp(-((freq / (0.3 + 0.02 * np.arange(6.0)[:, None])) ** 2))
    std = 0.01 * freq * np.ones((6, 1))
    std[3] = np.nan
    mtf50 = (0.3 + 0.02 * np.arange(6.0)) * np.sqrt(np.log(2))
    mtf50[5] = np.nan
    xy = np.column_stack([10.0 + 20.0 * np.arange(6), 12.0 + 14.0 * np.arange(6)])
    angle = np.radians([5.0, 95.0, -85.0, 170.0, 40.0, 20.0])
    return EdgeResponses(
        xy, angle, channel, freq, mtf, std, mtf50, [0.002] * 3 + [np.nan] * 3, [0, 8192, 0, 4096, 0, 2]
    )


def wavefront() -> ZernikeField:
    nm = np.array([(2, 0), (3, 1), (3, -1), (4, 0)])
    off_x, off_y = np.meshgrid((X_PX - CENTRE_PX[0]) / 64, (Y_PX - CENTRE_PX[1]) / 64)
    terms = np.stack([20 * (off_x**2 + off_y**2), 30 * off_x, 30 * off_y, np.full_like(off_x, 10.0)], axis=-1)
    coefficients = np.array([1.1, 1.0, 0.9])[:, None, None, None] * terms
    return ZernikeField(
        X_PX, Y_PX, coefficients, np.full_like(coefficients, 0.5), nm, [610, 535, 465], 2.0, np.full((3, 4, 5), 0.01)
    )


def distortion() -> DistortionMap:
    """A barrel of 1.5 px in the corners, 0.2 % smaller in red and larger in blue."""
    camera_matrix = np.array([[FOCAL_PX, 0, CENTRE_PX[0]], [0, FOCAL_PX, CENTRE_PX[1]], [0, 0, 1]])
    knots_x, knots_y = np.linspace(-1.5, 1.5, 13), np.linspace(-1.5, 1.5, 12)
    # B-spline coefficients placed at the knots' running means follow a smooth function closely
    u, v = np.meshgrid(*(np.convolve(k[1:-1], np.ones(3) / 3, "valid") for k in (knots_x, knots_y)))
    barrel = -4.0 * (u**2 + v**2)
    scale = FOCAL_PX * np.array([-0.002, 0.0, 0.002])
    coefficients = [[(barrel + s) * u, (barrel + s) * v] for s in scale]
    region = [(0, 0), (WIDTH_PX - 1, 0), (WIDTH_PX - 1, HEIGHT_PX - 1), (0, HEIGHT_PX - 1)]
    modes = 0.01 * np.array([[[np.ones_like(u), 0 * u], [0 * u, np.ones_like(u)]]] * 3)
    sure = MapUncertainty(modes * np.arange(1.0, 4.0)[:, None, None, None, None], heldout_rms_px=0.06)
    return DistortionMap(
        *(camera_matrix, knots_x, knots_y, np.array(coefficients), np.array(region), np.full(3, 0.05)), uncertainty=sure
    )


def illumination() -> Illumination:
    off_x, off_y = np.meshgrid(X_PX - CENTRE_PX[0] - 3, Y_PX - CENTRE_PX[1])
    falloff = (1 + (off_x**2 + off_y**2) / FOCAL_PX**2) ** -2.0
    relative = np.stack([falloff ** (1 + 0.1 * c) for c in range(3)])
    return Illumination(X_PX, Y_PX, relative / relative.max((1, 2), keepdims=True))


def noise() -> NoiseModel:
    return NoiseModel(
        gain_dn_per_e=[0.24, 0.25, 0.26],
        read_noise_e=[2.1, 2.0, 2.2],
        dark_e_per_s=[0.3, 0.3, 0.3],
        prnu=[0.005, 0.005, 0.006],
        black_dn=[64.0, 64.0, 64.5],
        white_dn=[1023.0, 1023.0, 1023.0],
    )


def noise_by_iso() -> NoiseByIso:
    """Gain follows ISO speed, and read noise in electrons falls with it."""
    one = noise()
    step = np.array([1.0, 4.0, 16.0])[:, None]
    same = (np.tile(values, (3, 1)) for values in (one.dark_e_per_s, one.prnu, one.black_dn, one.white_dn))
    return NoiseByIso([100.0, 400.0, 1600.0], step * one.gain_dn_per_e, one.read_noise_e / np.sqrt(step), *same)


@pytest.fixture(scope="session")
def small_bank() -> PsfBank:
    """128 x 96 Bayer camera: 3 channels, 4 x 5 tiles of comatic kernels, wavefront, distortion, shading, noise."""
    camera = Camera("Reference", "Small", (HEIGHT_PX, WIDTH_PX), "RGGB", serial="007", lens="f/2 Ω", pitch_um=1.4)
    calibration = Calibration(
        setting=Setting(focal_mm=4.2, f_number=2.0, iso=100.0),
        psf_grid=psf_grid(),
        wavefront=wavefront(),
        distortion=distortion(),
        illumination=illumination(),
        noise=noise(),
        evidence=evidence(),
        edges=edges(),
        axis=Axis("focus_m", np.array([0.02, 0.03])),
        noise_by_iso=noise_by_iso(),
        provenance={"command": "synthetic", "seed": 0, "inputs": [{"name": "a.tif", "sha256": "0" * 64}]},
    )
    return PsfBank(camera, (calibration,))


@pytest.fixture(scope="session")
def rendered_bank(small_bank: PsfBank) -> PsfBank:
    """The small bank with a wavefront that PSFs can be rendered from; its kernels hold more than that."""
    cal = small_bank.at()
    assert cal.wavefront is not None
    off_x, off_y = np.meshgrid((X_PX - CENTRE_PX[0]) / 64, (Y_PX - CENTRE_PX[1]) / 64)
    clip = np.broadcast_to(np.stack([0.2 * off_x, 0.2 * off_y, np.full_like(off_x, 1.1)], axis=-1), (3, 4, 5, 3))
    wavelengths = np.array([[600.0, 620.0], [525.0, 545.0], [455.0, 475.0]])
    imaging = Imaging(wavelengths, np.ones((3, 2)), [0.30, 0.28, 0.26], clip, 1.4)
    wavefront = replace(cal.wavefront, imaging=imaging)
    return PsfBank(small_bank.camera, (replace(cal, wavefront=wavefront),))


@pytest.fixture
def sample_part(tmp_path: Path) -> Callable[..., Path]:
    """Copies some kinds of the sample captures into a session of its own, with changed values in [camera]."""

    def make(*kinds: str, **camera: object) -> Path:
        folder = tmp_path / "session"
        head, *tables = (SAMPLE_CAPTURES / "capture.toml").read_text(encoding="utf-8").split("[[capture]]\n")
        for key, value in camera.items():
            head, replaced = re.subn(rf"(?m)^{key} = .*$", f"{key} = {json.dumps(value)}", head)
            assert replaced == 1
        for kind in kinds:
            shutil.copytree(SAMPLE_CAPTURES / kind, folder / kind)
        kept = [table for table in tables if any(f'kind = "{kind}"' in table for kind in kinds)]
        assert len(kept) == len(kinds)
        (folder / "capture.toml").write_text("[[capture]]\n".join([head, *kept]), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def psfbank_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `psfbank` with words; gives its exit code, stdout and stderr."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["psfbank", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def bank(small_bank: PsfBank, tmp_path: Path) -> Path:
    """The small camera's bank as a file."""
    small_bank.save(tmp_path / "small.h5")
    return tmp_path / "small.h5"
