"""Straight runs in a picture: where light rises in one direction along a line.

Pixels of like gradient direction that touch are one region, as Burns, Hanson and Riseman (IEEE TPAMI 8, 425, 1986) find
lines: directions are sorted into sectors twice, the second time turned by half a sector, so that each line lies well
within a sector of one of the two. No grey level is chosen: an edge is found between whatever two levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from psfbank.arrays import BoolArray, FloatArray, IntArray

SMOOTH_PX = 1.5  # of the Gaussian before the gradient: sites of one colour of a mosaic lie up to 2 px apart
SECTORS = 8  # of gradient directions
OVER_NOISE = 5.0  # of a gradient that is something
QUIET = 0.2  # share of the picture that shows nothing but noise, at least
RAYLEIGH = float(np.sqrt(-2 * np.log(1 - QUIET)))  # that quantile of a gradient's length over its noise in x or y
LEAST_SLOPE_PER_PX = 0.003  # of the light around: smooth shading is less, an edge of contrast 0.05 is more
AROUND_PX = 31
STRONG = 0.5  # of a region's own gradient: where its line still runs
CORNER_PX = 0.8 * SMOOTH_PX  # by which the smoothing of a corner, or of a crossing, shortens a region
BENT_PX, WORST_SEED_BEND_PER_PX = 60.0, 0.01  # shorter lines are sought straight


@dataclass(frozen=True)
class Gradient:
    """Gradient (H, W) per px of a smoothed picture, and the length of it that is something."""

    dx: npt.NDArray[np.float32]
    dy: npt.NDArray[np.float32]
    least: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Runs:
    """Straight runs from end (S, 2) px to end (S, 2) px, so that light rises to the left; curvature (S,) to the left.

    Those of a curved run are ends of its tangent in the middle.
    """

    first_px: FloatArray
    second_px: FloatArray
    bend_per_px: FloatArray


def gradient_of(values: FloatArray, use: BoolArray, most_noise: float = np.inf) -> Gradient:
    """Take the gradient of a picture that is known on some of its sites.

    Parameters
    ----------
    values : (H, W) float
    use : (H, W) bool
        Sites that count: those of one colour. The rest are filled by a normalised Gaussian.
    most_noise : float
        As much of the steepest gradient at most is taken for noise: a small region may have no quiet place to tell it.

    Returns
    -------
    Gradient
    """
    weight = cv2.GaussianBlur(use.astype(np.float32), (0, 0), SMOOTH_PX, borderType=cv2.BORDER_CONSTANT)
    seen = np.where(use, values, 0).astype(np.float32)
    smooth = cv2.GaussianBlur(seen, (0, 0), SMOOTH_PX, borderType=cv2.BORDER_CONSTANT) / np.maximum(weight, 1e-6)
    dx = np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=1, scale=0.5), np.float32)
    dy = np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=1, scale=0.5), np.float32)
    noise = float(np.quantile(np.hypot(dx[::3, ::3], dy[::3, ::3]), QUIET)) / RAYLEIGH
    around = cv2.blur(np.abs(smooth), (AROUND_PX, AROUND_PX))
    noise = min(noise, most_noise * float(np.hypot(dx, dy).max())) if np.isfinite(most_noise) else noise
    least = np.maximum(np.float32(OVER_NOISE * noise), np.float32(LEAST_SLOPE_PER_PX) * around)
    return Gradient(dx, dy, np.asarray(np.maximum(least, np.finfo(np.float32).tiny), np.float32))


def ridges(gradient: Gradient) -> npt.NDArray[np.uint8]:
    """Mark (H, W) all that lies in a picture: where the gradient is longest across itself (Canny, 1986), and something.

    The border is marked too: what lies beyond is not known.
    """
    scaled = [np.clip(64 * d / gradient.least, -32767, 32767).astype(np.int16) for d in (gradient.dx, gradient.dy)]
    marked = np.asarray(cv2.Canny(scaled[0], scaled[1], 64, 128, L2gradient=True)) > 0
    marked[[0, -1]] = True
    marked[:, [0, -1]] = True
    return marked.astype(np.uint8)


def straight_runs(gradient: Gradient, least_px: float) -> Runs:
    """Find the straight runs of a gradient that are not shorter than some length, px.

    Parameters
    ----------
    gradient : Gradient
    least_px : float

    Returns
    -------
    Runs
        From corner to corner; one that leaves the picture ends about a pixel beyond its border.
    """
    length = cv2.magnitude(gradient.dx, gradient.dy)
    at = np.flatnonzero(length > gradient.least)
    g = np.stack([gradient.dx.ravel()[at], gradient.dy.ravel()[at]], axis=1).astype(np.float64)
    sector = np.arctan2(g[:, 1], g[:, 0]) * (SECTORS / (2 * np.pi))
    region = np.stack([_regions(sector + turned, at, length.shape, int(least_px)) for turned in (0.0, 0.5)])
    region[1, region[1] >= 0] += region[0].max(initial=-1) + 1
    y, x = np.divmod(at, length.shape[1])
    which, pixel = np.nonzero(region >= 0)
    label = region[which, pixel]
    runs, long_px = _lines(label, np.stack([x, y], axis=1)[pixel].astype(np.float64), g[pixel])
    # of the two regions that a pixel is of, it speaks for the longer; a region that few speak for is a part of another
    of_pixel = np.zeros((2, len(at)))
    of_pixel[which, pixel] = long_px[label]
    for_first = of_pixel[0] >= of_pixel[1]
    speak = np.bincount(label, np.where(which == 0, for_first[pixel], ~for_first[pixel]), minlength=len(long_px))
    kept = (speak > 0.5 * np.bincount(label, minlength=len(long_px))) & (long_px >= least_px)
    return Runs(runs.first_px[kept], runs.second_px[kept], runs.bend_per_px[kept])


def _regions(sector: FloatArray, at: IntArray, shape: tuple[int, ...], least: int) -> IntArray:
    """Find regions (N,): pixels that touch and have directions in one sector share a number; -1 where they are few."""
    of_sector = np.floor(sector).astype(np.int64) % SECTORS
    region, count = np.full(len(at), -1), 0
    mask = np.zeros(shape, np.uint8)
    for k in range(SECTORS):
        chosen = np.flatnonzero(of_sector == k)
        mask.ravel()[at[chosen]] = 1
        _, labels = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_32S)
        mask.ravel()[at[chosen]] = 0
        label = np.asarray(labels).ravel()[at[chosen]]
        large = np.bincount(label) >= least
        number = np.where(large, np.cumsum(large) - 1, -1)
        region[chosen] = np.where(large[label], number[label] + count, -1) if len(chosen) else -1
        count += int(large.sum())
    return region


def _lines(label: IntArray, xy_px: FloatArray, g: FloatArray) -> tuple[Runs, FloatArray]:
    """Lay a parabola through every region of pixels (N,) at (N, 2) px with gradients (N, 2); and its length (S,) px."""
    count = int(label.max(initial=-1)) + 1

    def total(v: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(label, v, minlength=count), np.float64)

    weight = np.einsum("ni,ni->n", g, g)
    weight = weight / np.maximum(total(weight), np.finfo(float).tiny)[label]
    middle = np.stack([total(weight * v) for v in xy_px.T], axis=1)
    normal = np.stack([total(v) for v in g.T], axis=1)
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1), np.finfo(float).tiny)[:, None]
    along = np.stack([-normal[:, 1], normal[:, 0]], axis=1)
    from_middle = xy_px - middle[label]
    d, t = (np.einsum("ni,ni->n", from_middle, v[label]) for v in (normal, along))
    moments = np.stack([total(weight * t**k) for k in range(5)], axis=1)
    right = np.stack([total(weight * d * t**k) for k in range(3)], axis=1)
    strength = np.sqrt(np.einsum("ni,ni->n", g, g))
    runs_on = strength > STRONG * total(weight * strength)[label]
    low, high = np.zeros(count), np.zeros(count)
    np.minimum.at(low, label[runs_on], t[runs_on])
    np.maximum.at(high, label[runs_on], t[runs_on])
    low, high = low - CORNER_PX, high + CORNER_PX
    # d = c0 + c1 t + c2 t^2 where long, c1 t where short: the weighted middle lies on it
    long = high - low > BENT_PX
    c = np.zeros((count, 3))
    c[:, 1] = right[:, 1] / np.maximum(moments[:, 2], 1e-6)
    c[long] = np.linalg.solve(moments[long][:, [[0, 1, 2], [1, 2, 3], [2, 3, 4]]], right[long, :, None])[..., 0]
    c[:, 2] = np.clip(c[:, 2], -WORST_SEED_BEND_PER_PX / 2, WORST_SEED_BEND_PER_PX / 2)
    half_way = (low + high) / 2
    place, turn = c[:, 0] + (c[:, 1] + c[:, 2] * half_way) * half_way, c[:, 1] + 2 * c[:, 2] * half_way
    first, second = (
        middle + v[:, None] * along + (place + turn * (v - half_way))[:, None] * normal for v in (low, high)
    )
    return Runs(first, second, 2 * c[:, 2]), high - low
