from __future__ import annotations

import numpy as np
import pytest

from psfbank.sensor import cfa_sites, digitise, mosaic, read_out


@pytest.mark.parametrize(
    ("cfa", "top", "bottom"),
    [("RGGB", [0, 1, 0], [1, 2, 1]), ("BGGR", [2, 1, 2], [1, 0, 1]), ("GRBG", [1, 0, 1], [2, 1, 2])],
)
def test_sites_repeat_the_pattern_from_the_top_left(cfa: str, top: list[int], bottom: list[int]) -> None:
    np.testing.assert_array_equal(cfa_sites(cfa, (3, 3)), [top, bottom, top])


def test_a_monochrome_sensor_has_one_kind_of_site() -> None:
    assert not cfa_sites("mono", (3, 5)).any()


@pytest.mark.parametrize("cfa", ["RGB", "RGBW", ""])
def test_what_is_no_mosaic_is_refused(cfa: str) -> None:
    with pytest.raises(ValueError, match="2 x 2 mosaic"):
        cfa_sites(cfa, (4, 4))


def test_a_mosaic_keeps_the_colour_of_each_site() -> None:
    image = np.broadcast_to(np.array([0.1, 0.2, 0.3], np.float32), (5, 6, 3))
    np.testing.assert_allclose(mosaic(image, "GBRG")[:2, :2], [[0.2, 0.3], [0.1, 0.2]])


@pytest.mark.parametrize("expected_e", [0.0, 3.0, 200.0])
def test_mean_and_variance_follow_the_photon_transfer_line(expected_e: float) -> None:
    """EMVA 1288: the variance of electrons is the signal plus the squared read noise."""
    read = read_out(np.full((400, 500), expected_e), 2.5, np.random.default_rng(0))
    variance = expected_e + 2.5**2

    assert read.mean() == pytest.approx(expected_e, abs=5 * np.sqrt(variance / read.size))
    kurtosis = 3 + expected_e / variance**2  # of a Poisson variate plus a Gaussian one
    assert read.var() == pytest.approx(variance, rel=5 * np.sqrt((kurtosis - 1) / read.size))


def test_read_noise_may_differ_by_site() -> None:
    noise = np.where(cfa_sites("RGGB", (300, 300)) == 1, 1.0, 4.0)
    read = read_out(np.zeros((300, 300)), noise, np.random.default_rng(1))

    assert read[noise == 1].std() == pytest.approx(1.0, rel=0.03)
    assert read[noise == 4].std() == pytest.approx(4.0, rel=0.03)


def test_a_seed_gives_the_same_noise_again() -> None:
    signal = np.full((20, 20), 50.0)
    first = read_out(signal, 2.0, np.random.default_rng(7))
    np.testing.assert_array_equal(read_out(signal, 2.0, np.random.default_rng(7)), first)
    assert np.any(read_out(signal, 2.0, np.random.default_rng(8)) != first)


def test_digital_numbers_are_whole_and_stay_within_the_range() -> None:
    dn = digitise(np.array([-500.0, 0.0, 10.0, 13.0, 1e9]), 0.5, 64.0, 1023.0)
    np.testing.assert_array_equal(dn, [0, 64, 69, 70, 1023])


def test_quantisation_adds_a_twelfth_of_a_step_to_the_variance() -> None:
    signal = np.random.default_rng(2).uniform(100, 200, 100_000)
    error = digitise(signal, 0.7, 64.0, 1023.0) - (64 + 0.7 * signal)
    assert error.var() == pytest.approx(1 / 12, rel=0.02)
