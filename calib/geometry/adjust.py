"""The bundle adjustment: Levenberg-Marquardt on the reduced normal equations, under Huber's loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.linalg

from calib.geometry.bundle import Base, Linear, Observations, State, huber, linearise, robust_scale, sparse_rows
from calib.geometry.normal import assemble, solve
from psfbank.arrays import FloatArray

LOSS_WIDTHS = (20.0, 4.0)  # of Huber's loss, in standard deviations of a coordinate
SETTLED = 1e-7  # relative gain of a step that ends the iteration


def start_spline(base: Base, seen: Observations, state: State, penalty: FloatArray) -> State:
    """Fit the spline alone, for poses and target as they are: a linear problem."""
    n = base.shape[0] * base.shape[1]
    flat = replace(state, coefficients=np.zeros((2, *base.shape)))
    linear = linearise(base, seen, flat)
    design = sparse_rows(linear.column, linear.value, n)
    turned = sparse_rows(linear.column, linear.value * seen.weight[:, None], n).T.tocsr()
    normal = np.kron(np.eye(2), (turned @ design).toarray()) + penalty[: 2 * n, : 2 * n]
    right = np.concatenate([turned @ linear.residual[:, 0], turned @ linear.residual[:, 1]])
    return replace(flat, coefficients=scipy.linalg.solve(normal, right, assume_a="pos").reshape(2, *base.shape))


def adjust(
    base: Base,
    seen: Observations,
    state: State,
    penalty: FloatArray,
    *,
    iterations: int = 20,
    widths: Sequence[float] = LOSS_WIDTHS,
) -> State:
    """Minimise Huber's cost of all residuals plus the priors; the width of the loss tightens as the fit settles.

    Parameters
    ----------
    base, seen, state
        Fixed camera, data, start.
    penalty : (2 Ny Nx + T P, same) float
        From `full_penalty`.
    iterations : int
        Most steps at each width of the loss.
    widths : sequence of float
        Widths of the loss in turn, in standard deviations of a coordinate.

    Returns
    -------
    State
    """
    linear = linearise(base, seen, state)
    for wide in widths:
        state, linear = _descend(base, seen, state, linear, penalty, iterations, wide)
    return state


def _descend(
    base: Base,
    seen: Observations,
    state: State,
    linear: Linear,
    penalty: FloatArray,
    iterations: int,
    wide: float,
) -> tuple[State, Linear]:
    width = wide * robust_scale(linear.residual, seen)
    damping = 1e-9
    now, weight = cost(linear.residual, seen, state, penalty, width)
    for _ in range(iterations):
        try:
            normal = assemble(linear, seen, weight, state, damping=damping)
            step = solve(normal, state, penalty, damping=damping)
        except np.linalg.LinAlgError:  # rounding took the last of a direction that the data leave open
            damping = max(1e-9, damping * 100)
            continue
        trial = linearise(base, seen, step.state)
        after, weight_after = cost(trial.residual, seen, step.state, penalty, width)
        if not after < now:
            damping *= 100
            if damping > 1e4:
                break
            continue
        gained, state, linear, now, weight = now - after, step.state, trial, after, weight_after
        if gained > 0.5 * step.promised:
            damping = max(damping / 100, 1e-13)
        if gained < SETTLED * now:
            break
    return state, linear


def cost(
    residual: FloatArray, seen: Observations, state: State, penalty: FloatArray, width_px: float
) -> tuple[float, FloatArray]:
    """Huber's cost plus the priors, and the weight of each point in the least squares that lead to it."""
    prior = state.common
    misfit, weight = huber(residual, seen, width_px)
    return misfit + float(prior @ penalty @ prior), weight
