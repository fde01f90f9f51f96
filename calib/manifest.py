"""capture.toml -> a validated plan of one session: which files show which target, and what camera took them."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calib.capture import read_capture, read_picture
from calib.chessboard.charuco import dictionaries
from calib.picture import Picture
from calib.targets import read_pattern
from psfbank.errors import CaptureUnusable, ManifestError
from psfbank.model import Camera, Capture, Setting

FILE_NAME = "capture.toml"
DEFAULT_WAVELENGTHS_NM = (610.0, 540.0, 465.0)  # centroids of the response of common Bayer filters under white light
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
_GEOMETRY_KEYS = tuple(dict.fromkeys(key for needed, allowed in GEOMETRY.values() for key in needed + allowed))
LEAST_CORNERS = 3  # of a chessboard, each way
_NAN = float("nan")

Kind = Literal["led", "slanted_edge", "chessboard", "charuco", "noise_target", "flat", "dark", "corners"]
Positive = Annotated[float, Field(gt=0)]


def _hint(text: str) -> Any:
    """Field whose description is the remedy that an error about it shows."""
    return Field(default=None, description=text)


class _Table(BaseModel):
    """What every table of the file has in common: exact types, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _CameraTable(_Table):
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


class _CaptureTable(_Table):
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


class _File(_Table):
    camera: _CameraTable = Field(description="Describe the camera in a table [camera]")
    capture: list[_CaptureTable] = Field(min_length=1, description="Describe what was shot in tables [[capture]]")


@dataclass(frozen=True)
class Entry:
    """Captures of one target at one setting; geometry that the kind does not need is None."""

    kind: str
    files: tuple[Path, ...]
    setting: Setting
    exposure_s: float = _NAN
    pitch_mm: float | None = None
    columns: int | None = None
    rows: int | None = None
    square_mm: float | None = None
    diameter_mm: float | None = None
    pattern: Path | None = None
    cell_mm: float | None = None
    dictionary: str | None = None
    marker_mm: float | None = None


@dataclass(frozen=True)
class Plan:
    """A session as it was described: `black_level` (C,) and `white_level` DN are None where nothing tells them."""

    path: Path
    root: Path
    camera: Camera
    encoding: str
    black_level: tuple[float, ...] | None
    white_level: float | None
    setting: Setting
    wavelengths_nm: tuple[float, ...]
    entries: tuple[Entry, ...]

    def name(self, file: Path) -> str:
        """Name of a file, relative to the session, with forward slashes."""
        return file.relative_to(self.root).as_posix()

    def read(self, entry: Entry, file: Path) -> Capture:
        """Read one file of an entry as this plan says; raises CaptureUnusable."""
        return read_capture(
            file,
            self.camera,
            black_level=self.black_level,
            white_level=self.white_level,
            encoding=self.encoding,
            setting=entry.setting,
            exposure_s=entry.exposure_s,
            name=self.name(file),
            lit=entry.kind != "dark",
        )


