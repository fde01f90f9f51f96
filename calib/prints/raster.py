"""A drawing as pixels: each the share of its area that is white, in closed form where sides are upright.

Libraries' own rasterisers round corners to parts of a pixel or soften sides by a filter; a chart's edges are what is
measured with it. Values are sRGB: a pixel that is half white emits, or reflects, half the light.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from calib.prints.drawing import Drawing, Label, Shapes
from psfbank.arrays import FloatArray
from psfbank.errors import TargetError
from psfbank.isp import srgb_encode

MOST_PIXELS = 150_000_000  # A0 at 300 dpi has 140 million
FINER = 16  # samples a pixel, each way, where a slanted or round side crosses it
BAND = 256  # rows that are encoded at a time
FONT = cv2.FONT_HERSHEY_SIMPLEX
CAPITAL = 0.7  # height of a capital letter over the size of the letters

Canvas = npt.NDArray[np.float32]
Window = tuple[slice, slice]


def rasterise(drawing: Drawing, pixel_mm: float) -> npt.NDArray[np.uint8]:
    """Draw on a grid of pixels, the first one's top left corner the page's.

    Parameters
    ----------
    drawing : Drawing
    pixel_mm : float
        Side of a pixel.

    Returns
    -------
    (H, W) uint8
        sRGB codes, as many pixels as cover the page to the nearest.

    Raises
    ------
    TargetError
        When these are more than `MOST_PIXELS`.
    """
    height, width = (round(length / pixel_mm) for length in (drawing.height_mm, drawing.width_mm))
    if height * width > MOST_PIXELS:
        raise TargetError(
            f"{width} x {height} pixels are more than a picture should have",
            remedy="Write a PDF or SVG, which are exact at any size, or give fewer --dpi",
        )
    canvas = np.ones((height, width), dtype=np.float32)
    for layer in drawing.layers:
        _paint(canvas, layer, pixel_mm)
    for label in drawing.labels:
        _write(canvas, label, pixel_mm)
    out = np.empty(canvas.shape, dtype=np.uint8)
    for top in range(0, height, BAND):
        band = np.clip(canvas[top : top + BAND], 0, 1)
        out[top : top + BAND] = np.rint(255 * srgb_encode(band))
    return out


def _paint(canvas: Canvas, layer: Shapes, pixel_mm: float) -> None:
    # shapes lie on the other colour and do not overlap: what they cover of a pixel adds up
    sign = np.float32(1 if layer.white else -1)
    quads, discs = layer.quads_mm / pixel_mm, layer.discs_mm / pixel_mm
    upright = np.all(quads[:, [0, 1, 2, 3], [1, 0, 1, 0]] == quads[:, [1, 2, 3, 0], [1, 0, 1, 0]], axis=1)
    for quad in quads[upright]:
        window, (x, y) = _window(canvas, quad)
        across = np.clip(np.minimum(x + 1, quad[1, 0]) - np.maximum(x, quad[0, 0]), 0, None)
        down = np.clip(np.minimum(y + 1, quad[2, 1]) - np.maximum(y, quad[0, 1]), 0, None)
        canvas[window] += sign * np.outer(down, across).astype(np.float32)
    for quad in quads[~upright]:
        window, (x, y) = _window(canvas, quad)
        canvas[window] += sign * _sampled(x, y, quad)
    for disc in discs:
        window, (x, y) = _window(canvas, disc[:2] + disc[2] / 2 * np.array([[-1, -1], [1, 1]]))
        canvas[window] += sign * _sampled(x, y, disc)


def _window(canvas: Canvas, points: FloatArray) -> tuple[Window, tuple[FloatArray, FloatArray]]:
    """Pixels that a shape may touch, and the left and top sides of their columns and rows."""
    size = np.array(canvas.shape[::-1])
    low = np.clip(np.floor(points.min(axis=0)), 0, size).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)), 0, size).astype(int)
    x, y = (np.arange(a, b, dtype=np.float64) for a, b in zip(low, high, strict=True))
    return (slice(low[1], high[1]), slice(low[0], high[0])), (x, y)


def _within(x: FloatArray, y: FloatArray, shape: FloatArray) -> FloatArray:
    """How far inside a disc (3,), or a convex quadrangle (4, 2) that runs clockwise, points lie, px."""
    if shape.shape == (3,):
        return np.asarray(shape[2] / 2 - np.hypot(x - shape[0], y - shape[1]))
    step = np.roll(shape, -1, axis=0) - shape
    inwards = np.stack([-step[:, 1], step[:, 0]], axis=1) / np.hypot(*step.T)[:, None]
    sides = zip(shape, inwards, strict=True)
    return np.asarray(np.min([nx * (x - at[0]) + ny * (y - at[1]) for at, (nx, ny) in sides], axis=0))


def _sampled(x: FloatArray, y: FloatArray, shape: FloatArray) -> Canvas:
    """Share (H, W) of pixels that a shape covers: sampled where its outline may cross them."""
    depth = _within((x + 0.5)[None, :], (y + 0.5)[:, None], shape)
    share = (depth > 0).astype(np.float32)
    row, column = np.nonzero(np.abs(depth) < np.sqrt(0.5))
    fine = (np.arange(FINER) + 0.5) / FINER
    at_x, at_y = x[column][:, None, None] + fine, y[row][:, None, None] + fine[:, None]
    share[row, column] = np.mean(_within(at_x, at_y, shape) > 0, axis=(1, 2))
    return share


def _write(canvas: Canvas, label: Label, pixel_mm: float) -> None:
    """Draw a line of text, as large as its pixels allow."""
    thickness = max(1, round(0.1 * label.size_mm / pixel_mm))
    capital_px = max(1, round(CAPITAL * label.size_mm / pixel_mm))
    scale = cv2.getFontScaleFromHeight(FONT, capital_px, thickness)
    ink = np.zeros(canvas.shape, dtype=np.uint8)
    place = round(label.x_mm / pixel_mm), round(label.y_mm / pixel_mm)
    cv2.putText(ink, label.text, place, FONT, scale, 255, thickness, cv2.LINE_AA)
    rows = np.nonzero(ink.any(axis=1))[0]
    if rows.size:
        window = np.s_[rows[0] : rows[-1] + 1]
        canvas[window] *= 1 - ink[window] / np.float32(255)
