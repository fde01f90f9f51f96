"""Levels and demosaic; the other parts of the ISP have files of their own."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from psfbank.errors import ImageError
from psfbank.isp import Method, demosaic, subtract_black, white_balance
from psfbank.isp.demosaic import STRIP_PIXELS
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


@pytest.mark.parametrize("method", METHODS)
def test_a_pattern_that_starts_a_site_later_is_the_same_picture(method: Method) -> None:
    """RGGB from its second column on is GRBG, from its second row on GBRG."""
    raw = np.random.default_rng(1).random((24, 26)).astype(np.float32)
    raw[3, 4], raw[-4, 5] = 0, 1  # so that every cut has the same range, and "edge_aware" the same steps
    whole = demosaic(raw, "RGGB", method)
    for cfa, row, column in (("GRBG", 0, 1), ("GBRG", 1, 0), ("BGGR", 1, 1)):
        part = demosaic(np.ascontiguousarray(raw[row:, column:]), cfa, method)
        np.testing.assert_allclose(part[4:-4, 4:-4], whole[row:, column:][4:-4, 4:-4], atol=1e-6)


@pytest.mark.parametrize("method", ["malvar", "bilinear"])
def test_a_picture_of_many_strips_has_no_seams(method: Method) -> None:
    raw = np.random.default_rng(2).random((50, STRIP_PIXELS // 8), dtype=np.float32)
    image = demosaic(raw, "GBRG", method)
    for top in (0, 6, 14, 40):
        part = demosaic(raw[top : top + 10, :300], "GBRG", method)
        np.testing.assert_array_equal(image[top + 2 : top + 8, :290], part[2:8, :290])


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


@pytest.mark.filterwarnings("ignore")  # of the peer's own imports
@pytest.mark.parametrize("cfa", PATTERNS)
def test_malvar_and_menon_are_those_of_colour_demosaicing(cfa: str) -> None:
    peer = pytest.importorskip("colour_demosaicing", exc_type=ImportError)
    raw = np.random.default_rng(3).random((40, 46))
    theirs = peer.demosaicing_CFA_Bayer_Malvar2004(raw, cfa)
    # at the edges they mirror about half a pixel, where the colours are not those of the pattern
    np.testing.assert_allclose(demosaic(raw, cfa, "malvar")[2:-2, 2:-2], theirs[2:-2, 2:-2], atol=1e-6)
    theirs = peer.demosaicing_CFA_Bayer_Menon2007(raw, cfa)
    np.testing.assert_allclose(demosaic(raw, cfa, "menon"), theirs, atol=1e-6)


def test_menon_asks_for_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "colour_demosaicing", None)
    with pytest.raises(ImageError, match=r"pip install 'psfbank\[menon\]'"):
        demosaic(np.zeros((4, 4)), "RGGB", "menon")


def test_bilinear_is_that_of_opencv() -> None:
    raw = np.random.default_rng(4).integers(0, 65536, (20, 24)).astype(np.uint16)
    theirs = cv2.cvtColor(raw, cv2.COLOR_BayerBG2RGB)  # OpenCV's name for RGGB
    ours = demosaic(raw.astype(np.float32), "RGGB", "bilinear")
    np.testing.assert_allclose(ours[2:-2, 2:-2], theirs[2:-2, 2:-2], atol=1)  # their rounding


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


@pytest.mark.parametrize("cfa", PATTERNS)
def test_a_mosaic_is_balanced_as_its_picture(cfa: str) -> None:
    image = np.random.default_rng(5).random((7, 5, 3)).astype(np.float32)
    before = image.copy()
    balanced = white_balance(mosaic(image, cfa), (2.0, 1.0, 1.6), cfa)
    np.testing.assert_array_equal(balanced, mosaic(white_balance(image, (2.0, 1.0, 1.6)), cfa))
    np.testing.assert_array_equal(image, before)


def test_what_every_channel_overexposes_is_white_after_the_gains() -> None:
    assert white_balance(np.ones((2, 2)), (2.0, 1.0, 1.6), "RGGB", white=1.0).tolist() == [[1, 1], [1, 1]]
