"""Two distortion maps side by side: each has a frame of rays of its own, turned by what no picture of targets tells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from psfbank.arrays import FloatArray
from psfbank.distortion import project_stereographic, unproject_stereographic
from psfbank.model import DistortionMap, channel_index

GRID = (12, 9)  # places at which maps are compared


def apart_px(
    one: DistortionMap, other: DistortionMap, xy_px: FloatArray, channel: str = "G"
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Say how far one map puts the rays of another's pixels from there, the frames turned to fit best.

    Parameters
    ----------
    one, other : DistortionMap
    xy_px : (N, 2) float
        Places in the picture.
    channel : str

    Returns
    -------
    difference_px : (N, 2) float64
        NaN where the other map does not reach.
    turn : (3,) float64
        Rotation vector from the other's frame to the one's, radians.
    """
    u = unproject_stereographic(np.asarray(xy_px, dtype=np.float64), *_model(other, channel))
    seen = np.isfinite(u).all(axis=1)
    # u = 2 tan(theta / 2) along the ray, so that the direction on the unit sphere is rational in it
    r2 = np.sum(u[seen] ** 2, axis=1, keepdims=True)
    toward = np.hstack([4 * u[seen], 4 - r2]) / (4 + r2)

    def misses(turn: FloatArray) -> npt.NDArray[np.float64]:
        turned = Rotation.from_rotvec(turn).apply(toward)
        at, _ = project_stereographic(2 * turned[:, :2] / (1 + turned[:, 2:]), *_model(one, channel))
        return np.asarray((at - xy_px[seen]).ravel())

    fit = least_squares(misses, np.zeros(3), x_scale=1e-3)
    difference = np.full(xy_px.shape, np.nan)
    difference[seen] = fit.fun.reshape(-1, 2)
    return difference, fit.x


def map_distance_px(one: DistortionMap, other: DistortionMap) -> float:
    """2-D RMS distance, px, of two maps over the second's valid region, the rotation of the frame apart."""
    channel = "G" if "G" in one.channels + other.channels else other.channels[0]
    low, high = other.valid_region.min(axis=0), other.valid_region.max(axis=0)
    xy_px = np.stack(np.meshgrid(*(np.linspace(a, b, n) for a, b, n in zip(low, high, GRID, strict=True))), axis=-1)
    difference_px, _ = apart_px(one, other, xy_px.reshape(-1, 2), channel)
    return float(np.sqrt(2 * np.nanmean(difference_px**2)))


def _model(distortion: DistortionMap, channel: str) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    spline = distortion.coefficients[channel_index(distortion.channels, channel)]
    return distortion.camera_matrix, distortion.knots_x, distortion.knots_y, spline
