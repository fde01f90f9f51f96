"""Files of captures -> linear `Capture`s: black is 0, white 1, saturated samples masked, the rest refused in words.

PNG and JPEG, TIFF, and camera RAW (DNG and whatever LibRaw reads; extra `raw`). A file is read once into memory, so
that its digest and its pixels are those of the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calib.picture import Picture, decode_raster, decode_tiff, dng_colours, is_dng, require_sane_size, tiff_metadata
from psfbank.camera import Matrix
from psfbank.errors import CaptureUnusable
from psfbank.isp import srgb_decode
from psfbank.model import CFA_PATTERNS, Camera, Capture, Setting
from psfbank.sensor import cfa_sites

MAX_BYTES = 2**31  # of a file
MAX_SATURATED_SHARE = 0.2
LEVEL_TOLERANCE = 0.005  # of white - black: RAW levels differ by a few DN from frame to frame, never by this
SETTING_TOLERANCE = 0.05  # a lens of f/1.78 is written f/1.8
_UNKNOWN_SETTING = Setting()


def read_picture(path: Path) -> Picture:
    """Decode one file without interpreting its numbers.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Picture

    Raises
    ------
    CaptureUnusable
        When the file is missing, truncated, too large or no image.
    """
    where = str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CaptureUnusable("the file is larger than 2 GiB", where=where, remedy="Is it a single picture?")
        blob = path.read_bytes()
    except OSError as error:
        raise CaptureUnusable(
            f"the file cannot be read ({error.strerror})", where=where, remedy="Check its name and permissions"
        ) from error
    try:
        return _decoder(path, blob)(blob, where)
    except CaptureUnusable:
        raise
    except Exception as error:  # decoders raise all sorts of things on damaged bytes; each means the same to the user
        raise CaptureUnusable(
            f"not a complete picture ({_words(error)})",
            where=where,
            remedy="The file is truncated, damaged or of another format: copy it again from the camera",
        ) from error


def read_capture(
    path: Path,
    camera: Camera,
    *,
    black_level: npt.ArrayLike | None = None,
    white_level: float | None = None,
    encoding: str = "linear",
    setting: Setting = _UNKNOWN_SETTING,
    exposure_s: float = float("nan"),
    name: str | None = None,
    lit: bool = True,
) -> Capture:
    """Read one file as linear light, (DN - black) / (white - black); negatives are kept.

    Parameters
    ----------
    path : Path
    camera : Camera
        Size and colour filter array that the file must have.
    black_level : float or (C,) array, optional
        DN without light; a RAW file's own when None.
    white_level : float, optional
        DN at which a sample saturates; a RAW file's own when None.
    encoding : {"linear", "srgb"}
        "srgb" decodes with the inverse of IEC 61966-2-1; its levels are 0 and the largest code.
    setting : Setting
        What the user declares; a file's own metadata fill the gaps, and those of RAW must agree.
    exposure_s : float
        Declared exposure time, s.
    name : str, optional
        Name of the capture, by default the file's.
    lit : bool
        False for a dark frame, which may be all black.

    Returns
    -------
    Capture
        float32.

    Raises
    ------
    CaptureUnusable
        Naming what is wrong, where, and what to try.
    """
    picture, where = read_picture(path), str(path)
    if picture.white_dn is not None:
        require_agreement(picture, camera.cfa, black_level, white_level, encoding, where)
        require_same_setting(picture, setting, exposure_s, where)
    dn = _shaped(picture, camera, where)
    _require_content(dn, where)
    if encoding == "srgb":
        black, white = _srgb_levels(dn.dtype, camera, where)
    else:
        own = picture.black_dn if black_level is None else black_level
        black, white = _levels(dn.dtype, camera, own, picture.white_dn if white_level is None else white_level, where)
    offset = black[cfa_sites(camera.cfa, camera.size_px)] if dn.ndim == 2 and len(black) > 1 else black
    pixels = (dn.astype(np.float32) - offset) / (np.float32(white) - offset)
    over = np.greater_equal(dn, white - 0.5 if np.issubdtype(dn.dtype, np.integer) else white * (1 - 1e-6))
    saturated = over if dn.ndim == 2 else np.any(over, axis=-1)
    pixels = srgb_decode(pixels) if encoding == "srgb" else pixels
    _require_exposure(pixels, saturated, lit, where)
    merged = Setting(**{**picture.setting.known(), **setting.known()})
    exposure_s = picture.exposure_s if math.isnan(exposure_s) else exposure_s
    return Capture(pixels, saturated, path.name if name is None else name, picture.sha256, exposure_s, merged)


def _words(error: Exception) -> str:
    first = error.args[0] if error.args else type(error).__name__
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def _decoder(path: Path, blob: bytes) -> Callable[[bytes, str], Picture]:
    suffix = path.suffix.lower()
    if suffix in (".png", ".jpg", ".jpeg"):
        return decode_raster
    return decode_tiff if suffix in (".tif", ".tiff") and not is_dng(blob) else _decode_raw


def _decode_raw(blob: bytes, where: str) -> Picture:
    try:
        import rawpy
    except ImportError as error:
        raise CaptureUnusable(
            "reading RAW files needs rawpy", where=where, remedy="Install it with: pip install 'psfbank[raw]'"
        ) from error
    with rawpy.imread(io.BytesIO(blob)) as raw:
        require_sane_size(raw.sizes.height, raw.sizes.width, where)
        dn = raw.raw_image_visible.copy()
        cfa, black_dn = _raw_colours(raw, where)
        white_dn = float(raw.white_level)
        colours = None if cfa == "mono" else dng_colours(blob) or _colours(raw.rgb_xyz_matrix)
    # LibRaw overlooks the ISO of TIFF/EP tags; most RAW formats (DNG, NEF, ARW, CR2, PEF) are TIFF and say it there
    told = tiff_metadata(blob)
    digest = hashlib.sha256(blob).hexdigest()
    return Picture(
        dn, cfa, digest, black_dn, white_dn, told.exposure_s, told.setting, told.maker, told.model, colours,
        told.lens, told.pitch_um,
    )  # fmt: skip


def _raw_colours(raw: Any, where: str) -> tuple[str, tuple[float, ...]]:
    """Colour filter array and black level of each channel; the two greens of a Bayer pattern share their mean."""
    black = [float(level) for level in raw.black_level_per_channel]
    if raw.num_colors == 1:
        return "mono", (black[0],)
    sites, letters = raw.raw_colors_visible[:2, :2].ravel(), raw.color_desc.decode("ascii")
    cfa = "".join(letters[i] for i in sites)
    if raw.raw_pattern is None or raw.raw_pattern.shape != (2, 2) or cfa not in CFA_PATTERNS:
        raise CaptureUnusable(
            "its colour filter array is not a Bayer pattern", where=where, remedy="Use a Bayer or monochrome camera"
        )
    return cfa, tuple(float(np.mean([black[i] for i in sites if letters[i] == colour])) for colour in "RGB")


def _colours(matrix: npt.NDArray[np.float32]) -> Matrix | None:
    """LibRaw's matrix (4, 3) of cameras that it knows, without the row of the second green; else it is all zeros."""
    return tuple(map(tuple, matrix[:3].tolist())) if np.linalg.matrix_rank(matrix[:3]) == 3 else None


