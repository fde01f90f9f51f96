"""The line of an edge that was drawn in closed form is fitted where it is, or refused for what is wrong with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr

from calib.edge import FOR_SFR, Edge, measure_edge
from calib.edge.fit import CLIPPED, PALE, POOR, SHORT

SIZE_PX = (150, 170)
BLUR_PX = 0.8
DARK, BRIGHT = 0.06, 0.62

Array = npt.NDArray[np.float64]


def grid() -> tuple[Array, Array]:
    row, column = np.mgrid[: SIZE_PX[0], : SIZE_PX[1]].astype(float)
    return column, row


def wrapped(angle_rad: Array) -> Array:
    return np.angle(np.exp(1j * angle_rad))


def line(angle_rad: float, bend_per_px: float = 0.0) -> Array:
    """A half-plane, bright where its normal points to, that a lens has bent."""
    x, y = grid()
    across, down = np.cos(angle_rad), np.sin(angle_rad)
    d, t = across * (x - 85.2) + down * (y - 75.4), across * (y - 75.4) - down * (x - 85.2)
    return DARK + (BRIGHT - DARK) * ndtr((d - bend_per_px * t**2 / 2) / BLUR_PX)


def measured(light: Array, angle_rad: float, clipped: Array | None = None, half_px: float = 40.0) -> Edge | str:
    """The edge between two points near the line, with ends in the order that puts the normal either way."""
    along = np.array([-np.sin(angle_rad), np.cos(angle_rad)])
    ends = [np.array([86.0, 75.0]) + s * along for s in (-half_px, half_px)]
    everywhere = np.ones(SIZE_PX, dtype=bool)
    return measure_edge(light, everywhere, ~everywhere if clipped is None else clipped > 0, *ends)


@pytest.mark.parametrize("angle_deg", [5.0, 100.0, 185.0, -70.0])
@pytest.mark.parametrize("swapped", [False, True])
def test_the_normal_points_to_the_bright_side(angle_deg: float, swapped: bool) -> None:
    angle = np.radians(angle_deg)
    edge = measured(line(angle), angle + np.pi * swapped)
    assert isinstance(edge, Edge)
    assert wrapped(edge.angle_rad - angle) == pytest.approx(0, abs=1e-4)
    assert -np.pi <= edge.angle_rad <= np.pi
    bright, dark = edge.xy_px + 4 * edge.normal, edge.xy_px - 4 * edge.normal
    distance, along = edge.frame(np.stack([bright, dark]))
    np.testing.assert_allclose(distance, [4, -4], atol=1e-9)
    np.testing.assert_allclose(along, 0, atol=1e-9)
    light = line(angle)
    assert light[tuple(np.rint(bright[::-1]).astype(int))] > 3 * light[tuple(np.rint(dark[::-1]).astype(int))]


@pytest.mark.parametrize("bend_per_px", [6e-4, -6e-4])
def test_a_bend_keeps_its_side(bend_per_px: float) -> None:
    edge = measured(line(0.2, bend_per_px), 0.2)
    assert isinstance(edge, Edge)
    assert edge.bend_per_px == pytest.approx(bend_per_px, rel=0.05)
    true = replace(edge, xy_px=np.array([85.2, 75.4]), angle_rad=0.2, bend_per_px=bend_per_px)
    distance, along = true.frame(edge.at(np.array([-20.0, 0.0, 20.0])))
    np.testing.assert_allclose(distance, 0, atol=5e-3)
    assert np.all(np.diff(along) > 19)


def test_what_is_of_no_use_is_refused_in_words() -> None:
    light, angle = line(0.1), 0.1
    assert isinstance(measured(light, angle), Edge)
    assert measured(light, angle, clipped=light > BRIGHT - 1e-3) == CLIPPED
    assert measured(light, angle, half_px=11.0) == SHORT
    assert measured(0.9 + 0.1 * light, angle) == PALE
    assert measured(line(angle, 1 / 90), angle) == POOR
    x, _ = grid()
    assert measured(np.where(x > 90, DARK, light), angle) == POOR, "another edge in the window"
    noisy = light + np.random.default_rng(0).normal(0, 0.1, SIZE_PX)
    assert measured(noisy, angle) == POOR


def test_an_edge_that_leaves_the_picture_ends_there() -> None:
    edge = measured(line(0.1), 0.1, half_px=90.0)
    assert isinstance(edge, Edge)
    assert edge.length_px == pytest.approx(SIZE_PX[0] / np.cos(0.1), abs=0.1)
    ends = edge.at(np.array([-0.5, 0.5]) * edge.length_px)
    np.testing.assert_allclose(np.sort(ends[:, 1]), [-0.5, SIZE_PX[0] - 0.5], atol=0.1)


def test_what_a_psf_refuses_an_sfr_takes_and_tells() -> None:
    light, angle = line(0.1), 0.1
    everywhere = np.ones(SIZE_PX, dtype=bool)
    along = np.array([-np.sin(angle), np.cos(angle)])
    ends = [np.array([86.0, 75.0]) + s * along for s in (-40.0, 40.0)]
    high = light > BRIGHT - 1e-3
    edge = measure_edge(light, everywhere, high, *ends, limits=FOR_SFR)
    assert isinstance(edge, Edge)
    assert edge.clipped == pytest.approx(0.35, abs=0.1)
    noisy = light + np.random.default_rng(0).normal(0, 0.15 * (BRIGHT - DARK), SIZE_PX)
    edge = measure_edge(noisy, everywhere, ~everywhere, *ends, limits=FOR_SFR)
    assert isinstance(edge, Edge)
    assert edge.scatter == pytest.approx(0.15, abs=0.015)
    assert edge.frame(np.array([85.2, 75.4]))[0] == pytest.approx(0, abs=4 * edge.sigma_px)
    pale = measure_edge(0.9 + 0.16 * light, everywhere, ~everywhere, *ends, limits=FOR_SFR)
    assert isinstance(pale, Edge)
    assert pale.contrast == pytest.approx(0.16 * 0.56 / (1.8 + 0.16 * 0.68), abs=1e-3)
    x, _ = grid()
    other = np.where(x > 90, DARK, light)
    assert measure_edge(other, everywhere, ~everywhere, *ends, limits=FOR_SFR) == POOR, "no edge for anyone"


def test_a_blurred_noisy_edge_lies_where_it_is() -> None:
    """The light's slope across an edge and its place are told apart by what light is known to be."""
    x, y = grid()
    across, down = np.cos(0.15), np.sin(0.15)
    d = across * (x - 85.2) + down * (y - 75.4)
    everywhere = np.ones(SIZE_PX, dtype=bool)
    ends = [np.array([85.2, 75.4]) + s * np.array([-down, across]) for s in (-25.0, 25.0)]
    errors, claims = [], []
    for seed in range(12):
        light = DARK + (BRIGHT - DARK) * (ndtr(d / 3.75) + np.random.default_rng(seed).normal(0, 0.05, SIZE_PX))
        edge = measure_edge(light, everywhere, ~everywhere, *ends, limits=FOR_SFR)
        assert isinstance(edge, Edge)
        assert edge.blur_px == pytest.approx(3.75, rel=0.15)
        errors.append(edge.frame(np.array([85.2, 75.4]))[0])
        claims.append(edge.sigma_px)
    assert np.sqrt(np.mean(np.square(errors))) < 0.12
    assert 0.5 < np.sqrt(np.mean(np.square(np.divide(errors, claims)))) < 1.5
