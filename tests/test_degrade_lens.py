from __future__ import annotations

import numpy as np
import pytest
from scipy.special import j1

from psfbank.degrade import Defocus, GaussianBlur, OpticalLowPass, RandomZernike, ZernikeBlur
from psfbank.degrade.kernels import disc, gaussian
from psfbank.degrade.lens import DIFFUSION_PX
from psfbank.errors import ImageError
from psfbank.metrics import mtf_along
from psfbank.zernike import centroid_px, effective_psf, noll_terms


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def wave(freq_x: float, freq_y: float, size: int = 96) -> np.ndarray:
    y, x = np.mgrid[:size, :size] + 0.5
    return np.cos(2 * np.pi * freq_x * x) * np.cos(2 * np.pi * freq_y * y)


@pytest.mark.parametrize("diameter_px", [4.0, 9.3, 25.0])
@pytest.mark.parametrize("angle", [0.0, 0.5, np.pi / 2])
def test_a_disc_transfers_as_a_jinc(diameter_px: float, angle: float) -> None:
    freq = np.linspace(0.01, 0.2, 40)
    at = np.pi * diameter_px * freq
    of_the_pixel = np.sinc(freq * np.cos(angle)) * np.sinc(freq * np.sin(angle))
    expected = np.abs(2 * j1(at) / at * of_the_pixel)
    np.testing.assert_allclose(mtf_along(disc(diameter_px), angle, freq), expected, atol=0.012)


@pytest.mark.parametrize("diameter_px", [0.0, 0.01, 0.5, 1.0, 3.3, 50.7])
def test_a_disc_has_its_area_and_a_graded_edge(diameter_px: float) -> None:
    kernel = disc(diameter_px)
    assert kernel.sum() == pytest.approx(1)
    for other in (kernel.T, kernel[::-1], kernel[:, ::-1]):
        np.testing.assert_allclose(kernel, other, atol=1e-15)
    if diameter_px > 2:
        full = np.pi * (diameter_px / 2) ** 2
        assert 1 / kernel.max() == pytest.approx(full, rel=1e-3), "pixels wholly inside have one share of the area"
    assert len(kernel) == 1 or kernel[0].max() > 0, "not a row too many"


