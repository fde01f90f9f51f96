"""Targets: geometry in mm, and reflectances averaged exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.targets import INK, SURROUND, WHITE, Chessboard, LedGrid, SlantedSquares, steps_average


def brute_average(chart, x, y, footprint, n=400):
    """Mean of point samples of the chart over one box."""
    u = ((np.arange(n) + 0.5) / n - 0.5) * footprint
    gx, gy = np.meshgrid(x + u, y + u)
    return chart.reflectance(gx, gy, 1e-6).mean()


def test_led_grid_is_centred_and_x_runs_fastest():
    points = LedGrid(pitch_mm=10.0, columns=4, rows=3).points_mm()
    assert points.shape == (12, 2)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(points[1] - points[0], [10, 0])
    np.testing.assert_allclose(points[4] - points[0], [0, 10])


def test_chessboard_corners_start_at_the_origin():
    board = Chessboard(columns=5, rows=4, square_mm=20.0)
    corners = board.corners_mm()
    np.testing.assert_allclose(corners[0], 0)
    np.testing.assert_allclose(corners[-1], [80, 60])
    np.testing.assert_allclose(board.centre_mm(), corners.mean(axis=0))


def test_chessboard_colours_and_parity():
    board = Chessboard(columns=4, rows=3, square_mm=10.0)
    x = np.array([-5.0, 5.0, -5.0, 5.0, 35.0, -15.0, -25.0])
    y = np.array([-5.0, -5.0, 5.0, 5.0, -5.0, 5.0, 5.0])
    # top left inked, its neighbours white, the next on the diagonal inked; the fifth column again inked; rim; room
    want = [INK, WHITE, WHITE, INK, INK, WHITE, SURROUND]
    np.testing.assert_allclose(board.reflectance(x, y, 0.5), want)


def test_every_inner_corner_is_a_saddle_of_mean_level():
    board = Chessboard(columns=5, rows=4, square_mm=20.0)
    x, y = board.corners_mm().T
    np.testing.assert_allclose(board.reflectance(x, y, 4.0), (WHITE + INK) / 2)
    diagonal = board.reflectance(x + 5, y + 5, 1.0).reshape(4, 5)
    np.testing.assert_allclose(diagonal[::2, ::2], INK)
    np.testing.assert_allclose(diagonal[::2, 1::2], WHITE)


@settings(max_examples=25, deadline=None)
@given(st.floats(-60, 150), st.floats(-60, 120), st.floats(0.5, 70))
def test_chessboard_average_is_exact(x, y, footprint):
    board = Chessboard(columns=4, rows=3, square_mm=20.0)
    got = board.reflectance(np.array(x), np.array(y), footprint)
    assert got == pytest.approx(brute_average(board, x, y, footprint), abs=0.01)


def test_slanted_squares_turn_from_x_towards_y():
    chart = SlantedSquares(columns=1, rows=1, square_mm=100.0, pitch_mm=200.0, angle_deg=10.0)
    # just inside and outside the middle of the right-hand side, which a turn moves down and, at its lower end, left
    side = np.array([np.cos(np.radians(10)), np.sin(np.radians(10))]) * 50
    inside, outside = side * 0.98, side * 1.02
    assert chart.reflectance(inside[:1], inside[1:], 0.1) == pytest.approx(INK)
    assert chart.reflectance(outside[:1], outside[1:], 0.1) == pytest.approx(WHITE)
    mirrored = outside * [1, -1] * 0.97
    assert chart.reflectance(mirrored[:1], mirrored[1:], 0.1) == pytest.approx(INK)


def test_slanted_squares_count_and_cover():
    chart = SlantedSquares(columns=3, rows=2, square_mm=10.0, pitch_mm=25.0, angle_deg=0.0)
    x, y = np.meshgrid(np.arange(-50, 50.0) + 0.5, np.arange(-50, 50.0) + 0.5)
    ink = (WHITE - chart.reflectance(x, y, 1.0)) / (WHITE - INK)
    assert ink.sum() == pytest.approx(3 * 2 * 10.0**2)


def test_steps_average_conserves_the_integral():
    edges, values = np.array([0.0, 1.3, 2.0, 5.7]), np.array([1.0, -2.0, 0.5])
    at = np.arange(-3, 9, 0.25)
    total = steps_average(at, 0.25, edges, values).sum() * 0.25
    assert total == pytest.approx(np.sum(values * np.diff(edges)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: LedGrid(0.0, 3, 3),
        lambda: LedGrid(10.0, 3, 3, diameter_mm=11.0),
        lambda: Chessboard(0, 3, 10.0),
        lambda: SlantedSquares(2, 2, 30.0, 20.0),
    ],
)
def test_impossible_geometry_is_refused(make):
    with pytest.raises(ValueError, match="must"):
        make()
