"""Where the bundle adjustment starts, and how free its model may be."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from calib.geometry import bundle, seed
from calib.geometry.bundle import Base, Observations, State
from calib.geometry.observe import observe
from psfbank import distortion
from psfbank.arrays import FloatArray, IntArray
from psfbank.errors import FitFailed
from psfbank.model import Corners

_log = logging.getLogger(__name__)

SPANS = (8, 16)  # knot spans along the longer side; the penalty, not their number, decides how smooth the map is
POINTS_PER_SPAN = 2.5  # along one axis of an even spread
SMOOTHNESS = (1e-1, 1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
STRONG, FIRST_CHOICE = 0, 4  # of SMOOTHNESS
DEGREES = (0, 2, 4, 6)
FOLDS = 5
WORTH = 0.99  # a freer model must bring the held-out score below this share of the stiffer one's
REACH = 0.3  # how far the knots may leave the directions of the points, in their span


def _base(scale: FloatArray, centre: FloatArray, low: FloatArray, high: FloatArray, spans: int) -> Base:
    size = high - low
    low, high = low - 0.03 * size, high + 0.03 * size
    count = np.maximum(np.ceil(spans * size / size.max()).astype(int), 4)
    knots = [lo + (hi - lo) / n * np.arange(-3, n + 4) for lo, hi, n in zip(low, high, count, strict=True)]
    return Base(scale, centre, knots[0], knots[1])


def _border(size_px: tuple[int, int]) -> FloatArray:
    height, width = size_px
    x, y = np.linspace(-0.5, width - 0.5, 24), np.linspace(-0.5, height - 0.5, 18)
    sides = [(x, np.full(24, y[0])), (x, np.full(24, y[-1])), (np.full(18, x[0]), y), (np.full(18, x[-1]), y)]
    return np.concatenate([np.column_stack(side) for side in sides])


def matrix_of(base: Base) -> FloatArray:
    """Camera matrix (3, 3) px of a base."""
    (fx, fy), (cx, cy) = base.scale_px, base.centre_px
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def _penalty(base: Base, seen: Observations, state: State, smoothness: float) -> FloatArray:
    noise = bundle.robust_scale(bundle.residuals(base, seen, state), seen)
    # monomials are of normalised coordinates, so a bow is stated against the half-width of what was seen
    half_width = float(np.ptp(seen.object_mm, axis=0).max()) / 2
    return bundle.full_penalty(base, seen, smoothness, half_width, noise)


def begin(seen: Observations, size_px: tuple[int, int], n_views: int) -> tuple[Base, State]:
    """Parametric fit from every seed; the one that explains the points best."""
    flat = replace(seen, monomials=np.zeros((len(seen.view), 0)))
    best: tuple[float, Base, State] | None = None
    for scale, centre, start in seed.seeds(flat, size_px, n_views):
        reach = 1.3 * (_border(size_px) - centre) / scale
        base = _base(np.full(2, scale), centre, reach.min(axis=0), reach.max(axis=0), 6)
        state = bundle.start_spline(base, flat, start, bundle.full_penalty(base, flat, SMOOTHNESS[STRONG], 1.0, 1.0))
        for _ in range(2):
            state = bundle.refine_poses(base, flat, state, 4)
            state = bundle.start_spline(
                base, flat, state, bundle.full_penalty(base, flat, SMOOTHNESS[STRONG], 1.0, 1.0)
            )
        state = bundle.adjust(base, flat, state, _penalty(base, flat, state, SMOOTHNESS[STRONG]))
        spread = bundle.robust_scale(bundle.residuals(base, flat, state), flat)
        _log.debug("seed with focal length %.1f px leaves %.3f px", scale, spread)
        if np.isfinite(spread) and (best is None or spread < best[0]):
            best = spread, base, state
    if best is None or best[0] > 0.01 * max(size_px):
        raise FitFailed(
            "no camera explains the corners",
            remedy="Check columns, rows and the order of the points, and tilt the target by 20 to 40 degrees",
        )
    return best[1], best[2]


def widen(coarse: Base, seen: Observations, state: State, size_px: tuple[int, int]) -> Base:
    """Place the final knots: over the rectangle of directions that the picture's border and the points show."""
    border = distortion.unproject_stereographic(
        _border(size_px), matrix_of(coarse), coarse.knots_x, coarse.knots_y, state.coefficients
    )
    u = bundle.linearise(coarse, seen, state).u
    low, high = u.min(axis=0), u.max(axis=0)
    span = high - low
    # where no point was seen the coarse fit may run away, and the knots must not follow it
    border = np.clip(border[np.isfinite(border[:, 0])], low - REACH * span, high + REACH * span)
    reach = np.vstack([border, low, high])
    low, high = reach.min(axis=0), reach.max(axis=0)
    spans = int(np.clip(np.sqrt(len(seen.view)) / POINTS_PER_SPAN, *SPANS))
    return _base(coarse.scale_px, coarse.centre_px, low, high, spans)


