"""What `calibrate` says at the end: a line a part, a line a capture that was left out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from calib.commands._console import stdout
from psfbank.bank import PsfBank

_PARTS = ("psf", "distortion", "shading", "noise")


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
        table.add_row(part, f"none: {absent}" if absent else _words(values or {}))
    stdout.print(table)
    for row in found["flagged"]:
        stdout.print(f"{row['name']}: {row['flag']}: {row['reason']}", soft_wrap=True)
    stdout.print(f"{output}  {output.stat().st_size / 1e6:.3g} MB", soft_wrap=True)


def _words(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {_number(value)}" for name, value in values.items())


def _number(value: Any) -> str:
    if isinstance(value, list):
        return "  ".join(_number(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
