from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank.isp import Filmic, Smoothstep, Srgb, Tone, srgb_decode, srgb_encode, tone_map, tone_unmap

TONES: tuple[Tone, ...] = (Srgb(), Smoothstep(), Filmic(), Filmic(white=3.0, shoulder=0.3, angle=0.2))


def test_srgb_passes_the_published_points() -> None:
    """IEC 61966-2-1: both pieces meet, and 0.214 is mid-grey."""
    np.testing.assert_allclose(
        srgb_encode(np.array([0.0, 0.0031308, 0.21404114, 1.0])), [0, 0.04045, 0.5, 1], atol=1e-5
    )
    np.testing.assert_allclose(
        srgb_decode(np.array([0.0, 0.04045, 0.5, 1.0])), [0, 0.0031308, 0.21404114, 1], atol=1e-6
    )


@given(st.floats(0, 1))
def test_srgb_decoding_undoes_encoding(light: float) -> None:
    assert float(srgb_decode(srgb_encode(np.array(light)))) == pytest.approx(light, abs=2e-6)


def test_encoding_clips_what_no_screen_shows() -> None:
    np.testing.assert_allclose(srgb_encode(np.array([-0.5, 3.0])), [0, 1], atol=1e-6)


@pytest.mark.parametrize("tone", TONES)
def test_a_curve_rises_from_black_to_white(tone: Tone) -> None:
    values = tone.encode(np.linspace(0, 1, 5001))
    np.testing.assert_allclose(values[[0, -1]], [0, 1], atol=1e-6)
    assert np.diff(values).min() > -2e-7  # of float32
    assert np.diff(values[::10]).min() > 0
    np.testing.assert_allclose(tone.encode(np.array([-1.0, 2.0])), [0, 1], atol=1e-6)


@pytest.mark.parametrize("tone", TONES)
def test_decoding_undoes_encoding(tone: Tone) -> None:
    values = np.linspace(0, 1, 5001)
    np.testing.assert_allclose(tone.encode(tone.decode(values)), values, atol=2e-6)


def test_smoothstep_is_the_published_contrast() -> None:
    """Brooks et al. 2019: y = 3 v^2 - 2 v^3 of the gamma-encoded value v."""
    np.testing.assert_allclose(Smoothstep().encode(srgb_decode(np.array([0.25, 0.5]))), [0.15625, 0.5], atol=1e-6)


def test_filmic_is_the_published_curve() -> None:
    """Hable 2010: h(1) = (0.15 + 0.05 + 0.004) / (0.15 + 0.5 + 0.06) - 1 / 15; h(11.2) likewise."""
    shown = (0.204 / 0.71 - 1 / 15) / (19.38 / 24.476 - 1 / 15)
    np.testing.assert_allclose(Filmic().encode(np.array(1 / 11.2)), srgb_encode(np.array(shown)), atol=1e-6)


@pytest.mark.parametrize("change", [{"angle": 0.06}, {"angle": 1.0}, {"white": 0.0}, {"shoulder": -0.1}])
def test_a_filmic_curve_that_falls_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="filmic curve"):
        Filmic(**change)


@pytest.mark.parametrize("tone", TONES)
def test_the_table_keeps_to_the_curve(tone: Tone) -> None:
    """Also where its entries are furthest apart, in the shadows."""
    light = np.concatenate([np.linspace(0, 1, 60_000), np.geomspace(1e-7, 1e-2, 60_000)]).astype(np.float32)
    light = light.reshape(300, -1, 1)
    assert np.abs(tone_map(light, tone) - tone.encode(light)).max() < (1.8 if isinstance(tone, Filmic) else 0.8) / 65535
    eight = tone_map(light, tone, np.uint8)
    assert eight.dtype == np.uint8
    assert np.abs(eight - 255 * tone.encode(light)).max() < 0.5 + 2 * 255 / 65535


def test_the_table_clips_and_keeps_the_shape() -> None:
    light = np.array([[-np.inf, -0.5, 0.0, 1.0, 1.5, np.inf]], np.float32)
    np.testing.assert_allclose(tone_map(light, Srgb()), [[0, 0, 0, 1, 1, 1]], atol=1e-7)
    assert tone_map(np.zeros((3, 4, 3), np.float32), Srgb(), np.uint8).shape == (3, 4, 3)


@pytest.mark.parametrize("tone", TONES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_whole_numbers_are_decoded_exactly(tone: Tone, dtype: type[np.unsignedinteger]) -> None:
    white = np.iinfo(dtype).max
    picture = np.arange(white + 1, dtype=dtype).reshape(16, -1)
    light = tone_unmap(picture, tone)
    np.testing.assert_allclose(light, tone.decode(picture / white), atol=1e-7)
    if dtype == np.uint8:
        np.testing.assert_array_equal(tone_map(light, tone, np.uint8), picture)
