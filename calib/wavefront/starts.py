"""Several starts of a least-squares problem, and the mirror twin of its solution.

A symmetric pupil gives W(x, y) and -W(-x, -y) the same image: terms of even n flip their sign, those of odd n keep it.
Besides, a fit from one start ends in a local minimum about as often as not where all images are in focus.
"""

from __future__ import annotations

from dataclasses import dataclass

import lmfit
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from calib.wavefront.problem import Problem, jacobian, residual
from psfbank.arrays import FloatArray
from psfbank.errors import FitFailed

COARSE, FINE = 1e-3, 1e-7  # relative gain of a step below which a start, and the whole fit, is done
COARSE_STEPS, FINE_STEPS = 25, 200
FIRST = 0.25  # of a start's width, all terms alike: zero is a saddle of even terms
WIDEST = 4.0  # starts are up to this many times as wide, for images far out of focus
GOOD_SIGMA = 4.0  # a start whose chi2 is this close to what noise alone gives is not bettered by others
SIGNAL_SIGMA = 10.0  # of chi2 without light, below which images are called empty
LEAST_EXPLAINED = 0.9  # of the data's variance beyond noise
AT_BOUND = 1e-2  # of the width between bounds


@dataclass(frozen=True)
class Solution:
    """Parameters where the cost `chi2` is least, their covariance (F, F), and whether the solver converged.

    The covariance follows from the data's variances, times the reduced chi2 where that is above one: a model that does
    not fit has no claim to small errors.
    """

    parameters: lmfit.Parameters
    chi2: float
    reduced_chi2: float
    covariance: npt.NDArray[np.float64]
    converged: bool


def minimise(problem: Problem, start: lmfit.Parameters, *, fine: bool = True) -> Solution:
    """Fit from one start: trust-region least squares with the analytic Jacobian, whose bounds lmfit hands through."""
    fit = lmfit.Minimizer(residual, start, fcn_args=(problem,), scale_covar=False)
    tolerance, steps = (FINE, FINE_STEPS) if fine else (COARSE, COARSE_STEPS)
    # lmfit's own limit raises in mid-step and keeps the last place tried; SciPy's keeps the best
    fit.kws["max_nfev"] = steps
    with threadpool_limits(1, user_api="blas"):  # many small products: BLAS threads would wait for each other
        result = fit.least_squares(jac=jacobian, x_scale="jac", ftol=tolerance, xtol=tolerance, gtol=None)
    chi2 = float(np.sum(np.square(result.residual)))
    reduced = chi2 / problem.degrees_of_freedom
    covariance = _covariance(result.jac, max(1.0, reduced), [result.params[name] for name in result.var_names])
    return Solution(result.params, chi2, reduced, covariance, bool(result.status > 0))


def _covariance(slope: FloatArray, inflation: float, parameters: list[lmfit.Parameter]) -> npt.NDArray[np.float64]:
    """Covariance (F, F) from the whitened Jacobian (D, F) and from the bounds.

    Bounds say as much as a uniform distribution between them: next to nothing where the data speak, all that is known
    of a parameter that they do not feel (a second stop that cuts nothing), where lmfit's covariance does not exist.
    """
    bounds = np.diag([12.0 / (p.max - p.min) ** 2 for p in parameters])
    matrix = slope.T @ slope / inflation + bounds
    scale = 1.0 / np.sqrt(np.diag(matrix))
    return np.asarray(np.linalg.inv(matrix * np.outer(scale, scale)) * np.outer(scale, scale))


def search(problem: Problem, rng: np.random.Generator, starts: int) -> Solution:
    """Fit from several starts and polish the best.

    Starts end early where one explains the data as well as noise allows: another cannot do better.
    """
    enough = 1.0 + GOOD_SIGMA * np.sqrt(2.0 / problem.degrees_of_freedom)
    best: Solution | None = None
    for k in range(max(1, starts)):
        tried = minimise(problem, _start(problem, rng if k else None), fine=False)
        best = tried if best is None or tried.chi2 < best.chi2 else best
        if best.reduced_chi2 < enough:
            break
    assert best is not None  # noqa: S101 there was a start
    return minimise(problem, best.parameters)


