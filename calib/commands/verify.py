"""`psfbank verify`: tell whether a bank is whole and safe to read."""

from __future__ import annotations

from typing import Annotated

import typer

from calib.commands._console import print_json
from calib.commands._options import AsJson, BankFile


def verify(
    bank: BankFile,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="For files from strangers: read it in a process of its own, with limits.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a bank's structure, digests and physics: "ok" and its digest, or exit code 4 and the reason."""
    from psfbank import store

    told = store.verify_isolated(bank) if isolated else store.summary_of(store.verify(bank))
    if as_json:
        print_json({"ok": True, **told})
    else:
        typer.echo(f"ok {told['content_sha256']}")
