"""`psfbank compare`: whether two banks show the same lens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from calib.commands._console import log, print_json, print_whole, stderr, stdout
from calib.commands._options import AsJson, At, BankFile, Overwrite, setting_of

if TYPE_CHECKING:
    from psfbank.compare import Comparison, Difference

_GATE_FAILED = 3


def compare(
    bank: BankFile,
    other: Annotated[Path, typer.Argument(metavar="OTHER.h5", help="The bank beside it.", exists=True, dir_okay=False)],
    at: At = None,
    other_at: Annotated[
        list[str] | None,
        typer.Option("--other-at", metavar="KEY=VALUE", help="Setting of the other bank; by default that of --at."),
    ] = None,
    npz: Annotated[Path | None, typer.Option(help="Write the difference maps as arrays, .npz.")] = None,
    require_same: Annotated[
        bool, typer.Option("--require-same", help="Exit with code 3 unless all is the same within errors.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Tell whether two banks show the same lens: differences with their units, and in standard deviations of both.

    PSFs are compared after registration, distortion after the rotation of the frame that no picture tells is removed.
    """
    from psfbank.bank import PsfBank
    from psfbank.compare import compare as hold_against
    from psfbank.compare import save_maps

    first, second = PsfBank.open(bank), PsfBank.open(other)
    one = first.at(**setting_of(at))
    beside = second.at(**setting_of(other_at if other_at is not None else at))
    if first.camera.pitch_um != second.camera.pitch_um and not math.isnan(
        first.camera.pitch_um * second.camera.pitch_um
    ):
        log.warning(
            "pixels differ: %g and %g um; all is compared in pixels", first.camera.pitch_um, second.camera.pitch_um
        )
    with stderr.status("compare"):
        found = hold_against(first.camera, one, second.camera, beside)
    if npz is not None:
        save_maps(found, npz, overwrite=overwrite)
    if as_json:
        print_json(_told(found, npz))
    else:
        _print(found)
        if npz is not None:
            stdout.print(str(npz), soft_wrap=True)
    if require_same and not found.same:
        raise typer.Exit(_GATE_FAILED)


def _told(found: Comparison, npz: Path | None) -> dict[str, object]:
    return {
        "verdict": found.verdict,
        "same": found.same,
        "differences": [{**asdict(each), "differs": each.differs} for each in found.differences],
        "turn_deg": found.turn_deg,
        "left_out": found.left_out,
        "maps": None if npz is None else str(npz),
    }


def _print(found: Comparison) -> None:
    stdout.print(found.verdict, soft_wrap=True)
    print_whole(_table(found.differences))
    if math.isfinite(found.turn_deg):
        stdout.print(f"a rotation of {found.turn_deg:.3g} degrees between the frames is taken out")
    for words in found.left_out:
        stdout.print(f"not compared: {words}")


def _table(differences: Sequence[Difference]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("quantity", "in"):
        table.add_column(name, no_wrap=True)
    for name in ("RMS", "largest", "expected", "in sigma", "limit", "most", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for each in differences:
        expected = each.sigma if math.isfinite(each.sigma) else each.tolerance
        numbers = (each.rms, each.largest, expected)
        ratios = (each.in_sigma, each.limit, each.largest_in_sigma)
        table.add_row(
            f"{each.quantity} [{each.unit}]",
            each.channel,
            *("" if math.isnan(value) else f"{value:.3g}" for value in numbers),
            *("" if math.isnan(value) else f"{value:.2g}" for value in ratios),
            {True: "differs", False: "same", None: "?"}[each.differs],
        )
    return table
