"""Evaluate, invert and resample a spline distortion map: arrays in, arrays out.

A ray becomes a stereographic direction u, and u a pixel: f u + c + spline(u), with a cubic tensor B-spline over a
rectangle of u. Beyond the rectangle each axis continues along its tangent, so rays a little outside give finite and
smooth values where the cubic itself would run away.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline, RectBivariateSpline
from scipy.ndimage import distance_transform_edt

from psfbank.arrays import FloatArray, IntArray

CONVERGED_PX = 1e-6
MAP_STEP_PX = 8  # between the nodes at which `pixel_map` inverts the map; a cubic spline joins them


def stereographic(rays: FloatArray) -> npt.NDArray[np.float64]:
    """Rays (N, 2) as x/z, y/z -> stereographic directions u = 2 tan(theta / 2) along the ray, (N, 2)."""
    length = np.sqrt(1.0 + np.sum(np.square(rays), axis=-1, keepdims=True))
    return np.asarray(2.0 * rays / (1.0 + length))


def from_stereographic(u: FloatArray) -> npt.NDArray[np.float64]:
    """Stereographic directions (N, 2) -> rays (N, 2) as x/z, y/z; NaN at 90 degrees from the axis and beyond."""
    shrink = 1.0 - np.sum(np.square(u), axis=-1, keepdims=True) / 4.0
    return np.asarray(u / np.where(shrink > 0, shrink, np.nan))


def basis(knots: FloatArray, at: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Cubic B-splines that are not zero at each place, continued along their tangents outside the knots.

    Parameters
    ----------
    knots : (n + 4,) float
        Simple knots, increasing.
    at : (N,) float

    Returns
    -------
    first : (N,) int
        Number of the first of the four functions.
    values, slopes : (N, 4) float64
        The four functions and their derivatives (de Boor's recurrence).
    """
    inside = np.clip(at, knots[3], knots[-4])
    cubic = BSpline.design_matrix(inside, knots, 3)
    square = BSpline.design_matrix(inside, knots[1:-1], 2)
    first = cubic.indices.reshape(-1, 4)[:, 0]
    span = first[:, None] + np.arange(1, 4)
    step = 3.0 * square.data.reshape(-1, 3) / (knots[span + 3] - knots[span])
    slopes = -np.diff(step, axis=1, prepend=0.0, append=0.0)
    values = cubic.data.reshape(-1, 4) + slopes * (at - inside)[:, None]
    return first, values, slopes


def _combine(
    coefficients: FloatArray, first: tuple[IntArray, IntArray], weight_x: FloatArray, weight_y: FloatArray
) -> npt.NDArray[np.float64]:
    # sixteen passes over N points need far less memory than one pass over (N, 16)
    out = np.zeros((len(weight_x), 2))
    for j in range(4):
        for i in range(4):
            out += (coefficients[:, first[1] + j, first[0] + i] * (weight_y[:, j] * weight_x[:, i])).T
    return out


def project(
    rays: FloatArray, camera_matrix: FloatArray, knots_x: FloatArray, knots_y: FloatArray, coefficients: FloatArray
) -> npt.NDArray[np.float64]:
    """Rays (N, 2) -> pixels (N, 2): f u + c + spline(u), with `coefficients` (2, Ny, Nx) px."""
    u = stereographic(rays)
    first_x, value_x, _ = basis(knots_x, u[:, 0])
    first_y, value_y, _ = basis(knots_y, u[:, 1])
    moved = _combine(coefficients, (first_x, first_y), value_x, value_y)
    return np.asarray(u * np.diag(camera_matrix)[:2] + camera_matrix[:2, 2] + moved)


