"""Inspect files: each by itself, then beside the others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import numpy as np

from calib.capture import read_picture
from calib.edge.measure import light_of
from calib.inspect.facts import Assumed, facts_of, settle
from calib.inspect.findings import Inspection, Trouble
from calib.inspect.judge import judge
from calib.inspect.light import exposure, flat_noise, noise_slope
from calib.inspect.look import look
from calib.inspect.together import beside_each_other
from calib.manifest import Entry, Plan
from calib.picture import Picture
from calib.progress import Report, silent
from psfbank.errors import PsfBankError
from psfbank.model import Camera, Capture, Setting

UNKNOWN = Assumed()


def inspect_files(
    paths: Sequence[Path],
    assumed: Assumed = UNKNOWN,
    plan: Plan | None = None,
    *,
    executor: Executor | None = None,
    report: Report = silent,
) -> tuple[Inspection, ...]:
    """Tell what each of several captures holds, and what is wrong with it.

    Parameters
    ----------
    paths : sequence of Path
    assumed : Assumed
        Of files that do not say it themselves.
    plan : Plan, optional
        A session, which tells of its own files what `assumed` leaves open, and their targets.
    executor : Executor, optional
        Threads; the result does not depend on it.
    report : callable
        Told (step, done, total).

    Returns
    -------
    tuple of Inspection
        One a path, in order; a file that cannot be read has its trouble told, and the rest goes on.
    """
    run = map if executor is None else executor.map
    found = []
    report("inspect", 0, len(paths))
    for one in run(lambda path: inspect_file(path, assumed, plan, entry_of(path, plan)), paths):
        found.append(one)
        report("inspect", len(found), len(paths))
    return beside_each_other(found, plan.camera.size_px if plan else None)


def entry_of(path: Path, plan: Plan | None) -> Entry | None:
    """Find the entry of a session that names a file; None where none does."""
    entries = () if plan is None else plan.entries
    return next((entry for entry in entries if path.resolve() in {file.resolve() for file in entry.files}), None)


def inspect_file(
    path: Path, assumed: Assumed = UNKNOWN, plan: Plan | None = None, entry: Entry | None = None
) -> Inspection:
    """Inspect one file by itself; parameters as of `inspect_files`, `entry` that of the session that names it."""
    try:
        picture = read_picture(path)
        capture, camera, settled, troubles = light_in(picture, path, assumed, plan, entry)
    except PsfBankError as error:
        return Inspection(path, troubles=(Trouble("unreadable", error.what, error.remedy, blocks=True),))
    black = np.atleast_1d(np.asarray(_black(picture, settled), dtype=np.float64))
    facts = facts_of(picture, settled, _white(picture, settled), tuple(black.tolist()))
    pixels_sha256 = hashlib.sha256(np.ascontiguousarray(picture.dn).tobytes()).hexdigest()
    if picture.dn.min() == picture.dn.max():
        what = f"every sample is {picture.dn.flat[0]}"
        same = Trouble("empty", what, "Leave it out: not even noise was recorded", blocks=True)
        return Inspection(path, facts, troubles=(same,), pixels_sha256=pixels_sha256)
    light = exposure(capture)
    told = settled.kind or (entry.kind if entry else "")
    seen = look(capture, camera, settled.kind, entry)
    slope = noise_slope(capture, camera)
    linear = settled.encoding != "srgb"
    troubles += judge(seen, light, slope, told, linear)
    light["noise_slope"] = slope[0]
    if seen.kind == "flat" and linear:
        light["noise_signal"], light["noise_variance"] = flat_noise(capture, camera)
    return Inspection(path, facts, seen, light, tuple(troubles), pixels_sha256)


def light_in(
    picture: Picture, path: Path, assumed: Assumed, plan: Plan | None, entry: Entry | None
) -> tuple[Capture, Camera, Assumed, list[Trouble]]:
    """Read a picture as light, as far as it is known what its numbers mean; CaptureUnusable where it is none."""
    if plan is not None and entry is not None and picture.white_dn is None:
        assumed = Assumed(
            assumed.cfa or (plan.camera.cfa if plan.camera.cfa != "RGB" else None),
            plan.black_level if assumed.black_dn is None else assumed.black_dn,
            plan.white_level if assumed.white_dn is None else assumed.white_dn,
            "srgb" if plan.encoding == "srgb" else assumed.encoding if assumed.encoding != "as-stored" else "linear",
            assumed.kind,
        )
    settled, troubles = settle(picture, assumed)
    capture, camera = light_of(picture, settled.cfa, settled.black_dn, settled.white_dn, settled.encoding, str(path))
    pitch_um = plan.camera.pitch_um if plan is not None and entry is not None else picture.pitch_um
    known = {**picture.setting.known(), **(entry.setting.known() if entry else {})}
    return replace(capture, setting=Setting(**known)), replace(camera, pitch_um=pitch_um), settled, troubles


def _black(picture: Picture, settled: Assumed) -> float | tuple[float, ...]:
    if settled.black_dn is not None:
        return settled.black_dn
    return picture.black_dn if picture.black_dn is not None else 0.0


def _white(picture: Picture, settled: Assumed) -> float:
    if settled.white_dn is not None:
        return settled.white_dn
    return picture.white_dn if picture.white_dn is not None else 1.0
