"""Corners of several targets as one flat list of observations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from calib.geometry.bundle import Observations
from calib.geometry.shape import design
from psfbank.arrays import FloatArray, IntArray
from psfbank.model import Corners

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


def observe(corners: Corners, target: IntArray, sigma_px: FloatArray | None, degree: int) -> Observations:
    """Flatten the found points of the views that have enough of them.

    Parameters
    ----------
    corners : Corners
    target : (V,) int
    sigma_px : (V, M) float or None
    degree : int
        Of the targets' shape.

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
    return Observations(view, point, xy_mm, corners.image_px[view, point], weight, shape)
