"""What a session's own files tell of the camera, where capture.toml is silent; where both speak they must agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from calib.capture import SETTING_TOLERANCE, read_picture, require_agreement, require_same_setting
from calib.manifest.tables import CameraTable, remedy_of, wrong
from calib.picture import Picture
from psfbank.errors import CaptureUnusable, ManifestError
from psfbank.model import Camera, Setting

LENS = ("focal_mm", "f_number")  # of a setting: what makes it another lens
_NAN = float("nan")


def first_readable(files: Sequence[Path]) -> tuple[Path, Picture] | None:
    """Read the first picture that can be read; of its pixels only shape and type are kept, for there may be many."""
    for file in files:
        try:
            picture = read_picture(file)
        except CaptureUnusable:
            continue  # whoever measures it reports it; here any other picture serves
        return file, replace(picture, dn=np.broadcast_to(np.zeros((), picture.dn.dtype), picture.dn.shape))
    return None


def picture_that_tells(
    path: Path, table: CameraTable, found: Sequence[tuple[Path, Picture, Setting]]
) -> Picture | None:
    """Choose the picture that tells what the table leaves out: the first RAW that agrees with it, else another.

    Parameters
    ----------
    path : Path
        Of the capture.toml.
    table : CameraTable
    found : sequence of (Path, Picture, Setting)
        Pictures, each with the setting that its entry declares.

    Returns
    -------
    Picture or None

    Raises
    ------
    ManifestError
        When there are RAW files only, and none agrees with what is declared.
    """
    refused: list[tuple[Path, CaptureUnusable]] = []
    others: list[Picture] = []
    for file, picture, setting in found:
        if picture.white_dn is None:
            others.append(picture)
            continue
        try:
            _require_raw_agrees(picture, table, setting, str(file))
        except CaptureUnusable as error:
            refused.append((file, error))
        else:
            return picture
    if refused and not others:
        file, first = refused[0]
        raise ManifestError(f"{first.what} ({file.name})", where=f"{path}, [camera]", remedy=first.remedy)
    return others[0] if others else None


def _require_raw_agrees(picture: Picture, table: CameraTable, setting: Setting, where: str) -> None:
    """Refuse a RAW file that contradicts the table."""
    height, width = picture.dn.shape[:2]
    if table.width is not None and (table.height, table.width) != (height, width):
        raise CaptureUnusable(
            f"the RAW file is {width} x {height} pixels, capture.toml declares {table.width} x {table.height}",
            where=where,
            remedy="Correct width and height in capture.toml, or leave them out and the file's own are used",
        )
    cfa = table.cfa or picture.cfa
    require_agreement(picture, cfa, table.black_level, table.white_level, table.encoding, where)
    require_same_setting(picture, setting, _NAN, where)


def lens_of(picture: Picture | None, usual: Setting) -> dict[str, float]:
    """Focal length and f-number that a picture tells, those of `usual` where it differs by rounding or says nothing."""
    own = {} if picture is None else picture.setting.known()
    told = {}
    for key in LENS:
        value, common = own.get(key, _NAN), getattr(usual, key)
        differs = abs(value - common) > SETTING_TOLERANCE * common or np.isnan(common)
        chosen = value if differs and not np.isnan(value) else common
        if not np.isnan(chosen):
            told[key] = float(chosen)
    return told


def camera_of(path: Path, table: CameraTable, sample: Picture | None) -> Camera:
    """Say which camera took a session: what the table declares, and what a picture tells beyond."""
    if table.width is not None and table.height is not None:
        size_px = table.height, table.width
    elif sample is not None:
        size_px = sample.dn.shape[0], sample.dn.shape[1]
    else:
        remedy = remedy_of(["camera", "width"])
        raise wrong(path, "[camera].width", "is missing, and no capture can be read", remedy)
    cfa = table.cfa or (sample.cfa if sample else "mono")
    maker = table.make or (sample.maker if sample else "") or "unknown"
    model = table.model or (sample.model if sample else "") or "unknown"
    lens = table.lens or (sample.lens if sample else "")
    pitch_um = table.pixel_pitch_um or (sample.pitch_um if sample else _NAN)
    colours = sample.xyz_to_camera if sample and cfa != "mono" else None
    return Camera(maker, model, size_px, cfa, table.serial, lens, pitch_um, colours)


def levels_of(
    path: Path, table: CameraTable, camera: Camera, sample: Picture | None
) -> tuple[tuple[float, ...] | None, float | None]:
    """Black level of each channel and white level, DN: declared, else a RAW file's own; None where no picture is."""
    channels = len(camera.channels)
    if table.encoding == "srgb":
        return (0.0,) * channels, 255.0
    if sample is None:
        return (None if table.black_level is None else (table.black_level,) * channels), table.white_level
    if sample.dn.dtype == np.uint8 and (table.white_level is None or table.white_level > 255):
        remedy = 'Say encoding = "srgb"; or, if they are linear, black_level = 0 and white_level = 255'
        raise wrong(path, "[camera].encoding", "is linear, but the captures are 8-bit and look gamma-coded", remedy)
    black = sample.black_dn if table.black_level is None else (table.black_level,) * channels
    white = sample.white_dn if table.white_level is None else table.white_level
    for field, level in (("black_level", black), ("white_level", white)):
        if level is None:
            what = "is missing; only RAW files bring their own"
            raise wrong(path, f"[camera].{field}", what, remedy_of(["camera", field]))
    return black, white
