"""What a sensor adds to light: its noise at one ISO speed, and at all between those that were calibrated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray, by_constructor, freeze, require_finite, require_increasing, require_shape
from psfbank.errors import OutOfFieldError

QUANTITIES = ("gain_dn_per_e", "read_noise_e", "dark_e_per_s", "prnu", "black_dn", "white_dn")
SAME = 1e-9  # relative: ISO speeds or gains as near as this are one


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Sensor noise by channel (C,), after EMVA 1288: DN = gain (Poisson(e) + read) + black, clipped at white."""

    gain_dn_per_e: FloatArray
    read_noise_e: FloatArray
    dark_e_per_s: FloatArray
    prnu: FloatArray
    black_dn: FloatArray
    white_dn: FloatArray
    channels: tuple[str, ...] = ("R", "G", "B")

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        for name in QUANTITIES:
            freeze(self, np.float64, **{name: "C"})
            require_shape(getattr(self, name), name, (len(self.channels),))
        for name in ("gain_dn_per_e", "black_dn", "white_dn"):
            require_finite(getattr(self, name), name)
        if not np.all(self.gain_dn_per_e > 0) or not np.all(self.white_dn > self.black_dn):
            raise ValueError("`gain_dn_per_e` must be positive and `white_dn` above `black_dn`")
        for name in ("read_noise_e", "dark_e_per_s", "prnu"):
            if np.any(np.isinf(getattr(self, name))):
                raise ValueError(f"`{name}` must be finite, or NaN where it is not known")
        if np.any(self.read_noise_e < 0) or np.any(self.prnu < 0):
            raise ValueError("`read_noise_e` and `prnu` must not be negative")


@dataclass(frozen=True, eq=False)
class NoiseByIso:
    """Sensor noise at I calibrated ISO speeds, two or more in rising order; quantities of `NoiseModel`, (I, C) each."""

    iso: FloatArray
    gain_dn_per_e: FloatArray
    read_noise_e: FloatArray
    dark_e_per_s: FloatArray
    prnu: FloatArray
    black_dn: FloatArray
    white_dn: FloatArray
    channels: tuple[str, ...] = ("R", "G", "B")

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, np.float64, iso="I")
        require_increasing(self.iso, "iso")
        if len(self.iso) < 2 or self.iso[0] <= 0:
            raise ValueError("`iso` must hold two positive speeds or more")
        for name in QUANTITIES:
            freeze(self, np.float64, **{name: "I,C"})
            require_shape(getattr(self, name), name, (len(self.iso), len(self.channels)))
        for k in range(len(self.iso)):
            self._at_calibrated(k)  # checks the rest

    def at(self, iso: float) -> NoiseModel:
        """Noise at an ISO speed: the calibrated one there, or between two of them.

        Between two, the logarithm of the gain is linear in that of the ISO speed, as an amplifier's is that follows its
        dial. Read noise has a part before that amplifier, and one behind it, which counts for less the higher the gain:
        its variance in electrons is a + b / gain^2, with a and b from the two. The rest is linear in the logarithm of
        the ISO speed; where one of the two is unknown (NaN), the other's dark current and PRNU stand for both.

        Parameters
        ----------
        iso : float

        Returns
        -------
        NoiseModel

        Raises
        ------
        OutOfFieldError
            Below or above all speeds that were calibrated: there amplifiers end, and digital gain begins.
        """
        nearest = int(np.argmin(np.abs(np.log(self.iso / iso))))
        if math.isclose(self.iso[nearest], iso, rel_tol=SAME):
            return self._at_calibrated(nearest)
        if not self.iso[0] < iso < self.iso[-1]:
            raise OutOfFieldError(
                f"iso = {iso:g} lies beyond {self.iso[0]:g} .. {self.iso[-1]:g}, where noise was calibrated",
                remedy="Calibrate flats and darks beyond it, or name the outermost one",
            )
        upper = int(np.searchsorted(self.iso, iso))
        pair = np.s_[upper - 1 : upper + 1]
        share = math.log(iso / self.iso[upper - 1]) / math.log(self.iso[upper] / self.iso[upper - 1])
        gain = np.exp(_mixed(np.log(self.gain_dn_per_e[pair]), share))
        return NoiseModel(
            gain,
            np.sqrt(_mixed(self.read_noise_e[pair] ** 2, _share_behind(self.gain_dn_per_e[pair], gain, share))),
            _mixed(_either(self.dark_e_per_s[pair]), share),
            _mixed(_either(self.prnu[pair]), share),
            _mixed(self.black_dn[pair], share),
            _mixed(self.white_dn[pair], share),
            self.channels,
        )

    def _at_calibrated(self, index: int) -> NoiseModel:
        return NoiseModel(**{name: getattr(self, name)[index] for name in QUANTITIES}, channels=self.channels)


def _mixed(pair: FloatArray, share: float | FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray((1 - share) * pair[0] + share * pair[1])


def _share_behind(gains: FloatArray, gain: FloatArray, share: float) -> npt.NDArray[np.float64]:
    """Share (C,) of the second of two ISO speeds in a quantity that is linear in 1 / gain^2."""
    low, high = gains
    alike = np.isclose(low, high, rtol=SAME, atol=0)
    span = np.where(alike, 1.0, high**-2.0 - low**-2.0)
    return np.asarray(np.where(alike, share, (gain**-2.0 - low**-2.0) / span))


def _either(pair: FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray(np.where(np.isnan(pair), pair[::-1], pair))
