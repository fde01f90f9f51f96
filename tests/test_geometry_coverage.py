"""What views cover, what is refused for covering too little, and what there is to shoot next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_geometry import GRID_MM, SIZE, barrel, views

from calib.geometry import coverage, fit_distortion, observe
from calib.geometry.bundle import State
from psfbank.errors import FitFailed
from psfbank.model import Corners

FLAT = State(np.tile(np.eye(3), (4, 1, 1)), np.zeros((4, 3)), np.zeros((2, 4, 4)), np.zeros(0), np.zeros((2, 0)))


def tilted(*turns_deg: tuple[float, float, float]) -> State:
    return replace(FLAT, rotation=Rotation.from_euler("xyz", turns_deg, degrees=True).as_matrix())


def boards(turns_deg: list[tuple[float, float, float]], seed: int = 0) -> Corners:
    """Boards that turn about their middle, at the places and sizes of a seed."""
    rng = np.random.default_rng(seed)
    local = np.column_stack([GRID_MM - GRID_MM.mean(axis=0), np.zeros(len(GRID_MM))])
    image = []
    for turn in turns_deg:
        away = rng.uniform(330, 600)
        aim = away * np.append(rng.uniform([-0.2, -0.15], [0.2, 0.15]), 1.0)
        p = Rotation.from_euler("xyz", turn, degrees=True).apply(local) + aim
        image.append(barrel(p[:, :2] / p[:, 2:]) + rng.normal(0, 0.03, (len(p), 2)))
    inside = np.all((np.array(image) > 0) & (np.array(image) < np.array(SIZE[::-1]) - 1), axis=2)
    return Corners(np.tile(GRID_MM, (len(image), 1, 1)), np.array(image), inside)


def test_frontal_boards_leave_the_focal_length_open() -> None:
    with pytest.raises(FitFailed, match=r"6 views are within 10 degrees of frontal.*Tilt the board by 20 to 40"):
        fit_distortion(boards([(1.0, -2.0, 10.0 * k) for k in range(6)]), SIZE)


def test_lights_that_are_all_there_is_may_be_frontal() -> None:
    frontal = boards([(3.0, -3.0, 10.0 * k) for k in range(6)])
    fit = fit_distortion(frontal, SIZE, alike=[True] * 6)
    assert fit.rms_px < 0.06
    assert any("the focal length is doubtful" in word for word in fit.coverage.advice)


def test_one_picture_many_times_is_one_view() -> None:
    one = boards([(25.0, 0.0, 0.0)])
    rng = np.random.default_rng(0)
    image = np.concatenate([one.image_px] * 5) + rng.normal(0, 0.05, (5, len(GRID_MM), 2))
    copies = Corners(np.concatenate([one.object_mm] * 5), image, np.concatenate([one.found] * 5))
    with pytest.raises(
        FitFailed, match=r"5 views show 1 different pictures of the target, 3 are needed.*Move and tilt"
    ):
        fit_distortion(copies, SIZE)


def test_a_repeated_view_is_told_with_the_view_that_it_repeats() -> None:
    corners = views(6, 0)
    twice = Corners(*(np.concatenate([a, a[2:3]]) for a in (corners.object_mm, corners.image_px, corners.found)))
    fit = fit_distortion(twice, SIZE)
    assert fit.coverage.repeats.tolist() == [[6, 2]]
    assert any("1 views repeat others" in advice for advice in fit.coverage.advice)


def test_the_fit_tells_tilts_and_share_of_the_picture() -> None:
    turns = [(25.0, 0, 0), (0, -30.0, 0), (-20.0, 15.0, 40.0), (2.0, 3.0, 0), (0, 35.0, 0)]
    fit = fit_distortion(boards(turns), SIZE)
    want = np.degrees(np.arccos(Rotation.from_euler("xyz", turns, degrees=True).as_matrix()[:, 2, 2]))
    np.testing.assert_allclose(fit.coverage.tilt_deg, want, atol=2.5)
    assert 0.3 < fit.coverage.share < 0.9
    assert fit.coverage.cells.sum() == boards(turns).found.sum()
    assert any("% of the picture" in advice for advice in fit.coverage.advice)


def test_good_views_need_no_advice() -> None:
    fit = fit_distortion(views(24, 0), SIZE)
    assert fit.coverage.advice == ()
    assert fit.coverage.share > 0.95


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (lambda x, y: x < 300, "the top left, the left and the bottom left"),
        (lambda x, y: (x > 450) & (y < 170), "above all in the top right"),
        (lambda x, y: (x > 560) & (y > 400), "no corner lies in the bottom right"),
    ],
)  # fmt: skip
def test_what_was_not_seen_is_named(missing: object, words: str) -> None:
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(5, 635, 40), np.linspace(5, 475, 30)))
    keep = ~missing(x, y)  # type: ignore[operator]
    xy = np.column_stack([x, y])[keep]
    points = np.arange(len(xy))
    seen = observe.observe(Corners(xy[None], xy[None], np.ones((1, len(xy)), bool)), np.array([-1]), None, 0)
    assert np.array_equal(seen.point, points)
    told = coverage.survey(seen, tilted((30.0, 0, 0)), SIZE).advice
    assert any(words in advice for advice in told), told


def test_tilts_about_one_axis_and_few_tilts_are_told() -> None:
    seen = observe.observe(views(4, 0), np.full(4, -1), None, 0)
    one_axis = coverage.survey(seen, tilted((30.0, 0, 0), (-25.0, 0, 5.0), (20.0, 1.0, 0), (35.0, 0, 0)), SIZE)
    few = coverage.survey(seen, tilted((30.0, 0, 0), (5.0, 0, 0), (0, 3.0, 0), (0, 0, 50.0)), SIZE)
    good = coverage.survey(seen, tilted((30.0, 0, 0), (0, 30.0, 0), (-20.0, 5.0, 0), (0, -25.0, 0)), SIZE)
    assert any("about the other one" in advice for advice in one_axis.advice)
    assert any("1 of 4 views are tilted" in advice for advice in few.advice)
    assert not any("tilt" in advice for advice in good.advice)


def test_cells_count_points_where_they_are() -> None:
    """Rows go down and columns to the right."""
    cells = coverage.count_cells(np.array([[0.0, 0.0], [639.0, 0.0], [639.0, 1.0], [320.0, 479.0]]), SIZE)
    assert cells.shape == (6, 8)
    assert (cells[0, 0], cells[0, 7], cells[5, 4]) == (1, 2, 1)


def test_gross_errors_are_listed_worst_first() -> None:
    corners = views(8, 0)
    image = corners.image_px.copy()
    places = [(int(v), int(np.flatnonzero(corners.found[v])[20])) for v in (1, 3, 6)]
    for (v, k), by in zip(places, (3.0, 12.0, 6.0), strict=True):
        image[v, k, 0] += by
    fit = fit_distortion(replace(corners, image_px=image), SIZE)
    assert [tuple(row) for row in fit.outliers[:3].tolist()] == [places[1], places[2], places[0]]
    assert len(fit.outliers) < 8
