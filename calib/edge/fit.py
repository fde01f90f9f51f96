"""The line of one slanted edge, fitted to one colour's own sites.

A side is fitted as I = L (a + b Phi(d / s)), d = n.(x - x0) - k t^2 / 2: a straight edge between two levels under a
Gaussian blur, bent a little by the lens, in light L that varies slowly. ISO 12233:2017, 6.2, asks for edges that lie
slanted to the sites, so that the sites sample the edge spread function finer than the pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.special import ndtr

from psfbank.arrays import BoolArray, FloatArray, IntArray

CORNER_OF_SIDE, CORNER_PX = 0.2, (3.0, 10.0)  # left out at each end, where the other side's blur reaches
CORNER_BLURS, LEAST_KEPT = 2.5, 0.4  # as many widths of the blur are left out as well, while so much of a side is kept
REACH_PX, REACH_BLURS = (8.0, 12.0), 3.0  # of the data, on either side of the edge
LEAST_ON_A_SIDE, LEAST_SAMPLES = 0.05, 8  # of the samples, beyond half of the reach: they tell the level
OPEN_PX = 1.0  # an end nearer to the border than this is where the edge leaves the picture: no corner
BORDER_OF_SIDE, BORDER_PX = 0.1, 3.0  # left out there: a corner may hide just beyond
SEED_PX, SEED_RAD = 4.0, 0.2  # how far a fit may lie from where the side was found
LENS_BEND = 0.15  # curvature of a line's image, times the picture's longer side, that lenses are expected to make
LIGHT_PER_PX = 2e-3  # relative slope of light that is expected over an edge's window
LOG_BLUR = 1.5  # of the blur in px: about 1, a few times more or less
BEND_BLUR_LIGHT = [2, 3, 6, 7]  # their parameters
LEAST_TOLD = 0.001  # of a bend's variance: samples that tell less of it tell nothing
NOISELESS = 1e-9  # of the step
CLOSE = 1e-6  # relative change of cost and parameters at which a fit is at its end: far below its noise

REMEDIES = {
    "there is no straight edge between a dark and a bright area": "Shoot dark squares on white, or a chart of "
    "slanted edges, sides of 40 px or more",
    "the edges are clipped": "Expose shorter",
    "the edges are too short or too near to the picture's border": "Stand so that sides of 40 px or more lie in it",
    "the edges show little contrast": "Print black on white, and light it evenly",
    "the edges are unsharp, curved, noisy, or touch something else": "Focus, light better, and leave white around them",
}
ABSENT, CLIPPED, SHORT, PALE, POOR = REMEDIES


@dataclass(frozen=True)
class Limits:
    """What an edge must be: how long and how blurred, px, of what Michelson contrast, how close to its fit.

    `scatter` is the RMS distance of samples from the fit over the step, `misfit` what of it is not noise, as of a line
    that is no edge; `clipped` the share of samples at the white level.
    """

    length_px: float
    blur_px: tuple[float, float]
    contrast: float
    scatter: float
    misfit: float
    bend_per_px: float
    clipped: float


FOR_PSF = Limits(24.0, (0.2, 3.5), 0.2, 0.1, 0.1, 1 / 200, 0.0)  # edges that are drawn sharp, to be a PSF's evidence
FOR_SFR = Limits(15.0, (0.0, 7.0), 0.04, 0.2, 0.08, 1 / 100, 0.6)  # what is left to doubt is told in the edge's fields


@dataclass(frozen=True, eq=False)
class Edge:
    """One straight edge.

    `xy_px` (2,) is its middle; `angle_rad` that of its normal, which points to the bright side, from x towards y;
    `bend_per_px` its curvature, positive where the ends bend to the bright side. `length_px` from corner to corner;
    `contrast` after Michelson; `blur_px` the Gaussian's sigma; `sigma_px`, `sigma_rad` the standard deviations of place
    and angle. At the distances `along_px` (P,) from the middle nothing else lies within `clear_px` (P,) in x and y.
    `others_px` (M, 2) is all else that shows near it, the border apart. `scatter` is the RMS distance of samples from
    the fit over the step, `clipped` the share of them at the white level.
    """

    xy_px: FloatArray
    angle_rad: float
    bend_per_px: float
    length_px: float
    contrast: float
    blur_px: float
    sigma_px: float
    sigma_rad: float
    along_px: FloatArray
    clear_px: FloatArray
    others_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    scatter: float = 0.0
    clipped: float = 0.0

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """Unit vector (2,) to the bright side."""
        return np.array([np.cos(self.angle_rad), np.sin(self.angle_rad)])

    def frame(self, xy_px: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Places (..., 2) px -> distance from the edge, positive where bright, and distance along it, (...) px each."""
        across, down = self.normal
        x, y = xy_px[..., 0] - self.xy_px[0], xy_px[..., 1] - self.xy_px[1]
        along = across * y - down * x
        return across * x + down * y - 0.5 * self.bend_per_px * along**2, along

    def at(self, along_px: FloatArray) -> npt.NDArray[np.float64]:
        """Points (N, 2) px of the edge at distances (N,) from its middle."""
        across, down = self.normal
        bend = 0.5 * self.bend_per_px * along_px**2
        return np.asarray(self.xy_px + np.outer(along_px, [-down, across]) + np.outer(bend, [across, down]))


