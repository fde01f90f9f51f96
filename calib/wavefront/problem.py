"""The least-squares problem of a few tiles' point images, its residual and its analytic Jacobian.

What shapes an image is a linear function of the named parameters, and ties between them are affine: the derivatives by
the free parameters are those of the model times one constant matrix an image. Flux and background of every image are
solved in closed form and projected out (variable projection: Golub and Pereyra, SIAM J. Numer. Anal. 10, 413 (1973),
with Kaufman's simplification), which makes the PSF sum to one by construction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import lmfit
import numpy as np
import numpy.typing as npt

from calib.fieldmodel import closed_form
from calib.pointmodel import EXTRAS, PointModel, Samples, Shape
from psfbank.arrays import BoolArray, FloatArray


@dataclass(frozen=True)
class Problem:
    """What stays fixed while parameters are fitted.

    `names` (V,) are the parameters that shape images, `mapping` (N, K + 7, V) the linear map from them to the model's K
    terms and `EXTRAS`; `parameters` hold start values, bounds and ties, `ties` (V, F) the derivatives of the named ones
    by the F free ones; `used` tells which of all images take part; `fitted` terms, the model's first, are free.
    """

    model: PointModel
    samples: Samples
    parameters: lmfit.Parameters
    names: tuple[str, ...]
    mapping: FloatArray
    ties: FloatArray
    used: BoolArray
    fitted: int

    @property
    def known(self) -> BoolArray:
        """Samples (N, D) that hold data."""
        return np.asarray(self.samples.weights.reshape(len(self.samples.values), -1) > 0)

    @property
    def degrees_of_freedom(self) -> int:
        """Count of samples less all that is fitted, fluxes and backgrounds included."""
        return int(self.known.sum()) - int(self.ties.shape[1]) - 2 * len(self.samples.values)


def with_ties(problem: Problem) -> Problem:
    """Return the problem with `ties` taken anew from its parameters' expressions, which must be affine."""
    free = problem.parameters.copy()
    for parameter in free.values():
        parameter.min, parameter.max = -np.inf, np.inf
    at = read(free, problem.names)
    columns = []
    for name in [name for name, parameter in free.items() if parameter.vary]:
        free[name].value += 1.0
        columns.append(read(free, problem.names) - at)
        free[name].value -= 1.0
    return replace(problem, ties=np.stack(columns, axis=1))


def read(parameters: lmfit.Parameters, names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Values (V,) of some parameters."""
    return np.array([parameters[name].value for name in names])


def shape_of(problem: Problem, parameters: lmfit.Parameters) -> Shape:
    """Return what shapes each image."""
    local = problem.mapping @ read(parameters, problem.names)
    at = local.shape[1] - len(EXTRAS)
    return Shape(local[:, :at], local[:, at : at + 2], local[:, at + 3 : at + 6], local[0, at + 2], local[0, at + 6])


def residual(parameters: lmfit.Parameters, problem: Problem) -> npt.NDArray[np.float64]:
    """Return data minus model of all known samples (D,), in standard deviations, at the best fluxes and backgrounds."""
    image = problem.model.render(shape_of(problem, parameters), problem.samples)
    off = closed_form(image, problem.samples)[1]
    known = problem.known
    return np.asarray(off[known] * np.sqrt(problem.samples.weights.reshape(off.shape)[known]))


def jacobian(parameters: lmfit.Parameters, problem: Problem) -> npt.NDArray[np.float64]:
    """Differentiate (D, F) `residual` by the free parameters: analytic, fluxes and backgrounds projected out."""
    image, derivative = problem.model.jacobian(shape_of(problem, parameters), problem.samples)
    count, local = derivative.shape[0], derivative.shape[2]
    flux = closed_form(image, problem.samples)[0][:, :1, None]
    white = np.sqrt(problem.samples.weights.reshape(count, -1, 1))
    columns = np.swapaxes(derivative, 1, 2).reshape(count, local, -1).astype(np.float64) * flux
    columns = white * (np.swapaxes(columns, 1, 2) @ (problem.mapping @ problem.ties))  # (N, D, F)
    flat = image.reshape(count, -1).astype(np.float64)
    linear = np.linalg.qr(white * np.stack([flat, np.ones_like(flat)], axis=2))[0]  # what flux and background span
    return np.asarray((linear @ (np.swapaxes(linear, 1, 2) @ columns) - columns)[problem.known])
