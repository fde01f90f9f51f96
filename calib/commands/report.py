"""`psfbank report`: a calibration as one page to look at."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from calib.commands._console import log, print_json, progress, stdout
from calib.commands._options import AsJson, At, BankFile, Overwrite, setting_of


def report(
    bank: BankFile,
    out: Annotated[Path, typer.Option("-o", "--out", help="The page (.html).", dir_okay=False)],
    at: At = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a report as one HTML page: PSFs, MTF, distortion, wavefront, noise, validation, provenance.

    It opens offline in any browser, in the light and in the dark, and prints. Pointing at a place in the field shows
    the PSF, the MTF and the Zernike terms there.
    """
    from hashlib import file_digest

    from calib.report import write_report
    from psfbank.bank import PsfBank

    opened = PsfBank.open(bank)
    calibration = opened.at(**setting_of(at))
    with bank.open("rb") as file:
        origin = {"bank": bank.name, "sha256": file_digest(file, "sha256").hexdigest()}
    with progress() as told:
        verdict = write_report(out, opened, calibration, origin, overwrite=overwrite, report=told)
    if as_json:
        print_json({"written": str(out), "size_bytes": out.stat().st_size, "verdict": asdict(verdict)})
        return
    stdout.print(str(out), soft_wrap=True)
    stdout.print(verdict.line(), soft_wrap=True)
    for warning in verdict.warnings:
        log.warning("%s", warning)
