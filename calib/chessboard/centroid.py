"""Move corners to where the centroid of the lens's PSF puts them.

The fit of a blurred corner assumes a symmetric blur. An asymmetric PSF (coma) moves the fitted corner away from where
the PSF's centroid puts it, by a tenth of a pixel in the corners of a field, and a map fitted to corners would differ
from one fitted to points. With the PSF known the shift is found by doing it again: each corner is rendered sharp at
its place, blurred by the PSF of that place, and fitted by the same code on the same sites; what the fit says too much
is taken off.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve

from calib.chessboard.board import BoardDetection, clear_of_markers, sites
from calib.chessboard.corner import fit_corners, window_px
from psfbank.arrays import FloatArray
from psfbank.model import Camera, Capture, PsfGrid

LARGEST_SHIFT_PX = 1.0  # a larger one is no correction


def checkerboard(xy_px: FloatArray, along: FloatArray, down: FloatArray, sample_px: float) -> npt.NDArray[np.float64]:
    """Average of an endless +-1 checkerboard over square samples.

    Parameters
    ----------
    xy_px : (..., 2) float
        Centres of the samples, from a corner, pixels.
    along, down : (2,) float
        The board's cell, pixels.
    sample_px : float
        Side of a sample; small against the cell.

    Returns
    -------
    (...) float64
        Exact but within a sample of a corner, where the product of the two edges' averages stands for the average.
    """
    cell = np.stack([along, down], axis=1)
    area = abs(float(np.linalg.det(cell)))
    out = np.ones(xy_px.shape[:-1])
    for coordinate, other in zip(np.moveaxis(xy_px @ np.linalg.inv(cell).T, -1, 0), (down, along), strict=True):
        nearest = np.rint(coordinate)
        length = float(np.linalg.norm(other))
        width = 0.5 * sample_px * float(np.abs(other).sum()) / length  # half the sample's extent along the normal
        sign = 1.0 - 2.0 * (nearest % 2)
        out *= sign * np.clip((coordinate - nearest) * area / length / width, -1.0, 1.0)
    return out


def blurred_corner(
    kernel: FloatArray, oversample: int, offset_px: FloatArray, along: FloatArray, down: FloatArray, reach: int
) -> npt.NDArray[np.float64]:
    """Render a corner at `offset_px` from the middle pixel, blurred by a kernel: (2 reach + 1, 2 reach + 1) pixels."""
    half = reach * oversample + kernel.shape[0] // 2
    axis = np.arange(-half, half + 1) / oversample
    places = np.stack(np.meshgrid(axis, axis), axis=-1) - offset_px
    sharp = checkerboard(places, along, down, 1.0 / oversample)
    return np.asarray(fftconvolve(sharp, kernel, mode="valid")[::oversample, ::oversample])


def to_centroids(detection: BoardDetection, capture: Capture, camera: Camera, psf: PsfGrid) -> BoardDetection:
    """Correct every corner of a board for the asymmetry of the PSF at its place.

    Parameters
    ----------
    detection : BoardDetection
    capture : Capture
        The picture it was found in; only its size and sites matter.
    camera : Camera
    psf : PsfGrid
        Kernels with their centroids at the array centre.

    Returns
    -------
    BoardDetection
        With corrected `xy_px`; corners that cannot be corrected are no longer `found`.
    """
    columns = int(detection.grid[:, 0].max()) + 1
    xy_px, found = {}, {}
    for channel, corners in detection.xy_px.items():
        board = corners.reshape(-1, columns, 2)
        down, along = (g.reshape(-1, 2) for g in np.gradient(board, axis=(0, 1)))
        mask = clear_of_markers(sites(capture, camera, channel)[1], board, detection.marker_share)
        half = window_px(along, down)
        moved, kept = np.array(corners), np.zeros(len(corners), dtype=bool)
        for group in range(4):  # of every other row and column: their windows don't meet
            known = np.flatnonzero(detection.found[channel] & (detection.grid % 2 @ [1, 2] == group))
            values = np.zeros(mask.shape, dtype=np.float64)
            for m in known:
                kernel = psf.at(float(corners[m, 0]), float(corners[m, 1]), channel, psf.oversample)
                _draw(values, kernel, psf.oversample, corners[m], along[m], down[m], float(half[m]))
            fits = fit_corners(values, mask, corners[known], along[known], down[known])
            shift = fits.xy_px - corners[known]
            good = fits.good & (np.hypot(*shift.T) < LARGEST_SHIFT_PX)
            moved[known[good]] -= shift[good]
            kept[known[good]] = True
        xy_px[channel], found[channel] = moved, kept
    return replace(detection, xy_px=xy_px, found=found)


def _draw(
    values: FloatArray,
    kernel: FloatArray,
    oversample: int,
    corner_px: FloatArray,
    along: FloatArray,
    down: FloatArray,
    half_px: float,
) -> None:
    """Draw a blurred corner into the window (radius `half_px`) that its fit sees."""
    middle, reach = np.rint(corner_px).astype(int), int(np.ceil(half_px))
    patch = blurred_corner(kernel, oversample, corner_px - middle, along, down, reach)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    seen = np.hypot(x + middle[0] - corner_px[0], y + middle[1] - corner_px[1]) < half_px
    rows, columns = y + middle[1], x + middle[0]
    seen &= (rows >= 0) & (rows < values.shape[0]) & (columns >= 0) & (columns < values.shape[1])
    values[rows[seen], columns[seen]] = patch[seen]
