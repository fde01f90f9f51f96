"""`psfbank info`: what a bank holds, and whether it is good enough."""

from __future__ import annotations

from typing import Annotated

import typer

from calib.commands._console import print_json
from calib.commands._gates import Require, figure_records, gate_records, gates_of, pass_or_exit, print_figures
from calib.commands._options import AsJson, BankFile


def info(
    bank: BankFile,
    require: Require = None,
    figures: Annotated[
        bool, typer.Option("--figures", help="List the figures that --require knows, with the bank's values.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a bank holds: camera, tiles, flags, distortion, shading, noise and where it came from."""
    from calib.commands._summary import print_bank
    from calib.gates import judge
    from calib.summary import bank_summary
    from psfbank.bank import PsfBank

    gates = gates_of(require)
    opened = PsfBank.open(bank)
    judged = judge(opened, gates)
    if as_json:
        told = {"figures": figure_records(opened)} if figures else {}
        print_json({**bank_summary(opened), **told, **gate_records(judged)})
    elif figures:
        print_figures(opened)
    else:
        print_bank(bank_summary(opened))
    pass_or_exit(judged)
