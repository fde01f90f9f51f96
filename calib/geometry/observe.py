"""Corners of several targets as one flat list of observations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import eval_legendre

from calib.geometry.bundle import Observations
from calib.geometry.shape import design
from psfbank.arrays import BoolArray, FloatArray, IntArray
from psfbank.model import Corners

SHARED_DEGREE = 5  # of the polynomials in the picture that errors of points of one kind follow
LEAST_POINTS = 6  # a view that shows fewer says too little of its pose


def join(parts: Sequence[Corners]) -> Corners:
    """Stack the views of several targets; views with fewer points are padded with points that were not found.

    Parameters
    ----------
    parts : sequence of Corners

    Returns
    -------
    Corners
        Views in the order of `parts`.
    """
    most = max(part.found.shape[1] for part in parts)

    def padded(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return np.pad(values, [(0, 0), (0, most - values.shape[1])] + [(0, 0)] * (values.ndim - 2))

    return Corners(
        *(np.concatenate([padded(getattr(p, n)) for p in parts]) for n in ("object_mm", "image_px", "found"))
    )


def observe(
    corners: Corners, target: IntArray, sigma_px: FloatArray | None, degree: int, alike: BoolArray | None = None
) -> Observations:
    """Flatten the found points of the views that have enough of them.

    Parameters
    ----------
    corners : Corners
    target : (V,) int
    sigma_px : (V, M) float or None
    degree : int
        Of the targets' shape.
    alike : (V,) bool, optional
        Views whose points share errors that depend on the place in the picture.

    Returns
    -------
    Observations
    """
    enough = corners.found.sum(axis=1) >= LEAST_POINTS
    view, point = np.nonzero(corners.found & enough[:, None])
    weight: FloatArray = np.ones(len(view))
    if sigma_px is not None and len(view):
        weight = sigma_px[view, point] ** -2.0
        weight /= weight.mean()
    xy_mm = corners.object_mm[view, point]
    shape = design(xy_mm, target[view], degree)
    xy_px = corners.image_px[view, point]
    shared: FloatArray = np.zeros((len(view), 0))
    if alike is not None and alike[view].any():
        shared = _smooth_terms(xy_px) * alike[view][:, None]
    return Observations(view, point, xy_mm, xy_px, weight, shape, shared)


def _smooth_terms(xy_px: FloatArray) -> FloatArray:
    """Products of Legendre polynomials (N, Q) over the rectangle around points (N, 2)."""
    low, high = xy_px.min(axis=0), xy_px.max(axis=0)
    x, y = ((2 * xy_px - low - high) / (high - low)).T
    terms = [(i, j) for i in range(SHARED_DEGREE + 1) for j in range(SHARED_DEGREE + 1 - i)]
    return np.stack([eval_legendre(i, x) * eval_legendre(j, y) for i, j in terms], axis=1)
