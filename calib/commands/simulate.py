"""`psfbank simulate`: take a sharp picture with a calibrated camera."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer

from calib.commands._console import log, print_json, progress
from calib.commands._options import AsJson, At, BankFile, Jobs, Overwrite, Seed, setting_of


def simulate(
    bank: BankFile,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Sharp pictures.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A file (.npy, .png, .tif, .jpg), or a folder.")],
    stages: Annotated[
        str | None, typer.Option(help="Comma-separated, as in blur,noise; by default all that the bank has data for.")
    ] = None,
    source_scale: Annotated[int, typer.Option(help="Samples of the pictures a sensor pixel.", min=1)] = 1,
    assume_srgb: Annotated[bool, typer.Option("--assume-srgb", help="The pictures are sRGB: decode them.")] = False,
    assume_linear: Annotated[bool, typer.Option("--assume-linear", help="The pictures are linear light.")] = False,
    exposure: Annotated[float, typer.Option(help="Share of the white level that white comes to.", min=1e-6)] = 1.0,
    seed: Seed = 0,
    jobs: Jobs = 1,
    at: At = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make sharp pictures look as if the bank's camera had taken them."""
    from psfbank.bank import PsfBank
    from psfbank.batch import simulate_files
    from psfbank.simulate import STAGES, Simulator

    if assume_srgb and assume_linear:
        raise typer.BadParameter("a picture is either sRGB or linear", param_hint="--assume-srgb, --assume-linear")
    chosen = None if stages is None else [word.strip() for word in stages.split(",") if word.strip()]
    if unknown := sorted(set(chosen or ()) - set(STAGES)):
        raise typer.BadParameter(f"no {', '.join(unknown)}; there are {', '.join(STAGES)}", param_hint="--stages")
    if chosen and "demosaic" in chosen and "mosaic" not in chosen:
        raise typer.BadParameter("demosaic needs mosaic", param_hint="--stages")

    opened = PsfBank.open(bank)
    simulator = Simulator(
        opened.at(**setting_of(at)),
        chosen,
        source_scale=source_scale,
        size_px=opened.camera.size_px,
        cfa=opened.camera.cfa,
        exposure=exposure,
        workers=1 if jobs > 1 else None,
    )
    for line in simulator.describe():
        log.debug(line)
    # spawned, not forked: the threads of numerical libraries do not survive a fork
    pool = ProcessPoolExecutor(jobs, get_context("spawn")) if jobs > 1 else nullcontext()
    with pool as executor, progress() as report:
        written = simulate_files(
            simulator,
            images,
            out,
            seed=seed,
            assume="srgb" if assume_srgb else "linear" if assume_linear else None,
            overwrite=overwrite,
            executor=executor,
            report=report,
        )
    if as_json:
        print_json({"written": [str(path) for path in written], "stages": simulator.describe(), "seed": seed})
        return
    for path in written:
        typer.echo(path)
