"""`psfbank undistort`: what an ideal pinhole camera would have seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calib.commands._console import log, print_json, progress
from calib.commands._options import (
    AsJson,
    AssumeLinear,
    AssumeSrgb,
    At,
    BankFile,
    Jobs,
    Overwrite,
    Pictures,
    assumed,
    pictures_of,
    processes,
    setting_of,
    size_of,
)


def undistort(
    bank: BankFile,
    images: Pictures,
    out: Annotated[Path, typer.Option("-o", "--out", help="A file (.npy, .png, .tif, .jpg), or a folder.")],
    fov: Annotated[
        str,
        typer.Option(
            metavar="keep|full|DEGREES",
            help="The lens's own focal length; all that is known of the field, up to 170 degrees; or the angle across.",
        ),
    ] = "keep",
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Of the new pictures, pixels; by default the sensor's.")
    ] = None,
    assume_srgb: AssumeSrgb = False,
    assume_linear: AssumeLinear = False,
    jobs: Jobs = 1,
    at: At = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Take distortion and lateral colour out of pictures of the bank's camera, uncropped.

    Outputs that are in a folder already are kept.
    """
    from psfbank.bank import PsfBank
    from psfbank.batch import undistort_files
    from psfbank.errors import MissingPartError
    from psfbank.undistort import WIDEST_DEG, pinhole_view, shares

    assume = assumed(assume_srgb, assume_linear)
    angle = None if fov in ("keep", "full") else _degrees(fov, WIDEST_DEG)
    size_px = None if size is None else size_of(size)

    opened = PsfBank.open(bank)
    sensor_px = opened.camera.size_px
    distortion = opened.at(**setting_of(at)).distortion
    if distortion is None:
        raise MissingPartError(
            "this bank has no distortion map",
            where=str(bank),
            remedy="Calibrate a session with `chessboard` captures",
        )
    view = pinhole_view(distortion, sensor_px, fov if angle is None else angle, size_px)
    seen, sure = shares(distortion, view, sensor_px)
    if seen - sure > 0.001:
        log.warning("%.1f %% of the picture lies beyond the region that the calibration saw", 100 * (seen - sure))
    with progress() as report:
        outputs = undistort_files(
            distortion,
            view,
            sensor_px,
            pictures_of(images),
            out,
            assume=assume,
            overwrite=overwrite,
            executor=processes(jobs),
            report=report,
        )
    if as_json:
        print_json(
            {
                "written": [str(path) for path in outputs.written],
                "kept": [str(path) for path in outputs.kept],
                "camera_matrix": view.camera_matrix,
                "size_px": view.size_px,
                "fov_deg": dict(zip(("horizontal", "vertical", "diagonal"), view.fov_deg, strict=True)),
                "seen": seen,
                "seen_in_valid_region": sure,
            }
        )
        return
    for path in outputs.written:
        typer.echo(path)
    (fx, fy), (cx, cy) = view.camera_matrix.diagonal()[:2], view.camera_matrix[:2, 2]
    across, down, corner = view.fov_deg
    typer.echo(f"camera matrix: focal length {fx:.3f}, {fy:.3f} px, centre {cx:.3f}, {cy:.3f} px")
    typer.echo(f"field of view: {across:.1f} degrees across, {down:.1f} down, {corner:.1f} from corner to corner")
    typer.echo(f"seen: {100 * seen:.1f} % of the picture; what the sensor did not see is black")


def _degrees(word: str, widest: float) -> float:
    try:
        angle = float(word)
    except ValueError:
        angle = 0.0
    if not 0 < angle <= widest:
        raise typer.BadParameter(f"{word} is not keep, full or an angle up to {widest:g} degrees", param_hint="--fov")
    return angle
