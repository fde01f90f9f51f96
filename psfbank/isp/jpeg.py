"""JPEG, as cameras write it: 8 bits, a quality, the colours at a lower resolution than the brightness."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1"]

_FACTORS = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:4:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    "4:1:1": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}


def encode_jpeg(picture: npt.NDArray[Any], quality: int = 90, subsampling: Subsampling = "4:2:0") -> bytes:
    """Compress a picture.

    Parameters
    ----------
    picture : (H, W, 3) or (H, W), uint8 or float 0..1
        Tone-mapped values, RGB or grey; floats are rounded to 8 bits.
    quality : int
        0..100, the scale of libjpeg.
    subsampling : str
        "4:2:0" halves the resolution of the colours both ways, "4:2:2" across, "4:4:0" down, "4:1:1" quarters it
        across, "4:4:4" leaves it.

    Returns
    -------
    bytes
        A JPEG file (ITU-T T.81, JFIF).

    Raises
    ------
    ValueError
        When there is no such quality or subsampling, or the picture is none.
    """
    if subsampling not in _FACTORS or not 0 <= quality <= 100:
        raise ValueError(
            f"JPEG has a quality of 0..100 and subsampling {', '.join(_FACTORS)}, got {quality}, {subsampling!r}"
        )
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3) or picture.size == 0:
        raise ValueError(f"`picture` must be (H, W, 3) or (H, W), got {picture.shape}")
    whole = picture if picture.dtype == np.uint8 else (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    stored = cv2.cvtColor(whole, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else whole
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _FACTORS[subsampling]]
    _, blob = cv2.imencode(".jpg", stored, options)
    return blob.tobytes()


def jpeg(picture: npt.NDArray[Any], quality: int = 90, subsampling: Subsampling = "4:2:0") -> npt.NDArray[Any]:
    """Compress a picture and decompress it: what is left of it.

    Parameters
    ----------
    picture, quality, subsampling
        As of `encode_jpeg`.

    Returns
    -------
    shape and kind of `picture`
        uint8, or float32 0..1 in steps of 1 / 255.

    Raises
    ------
    ValueError
        As `encode_jpeg`.
    """
    blob = np.frombuffer(encode_jpeg(picture, quality, subsampling), np.uint8)
    left: Any = cv2.imdecode(blob, cv2.IMREAD_COLOR if picture.ndim == 3 else cv2.IMREAD_GRAYSCALE)
    if picture.ndim == 3:
        left = cv2.cvtColor(left, cv2.COLOR_BGR2RGB)
    whole: npt.NDArray[np.uint8] = left
    return whole if picture.dtype == np.uint8 else whole * np.float32(1 / 255)
