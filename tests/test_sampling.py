from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from calib.pointmodel import to_samples
from calib.sampling import ChartSampling, PointSampling, sinc_matrix
from psfbank.model import Points

OVERSAMPLE, SIZE = 3, 43
WIDTHS_PX = (0.6, 0.9)  # across, down


def gaussian(x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
    """Light per square pixel at offsets from the point: an effective PSF that differs across and down."""
    across, down = WIDTHS_PX
    return np.exp(-0.5 * ((x_px / across) ** 2 + (y_px / down) ** 2)) / (2 * np.pi * across * down)


def lattice_kernel(shift_px: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    at = (np.arange(SIZE) - SIZE // 2) / OVERSAMPLE
    return gaussian(at[None] - shift_px[0], at[:, None] - shift_px[1]) / OVERSAMPLE**2


def sampling(xy_px: np.ndarray, lattices: int = 2, sites: int = 6) -> PointSampling:
    """Lattices of step 2 around each point, the second moved by (1, 1): the greens of a mosaic."""
    first = np.round(xy_px) - sites + 1
    steps = 2 * np.arange(sites) + np.arange(lattices)[:, None]
    return PointSampling.at(first[:, 1, None, None] + steps, first[:, 0, None, None] + steps, xy_px, SIZE, OVERSAMPLE)


def offsets(seen: PointSampling) -> tuple[np.ndarray, np.ndarray]:
    x = seen.cols_px[:, :, None, :] - seen.xy_px[:, 0, None, None, None]
    y = seen.rows_px[:, :, :, None] - seen.xy_px[:, 1, None, None, None]
    return (a.reshape(len(seen), -1) for a in np.broadcast_arrays(x, y))


@given(st.integers(0, 2**32 - 1), st.integers(1, 2))
def test_adjoint_is_the_transpose_of_forward(seed: int, lattices: int) -> None:
    rng = np.random.default_rng(seed)
    seen = sampling(rng.uniform(20, 60, (3, 2)), lattices)
    kernels = rng.normal(size=(3, 1, SIZE, SIZE)).astype(np.float32)
    values = rng.normal(size=(3, lattices * 36)).astype(np.float32)
    forward = np.vdot(seen.forward(kernels)[:, 0], values)
    assert forward == pytest.approx(np.vdot(kernels[:, 0], seen.adjoint(values)), rel=1e-4, abs=1e-2)


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_a_gaussian_is_read_at_the_sites_offsets_wherever_the_point_lies(dx: float, dy: float) -> None:
    seen = sampling(np.array([[30.0 + dx, 41.0 + dy]]))
    image = seen.forward(lattice_kernel().astype(np.float32)[None, None])[0, 0]
    expected = gaussian(*offsets(seen))[0]
    assert np.abs(image - expected).max() < 1e-4 * expected.max()
    turned = gaussian(*reversed(list(offsets(seen))))[0]  # x taken for y
    assert np.abs(image - turned).max() > 0.05 * expected.max()


def test_light_right_of_the_point_is_seen_right_of_it() -> None:
    kernel = np.zeros((SIZE, SIZE), np.float32)
    kernel[SIZE // 2, SIZE // 2 + OVERSAMPLE] = 1
    seen = PointSampling.at(np.arange(5.0)[None, None], np.arange(5.0)[None, None], np.array([[2.0, 2.0]]), SIZE, 3)
    image = seen.forward(kernel[None, None])[0, 0].reshape(5, 5)
    assert np.unravel_index(image.argmax(), image.shape) == (2, 3)


def test_moving_the_points_and_moving_the_kernel_are_the_same() -> None:
    seen = sampling(np.array([[30.2, 41.4], [25.0, 24.7]]))
    shift = (0.23, -0.31)
    moved = seen.moved(np.array([shift, shift])).forward(np.tile(lattice_kernel(), (2, 1, 1, 1)).astype(np.float32))
    other = seen.forward(np.tile(lattice_kernel(shift), (2, 1, 1, 1)).astype(np.float32))
    np.testing.assert_allclose(moved, other, atol=1e-4 * other.max())


def test_a_kernel_of_sum_one_is_light_of_flux_one() -> None:
    sites = np.arange(15.0)[None, None]
    seen = PointSampling.at(sites, sites, np.array([[7.3, 6.8]]), SIZE, OVERSAMPLE)
    assert seen.forward(lattice_kernel().astype(np.float32)[None, None]).sum() == pytest.approx(
        1, abs=1e-3
    )  # its own aliases at 1 cycle a pixel


def test_several_kernels_an_image_and_a_selection_of_images() -> None:
    rng = np.random.default_rng(1)
    seen = sampling(rng.uniform(20, 60, (4, 2)))
    kernels = rng.random((4, 3, SIZE, SIZE), dtype=np.float32)
    every = seen.forward(kernels)
    assert every.shape == (4, 3, 72)
    picked = np.array([2, 0])
    np.testing.assert_allclose(seen.take(picked).forward(kernels[picked]), every[picked], rtol=1e-5)
    np.testing.assert_allclose(seen.forward(kernels[:, 1:2])[:, 0], every[:, 1], rtol=1e-5)


@given(st.lists(st.floats(8, 11), min_size=1, max_size=5))
def test_interpolation_passes_constants_and_ends_with_the_samples(at: list[float]) -> None:
    np.testing.assert_allclose(sinc_matrix(np.array(at), 20).sum(-1), 1, atol=1e-6)
    assert not sinc_matrix(np.array(at) + 30, 20).any()


def test_interpolation_at_samples_reads_them() -> None:
    np.testing.assert_allclose(sinc_matrix(np.arange(9.0), 9), np.eye(9), atol=1e-7)


@pytest.mark.parametrize(("size", "oversample"), [(42, 3), (43, 0)])
def test_even_kernels_are_refused(size: int, oversample: int) -> None:
    sites = np.zeros((1, 1, 2))
    with pytest.raises(ValueError, match="odd"):
        PointSampling.at(sites, sites, np.zeros((1, 2)), size, oversample)


def test_the_sites_of_a_cut_patch_are_the_samples_sites() -> None:
    rng = np.random.default_rng(2)
    patch, variance = rng.random((1, 9, 9)), np.full((1, 9, 9), np.inf)
    variance[:, 1::2, 0::2] = 1.0  # red of a patch that starts at an odd row
    one = np.zeros(1, dtype=int)
    points = Points(np.array([[34.2, 44.8]]), one, patch, variance, np.array([[30, 41]]), one, one, one)
    samples = to_samples(points)
    seen = PointSampling.of(samples, points.xy_px, SIZE, OVERSAMPLE)
    image = seen.forward(lattice_kernel().astype(np.float32)[None, None])[0, 0]
    known = samples.weights.reshape(-1) > 0
    rows, cols = np.mgrid[42:50:2, 30:39:2]
    np.testing.assert_allclose(image[known], gaussian(cols - 34.2, rows - 44.8).ravel(), atol=1e-4)
    np.testing.assert_array_equal(samples.values.reshape(-1)[known], patch[0, 1::2, 0::2].ravel())


def chart_sampling(shift_px: tuple[float, float] = (0.0, 0.0)) -> ChartSampling:
    """Three pieces of two random charts, smooth enough for the lattice, seen at five sites each."""
    rng = np.random.default_rng(5)
    charts = gaussian_filter(rng.random((2, 61, 61)), (0, 1.5, 1.5)).astype(np.float32)
    rows, cols = rng.integers(-2, 3, (2, 3, 5))
    return ChartSampling.of(charts[[1, 0, 1]], rows, cols, 25, 3).moved(np.tile(shift_px, (3, 1)))


def test_the_adjoint_of_charts_is_the_transpose() -> None:
    rng = np.random.default_rng(0)
    sampling = chart_sampling((0.2, -0.1))
    kernels, values = rng.normal(size=(3, 1, 25, 25)), rng.normal(size=(3, 5))
    forward = np.sum(sampling.forward(kernels)[:, 0] * values)
    assert forward == pytest.approx(np.sum(kernels[:, 0] * sampling.adjoint(values)), rel=1e-5)


def test_a_chart_is_convolved_not_correlated() -> None:
    """A kernel with all its light to the right and below shows what lies to the left and above."""
    sampling = chart_sampling()
    kernel = np.zeros((3, 1, 25, 25), dtype=np.float32)
    kernel[:, 0, 12 + 2, 12 + 5] = 1.0
    seen = sampling.forward(kernel)[:, 0]
    for k in range(3):
        chart = sampling.pieces[k][sampling.rows[k] - 2, sampling.cols[k] - 5]
        np.testing.assert_allclose(seen[k], chart, rtol=1e-5)


def test_charts_move_with_their_shift() -> None:
    kernel = np.zeros((3, 1, 25, 25), dtype=np.float32)
    kernel[:, 0, 12, 12] = 1.0
    moved = chart_sampling().moved(np.tile([1.0, 0.0], (3, 1))).forward(kernel)[:, 0]
    still = chart_sampling()
    for k in range(3):
        np.testing.assert_allclose(moved[k], still.pieces[k][still.rows[k], still.cols[k] - 3], atol=1e-3)


def test_taking_pieces_of_charts_keeps_what_belongs_together() -> None:
    kernels = np.random.default_rng(0).random((3, 1, 25, 25)).astype(np.float32)
    whole = chart_sampling((0.3, 0.1))
    two = whole.take(np.array([2, 0])).forward(kernels[[2, 0]])
    np.testing.assert_allclose(two, whole.forward(kernels)[[2, 0]], rtol=1e-5)
    assert len(whole.take(slice(1, 3))) == 2
