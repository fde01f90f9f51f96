"""`psfbank calibrate`: a session of captures in, one PSF bank out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calib.commands._console import print_json, progress
from calib.commands._gates import Require, gate_records, gates_of, pass_or_exit
from calib.commands._options import AsJson, Jobs, Overwrite, Seed


def calibrate(
    session: Annotated[
        Path, typer.Argument(metavar="SESSION", help="Folder that holds capture.toml, or the file.", exists=True)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="BANK.h5", help="The bank to write.", dir_okay=False)
    ],
    require: Require = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check capture.toml, list what would be read and written, and stop.")
    ] = False,
    seed: Seed = 0,
    jobs: Jobs = 2,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Measure PSFs, distortion, shading and noise of one camera from a session of captures."""
    from concurrent.futures import ThreadPoolExecutor

    from calib.commands._session import plan_summary, print_plan, print_session, session_summary
    from calib.gates import judge
    from calib.pipeline import calibrate as run

    gates = gates_of(require)
    if output.exists() and not overwrite:
        raise typer.BadParameter(f"{output} exists; choose another name or say --overwrite", param_hint="--output")
    if not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}; make it first", param_hint="--output")
    if dry_run:
        planned = plan_summary(session, output)
        if as_json:
            print_json(planned)
        else:
            print_plan(planned)
        return
    with progress() as report, ThreadPoolExecutor(jobs) as executor:
        bank = run(session, seed=seed, executor=executor, report=report)
    bank.save(output)
    judged = judge(bank, gates)
    if as_json:
        print_json({**session_summary(bank, output), **gate_records(judged)})
    else:
        print_session(bank, output)
    pass_or_exit(judged)
