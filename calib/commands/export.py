"""`psfbank export`: a calibration for other programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from calib.commands._console import log, print_json, stderr, stdout
from calib.commands._options import AsJson, At, BankFile, Overwrite, setting_of

To = Literal["opencv", "ros", "lensfun", "stmap", "colmap", "csv", "json", "npz"]


def export(
    bank: BankFile,
    to: Annotated[To, typer.Option("--to", help="Whose format.")],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", help="The file: .yml, .yaml, .xml, .json, .exr, .tif, .txt, .csv or .npz, as the format is."
        ),
    ],
    channel: Annotated[
        Literal["R", "G", "B"], typer.Option(help="The channel that leads, where a format has one map.")
    ] = "G",
    model: Annotated[
        str | None,
        typer.Option(help="Name the model to fit, like rational8; by default the simplest of about the least loss."),
    ] = None,
    at: At = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a calibration in another program's format, and say in pixels what that format cannot hold.

    The loss is the distance between the exported model and the bank's own distortion map over its valid region, at
    places that the fit did not use.
    """
    from psfbank.bank import PsfBank
    from psfbank.interop import export as write

    opened = PsfBank.open(bank)
    calibration = opened.at(**setting_of(at))
    with stderr.status(f"export to {to}"):
        done = write(opened.camera, calibration, to, out, channel=channel, model=model, overwrite=overwrite)
    if as_json:
        losses = {loss.channel: {k: v for k, v in asdict(loss).items() if k != "channel"} for loss in done.losses}
        print_json({"written": str(out), "to": to, "model": done.model or None, "loss": losses, "notes": done.notes})
        return
    stdout.print(str(done.path), soft_wrap=True)
    if done.model:
        stdout.print(f"model: {done.model}")
    for loss in done.losses:
        stdout.print(f"loss in {loss.channel}: {loss.rms_px:.3g} px RMS, {loss.max_px:.3g} px at most")
        if loss.coverage < 1:
            log.warning("%.1f %% of the valid region cannot be held", 100 * (1 - loss.coverage))
    for note in done.notes:
        stdout.print(note, soft_wrap=True)
