"""Of the samples around an edge those are taken that nothing else reaches, and no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from edge_charts import Blur, square

from calib.edge import FOR_SFR, Edge, find_edges
from calib.edge.window import REACH_PX, Window, window_of
from psfbank.model import Camera, Capture
from psfbank.sensor import cfa_sites

SIZE_PX = (200, 220)
EVERYWHERE = np.ones(SIZE_PX, dtype=bool)
NOWHERE = ~EVERYWHERE
ROW, COLUMN = np.mgrid[: SIZE_PX[0], : SIZE_PX[1]].astype(float)
TURN = np.radians(6.0)
NONE = np.zeros((0, 2))

Array = npt.NDArray[np.float64]


def edge(blur_px: float = 0.8, others: Array = NONE) -> Edge:
    """An edge of 76 px; others are places (M, 2) by their distance from it and along it, px."""
    alone = Edge(
        xy_px=np.array([108.4, 97.2]),
        angle_rad=TURN,
        bend_per_px=0.0,
        length_px=76.0,
        contrast=0.6,
        blur_px=blur_px,
        sigma_px=0.01,
        sigma_rad=1e-3,
        along_px=np.zeros(0),
        clear_px=np.zeros(0),
    )
    return replace(alone, others_px=alone.at(others[:, 1]) + others[:, :1] * alone.normal)


def frame(window: Window, about: Edge) -> tuple[Array, Array]:
    across, along = about.frame(window.xy_px)
    return np.abs(across), along


def line(across_px: float, low_px: float, high_px: float) -> Array:
    along = np.arange(low_px, high_px + 0.5)
    return np.column_stack([np.full(along.shape, across_px), along])


def test_an_edge_alone_has_all_within_reach_but_its_corners() -> None:
    values = COLUMN + 1000 * ROW
    window = window_of(values, EVERYWHERE, NOWHERE, edge())
    across, along = frame(window, edge())

    np.testing.assert_array_equal(window.values, window.xy_px @ [1, 1000], "x first")
    assert REACH_PX - 1 < across.max() <= REACH_PX
    every, at = edge().frame(np.stack([COLUMN, ROW], axis=-1))
    whole = np.sum((np.abs(every) <= REACH_PX) & (np.abs(at) <= 38))
    assert np.abs(along).max() < 38 - 3.5 * 0.8
    assert 0.8 * whole < len(across) < whole
    assert (window.clipped, window.contaminated) == (False, False)


@pytest.mark.parametrize("blur_px", [0.5, 2.0])
def test_a_neighbour_keeps_its_blur_to_itself(blur_px: float) -> None:
    about = edge(blur_px, line(17.0, 0.0, 38.0))
    window = window_of(COLUMN, EVERYWHERE, NOWHERE, about)
    across, along = about.frame(window.xy_px)

    assert across[along > 4].max() < 17 - 3 * blur_px
    assert across[along > 4].max() > 17 - 5 * blur_px - 2
    assert across[along > 4].min() < 1 - REACH_PX, "the other side is free"
    assert across[along < -10].max() > REACH_PX - 1


def test_what_lies_beyond_something_else_is_not_the_edges() -> None:
    about = edge(others=line(-8.0, -38.0, 38.0))
    across, _ = about.frame(window_of(COLUMN, EVERYWHERE, NOWHERE, about).xy_px)

    assert across.min() > -8 + 3 * 0.8
    assert across.max() > REACH_PX - 1


def test_a_stretch_that_something_touches_has_no_part() -> None:
    about = edge(others=np.concatenate([line(3.0, -6, 6), line(-3.0, -6, 6)]))
    window = window_of(COLUMN, EVERYWHERE, NOWHERE, about)
    across, along = frame(window, about)

    assert not window.contaminated
    assert across[np.abs(along) < 4].size == 0
    assert across[along > 10].size > 500
    assert across[along < -10].size > 500


def test_what_is_near_everywhere_is_told() -> None:
    near = np.concatenate([line(4.0, -38, 38), line(-4.0, -38, 38)])
    window = window_of(COLUMN, EVERYWHERE, NOWHERE, edge(1.5, near))

    assert window.contaminated
    assert 0 < frame(window, edge())[0].max() <= 4
    assert not window_of(COLUMN, EVERYWHERE, NOWHERE, edge(0.3, near)).contaminated


def test_where_an_edge_leaves_the_picture_is_no_corner() -> None:
    size = (40, 220)
    about = replace(edge(), xy_px=np.array([108.4, 19.5]), length_px=float(40 / np.cos(TURN)))
    everywhere = np.ones(size, dtype=bool)
    window = window_of(np.zeros(size), everywhere, ~everywhere, about)

    assert window.xy_px[:, 1].min() == 0
    assert window.xy_px[:, 1].max() == 39
    assert len(window.values) == pytest.approx(2 * REACH_PX * 40 / np.cos(TURN), rel=0.06)


def test_only_what_is_clipped_in_the_window_is_told() -> None:
    for x, inside in ((110, True), (125, True), (60, False), (5, False)):
        clipped = NOWHERE.copy()
        clipped[97, x] = True
        assert window_of(COLUMN, EVERYWHERE, clipped, edge()).clipped == inside


def test_sites_of_other_colours_are_neither_taken_nor_told() -> None:
    own = np.asarray(cfa_sites("RGGB", SIZE_PX) == 2)
    window = window_of(COLUMN, own, ~own, edge())

    assert not window.clipped
    assert np.all(window.xy_px % 2 == 1), "blue is at odd rows and columns"
    whole = window_of(COLUMN, EVERYWHERE, NOWHERE, edge())
    assert len(window.values) == pytest.approx(len(whole.values) / 4, rel=0.03)


def test_a_region_bounds_the_window() -> None:
    x, y, wide, high = 90, 80, 30, 33
    window = window_of(COLUMN, EVERYWHERE, NOWHERE, edge(), (x, y, wide, high))

    np.testing.assert_array_equal(window.xy_px.min(axis=0), [x, y])
    np.testing.assert_array_equal(window.xy_px.max(axis=0), [x + wide - 1, y + high - 1])
    assert len(window.values) == wide * high, "and this one lies wholly within"


def test_the_pictures_border_bounds_the_window() -> None:
    about = replace(edge(), xy_px=np.array([10.0, 20.0]))
    window = window_of(COLUMN, EVERYWHERE, NOWHERE, about)

    assert window.xy_px.min() == 0
    assert len(window.values) > 1000


@pytest.mark.parametrize(("gap_px", "blur_px"), [(16.0, 0.8), (24.0, 1.6), (24.0, 0.27), (40.0, 0.8), (40.0, 0.27)])
def test_nothing_of_other_sides_gets_in(gap_px: float, blur_px: float) -> None:
    """Four squares in a picture, each found: what a window holds of any side but its own is less than noise."""
    side, blur = 64.0, Blur(blur_px)
    size = (int(2 * (side + gap_px)) + 40, int(2 * (side + gap_px)) + 40)
    first, phase = 20 + side / 2, np.random.default_rng(4).uniform(0, 1, (4, 2))
    middles = first + (side + gap_px) * np.array([(0, 0), (0, 1), (1, 0), (1, 1)]) + phase
    squares = [square(size, middle, side, TURN, blur) for middle in middles]
    light = 0.8 - 0.6 * np.sum(squares, axis=0)
    seen = light + np.random.default_rng(5).normal(0, 0.004, size)
    everywhere = np.ones(size, dtype=bool)
    edges = find_edges(Capture(seen, ~everywhere, "four", "0" * 64), Camera("M", "M", size, "mono"), FOR_SFR)
    assert len(edges) == 16
    for one in edges:
        window = window_of(light, everywhere, ~everywhere, one)
        share = (window.values - 0.2) / 0.6
        low, high = (blur.esf(one.frame(window.xy_px)[0] + s, TURN) for s in (-0.04, 0.04))  # as well as it is known
        assert not window.contaminated
        assert len(window.values) > 400
        assert (share > low - 2e-3).all()
        assert (share < high + 2e-3).all()
