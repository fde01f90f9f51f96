"""One bundle adjustment of poses, a spline over the stereographic base and the target's own shape.

Unknowns are solved by Levenberg-Marquardt on the normal equations with the poses eliminated view by view (the Schur
complement; Triggs et al., Bundle adjustment: a modern synthesis, 2000), so the dense system has the size of the spline.
The smoothness penalty is the thin-plate energy of what low-order lens terms (radial to the seventh order, tangential,
any affine map) cannot express, so that a strong penalty degrades to a parametric lens and never pulls towards zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
from scipy import sparse
from scipy.spatial.transform import Rotation

from psfbank.arrays import BoolArray, FloatArray, IntArray
from psfbank.distortion import basis

RIDGE = 1e-12  # of each coefficient, relative to the data: fixes the frame's rotation; at 1e-9 it held the focal length
LOSS_WIDTHS = (20.0, 4.0)  # of Huber's loss, in standard deviations of a coordinate
SETTLED = 1e-7  # relative gain of a step that ends the iteration
SHAPE_PRIOR = 0.05  # bow of a target relative to its half-width, one standard deviation


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

    `object_mm` (N, 2), `xy_px` (N, 2), `weight` (N,), and `monomials` (N, T P): how each coefficient of the targets'
    shapes raises the point above its plane.
    """

    view: IntArray
    point: IntArray
    object_mm: FloatArray
    xy_px: FloatArray
    weight: FloatArray
    monomials: FloatArray

    def of_views(self, which: IntArray) -> Observations:
        """Only the points of some views, which keep their numbers."""
        return self.where(np.isin(self.view, which))

    def where(self, keep: BoolArray) -> Observations:
        """Only the points of a mask."""
        return Observations(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class State:
    """All unknowns: `rotation` (V, 3, 3), `translation_mm` (V, 3), `coefficients` (2, Ny, Nx), `shape_mm` (T P,)."""

    rotation: FloatArray
    translation_mm: FloatArray
    coefficients: FloatArray
    shape_mm: FloatArray


@dataclass(frozen=True, eq=False)
class _Linear:
    residual: FloatArray  # (N, 2) observed minus predicted
    u: FloatArray  # (N, 2) stereographic direction
    design: sparse.csr_array  # (N, Ny Nx)
    pose: FloatArray  # (N, 2, 6)
    height: FloatArray  # (N, 2) of a millimetre normal to the target


def penalty_matrix(base: Base) -> FloatArray:
    """Thin-plate energy of a displacement field apart from the low-order lens terms, as a quadratic form.

    Parameters
    ----------
    base : Base

    Returns
    -------
    (2 Ny Nx, 2 Ny Nx) float64
        px^2, with lengths relative to half the diagonal of the knot rectangle.
    """
    ny, nx = base.shape
    span_x, span_y = base.knots_x[-4] - base.knots_x[3], base.knots_y[-4] - base.knots_y[3]
    half = 0.5 * float(np.hypot(span_x, span_y))
    hx, hy = (base.knots_x[1] - base.knots_x[0]) / half, (base.knots_y[1] - base.knots_y[0]) / half
    second = [np.diff(np.eye(n), 2, axis=0) / h**2 for n, h in ((ny, hy), (nx, hx))]
    first = [np.diff(np.eye(n), 1, axis=0) / h for n, h in ((ny, hy), (nx, hx))]
    bend = np.vstack(
        [np.kron(np.eye(ny), second[1]), np.kron(second[0], np.eye(nx)), np.sqrt(2) * np.kron(first[0], first[1])]
    ) * np.sqrt(hx * hy)
    trend = np.kron(np.eye(2), bend) @ _lens_terms(base)
    free, _ = np.linalg.qr(trend)
    pull = np.kron(np.eye(2), bend).T @ free
    return np.asarray(np.kron(np.eye(2), bend.T @ bend) - pull @ pull.T)


def _lens_terms(base: Base) -> FloatArray:
    """Coefficients (2 Ny Nx, 5) of the radial and tangential terms of Brown's lens model, in u."""
    ny, nx = base.shape
    x = np.linspace(base.knots_x[3], base.knots_x[-4], 3 * nx)
    y = np.linspace(base.knots_y[3], base.knots_y[-4], 3 * ny)
    gx, gy = (g.ravel() for g in np.meshgrid(x, y))
    r2 = gx**2 + gy**2
    fields = [(gx * r2**k, gy * r2**k) for k in (1, 2, 3)]
    fields += [(2 * gx * gy, r2 + 2 * gy**2), (r2 + 2 * gx**2, 2 * gx * gy)]
    to_coefficients = np.kron(*(np.linalg.pinv(_dense(k, at)) for k, at in ((base.knots_y, y), (base.knots_x, x))))
    columns = [np.concatenate([to_coefficients @ part for part in parts]) for parts in fields]
    return np.stack([c / np.linalg.norm(c) for c in columns], axis=1)


def _dense(knots: FloatArray, at: FloatArray) -> FloatArray:
    first, values, _ = basis(knots, at)
    out = np.zeros((len(at), len(knots) - 4))
    np.put_along_axis(out, first[:, None] + np.arange(4), values, axis=1)
    return out


def _tensor_designs(base: Base, u: FloatArray) -> tuple[sparse.csr_array, sparse.csr_array, sparse.csr_array]:
    # values and both derivatives, sixteen to a row
    first_x, value_x, slope_x = basis(base.knots_x, u[:, 0])
    first_y, value_y, slope_y = basis(base.knots_y, u[:, 1])
    index = (first_y[:, None] + np.arange(4))[:, :, None] * base.shape[1] + (first_x[:, None] + np.arange(4))[
        :, None, :
    ]

    def tensor(along_y: FloatArray, along_x: FloatArray) -> sparse.csr_array:
        data = (along_y[:, :, None] * along_x[:, None, :]).ravel()
        return sparse.csr_array(
            (data, index.ravel(), np.arange(0, len(data) + 1, 16)), shape=(len(u), base.shape[0] * base.shape[1])
        )

    return tensor(value_y, value_x), tensor(value_y, slope_x), tensor(slope_y, value_x)


def tensor_design(base: Base, u: FloatArray) -> sparse.csr_array:
    """Values (N, Ny Nx) of the tensor B-splines at directions (N, 2)."""
    return _tensor_designs(base, u)[0]


def linearise(base: Base, seen: Observations, state: State) -> _Linear:
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

    design, slope_x, slope_y = _tensor_designs(base, u)
    flat = state.coefficients.reshape(2, -1).T
    moved = design @ flat
    q_u = np.stack([slope_x @ flat, slope_y @ flat], axis=-1) + np.diag(base.scale_px)
    q_p = q_u @ u_p
    skew = np.zeros((len(p), 3, 3))  # d(turned) of a small rotation w on the left is w x turned
    skew[:, [1, 2, 0], [2, 0, 1]] = -turned[:, [0, 1, 2]]
    skew[:, [2, 0, 1], [1, 2, 0]] = turned[:, [0, 1, 2]]
    return _Linear(
        residual=seen.xy_px - (u * base.scale_px + base.centre_px + moved),
        design=design,
        u=u,
        pose=np.concatenate([q_p @ -skew, q_p], axis=2),
        height=np.einsum("nij,nj->ni", q_p, rotation[:, :, 2]),
    )


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


def _pose_blocks(linear: _Linear, weight: FloatArray, seen: Observations, n: int) -> tuple[FloatArray, FloatArray]:
    weighted = linear.pose * weight[:, None, None]
    block = _sum_by_view(np.einsum("nai,naj->nij", weighted, linear.pose), seen.view, n)
    right = _sum_by_view(np.einsum("nai,na->ni", weighted, linear.residual), seen.view, n)
    empty = np.diagonal(block, axis1=1, axis2=2).sum(axis=1) == 0
    block[empty] = np.eye(6)  # a view without points keeps its pose
    return block, right


def _damped(block: FloatArray, damping: float) -> FloatArray:
    out = block.copy()
    diagonal = np.arange(block.shape[-1])
    out[..., diagonal, diagonal] *= 1.0 + damping
    return out


def refine_poses(base: Base, seen: Observations, state: State, iterations: int = 12) -> State:
    """Move the poses alone, each view on its own, until the least squares settle; lens and target are held."""
    damping = np.full(len(state.rotation), 1e-4)
    linear = linearise(base, seen, state)
    n = len(state.rotation)

    def cost(residual: FloatArray) -> FloatArray:
        return _sum_by_view(seen.weight * np.sum(residual**2, axis=1), seen.view, n)

    now = cost(linear.residual)
    for _ in range(iterations):
        block, right = _pose_blocks(linear, seen.weight, seen, n)
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
        settled = np.all((now - np.minimum(after, now) < 1e-9 * now) | ~np.isfinite(after))
        now = np.minimum(after, now)
        if settled:
            break
        linear = linearise(base, seen, state)
    return state


def _rows_times(design: sparse.csr_array, weight: FloatArray) -> sparse.csr_array:
    return sparse.csr_array((design.data * np.repeat(weight, 16), design.indices, design.indptr), shape=design.shape)


def _step(
    linear: _Linear, seen: Observations, weight: FloatArray, state: State, penalty: FloatArray, damping: float
) -> State:
    """One damped Gauss-Newton step of everything, the poses eliminated."""
    n_views, n_spline, n_shape = len(state.rotation), linear.design.shape[1], seen.monomials.shape[1]
    block, right = _pose_blocks(linear, weight, seen, n_views)
    column = (6 * seen.view[:, None] + np.arange(6)).ravel()
    row_start = np.arange(0, 6 * len(weight) + 1, 6)
    turned = linear.design.T.tocsr()
    normal = np.zeros((2 * n_spline + n_shape,) * 2)
    cross = np.zeros((2 * n_spline + n_shape, 6 * n_views))
    gradient = np.zeros(2 * n_spline + n_shape)
    square = (turned @ _rows_times(linear.design, weight)).toarray()
    bow = slice(2 * n_spline, None)
    for axis in range(2):
        part = slice(axis * n_spline, (axis + 1) * n_spline)
        poses = sparse.csr_array(
            ((linear.pose[:, axis] * weight[:, None]).ravel(), column, row_start), shape=(len(weight), 6 * n_views)
        )
        heights = seen.monomials * linear.height[:, axis : axis + 1]
        weighted = weight * linear.residual[:, axis]
        normal[part, part] = square
        normal[part, bow] = turned @ (heights * weight[:, None])
        normal[bow, part] = normal[part, bow].T
        normal[bow, bow] += heights.T @ (heights * weight[:, None])
        cross[part] = (turned @ poses).toarray()
        cross[bow] += (poses.T @ heights).T
        gradient[part] = turned @ weighted
        gradient[bow] += heights.T @ weighted
    now = np.concatenate([state.coefficients.ravel(), state.shape_mm])
    normal += penalty
    gradient -= penalty @ now
    inverse = np.linalg.inv(_damped(block, damping))
    carried = (cross.reshape(len(now), n_views, 6).transpose(1, 0, 2) @ inverse).transpose(1, 0, 2).reshape(cross.shape)
    reduced = _damped(normal, damping) - carried @ cross.T
    step = scipy.linalg.solve(reduced, gradient - carried @ right.ravel(), assume_a="pos")
    pose_step = np.einsum("vij,vj->vi", inverse, right - (cross.T @ step).reshape(n_views, 6))
    moved = apply(state, pose_step)
    coefficients = state.coefficients + step[: 2 * n_spline].reshape(state.coefficients.shape)
    return replace(moved, coefficients=coefficients, shape_mm=state.shape_mm + step[bow])


def start_spline(base: Base, seen: Observations, state: State, penalty: FloatArray) -> State:
    """Fit the spline alone, for poses and target as they are: a linear problem."""
    n = base.shape[0] * base.shape[1]
    flat = replace(state, coefficients=np.zeros((2, *base.shape)))
    linear = linearise(base, seen, flat)
    turned = _rows_times(linear.design, seen.weight).T.tocsr()
    normal = np.kron(np.eye(2), (turned @ linear.design).toarray()) + penalty[: 2 * n, : 2 * n]
    right = np.concatenate([turned @ linear.residual[:, 0], turned @ linear.residual[:, 1]])
    return replace(flat, coefficients=scipy.linalg.solve(normal, right, assume_a="pos").reshape(2, *base.shape))


def full_penalty(
    base: Base, seen: Observations, smoothness: float, half_width_mm: float, noise_px: float
) -> FloatArray:
    """Quadratic form of all priors: thin-plate energy, the gauge's ridge and the size of a target's bow."""
    n_spline = 2 * base.shape[0] * base.shape[1]
    n_shape = seen.monomials.shape[1]
    out = np.zeros((n_spline + n_shape,) * 2)
    total = float(seen.weight.sum())
    out[:n_spline, :n_spline] = total * (smoothness * penalty_matrix(base) + RIDGE * np.eye(n_spline))
    out[n_spline:, n_spline:] = np.eye(n_shape) * (noise_px / (SHAPE_PRIOR * half_width_mm)) ** 2
    return out


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
    for wide in widths:
        linear = linearise(base, seen, state)
        width = wide * robust_scale(linear.residual, seen)
        damping = 1e-6
        now, weight = _cost(linear.residual, seen, state, penalty, width)
        for _ in range(iterations):
            try:
                tried = _step(linear, seen, weight, state, penalty, damping)
            except np.linalg.LinAlgError:  # rounding took the last of a direction that the data leave open
                damping = max(1e-6, damping * 100)
                continue
            trial = linearise(base, seen, tried)
            after, weight_after = _cost(trial.residual, seen, tried, penalty, width)
            if not after < now:
                damping *= 100
                if damping > 1e4:
                    break
                continue
            gained, state, linear, now, weight = now - after, tried, trial, after, weight_after
            damping = max(damping / 10, 1e-9)
            if gained < SETTLED * now:
                break
    return state


def _cost(
    residual: FloatArray, seen: Observations, state: State, penalty: FloatArray, width_px: float
) -> tuple[float, FloatArray]:
    prior = np.concatenate([state.coefficients.ravel(), state.shape_mm])
    cost, weight = huber(residual, seen, width_px)
    return cost + float(prior @ penalty @ prior), weight
