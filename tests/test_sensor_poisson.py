"""Poisson variates against their probabilities; numpy's own, drawn alike, would pass as well."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from psfbank.sensor.poisson import poisson

COUNT = 1_000_000


@pytest.mark.parametrize("mean", [0.0, 0.3, 9.9, 10.0, 10.3, 11.1485, 12.0, 15.7, 30.0, 100.0, 1000.5, 20000.0])
def test_every_number_comes_as_often_as_it_should(mean: float) -> None:
    """Pearson's chi-square over the distribution, tails included, and the first three moments."""
    rng = np.random.default_rng(int(10 * mean))
    drawn = poisson(np.full(COUNT, mean), rng).astype(np.float64)
    mean = float(np.float32(mean))
    assert np.array_equal(drawn, np.rint(drawn))
    if mean == 0:
        assert not drawn.any()
        return
    low, high = stats.poisson.ppf([1e-5, 1 - 1e-5], mean).astype(int)
    edges = np.arange(low, high + 1, max(1, (high - low) // 80))
    expected = COUNT * np.diff(np.concatenate([[0], stats.poisson.cdf(edges, mean), [1]]))
    seen = np.histogram(drawn, np.concatenate([[-np.inf], edges + 0.5, [np.inf]]))[0]
    usual = expected > 10
    chi2 = np.sum((seen - expected)[usual] ** 2 / expected[usual])
    assert 0.001 < stats.chi2.sf(chi2, usual.sum() - 1) < 0.9999
    assert seen[~usual].sum() < 10 + 3 * expected[~usual].sum()

    assert drawn.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / COUNT))
    assert drawn.var() == pytest.approx(mean, rel=4 * np.sqrt((2 + 1 / mean) / COUNT))
    assert stats.skew(drawn) == pytest.approx(mean**-0.5, abs=4 * np.sqrt((6 + 30 / mean) / COUNT))


def test_means_of_all_sizes_side_by_side() -> None:
    mean = np.tile(np.array([0.5, 9.0, 11.0, 40.0, 5000.0]), (200, 600, 1))
    drawn = poisson(mean, np.random.default_rng(3)).astype(np.float64)
    assert drawn.shape == mean.shape
    own = mean[0, 0]
    np.testing.assert_array_less(np.abs(drawn.mean(axis=(0, 1)) - own), 4 * np.sqrt(own / 120_000))
    np.testing.assert_array_less(np.abs(drawn.var(axis=(0, 1)) / own - 1), 4 * np.sqrt((2 + 1 / own) / 120_000))


def test_variates_are_independent() -> None:
    drawn = poisson(np.full((512, 512), 25.0), np.random.default_rng(4)).astype(np.float64) - 25
    for other in (drawn[1:], drawn[:, 1:]):
        beside = drawn[: other.shape[0], : other.shape[1]]
        assert abs((beside * other).mean()) / 25 < 4 / 512
