"""Fields of kernels of known truth, seen through the sites of a mosaic with photon and read noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from calib.kernel import KernelFit, Observations, Penalties, refine, solve_kernels
from calib.sampling import PointSampling
from psfbank.field import kernel_at
from psfbank.flags import Flag
from psfbank.model import PsfGrid
from psfbank.zernike import centroid_px

SIZE, OVERSAMPLE, HALF_PX = 31, 3, 7
SIZE_PX = (600, 800)
X_PX, Y_PX = np.linspace(0, 799, 5), np.linspace(0, 599, 4)
SPOT = (2, 3)  # the tile where the lens is abruptly bad
LIGHTS = 300
AT_PX = (np.arange(SIZE) - SIZE // 2) / OVERSAMPLE


def gaussian(x_px: float, y_px: float, across_px: float, down_px: float, turn: float = 0.0) -> np.ndarray:
    x, y = np.meshgrid(AT_PX - x_px, AT_PX - y_px)
    u, v = math.cos(turn) * x + math.sin(turn) * y, math.cos(turn) * y - math.sin(turn) * x
    return np.exp(-0.5 * ((u / across_px) ** 2 + (v / down_px) ** 2)) / (across_px * down_px)


def node(row: int, column: int, channel: int) -> tuple[np.ndarray, np.ndarray]:
    """Base, as a wavefront model may have it: round, 8 % too wide; and truth, with a tail away from the centre."""
    x, y = (column - 2) / 2, (row - 1.5) / 1.5
    width = 0.55 + 0.04 * channel + 0.08 * math.hypot(x, y)
    tail = 0.4 * gaussian(0.3 * x, 0.3 * y, 1.3 * width, 1.1 * width)
    truth = 0.6 * gaussian(-0.2 * x, -0.2 * y, width, width) + tail
    if (row, column) == SPOT:
        truth = 0.6 * gaussian(-0.2, -0.1, 0.9 * width, width) + 0.4 * gaussian(0.3, 0.15, width, 1.8 * width, 0.7)
    base = gaussian(0, 0, 1.08 * width, 1.08 * width)
    return base / base.sum(), truth / truth.sum()


def fields() -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array([[[node(j, i, c) for i in range(5)] for j in range(4)] for c in range(3)])
    return pairs[:, :, :, 0], pairs[:, :, :, 1]


BASE, TRUTH = fields()


def observe(rng: np.random.Generator, kernels: np.ndarray, count: int = LIGHTS) -> list[Observations]:
    """A set a channel of the same lights of 20 000 electrons on a background of 50, at the channel's own sites."""
    xy_px = rng.uniform(10, np.array(SIZE_PX[::-1]) - 11, (count, 2))
    sets = []
    for c in range(3):
        first = np.round(xy_px) - HALF_PX
        first -= (first - [c % 2, c // 2]) % 2
        steps = 2 * np.arange(HALF_PX + 1) + np.arange(2 if c == 1 else 1)[:, None]
        rows, cols = (first[:, k, None, None] + steps for k in (1, 0))
        seen = PointSampling.at(rows, cols, xy_px, SIZE, OVERSAMPLE)
        mixed = np.array([kernel_at(X_PX, Y_PX, kernels[c], *place) for place in xy_px], dtype=np.float32)
        expected = 2e4 * seen.forward(mixed[:, None])[:, 0] + 50
        variance = np.maximum(expected, 1) + 9
        values = rng.normal(expected, np.sqrt(variance))
        sets.append(Observations(seen, values, 1 / variance, xy_px, np.arange(count), c))
    return sets


def base_grid(kernels: np.ndarray = BASE) -> PsfGrid:
    return PsfGrid(X_PX, Y_PX, kernels, OVERSAMPLE)


def relative_l2(kernels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm(kernels - truth, axis=(-2, -1)) / np.linalg.norm(truth, axis=(-2, -1))


def spoiled(sets: list[Observations], rng: np.random.Generator) -> tuple[list[Observations], int, int]:
    """A hot pixel in one green image, a second light in another."""
    hot, blended = 20, 111
    green = sets[1]
    values = green.values.copy()
    values[hot, 3] += 8000
    seen = green.sampling.take(slice(blended, blended + 1))
    between_sites = np.array([seen.cols_px[0, 0, 0] + 10.5, seen.rows_px[0, 0, 0] + 8.5])
    kernel = kernel_at(X_PX, Y_PX, TRUTH[1], *green.xy_px[blended]).astype(np.float32)
    values[blended] += 8000 * seen.moved(between_sites - seen.xy_px).forward(kernel[None, None])[0, 0]
    return [sets[0], replace(green, values=values), sets[2]], hot, blended


@pytest.fixture(scope="module")
def spoiled_fit() -> tuple[KernelFit, int, int]:
    rng = np.random.default_rng(11)
    sets, hot, blended = spoiled(observe(rng, TRUTH), rng)
    return refine(base_grid(), sets, SIZE_PX, np.random.default_rng(3)), hot, blended


@pytest.fixture(scope="module")
def fit(spoiled_fit: tuple[KernelFit, int, int]) -> KernelFit:
    return spoiled_fit[0]


def test_the_remainder_brings_kernels_to_the_truth(fit: KernelFit) -> None:
    before, after = relative_l2(BASE, TRUTH), relative_l2(np.asarray(fit.grid.kernels), TRUTH)
    assert np.all(np.median(after, axis=(1, 2)) < [0.05, 0.03, 0.05])  # red and blue have half of green's samples
    assert np.all(np.median(after, axis=(1, 2)) < np.median(before, axis=(1, 2)) / 2)
    assert np.all(after[:, SPOT[0], SPOT[1]] < before[:, SPOT[0], SPOT[1]] / 2)  # smoothness did not smear the spot
    assert after[1][SPOT] < before[1][SPOT] / 4


def test_a_mirrored_truth_does_not_fit(fit: KernelFit) -> None:
    kernels = np.asarray(fit.grid.kernels)[1]
    away = [(0, 0), (0, 4), (3, 0), (3, 4), SPOT]  # where the tail is long
    for tile in away:
        found = relative_l2(kernels[tile], TRUTH[1][tile])
        for mirrored in (TRUTH[1][tile][:, ::-1], TRUTH[1][tile][::-1], TRUTH[1][tile][::-1, ::-1]):
            assert relative_l2(kernels[tile], mirrored) > 2 * found


def test_kernels_keep_the_conventions(fit: KernelFit) -> None:
    kernels = np.asarray(fit.grid.kernels)  # sum and sign are the type's own checks
    centroids = [centroid_px(k, OVERSAMPLE) for k in kernels.reshape(-1, SIZE, SIZE)]
    np.testing.assert_allclose(centroids, 0, atol=1e-3)
    assert fit.displacement_px.shape == (3, 4, 5, 2)


def test_weights_come_from_the_reserve_and_are_told(fit: KernelFit) -> None:
    errors = {trial.penalties: trial.error for trial in fit.trials}
    assert errors[fit.penalties] == min(errors.values())
    assert math.isinf(fit.trials[0].penalties.delta)
    assert fit.trials[0].error > 1.3 > 1.1 > errors[fit.penalties]


def test_a_light_is_held_back_with_all_its_channels(fit: KernelFit) -> None:
    assert [int(mask.sum()) for mask in fit.reserved] == [60, 60, 60]
    np.testing.assert_array_equal(fit.reserved[0], fit.reserved[2])


def test_hot_pixels_and_blends_are_listed_as_outliers(spoiled_fit: tuple[KernelFit, int, int]) -> None:
    fit, hot, blended = spoiled_fit
    reasons = {(o.channel, o.source): o.reason for o in fit.outliers}
    assert set(reasons) >= {(1, hot), (1, blended)}
    assert "one sample" in reasons[1, hot]
    assert "shape" in reasons[1, blended]
    assert len(reasons) <= 5  # of 900 images: a spot unlike the base is no outlier
    assert all(o.index == o.source for o in fit.outliers)  # ranks count all images, held back or not


def test_tiles_tell_their_support_and_how_they_resist_symmetry(fit: KernelFit) -> None:
    tiles = fit.tiles
    assert tiles.n_obs.sum() == 3 * (LIGHTS - 60) - len(fit.outliers)
    assert np.all((tiles.chi2_used > 0.7) & (tiles.chi2_used < 1.2))
    assert np.nanmedian(tiles.chi2_reserved) == pytest.approx(1, abs=0.1)
    for asymmetry in (tiles.asymmetry_used, tiles.asymmetry_reserved):
        assert np.unravel_index(np.nanargmax(asymmetry[1]), (4, 5))[1] >= 3  # about the spot, not in the centre
        assert np.nanmax(asymmetry[1]) > 3 * np.nanmin(asymmetry[1])
    np.testing.assert_array_equal(fit.grid.n_obs, tiles.n_obs)


def test_without_data_the_base_is_returned_and_flagged() -> None:
    rng = np.random.default_rng(0)
    none = [seen.take(slice(0, 0)) for seen in observe(rng, TRUTH, 3)]
    for sets in (none, []):
        fit = refine(base_grid(), sets, SIZE_PX, rng)
        np.testing.assert_allclose(fit.grid.kernels, BASE, atol=1e-7)
        assert math.isinf(fit.penalties.delta)
        assert np.all(np.asarray(fit.grid.flags) & Flag.FILLED)


def test_a_base_that_is_right_is_hardly_touched() -> None:
    rng = np.random.default_rng(12)
    fit = refine(base_grid(), observe(rng, BASE, 200), SIZE_PX, rng)
    assert np.median(relative_l2(np.asarray(fit.grid.kernels), BASE)) < 0.005


def test_where_the_data_are_silent_the_remainder_fades() -> None:
    rng = np.random.default_rng(13)
    left = [seen.take(seen.xy_px[:, 0] < 250) for seen in observe(rng, TRUTH)]
    weights = Penalties(delta=10.0, tiles=10.0, channels=0.0)
    kernels = solve_kernels(BASE, OVERSAMPLE, X_PX, Y_PX, left, weights)
    change = np.median(relative_l2(kernels, BASE)[1], axis=0)
    assert np.all(np.diff(change[1:]) < 0)
    assert change[4] < 0.3 * change[1]


def test_kernels_off_centre_displace_the_points_instead() -> None:
    rng = np.random.default_rng(14)
    sets = observe(rng, BASE, 150)
    shift_px = np.array([0.06, -0.04])
    off = [replace(seen, sampling=seen.sampling.moved(np.tile(-shift_px, (150, 1)))) for seen in sets]
    fit = refine(base_grid(), off, SIZE_PX, rng)
    np.testing.assert_allclose(np.median(fit.displacement_px, axis=(0, 1, 2)), shift_px, atol=0.015)
    found = np.mean(fit.observations[1].sampling.xy_px - sets[1].sampling.xy_px, axis=0)
    np.testing.assert_allclose(found, 0, atol=0.015)
