"""Where in a picture dark squares on white are: outlines of what is darker than its surroundings."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray

LEAST_AREA_PX2 = 300.0  # of a square
SMALL_PX = 320  # longer side of the picture in which the white level is found
BACKGROUND_OF_PICTURE = 0.25  # the side of the square in which something white is expected


def find_squares(grey: FloatArray) -> tuple[list[FloatArray], list[FloatArray]]:
    """Find everything dark on white in a picture (H, W).

    Returns
    -------
    outlines : list of (n, 2) float64
        Of all that is dark, px.
    squares : list of (4, 2) float64
        Corners of what has four sides, to a few pixels.
    """
    smooth = cv2.GaussianBlur(np.asarray(grey, np.float32), (0, 0), 1.0)
    white = _white(np.asarray(smooth, np.float32))
    relative = np.clip(smooth / np.maximum(white, 1e-6), 0, 1)
    _, dark = cv2.threshold(np.asarray(255 * relative, np.uint8), 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(cv2.medianBlur(dark, 5), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    squares: list[FloatArray] = []
    for contour in contours:
        polygon = cv2.approxPolyDP(contour, 0.03 * cv2.arcLength(contour, True), True)
        if len(polygon) == 4 and cv2.isContourConvex(polygon) and cv2.contourArea(polygon) > LEAST_AREA_PX2:
            squares.append(np.asarray(polygon, np.float64).reshape(-1, 2))
    outlines: list[FloatArray] = [np.asarray(c, np.float64).reshape(-1, 2) for c in contours]
    return outlines, squares


def _white(grey: FloatArray) -> FloatArray:
    """Level (H, W) of what is white around each pixel: it varies slowly, a small picture shows it."""
    height, width = grey.shape
    scale = min(1.0, SMALL_PX / max(height, width))
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    side = 2 * int(BACKGROUND_OF_PICTURE * max(small.shape) / 2) + 1
    white = cv2.blur(cv2.dilate(small, np.ones((side, side), np.uint8)), (side, side))
    return np.asarray(cv2.resize(white, (width, height), interpolation=cv2.INTER_LINEAR))


def border_px(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Points (N, 2) px along the picture's border: what lies beyond is not known."""
    height, width = shape[:2]
    x, y = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    rows = [np.column_stack([x, np.full(width, v)]) for v in (0, height - 1)]
    return np.concatenate([*rows, *(np.column_stack([np.full(height, v), y]) for v in (0, width - 1))])
