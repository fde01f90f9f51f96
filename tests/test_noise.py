"""Noise between calibrated ISO speeds against the physics of an amplifier between two sources of noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank.errors import OutOfFieldError
from psfbank.noise import NoiseByIso

ISO = np.array([100.0, 400.0, 3200.0])
BASE = np.array([0.2, 0.25, 0.3])  # DN/e at ISO 100
BEFORE_E, BEHIND_DN = 1.2, 0.8


def read_noise_e(gain: np.ndarray) -> np.ndarray:
    return np.hypot(BEFORE_E, BEHIND_DN / gain)


def sensor(iso: np.ndarray = ISO, power: float = 1.0) -> NoiseByIso:
    gain = BASE * (iso[:, None] / 100) ** power
    one = np.ones_like(gain)
    black = 64 + np.log2(iso[:, None] / 100) * one
    return NoiseByIso(iso, gain, read_noise_e(gain), 5 * one, 0.01 * one, black, 4095 * one)


@given(st.floats(100, 3200), st.floats(0.8, 1.1))
def test_gain_follows_the_dial_and_read_noise_its_two_sources(iso: float, power: float) -> None:
    found = sensor(power=power).at(iso)
    gain = BASE * (iso / 100) ** power
    np.testing.assert_allclose(found.gain_dn_per_e, gain, rtol=1e-9)
    np.testing.assert_allclose(found.read_noise_e, read_noise_e(gain), rtol=1e-7)
    np.testing.assert_allclose(found.black_dn, 64 + np.log2(iso / 100), rtol=1e-9)
    np.testing.assert_allclose(found.white_dn, 4095)
    np.testing.assert_allclose(found.prnu, 0.01)


@pytest.mark.parametrize("index", range(3))
def test_a_calibrated_speed_is_itself(index: int) -> None:
    by_iso = sensor()
    found = by_iso.at(float(ISO[index]) * (1 + 1e-12))
    for name in ("gain_dn_per_e", "read_noise_e", "dark_e_per_s", "prnu", "black_dn", "white_dn"):
        np.testing.assert_array_equal(getattr(found, name), getattr(by_iso, name)[index])


@pytest.mark.parametrize("iso", [50.0, 99.9, 3201.0, 102400.0])
def test_there_is_no_answer_beyond_what_was_calibrated(iso: float) -> None:
    with pytest.raises(OutOfFieldError, match=rf"iso = {iso:g} lies beyond 100 \.\. 3200"):
        sensor().at(iso)


def test_speeds_of_one_gain_are_mixed_evenly() -> None:
    """Of a camera that brightens digitally the raw gain stays, and so does what depends on it."""
    by_iso = sensor(power=0.0)
    read_e = by_iso.read_noise_e * np.array([1.0, 1.1, 1.2])[:, None]
    found = replace(by_iso, read_noise_e=read_e).at(200.0)
    np.testing.assert_allclose(found.gain_dn_per_e, BASE)
    np.testing.assert_allclose(found.read_noise_e**2, (read_e[0] ** 2 + read_e[1] ** 2) / 2)


def test_read_noise_stays_between_its_neighbours_whatever_they_are() -> None:
    """Two sources explain no noise that rises with gain, as where a pixel changes its conversion."""
    rising = replace(sensor(), read_noise_e=np.array([1.0, 2.0, 1.5])[:, None] * np.ones((3, 3)))
    found = np.array([rising.at(float(iso)).read_noise_e for iso in np.geomspace(100, 400, 9)])
    assert (np.diff(found, axis=0) > 0).all()
    assert ((found >= 1) & (found <= 2)).all()


def test_what_is_unknown_at_one_speed_is_taken_from_the_other() -> None:
    unknown = np.array([np.nan, 5, 5])[:, None] * np.ones((3, 3))
    by_iso = replace(sensor(), dark_e_per_s=unknown, prnu=unknown / 500, read_noise_e=unknown)
    found = by_iso.at(200.0)
    np.testing.assert_allclose(found.dark_e_per_s, 5)
    np.testing.assert_allclose(found.prnu, 0.01)
    assert np.isnan(found.read_noise_e).all()  # it depends on the speed, and no neighbour tells how


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iso": [100.0, 100.0, 200.0]}, "increase strictly"),
        ({"iso": [-1.0, 100.0, 200.0]}, "positive speeds"),
        ({"gain_dn_per_e": np.zeros((3, 3))}, "must be positive"),
        ({"gain_dn_per_e": np.full((3, 3), np.inf)}, "not finite"),
        ({"prnu": np.zeros((2, 3))}, "`prnu` must have shape"),
        ({"white_dn": np.zeros((3, 3))}, "above `black_dn`"),
    ],
)
def test_what_is_no_noise_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(sensor(), **changes)


def test_one_speed_is_no_series() -> None:
    with pytest.raises(ValueError, match="two positive speeds"):
        sensor(np.array([100.0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gain_dn_per_e": [np.inf] * 3}, "not finite"),
        ({"white_dn": [np.inf] * 3}, "not finite"),
        ({"black_dn": [np.nan] * 3}, "not finite"),
        ({"read_noise_e": [np.inf] * 3}, "finite, or NaN"),
        ({"read_noise_e": [-1.0] * 3}, "must not be negative"),
        ({"prnu": [-0.1] * 3}, "must not be negative"),
    ],
)
def test_a_model_that_no_sensor_can_have_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(sensor().at(100), **changes)
