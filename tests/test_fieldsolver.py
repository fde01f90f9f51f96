"""The solver against dense algebra, and from a start beside the truth back to it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from calib.fieldmodel import Images, Layout
from calib.fieldsolver import (
    CHUNK,
    POSITION_SIGMA_PX,
    Normal,
    Parameters,
    Problem,
    assemble,
    covariance,
    image_costs,
    minimise,
    shapes,
    solve_step,
)
from calib.pointmodel import Optics, PointModel, Samples
from psfbank.zernike import noll_terms

SIDE, LIGHTS = 9, 80  # more than one chunk
NOISE = 0.002  # of a sample, in units of the flux
TOLERANCE = 1e-5

Array = npt.NDArray[np.float64]


def truth_of(layout: Layout, rng: np.random.Generator) -> Array:
    at = layout.slices()
    vector = np.zeros(at["scale"].stop)
    vector[at["wave"]] = rng.normal(0, 12, at["wave"].stop)
    vector[at["wave"].start :: layout.shared][: layout.terms] += np.array([45.0, 10.0, -8.0, 6.0])
    vector[at["deviation"]] = rng.normal(0, 4, at["deviation"].stop - at["deviation"].start)
    vector[at["lateral"]] = rng.normal(0, 0.1, at["lateral"].stop - at["lateral"].start)
    vector[at["diffusion"]] = 0.28
    vector[at["clip"]] = 0.0, 0.0, 0.0, 1.1
    vector[at["scale"].start] = 1.0
    return vector


def problem_of(truth_xy: Array, layout: Layout, vector: Array, rng: np.random.Generator) -> Problem:
    """Images of both channels, sampled on every pixel, with white noise; detections are 0.2 px off."""
    optics = Optics(noll_terms(4, 7), np.array([[600.0], [520.0]]), np.ones((2, 1)), 2.0, 1.4)
    models = tuple(PointModel(optics, c, 5.0, 21) for c in range(2))
    field = (truth_xy - 50) / 70
    corner = np.rint(truth_xy) - SIDE // 2
    rows, cols = (corner[:, k, None, None] + np.arange(SIDE) for k in (1, 0))
    empty = [
        Images(Samples(rows, cols, *(np.ones((LIGHTS, 1, SIDE, SIDE)),) * 2), field, np.arange(LIGHTS), c)
        for c in (0, 1)
    ]
    sigma = np.full(len(vector), 100.0)
    sigma[layout.slices()["clip"]] = 1e-3
    sigma[layout.slices()["scale"]] = 0.05
    mean = np.where(sigma == 100.0, 0.0, vector)
    posed = Problem(layout, models, tuple(empty), truth_xy, mean, sigma)
    images = []
    for c in range(2):
        light = models[c].render(shapes(posed, c, Parameters(vector, truth_xy)), empty[c].samples)
        data = 0.8 * light + 0.02 + rng.normal(0, NOISE, light.shape)
        weights = np.full(light.shape, NOISE**-2)
        images.append(replace(empty[c], samples=replace(empty[c].samples, values=data, weights=weights)))
    detected = truth_xy + rng.normal(0, 0.2, truth_xy.shape)
    return replace(posed, images=tuple(images), detected_px=detected)


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout(terms=4, channels=2, degree=1)


@pytest.fixture(scope="module")
def truth(layout: Layout) -> Parameters:
    rng = np.random.default_rng(1)
    return Parameters(truth_of(layout, rng), rng.uniform(0, 100, (LIGHTS, 2)))


@pytest.fixture(scope="module")
def problem(truth: Parameters, layout: Layout) -> Problem:
    return problem_of(truth.xy_px, layout, truth.vector, np.random.default_rng(2))


@pytest.fixture(scope="module")
def start(problem: Problem, truth: Parameters, layout: Layout) -> Parameters:
    """Beside the truth: a tenth of a wave off in every constant term."""
    vector = truth.vector.copy()
    vector[: layout.terms * layout.shared] *= 0.5
    vector[layout.slices()["diffusion"]] = 0.25
    return Parameters(vector, problem.detected_px)


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def solved(problem: Problem, start: Parameters) -> tuple[Parameters, float]:
    return minimise(problem, start, tolerance=TOLERANCE)


def test_the_fit_returns_to_the_truth_within_its_own_errors(
    problem: Problem, truth: Parameters, solved: tuple[Parameters, float], layout: Layout
) -> None:
    found, cost = solved
    samples = 2 * LIGHTS * SIDE**2
    assert cost / samples == pytest.approx(1.0, abs=0.05)
    assert np.abs(found.xy_px - truth.xy_px).max() < 0.03
    sigma = np.sqrt(np.diag(covariance(assemble(problem, found))))
    pull = (found.vector - truth.vector) / sigma
    data_speak = np.r_[layout.slices()["wave"], layout.slices()["deviation"], layout.slices()["lateral"]]
    assert np.abs(pull[data_speak]).max() < 4.5
    assert np.sqrt(np.mean(pull[data_speak] ** 2)) < 1.5
    assert sigma[layout.slices()["wave"]].max() < 3.0, "nm"


def test_nothing_depends_on_the_number_of_workers(
    problem: Problem, start: Parameters, solved: tuple[Parameters, float], pool: Executor
) -> None:
    assert LIGHTS > CHUNK
    found, cost = minimise(problem, start, tolerance=TOLERANCE, executor=pool)
    np.testing.assert_array_equal(found.vector, solved[0].vector)
    np.testing.assert_array_equal(found.xy_px, solved[0].xy_px)
    assert cost == solved[1]
    for alone, together in zip(image_costs(problem, start), image_costs(problem, start, pool), strict=True):
        np.testing.assert_array_equal(alone, together)


def test_every_step_lowers_the_cost(problem: Problem, start: Parameters) -> None:
    costs = [minimise(problem, start, steps=n, tolerance=0.0)[1] for n in (0, 1, 2, 3)]
    assert costs == sorted(costs, reverse=True)
    assert costs[3] < 0.5 * costs[0]


def test_the_minimum_is_where_the_cost_is_flat(problem: Problem, solved: tuple[Parameters, float]) -> None:
    further, cost = minimise(problem, solved[0], steps=3, tolerance=0.0)
    assert cost <= solved[1] * (1 + 1e-9)
    assert solved[1] - cost < 1e-3 * solved[1]
    assert np.abs(further.xy_px - solved[0].xy_px).max() < 1e-2


def full_system(normal: Normal, damping: float = 0.0) -> tuple[Array, Array]:
    """The same equations without elimination: global parameters, then every light's x and y."""
    size, lights = len(normal.gradient), len(normal.light_gradient)
    matrix = np.zeros((size + 2 * lights,) * 2)
    matrix[:size, :size] = normal.matrix
    for s in range(lights):
        at = slice(size + 2 * s, size + 2 * s + 2)
        matrix[:size, at], matrix[at, :size] = normal.coupling[s], normal.coupling[s].T
        matrix[at, at] = normal.light_matrix[s]
    matrix += damping * np.diag(np.diag(matrix))
    return matrix, np.concatenate([normal.gradient, normal.light_gradient.ravel()])


