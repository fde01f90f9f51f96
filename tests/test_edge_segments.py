"""Straight runs of a gradient are the lines that were drawn: once each, in their place, the bright side to the left."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from calib.edge.segments import Runs, gradient_of, ridges, straight_runs
from psfbank.sensor import cfa_sites

SIZE_PX = (110, 130)
MIDDLE_PX = np.array([64.0, 55.0])
LEAST_PX = 12.0

Array = npt.NDArray[np.float64]


def half_plane(angle_rad: float, blur_px: float = 1.0, bend_per_px: float = 0.0) -> Array:
    """Share of bright, through the middle, rising along the angle."""
    row, column = np.mgrid[: SIZE_PX[0], : SIZE_PX[1]].astype(float)
    x, y = column - MIDDLE_PX[0], row - MIDDLE_PX[1]
    d, t = np.cos(angle_rad) * x + np.sin(angle_rad) * y, np.cos(angle_rad) * y - np.sin(angle_rad) * x
    return ndtr((d - bend_per_px * t**2 / 2) / blur_px)


def runs_of(light: Array, use: npt.NDArray[np.bool_] | None = None) -> Runs:
    return straight_runs(gradient_of(light, np.ones(light.shape, dtype=bool) if use is None else use), LEAST_PX)


def normals(runs: Runs) -> Array:
    """Directions to the left of the way, as seen with y down."""
    side = runs.second_px - runs.first_px
    return np.arctan2(-side[:, 0], side[:, 1])


@settings(max_examples=40, deadline=None)
@given(
    angle=st.floats(-np.pi, np.pi),
    blur_px=st.floats(0.3, 4.0),
    contrast=st.floats(0.1, 0.9),
    seed=st.integers(0, 99),
)
def test_a_half_plane_is_one_run_at_any_angle(angle: float, blur_px: float, contrast: float, seed: int) -> None:
    light = 0.5 + contrast / 2 * (2 * half_plane(angle, blur_px) - 1)
    runs = runs_of(light + np.random.default_rng(seed).normal(0, 0.03 * contrast, SIZE_PX))
    assert len(runs.first_px) == 1
    assert np.angle(np.exp(1j * (normals(runs)[0] - angle))) == pytest.approx(0, abs=0.05)
    middle = (runs.first_px[0] + runs.second_px[0]) / 2
    assert (middle - MIDDLE_PX) @ [np.cos(angle), np.sin(angle)] == pytest.approx(0, abs=0.7)
    assert np.hypot(*(runs.second_px[0] - runs.first_px[0])) > 100


@pytest.mark.parametrize("cfa", ["RGGB", "GBRG"])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_sites_of_one_colour_are_enough(cfa: str, channel: int) -> None:
    use = np.asarray(cfa_sites(cfa, SIZE_PX) == channel)
    runs = runs_of(np.where(use, 0.1 + 0.5 * half_plane(0.3), 0.9), use)
    assert len(runs.first_px) == 1
    assert normals(runs)[0] == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("bend_per_px", [2e-3, -2e-3])
def test_a_bend_is_told_with_its_side(bend_per_px: float) -> None:
    runs = runs_of(0.1 + 0.5 * half_plane(0.4, bend_per_px=bend_per_px))
    assert len(runs.first_px) == 1
    assert runs.bend_per_px[0] == pytest.approx(bend_per_px, rel=0.15)


def test_a_crossing_parts_the_runs() -> None:
    light = half_plane(0.2) * half_plane(0.2 + np.pi / 2)
    light = light + (1 - half_plane(0.2)) * (1 - half_plane(0.2 + np.pi / 2))
    runs = runs_of(0.1 + 0.5 * light)
    assert len(runs.first_px) == 4
    turned = np.sort(np.angle(np.exp(1j * (normals(runs) - 0.2 - 0.1)))) + 0.1
    np.testing.assert_allclose(turned, [-np.pi / 2, 0, np.pi / 2, np.pi], atol=0.03)
    ends = np.concatenate([runs.first_px, runs.second_px])
    assert np.sum(np.hypot(*(ends - MIDDLE_PX).T) < 8) == 4, "each ends at the crossing"


def test_noise_and_shade_are_nothing() -> None:
    row, column = np.mgrid[: SIZE_PX[0], : SIZE_PX[1]]
    shade = 0.6 * (1 - 0.4 * ((row - 55) ** 2 + (column - 64) ** 2) / 7121.0)
    assert len(runs_of(shade + np.random.default_rng(3).normal(0, 0.03, SIZE_PX)).first_px) == 0
    assert len(runs_of(np.zeros(SIZE_PX)).first_px) == 0
    assert len(runs_of(np.full((1, 1), 0.5)).first_px) == 0


def test_ridges_are_the_line_and_the_border() -> None:
    everywhere = np.ones(SIZE_PX, dtype=bool)
    marked = ridges(gradient_of(0.1 + 0.5 * half_plane(0.0), everywhere))
    assert marked[0].all()
    assert marked[-1].all()
    assert marked[:, [0, -1]].all()
    rows, columns = np.nonzero(marked[2:-2, 2:-2])
    assert set(columns + 2) <= {63, 64, 65}
    assert set(rows) == set(range(SIZE_PX[0] - 4))
