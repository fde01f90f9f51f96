"""Which samples an edge is measured on: those around it that nothing else reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calib.edge.fit import Edge
from psfbank.arrays import BoolArray, FloatArray

REACH_PX = 30.0  # on either side: wings and levels
GUARD_BLURS, GUARD_PX = 3.5, 1.0  # kept from all else
CORE_BLURS, CORE_PX = 3.0, 1.0  # half width that must be clear for a stretch of the edge to have a part
LEAST_CLEAR = 0.3  # of the length, or what lies around gets into the window

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
    across, along = edge.frame(np.stack([columns, rows], axis=-1).astype(np.float64))
    limit, contaminated = _limits(edge)
    taken = np.abs(across) <= np.interp(along, edge.along_px, limit, left=0.0, right=0.0)
    rows, columns = rows[taken], columns[taken]
    return Window(
        np.asarray(values[rows, columns], np.float64),
        np.column_stack([columns, rows]).astype(np.float64),
        bool(clipped[rows, columns].any()),
        contaminated,
    )


def _limits(edge: Edge) -> tuple[Array, bool]:
    """How far (P,) samples may lie from each place of an edge, px; and whether all else lies too near."""
    limit = edge.clear_px - GUARD_BLURS * edge.blur_px - GUARD_PX
    wide = limit >= CORE_BLURS * edge.blur_px + CORE_PX
    if wide.mean() >= LEAST_CLEAR:
        return np.where(wide, np.minimum(limit, REACH_PX), 0.0), False
    return np.minimum(edge.clear_px / 2, REACH_PX), True
