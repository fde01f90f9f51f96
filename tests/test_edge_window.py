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
ALONG_PX = np.arange(-36.0, 37.0, 4.0)

Array = npt.NDArray[np.float64]


def edge(clear_px: float | Array = 60.0, blur_px: float = 0.8) -> Edge:
    return Edge(
        xy_px=np.array([108.4, 97.2]),
        angle_rad=TURN,
        bend_per_px=0.0,
        length_px=76.0,
        contrast=0.6,
        blur_px=blur_px,
        sigma_px=0.01,
        sigma_rad=1e-3,
        along_px=ALONG_PX,
        clear_px=np.broadcast_to(clear_px, ALONG_PX.shape).astype(float),
    )


def frame(window: Window, about: Edge) -> tuple[Array, Array]:
    across, along = about.frame(window.xy_px)
    return np.abs(across), along


def test_an_edge_alone_has_all_within_reach() -> None:
    values = COLUMN + 1000 * ROW
    window = window_of(values, EVERYWHERE, NOWHERE, edge())
    across, along = frame(window, edge())

    np.testing.assert_array_equal(window.values, window.xy_px @ [1, 1000], "x first")
    assert REACH_PX - 1 < across.max() <= REACH_PX
    assert along.min() >= -36
    assert along.max() <= 36
    every, at = edge().frame(np.stack([COLUMN, ROW], axis=-1))
    assert len(across) == np.sum((np.abs(every) <= REACH_PX) & (np.abs(at) <= 36))
    assert (window.clipped, window.contaminated) == (False, False)


@pytest.mark.parametrize("blur_px", [0.5, 2.0])
def test_a_neighbour_keeps_its_blur_to_itself(blur_px: float) -> None:
    about = edge(np.where(ALONG_PX > 0, 17.0, 60.0), blur_px)
    across, along = frame(window_of(COLUMN, EVERYWHERE, NOWHERE, about), about)

    assert across[along > 4].max() < 17 - 3 * blur_px
    assert across[along > 4].max() > 17 - 5 * blur_px - 2
    assert across[along < -4].max() > REACH_PX - 1


def test_a_stretch_that_something_touches_has_no_part() -> None:
    about = edge(np.where(np.abs(ALONG_PX) < 6, 3.0, 60.0))
    window = window_of(COLUMN, EVERYWHERE, NOWHERE, about)
    across, along = frame(window, about)

    assert not window.contaminated
    assert across[np.abs(along) < 4].size == 0
    assert across[along > 10].size > 500
    assert across[along < -10].size > 500


def test_what_is_near_everywhere_is_told() -> None:
    about = edge(4.0, blur_px=1.5)
    window = window_of(COLUMN, EVERYWHERE, NOWHERE, about)

    assert window.contaminated
    assert 0 < frame(window, about)[0].max() <= 4
    assert not window_of(COLUMN, EVERYWHERE, NOWHERE, replace(about, blur_px=0.3)).contaminated


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
