"""Where the bundle adjustment starts, and how free its model may be."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from calib.geometry import adjust, bundle, heldout, penalty, seed
from calib.geometry.bundle import Base, Observations, State
from calib.geometry.observe import observe
from psfbank import distortion
from psfbank.arrays import BoolArray, FloatArray, IntArray
from psfbank.errors import FitFailed
from psfbank.model import Corners

_log = logging.getLogger(__name__)

SPANS = (8, 20)  # knot spans along the longer side; the penalty, not their number, decides how smooth the map is
POINTS_PER_SPAN = 2.5  # along one axis of an even spread
SMOOTHNESS = (1e-1, 1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
STRONG, FIRST_CHOICE = 0, 4  # of SMOOTHNESS
DEGREES = (0, 2, 4, 6)
FOLDS = 5
FIRST_VIEWS = 30  # enough for a parametric fit
WORTH = 0.99  # a freer model must bring the held-out score below this share of the stiffer one's
ASTRAY = 1.01  # a freer model that leaves more than this share of the stiffer one's has not been fitted well
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


def recentred(base: Base, state: State) -> tuple[FloatArray, FloatArray]:
    """Camera matrix and coefficients with the spline's value and its mean stretch on the axis moved into the matrix.

    Splines hold affine functions exactly (Marsden's identity: the coefficients are the function at the Greville
    abscissae), so the map stays what it is.
    """
    matrix = matrix_of(base)
    at, slope = distortion.project_stereographic(
        np.zeros((1, 2)), matrix, base.knots_x, base.knots_y, state.coefficients
    )
    greville = [np.convolve(k[1:-1], np.ones(3) / 3, mode="valid") for k in (base.knots_x, base.knots_y)]
    shift, stretch = at[0] - base.centre_px, np.diag(slope[0]) - base.scale_px
    affine = np.stack(
        [
            np.broadcast_to(shift[0] + stretch[0] * greville[0][None, :], base.shape),
            np.broadcast_to(shift[1] + stretch[1] * greville[1][:, None], base.shape),
        ]
    )
    matrix[:2, 2] += shift
    matrix[[0, 1], [0, 1]] += stretch
    return matrix, state.coefficients - affine


def prior(base: Base, seen: Observations, state: State, smoothness: float, gauge: float = penalty.GAUGE) -> FloatArray:
    """All priors of an adjustment; the bow of a target is weighed against the noise at a state."""
    noise = bundle.robust_scale(bundle.residuals(base, seen, state), seen)
    # monomials are of normalised coordinates, so a bow is stated against the half-width of what was seen
    half_width = float(np.ptp(seen.object_mm, axis=0).max()) / 2
    return penalty.full_penalty(base, seen, smoothness, half_width, noise, gauge)


def begin(seen: Observations, size_px: tuple[int, int], n_views: int) -> tuple[Base, State]:
    """Parametric fit from every seed; the one that explains the points best. A part of many views is enough for it."""
    flat = replace(seen, monomials=np.zeros((len(seen.view), 0)), shared=np.zeros((len(seen.view), 0)))
    views = np.unique(seen.view)
    few = flat.of_views(views[:: max(len(views) // FIRST_VIEWS, 1)])
    best: tuple[float, Base, State] | None = None
    for scale, centre, start in seed.seeds(few, size_px, n_views):
        base, state = _parametric(few, scale, centre, start, size_px)
        spread = bundle.robust_scale(bundle.residuals(base, few, state), few)
        _log.debug("seed with focal length %.1f px leaves %.3f px", scale, spread)
        if np.isfinite(spread) and (best is None or spread < best[0]):
            best = spread, base, state
    if best is None or best[0] > 0.01 * max(size_px):
        raise FitFailed(
            "no camera explains the corners",
            remedy="Check columns, rows and the order of the points, and tilt the target by 20 to 40 degrees",
        )
    return best[1], _with_poses(best[1], flat, best[2], np.isin(np.arange(n_views), few.view))


def _parametric(
    seen: Observations, scale: float, centre: FloatArray, state: State, size_px: tuple[int, int]
) -> tuple[Base, State]:
    reach = 1.3 * (_border(size_px) - centre) / scale
    base = _base(np.full(2, scale), centre, reach.min(axis=0), reach.max(axis=0), 6)
    stiff = penalty.full_penalty(base, seen, SMOOTHNESS[STRONG], 1.0, 1.0)
    state = adjust.start_spline(base, seen, state, stiff)
    for _ in range(2):
        state = bundle.refine_poses(base, seen, state, 4)
        state = adjust.start_spline(base, seen, state, stiff)
    return base, adjust.adjust(base, seen, state, prior(base, seen, state, SMOOTHNESS[STRONG]))


def _with_poses(base: Base, seen: Observations, state: State, known: BoolArray) -> State:
    """Find the poses of views that are not known yet, with the lens held."""
    u = distortion.unproject_stereographic(seen.xy_px, matrix_of(base), base.knots_x, base.knots_y, state.coefficients)
    rotation, translation = seed.poses_from_directions(seen, seed.directions(u), len(known))
    placed = replace(
        state,
        rotation=np.where(known[:, None, None], state.rotation, rotation),
        translation_mm=np.where(known[:, None], state.translation_mm, translation),
    )
    return bundle.refine_poses(base, seen, placed, settled=1e-4)


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
    matrix, _ = recentred(coarse, state)
    return _base(np.diag(matrix)[:2], matrix[:2, 2], low, high, spans)


def _score(residual: FloatArray) -> float:
    """Mean square with each length cut at six medians, so that one bad view does not choose the model."""
    length = np.linalg.norm(residual, axis=1)
    return float(np.mean(np.minimum(length, 6 * np.median(length)) ** 2))


@dataclass(frozen=True, eq=False)
class Trial:
    """A fit with one degree of the targets' shape and one smoothness, and the fits that leave a fold of views out.

    `left` (N, 2) px are the residuals of views that were held out, `leaves` the fits that did not see them, `own` px^2
    the mean square of what the fit leaves of the points that it saw, robust likewise.
    """

    seen: Observations
    state: State
    degree: int
    smoothness: float
    left: FloatArray
    leaves: tuple[State, ...]
    own: float

    @property
    def score(self) -> float:
        """Held-out mean square, px^2, robust against single views."""
        return _score(self.left)


def _try(base: Base, seen: Observations, start: State, degree: int, smoothness: float) -> Trial:
    if start.coefficients.shape[1:] != base.shape:
        start = replace(start, shape_mm=np.zeros(seen.monomials.shape[1]), coefficients=np.zeros((2, *base.shape)))
        start = adjust.start_spline(base, seen, start, prior(base, seen, start, smoothness))
        state = adjust.adjust(base, seen, start, prior(base, seen, start, smoothness))
    else:
        state = adjust.adjust(base, seen, start, prior(base, seen, start, smoothness), widths=adjust.LOSS_WIDTHS[-1:])
    leaves, left = heldout.leave_out(base, seen, state, prior(base, seen, state, smoothness), FOLDS)
    own = _score(bundle.residuals(base, seen, state))
    return Trial(seen, state, degree, smoothness, left, leaves, own)


def _bent(start: State, targets: int, terms: int) -> State:
    """Make room for more terms of each target's shape, after those of lower degree."""
    known = start.shape_mm.reshape(targets, -1)
    return replace(start, shape_mm=np.pad(known, ((0, 0), (0, terms - known.shape[1]))).ravel())


