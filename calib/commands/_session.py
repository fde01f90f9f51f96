"""What `calibrate` says at the end: a line a part, a line a capture that was left out."""

from __future__ import annotations

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
