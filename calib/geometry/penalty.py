"""The priors of the bundle adjustment, as quadratic forms of the spline's coefficients and the targets' shape.

The smoothness penalty is the thin-plate energy of what low-order lens terms (radial to the seventh order, tangential,
any affine map) cannot express, so that a strong penalty degrades to a parametric lens and never pulls towards zero.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from calib.geometry.bundle import Base, Observations
from psfbank.arrays import FloatArray
from psfbank.distortion import basis_matrix

RIDGE = 1e-12  # of each coefficient, relative to the data; at 1e-9 it held the focal length
GAUGE = 1e-6  # of the spline's share of a rotation of the frame, relative to the data: nothing observes it
SHARED_PRIOR_PX = 0.03  # of what points of one kind share, one standard deviation of a term
SHAPE_PRIOR = 0.05  # bow of a target relative to its half-width, one standard deviation


@lru_cache(maxsize=4)
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
    trend = np.kron(np.eye(2), bend) @ _as_splines(base, _lens_terms)
    free, _ = np.linalg.qr(trend)
    pull = np.kron(np.eye(2), bend).T @ free
    return np.asarray(np.kron(np.eye(2), bend.T @ bend) - pull @ pull.T)


Fields = Callable[[FloatArray, FloatArray], list[tuple[FloatArray, FloatArray]]]


def _lens_terms(x: FloatArray, y: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    """Radial and tangential terms of Brown's lens model, in u."""
    r2 = x**2 + y**2
    radial = [(x * r2**k, y * r2**k) for k in (1, 2, 3)]
    return [*radial, (2 * x * y, r2 + 2 * y**2), (r2 + 2 * x**2, 2 * x * y)]


def rotations(x: FloatArray, y: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    """Displacements in u of small rotations of the frame: what is left of Moebius maps, quadratic in u."""
    lean = (x**2 - y**2) / 4
    return [(x * y / 2, 1 - lean), (1 + lean, x * y / 2), (-y, x)]


@lru_cache(maxsize=4)
def rotation_fields(base: Base) -> FloatArray:
    """Coefficients (2 Ny Nx, 3) of what rotations of the camera's frame do to its picture, each of length one."""
    return _as_splines(base, rotations)


def _as_splines(base: Base, fields: Fields) -> FloatArray:
    ny, nx = base.shape
    x = np.linspace(base.knots_x[3], base.knots_x[-4], 3 * nx)
    y = np.linspace(base.knots_y[3], base.knots_y[-4], 3 * ny)
    gx, gy = (g.ravel() for g in np.meshgrid(x, y))
    to_coefficients = np.kron(
        *(np.linalg.pinv(basis_matrix(k, at)) for k, at in ((base.knots_y, y), (base.knots_x, x)))
    )
    columns = [np.concatenate([to_coefficients @ part for part in parts]) for parts in fields(gx, gy)]
    return np.stack([c / np.linalg.norm(c) for c in columns], axis=1)


def full_penalty(
    base: Base, seen: Observations, smoothness: float, half_width_mm: float, noise_px: float, gauge: float = GAUGE
) -> FloatArray:
    """Quadratic form of all priors: thin-plate energy, the gauge, the size of a target's bow and of shared errors."""
    n_spline = 2 * base.shape[0] * base.shape[1]
    n_shape, n_shared = seen.monomials.shape[1], 2 * seen.shared.shape[1]
    out = np.zeros((n_spline + n_shape + n_shared,) * 2)
    total = float(seen.weight.sum())
    turn = rotation_fields(base)
    out[:n_spline, :n_spline] = total * (smoothness * penalty_matrix(base) + RIDGE * np.eye(n_spline))
    out[:n_spline, :n_spline] += total * gauge * (turn @ turn.T)
    deviation = np.concatenate([np.full(n_shape, SHAPE_PRIOR * half_width_mm), np.full(n_shared, SHARED_PRIOR_PX)])
    out[n_spline:, n_spline:] = np.diag((noise_px / deviation) ** 2)
    return out
