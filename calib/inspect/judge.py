"""What is wrong with one capture, in words, and what to try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from calib.capture import MAX_SATURATED_SHARE
from calib.inspect.findings import Seen, Trouble
from calib.inspect.look import is_black

DIM = 0.15  # of white: the brightest of a chart or of points below it is mostly noise
DIM_FLAT = 0.02
FEW_CLIPPED, MANY_CLIPPED = 0.02, 0.5  # of the places of a target
CLIPPED_FLAT = 0.01  # of a flat's pixels
SOFT_MTF50_CPP, SOFT_POINT_PX, SOFT_OF_SQUARE = 0.08, 2.0, 0.1
OVERSHOOT, SFR_PEAK, UNDERSHOOT = 0.04, 1.04, 0.02  # beyond noise, and beyond what a lens whose PSF is positive can
TILTED_DEG = 15.0  # of a grid of points: its far side is smaller, and farther out of focus
MOSTLY = 0.5
HOT_SHARE = 1e-3
FALLING, SURE = -0.1, 3.0  # slope of log variance against log signal, and how many deviations it must lie below 0
SHARPENED = "Switch sharpening off, or save RAW; what the lens did is gone from this picture"


def judge(
    seen: Seen, light: Mapping[str, float], noise_slope: tuple[float, float], told_kind: str, linear: bool
) -> list[Trouble]:
    """List what stands against a capture by itself.

    Parameters
    ----------
    seen : Seen
    light : mapping
        From `calib.inspect.light.exposure`.
    noise_slope : (float, float)
        From `calib.inspect.light.noise_slope`.
    told_kind : str
        Kind of target that was announced, "" where none was.
    linear : bool
        Whether the samples were taken as they are, and not decoded from sRGB.
    """
    if light["saturated_share"] > MAX_SATURATED_SHARE:
        what = f"{light['saturated_share']:.0%} of the pixels are saturated"
        return [Trouble("clipped", what, "Expose less", blocks=True)]
    troubles = [*_target(seen, light, told_kind)]
    if troubles and troubles[0].blocks:
        return troubles
    troubles += _light(seen, light)
    troubles += _sharpness(seen)
    slope, std = noise_slope
    if linear and slope < FALLING and slope < -SURE * std:
        troubles.append(falling_noise(slope))
    return troubles


def falling_noise(slope: float) -> Trouble:
    """Say that noise falls while the signal rises, log against log by this slope."""
    what = f"a gamma curve or denoising is suspected: noise falls as the signal rises (variance ~ signal^{slope:.1f})"
    remedy = "No sensor does that: save RAW, or linear 16 bit without denoising"
    return Trouble("gamma suspected", what, remedy, blocks=True)


def _target(seen: Seen, light: Mapping[str, float], told_kind: str) -> Iterator[Trouble]:
    if is_black(light) and seen.kind != "dark":
        what = f"the picture is all black: {light['brightest']:.2%} of white at most"
        yield Trouble("black", what, "Expose more, or take the cap off", blocks=True)
    elif told_kind == "dark" and not seen.kind:
        yield Trouble("light", seen.complaint, "", blocks=True)
    elif not seen.kind:
        what = f"no {told_kind.replace('_', ' ')} was found" if told_kind else "no target was found in it"
        remedy = seen.complaint or "Show a grid of points, slanted edges, a board, an even field or darkness"
        yield Trouble("no target", what, remedy, blocks=True)
    elif seen.complaint:
        yield Trouble("in part", seen.complaint, "It serves for what was measured", blocks=seen.unusable)


def _light(seen: Seen, light: Mapping[str, float]) -> Iterator[Trouble]:
    share, count = light["saturated_share"], len(seen.clipped)
    clipped = float(np.mean(seen.clipped)) if count and seen.kind != "dark" else 0.0
    if clipped > FEW_CLIPPED:
        what = f"light is clipped at {int(seen.clipped.sum())} of {count} places of the target"
        remedy = "Expose less: the brightest belongs at 70 % of full scale"
        boards = seen.kind in ("chessboard", "charuco")  # whose detector says itself when clipping spoils a corner
        yield Trouble("clipped", what, remedy, blocks=clipped > MANY_CLIPPED and not boards)
    elif seen.kind == "flat" and share > CLIPPED_FLAT:
        yield Trouble("clipped", f"{share:.1%} of the pixels are saturated", "Expose less")
    if seen.kind == "flat" and light["median"] < DIM_FLAT:
        what = f"it is dim: {light['median']:.1%} of white in the middle of its levels"
        yield Trouble("too dark", what, "Fine as the lowest of several levels; expose the others more")
    elif seen.kind not in ("flat", "dark") and light["brightest"] < DIM:
        what = f"it is too dark: the brightest light is {light['brightest']:.0%} of white"
        yield Trouble("too dark", what, "Expose more: the brightest belongs at 70 % of full scale")
    if seen.kind == "dark" and seen.figures["hot_pixels"] > HOT_SHARE * light["pixels"]:
        what = f"{seen.figures['hot_pixels']:.0f} pixels glow"
        yield Trouble("hot pixels", what, "Expose for a shorter time, or cool the camera")


def _sharpness(seen: Seen) -> Iterator[Trouble]:
    figures = seen.figures
    blur = figures.get("blur_px", np.nan)
    refocus = "Focus again, lock it, and use a tripod and the self-timer"
    soft = {
        "led": blur > SOFT_POINT_PX,
        "chessboard": blur > SOFT_OF_SQUARE * figures.get("square_px", np.inf),
        "charuco": blur > SOFT_OF_SQUARE * figures.get("square_px", np.inf),
        "slanted_edge": figures.get("mtf50_cpp", np.inf) < SOFT_MTF50_CPP,
    }
    if soft.get(seen.kind, False):
        what = f"it is out of focus or moved: the blur is {blur:.1f} px (sigma)"
        yield Trouble("blurred", what, refocus, blocks=seen.kind in ("led", "slanted_edge"))
    over, under = figures.get("overshoot", 0.0), figures.get("undershoot", 0.0)
    peak = figures.get("sfr_peak", np.inf)
    if over > OVERSHOOT and peak > SFR_PEAK:
        told = f", the SFR rises to {peak:.2f}" if np.isfinite(peak) else ""
        what = f"sharpening is suspected: edges overshoot by {over:.0%} of their step{told}; no lens does that"
        yield Trouble("sharpened", what, SHARPENED, blocks=seen.kind == "slanted_edge")
    elif under > UNDERSHOOT:
        what = f"sharpening is suspected: around points it is darker than the background by {under:.0%} of their peak"
        yield Trouble("sharpened", what, SHARPENED, blocks=True)
    if seen.kind == "led" and figures.get("tilt_deg", 0.0) > TILTED_DEG:
        what = f"the grid is tilted by {figures['tilt_deg']:.0f} degrees"
        yield Trouble("tilted", what, "Face it squarely: its far side is smaller and farther out of focus")
    if figures.get("critical_share", 0.0) > MOSTLY:
        what = "most edges lie along rows, columns or at another angle at which pixels sample few phases"
        yield Trouble("critical angle", what, "Turn the chart to 5 or 8 degrees")