def freer_is_better(freer: Trial, nested: Trial) -> bool:
    """Whether a model predicts better than one nested in it, and leaves no more: else its fit has gone astray."""
    return freer.score <= WORTH * nested.score and freer.own <= ASTRAY * nested.own


def choose(
    base: Base, start: State, corners: Corners, target: IntArray, sigma_px: FloatArray | None, alike: BoolArray
) -> Trial:
    """Degree of the targets' shape, then smoothness, each as free as the held-out views reward."""
    targets = max(int(target.max()) + 1, 1)
    best: Trial | None = None
    for degree in DEGREES if np.any(target >= 0) else DEGREES[:1]:
        seen = observe(corners, target, sigma_px, degree, alike)
        begun = _bent(
            replace(start, shared_px=np.zeros((2, seen.shared.shape[1]))) if best is None else best.state,
            targets,
            seen.monomials.shape[1] // targets,
        )
        trial = _try(base, seen, begun, degree, SMOOTHNESS[FIRST_CHOICE])
        _log.debug("shape of degree %d: held out %.4f px", degree, trial.score**0.5)
        if best is not None and not freer_is_better(trial, best):
            break
        best = trial
    assert best is not None  # noqa: S101 the first degree was tried
    for steps in (SMOOTHNESS[FIRST_CHOICE + 1 :], SMOOTHNESS[FIRST_CHOICE - 1 :: -1]):
        for smoothness in steps:
            trial = _try(base, best.seen, best.state, best.degree, smoothness)
            _log.debug("smoothness %.0e: held out %.4f px", smoothness, trial.score**0.5)
            freer = smoothness < best.smoothness
            if not (freer_is_better(trial, best) if freer else trial.score <= best.score / WORTH):
                break
            best = trial
        if best.smoothness < SMOOTHNESS[FIRST_CHOICE]:
            break
    return best
