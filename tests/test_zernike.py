"""Wavefronts and their images against closed forms: Airy's pattern, the diffraction MTF, mean gradients."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf, j1

from psfbank.zernike import (
    Pupil,
    centroid_px,
    effective_psf,
    enough_samples,
    fine_grid,
    fourier_matrix,
    noll_terms,
    optical_image,
    pixel_matrix,
    pixel_response,
)

WAVELENGTH_NM, F_NUMBER, PITCH_UM = 540.0, 2.0, 1.4
PX_PER_NM = 2 * F_NUMBER * 1e-3 / PITCH_UM  # image shift by a wavefront's slope in nm per pupil radius
TERMS = noll_terms(2, 15)

Array = npt.NDArray[np.float64]


def coefficients(**terms: float) -> Array:
    """Coefficients of TERMS by name: tilt_x=3.0 means 3 nm RMS."""
    names = {
        "tilt_x": (1, 1),
        "tilt_y": (1, -1),
        "defocus": (2, 0),
        "astigmatism": (2, 2),
        "astigmatism_45": (2, -2),
        "coma_x": (3, 1),
        "coma_y": (3, -1),
        "trefoil": (3, 3),
        "spherical": (4, 0),
    }
    out = np.zeros(len(TERMS))
    for name, value in terms.items():
        out[np.flatnonzero((names[name] == TERMS).all(1))] = value
    return out


def psf(
    terms: Array,
    *,
    wavelengths_nm: tuple[float, ...] = (WAVELENGTH_NM,),
    weights: tuple[float, ...] | None = None,
    half_px: int = 8,
    oversample: int = 4,
    diffusion_px: float = 0.25,
    clip: tuple[float, float, float] | None = None,
    samples: int = 65,
) -> Array:
    return effective_psf(
        terms,
        TERMS,
        wavelengths_nm=np.array(wavelengths_nm),
        weights=np.ones(len(wavelengths_nm)) if weights is None else np.array(weights),
        f_number=F_NUMBER,
        pitch_um=PITCH_UM,
        half_px=half_px,
        oversample=oversample,
        diffusion_px=diffusion_px,
        clip=clip,
        samples=samples,
    )


def relative_l2(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_noll_terms_are_nolls_table() -> None:
    table = [(2, 0), (2, -2), (2, 2), (3, -1), (3, 1), (3, -3), (3, 3), (4, 0), (4, 2), (4, -2), (4, 4), (4, -4)]
    assert noll_terms(4, 15).tolist() == [list(pair) for pair in table]
    assert noll_terms(4, 15).dtype == np.int32


def test_the_low_terms_are_their_formulas_x_right_and_y_down() -> None:
    pupil = Pupil.of(41)
    inside = np.hypot(pupil.x, pupil.y) <= 1
    x, y = pupil.x, pupil.y
    r2 = x**2 + y**2
    formulas = {
        (1, 1): 2 * x,
        (1, -1): 2 * y,
        (2, 0): np.sqrt(3) * (2 * r2 - 1),
        (2, 2): np.sqrt(6) * (x**2 - y**2),
        (2, -2): np.sqrt(6) * 2 * x * y,
        (3, 1): np.sqrt(8) * (3 * r2 - 2) * x,
        (3, -1): np.sqrt(8) * (3 * r2 - 2) * y,
        (4, 0): np.sqrt(5) * (6 * r2**2 - 6 * r2 + 1),
    }
    basis = pupil.basis(np.array(list(formulas), dtype=np.int32))
    for term, formula in zip(basis, formulas.values(), strict=True):
        np.testing.assert_allclose(term[inside], formula[inside], atol=1e-12)
    assert pupil.x[0, 0] == -1
    assert pupil.y[-1, 0] == 1


def test_terms_are_orthonormal_over_the_circle() -> None:
    pupil = Pupil.of(257)
    basis = pupil.basis(noll_terms(1, 15))
    weight = pupil.circle()
    gram = np.einsum("ipq,jpq,pq->ij", basis, basis, weight) / weight.sum()
    np.testing.assert_allclose(gram, np.eye(15), atol=2e-3)


def test_the_circle_has_the_area_of_a_circle_wherever_it_stands() -> None:
    pupil = Pupil.of(101)
    centres = np.array([(0.0, 0.0), (0.013, -0.2), (0.1, 0.37)])
    circles = pupil.circle(centres[:, 0], centres[:, 1], 0.5)
    assert circles.shape == (3, 101, 101)
    np.testing.assert_allclose(circles.sum((1, 2)) * pupil.step**2, np.pi / 4, rtol=2e-3)
    for circle, (x, y) in zip(circles, centres, strict=True):
        assert np.average(pupil.x, weights=circle) == pytest.approx(x, abs=1e-3)
        assert np.average(pupil.y, weights=circle) == pytest.approx(y, abs=1e-3)


@pytest.mark.parametrize("samples", [40, 64])
def test_an_even_pupil_grid_is_refused(samples: int) -> None:
    with pytest.raises(ValueError, match="odd"):
        Pupil.of(samples)
    with pytest.raises(ValueError, match="odd"):
        psf(coefficients(), samples=samples)


def test_a_clear_circular_pupil_gives_airys_pattern() -> None:
    pupil = Pupil.of(129)
    x_um = np.linspace(-6.0, 6.0, 121)
    transform = fourier_matrix(pupil, x_um, WAVELENGTH_NM, F_NUMBER)
    field, intensity = optical_image(pupil.circle(), np.zeros_like(pupil.x), transform, WAVELENGTH_NM)
    v = np.pi * np.hypot(x_um, x_um[:, None]) / (WAVELENGTH_NM * 1e-3 * F_NUMBER)
    airy = np.square(2 * j1(np.where(v == 0, 1e-9, v)) / np.where(v == 0, 1e-9, v))
    np.testing.assert_allclose(intensity / intensity.max(), airy, atol=1e-3)
    np.testing.assert_allclose(np.abs(field) ** 2, intensity, rtol=1e-12)
    first_dark = x_um[60 + intensity[60, 60:80].argmin()]
    assert first_dark == pytest.approx(1.22 * WAVELENGTH_NM * 1e-3 * F_NUMBER, abs=0.1)


def test_the_unaberrated_psf_is_the_diffraction_mtf_times_pixel_times_diffusion() -> None:
    diffusion_px, half_px, oversample = 0.3, 6, 4
    cutoff_cpp = PITCH_UM / (WAVELENGTH_NM * 1e-3 * F_NUMBER)
    freq_cpp = np.linspace(-cutoff_cpp, cutoff_cpp, 401)
    radial = np.minimum(np.hypot(freq_cpp, freq_cpp[:, None]) / cutoff_cpp, 1.0)
    diffraction = 2 / np.pi * (np.arccos(radial) - radial * np.sqrt(1 - radial**2))
    pixel = np.sinc(freq_cpp) * np.exp(-2 * (np.pi * diffusion_px * freq_cpp) ** 2)
    at_px = np.arange(-half_px * oversample, half_px * oversample + 1) / oversample
    waves = np.cos(2 * np.pi * np.outer(at_px, freq_cpp)) * pixel
    expected = waves @ diffraction @ waves.T
    expected /= expected.sum()
    got = psf(coefficients(), diffusion_px=diffusion_px, half_px=half_px, oversample=oversample, samples=129)
    assert relative_l2(got, expected) < 2e-3


@given(st.lists(st.floats(-60, 60), min_size=len(TERMS), max_size=len(TERMS)), st.floats(0, 0.6))
@settings(max_examples=15)
def test_a_psf_sums_to_one_and_is_not_negative(terms: list[float], diffusion_px: float) -> None:
    kernel = psf(np.array(terms), diffusion_px=diffusion_px, oversample=1, samples=33)
    assert kernel.shape == (17, 17)
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    assert kernel.min() >= 0


@pytest.mark.parametrize(("name", "direction"), [("tilt_x", (1.0, 0.0)), ("tilt_y", (0.0, 1.0))])
def test_a_tilt_moves_the_image_right_or_down_by_its_slope(name: str, direction: tuple[float, float]) -> None:
    # W = 2 c p for the orthonormal tilt, so the image moves by 2 c * 2 N: here by exactly two pixels
    still = psf(coefficients(), oversample=1, half_px=9)
    moved = psf(coefficients(**{name: 2.0 / (2 * PX_PER_NM)}), oversample=1, half_px=9)
    across, down = (int(2 * d) for d in direction)
    np.testing.assert_allclose(moved[4:15, 4:15], still[4 - down : 15 - down, 4 - across : 15 - across], rtol=0.02)
    np.testing.assert_allclose(centroid_px(moved), (across, down), atol=0.1)


@pytest.mark.parametrize(("name", "axis"), [("coma_x", 0), ("coma_y", 1)])
@pytest.mark.parametrize("sign", [1, -1])
def test_coma_displaces_the_centroid_by_the_wavefronts_mean_slope(name: str, axis: int, sign: int) -> None:
    # dW/dx of Z(3, 1) averages sqrt(8) (3 <rho^2> - 2 + 6 <x^2>) = sqrt(8) over the pupil
    coma_nm = 30.0
    kernel = psf(coefficients(**{name: sign * coma_nm}), half_px=16, oversample=2, samples=101)
    expected = [0.0, 0.0]
    expected[axis] = sign * np.sqrt(8) * coma_nm * PX_PER_NM
    np.testing.assert_allclose(centroid_px(kernel, 2), expected, atol=0.02)
    from_centroid = np.arange(len(kernel)) - len(kernel) // 2 - 2 * expected[axis]
    assert sign * (kernel.sum(axis) @ from_centroid**3) > 0, "the tail points where the centroid went"


@pytest.mark.parametrize("name", ["defocus", "spherical"])
def test_rotationally_symmetric_terms_give_symmetric_images(name: str) -> None:
    kernel = psf(coefficients(**{name: 55.0}))
    for mirrored in (kernel[::-1], kernel[:, ::-1], kernel.T):
        np.testing.assert_allclose(mirrored, kernel, atol=1e-12)


def test_the_mirror_twin_of_an_even_wavefront_is_seen_only_through_a_skew_stop() -> None:
    terms = coefficients(defocus=60.0, astigmatism=25.0)
    np.testing.assert_allclose(psf(-terms), psf(terms), atol=1e-12)
    stop = (0.3, 0.1, 0.95)
    assert relative_l2(psf(-terms, clip=stop), psf(terms, clip=stop)) > 0.05


def test_a_stop_shifts_a_defocused_image_to_the_side_where_it_leaves_light() -> None:
    # a positive defocus slopes outwards: light of the right half of the pupil lands to the right
    kernel = psf(coefficients(defocus=60.0), clip=(0.4, 0.0, 0.9), half_px=12)
    x, y = centroid_px(kernel, 4)
    assert x > 0.2
    assert y == pytest.approx(0, abs=1e-9)


def test_wavelength_scales_diffraction() -> None:
    """The optical image at twice the wavelength and the same phase is the same image, twice as large."""
    pupil = Pupil.of(65)
    opd_nm = np.tensordot(coefficients(coma_x=20.0, astigmatism=15.0), pupil.basis(TERMS), axes=1)
    x_um = np.linspace(-5, 5, 81)
    short = optical_image(pupil.circle(), opd_nm, fourier_matrix(pupil, x_um, 400.0, F_NUMBER), 400.0)[1]
    long = optical_image(pupil.circle(), 2 * opd_nm, fourier_matrix(pupil, 2 * x_um, 800.0, F_NUMBER), 800.0)[1]
    np.testing.assert_allclose(long, short, rtol=1e-9, atol=1e-9 * short.max())


def test_a_spectrum_is_the_weighted_sum_of_its_lines() -> None:
    terms = np.array([coefficients(defocus=30.0), coefficients(defocus=-10.0, coma_x=20.0)])
    lines = [psf(t, wavelengths_nm=(w,), half_px=20) for t, w in zip(terms, (480.0, 640.0), strict=True)]
    both = psf(terms, wavelengths_nm=(480.0, 640.0), weights=(3.0, 1.0), half_px=20)
    # each line alone is normalised within the window, which holds nearly all of its light
    assert relative_l2(both, 0.75 * lines[0] + 0.25 * lines[1]) < 3e-3


def test_a_pixel_without_diffusion_is_a_box_and_its_response_sums_to_one() -> None:
    np.testing.assert_allclose(pixel_response(np.array([-0.6, -0.4, 0.0, 0.4, 0.6]), 0.0), [0, 1, 1, 1, 0])
    x_px = np.arange(-400, 401) / 100
    for sigma in (0.1, 0.3, 0.6):
        response = pixel_response(x_px, sigma)
        assert response.sum() / 100 == pytest.approx(1, abs=1e-6)
        assert (response @ x_px**2) / response.sum() == pytest.approx(1 / 12 + sigma**2, rel=1e-3)
        assert response[400] == pytest.approx(erf(0.5 / np.sqrt(2) / sigma))


@pytest.mark.parametrize(("f_number", "pitch_um"), [(1.8, 1.4), (2.8, 3.76), (8.0, 5.5)])
def test_the_fine_grid_is_fine_enough_for_the_quadrature(f_number: float, pitch_um: float) -> None:
    # waves that the optics can pass, as strong as diffraction leaves them, summed over the fine samples of a pixel
    fine_px = fine_grid(40.0, f_number, pitch_um, 450.0)
    assert len(fine_px) % 2 == 1
    assert fine_px[len(fine_px) // 2] == 0
    share = np.linspace(0, 1, 40)
    freq_cpp = share * pitch_um / (0.45 * f_number)
    mtf = 2 / np.pi * (np.arccos(share) - share * np.sqrt(1 - share**2))
    transfer = np.sinc(freq_cpp) * np.exp(-2 * (np.pi * 0.25 * freq_cpp) ** 2)
    out_px = np.array([0.0, 0.2, 0.7])
    seen = pixel_matrix(out_px, fine_px, 0.25) @ np.cos(2 * np.pi * np.outer(fine_px, freq_cpp))
    np.testing.assert_allclose(mtf * seen, mtf * transfer * np.cos(2 * np.pi * np.outer(out_px, freq_cpp)), atol=2e-3)


@pytest.mark.parametrize(("f_number", "pitch_um"), [(1.4, 4.0), (1.8, 5.5), (4.0, 6.0)])
def test_large_pixels_see_one_image_not_the_replicas_of_a_coarse_pupil_grid(f_number: float, pitch_um: float) -> None:
    kernel = effective_psf(
        np.zeros(1),
        noll_terms(4, 4),
        wavelengths_nm=np.array([460.0]),
        weights=np.ones(1),
        f_number=f_number,
        pitch_um=pitch_um,
        half_px=14,
        diffusion_px=0.25,
        samples=41,
    )
    assert kernel[12:17, 12:17].sum() > 0.9
    kernel[10:19, 10:19] = 0
    assert kernel.max() < 1e-3


def test_the_pupil_grid_grows_with_the_window_and_stays_odd() -> None:
    assert enough_samples(41, 14.0, 2.0, 1.4, 450.0) == 41
    many = [enough_samples(41, half, 1.8, 5.5, 450.0) for half in (5.0, 10.0, 20.0, 40.0)]
    assert many == sorted(many)
    assert all(n % 2 == 1 for n in many)
    assert (many[-1] - 1) * 0.45 * 1.8 / 5.5 >= 1.5 * 40.0


def test_the_centroid_is_told_in_pixels_from_the_centre() -> None:
    kernel = np.zeros((9, 9))
    kernel[2, 7] = 3.0
    assert centroid_px(kernel) == (3.0, -2.0)
    assert centroid_px(kernel, oversample=2) == (1.5, -1.0)


WITHOUT_PKG_RESOURCES = """
import sys
from importlib.abc import MetaPathFinder

class Block(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pkg_resources", "setuptools"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Block())
from psfbank.zernike import noll_terms
assert noll_terms(4, 4).tolist() == [[2, 0]]
assert "pkg_resources" not in sys.modules
"""


def test_prysm_imports_where_no_pkg_resources_is_installed() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PKG_RESOURCES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
