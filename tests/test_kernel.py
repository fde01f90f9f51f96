"""The parts of the kernel problem, each against what it must equal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calib.kernel import Observations, Penalties, reserve, solve_kernels
from calib.kernel.observe import Fidelity, chi2, levels, mixing, robust_levels
from calib.kernel.penalty import Penalty, low_pass
from calib.kernel.register import centred, register
from calib.kernel.solve import Descent, project_simplex
from calib.sampling import PointSampling
from psfbank.field import kernel_at
from psfbank.zernike import centroid_px

SIZE, OVERSAMPLE = 25, 3
X_PX, Y_PX = np.array([0.0, 40.0, 80.0]), np.array([0.0, 60.0])
AT_PX = (np.arange(SIZE) - SIZE // 2) / OVERSAMPLE


def spot(width_px: float = 0.6, x_px: float = 0.0, y_px: float = 0.0) -> np.ndarray:
    kernel = np.exp(-0.5 * ((AT_PX - x_px) ** 2 + (AT_PX[:, None] - y_px) ** 2) / width_px**2)
    return (kernel / kernel.sum()).astype(np.float32)


def grid(channels: int = 1) -> np.ndarray:
    return np.array([[[spot(0.5 + 0.1 * (i + j + c)) for i in range(3)] for j in range(2)] for c in range(channels)])


def observe(rng: np.random.Generator, kernels: np.ndarray, count: int = 40, channel: int = 0) -> Observations:
    """Red sites of a mosaic around points of 10 000 electrons on a background of 20."""
    xy_px = rng.uniform([8, 8], [72, 52], (count, 2))
    sites = 2 * np.round(xy_px[:, ::-1, None, None] / 2) - 4 + 2 * np.arange(5)
    seen = PointSampling.at(sites[:, 0], sites[:, 1], xy_px, SIZE, OVERSAMPLE)
    mixed = np.array([kernel_at(X_PX, Y_PX, kernels, *place) for place in xy_px], dtype=np.float32)
    expected = 1e4 * seen.forward(mixed[:, None])[:, 0] + 20
    variance = np.maximum(expected, 1) + 4
    return Observations(seen, rng.normal(expected, np.sqrt(variance)), 1 / variance, xy_px, np.arange(count), channel)


@given(
    hnp.arrays(np.float32, (2, 5, 5), elements=st.floats(-2, 2, width=32)),
    hnp.arrays(np.float32, (2, 5, 5), elements=st.floats(0.125, 8, width=32)),
)
def test_projection_lands_on_the_simplex_and_is_the_nearest_point_of_it(values: np.ndarray, metric: np.ndarray) -> None:
    nearest = project_simplex(values, metric)
    assert nearest.min() >= 0
    np.testing.assert_allclose(nearest.sum((1, 2)), 1, atol=1e-5)
    corner = np.eye(25, dtype=np.float32).reshape(25, 5, 5)
    for x, v, d in zip(nearest, values, metric, strict=True):
        # the angle to every corner of the simplex is obtuse: the variational inequality of a projection
        assert np.max(np.sum(d * (v - x) * (corner - x), axis=(1, 2))) < 1e-3


@given(hnp.arrays(np.float64, (7, 7), elements=st.floats(0.01, 1)))
def test_projection_leaves_kernels_as_they_are(kernel: np.ndarray) -> None:
    kernel = (kernel / kernel.sum()).astype(np.float32)
    np.testing.assert_allclose(project_simplex(kernel[None], np.ones_like(kernel)[None])[0], kernel, atol=1e-6)


def test_mixing_is_that_of_replay() -> None:
    rng = np.random.default_rng(0)
    nodes = rng.random((2, 3, SIZE, SIZE))
    nodes /= nodes.sum((-2, -1), keepdims=True)
    places = rng.uniform(-10, 95, (20, 2))
    mixed = mixing(X_PX, Y_PX, places) @ nodes.reshape(6, -1)
    expected = [kernel_at(X_PX, Y_PX, nodes, *place).ravel() for place in places]
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


def test_levels_are_a_weighted_line_fit() -> None:
    rng = np.random.default_rng(0)
    images, weights = rng.random((2, 3, 30), dtype=np.float32)
    values = (np.array([[5.0], [-2.0], [0.5]]) * images + 3 + rng.normal(0, 0.1, (3, 30))).astype(np.float32)
    flux, residual = levels(images, values, weights)
    for k in range(3):
        slope, offset = np.polyfit(images[k], values[k], 1, w=np.sqrt(weights[k]))
        assert flux[k] == pytest.approx(slope, rel=1e-3)
        np.testing.assert_allclose(residual[k], values[k] - slope * images[k] - offset, atol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_an_image_without_data_or_without_structure_has_no_flux(weight: float) -> None:
    flat = np.ones((1, 9), np.float32)
    flux, residual = levels(flat, 4 * flat, weight * flat)
    assert flux[0] == 0
    assert np.all(np.isfinite(residual))


def test_chi2_is_the_sum_of_squares_of_small_residuals_and_grows_linearly_for_large_ones() -> None:
    weights = np.full((1, 4), 0.25, np.float32)
    assert chi2(np.full((1, 4), 2, np.float32), weights)[0] == pytest.approx(4)
    large = [chi2(np.full((1, 4), size, np.float32), weights)[0] for size in (40, 80, 120)]
    assert large[2] - large[1] == pytest.approx(large[1] - large[0])


def test_gradient_is_the_slope_of_the_loss() -> None:
    rng = np.random.default_rng(2)
    seen = observe(rng, grid()[0])
    fidelity = Fidelity(seen, X_PX, Y_PX)
    here = grid()[0].reshape(6, SIZE, SIZE) * np.float32(0.9) + np.float32(0.1) * spot(0.8)
    step = np.stack([spot(0.9, 0.2, -0.1) - spot(0.65)] * 6) * rng.uniform(0.5, 1, (6, 1, 1)).astype(np.float32)

    def loss(size: float) -> float:
        return chi2(robust_levels(fidelity.images(here + np.float32(size) * step), seen)[1], seen.weights).sum()

    slope = (loss(1e-2) - loss(-1e-2)) / 2e-2
    assert 2 * np.vdot(fidelity.gradient(here)[0], step) == pytest.approx(slope, rel=0.02)


def test_curvature_never_exceeds_the_metric() -> None:
    rng = np.random.default_rng(3)
    descent = Descent(grid(), OVERSAMPLE, X_PX, Y_PX, [observe(rng, grid()[0])])
    root = np.sqrt(descent.metric)
    vector = rng.normal(size=root.shape).astype(np.float32)
    for _ in range(40):  # a longer power method than the one inside, from another start, over all nodes together
        vector /= np.linalg.norm(vector)
        vector = descent.curvature(vector / root) / root
    assert np.linalg.norm(vector) <= 1


@pytest.mark.parametrize("name", ["delta", "tiles", "channels", "symmetry", "boundary", "band"])
def test_each_penalty_is_convex_and_stays_under_its_bound(name: str) -> None:
    rng = np.random.default_rng(4)
    none = dict.fromkeys(("delta", "tiles", "channels", "symmetry", "boundary", "band"), 0.0)
    alone = Penalty(grid(3), OVERSAMPLE, Penalties(**(none | {name: 100.0, "delta": 1.0})))
    a, b = rng.normal(size=(2, 3, 2, 3, SIZE, SIZE)).astype(np.float32) * grid(3)
    assert np.vdot(a, alone.gradient(b)) == pytest.approx(np.vdot(b, alone.gradient(a)), rel=1e-3, abs=1e-2)
    for delta in (a, b, a - a[..., ::-1, ::-1]):
        power = np.vdot(delta, alone.gradient(delta))
        assert 0 < power <= np.vdot(delta, alone.bound() * delta) * (1 + 1e-5)


def test_penalties_know_what_they_punish() -> None:
    weights = {"delta": 0.0, "tiles": 0.0, "channels": 0.0, "symmetry": 0.0, "boundary": 0.0, "band": 0.0}
    base = np.tile(spot(), (2, 2, 3, 1, 1))
    even = spot(0.7) - spot(0.6)
    odd = spot(0.6, 0.1) - spot(0.6, -0.1)
    rim = np.zeros((SIZE, SIZE), np.float32)
    rim[0] = 1e-4
    checks = (-1.0) ** np.add.outer(np.arange(SIZE), np.arange(SIZE)).astype(np.float32) * spot()

    def cost(name: str, delta: np.ndarray) -> float:
        penalty = Penalty(base, OVERSAMPLE, Penalties(**(weights | {name: 1.0})))
        full = np.zeros_like(base) + delta.astype(np.float32)
        return float(np.vdot(full, penalty.gradient(full)))

    band = Penalty(base, OVERSAMPLE, Penalties(**(weights | {"band": 1.0}))).band[0, 0, 0, 0, 0]
    assert cost("symmetry", even) < 1e-6 * cost("symmetry", odd)
    assert cost("boundary", even) < 1e-3 * cost("boundary", rim)
    assert cost("band", even) < 1e-2 * cost("delta", even)
    assert cost("band", checks) == pytest.approx(12 * np.vdot(checks, checks) * band, rel=0.05)
    assert cost("tiles", even) == 0
    assert cost("channels", even) == 0
    one_tile, one_channel = np.zeros_like(base), np.zeros_like(base)
    one_tile[:, 1, 2], one_channel[1] = even, even
    assert cost("tiles", one_tile) > 0 == cost("channels", one_tile)
    assert cost("channels", one_channel) > 0 == cost("tiles", one_channel)


def test_low_pass_ends_at_one_cycle_per_pixel() -> None:
    matrix = low_pass(SIZE, OVERSAMPLE)
    freq_cpp = np.fft.fftfreq(SIZE, 1 / OVERSAMPLE)
    for k in range(SIZE // 2 + 1):
        wave = np.cos(2 * np.pi * k * np.arange(SIZE) / SIZE)
        gain = np.linalg.norm(matrix @ wave) / np.linalg.norm(wave)
        if freq_cpp[k] <= 0.7:
            assert gain == pytest.approx(1, abs=1e-5)
        if freq_cpp[k] >= 1:
            assert gain == pytest.approx(0, abs=1e-5)


def test_a_step_between_tiles_that_stands_out_is_smoothed_less() -> None:
    base = np.tile(spot(), (1, 4, 4, 1, 1))
    rng = np.random.default_rng(5)
    delta = 0.01 * rng.normal(size=(1, 4, 4, 1, 1)).astype(np.float32) * base
    delta[0, 2, 2] += 0.5 * base[0, 2, 2]
    penalty = Penalty(base, OVERSAMPLE, Penalties())
    before = penalty.columns.copy()
    penalty.relax(delta)
    ratio = (penalty.columns / before)[0, :, :, 0, 0]
    assert np.all(ratio[2, 1:] < 0.3)
    assert np.median(ratio) == 1


def test_solution_does_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(6)
    sets = [observe(rng, grid(2)[c], 300, c) for c in range(2)]
    alone = Descent(grid(2), OVERSAMPLE, X_PX, Y_PX, sets).solve(Penalties(), iterations=5)
    with ThreadPoolExecutor(3) as pool:
        pooled = Descent(grid(2), OVERSAMPLE, X_PX, Y_PX, sets, pool).solve(Penalties(), iterations=5)
    np.testing.assert_array_equal(alone, pooled)


def test_registration_finds_the_points() -> None:
    rng = np.random.default_rng(7)
    seen = observe(rng, grid()[0])
    off_px = rng.normal(0, 0.15, (len(seen), 2))
    displaced = Observations(
        seen.sampling.moved(off_px), seen.values, seen.weights, seen.xy_px, seen.source, seen.channel
    )
    found = register(displaced, grid()[0], X_PX, Y_PX, sigma_px=0.3)
    error = found.sampling.xy_px - seen.sampling.xy_px
    assert np.sqrt(np.mean(error**2)) < 0.04  # photons alone leave 0.03
    assert register(displaced, grid()[0], X_PX, Y_PX, sigma_px=0.0) is displaced


def test_centring_moves_the_centroid_and_says_from_where() -> None:
    kernels = np.stack([spot(0.7, 0.31, -0.42), spot(0.7)])
    moved, displacement_px = centred(kernels, OVERSAMPLE)
    np.testing.assert_allclose(displacement_px, [[0.31, -0.42], [0, 0]], atol=2e-3)
    np.testing.assert_allclose([centroid_px(k, OVERSAMPLE) for k in moved], 0, atol=2e-4)
    np.testing.assert_allclose(moved[0], spot(0.7), atol=5e-3 * spot(0.7).max())
    np.testing.assert_array_equal(moved[1], kernels[1])


@given(st.integers(0, 2**32 - 1), st.integers(0, 200), st.floats(0, 0.9))
def test_the_reserve_is_the_share_asked_for(seed: int, count: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    mask = reserve(rng.uniform(0, 400, (count, 2)), (400, 400), share, rng)
    assert abs(mask.sum() - share * count) <= 1


def test_the_reserve_covers_the_field_and_repeats_with_its_seed() -> None:
    xy_px = np.random.default_rng(8).uniform(0, 400, (800, 2))
    first, again, other = (reserve(xy_px, (400, 400), 0.2, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    quarter = (xy_px // 100).astype(int) @ [4, 1]
    shares = np.bincount(quarter, first) / np.bincount(quarter)
    assert np.all(np.abs(shares - 0.2) < 0.1)  # at random, a share would leave this range in one of three draws


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_reserve_of_everything_or_less_than_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        reserve(np.zeros((3, 2)), (10, 10), share, np.random.default_rng(0))


def test_observations_that_disagree_in_number_are_refused() -> None:
    seen = observe(np.random.default_rng(0), grid()[0], 5)
    with pytest.raises(ValueError, match="agree"):
        Observations(seen.sampling, seen.values[:4], seen.weights[:4], seen.xy_px, seen.source, 0)


def test_values_without_weight_may_be_anything_others_must_be_finite() -> None:
    seen = observe(np.random.default_rng(0), grid()[0], 5)
    values, weights = seen.values.copy(), seen.weights.copy()
    values[2, 3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        replace(seen, values=values)
    weights[2, 3] = 0
    bad = replace(seen, values=values, weights=weights)
    flux, residual, _ = robust_levels(Fidelity(bad, X_PX, Y_PX).images(grid()[0].reshape(6, SIZE, SIZE)), bad)
    assert flux[2] == pytest.approx(1e4, rel=0.1)
    assert np.all(np.isfinite(residual))


def test_a_grid_of_one_node_is_a_field_without_variation() -> None:
    rng = np.random.default_rng(9)
    everywhere = np.tile(spot(0.6, 0.1), (2, 3, 1, 1))
    base = np.tile(spot(0.7), (1, 1, 1, 1, 1))
    node_px = np.array([40.0]), np.array([30.0])
    found = solve_kernels(
        base, OVERSAMPLE, *node_px, [observe(rng, everywhere, 200)], Penalties(delta=1.0, symmetry=1.0)
    )
    error = np.linalg.norm(found[0, 0, 0] - everywhere[0, 0])
    assert error < 0.25 * np.linalg.norm(base[0, 0, 0] - everywhere[0, 0])