def _heldout(base: Base, seen: Observations, start: State, smoothness: float) -> FloatArray:
    """Residuals (N, 2) of each view with the camera fitted to the views of the other folds."""
    views = np.unique(seen.view)
    folds = min(FOLDS, len(views))
    out = np.zeros((len(seen.view), 2))
    for k in range(folds):
        aside = views[k::folds]
        rest = seen.of_views(np.setdiff1d(views, aside))
        state = bundle.adjust(
            base, rest, start, _penalty(base, rest, start, smoothness), iterations=12, widths=bundle.LOSS_WIDTHS[-1:]
        )
        tested = seen.of_views(aside)
        state = bundle.refine_poses(base, tested, state)
        out[np.isin(seen.view, aside)] = bundle.residuals(base, tested, state)
    return out


def _score(residual: FloatArray) -> float:
    """Mean square with each length cut at six medians, so that one bad view does not choose the model."""
    length = np.linalg.norm(residual, axis=1)
    return float(np.mean(np.minimum(length, 6 * np.median(length)) ** 2))


@dataclass(frozen=True, eq=False)
class Trial:
    """A fit with one degree of the targets' shape and one smoothness; `left` (N, 2) px are its held-out residuals."""

    seen: Observations
    state: State
    degree: int
    smoothness: float
    left: FloatArray

    @property
    def score(self) -> float:
        """Held-out mean square, px^2, robust against single views."""
        return _score(self.left)


def _try(base: Base, seen: Observations, start: State, degree: int, smoothness: float) -> Trial:
    if start.coefficients.shape[1:] != base.shape or len(start.shape_mm) != seen.monomials.shape[1]:
        start = replace(start, shape_mm=np.zeros(seen.monomials.shape[1]), coefficients=np.zeros((2, *base.shape)))
        start = bundle.start_spline(base, seen, start, _penalty(base, seen, start, smoothness))
    state = bundle.adjust(base, seen, start, _penalty(base, seen, start, smoothness))
    return Trial(seen, state, degree, smoothness, _heldout(base, seen, state, smoothness))


def choose(base: Base, start: State, corners: Corners, target: IntArray, sigma_px: FloatArray | None) -> Trial:
    """Degree of the targets' shape, then smoothness, each as free as the held-out views reward."""
    best: Trial | None = None
    for degree in DEGREES if np.any(target >= 0) else DEGREES[:1]:
        seen = observe(corners, target, sigma_px, degree)
        trial = _try(base, seen, start, degree, SMOOTHNESS[FIRST_CHOICE])
        _log.debug("shape of degree %d: held out %.4f px", degree, trial.score**0.5)
        if best is not None and trial.score > WORTH * best.score:
            break
        best = trial
    assert best is not None  # noqa: S101 the first degree was tried
    for steps in (SMOOTHNESS[FIRST_CHOICE + 1 :], SMOOTHNESS[FIRST_CHOICE - 1 :: -1]):
        for smoothness in steps:
            trial = _try(base, best.seen, best.state, best.degree, smoothness)
            _log.debug("smoothness %.0e: held out %.4f px", smoothness, trial.score**0.5)
            freer = smoothness < best.smoothness
            if trial.score > (WORTH * best.score if freer else best.score / WORTH):
                break
            best = trial
        if best.smoothness < SMOOTHNESS[FIRST_CHOICE]:
            break
    return best
