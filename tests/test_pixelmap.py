"""The inverse of a map as a picture needs it: against Newton's own answers, and the right way round."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from psfbank import distortion
from psfbank.pixelmap import PixelMap

SIZE = (240, 320)
MATRIX = np.array([[300.0, 0, 160], [0, 310.0, 120], [0, 0, 1]])
KNOTS_X, KNOTS_Y = np.linspace(-1.3, 1.3, 15), np.linspace(-1.0, 1.0, 12)
SHAPE = (2, len(KNOTS_Y) - 4, len(KNOTS_X) - 4)


@pytest.fixture
def wavy() -> tuple[np.ndarray, ...]:
    return MATRIX, KNOTS_X, KNOTS_Y, np.random.default_rng(1).normal(0, 4.0, SHAPE)


def pixel_map(*model: np.ndarray) -> np.ndarray:
    return PixelMap.of(SIZE, *model).at(np.arange(SIZE[0]), np.arange(SIZE[1]))


def test_the_pixel_map_agrees_with_unproject(wavy: tuple[np.ndarray, ...]) -> None:
    smooth = (*wavy[:3], wavy[3] / 2)
    dense = pixel_map(*smooth)
    assert dense.shape == (*SIZE, 2)
    rows, cols = np.mgrid[0 : SIZE[0] : 7, 0 : SIZE[1] : 7]
    rays = distortion.unproject(np.stack([cols, rows], axis=-1).reshape(-1, 2).astype(float), *smooth)
    pinhole = rays * [300, 310] + [160, 120]
    np.testing.assert_allclose(dense[::7, ::7].reshape(-1, 2), pinhole, atol=2e-2)
    between = PixelMap.of(SIZE, *smooth).at(np.array([17.0, 17.5]), np.array([40.25, 203.0]))
    np.testing.assert_allclose(between[0, 1], dense[17, 203], atol=1e-9)


def test_the_pixel_map_moves_a_picture_the_way_the_lens_does() -> None:
    """A point of the pinhole picture appears where the lens puts its ray; a mirrored or inverse map fails."""
    shift = np.zeros(SHAPE)
    shift[0], shift[1] = 12.0, -5.0
    picture = np.zeros(SIZE, np.float32)
    picture[118:123, 158:163] = 1.0  # about the principal point
    dense = pixel_map(MATRIX, KNOTS_X, KNOTS_Y, shift)
    seen = cv2.remap(picture, *np.moveaxis(dense.astype(np.float32), -1, 0), cv2.INTER_LINEAR)
    rows, cols = np.indices(SIZE)
    centre = (seen * cols).sum() / seen.sum(), (seen * rows).sum() / seen.sum()
    np.testing.assert_allclose(
        centre, distortion.project(np.zeros((1, 2)), MATRIX, KNOTS_X, KNOTS_Y, shift)[0], atol=0.1
    )


def test_the_pixel_map_is_nan_where_nothing_in_front_lands() -> None:
    wide = np.array([[60.0, 0, 160], [0, 60.0, 120], [0, 0, 1]])  # 90 degrees at 120 px from the centre
    dense = pixel_map(wide, KNOTS_X, KNOTS_Y, np.zeros(SHAPE))
    rows, cols = np.indices(SIZE)
    radius = np.hypot(cols - 160, rows - 120)
    assert np.isnan(dense[radius > 121]).all()
    assert np.isfinite(dense[radius < 119]).all()
