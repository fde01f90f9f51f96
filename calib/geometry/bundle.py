"""Poses, a spline over the stereographic base and the target's own shape: residuals, derivatives, poses alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.spatial.transform import Rotation

from psfbank.arrays import BoolArray, FloatArray, IntArray
from psfbank.distortion import basis

ALONG_OUTLIERS = 0.05  # curvature of the loss along an outlier's residual, of that across it


@dataclass(frozen=True, eq=False)
class Base:
    """The stereographic camera under the spline: `scale_px` (2,), `centre_px` (2,) and the two knot vectors in u."""

    scale_px: FloatArray
    centre_px: FloatArray
    knots_x: FloatArray
    knots_y: FloatArray

    @property
    def shape(self) -> tuple[int, int]:
        """Number of coefficients (Ny, Nx)."""
        return len(self.knots_y) - 4, len(self.knots_x) - 4


@dataclass(frozen=True, eq=False)
class Observations:
    """N observed points, sorted by view, each the `point`-th of its target.

    `object_mm` (N, 2), `xy_px` (N, 2), `weight` (N,), `monomials` (N, T P): how each coefficient of the targets'
    shapes raises the point above its plane, and `shared` (N, Q): how each coefficient of the errors that points of one
    kind share moves it, in x and in y.
    """

    view: IntArray
    point: IntArray
    object_mm: FloatArray
    xy_px: FloatArray
    weight: FloatArray
    monomials: FloatArray
    shared: FloatArray

    def of_views(self, which: IntArray) -> Observations:
        """Only the points of some views, which keep their numbers."""
        return self.where(np.isin(self.view, which))

    def where(self, keep: BoolArray) -> Observations:
        """Only the points of a mask."""
        return Observations(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class State:
    """All unknowns of the adjustment.

    `rotation` (V, 3, 3), `translation_mm` (V, 3), `coefficients` (2, Ny, Nx) px of the lens, `shape_mm` (T P,) of the
    targets, `shared_px` (2, Q) of the errors that points of one kind share.
    """

    rotation: FloatArray
    translation_mm: FloatArray
    coefficients: FloatArray
    shape_mm: FloatArray
    shared_px: FloatArray

    @property
    def common(self) -> FloatArray:
        """All unknowns but the poses, (M,)."""
        return np.concatenate([self.coefficients.ravel(), self.shape_mm, self.shared_px.ravel()])

    def with_common(self, values: FloatArray) -> State:
        """Replace all unknowns but the poses by values (M,)."""
        lens, shape, shared = np.split(values, np.cumsum([self.coefficients.size, self.shape_mm.size]))
        return replace(
            self,
            coefficients=lens.reshape(self.coefficients.shape),
            shape_mm=shape,
            shared_px=shared.reshape(self.shared_px.shape),
        )


@dataclass(frozen=True, eq=False)
class Linear:
    """Residuals at a state and their derivatives.

    `residual` (N, 2) px is observed minus predicted, `u` (N, 2) the stereographic direction, `column` and `value`
    (N, 16) the tensor B-splines that are not zero there, `pose` (N, 2, 6) and `others` (N, 2, S) the derivatives of
    the prediction by a view's pose, and by the coefficients of the targets' shape and of shared errors.
    """

    residual: FloatArray
    u: FloatArray
    column: IntArray
    value: FloatArray
    pose: FloatArray
    others: FloatArray


def tensor_basis(base: Base, u: FloatArray) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Columns, values and derivatives by x and y (N, 16 each) of the tensor B-splines at directions (N, 2)."""
    first_x, value_x, slope_x = basis(base.knots_x, u[:, 0])
    first_y, value_y, slope_y = basis(base.knots_y, u[:, 1])
    corner = first_y * base.shape[1] + first_x
    column = corner[:, None] + (base.shape[1] * np.arange(4)[:, None] + np.arange(4)).ravel()

    def tensor(along_y: FloatArray, along_x: FloatArray) -> FloatArray:
        return (along_y[:, :, None] * along_x[:, None, :]).reshape(-1, 16)

    return column, tensor(value_y, value_x), tensor(value_y, slope_x), tensor(slope_y, value_x)


def sparse_rows(column: IntArray, value: FloatArray, width: int) -> sparse.csr_array:
    """Matrix (N, width) from the columns and values of each row."""
    starts = np.arange(0, value.size + 1, value.shape[1])
    return sparse.csr_array((value.ravel(), column.ravel(), starts), shape=(len(value), width))


def tensor_design(base: Base, u: FloatArray) -> sparse.csr_array:
    """Values (N, Ny Nx) of the tensor B-splines at directions (N, 2)."""
    column, value, _, _ = tensor_basis(base, u)
    return sparse_rows(column, value, base.shape[0] * base.shape[1])


def linearise(base: Base, seen: Observations, state: State) -> Linear:
    """Residuals and their structured derivatives at a state."""
    rotation = state.rotation[seen.view]
    height = seen.monomials @ state.shape_mm
    local = np.column_stack([seen.object_mm, height])
    turned = np.einsum("nij,nj->ni", rotation, local)
    p = turned + state.translation_mm[seen.view]
    length = np.linalg.norm(p, axis=1)
    depth = (length + p[:, 2])[:, None]
    u = 2.0 * p[:, :2] / depth
    toward = p / length[:, None] + np.array([0.0, 0.0, 1.0])
    u_p = -u[:, :, None] * (toward / depth)[:, None, :]
    u_p[:, [0, 1], [0, 1]] += 2.0 / depth

    column, value, slope_x, slope_y = tensor_basis(base, u)
    near = state.coefficients.reshape(2, -1)[:, column]
    moved = np.einsum("anj,nj->na", near, value)
    q_u = np.stack([np.einsum("anj,nj->na", near, slope) for slope in (slope_x, slope_y)], axis=-1)
    q_u += np.diag(base.scale_px)
    q_p = q_u @ u_p
    rise = np.einsum("nij,nj->ni", q_p, rotation[:, :, 2])
    return Linear(
        residual=seen.xy_px - (u * base.scale_px + base.centre_px + moved + seen.shared @ state.shared_px.T),
        u=u,
        column=column,
        value=value,
        # a small rotation w on the left moves a point by w x turned
        pose=np.concatenate([np.cross(turned[:, None], q_p), q_p], axis=2),
        others=np.concatenate([rise[:, :, None] * seen.monomials[:, None, :], _in_both(seen.shared)], axis=2),
    )


