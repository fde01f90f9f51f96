"""Read a picture at other places: a cubic B-spline where it is magnified, a low-pass filter where it shrinks.

Where neighbouring pixels of the new picture are further apart than `COARSER` pixels of the old one, patches are read on
a grid fine enough for what the old picture resolves and brought down by a Kaiser-windowed sinc, so that detail beyond
the new Nyquist frequency is gone by `STOP_DB` instead of coming back as moire (Turkowski, Filters for common resampling
tasks, Graphics Gems, 1990; Kaiser and Schafer, IEEE TASSP 28, 105, 1980, for the window's length). Elsewhere the
spline through the pixels is read (Unser, Splines: a perfect fit, IEEE SPM 1999) at exact positions: `cv2.remap` rounds
them to 1/32 px. All of it in linear light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.signal import kaiser_beta

from psfbank.arrays import FloatArray, IntArray

Image = npt.NDArray[np.float32]
Positions = Callable[[FloatArray, FloatArray], FloatArray]  # rows (h,), columns (w,) -> (h, w, 2): x, y in the source
Edge = Literal["reflect", "mirror"]  # (d c b a | a b c d) or (d c b | a b c d), as in scipy.ndimage
COARSER = 1.2  # source pixels a new pixel, along the longer axis of its footprint, that call for a filter
STOP_DB, PASS = 46.0, 0.62  # attenuation from the new Nyquist frequency on, and where the fall begins, of Nyquist
REACH_PX = (STOP_DB - 7.95) / (2.285 * np.pi * (1 - PASS)) / 2  # half length of the filter that does so, new pixels
TILE = 128


def resample(
    plane: FloatArray, positions: Positions, shape: tuple[int, int], edge: Edge = "reflect", workers: int = 1
) -> Image:
    """Read a picture wherever the pixels of a new one look.

    Parameters
    ----------
    plane : (H, W) float
    positions : callable
        Of rows (h,) and columns (w,) of the new picture, whole or between, to (h, w, 2): x and y in `plane`, px; NaN
        for what is to be black. Called from several threads.
    shape : (H', W')
        Of the new picture.
    edge : "reflect" or "mirror"
        How `plane` goes on beyond its edges.
    workers : int
        Threads; the result does not depend on it.

    Returns
    -------
    (H', W') float32
    """
    spline = coefficients(plane, edge)
    out = np.empty(shape, dtype=np.float32)

    def fill(here: tuple[slice, slice]) -> None:
        y, x = (np.arange(part.start, part.stop, dtype=np.float64) for part in here)
        at = positions(y, x)
        known = np.isfinite(at[..., 0] + at[..., 1])
        out[here] = np.where(known, read(spline, positions, here, at, known, edge), np.float32(0))

    if workers == 1:
        for here in tiles(shape):
            fill(here)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(fill, tiles(shape)))
    return out


def coefficients(plane: FloatArray, edge: Edge = "mirror") -> Image:
    """Cubic B-spline coefficients (H, W) of a picture, for `read`."""
    return np.asarray(ndimage.spline_filter(plane, order=3, mode=edge, output=np.float32))


def tiles(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Cut a picture into parts of at most `TILE` x `TILE`."""
    for top in range(0, shape[0], TILE):
        for left in range(0, shape[1], TILE):
            yield slice(top, min(top + TILE, shape[0])), slice(left, min(left + TILE, shape[1]))


def read(
    spline: Image,
    positions: Positions,
    here: tuple[slice, slice],
    at: FloatArray,
    wanted: npt.NDArray[np.bool_],
    edge: Edge = "mirror",
) -> Image:
    """Read one part of a new picture.

    Parameters
    ----------
    spline : (H, W) float32
        From `coefficients`, of the same `edge`.
    positions : callable
        As in `resample`.
    here : two slices
        Rows and columns of the part.
    at : (h, w, 2) float
        `positions` of its pixels.
    wanted : (h, w) bool
        Pixels whose values matter; the others' are anything.
    edge : "reflect" or "mirror"

    Returns
    -------
    (h, w) float32
    """
    footprint_px = float(_stretch(at)[wanted].max()) if wanted.any() else 1.0
    if footprint_px <= COARSER:
        return _interpolated(spline, at, edge)
    finer = int(np.ceil(footprint_px))
    (down, y), (across, x) = (low_pass(part.start, part.stop, finer) for part in here)
    return np.asarray(down @ _interpolated(spline, positions(y, x), edge) @ across.T)