@pytest.fixture(scope="module")
def normal(problem: Problem, start: Parameters) -> Normal:
    return assemble(problem, start)


@pytest.mark.parametrize("damping", [0.0, 1e-3, 1.0])
def test_a_step_solves_the_full_system(normal: Normal, damping: float) -> None:
    step, light = solve_step(normal, damping)
    matrix, gradient = full_system(normal, damping)
    expected = np.linalg.solve(matrix, gradient)
    got = np.concatenate([step, light.ravel()])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())


def test_the_covariance_is_the_full_inverses_global_block(normal: Normal) -> None:
    found = covariance(normal)
    expected = np.linalg.inv(full_system(normal)[0])[: len(found), : len(found)]
    scale = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(found / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-6)
    correlation = found / np.outer(scale, scale)
    np.testing.assert_allclose(correlation, correlation.T, atol=1e-9)
    assert np.linalg.eigvalsh((correlation + correlation.T) / 2).min() > 0


def test_the_system_counts_priors_and_every_image_once(problem: Problem, normal: Normal, start: Parameters) -> None:
    half = assemble(problem.of_lights(np.arange(LIGHTS // 2)), start)
    rest = assemble(problem.of_lights(np.arange(LIGHTS // 2, LIGHTS)), start)
    prior = np.diag(problem.prior_sigma**-2.0)
    np.testing.assert_allclose(half.matrix + rest.matrix - prior, normal.matrix, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(half.coupling + rest.coupling, normal.coupling, rtol=1e-6, atol=1e-6)
    own = np.eye(2) / POSITION_SIGMA_PX**2
    np.testing.assert_allclose(half.light_matrix[LIGHTS // 2 :], np.tile(own, (LIGHTS // 2, 1, 1)))
    np.testing.assert_allclose(half.light_matrix + rest.light_matrix - own, normal.light_matrix, rtol=1e-9)
    moved = (start.vector - problem.prior_mean) / problem.prior_sigma
    assert half.cost + rest.cost - moved @ moved == pytest.approx(normal.cost, rel=1e-9)


def test_the_systems_cost_is_that_of_the_images_and_the_priors(
    problem: Problem, normal: Normal, start: Parameters
) -> None:
    images = sum(float(cost.sum()) for cost in image_costs(problem, start))
    moved = (start.vector - problem.prior_mean) / problem.prior_sigma
    shifted = (start.xy_px - problem.detected_px) / POSITION_SIGMA_PX
    assert normal.cost == pytest.approx(images + moved @ moved + np.sum(shifted**2), rel=1e-6)


def test_a_part_of_the_field_holds_its_own_lights_alone(problem: Problem) -> None:
    radius = np.hypot(*problem.images[0].field.T)
    inner = problem.within(0.4)
    np.testing.assert_array_equal(inner.lights(), np.flatnonzero(radius <= 0.4))
    some = np.array([3, 70, 11])
    np.testing.assert_array_equal(problem.of_lights(some).lights(), np.sort(some))
    np.testing.assert_array_equal(problem.lights(), np.arange(LIGHTS))


def only_channel(problem: Problem, channel: int) -> Problem:
    keep = [slice(None) if c == channel else slice(0) for c in range(2)]
    images = tuple(i.take(np.arange(LIGHTS)[k]) for i, k in zip(problem.images, keep, strict=True))
    return replace(problem, images=images)


def test_a_lights_images_in_all_channels_add_up(problem: Problem, normal: Normal, start: Parameters) -> None:
    first, second = (assemble(only_channel(problem, c), start) for c in range(2))
    np.testing.assert_allclose(first.coupling + second.coupling, normal.coupling, rtol=1e-6, atol=1e-6)
    own, pull = np.eye(2) / POSITION_SIGMA_PX**2, (problem.detected_px - start.xy_px) / POSITION_SIGMA_PX**2
    np.testing.assert_allclose(first.light_matrix + second.light_matrix - own, normal.light_matrix, rtol=1e-9)
    np.testing.assert_allclose(first.light_gradient + second.light_gradient - pull, normal.light_gradient, rtol=1e-9)


def test_a_channel_without_images_costs_nothing(problem: Problem, start: Parameters) -> None:
    costs = image_costs(only_channel(problem, 0), start)
    assert len(costs[1]) == 0
    np.testing.assert_array_equal(costs[0], image_costs(problem, start)[0])
