"""Steps of a calibration: noise, shading, points and PSFs; each says in the journal why its part is missing."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib import led
from calib.manifest import Entry, Plan
from calib.photometry import MeasuredNoise, fit_illumination, measure_by_iso
from calib.pointmodel import Optics
from calib.progress import Report, silent
from calib.session import Journal, Shot, in_words
from psfbank.arrays import FloatArray
from psfbank.errors import CalibrationError, NoTargetFound
from psfbank.flags import Flag
from psfbank.model import Illumination, NoiseModel, Points
from psfbank.zernike import noll_terms

NOLL_FIRST, NOLL_LAST = 4, 15  # piston and tilt show in no centred PSF
NOMINAL_F_NUMBER, NOMINAL_PITCH_UM = 2.0, 1.4  # a phone's, where the manifest does not say; their scale is then fitted
BAND_NM = 20.0  # half width of a channel's spectrum
LARGEST_HALF_PX, SMALLEST_HALF_PX = 14, 8
PATCH_OF_SPACING = 0.42  # half a patch; two points' patches stay apart, down to the smallest

log = logging.getLogger(__name__)


def measure_noise(plan: Plan, shots: dict[str, list[Shot]], journal: Journal) -> MeasuredNoise | None:
    """Photon transfer from flats and darks, at each of their ISO speeds; None when they do not suffice."""
    flats, darks = ([shot.capture for shot in shots[kind]] for kind in ("flat", "dark"))
    if not flats and not darks:
        journal.lack("noise", "the session has no usable flat and no dark captures")
        return None
    if plan.encoding != "linear":
        journal.lack("noise", "gamma-coded pictures do not keep the sensor's noise; shoot RAW")
        return None
    black = np.zeros(len(plan.camera.channels)) if plan.black_level is None else plan.black_level
    iso = shot_iso(plan, shots)
    try:
        measured = measure_by_iso(flats, darks, plan.camera, black, white_dn(plan), iso)
    except CalibrationError as error:
        journal.lack("noise", in_words(error))
        return None
    if not math.isnan(iso) and iso != measured.iso:
        log.warning("noise was measured at ISO %g, the rest was shot at ISO %g", measured.iso, iso)
    for name, reason in measured.left_out.items():
        journal.flag(name, Flag.UNUSABLE, f"for noise: {reason}")
    journal.summary["noise"] = {
        name: [round(float(v), 6) for v in getattr(measured.noise, name)]
        for name in ("gain_dn_per_e", "read_noise_e", "black_dn")
    }
    if measured.by_iso is not None:
        journal.summary["noise"]["iso"] = measured.by_iso.iso.tolist()
    return measured


def shot_iso(plan: Plan, shots: dict[str, list[Shot]]) -> float:
    """ISO speed at which most targets were shot; the session's where they do not tell, NaN where nothing does."""
    targets = (shot for kind, of_kind in shots.items() if kind not in ("flat", "dark") for shot in of_kind)
    told = Counter(shot.capture.setting.iso for shot in targets if not math.isnan(shot.capture.setting.iso))
    return told.most_common(1)[0][0] if told else plan.setting.iso


def white_dn(plan: Plan) -> float:
    """DN at which a sample saturates; `load_plan` makes sure that linear pictures have one."""
    if plan.white_level is None:
        raise CalibrationError("no white level is known", where=str(plan.path), remedy="Set [camera].white_level")
    return plan.white_level


def measure_shading(
    plan: Plan, shots: dict[str, list[Shot]], x_px: FloatArray, y_px: FloatArray, journal: Journal
) -> Illumination | None:
    """Relative illumination from flats; None without them."""
    flats, darks = ([shot.capture for shot in shots[kind]] for kind in ("flat", "dark"))
    if not flats:
        journal.lack("shading", "the session has no usable flat captures")
        return None
    try:
        shading = fit_illumination(flats, plan.camera, x_px, y_px, darks)
    except CalibrationError as error:
        journal.lack("shading", in_words(error))
        return None
    journal.summary["shading"] = {"least": round(float(shading.relative.min()), 4)}
    return shading


