from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank.isp import Method, demosaic, srgb_decode, srgb_encode, subtract_black, white_balance
from psfbank.sensor import cfa_sites, mosaic

METHODS: tuple[Method, ...] = ("malvar", "bilinear", "edge_aware")
PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cfa", PATTERNS)
@pytest.mark.parametrize("shape", [(12, 17), (2, 2), (3, 2)])
def test_one_colour_everywhere_comes_back(method: Method, cfa: str, shape: tuple[int, int]) -> None:
    """Swapped channels or a pattern one site off would show."""
    image = np.broadcast_to(np.array([0.2, 0.5, 0.9], np.float32), (*shape, 3))
    np.testing.assert_allclose(demosaic(mosaic(image, cfa), cfa, method), image, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cfa", PATTERNS)
def test_what_was_measured_is_kept(method: Method, cfa: str) -> None:
    raw = np.random.default_rng(0).normal(0.3, 0.3, (20, 23)).astype(np.float32)
    image = demosaic(raw, cfa, method)
    kept = np.take_along_axis(image, cfa_sites(cfa, (20, 23))[..., None], 2)[..., 0]
    np.testing.assert_allclose(kept, raw, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cfa", PATTERNS)
def test_a_ramp_of_each_colour_comes_back(method: Method, cfa: str) -> None:
    """All three methods are exact on planes, away from the edge."""
    y, x = np.mgrid[:16, :18] / 40
    image = (
        np.stack([0.1 + x, 0.2 + 0.5 * x, 0.8 - x], axis=-1).astype(np.float32) + (y / 4).astype(np.float32)[..., None]
    )
    got = demosaic(mosaic(image, cfa), cfa, method)
    np.testing.assert_allclose(got[3:-3, 3:-3], image[3:-3, 3:-3], atol=5e-5 if method != "edge_aware" else 0.03)


def test_malvar_has_the_published_response_to_a_point() -> None:
    """Malvar, He and Cutler 2004, figure 2: a red site's share in the colours around it, in eighths."""
    raw = np.zeros((9, 9), np.float32)
    raw[4, 4] = 8.0  # red in RGGB
    image = demosaic(raw, "RGGB", "malvar")

    assert image[4, 4].tolist() == [8.0, 4.0, 6.0]
    assert image[4, 3].tolist() == [4.0, 0.0, 0.0]  # green in a red row
    assert image[3, 4].tolist() == [4.0, 0.0, 0.0]  # green in a blue row
    assert image[4, 2].tolist() == [0.0, -1.0, -1.5]  # the next red
    assert image[3, 3].tolist() == [2.0, 0.0, 0.0]  # blue
    assert image[4, 5].tolist() == image[4, 3].tolist()


def test_malvar_recovers_detail_better_than_bilinear() -> None:
    y, x = np.mgrid[:64, :64]
    image = np.repeat((0.5 + 0.4 * np.sin(0.9 * x + 0.5 * y))[..., None], 3, axis=2).astype(np.float32)
    errors = [np.abs(demosaic(mosaic(image, "RGGB"), "RGGB", m) - image).mean() for m in ("malvar", "bilinear")]
    assert errors[0] < 0.5 * errors[1]


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="'malvar', 'bilinear', 'edge_aware' or 'menon'"):
        demosaic(np.zeros((4, 4)), "RGGB", "ahd")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nothing to demosaic"):
        demosaic(np.zeros((4, 4)), "mono")
    with pytest.raises(ValueError, match="nothing to demosaic"):
        demosaic(np.zeros((1, 4)), "RGGB")


def test_black_becomes_zero_and_white_one() -> None:
    np.testing.assert_allclose(subtract_black(np.array([64.0, 1023.0, 0.0]), 64.0, 1023.0), [0, 1, -64 / 959])


def test_white_balance_multiplies_each_channel() -> None:
    image = np.full((2, 2, 3), 0.25, np.float32)
    np.testing.assert_allclose(white_balance(image, (2.0, 1.0, 1.6))[0, 0], [0.5, 0.25, 0.4])


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
