"""Corrections to the smooth field: found where many lights insist, absent where there is only noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.wavefront.remainder import (
    LIGHTS_A_NODE,
    LightEquations,
    Remainder,
    choose_tightness,
    place_nodes,
    solve_nodes,
    tents,
)

SIZE_PX = (480, 640)
TERMS, LIGHTS = 3, 500
SIGMA_NM = 6.0  # of what one light says of one coefficient
SPOT_PX, SPOT_RADIUS_PX, SPOT_NM = np.array([420.0, 150.0]), 60.0, np.array([30.0, -20.0, 0.0])

Array = npt.NDArray[np.float64]


def lights(seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(0, 1, (LIGHTS, 2)) * np.array(SIZE_PX[::-1])


def spot(xy_px: Array) -> Array:
    near = np.exp(-np.sum((xy_px - SPOT_PX) ** 2, axis=1) / 2 / SPOT_RADIUS_PX**2)
    return near[:, None] * SPOT_NM


def equations(xy_px: Array, truth: Array, seed: int = 1) -> LightEquations:
    """Every light measures its own coefficients with errors of `SIGMA_NM`."""
    seen = truth + np.random.default_rng(seed).normal(0, SIGMA_NM, truth.shape)
    return LightEquations(np.tile(np.eye(TERMS) / SIGMA_NM**2, (LIGHTS, 1, 1)), seen / SIGMA_NM**2)


@given(st.floats(-20, 700), st.floats(-20, 500))
def test_tents_share_every_place_among_four_nodes(x: float, y: float) -> None:
    x_px, y_px = np.linspace(0, 639, 7), np.linspace(0, 479, 5)
    weights = tents(x_px, y_px, np.array([[x, y]])).toarray()[0]
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    inside = np.clip([x, y], 0, [639, 479])
    nodes = np.stack(np.meshgrid(x_px, y_px), -1).reshape(-1, 2)
    np.testing.assert_allclose(weights @ nodes, inside, atol=1e-9)


def test_nodes_cover_the_picture_with_a_few_lights_each() -> None:
    x_px, y_px = place_nodes(SIZE_PX, 1200)
    assert (x_px[0], x_px[-1], y_px[0], y_px[-1]) == (0, 639, 0, 479)
    assert 0.6 < len(x_px) * len(y_px) * LIGHTS_A_NODE / 1200 < 1.6
    assert [len(axis) for axis in place_nodes(SIZE_PX, 5)] == [3, 3]


def test_noise_alone_asks_for_no_correction() -> None:
    xy_px = lights()
    x_px, y_px = place_nodes(SIZE_PX, LIGHTS)
    silent = equations(xy_px, np.zeros((LIGHTS, TERMS)))
    assert choose_tightness(silent, tents(x_px, y_px, xy_px), len(x_px)) is None


def test_a_spot_is_found_where_it_is_and_nowhere_else() -> None:
    xy_px = lights()
    x_px, y_px = place_nodes(SIZE_PX, LIGHTS)
    weights = tents(x_px, y_px, xy_px)
    data = equations(xy_px, spot(xy_px))
    tightness = choose_tightness(data, weights, len(x_px))
    assert tightness is not None
    found, system = solve_nodes(data, weights, len(x_px), tightness)
    remainder = Remainder(x_px, y_px, found, np.linalg.inv(system.toarray()), tightness)

    assert np.linalg.norm(remainder.at(SPOT_PX[None])[0] - SPOT_NM) < 0.3 * np.linalg.norm(SPOT_NM)
    mirrored = np.array([[SIZE_PX[1] - SPOT_PX[0], SIZE_PX[0] - SPOT_PX[1]]])
    assert np.linalg.norm(remainder.at(mirrored)) < 0.15 * np.linalg.norm(SPOT_NM)
    left = np.linalg.norm(remainder.at(xy_px) - spot(xy_px)) / np.linalg.norm(spot(xy_px))
    assert left < 0.35


def test_heavy_tails_hold_a_spot_less_than_noise() -> None:
    xy_px = lights()
    x_px, y_px = place_nodes(SIZE_PX, LIGHTS)
    weights = tents(x_px, y_px, xy_px)
    loud, quiet = (equations(xy_px, scale * spot(xy_px), seed=2) for scale in (4.0, 0.25))
    share = []
    for data, scale in ((loud, 4.0), (quiet, 0.25)):
        found = solve_nodes(data, weights, len(x_px), 30.0)[0]
        at_spot = tents(x_px, y_px, SPOT_PX[None]) @ found
        share.append(float(at_spot[0] @ SPOT_NM / (scale * SPOT_NM @ SPOT_NM)))
    assert share[0] > 0.6
    assert share[0] > share[1] + 0.1


def test_the_covariance_is_the_scatter_over_repeated_noise() -> None:
    xy_px = lights()
    x_px, y_px = np.linspace(0, 639, 4), np.linspace(0, 479, 3)
    weights = tents(x_px, y_px, xy_px)
    there = np.array([[300.0, 200.0], [10.0, 470.0]])
    found = []
    for seed in range(200):
        nodes, system = solve_nodes(equations(xy_px, np.zeros((LIGHTS, TERMS)), seed), weights, 4, 0.3)
        found.append(tents(x_px, y_px, there) @ nodes)
    remainder = Remainder(x_px, y_px, nodes, np.linalg.inv(system.toarray()), 0.3)
    expected = np.sqrt(np.diagonal(remainder.spread(there), axis1=1, axis2=2))
    scatter = np.std(found, axis=0)
    assert (scatter < 1.15 * expected).all(), "the prior's pull makes the scatter a little smaller than the spread"
    assert (scatter > 0.6 * expected).all()


def test_taking_lights_keeps_their_equations_together() -> None:
    data = equations(lights(), np.arange(LIGHTS * TERMS, dtype=float).reshape(LIGHTS, TERMS))
    data = replace(data, matrix=data.matrix * np.arange(1, LIGHTS + 1)[:, None, None])
    few = data.take(np.array([7, 3]))
    np.testing.assert_array_equal(few.matrix, data.matrix[[7, 3]])
    np.testing.assert_array_equal(few.gradient, data.gradient[[7, 3]])
