from __future__ import annotations

import numpy as np
import pytest

from psfbank.isp import Subsampling, encode_jpeg, jpeg

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-T T.871


def picture(shape: tuple[int, int] = (64, 80)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]] / 9.0
    return np.stack([0.5 + 0.3 * np.sin(x + y), 0.4 + 0.3 * np.cos(x - y), 0.5 + 0.2 * np.sin(2 * x)], -1)


def test_quality_raises_fidelity_and_size() -> None:
    image = picture()
    errors, sizes = zip(
        *[(np.abs(jpeg(image, q) - image).mean(), len(encode_jpeg(image, q))) for q in (5, 25, 50, 75, 95)],
        strict=True,
    )
    assert np.all(np.diff(errors) < 0)
    assert np.all(np.diff(sizes) > 0)


def test_colours_and_orientation_stay() -> None:
    image = np.zeros((32, 48, 3))
    image[:16, :16, 0], image[:16, 32:, 1], image[16:, :16, 2] = 1, 1, 1
    np.testing.assert_allclose(jpeg(image, 100, "4:4:4"), image, atol=0.02)
    whole = (255 * image).astype(np.uint8)
    left = jpeg(whole, 100, "4:4:4")
    assert left.dtype == np.uint8
    np.testing.assert_allclose(left, whole, atol=5)


@pytest.mark.parametrize(
    ("subsampling", "axes"), [("4:2:2", (1,)), ("4:4:0", (0,)), ("4:2:0", (0, 1)), ("4:1:1", (1,))]
)
def test_subsampling_costs_colour_and_keeps_brightness(subsampling: Subsampling, axes: tuple[int, ...]) -> None:
    """Stripes of two colours as bright as each other: they fade along the axes that are subsampled, and only there."""
    one, other = np.array([0.7, 0.4, 0.5]), np.array([0.3, 0.4 + 0.4 * LUMA[0] / LUMA[1], 0.5])
    for axis in (0, 1):
        which = (np.indices((64, 64))[axis] % 2)[..., None]
        image = np.where(which, one, other)
        full, less = (jpeg(image, 98, s)[8:-8, 8:-8] for s in ("4:4:4", subsampling))
        assert np.std(full[..., 0]) == pytest.approx(0.2, abs=0.02)
        assert (np.std(less[..., 0]) < 0.05) == (axis in axes)
        assert np.abs(less @ LUMA - full @ LUMA).max() < 0.02


def test_grey_pictures_stay_grey() -> None:
    image = picture()[..., 0]
    left = jpeg(image, 95)
    assert (left.shape, left.dtype) == (image.shape, np.float32)
    np.testing.assert_allclose(left, image, atol=0.03)


def test_out_of_range_is_clipped_not_wrapped() -> None:
    image = np.full((16, 16, 3), 1.2)
    image[8:] = -0.2
    left = jpeg(image, 100, "4:4:4")
    assert left[:8].min() > 0.95
    assert left[8:].max() < 0.05


def test_the_bytes_are_a_jpeg_file() -> None:
    blob = encode_jpeg(picture())
    assert blob[:3] == b"\xff\xd8\xff"
    assert blob[-2:] == b"\xff\xd9"


@pytest.mark.parametrize(
    ("shape", "quality", "subsampling"),
    [((8, 8, 3), 101, "4:2:0"), ((8, 8, 3), -1, "4:2:0"), ((8, 8, 3), 90, "4:2:1"), ((8, 8, 4), 90, "4:2:0")],
)
def test_what_jpeg_has_not_is_refused(shape: tuple[int, ...], quality: int, subsampling: Subsampling) -> None:
    with pytest.raises(ValueError, match="got"):
        encode_jpeg(np.zeros(shape), quality, subsampling)
