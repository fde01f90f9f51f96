"""`psfbank inspect`: what captures hold, which targets they show, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from calib.commands._console import log, print_json, progress
from calib.commands._options import AsJson, AssumeLinear, AssumeSrgb, Jobs, Overwrite, assumed, pictures_of

if TYPE_CHECKING:
    from calib.inspect import Assumed, Inspection
    from calib.manifest import Plan


def inspect(
    captures: Annotated[
        list[str] | None, typer.Argument(metavar="CAPTURE...", help="Pictures; patterns like 'led/*.dng' too.")
    ] = None,
    session: Annotated[
        Path | None,
        typer.Option(help="Session that the captures belong to; without CAPTURE, all of its pictures.", exists=True),
    ] = None,
    kind: Annotated[
        Literal["led", "slanted_edge", "chessboard", "charuco", "noise_target", "flat", "dark"] | None,
        typer.Option(help="Target in the pictures; without it each picture tells."),
    ] = None,
    cfa: Annotated[
        Literal["RGGB", "BGGR", "GRBG", "GBRG", "mono"] | None,
        typer.Option(help="Colours of the sites of a mosaic that is no RAW file."),
    ] = None,
    black_level: Annotated[float | None, typer.Option(help="DN without light, where no RAW file tells.")] = None,
    white_level: Annotated[float | None, typer.Option(help="DN at which samples saturate.")] = None,
    assume_srgb: AssumeSrgb = False,
    assume_linear: AssumeLinear = False,
    annotate: Annotated[
        Path | None,
        typer.Option(metavar="OUT.png", help="Draw what was detected over the picture; a folder, for several."),
    ] = None,
    jobs: Jobs = 2,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Say what captures hold, which target is in each, and what is wrong with it.

    Exit code 0 when all can be calibrated with, 1 when some cannot.
    """
    from concurrent.futures import ThreadPoolExecutor

    from calib.commands._inspect import print_records, record_of
    from calib.inspect import Assumed, inspect_files
    from calib.manifest import load_plan

    encoding = assumed(assume_srgb, assume_linear)
    plan = load_plan(session) if session else None
    paths = _paths(captures, plan)
    if annotate:
        _require_room(annotate, paths, overwrite)
    known = Assumed(cfa, black_level, white_level, encoding or "as-stored", kind or "")
    with progress() as report, ThreadPoolExecutor(jobs) as executor:
        found = inspect_files(paths, known, plan, executor=executor, report=report)
    if annotate:
        _draw(found, annotate, known, plan)
    records = [record_of(one) for one in found]
    usable = all(one.usable for one in found)
    if as_json:
        print_json({"usable": usable, "captures": records})
    else:
        print_records(records)
    if not usable:
        raise typer.Exit(1)


def _paths(captures: Sequence[str] | None, plan: Plan | None) -> list[Path]:
    if captures:
        return pictures_of(list(captures))
    if plan is None:
        raise typer.BadParameter("name pictures, or a session", param_hint="CAPTURE")
    pictures = [file for entry in plan.entries if entry.kind != "corners" for file in entry.files]
    if not pictures:
        raise typer.BadParameter(f"{plan.path} names no picture", param_hint="--session")
    return list(dict.fromkeys(pictures))


def _targets(annotate: Path, paths: Sequence[Path]) -> list[Path]:
    """Files that are drawn: one, or one in a folder for each picture, told apart by their folders' names."""
    if len(paths) == 1 and annotate.suffix.lower() == ".png":
        return [annotate]
    names = [path.stem for path in paths]
    several = {name for name in names if names.count(name) > 1}
    return [
        annotate / ((f"{path.parent.name}_" if path.stem in several else "") + path.name + ".png") for path in paths
    ]


def _require_room(annotate: Path, paths: Sequence[Path], overwrite: bool) -> None:
    """Refuse before the work what would fail after it."""
    hint = "--annotate"
    if len(paths) > 1 and annotate.suffix:
        raise typer.BadParameter(f"several pictures want a folder, and {annotate} names a file", param_hint=hint)
    if len(paths) == 1 and annotate.suffix and annotate.suffix.lower() != ".png":
        raise typer.BadParameter(f"{annotate.name} must end in .png", param_hint=hint)
    targets = _targets(annotate, paths)
    if len(set(targets)) < len(targets):
        raise typer.BadParameter("two pictures of one name lie in folders of one name", param_hint=hint)
    if targets != [annotate] and annotate.exists() and not annotate.is_dir():
        raise typer.BadParameter(f"{annotate} is no folder", param_hint=hint)
    if not annotate.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {annotate.parent}; make it first", param_hint=hint)
    for target in targets:
        if target.exists() and not overwrite:
            raise typer.BadParameter(f"{target} exists; choose another name or say --overwrite", param_hint=hint)


def _draw(found: Sequence[Inspection], annotate: Path, known: Assumed, plan: Plan | None) -> None:
    from calib.inspect.annotate import write_annotated

    targets = _targets(annotate, [one.path for one in found])
    if targets != [annotate]:
        annotate.mkdir(exist_ok=True)
    for one, target in zip(found, targets, strict=True):
        if one.facts is None:
            log.info("%s cannot be read, and is not drawn", one.path)
            continue
        write_annotated(one, target, known, plan)
        log.info("%s written", target)
