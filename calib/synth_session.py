"""Render a whole session of captures of a known camera, with its capture.toml and its truth."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from calib import synth_views as views
from calib.dng import write_dng
from calib.progress import Report, silent
from calib.synth import Lens, render_chart, render_points
from psfbank.arrays import FloatArray
from psfbank.bank import PsfBank
from psfbank.errors import ImageError, MissingPartError
from psfbank.model import Calibration, Camera, NoiseModel
from psfbank.sensor import Sensor, cfa_sites, mosaic

KINDS = ("led", "slanted_edge", "chessboard", "flat", "dark", "noise_target")
RESPONSE = {"R": 0.6, "G": 1.0, "B": 0.7, "Y": 1.0}  # of each channel to the light that all targets are shown in
LED_PEAK, CHART_PEAK = 0.65, 0.6  # of full scale: no source clips, and shot noise stays small beside the signal
FLAT_LEVELS = (0.08, 0.3, 0.8)
EXPOSURE_S = 0.04
PATTERN = "pattern.png"
CHARTS = len(views.EDGE_VIEWS) + len(views.BOARD_VIEWS) + len(views.NOISE_VIEWS)
SHOTS = len(views.LED_VIEWS) + CHARTS + 2 * len(FLAT_LEVELS) + 2


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture before noise: expected electrons a pixel of the mosaic, and how it was taken."""

    kind: str
    name: str
    electrons: FloatArray
    calibration: Calibration
    exposure_s: float = EXPOSURE_S


def shots(bank: PsfBank) -> Iterator[Shot]:
    """Render every picture of the session in turn, noise-free.

    Parameters
    ----------
    bank : PsfBank
        Of one setting, with PSFs, distortion, shading and noise.

    Yields
    ------
    Shot
        3 LED frames, 2 of slanted squares, 10 of a chessboard, flats in pairs at three levels, a pair of darks,
        3 of a noise target; flats and darks again at every other ISO speed at which the bank knows the noise.

    Raises
    ------
    MissingPartError, OutOfFieldError
        When the bank lacks a part or is of developed pictures, or its distortion does not cover the sensor.
    """
    camera, calibration = bank.camera, bank.at()
    if camera.cfa == "RGB":
        raise MissingPartError(
            "a session is rendered as mosaics, and this bank is of pictures in colour",
            remedy="Name a bank that was calibrated from RAW files",
        )
    lens = Lens.of(calibration, camera.size_px)
    shading = shading_of(calibration, camera)
    grid = views.led_grid(camera.size_px)
    for i, view in enumerate(views.LED_VIEWS):
        pose = views.frontal_pose(lens, grid.pitch_mm, views.LED_PITCH_PX, view)
        light = render_points(lens, grid, pose) * shading
        yield Shot("led", f"led_{i}", expose(light, calibration, camera, LED_PEAK), calibration)
    edge_pitch_px = views.EDGE_PITCH * camera.size_px[1]
    for i, view in enumerate(views.EDGE_VIEWS):
        pose = views.frontal_pose(lens, views.EDGES.pitch_mm, edge_pitch_px, view)
        light = render_chart(lens, views.EDGES, pose) * shading
        yield Shot("slanted_edge", f"edge_{i}", expose(light, calibration, camera, CHART_PEAK), calibration)
    for i, pose in enumerate(views.board_poses(lens)):
        light = render_chart(lens, views.BOARD, pose) * shading
        yield Shot("chessboard", f"board_{i}", expose(light, calibration, camera, CHART_PEAK), calibration)
    yield from _flats_and_darks(calibration, camera, shading)
    target = views.noise_target(camera.size_px)
    for i, pose in enumerate(views.noise_poses(lens, target)):
        light = render_chart(lens, target, pose) * shading
        yield Shot("noise_target", f"noise_{i}", expose(light, calibration, camera, CHART_PEAK), calibration)

    for iso in other_isos(calibration):
        yield from _flats_and_darks(bank.at(iso=iso), camera, shading, f"iso{iso:g}_")