def _in_both(shared: FloatArray) -> FloatArray:
    """Give the derivatives (N, 2, 2 Q) of a displacement whose x and y have coefficients of their own."""
    out = np.zeros((len(shared), 2, 2, shared.shape[1]))
    out[:, 0, 0] = out[:, 1, 1] = shared
    return out.reshape(len(shared), 2, -1)


def residuals(base: Base, seen: Observations, state: State) -> FloatArray:
    """Observed minus predicted, (N, 2) px."""
    return linearise(base, seen, state).residual


def huber(residual: FloatArray, seen: Observations, width_px: float) -> tuple[float, FloatArray]:
    """Huber's cost of 2-D residuals, and the weight of each point in the least squares that lead to it.

    The loss stays convex: one that redescends takes the rim of a lens, where a stiff model fits worst, for outliers.
    """
    length = np.sqrt(seen.weight * np.sum(residual**2, axis=1))
    far = length > width_px
    cost = np.where(far, width_px * (2 * length - width_px), length**2)
    return float(cost.sum()), seen.weight * np.where(far, width_px / np.maximum(length, 1e-12), 1.0)


def loss_curvature(residual: FloatArray, seen: Observations, weight: FloatArray) -> FloatArray:
    """Second derivative (N, 2, 2) of Huber's cost by the residuals, halved, from the weights of `huber`.

    Beyond its width the loss is a cone: curved across the residual alone. A little is left along it, so that a view of
    outliers still has a pose.
    """
    along = residual / np.maximum(np.linalg.norm(residual, axis=1, keepdims=True), 1e-300)
    along *= np.where(weight < seen.weight, np.sqrt(1.0 - ALONG_OUTLIERS), 0.0)[:, None]
    return np.asarray(weight[:, None, None] * (np.eye(2) - along[:, :, None] * along[:, None, :]))


def robust_scale(residual: FloatArray, seen: Observations) -> float:
    """Estimate the deviation of a coordinate from the median length of 2-D residuals (Rayleigh: 1.1774 sigma)."""
    return float(np.median(np.sqrt(seen.weight) * np.linalg.norm(residual, axis=1)) / 1.1774 + 1e-6)


def _sum_by_view(values: FloatArray, view: IntArray, n_views: int) -> FloatArray:
    out = np.zeros((n_views, *values.shape[1:]))
    present, start = np.unique(view, return_index=True)
    out[present] = np.add.reduceat(values, start, axis=0)
    return out


def apply(state: State, pose_step: FloatArray) -> State:
    """Move the poses by steps (V, 6): a small rotation on the left of each, and millimetres."""
    turn = Rotation.from_rotvec(pose_step[:, :3]).as_matrix()
    return replace(state, rotation=turn @ state.rotation, translation_mm=state.translation_mm + pose_step[:, 3:])


def pose_blocks(
    pose: FloatArray, curved: FloatArray, pull: FloatArray, seen: Observations, n_views: int
) -> tuple[FloatArray, FloatArray]:
    """Sum the normal equations (V, 6, 6) and (V, 6) of each view's pose.

    They come from the derivatives `pose` (N, 2, 6), these times the curvature of the loss, and the weighted residuals.
    """
    block = _sum_by_view(np.einsum("nai,naj->nij", curved, pose), seen.view, n_views)
    right = _sum_by_view(np.einsum("nai,na->ni", pose, pull), seen.view, n_views)
    empty = np.diagonal(block, axis1=1, axis2=2).sum(axis=1) == 0
    block[empty] = np.eye(6)  # a view without points keeps its pose
    return block, right


def refine_poses(base: Base, seen: Observations, state: State, iterations: int = 12, settled: float = 1e-9) -> State:
    """Move the poses alone, each view on its own, until a step gains less than a share; lens and target are held."""
    damping = np.full(len(state.rotation), 1e-4)
    linear = linearise(base, seen, state)
    n = len(state.rotation)

    def cost(residual: FloatArray) -> FloatArray:
        return _sum_by_view(seen.weight * np.sum(residual**2, axis=1), seen.view, n)

    now = cost(linear.residual)
    for _ in range(iterations):
        weight = seen.weight[:, None]
        block, right = pose_blocks(linear.pose, linear.pose * weight[..., None], linear.residual * weight, seen, n)
        diagonal = np.arange(6)
        block[:, diagonal, diagonal] *= 1.0 + damping[:, None]
        step = np.linalg.solve(block, right[..., None])[..., 0]
        tried = apply(state, step)
        trial = linearise(base, seen, tried)
        after = cost(trial.residual)
        better = after <= now
        state = replace(
            state,
            rotation=np.where(better[:, None, None], tried.rotation, state.rotation),
            translation_mm=np.where(better[:, None], tried.translation_mm, state.translation_mm),
        )
        damping = np.where(better, damping / 10, damping * 10)
        still = np.all((now - np.minimum(after, now) <= settled * now) | ~np.isfinite(after))
        now = np.minimum(after, now)
        if still:
            break
        linear = linearise(base, seen, state)
    return state
