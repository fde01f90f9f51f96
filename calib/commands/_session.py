"""What `calibrate` says at the end: a line a part, a line a capture that was left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from calib.commands._console import stdout
from psfbank.bank import PsfBank

_PARTS = ("psf", "distortion", "shading", "noise", "edges")


def session_summary(bank: PsfBank, output: Path) -> dict[str, Any]:
    """Gather numbers of every part, what is missing and what was flagged."""
    provenance = bank.calibrations[0].provenance
    return {"bank": str(output), **{key: provenance[key] for key in ("summary", "missing", "flagged")}}


def print_session(bank: PsfBank, output: Path) -> None:
    """Print the summary table on stdout."""
    found = session_summary(bank, output)
    table = Table(title=f"{bank.camera.maker} {bank.camera.model}".strip() or None, title_justify="left")
    table.add_column("part")
    table.add_column("result")
    for part in _PARTS:
        values = found["summary"].get(part)
        absent = found["missing"].get(part)
        if absent or values:
            table.add_row(part, f"none: {absent}" if absent else _words(values))
    stdout.print(table)
    for row in found["flagged"]:
        stdout.print(f"{row['name']}: {row['flag']}: {row['reason']}", soft_wrap=True)
    stdout.print(f"{output}  {output.stat().st_size / 1e6:.3g} MB", soft_wrap=True)


def plan_summary(session: Path, output: Path) -> dict[str, Any]:
    """Check a session's description, and say what calibrating it would read and write; ManifestError if it is wrong."""
    from calib.focus import require_one_lens
    from calib.manifest import load_plan
    from calib.settings import axis_of, by_setting

    plan = load_plan(session)
    axis = axis_of(plan)
    for part in by_setting(plan, axis) if axis else (plan,):
        require_one_lens(part)
    camera = plan.camera
    return {
        "capture_toml": str(plan.path),
        "camera": {name: getattr(camera, name) for name in ("maker", "model", "lens", "size_px", "cfa", "pitch_um")},
        "setting": plan.setting.known(),
        "levels": {"black_dn": plan.black_level, "white_dn": plan.white_level, "encoding": plan.encoding},
        "wavelengths_nm": plan.wavelengths_nm,
        "captures": [
            {"kind": entry.kind, "setting": entry.setting.known(), "files": [plan.name(file) for file in entry.files]}
            for entry in plan.entries
        ],
        "along": axis,
        "would_write": str(output),
    }


def print_plan(planned: Mapping[str, Any]) -> None:
    """Print what calibrating a session would read and write."""
    camera = planned["camera"]
    height, width = camera["size_px"]
    name = " ".join(camera[key] for key in ("maker", "model", "lens") if camera[key])
    pitch = f" of {camera['pitch_um']:g} um" if math.isfinite(camera["pitch_um"]) else ", of unknown pitch"
    stdout.print(f"{planned['capture_toml']}: {name}, {width} x {height} px{pitch}, {camera['cfa']}", soft_wrap=True)
    table = Table()
    for column in ("kind", "files", "first", "setting"):
        table.add_column(column)
    for row in planned["captures"]:
        setting = ", ".join(f"{key} {value:g}" for key, value in row["setting"].items())
        table.add_row(row["kind"], str(len(row["files"])), row["files"][0], setting)
    stdout.print(table)
    if planned["along"]:
        stdout.print(f"one calibration for each {planned['along']}")
    stdout.print(f"would write {planned['would_write']}", soft_wrap=True)


def _words(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {_brief(value)}" for name, value in values.items())


def _brief(value: Any) -> str:
    """Numbers in four digits; of nothing, and of lists of tables, only how many."""
    if isinstance(value, Mapping):
        return "  ".join(f"{name} {_brief(item)}" for name, item in value.items())
    if isinstance(value, list):
        tables = not value or isinstance(value[0], Mapping)
        return str(len(value)) if tables else "  ".join(_brief(item) for item in value)
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