def shrink(image: FloatArray, factor: int) -> Image:
    """Bring a picture (s H, s W, C) down to (H, W, C): pixel k covers samples s k .. s k + s - 1, filtered as above.

    Beyond its edges the picture goes on as its mirror image, edge samples repeated.
    """
    light = np.asarray(image, dtype=np.float32)
    if factor == 1:
        return light
    for axis in (0, 1):
        count = light.shape[axis] // factor
        moved = np.moveaxis(light, axis, 0)
        parts = []
        for start in range(0, count, TILE):
            matrix, place = low_pass(start, min(start + TILE, count), factor)
            sample = np.rint(place * factor + (factor - 1) / 2).astype(np.int64)
            taken = moved[_reflected(sample, len(moved))]
            parts.append(np.tensordot(matrix, taken, axes=1))
        light = np.moveaxis(np.concatenate(parts), 0, axis)
    return np.ascontiguousarray(light)


def low_pass(start: int, stop: int, finer: int) -> tuple[Image, FloatArray]:
    """Filter (n, m) that brings samples `finer` times a pixel down to pixels start .. stop - 1, and their places (m,).

    A Kaiser-windowed sinc that falls from `PASS` of the Nyquist frequency to nothing at it.
    """
    matrix, off = _filter(stop - start, finer)
    return matrix, off + start


@lru_cache(maxsize=64)
def _filter(count: int, finer: int) -> tuple[Image, FloatArray]:
    reach = int(np.ceil(REACH_PX))
    place = (np.arange(-reach * finer, (count + reach) * finer) - (finer - 1) / 2) / finer
    off = place[None, :] - np.arange(count)[:, None]
    inside = np.clip(1 - (off / REACH_PX) ** 2, 0, None)
    cutoff = (1 + PASS) / 2
    weight = np.where(np.abs(off) < REACH_PX, np.sinc(cutoff * off) * np.i0(kaiser_beta(STOP_DB) * np.sqrt(inside)), 0)
    matrix = np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float32)
    matrix.flags.writeable = place.flags.writeable = False
    return matrix, place


def _reflected(sample: IntArray, count: int) -> IntArray:
    turned = np.mod(sample, 2 * count)
    return np.asarray(np.where(turned < count, turned, 2 * count - 1 - turned))


def gradient(at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Change of positions (h, w, 2) along y and along x, a pixel."""
    # a picture one pixel wide has no neighbour across: it is taken as stretched by nothing there
    unit = np.zeros_like(at), np.zeros_like(at)
    unit[0][..., 1] = unit[1][..., 0] = 1.0
    along_y, along_x = (np.gradient(at, axis=k) if at.shape[k] > 1 else unit[k] for k in range(2))
    return along_y, along_x


def _stretch(at: FloatArray) -> FloatArray:
    """Source pixels a new pixel, along the longer axis of its footprint: the larger singular value."""
    along_y, along_x = gradient(at)
    total = np.sum(along_x**2 + along_y**2, axis=-1)
    det = along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0]
    largest = np.sqrt((total + np.sqrt(np.maximum(total**2 - 4 * det**2, 0))) / 2)
    return np.asarray(np.nan_to_num(largest, nan=1.0))


def _interpolated(spline: Image, at: FloatArray, edge: Edge) -> Image:
    # far outside nothing is asked for: any place there will do
    limit = 2.0 * max(spline.shape)
    place = np.clip(np.nan_to_num(at, nan=-limit), -limit, limit)
    return np.asarray(
        ndimage.map_coordinates(spline, [place[..., 1], place[..., 0]], order=3, mode=edge, prefilter=False)
    )
