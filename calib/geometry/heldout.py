"""Fits that leave a fold of views out in turn, each one Gauss-Newton step from the fit of all views."""

from __future__ import annotations

import numpy as np

from calib.geometry import adjust, bundle
from calib.geometry.bundle import Base, Observations, State
from calib.geometry.normal import assemble, solve
from psfbank.arrays import FloatArray, IntArray

QUADRATIC = 1e-3  # share of the cost by which a step may miss what its normal equations promise
POSES_SETTLED = 1e-5


def fold_of_views(seen: Observations, n_views: int, folds: int) -> IntArray:
    """Deal the views that show points out to folds in turn: the number (V,) of each one's."""
    views = np.unique(seen.view)
    fold = np.zeros(n_views, dtype=np.int64)
    fold[views] = np.arange(len(views)) % folds
    return fold


def leave_out(
    base: Base, seen: Observations, state: State, penalty: FloatArray, folds: int
) -> tuple[tuple[State, ...], FloatArray]:
    """Fit the camera to all folds of views but one, and see how it predicts that one, poses fitted.

    Without a few views the minimum lies near that of all, where the cost is a parabola whose normal equations are
    those of all less those of the fold. Where the step does not gain what the parabola promises, as with few views,
    the adjustment goes on from there.

    Parameters
    ----------
    base, seen, state
        Fixed camera, data, and the fit of all views.
    penalty : (2 Ny Nx + T P, same) float
        Priors of that fit.
    folds : int
        The v-th view that shows points belongs to fold v modulo this.

    Returns
    -------
    leaves : tuple of State
    left : (N, 2) float64
        px, residual of each point under the fit that did not see its view.
    """
    folds = min(folds, len(np.unique(seen.view)))
    group = fold_of_views(seen, len(state.rotation), folds)
    linear = bundle.linearise(base, seen, state)
    width = adjust.LOSS_WIDTHS[-1] * bundle.robust_scale(linear.residual, seen)
    _, weight = bundle.huber(linear.residual, seen, width)
    normal = assemble(linear, seen, weight, state, group=group)
    leaves, left = [], np.zeros((len(seen.view), 2))
    for k in range(folds):
        aside = group[seen.view] == k
        rest, tested = seen.where(~aside), seen.where(aside)
        prior = penalty * (rest.weight.sum() / seen.weight.sum())
        before, _ = adjust.cost(linear.residual[~aside], rest, state, prior, width)
        try:
            step = solve(normal, state, prior, without=k)
        except np.linalg.LinAlgError:  # too few views are left for these equations; damping finds a way
            leaf = adjust.adjust(base, rest, state, prior, iterations=12, widths=adjust.LOSS_WIDTHS[-1:])
        else:
            leaf = step.state
            after, _ = adjust.cost(bundle.residuals(base, rest, leaf), rest, leaf, prior, width)
            if not abs(after - (before - step.promised)) < QUADRATIC * before:
                start = leaf if after < before else state
                leaf = adjust.adjust(base, rest, start, prior, iterations=12, widths=adjust.LOSS_WIDTHS[-1:])
        leaf = bundle.refine_poses(base, tested, leaf, settled=POSES_SETTLED)
        left[aside] = bundle.residuals(base, tested, leaf)
        leaves.append(leaf)
    return tuple(leaves), left
