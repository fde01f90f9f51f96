from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank.field import (
    bracket,
    cardinal_spline,
    corner_weights,
    kernel_at,
    resample_kernel,
    source_kernels,
    spline_surface_at,
)


def gaussian(size: int, oversample: int, sigma_px: float, x_px: float = 0.0) -> npt.NDArray[np.float64]:
    at = (np.arange(size) - size // 2) / oversample
    kernel = np.exp(-(at[:, None] ** 2 + (at[None] - x_px) ** 2) / (2 * sigma_px**2))
    return np.asarray(kernel / kernel.sum())


@given(st.floats(-50, 250, allow_nan=False))
def test_a_place_lies_between_its_nodes(at: float) -> None:
    nodes = np.array([0.0, 30.0, 100.0, 180.0])
    low, high, fraction = bracket(nodes, at)

    assert (1 - fraction) * nodes[low] + fraction * nodes[high] == pytest.approx(np.clip(at, 0, 180))


@given(st.floats(-10, 30, allow_nan=False), st.floats(-10, 20, allow_nan=False))
def test_corners_reproduce_a_bilinear_surface(x_px: float, y_px: float) -> None:
    x, y = np.array([0.0, 7.0, 20.0]), np.array([0.0, 8.0])
    corners = corner_weights(x, y, x_px, y_px)
    inside_x, inside_y = np.clip(x_px, 0, 20), np.clip(y_px, 0, 8)

    assert sum(weight for _, _, weight in corners) == pytest.approx(1.0)
    assert sum(w * (3 * x[i] - 2 * y[j]) for j, i, w in corners) == pytest.approx(3 * inside_x - 2 * inside_y, abs=1e-9)
    assert all(weight > 0 for _, _, weight in corners)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_a_spline_through_nodes_reproduces_the_polynomials_that_they_carry(count: int) -> None:
    nodes = np.linspace(-2.0, 5.0, count)
    weights = cardinal_spline(nodes)(1.3 if count > 1 else nodes[0])

    for degree in range(min(3, count - 1) + 1):
        expected = (1.3 if count > 1 else nodes[0]) ** degree
        assert weights @ nodes**degree == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(cardinal_spline(nodes)(nodes[-1]), np.eye(count)[-1], atol=1e-12)


def test_a_kernel_between_nodes_is_their_bilinear_mean_and_at_a_node_that_node() -> None:
    kernels = np.random.default_rng(0).random((2, 3, 5, 5))
    kernels /= kernels.sum((-2, -1), keepdims=True)
    x, y = np.array([0.0, 10.0, 20.0]), np.array([0.0, 8.0])

    np.testing.assert_allclose(kernel_at(x, y, kernels, 10.0, 8.0), kernels[1, 1], rtol=1e-12)
    expected = 0.75 * (0.5 * kernels[0, 1] + 0.5 * kernels[0, 2]) + 0.25 * (0.5 * kernels[1, 1] + 0.5 * kernels[1, 2])
    np.testing.assert_allclose(kernel_at(x, y, kernels, 15.0, 2.0), expected, rtol=1e-12)
    np.testing.assert_allclose(kernel_at(x, y, kernels, -99.0, 99.0), kernels[1, 0], rtol=1e-12)


@pytest.mark.parametrize(("have", "want"), [(3, 1), (1, 3), (2, 3), (4, 2), (3, 2), (4, 4)])
def test_resampling_finds_the_same_gaussian(have: int, want: int) -> None:
    kernel = resample_kernel(gaussian(2 * 6 * have + 1, have, 1.0), have, want)

    assert kernel.shape[0] % 2 == 1
    np.testing.assert_allclose(kernel, gaussian(kernel.shape[0], want, 1.0), atol=0.015 * kernel.max())


def test_resampling_keeps_which_side_is_which() -> None:
    kernel = resample_kernel(gaussian(61, 5, 1.0, x_px=0.6), 5, 2)
    at = (np.arange(kernel.shape[0]) - kernel.shape[0] // 2) / 2

    assert kernel.sum(0) @ at == pytest.approx(0.6, abs=1e-3)
    assert kernel.sum(1) @ at == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("have", [1, 2, 3, 4])
def test_source_kernels_cover_whole_pixels_and_sum_to_one(have: int, scale: int) -> None:
    kernels = source_kernels(np.stack([gaussian(13 * have // 2 * 2 + 1, have, 0.9)] * 2)[None], have, scale)

    assert kernels.shape[:2] == (1, 2)
    assert kernels.shape[-1] % scale == 0
    assert (kernels.shape[-1] // scale) % 2 == 1
    np.testing.assert_allclose(kernels.sum((-2, -1)), 1.0, rtol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_source_kernels_are_the_gaussian_at_the_fine_samples(scale: int) -> None:
    kernel = source_kernels(gaussian(61, 4, 0.9, x_px=0.3), 4, scale)
    at = (np.arange(len(kernel)) - (len(kernel) - 1) / 2) / scale

    centroid = kernel.sum(0) @ at
    assert centroid == pytest.approx(0.3, abs=1e-3)
    assert np.sqrt(kernel.sum(0) @ (at - centroid) ** 2) == pytest.approx(0.9, abs=1e-3)
    assert np.sqrt(kernel.sum(1) @ at**2) == pytest.approx(0.9, abs=1e-3)


def test_a_kernel_that_falls_between_all_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="narrower"):
        source_kernels(np.ones((1, 1)), 5, 2)


def test_a_spline_surface_passes_through_its_nodes_and_stays_at_its_border() -> None:
    x, y = np.linspace(0, 90, 7), np.linspace(0, 60, 5)
    nodes = 1 - 1e-4 * ((x[None] - 40) ** 2 + (y[:, None] - 25) ** 2)

    np.testing.assert_allclose(spline_surface_at(x, y, nodes, *np.meshgrid(x, y)), nodes, rtol=1e-12)
    assert spline_surface_at(x, y, nodes, 50.0, 33.0) == pytest.approx(1 - 1e-4 * (100 + 64))
    assert spline_surface_at(x, y, nodes, 500.0, -80.0) == pytest.approx(nodes[0, -1])


def test_a_surface_of_one_node_is_refused() -> None:
    with pytest.raises(ValueError, match="two nodes a side"):
        spline_surface_at(np.zeros(1), np.zeros(1), np.ones((1, 1)), 0.0, 0.0)
