"""Between domain types and the rows of `psfbank.layout`; the store takes the table from here.

Nothing here knows HDF5: a bank is flattened to named arrays and attributes (`Content`), and built again from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from psfbank import __version__
from psfbank.canonical import canonical_json, parse_json
from psfbank.errors import BankFormatError, CorruptBankError, UnsupportedSchemaError
from psfbank.layout import MAX_SETTINGS, PARTS, SCHEMA, TABLE, VERSION, Part, Row
from psfbank.model import Calibration, Camera, Setting

Scalar = str | int | float

_SCALAR_TYPES: dict[str, type] = {"text": str, "<i4": int, "<f8": float}
_SETTING_PATH = re.compile(r"/settings/(\d{3})/(.+)")
_COLOUR = "/xyz_to_camera"
_BY_PATH = {row.path: row for row in TABLE}


@dataclass(frozen=True)
class Content:
    """A bank as named arrays {"/settings/000/psf/kernels": ...} and attributes {"/settings/000/psf": {name: value}}."""

    arrays: Mapping[str, npt.NDArray[Any]]
    attributes: Mapping[str, Mapping[str, Scalar]]


def row_of(path: str) -> Row | None:
    """Find the row of a dataset's full path; None where this version of the schema has none."""
    below = _SETTING_PATH.fullmatch(path)
    return _BY_PATH.get(below[2] if below else path)


def setting_path(index: int) -> str:
    """Path of a setting's group."""
    return f"/settings/{index:03d}"


def flatten(camera: Camera, calibrations: Sequence[Calibration]) -> Content:
    """Lay a bank out as the arrays and attributes of its file.

    Parameters
    ----------
    camera : Camera
    calibrations : sequence of Calibration

    Returns
    -------
    Content
        All but the manifest and the content digest.

    Raises
    ------
    BankFormatError
        When the parts of a setting lie on different grids, or there is no setting or more than a thousand.
    """
    if not 0 < len(calibrations) <= MAX_SETTINGS:
        raise BankFormatError(f"a bank holds 1 to {MAX_SETTINGS} settings, not {len(calibrations)}")
    arrays: dict[str, npt.NDArray[Any]] = {}
    if camera.xyz_to_camera is not None:
        arrays[_COLOUR] = np.array(camera.xyz_to_camera)
    attributes: dict[str, dict[str, Scalar]] = {"/": _camera_attributes(camera)}
    for index, calibration in enumerate(calibrations):
        base = setting_path(index)
        attributes[base] = {row.name: float(getattr(calibration.setting, row.field)) for row in _attribute_rows("")}
        arrays[f"{base}/provenance"] = np.frombuffer(canonical_json(calibration.provenance), dtype=np.uint8)
        for part in PARTS:
            for group, value in _held(part, getattr(calibration, part.field)):
                attributes[f"{base}/{group}"] = {row.name: _scalar(row, value) for row in _attribute_rows(group)}
                arrays.update({f"{base}/{row.path}": getattr(value, row.field) for row in _dataset_rows(group)})
        if any(part.on_grid and getattr(calibration, part.field) is not None for part in PARTS):
            arrays.update(_shared_grid(calibration, base))
    return Content(arrays, attributes)


def rebuild(content: Content) -> tuple[Camera, tuple[Calibration, ...]]:
    """Build the domain types from what `flatten` laid out; rows of later versions are ignored.

    Raises
    ------
    CorruptBankError
        When a row is missing, has another type, or breaks an invariant of its domain type.
    UnsupportedSchemaError
        When a constant of the schema has another value.
    """
    camera = _camera(content.attributes["/"], content.arrays.get(_COLOUR))
    below = (_SETTING_PATH.fullmatch(path) for path in content.arrays)
    settings = sorted({int(match[1]) for match in below if match})
    if not settings:
        raise CorruptBankError("the bank holds no setting")
    return camera, tuple(_calibration(content, setting_path(index)) for index in settings)


def markdown() -> str:
    """Render the table for docs/file_format.md."""
    lines = ["| path | type | dims | units | holds |", "| --- | --- | --- | --- | --- |"]
    for row in TABLE:
        path = row.path if row.path.startswith("/") else "/settings/NNN" + "/" * (row.path[0] != "@") + row.path
        dtype = row.dtype.lstrip("<|")
        meaning = f'{row.long_name}: "{row.constant}"' if row.constant else row.long_name
        lines.append(f"| `{path}` | {dtype} | {row.dims.replace(',', ', ')} | {row.units} | {meaning} |")
    return "\n".join(lines) + "\n"


def _attribute_rows(group: str) -> Iterator[Row]:
    return (row for row in TABLE if row.is_attribute and row.group == group and not row.path.startswith("/"))


def _dataset_rows(group: str) -> Iterator[Row]:
    return (row for row in TABLE if not row.is_attribute and row.group == group)


