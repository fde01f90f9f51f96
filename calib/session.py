"""Read a session's captures, one bad file at a time, and keep the journal of what became of each."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import cv2

from calib.manifest import Entry, Plan
from calib.progress import Report, silent
from psfbank import __version__
from psfbank.errors import CaptureUnusable, PsfBankError
from psfbank.flags import Flag
from psfbank.model import Capture

log = logging.getLogger(__name__)

LIBRARIES = ("h5py", "lmfit", "numpy", "prysm", "scikit-image", "scipy")
KINDS = ("led", "chessboard", "charuco", "noise_target", "slanted_edge", "flat", "dark")  # whose pictures are read


@dataclass
class Journal:
    """What became of every input, and the numbers of every part: the bank keeps it as provenance."""

    inputs: list[dict[str, Any]] = field(default_factory=list)
    flagged: list[dict[str, str]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    def flag(self, name: str, flag: Flag, reason: str) -> None:
        """Note that a capture is left out, or serves only in part."""
        log.warning("%s (%s): %s", name, flag.words(), reason)
        self.flagged.append({"name": name, "flag": flag.words(), "reason": reason})

    def is_flagged(self, name: str) -> bool:
        """Whether a capture is left out already."""
        return any(row["name"] == name for row in self.flagged)

    def lack(self, part: str, reason: str) -> None:
        """Note that the bank will not hold a part."""
        log.info("no %s: %s", part, reason)
        self.missing[part] = reason


@dataclass(frozen=True)
class Shot:
    """One readable capture and the entry that describes its target."""

    entry: Entry
    capture: Capture


def read_session(plan: Plan, journal: Journal, report: Report = silent) -> dict[str, list[Shot]]:
    """Read every capture; what cannot be used is flagged and listed while the rest goes on.

    Parameters
    ----------
    plan : Plan
    journal : Journal
        Takes the name and digest of every input, and the reason for every refusal.
    report : callable

    Returns
    -------
    dict of str to list of Shot
        By kind, in the manifest's order; kinds without captures hold an empty list.
    """
    shots: dict[str, list[Shot]] = {kind: [] for kind in KINDS}
    jobs = [(entry, file) for entry in plan.entries if entry.kind in shots for file in entry.files]
    for done, (entry, file) in enumerate(jobs, start=1):
        try:
            capture = plan.read(entry, file)
        except CaptureUnusable as error:
            journal.flag(plan.name(file), Flag.UNUSABLE, in_words(error))
        else:
            journal.inputs.append({"name": capture.name, "kind": entry.kind, "sha256": capture.sha256})
            shots[entry.kind].append(Shot(entry, capture))
        report("read captures", done, len(jobs))
    return shots


def in_words(error: PsfBankError) -> str:
    """Say what happened and what to try, without the place."""
    return f"{error.what}. {error.remedy}" if error.remedy else error.what


def provenance(plan: Plan, journal: Journal) -> Mapping[str, Any]:
    """Versions, the plan, inputs with digests, what was left out and the residuals: no host, user or absolute path."""
    entries = [
        {k: v for k, v in asdict(e).items() if k not in ("files", "pattern") and v is not None}
        | {"files": [plan.name(f) for f in e.files]}
        | ({"pattern": plan.name(e.pattern)} if e.pattern else {})
        for e in plan.entries
    ]
    return {
        # a checkout that was never installed has no metadata, and OpenCV is distributed under several names
        "versions": {
            "python": platform.python_version(),
            "psfbank": __version__,
            "opencv": cv2.__version__,
            **{name: version(name) for name in LIBRARIES},
        },
        "plan": {
            "camera": asdict(plan.camera),
            "encoding": plan.encoding,
            "black_level": plan.black_level,
            "white_level": plan.white_level,
            "wavelengths_nm": plan.wavelengths_nm,
            "captures": entries,
        },
        "inputs": journal.inputs,
        "flagged": journal.flagged,
        "missing": journal.missing,
        "summary": journal.summary,
    }
