"""One quantity of two calibrations: how far apart, in its unit and in standard deviations, and whether that is much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from psfbank.arrays import FloatArray

CHANCE = 1e-4  # that a difference is called one where errors alone make it
FREEDOM = 5.0  # degrees of freedom of an error field of which no more is known than its size: smooth, so few
LARGEST_LIMIT = 5.0  # sigma, of a single place
NOTHING = 1e-6  # in any unit: what rounding, and the inversion of a map, leave of what is the same in both


@dataclass(frozen=True)
class Difference:
    """How far two calibrations are apart in one quantity and channel: RMS and largest, in `unit`.

    `sigma` is the RMS of what errors of both are expected to make of it, one standard deviation; `in_sigma` is the RMS
    of the difference over that and `limit` what it may be; `largest_in_sigma` is the largest. These are NaN where the
    calibrations do not know their errors; `tolerance` then is what two sessions of one camera may differ by, in `unit`.
    """

    quantity: str
    unit: str
    channel: str
    rms: float
    largest: float
    sigma: float = float("nan")
    in_sigma: float = float("nan")
    limit: float = float("nan")
    largest_in_sigma: float = float("nan")
    tolerance: float = float("nan")

    @property
    def differs(self) -> bool | None:
        """Whether it is more than errors explain; None where nothing is known to hold it against."""
        if self.largest <= NOTHING:
            return False
        if np.isfinite(self.in_sigma):
            return self.in_sigma > self.limit or self.largest_in_sigma > LARGEST_LIMIT
        return self.rms > self.tolerance if np.isfinite(self.tolerance) else None


def both_sigmas(one: FloatArray, other: FloatArray) -> npt.NDArray[np.float64]:
    """Give the standard deviation (...) of a difference; where one side does not know its errors, the other's serve."""
    sides = [np.asarray(each, dtype=np.float64) for each in (one, other)]
    return np.asarray(np.hypot(*(np.where(np.isnan(a), b, a) for a, b in (sides, sides[::-1]))))


def rms_limit(freedom: float) -> float:
    """RMS of a difference over its sigma that errors of so many degrees of freedom exceed with a chance of `CHANCE`.

    A mean of squares of correlated errors is distributed about as chi-squared over its degrees of freedom, when these
    are chosen so that the variance is right (Satterthwaite, 1946).
    """
    return float(np.sqrt(chi2.isf(CHANCE, freedom) / freedom))


def against_sigma(
    quantity: str, unit: str, channel: str, apart: FloatArray, sigma: FloatArray, freedom: float = FREEDOM
) -> Difference:
    """Gather differences (...) that are known to sigma (...), NaN where either is not known."""
    known = np.isfinite(apart)
    if not known.any():
        return Difference(quantity, unit, channel, np.nan, np.nan)
    rms, largest = float(np.sqrt(np.mean(apart[known] ** 2))), float(np.abs(apart[known]).max())
    judged = known & np.isfinite(sigma) & (sigma > 0)
    if not judged.any():
        return Difference(quantity, unit, channel, rms, largest)
    ratio = np.abs(apart[judged]) / sigma[judged]
    spread, in_sigma = (float(np.sqrt(np.mean(values**2))) for values in (sigma[judged], ratio))
    return Difference(quantity, unit, channel, rms, largest, spread, in_sigma, rms_limit(freedom), float(ratio.max()))


def against_tolerance(quantity: str, unit: str, channel: str, apart: FloatArray, tolerance: float) -> Difference:
    """Gather differences (...) that no sigma is known of."""
    known = apart[np.isfinite(apart)]
    if not known.size:
        return Difference(quantity, unit, channel, np.nan, np.nan)
    rms, largest = float(np.sqrt(np.mean(known**2))), float(np.abs(known).max())
    return Difference(quantity, unit, channel, rms, largest, tolerance=tolerance)
