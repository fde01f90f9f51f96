"""The bank file, schema psfbank 1.2, as one table; and the way between domain types and that table's rows.

The table drives the writer, the guard, the reader, the manifest and docs/file_format.md. Nothing here knows HDF5: a
bank is flattened to named arrays and attributes (`Content`), and built again from them.
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
from psfbank.model import (
    Calibration,
    Camera,
    DistortionMap,
    EdgeResponses,
    Illumination,
    Imaging,
    NoiseModel,
    PsfEvidence,
    PsfGrid,
    Setting,
    ZernikeField,
)

SCHEMA = "psfbank"
VERSION = "1.2"
MAX_SETTINGS = 1000

Scalar = str | int | float


@dataclass(frozen=True)
class Row:
    """One dataset ("psf/kernels") or attribute ("psf@oversample") of the file.

    A path that starts with "/" is the file's own, any other lies below the group of a setting, /settings/NNN. `dtype`
    is a little-endian numpy type, or "text" (fixed-length UTF-8). `dims` names the axes; attributes are scalars.
    `field` is the field of the domain type that it holds; `constant` is a text that never varies.
    """

    path: str
    dtype: str
    dims: str
    units: str
    long_name: str
    field: str = ""
    constant: str = ""

    @property
    def is_attribute(self) -> bool:
        """Whether this row is an attribute of a group."""
        return "@" in self.path

    @property
    def group(self) -> str:
        """The group below the setting ("psf", "zernike/imaging"), or "" for the setting itself."""
        return re.split("[/@](?=[^/@]*$)", self.path)[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return re.split("[/@]", self.path)[-1]

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.dims.split(",")) if self.dims else 0


@dataclass(frozen=True)
class Part:
    """A group of a setting and the field of `Calibration` that it holds; every part is optional, as a whole.

    `parts` are groups inside the group, for fields of the part's own, optional likewise.
    """

    group: str
    field: str
    kind: type
    on_grid: bool
    parts: tuple[Part, ...] = ()


_PARTS_OF_WAVEFRONT = (Part("zernike/imaging", "imaging", Imaging, on_grid=False),)
PARTS = (
    Part("psf", "psf_grid", PsfGrid, on_grid=True),
    Part("zernike", "wavefront", ZernikeField, on_grid=True, parts=_PARTS_OF_WAVEFRONT),
    Part("distortion", "distortion", DistortionMap, on_grid=False),
    Part("illumination", "illumination", Illumination, on_grid=True),
    Part("noise", "noise", NoiseModel, on_grid=False),
    Part("evidence", "evidence", PsfEvidence, on_grid=True),
    Part("evidence/edges", "edges", EdgeResponses, on_grid=False),
)

TABLE = (
    Row("/@schema", "text", "", "", "name of the schema", constant=SCHEMA),
    Row("/@schema_version", "text", "", "", "major.minor; readers accept every minor version of their major one"),
    Row("/@generator", "text", "", "", "program and version that wrote the file"),
    Row("/@camera_maker", "text", "", "", "maker of the camera", "maker"),
    Row("/@camera_model", "text", "", "", "model of the camera", "model"),
    Row("/@camera_serial", "text", "", "", "serial number of the camera", "serial"),
    Row("/@lens", "text", "", "", "lens", "lens"),
    Row("/@height_px", "<i4", "", "px", "rows of the image"),
    Row("/@width_px", "<i4", "", "px", "columns of the image"),
    Row("/@pitch_um", "<f8", "", "um", "pixel pitch, NaN when unknown", "pitch_um"),
    Row("/@cfa", "text", "", "", "colours of the top-left 2 x 2 sites, or mono, or RGB", "cfa"),
    Row("/@channels", "text", "", "", "channels of the camera, joined by commas"),
    Row("/@content_sha256", "text", "", "", "SHA-256 of the manifest's bytes and of all other attributes"),
    Row("/manifest", "|u1", "P", "1", "UTF-8 JSON {path: {dtype, shape, sha256}} of every other dataset"),
    Row("@focal_mm", "<f8", "", "mm", "focal length, NaN when unknown", "focal_mm"),
    Row("@f_number", "<f8", "", "1", "f-number, NaN when unknown", "f_number"),
    Row("@focus_m", "<f8", "", "m", "focus distance, infinity allowed, NaN when unknown", "focus_m"),
    Row("@iso", "<f8", "", "1", "ISO speed, NaN when unknown", "iso"),
    Row("grid/x", "<f8", "Tx", "px", "x of the nodes of all that lies on tiles", "x_px"),
    Row("grid/y", "<f8", "Ty", "px", "y of the nodes of all that lies on tiles", "y_px"),
    Row("psf/kernels", "<f4", "C,Ty,Tx,K,K", "1", "effective PSF, centroid on the array centre", "kernels"),
    Row("psf/sigma", "<f4", "C,Ty,Tx", "1", "expected relative L2 error, NaN when unknown", "sigma"),
    Row("psf/n_obs", "<i4", "C,Ty,Tx", "1", "number of observations", "n_obs"),
    Row("psf/flags", "<u2", "C,Ty,Tx", "1", "bits of psfbank.flags.Flag", "flags"),
    Row("psf@oversample", "<i4", "", "1", "samples a pixel", "oversample"),
    Row("psf@channels", "text", "", "", "channels along C", "channels"),
    Row("psf@normalisation", "text", "", "", "each kernel sums to one", constant="unit_sum"),
    Row("psf@content", "text", "", "", "pixel aperture and diffusion included", constant="effective"),
    Row("zernike/coefficients", "<f8", "C,Ty,Tx,J", "nm", "RMS wavefront coefficients, optics only", "coefficients_nm"),
    Row("zernike/stderr", "<f8", "C,Ty,Tx,J", "nm", "standard errors, NaN when unknown", "stderr_nm"),
    Row("zernike/nm", "<i4", "J,2", "1", "radial degree n and azimuthal order m of the terms", "nm"),
    Row("zernike/wavelength", "<f8", "C", "nm", "wavelength", "wavelength_nm"),
    Row("zernike/residual", "<f4", "C,Ty,Tx", "1", "chi2 per sample of the observations nearest to a node", "residual"),
    Row("zernike@f_number", "<f8", "", "1", "f-number of the pupil", "f_number"),
    Row("zernike@channels", "text", "", "", "channels along C", "channels"),
    Row("zernike@normalisation", "text", "", "", "orthonormal over the unit disc", constant="orthonormal"),
    Row("zernike/imaging/wavelengths", "<f8", "C,W", "nm", "spectrum of each channel; since 1.1", "wavelengths_nm"),
    Row("zernike/imaging/weights", "<f8", "C,W", "1", "power at each wavelength; since 1.1", "weights"),
    Row("zernike/imaging/diffusion", "<f8", "C", "px", "sigma of the charge diffusion; since 1.1", "diffusion_px"),
    Row("zernike/imaging/clip", "<f8", "C,Ty,Tx,3", "1", "second stop in pupil radii: x, y, radius; since 1.1", "clip"),
    Row("zernike/imaging@pitch_um", "<f8", "", "um", "pixel pitch that PSFs are rendered with; since 1.1", "pitch_um"),
    Row("distortion/camera_matrix", "<f8", "3,3", "px", "focal lengths and centre", "camera_matrix"),
    Row("distortion/knots_x", "<f8", "Kx", "1", "knots in the x of the stereographic direction", "knots_x"),
    Row("distortion/knots_y", "<f8", "Ky", "1", "knots in the y of the stereographic direction", "knots_y"),
    Row("distortion/coefficients", "<f8", "C,2,Ny,Nx", "px", "B-spline of the displacement in x and y", "coefficients"),
    Row("distortion/valid_region", "<f8", "V,2", "px", "polygon around the data", "valid_region"),
    Row("distortion/rms", "<f8", "C", "px", "2-D residual of the fit, NaN when unknown", "rms_px"),
    Row("distortion@degree", "<i4", "", "1", "degree of the spline", "degree"),
    Row("distortion@channels", "text", "", "", "channels along C", "channels"),
    Row("distortion@direction", "text", "", "", "rays to pixels", constant="ideal_to_distorted"),
    Row("illumination/relative", "<f4", "C,Ty,Tx", "1", "relative illumination, 1 at its peak", "relative"),
    Row("illumination@channels", "text", "", "", "channels along C", "channels"),
    Row("noise/gain", "<f8", "C", "DN/e", "system gain K of EMVA 1288", "gain_dn_per_e"),
    Row("noise/read_noise", "<f8", "C", "e", "temporal dark noise", "read_noise_e"),
    Row("noise/dark", "<f8", "C", "e/s", "dark current", "dark_e_per_s"),
    Row("noise/prnu", "<f8", "C", "1", "photo-response non-uniformity", "prnu"),
    Row("noise/black", "<f8", "C", "DN", "black level", "black_dn"),
    Row("noise/white", "<f8", "C", "DN", "white level", "white_dn"),
    Row("noise@channels", "text", "", "", "channels along C", "channels"),
    Row("evidence/chi2_used", "<f4", "C,Ty,Tx", "1", "chi2 per sample of images used, or NaN; since 1.1", "chi2_used"),
    Row("evidence/chi2_reserved", "<f4", "C,Ty,Tx", "1", "the same of images held back; since 1.1", "chi2_reserved"),
    Row("evidence/n_reserved", "<i4", "C,Ty,Tx", "1", "number of images held back; since 1.1", "n_reserved"),
    Row("evidence/asymmetry", "<f4", "C,Ty,Tx", "1", "rise of chi2 per image if symmetric; since 1.1", "asymmetry"),
    Row("evidence/residual", "<f4", "C,Ty,Tx,P,P", "1", "data - model as share of its peak; since 1.1", "residual"),
    Row("evidence@channels", "text", "", "", "channels along C", "channels"),
    Row("evidence/edges/xy", "<f8", "N,2", "px", "middle of each slanted edge; since 1.2", "xy_px"),
    Row("evidence/edges/angle", "<f8", "N", "rad", "of its normal, to the bright side; since 1.2", "angle_rad"),
    Row("evidence/edges/channel", "<i4", "N", "1", "number of its channel; since 1.2", "channel"),
    Row("evidence/edges/freq", "<f8", "F", "cycles/px", "frequencies along the normal; since 1.2", "freq_cpp"),
    Row("evidence/edges/mtf", "<f4", "N,F", "1", "MTF of lens and pixel; since 1.2", "mtf"),
    Row("evidence/edges/mtf_std", "<f4", "N,F", "1", "standard deviation of it, or NaN; since 1.2", "mtf_std"),
    Row("evidence/edges/mtf50", "<f8", "N", "cycles/px", "where it falls to 1/2, or NaN; since 1.2", "mtf50_cpp"),
    Row("evidence/edges/mtf50_std", "<f8", "N", "cycles/px", "deviation of that; since 1.2", "mtf50_std_cpp"),
    Row("evidence/edges/flags", "<u2", "N", "1", "bits of psfbank.flags.Flag; since 1.2", "flags"),
    Row("evidence/edges@channels", "text", "", "", "channels that numbers stand for", "channels"),
    Row("provenance", "|u1", "P", "1", "UTF-8 JSON: how this was measured; no host or user names"),
)

_SCALAR_TYPES: dict[str, type] = {"text": str, "<i4": int, "<f8": float}
_SETTING_PATH = re.compile(r"/settings/(\d{3})/(.+)")
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
    camera = _camera(content.attributes["/"])
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


def _camera(attributes: Mapping[str, Scalar]) -> Camera:
    rows = [row for row in TABLE if row.path.startswith("/@") and row.name != "content_sha256"]  # the store's own
    value: dict[str, Any] = {row.name: _checked(row, attributes, "/") for row in rows}
    named = {row.field: value[row.name] for row in rows if row.field}
    try:
        camera = Camera(size_px=(value["height_px"], value["width_px"]), **named)
    except ValueError as error:
        raise CorruptBankError(str(error), where="/") from error
    if value["channels"] != ",".join(camera.channels):
        raise CorruptBankError(f"channels {value['channels']!r} contradict cfa {camera.cfa!r}", where="/")
    return camera


def _calibration(content: Content, base: str) -> Calibration:
    attributes = content.attributes[base]
    setting = Setting(**{row.field: float(_checked(row, attributes, base)) for row in _attribute_rows("")})
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