def solve(problem: Problem, rng: np.random.Generator, starts: int) -> tuple[Solution, Solution]:
    """Find the best solution, and what the fit from its mirror twin gives: the better of the two comes first.

    Raises
    ------
    FitFailed
        With fewer samples than unknowns, without light, and where the best solution lies at a bound of its terms or
        leaves most of the light unexplained.
    """
    require_light(problem)
    best = search(problem, rng, starts)
    mirrored = minimise(problem, flipped(best.parameters))
    if mirrored.chi2 < best.chi2:
        best, mirrored = mirrored, best
    require_explained(problem, best)
    return best, mirrored


def standard_errors(solution: Solution) -> dict[str, float]:
    """Return the standard errors of the free parameters."""
    names = [name for name, parameter in solution.parameters.items() if parameter.vary]
    return dict(zip(names, np.sqrt(np.diag(solution.covariance)).tolist(), strict=True))


def chi2_without_light(problem: Problem) -> float:
    """Cost of backgrounds alone."""
    w = problem.samples.weights.reshape(len(problem.samples.weights), -1)
    y = problem.samples.values.reshape(w.shape)
    mean = (w * y).sum(1, keepdims=True) / w.sum(1, keepdims=True)
    return float((w * (y - mean) ** 2).sum())


def require_light(problem: Problem) -> None:
    """Raise FitFailed unless the images hold light, and more samples than there are unknowns."""
    freedom = problem.degrees_of_freedom
    if freedom < 1:
        raise FitFailed(
            f"{int(problem.known.sum())} known samples are too few for {int(problem.known.sum()) - freedom} unknowns",
            remedy="Shoot more points, or fit fewer terms",
        )
    if chi2_without_light(problem) < freedom + SIGNAL_SIGMA * np.sqrt(2 * freedom):
        raise FitFailed("the images hold no light above their noise", remedy="Expose the points longer")


def require_explained(problem: Problem, solution: Solution) -> None:
    """Raise FitFailed when the model cannot hold the data: a term at its bound, or most of the light unexplained."""
    for name, parameter in solution.parameters.items():
        if not parameter.vary or not parameter.user_data.start_nm:
            continue
        margin = AT_BOUND * (parameter.max - parameter.min)
        if not parameter.min + margin < parameter.value < parameter.max - margin:
            raise FitFailed(
                f"the term {name} ran into its bound of {parameter.max:.0f} nm: the light fills the window",
                remedy="Focus better, or cut larger windows around the points",
            )
    freedom = problem.degrees_of_freedom
    explained = 1.0 - (solution.chi2 - freedom) / (chi2_without_light(problem) - freedom)
    if explained < LEAST_EXPLAINED:
        raise FitFailed(
            f"the wavefront explains {100 * max(explained, 0):.0f} % of the light",
            remedy="Check that these are single points in focus, and the f-number, pitch and wavelength given",
        )


def flipped(parameters: lmfit.Parameters) -> lmfit.Parameters:
    """Turn W(x, y) into -W(-x, -y): free terms of even n change sign, and so does the place of a free second stop."""
    out = parameters.copy()
    for parameter in out.values():
        if parameter.vary and parameter.user_data.flips:
            parameter.value = -parameter.value
    return out


def _start(problem: Problem, rng: np.random.Generator | None) -> lmfit.Parameters:
    """Draw a start, or return the first one, which is none of chance; bounds clip it."""
    out = problem.parameters.copy()
    width = FIRST if rng is None else WIDEST ** rng.random()
    for parameter in out.values():
        if parameter.vary:
            parameter.value += parameter.user_data.start_nm * width * (1.0 if rng is None else rng.normal())
    return out
