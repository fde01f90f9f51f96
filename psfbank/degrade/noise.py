"""Noise that no calibration stands behind, and coarse steps of brightness. That of a camera is `psfbank.sensor`'s."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from psfbank.degrade.stage import Image, admitted, described, require_within
from psfbank.sensor.poisson import poisson


def _drawn_shape(image: Image, grey: bool) -> tuple[int, ...]:
    """Shape of one draw a pixel when grey, else one a value."""
    return (*image.shape[:2], 1)[: image.ndim] if grey else image.shape


@dataclass(frozen=True)
class GaussianNoise:
    """Adds N(0, sigma) to every value, white = 1; `grey` the same to all channels of a pixel. Nothing is clipped."""

    sigma: float = 0.02
    grey: bool = False

    def __post_init__(self) -> None:
        require_within(self, sigma=(0, np.inf))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        light = admitted(image)
        drawn = rng.standard_normal(_drawn_shape(light, self.grey), dtype=np.float32)
        return np.asarray(light + np.float32(self.sigma) * drawn)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)


@dataclass(frozen=True)
class PoissonNoise:
    """Counts photons: white is `peak_e` electrons on average, negative light is none."""

    peak_e: float = 1000.0

    def __post_init__(self) -> None:
        require_within(self, peak_e=(1e-3, 1e7))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        expected_e = np.maximum(admitted(image), 0) * np.float32(self.peak_e)
        return np.asarray(poisson(expected_e, rng) / np.float32(self.peak_e))

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)


@dataclass(frozen=True)
class ImpulseNoise:
    """Sets a share of all values to black or white, `salt` of them to white; `grey` whole pixels."""

    share: float = 0.01
    salt: float = 0.5
    grey: bool = False

    def __post_init__(self) -> None:
        require_within(self, share=(0, 1), salt=(0, 1))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        light = admitted(image)
        drawn = rng.random(_drawn_shape(light, self.grey))
        white, hit = drawn < self.share * self.salt, drawn < self.share
        return np.where(white, np.float32(1), np.where(hit, np.float32(0), light))

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)


@dataclass(frozen=True)
class SpeckleNoise:
    """Multiplies every value by a gamma variate of mean one and standard deviation `sigma`.

    That is the intensity of 1 / sigma^2 independent speckle patterns; at `sigma` = 1 it is fully developed speckle,
    negative exponential (Goodman, JOSA 66, 1145, 1976).
    """

    sigma: float = 0.1

    def __post_init__(self) -> None:
        require_within(self, sigma=(0, 1))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        light = admitted(image)
        if self.sigma < 1e-4:  # below a float's digits
            return light
        patterns = self.sigma**-2
        return np.asarray(light * (rng.standard_gamma(patterns, light.shape) / patterns), dtype=np.float32)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)


@dataclass(frozen=True)
class Quantisation:
    """Rounds to the 2^bits values between black and white, which clips what lies beyond."""

    bits: int = 8

    def __post_init__(self) -> None:
        require_within(self, bits=(1, 24))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        steps = np.float64(2**self.bits - 1)
        return np.asarray(np.rint(np.clip(admitted(image), 0, 1) * steps) / steps, dtype=np.float32)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)
