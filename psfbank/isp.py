"""From what the sensor reads to a picture: black level, demosaic, white balance, and the sRGB curve; linear float.

`demosaic` offers three methods. "bilinear" averages neighbours of the same colour. "malvar" corrects that mean by the
Laplacian of the colour that was measured (Malvar, He and Cutler, ICASSP 2004, figure 2). "edge_aware" is OpenCV's: it
averages along the weaker gradient, and works on 16-bit numbers, so the mosaic's range is divided into 65 535 steps.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.sensor import cfa_sites

Method = Literal["malvar", "bilinear", "edge_aware"]
Image = npt.NDArray[np.float32]

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
# OpenCV names a pattern by the second and third sites of its second row
_OPENCV_EDGE_AWARE = {
    "RGGB": cv2.COLOR_BayerBG2RGB_EA,
    "BGGR": cv2.COLOR_BayerRG2RGB_EA,
    "GRBG": cv2.COLOR_BayerGB2RGB_EA,
    "GBRG": cv2.COLOR_BayerGR2RGB_EA,
}


def subtract_black(dn: FloatArray, black_dn: npt.ArrayLike, white_dn: npt.ArrayLike) -> Image:
    """Bring digital numbers to linear light, black 0 and white 1; noise below black stays negative."""
    black = np.asarray(black_dn, dtype=np.float32)
    return np.asarray((dn - black) / (np.asarray(white_dn, dtype=np.float32) - black), dtype=np.float32)


def demosaic(mosaic: FloatArray, cfa: str, method: Method = "malvar") -> Image:
    """Find the two colours that each site did not see.

    Parameters
    ----------
    mosaic : (H, W) float
        Linear light, at least 2 x 2.
    cfa : str
        Colours of the top-left 2 x 2 sites, "RGGB".
    method : "malvar", "bilinear" or "edge_aware"
        See the module's description.

    Returns
    -------
    (H, W, 3) float32
        RGB; at every site the colour that was measured is unchanged, by "edge_aware" to a step of its 16 bits.

    Raises
    ------
    ValueError
        When there is no such method or mosaic.
    """
    sites = cfa_sites(cfa, (2, 2))
    if min(mosaic.shape) < 2 or cfa == "mono":
        raise ValueError(f"there is nothing to demosaic in {mosaic.shape} pixels of {cfa!r}")
    if method == "edge_aware":
        return _edge_aware(np.asarray(mosaic, dtype=np.float32), cfa)
    if method not in ("malvar", "bilinear"):
        raise ValueError(f"`method` must be 'malvar', 'bilinear' or 'edge_aware', got {method!r}")
    return _by_filters(np.asarray(mosaic, dtype=np.float32), sites, _MALVAR if method == "malvar" else _BILINEAR)


def _by_filters(mosaic: Image, sites: npt.NDArray[np.int64], kernels: tuple[FloatArray, ...]) -> Image:
    # mirrored about the edge pixel, sites beyond the edge keep the colour that the pattern gives them
    green, along, across = (cv2.filter2D(mosaic, -1, k, borderType=cv2.BORDER_REFLECT_101) for k in kernels)
    down = cv2.filter2D(mosaic, -1, np.ascontiguousarray(kernels[1].T), borderType=cv2.BORDER_REFLECT_101)
    image = np.empty((*mosaic.shape, 3), dtype=np.float32)
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
    return image


def _edge_aware(mosaic: Image, cfa: str) -> Image:
    low = float(mosaic.min())
    step = max(float(mosaic.max()) - low, 1e-12) / 65535
    padded = cv2.copyMakeBorder(mosaic, 2, 2, 2, 2, cv2.BORDER_REFLECT_101)
    whole = np.rint((padded - low) / step).astype(np.uint16)
    rgb = cv2.cvtColor(whole, _OPENCV_EDGE_AWARE[cfa])[2:-2, 2:-2]
    return np.asarray(rgb * np.float32(step) + np.float32(low), dtype=np.float32)


def white_balance(image: FloatArray, gains: npt.ArrayLike) -> Image:
    """Multiply the channels of (H, W, C) by their gains (C,)."""
    return np.asarray(image * np.asarray(gains, dtype=np.float32), dtype=np.float32)


def srgb_encode(linear: FloatArray) -> Image:
    """Linear light -> sRGB values, both 0..1, clipped (IEC 61966-2-1)."""
    light = np.clip(np.asarray(linear, dtype=np.float32), 0, 1)
    return np.where(light <= np.float32(0.0031308), 12.92 * light, 1.055 * light ** np.float32(1 / 2.4) - 0.055).astype(
        np.float32
    )


def srgb_decode(encoded: FloatArray) -> Image:
    """SRGB values 0..1 -> linear light (IEC 61966-2-1)."""
    value = np.asarray(encoded, dtype=np.float32)
    curved = ((np.maximum(value, 0) + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.where(value <= np.float32(0.04045), value / np.float32(12.92), curved).astype(np.float32)
