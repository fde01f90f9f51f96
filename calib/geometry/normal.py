"""Normal equations of the bundle adjustment with the poses eliminated view by view, kept apart by groups of views.

The Schur complement (Triggs et al., Bundle adjustment: a modern synthesis, 2000) leaves a dense system of the size of
the spline and the targets' shape. It is a sum over views, so the equations without some of them are a subtraction: a
fit with a group left out starts one Gauss-Newton step from the whole one, at the price of one solution.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.linalg

from calib.geometry.bundle import Linear, Observations, State, apply, loss_curvature, pose_blocks, sparse_rows
from psfbank.arrays import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Normal:
    """Reduced normal equations of K groups of views, and what gives the V poses back.

    `matrix` (K, M, M) and `gradient` (K, M) are of the M coefficients of spline, shape and shared errors, `diagonal`
    (K, M) that of the matrix before the poses were eliminated. With L L' the block of a view's pose, `root` (V, 6, 6)
    is the inverse of L, `cross` (V, 6, M) that inverse times the view's mixed block, `right` (V, 6) that inverse times
    its gradient; `group` (V,) is the number of each view's group.
    """

    matrix: FloatArray
    gradient: FloatArray
    diagonal: FloatArray
    root: FloatArray
    cross: FloatArray
    right: FloatArray
    group: IntArray


def assemble(
    linear: Linear,
    seen: Observations,
    weight: FloatArray,
    state: State,
    *,
    damping: float = 0.0,
    group: IntArray | None = None,
) -> Normal:
    """Sum the normal equations of weighted points, poses eliminated.

    Parameters
    ----------
    linear, seen, state
        A linearisation, its data and its state.
    weight : (N,) float
    damping : float
        Share by which the diagonal of each pose's block is raised.
    group : (V,) int, optional
        Group of each view, from zero on; one group when absent.

    Returns
    -------
    Normal

    Raises
    ------
    numpy.linalg.LinAlgError
        When the points of a view leave its pose open.
    """
    n_views = len(state.rotation)
    of_view = np.zeros(n_views, dtype=np.int64) if group is None else group
    curvature = loss_curvature(linear.residual, seen, weight)
    pull = linear.residual * weight[:, None]
    root, cross, right = _eliminate(linear, seen, curvature, pull, state, damping)
    matrix, gradient = _direct(linear, seen, curvature, pull, of_view, state.coefficients[0].size)
    diagonal = np.diagonal(matrix, axis1=1, axis2=2).copy()
    for k in range(len(matrix)):
        mixed = cross[of_view == k].reshape(-1, matrix.shape[1])
        matrix[k] -= mixed.T @ mixed
        gradient[k] -= mixed.T @ right[of_view == k].ravel()
    return Normal(matrix, gradient, diagonal, root, cross, right, of_view)


def _direct(
    linear: Linear, seen: Observations, curvature: FloatArray, pull: FloatArray, of_view: IntArray, n: int
) -> tuple[FloatArray, FloatArray]:
    """Blocks (K, M, M) and gradients (K, M) of all but the poses before the poses are eliminated."""
    n_others, count = linear.others.shape[2], int(of_view.max()) + 1
    of_point = of_view[seen.view]
    matrix, gradient = np.zeros((count, 2 * n + n_others, 2 * n + n_others)), np.zeros((count, 2 * n + n_others))
    _add_splines(matrix, linear, curvature, of_point, n)
    rest = slice(2 * n, None)
    design = sparse_rows(linear.column + (n * of_point)[:, None], linear.value, n * count).T
    curved = curvature @ linear.others
    mixed = (design @ np.concatenate([curved.reshape(len(pull), -1), pull], axis=1)).reshape(count, n, -1)
    for axis in range(2):
        part = slice(axis * n, (axis + 1) * n)
        matrix[:, part, rest] = mixed[:, :, axis * n_others : (axis + 1) * n_others]
        matrix[:, rest, part] = matrix[:, part, rest].transpose(0, 2, 1)
        gradient[:, part] = mixed[:, :, 2 * n_others + axis]
    for k in range(count):
        use = of_point == k
        matrix[k, rest, rest] = np.tensordot(linear.others[use], curved[use], ((0, 1), (0, 1)))
        gradient[k, rest] = np.tensordot(linear.others[use], pull[use], ((0, 1), (0, 1)))
    return matrix, gradient


def _add_splines(matrix: FloatArray, linear: Linear, curvature: FloatArray, of_point: IntArray, n: int) -> None:
    """Add the block of the spline's coefficients: points between the same knots share sixteen of them."""
    where = of_point * n + linear.column[:, 0]
    order = np.argsort(where, kind="stable")
    edges = np.flatnonzero(np.diff(where[order], prepend=-1, append=-1))
    value = linear.value[order]
    curved = (curvature.reshape(-1, 4)[order][:, [0, 1, 3], None] * value[:, None, :]).reshape(-1, 48)
    blocks = np.empty((len(edges) - 1, 16, 48))
    for block, (low, high) in zip(blocks, pairwise(edges), strict=True):
        np.matmul(value[low:high].T, curved[low:high], out=block)
    first = order[edges[:-1]]
    column, width = linear.column[first], matrix.shape[1]
    corner = (of_point[first] * width**2)[:, None, None] + column[:, :, None] * width + column[:, None, :]
    for i, j, part in ((0, 0, 0), (0, n, 1), (n, 0, 1), (n, n, 2)):
        np.add.at(matrix.reshape(-1), corner + i * width + j, blocks[:, :, 16 * part : 16 * (part + 1)])


