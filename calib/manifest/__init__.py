"""capture.toml -> a validated plan of one session: which files show which target, and what camera took them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from calib.capture import read_capture
from calib.chessboard.charuco import dictionaries
from calib.manifest.brought import camera_of, first_readable, lens_of, levels_of, picture_that_tells
from calib.manifest.tables import (
    FILE_NAME,
    GEOMETRY,
    CameraTable,
    CaptureTable,
    read_tables,
    remedy_of,
    require_consistent,
    wrong,
)
from calib.picture import Picture
from calib.targets import read_pattern
from psfbank.errors import CaptureUnusable
from psfbank.model import Camera, Capture, Setting

DEFAULT_WAVELENGTHS_NM = (610.0, 540.0, 465.0)  # centroids of the response of common Bayer filters under white light
_GEOMETRY_KEYS = tuple(dict.fromkeys(key for needed, allowed in GEOMETRY.values() for key in needed + allowed))
LEAST_CORNERS = 3  # of a chessboard, each way
_NAN = float("nan")


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
        Files exist and are sorted; what the file leaves out of the camera comes from its captures, RAW before others.

    Raises
    ------
    ManifestError
        Naming the file, the field and the remedy.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    table = read_tables(path)
    require_consistent(path, table.camera)
    base = _setting(table.camera, Setting())
    entries = tuple(_entry(path, f"capture[{i}]", row, base) for i, row in enumerate(table.capture))
    shown = [first_readable(entry.files) if entry.kind != "corners" else None for entry in entries]
    found = [(*seen, entry.setting) for seen, entry in zip(shown, entries, strict=True) if seen]
    sample = picture_that_tells(path, table.camera, found)
    camera = camera_of(path, table.camera, sample)
    black, white = levels_of(path, table.camera, camera, sample)
    wavelengths = table.camera.wavelengths_nm or (DEFAULT_WAVELENGTHS_NM if camera.cfa != "mono" else (540.0,))
    if len(wavelengths) != len(camera.channels):
        raise wrong(
            path,
            "[camera].wavelengths_nm",
            f"{len(wavelengths)} wavelengths for the {len(camera.channels)} channels of cfa = {camera.cfa}",
            remedy_of(["camera", "wavelengths_nm"]),
        )
    setting = Setting(**{**(sample.setting.known() if sample else {}), **base.known()})
    entries = tuple(
        _with_lens(entry, seen[1] if seen else None, setting) for entry, seen in zip(entries, shown, strict=True)
    )
    return Plan(path, path.parent, camera, table.camera.encoding, black, white, setting, tuple(wavelengths), entries)


def _with_lens(entry: Entry, picture: Picture | None, usual: Setting) -> Entry:
    """Entry with the lens setting that its files tell, where it declares none; a dark shows no lens."""
    if entry.kind == "dark":
        return entry
    return replace(entry, setting=Setting(**{**lens_of(picture, usual), **entry.setting.known()}))


def _entry(path: Path, field: str, row: CaptureTable, base: Setting) -> Entry:
    needed, allowed = GEOMETRY[row.kind]
    for key in _GEOMETRY_KEYS:
        given = getattr(row, key) is not None
        if key in needed and not given:
            raise wrong(path, f"{field}.{key}", f"{row.kind} captures need it", remedy_of(["capture", key]))
        if given and key not in (*needed, *allowed):
            takes = ", ".join((*needed, *allowed)) or "no geometry"
            raise wrong(path, f"{field}.{key}", f"{row.kind} captures have none", f"Leave it out: they take {takes}")
    geometry = {key: getattr(row, key) for key in _GEOMETRY_KEYS}
    if row.kind == "chessboard" and min(row.columns or 0, row.rows or 0) < LEAST_CORNERS:
        what = f"{row.columns} x {row.rows} inner corners are too few to find a board by"
        raise wrong(path, f"{field}.columns", what, f"Shoot a board of {LEAST_CORNERS} x {LEAST_CORNERS} or more")
    if row.kind == "charuco":
        _require_markers(path, field, row)
    if row.pattern is not None:
        geometry["pattern"] = _pattern(path, f"{field}.pattern", row.pattern)
    files = _files(path, f"{field}.files", row.files)
    exposure_s = _NAN if row.exposure_s is None else row.exposure_s
    return Entry(row.kind, files, _setting(row, base), exposure_s, **geometry)


def _require_markers(path: Path, field: str, row: CaptureTable) -> None:
    """Refuse markers that no board of this kind can hold."""
    if row.marker_mm is not None and row.square_mm is not None and row.marker_mm >= row.square_mm:
        what = f"markers of {row.marker_mm:g} mm do not fit into squares of {row.square_mm:g} mm"
        raise wrong(path, f"{field}.marker_mm", what, remedy_of(["capture", "marker_mm"]))
    count = ((row.columns or 0) + 1) * ((row.rows or 0) + 1) // 2
    known = list(dictionaries(count))
    if not known:
        what = f"{row.columns} x {row.rows} corners need {count} markers, more than any dictionary holds"
        raise wrong(path, f"{field}.columns", what, remedy_of(["capture", "columns"]))
    if row.dictionary is not None and row.dictionary not in dictionaries(count, all_members=True):
        what = f'"{row.dictionary}" is no dictionary of {count} markers or more'
        raise wrong(path, f"{field}.dictionary", what, f"Those that suffice: {', '.join(known)}")


def _pattern(path: Path, field: str, name: str) -> Path:
    """Find the picture of a noise target's pattern, and make sure that it is one."""
    file = path.parent / name
    if PurePath(name).is_absolute() or not file.resolve().is_relative_to(path.parent.resolve()):
        raise wrong(path, field, f'"{name}" leaves the session directory', "Copy the pattern into it")
    if not file.is_file():
        raise wrong(path, field, f'there is no file "{name}"', f"Check the name and what is in {path.parent}")
    try:
        read_pattern(file)
    except CaptureUnusable as error:
        raise wrong(path, field, f'"{name}": {error.what}', error.remedy) from error
    return file


def _setting(row: CameraTable | CaptureTable, base: Setting) -> Setting:
    given = {"focal_mm": row.focal_length_mm, "f_number": row.f_number, "focus_m": row.focus_m, "iso": row.iso}
    given["pressure_kpa"] = row.pressure_kpa
    return Setting(**{**base.known(), **{key: value for key, value in given.items() if value is not None}})


def _files(path: Path, field: str, pattern: str) -> tuple[Path, ...]:
    root, pure = path.parent, PurePath(pattern)
    stay = "Name files inside the session directory, relative to it"
    if pure.is_absolute() or ".." in pure.parts:
        raise wrong(path, field, f'"{pattern}" leaves the session directory', stay)
    try:
        found = tuple(sorted(file for file in root.glob(pattern) if file.is_file()))
    except ValueError as error:
        raise wrong(path, field, f'"{pattern}" is no glob ({error})', remedy_of(["capture", "files"])) from error
    if not found:
        raise wrong(path, field, f'no file matches "{pattern}"', f"Check the pattern and what is in {root}")
    home = root.resolve()
    for file in found:
        if not file.resolve().is_relative_to(home):
            raise wrong(path, field, f"{file.relative_to(root)} links to outside the session directory", stay)
    return found
