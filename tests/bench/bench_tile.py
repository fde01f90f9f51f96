"""Time of one tile's wavefront fit: analytic Jacobian against lmfit's differences: `python tests/bench/bench_tile.py`.

Six images of one tile on the green sites of a mosaic, 12 terms, three focus planes; both fits start and end alike.
Ratios carry from one machine to another, seconds do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import lmfit
import numpy as np
from threadpoolctl import threadpool_limits

from calib.pointmodel import Optics, PointModel, Samples, Shape
from calib.wavefront.diversity import parabolic_planes
from calib.wavefront.parameters import Extras, TileImages, pose_tiles
from calib.wavefront.problem import Problem, residual
from calib.wavefront.starts import FINE, Solution, minimise
from psfbank.zernike import noll_terms

WAVE_NM, HALF_PX, REPEATS = 550.0, 9, 5
PLANES = parabolic_planes([-150.0, 0.0, 150.0])
# relative; an image rendered in single precision bears no smaller steps: of about 0.1 nm, and of about 0.01 px
STEP_TERM, STEP_PLACE = 1e-2, 1e-4


def tile_problem(rng: np.random.Generator) -> Problem:
    """Six noisy images, two in each plane."""
    optics = Optics(noll_terms(4, 15), np.array([[WAVE_NM]]), np.ones((1, 1)), 2.0, 1.4)
    plane = np.repeat(np.arange(3), 2)
    axis = np.arange(-HALF_PX, HALF_PX + 1) + 100.0
    at = np.tile(np.array([axis[:-1:2], axis[1::2]]), (6, 1, 1))
    coefficients = np.tile(rng.normal(0, 20.0, 12), (6, 1))
    coefficients[:, 0] += PLANES.at[plane]
    xy = 100.0 + rng.uniform(-0.5, 0.5, (6, 2))
    shape = Shape(coefficients, xy, np.tile([0.0, 0.0, 1.1], (6, 1)), 0.25, 1.0)
    image = PointModel(optics, 0, HALF_PX).render(shape, Samples(at, at, at, at)).astype(np.float64)
    electrons = 20.0 + 20e3 * image / image.max((1, 2, 3), keepdims=True)
    seen = rng.poisson(electrons) + rng.normal(0, 3.0, electrons.shape)
    images = TileImages(Samples(at, at, seen, 1 / (electrons + 9.0)), xy + rng.normal(0, 0.1, xy.shape), plane)
    return pose_tiles((images,), optics, 0, PLANES, Extras(), 41)


def with_differences(problem: Problem, start: lmfit.Parameters) -> float:
    """Fit as `minimise` does, the Jacobian by forward differences; returns chi2."""
    steps = [STEP_TERM if "_z" in name else STEP_PLACE for name, parameter in start.items() if parameter.vary]
    fit = lmfit.Minimizer(residual, start, fcn_args=(problem,), scale_covar=False)
    with threadpool_limits(1, user_api="blas"):
        result = fit.least_squares(x_scale="jac", ftol=FINE, xtol=FINE, gtol=None, diff_step=steps)
    return float(np.sum(np.square(result.residual)))


def main() -> None:
    problem = tile_problem(np.random.default_rng(0))
    start = problem.parameters.copy()
    for parameter in start.values():
        parameter.value += 0.25 * parameter.user_data.start_nm
    found: dict[str, float] = {}

    def analytic() -> None:
        solution: Solution = minimise(problem, start)
        found["analytic Jacobian"] = solution.chi2

    def differences() -> None:
        found["finite differences"] = with_differences(problem, start)

    runs: dict[str, Callable[[], None]] = {"analytic Jacobian": analytic, "finite differences": differences}
    best = dict.fromkeys(runs, np.inf)
    for _ in range(REPEATS):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - began)
    for name, seconds in best.items():
        ratio = seconds / best["analytic Jacobian"]
        print(f"{name:20s} {1e3 * seconds:8.1f} ms  x {ratio:5.2f}  chi2 {found[name]:.2f}")  # noqa: T201 its result


if __name__ == "__main__":
    main()
