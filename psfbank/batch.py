"""Picture files in, simulated or undistorted picture files out, many of them through an Executor.

Files are linear light unless the caller says otherwise: .npy as its floats, 16-bit PNG and TIFF with 65 535 as white.
Eight bits are nearly always sRGB and sometimes not, so they are refused until the caller says which. Outputs follow
their suffix: .npy float32 linear, .png and .tif 16-bit linear, .jpg 8-bit through the sRGB curve. They appear whole or
not at all.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.errors import ImageError, PsfBankError
from psfbank.isp import srgb_decode, srgb_encode
from psfbank.model import DistortionMap
from psfbank.simulate import Simulator
from psfbank.undistort import Pinhole, undistort

Report = Callable[[str, int, int], None]
Assume = Literal["srgb", "linear"]
Image = npt.NDArray[np.float32]
SUFFIXES = (".npy", ".png", ".tif", ".tiff", ".jpg", ".jpeg")
JPEG_QUALITY = 95
_FORMATS = f"Use {', '.join(SUFFIXES)}"
LARGEST_CHUNK = 8  # pictures handed to a worker at once: they share one preparation of the field


def read_image(path: Path, assume: Assume | None = None) -> Image:
    """Read a picture as linear light.

    Parameters
    ----------
    path : Path
        .npy, or any picture that OpenCV reads.
    assume : "srgb" or "linear", optional
        What the numbers of the file are; needed for 8 bits.

    Returns
    -------
    (H, W, 3) or (H, W) float32
        RGB or grey, white = 1.

    Raises
    ------
    ImageError
        When the file cannot be read, has an alpha channel, or has 8 bits and nobody says what they are.
    """
    stored = _load_npy(path) if path.suffix.lower() == ".npy" else _load_picture(path)
    if stored.ndim == 3 and stored.shape[2] == 1:
        stored = stored[..., 0]
    if stored.size == 0 or stored.ndim not in (2, 3) or (stored.ndim == 3 and stored.shape[2] != 3):
        raise ImageError(
            f"a picture of shape {stored.shape} is neither RGB nor grey",
            where=str(path),
            remedy="Save it with three channels, or one; without alpha",
        )
    if stored.dtype == np.uint8 and assume is None:
        raise ImageError(
            "an 8-bit picture does not say whether its numbers are linear",
            where=str(path),
            remedy="Say --assume-srgb for an ordinary picture, which is then decoded, or --assume-linear",
        )
    white = np.iinfo(stored.dtype).max if stored.dtype.kind in "ui" else 1
    values = stored.astype(np.float32) / np.float32(white)
    return srgb_decode(values) if assume == "srgb" else values


def write_image(path: Path, image: FloatArray) -> None:
    """Write linear light in the format of the file's suffix, atomically.

    Parameters
    ----------
    path : Path
        .npy, .png, .tif or .jpg.
    image : (H, W, 3) or (H, W) float
        RGB or grey; all formats but .npy clip it to 0..1.

    Raises
    ------
    ImageError
        When the suffix names no such format.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ImageError(f"cannot write {suffix or 'a file without suffix'}", where=str(path), remedy=_FORMATS)
    with _appearing_whole(path) as file:
        if suffix == ".npy":
            np.save(file, np.asarray(image, dtype=np.float32))
            return
        if suffix in (".jpg", ".jpeg"):
            whole = np.rint(srgb_encode(image) * 255).astype(np.uint8)
            options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        else:
            whole, options = np.rint(np.clip(image, 0, 1) * np.float32(65535)).astype(np.uint16), []
        ok, encoded = cv2.imencode(suffix, _reversed_colours(whole), options)
        if not ok:
            raise ImageError(f"the picture could not be encoded as {suffix}", where=str(path))
        file.write(encoded.tobytes())


def simulate_files(
    simulator: Simulator,
    sources: Sequence[Path],
    out: Path,
    *,
    seed: int = 0,
    assume: Assume | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    report: Report | None = None,
) -> list[Path]:
    """Simulate picture files.

    Parameters
    ----------
    simulator : Simulator
    sources : sequence of Path
    out : Path
        A file for a single picture, else a folder, where outputs keep the names and formats of their sources.
    seed : int
        Picture i draws its noise from (seed, i): neither the other pictures nor the number of workers matter.
    assume : "srgb" or "linear", optional
        See `read_image`.
    overwrite : bool
        Replace outputs that exist; a source is never replaced.
    executor : Executor, optional
        Runs pictures side by side.
    report : callable, optional
        `report(step, done, total)`.

    Returns
    -------
    list of Path
        The outputs, in the order of `sources`.

    Raises
    ------
    ImageError
        When outputs would replace something, or pictures cannot be read or do not fit; the other pictures are done.
    """
    run = partial(_do_file, partial(_simulated, simulator, seed), assume)
    return _run("simulate", run, sources, out, overwrite, executor, report)


