"""The tables of capture.toml: what they may hold, and what is wrong with them in words."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psfbank.errors import ManifestError

FILE_NAME = "capture.toml"
GEOMETRY: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # what each kind of target needs, and may have
    "led": (("pitch_mm",), ("columns", "rows", "diameter_mm")),
    "slanted_edge": ((), ("square_mm",)),
    "chessboard": (("columns", "rows", "square_mm"), ()),
    "charuco": (("columns", "rows", "square_mm"), ("dictionary", "marker_mm")),
    "noise_target": (("pattern", "cell_mm"), ()),
    "flat": ((), ()),
    "dark": ((), ()),
    "corners": (("columns", "rows", "square_mm"), ()),
}

Kind = Literal["led", "slanted_edge", "chessboard", "charuco", "noise_target", "flat", "dark", "corners"]
Positive = Annotated[float, Field(gt=0)]


def _hint(text: str) -> Any:
    """Field whose description is the remedy that an error about it shows."""
    return Field(default=None, description=text)


class _Table(BaseModel):
    """What every table of the file has in common: exact types, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class CameraTable(_Table):
    """[camera]: what a session says of its camera; RAW files bring most of it."""

    make: str = Field(default="", description='Give the maker as text, like make = "Sony"')
    model: str = Field(default="", description='Give the model as text, like model = "A7 III"')
    serial: str = Field(default="", description='Give the serial number as text, like serial = "0042"')
    lens: str = Field(default="", description='Give the lens as text, like lens = "35 mm f/1.8"')
    width: Annotated[int, Field(gt=0)] | None = _hint("Give the width of the pictures in pixels, like width = 4000")
    height: Annotated[int, Field(gt=0)] | None = _hint("Give the height of the pictures in pixels, like height = 3000")
    pixel_pitch_um: Positive | None = _hint("Give the pixel pitch in micrometres, like pixel_pitch_um = 1.4")
    f_number: Positive | None = _hint("Give the f-number, like f_number = 2.8")
    focal_length_mm: Positive | None = _hint("Give the focal length in millimetres, like focal_length_mm = 35.0")
    focus_m: Positive | None = _hint("Give the focus distance in metres, like focus_m = 1.2")
    iso: Positive | None = _hint("Give the ISO speed, like iso = 100")
    pressure_kpa: float | None = _hint("Give the pressure in a lens that it moves, like pressure_kpa = 2.5")
    cfa: Literal["RGGB", "BGGR", "GRBG", "GBRG", "mono", "RGB"] | None = _hint(
        "Give the colours of the top-left 2 x 2 sites: RGGB, BGGR, GRBG or GBRG; or mono, or RGB for colour pictures"
    )
    black_level: Annotated[float, Field(ge=0)] | None = _hint("Give the DN without light, like black_level = 64")
    white_level: Positive | None = _hint("Give the DN at which a sample saturates, like white_level = 4095")
    encoding: Literal["linear", "srgb"] = Field(default="linear", description='Say encoding = "linear" or "srgb"')
    wavelengths_nm: list[Annotated[float, Field(ge=100, le=20_000)]] | None = _hint(
        "Give one wavelength in nanometres per channel, like wavelengths_nm = [610, 540, 465]"
    )


class CaptureTable(_Table):
    """[[capture]]: files of one target."""

    kind: Kind = Field(description=f"Choose one of {', '.join(GEOMETRY)}")
    files: str = Field(min_length=1, description='Give a glob inside the session directory, like files = "led/*.dng"')
    pitch_mm: Positive | None = _hint("Give the distance between neighbours in millimetres, like pitch_mm = 46.0")
    columns: Annotated[int, Field(ge=2)] | None = _hint("Give the number of inner corners a row, like columns = 13")
    rows: Annotated[int, Field(ge=2)] | None = _hint("Give the number of inner corners a column, like rows = 9")
    square_mm: Positive | None = _hint("Give the side of a square in millimetres, like square_mm = 30.0")
    diameter_mm: Positive | None = _hint("Give the diameter of a light source in millimetres, like diameter_mm = 0.5")
    pattern: Annotated[str, Field(min_length=1)] | None = _hint(
        'Give the picture of the pattern, black and white, one pixel a cell, like pattern = "pattern.png"'
    )
    cell_mm: Positive | None = _hint("Give the side of a cell of the pattern in millimetres, like cell_mm = 1.2")
    dictionary: Annotated[str, Field(min_length=1)] | None = _hint(
        "Give OpenCV's name of the markers' dictionary, like dictionary = \"DICT_5X5_100\", or leave it out"
    )
    marker_mm: Positive | None = _hint("Give the side of a marker in millimetres, like marker_mm = 22.5")
    focus_m: Positive | None = _hint("Give the focus distance in metres, like focus_m = 1.2")
    f_number: Positive | None = _hint("Give the f-number, like f_number = 2.8")
    focal_length_mm: Positive | None = _hint("Give the focal length in millimetres, like focal_length_mm = 35.0")
    iso: Positive | None = _hint("Give the ISO speed, like iso = 100")
    pressure_kpa: float | None = _hint("Give the pressure in a lens that it moves, like pressure_kpa = 2.5")
    exposure_s: Positive | None = _hint("Give the exposure time in seconds, like exposure_s = 0.01")


