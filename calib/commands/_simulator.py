"""What the options of `psfbank simulate` mean: stages as text, and a camera's colours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from psfbank.camera import Camera, Matrix
    from psfbank.isp import Development
    from psfbank.simulate.stages import Stage


def stages_of(words: str | None) -> list[Stage] | None:
    """Read `--stages`; typer.BadParameter when it names no stage and no degradation, or names them wrongly.

    A piece like `key=value` without a name goes with the degradation before it.
    """
    from psfbank.degrade import parse
    from psfbank.simulate.stages import ALL, STAGES, in_order

    if words is None:
        return None
    pieces: list[str] = []
    for word in (piece.strip() for piece in words.split(",")):
        if pieces and "=" in word and ":" not in word.partition("=")[0]:
            pieces[-1] += f",{word}"
        elif word:
            pieces.append(word)
    try:
        stages: list[Stage] = [piece if piece in (*STAGES, ALL) else parse(piece) for piece in pieces]
        in_order([stage for stage in stages if stage != ALL], some=ALL in stages)
    except ValueError as error:
        among = "" if "there are" not in str(error) else f"; stages: {', '.join(STAGES)}, or {ALL}"
        raise typer.BadParameter(f"{error}{among}", param_hint="--stages") from error
    return stages


def development_of(
    camera: Camera, colours: str | None, gains: str | None, tone: Literal["srgb", "smoothstep", "filmic"]
) -> Development | None:
    """Make the development that options describe; None when they leave the camera's colours alone.

    typer.BadParameter when gains are no three numbers; MissingPartError or ColourError when there is no such matrix.
    """
    from psfbank.isp import Development, Filmic, Smoothstep, Srgb

    curve = Srgb() if tone == "srgb" else Smoothstep() if tone == "smoothstep" else Filmic()
    balance = None if gains is None else _numbers(gains)
    if colours is None:
        if balance is None and tone == "srgb":
            return None
        return Development(balance or (1.0, 1.0, 1.0), tone=curve)
    return Development.of_camera(_matrix(camera, colours), balance, curve)


def _matrix(camera: Camera, colours: str) -> Matrix:
    from psfbank.errors import ColourError, MissingPartError
    from psfbank.isp import known_cameras, read_matrices

    if colours == "bank":
        if camera.xyz_to_camera is None:
            raise MissingPartError(
                "this bank does not know its camera's colours",
                remedy="Calibrate from DNG or other RAW files, or name a camera: "
                f"--colours {next(iter(known_cameras()))!r}",
            )
        return camera.xyz_to_camera
    known = known_cameras()
    if colours in known:
        return tuple(map(tuple, known[colours].tolist()))
    if not Path(colours).suffix:
        raise ColourError(f"no camera {colours!r} is known; there are {', '.join(known)}", remedy="Or name a file")
    table = read_matrices(colours)
    if len(table) > 1:
        raise ColourError(f"holds {len(table)} matrices", where=colours, remedy="Leave one of them")
    return tuple(map(tuple, next(iter(table.values())).tolist()))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3 or min(values) <= 0:
        raise typer.BadParameter(f"{text} is not three positive numbers, like 2.1,1,1.6", param_hint="--gains")
    return values
