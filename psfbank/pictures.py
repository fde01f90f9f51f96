"""Picture files: read as linear light, written as what their suffix says.

Files are linear light unless the caller says otherwise: .npy as its floats, 16-bit PNG and TIFF with 65 535 as white.
Eight bits are nearly always sRGB and sometimes not, so they are refused until the caller says which. Outputs follow
their suffix: .npy float32, .png and .tif 16 bit, both linear unless a tone curve made them; .jpg 8-bit through the sRGB
curve. They appear whole or not at all.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.errors import ImageError
from psfbank.files import appearing_whole
from psfbank.isp import Subsampling, Tone, encode_jpeg, srgb_decode, srgb_encode, tone_unmap

Assume = Literal["srgb", "linear"]
Image = npt.NDArray[np.float32]
SUFFIXES = (".npy", ".png", ".tif", ".tiff", ".jpg", ".jpeg")
JPEG_QUALITY = 95
FORMATS = f"Use {', '.join(SUFFIXES)}"


def read_image(path: Path, assume: Assume | None = None, tone: Tone | None = None) -> Image:
    """Read a picture as linear light.

    Parameters
    ----------
    path : Path
        .npy, or any picture that OpenCV reads.
    assume : "srgb" or "linear", optional
        What the numbers of the file are; needed for 8 bits.
    tone : Tone, optional
        The curve of a picture that is `assume`d to be sRGB, where a tone curve of its camera lies on top of that of
        sRGB.

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
    if assume != "srgb":
        return values
    return srgb_decode(values) if tone is None else tone_unmap(values, tone)


def write_image(
    path: Path,
    image: FloatArray,
    encoded: bool = False,
    quality: int = JPEG_QUALITY,
    subsampling: Subsampling = "4:2:0",
) -> None:
    """Write a picture in the format of the file's suffix, atomically.

    Parameters
    ----------
    path : Path
        .npy, .png, .tif or .jpg.
    image : (H, W, 3) or (H, W) float
        RGB or grey; all formats but .npy clip it to 0..1.
    encoded : bool
        The values went through a tone curve already; else they are linear light, and .jpg takes them through that of
        sRGB.
    quality, subsampling
        Of .jpg, as of `isp.encode_jpeg`.

    Raises
    ------
    ImageError
        When the suffix names no such format, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ImageError(f"cannot write {suffix or 'a file without suffix'}", where=str(path), remedy=FORMATS)
    with appearing_whole(path, ImageError) as file:
        if suffix == ".npy":
            np.save(file, np.asarray(image, dtype=np.float32))
            return
        if suffix in (".jpg", ".jpeg"):
            values = np.asarray(image, dtype=np.float32) if encoded else srgb_encode(image)
            file.write(encode_jpeg(values, quality, subsampling))
            return
        whole = np.rint(np.clip(image, 0, 1) * np.float32(65535)).astype(np.uint16)
        ok, packed = cv2.imencode(suffix, _reversed_colours(whole))
        if not ok:
            raise ImageError(f"the picture could not be encoded as {suffix}", where=str(path))
        file.write(packed.tobytes())


def remove_unfinished(path: Path) -> None:
    """Remove what a process that was killed while it wrote this picture left beside it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        left.unlink(missing_ok=True)


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
        raise ImageError("is not a picture that can be read", where=str(path), remedy=FORMATS)
    return np.asarray(_reversed_colours(stored))


def _reversed_colours(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """OpenCV's blue, green, red to red, green, blue, or back; grey stays grey."""
    return np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image
