"""`psfbank verify`: tell whether a bank is whole and safe to read."""

from __future__ import annotations

import typer

from calib.commands._console import print_json
from calib.commands._options import AsJson, BankFile


def verify(bank: BankFile, as_json: AsJson = False) -> None:
    """Check a bank's structure, digests and physics: "ok" and its digest, or exit code 4 and the reason."""
    from psfbank import store

    summary = store.verify(bank)
    if as_json:
        told = ("content_sha256", "schema_version", "generator", "file_bytes")
        datasets = {dataset.path: dataset.sha256 for dataset in summary.datasets}
        print_json({"ok": True, **{name: getattr(summary, name) for name in told}, "datasets": datasets})
    else:
        typer.echo(f"ok {summary.content_sha256}")
