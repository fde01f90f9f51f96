"""Lateral colour: how far the other channels land from green, as a smooth spline in the same space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy import sparse

from calib.geometry import uncertainty
from calib.geometry.bundle import Base, Observations, huber, robust_scale, tensor_design
from calib.geometry.penalty import RIDGE, penalty_matrix
from psfbank.arrays import BoolArray, FloatArray

SMOOTHNESS = (1e-1, 1e-3, 1e-5, 1e-6, 1e-7)  # from the lens terms alone to a field of its own
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Difference:
    """Displacement from green: `coefficients` (2, Ny, Nx) px, and the `modes` (R, 2, Ny, Nx) px of its covariance."""

    coefficients: FloatArray
    modes: FloatArray


def fit_difference(base: Base, u: FloatArray, moved: Observations, at: uncertainty.Places) -> Difference:
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
    at : Places
        Where its covariance is looked at.

    Returns
    -------
    Difference
    """
    design = tensor_design(base, u)
    bending = penalty_matrix(base)
    views = np.unique(moved.view)
    folds = min(FOLDS, len(views))
    asides = [np.isin(moved.view, views[k::folds]) for k in range(folds)]

    def leaves(smoothness: float) -> list[tuple[FloatArray, FloatArray]]:
        return [_solve(design, moved, ~aside, smoothness * bending) for aside in asides]

    def heldout(smoothness: float) -> float:
        left = np.zeros(moved.xy_px.shape)
        for aside, (leaf, _) in zip(asides, leaves(smoothness), strict=True):
            left[aside] = moved.xy_px[aside] - design[aside] @ leaf.T
        width = 4 * robust_scale(left, moved)
        return huber(left, moved, width)[0]

    chosen = min(SMOOTHNESS, key=heldout) if folds > 1 else SMOOTHNESS[0]
    everything = np.ones(len(moved.view), dtype=bool)
    solution, fields = _solve(design, moved, everything, chosen * bending)
    if folds > 1:
        others, apart = zip(*leaves(chosen), strict=True)
        away = at.within(at.field(np.stack([(other - solution).ravel() for other in others])))
        fields = fields * np.sqrt(uncertainty.widening(away, fields, apart, at))
    modes = uncertainty.compress(fields, at)
    return Difference(solution.reshape(2, *base.shape), modes.reshape(-1, 2, *base.shape))


def _solve(
    design: sparse.csr_array, moved: Observations, use: BoolArray, bending: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Robust penalised least squares: solution (2, Ny Nx), and splines that vary independently if the points do."""
    part = moved.where(use)
    rows, n = design[use], design.shape[1]
    prior = part.weight.sum() * (bending + RIDGE * np.eye(2 * n))
    weight, solution = part.weight, np.zeros((2, n))
    for _ in range(3):
        weighted = rows.multiply(weight[:, None]).T.tocsr()
        normal = np.kron(np.eye(2), (weighted @ rows).toarray()) + prior
        right = (weighted @ part.xy_px).T.ravel()
        solution = scipy.linalg.solve(normal, right, assume_a="pos").reshape(2, n)
        left = part.xy_px - rows @ solution.T
        weight = huber(left, part, 4 * robust_scale(left, part))[1]
    fields = uncertainty.independent_fields(normal)
    free = 2 * n - float(np.sum((fields @ prior) * fields))
    return solution, fields * np.sqrt(uncertainty.noise(left, part, weight, free))
