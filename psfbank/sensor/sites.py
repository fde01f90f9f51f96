"""Which colour every pixel of a mosaic sees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.model import CFA_PATTERNS


def cfa_sites(cfa: str, shape: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> npt.NDArray[np.int64]:
    """Tell which colour every pixel of a mosaic sees.

    Parameters
    ----------
    cfa : str
        Colours of the sensor's top-left 2 x 2 sites in reading order, "RGGB", or "mono".
    shape : (H, W)
        Pixels.
    origin : (y, x)
        Row and column of the sensor at which they begin.

    Returns
    -------
    (H, W) int64
        0, 1, 2 for R, G, B; zeros for a monochrome sensor.

    Raises
    ------
    ValueError
        When `cfa` names no mosaic.
    """
    if cfa == "mono":
        return np.zeros(shape, dtype=np.int64)
    if cfa not in CFA_PATTERNS or cfa == "RGB":
        raise ValueError(f"`cfa` must name a 2 x 2 mosaic or be 'mono', got {cfa!r}")
    unit = np.array(["RGB".index(colour) for colour in cfa], dtype=np.int64).reshape(2, 2)
    unit = np.roll(unit, (-origin[0], -origin[1]), axis=(0, 1))
    height, width = shape
    return np.tile(unit, ((height + 1) // 2, (width + 1) // 2))[:height, :width]


def mosaic(image: FloatArray, cfa: str, origin: tuple[int, int] = (0, 0)) -> FloatArray:
    """Keep of every pixel the colour that its site sees: (H, W, C) -> (H, W); `origin` as in `cfa_sites`."""
    kept = np.empty(image.shape[:2], dtype=image.dtype)
    for (row, column), colour in np.ndenumerate(cfa_sites(cfa, (2, 2), origin)):
        kept[row::2, column::2] = image[row::2, column::2, colour]
    return kept
