from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lenses import spline_map
from scipy.spatial.transform import Rotation

from psfbank.bank import PsfBank
from psfbank.frames import apart_px, map_distance_px
from psfbank.model import DistortionMap

TURN = np.array([0.01, -0.02, 0.015])


@pytest.fixture
def barrel(small_bank: PsfBank) -> DistortionMap:
    found = small_bank.at().distortion
    assert found is not None
    return found


def turned(distortion: DistortionMap) -> DistortionMap:
    """The same lens with its frame of rays turned."""

    def lens(rays: np.ndarray) -> np.ndarray:
        toward = Rotation.from_rotvec(TURN).apply(np.column_stack([rays, np.ones(len(rays))]))
        return distortion.project(toward[:, :2] / toward[:, 2:])

    return spline_map(lens, distortion.camera_matrix, (96, 128), 1.3, knots=40)


def test_the_rotation_is_found_and_no_difference(barrel: DistortionMap) -> None:
    xy_px = np.random.default_rng(0).uniform([0, 0], [127, 95], (300, 2))
    difference, turn = apart_px(barrel, turned(barrel), xy_px)

    assert np.abs(difference).max() < 2e-3
    np.testing.assert_allclose(turn, TURN, atol=1e-4)
    assert map_distance_px(barrel, turned(barrel)) < 2e-3


def test_what_is_left_is_where_one_puts_the_others_pixels(barrel: DistortionMap) -> None:
    larger = replace(
        barrel,
        camera_matrix=barrel.camera_matrix * [[1.01, 1, 1], [1, 1.01, 1], [1, 1, 1]],
        coefficients=1.01 * barrel.coefficients,
    )
    xy_px = np.stack(np.meshgrid(np.linspace(0, 127, 9), np.linspace(0, 95, 9)), axis=-1).reshape(-1, 2)
    difference, turn = apart_px(larger, barrel, xy_px)

    np.testing.assert_allclose(difference, 0.01 * (xy_px - barrel.camera_matrix[:2, 2]), atol=1e-6)
    np.testing.assert_allclose(turn, 0, atol=1e-7)
    assert map_distance_px(larger, barrel) == pytest.approx(map_distance_px(barrel, larger), rel=0.02)


def test_beyond_a_right_angle_maps_are_compared_too(barrel: DistortionMap) -> None:
    """A lens whose picture reaches 200 degrees: its rays have no x/z, its directions do."""
    wide = replace(
        barrel,
        camera_matrix=np.array([[20.0, 0, 63.5], [0, 20, 47.5], [0, 0, 1]]),
        coefficients=0 * barrel.coefficients,
    )
    xy_px = np.array([[63.5 + 45.0, 47.5], [63.5 - 45, 47.5], [63.5, 90], [63.5, 47.5]])
    bent = replace(wide, coefficients=wide.coefficients + 0.5)
    difference, _ = apart_px(bent, wide, xy_px)

    assert np.isnan(wide.unproject(xy_px)[0]).all()
    assert np.isfinite(difference).all()
    assert np.linalg.norm(difference, axis=1).max() < 1
