"""A mosaic to three colours a pixel.

"bilinear" averages neighbours of the same colour: OpenCV's method of that name, without its 16 bits. "malvar" corrects
that mean by the Laplacian of the colour that was measured (Malvar, He and Cutler, ICASSP 2004, figure 2). "edge_aware"
is OpenCV's: it averages along the weaker gradient, and works on 16-bit numbers, so the mosaic's range is divided into
65 535 steps. "menon" (Menon, Andriani and Calvagno, IEEE TIP 16(1), 2007) is slow and needs the extra of that name.

The filters run over strips that stay in the processor's cache: writing three colours from the main memory and back
would cost more than the arithmetic.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.isp.menon import menon
from psfbank.sensor import cfa_sites

Method = Literal["malvar", "bilinear", "edge_aware", "menon"]
Image = npt.NDArray[np.float32]

STRIP_PIXELS = 1 << 17
# what is missing at a site: green at red or blue; the other colour of the same row; the colour diagonally opposite
_BILINEAR = (
    np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]) / 4,
    np.array([[0, 0, 0], [1, 0, 1], [0, 0, 0]]) / 2,
    np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1]]) / 4,
)
_MALVAR = (
    np.array([[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]) / 8,
    np.array([[0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0]]) / 16,
    np.array([[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]]) / 16,
)
_REACH = 2  # pixels to each side that a filter sees
# OpenCV names a pattern by the second and third sites of its second row
_OPENCV_EDGE_AWARE = {
    "RGGB": cv2.COLOR_BayerBG2RGB_EA,
    "BGGR": cv2.COLOR_BayerRG2RGB_EA,
    "GRBG": cv2.COLOR_BayerGB2RGB_EA,
    "GBRG": cv2.COLOR_BayerGR2RGB_EA,
}


def demosaic(mosaic: FloatArray, cfa: str, method: Method = "malvar") -> Image:
    """Find the two colours that each site did not see.

    Parameters
    ----------
    mosaic : (H, W) float
        Linear light, at least 2 x 2; white-balanced, since all methods but "bilinear" compare colours.
    cfa : str
        Colours of the top-left 2 x 2 sites, "RGGB".
    method : "malvar", "bilinear", "edge_aware" or "menon"
        See the module's description.

    Returns
    -------
    (H, W, 3) float32
        RGB; at every site the colour that was measured is unchanged, by "edge_aware" to a step of its 16 bits.

    Raises
    ------
    ValueError
        When there is no such method or mosaic.
    ImageError
        When "menon" is asked for and colour-demosaicing is not installed.
    """
    sites = cfa_sites(cfa, (2, 2))
    if min(mosaic.shape) < 2 or cfa == "mono":
        raise ValueError(f"there is nothing to demosaic in {mosaic.shape} pixels of {cfa!r}")
    mosaic = np.asarray(mosaic, dtype=np.float32)
    if method == "edge_aware":
        return _edge_aware(mosaic, cfa)
    if method == "menon":
        return menon(mosaic, cfa)
    if method not in ("malvar", "bilinear"):
        raise ValueError(f"`method` must be 'malvar', 'bilinear', 'edge_aware' or 'menon', got {method!r}")
    # mirrored about the edge pixel, sites beyond the edge keep the colour that the pattern gives them
    padded: Any = cv2.copyMakeBorder(mosaic, _REACH, _REACH, _REACH, _REACH, cv2.BORDER_REFLECT_101)
    image = np.empty((*mosaic.shape, 3), dtype=np.float32)
    rows = max(STRIP_PIXELS // mosaic.shape[1] // 2 * 2, 2)
    for top in range(0, mosaic.shape[0], rows):
        strip = padded[top : top + rows + 2 * _REACH]
        _by_filters(strip, sites, _MALVAR if method == "malvar" else _BILINEAR, image[top : top + rows])
    return image


def _by_filters(padded: Image, sites: npt.NDArray[np.int64], kernels: tuple[FloatArray, ...], image: Image) -> None:
    """Fill an image whose first row is an even one of the mosaic."""
    inner = np.s_[_REACH:-_REACH, _REACH:-_REACH]
    mosaic = padded[inner]
    green, along, across = (cv2.filter2D(padded, -1, k)[inner] for k in kernels)
    down = cv2.filter2D(padded, -1, np.ascontiguousarray(kernels[1].T))[inner]
    for row, column in np.ndindex(2, 2):
        here = np.s_[row::2, column::2]
        seen = sites[row, column]
        image[*here, seen] = mosaic[here]
        if seen == 1:
            image[*here, sites[row, 1 - column]] = along[here]
            image[*here, sites[1 - row, column]] = down[here]
        else:
            image[*here, 1] = green[here]
            image[*here, 2 - seen] = across[here]


def _edge_aware(mosaic: Image, cfa: str) -> Image:
    low, high, _, _ = cv2.minMaxLoc(mosaic)
    step = max(high - low, 1e-12) / 65535
    whole = ((mosaic - np.float32(low)) * np.float32(1 / step) + np.float32(0.5)).astype(np.uint16)
    padded = cv2.copyMakeBorder(whole, _REACH, _REACH, _REACH, _REACH, cv2.BORDER_REFLECT_101)
    rgb = cv2.cvtColor(padded, _OPENCV_EDGE_AWARE[cfa])[_REACH:-_REACH, _REACH:-_REACH]
    image: Image = np.multiply(rgb, np.float32(step), dtype=np.float32)
    image += np.float32(low)
    return image
