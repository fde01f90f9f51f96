"""Electrons of one readout drawn from their expectation, exactly or nearly so, and their conversion to DN.

`read_out` draws photons from Poisson's distribution. `read_out_gaussian` draws photons and read noise together from one
Gaussian whose variance follows the signal, which takes half the time. Mean and variance are the same; what it
loses is the skewness, mu / (mu + read^2)^(3/2) at mu electrons. By the first term of Edgeworth's series the cumulative
distribution is then off by up to 0.066 of that: 1.0 % at worst with a read noise of 2.5 electrons (about 12 electrons),
0.7 % at 100 electrons without any, 0.2 % at 1000. Below some ten electrons and without read noise the steps between
whole electrons come on top: 24 % at one electron. At the full well it is as good as elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.sensor.poisson import poisson

Image = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ReadMixture:
    """Read noise as a mixture of Gaussians: `share` of samples, each with a spread `ratio`; scales do not matter.

    A few pixels of a real sensor read much noisier than the rest (random telegraph signal), and their tail lies far
    outside one Gaussian. The variance of the whole stays what it is without a mixture.
    """

    share: tuple[float, ...]
    ratio: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.share) != len(self.ratio) or not self.share or min(self.share) <= 0 or min(self.ratio) < 0:
            raise ValueError("`share` and `ratio` must be as many, shares positive and ratios not negative")
        if not max(self.ratio) > 0:
            raise ValueError("one of `ratio` must be positive")

    def scales(self, shape: tuple[int, ...], rng: np.random.Generator) -> Image:
        """Draw each sample's spread, relative to that of all samples together."""
        share = np.array(self.share) / math.fsum(self.share)
        ratio = np.array(self.ratio) / math.sqrt(float(share @ np.square(self.ratio)))
        which = np.searchsorted(np.cumsum(share)[:-1].astype(np.float32), rng.random(shape, dtype=np.float32), "right")
        return np.asarray(ratio.astype(np.float32)[which])


def read_out(
    signal_e: FloatArray,
    read_noise_e: npt.ArrayLike,
    rng: np.random.Generator,
    full_well_e: float = math.inf,
    mixture: ReadMixture | None = None,
) -> Image:
    """Draw what a sensor reads of an expected signal: Poisson shot noise, a well that fills, then read noise.

    Parameters
    ----------
    signal_e : float array
        Expected electrons; below zero counts as none.
    read_noise_e : float array_like
        RMS electrons; broadcasts against `signal_e`.
    rng : Generator
    full_well_e : float
        Electrons that a pixel holds.
    mixture : ReadMixture, optional
        Of the read noise, which is Gaussian without.

    Returns
    -------
    float32, shape of `signal_e`
        Electrons; reads of the dark fall on both sides of zero.
    """
    collected = poisson(np.maximum(signal_e, 0), rng)
    noise = rng.standard_normal(signal_e.shape, dtype=np.float32)
    noise *= _spread_e(read_noise_e, signal_e.shape, rng, mixture)
    noise += np.minimum(collected, np.float32(full_well_e), out=collected)
    return noise


def read_out_gaussian(
    signal_e: FloatArray,
    read_noise_e: npt.ArrayLike,
    rng: np.random.Generator,
    full_well_e: float = math.inf,
    mixture: ReadMixture | None = None,
) -> Image:
    """Draw what `read_out` does, from a Gaussian of the same mean and variance; the module says how far off that is."""
    mean = np.maximum(signal_e, np.float32(0), dtype=np.float32)
    spread_e = _spread_e(read_noise_e, mean.shape, rng, mixture)
    if math.isinf(full_well_e):
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        noise *= np.sqrt(mean + spread_e * spread_e)
        noise += mean
        return noise
    collected = rng.standard_normal(mean.shape, dtype=np.float32)
    collected *= np.sqrt(mean)
    collected += mean
    noise = rng.standard_normal(mean.shape, dtype=np.float32)
    noise *= spread_e
    noise += np.minimum(collected, np.float32(full_well_e), out=collected)
    return noise


def digitise(
    signal_e: FloatArray, gain_dn_per_e: npt.ArrayLike, black_dn: npt.ArrayLike, white_dn: npt.ArrayLike
) -> Image:
    """Convert electrons to whole digital numbers between 0 and the white level.

    Parameters
    ----------
    signal_e : float array
        Electrons.
    gain_dn_per_e, black_dn, white_dn : float array_like
        Broadcast against `signal_e`.

    Returns
    -------
    float32, shape of `signal_e`
        Whole numbers; floats hold those of every sensor, up to 24 bits, exactly.
    """
    dn = np.rint(np.asarray(black_dn) + np.asarray(gain_dn_per_e) * signal_e)
    return np.asarray(np.clip(dn, 0, white_dn), dtype=np.float32)


def _spread_e(
    read_noise_e: npt.ArrayLike, shape: tuple[int, ...], rng: np.random.Generator, mixture: ReadMixture | None
) -> Image:
    spread_e = np.asarray(read_noise_e, dtype=np.float32)
    return spread_e if mixture is None else spread_e * mixture.scales(shape, rng)
