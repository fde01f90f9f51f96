"""`psfbank info`: what a bank holds."""

from __future__ import annotations

from calib.commands._console import print_json
from calib.commands._options import AsJson, BankFile


def info(bank: BankFile, as_json: AsJson = False) -> None:
    """Say what a bank holds: camera, tiles, flags, distortion, shading, noise and where it came from."""
    from calib.commands._summary import print_bank
    from calib.summary import bank_summary
    from psfbank.bank import PsfBank

    summary = bank_summary(PsfBank.open(bank))
    if as_json:
        print_json(summary)
    else:
        print_bank(summary)
