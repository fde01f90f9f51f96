"""Modulation transfer, encircled energy, wavefront error and Strehl ratio in closed form; directions told apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank.metrics import (
    crossing_cpp,
    encircled_energy,
    field_mtf,
    mtf_along,
    radius_of_energy_px,
    rms_wfe_nm,
    strehl_ratio,
)
from psfbank.model import PsfGrid
from psfbank.zernike import noll_terms

FREQ_CPP = np.linspace(0.0, 0.5, 26)
ROWS, COLUMNS = np.mgrid[-12:13, -12:13].astype(np.float64)


def gaussian(across_px: float, along_px: float, angle_rad: float, oversample: int = 1) -> np.ndarray:
    """A Gaussian of sigma `across_px` in the direction `angle_rad`, from x towards y, and `along_px` across that."""
    x, y = COLUMNS / oversample, ROWS / oversample
    u, v = np.cos(angle_rad) * x + np.sin(angle_rad) * y, np.cos(angle_rad) * y - np.sin(angle_rad) * x
    return np.exp(-0.5 * ((u / across_px) ** 2 + (v / along_px) ** 2))


@given(angle_rad=st.floats(-np.pi, np.pi), turn=st.sampled_from([0.0, np.pi / 2]), scale=st.floats(0.1, 10.0))
def test_a_gaussians_transfer_is_a_gaussian_of_its_width_in_that_direction(
    angle_rad: float, turn: float, scale: float
) -> None:
    kernel = scale * gaussian(0.9, 1.6, angle_rad)
    sigma_px = 0.9 if turn == 0 else 1.6
    known = FREQ_CPP[FREQ_CPP < 0.35]  # beyond, sampling folds what is left at 0.65
    found = mtf_along(kernel, angle_rad + turn, known)
    np.testing.assert_allclose(found, np.exp(-2 * (np.pi * sigma_px * known) ** 2), atol=2e-3)


def test_mirrored_kernels_are_told_apart() -> None:
    kernel, angle_rad = gaussian(0.9, 1.6, 0.5), 0.5
    there, mirrored = (mtf_along(k, angle_rad, FREQ_CPP) for k in (kernel, kernel[::-1]))
    assert np.abs(there - mirrored).max() > 0.1
    np.testing.assert_allclose(mirrored, mtf_along(kernel, -angle_rad, FREQ_CPP), atol=1e-12)


@pytest.mark.parametrize("oversample", [2, 3])
def test_frequencies_are_of_the_pixel(oversample: int) -> None:
    fine = gaussian(0.7, 0.7, 0.0, oversample)
    found = mtf_along(fine, 0.3, FREQ_CPP, oversample)
    np.testing.assert_allclose(found, np.exp(-2 * (np.pi * 0.7 * FREQ_CPP) ** 2), atol=1e-6)


def test_where_a_kernel_lies_is_no_blur() -> None:
    kernel = np.zeros((9, 9))
    kernel[1, 6] = 2.0
    np.testing.assert_allclose(mtf_along(kernel, 1.1, FREQ_CPP), 1.0)


def test_sagittal_is_across_the_radius_and_tangential_along_it() -> None:
    # blur of 1.6 px away from the middle, 0.9 px across: radii of all four quadrants, in a picture that is not square
    x_px, y_px, size_px = np.array([10.0, 50.0, 90.0]), np.array([5.0, 35.0]), (41, 101)
    radius = np.arctan2(*np.meshgrid(y_px - 20, x_px - 50, indexing="ij"))
    kernels = np.array([[[gaussian(1.6, 0.9, angle) for angle in row] for row in radius]])
    kernels /= kernels.sum((-2, -1), keepdims=True)
    grid = PsfGrid(x_px, y_px, kernels, sigma=np.full((1, 2, 3), 0.02), channels=("Y",))

    found = field_mtf(grid, size_px)

    of_gaussian = np.sqrt(np.log(2) / 2) / np.pi  # MTF50 times sigma
    np.testing.assert_allclose(found.mtf50_cpp[..., 0], of_gaussian / 0.9, rtol=3e-3)
    np.testing.assert_allclose(found.mtf50_cpp[..., 1], of_gaussian / 1.6, rtol=3e-3)
    # the slope of exp(-2 (pi sigma f)^2) at a half is 4 pi^2 sigma^2 f / 2
    slope = 2 * np.pi**2 * np.array([0.9, 1.6]) * of_gaussian
    np.testing.assert_allclose(
        found.mtf50_std_cpp, np.broadcast_to(0.02 * 0.5 / np.sqrt(2) / slope, (1, 2, 3, 2)), rtol=0.02
    )


def test_no_error_is_told_where_none_is_known() -> None:
    kernel = gaussian(0.9, 0.9, 0.0)
    grid = PsfGrid([20.0], [20.0], (kernel / kernel.sum())[None, None, None], channels=("Y",))

    assert np.isnan(field_mtf(grid, (41, 41)).mtf50_std_cpp).all()


def test_a_transfer_that_never_falls_has_no_mtf50() -> None:
    kernel = np.zeros((1, 1, 1, 3, 3))
    kernel[..., 1, 1] = 1
    found = field_mtf(PsfGrid([20.0], [20.0], kernel, channels=("Y",)), (41, 41))

    assert np.isnan(found.mtf50_cpp).all()
    assert np.isnan(crossing_cpp(found.freq_cpp, found.mtf[0, 0, 0, 0], 0.5))


@pytest.mark.parametrize("shift", [0, 2])
def test_encircled_energy_of_a_gaussian(shift: int) -> None:
    oversample, sigma_px = 3, 0.8
    kernel = np.roll(gaussian(sigma_px, sigma_px, 0.0, oversample), shift, axis=(0, 1))
    radii = np.array([0.5, 1.0, 1.5, 2.0])

    np.testing.assert_allclose(
        encircled_energy(kernel, radii, oversample), 1 - np.exp(-0.5 * (radii / sigma_px) ** 2), atol=0.012
    )
    assert encircled_energy(kernel, 0.0, oversample) == 0
    assert radius_of_energy_px(kernel, 0.8, oversample) == pytest.approx(
        sigma_px * np.sqrt(-2 * np.log(0.2)), rel=0.015
    )


@given(rms_nm=st.floats(0.0, 12.0), term=st.integers(4, 15))
def test_small_aberrations_follow_marechal(rms_nm: float, term: int) -> None:
    nm = noll_terms(1, 15)
    coefficients = np.zeros(15)
    coefficients[:3] = 70.0  # piston and tilt do not count
    coefficients[term - 1] = rms_nm

    assert rms_wfe_nm(coefficients, nm) == pytest.approx(rms_nm)
    expected = np.exp(-((2 * np.pi * rms_nm / 550.0) ** 2))
    assert strehl_ratio(coefficients, nm, 550.0) == pytest.approx(expected, abs=3e-3)


def test_defocus_has_its_closed_form() -> None:
    # over the pupil's area defocus is evenly spread: the mean of the phase is a sinc of its range, 2 sqrt(3) RMS
    nm = noll_terms(1, 4)
    coefficients = np.array([[0.0, 0.0, 0.0, rms] for rms in (40.0, 90.0, 130.0)])

    np.testing.assert_allclose(
        strehl_ratio(coefficients, nm, 550.0), np.sinc(2 * np.sqrt(3) * coefficients[:, 3] / 550.0) ** 2, atol=0.01
    )
