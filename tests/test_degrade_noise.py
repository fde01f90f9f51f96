from __future__ import annotations

import numpy as np
import pytest

from psfbank.degrade import GaussianNoise, ImpulseNoise, PoissonNoise, Quantisation, SpeckleNoise

FLAT = np.full((300, 400), 0.4)


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_gaussian_noise_has_its_sigma_and_is_not_clipped() -> None:
    out = GaussianNoise(0.3)(FLAT, rng())
    assert out.mean() == pytest.approx(0.4, abs=5 * 0.3 / np.sqrt(FLAT.size))
    assert out.std() == pytest.approx(0.3, rel=0.01)
    assert out.min() < 0


def test_grey_noise_is_the_same_in_all_channels() -> None:
    out = GaussianNoise(0.1, grey=True)(np.full((50, 60, 3), 0.5), rng())
    np.testing.assert_array_equal(out[..., 0], out[..., 2])
    coloured = GaussianNoise(0.1)(np.full((50, 60, 3), 0.5), rng())
    assert abs(np.corrcoef(coloured[..., 0].ravel(), coloured[..., 2].ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("peak_e", [3.0, 50.0, 4000.0])
def test_the_variance_of_photons_is_their_mean(peak_e: float) -> None:
    counted = PoissonNoise(peak_e)(FLAT, rng()) * peak_e
    expected = 0.4 * peak_e
    np.testing.assert_allclose(counted, np.rint(counted), rtol=1e-6, atol=1e-5)
    assert counted.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / FLAT.size))
    kurtosis = 3 + 1 / expected
    assert counted.var() == pytest.approx(expected, rel=5 * np.sqrt((kurtosis - 1) / FLAT.size))


def test_negative_light_brings_no_photons() -> None:
    assert not PoissonNoise(100)(np.full((9, 9), -0.2), rng()).any()


def test_impulses_are_as_many_as_asked_for() -> None:
    out = ImpulseNoise(0.2, salt=0.25)(FLAT, rng())
    assert (out == 1).mean() == pytest.approx(0.05, abs=0.003)
    assert (out == 0).mean() == pytest.approx(0.15, abs=0.005)
    np.testing.assert_array_equal(out[(out != 0) & (out != 1)], np.float32(0.4))
    whole = ImpulseNoise(0.2, grey=True)(np.full((80, 90, 3), 0.4), rng())
    np.testing.assert_array_equal(whole[..., 0], whole[..., 1])


@pytest.mark.parametrize("sigma", [0.05, 0.4, 1.0])
def test_speckle_grows_with_the_light(sigma: float) -> None:
    for level in (0.1, 0.8):
        out = SpeckleNoise(sigma)(np.full((300, 400), level), rng())
        assert out.mean() == pytest.approx(level, rel=5 * sigma / np.sqrt(FLAT.size))
        assert out.std() == pytest.approx(sigma * level, rel=0.02)
        assert out.min() >= 0


def test_fully_developed_speckle_is_exponential() -> None:
    out = SpeckleNoise(1.0)(np.ones((300, 400)), rng())
    assert (out > 1).mean() == pytest.approx(np.exp(-1), abs=0.01)


def test_no_noise_changes_nothing() -> None:
    image = rng().random((20, 30)).astype(np.float32)
    for none in (GaussianNoise(0), ImpulseNoise(0), SpeckleNoise(0)):
        np.testing.assert_array_equal(none(image, rng()), image)


@pytest.mark.parametrize("bits", [1, 3, 8, 16])
def test_quantisation_leaves_as_many_values_as_bits_allow(bits: int) -> None:
    ramp = np.linspace(-0.2, 1.2, 10 * 2**bits).reshape(2, -1)
    out = Quantisation(bits)(ramp, rng())
    assert len(np.unique(out)) == 2**bits
    assert (out.min(), out.max()) == (0, 1)
    assert np.abs(out - np.clip(ramp, 0, 1)).max() <= 0.5 / (2**bits - 1) + 1e-6
