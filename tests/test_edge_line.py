"""An edge's course has the order that it was drawn with, and distances from it are those along its normal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from edge_charts import edge_about, sites
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from calib.edge.line import EdgeLine, fit_line

MIDDLE_PX = np.array([101.3, 98.8])
LENGTH_PX, BLUR_PX = 80.0, 0.9
DARK, STEP = 0.16, 0.67

Array = npt.NDArray[np.float64]


def along(xy_px: Array, angle_rad: float) -> Array:
    return (xy_px - MIDDLE_PX) @ [-np.sin(angle_rad), np.cos(angle_rad)]


def drawn(angle_rad: float, legendre_px: list[float], noise: float = 0.0, seed: int = 0) -> tuple[Array, Array]:
    """Samples of an edge that follows a Legendre series over its length towards the bright side, and where they are."""
    xy, across = sites(angle_rad, MIDDLE_PX, LENGTH_PX)
    course = np.polynomial.legendre.legval(along(xy, angle_rad) / (LENGTH_PX / 2), legendre_px)
    values = DARK + STEP * ndtr((across - course) / BLUR_PX)
    return values + np.random.default_rng(seed).normal(0, noise * STEP, len(values)), xy


def fitted(values: Array, xy_px: Array, angle_rad: float) -> EdgeLine:
    return fit_line(values, xy_px, edge_about(MIDDLE_PX, angle_rad, BLUR_PX, LENGTH_PX))


def course_of(angle_rad: float, legendre_px: list[float] | Array, along_px: Array, half_px: float) -> Array:
    """Points (N, 2) of a course at distances (N,) along the straight line."""
    tangent = np.array([-np.sin(angle_rad), np.cos(angle_rad)])
    normal = np.array([np.cos(angle_rad), np.sin(angle_rad)])
    offset = np.polynomial.legendre.legval(along_px / half_px, legendre_px)
    return np.asarray(MIDDLE_PX + np.outer(along_px, tangent) + np.outer(offset, normal))


def true_distance(line: EdgeLine, angle_rad: float, legendre_px: list[float], at: Array) -> Array:
    """How far (N,) a fitted course lies beyond the drawn one, along the normal, at (N,) of its half length."""
    tangent, normal = (
        np.array([-np.sin(angle_rad), np.cos(angle_rad)]),
        np.array([np.cos(angle_rad), np.sin(angle_rad)]),
    )
    course = np.polynomial.legendre.legval(at, legendre_px)
    places = MIDDLE_PX + np.outer(at * LENGTH_PX / 2, tangent) + np.outer(course, normal)
    return -line.frame(places)[0]


def test_a_straight_edge_has_order_one_whatever_the_noise() -> None:
    orders = [
        fitted(*drawn(np.radians(angle), [0.0], noise, seed), np.radians(angle)).order
        for seed, (angle, noise) in enumerate((a, n) for a in (4.0, 97.0, 206.565, -75.96) for n in (0.01, 0.03, 0.03))
    ]

    assert np.mean(np.array(orders) == 1) >= 0.8
    assert max(orders) <= 3


@pytest.mark.parametrize(
    ("legendre_px", "order"),
    [([0.2, 0.0, 0.6], 2), ([0.0, 0.0, -0.5], 2), ([0.1, 0.2, 0.3, 0.4], 3), ([0.0, 0.0, 0.5, -0.4], 3)],
)
@pytest.mark.parametrize("angle_deg", [6.0, 118.0])
def test_a_bent_edge_has_the_order_that_it_was_drawn_with(
    legendre_px: list[float], order: int, angle_deg: float
) -> None:
    angle = np.radians(angle_deg)
    line = fitted(*drawn(angle, legendre_px, 0.01, seed=3), angle)

    assert line.order == order
    np.testing.assert_allclose(true_distance(line, angle, legendre_px, np.linspace(-0.95, 0.95, 9)), 0, atol=0.02)
    assert line.blur_px == pytest.approx(BLUR_PX, rel=0.03)


@given(
    angle_deg=st.floats(-180, 180),
    shift_px=st.floats(-0.6, 0.6),
    turn_px=st.floats(-0.5, 0.5),
    bend_px=st.floats(-0.8, 0.8),
)
def test_a_course_without_noise_is_found_where_it_is(
    angle_deg: float, shift_px: float, turn_px: float, bend_px: float
) -> None:
    angle, course = np.radians(angle_deg), [shift_px, turn_px, bend_px]
    line = fitted(*drawn(angle, course), angle)

    # the drawn blur lies along the straight line's normal, the fitted distance along the course's own
    np.testing.assert_allclose(true_distance(line, angle, course, np.linspace(-0.9, 0.9, 7)), 0, atol=2e-3)
    assert line.blur_px == pytest.approx(BLUR_PX, rel=5e-3)


def test_polarity_is_the_normals() -> None:
    """Turned by half a turn the normal points to the dark side: the step is then negative, the course the same."""
    angle = 0.2
    values, xy = drawn(angle, [0.3, 0.0, 0.5])
    bright, dark = fitted(values, xy, angle), fitted(1 - values, xy, angle + np.pi)
    near = xy[::97]

    np.testing.assert_allclose(bright.frame(near)[0], -dark.frame(near)[0], atol=2e-3)
    np.testing.assert_allclose(bright.frame(near)[1], -dark.frame(near)[1], atol=0.1)


def test_distances_are_along_the_normal_of_the_course() -> None:
    """Against the nearest point of the course, searched for: exact to first order in the curvature."""
    line = EdgeLine(MIDDLE_PX, 0.35, 40.0, np.array([0.4, 2.0, 1.5]), 0.0, 1.0)
    tangent, normal = np.array([-np.sin(0.35), np.cos(0.35)]), np.array([np.cos(0.35), np.sin(0.35)])
    t = np.linspace(-60, 60, 120001)
    course = (
        MIDDLE_PX + np.outer(t, tangent) + np.outer(np.polynomial.legendre.legval(t / 40, line.legendre_px), normal)
    )
    for offset, place in ((0.5, -20.0), (-3.0, 0.0), (6.0, 25.0)):
        point = MIDDLE_PX + offset * normal + place * tangent
        distance = np.hypot(*(course - point).T).min()
        found, where = (float(v[0]) for v in line.frame(point[None]))
        assert abs(found) == pytest.approx(distance, rel=2e-3, abs=2e-3)
        assert where == pytest.approx(place)
    slopes = [np.arctan((2.0 + 3 * 1.5 * u) / 40) for u in (-1.0, 1.0)]
    assert line.turn_rad == pytest.approx(abs(slopes[1] - slopes[0]))
    assert line.middle_px == pytest.approx(0.4 - 1.5 / 2)


def test_light_that_falls_off_along_the_edge_is_told_from_its_course() -> None:
    angle, per_px = np.radians(8.0), 1.5e-3
    values, xy = drawn(angle, [0.1])
    line = fitted(values * (1 + per_px * along(xy, angle)), xy, angle)

    assert line.light_per_px == pytest.approx(per_px, rel=0.02)
    np.testing.assert_allclose(true_distance(line, angle, [0.1], np.linspace(-0.9, 0.9, 7)), 0, atol=2e-3)


def test_few_samples_have_few_orders() -> None:
    course = [0.0, 0.0, 0.3, 0.0, 0.5]
    values, xy = drawn(0.1, course, 0.005)
    few = np.random.default_rng(1).permutation(np.flatnonzero(np.abs(sites(0.1, MIDDLE_PX)[1]) < 3))[:40]

    assert fitted(values, xy, 0.1).order >= 4
    assert fitted(values[few], xy[few], 0.1).order <= 2
