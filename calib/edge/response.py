"""What an edge says of sharpness: edge and line spread, spatial frequency response, and figures read off them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psfbank.arrays import FloatArray, freeze, require_increasing
from psfbank.metrics import crossing_cpp as crossing_cpp

NYQUIST_CPP = 0.5
PLATEAU_SHARE = 0.125  # of the edge spread function at each end: beyond most lenses' blur, and many samples still


@dataclass(frozen=True, eq=False)
class Response:
    """Response of lens and sensor across one edge.

    `freq_cpp` (F,) rises from 0 to about 1 cycle/pixel along the edge's normal; `sfr` (F,) is 1 at 0, `sfr_std` (F,)
    its standard deviation. `x_px` (N,) is the distance from the edge along its normal, positive to the bright side;
    `esf` (N,) the edge spread function there, in the samples' own units; `lsf` (N,) its slope over the step, 1/px.
    `mtf50_std_cpp` is the standard deviation of MTF50. Standard deviations are NaN where none was estimated.
    """

    freq_cpp: FloatArray
    sfr: FloatArray
    sfr_std: FloatArray
    x_px: FloatArray
    esf: FloatArray
    lsf: FloatArray
    mtf50_std_cpp: float

    def __post_init__(self) -> None:
        freeze(self, np.float64, freq_cpp="F", x_px="N")
        curve, profile = str(len(self.freq_cpp)), str(len(self.x_px))
        freeze(self, np.float64, sfr=curve, sfr_std=curve, esf=profile, lsf=profile)
        require_increasing(self.freq_cpp, "freq_cpp")
        require_increasing(self.x_px, "x_px")


def sfr_at(freq_cpp: FloatArray, sfr: FloatArray, at_cpp: float = NYQUIST_CPP) -> float:
    """Read a response (F,) at one frequency, cycles/pixel, linear between samples; NaN outside of them."""
    return float(np.interp(at_cpp, freq_cpp, sfr, left=np.nan, right=np.nan))


def plateaus(esf: FloatArray) -> tuple[float, float]:
    """Dark and bright level of an edge spread function (N,): the medians of its outermost eighths."""
    end = max(1, round(PLATEAU_SHARE * len(esf)))
    dark, bright = sorted((float(np.median(esf[:end])), float(np.median(esf[-end:]))))
    return dark, bright


def overshoot(esf: FloatArray) -> float:
    """Share of the step by which an edge spread function leaves the range between its plateaus.

    Sharpening makes overshoot; a lens, whose PSF is never negative, cannot. Noise counts as overshoot as well: compare
    with the noise over the step.

    Parameters
    ----------
    esf : (N,) float
        From one side of the edge to the other.

    Returns
    -------
    float
        The larger of the overshoot on the bright and on the dark side, 0 or more; NaN for a profile without a step.
    """
    dark, bright = plateaus(esf)
    if not bright > dark:
        return float("nan")
    return max(float(np.max(esf)) - bright, dark - float(np.min(esf)), 0.0) / (bright - dark)


def lp_per_mm(freq_cpp: float, pitch_um: float) -> float:
    """Cycles/pixel -> line pairs per mm on the sensor, for pixels of `pitch_um`."""
    return 1000 * freq_cpp / pitch_um


def lw_per_ph(freq_cpp: float, height_px: int) -> float:
    """Cycles/pixel -> line widths per picture height, two a cycle (ISO 12233), for a picture of `height_px`."""
    return 2 * freq_cpp * height_px
