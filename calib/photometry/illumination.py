"""Relative illumination of flats as a smooth surface of each channel."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre

from calib.photometry.cells import channel_cells, dark_mean, site_offsets
from psfbank.arrays import FloatArray
from psfbank.errors import FitFailed
from psfbank.model import Camera, Capture, Illumination

DEGREES = (2, 4, 6, 8, 10)  # of the surface, tried in turn
CELLS_A_SIDE = 30  # along the short side
TUKEY = 4.685  # constant of the biweight: 95 % efficient on Gaussian residuals
_log = logging.getLogger(__name__)


def fit_illumination(
    flats: Sequence[Capture],
    camera: Camera,
    x_px: npt.ArrayLike,
    y_px: npt.ArrayLike,
    darks: Sequence[Capture] = (),
) -> Illumination:
    """Fit a smooth relative illumination to flats, a channel at a time.

    Cell means of all flats, brought to one scale and averaged, are fitted with a polynomial of x and y whose degree is
    chosen by generalised cross-validation (Craven and Wahba, Numer. Math. 31, 1979) and whose residuals pass Tukey's
    biweight, which leaves dust out.

    Parameters
    ----------
    flats : sequence of Capture
        Evenly lit, at any levels.
    camera : Camera
    x_px, y_px : (Tx,), (Ty,) array_like
        Nodes of the result, pixels.
    darks : sequence of Capture
        Correct a declared black level that is not quite true: those of a flat's own ISO speed where there are any.

    Returns
    -------
    Illumination
        1 at the peak of each channel's surface.

    Raises
    ------
    FitFailed
        When there is no flat, or too few cells are free of saturation.
    """
    if not flats:
        raise FitFailed("no flat captures", where="flat", remedy="Capture an evenly lit surface, out of focus")
    x_px, y_px = np.asarray(x_px, dtype=np.float64), np.asarray(y_px, dtype=np.float64)
    height, width = camera.size_px
    cell_px = max(4, 2 * round(min(height, width) / (2 * CELLS_A_SIDE)))
    span = np.array([width - 1, height - 1]) / 2
    dense_x, dense_y = np.meshgrid(np.linspace(-1, 1, 161), np.linspace(-1, 1, 121))
    node_x, node_y = np.meshgrid(x_px / span[0] - 1, y_px / span[1] - 1)
    surfaces = []
    for c, name in enumerate(camera.channels):
        offsets = _offsets(flats, [(dark, dark_mean(dark, camera.cfa, c)) for dark in darks])
        cells = np.stack([_cell_means(flat, camera.cfa, c, cell_px) for flat in flats]) - offsets[:, None, None]
        relative = _combined(cells)
        where = np.isfinite(relative)
        if where.sum() < 4 * _terms(DEGREES[0]):
            remedy = "Expose the flats less, between 5 % and 70 % of saturation"
            raise FitFailed(
                f"only {where.sum()} cells of channel {name} are not saturated", where="flat", remedy=remedy
            )
        rows, cols = np.nonzero(where)
        centre = site_offsets(camera.cfa, c, cell_px).mean(axis=0)
        at = (np.column_stack([cols, rows]) * cell_px + centre) / span - 1
        degree, coefficients = _robust_surface(at, relative[where])
        dense = _vander(dense_x, dense_y, degree) @ coefficients
        nodes = _vander(node_x, node_y, degree) @ coefficients
        surfaces.append(np.maximum(nodes / dense.max(), 0.0))
        _log.debug("illumination of %s: degree %d, %d cells of %d px", name, degree, len(at), cell_px)
    return Illumination(x_px, y_px, np.array(surfaces), camera.channels)


def _offsets(flats: Sequence[Capture], darks: Sequence[tuple[Capture, float]]) -> npt.NDArray[np.float64]:
    """Signal (F,) of each flat without light, from the darks of its own ISO speed, or all where it has none."""
    offsets = np.zeros(len(flats))
    for f, flat in enumerate(flats):
        own = [mean for dark, mean in darks if dark.setting.iso == flat.setting.iso]
        if darks:
            offsets[f] = np.mean(own or [mean for _, mean in darks])
    return offsets


def _cell_means(flat: Capture, cfa: str, channel: int, cell_px: int) -> npt.NDArray[np.float64]:
    """Mean (By, Bx) of each cell; NaN where it saturates."""
    means = channel_cells(flat.pixels, cfa, channel, cell_px).mean(axis=-1, dtype=np.float64)
    over = channel_cells(flat.saturated, cfa, channel, cell_px).any(axis=-1)
    return np.where(over, np.nan, means)


def _combined(cells: FloatArray) -> npt.NDArray[np.float64]:
    """Average flats (F, By, Bx) of different levels, weighted by their light; NaN where all saturate."""
    valid = np.isfinite(cells)
    counts = valid.sum(axis=(1, 2))
    reference = max(range(len(cells)), key=lambda f: (counts[f], np.nanmean(cells[f]) if counts[f] else 0.0))
    total, light = np.zeros(cells.shape[1:]), np.zeros(cells.shape[1:])
    for flat, ok in zip(cells, valid, strict=True):
        shared = ok & valid[reference]
        if shared.any():
            scale = flat[shared].sum() / cells[reference][shared].sum()
            total[ok] += flat[ok]  # flat / scale, weighted by scale: photon noise makes that the best weight
            light[ok] += scale
    return np.divide(total, light, out=np.full_like(total, np.nan), where=light > 0)


def _terms(degree: int) -> int:
    return (degree + 1) * (degree + 2) // 2


def _vander(x: FloatArray, y: FloatArray, degree: int) -> npt.NDArray[np.float64]:
    """Legendre products of total degree up to `degree`, (..., terms); x and y in [-1, 1]."""
    powers = np.add.outer(np.arange(degree + 1), np.arange(degree + 1)).ravel()
    return np.asarray(legendre.legvander2d(x, y, [degree, degree])[..., powers <= degree])


def _robust_surface(at: FloatArray, values: FloatArray) -> tuple[int, npt.NDArray[np.float64]]:
    """Degree and coefficients of the surface through (N,) values at (N, 2) places."""
    degrees = [degree for degree in DEGREES if 4 * _terms(degree) <= len(values)]
    designs = {degree: _vander(at[:, 0], at[:, 1], degree) for degree in degrees}
    _, weight = _biweight_fit(designs[degrees[-1]], values)  # what is dust, no surface follows

    def score(degree: int) -> float:
        misfit = values - designs[degree] @ _weighted_fit(designs[degree], values, weight)
        return float(np.average(misfit**2, weights=weight) / (1 - _terms(degree) / weight.sum()) ** 2)

    best = min(degrees, key=score)
    return best, _biweight_fit(designs[best], values)[0]


def _biweight_fit(design: FloatArray, values: FloatArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Coefficients and weights after iterated reweighting by Tukey's biweight."""
    weight: npt.NDArray[np.float64] = np.ones(len(values))
    for _ in range(15):
        misfit = np.abs(values - design @ _weighted_fit(design, values, weight))
        scale = TUKEY * max(1.4826 * float(np.median(misfit)), float(np.finfo(np.float32).eps))
        weight = np.square(np.maximum(1 - np.square(misfit / scale), 0.0), dtype=np.float64)
    return _weighted_fit(design, values, weight), weight


def _weighted_fit(design: FloatArray, values: FloatArray, weight: FloatArray) -> npt.NDArray[np.float64]:
    # Legendre products are nearly orthogonal on the grid of cells: the normal equations lose nothing
    weighted = design.T * weight
    return np.asarray(np.linalg.lstsq(weighted @ design, weighted @ values, rcond=None)[0])
