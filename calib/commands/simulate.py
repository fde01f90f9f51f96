"""`psfbank simulate`: take sharp pictures with a calibrated camera."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

from calib.commands._console import log, print_json, progress
from calib.commands._options import (
    AsJson,
    AssumeLinear,
    AssumeSrgb,
    At,
    BankFile,
    DryRun,
    Jobs,
    Overwrite,
    Pictures,
    Seed,
    assumed,
    pictures_of,
    processes,
    setting_of,
)
from calib.commands._simulator import development_of, stages_of


def simulate(
    bank: BankFile,
    images: Pictures,
    out: Annotated[Path, typer.Option("-o", "--out", help="A file (.npy, .png, .tif, .jpg), or a folder.")],
    stages: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated, as in blur,noise; by default all that the bank has data for. Degradations go among "
            "them, as in camera_shake:length_px=5..20,all,tone."
        ),
    ] = None,
    source_scale: Annotated[int, typer.Option(help="Samples of the pictures a sensor pixel.", min=1)] = 1,
    fit: Annotated[
        Literal["centre", "crop", "scale"],
        typer.Option(
            help="A picture of another size than the sensor: centre a smaller one, crop a larger one too, or scale it."
        ),
    ] = "centre",
    assume_srgb: AssumeSrgb = False,
    assume_linear: AssumeLinear = False,
    exposure: Annotated[float, typer.Option(help="Share of the white level that white comes to.", min=1e-6)] = 1.0,
    exposure_s: Annotated[float, typer.Option(help="Exposure time, for dark current.", min=0.0)] = 0.0,
    shot: Annotated[
        Literal["exact", "gaussian"], typer.Option(help="Photons drawn one by one, or nearly so and faster.")
    ] = "exact",
    colours: Annotated[
        str | None,
        typer.Option(
            metavar="bank|NAME|FILE",
            help="Take pictures through the camera's own colours and back: by the bank's matrix, a known camera's, or "
            "the only one of a CSV or JSON file.",
        ),
    ] = None,
    gains: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="White balance; daylight by default where colours are known.")
    ] = None,
    tone: Annotated[
        Literal["srgb", "smoothstep", "filmic"],
        typer.Option(help="Curve of the stage tone, and of sRGB input before it."),
    ] = "srgb",
    demosaic: Annotated[
        Literal["malvar", "bilinear", "edge_aware", "menon"], typer.Option(help="Method of the stage demosaic.")
    ] = "malvar",
    jpeg_quality: Annotated[int, typer.Option(help="Of the stage jpeg, and of .jpg outputs.", min=0, max=100)] = 95,
    jpeg_subsampling: Annotated[
        Literal["4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1"], typer.Option(help="Of the colours, likewise.")
    ] = "4:2:0",
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out stages that are named and have no data.")
    ] = False,
    seed: Seed = 0,
    jobs: Jobs = 1,
    at: At = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make sharp pictures look as if the bank's camera had taken them.

    Outputs that are in a folder already are kept, so that a run that was interrupted goes on where it stopped.
    """
    from psfbank.bank import PsfBank
    from psfbank.batch import planned, simulate_files
    from psfbank.sensor import Sensor
    from psfbank.simulate import Simulator

    assume = assumed(assume_srgb, assume_linear)
    chosen = stages_of(stages)
    opened = PsfBank.open(bank)
    camera, cal = opened.camera, opened.at(**setting_of(at))
    simulator = Simulator(
        cal,
        chosen,
        source_scale=source_scale,
        size_px=camera.size_px,
        cfa=camera.cfa,
        exposure=exposure,
        development=development_of(camera, colours, gains, tone),
        sensor=None if cal.noise is None else Sensor(cal.noise, camera.cfa, shot=shot, exposure_s=exposure_s),
        demosaic=demosaic,
        jpeg_quality=jpeg_quality,
        jpeg_subsampling=jpeg_subsampling,
        skip_missing=skip_missing,
        workers=1 if jobs > 1 else None,
    )
    for line in simulator.describe():
        log.log(logging.INFO if dry_run else logging.DEBUG, line)
    pictures = pictures_of(images)
    if dry_run:
        outputs = planned(pictures, out, overwrite)
    else:
        with progress() as report:
            outputs = simulate_files(
                simulator,
                pictures,
                out,
                seed=seed,
                assume=assume,
                fit=fit,
                overwrite=overwrite,
                executor=processes(jobs),
                report=report,
            )
    if as_json:
        written, kept = ([str(path) for path in paths] for paths in (outputs.written, outputs.kept))
        print_json(
            {
                "dry_run": dry_run,
                "written": written,
                "kept": kept,
                "stages": simulator.describe(),
                "fit": fit,
                "seed": seed,
            }
        )
        return
    for path in outputs.written:
        typer.echo(path)