def _eliminate(
    linear: Linear, seen: Observations, curvature: FloatArray, pull: FloatArray, state: State, damping: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Inverse root of each view's own block, with its mixed block and gradient multiplied by it."""
    n_views, n = len(state.rotation), state.coefficients[0].size
    curved = curvature @ linear.pose
    block, right = pose_blocks(linear.pose, curved, pull, seen, n_views)
    diagonal = np.arange(6)
    block[:, diagonal, diagonal] *= 1.0 + damping
    root = np.linalg.inv(np.linalg.cholesky(block))
    carried = curved @ root[seen.view].transpose(0, 2, 1)
    # rows of one view's splines: each view sees a part of the field, so this stays sparse until it is summed
    place = sparse_rows(linear.column + (n * seen.view)[:, None], linear.value, n * n_views)
    lens = (place.T @ carried.reshape(-1, 12)).reshape(n_views, n, 2, 6)
    cross = np.zeros((n_views, 6, 2 * n + linear.others.shape[2]))
    cross[:, :, : 2 * n] = lens.transpose(0, 3, 2, 1).reshape(n_views, 6, 2 * n)
    if linear.others.shape[2]:
        views = sparse_rows(seen.view[:, None], np.ones((len(seen.view), 1)), n_views).T
        mixed = carried.transpose(0, 2, 1) @ linear.others
        cross[:, :, 2 * n :] = (views @ mixed.reshape(len(mixed), -1)).reshape(n_views, 6, -1)
    return root, cross, (root @ right[:, :, None])[:, :, 0]


@dataclass(frozen=True, eq=False)
class Step:
    """The state after a Gauss-Newton step, and the gain in cost that the normal equations promise."""

    state: State
    promised: float


def solve(
    normal: Normal, state: State, penalty: FloatArray, *, damping: float = 0.0, without: int | None = None
) -> Step:
    """Take the Gauss-Newton step of all groups together, or of all but one; the poses of that one follow.

    Parameters
    ----------
    normal, state
        The equations and the state they were assembled at.
    penalty : (M, M) float
        Priors, as a quadratic form.
    damping : float
        Levenberg's and Marquardt's, as a share of the diagonal.
    without : int, optional
        Group of views whose points are not used. Their poses are fitted to the lens and shape that the others give.

    Returns
    -------
    Step

    Raises
    ------
    numpy.linalg.LinAlgError
        When the equations are not positive definite to rounding.
    """
    now = state.common
    matrix = without_group(normal.matrix, without) + penalty
    diagonal = np.arange(len(now))
    matrix[diagonal, diagonal] += damping * (without_group(normal.diagonal, without) + np.diag(penalty))
    gradient = without_group(normal.gradient, without) - penalty @ now
    step = scipy.linalg.cho_solve(
        scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False), gradient, check_finite=False
    )
    left = normal.right - normal.cross @ step
    pose_step = np.einsum("vji,vj->vi", normal.root, left)
    moved = apply(state, pose_step)
    used = normal.group != (-1 if without is None else without)
    promised = float(gradient @ step) + float(np.sum(normal.right[used] ** 2))
    return Step(moved.with_common(now + step), promised)


def without_group(parts: FloatArray, group: int | None) -> FloatArray:
    """Sum the groups (K, ...) but for one."""
    total = parts.sum(axis=0) if len(parts) > 1 else parts[0].copy()
    return np.asarray(total if group is None else total - parts[group])