def load_plan(path: str | Path) -> Plan:
    """Read and validate the description of a session.

    Parameters
    ----------
    path : str or Path
        The session's directory, or its capture.toml.

    Returns
    -------
    Plan
        Files exist and are sorted; camera data that the file leaves out come from the first readable capture.

    Raises
    ------
    ManifestError
        Naming the file, the field and the remedy.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    table = _validated(path)
    _require_consistent(path, table.camera)
    base = _setting(table.camera, Setting())
    entries = tuple(_entry(path, f"capture[{i}]", row, base) for i, row in enumerate(table.capture))
    sample = _sample(entries)
    camera = _camera(path, table.camera, sample)
    black, white = _levels(path, table.camera, camera, sample)
    wavelengths = table.camera.wavelengths_nm or (DEFAULT_WAVELENGTHS_NM if camera.cfa != "mono" else (540.0,))
    if len(wavelengths) != len(camera.channels):
        raise _error(
            path,
            "[camera].wavelengths_nm",
            f"{len(wavelengths)} wavelengths for the {len(camera.channels)} channels of cfa = {camera.cfa}",
            _remedy(["camera", "wavelengths_nm"]),
        )
    setting = Setting(**{**(sample.setting.known() if sample else {}), **base.known()})
    return Plan(path, path.parent, camera, table.camera.encoding, black, white, setting, tuple(wavelengths), entries)


def _error(path: Path, field: str, what: str, remedy: str) -> ManifestError:
    return ManifestError(what, where=f"{path}, {field}" if field else str(path), remedy=remedy)


def _validated(path: Path) -> _File:
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        remedy = f"Give a session directory that holds a {FILE_NAME}"
        raise _error(path, "", f"the file cannot be read ({error.strerror})", remedy) from error
    except UnicodeDecodeError as error:
        raise _error(path, "", f"the file is not UTF-8 text (byte {error.start})", "Save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        remedy = "Text is quoted, numbers are not; tables are [camera] and [[capture]]"
        raise _error(path, "", f"the file is not valid TOML: {error}", remedy) from error
    try:
        return _File.model_validate(content)
    except ValidationError as error:
        raise _translated(path, error) from error


def _translated(path: Path, error: ValidationError) -> ManifestError:
    """Say a validation error in the words of capture.toml; of several, the first."""
    first, others = error.errors()[0], error.error_count() - 1
    keys = [str(key) for key in first["loc"]]
    what, remedy = first["msg"][:1].lower() + first["msg"][1:], _remedy(keys)
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
    return _error(path, _dotted(first["loc"]), what + more, remedy)


def _fields(keys: Sequence[str]) -> dict[str, Any]:
    tables: dict[str, type[_Table]] = {"camera": _CameraTable, "capture": _CaptureTable}
    return dict((tables.get(keys[0], _File) if len(keys) > 1 else _File).model_fields)


def _remedy(keys: Sequence[str]) -> str:
    fields = _fields(keys)
    return next((fields[key].description for key in keys[::-1] if key in fields), "")


def _dotted(loc: tuple[int | str, ...]) -> str:
    """("camera", "width") -> [camera].width; ("capture", 2, "pitch_mm") -> capture[2].pitch_mm."""
    words = [f"[{key}]" if isinstance(key, int) else f".{key}" for key in loc]
    return "".join(words)[1:] if loc[0] != "camera" else "[camera]" + "".join(words[1:])


def _require_consistent(path: Path, camera: _CameraTable) -> None:
    def refuse(field: str, what: str, remedy: str) -> ManifestError:
        return _error(path, f"[camera].{field}", what, remedy)

    if (camera.width is None) != (camera.height is None):
        given, absent = ("width", "height") if camera.height is None else ("height", "width")
        raise refuse(absent, f"is missing although {given} is given", _remedy(["camera", absent]))
    if camera.white_level is not None and camera.white_level <= (camera.black_level or 0):
        what = f"white_level = {camera.white_level:g} is not above black_level = {camera.black_level:g}"
        raise refuse("white_level", what, _remedy(["camera", "white_level"]))
    if camera.encoding == "srgb":
        if camera.cfa not in (None, "mono", "RGB"):
            what = f'cfa = "{camera.cfa}" with encoding = "srgb": a mosaic is never gamma-coded'
            raise refuse("cfa", what, 'Leave cfa out for developed pictures, or say encoding = "linear"')
        for field in ("black_level", "white_level"):
            if getattr(camera, field) is not None:
                what = f'{field} with encoding = "srgb", whose levels are 0 and the largest code'
                raise refuse(field, what, f'Leave {field} out, or say encoding = "linear"')


def _entry(path: Path, field: str, row: _CaptureTable, base: Setting) -> Entry:
    needed, allowed = GEOMETRY[row.kind]
    for key in _GEOMETRY_KEYS:
        given = getattr(row, key) is not None
        if key in needed and not given:
            raise _error(path, f"{field}.{key}", f"{row.kind} captures need it", _remedy(["capture", key]))
        if given and key not in (*needed, *allowed):
            takes = ", ".join((*needed, *allowed)) or "no geometry"
            raise _error(path, f"{field}.{key}", f"{row.kind} captures have none", f"Leave it out: they take {takes}")
    geometry = {key: getattr(row, key) for key in _GEOMETRY_KEYS}
    if row.kind == "chessboard" and min(row.columns or 0, row.rows or 0) < LEAST_CORNERS:
        what = f"{row.columns} x {row.rows} inner corners are too few to find a board by"
        raise _error(path, f"{field}.columns", what, f"Shoot a board of {LEAST_CORNERS} x {LEAST_CORNERS} or more")
    if row.kind == "charuco":
        _require_markers(path, field, row)
    if row.pattern is not None:
        geometry["pattern"] = _pattern(path, f"{field}.pattern", row.pattern)
    files = _files(path, f"{field}.files", row.files)
    exposure_s = _NAN if row.exposure_s is None else row.exposure_s
    return Entry(row.kind, files, _setting(row, base), exposure_s, **geometry)


def _require_markers(path: Path, field: str, row: _CaptureTable) -> None:
    """Refuse markers that no board of this kind can hold."""
    if row.marker_mm is not None and row.square_mm is not None and row.marker_mm >= row.square_mm:
        what = f"markers of {row.marker_mm:g} mm do not fit into squares of {row.square_mm:g} mm"
        raise _error(path, f"{field}.marker_mm", what, _remedy(["capture", "marker_mm"]))
    count = ((row.columns or 0) + 1) * ((row.rows or 0) + 1) // 2
    known = list(dictionaries(count))
    if not known:
        what = f"{row.columns} x {row.rows} corners need {count} markers, more than any dictionary holds"
        raise _error(path, f"{field}.columns", what, _remedy(["capture", "columns"]))
    if row.dictionary is not None and row.dictionary not in dictionaries(count, all_members=True):
        what = f'"{row.dictionary}" is no dictionary of {count} markers or more'
        raise _error(path, f"{field}.dictionary", what, f"Those that suffice: {', '.join(known)}")


def _pattern(path: Path, field: str, name: str) -> Path:
    """Find the picture of a noise target's pattern, and make sure that it is one."""
    file = path.parent / name
    if PurePath(name).is_absolute() or not file.resolve().is_relative_to(path.parent.resolve()):
        raise _error(path, field, f'"{name}" leaves the session directory', "Copy the pattern into it")
    if not file.is_file():
        raise _error(path, field, f'there is no file "{name}"', f"Check the name and what is in {path.parent}")
    try:
        read_pattern(file)
    except CaptureUnusable as error:
        raise _error(path, field, f'"{name}": {error.what}', error.remedy) from error
    return file


