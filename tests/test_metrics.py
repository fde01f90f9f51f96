"""Modulation transfer of kernels in closed form, along directions that are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank.metrics import mtf_along

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
