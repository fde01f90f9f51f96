"""Bytes of a picture file -> what the file holds, in its own numbers and with what it says about itself."""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from psfbank.camera import Matrix
from psfbank.errors import CaptureUnusable
from psfbank.model import Setting

MAX_PIXELS = 400_000_000  # that a file may declare: no sensor has more, a decompression bomb does
_UNKNOWN_SETTING = Setting()
_EXIF_IFD = 34665
_TO_RGB = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}  # by the channels of what OpenCV decodes
_SETTING_TAGS = {"exposure_s": 33434, "f_number": 33437, "iso": 34855, "focal_mm": 37386}  # EXIF 2.3, table 7
_LENS_TAG = 42036  # EXIF 2.3, LensModel, which some writers put into the first directory
_FOCAL_PLANE_TAGS = ((41486, 41488), (37390, 37392))  # FocalPlaneXResolution and its unit: EXIF 2.3, TIFF/EP
_FOCAL_PLANE_NAMES = ("FocalPlaneXResolution", "FocalPlaneResolutionUnit")
_UNIT_UM = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}  # inch, cm, mm, um: TIFF/EP, section 5.2
_COLOUR_TAGS = ((50721, 50778), (50722, 50779))  # DNG 1.4: ColorMatrix1, 2 and CalibrationIlluminant1, 2
_NEAR_D65 = (21, 22, 20, 23, 1)  # EXIF 2.3, LightSource: D65, D75, D55, D50, daylight
_SETTING_NAMES = {  # under which tifffile gives them
    "exposure_s": ("ExposureTime",),
    "f_number": ("FNumber",),
    "iso": ("ISOSpeedRatings", "PhotographicSensitivity"),
    "focal_mm": ("FocalLength",),
}


@dataclass(frozen=True, eq=False)
class Picture:
    """Contents of one file: `dn` (H, W) or (H, W, 3), as stored.

    `cfa` of anything but RAW is "RGB" or "mono", by the number of channels that differ; `black_dn` (C,) and `white_dn`
    are None unless the file is RAW; so is `xyz_to_camera` (3, 3), and where the file says nothing of colours.
    """

    dn: npt.NDArray[Any]
    cfa: str
    sha256: str
    black_dn: tuple[float, ...] | None = None
    white_dn: float | None = None
    exposure_s: float = float("nan")
    setting: Setting = _UNKNOWN_SETTING
    maker: str = ""
    model: str = ""
    xyz_to_camera: Matrix | None = None
    lens: str = ""
    pitch_um: float = float("nan")


@dataclass(frozen=True)
class Metadata:
    """What a file of the TIFF family says of how it was taken; empty and NaN where it says nothing."""

    setting: Setting = _UNKNOWN_SETTING
    exposure_s: float = float("nan")
    maker: str = ""
    model: str = ""
    lens: str = ""
    pitch_um: float = float("nan")


def decode_raster(blob: bytes, where: str) -> Picture:
    """Decode a PNG or JPEG; raises whatever the decoders raise on damaged bytes."""
    # Pillow checks that the file is whole (PNG by its checksums), which OpenCV does not; OpenCV reads 16-bit colour
    # PNG, which Pillow does not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns at a lower limit of size
        with Image.open(io.BytesIO(blob), formats=("PNG", "JPEG")) as image:
            require_sane_size(image.height, image.width, where)
            if image.format == "JPEG":
                exif = image.getexif().get_ifd(_EXIF_IFD)
                numbers = {key: float(exif[tag]) for key, tag in _SETTING_TAGS.items() if tag in exif}
                return _picture(np.asarray(image), blob, numbers)
            image.verify()
    dn = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_UNCHANGED)
    if dn is None:
        raise ValueError("its pixels cannot be decoded")
    return _picture(dn if dn.ndim == 2 else cv2.cvtColor(dn, _TO_RGB[dn.shape[2]]), blob, {})


def decode_tiff(blob: bytes, where: str) -> Picture:
    """Decode the first page of a TIFF; raises whatever tifffile raises on damaged bytes."""
    with tifffile.TiffFile(io.BytesIO(blob)) as tif:
        page = tif.pages.first
        require_sane_size(page.imagelength, page.imagewidth, where)
        dn = page.asarray()
        if dn.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            dn = np.moveaxis(dn, 0, -1)
        return _picture(dn, blob, _tiff_setting(page.tags))


def is_dng(blob: bytes) -> bool:
    """Tell a DNG, which is TIFF as well, by its version tag."""
    try:
        with tifffile.TiffFile(io.BytesIO(blob)) as tif:
            return "DNGVersion" in tif.pages.first.tags
    except (tifffile.TiffFileError, ValueError):
        return False  # decoding it will tell what is wrong


