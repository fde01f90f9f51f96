"""`psfbank calibrate`: a session of captures in, one PSF bank out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calib.commands._console import print_json, progress
from calib.commands._options import AsJson, Jobs, Overwrite, Seed


def calibrate(
    session: Annotated[
        Path, typer.Argument(metavar="SESSION", help="Folder that holds capture.toml, or the file.", exists=True)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="BANK.h5", help="The bank to write.", dir_okay=False)
    ],
    seed: Seed = 0,
    jobs: Jobs = 2,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Measure PSFs, distortion, shading and noise of one camera from a session of captures."""
    from concurrent.futures import ThreadPoolExecutor

    from calib.commands._session import print_session, session_summary
    from calib.pipeline import calibrate as run

    if output.exists() and not overwrite:
        raise typer.BadParameter(f"{output} exists; choose another name or say --overwrite", param_hint="--output")
    if not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}; make it first", param_hint="--output")
    with progress() as report, ThreadPoolExecutor(jobs) as executor:
        bank = run(session, seed=seed, executor=executor, report=report)
    bank.save(output)
    if as_json:
        print_json(session_summary(bank, output))
    else:
        print_session(bank, output)
