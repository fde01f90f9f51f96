"""Load a bank, or say in words why not."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from psfbank import layout, schema
from psfbank.canonical import parse_json
from psfbank.errors import CorruptBankError, UnsafeBankError, UnsupportedSchemaError
from psfbank.model import Calibration, Camera, Setting
from psfbank.store import guard

PathLike = str | Path
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class DatasetSummary:
    """One dataset of a bank: its path, numpy type, shape, digest of its values and size in the file."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    stored_bytes: int


@dataclass(frozen=True)
class SettingSummary:
    """One setting of a bank and the groups that it holds."""

    setting: Setting
    parts: tuple[str, ...]


@dataclass(frozen=True)
class BankSummary:
    """What a bank holds, after everything in it was found sound."""

    path: str
    file_bytes: int
    schema_version: str
    generator: str
    content_sha256: str
    camera: Camera
    settings: tuple[SettingSummary, ...]
    datasets: tuple[DatasetSummary, ...]


def load(path: PathLike) -> tuple[Camera, tuple[Calibration, ...]]:
    """Read a bank wholly into memory and close the file.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    camera : Camera
    calibrations : tuple of Calibration

    Raises
    ------
    BankFormatError
        When there is no such file; its subclasses when the file is damaged, unsafe or of another schema.
    """
    content, _ = _read(Path(path))
    with guard.in_words(Path(path)):
        return schema.rebuild(content)


def verify(path: PathLike) -> BankSummary:
    """Load a bank, check everything in it, and summarise it.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    BankSummary

    Raises
    ------
    BankFormatError
        As `load`.
    """
    content, datasets = _read(Path(path))
    with guard.in_words(Path(path)):
        camera, calibrations = schema.rebuild(content)
    root = content.attributes["/"]
    settings = tuple(
        SettingSummary(c.setting, tuple(part.group for part in layout.PARTS if getattr(c, part.field) is not None))
        for c in calibrations
    )
    return BankSummary(
        path=str(path),
        file_bytes=Path(path).stat().st_size,
        schema_version=str(root["schema_version"]),
        generator=str(root["generator"]),
        content_sha256=str(root["content_sha256"]),
        camera=camera,
        settings=settings,
        datasets=datasets,
    )


def _read(path: Path) -> tuple[schema.Content, tuple[DatasetSummary, ...]]:
    guard.require_regular_file(path)
    with guard.in_words(path), h5py.File(path, "r", locking=False) as file:
        root = h5py.h5g.open(file.id, b"/")
        _require_version(guard.attributes(root, "/"))
        objects = guard.walk(root, ["/manifest"])
        manifest_bytes = guard.read(objects["/manifest"], "|u1", 1, "/manifest", guard.MAX_MANIFEST_BYTES).tobytes()
        manifest = _parse_manifest(manifest_bytes)
        objects |= guard.walk(root, list(manifest))
        found = {name: guard.attributes(obj, name) for name, obj in objects.items()}
        digest = guard.content_sha256(manifest_bytes, found).encode()
        if "content_sha256" not in found["/"] or found["/"]["content_sha256"].item() != digest:
            raise CorruptBankError("the attributes or the manifest do not match their digest, content_sha256")
        arrays = {name: _array(objects[name], name, entry) for name, entry in manifest.items() if schema.row_of(name)}
        datasets = tuple(
            DatasetSummary(name, e["dtype"], tuple(e["shape"]), e["sha256"], guard.stored_bytes(objects[name]))
            for name, e in sorted(manifest.items())
        )
        attributes = {name: {key: guard.plain(v) for key, v in group.items()} for name, group in found.items()}
    return schema.Content(arrays, attributes), datasets


def _require_version(root: guard.Attributes) -> None:
    text = {name: guard.plain(root[name]) for name in ("schema", "schema_version") if name in root}
    if text.get("schema") != layout.SCHEMA:
        raise UnsupportedSchemaError("this HDF5 file is no PSF bank", remedy="Name a file that psfbank wrote")
    version = str(text.get("schema_version", ""))
    if version.split(".")[0] != layout.VERSION.split(".")[0]:
        raise UnsupportedSchemaError(
            f"this bank has schema version {version}, this program reads {layout.VERSION}",
            remedy="Install the psfbank that wrote it",
        )


def _parse_manifest(data: bytes) -> dict[str, dict[str, Any]]:
    manifest = parse_json(data, "/manifest")
    if len(manifest) > guard.MAX_DATASETS:
        raise UnsafeBankError(f"{len(manifest)} datasets are too many", where="/manifest")
    declared = 0
    for path, entry in manifest.items():
        if not (path.startswith("/") and path.count("/") <= guard.MAX_DEPTH and _is_entry(entry)):
            raise CorruptBankError(f"the entry of {path} is not valid", where="/manifest")
        if schema.row_of(path):
            declared += prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
    if declared > guard.MAX_FILE_BYTES:
        raise UnsafeBankError(f"{declared} bytes are too many for a bank", where="/manifest")
    return manifest


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    dtype, shape, digest = entry.get("dtype"), entry.get("shape"), entry.get("sha256")
    sound = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
    return sound and isinstance(dtype, str) and isinstance(digest, str) and bool(_SHA256.fullmatch(digest))


def _array(dataset: Any, path: str, entry: dict[str, Any]) -> npt.NDArray[Any]:
    row = schema.row_of(path)
    if row is None or entry["dtype"] != row.dtype:
        raise CorruptBankError(f"the manifest declares the type {entry['dtype']}", where=path)
    values = guard.read(dataset, row.dtype, row.rank, path)
    if list(values.shape) != entry["shape"]:
        raise CorruptBankError(f"the shape {values.shape} is not the manifest's, {entry['shape']}", where=path)
    if hashlib.sha256(values.tobytes()).hexdigest() != entry["sha256"]:
        raise CorruptBankError("the values do not match their digest", where=path)
    return values