def _flats_and_darks(calibration: Calibration, camera: Camera, shading: FloatArray, prefix: str = "") -> Iterator[Shot]:
    for level in FLAT_LEVELS:
        electrons = expose(shading, calibration, camera, level)
        for i in range(2):
            yield Shot("flat", f"{prefix}flat_{100 * level:02.0f}_{i}", electrons, calibration)
    for i in range(2):
        yield Shot("dark", f"{prefix}dark_{i}", np.zeros(camera.size_px), calibration)


def other_isos(calibration: Calibration) -> list[float]:
    """ISO speeds at which noise is known, but the calibration's own."""
    known = [] if calibration.noise_by_iso is None else calibration.noise_by_iso.iso.tolist()
    return [iso for iso in known if iso != calibration.setting.iso]


def shading_of(calibration: Calibration, camera: Camera) -> npt.NDArray[np.float64]:
    """Relative illumination of every pixel, (C, H, W)."""
    y, x = np.indices(camera.size_px)
    return np.stack([calibration.shading(x, y, channel) for channel in camera.channels])


def expose(light: FloatArray, calibration: Calibration, camera: Camera, peak: float) -> npt.NDArray[np.float64]:
    """Turn the light (C, H, W) into expected electrons (H, W) of the mosaic, the greatest at `peak` of full scale."""
    noise = _noise_of(calibration)
    response = np.array([RESPONSE[channel] for channel in camera.channels])
    seen = mosaic(np.moveaxis(light, 0, -1) * response, camera.cfa)
    capacity_e = float(np.min((noise.white_dn - noise.black_dn) / noise.gain_dn_per_e))
    return np.asarray(seen * (peak * capacity_e / seen.max()))


def write_session(
    bank: PsfBank,
    folder: Path,
    rng: np.random.Generator,
    *,
    dng: Collection[str] = (),
    report: Report = silent,
) -> list[Path]:
    """Render a session and write its captures, the noise target's pattern, capture.toml, and truth.h5.

    Parameters
    ----------
    bank : PsfBank
        The truth, of one setting.
    folder : Path
        Made when it is not there; a file of a name that is written is replaced.
    rng : Generator
        Draws the noise; each picture has a stream of its own.
    dng : collection of str
        Kinds of `KINDS` that are written as DNG; the others are 16-bit PNG.
    report : callable
        Told (step, done, total).

    Returns
    -------
    list of Path
        The files; the pattern, capture.toml and truth.h5 last.

    Raises
    ------
    ValueError
        When `dng` names no kind.
    MissingPartError, OutOfFieldError
        When the bank lacks a part, or does not cover the sensor.
    """
    if unknown := set(dng) - set(KINDS):
        raise ValueError(f"`dng` must name kinds of capture, {', '.join(KINDS)}, got {', '.join(sorted(unknown))}")
    files = []
    total = SHOTS + len(other_isos(bank.at())) * (2 * len(FLAT_LEVELS) + 2)
    for i, (shot, own_rng) in enumerate(zip(shots(bank), rng.spawn(total), strict=True)):
        report("rendering", i, total)
        path = folder / shot.kind / (shot.name + _suffix(shot.kind, dng))
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_picture(path, _take(shot, bank.camera, own_rng), bank.camera, shot)
        files.append(path)
    report("rendering", total, total)
    pattern, plan, truth = (folder / name for name in (PATTERN, "capture.toml", "truth.h5"))
    _write_png(pattern, np.where(views.noise_target(bank.camera.size_px).pattern, 0, 255).astype(np.uint8))
    plan.write_text(describe(bank, dng), encoding="utf-8")
    bank.save(truth)
    return [*files, pattern, plan, truth]


