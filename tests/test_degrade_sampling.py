from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from psfbank.degrade import Downsample
from psfbank.degrade.sampling import METHODS, resized
from psfbank.errors import ImageError

SMOOTH = [m for m in METHODS if m != "nearest"]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def picture(height: int = 60, width: int = 84) -> np.ndarray:
    return rng().random((height, width)).astype(np.float32)


def ramp_error(factor: float, method: str, antialias: bool) -> float:
    """Farthest, in samples, that a pixel's value lies from the ramp at sample s k + (s - 1) / 2, edges apart."""
    size = 144
    ramp = np.add.outer(3.0 * np.arange(size), np.arange(size)) - 2 * size
    out = Downsample(factor, method, antialias)(ramp, rng())
    at = (np.arange(size / factor) + 0.5) * factor - 0.5
    inner = np.s_[int(24 / factor) + 1 : -int(24 / factor) - 1]
    return float(np.abs(out - np.add.outer(3 * at, at) + 2 * size)[inner, inner].max() / 4)


@pytest.mark.parametrize("method", SMOOTH)
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("factor", [1.0, 2.0, 3.0, 4.0])
def test_a_ramp_stays_a_ramp_where_pixels_cover_their_samples(method: str, antialias: bool, factor: float) -> None:
    assert ramp_error(factor, method, antialias) < 1e-4


@pytest.mark.parametrize("method", SMOOTH)
@pytest.mark.parametrize("factor", [1.5, 2.25])
def test_fractions_are_in_place_to_a_tenth_of_a_sample(method: str, factor: float) -> None:
    assert ramp_error(factor, method, True) < 0.1


@pytest.mark.parametrize("factor", [3, 5])
def test_nearest_takes_the_middle_of_odd_blocks(factor: int) -> None:
    image = picture(60, 90)
    half = factor // 2
    np.testing.assert_array_equal(Downsample(factor, "nearest")(image, rng()), image[half::factor, half::factor])


@pytest.mark.parametrize("factor", [2, 4])
def test_nearest_is_half_a_sample_late_in_even_blocks(factor: int) -> None:
    image = picture(64, 80)
    half = factor // 2
    np.testing.assert_array_equal(Downsample(factor, "nearest")(image, rng()), image[half::factor, half::factor])


@pytest.mark.parametrize(
    ("method", "theirs"),
    [
        ("bilinear", Pillow.Resampling.BILINEAR),
        ("bicubic", Pillow.Resampling.BICUBIC),
        ("lanczos", Pillow.Resampling.LANCZOS),
    ],
)
@pytest.mark.parametrize("factor", [2.0, 3.0, 1.5])
def test_antialiased_methods_are_pillows(method: str, theirs: Pillow.Resampling, factor: float) -> None:
    image = picture()
    out = Downsample(factor, method)(image, rng())
    expected = np.asarray(Pillow.fromarray(image).resize((out.shape[1], out.shape[0]), theirs))
    margin = 4  # beyond the edges Pillow leaves taps out
    inner = np.s_[margin:-margin, margin:-margin]
    np.testing.assert_allclose(out[inner], expected[inner], atol=1e-6)


@pytest.mark.parametrize("factor", [2.0, 3.0, 1.5, 2.5])
def test_area_is_that_of_opencv(factor: float) -> None:
    image = picture(60, 90)
    out = Downsample(factor, "area")(image, rng())
    expected = cv2.resize(image, (out.shape[1], out.shape[0]), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_without_antialiasing_bilinear_is_that_of_opencv() -> None:
    image = picture(60, 90)
    out = Downsample(3.0, "bilinear", antialias=False)(image, rng())
    np.testing.assert_allclose(out, cv2.resize(image, (30, 20), interpolation=cv2.INTER_LINEAR), atol=1e-6)


def zone_plate(size: int = 512) -> np.ndarray:
    """Rings whose frequency rises to 1/2 cycles/sample at the middle of each side."""
    axis = np.arange(size) - (size - 1) / 2
    return 0.5 + 0.5 * np.cos(np.pi / size * np.add.outer(axis**2, axis**2))


@pytest.mark.parametrize(
    ("method", "antialias", "least", "most"),
    [
        ("lanczos", True, 0, 0.003),
        ("gaussian", True, 0, 0.007),
        ("bicubic", True, 0, 0.01),
        ("bilinear", True, 0.01, 0.04),
        ("area", True, 0.2, 0.3),
        ("nearest", True, 0.9, 1.01),
        ("bicubic", False, 0.8, 1),
        ("bilinear", False, 0.6, 1),
    ],
)
def test_a_zone_plate_tells_who_holds_back_what_cannot_be_shown(
    method: str, antialias: bool, least: float, most: float
) -> None:
    """Beyond twice the new Nyquist frequency what is left is alias alone, in shares of full contrast."""
    out = Downsample(4.0, method, antialias)(zone_plate(), rng())
    axis = np.abs(np.arange(128) - 63.5)
    fastest = np.maximum.outer(axis, axis)  # 16 pixels from the centre is the new Nyquist frequency
    assert least <= 2 * np.abs(out - 0.5)[(fastest > 32) & (fastest < 60)].max() <= most


@pytest.mark.parametrize("method", METHODS)
def test_down_and_up_again_is_in_place(method: str) -> None:
    y, x = np.mgrid[:97, :83]
    image = np.exp(-((x - 40.3) ** 2 + (y - 52.8) ** 2) / (2 * 9.0**2))
    out = Downsample(3.0, method, back=True)(image, rng()).astype(np.float64)
    assert out.shape == image.shape
    assert (out * x).sum() / out.sum() == pytest.approx(40.3, abs=0.05)
    assert (out * y).sum() / out.sum() == pytest.approx(52.8, abs=0.05)


@given(
    height=st.integers(6, 40),
    width=st.integers(6, 40),
    factor=st.floats(1, 5),
    method=st.sampled_from(METHODS),
    back=st.booleans(),
)
@settings(max_examples=60)
def test_every_size_and_factor(height: int, width: int, factor: float, method: str, back: bool) -> None:
    image = np.full((height, width, 2), 0.7)
    block = Fraction(factor).limit_denominator(64)
    stage = Downsample(factor, method, back=back)
    if not back and min(height, width) < block.numerator:
        with pytest.raises(ImageError, match="no whole block"):
            stage(image, rng())
        return
    out = stage(image, rng())
    if back:
        assert out.shape == image.shape
    else:
        expected = tuple(n // block.numerator * block.denominator for n in (height, width))
        assert out.shape == (*expected, 2)
    np.testing.assert_allclose(out, 0.7, rtol=1e-5)


def test_axes_are_not_swapped() -> None:
    image = picture(24, 36)
    np.testing.assert_allclose(
        resized(image.T, Fraction(2), "lanczos"), resized(image, Fraction(2), "lanczos").T, atol=1e-6
    )
