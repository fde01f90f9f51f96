from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import trapezoid

from psfbank.degrade import Turbulence
from psfbank.degrade.turbulence import KOLMOGOROV, Layer, zernike_transform
from psfbank.zernike import Pupil, noll_terms

DRAWS = 700
APART = np.array([0.0, 0.2, 1.0, 3.0])  # apertures
TERMS = noll_terms(2, 11)
# Noll, table IV: D / r0 = 1, radians squared; 0.449 is the tilt of Fried
VARIANCES = np.array([0.449, 0.449, 0.0232, 0.0232, 0.0232, 0.00619, 0.00619, 0.00619, 0.00619, 0.00245])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def coefficients() -> np.ndarray:
    """Coefficients (draws, places along x, terms)."""
    return np.array([Layer.drawn(rng(s)).coefficients(TERMS, APART, np.zeros(1))[0] for s in range(DRAWS)])


def test_the_spectrum_integrates_to_the_variances_of_noll() -> None:
    k = np.geomspace(1e-9, 30, 20001)
    turned = [np.stack([k * np.cos(a), k * np.sin(a)], axis=-1) for a in np.pi * np.arange(12) / 12]
    seen = np.mean([np.abs(zernike_transform(TERMS, f / 2)) ** 2 for f in turned], axis=0)
    variance = trapezoid(seen * KOLMOGOROV * k ** (-11 / 3) * 2 * np.pi * k**2, np.log(k), axis=1)
    np.testing.assert_allclose(variance, VARIANCES, rtol=0.01)


def test_what_is_drawn_has_the_covariance_of_noll(coefficients: np.ndarray) -> None:
    at = coefficients[:, 0]
    covariance = at.T @ at / DRAWS
    np.testing.assert_allclose(np.diag(covariance), VARIANCES, rtol=4 * np.sqrt(2 / DRAWS))
    assert np.mean(np.diag(covariance) / VARIANCES) == pytest.approx(1, abs=4 * np.sqrt(2 / DRAWS / len(TERMS)))
    tilt_x, coma_x, defocus, spherical = 0, 6, 2, 9
    assert covariance[tilt_x, coma_x] == pytest.approx(-0.0142, abs=4 * np.sqrt(0.449 * 0.0062 / DRAWS))
    assert covariance[defocus, spherical] == pytest.approx(-0.0039, abs=4 * np.sqrt(0.0232 * 0.0025 / DRAWS))
    assert abs(covariance[0, 1]) < 4 * 0.449 / np.sqrt(DRAWS)


def test_neighbours_share_their_air_and_tilts_reach_farthest(coefficients: np.ndarray) -> None:
    c = coefficients
    near, apart, far = (np.mean(c[:, 0] * c[:, k], axis=0) / np.mean(c[:, 0] ** 2, axis=0) for k in (1, 2, 3))
    assert np.all(near[:5] > 0.65)
    assert np.all(near > apart)
    assert apart[0] > apart[2]
    np.testing.assert_allclose(far[2:], 0, atol=0.2)
    # along the separation tilts decorrelate faster than across it (Takato and Yamaguchi, 1995)
    assert far[1] > far[0] + 0.1
    assert far[0] > 0.1


@pytest.mark.parametrize("frequency", [(0.3, 0.0), (0.4, 0.7), (-1.0, 0.5)])
def test_each_term_sees_a_wave_through_its_own_transform(frequency: tuple[float, float]) -> None:
    pupil = Pupil.of(401)
    inside = pupil.circle()
    wave = np.exp(2j * np.pi * (frequency[0] * pupil.x + frequency[1] * pupil.y))
    terms = noll_terms(2, 15)
    seen = (pupil.basis(terms) * inside * wave).sum((1, 2)) / inside.sum()
    np.testing.assert_allclose(zernike_transform(terms, np.array([frequency]))[:, 0], seen, atol=3e-4)


def test_tilts_move_the_picture_by_the_variance_of_fried() -> None:
    """0.449 (D / r0)^(5/3) rad^2 an axis; a wavefront of a waves moves an image by 4 N a lambda."""
    turbulence = Turbulence(5.0, 100.0, wavelength_nm=600.0, f_number=4.0, pitch_um=3.0)
    moved = [turbulence.displacement_px(Layer.drawn(rng(s)), (20, 20))[2][0, 0] for s in range(DRAWS)]
    per_rad_px = 4 * 4.0 * 0.6 / (2 * np.pi) / 3.0
    variance = 0.449 * 5.0 ** (5 / 3) * per_rad_px**2
    np.testing.assert_allclose(np.var(moved, axis=0), variance, rtol=4 * np.sqrt(2 / DRAWS))


def test_a_point_goes_where_its_tilt_sends_it() -> None:
    turbulence = Turbulence(6.0, 400.0, f_number=8.0, pitch_um=2.0)
    point = np.zeros((101, 121))
    point[50, 60] = 1
    for seed in range(3):
        out = turbulence(point, rng(seed)).astype(np.float64)
        x_px, y_px, moved = turbulence.displacement_px(Layer.drawn(rng(seed)), point.shape)
        j, i = np.abs(y_px - 50).argmin(), np.abs(x_px - 60).argmin()
        y, x = np.mgrid[:101, :121]
        centre = np.array([(out * x).sum(), (out * y).sum()]) / out.sum()
        assert np.hypot(*moved[j, i]) > 1
        np.testing.assert_allclose(centre - [60, 50], moved[j, i], atol=0.35 + 0.1 * np.hypot(*moved[j, i]))


def test_calm_air_leaves_the_lens_alone() -> None:
    point = np.zeros((61, 61, 3))
    point[30, 30] = 1
    out = Turbulence(0.0)(point, rng())
    np.testing.assert_allclose(out, out[::-1], atol=1e-6)
    np.testing.assert_allclose(out, out[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(out[..., 0], out[..., 2])
    assert out[30, 30, 0] > 0.1


def test_stronger_turbulence_blurs_more() -> None:
    image = np.random.default_rng(0).random((90, 90))
    contrast = [Turbulence(s, 60.0)(image, rng(2))[20:-20, 20:-20].std() for s in (0, 3, 8)]
    assert contrast[0] > contrast[1] > contrast[2]
