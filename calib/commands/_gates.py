"""Quality gates on the command line: `--require`, what failed, and exit code 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calib.commands._console import log, stdout

if TYPE_CHECKING:
    from calib.gates import Gate, Judged
    from psfbank.bank import PsfBank

FAILED = 3
Require = Annotated[
    list[str] | None,
    typer.Option(
        "--require",
        metavar="FIGURE>VALUE",
        help="Exit with 3 unless this holds, like 'mtf50_min>0.2' or 'heldout_rms_px<=0.1'; repeat. "
        "`psfbank info --figures` lists the figures and their units.",
    ),
]


def gates_of(require: Sequence[str] | None) -> tuple[Gate, ...]:
    """Read `--require`; typer.BadParameter naming the figures that there are."""
    from calib.gates import parse_gate

    try:
        return tuple(parse_gate(text) for text in require or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--require") from error


def gate_records(judged: Sequence[Judged]) -> dict[str, Any]:
    """Say how a bank stands against gates; nothing where there are none."""
    from calib.gates import FIGURES

    if not judged:
        return {}
    return {
        "gates": [
            {
                "figure": one.gate.figure,
                "wanted": f"{one.gate.comparison} {one.gate.value:g}",
                "found": one.found,
                "unit": FIGURES[one.gate.figure].unit,
                "ok": one.ok,
                "setting": dict(one.setting),
            }
            for one in judged
        ]
    }


def pass_or_exit(judged: Sequence[Judged]) -> None:
    """Tell each gate that fails in a line on stderr; typer.Exit with code 3 when one does."""
    failed = [one for one in judged if not one.ok]
    for one in failed:
        log.error("%s", one)
    if failed:
        raise typer.Exit(FAILED)


def figure_records(bank: PsfBank) -> list[dict[str, float]]:
    """Give every figure of every setting, in order."""
    from calib.gates import figures_of

    return [figures_of(calibration, bank.camera) for calibration in bank.calibrations]


def print_figures(bank: PsfBank) -> None:
    """Print every figure with its unit, what it is, and its value at every setting."""
    import math

    from rich.table import Table

    from calib.gates import FIGURES

    table = Table()
    table.add_column("figure", no_wrap=True)
    for calibration in bank.calibrations:
        setting = ", ".join(f"{key} {value:g}" for key, value in calibration.setting.known().items())
        table.add_column(setting if len(bank.calibrations) > 1 else "value", justify="right")
    for name in ("unit", "what it is"):
        table.add_column(name)
    found = figure_records(bank)
    for name, figure in FIGURES.items():
        values = ("" if math.isnan(of[name]) else f"{of[name]:.4g}" for of in found)
        table.add_row(name, *values, figure.unit, figure.words)
    stdout.print(table)
