"""Levenberg-Marquardt for the wavefront of the whole field: a few hundred global numbers and every light's position.

Flux and background of every image are eliminated in closed form, lights' positions by a Schur complement, so that a
step solves only for the global parameters, whatever the count of points.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from calib.fieldmodel import (
    Images,
    Layout,
    closed_form,
    huber_cost,
    local_map,
    normal_equations,
    position_equations,
    to_shape,
)
from calib.pointmodel import PointModel, Shape
from psfbank.arrays import BoolArray, FloatArray, IntArray

log = logging.getLogger(__name__)
T = TypeVar("T")

CHUNK = 64  # images rendered at once
POSITION_SIGMA_PX = 0.5  # of a detected position, before the fit


@dataclass(frozen=True)
class Parameters:
    """Global parameters (G,) in the order of a `Layout`, and the lights' positions (S, 2), pixels."""

    vector: FloatArray
    xy_px: FloatArray


@dataclass(frozen=True)
class Problem:
    """Everything that stays fixed while the field is fitted; `models` has an entry a channel, `images` one or more."""

    layout: Layout
    models: tuple[PointModel, ...]
    images: tuple[Images, ...]
    detected_px: FloatArray
    prior_mean: FloatArray
    prior_sigma: FloatArray

    def lights(self) -> npt.NDArray[np.int64]:
        """Numbers of the lights that have images."""
        return np.unique(np.concatenate([images.source for images in self.images]))

    def within(self, radius: float) -> Problem:
        """Return the problem of the images within a field radius, in half diagonals."""
        return self._where([np.hypot(*images.field.T) <= radius for images in self.images])

    def of_lights(self, lights: npt.NDArray[np.int64]) -> Problem:
        """Return the problem of the images of some lights."""
        return self._where([np.isin(images.source, lights) for images in self.images])

    def _where(self, keep: list[BoolArray]) -> Problem:
        images = (images.take(np.flatnonzero(k)) for images, k in zip(self.images, keep, strict=True))
        return replace(self, images=tuple(images))


def _chunks(count: int) -> list[slice]:
    return [slice(k, min(k + CHUNK, count)) for k in range(0, count, CHUNK)]


def _run(executor: Executor | None, work: Callable[[int, slice], T], jobs: list[tuple[int, slice]]) -> Iterator[T]:
    """Do jobs in order; a pool changes when each is done, never the order in which results are summed."""
    return (map if executor is None else executor.map)(lambda job: work(*job), jobs)


def shapes(problem: Problem, number: int, at: Parameters, part: slice = slice(None)) -> Shape:
    """Work out what shapes images of `problem.images[number]` at the given parameters."""
    images = problem.images[number]
    mapped = local_map(problem.layout, images.channel, images.field[part], images.plane) @ at.vector
    added_nm = images.added_nm
    mapped[:, : problem.layout.terms] += added_nm if isinstance(added_nm, float) else added_nm[part]
    return to_shape(problem.layout, mapped, at.xy_px[images.source[part]])


def _prior_cost(problem: Problem, at: Parameters, used: npt.NDArray[np.int64]) -> float:
    moved = (at.xy_px - problem.detected_px)[used] / POSITION_SIGMA_PX
    return float(np.sum(((at.vector - problem.prior_mean) / problem.prior_sigma) ** 2) + np.sum(moved**2))


def image_costs(problem: Problem, at: Parameters, executor: Executor | None = None) -> list[npt.NDArray[np.float64]]:
    """Huber's loss of every image, an array (N,) for each of `problem.images`."""

    def cost(number: int, part: slice) -> npt.NDArray[np.float64]:
        images = problem.images[number]
        samples = images.samples.take(part)
        image = problem.models[images.channel].render(shapes(problem, number, at, part), samples)
        residual = closed_form(image, samples)[1]
        return huber_cost(residual, samples.weights.reshape(len(residual), -1))

    jobs = [(k, part) for k, images in enumerate(problem.images) for part in _chunks(len(images.source))]
    done = list(_run(executor, cost, jobs))
    return [
        np.concatenate([d for d, job in zip(done, jobs, strict=True) if job[0] == k] or [np.zeros(0)])
        for k in range(len(problem.images))
    ]


