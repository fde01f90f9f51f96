"""What a calibration comes to: how much of the field it saw, where the lens is worst, and what to be wary of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from skimage.measure import points_in_poly

from calib.plots.bank import Measured
from calib.plots.distortion import even_places
from psfbank.flags import Flag
from psfbank.metrics import FieldMtf
from psfbank.model import DistortionMap

LEAST_COVERAGE = 0.8  # of tiles with data of their own
LARGEST_CHI2 = 1.3  # per sample, of images held in reserve
LARGEST_MTF50_OFF_CPP = 0.02  # of the PSFs from slanted edges, median
LEAST_REGION = 0.9  # of the picture, that a distortion map was fitted on
LARGEST_HELDOUT = 2.0  # residual of views left out, in residuals of the fit
LARGEST_LEFT_OUT = 3.0  # error of a setting predicted from its neighbours, in its own held-out errors
REGION_SAMPLES = 60  # across the picture
GRAVE = Flag.AT_BOUND | Flag.NOT_CONVERGED | Flag.SATURATED | Flag.LOW_SNR | Flag.OVERLAPPING | Flag.UNUSABLE


@dataclass(frozen=True)
class WorstTile:
    """Where MTF50 is lowest."""

    channel: str
    direction: str
    x_px: float
    y_px: float
    mtf50_cpp: float
    mtf50_std_cpp: float


@dataclass(frozen=True)
class Verdict:
    """A calibration in a line: `coverage` is the share of tiles with data of their own in the channel that has least.

    NaN and None where it has no PSFs. `mtf50_median_cpp` is over all tiles, channels and both directions.
    """

    coverage: float
    mtf50_median_cpp: float
    worst: WorstTile | None
    warnings: tuple[str, ...]

    def line(self) -> str:
        """Say it in words."""
        parts = []
        if not math.isnan(self.coverage):
            parts.append(f"{100 * self.coverage:.0f} % of the tiles have data of their own")
        if self.worst is not None:
            w, error = self.worst, self.worst.mtf50_std_cpp
            told = f"{w.mtf50_cpp:.3f}" + ("" if math.isnan(error) else f" \N{PLUS-MINUS SIGN} {error:.3f}")
            parts.append(f"MTF50 {self.mtf50_median_cpp:.3f} cycles/px in the median")
            parts.append(f"worst {told} at ({w.x_px:.0f}, {w.y_px:.0f}) px, {w.channel} {w.direction}")
        count = len(self.warnings)
        parts.append("no warnings" if not count else f"{count} warning{'s' if count > 1 else ''}")
        return " · ".join(parts)


def verdict_of(measured: Measured, summary: Mapping[str, Any]) -> Verdict:
    """Judge a calibration.

    Parameters
    ----------
    measured : Measured
    summary : mapping
        Its `calibration_summary`.

    Returns
    -------
    Verdict
    """
    grid = measured.calibration.psf_grid
    coverage = min(summary["psf"]["by_channel"]["coverage"].values()) if grid is not None else math.nan
    median, worst = (math.nan, None) if grid is None else _sharpness(measured.mtf)
    return Verdict(coverage, median, worst, tuple(_warnings(measured, summary, coverage)))


def _sharpness(field: FieldMtf) -> tuple[float, WorstTile | None]:
    known = np.isfinite(field.mtf50_cpp)
    if not known.any():
        return math.nan, None
    c, j, i, k = np.unravel_index(np.nanargmin(field.mtf50_cpp), field.mtf50_cpp.shape)
    worst = WorstTile(
        channel=field.channels[c],
        direction=("sagittal", "tangential")[k],
        x_px=float(field.x_px[i]),
        y_px=float(field.y_px[j]),
        mtf50_cpp=float(field.mtf50_cpp[c, j, i, k]),
        mtf50_std_cpp=float(field.mtf50_std_cpp[c, j, i, k]),
    )
    return float(np.median(field.mtf50_cpp[known])), worst


def _warnings(measured: Measured, summary: Mapping[str, Any], coverage: float) -> Iterator[str]:
    if coverage < LEAST_COVERAGE:
        yield f"Only {100 * coverage:.0f} % of the tiles have data of their own; more points would fill the gaps."
    yield from _of_flags(measured)
    yield from _of_agreement(summary)
    if measured.calibration.distortion is not None:
        yield from _of_distortion(measured.calibration.distortion, measured.size_px)
    axis = summary["axis"]
    if axis and axis["left_out_px"] > LARGEST_LEFT_OUT * axis["heldout_px"]:
        yield (
            f"Its neighbours along {axis['key']} predict this setting's map to {axis['left_out_px']:.3g} px only; "
            "settings closer together would interpolate better."
        )
    yield from _of_session(measured.calibration.provenance)


def _of_flags(measured: Measured) -> Iterator[str]:
    if measured.calibration.psf_grid is None:
        return
    flags = np.asarray(measured.calibration.psf_grid.flags)
    for flag in Flag:
        count = int(np.sum((flags & flag) != 0)) if flag & GRAVE else 0
        if count:
            yield f"{count} of {flags.size} tiles are flagged {flag.words().replace('_', ' ')}."


def _of_agreement(summary: Mapping[str, Any]) -> Iterator[str]:
    if summary["evidence"]:
        worst = _largest(summary["evidence"]["by_channel"]["chi2_reserved_median"])
        if worst > LARGEST_CHI2:
            yield f"Images held in reserve disagree with the PSFs: chi2 per sample is {worst:.2f} in the median, not 1."
    if summary["edges"]:
        worst = _largest(summary["edges"]["by_channel"]["mtf50_off_median_cpp"])
        if worst > LARGEST_MTF50_OFF_CPP:
            yield f"Slanted edges and PSFs differ by {worst:.3f} cycles/px in MTF50 (median)."


def _of_distortion(distortion: DistortionMap, size_px: tuple[int, int]) -> Iterator[str]:
    places = np.stack(np.meshgrid(*even_places(size_px, REGION_SAMPLES)), axis=-1).reshape(-1, 2)
    share = float(np.mean(points_in_poly(places, distortion.valid_region)))  # type: ignore[no-untyped-call]
    if share < LEAST_REGION:
        yield f"The distortion map was fitted on {100 * share:.0f} % of the picture; beyond, it extrapolates."
    rms_px = float(np.max(distortion.rms_px))
    heldout_px = math.nan if distortion.uncertainty is None else distortion.uncertainty.heldout_rms_px
    if heldout_px > LARGEST_HELDOUT * rms_px:
        yield f"The distortion map misses views left out of its fit by {heldout_px:.3g} px, its own by {rms_px:.3g} px."


def _of_session(provenance: Mapping[str, Any]) -> Iterator[str]:
    missing, flagged = provenance.get("missing"), provenance.get("flagged")
    if isinstance(missing, Mapping):
        yield from (f"Not calibrated: {part}: {reason}." for part, reason in missing.items())
    if isinstance(flagged, list | tuple) and flagged:
        yield f"{len(flagged)} captures or parts of them were set aside; they are listed under provenance."


def _largest(by_channel: Mapping[str, float]) -> float:
    return float(np.nanmax([-math.inf, *by_channel.values()]))
