"""Evaluate and invert a spline distortion map: arrays in, arrays out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import NdBSpline

from psfbank.arrays import FloatArray


def stereographic(rays: FloatArray) -> npt.NDArray[np.float64]:
    """Rays (N, 2) as x/z, y/z -> stereographic directions u = 2 tan(theta / 2) along the ray, (N, 2)."""
    length = np.sqrt(1.0 + np.sum(np.square(rays), axis=-1, keepdims=True))
    return np.asarray(2.0 * rays / (1.0 + length))


def from_stereographic(u: FloatArray) -> npt.NDArray[np.float64]:
    """Stereographic directions (N, 2) -> rays (N, 2) as x/z, y/z."""
    return np.asarray(u / (1.0 - np.sum(np.square(u), axis=-1, keepdims=True) / 4.0))


def project(
    rays: FloatArray, camera_matrix: FloatArray, knots_x: FloatArray, knots_y: FloatArray, coefficients: FloatArray
) -> npt.NDArray[np.float64]:
    """Rays (N, 2) -> pixels (N, 2): f * u + c + spline(u)."""
    u = stereographic(rays)
    spline = NdBSpline((knots_y, knots_x), np.moveaxis(coefficients, 0, -1), 3, extrapolate=True)
    scale, centre = np.diag(camera_matrix)[:2], camera_matrix[:2, 2]
    return np.asarray(u * scale + centre + spline(u[:, ::-1]))


def unproject(
    xy_px: FloatArray, camera_matrix: FloatArray, knots_x: FloatArray, knots_y: FloatArray, coefficients: FloatArray
) -> npt.NDArray[np.float64]:
    """Pixels (N, 2) -> rays (N, 2) by Newton's method on `project`; NaN where it does not converge."""
    spline = NdBSpline((knots_y, knots_x), np.moveaxis(coefficients, 0, -1), 3, extrapolate=True)
    scale, centre = np.diag(camera_matrix)[:2], camera_matrix[:2, 2]
    u = (xy_px - centre) / scale
    miss = np.full_like(u, np.inf)
    for _ in range(12):
        yx = u[:, ::-1]
        miss = xy_px - (u * scale + centre + spline(yx))
        jacobian = np.stack([spline(yx, nu=(0, 1)), spline(yx, nu=(1, 0))], axis=-1) + np.diag(scale)
        u = u + np.linalg.solve(jacobian, miss[..., None])[..., 0]
        if np.abs(miss).max() < 1e-9:
            break
    rays = from_stereographic(u)
    rays[np.abs(miss).max(axis=-1) > 1e-6] = np.nan
    return np.asarray(rays)