def _setting(row: _CameraTable | _CaptureTable, base: Setting) -> Setting:
    given = {"focal_mm": row.focal_length_mm, "f_number": row.f_number, "focus_m": row.focus_m, "iso": row.iso}
    given["pressure_kpa"] = row.pressure_kpa
    return Setting(**{**base.known(), **{key: value for key, value in given.items() if value is not None}})


def _files(path: Path, field: str, pattern: str) -> tuple[Path, ...]:
    root, pure = path.parent, PurePath(pattern)
    stay = "Name files inside the session directory, relative to it"
    if pure.is_absolute() or ".." in pure.parts:
        raise _error(path, field, f'"{pattern}" leaves the session directory', stay)
    try:
        found = tuple(sorted(file for file in root.glob(pattern) if file.is_file()))
    except ValueError as error:
        raise _error(path, field, f'"{pattern}" is no glob ({error})', _remedy(["capture", "files"])) from error
    if not found:
        raise _error(path, field, f'no file matches "{pattern}"', f"Check the pattern and what is in {root}")
    home = root.resolve()
    for file in found:
        if not file.resolve().is_relative_to(home):
            raise _error(path, field, f"{file.relative_to(root)} links to outside the session directory", stay)
    return found


def _sample(entries: Sequence[Entry]) -> Picture | None:
    """Take the first readable picture, to tell what the table leaves out."""
    for file in (file for entry in entries if entry.kind != "corners" for file in entry.files):
        try:
            return read_picture(file)
        except CaptureUnusable:
            continue  # whoever measures it reports it; here any other picture serves
    return None


def _camera(path: Path, table: _CameraTable, sample: Picture | None) -> Camera:
    if table.width is not None and table.height is not None:
        size_px = table.height, table.width
    elif sample is not None:
        size_px = sample.dn.shape[0], sample.dn.shape[1]
    else:
        raise _error(path, "[camera].width", "is missing, and no capture can be read", _remedy(["camera", "width"]))
    cfa = table.cfa or (sample.cfa if sample else "mono")
    maker = table.make or (sample.maker if sample else "") or "unknown"
    model = table.model or (sample.model if sample else "") or "unknown"
    colours = sample.xyz_to_camera if sample and cfa != "mono" else None
    return Camera(maker, model, size_px, cfa, table.serial, table.lens, table.pixel_pitch_um or _NAN, colours)


def _levels(
    path: Path, table: _CameraTable, camera: Camera, sample: Picture | None
) -> tuple[tuple[float, ...] | None, float | None]:
    channels = len(camera.channels)
    if table.encoding == "srgb":
        return (0.0,) * channels, 255.0
    if sample is None:
        return (None if table.black_level is None else (table.black_level,) * channels), table.white_level
    if sample.dn.dtype == np.uint8 and (table.white_level is None or table.white_level > 255):
        remedy = 'Say encoding = "srgb"; or, if they are linear, black_level = 0 and white_level = 255'
        raise _error(path, "[camera].encoding", "is linear, but the captures are 8-bit and look gamma-coded", remedy)
    black = sample.black_dn if table.black_level is None else (table.black_level,) * channels
    white = sample.white_dn if table.white_level is None else table.white_level
    for field, level in (("black_level", black), ("white_level", white)):
        if level is None:
            what = "is missing; only RAW files bring their own"
            raise _error(path, f"[camera].{field}", what, _remedy(["camera", field]))
    return black, white
