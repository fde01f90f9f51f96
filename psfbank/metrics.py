"""Figures of PSFs and wavefronts that the field quotes: MTF, MTF50, encircled energy, RMS error, Strehl ratio."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray, IntArray
from psfbank.model import PsfGrid
from psfbank.zernike import Pupil, centroid_px

FREQ_CPP = np.arange(65) / 64  # at which MTF is given, cycles/pixel: close enough for straight lines between
PUPIL_SAMPLES = 65  # a side, for Strehl ratios
PARTS = 4  # of a sample's side, for encircled energy
RADIUS_STEPS = 8  # of a sample


@dataclass(frozen=True, eq=False)
class FieldMtf:
    """Modulation transfer at the nodes of a grid, across the picture's radius and along it.

    `mtf` (C, Ty, Tx, 2, F) at `freq_cpp` (F,); of the axis of two, 0 is sagittal (frequencies across the radius) and 1
    tangential (along it). `mtf50_cpp` (C, Ty, Tx, 2) is where it falls to a half, NaN where it does not;
    `mtf50_std_cpp` its standard deviation, NaN where the PSF's is not known.
    """

    x_px: FloatArray
    y_px: FloatArray
    freq_cpp: FloatArray
    mtf: FloatArray
    mtf50_cpp: FloatArray
    mtf50_std_cpp: FloatArray
    channels: tuple[str, ...]


def mtf_along(
    kernel: FloatArray, angle_rad: float, freq_cpp: FloatArray, oversample: int = 1
) -> npt.NDArray[np.float64]:
    """Modulation transfer of a kernel along one direction: the modulus of its Fourier transform over that at 0.

    It is what a slanted edge with its normal in that direction shows (ISO 12233): the transform of a line spread
    function is the section through the transform of the PSF across the line.

    Parameters
    ----------
    kernel : (K, K) float
        Rows down, columns to the right.
    angle_rad : float
        From x (right) towards y (down).
    freq_cpp : (F,) float
        Cycles/pixel along the direction.
    oversample : int
        Samples a pixel; frequencies beyond half of it are folded back.

    Returns
    -------
    (F,) float64
    """
    rows, columns = ((np.arange(n) - n // 2) / oversample for n in kernel.shape)
    turn = -2j * np.pi * np.asarray(freq_cpp)[:, None]
    down, across = np.exp(turn * np.sin(angle_rad) * rows), np.exp(turn * np.cos(angle_rad) * columns)
    transfer = np.einsum("fr,rc,fc->f", down, np.asarray(kernel, dtype=np.float64), across, optimize=True)
    return np.asarray(np.abs(transfer) / kernel.sum())


def crossing_cpp(freq_cpp: FloatArray, sfr: FloatArray, level: float) -> float:
    """First frequency at which a response falls to a level, linear between its samples.

    MTF50, MTF20 and MTF10 are the crossings of 0.5, 0.2 and 0.1. The reference implementation of ISO 12233 draws the
    same straight line between samples; where a curve bends, they must lie close.

    Parameters
    ----------
    freq_cpp, sfr : (F,) float
        Frequencies in cycles/pixel, and the response at each.
    level : float
        In 0..1.

    Returns
    -------
    float
        Cycles/pixel; NaN when the response stays above the level, or begins below it.
    """
    below = np.flatnonzero(np.asarray(sfr) < level)
    if not below.size or below[0] == 0:
        return float("nan")
    after = int(below[0])
    above, under = sfr[after - 1], sfr[after]
    share = (above - level) / (above - under)
    return float(freq_cpp[after - 1] + share * (freq_cpp[after] - freq_cpp[after - 1]))


def field_mtf(grid: PsfGrid, size_px: tuple[int, int]) -> FieldMtf:
    """Modulation transfer of the kernels at all nodes, sagittal and tangential.

    The standard deviation of MTF50 follows from the kernels' expected relative error s in the L2 norm. By Parseval's
    theorem s^2 is also that of the transfer function H; taken to follow H over frequency, and to be as large across
    H's phase as along it, it makes |H| uncertain by s |H| / sqrt(2), which the slope of |H| turns into a frequency.

    Parameters
    ----------
    grid : PsfGrid
    size_px : (H, W)
        Of the sensor, whose middle radii start from. At the middle itself, x stands for the radius.

    Returns
    -------
    FieldMtf
        At `FREQ_CPP`.
    """
    along = np.arctan2(*np.meshgrid(grid.y_px - (size_px[0] - 1) / 2, grid.x_px - (size_px[1] - 1) / 2, indexing="ij"))
    mtf = np.zeros((*grid.kernels.shape[:3], 2, len(FREQ_CPP)))
    mtf50, std = np.full((2, *mtf.shape[:-1]), np.nan)
    sigma = np.asarray(grid.sigma, dtype=np.float64)
    for node in np.ndindex(grid.kernels.shape[:3]):
        for k, turn in enumerate((np.pi / 2, 0.0)):
            curve = mtf_along(grid.kernels[node], float(along[node[1:]]) + turn, FREQ_CPP, grid.oversample)
            mtf[(*node, k)], mtf50[(*node, k)] = curve, crossing_cpp(FREQ_CPP, curve, 0.5)
            slope = np.interp(mtf50[(*node, k)], FREQ_CPP, np.abs(np.gradient(curve, FREQ_CPP)))
            std[(*node, k)] = sigma[node] * 0.5 / np.sqrt(2) / slope if slope > 0 else np.nan
    return FieldMtf(grid.x_px, grid.y_px, FREQ_CPP, mtf, mtf50, std, grid.channels)


def encircled_energy(kernel: FloatArray, radius_px: npt.ArrayLike, oversample: int = 1) -> npt.NDArray[np.float64]:
    """Share of a kernel's light within circles about its centroid.

    Parameters
    ----------
    kernel : (K, K) float
    radius_px : (R,) float
    oversample : int
        Samples a pixel.

    Returns
    -------
    (R,) float64
    """
    radii, energy = _energy_curve(kernel, oversample)
    return np.asarray(np.interp(np.atleast_1d(radius_px), radii, energy))


def radius_of_energy_px(kernel: FloatArray, share: float, oversample: int = 1) -> float:
    """Radius (pixels) of the circle about a kernel's centroid that holds a share of its light, like 0.5 or 0.8."""
    radii, energy = _energy_curve(kernel, oversample)
    return float(np.interp(share, energy, radii))