def test_a_disc_grows_smoothly() -> None:
    peaks = [disc(d)[len(disc(d)) // 2, len(disc(d)) // 2] for d in np.linspace(0, 8, 200)]
    assert np.all(np.diff(peaks) <= 1e-12)
    assert np.abs(np.diff(peaks)).max() < 0.1


def test_a_gaussian_lies_along_its_angle() -> None:
    kernel = gaussian(4.0, 1.5, 30.0)
    y, x = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
    angle = np.radians(30)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)

    assert (kernel * along**2).sum() == pytest.approx(16, rel=0.01)
    assert (kernel * across**2).sum() == pytest.approx(2.25, rel=0.01)
    assert (kernel * x * y).sum() > 1, "30 degrees are to the right and down"


def test_no_blur_changes_nothing() -> None:
    image = rng().random((20, 30)).astype(np.float32)
    for none in (Defocus(0), GaussianBlur(0), OpticalLowPass(0)):
        np.testing.assert_allclose(none(image, rng()), image, atol=1e-6)


@pytest.mark.parametrize("separation_px", [0.8, 1.0, 1.3])
def test_the_optical_low_pass_transfers_as_a_cosine(separation_px: float) -> None:
    for freq_x, freq_y in ((12 / 96, 0.0), (0.25, 0.125), (40 / 96, 30 / 96)):
        image = wave(freq_x, freq_y)
        transfer = np.cos(np.pi * separation_px * freq_x) * np.cos(np.pi * separation_px * freq_y)
        np.testing.assert_allclose(OpticalLowPass(separation_px)(image, rng()), transfer * image, atol=1e-5)


def test_the_optical_low_pass_is_blind_at_its_zero() -> None:
    assert np.abs(OpticalLowPass(1.25)(wave(0.4, 0.0, 80), rng())).max() < 1e-5


def test_four_points_of_a_point() -> None:
    point = np.zeros((33, 33))
    point[16, 16] = 1
    out = OpticalLowPass(4.0)(point, rng())
    np.testing.assert_allclose(out[[14, 14, 18, 18], [14, 18, 14, 18]], 0.25, atol=1e-5)
    assert np.abs(out).sum() == pytest.approx(1, abs=1e-3)


def test_a_wavefront_blurs_as_its_effective_psf() -> None:
    """The coma of Noll's seventh term lies along y, its tail where the wavefront sends it."""
    blur = ZernikeBlur((60.0, 0.0, 0.0, 70.0), f_number=2.8, pitch_um=2.0)
    kernel = blur.kernel()
    half = len(kernel) // 2
    expected = effective_psf(
        np.array(blur.coefficients_nm),
        noll_terms(4, 7),
        wavelengths_nm=np.array([550.0]),
        weights=np.ones(1),
        f_number=2.8,
        pitch_um=2.0,
        half_px=half,
        oversample=8,
        diffusion_px=DIFFUSION_PX,
    )
    at = np.arange(-half * 8, half * 8 + 1) / 8
    cx, cy = centroid_px(expected, 8)
    third = np.sum(expected.sum(1) * (at - cy) ** 3)
    np.testing.assert_allclose(centroid_px(kernel), 0, atol=1e-3)
    ours = np.sum(kernel.sum(1) * np.arange(-half, half + 1.0) ** 3)
    assert ours == pytest.approx(third, rel=0.15)
    assert third > 0.1
    assert abs(cx) < 1e-6
    point = np.zeros((61, 61))
    point[30, 30] = 1
    np.testing.assert_allclose(blur(point, rng())[30 - half : 31 + half, 30 - half : 31 + half], kernel, atol=1e-6)


def test_a_strong_defocus_is_a_disc() -> None:
    """Geometry: Noll's fourth coefficient a throws the rim to 8 sqrt(3) N a."""
    kernel = ZernikeBlur((600.0,), f_number=2.8, pitch_um=2.0).kernel()
    diameter_px = 2 * 8 * np.sqrt(3) * 2.8 * 0.6 / 2.0
    freq = np.linspace(0.005, 0.04, 20)
    geometric = mtf_along(disc(diameter_px), 0.0, freq)
    np.testing.assert_allclose(mtf_along(kernel, 0.0, freq), geometric, atol=0.03)


def test_each_channel_has_its_wavelength() -> None:
    point = np.zeros((41, 41, 3))
    point[20, 20] = 1
    out = ZernikeBlur((0.0,), (700.0, 550.0, 420.0), f_number=8)(point, rng())
    assert out[20, 20, 0] < out[20, 20, 1] < out[20, 20, 2]
    with pytest.raises(ImageError, match="3 wavelengths"):
        ZernikeBlur((0.0,), (700.0, 550.0, 420.0))(point[..., 0], rng())


def test_a_drawn_wavefront_has_the_rms_that_was_asked_for() -> None:
    for seed in range(5):
        drawn = ZernikeBlur.random(np.random.default_rng(seed), rms_nm=(30.0, 60.0), last_term=12)
        assert len(drawn.coefficients_nm) == 9
        assert 30 <= np.linalg.norm(drawn.coefficients_nm) <= 60
    image = np.random.default_rng(1).random((30, 30))
    fixed = ZernikeBlur.random(np.random.default_rng(7), (80.0, 80.0))
    np.testing.assert_array_equal(RandomZernike(80.0)(image, np.random.default_rng(7)), fixed(image, rng()))


@pytest.mark.parametrize("name", ["coefficients_nm", "wavelengths_nm"])
def test_an_empty_list_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="one value at least"):
        ZernikeBlur(**{name: ()})
