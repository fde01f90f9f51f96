"""Photons: Poisson variates of many means at once, at twice the pace of numpy's one by one.

Algorithm PD of Ahrens and Dieter (ACM Trans. Math. Softw. 8, 163, 1982) takes the whole part of a Gaussian variate and
corrects it. Where that falls short of Poisson's probability it is kept; elsewhere a comparison keeps all but a few per
cent, and those are kept or replaced after their probabilities. Here all steps run over whole arrays; probabilities are
those of scipy, where the paper has series.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ndtr

from psfbank.arrays import FloatArray

LEAST_MEAN = 10.0  # of the algorithm; below, numpy's
KEPT_FROM = 1.1484  # below the mean: from there on no Gaussian exceeds Poisson's distribution
HAT_CENTRE, HAT_END = 1.8, -0.6744  # of the double exponential that covers what the Gaussian lacks, in sigmas
HAT_SCALE = 0.1069


def poisson(mean: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw from Poisson's distribution.

    Parameters
    ----------
    mean : float array
        Not negative.
    rng : Generator

    Returns
    -------
    float32, shape of `mean`
        Whole numbers, of their distribution but for the rounding of single precision.
    """
    mean = np.asarray(mean, dtype=np.float32)
    few = mean < LEAST_MEAN
    if few.all():
        return rng.poisson(mean).astype(np.float32)
    drawn = rng.standard_normal(mean.shape, dtype=np.float32)
    drawn *= np.sqrt(mean)
    drawn += mean
    np.floor(drawn, out=drawn)
    below = mean - drawn
    chance = rng.random(mean.shape, dtype=np.float32)
    doubtful = (below > KEPT_FROM) & (below * below * below > 6 * mean * mean * chance)
    if few.any():
        drawn[few] = rng.poisson(mean[few])
        doubtful &= ~few
    if doubtful.any():
        drawn[doubtful] = _decided(mean[doubtful].astype(np.float64), drawn[doubtful], chance[doubtful], rng)
    return drawn


def _decided(
    mean: FloatArray, drawn: FloatArray, chance: FloatArray, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Keep variates (N,) in proportion to Poisson's probability over the Gaussian's, and replace the others."""
    decided = drawn.astype(np.float64)
    wanted, offered = _probabilities(mean, decided)
    open_ = np.flatnonzero((decided < 0) | ((1 - chance) * offered > wanted))
    while open_.size:
        mu = mean[open_]
        reach, side = rng.standard_exponential(open_.size), 2 * rng.random(open_.size) - 1
        sigmas = HAT_CENTRE + np.copysign(reach, side)
        whole = np.floor(mu + np.sqrt(mu) * sigmas)
        wanted, offered = _probabilities(mu, whole)
        taken = (sigmas > HAT_END) & (HAT_SCALE / mu * np.abs(side) <= (wanted - offered) * np.exp(reach))
        decided[open_[taken]] = whole[taken]
        open_ = open_[~taken]
    return decided


def _probabilities(mean: FloatArray, whole: FloatArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Probabilities of whole numbers: Poisson's, and that of the whole part of a Gaussian of the same moments."""
    spread, counted = np.sqrt(mean), np.maximum(whole, 0)
    wanted = np.exp(counted * np.log(mean) - mean - gammaln(counted + 1))
    return wanted, ndtr((whole + 1 - mean) / spread) - ndtr((whole - mean) / spread)