def _energy_curve(kernel: FloatArray, oversample: int) -> tuple[FloatArray, FloatArray]:
    """Radii (R,) px from 0, and the share (R,) of light within each; every sample's light is even over its area."""
    light = np.asarray(kernel, dtype=np.float64)
    x_px, y_px = centroid_px(light, oversample)
    rows, columns = ((np.arange(PARTS * n) + 0.5) / PARTS - 0.5 - n // 2 for n in kernel.shape)
    distance = np.hypot(rows[:, None] - y_px * oversample, columns - x_px * oversample)
    ring = (distance * RADIUS_STEPS).astype(np.int64).ravel()
    within = np.cumsum(np.bincount(ring, np.repeat(np.repeat(light, PARTS, axis=0), PARTS, axis=1).ravel()))
    return np.arange(len(within) + 1) / (RADIUS_STEPS * oversample), np.concatenate([[0.0], within / within[-1]])


def rms_wfe_nm(coefficients_nm: FloatArray, nm: IntArray) -> npt.NDArray[np.float64]:
    """RMS wavefront error of orthonormal Zernike coefficients (..., J), nm, without piston and tilt: (...,).

    Piston does not blur and tilt only displaces; the terms are orthonormal, so squares add.
    """
    return np.asarray(np.sqrt(np.sum(np.square(coefficients_nm[..., nm[:, 0] >= 2]), axis=-1)))


def strehl_ratio(coefficients_nm: FloatArray, nm: IntArray, wavelength_nm: float) -> npt.NDArray[np.float64]:
    """Strehl ratio of wavefronts over a full circular pupil: |mean of exp(2 pi i W / wavelength)|^2, without tilt.

    Parameters
    ----------
    coefficients_nm : (..., J) float
        Orthonormal Zernike coefficients.
    nm : (J, 2) int
        The (n, m) of each.
    wavelength_nm : float

    Returns
    -------
    (...,) float64
        In 0..1; near exp(-(2 pi RMS / wavelength)^2) where that is large (Mahajan, JOSA 73, 860 (1983)).
    """
    pupil = Pupil.of(PUPIL_SAMPLES)
    weight = pupil.circle()
    lit = weight > 0
    blurs = nm[:, 0] >= 2
    waves = np.asarray(coefficients_nm)[..., blurs] @ pupil.basis(nm[blurs])[:, lit] / wavelength_nm
    return np.asarray(np.abs(np.exp(2j * np.pi * waves) @ (weight[lit] / weight.sum())) ** 2)
