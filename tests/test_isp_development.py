from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psfbank.isp import (
    Development,
    Filmic,
    Smoothstep,
    Srgb,
    Tone,
    camera_to_srgb,
    known_cameras,
    process,
    sample_development,
    srgb_decode,
    srgb_encode,
    unprocess,
)
from psfbank.isp.demosaic import STRIP_PIXELS

CAMERA = next(iter(known_cameras().values()))
MATRIX = camera_to_srgb(CAMERA)
DAYLIGHT = Development.of_camera(CAMERA, (2.0, 1.0, 1.6), brightness=1.25)
TONES: tuple[Tone, ...] = (Srgb(), Smoothstep(), Filmic())


def picture(seed: int = 0, highest: float = 0.8) -> np.ndarray:
    """Colours that no camera of the table clips: none is purer than half its grey."""
    rng = np.random.default_rng(seed)
    grey, tint = rng.random((24, 30, 1)), rng.uniform(-0.25, 0.25, (24, 30, 3))
    return (highest * grey * (1 + tint) / 1.25).astype(np.float32)


@given(st.integers(0, 10_000), st.sampled_from(TONES))
@settings(max_examples=40)
def test_processing_undoes_unprocessing(seed: int, tone: Tone) -> None:
    development = replace(sample_development(np.random.default_rng(seed), tone=tone), highlights=1.0)
    image = picture(seed)
    light = unprocess(image, development)
    assert light.min() > 0
    np.testing.assert_allclose(process(light, development), image, atol=1e-4)


def test_the_highlights_alone_come_back_brighter() -> None:
    image = srgb_encode(np.repeat(np.linspace(0, 1, 101)[None, :, None], 3, axis=2))
    back = process(unprocess(image, DAYLIGHT), DAYLIGHT)
    below = np.linspace(0, 1, 101) < DAYLIGHT.highlights - 1e-6
    np.testing.assert_allclose(back[0, below], image[0, below], atol=1e-4)
    assert np.all(back[0, ~below] >= image[0, ~below] - 1e-4)


def test_white_saturates_the_sensor() -> None:
    """Brooks et al. 2019, section 3: divided by its gains a white cloud would be grey-green light."""
    white = np.ones((2, 2, 3), np.float32)
    np.testing.assert_allclose(unprocess(white, DAYLIGHT), 1, atol=1e-6)
    plain = replace(DAYLIGHT, highlights=1.0)
    np.testing.assert_allclose(unprocess(white, plain)[0, 0], 1 / (1.25 * np.array([2.0, 1.0, 1.6])), rtol=1e-5)
    np.testing.assert_allclose(process(white, plain), 1, atol=1e-4)


def test_the_mask_of_the_highlights_is_the_published_one() -> None:
    grey = 0.95
    share = ((grey - 0.9) / 0.1) ** 2
    gains = 1 / (1.25 * np.array([2.0, 1.0, 1.6]))
    light = unprocess(srgb_encode(np.full((1, 1, 3), grey)), DAYLIGHT)
    np.testing.assert_allclose(light[0, 0], grey * (share + (1 - share) * gains), rtol=1e-4)


def test_a_gain_below_one_is_undone_in_highlights_too() -> None:
    dim = Development((0.8, 1.0, 1.0))
    light = unprocess(srgb_encode(np.full((1, 1, 3), 0.95)), dim)
    np.testing.assert_allclose(light[0, 0], [1.0, 0.95, 0.95], rtol=1e-4)  # clipped


def test_the_matrix_acts_on_linear_light() -> None:
    """Inverting it before the tone curve, on the values that are stored, gives other colours."""
    image = np.array([[[0.6, 0.4, 0.3]]], np.float32)
    inverse = np.linalg.inv(MATRIX)
    expected = inverse @ srgb_decode(image)[0, 0] / (1.25 * np.array([2.0, 1.0, 1.6]))
    np.testing.assert_allclose(unprocess(image, DAYLIGHT)[0, 0], expected, rtol=1e-5)
    wrong = srgb_decode(inverse @ image[0, 0]) / (1.25 * np.array([2.0, 1.0, 1.6]))
    assert np.abs(wrong / expected - 1).max() > 0.02


def test_what_saturates_is_white_whatever_the_gains() -> None:
    saturated = np.ones((3, 3, 3), np.float32)
    np.testing.assert_allclose(process(saturated, DAYLIGHT), 1, atol=1e-4)
    assert process(saturated, DAYLIGHT, np.uint8).tolist() == np.full((3, 3, 3), 255).tolist()


def test_neutral_light_is_grey() -> None:
    light = np.array([0.1, 0.2, 0.125], np.float32) * np.ones((2, 2, 1), np.float32)
    shown = process(light, DAYLIGHT)
    np.testing.assert_allclose(shown, srgb_encode(np.array(0.25)), atol=1e-4)


def test_a_camera_in_daylight_shows_white_as_white() -> None:
    """What the sensor sees of D65 (CIE XYZ below), with the gains that the matrix itself asks for."""
    seen = CAMERA @ [0.95047, 1.0, 1.08883]
    light = (0.5 * seen / seen[1]).astype(np.float32) * np.ones((2, 2, 1), np.float32)
    np.testing.assert_allclose(process(light, Development.of_camera(CAMERA)), srgb_encode(np.array(0.5)), atol=2e-4)


def test_a_camera_sees_no_negative_light() -> None:
    pure = np.eye(3, dtype=np.float32)[None]
    light = unprocess(pure, DAYLIGHT)
    assert light.min() >= 0
    assert light.max() <= 1


@pytest.mark.parametrize("tone", TONES)
def test_pictures_of_whole_numbers_come_back(tone: Tone) -> None:
    development = replace(DAYLIGHT, tone=tone, highlights=1.0)
    image = np.rint(255 * picture()).astype(np.uint8)
    light = unprocess(image, development)
    np.testing.assert_array_equal(process(light, development, np.uint8), image)
    np.testing.assert_allclose(unprocess(image.astype(np.uint16) * 257, development), light, atol=1e-6)


def test_a_large_picture_is_a_small_one_repeated() -> None:
    width = STRIP_PIXELS // 4
    image = np.tile(picture()[:9, :1], (1, width, 1))
    light = unprocess(image, DAYLIGHT)
    np.testing.assert_allclose(light[:, :2], unprocess(image[:, :2], DAYLIGHT), atol=1e-6)
    np.testing.assert_allclose(process(light, DAYLIGHT)[:, :2], process(light[:, :2], DAYLIGHT), atol=1e-6)


@given(st.integers(0, 10_000))
def test_a_drawn_development_is_within_the_published_ranges(seed: int) -> None:
    drawn = sample_development(np.random.default_rng(seed))
    red, green, blue = drawn.gains
    assert 1.9 <= red <= 2.4
    assert green == 1
    assert 1.5 <= blue <= 1.9
    assert 0.8 < drawn.brightness <= 2
    np.testing.assert_allclose(np.sum(drawn.matrix, axis=1), 1, atol=1e-9)
    assert drawn == sample_development(np.random.default_rng(seed))
    assert hash(drawn) == hash(sample_development(np.random.default_rng(seed)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gains": (1, 1)}, "must have shape"),
        ({"gains": (1, 0, 1)}, "must be positive"),
        ({"brightness": -1.0}, "must be positive"),
        ({"highlights": 1.5}, "0..1"),
        ({"matrix": 2 * np.eye(3)}, "must sum to one"),
        ({"matrix": np.full((3, 3), np.nan)}, "not finite"),
    ],
)
def test_a_development_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Development(**change)