def require_agreement(
    picture: Picture, cfa: str, black: npt.ArrayLike | None, white: float | None, encoding: str, where: str
) -> None:
    """Refuse a RAW file that contradicts what capture.toml declares, naming both."""
    own_black, own_white = np.asarray(picture.black_dn), picture.white_dn or 0.0
    if encoding != "linear":
        raise _contradiction("encoding", "linear", encoding, where)
    if picture.cfa != cfa:
        raise _contradiction("cfa", picture.cfa, cfa, where)
    tolerance = LEVEL_TOLERANCE * (own_white - float(own_black.min()))
    for field, own, declared in (("black_level", own_black, black), ("white_level", own_white, white)):
        if declared is not None and np.max(np.abs(np.asarray(declared) - own)) > tolerance:
            raise _contradiction(field, _plain(own), _plain(declared), where)


def require_same_setting(picture: Picture, setting: Setting, exposure_s: float, where: str) -> None:
    """Refuse a RAW file that was shot at another setting than the one declared; what either leaves out agrees."""
    own = {**picture.setting.known(), "exposure_s": picture.exposure_s}
    for field, value in {**setting.known(), "exposure_s": exposure_s}.items():
        if abs(value - own.get(field, math.nan)) > SETTING_TOLERANCE * value:  # never true of an unknown, NaN
            raise _contradiction(field, f"{own[field]:g}", f"{value:g}", where)


def _plain(levels: npt.ArrayLike) -> str:
    return ", ".join(f"{level:g}" for level in np.unique(np.asarray(levels, dtype=np.float64)))


