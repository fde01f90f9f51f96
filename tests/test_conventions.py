"""The conventions of `psfbank.__doc__`, each told once by a test: which way things point, and what is called what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from psfbank import SpatiallyVaryingBlur
from psfbank.bank import PsfBank
from psfbank.batch import read_image, write_image
from psfbank.field import kernel_at
from psfbank.isp import demosaic
from psfbank.model import PsfGrid
from psfbank.sensor import mosaic


def centroid(image: npt.NDArray[np.floating]) -> tuple[float, float]:
    """(x, y) of the light."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    light = image.astype(float)
    return float((light * x).sum() / light.sum()), float((light * y).sum() / light.sum())


def one_kernel(kernel: npt.ArrayLike, oversample: int = 1) -> PsfGrid:
    kernel = np.asarray(kernel, float)
    return PsfGrid(np.zeros(1), np.zeros(1), kernel[None, None, None] / kernel.sum(), oversample, channels=("Y",))


def test_a_point_moved_right_moves_its_image_right_and_down_is_down(small_bank: PsfBank) -> None:
    distortion = small_bank.at().distortion
    assert distortion is not None
    here, right, below = distortion.project([[0.1, 0.1], [0.11, 0.1], [0.1, 0.11]])

    assert right[0] > here[0] + 0.5
    assert below[1] > here[1] + 0.5
    np.testing.assert_allclose(distortion.unproject(right[None])[0], [0.11, 0.1], atol=1e-8)


def test_the_top_left_pixels_centre_is_the_origin() -> None:
    point = np.zeros((7, 9))
    point[2, 5] = 1  # row 2, column 5
    image = SpatiallyVaryingBlur(one_kernel(np.ones((3, 3))), (7, 9), "Y").forward(point)
    assert centroid(image) == pytest.approx((5.0, 2.0), abs=1e-6)


def test_a_kernel_is_the_image_of_a_point_and_not_its_mirror_image() -> None:
    kernel = np.array([[0, 0, 0], [0, 4, 2], [0, 0, 1]])  # a tail to the right and below
    point = np.zeros((9, 9))
    point[4, 4] = 1
    image = SpatiallyVaryingBlur(one_kernel(kernel), (9, 9), "Y").forward(point)

    np.testing.assert_allclose(image[3:6, 3:6], kernel / 7, atol=1e-6)


def test_the_first_axis_of_a_grid_is_y_and_the_second_x() -> None:
    kernels = np.zeros((2, 3, 3, 3))
    kernels[..., 1, 1] = 1
    kernels[0, 2] = [[0, 0, 0], [0, 0, 1], [0, 0, 0]]  # top right node
    at_top_right = kernel_at(np.array([0.0, 50.0, 90.0]), np.array([0.0, 40.0]), kernels, 90.0, 0.0)
    assert at_top_right[1, 2] == 1


def test_a_psf_sums_to_one_and_has_its_centroid_on_the_array_centre(small_bank: PsfBank) -> None:
    """To a fiftieth of a pixel: between nodes, and at one sample a pixel, it is not exact."""
    cal = small_bank.at()
    for oversample in (1, 3):
        for channel in "RGB":
            kernel = cal.psf(100.3, 20.7, channel, oversample)
            assert kernel.shape[0] == kernel.shape[1]
            assert kernel.shape[0] % 2 == 1
            assert kernel.sum() == pytest.approx(1.0)
            assert kernel.min() >= 0
            middle = kernel.shape[0] // 2
            offset_px = (np.array(centroid(kernel)) - middle) / oversample
            assert np.abs(offset_px).max() < 0.02


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_pixel_k_covers_fine_samples_from_s_k_to_s_k_plus_s_minus_1(scale: int) -> None:
    """So fine sample i has its centre at (i - (s - 1) / 2) / s pixels."""
    at = (np.arange(41) - 20) / 5
    smooth = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / 2)
    blur = SpatiallyVaryingBlur(one_kernel(smooth, 5), (21, 23), "Y", source_scale=scale)
    source = np.zeros(blur.source_shape)
    pixel = source[10 * scale : 11 * scale, 12 * scale : 13 * scale]
    pixel[:] = 1  # all fine samples of pixel (x, y) = (12, 10)
    assert centroid(blur.forward(source)) == pytest.approx((12.0, 10.0), abs=1e-4)

    pixel[:] = 0
    pixel[0, -1] = 1  # the last of its first row
    off = (scale - 1) / 2 / scale
    assert centroid(blur.forward(source)) == pytest.approx((12.0 + off, 10.0 - off), abs=2e-3)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".jpg"])
def test_red_stays_red_through_a_file(tmp_path: Path, suffix: str) -> None:
    image = np.broadcast_to(np.array([0.8, 0.4, 0.1], np.float32), (16, 16, 3))
    write_image(tmp_path / f"a{suffix}", image)
    got = read_image(tmp_path / f"a{suffix}", "srgb" if suffix == ".jpg" else None)
    np.testing.assert_allclose(got, image, atol=0.02)


def test_red_stays_red_through_the_mosaic() -> None:
    image = np.broadcast_to(np.array([0.8, 0.4, 0.1], np.float32), (8, 8, 3))
    raw = mosaic(image, "RGGB")
    assert raw[0, 0] == np.float32(0.8)
    assert raw[1, 1] == np.float32(0.1)
    np.testing.assert_allclose(demosaic(raw, "RGGB"), image, atol=1e-6)