def project_stereographic(
    u: FloatArray, camera_matrix: FloatArray, knots_x: FloatArray, knots_y: FloatArray, coefficients: FloatArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Stereographic directions (N, 2) -> pixels (N, 2) and their derivatives (N, 2, 2), [pixel axis, u axis]."""
    first_x, value_x, slope_x = basis(knots_x, u[:, 0])
    first_y, value_y, slope_y = basis(knots_y, u[:, 1])
    first, scale = (first_x, first_y), np.diag(camera_matrix)[:2]
    xy_px = u * scale + camera_matrix[:2, 2] + _combine(coefficients, first, value_x, value_y)
    along_x = _combine(coefficients, first, slope_x, value_y)
    along_y = _combine(coefficients, first, value_x, slope_y)
    return xy_px, np.stack([along_x, along_y], axis=-1) + np.diag(scale)


def unproject_stereographic(
    xy_px: FloatArray, camera_matrix: FloatArray, knots_x: FloatArray, knots_y: FloatArray, coefficients: FloatArray
) -> npt.NDArray[np.float64]:
    """Pixels (N, 2) -> stereographic directions (N, 2), which reach beyond 90 degrees; NaN where nothing lands."""
    u = (xy_px - camera_matrix[:2, 2]) / np.diag(camera_matrix)[:2]
    active = np.flatnonzero(np.isfinite(u).all(axis=1))
    done = np.zeros(len(u), dtype=bool)
    for _ in range(25):
        got, jacobian = project_stereographic(u[active], camera_matrix, knots_x, knots_y, coefficients)
        miss = xy_px[active] - got
        det = np.linalg.det(jacobian)
        done[active] = (np.abs(miss).max(axis=1) < CONVERGED_PX / 100) & (det > 0)
        # a fold (det <= 0) has no inverse to walk to: such a point leaves the iteration without an answer
        go = ~done[active] & (det > 0)
        if not go.any():
            break
        active = active[go]
        u[active] += np.linalg.solve(jacobian[go], miss[go, :, None])[..., 0]
    u[~done] = np.nan
    return np.asarray(u)


def unproject(
    xy_px: FloatArray, camera_matrix: FloatArray, knots_x: FloatArray, knots_y: FloatArray, coefficients: FloatArray
) -> npt.NDArray[np.float64]:
    """Pixels (N, 2) -> rays (N, 2) by Newton's method on `project`, to 1e-6 px; NaN where it does not converge."""
    return from_stereographic(unproject_stereographic(xy_px, camera_matrix, knots_x, knots_y, coefficients))


def pixel_map(
    size_px: tuple[int, int],
    camera_matrix: FloatArray,
    knots_x: FloatArray,
    knots_y: FloatArray,
    coefficients: FloatArray,
) -> npt.NDArray[np.float32]:
    """Where each sensor pixel looks in the picture of an ideal pinhole camera of the same camera matrix.

    Directions are found by `unproject` about every 8 pixels and joined by a cubic spline, which is far finer than the
    knots of any map.

    Parameters
    ----------
    size_px : (H, W)
        Sensor.
    camera_matrix, knots_x, knots_y, coefficients
        One channel of a map, as `project` takes them.

    Returns
    -------
    (H, W, 2) float32
        (x, y) px in the pinhole picture, what `cv2.remap` takes; NaN where no ray in front of the camera lands.
    """
    height, width = size_px
    nodes_x = np.linspace(0, width - 1, max(4, width // MAP_STEP_PX + 2))
    nodes_y = np.linspace(0, height - 1, max(4, height // MAP_STEP_PX + 2))
    xy_px = np.stack(np.meshgrid(nodes_x, nodes_y), axis=-1).reshape(-1, 2)
    u = unproject_stereographic(xy_px, camera_matrix, knots_x, knots_y, coefficients)
    u = u.reshape(len(nodes_y), len(nodes_x), 2)
    missing = np.isnan(u[..., 0])
    if missing.all():
        return np.full((height, width, 2), np.nan, dtype=np.float32)
    if missing.any():
        nearest = distance_transform_edt(missing, return_distances=False, return_indices=True)
        u = u[tuple(nearest)]
    x_px, y_px = np.arange(width), np.arange(height)
    dense = np.stack([RectBivariateSpline(nodes_y, nodes_x, u[..., k])(y_px, x_px) for k in range(2)], axis=-1)
    if missing.any():
        near = np.ix_(
            np.rint(y_px / max(nodes_y[1], 1e-9)).astype(int), np.rint(x_px / max(nodes_x[1], 1e-9)).astype(int)
        )
        dense[missing[near]] = np.nan
    pinhole = from_stereographic(dense) * np.diag(camera_matrix)[:2] + camera_matrix[:2, 2]
    return np.asarray(pinhole, dtype=np.float32)
