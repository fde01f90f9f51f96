"""Evaluate and invert a spline distortion map: arrays in, arrays out.

A ray becomes a stereographic direction u, and u a pixel: f u + c + spline(u), with a cubic tensor B-spline over a
rectangle of u. Beyond the rectangle each axis continues along its tangent, so rays a little outside give finite and
smooth values where the cubic itself would run away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import distance_transform_edt

from psfbank.arrays import BoolArray, FloatArray, IntArray
from psfbank.spline import Surface, blocks

CONVERGED_PX = 1e-6
START_NODES = 4  # of the table of starts, a knot span


def stereographic(rays: FloatArray) -> npt.NDArray[np.float64]:
    """Rays (N, 2) as x/z, y/z -> stereographic directions u = 2 tan(theta / 2) along the ray, (N, 2)."""
    shrink = 2.0 / (1.0 + np.sqrt(1.0 + rays[..., 0] ** 2 + rays[..., 1] ** 2))
    return np.asarray(rays * shrink[..., None])


def from_stereographic(u: FloatArray) -> npt.NDArray[np.float64]:
    """Stereographic directions (N, 2) -> rays (N, 2) as x/z, y/z; NaN at 90 degrees from the axis and beyond."""
    shrink = 1.0 - (u[..., 0] ** 2 + u[..., 1] ** 2) / 4.0
    return np.asarray(u / np.where(shrink > 0, shrink, np.nan)[..., None])


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
    at = np.asarray(at, dtype=np.float64)
    inside = np.clip(at, knots[3], knots[-4])
    last = np.clip(np.searchsorted(knots, inside, side="right") - 1, 3, len(knots) - 5)
    before = [inside - knots[last - j] for j in range(3)]
    behind = [knots[last + 1 + j] - inside for j in range(3)]
    lower: list[npt.NDArray[np.float64]] = []
    functions = [np.ones(at.shape)]
    for degree in range(3):
        lower, functions = functions, [np.zeros(at.shape)]
        for j, function in enumerate(lower):
            share = function / (behind[j] + before[degree - j])
            functions[-1] = functions[-1] + behind[j] * share
            functions.append(before[degree - j] * share)
    steps = [3.0 * f / (behind[j] + before[2 - j]) for j, f in enumerate(lower)]
    slopes = np.stack([-steps[0], steps[0] - steps[1], steps[1] - steps[2], steps[2]], axis=-1)
    values = np.stack(functions, axis=-1)
    beyond = np.flatnonzero(at != inside)
    values[beyond] += slopes[beyond] * (at - inside)[beyond, None]
    return last - 3, values, slopes


def basis_matrix(knots: FloatArray, at: FloatArray) -> npt.NDArray[np.float64]:
    """Values (N, n) of all cubic B-splines of a knot vector (n + 4,) at places (N,), as `basis` continues them."""
    first, values, _ = basis(knots, at)
    matrix = np.zeros((len(at), len(knots) - 4))
    np.put_along_axis(matrix, first[:, None] + np.arange(4), values, axis=1)
    return matrix


@dataclass(frozen=True, eq=False)
class _Lens:
    """One channel of a map, ready for many places: u -> px as polynomials, and a table of where to start back."""

    surface: Surface
    scale_px: FloatArray
    centre_px: FloatArray

    @cached_property
    def start(self) -> Surface:
        """Px -> u, roughly: Newton's answers at the nodes of a grid over all that the knots cover, joined by a spline.

        Nodes without an answer get their nearest neighbour's; it is only where to begin.
        """
        x, y = self.surface.x.breaks, self.surface.y.breaks
        reached = self.surface.at(*(g.ravel() for g in np.meshgrid(x, y)))
        nodes = [
            line.min() + max(np.ptp(line), 1.0) * np.linspace(0, 1, START_NODES * len(k))
            for line, k in zip(reached, (x, y), strict=True)
        ]
        xy_px = np.stack(np.meshgrid(*nodes), axis=-1)
        flat = xy_px.reshape(-1, 2)
        far = self.far_start(flat)
        u = _walk(self, flat, far)
        u = filled((far if np.isnan(u).all() else u).reshape(xy_px.shape))
        fits = [RectBivariateSpline(nodes[1], nodes[0], u[..., k]) for k in range(2)]
        knots_y, knots_x, _ = fits[0].tck
        counts = len(knots_y) - 4, len(knots_x) - 4
        return Surface.of(knots_x, knots_y, np.stack([fit.tck[2].reshape(counts) for fit in fits]))

    def far_start(self, xy_px: FloatArray) -> npt.NDArray[np.float64]:
        """Where to begin anywhere: the map without its spline."""
        return np.asarray((xy_px - self.centre_px) / self.scale_px)


@lru_cache(maxsize=12)
def _prepared(matrix: bytes, knots_x: bytes, knots_y: bytes, coefficients: bytes) -> _Lens:
    camera_matrix = np.frombuffer(matrix).reshape(3, 3)
    along_x, along_y = np.frombuffer(knots_x), np.frombuffer(knots_y)
    scale, centre = np.diag(camera_matrix)[:2], camera_matrix[:2, 2]
    # splines hold u itself exactly: its coefficients are the running means of the knots (Marsden's identity)
    means = [np.convolve(k[1:-1], np.ones(3) / 3, mode="valid") for k in (along_x, along_y)]
    straight = np.stack(np.meshgrid(*(means[k] * scale[k] + centre[k] for k in range(2))))
    moved = np.frombuffer(coefficients).reshape(straight.shape)
    return _Lens(Surface.of(along_x, along_y, straight + moved), scale, centre)


def _lens(camera_matrix: FloatArray, knots_x: FloatArray, knots_y: FloatArray, coefficients: FloatArray) -> _Lens:
    # known again by its numbers: a few thousand bytes, where preparing it takes a millisecond
    return _prepared(*(np.asarray(a, np.float64).tobytes() for a in (camera_matrix, knots_x, knots_y, coefficients)))


def project(
    rays: FloatArray, camera_matrix: FloatArray, knots_x: FloatArray, knots_y: FloatArray, coefficients: FloatArray
) -> npt.NDArray[np.float64]:
    """Rays (N, 2) -> pixels (N, 2): f u + c + spline(u), with `coefficients` (2, Ny, Nx) px."""
    surface = _lens(camera_matrix, knots_x, knots_y, coefficients).surface
    xy_px = np.empty((len(rays), 2))
    for part in blocks(len(rays)):
        u = stereographic(rays[part])
        xy_px[part] = surface.at(u[:, 0], u[:, 1]).T
    return xy_px


def project_stereographic(
    u: FloatArray, camera_matrix: FloatArray, knots_x: FloatArray, knots_y: FloatArray, coefficients: FloatArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Stereographic directions (N, 2) -> pixels (N, 2) and their derivatives (N, 2, 2), [pixel axis, u axis]."""
    surface = _lens(camera_matrix, knots_x, knots_y, coefficients).surface
    xy_px, jacobian = np.empty((len(u), 2)), np.empty((len(u), 2, 2))
    for part in blocks(len(u)):
        value, along_x, along_y = surface.with_slopes(u[part, 0], u[part, 1])
        xy_px[part], jacobian[part, :, 0], jacobian[part, :, 1] = value.T, along_x.T, along_y.T
    return xy_px, jacobian


