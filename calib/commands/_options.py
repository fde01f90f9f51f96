"""Arguments and options that several commands share, so that they read and behave alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Literal

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
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and written, and stop.")]
Pictures = Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures; patterns like 'in/*.png' too.")]
AssumeSrgb = Annotated[bool, typer.Option("--assume-srgb", help="The pictures are sRGB: decode them.")]
AssumeLinear = Annotated[bool, typer.Option("--assume-linear", help="The pictures are linear light.")]


def pictures_of(words: list[str]) -> list[Path]:
    """Find the files that words name: each a file, or a pattern that the shell did not resolve, in order of name.

    typer.BadParameter when a pattern fits no file.
    """
    paths: list[Path] = []
    for word in words:
        path = Path(word)
        if path.exists() or not any(mark in word for mark in "*?["):
            paths.append(path)
            continue
        anchor = path.anchor or "."
        found = sorted(p for p in Path(anchor).glob(str(path.relative_to(path.anchor))) if p.is_file())
        if not found:
            raise typer.BadParameter(f"{word} fits no file", param_hint="IMAGE")
        paths += [p for p in found if p not in paths]
    return paths


def assumed(srgb: bool, linear: bool) -> Literal["srgb", "linear"] | None:
    """Read `--assume-srgb` and `--assume-linear`; typer.BadParameter when both are given."""
    if srgb and linear:
        raise typer.BadParameter("a picture is either sRGB or linear", param_hint="--assume-srgb, --assume-linear")
    return "srgb" if srgb else "linear" if linear else None


def processes(jobs: int) -> Callable[[], Executor] | None:
    """Give what makes a pool of processes; None for one job."""
    # spawned, not forked: the threads of numerical libraries do not survive a fork
    return None if jobs == 1 else partial(ProcessPoolExecutor, jobs, get_context("spawn"))


def size_of(word: str) -> tuple[int, int]:
    """Read `--size` as height and width; typer.BadParameter when it is not like 1920x1080."""
    found = re.fullmatch(r"(\d+)x(\d+)", word)
    if not found or min(map(int, found.groups())) < 1:
        raise typer.BadParameter(f"{word} is not like 1920x1080", param_hint="--size")
    width, height = map(int, found.groups())
    return height, width


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