@dataclass(frozen=True)
class PointSet:
    """Everything seen of the point grids: patches, and each view's indices with the entry that gives their pitch."""

    images: Points
    views: tuple[led.PointView, ...]
    entries: tuple[Entry, ...]
    names: tuple[str, ...]

    def capture_of_lights(self) -> list[str]:
        """Name the capture of every light."""
        return [name for view, name in zip(self.views, self.names, strict=True) for _ in view.xy_px]


def find_points(
    plan: Plan, shots: Sequence[Shot], noise: NoiseModel | None, journal: Journal, report: Report = silent
) -> PointSet | None:
    """Detect, index and cut the points of all LED captures; None when no frame shows a grid."""
    views, kept = [], []
    for done, shot in enumerate(shots, start=1):
        try:
            view = led.find_points(shot.capture, plan.camera)
        except NoTargetFound as error:
            journal.flag(shot.capture.name, Flag.UNUSABLE, in_words(error))
        else:
            views.append(view)
            kept.append(shot)
            if view.spacing_px < 2 * SMALLEST_HALF_PX:
                reason = (
                    f"points {view.spacing_px:.0f} px apart lie in each other's tails: stand nearer, or light fewer"
                )
                journal.flag(shot.capture.name, Flag.OVERLAPPING, reason)
        report("find points", done, len(shots))
    if not views:
        return None
    views, kept = _sharp_frames(plan, views, kept, journal)
    spacing = min(view.spacing_px for view in views)
    half_px = int(np.clip(PATCH_OF_SPACING * spacing, SMALLEST_HALF_PX, LARGEST_HALF_PX))
    images = led.cut_points(views, [shot.capture for shot in kept], plan.camera, noise, half_px)
    journal.summary["psf"] = {"led_frames": len(views)}
    return PointSet(images, tuple(views), tuple(s.entry for s in kept), tuple(s.capture.name for s in kept))


def _sharp_frames(
    plan: Plan, views: Sequence[led.PointView], shots: Sequence[Shot], journal: Journal
) -> tuple[list[led.PointView], list[Shot]]:
    """Leave out frames whose points are wider than another frame's of the same setting: it lost focus, or moved."""
    settings = [str(shot.entry.setting) for shot in shots]  # as text: NaN, which stands for unknown, equals nothing
    ratio = np.ones(len(views))
    for setting in dict.fromkeys(settings):
        alike = [k for k, other in enumerate(settings) if other == setting]
        ratio[alike] = led.relative_widths([views[k] for k in alike], [shots[k].capture for k in alike], plan.camera)
    for shot, wider in zip(shots, ratio, strict=True):
        if wider > led.UNSHARP_RATIO:
            reason = f"its points are {wider:.2f} times as wide as another frame's: out of focus, or something moved"
            journal.flag(shot.capture.name, Flag.UNSHARP, reason)
    keep = [k for k in range(len(views)) if ratio[k] <= led.UNSHARP_RATIO]
    return [views[k] for k in keep], [shots[k] for k in keep]


def optics_of(plan: Plan) -> tuple[Optics, bool]:
    """Say what the manifest tells of the optics, and whether it tells enough to fix the scale of diffraction."""
    f_number, pitch_um = plan.setting.f_number, plan.camera.pitch_um
    known = bool(np.isfinite(f_number) and np.isfinite(pitch_um))
    centres = np.asarray(plan.wavelengths_nm, dtype=np.float64)
    band = centres[:, None] + np.array([-BAND_NM, 0.0, BAND_NM])
    optics = Optics(
        noll_terms(NOLL_FIRST, NOLL_LAST),
        band,
        np.ones_like(band),
        float(f_number) if np.isfinite(f_number) else NOMINAL_F_NUMBER,
        float(pitch_um) if np.isfinite(pitch_um) else NOMINAL_PITCH_UM,
    )
    return optics, known
