"""Quality gates: comparisons that a bank's figures must satisfy, like mtf50_min>0.2."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.summary import calibration_summary
from psfbank.bank import PsfBank
from psfbank.metrics import field_mtf, strehl_ratio
from psfbank.model import Calibration, Camera, PsfGrid

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Figure:
    """A number that a bank is judged by: its unit, "" where it has none, and what it is of."""

    unit: str
    words: str


FIGURES: Mapping[str, Figure] = {
    "mtf50_min": Figure("cycles/px", "least MTF50 of the PSFs, over tiles, channels, sagittal and tangential"),
    "mtf50_median": Figure("cycles/px", "median of the same"),
    "coverage_min": Figure("", "share of tiles with data of their own, in the channel with fewest"),
    "sigma_median": Figure("", "expected relative error of the PSFs, median of the tiles, in the worst channel"),
    "sigma_max": Figure("", "the same in the worst tile"),
    "observations_min": Figure("", "images that the PSFs rest on, in the channel with fewest"),
    "chi2_reserved_median": Figure("", "chi2 per sample of images held in reserve, median, in the worst channel"),
    "heldout_rms_px": Figure("px", "error of the distortion map at views that its fit had not seen"),
    "rms_px_max": Figure("px", "residual of the distortion map, in the worst channel"),
    "lateral_max_px": Figure("px", "largest lateral colour"),
    "corner_min": Figure("", "relative illumination of the darkest corner"),
    "rms_wavefront_nm": Figure("nm", "RMS wavefront error, median of the tiles, in the worst channel"),
    "strehl_min": Figure("", "least Strehl ratio, over tiles and channels"),
    "gain_max_dn_per_e": Figure("DN/e-", "largest gain of a channel"),
    "read_noise_max_e": Figure("e-", "largest read noise of a channel"),
    "prnu_max": Figure("", "largest photo-response non-uniformity of a channel"),
    "flagged_captures": Figure("", "captures that were left out, or served only in part"),
}


@dataclass(frozen=True)
class Gate:
    """One comparison: `figure` of `FIGURES`, `comparison` of `COMPARISONS`, and the value on its right."""

    figure: str
    comparison: str
    value: float

    def holds(self, found: float) -> bool:
        """Whether a figure passes; one that is not known, NaN, never does."""
        return COMPARISONS[self.comparison](found, self.value)


@dataclass(frozen=True)
class Judged:
    """A gate and what was found at one setting; NaN where the bank does not tell."""

    gate: Gate
    found: float
    setting: Mapping[str, float]

    @property
    def ok(self) -> bool:
        """Whether the gate holds."""
        return self.gate.holds(self.found)

    def __str__(self) -> str:
        unit = FIGURES[self.gate.figure].unit
        found = "the bank does not tell it" if np.isnan(self.found) else f"found {self.found:.4g} {unit}".rstrip()
        at = ", ".join(f"{key} {value:g}" for key, value in self.setting.items())
        where = f" (at {at})" if at else ""
        return f"{self.gate.figure}: wanted {self.gate.comparison} {self.gate.value:g}, {found}{where}"


def parse_gate(text: str) -> Gate:
    """Read a gate.

    Parameters
    ----------
    text : str
        FIGURE, one of < <= > >=, and a number: "mtf50_min>0.2".

    Returns
    -------
    Gate

    Raises
    ------
    ValueError
        When it is no such comparison, or names no figure; says what there is.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError(f"{text!r} is no comparison like mtf50_min>0.2; figures are {', '.join(FIGURES)}")
    name, comparison, number = form.groups()
    if name not in FIGURES:
        raise ValueError(f"no figure is called {name}; there are {', '.join(FIGURES)}")
    try:
        value = float(number)
    except ValueError as error:
        raise ValueError(f"{number!r} in {text!r} is no number") from error
    if not np.isfinite(value):
        raise ValueError(f"{text!r}: the number must be finite")
    return Gate(name, comparison, value)


