"""`psfbank synth`: captures of a known camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from calib.commands._console import print_json, progress, stdout
from calib.commands._options import AsJson, Overwrite, Seed

TILES = {False: (7, 9), True: (19, 25)}  # a spot wants nodes closer together than its radius


def synth(
    folder: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Folder of the session.", file_okay=False)],
    bank: Annotated[
        Path | None, typer.Option(help="The camera; without it one is made up.", exists=True, dir_okay=False)
    ] = None,
    width: Annotated[int, typer.Option(help="Pixels of the made-up camera.", min=320, max=8192)] = 640,
    height: Annotated[int, typer.Option(help="Pixels of the made-up camera.", min=240, max=8192)] = 480,
    lens: Annotated[
        Literal["phone", "tele", "wide"], typer.Option(help="Lens of the made-up camera: f/2, f/2.8 or f/1.8.")
    ] = "phone",
    spot: Annotated[
        bool, typer.Option("--spot", help="Give the made-up lens a local spot of another quality.")
    ] = False,
    cfa: Annotated[
        Literal["RGGB", "BGGR", "GRBG", "GBRG", "mono"], typer.Option(help="Colours of the made-up camera's sites.")
    ] = "RGGB",
    dng: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Write this kind of capture as DNG; repeat for more, or say all."),
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Render a session of captures of a known camera: LEDs, slanted edges, chessboards, flats, darks, and its truth."""
    import numpy as np

    from calib.synth_camera import camera_of
    from calib.synth_lens import DESIGNS, with_spot
    from calib.synth_session import KINDS, write_session
    from psfbank.bank import PsfBank

    if unknown := set(dng or ()) - {*KINDS, "all"}:
        raise typer.BadParameter(
            f"{', '.join(sorted(unknown))}: choose from {', '.join(KINDS)}, all", param_hint="--dng"
        )
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise typer.BadParameter(f"{folder} is not empty; choose another or say --overwrite", param_hint="OUT_DIR")
    design = with_spot(DESIGNS[lens]) if spot else DESIGNS[lens]
    truth = PsfBank.open(bank) if bank else camera_of(design, width, height, tiles=TILES[spot], cfa=cfa)
    with progress() as report:
        files = write_session(
            truth, folder, np.random.default_rng(seed), dng=KINDS if "all" in (dng or ()) else dng or (), report=report
        )
    sizes = {str(file): file.stat().st_size for file in files}
    if as_json:
        print_json({"files": sizes, "bytes": sum(sizes.values()), "seed": seed})
        return
    for file, size in sizes.items():
        stdout.print(f"{file}  {size / 1e3:.0f} kB", markup=False, soft_wrap=True)
    stdout.print(f"{len(files)} files, {sum(sizes.values()) / 1e6:.2f} MB", markup=False)