def _walk(lens: _Lens, xy_px: FloatArray, start: FloatArray, steps: int = 25) -> npt.NDArray[np.float64]:
    """Newton's method from `start` (N, 2); NaN where it does not arrive, or the map is folded over."""
    found = np.full(xy_px.shape, np.nan)
    for part in blocks(len(xy_px)):
        (x, y), (to_x, to_y) = start[part].T.copy(), xy_px[part].T.copy()
        where = np.arange(part.start, part.stop)
        keep: BoolArray = np.isfinite(x + y + to_x + to_y)
        for _ in range(steps):
            if not keep.all():
                x, y, to_x, to_y, where = x[keep], y[keep], to_x[keep], to_y[keep], where[keep]
            if not len(where):
                break
            at, (xx, yx), (xy, yy) = lens.surface.with_slopes(x, y)
            miss_x, miss_y = to_x - at[0], to_y - at[1]
            det = xx * yy - xy * yx
            # a fold (det <= 0) has no inverse to walk to: such a point leaves the iteration without an answer
            sound = det > 0
            there = sound & (np.fmax(np.abs(miss_x), np.abs(miss_y)) < CONVERGED_PX / 100)
            found[where[there], 0], found[where[there], 1] = x[there], y[there]
            keep = sound & ~there
            det = np.where(sound, det, 1.0)
            x, y = x + (yy * miss_x - xy * miss_y) / det, y + (xx * miss_y - yx * miss_x) / det
    return found


def unproject_stereographic(
    xy_px: FloatArray, camera_matrix: FloatArray, knots_x: FloatArray, knots_y: FloatArray, coefficients: FloatArray
) -> npt.NDArray[np.float64]:
    """Pixels (N, 2) -> stereographic directions (N, 2), which reach beyond 90 degrees; NaN where nothing lands."""
    lens = _lens(camera_matrix, knots_x, knots_y, coefficients)
    nodes = START_NODES**2 * len(lens.surface.x.breaks) * len(lens.surface.y.breaks)
    if len(xy_px) < nodes:  # a table would take longer than it saves
        return _walk(lens, xy_px, lens.far_start(xy_px))
    start = np.empty((len(xy_px), 2))
    for part in blocks(len(xy_px)):
        start[part] = lens.start.at(xy_px[part, 0], xy_px[part, 1]).T
    u = _walk(lens, xy_px, start, steps=4)
    if (lost := np.flatnonzero(np.isnan(u[:, 0]))).size:
        u[lost] = _walk(lens, xy_px[lost], lens.far_start(xy_px[lost]))
    return u


def unproject(
    xy_px: FloatArray, camera_matrix: FloatArray, knots_x: FloatArray, knots_y: FloatArray, coefficients: FloatArray
) -> npt.NDArray[np.float64]:
    """Pixels (N, 2) -> rays (N, 2) by Newton's method on `project`, to 1e-6 px; NaN where it does not converge."""
    return from_stereographic(unproject_stereographic(xy_px, camera_matrix, knots_x, knots_y, coefficients))


def filled(u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Give nodes (Ny, Nx, 2) that are NaN the values of the nearest that are not."""
    missing = np.isnan(u[..., 0])
    if not missing.any():
        return u
    nearest = distance_transform_edt(missing, return_distances=False, return_indices=True)
    return np.asarray(u[tuple(nearest)])
