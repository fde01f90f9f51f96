"""Sessions at several settings of the lens: one calibration each, and how well neighbours predict one left out.

Charts that were shot at several values of one setting (focus distance, zoom, pressure) make an axis. Each value is
calibrated from what was shot there; `psfbank.along` interpolates between. Each calibration keeps the error of the map
that the others predict in its place: what interpolation can be trusted to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from calib.manifest import Entry, Plan
from psfbank.along import mixed_map, weights
from psfbank.arrays import FloatArray
from psfbank.axis import AXIS_KEYS, Axis, axis_scale
from psfbank.errors import ManifestError
from psfbank.model import Calibration, DistortionMap, ZernikeField

CHARTS = ("chessboard", "charuco", "corners", "noise_target")  # that tell the picture's geometry

Miss = Callable[[DistortionMap], float]
log = logging.getLogger(__name__)


def axis_of(plan: Plan) -> str | None:
    """Name the setting along which charts were shot; None when all were shot at one.

    Raises
    ------
    ManifestError
        When charts differ in two settings, or some do not say at which they were shot.
    """
    charts = [entry for entry in plan.entries if entry.kind in CHARTS]
    values = {key: {getattr(entry.setting, key) for entry in charts} for key in AXIS_KEYS}
    varying = [key for key, found in values.items() if len({v for v in found if not np.isnan(v)}) > 1]
    if len(varying) > 1:
        raise ManifestError(
            f"charts differ in {' and '.join(varying)}",
            where=str(plan.path),
            remedy="Along one axis one setting moves; describe each other one in a capture.toml of its own",
        )
    if varying and any(np.isnan(v) for v in values[varying[0]]):
        raise ManifestError(
            f"charts differ in {varying[0]}, and some do not state theirs",
            where=str(plan.path),
            remedy=f"Give {varying[0]} for each [[capture]]",
        )
    return varying[0] if varying else None


def by_setting(plan: Plan, key: str) -> tuple[Plan, ...]:
    """Split a plan into one for each value of a setting at which charts were shot, in rising order.

    Darks serve all; flats and slanted edges those settings at which they were shot, flats all the others too. Points
    that were shot at a focus distance without charts are a further plane of the wavefront of the setting nearest to it;
    those shot at a setting are of that setting's lens, and tell nothing of another's.
    """
    values = sorted({getattr(entry.setting, key) for entry in plan.entries if entry.kind in CHARTS})
    return tuple(
        replace(
            plan, setting=replace(plan.setting, **{key: value}), entries=_entries_at(plan.entries, key, value, values)
        )
        for value in values
    )


def _entries_at(entries: Sequence[Entry], key: str, value: float, values: Sequence[float]) -> tuple[Entry, ...]:
    own = [entry for entry in entries if getattr(entry.setting, key) == value]
    flats_there = any(entry.kind == "flat" for entry in own)
    chosen = []
    for entry in entries:
        shared = entry.kind == "dark" or (entry.kind == "flat" and not flats_there) or _unstated(entry, key)
        if entry in own or (entry.kind == "led" and key == "focus_m" and _nearest(entry, values) == value):
            chosen.append(entry)
        elif shared:
            chosen.append(replace(entry, setting=replace(entry.setting, **{key: value})))
    return tuple(chosen)


def _nearest(entry: Entry, focus_m: Sequence[float]) -> float:
    """Focus distance, of those with charts, that is nearest to an entry's in dioptres; NaN when it states none."""
    if _unstated(entry, "focus_m"):
        return float("nan")
    own = axis_scale("focus_m", entry.setting.focus_m)
    return min(focus_m, key=lambda value: abs(axis_scale("focus_m", value) - own))


def _unstated(entry: Entry, key: str) -> bool:
    return bool(np.isnan(getattr(entry.setting, key)))


def along_axis(calibrations: Sequence[Calibration], key: str, misses: Sequence[Miss | None]) -> tuple[Calibration, ...]:
    """Mark calibrations as those of one axis, each with the error of the map that the others predict for it.

    Parameters
    ----------
    calibrations : sequence of Calibration
        At different values of `key`.
    key : str
    misses : sequence of callable, optional each
        What a map leaves of the corners that a setting showed, 2-D RMS in px; None where there are none.

    Returns
    -------
    tuple of Calibration
        In rising order of the axis's scale.
    """
    order = np.argsort([axis_scale(key, getattr(c.setting, key)) for c in calibrations])
    ordered = _same_signs([calibrations[i] for i in order])
    places = np.array([axis_scale(key, getattr(c.setting, key)) for c in ordered])
    marked = []
    for k, calibration in enumerate(ordered):
        missed, own = _left_out(ordered, places, k, misses[order[k]]), _heldout_px(calibration)
        if np.isfinite(missed):
            value = getattr(calibration.setting, key)
            log.info("%s = %g left out: predicted to %.3f px, its own held-out error %.3f px", key, value, missed, own)
        marked.append(replace(calibration, axis=Axis(key, np.array([missed, own]))))
    return tuple(marked)


def twin(wavefront: ZernikeField) -> ZernikeField:
    """Give the wavefront -W(-rho), which makes the same images in one focus plane: even terms change their sign."""
    even = wavefront.nm[:, 0] % 2 == 0
    imaging = wavefront.imaging
    mirrored = None if imaging is None else replace(imaging, clip=imaging.clip * np.array([-1.0, -1.0, 1.0]))
    return replace(wavefront, coefficients_nm=np.where(even, -1.0, 1.0) * wavefront.coefficients_nm, imaging=mirrored)


def _same_signs(ordered: Sequence[Calibration]) -> list[Calibration]:
    """Of every wavefront and its twin, take the one nearer to its neighbour's, so that they can be interpolated.

    It begins at the first setting whose signs its own images tell, or at the first.
    """
    out = list(ordered)
    known = [_signs_are_known(c) for c in out]
    begin = known.index(True) if True in known else 0
    for here, beside in [(k, k - 1) for k in range(begin + 1, len(out))] + [(k, k + 1) for k in range(begin)[::-1]]:
        field, reference = out[here].wavefront, out[beside].wavefront
        if known[here] or field is None or reference is None or not _comparable(field, reference):
            continue
        mirrored = twin(field)
        off, off_twin = (np.sum((f.coefficients_nm - reference.coefficients_nm) ** 2) for f in (field, mirrored))
        if off_twin < off:
            out[here] = replace(out[here], wavefront=mirrored)
    return out


def _comparable(one: ZernikeField, other: ZernikeField) -> bool:
    return one.coefficients_nm.shape == other.coefficients_nm.shape and np.array_equal(one.nm, other.nm)


def _signs_are_known(calibration: Calibration) -> bool:
    told = calibration.provenance.get("summary", {}).get("psf", {})
    return bool(told.get("signs_are_known", False))


def _left_out(ordered: Sequence[Calibration], places: FloatArray, k: int, miss: Miss | None) -> float:
    """2-D RMS, px, that the map which all settings but one predict leaves of its corners; NaN for the outermost."""
    maps = [c.distortion for c in ordered]
    there = [i for i, found in enumerate(maps) if found is not None and i != k]
    if miss is None or not any(i < k for i in there) or not any(i > k for i in there):
        return float("nan")
    rest = [found for i in there if (found := maps[i]) is not None]
    return miss(mixed_map(rest, weights(places[there], float(places[k]))))


def _heldout_px(calibration: Calibration) -> float:
    told = calibration.provenance.get("summary", {}).get("distortion", {})
    return float(told.get("heldout_rms_px", np.nan))