@dataclass(frozen=True)
class Normal:
    """Gauss-Newton system: global block (G, G), its coupling to every light (S, G, 2), the lights' blocks (S, 2, 2)."""

    matrix: FloatArray
    gradient: FloatArray
    coupling: FloatArray
    light_matrix: FloatArray
    light_gradient: FloatArray
    cost: float


def assemble(problem: Problem, at: Parameters, executor: Executor | None = None) -> Normal:
    """Sum every image's normal equations into the global system."""
    j = problem.layout.terms
    lights, size = len(problem.detected_px), len(at.vector)

    def local(number: int, part: slice) -> tuple[FloatArray, ...]:
        images = problem.images[number]
        model, samples = problem.models[images.channel], images.samples.take(part)
        matrix, gradient, cost = normal_equations(model, shapes(problem, number, at, part), samples)
        # made anew for every chunk: a row for every local parameter of 50 000 images would take gigabytes
        to_global = local_map(problem.layout, images.channel, images.field[part], images.plane)
        half = np.swapaxes(to_global, 1, 2) @ matrix
        block = half.transpose(1, 0, 2).reshape(size, -1) @ to_global.reshape(-1, size)
        push = np.einsum("nlg,nl->g", to_global, gradient)
        return block, push, half[:, :, j : j + 2], matrix[:, j : j + 2, j : j + 2], gradient[:, j : j + 2], cost

    total = np.diag(problem.prior_sigma**-2)
    push = (problem.prior_mean - at.vector) / problem.prior_sigma**2
    coupling, own = np.zeros((lights, size, 2)), np.zeros((lights, 2, 2))
    own_push, cost = np.zeros((lights, 2)), 0.0
    jobs = [(k, part) for k, images in enumerate(problem.images) for part in _chunks(len(images.source))]
    for (number, part), result in zip(jobs, _run(executor, local, jobs), strict=True):
        source = problem.images[number].source[part]
        total += result[0]
        push += result[1]
        coupling[source] += result[2]
        own[source] += result[3]
        own_push[source] += result[4]
        cost += float(result[5].sum())
    used = problem.lights()
    own += np.eye(2) / POSITION_SIGMA_PX**2
    own_push += (problem.detected_px - at.xy_px) / POSITION_SIGMA_PX**2
    return Normal(total, push, coupling, own, own_push, cost + _prior_cost(problem, at, used))


def local_equations(
    problem: Problem, at: Parameters, executor: Executor | None = None
) -> Iterator[tuple[IntArray, FloatArray, FloatArray]]:
    """Yield sources (B,), normal matrices (B, L, L) and gradients (B, L) of images by their L = J + 7 parameters."""

    def local(number: int, part: slice) -> tuple[IntArray, FloatArray, FloatArray]:
        images = problem.images[number]
        model, samples = problem.models[images.channel], images.samples.take(part)
        matrix, gradient, _ = normal_equations(model, shapes(problem, number, at, part), samples)
        return images.source[part], matrix, gradient

    jobs = [(k, part) for k, images in enumerate(problem.images) for part in _chunks(len(images.source))]
    return _run(executor, local, jobs)


