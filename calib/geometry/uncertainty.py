"""The covariance of a fitted map, as the few displacement fields that make it up.

The normal equations give the covariance of the spline, poses and targets' shapes marginalised (the Schur complement is
the inverse of just that), under noise that is independent from point to point. It is not: what a view's points share,
such as a target's flaws or its blur, the equations take for noise that averages out. How much the map moves when
groups of views are left out in turn tells the variance as it is (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 11), too roughly for each place but well over the field: it sets the size, the equations the
form. Rotations of the frame, which the poses make up for, are taken out of both.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.spatial import Delaunay

from calib.geometry import bundle
from calib.geometry.adjust import LOSS_WIDTHS
from calib.geometry.bundle import Base, Observations, State
from calib.geometry.choose import Trial
from calib.geometry.heldout import fold_of_views
from calib.geometry.normal import assemble, without_group
from calib.geometry.penalty import rotations
from psfbank import distortion
from psfbank.arrays import BoolArray, FloatArray

_log = logging.getLogger(__name__)

NODES = (18, 24)  # rows and columns of the places at which maps are compared
LOST = 0.005  # share of the variance, averaged over the field, that is left out with the smallest modes
MOST_MODES = 128


@dataclass(frozen=True, eq=False)
class Places:
    """P places over the picture: `design` (P, Ny Nx), `inside` (P,) the points' hull, `turns` (2 P, 3).

    `turns` are the displacements, x first and then y, of rotations of the frame, orthonormal over the places inside.
    """

    design: FloatArray
    inside: BoolArray
    turns: FloatArray

    @property
    def basis(self) -> FloatArray:
        """What each coefficient displaces at the places inside, (2 Ny Nx, 2 I)."""
        return self.within(np.kron(np.eye(2), self.design.T))

    def field(self, coefficients: FloatArray) -> FloatArray:
        """Displacements (..., 2 P) of splines (..., 2 Ny Nx), x first and then y."""
        parts = coefficients.reshape(*coefficients.shape[:-1], 2, -1) @ self.design.T
        return np.asarray(parts.reshape(*coefficients.shape[:-1], -1))

    def within(self, field: FloatArray) -> FloatArray:
        """Displacements (..., 2 I) at the places inside alone."""
        return np.asarray(field[..., np.tile(self.inside, 2)])


def places(base: Base, state: State, matrix: FloatArray, xy_px: FloatArray, size_px: tuple[int, int]) -> Places:
    """Spread places evenly over what the map reaches of the picture."""
    height, width = size_px
    y, x = ((np.arange(n) + 0.5) * size / n - 0.5 for n, size in zip(NODES, (height, width), strict=True))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    u = distortion.unproject_stereographic(grid, matrix, base.knots_x, base.knots_y, state.coefficients)
    reached = np.isfinite(u).all(axis=1)
    grid, u = grid[reached], u[reached]
    inside = Delaunay(xy_px).find_simplex(grid) >= 0
    _, slope = distortion.project_stereographic(u, matrix, base.knots_x, base.knots_y, state.coefficients)
    turned = np.stack([np.column_stack(parts) for parts in rotations(u[:, 0], u[:, 1])], axis=-1)
    turned = (slope @ turned).transpose(1, 0, 2)
    _, triangle = np.linalg.qr(turned[:, inside].reshape(-1, 3))
    turns = turned.reshape(-1, 3) @ np.linalg.inv(triangle)
    return Places(bundle.tensor_design(base, u).toarray(), inside, turns)


def map_modes(base: Base, trial: Trial, penalty: FloatArray, at: Places) -> FloatArray:
    """Break the covariance of a map up into displacement fields.

    Parameters
    ----------
    base : Base
    trial : Trial
        The fit, and the fits that leave a fold of views out each.
    penalty : (2 Ny Nx + T P, same) float
        Priors of the fit, without one for the frame's rotation.
    at : Places

    Returns
    -------
    (R, 2, Ny, Nx) float64
        px; independent, each one standard deviation.
    """
    seen, state = trial.seen, trial.state
    linear = bundle.linearise(base, seen, state)
    width = LOSS_WIDTHS[-1] * bundle.robust_scale(linear.residual, seen)
    _, weight = bundle.huber(linear.residual, seen, width)
    group = fold_of_views(seen, len(state.rotation), len(trial.leaves))
    normal = assemble(linear, seen, weight, state, group=group)
    n, turns = state.coefficients.size, at.within(at.turns.T)
    gauge = at.basis @ turns.T
    fixed = np.zeros(penalty.shape)
    fixed[:n, :n] = seen.weight.sum() * gauge @ gauge.T

    def fields(without: int | None) -> FloatArray:
        kept = seen.weight[group[seen.view] != without].sum() / seen.weight.sum()
        information = without_group(normal.matrix, without) + kept * penalty + fixed
        return independent_fields(information)

    whole = fields(None)
    free = len(whole) - float(np.sum((whole @ penalty) * whole)) + 6 * len(np.unique(seen.view))
    scale = noise(linear.residual, seen, weight, free)
    moved = np.stack([(leaf.coefficients - state.coefficients).ravel() for leaf in trial.leaves])
    field = at.within(at.field(moved))
    field -= (field @ turns.T) @ turns
    apart = [fields(k)[:, :n] for k in range(len(trial.leaves))]
    wider = widening(field / np.sqrt(scale), whole[:, :n], apart, at)
    _log.debug("errors that views share make variances %.2f times those of independent points", wider)
    return compress(whole[:, :n] * np.sqrt(scale * wider), at).reshape(-1, *state.coefficients.shape)


def widening(moved: FloatArray, whole: FloatArray, apart: Sequence[FloatArray], at: Places) -> float:
    """Ratio, at least one, of how far the map moves without groups of views to how far it should, squared.

    Were the points independent, the covariance of a map without a group would be that of the whole map plus that of
    the way between the two.

    Parameters
    ----------
    moved : (K, 2 I) float
        Displacement of the map without each of K groups of views, at the places inside.
    whole : (M, 2 Ny Nx) float
        Independent splines that make up the covariance of the whole map, were the points independent.
    apart : K of (M, 2 Ny Nx) float
        The same without each group.
    at : Places
        The ratio is a mean over those inside.
    """

    def variance(fields: FloatArray) -> FloatArray:
        return np.asarray(np.sum(at.within(at.field(fields)) ** 2, axis=0))

    expected = sum(variance(fields) for fields in apart) - len(apart) * variance(whole)
    return max(1.0, float(np.mean(np.sum(moved**2, axis=0) / expected)))


def noise(residual: FloatArray, seen: Observations, weight: FloatArray, free: float) -> float:
    """Give the scale of an M-estimate's covariance: the pulls' variance over mean curvature (Huber 1981, 7.6)."""
    pulls = np.sum(weight**2 / seen.weight * np.sum(residual**2, axis=1)) / max(residual.size - free, 1.0)
    curvature = bundle.loss_curvature(residual, seen, weight)
    return float(pulls / (np.trace(curvature, axis1=1, axis2=2).sum() / (2 * seen.weight.sum())))


def compress(fields: FloatArray, at: Places) -> FloatArray:
    """Turn independent splines (R, 2 Ny Nx) into fewer that leave out next to nothing of their variance anywhere.

    They are the principal components of the displacement over the picture, each place in units of its own deviation.
    """
    spread = at.field(fields)
    spread = spread / np.sqrt(np.maximum(np.sum(spread**2, axis=0), 1e-30))
    share, turn = np.linalg.eigh(spread @ spread.T / spread.shape[1])
    share, turn = share[::-1], turn[:, ::-1]
    count = int(np.searchsorted(np.cumsum(share), (1.0 - LOST) * share.sum())) + 1
    return np.asarray(turn[:, : min(count, MOST_MODES)].T @ fields)


def independent_fields(information: FloatArray) -> FloatArray:
    """Rows (M, M) that vary independently, each by one, and whose covariance is the inverse of a matrix."""
    root = scipy.linalg.cholesky(information, lower=True)
    return np.asarray(scipy.linalg.solve_triangular(root, np.eye(len(root)), lower=True))