def _held(part: Part, value: Any) -> Iterator[tuple[str, Any]]:
    """Go through the groups that a part takes, with what each holds; none for None."""
    if value is not None:
        yield part.group, value
        for inner in part.parts:
            yield from _held(inner, getattr(value, inner.field))


def _scalar(row: Row, value: Any) -> Scalar:
    if row.constant:
        return row.constant
    held = getattr(value, row.field)
    return ",".join(held) if row.field == "channels" else _SCALAR_TYPES[row.dtype](held)


def _camera_attributes(camera: Camera) -> dict[str, Scalar]:
    named: dict[str, Scalar] = {
        row.name: getattr(camera, row.field) for row in TABLE if row.path.startswith("/@") and row.field
    }
    named.update(schema=SCHEMA, schema_version=VERSION, generator=f"psfbank {__version__}")
    named.update(height_px=int(camera.size_px[0]), width_px=int(camera.size_px[1]), channels=",".join(camera.channels))
    return named | {"pitch_um": float(camera.pitch_um)}


def _shared_grid(calibration: Calibration, base: str) -> dict[str, npt.NDArray[Any]]:
    on_grid = {p.group: getattr(calibration, p.field) for p in PARTS if p.on_grid}
    there = {group: part for group, part in on_grid.items() if part is not None}
    first, *others = there
    for row in _dataset_rows("grid"):
        for other in others:
            if not np.array_equal(getattr(there[first], row.field), getattr(there[other], row.field)):
                raise BankFormatError(
                    f"{first} and {other} lie on different grids, a bank keeps one for both",
                    where=f"{base}/{row.path}",
                    remedy=f"Evaluate {other} at the {row.field} of {first}",
                )
    return {f"{base}/{row.path}": getattr(there[first], row.field) for row in _dataset_rows("grid")}


def _checked(row: Row, attributes: Mapping[str, Scalar], where: str) -> Scalar:
    value = attributes.get(row.name)
    if value is None or type(value) is not _SCALAR_TYPES[row.dtype]:
        found = "is missing" if value is None else f"has the type {type(value).__name__}"
        raise CorruptBankError(f"the attribute {row.name} {found}", where=where)
    if row.constant and value != row.constant:
        raise UnsupportedSchemaError(f"{row.name} is {value!r}, this version knows {row.constant!r}", where=where)
    return value


def _camera(attributes: Mapping[str, Scalar], colour: npt.NDArray[Any] | None) -> Camera:
    rows = [row for row in TABLE if row.path.startswith("/@") and row.name != "content_sha256"]  # the store's own
    value: dict[str, Any] = {row.name: _checked(row, attributes, "/") for row in rows}
    named = {row.field: value[row.name] for row in rows if row.field}
    try:
        size_px = value["height_px"], value["width_px"]
        camera = Camera(size_px=size_px, xyz_to_camera=None if colour is None else colour.tolist(), **named)
    except ValueError as error:
        raise CorruptBankError(str(error), where="/") from error
    if value["channels"] != ",".join(camera.channels):
        raise CorruptBankError(f"channels {value['channels']!r} contradict cfa {camera.cfa!r}", where="/")
    return camera


def _calibration(content: Content, base: str) -> Calibration:
    attributes = content.attributes[base]
    rows = [row for row in _attribute_rows("") if row.since == "1.0" or row.name in attributes]
    setting = Setting(**{row.field: float(_checked(row, attributes, base)) for row in rows})
    provenance = _array(content, f"{base}/provenance").tobytes()
    parts = _parts(content, base, PARTS)
    return Calibration(setting=setting, provenance=parse_json(provenance, f"{base}/provenance"), **parts)


def _parts(content: Content, base: str, parts: tuple[Part, ...]) -> dict[str, Any]:
    return {
        part.field: _part(content, base, part)
        for part in parts
        if any(f"{base}/{row.path}" in content.arrays for row in _dataset_rows(part.group))
    }


def _part(content: Content, base: str, part: Part) -> Any:
    where = f"{base}/{part.group}"
    rows = [*_dataset_rows(part.group), *(_dataset_rows("grid") if part.on_grid else ())]
    fields: dict[str, Any] = {row.field: _array(content, f"{base}/{row.path}") for row in rows}
    fields |= _parts(content, base, part.parts)
    for row in _attribute_rows(part.group):
        value = _checked(row, content.attributes[where], where)
        if row.field:
            fields[row.field] = tuple(str(value).split(",")) if row.field == "channels" else value
    try:
        return part.kind(**fields)
    except ValueError as error:
        raise CorruptBankError(str(error), where=where) from error


def _array(content: Content, path: str) -> npt.NDArray[Any]:
    if path not in content.arrays:
        raise CorruptBankError("this dataset is missing", where=path)
    return content.arrays[path]