def figures_of(calibration: Calibration, camera: Camera, names: Iterable[str] = FIGURES) -> dict[str, float]:
    """Work out figures of one calibration; NaN where its parts do not tell.

    Parameters
    ----------
    calibration : Calibration
    camera : Camera
    names : iterable of str
        Of `FIGURES`; some take seconds.

    Returns
    -------
    dict of str to float
        In the units of `FIGURES`.
    """
    wanted = list(names)
    told = _summarised(calibration, camera)
    if any(name.startswith("mtf50") for name in wanted):
        told |= _sharpness(calibration.psf_grid, camera)
    if "strehl_min" in wanted:
        told["strehl_min"] = _strehl(calibration)
    return {name: float(told.get(name, np.nan)) for name in wanted}


def judge(bank: PsfBank, gates: Sequence[Gate]) -> list[Judged]:
    """Hold a bank against gates, each at every setting of the bank."""
    judged = []
    for calibration in bank.calibrations if gates else ():
        found = figures_of(calibration, bank.camera, {gate.figure for gate in gates})
        setting = calibration.setting.known() if len(bank.calibrations) > 1 else {}
        judged += [Judged(gate, found[gate.figure], setting) for gate in gates]
    return judged


def _summarised(calibration: Calibration, camera: Camera) -> dict[str, float]:
    """Figures that `info` tells by channel, the worst channel of each."""
    summary = calibration_summary(calibration, camera)

    def worst(part: str, name: str, of: Callable[[Any], Any]) -> float:
        values = np.array(list(((summary[part] or {}).get("by_channel") or {}).get(name, {}).values()), dtype=float)
        known = values[np.isfinite(values)]
        return float(of(known)) if known.size else float("nan")

    distortion, flagged = calibration.distortion, calibration.provenance.get("flagged")
    uncertainty = None if distortion is None else distortion.uncertainty
    grid = calibration.psf_grid
    return {
        "coverage_min": worst("psf", "coverage", np.min),
        "sigma_median": worst("psf", "sigma_median", np.max),
        "sigma_max": float("nan") if grid is None else float(np.max(np.asarray(grid.sigma))),
        "observations_min": worst("psf", "n_obs", np.min),
        "chi2_reserved_median": worst("evidence", "chi2_reserved_median", np.max),
        "heldout_rms_px": float("nan") if uncertainty is None else uncertainty.heldout_rms_px,
        "rms_px_max": worst("distortion", "rms_px", np.max),
        "lateral_max_px": worst("distortion", "lateral_max_px", np.max),
        "corner_min": worst("illumination", "corner_min", np.min),
        "rms_wavefront_nm": worst("wavefront", "rms_nm_median", np.max),
        "gain_max_dn_per_e": worst("noise", "gain_dn_per_e", np.max),
        "read_noise_max_e": worst("noise", "read_noise_e", np.max),
        "prnu_max": worst("noise", "prnu", np.max),
        "flagged_captures": float("nan") if flagged is None else len(flagged),
    }


def _sharpness(grid: PsfGrid | None, camera: Camera) -> dict[str, float]:
    """MTF50 of all tiles; what does not fall to a half counts as the highest frequency that was looked at."""
    if grid is None:
        return {}
    mtf = field_mtf(grid, camera.size_px)
    mtf50 = np.where(np.isnan(mtf.mtf50_cpp), mtf.freq_cpp[-1], mtf.mtf50_cpp)
    return {"mtf50_min": float(mtf50.min()), "mtf50_median": float(np.median(mtf50))}


def _strehl(calibration: Calibration) -> float:
    wavefront = calibration.wavefront
    if wavefront is None:
        return float("nan")
    by_channel = zip(wavefront.coefficients_nm, wavefront.wavelength_nm, strict=True)
    return float(min(strehl_ratio(terms, wavefront.nm, float(nm)).min() for terms, nm in by_channel))
