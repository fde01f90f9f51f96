from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank.degrade import Barrel, Fisheye, Pincushion
from psfbank.degrade.geometry import PROJECTIONS, undistorted_radius

HEIGHT, WIDTH = 121, 161
CENTRE = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
HALF_DIAGONAL = np.hypot(HEIGHT, WIDTH) / 2


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def blob(x: float, y: float, sigma: float = 2.5) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))


def centroid(image: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    peak = np.unravel_index(np.argmax(image), image.shape)
    near = np.where(np.hypot(x - peak[1], y - peak[0]) < 12, image.astype(np.float64), 0)
    return np.array([(near * x).sum(), (near * y).sum()]) / near.sum()


@pytest.mark.parametrize("degradation", [Barrel(-0.12), Barrel(-0.2, 0.1), Pincushion(0.2), Pincushion(-0.1, 0.3)])
@pytest.mark.parametrize(("x", "y"), [(110.0, 75.0), (40.0, 30.0), (80.0, 95.0)])
def test_a_place_moves_along_its_radius_as_brown_says(degradation: Barrel | Pincushion, x: float, y: float) -> None:
    off = (np.array([x, y]) - CENTRE) / HALF_DIAGONAL
    r2 = off @ off
    expected = CENTRE + HALF_DIAGONAL * off * (1 + degradation.k1 * r2 + degradation.k2 * r2**2)
    np.testing.assert_allclose(centroid(degradation(blob(x, y), rng())), expected, atol=0.06)


@given(k1=st.floats(-0.6, 0.6), k2=st.floats(-0.4, 0.4))
def test_what_does_not_fold_is_monotone_and_inverted(k1: float, k2: float) -> None:
    ideal = np.linspace(0, 3, 5000)
    distorted = ideal * (1 + k1 * ideal**2 + k2 * ideal**4)
    reaches = np.flatnonzero(distorted >= 1)
    folds = np.flatnonzero(np.diff(distorted) < 0.03 * ideal[1])
    if len(reaches) and (not len(folds) or reaches[0] < folds[0] - 60):
        radius = np.linspace(0, 1, 300)
        back = undistorted_radius(k1, k2)(radius)
        assert np.all(np.diff(back) > 0)
        np.testing.assert_allclose(back * (1 + k1 * back**2 + k2 * back**4), radius, atol=1e-6)
    elif not len(reaches) or (len(folds) and folds[0] < reaches[0] - 60):
        with pytest.raises(ValueError, match="folds over"):
            undistorted_radius(k1, k2)


def test_wrong_signs_and_folds_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="pincushion, not a barrel"):
        Barrel(0.1)
    with pytest.raises(ValueError, match="barrel, not a pincushion"):
        Pincushion(-0.1)
    with pytest.raises(ValueError, match="folds over before it reaches the corners"):
        Barrel(-0.3)
    with pytest.raises(ValueError, match="mirror, black"):
        Barrel(beyond="white")


def test_no_distortion_changes_nothing() -> None:
    image = rng().random((40, 51, 3)).astype(np.float32)
    for none in (Barrel(0.0), Pincushion(0.0)):
        np.testing.assert_allclose(none(image, rng()), image, atol=1e-4)


def test_what_lies_beyond_is_a_mirror_image_or_black() -> None:
    image = np.ones((90, 120, 3))
    np.testing.assert_allclose(Barrel(-0.14)(image, rng()), 1, atol=1e-5)
    black = Barrel(-0.14, beyond="black")(image, rng())
    assert not black[0, 0].any()
    assert not black[-1, -1].any()
    np.testing.assert_allclose(black[30:60, 40:80], 1, atol=1e-5)
    assert set(np.unique(np.round(black, 4))) == {0.0, 1.0}
    assert np.all(Pincushion(0.2, beyond="black")(image, rng()) > 0.99), "a pincushion never leaves the picture"


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_a_fisheye_puts_angles_where_its_projection_says(projection: str) -> None:
    field_deg = 100.0
    corner = np.radians(field_deg / 2)
    law = {
        "equidistant": lambda t: t,
        "equisolid": lambda t: 2 * np.sin(t / 2),
        "stereographic": lambda t: 2 * np.tan(t / 2),
        "orthographic": np.sin,
    }[projection]
    place = np.array([100.0, 75.0])
    off = place - CENTRE
    radius = np.hypot(*off) / HALF_DIAGONAL
    angle = np.arctan(radius * np.tan(corner))
    expected = CENTRE + off * (law(angle) / law(corner)) / radius
    np.testing.assert_allclose(centroid(Fisheye(field_deg, projection)(blob(*place), rng())), expected, atol=0.15)


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_a_fisheye_of_a_narrow_field_changes_little_and_corners_stay(projection: str) -> None:
    fisheye = Fisheye(2.0, projection)
    radius = np.linspace(0, 1, 50)
    np.testing.assert_allclose(fisheye.source_radius(radius), radius, atol=1e-4)
    assert Fisheye(140.0, projection).source_radius(np.array([1.0]))[0] == pytest.approx(1)
    assert np.all(np.diff(Fisheye(140.0, projection).source_radius(radius)) > 0)


def test_where_a_picture_shrinks_fine_detail_is_held_back() -> None:
    """An equidistant view of 150 degrees shrinks the corners five times: fine stripes turn grey there."""
    stripes = np.tile(0.5 + 0.5 * np.cos(2 * np.pi * np.arange(300) / 3), (300, 1))
    out = Fisheye(150.0)(stripes, rng())
    np.testing.assert_allclose(out[4:12, 4:12], 0.5, atol=0.01)
    assert np.ptp(out[140:160, 140:160]) > 0.9
