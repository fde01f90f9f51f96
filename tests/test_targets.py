"""Targets: geometry in mm, and reflectances averaged exactly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.targets import (
    INK,
    SURROUND,
    WHITE,
    Chessboard,
    LedGrid,
    NoiseTarget,
    SlantedSquares,
    bernoulli_pattern,
    read_pattern,
    steps_average,
)
from psfbank.errors import CaptureUnusable


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


def noise_of(rows=30, columns=26, cell_mm=2.0):
    return NoiseTarget(bernoulli_pattern(rows, columns, np.random.default_rng(5)), cell_mm)


def test_a_noise_target_shows_its_pattern_row_by_row():
    target = noise_of()
    row, column = np.nonzero(target.pattern != np.roll(target.pattern, 1, axis=1))
    got = target.reflectance((column + 0.5) * 2.0, (row + 0.5) * 2.0, 0.5)
    np.testing.assert_allclose(got, np.where(target.pattern[row, column], INK, WHITE), atol=1e-9)


def test_gap_frame_and_rim_surround_the_pattern_up_to_the_room():
    target = noise_of()
    cells = np.array([-2.0, -8.0, -16.0, -21.0])
    want = [WHITE, INK, WHITE, SURROUND]
    np.testing.assert_allclose(target.reflectance(2.0 * cells, np.full(4, 31.0), 0.5), want, atol=1e-9)
    right = target.size_mm[0] - 2.0 * cells
    np.testing.assert_allclose(target.reflectance(right, np.full(4, 31.0), 0.5), want, atol=1e-9)
    np.testing.assert_allclose(target.outline_mm(12)[[0, 2]], [[-24, -24], [26 * 2 + 24, 30 * 2 + 24]])
    assert target.reflectance(np.array(1e6), np.array(-1e6), 3.0) == pytest.approx(SURROUND)


@settings(max_examples=25, deadline=None)
@given(st.floats(-60, 120), st.floats(-60, 120), st.floats(0.3, 40))
def test_noise_average_is_exact(x, y, footprint):
    """Against sums over the boxes' overlaps with the cells."""
    target = noise_of()
    level = np.where(target.cells(), INK, WHITE)
    left = 2.0 * (np.arange(level.shape[1]) - 20)
    top = 2.0 * (np.arange(level.shape[0]) - 20)
    along, down = (
        np.maximum(np.minimum(start + 2.0, at + footprint / 2) - np.maximum(start, at - footprint / 2), 0.0)
        for start, at in ((left, x), (top, y))
    )
    want = SURROUND + down @ (level - SURROUND) @ along / footprint**2
    assert target.reflectance(np.array(x), np.array(y), footprint) == pytest.approx(want, abs=1e-9)


def test_footprints_may_differ_by_place_and_axis():
    target = noise_of()
    x, y = np.array([11.0, 23.0]), np.array([40.0, 9.0])
    both = target.reflectance(x, y, np.array([[3.0, 5.0], [1.0, 0.5]]))
    for k, (width, height) in enumerate([(3.0, 5.0), (1.0, 0.5)]):
        assert both[k] == pytest.approx(target.reflectance(x[k : k + 1], y[k : k + 1], np.array([width, height]))[0])


def test_half_of_the_cells_are_inked_and_neighbours_know_nothing_of_each_other():
    pattern = bernoulli_pattern(200, 200, np.random.default_rng(0)) * 2.0 - 1
    assert abs(pattern.mean()) < 0.02  # 4 sigma
    assert abs((pattern[1:] * pattern[:-1]).mean()) < 0.02
    assert abs((pattern[:, 1:] * pattern[:, :-1]).mean()) < 0.02


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_pattern_reads_back(dtype, tmp_path):
    pattern = bernoulli_pattern(30, 40, np.random.default_rng(1))
    cv2.imwrite(str(tmp_path / "p.png"), np.where(pattern, 0, np.iinfo(dtype).max).astype(dtype))
    np.testing.assert_array_equal(read_pattern(tmp_path / "p.png"), pattern)


def test_a_pattern_of_one_bit_reads_back(tmp_path):
    pattern = bernoulli_pattern(30, 40, np.random.default_rng(1))
    cv2.imwrite(str(tmp_path / "p.png"), np.where(pattern, 0, 255).astype(np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1])
    np.testing.assert_array_equal(read_pattern(tmp_path / "p.png"), pattern)


@pytest.mark.parametrize(
    ("picture", "what"),
    [
        (np.arange(1600).reshape(40, 40) % 256, "256 levels"),
        (np.full((40, 40), 255), "1 levels"),
        (np.where(np.eye(40), 100, 140), "not black and white"),
        (np.where(np.eye(20), 0, 255), "20 x 20 cells, 24"),
        (np.stack([np.eye(40) * 255, np.eye(40), np.eye(40)], axis=-1), "in colour"),
    ],
)
def test_what_is_no_pattern_is_refused(picture, what, tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), picture.astype(np.uint8))
    with pytest.raises(CaptureUnusable, match=what) as refused:
        read_pattern(tmp_path / "p.png")
    assert refused.value.remedy


def test_a_chessboards_cells_are_what_it_reflects():
    board = Chessboard(columns=5, rows=4, square_mm=20.0)
    y, x = np.indices((5, 6))
    seen = board.reflectance(20.0 * x - 10.0, 20.0 * y - 10.0, 1.0)
    np.testing.assert_allclose(seen, np.where(board.cells(), INK, WHITE))


@pytest.mark.parametrize("angle", [5.0, 20.0, -30.0])
def test_slanted_squares_reflect_where_their_corners_say(angle):
    squares = SlantedSquares(columns=4, rows=3, square_mm=20.0, pitch_mm=50.0, angle_deg=angle)
    corners = squares.squares_mm()
    middles = corners.mean(axis=1)
    assert corners.shape == (12, 4, 2)
    np.testing.assert_allclose(middles.mean(axis=0), 0, atol=1e-12)
    turn = np.degrees(np.arctan2(*(middles[1] - middles[0])[::-1]))
    np.testing.assert_allclose(turn, angle)  # x fastest, turned from x towards y
    for towards_middle, level in ((0.1, INK), (-0.1, WHITE)):
        x, y = (corners + towards_middle * (middles[:, None] - corners)).reshape(-1, 2).T
        np.testing.assert_allclose(squares.reflectance(x, y, 1e-3), level, rtol=1e-6)
    steps = np.roll(corners, -1, axis=1) - corners
    cross = steps[:, 0, 0] * steps[:, 1, 1] - steps[:, 0, 1] * steps[:, 1, 0]
    np.testing.assert_allclose(cross, 400)  # clockwise as seen, y down
