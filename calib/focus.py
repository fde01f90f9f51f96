"""Frames of points at several focus distances: which focus is the session's own, and what the others add."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from calib.manifest import Entry, Plan
from calib.wavefront import FocusPlanes
from psfbank.errors import ManifestError
from psfbank.model import Setting

LENS_KINDS = ("led", "chessboard", "charuco", "corners", "noise_target", "slanted_edge", "flat")  # that show the lens


def require_one_lens(plan: Plan) -> None:
    """Raise ManifestError when targets were shot through several lenses; points alone may differ in focus distance."""
    shown = [entry for entry in plan.entries if entry.kind in LENS_KINDS]
    lenses = {str((e.setting.focal_mm, e.setting.f_number)) for e in shown}
    focus = {str(e.setting.focus_m) for e in shown if e.kind != "led"}
    if len(lenses) > 1 or len(focus) > 1:
        raise ManifestError(
            f"{max(len(lenses), len(focus))} different settings of focal length, f-number and focus",
            where=str(plan.path),
            remedy="Each is another lens: shoot charts at each, along one of focus_m, focal_length_mm or pressure_kpa; "
            "or describe each in a capture.toml of its own and calibrate them one by one; led captures alone may "
            "differ in focus_m from the rest",
        )


def own_focus_m(plan: Plan) -> float:
    """Tell the focus that is calibrated: the boards' and flats', else that of most frames of points."""
    shown = [entry for entry in plan.entries if entry.kind in LENS_KINDS]
    for kinds in (LENS_KINDS[1:], ("led",)):
        counted = Counter(
            e.setting.focus_m for e in shown if e.kind in kinds and not np.isnan(e.setting.focus_m) for _ in e.files
        )
        if counted:
            return float(counted.most_common(1)[0][0])
    return float("nan")


def added_defocus_nm(setting: Setting, focus_m: float, own_m: float) -> float:
    """Defocus (Noll's term 4), nm RMS, that focusing on `focus_m` adds to focusing on `own_m`.

    A thin lens focused on s has its sensor at f s / (s - f); what is sharp for another s lies there in front of or
    behind the sensor by d, and W = -d rho^2 / (8 N^2), of which the RMS about its mean is a share of 1 / (2 sqrt 3).
    """
    f_mm = setting.focal_mm
    moved_mm = [f_mm * s_mm / (s_mm - f_mm) if np.isfinite(s_mm) else f_mm for s_mm in (1e3 * focus_m, 1e3 * own_m)]
    return float(-(moved_mm[0] - moved_mm[1]) * 1e6 / (8 * setting.f_number**2) / (2 * np.sqrt(3)))


def planes_of(plan: Plan, entries: Sequence[Entry]) -> FocusPlanes:
    """Sort views of points into planes of focus.

    Parameters
    ----------
    plan : Plan
    entries : sequence of Entry
        The manifest's entry of each view.

    Returns
    -------
    FocusPlanes
        Plane 0 is the session's own focus; a view that states none was shot in it.

    Raises
    ------
    ManifestError
        When focus distances differ but focal length or f-number is not known: they say how far apart the planes lie.
    """
    own_m = own_focus_m(plan)
    stated = [own_m if np.isnan(e.setting.focus_m) else e.setting.focus_m for e in entries]
    others = sorted({focus for focus in stated if focus != own_m and not np.isnan(focus)})
    if not others:
        return FocusPlanes()
    setting = plan.setting
    if not np.isfinite(setting.focal_mm + setting.f_number):
        raise ManifestError(
            "led captures at several focus_m, but focal_length_mm or f_number is not known",
            where=f"{plan.path}, [camera]",
            remedy="Give both: they say by how much the planes of focus differ",
        )
    number = {focus: k for k, focus in enumerate(others, start=1)}
    focus_nm = tuple(added_defocus_nm(setting, focus, own_m) for focus in others)
    return FocusPlanes(tuple(number.get(focus, 0) for focus in stated), focus_nm)
