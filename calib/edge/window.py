"""Which samples an edge is measured on: those around it that nothing else reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import minimum_filter1d

from calib.edge.fit import Edge
from psfbank.arrays import BoolArray, FloatArray

REACH_PX = 30.0  # on either side: wings and levels
FAR_PX = 2 * REACH_PX  # what is farther has no part in it
GUARD_BLURS, GUARD_PX = 3.5, 1.0  # kept from all else
CORE_BLURS, CORE_PX = 3.0, 1.0  # half width of the samples that tell the shape
LEAST_CLEAR = 0.3  # of the core's samples, or what lies around gets into the window
OPEN_PX = 2.0  # an end as near to the border is no corner: the edge leaves there

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Window:
    """Samples (N,) of one channel at `xy_px` (N, 2); whether some are clipped, and whether all else keeps away."""

    values: Array
    xy_px: Array
    clipped: bool
    contaminated: bool


def window_of(
    values: FloatArray, use: BoolArray, clipped: BoolArray, edge: Edge, xywh: tuple[int, int, int, int] | None = None
) -> Window:
    """Cut the samples around an edge out of a picture.

    Parameters
    ----------
    values : (H, W) float
    use, clipped : (H, W) bool
        Sites of the channel, and those at the white level.
    edge : Edge
    xywh : tuple of int, optional
        Nothing beyond this region is taken.

    Returns
    -------
    Window
    """
    height, width = values.shape
    x, y, wide, high = (0, 0, width, height) if xywh is None else xywh
    ends = edge.at(np.array([-0.5, 0.5]) * edge.length_px)
    low = np.maximum(np.floor(ends.min(axis=0) - REACH_PX).astype(int), [x, y])
    top = np.minimum(np.ceil(ends.max(axis=0) + REACH_PX).astype(int) + 1, [x + wide, y + high])
    rows, columns = np.nonzero(use[low[1] : top[1], low[0] : top[0]])
    rows, columns = rows + low[1], columns + low[0]
    xy = np.column_stack([columns, rows]).astype(np.float64)
    taken, contaminated = _taken(edge, xy, np.array([[x, y], [x + wide, y + high]]) - 0.5)
    rows, columns = rows[taken], columns[taken]
    return Window(
        np.asarray(values[rows, columns], np.float64), xy[taken], bool(clipped[rows, columns].any()), contaminated
    )


def _taken(edge: Edge, xy_px: Array, borders_px: Array) -> tuple[BoolArray, bool]:
    """Tell which samples (N, 2) are the edge's alone; and whether all else lies too near for that."""
    across, along = edge.frame(xy_px)
    half = edge.length_px / 2
    ends = edge.at(np.array([-half, half]))
    open_end = (np.minimum(ends - borders_px[0], borders_px[1] - ends) <= OPEN_PX).any(axis=1)
    guard = GUARD_BLURS * edge.blur_px + GUARD_PX
    nearest = _nearest(edge, ends[~open_end], guard)
    limit = nearest[(across > 0).astype(int), np.clip(np.rint(along + half), 0, nearest.shape[1] - 1).astype(int)]
    strip = (np.abs(across) <= REACH_PX) & (np.abs(along) <= half)
    core = strip & (np.abs(across) <= CORE_BLURS * edge.blur_px + CORE_PX)
    if np.mean((limit - guard)[core] >= np.abs(across)[core]) >= LEAST_CLEAR:
        return strip & (np.abs(across) <= limit - guard), False
    return strip & (np.abs(across) <= limit / 2), True


def _nearest(edge: Edge, corners_px: Array, guard_px: float) -> Array:
    """Distance (2, T) at which all else begins on the dark and the bright side, px by px along an edge.

    What lies beyond something else is not the edge's any more, however far from both.
    """
    half = edge.length_px / 2
    across, along = edge.frame(np.concatenate([edge.others_px, corners_px]))
    size, margin = int(edge.length_px) + 2, int(np.ceil(guard_px)) + 1
    at = np.rint(along + half).astype(np.int64) + margin
    near = (at >= 0) & (at < size + 2 * margin)
    begins = np.full((2, size + 2 * margin), FAR_PX)
    is_corner = np.arange(len(at)) >= len(edge.others_px)  # at a corner the next side begins, seen or not
    for side in (0, 1):
        own = near & (is_corner | ((across > 0) == bool(side)))
        np.minimum.at(begins[side], at[own], np.where(is_corner, 0.0, np.abs(across))[own])
    return np.asarray(minimum_filter1d(begins, 2 * margin - 1, axis=1)[:, margin:-margin])