def refine_positions(
    problem: Problem, at: Parameters, executor: Executor | None = None, rounds: int = 2
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Positions (S, 2) of the problem's lights with everything else held, and sigma (S,) of a coordinate, pixels."""

    def moves(number: int, part: slice) -> tuple[IntArray, FloatArray, FloatArray]:
        images = problem.images[number]
        samples = images.samples.take(part)
        shape = shapes(problem, number, at, part)
        return images.source[part], *position_equations(problem.models[images.channel], shape, samples)

    used = problem.lights()
    matrix = np.zeros((0, 2, 2))
    jobs = [(k, part) for k, images in enumerate(problem.images) for part in _chunks(len(images.source))]
    for _ in range(rounds):  # of Gauss and Newton's method
        matrix = np.broadcast_to(np.eye(2) / POSITION_SIGMA_PX**2, (*at.xy_px.shape, 2)).copy()
        gradient = (problem.detected_px - at.xy_px) / POSITION_SIGMA_PX**2
        for source, one, push in _run(executor, moves, jobs):
            np.add.at(matrix, source, one)
            np.add.at(gradient, source, push)
        step = np.linalg.solve(matrix, gradient[..., None])[..., 0]
        moved = np.array(at.xy_px)
        moved[used] += step[used]
        at = replace(at, xy_px=moved)
    return np.asarray(at.xy_px), position_sigma(matrix)


def position_sigma(matrix: FloatArray) -> npt.NDArray[np.float64]:
    """Sigma (S,) of a coordinate, px, of positions with normal matrices (S, 2, 2)."""
    return np.asarray(np.sqrt(np.trace(np.linalg.inv(matrix), axis1=1, axis2=2) / 2))


def solve_step(normal: Normal, damping: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Levenberg-Marquardt step (G,), (S, 2): lights are eliminated by their Schur complement."""
    eye = np.eye(2, dtype=bool)
    own = np.where(eye, normal.light_matrix * (1 + damping), normal.light_matrix)
    back = np.linalg.solve(own, np.swapaxes(normal.coupling, 1, 2))  # (S, 2, G)
    size = len(normal.gradient)
    matrix = normal.matrix + damping * np.diag(np.diag(normal.matrix))
    matrix = matrix - normal.coupling.transpose(1, 0, 2).reshape(size, -1) @ back.reshape(-1, size)
    alone = np.linalg.solve(own, normal.light_gradient[..., None])[..., 0]
    gradient = normal.gradient - np.einsum("sgk,sk->g", normal.coupling, alone)
    scale = 1.0 / np.sqrt(np.diag(matrix))
    step = scale * np.linalg.solve(matrix * np.outer(scale, scale), scale * gradient)
    return step, alone - back @ step


def covariance(normal: Normal) -> npt.NDArray[np.float64]:
    """Covariance (G, G) of the global parameters, lights' positions marginalised."""
    back = np.linalg.solve(normal.light_matrix, np.swapaxes(normal.coupling, 1, 2))
    size = len(normal.gradient)
    matrix = normal.matrix - normal.coupling.transpose(1, 0, 2).reshape(size, -1) @ back.reshape(-1, size)
    scale = 1.0 / np.sqrt(np.diag(matrix))
    return np.asarray(np.linalg.inv(matrix * np.outer(scale, scale)) * np.outer(scale, scale))


def minimise(
    problem: Problem, start: Parameters, *, tolerance: float, steps: int = 20, executor: Executor | None = None
) -> tuple[Parameters, float]:
    """Levenberg-Marquardt from `start`.

    Stops when a step lowers the cost by less than `tolerance`, in units of the cost of a sample: chi2, even where the
    noise is not known. A share of the whole cost would not do: nearly all of it is noise, which no step can lower.
    """
    at, damping = start, 1e-3
    samples = max(1, sum(int(np.count_nonzero(i.samples.weights)) for i in problem.images))
    normal = assemble(problem, at, executor)
    used = problem.lights()
    for _ in range(steps):
        for _ in range(8):
            step, light = solve_step(normal, damping)
            tried = Parameters(at.vector + step, at.xy_px + light)
            cost = sum(float(c.sum()) for c in image_costs(problem, tried, executor)) + _prior_cost(
                problem, tried, used
            )
            if cost < normal.cost:
                break
            damping *= 5
        else:
            return at, normal.cost
        gained = normal.cost - cost
        at, damping = tried, max(damping / 5, 1e-7)
        if gained < tolerance * cost / samples:
            return at, cost
        normal = assemble(problem, at, executor)
    log.debug("the wavefront fit used all of its %d steps", steps)
    return at, normal.cost
