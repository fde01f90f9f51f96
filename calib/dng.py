"""Write a mosaic as a minimal DNG, the RAW format that every reader knows."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from psfbank.isp import XYZ_TO_SRGB, daylight_gains
from psfbank.model import CFA_PATTERNS

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _SRATIONAL = 1, 2, 3, 4, 5, 10  # TIFF 6.0, section 2: types of fields
_CFA, _LINEAR_RAW, _BLACK_IS_ZERO = 32803, 34892, 1  # photometric interpretations
_D65 = 21  # EXIF 2.3, LightSource


def write_dng(
    path: Path,
    mosaic: npt.NDArray[np.uint16],
    *,
    cfa: str,
    black_level: float,
    white_level: float,
    maker: str,
    model: str,
    exposure_s: float = float("nan"),
    iso: float = float("nan"),
    f_number: float = float("nan"),
    focal_mm: float = float("nan"),
    xyz_to_camera: npt.ArrayLike | None = None,
    lens: str = "",
    pitch_um: float = float("nan"),
) -> None:
    """Write one uncompressed 16-bit DNG 1.4 (Adobe, Digital Negative Specification, 2012).

    Exposure, ISO, f-number and focal length go into the first directory as TIFF/EP (ISO 12234-2) has them, on which
    DNG is built. ColorMatrix1 is for daylight, D65, and AsShotNeutral is what the camera sees of it.

    Parameters
    ----------
    path : Path
    mosaic : (H, W) uint16
        DN, black level included.
    cfa : str
        "RGGB", "BGGR", "GRBG", "GBRG" or "mono".
    black_level, white_level : float
        DN.
    maker, model : str
        ASCII.
    exposure_s, iso, f_number, focal_mm : float
        Left out where NaN.
    xyz_to_camera : (3, 3) array_like, optional
        Colours of the camera; those of sRGB primaries by default.
    lens : str
        Left out where empty; what is not ASCII becomes "?".
    pitch_um : float
        Pixel pitch, um, written as the resolution on the focal plane; left out where NaN.

    Raises
    ------
    ValueError
        When the mosaic is not (H, W) uint16 or `cfa` is no mosaic.
    """
    if mosaic.ndim != 2 or mosaic.dtype != np.uint16:
        raise ValueError(f"`mosaic` must be (H, W) uint16, got {mosaic.shape} {mosaic.dtype}")
    if cfa not in CFA_PATTERNS or cfa == "RGB":
        raise ValueError(f"`cfa` must be a Bayer pattern or 'mono', got {cfa!r}")
    tags = [
        (271, _ASCII, 0, maker, True),
        (272, _ASCII, 0, model, True),
        (50706, _BYTE, 4, bytes((1, 4, 0, 0)), True),  # DNGVersion
        (50707, _BYTE, 4, bytes((1, 1, 0, 0)), True),  # DNGBackwardVersion
        (50708, _ASCII, 0, f"{maker} {model}", True),  # UniqueCameraModel
        (50713, _SHORT, 2, (1, 1), True),  # BlackLevelRepeatDim
        (50714, _RATIONAL, 1, _rational(black_level), True),
        (50717, _LONG, 1, round(white_level), True),
        *(
            _colour_tags(cfa, np.asarray(XYZ_TO_SRGB if xyz_to_camera is None else xyz_to_camera))
            if cfa != "mono"
            else ()
        ),
        *_setting_tags(exposure_s, iso, f_number, focal_mm),
        *([(42036, _ASCII, 0, lens.encode("ascii", "replace").decode(), True)] if lens else []),  # LensModel
        *_pitch_tags(pitch_um),
    ]
    tifffile.imwrite(
        path,
        mosaic,
        photometric=_BLACK_IS_ZERO if cfa == "mono" else _CFA,
        extratags=tags,
        metadata=None,
        software=False,
        subfiletype=0,
    )
    if cfa == "mono":  # a DNG of one plane is LinearRaw, which tifffile writes of three planes only
        with tifffile.TiffFile(path, mode="r+") as tif:
            tif.pages.first.tags["PhotometricInterpretation"].overwrite(_LINEAR_RAW)


def _colour_tags(cfa: str, xyz_to_camera: npt.NDArray[Any]) -> list[tuple[Any, ...]]:
    matrix = [part for value in xyz_to_camera.ravel() for part in (round(value * 10_000), 10_000)]
    neutral = [part for gain in daylight_gains(xyz_to_camera) for part in _rational(1 / gain)]
    return [
        (33421, _SHORT, 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, _BYTE, 4, bytes("RGB".index(colour) for colour in cfa), True),  # CFAPattern
        (50710, _BYTE, 3, bytes((0, 1, 2)), True),  # CFAPlaneColor
        (50711, _SHORT, 1, 1, True),  # CFALayout: rectangular
        (50721, _SRATIONAL, 9, tuple(matrix), True),  # ColorMatrix1
        (50728, _RATIONAL, 3, tuple(neutral), True),  # AsShotNeutral
        (50778, _SHORT, 1, _D65, True),  # CalibrationIlluminant1
    ]


def _setting_tags(exposure_s: float, iso: float, f_number: float, focal_mm: float) -> list[tuple[Any, ...]]:
    rationals = ((33434, exposure_s), (33437, f_number), (37386, focal_mm))
    tags = [(tag, _RATIONAL, 1, _rational(value), True) for tag, value in rationals if not math.isnan(value)]
    return tags if math.isnan(iso) else [*tags, (34855, _SHORT, 1, round(iso), True)]


def _pitch_tags(pitch_um: float) -> list[tuple[Any, ...]]:
    """FocalPlaneXResolution, FocalPlaneYResolution in pixels per cm, and the unit's code."""
    if math.isnan(pitch_um):
        return []
    per_cm = _rational(10_000 / pitch_um)
    return [(37390, _RATIONAL, 1, per_cm, True), (37391, _RATIONAL, 1, per_cm, True), (37392, _SHORT, 1, 3, True)]


def _rational(value: float) -> tuple[int, int]:
    return Fraction(value).limit_denominator(1_000_000).as_integer_ratio()
