"""What shows only beside the other captures of a call: sizes, copies, and the one frame that moved or lost focus."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from calib.inspect.blur import times_the_sharpest
from calib.inspect.findings import Inspection, Trouble
from calib.inspect.judge import FALLING, falling_noise
from calib.inspect.light import LEAST_SPAN
from calib.led import UNSHARP_RATIO
from psfbank.arrays import FloatArray

BLURRED_RATIO = {"led": UNSHARP_RATIO, "chessboard": 1.35, "charuco": 1.35, "slanted_edge": 1.35}  # to the sharpest
LEAST_STREAK_PX, SURE, OF_BLUR = 0.7, 4.0, 0.3  # of a motion: length, over its uncertainty; variance over the blur's
LONG_STREAK_PX, LONG_ALONE_PX = 1.2, 2.5  # beyond which a frame is of no use; where few others say what is usual
MOST = 0.5
LEAST_FLATS = 3
_ALTERED = {"sharpened", "clipped", "gamma suspected"}  # pictures whose blur is not the lens's: no mark for others


def beside_each_other(
    inspections: Sequence[Inspection], size_px: tuple[int, int] | None = None
) -> tuple[Inspection, ...]:
    """Add to each inspection what the others reveal of it.

    Parameters
    ----------
    inspections : sequence of Inspection
    size_px : (H, W), optional
        That all pictures must have; when None, that of most.
    """
    added: dict[int, list[Trouble]] = defaultdict(list)
    _sizes(inspections, size_px, added)
    _copies(inspections, added)
    _blur(inspections, added)
    _motion(inspections, added)
    _gamma(inspections, added)
    return tuple(replace(one, troubles=(*one.troubles, *added[i])) for i, one in enumerate(inspections))


def _sizes(inspections: Sequence[Inspection], size_px: tuple[int, int] | None, added: dict[int, list[Trouble]]) -> None:
    sizes = Counter(one.facts.size_px for one in inspections if one.facts)
    if size_px is None:
        ((usual, count),) = sizes.most_common(1) or [((0, 0), 0)]
        size_px = usual if count > MOST * sizes.total() else None
    for i, one in enumerate(inspections):
        if size_px and one.facts and one.facts.size_px != size_px:
            (height, width), (usual_height, usual_width) = one.facts.size_px, size_px
            turned = (height, width) == (usual_width, usual_height)
            what = f"it is {width} x {height} pixels, the others are {usual_width} x {usual_height}"
            remedy = "It is turned by 90 degrees: export it without rotation" if turned else "Leave it out"
            added[i].append(Trouble("wrong size", what, remedy, blocks=True))


def _copies(inspections: Sequence[Inspection], added: dict[int, list[Trouble]]) -> None:
    first: dict[str, Inspection] = {}
    for i, one in enumerate(inspections):
        if one.pixels_sha256 and first.setdefault(one.pixels_sha256, one) is not one:
            what = f"its pixels are those of {first[one.pixels_sha256].path.name}"
            remedy = "Leave one out: two frames of one scene differ in their noise"
            added[i].append(Trouble("copy", what, remedy, blocks=True))


def _alike(inspections: Sequence[Inspection]) -> list[list[int]]:
    """Group captures of one kind and one size, by their indices."""
    groups: dict[tuple[str, tuple[int, int]], list[int]] = defaultdict(list)
    for i, one in enumerate(inspections):
        if one.facts and one.seen and one.seen.kind in BLURRED_RATIO:
            groups[one.seen.kind, one.facts.size_px].append(i)
    return list(groups.values())


def _blur(inspections: Sequence[Inspection], added: dict[int, list[Trouble]]) -> None:
    for group in _alike(inspections):
        seen = [one.seen for i in group if (one := inspections[i]).seen]
        sizes = [one.facts.size_px for i in group if (one := inspections[i]).facts]
        blur = [s.blur_px for s in seen]
        sets_a_mark = np.array([not _ALTERED & {t.name for t in inspections[i].troubles} for i in group])
        ratios = times_the_sharpest([s.xy_px for s in seen], blur, sizes[0], sets_a_mark)
        for i, ratio, shown in zip(group, ratios, seen, strict=True):
            if ratio > BLURRED_RATIO[shown.kind]:
                what = f"it is blurred {ratio:.2f} times as much as the sharpest of its kind at the same places"
                remedy = "It moved or lost focus: leave it out, or shoot it again with focus locked, on a tripod"
                added[i].append(Trouble("blurred", what, remedy, blocks=shown.kind == "led"))


def _motion(inspections: Sequence[Inspection], added: dict[int, list[Trouble]]) -> None:
    for group in _alike(inspections):
        tensors = np.array([_tensor(one.seen.streak_px) for i in group if (one := inspections[i]).seen])
        for i, tensor in zip(group, tensors, strict=True):
            seen = inspections[i].seen
            if seen is None or not np.isfinite(tensor).all():
                continue
            # what most frames have in common is the lens's own, and no motion
            usual = np.nanmedian(tensors, axis=0) if np.isfinite(tensors[:, 0]).sum() > 2 else np.zeros(2)
            excess = tensor - usual
            length = float(np.sqrt(12 * np.hypot(*excess)))
            blur = seen.figures.get("blur_px", np.nan)
            much = length > LEAST_STREAK_PX and length**2 / 12 > OF_BLUR * blur**2
            if not (much and length > SURE * seen.streak_std_px):
                continue
            angle = float(np.degrees(np.arctan2(excess[1], excess[0]) / 2)) % 180
            what = (
                f"motion is suspected: all over the picture the blur is longer in one direction, as if it had moved by "
                f"{length:.1f} px at {angle:.0f} degrees from the rows"
            )
            remedy = "Use a tripod and the self-timer, or expose for a shorter time"
            alone = not usual.any()
            if alone:
                remedy += "; a lens that is out of centre looks alike, but in every frame"
            too_long = length > (LONG_ALONE_PX if alone else LONG_STREAK_PX)
            # corners of a board that moved still tell where they were on average
            blocks = too_long and seen.kind in ("led", "slanted_edge")
            added[i].append(Trouble("motion", what, remedy, blocks=blocks))


def _tensor(streak_px: FloatArray) -> FloatArray:
    """Excess variance, px^2, along a motion, as (xx - yy, 2 xy)."""
    x, y = streak_px
    return np.array([x**2 - y**2, 2 * x * y]) / 12


def _gamma(inspections: Sequence[Inspection], added: dict[int, list[Trouble]]) -> None:
    """Flats of several levels are a photon transfer curve."""
    flats = [i for i, one in enumerate(inspections) if one.light.get("noise_variance", 0.0) > 0]
    signal, variance = (
        np.array([inspections[i].light[f"noise_{name}"] for i in flats]) for name in ("signal", "variance")
    )
    if len(flats) < LEAST_FLATS or signal.max() < LEAST_SPAN * signal.min():
        return
    slope = float(np.polyfit(np.log(signal), np.log(variance), 1)[0])
    if slope < FALLING:
        for i in flats:
            added[i].append(falling_noise(slope))
