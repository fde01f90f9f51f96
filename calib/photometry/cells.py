"""Pictures cut into square cells: the units in which photometry averages over the field."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from psfbank.arrays import BoolArray
from psfbank.model import Capture
from psfbank.sensor import cfa_sites

OUTLIER_SIGMA = 5.0  # a Gaussian loses 6e-7 of its samples


def channel_cells(image: npt.NDArray[Any], cfa: str, channel: int, cell_px: int) -> npt.NDArray[Any]:
    """Cut the sites of one channel into square cells; a ragged border to the right and below is left out.

    Parameters
    ----------
    image : (H, W) or (H, W, C)
    cfa : str
    channel : int
    cell_px : int
        Side of a cell, pixels; even.

    Returns
    -------
    (By, Bx, n)
        The n sites of each cell, in the order of `site_offsets`.
    """
    plane = image[..., channel] if image.ndim == 3 else image
    by, bx = plane.shape[0] // cell_px, plane.shape[1] // cell_px
    cells = plane[: by * cell_px, : bx * cell_px].reshape(by, cell_px, bx, cell_px).swapaxes(1, 2)
    return cells[:, :, _cell_sites(cfa, channel, cell_px)]


def site_offsets(cfa: str, channel: int, cell_px: int) -> npt.NDArray[np.float64]:
    """Give the offsets (x, y) of a channel's sites from their cell's top-left pixel, (n, 2) pixels."""
    return np.argwhere(_cell_sites(cfa, channel, cell_px))[:, ::-1].astype(np.float64)


def dark_mean(dark: Capture, cfa: str, channel: int) -> float:
    """Mean of one channel of a dark frame, hot pixels left out, as a fraction of white."""
    pixels = dark.pixels
    if pixels.ndim == 3:
        sites = pixels[..., channel]
    else:
        sites = pixels[cfa_sites(cfa, (pixels.shape[0], pixels.shape[1])) == channel]
    return float(stats.sigmaclip(sites.astype(np.float64), OUTLIER_SIGMA, OUTLIER_SIGMA).clipped.mean())


def _cell_sites(cfa: str, channel: int, cell_px: int) -> BoolArray:
    if cfa == "RGB":
        return np.ones((cell_px, cell_px), dtype=bool)
    return np.equal(cfa_sites(cfa, (cell_px, cell_px)), channel)