@dataclass(frozen=True)
class _Strip:
    """The run of a line whose samples are fitted: it lies between two distances along from a middle."""

    xy_px: FloatArray
    angle_rad: float
    bend_per_px: float
    low_px: float
    high_px: float
    reach_px: float


@dataclass(frozen=True)
class _Samples:
    """Samples (N,) of a strip, where they lie across and along its straight line, both levels and the noise."""

    seen: FloatArray
    d_px: FloatArray
    t_px: FloatArray
    low: float
    high: float
    noise: float
    clipped: float


@dataclass(frozen=True)
class _Fitted:
    """Parameters of `_model` (8,), their covariance (8, 8), the scatter, and the share of clipped samples."""

    x: FloatArray
    covariance: FloatArray
    scatter: float
    clipped: float


def measure_edge(
    values: FloatArray,
    use: BoolArray,
    clipped: BoolArray,
    first_px: FloatArray,
    second_px: FloatArray,
    bend_per_px: float = 0.0,
    limits: Limits = FOR_PSF,
) -> Edge | str:
    """Fit the edge between two points.

    Parameters
    ----------
    values : (H, W) float
    use, clipped : (H, W) bool
        Sites of the colour that is measured, and those at the white level.
    first_px, second_px : (2,) float
        The edge's ends, to a few pixels; an end at the picture's border is where the edge leaves it.
    bend_per_px : float
        About its curvature; positive: from the first end to the second the way bends to the left, as it is seen.
    limits : Limits

    Returns
    -------
    Edge or str
        A word of `REMEDIES` when it is of no use. How clear it is is not known yet: `along_px` is empty.
    """
    ends = _ends(first_px, second_px, values.shape)
    if ends is None or np.hypot(*(ends[1] - ends[0])) < limits.length_px:
        return SHORT
    first, second, closed = ends
    side, seed = second - first, (first + second) / 2
    length = float(np.hypot(*side))
    turn = float(np.arctan2(-side[0], side[1]))
    strip = _Strip(seed, turn, bend_per_px, *_without_corners(length, closed, 0.0), REACH_PX[0])
    fitted = _measured_in(strip, values, use, clipped, limits, None)
    if isinstance(fitted, str):
        return fitted
    strip, start = _followed(strip, fitted.x, length, closed)  # the window follows the line, and grows with its blur
    fitted = _measured_in(strip, values, use, clipped, limits, start)
    if isinstance(fitted, str):
        return fitted
    edge = _edge(strip, fitted, length)
    if np.hypot(*(edge.xy_px - seed)) > SEED_PX or abs(np.sin(edge.angle_rad - turn)) > SEED_RAD:
        return POOR
    return edge if edge.contrast > limits.contrast else PALE


def _ends(
    first_px: FloatArray, second_px: FloatArray, shape: tuple[int, ...]
) -> tuple[FloatArray, FloatArray, tuple[bool, bool]] | None:
    """Find the ends of a side in a picture, moved to the border where they are near it, and which are corners."""
    side = second_px - first_px
    length = float(np.hypot(*side))
    if length < 1:
        return None
    along = side / length
    borders = np.array([[-0.5, -0.5], [shape[1] - 0.5, shape[0] - 0.5]])
    with np.errstate(divide="ignore", invalid="ignore"):  # a line along an axis leaves through the other: at infinity
        leaves = np.sort((borders - first_px) / along, axis=0)
    low, high = float(leaves[0].max()), float(leaves[1].min())
    closed = (low < -OPEN_PX, high > length + OPEN_PX)
    start, stop = 0.0 if closed[0] else low, length if closed[1] else high
    return (first_px + start * along, first_px + stop * along, closed) if stop > start else None


def _without_corners(length_px: float, closed: tuple[bool, bool], blur_px: float) -> tuple[float, float]:
    """Distances from the middle of a side between which corners have no part, px."""
    margin = max(float(np.clip(CORNER_OF_SIDE * length_px, *CORNER_PX)), CORNER_BLURS * blur_px)
    margin = min(margin, (1 - LEAST_KEPT) / 2 * length_px)
    low, high = (margin if corner else min(BORDER_PX, BORDER_OF_SIDE * length_px) for corner in closed)
    return low - length_px / 2, length_px / 2 - high


