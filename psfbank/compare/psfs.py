"""PSFs of two calibrations at the same places: relative L2 distance after registration, and MTF50."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import RegularGridInterpolator

from psfbank.arrays import FloatArray, channel_index
from psfbank.errors import ComparisonError, MissingPartError
from psfbank.field import resample_kernel
from psfbank.model import Calibration, PsfGrid

Array = npt.NDArray[np.float64]
ROUNDS = 4


def on_common_nodes(one: Calibration, other: Calibration, channels: tuple[str, ...]) -> tuple[PsfGrid, PsfGrid]:
    """Bring the PSFs of two calibrations to the nodes of the first that lie in both fields.

    Returns
    -------
    tuple of PsfGrid
        Of equal channels, sampling and width.

    Raises
    ------
    MissingPartError
        When one of the two has no PSFs.
    ComparisonError
        When no node of the first lies within the field of the second.
    """
    first, second = one.psf_grid, other.psf_grid
    if first is None or second is None:
        raise MissingPartError("a calibration without PSFs cannot be compared by them")
    x_px, y_px = (
        a[(a >= b[0] - 0.5) & (a <= b[-1] + 0.5)] for a, b in ((first.x_px, second.x_px), (first.y_px, second.y_px))
    )
    if not len(x_px) or not len(y_px):
        raise ComparisonError(
            "no PSF of the first lies within the field of the second", remedy="Compare banks of one camera"
        )
    oversample = min(first.oversample, second.oversample)
    sampled = [
        _kernels(calibration, grid, channels, x_px, y_px, oversample)
        for calibration, grid in ((one, first), (other, second))
    ]
    width = max(kernels.shape[-1] for kernels in sampled)
    grids = []
    for kernels, grid in zip(sampled, (first, second), strict=True):
        margin = (width - kernels.shape[-1]) // 2
        wide = np.pad(kernels, [(0, 0)] * 3 + [(margin, margin)] * 2)
        sigma = np.stack([_sigma_at(grid, c, x_px, y_px) for c in channels])
        grids.append(PsfGrid(x_px, y_px, wide, oversample, sigma, channels=channels))
    return grids[0], grids[1]


def _kernels(
    calibration: Calibration,
    grid: PsfGrid,
    channels: tuple[str, ...],
    x_px: FloatArray,
    y_px: FloatArray,
    oversample: int,
) -> Array:
    columns, rows = (np.isin(at, nodes) for at, nodes in ((x_px, grid.x_px), (y_px, grid.y_px)))
    if columns.all() and rows.all():
        which = np.array([channel_index(grid.channels, c) for c in channels])
        places = np.searchsorted(grid.y_px, y_px), np.searchsorted(grid.x_px, x_px)
        kernels = np.asarray(grid.kernels[np.ix_(which, *places)], dtype=np.float64)
    else:
        lines = [
            [[calibration.psf(float(x), float(y), c, grid.oversample) for x in x_px] for y in y_px] for c in channels
        ]
        kernels = np.array(lines)
    if grid.oversample == oversample:
        return kernels
    return np.array([[[resample_kernel(k, grid.oversample, oversample) for k in row] for row in c] for c in kernels])


def _sigma_at(grid: PsfGrid, channel: str, x_px: FloatArray, y_px: FloatArray) -> Array:
    """Interpolate the expected relative error at the crossings of columns and rows, linearly."""
    sigma = np.asarray(grid.sigma, dtype=np.float64)[channel_index(grid.channels, channel)]
    for axis in range(2):
        if sigma.shape[axis] == 1:  # a single node stands for all
            sigma = np.repeat(sigma, 2, axis=axis)
    nodes = [line if len(line) > 1 else line[0] + np.array([-1.0, 1.0]) for line in (grid.y_px, grid.x_px)]
    inside = [np.clip(at, line[0], line[-1]) for at, line in zip((y_px, x_px), nodes, strict=True)]
    return np.asarray(RegularGridInterpolator(nodes, sigma)(np.stack(np.meshgrid(*inside, indexing="ij"), axis=-1)))


def relative_distance(one: FloatArray, other: FloatArray) -> Array:
    """L2 distance of kernels over their mean norm, the second moved by a fraction of a sample to where it fits best.

    Centroids are at the centre of both, but wings that noise lifts pull them: positions are the distortion map's.

    Parameters
    ----------
    one, other : (..., K, K) float
        K odd, so that the discrete Fourier transform shifts by any fraction.

    Returns
    -------
    (...,) float64
    """
    size = one.shape[-1]
    first, second = (np.fft.fft2(np.asarray(k, dtype=np.float64)) for k in (one, other))
    turn = 2j * np.pi * np.fft.fftfreq(size)
    along_y, along_x = turn[:, None], turn[None, :]
    moved = np.zeros((2, *one.shape[:-2], 1, 1))
    for _ in range(ROUNDS):
        shifted = second * np.exp(-along_y * moved[0] - along_x * moved[1])
        slopes = np.stack([-along_y * shifted, -along_x * shifted])
        # Gauss-Newton in the Fourier domain, where Parseval's theorem keeps the L2 norm
        normal = np.einsum("a...ij,b...ij->...ab", slopes, slopes.conj()).real
        right = np.einsum("a...ij,...ij->...a", slopes.conj(), first - shifted).real
        step = np.linalg.solve(normal, right[..., None])[..., 0]
        moved = moved + np.moveaxis(step, -1, 0)[..., None, None]
    miss = first - second * np.exp(-along_y * moved[0] - along_x * moved[1])
    norm = np.sqrt(sum(np.sum(np.abs(k) ** 2, axis=(-2, -1)) for k in (first, second)) / 2)
    return np.asarray(np.sqrt(np.sum(np.abs(miss) ** 2, axis=(-2, -1))) / norm)