def _take(shot: Shot, camera: Camera, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Read one picture out; dark current or read noise that nobody measured are none."""
    noise = _noise_of(shot.calibration)
    full_e = ((noise.white_dn - noise.black_dn) / noise.gain_dn_per_e)[cfa_sites(camera.cfa, camera.size_px)]
    sensor = Sensor(noise, camera.cfa, exposure_s=shot.exposure_s)
    return sensor(shot.electrons / full_e, rng).astype(np.uint16)


def _noise_of(calibration: Calibration) -> NoiseModel:
    if calibration.noise is None:
        raise MissingPartError("rendering needs a bank with noise", remedy="Calibrate with flat and dark captures")
    return calibration.noise


def _suffix(kind: str, dng: Collection[str]) -> str:
    return ".dng" if kind in dng else ".png"


def _write_picture(path: Path, dn: npt.NDArray[np.uint16], camera: Camera, shot: Shot) -> None:
    if path.suffix == ".png":
        _write_png(path, dn)
        return
    setting = shot.calibration.setting
    black, white = _levels(shot.calibration)
    write_dng(
        path, dn, cfa=camera.cfa, black_level=black, white_level=white, maker=camera.maker, model=camera.model,
        exposure_s=shot.exposure_s, iso=setting.iso, f_number=setting.f_number, focal_mm=setting.focal_mm,
        xyz_to_camera=camera.xyz_to_camera, lens=camera.lens, pitch_um=camera.pitch_um,
    )  # fmt: skip


def _write_png(path: Path, values: npt.NDArray[np.unsignedinteger[Any]]) -> None:
    if not cv2.imwrite(str(path), values, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise ImageError("the picture cannot be written", where=str(path), remedy="Is the folder writable?")


def _levels(calibration: Calibration) -> tuple[float, float]:
    """Black and white level of all channels, DN, as a capture.toml declares them."""
    noise = _noise_of(calibration)
    return round(float(np.mean(noise.black_dn)), 3), float(np.min(noise.white_dn))


def describe(bank: PsfBank, dng: Collection[str] = ()) -> str:
    """Write the capture.toml of a rendered session, the kinds in `dng` being DNG and the others PNG."""
    camera, calibration = bank.camera, bank.at()
    setting, wavefront = calibration.setting, calibration.wavefront
    black, white = _levels(calibration)
    about = {
        "make": camera.maker, "model": camera.model, "serial": camera.serial, "lens": camera.lens,
        "width": camera.size_px[1], "height": camera.size_px[0], "pixel_pitch_um": camera.pitch_um,
        "f_number": setting.f_number, "focal_length_mm": setting.focal_mm, "focus_m": setting.focus_m,
        "iso": setting.iso, "cfa": camera.cfa, "black_level": black, "white_level": white,
        "wavelengths_nm": None if wavefront is None else wavefront.wavelength_nm.tolist(),
    }  # fmt: skip
    targets: tuple[tuple[str, dict[str, float | str]], ...] = (
        ("led", {"pitch_mm": views.LED_PITCH_MM, "diameter_mm": views.LED_MM}),
        ("slanted_edge", {"square_mm": views.EDGES.square_mm}),
        ("chessboard", {"columns": views.BOARD.columns, "rows": views.BOARD.rows, "square_mm": views.BOARD.square_mm}),
        ("flat", {}),
        ("dark", {}),
        ("noise_target", {"pattern": PATTERN, "cell_mm": views.CELL_MM}),
    )
    known = {key: value for key, value in about.items() if value not in (None, "") and value == value}
    tables = ["# A session rendered by `psfbank synth`: truth.h5 is the camera it was rendered from.", "[camera]"]
    tables += [f"{key} = {json.dumps(value)}" for key, value in known.items()]
    isos = other_isos(calibration)
    stem = {"flat": "flat_*", "dark": "dark_*"} if isos else {}
    entries = [(kind, stem.get(kind, "*"), geometry) for kind, geometry in targets]
    entries += [(kind, f"iso{iso:g}_*", {"iso": iso}) for iso in isos for kind in ("flat", "dark")]
    for kind, names, geometry in entries:
        entry = {"kind": kind, "files": f"{kind}/{names}{_suffix(kind, dng)}", **geometry, "exposure_s": EXPOSURE_S}
        tables += ["", "[[capture]]", *(f"{key} = {json.dumps(value)}" for key, value in entry.items())]
    return "\n".join(tables) + "\n"
