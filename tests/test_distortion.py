"""Projection through a spline map: closed forms, its inverse, its tangents beyond the knots, and the pixel map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import NdBSpline

from psfbank import distortion

MATRIX = np.array([[300.0, 0, 160], [0, 310.0, 120], [0, 0, 1]])
KNOTS_X, KNOTS_Y = np.linspace(-1.0, 1.0, 14), np.linspace(-0.9, 0.9, 12)
SHAPE = (2, len(KNOTS_Y) - 4, len(KNOTS_X) - 4)
SIZE = (240, 320)


@pytest.fixture
def wavy() -> tuple[np.ndarray, ...]:
    coefficients = np.random.default_rng(3).normal(0, 2.0, SHAPE)
    return MATRIX, KNOTS_X, KNOTS_Y, coefficients


def test_without_a_spline_the_map_is_stereographic() -> None:
    angle = np.radians([0.0, 20.0, 50.0])
    rays = np.column_stack([np.tan(angle), np.zeros(3)])
    got = distortion.project(rays, MATRIX, KNOTS_X, KNOTS_Y, np.zeros(SHAPE))
    np.testing.assert_allclose(got, np.column_stack([160 + 300 * 2 * np.tan(angle / 2), np.full(3, 120)]), atol=1e-10)


def test_directions_at_90_degrees_and_beyond_are_no_rays() -> None:
    rays = distortion.from_stereographic(np.array([[1.9, 0.0], [2.0, 0.0], [0.0, 3.0]]))
    assert np.isfinite(rays[0]).all()
    assert np.isnan(rays[1:]).all()


def test_inside_the_knots_the_spline_is_scipys(wavy: tuple[np.ndarray, ...]) -> None:
    u = np.random.default_rng(0).uniform([KNOTS_X[3], KNOTS_Y[3]], [KNOTS_X[-4], KNOTS_Y[-4]], (200, 2))
    spline = NdBSpline((KNOTS_Y, KNOTS_X), np.moveaxis(wavy[3], 0, -1), 3)
    got, jacobian = distortion.project_stereographic(u, *wavy)
    np.testing.assert_allclose(got, u * [300, 310] + [160, 120] + spline(u[:, ::-1]), atol=1e-9)
    np.testing.assert_allclose(jacobian[..., 0] - [300, 0], spline(u[:, ::-1], nu=(0, 1)), atol=1e-9)
    np.testing.assert_allclose(jacobian[..., 1] - [0, 310], spline(u[:, ::-1], nu=(1, 0)), atol=1e-9)


def test_beyond_the_knots_each_axis_goes_straight_on(wavy: tuple[np.ndarray, ...]) -> None:
    edge = KNOTS_X[-4]
    at = np.array([[edge + d, 0.1] for d in (-1e-7, 0.0, 1e-7, 0.1, 0.2, 0.3)])
    got, jacobian = distortion.project_stereographic(at, *wavy)
    np.testing.assert_allclose(got[0], got[2], atol=1e-3)
    np.testing.assert_allclose(jacobian[0, :, 0], jacobian[3, :, 0], atol=1e-3)
    np.testing.assert_allclose(got[5] - got[4], got[4] - got[3], atol=1e-9)


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
def test_derivatives_are_those_of_the_map_everywhere(x: float, y: float) -> None:
    camera = MATRIX, KNOTS_X, KNOTS_Y, np.random.default_rng(3).normal(0, 2.0, SHAPE)
    u, step = np.array([[x, y]]), 1e-6
    _, jacobian = distortion.project_stereographic(u, *camera)
    for axis in range(2):
        ahead, behind = (distortion.project_stereographic(u + s * step * np.eye(2)[axis], *camera)[0] for s in (1, -1))
        np.testing.assert_allclose((ahead - behind)[0] / (2 * step), jacobian[0, :, axis], atol=1e-2)


def test_unproject_is_the_inverse_to_a_millionth_of_a_pixel(wavy: tuple[np.ndarray, ...]) -> None:
    xy = np.random.default_rng(1).uniform([-20, -20], [SIZE[1] + 20, SIZE[0] + 20], (500, 2))
    rays = distortion.unproject(xy, *wavy)
    assert np.isfinite(rays).all()
    np.testing.assert_allclose(distortion.project(rays, *wavy), xy, atol=1e-6)


def test_a_pixel_that_no_ray_reaches_is_nan_and_spoils_no_other() -> None:
    greville_x, greville_y = (np.convolve(k[1:-1], np.ones(3) / 3, "valid") for k in (KNOTS_X, KNOTS_Y))
    # u - u^3 turns back at u = 0.577: nothing lands further out than 0.385 of a focal length
    folded = -300.0 * np.stack(np.meshgrid(greville_x**3, 0 * greville_y))
    xy = np.array([[160 + 200.0, 120.0], [160 + 60.0, 120.0], [np.nan, 3.0]])
    rays = distortion.unproject(xy, MATRIX, KNOTS_X, KNOTS_Y, folded)
    assert np.isnan(rays[[0, 2]]).all()
    assert np.isfinite(rays[1]).all()


def test_many_points_come_back_as_few_do(wavy: tuple[np.ndarray, ...]) -> None:
    """Where a table of starts pays, the answers are those without it: also beyond the knots, NaN stays NaN."""
    xy = np.random.default_rng(1).uniform([-150, -120], [SIZE[1] + 150, SIZE[0] + 120], (20_000, 2))
    xy[::1000] = np.nan, 1.0
    rays = distortion.unproject(xy, *wavy)
    few = np.concatenate([distortion.unproject(part, *wavy) for part in np.split(xy, 40)])
    np.testing.assert_allclose(rays, few, atol=1e-9)
    back = distortion.project(rays, *wavy)
    assert np.isnan(back[::1000]).all()
    np.testing.assert_array_less(np.nanmax(np.abs(back - xy)), 1e-6)


def test_a_fold_leaves_many_points_without_an_answer_and_finds_the_rest() -> None:
    greville_x, greville_y = (np.convolve(k[1:-1], np.ones(3) / 3, "valid") for k in (KNOTS_X, KNOTS_Y))
    folded = -600.0 * np.stack(np.meshgrid(greville_x**3, 0 * greville_y))
    axis = np.column_stack([np.linspace(0, 1.5, 4001), np.zeros(4001)])
    turn = distortion.project_stereographic(axis, MATRIX, KNOTS_X, KNOTS_Y, folded)[0][:, 0].max()
    xy = np.column_stack([np.linspace(320 - turn, turn + 40, 8000), np.full(8000, 120.0)])
    rays = distortion.unproject(xy, MATRIX, KNOTS_X, KNOTS_Y, folded)
    few = np.concatenate([distortion.unproject(part, MATRIX, KNOTS_X, KNOTS_Y, folded) for part in np.split(xy, 16)])
    np.testing.assert_array_equal(np.isnan(rays), np.isnan(few))
    assert 200 < turn < 260
    assert np.isnan(rays[xy[:, 0] > turn + 0.01]).all()
    assert np.isfinite(rays[np.abs(xy[:, 0] - 160) < turn - 161]).all()


def test_a_map_that_sends_everything_to_one_column_has_no_inverse() -> None:
    greville_x, greville_y = (np.convolve(k[1:-1], np.ones(3) / 3, "valid") for k in (KNOTS_X, KNOTS_Y))
    flat = -300.0 * np.stack(np.meshgrid(greville_x, 0 * greville_y))
    assert np.isnan(distortion.unproject(np.full((9000, 2), 120.0), MATRIX, KNOTS_X, KNOTS_Y, flat)).all()


def test_maps_that_differ_in_one_number_are_told_apart(wavy: tuple[np.ndarray, ...]) -> None:
    ray = np.array([[0.1, 0.05]])
    before = distortion.project(ray, *wavy)
    other = wavy[3].copy()
    other[0] += 1.0  # splines sum to one
    np.testing.assert_allclose(distortion.project(ray, *wavy[:3], other) - before, [[1.0, 0.0]], atol=1e-9)
