"""Arguments and options that several commands share, so that they read and behave alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BankFile = Annotated[Path, typer.Argument(metavar="BANK.h5", help="A PSF bank.", exists=True, dir_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Seed = Annotated[int, typer.Option(help="Seed of the random numbers: the same seed, the same result.", min=0)]
Jobs = Annotated[int, typer.Option(help="Workers; the result does not depend on their number.", min=1)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
