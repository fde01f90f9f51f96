"""One call from a calibration to a file of another program, and what that file could not hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

import numpy as np

from psfbank.distortion_figures import chromatic_displacement
from psfbank.errors import ExportError, MissingPartError
from psfbank.files import appearing_whole
from psfbank.interop import colmap, lensfun, opencv, plain, ros, stmap, table
from psfbank.interop.loss import Loss, exported_channels
from psfbank.interop.parametric import Model, Parametric, fit, fit_best
from psfbank.model import Calibration, Camera, DistortionMap, channel_index

Format = Literal["opencv", "ros", "lensfun", "stmap", "colmap", "csv", "json", "npz"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, tuple[str, ...]] = {
    "opencv": (".yml", ".yaml", ".xml", ".json"),
    "ros": (".yaml", ".yml"),
    "lensfun": (".xml",),
    "stmap": (".exr", ".tif", ".tiff"),
    "colmap": (".txt",),
    "csv": (".csv",),
    "json": (".json",),
    "npz": (".npz",),
}
MODELS: dict[Format, tuple[str, ...]] = {
    "opencv": opencv.MODELS,
    "ros": tuple(ros.NAMES),
    "colmap": tuple(colmap.NAMES),
    "lensfun": tuple(lensfun.TERMS),
}


@dataclass(frozen=True)
class Exported:
    """What an export wrote: the model that was fitted, "" where the format holds all; its losses, and what it lacks."""

    path: Path
    model: str = ""
    losses: tuple[Loss, ...] = ()
    notes: tuple[str, ...] = ()


class _Written(NamedTuple):
    content: bytes
    model: str = ""
    losses: tuple[Loss, ...] = ()
    notes: tuple[str, ...] = ()


def export(
    camera: Camera,
    calibration: Calibration,
    to: Format,
    path: Path,
    *,
    channel: str = "G",
    model: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a calibration in another program's format, atomically.

    Parameters
    ----------
    camera : Camera
    calibration : Calibration
    to : str
        One of `FORMATS`.
    path : Path
        Its suffix must be one of the format's `SUFFIXES`.
    channel : str
        The one that leads, or the only one of formats that hold one.
    model : str, optional
        One of the format's `MODELS`; the simplest that is about as good as the best when not given.
    overwrite : bool

    Returns
    -------
    Exported

    Raises
    ------
    ExportError
        When the file exists or cannot be written, or the format does not know the suffix or the model.
    MissingPartError
        When the calibration lacks what the format holds.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES[to]:
        raise ExportError(
            f"{to} goes into {', '.join(SUFFIXES[to])}", where=str(path), remedy="Name the file like that"
        )
    if model is not None and model not in MODELS.get(to, ()):
        known = ", ".join(MODELS.get(to, ()))
        raise ExportError(
            f"{to} has no model {model!r}",
            remedy=f"There are {known}" if known else "Leave the model out: none is fitted",
        )
    if path.exists() and not overwrite:
        raise ExportError("the output exists", where=str(path), remedy="Say --overwrite to replace it")
    written = _written(camera, calibration, to, suffix, channel, model)
    with appearing_whole(path, ExportError) as file:
        file.write(written.content)
    return Exported(path, *written[1:])


def _written(
    camera: Camera, calibration: Calibration, to: Format, suffix: str, channel: str, model: str | None
) -> _Written:
    size_px = camera.size_px
    match to:
        case "csv":
            return _Written(table.csv_text(calibration, size_px).encode())
        case "json":
            return _Written(plain.json_text(camera, calibration).encode())
        case "npz":
            return _Written(plain.npz_bytes(camera, calibration))
        case "lensfun":
            return _lensfun(camera, calibration, channel, cast(lensfun.Radial | None, model))
    distortion = _map_of(calibration, to)
    lead, *others = exported_channels(distortion, channel)
    if to == "stmap":
        st = stmap.st_map(distortion, size_px, lead)
        both = stmap.losses(st, distortion, size_px, lead)
        turned = f"distorting again: {both[1].rms_px:.2g} px RMS, {both[1].max_px:.2g} px at most"
        return _Written(stmap.packed(st, suffix), "", both[:1], (turned, *_one_channel(distortion, size_px, lead)))
    fits = _fits(distortion, size_px, lead, others if to != "ros" else (), MODELS[to], model)
    losses = tuple(each.loss for each in fits)
    if to == "ros":
        notes = _one_channel(distortion, size_px, lead)
        return _Written(ros.camera_info(fits[0], camera).encode(), ros.NAMES[fits[0].model], losses, notes)
    if to == "colmap":
        return _Written(colmap.cameras(fits, size_px).encode(), colmap.NAMES[fits[0].model], losses)
    return _Written(opencv.file_storage(fits, size_px, suffix).encode(), fits[0].model, losses)


def _map_of(calibration: Calibration, to: Format) -> DistortionMap:
    if calibration.distortion is None:
        raise MissingPartError(
            f"this calibration has no distortion map, which is what {to} holds",
            remedy="Calibrate a session with `chessboard` captures, or export csv, json or npz",
        )
    return calibration.distortion


def _fits(
    distortion: DistortionMap,
    size_px: tuple[int, int],
    lead: str,
    others: Sequence[str],
    models: Sequence[str],
    model: str | None,
) -> list[Parametric]:
    """Fit the channel that leads, and the others by the same model."""
    chosen = models if model is None else (model,)
    first = fit_best(distortion, size_px, lead, cast(Sequence[Model], chosen))
    return [first, *(fit(distortion, size_px, other, first.model) for other in others)]


def _one_channel(distortion: DistortionMap, size_px: tuple[int, int], lead: str) -> tuple[str, ...]:
    """Say what a format of one channel leaves out."""
    return tuple(
        f"lateral colour is left out: {other} is {moved.rms_px:.3g} px RMS from {lead}, {moved.max_px:.3g} px at most"
        for other in distortion.channels
        if other != lead
        for moved in (chromatic_displacement(distortion, size_px, other, lead),)
    )


def _lensfun(camera: Camera, calibration: Calibration, channel: str, model: lensfun.Radial | None) -> _Written:
    distortion, light, size_px = calibration.distortion, calibration.illumination, camera.size_px
    if distortion is None and light is None:
        raise MissingPartError(
            "this calibration has neither a distortion map nor shading, which is what lensfun holds",
            remedy="Calibrate a session with `chessboard` or `flat` captures, or export csv, json or npz",
        )
    lens, losses, lateral, notes = None, tuple[Loss, ...](), dict[str, np.ndarray](), list[str]()
    if distortion is None:
        notes.append("no distortion: this calibration has no distortion map")
    else:
        lead = "G" if "G" in distortion.channels else distortion.channels[0]
        lens = lensfun.fit_radial(distortion, size_px, lead, model)
        lateral = {c: lensfun.fit_lateral(lens, distortion, size_px, c) for c in distortion.channels if c != lead}
        of_colours = (lensfun.lateral_loss(lens, bcv, distortion, size_px, c) for c, bcv in lateral.items())
        losses = (lens.loss, *of_colours)
    vignetting = None
    if light is None or not np.isfinite(calibration.setting.f_number):
        lacking = "shading" if light is None else "f-number, by which lensfun files it"
        notes.append(f"no vignetting: this calibration has no {lacking}")
    else:
        centre_px = np.array([size_px[1] - 1, size_px[0] - 1]) / 2 if lens is None else lens.centre_px
        green = light.channels[channel_index(light.channels, channel)]
        vignetting = lensfun.fit_vignetting(light, size_px, centre_px, green)
        notes.append(
            f"vignetting of {green}: off by {100 * vignetting.rms:.2g} % RMS, {100 * vignetting.largest:.2g} % at most"
        )
    text = lensfun.database(camera, calibration, lens, lateral, vignetting)
    return _Written(text.encode(), "" if lens is None else lens.model, losses, tuple(notes))