def tiff_metadata(blob: bytes) -> Metadata:
    """Read setting, exposure, maker, model, lens and pixel pitch of a TIFF, DNG or another RAW of that family."""
    if blob[:4] not in (b"II*\0", b"MM\0*"):
        return Metadata()
    with tifffile.TiffFile(io.BytesIO(blob)) as tif:
        tags = tif.pages.first.tags
        exif = tags[_EXIF_IFD].value if _EXIF_IFD in tags else {}
        maker, model = (str(tags[name].value).strip() if name in tags else "" for name in ("Make", "Model"))
        lens = str(tags[_LENS_TAG].value if _LENS_TAG in tags else exif.get("LensModel", "")).strip("\0 ")
        numbers = _tiff_setting(tags)
        exposure_s = numbers.pop("exposure_s", math.nan)
        return Metadata(Setting(**numbers), exposure_s, maker, model, lens, _pitch_um(tags, exif))


def _pitch_um(tags: Any, exif: dict[str, Any]) -> float:
    """Pixel pitch, um, of the resolution on the focal plane: the tags of EXIF 2.3, else those of TIFF/EP; else NaN."""

    def told(*tags_of_a_pair: int) -> list[Any]:
        return [tags[tag].value if tag in tags else None for tag in tags_of_a_pair]

    for per_unit, unit in ([exif.get(name) for name in _FOCAL_PLANE_NAMES], *(told(*t) for t in _FOCAL_PLANE_TAGS)):
        if per_unit is not None and unit in _UNIT_UM and _number(per_unit) > 0:
            return _UNIT_UM[unit] / _number(per_unit)
    return math.nan


def dng_colours(blob: bytes) -> Matrix | None:
    """Matrix (3, 3) from XYZ to the camera of a DNG, the one made in light nearest to D65; None where there is none.

    CameraCalibration and AnalogBalance of DNG 1.4, which scale whole channels, are left out: white balance undoes them.
    """
    if not is_dng(blob):
        return None
    with tifffile.TiffFile(io.BytesIO(blob)) as tif:
        tags = tif.pages.first.tags
        by_light = {
            int(tags[light].value) if light in tags else 0: np.asarray(tags[matrix].value, dtype=np.float64)
            for matrix, light in _COLOUR_TAGS
            if matrix in tags
        }
    for light in (*_NEAR_D65, *by_light):
        if light in by_light and by_light[light].size == 18:  # nine fractions
            numerator, denominator = by_light[light].reshape(9, 2).T
            return tuple(map(tuple, (numerator / denominator).reshape(3, 3).tolist()))
    return None


def require_sane_size(height: int, width: int, where: str) -> None:
    """Refuse a size that no sensor has, before anything is decoded."""
    if height * width > MAX_PIXELS:
        raise CaptureUnusable(
            f"the file declares {width} x {height} pixels", where=where, remedy="It is damaged, or no capture"
        )


def _picture(dn: npt.NDArray[Any], blob: bytes, numbers: dict[str, float]) -> Picture:
    if dn.ndim == 3 and dn.shape[2] in (2, 4):
        if np.ptp(dn[..., -1]):
            raise ValueError("parts of it are transparent")
        dn = dn[..., 0] if dn.shape[2] == 2 else dn[..., :3]
    if dn.ndim not in (2, 3) or (dn.ndim == 3 and dn.shape[2] != 3):
        raise ValueError(f"an array of shape {dn.shape} is neither (H, W) nor (H, W, 3)")
    known = {key: value for key, value in numbers.items() if value > 0}
    exposure_s = known.pop("exposure_s", math.nan)
    grey = dn.ndim == 2 or (np.array_equal(dn[..., 0], dn[..., 1]) and np.array_equal(dn[..., 0], dn[..., 2]))
    digest = hashlib.sha256(blob).hexdigest()
    return Picture(dn, "mono" if grey else "RGB", digest, exposure_s=exposure_s, setting=Setting(**known))


def _tiff_setting(tags: Any) -> dict[str, float]:
    """Read the setting of the EXIF directory, else that of TIFF/EP tags in the first one; 0 means unknown."""
    exif = tags[_EXIF_IFD].value if _EXIF_IFD in tags else {}
    found: dict[str, float] = {}
    for key, tag in _SETTING_TAGS.items():
        values = [exif[name] for name in _SETTING_NAMES[key] if name in exif]
        values += [tags[tag].value] if tag in tags else []
        if values:
            found[key] = _number(values[0])
    return {key: value for key, value in found.items() if value > 0}


def _number(value: Any) -> float:
    """Read an EXIF number: a rational as its two parts, or one or several plain ones."""
    parts = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if len(parts) == 2:
        return float(parts[0] / parts[1]) if parts[1] else math.nan
    return float(parts[0])