def undistort_files(
    distortion: DistortionMap,
    view: Pinhole,
    size_px: tuple[int, int],
    sources: Sequence[Path],
    out: Path,
    *,
    assume: Assume | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    report: Report | None = None,
) -> list[Path]:
    """Take distortion and lateral colour out of picture files.

    Parameters
    ----------
    distortion : DistortionMap
    view : Pinhole
        Of the new pictures, from `psfbank.undistort.pinhole_view`.
    size_px : (H, W)
        Of the sensor, which the pictures must have too.
    sources, out, assume, overwrite, executor, report
        As in `simulate_files`.

    Returns
    -------
    list of Path
        The outputs, in the order of `sources`.

    Raises
    ------
    ImageError
        When outputs would replace something, or pictures cannot be read, have another size or are mosaics; the other
        pictures are done.
    """
    run = partial(_do_file, partial(_undistorted, distortion, view, size_px), assume)
    return _run("undistort", run, sources, out, overwrite, executor, report)


def _run(
    step: str,
    run: Callable[[int, Path, Path], PsfBankError | None],
    sources: Sequence[Path],
    out: Path,
    overwrite: bool,
    executor: Executor | None,
    report: Report | None,
) -> list[Path]:
    """Do `run(index, source, target)` for every picture if all targets may be written, then raise what failed."""
    targets = _targets(sources, out)
    _guard(sources, targets, overwrite)
    for folder in {target.parent for target in targets}:
        folder.mkdir(parents=True, exist_ok=True)
    jobs = (range(len(sources)), sources, targets)
    if executor is None:
        outcomes: Iterator[PsfBankError | None] = map(run, *jobs)
    else:
        outcomes = executor.map(run, *jobs, chunksize=max(1, min(LARGEST_CHUNK, len(sources) // 16)))
    errors = []
    for done, error in enumerate(outcomes, 1):
        errors += [error] if error else []
        if report is not None:
            report(step, done, len(sources))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ImageError(f"{len(errors)} of {len(sources)} pictures failed:\n" + "\n".join(map(str, errors)))
    return targets


def _simulated(simulator: Simulator, seed: int, index: int, image: Image) -> Image:
    if image.ndim == 2 and len(simulator.channels) == 3:
        image = np.repeat(image[..., None], 3, axis=2)
    return simulator(image, np.random.default_rng(np.random.SeedSequence((seed, index))))


def _undistorted(distortion: DistortionMap, view: Pinhole, size_px: tuple[int, int], _: int, image: Image) -> Image:
    height, width = size_px
    if image.shape[:2] != size_px:
        raise ImageError(
            f"a picture of {image.shape[1]} x {image.shape[0]} does not fit a map of {width} x {height} pixels",
            remedy="Take it as the sensor gave it: not cropped, scaled or turned",
        )
    return undistort(image, distortion, view).image


def _do_file(
    work: Callable[[int, Image], Image], assume: Assume | None, index: int, source: Path, target: Path
) -> PsfBankError | None:
    """Read, work on and write one picture; an error of its own is returned, so that the other pictures go on."""
    try:
        write_image(target, work(index, read_image(source, assume)))
    except ImageError as error:
        return error if error.where else ImageError(error.what, where=str(source), remedy=error.remedy)
    return None


def _targets(sources: Sequence[Path], out: Path) -> list[Path]:
    if out.suffix and not out.is_dir():
        if len(sources) > 1:
            raise ImageError(
                f"{len(sources)} pictures cannot go into one file", where=str(out), remedy="Name a folder instead"
            )
        if out.suffix.lower() not in SUFFIXES:
            raise ImageError(f"cannot write {out.suffix}", where=str(out), remedy=_FORMATS)
        return [out]
    return [out / (source.name if source.suffix.lower() in SUFFIXES else f"{source.stem}.png") for source in sources]


def _guard(sources: Sequence[Path], targets: Sequence[Path], overwrite: bool) -> None:
    inputs = {source.resolve() for source in sources}
    seen: dict[Path, Path] = {}
    for source, target in zip(sources, targets, strict=True):
        if target.resolve() in inputs:
            raise ImageError("the output would replace an input", where=str(target), remedy="Choose another place")
        if target in seen:
            raise ImageError(f"{seen[target]} and {source} would both be written here", where=str(target))
        if target.exists() and not overwrite:
            raise ImageError("the output exists", where=str(target), remedy="Say --overwrite to replace it")
        seen[target] = source


def _load_npy(path: Path) -> npt.NDArray[Any]:
    try:
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "uif":
        raise ImageError("does not hold an array of numbers", where=str(path))
    return stored


def _load_picture(path: Path) -> npt.NDArray[Any]:
    try:
        stored = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except cv2.error:
        stored = None
    if stored is None:
        raise ImageError("is not a picture that can be read", where=str(path), remedy=_FORMATS)
    return np.asarray(_reversed_colours(stored))


def _reversed_colours(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """OpenCV's blue, green, red to red, green, blue, or back; grey stays grey."""
    return np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image


@contextmanager
def _appearing_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when everything has been written, and vanishes otherwise."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
