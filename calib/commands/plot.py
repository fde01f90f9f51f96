"""`psfbank plot`: one figure of a calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from calib.commands._console import print_json, stdout
from calib.commands._options import AsJson, At, BankFile, Overwrite, setting_of

Kind = Literal[
    "psf",
    "encircled-energy",
    "mtf50",
    "mtf",
    "mtf50-height",
    "distortion",
    "uncertainty",
    "lateral-colour",
    "zernike",
    "wavefront",
    "aberrations",
    "noise",
    "shading",
    "chi2",
    "residuals",
    "edges",
]


def plot(
    kind: Annotated[Kind, typer.Argument(help="What to draw.")],
    bank: BankFile,
    out: Annotated[Path, typer.Option("-o", "--out", help="The figure (.png, .pdf, .svg).", dir_okay=False)],
    at: At = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Draw one figure of a report into a file of its own."""
    from calib.plots import draw_figure
    from psfbank.bank import PsfBank

    opened = PsfBank.open(bank)
    draw_figure(kind, opened.at(**setting_of(at)), opened.camera.size_px, out, overwrite=overwrite)
    if as_json:
        print_json({"written": str(out), "kind": kind})
    else:
        stdout.print(str(out), soft_wrap=True)
