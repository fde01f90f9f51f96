"""Arguments and options that several commands share, so that they read and behave alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BankFile = Annotated[Path, typer.Argument(metavar="BANK.h5", help="A PSF bank.", exists=True, dir_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
At = Annotated[
    list[str] | None,
    typer.Option("--at", metavar="KEY=VALUE", help="Setting of a bank that holds several, like focus_m=0.8; repeat."),
]
Seed = Annotated[int, typer.Option(help="Seed of the random numbers: the same seed, the same result.", min=0)]
Jobs = Annotated[int, typer.Option(help="Workers; the result does not depend on their number.", min=1)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]


def setting_of(at: list[str] | None) -> dict[str, float]:
    """Read `--at` as a setting; typer.BadParameter when a word is no KEY=VALUE."""
    from psfbank.bank import SETTING_KEYS

    setting = {}
    for word in at or ():
        key, _, value = word.partition("=")
        try:
            setting[key] = float(value)
        except ValueError as error:
            raise typer.BadParameter(f"{word} is no KEY=VALUE, like focus_m=0.8", param_hint="--at") from error
        if not setting[key] > 0 and key != "pressure_kpa":
            raise typer.BadParameter(f"{word}: it must be positive", param_hint="--at")
        if key not in SETTING_KEYS:
            raise typer.BadParameter(f"no setting is called {key}: {', '.join(SETTING_KEYS)}", param_hint="--at")
    return setting