def _sites(strip: _Strip, shape: tuple[int, ...]) -> tuple[IntArray, IntArray]:
    """Rows and columns of the sites in a strip of a picture, found along the rows or columns that cross it."""
    across, down = np.cos(strip.angle_rad), np.sin(strip.angle_rad)
    steep = abs(across) > abs(down)
    major, minor = (1, 0) if steep else (0, 1)
    normal, along = np.array([across, down]), np.array([-down, across])
    tips = strip.xy_px[major] + np.array([strip.low_px, strip.high_px]) * along[major]
    wide = int(np.ceil(strip.reach_px / abs(normal[minor]))) + 2
    first, last = np.floor(tips.min()) - wide, np.ceil(tips.max()) + wide
    lines = np.arange(max(first, 0), min(last, shape[0 if steep else 1] - 1) + 1, dtype=np.int64)
    t = (lines - strip.xy_px[major]) / along[major]
    centre = strip.xy_px[minor] + t * along[minor] + 0.5 * strip.bend_per_px * t**2 * normal[minor]
    found = np.rint(centre).astype(np.int64)[:, None] + np.arange(-wide, wide + 1)
    at = np.stack(np.broadcast_arrays(found, lines[:, None]) if steep else np.broadcast_arrays(lines[:, None], found))
    x, y = at.reshape(2, -1)
    d, t = _frame(strip, x, y)
    near = np.abs(d - 0.5 * strip.bend_per_px * t**2) <= strip.reach_px
    inside = (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
    chosen = near & inside & (t >= strip.low_px) & (t <= strip.high_px)
    return y[chosen], x[chosen]


def _frame(strip: _Strip, x_px: FloatArray | IntArray, y_px: FloatArray | IntArray) -> tuple[FloatArray, FloatArray]:
    """Distances (N,) px of places from a strip's straight line, and along it."""
    across, down = np.cos(strip.angle_rad), np.sin(strip.angle_rad)
    x, y = x_px - strip.xy_px[0], y_px - strip.xy_px[1]
    return across * x + down * y, across * y - down * x


def _samples(values: FloatArray, use: BoolArray, clipped: BoolArray, strip: _Strip, limits: Limits) -> _Samples | str:
    """Take the samples of a strip; a word when they show no edge or not the whole of it."""
    y, x = _sites(strip, values.shape)
    counts = use[y, x]
    y, x = y[counts], x[counts]
    seen, share = values[y, x], float(np.mean(clipped[y, x])) if len(y) else 0.0
    if share > limits.clipped:
        return CLIPPED
    d, t = _frame(strip, x, y)
    beyond = d - 0.5 * strip.bend_per_px * t**2
    before, behind = beyond < -strip.reach_px / 2, beyond > strip.reach_px / 2
    if min(before.sum(), behind.sum()) < max(LEAST_ON_A_SIDE * len(seen), LEAST_SAMPLES):
        return SHORT
    low, high = float(np.mean(seen[before])), float(np.mean(seen[behind]))
    if not abs(high - low) > 0.8 * limits.contrast * (abs(high) + abs(low)):
        return PALE
    outer = before | behind
    noise = max(_noise(seen[outer], beyond[outer], t[outer]), NOISELESS * abs(high - low))
    return _Samples(seen, d, t, low, high, noise, share)


def _noise(seen: FloatArray, d_px: FloatArray, t_px: FloatArray) -> float:
    """Noise of samples (N,) away from an edge: what neighbours along it differ by (von Neumann, 1941)."""
    lane = np.rint(d_px)
    order = np.lexsort((t_px, lane))
    neighbours = np.diff(lane[order]) == 0
    differences = np.diff(seen[order])[neighbours]
    return float(np.sqrt(0.5 * np.mean(differences**2))) if len(differences) else 0.0


def _measured_in(
    strip: _Strip,
    values: FloatArray,
    use: BoolArray,
    clipped: BoolArray,
    limits: Limits,
    start: FloatArray | None,
) -> _Fitted | str:
    """Fit the blurred edge to the samples of a strip, from a start if there is one; a word when it is of no use."""
    samples = _samples(values, use, clipped, strip, limits)
    if isinstance(samples, str):
        return samples
    if start is None:
        step = samples.high - samples.low
        start = np.array([0.0, 0.0, strip.bend_per_px, 0.0, samples.low, step, 0.0, 0.0])
    model, count = _Remembered(samples.d_px, samples.t_px), len(samples.seen)
    # what is known beforehand of bend, blur and light is as many more observations, beside samples of known noise
    sigma = np.array([LENS_BEND / max(values.shape), LOG_BLUR, LIGHT_PER_PX, LIGHT_PER_PX])
    known = np.zeros((len(sigma), 8))
    known[np.arange(len(sigma)), BEND_BLUR_LIGHT] = samples.noise / sigma
    fit = least_squares(
        lambda p: np.concatenate([model(p)[0] - samples.seen, known @ p]),
        start,
        lambda p: np.concatenate([model(p)[1], known]),
        method="lm", max_nfev=100, ftol=CLOSE, xtol=CLOSE,
    )  # fmt: skip
    variance = float(np.sum(fit.fun[:count] ** 2) / (count - len(fit.x)))
    covariance = variance * np.linalg.pinv(fit.jac.T @ fit.jac)
    # what the samples alone say of the bend: without the observation that was added
    told = max(1 - covariance[2, 2] / sigma[0] ** 2 * samples.noise**2 / variance, LEAST_TOLD) if variance else 1.0
    straight = abs(fit.x[2]) / told < limits.bend_per_px + 3 * np.sqrt(covariance[2, 2] / told)
    sharp = limits.blur_px[0] < np.exp(np.clip(fit.x[3], -9, 9)) < limits.blur_px[1]
    close = variance < min(limits.scatter**2 * fit.x[5] ** 2, limits.misfit**2 * fit.x[5] ** 2 + samples.noise**2)
    if not (fit.success and straight and sharp and close):
        return POOR
    return _Fitted(fit.x, covariance, float(np.sqrt(variance)), samples.clipped)


def _followed(
    strip: _Strip, x: FloatArray, length_px: float, closed: tuple[bool, bool]
) -> tuple[_Strip, npt.NDArray[np.float64]]:
    """Lay a strip along the line that was fitted in it; parameters of `_model` in the new one."""
    blur = float(np.exp(np.clip(x[3], -9, 9)))
    place = strip.xy_px + x[0] * np.array([np.cos(strip.angle_rad), np.sin(strip.angle_rad)])
    low, high = _without_corners(length_px, closed, blur)
    reach = float(np.clip(REACH_BLURS * blur, *REACH_PX))
    moved = _Strip(place, strip.angle_rad + float(x[1]), float(x[2]), low, high, reach)
    return moved, np.concatenate([np.zeros(2), x[2:]])


def _edge(strip: _Strip, fitted: _Fitted, length_px: float) -> Edge:
    """Edge of what was fitted about a strip's line."""
    offset, turn, bend, log_blur, low, step = (float(v) for v in fitted.x[:6])
    sigma_px, sigma_rad = (float(v) for v in np.sqrt(np.diag(fitted.covariance)[:2]))
    place = strip.xy_px + offset * np.array([np.cos(strip.angle_rad), np.sin(strip.angle_rad)])
    bright = 0.0 if step > 0 else np.pi
    return Edge(
        xy_px=place,
        angle_rad=float(np.angle(np.exp(1j * (strip.angle_rad + turn + bright)))),
        bend_per_px=bend if step > 0 else -bend,
        length_px=length_px,
        contrast=abs(step) / (abs(low) + abs(low + step)),
        blur_px=float(np.exp(log_blur)),
        sigma_px=sigma_px,
        sigma_rad=sigma_rad,
        along_px=np.zeros(0),
        clear_px=np.zeros(0),
        scatter=fitted.scatter / abs(step),
        clipped=fitted.clipped,
    )


def _model(p: FloatArray, d_px: FloatArray, t_px: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Blurred edge (N,) at distances from and along the line it starts from, and its derivatives (N, 8).

    `p` is offset, turn, bend, log of blur, dark level, step, and the light's slopes along and across.
    """
    blur = np.exp(np.clip(p[3], -9, 9))
    distance = d_px * np.cos(p[1]) + t_px * np.sin(p[1]) - p[0] - 0.5 * p[2] * t_px**2
    rise = ndtr(distance / blur)
    light = 1 + p[6] * t_px + p[7] * d_px
    reflected = p[4] + p[5] * rise
    slope = p[5] * light * np.exp(-0.5 * (distance / blur) ** 2) / (np.sqrt(2 * np.pi) * blur)
    turned = slope * (t_px * np.cos(p[1]) - d_px * np.sin(p[1]))
    slopes = np.empty((len(d_px), 8))
    slopes[:, 0], slopes[:, 1], slopes[:, 2], slopes[:, 3] = -slope, turned, -0.5 * slope * t_px**2, -slope * distance
    slopes[:, 4], slopes[:, 5], slopes[:, 6], slopes[:, 7] = light, light * rise, reflected * t_px, reflected * d_px
    return light * reflected, slopes


class _Remembered:
    """`_model` at given samples that keeps its last answer: a fit asks for values and derivatives at one place."""

    def __init__(self, d_px: FloatArray, t_px: FloatArray) -> None:
        self._samples, self._at = (d_px, t_px), np.full(8, np.nan)

    def __call__(self, p: FloatArray) -> tuple[FloatArray, FloatArray]:
        if not np.array_equal(p, self._at):
            self._at, self._answer = p.copy(), _model(p, *self._samples)
        return self._answer
