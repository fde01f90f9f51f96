"""Write a bank: the same content gives the same bytes, and the file appears whole or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from psfbank import layout, schema
from psfbank.canonical import canonical_json
from psfbank.errors import BankFormatError
from psfbank.model import Calibration, Camera
from psfbank.store import guard
from psfbank.store.reader import PathLike, load


def save(path: PathLike, camera: Camera, calibrations: Sequence[Calibration], *, overwrite: bool = True) -> None:
    """Write a bank atomically.

    The file is written beside its target, synchronised, read back through the guard and renamed, so that a failure at
    any point leaves an older file as it was.

    Parameters
    ----------
    path : str or Path
        A link is followed and its target replaced.
    camera : Camera
    calibrations : sequence of Calibration
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    BankFormatError
        When the file exists and may not be replaced, cannot be written, or the content does not fit the schema.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not (overwrite and target.is_file()):
        what = "this file exists" if target.is_file() else "this is no file"
        raise BankFormatError(what, where=str(path), remedy="Choose another name, or allow it to be overwritten")
    content = schema.flatten(camera, calibrations)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(_image(content))
            file.flush()
            os.fsync(file.fileno())
        load(temporary)
        temporary.replace(target)
        if os.name == "posix":  # elsewhere a folder cannot be opened, and renaming is durable without
            _synchronise_folder(target.parent)
    except OSError as error:
        raise BankFormatError(
            f"the bank cannot be written ({error})", where=str(path), remedy="Check the folder and its free space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Halve the leading axes until a chunk holds no more than `guard.MAX_CHUNK_BYTES`."""
    chunk = list(shape)
    for axis in range(len(chunk)):
        while prod(chunk) * itemsize > guard.MAX_CHUNK_BYTES and chunk[axis] > 1:
            chunk[axis] = -(-chunk[axis] // 2)
    return tuple(chunk)


def _image(content: schema.Content) -> bytes:
    # In memory, since HDF5 2.0 crashes the process when a disk is full. The format of HDF5 1.10 has checksums over all
    # of its own metadata and is read by every release since.
    with h5py.File("image", "x", driver="core", backing_store=False, libver=("v110", "v110")) as file:
        manifest = {}
        for name, values in sorted(content.arrays.items()):
            row = schema.row_of(name)
            if row is None:
                raise BankFormatError("the schema has no such dataset", where=name)
            array = np.ascontiguousarray(values, dtype=row.dtype)
            _dataset(file, name, array, row)
            digest = hashlib.sha256(array.tobytes()).hexdigest()
            manifest[name] = {"dtype": row.dtype, "shape": list(array.shape), "sha256": digest}
        manifest_bytes = canonical_json(manifest)
        manifest_row = next(row for row in layout.TABLE if row.path == "/manifest")
        _dataset(file, "/manifest", np.frombuffer(manifest_bytes, dtype=np.uint8), manifest_row)
        for name, attributes in content.attributes.items():
            for key, value in sorted(attributes.items()):
                _attribute(file[name], key, value)
        objects = guard.walk(h5py.h5g.open(file.id, b"/"), ["/manifest", *manifest])
        found = {name: guard.attributes(obj, name) for name, obj in objects.items()}
        _attribute(file["/"], "content_sha256", guard.content_sha256(manifest_bytes, found))
        file.flush()
        return bytes(file.id.get_file_image())


def _dataset(file: Any, path: str, values: npt.NDArray[Any], row: layout.Row) -> None:
    if values.size == 0:
        raise BankFormatError("this array is empty", where=path, remedy="Leave the whole part out instead")
    dataset = file.create_dataset(
        path,
        data=values,
        chunks=chunk_shape(values.shape, values.itemsize),
        compression="gzip",
        compression_opts=4,
        shuffle=True,
        fletcher32=True,
        track_times=False,
    )
    for name in ("units", "dims", "long_name"):
        _attribute(dataset, name, getattr(row, name))


def _attribute(obj: Any, name: str, value: schema.Scalar) -> None:
    if not isinstance(value, str):
        obj.attrs.create(name, value, dtype="<i4" if isinstance(value, int) else "<f8")
        return
    text = value.encode()
    if len(text) > guard.MAX_TEXT_BYTES or b"\0" in text:
        raise BankFormatError(f"{name} is too long a text, or holds a zero", where=obj.name, remedy="Shorten it")
    # an empty text takes one byte: HDF5 has no strings of length zero
    obj.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", max(1, len(text))))


def _synchronise_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
