"""Lateral colour: how far the other channels land from green, as a smooth spline in the same space."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from calib.geometry.bundle import Base, Observations, huber, robust_scale, tensor_design
from calib.geometry.penalty import RIDGE, penalty_matrix
from psfbank.arrays import BoolArray, FloatArray

SMOOTHNESS = (1e-1, 1e-3, 1e-5, 1e-6, 1e-7)  # from the lens terms alone to a field of its own
FOLDS = 5


def fit_difference(base: Base, u: FloatArray, moved: Observations) -> FloatArray:
    """Spline of a channel's displacement from green.

    The thin-plate penalty leaves affine, radial and tangential differences free, which is what lateral colour mostly
    is; how much more the data support is chosen by views held out.

    Parameters
    ----------
    base : Base
    u : (N, 2) float
        Direction of each point.
    moved : Observations
        `xy_px` holds the channel's position minus green's.

    Returns
    -------
    (2, Ny, Nx) float64
        px.
    """
    design = np.asarray(tensor_design(base, u).toarray())
    bending = penalty_matrix(base)
    views = np.unique(moved.view)
    folds = min(FOLDS, len(views))

    def heldout(smoothness: float) -> float:
        left = np.zeros(moved.xy_px.shape)
        for k in range(folds):
            aside = np.isin(moved.view, views[k::folds])
            left[aside] = moved.xy_px[aside] - design[aside] @ _solve(design, moved, ~aside, smoothness * bending).T
        width = 4 * robust_scale(left, moved)
        return huber(left, moved, width)[0]

    chosen = min(SMOOTHNESS, key=heldout) if folds > 1 else SMOOTHNESS[0]
    everything = np.ones(len(moved.view), dtype=bool)
    return _solve(design, moved, everything, chosen * bending).reshape(2, *base.shape)


def _solve(design: FloatArray, moved: Observations, use: BoolArray, bending: FloatArray) -> FloatArray:
    """Robust penalised least squares, (2, Ny Nx)."""
    part = moved.where(use)
    rows, n = design[use], design.shape[1]
    prior = part.weight.sum() * (bending + RIDGE * np.eye(2 * n))
    weight, solution = part.weight, np.zeros((2, n))
    for _ in range(3):
        normal = np.kron(np.eye(2), rows.T @ (rows * weight[:, None])) + prior
        right = (rows.T @ (part.xy_px * weight[:, None])).T.ravel()
        solution = scipy.linalg.solve(normal, right, assume_a="pos").reshape(2, n)
        left = part.xy_px - rows @ solution.T
        weight = huber(left, part, 4 * robust_scale(left, part))[1]
    return solution
