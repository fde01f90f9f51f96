"""One picture of a plane, registered: known lenses, optics that no projection describes, and what is refused."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from calib.registration import HALF_FIELD, Registration, register_grid, register_view
from calib.session import Journal
from psfbank.errors import FitFailed
from psfbank.model import Corners

SIZE = (480, 640)
CENTRE_PX = np.array([319.5, 239.5])
PITCH_MM = 7.0

Array = np.ndarray


def grid(columns: int = 25, rows: int = 19) -> Array:
    return PITCH_MM * np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2).astype(float)


def barrel(plane_mm: Array) -> Array:
    """A tilted plane through a third-order lens: 3.4 px a mm in the middle, barrel of about 8 % in the corners."""
    xy = (plane_mm - [84.0, 63.0]) / 150.0
    ray = xy / (1 + 0.1 * xy[:, :1] - 0.05 * xy[:, 1:])
    return 510.0 * ray * (1 - 0.15 * np.sum(ray**2, axis=1, keepdims=True)) + CENTRE_PX + [3.0, -2.0]


def wavy(plane_mm: Array) -> Array:
    """A picture through a wavy sheet: waves of 1.5 px that no lens makes."""
    xy = plane_mm - [84.0, 63.0]
    return 3.4 * xy + CENTRE_PX + 1.5 * np.column_stack([np.sin(xy[:, 1] / 12), np.cos(xy[:, 0] / 14 + xy[:, 1] / 30)])


def rays_of(found: Registration, plane_mm: Array) -> Array:
    return plane_mm @ found.to_rays[:, :2].T + found.to_rays[:, 2]


def between(plane_mm: Array) -> Array:
    """Middles of the cells, none of them a point of the grid; the outermost cells left out."""
    middles = plane_mm + PITCH_MM / 2
    low, high = plane_mm.min(axis=0) + PITCH_MM, plane_mm.max(axis=0) - PITCH_MM
    return middles[np.all((middles > low) & (middles < high), axis=1)]


def rms(residual: Array) -> float:
    return float(np.sqrt(np.mean(np.sum(residual**2, axis=1))))


@pytest.mark.parametrize("optics", [barrel, wavy])
def test_between_the_points_the_map_is_the_optics(optics) -> None:
    plane, rng = grid(), np.random.default_rng(0)
    found = register_grid(plane, optics(plane) + rng.normal(0, 0.02, plane.shape), SIZE)
    asked = between(plane)
    landed = found.distortion.project(rays_of(found, asked), "Y")
    assert rms(landed - optics(asked)) < (0.02 if optics is barrel else 0.06)
    assert found.rms_px < 0.03
    assert 0.8 * rms(landed - optics(asked)) < found.heldout_rms_px < 0.1
    back = found.distortion.unproject(landed, "Y")
    np.testing.assert_allclose(back, rays_of(found, asked), atol=1e-9)


def test_a_wavy_sheet_needs_a_freer_spline_than_a_lens() -> None:
    plane, rng = grid(), np.random.default_rng(0)
    noise = rng.normal(0, 0.02, plane.shape)
    lens, sheet = (register_grid(plane, optics(plane) + noise, SIZE) for optics in (barrel, wavy))
    assert sheet.smoothness < lens.smoothness


@pytest.mark.parametrize("turn_deg", [0.0, 37.0, 90.0, 180.0])
def test_the_plane_is_turned_and_scaled_to_stand_as_in_the_picture(turn_deg: float) -> None:
    plane, angle = grid(), np.radians(turn_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    seen_px = 2.2 * (plane - plane.mean(axis=0)) @ turn.T + CENTRE_PX + [12.0, 4.0]
    found = register_grid(plane, seen_px, SIZE)
    matrix = found.distortion.camera_matrix
    half_mm = np.linalg.norm(plane - plane.mean(axis=0), axis=1).max()
    np.testing.assert_allclose(np.diag(matrix)[:2], 2.2 * half_mm / HALF_FIELD, rtol=1e-3)
    np.testing.assert_allclose(matrix[:2, 2], CENTRE_PX, atol=1e-3)
    here, right, down = found.distortion.project([[0.1, 0.1], [0.12, 0.1], [0.1, 0.12]], "Y")
    assert right[0] > here[0] + 5
    assert abs(right[1] - here[1]) < 0.01
    assert down[1] > here[1] + 5
    np.testing.assert_allclose(found.distortion.project(rays_of(found, plane), "Y"), seen_px, atol=1e-3)


def test_colours_are_registered_with_green() -> None:
    plane, rng = grid(), np.random.default_rng(0)
    green = barrel(plane)
    shift = {"R": 0.002 * (green - CENTRE_PX), "B": -0.001 * (green - CENTRE_PX) + [0.1, 0.0]}
    noisy = {c: green + s + rng.normal(0, 0.01, plane.shape) for c, s in shift.items()}
    noisy["B"][5] = np.nan
    found = register_grid(plane, green + rng.normal(0, 0.01, plane.shape), SIZE, lateral=noisy)
    assert found.distortion.channels == ("R", "G", "B")
    rays = rays_of(found, between(plane))
    at = found.distortion.project(rays, "G")
    for channel, want in (("R", 0.002 * (at - CENTRE_PX)), ("B", -0.001 * (at - CENTRE_PX) + [0.1, 0.0])):
        assert rms(found.distortion.project(rays, channel) - at - want) < 0.01
        assert 0 < found.distortion.rms_px["RGB".index(channel)] < 0.05


def test_points_are_weighed_and_strays_do_not_bend_the_map() -> None:
    plane, rng = grid(), np.random.default_rng(0)
    seen_px, sigma = barrel(plane) + rng.normal(0, 0.02, plane.shape), np.full(len(plane), 0.02)
    bad = rng.choice(len(plane), 60, replace=False)
    seen_px[bad] += rng.normal(0, 1.0, (60, 2))
    sigma[bad] = 1.0
    seen_px[[3, 200]] += 25.0  # strays that call themselves sure
    found = register_grid(plane, seen_px, SIZE, sigma_px=sigma)
    asked = between(plane)
    assert rms(found.distortion.project(rays_of(found, asked), "Y") - barrel(asked)) < 0.04


def test_the_valid_region_is_the_hull_of_the_points() -> None:
    plane = grid()
    found = register_grid(plane, barrel(plane), SIZE)
    np.testing.assert_allclose(found.distortion.valid_region.max(axis=0), barrel(plane).max(axis=0))
    np.testing.assert_allclose(found.distortion.valid_region.min(axis=0), barrel(plane).min(axis=0))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda plane, seen: (plane[:20], seen[:20]), "20 points"),
        (lambda plane, seen: (plane, np.where(np.arange(len(seen))[:, None] < 450, np.nan, seen)), "25 points"),
        (lambda plane, seen: (plane * [-1, 1], seen), "mirrored"),
        (lambda plane, seen: (plane * [1, 0], seen * [1, 0]), "on a line"),
        (lambda plane, seen: (plane * 0, seen), "on a line"),
    ],
)
def test_what_is_no_picture_of_a_grid_is_refused(spoil, words: str) -> None:
    with pytest.raises(FitFailed, match=words):
        register_grid(*spoil(grid(), barrel(grid())), SIZE)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="image_px"):
        register_grid(grid(), barrel(grid())[:-1], SIZE)
    with pytest.raises(ValueError, match="sigma_px"):
        register_grid(grid(), barrel(grid()), SIZE, sigma_px=np.ones(3))


def test_the_one_view_of_a_session_becomes_a_map_that_says_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    plane, journal = grid(), Journal()
    found = np.ones((1, len(plane)), dtype=bool)
    found[0, 7] = False
    scales = {"R": 1.002, "G": 1.0, "B": 0.999}
    views = {
        c: Corners(plane[None], (s * (barrel(plane) - CENTRE_PX) + CENTRE_PX)[None], found) for c, s in scales.items()
    }
    with caplog.at_level(logging.WARNING):
        lens = register_view(views, np.full((1, len(plane)), 0.03), "G", SIZE, journal)
    assert lens is not None
    assert "focal length is a convention" in caplog.text
    told = journal.summary["distortion"]
    assert (told["views"], told["points"]) == (1, len(plane) - 1)
    rays = (
        between(plane) @ np.array(told["registration_to_rays"])[:, :2].T + np.array(told["registration_to_rays"])[:, 2]
    )
    for channel, scale in scales.items():
        want = scale * (barrel(between(plane)) - CENTRE_PX) + CENTRE_PX
        assert rms(lens.project(rays, channel) - want) < 0.01


def test_a_view_that_does_not_suffice_is_lacking() -> None:
    plane, journal = grid(5, 5), Journal()
    view = Corners(plane[None], barrel(plane)[None], np.ones((1, 25), dtype=bool))
    assert register_view({"Y": view}, np.full((1, 25), 0.03), "Y", SIZE, journal) is None
    assert journal.missing["distortion"].startswith("25 points of the grid were found, 30 are needed")
