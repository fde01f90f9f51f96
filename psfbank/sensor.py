"""The sensor: colour sites, photons to electrons, electrons to digital numbers (EMVA 1288)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from psfbank.model import CFA_PATTERNS


def cfa_sites(cfa: str, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Tell which colour every pixel of a mosaic sees.

    Parameters
    ----------
    cfa : str
        Colours of the top-left 2 x 2 sites in reading order, "RGGB", or "mono".
    shape : (H, W)
        Pixels.

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
    height, width = shape
    return np.tile(unit, ((height + 1) // 2, (width + 1) // 2))[:height, :width]
