"""Blurred steps give back the OTF of what is like them, with few terms; what they say of their noise is so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from edge_charts import Blur, profile_of
from scipy.special import ndtr

from calib.edge.trunk import TERMS, Estimate, Profile, fit_trunk

FREQ_CPP = np.arange(129) / 128
FINE_PX = np.arange(-128, 129) / 8
ANGLE = 0.1
GAUSSIAN_PARAMETERS = 5  # two levels, light, place, width

Array = npt.NDArray[np.float64]


def fitted(profile: Profile, blur_px: float) -> Estimate:
    return fit_trunk(profile, blur_px, FREQ_CPP, FINE_PX)


def parameters(estimate: Estimate) -> float:
    """Number of columns in use: the trace of the matrix that makes the ESF of the samples."""
    return float(np.trace(estimate.esf_of))


def noise_of(estimate: Estimate, profile: Profile) -> Array:
    """Standard deviation of the OTF (F,), from that of the samples."""
    return np.asarray(np.linalg.norm(estimate.otf_of / np.sqrt(profile.weight), axis=1))


@pytest.mark.parametrize("sigma_px", [0.3, 0.9, 2.5])
@pytest.mark.parametrize("shift_px", [0.0, 0.31])
def test_a_gaussian_is_exact(sigma_px: float, shift_px: float) -> None:
    """The OTF is about its own middle, wherever that lies."""
    blur = Blur(sigma_px)
    found = fitted(profile_of(lambda x: 0.2 + 0.6 * blur.esf(x - shift_px, ANGLE)), 1.2 * sigma_px)

    np.testing.assert_allclose(found.otf, 0.6 * blur.otf(FREQ_CPP, ANGLE), atol=1e-8)
    np.testing.assert_allclose(found.fine_esf, 0.2 + 0.6 * blur.esf(FINE_PX - shift_px, ANGLE), atol=1e-8)
    np.testing.assert_allclose(found.fine_lsf, np.gradient(found.fine_esf, FINE_PX), atol=0.03 / sigma_px**3)
    assert (found.middle_px, found.blur_px) == pytest.approx((shift_px, sigma_px), rel=1e-6, abs=1e-7)
    assert parameters(found) < GAUSSIAN_PARAMETERS + 0.2


def test_noise_asks_for_no_terms() -> None:
    used = [parameters(fitted(profile_of(lambda x: Blur(0.8).esf(x, 0.0), 0.01, seed), 0.9)) for seed in range(12)]

    assert np.median(used) < GAUSSIAN_PARAMETERS + 0.3
    assert max(used) < GAUSSIAN_PARAMETERS + 3


@pytest.mark.parametrize(("sigma_px", "most"), [(0.3, 2e-4), (0.5, 2e-4), (0.8, 3e-4)])
@pytest.mark.parametrize("angle_deg", [5.0, 26.565, 45.0])
def test_a_pixel_is_told_by_more_terms(sigma_px: float, most: float, angle_deg: float) -> None:
    blur, angle = Blur(sigma_px, pixel=True), np.radians(angle_deg)
    found = fitted(profile_of(lambda x: blur.esf(x, angle)), sigma_px)

    np.testing.assert_allclose(np.abs(found.otf), np.abs(blur.otf(FREQ_CPP, angle)), atol=most)
    assert GAUSSIAN_PARAMETERS + 1 < parameters(found) <= GAUSSIAN_PARAMETERS + max(TERMS)


@pytest.mark.parametrize("half_width_px", [1.6, 3.0, 5.0])
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_wings_of_a_lorentzian_keep_their_share(half_width_px: float, share: float) -> None:
    """A tenth and more of the light far out: a window that cut it off would raise every low frequency."""
    sigma = 0.8

    def esf(x: Array) -> Array:
        return (1 - share) * ndtr(x / sigma) + share * (0.5 + np.arctan(x / half_width_px) / np.pi)

    found = fitted(profile_of(esf), sigma)
    gaussian = np.exp(-2 * (np.pi * FREQ_CPP * sigma) ** 2)
    true = (1 - share) * gaussian + share * np.exp(-2 * np.pi * FREQ_CPP * half_width_px)

    assert found.otf[0].real == pytest.approx(1, abs=3e-3)
    np.testing.assert_allclose(np.abs(found.otf) / found.otf[0].real, true, atol=3e-3)


def test_a_lean_stays_on_its_side() -> None:
    """A second, weaker step on the bright side: mirrored in place and level, the OTF is conjugate."""

    def esf(x: Array) -> Array:
        return 0.8 * ndtr(x / 0.6) + 0.2 * ndtr((x - 1.2) / 0.9)

    found = fitted(profile_of(esf), 0.7)
    mirrored = fitted(profile_of(lambda x: 1 - esf(-x)), 0.7)
    w = 2 * np.pi * FREQ_CPP
    true = 0.8 * np.exp(-0.5 * (0.6 * w) ** 2) + 0.2 * np.exp(-0.5 * (0.9 * w) ** 2 - 1.2j * w)
    still = found.otf * np.exp(-1j * w * found.middle_px)

    np.testing.assert_allclose(still, true, atol=2e-3)
    np.testing.assert_allclose(mirrored.otf, found.otf.conj(), atol=1e-4)
    assert np.abs(np.angle(true * np.exp(1j * w * found.middle_px))[FREQ_CPP < 0.5]).max() > 0.1, "it leans indeed"


@pytest.mark.parametrize(
    ("pitch_px", "sigma_px"),
    [(5**-0.5, 0.25), (5**-0.5, 0.5), (10**-0.5, 0.25), (2**-0.5, 0.25), (2**-0.5, 0.5), (1.0, 0.5)],
)
def test_phases_that_cluster_do_not_blow_up(pitch_px: float, sigma_px: float) -> None:
    """Samples of few phases, as along a critical angle: up to the frequency that they tell, noise stays noise."""
    told = min(0.5, 0.45 / pitch_px) > FREQ_CPP
    rng = np.random.default_rng(2)
    place = pitch_px * np.arange(-60, 61).repeat(4) + rng.normal(0, 0.01, 484)
    noise = 0.01
    profile = profile_of(lambda x: Blur(sigma_px, pixel=True).esf(x, ANGLE), noise, 4, np.sort(place))
    found = fitted(profile, sigma_px)

    error = np.abs(np.abs(found.otf) / found.otf[0].real - Blur(sigma_px, pixel=True).otf(FREQ_CPP, ANGLE))
    assert error[told].max() < 10 * noise
    assert error.max() < 0.2
    assert noise_of(found, profile)[told].max() < 3 * noise


@pytest.mark.parametrize("noise", [0.003, 0.02])
@pytest.mark.parametrize("change", [lambda x: np.exp(-(((x - 0.3) / 1.3) ** 2)), lambda x: np.cos(1.7 * x)])
def test_derivatives_are_those_of_the_fit(noise: float, change: Callable[[Array], Array]) -> None:
    """Around a Gaussian a change of place and width is one of terms as well, so fixed columns lose nothing by it."""
    profile = replace(profile_of(lambda x: Blur(0.9).esf(x, 0.0)), weight=np.full(500, noise**-2))
    step = 1e-2 * noise * change(profile.x_px)
    low, base, high = (fitted(replace(profile, value=profile.value + s * step), 0.9) for s in (-1, 0, 1))

    # what the Gaussian moves by, it takes from the terms: the whole must not know
    phases = [e.otf * np.exp(-2j * np.pi * FREQ_CPP * e.middle_px) for e in (low, high)]
    otf_of = base.otf_of * np.exp(-2j * np.pi * FREQ_CPP * base.middle_px)[:, None]
    size = np.abs(otf_of @ step).max()
    np.testing.assert_allclose((phases[1] - phases[0]) / 2, otf_of @ step, atol=0.02 * size)
    np.testing.assert_allclose((high.esf - low.esf) / 2, base.esf_of @ step, atol=0.02 * np.abs(step).max())
    np.testing.assert_allclose(base.esf_of @ profile.value, base.esf, atol=1e-10)
    np.testing.assert_allclose(base.otf_of @ profile.value, base.otf, atol=1e-10)


def test_the_noise_that_is_said_is_that_of_repetitions() -> None:
    found = [profile_of(lambda x: Blur(0.8).esf(x, 0.0), 0.01, seed) for seed in range(60)]
    estimates = [fitted(profile, 0.8) for profile in found]
    scatter = np.std([np.abs(e.otf) for e in estimates], axis=0)
    said = np.median(
        [np.hypot(noise_of(e, p), np.linalg.norm(e.spread, axis=0)) for e, p in zip(estimates, found, strict=True)],
        axis=0,
    )
    told = (FREQ_CPP < 0.5) & (FREQ_CPP > 0.05)

    assert 0.6 < np.median(said[told] / scatter[told]) < 1.5


def test_light_across_the_edge_is_no_blur() -> None:
    blur = Blur(0.7)
    found = fitted(profile_of(lambda x: (0.1 + 0.7 * blur.esf(x, 0.0)) * (1 + 2e-3 * x)), 0.7)

    np.testing.assert_allclose(np.abs(found.otf) / found.otf[0].real, blur.otf(FREQ_CPP, 0.0), atol=1e-3)
    assert np.ptp(found.fine_esf[FINE_PX > 6]) < 1e-3, "told flat"


@pytest.mark.parametrize("count", [8, 12, 22, 26])
def test_fewer_samples_than_columns_have_the_terms_that_they_can_tell(count: int) -> None:
    """As along the diagonal, where all sites fall on few distances."""
    blur = Blur(2.0)
    found = fitted(profile_of(lambda x: blur.esf(x, 0.0), 1e-3, 1, np.linspace(-8, 8, count)), 2.0)

    np.testing.assert_allclose(np.abs(found.otf) / found.otf[0].real, blur.otf(FREQ_CPP, 0.0), atol=0.03)
    assert parameters(found) < count