class SessionTables(_Table):
    """The whole file."""

    camera: CameraTable = Field(default=CameraTable(), description="Describe the camera in a table [camera]")
    capture: list[CaptureTable] = Field(min_length=1, description="Describe what was shot in tables [[capture]]")


def wrong(path: Path, field: str, what: str, remedy: str) -> ManifestError:
    """Say what is wrong with a field of a file."""
    return ManifestError(what, where=f"{path}, {field}" if field else str(path), remedy=remedy)


def read_tables(path: Path) -> SessionTables:
    """Read a capture.toml; ManifestError naming the field and the remedy where it is none."""
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        remedy = f"Give a session directory that holds a {FILE_NAME}"
        raise wrong(path, "", f"the file cannot be read ({error.strerror})", remedy) from error
    except UnicodeDecodeError as error:
        raise wrong(path, "", f"the file is not UTF-8 text (byte {error.start})", "Save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        remedy = "Text is quoted, numbers are not; tables are [camera] and [[capture]]"
        raise wrong(path, "", f"the file is not valid TOML: {error}", remedy) from error
    try:
        return SessionTables.model_validate(content)
    except ValidationError as error:
        raise _translated(path, error) from error


def _translated(path: Path, error: ValidationError) -> ManifestError:
    """Say a validation error in the words of capture.toml; of several, the first."""
    first, others = error.errors()[0], error.error_count() - 1
    keys = [str(key) for key in first["loc"]]
    what, remedy = first["msg"][:1].lower() + first["msg"][1:], remedy_of(keys)
    if first["type"] == "extra_forbidden":
        known = list(_fields(keys))
        close = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
        what = "unknown key"
        remedy = f"Did you mean {close[0]}?" if close else f"Known keys: {', '.join(known)}"
    elif first["type"] == "missing":
        what = "is missing"
    else:
        what = f"{what}, got {first['input']!r}"
    more = f" ({others} more like this in the file)" if others else ""
    return wrong(path, _dotted(first["loc"]), what + more, remedy)


def _fields(keys: Sequence[str]) -> dict[str, Any]:
    tables: dict[str, type[_Table]] = {"camera": CameraTable, "capture": CaptureTable}
    return dict((tables.get(keys[0], SessionTables) if len(keys) > 1 else SessionTables).model_fields)


def remedy_of(keys: Sequence[str]) -> str:
    """Say how a key of the file is given."""
    fields = _fields(keys)
    return next((fields[key].description for key in keys[::-1] if key in fields), "")


def _dotted(loc: tuple[int | str, ...]) -> str:
    """("camera", "width") -> [camera].width; ("capture", 2, "pitch_mm") -> capture[2].pitch_mm."""
    words = [f"[{key}]" if isinstance(key, int) else f".{key}" for key in loc]
    return "".join(words)[1:] if loc[0] != "camera" else "[camera]" + "".join(words[1:])


def require_consistent(path: Path, camera: CameraTable) -> None:
    """Refuse a [camera] that contradicts itself."""

    def refuse(field: str, what: str, remedy: str) -> ManifestError:
        return wrong(path, f"[camera].{field}", what, remedy)

    if (camera.width is None) != (camera.height is None):
        given, absent = ("width", "height") if camera.height is None else ("height", "width")
        raise refuse(absent, f"is missing although {given} is given", remedy_of(["camera", absent]))
    if camera.white_level is not None and camera.white_level <= (camera.black_level or 0):
        what = f"white_level = {camera.white_level:g} is not above black_level = {camera.black_level:g}"
        raise refuse("white_level", what, remedy_of(["camera", "white_level"]))
    if camera.encoding == "srgb":
        if camera.cfa not in (None, "mono", "RGB"):
            what = f'cfa = "{camera.cfa}" with encoding = "srgb": a mosaic is never gamma-coded'
            raise refuse("cfa", what, 'Leave cfa out for developed pictures, or say encoding = "linear"')
        for field in ("black_level", "white_level"):
            if getattr(camera, field) is not None:
                what = f'{field} with encoding = "srgb", whose levels are 0 and the largest code'
                raise refuse(field, what, f'Leave {field} out, or say encoding = "linear"')