def _contradiction(field: str, own: str, declared: str, where: str) -> CaptureUnusable:
    field = {"focal_mm": "focal_length_mm"}.get(field, field)  # as capture.toml calls it
    return CaptureUnusable(
        f"the RAW file says {field} = {own}, capture.toml declares {declared}",
        where=where,
        remedy=f"Correct {field} in capture.toml, or leave it out and the file's own is used",
    )


def _shaped(picture: Picture, camera: Camera, where: str) -> npt.NDArray[Any]:
    """Give the numbers the shape that the camera's pictures have, or say why not."""
    dn, (height, width) = picture.dn, camera.size_px
    if dn.shape[:2] != (height, width):
        turned = dn.shape[:2] == (width, height)
        raise CaptureUnusable(
            f"the picture is {dn.shape[1]} x {dn.shape[0]} pixels, the camera's are {width} x {height}",
            where=where,
            remedy="It is turned by 90 degrees: export it without rotation" if turned else "Leave it out of `files`",
        )
    if camera.cfa == "RGB":
        if dn.ndim == 3:
            return dn
        remedy = 'Declare the pattern of a mosaic, like cfa = "RGGB", or cfa = "mono"'
        raise CaptureUnusable("the picture has one channel, the camera's have three", where=where, remedy=remedy)
    if dn.ndim == 2 or picture.cfa == "mono":  # a grey picture may be stored three times over
        return dn if dn.ndim == 2 else dn[..., 0]
    raise CaptureUnusable(
        f"the picture has three channels, those of a camera with cfa = {camera.cfa} have one",
        where=where,
        remedy='Declare cfa = "RGB" for pictures in colour; better, capture the mosaic itself (RAW)',
    )


def _require_content(dn: npt.NDArray[Any], where: str) -> None:
    if np.issubdtype(dn.dtype, np.floating) and not np.isfinite(dn).all():
        bad = int(np.sum(~np.isfinite(dn)))
        raise CaptureUnusable(f"{bad} samples are NaN or infinite", where=where, remedy="Export it again")
    if dn.min() == dn.max():
        remedy = "Leave it out: not even noise was recorded"
        raise CaptureUnusable(f"every sample is {dn.flat[0]}", where=where, remedy=remedy)


def _srgb_levels(dtype: np.dtype[Any], camera: Camera, where: str) -> tuple[npt.NDArray[np.float32], float]:
    if not np.issubdtype(dtype, np.unsignedinteger):
        raise CaptureUnusable(f"sRGB-coded samples cannot be {dtype}", where=where, remedy="Export 8-bit pictures")
    return np.zeros(len(camera.channels), dtype=np.float32), float(np.iinfo(dtype).max)


def _levels(
    dtype: np.dtype[Any], camera: Camera, black: npt.ArrayLike | None, white: float | None, where: str
) -> tuple[npt.NDArray[np.float32], float]:
    """Black (C,) and white of linear samples, DN."""
    if dtype == np.uint8 and (white is None or white > 255):
        raise CaptureUnusable(
            "8-bit samples look gamma-coded and nothing says otherwise",
            where=where,
            remedy='Declare encoding = "srgb" in [camera]; or, if they are linear, black_level and white_level = 255',
        )
    if black is None or white is None:
        remedy = "Declare black_level and white_level in [camera]"
        raise CaptureUnusable("the black and the white level are unknown", where=where, remedy=remedy)
    return np.broadcast_to(np.asarray(black, dtype=np.float32), (len(camera.channels),)), float(white)


def _require_exposure(pixels: npt.NDArray[np.float32], saturated: npt.NDArray[np.bool_], lit: bool, where: str) -> None:
    share = float(saturated.mean())
    if share > MAX_SATURATED_SHARE:
        remedy = "Expose less; or is white_level in capture.toml too low?"
        raise CaptureUnusable(f"{share:.0%} of the pixels are saturated", where=where, remedy=remedy)
    if not lit:
        return
    # a grid of LEDs lights a thousandth of the pixels; hot pixels are fewer than one in ten thousand
    median, brightest = np.percentile(pixels, [50, 99.99])
    spread = 1.4826 * float(np.median(np.abs(pixels - median)))
    if median < 0.01 and brightest - median < max(0.005, 6 * spread):
        remedy = "Expose more, or take the cap off"
        raise CaptureUnusable(f"the picture is all black: {brightest:.2%} of white at most", where=where, remedy=remedy)
