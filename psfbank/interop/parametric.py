"""Fit the small lens models of OpenCV, which ROS and COLMAP share, to a spline map.

All go the way that our map goes, from ideal rays to distorted pixels, in the map's own frame: a ray projects to the
same pixel with either, up to the loss. Brown (1966) with four or five terms, its rational form with eight, thin prisms
(Weng, Cohen and Herniou, 1992) with twelve, and the fisheye of Kannala and Brandt (2006) with four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from scipy.optimize import least_squares

from psfbank.arrays import FloatArray
from psfbank.interop.loss import Array, Loss, Places, fitted, lattice, loss_of, reserved
from psfbank.model import DistortionMap
from psfbank.resample import gradient

Model = Literal["brown4", "brown5", "rational8", "thin_prism12", "fisheye4"]
TERMS: dict[Model, int] = {"brown4": 4, "brown5": 5, "rational8": 8, "thin_prism12": 12, "fisheye4": 4}
AS_GOOD = 1.1, 0.005  # a simpler model is preferred whose RMS is within this factor, or these pixels, of the best
LEAST_RIDGE_PX = 1e-6


@dataclass(frozen=True, eq=False)
class Parametric:
    """One channel's fitted model: `camera_matrix` (3, 3) px, `coefficients` (n,) in OpenCV's order, and the loss."""

    model: Model
    camera_matrix: Array
    coefficients: Array
    loss: Loss

    def project(self, rays: FloatArray) -> Array:
        """Rays (N, 2) -> pixels (N, 2), by OpenCV's own functions."""
        return _projected(self.model, rays, _parameters(self.camera_matrix, self.coefficients))[0]


def fit_best(distortion: DistortionMap, size_px: tuple[int, int], channel: str, models: Sequence[Model]) -> Parametric:
    """Fit models in order of rising freedom, and choose the first that is about as good as the best.

    Parameters
    ----------
    distortion : DistortionMap
    size_px : (H, W)
        Of the sensor.
    channel : str
    models : sequence of str

    Returns
    -------
    Parametric
        One that folds within the picture only if all do.

    Raises
    ------
    ExportError
        When the map is valid in too little of the picture.
    """
    fits = [fit(distortion, size_px, channel, model) for model in models]
    sound = [each for each in fits if not _folds(each, distortion, size_px, channel)] or fits
    least_px = min(each.loss.rms_px for each in sound)
    factor, extra_px = AS_GOOD
    return next(each for each in sound if each.loss.rms_px <= max(factor * least_px, least_px + extra_px))


def fit(distortion: DistortionMap, size_px: tuple[int, int], channel: str, model: Model) -> Parametric:
    """Fit one model to one channel by least squares in pixels, over the valid region.

    What the model misses is taken as noise, and coefficients as of the order of one before the fit: without that, terms
    that the field does not tell grow until numerator and denominator of a rational model share a root in the picture.
    """
    places = fitted(distortion, size_px, channel)
    found = _parameters(distortion.camera_matrix, np.zeros(TERMS[model]))
    ridge_px = LEAST_RIDGE_PX
    for _ in range(2):
        found = _least_squares(model, places, found, ridge_px)
        off_px = _projected(model, places.rays, found)[0] - places.xy_px
        ridge_px = max(float(np.sqrt(np.mean(off_px**2))), LEAST_RIDGE_PX)
    matrix = np.array([[found[0], 0, found[2]], [0, found[1], found[3]], [0, 0, 1]])
    held = reserved(distortion, size_px, channel)
    loss = loss_of(lambda rays: _projected(model, rays, found)[0], held, channel)
    return Parametric(model, matrix, found[4:], loss)


def _least_squares(model: Model, places: Places, start: FloatArray, ridge_px: float) -> Array:
    ridge = np.concatenate([np.zeros(4), np.full(TERMS[model], ridge_px)])

    def misses(parameters: FloatArray) -> Array:
        off_px = _projected(model, places.rays, parameters)[0] - places.xy_px
        return np.concatenate([off_px.ravel(), ridge * parameters])

    def slopes(parameters: FloatArray) -> Array:
        return np.concatenate([_projected(model, places.rays, parameters)[1], np.diag(ridge)])

    return np.asarray(least_squares(misses, start, slopes, x_scale="jac", max_nfev=200).x)


def _parameters(camera_matrix: FloatArray, coefficients: FloatArray) -> Array:
    return np.concatenate([np.diag(camera_matrix)[:2], camera_matrix[:2, 2], coefficients])


def _projected(model: Model, rays: FloatArray, parameters: FloatArray) -> tuple[Array, Array]:
    """Pixels (N, 2), and their derivatives (2 N, 4 + n) by fx, fy, cx, cy and the coefficients."""
    fx, fy, cx, cy = parameters[:4]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    points = np.column_stack([rays, np.ones(len(rays))]).astype(np.float64).reshape(-1, 1, 3)
    still, terms = np.zeros(3), np.ascontiguousarray(parameters[4:])
    if model == "fisheye4":
        at, slopes = cv2.fisheye.projectPoints(points, still, still, matrix, terms)
        columns = slice(0, 8)  # before those of the pose
    else:
        at, slopes = cv2.projectPoints(points, still, still, matrix, terms)
        columns = slice(6, None)  # behind those of the pose
    return np.asarray(at, dtype=np.float64).reshape(-1, 2), np.asarray(slopes, dtype=np.float64)[:, columns]


def _folds(fit: Parametric, distortion: DistortionMap, size_px: tuple[int, int], channel: str) -> bool:
    """Whether a model turns neighbouring rays of the picture round, corners beyond the valid region included."""
    xy_px = lattice(size_px, 0.0)
    count = len(np.unique(xy_px[:, 0]))
    at = fit.project(distortion.unproject(xy_px, channel)).reshape(-1, count, 2)
    along_y, along_x = gradient(at)
    area = along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0]
    return bool(np.any(area[np.isfinite(area)] <= 0))
