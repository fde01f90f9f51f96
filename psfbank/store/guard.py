"""Read single objects of an HDF5 file without trusting it.

HDF5 follows soft, external and virtual references to other files, loads filter plugins, and allocates whatever a file
declares. So every object is opened through hard links alone, component by component, and its type, shape, layout,
filters and stored sizes are checked against what a bank may hold before a byte of it is read. Attributes are checked
through the low-level interface: a flipped bit in a variable-length string makes HDF5 2.0 loop for ever on reading it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from psfbank.errors import BankFormatError, CorruptBankError, UnsafeBankError

MAX_FILE_BYTES = 2 << 30
MAX_DATASET_BYTES = 1 << 30
MAX_CHUNK_BYTES = 1 << 20
MAX_MANIFEST_BYTES = 8 << 20
MAX_DATASETS = 20_000
MAX_DEPTH = 8
MAX_ATTRIBUTES = 64
MAX_TEXT_BYTES = 4096

FILTERS = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})
NUMBER_TYPES = ("<i4", "<f8")
_COMPONENT = re.compile(r"[A-Za-z0-9_]{1,64}")
_DAMAGED = "Take the bank from where it was made again"
_STRANGE = "Don't use this file; psfbank never writes such a thing"

Attributes = Mapping[str, npt.NDArray[Any]]


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Name the file in psfbank's own errors, and turn those of HDF5 and of broken values into CorruptBankError."""
    try:
        yield
    except BankFormatError as error:
        where = str(path) if error.where in ("", "/") else f"{path}:{error.where}"
        raise type(error)(error.what, where=where, remedy=error.remedy or _DAMAGED) from error
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise CorruptBankError(f"the file is damaged ({error})", where=str(path), remedy=_DAMAGED) from error


def require_regular_file(path: Path) -> int:
    """Return the file's size, bytes; BankFormatError when it is missing, no plain file, unreadable or too large."""
    try:
        status = path.stat()
    except OSError as error:
        raise BankFormatError(f"no such bank ({error.strerror})", where=str(path), remedy="Check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise BankFormatError("this is no file", where=str(path), remedy="Name a bank, *.h5")
    if not os.access(path, os.R_OK):
        raise BankFormatError("this file may not be read", where=str(path), remedy="Check its permissions")
    if status.st_size > MAX_FILE_BYTES:
        raise UnsafeBankError(f"{status.st_size} bytes are too many for a bank", where=str(path), remedy=_STRANGE)
    if not h5py.is_hdf5(path):
        raise CorruptBankError("this is no HDF5 file, or its start is damaged", where=str(path), remedy=_DAMAGED)
    return status.st_size


def walk(root: Any, paths: list[str]) -> dict[str, Any]:
    """Open datasets and all groups above them, by hard links alone.

    Parameters
    ----------
    root : h5py.h5g.GroupID
    paths : list of str
        Full paths of datasets.

    Returns
    -------
    dict
        Path -> low-level object, "/" included.

    Raises
    ------
    UnsafeBankError
        When a component of a path is a soft or external link, or a named datatype.
    CorruptBankError
        When a component is missing, or a group where a dataset belongs, or the reverse.
    """
    objects = {"/": root}
    for path in paths:
        *groups, _ = path[1:].split("/")
        parent = ""
        for depth, name in enumerate(path[1:].split("/")):
            here = f"{parent}/{name}"
            if here not in objects:
                objects[here] = _child(objects[parent or "/"], name, here)
            kind, word = (h5py.h5g.GroupID, "group") if depth < len(groups) else (h5py.h5d.DatasetID, "dataset")
            if not isinstance(objects[here], kind):
                raise CorruptBankError(f"this is no {word}", where=here)
            parent = here
    return objects


def attributes(obj: Any, where: str) -> Attributes:
    """Read the attributes of an object: scalars, each a number or a fixed-length string.

    Returns
    -------
    dict
        Name -> 0-d array of type <i4, <f8 or S.

    Raises
    ------
    UnsafeBankError
        On any other type or shape, before it is read.
    """
    count = h5py.h5a.get_num_attrs(obj)
    if count > MAX_ATTRIBUTES:
        raise UnsafeBankError(f"{count} attributes are too many", where=where, remedy=_STRANGE)
    found: dict[str, npt.NDArray[Any]] = {}
    for index in range(count):
        attribute = h5py.h5a.open(obj, index=index)
        name = attribute.name.decode()
        kind = attribute.get_type()
        if attribute.get_space().get_simple_extent_type() != h5py.h5s.SCALAR:
            raise UnsafeBankError(f"the attribute {name} is not a scalar", where=where, remedy=_STRANGE)
        value = np.empty((), dtype=_attribute_type(kind, name, where))
        attribute.read(value, mtype=kind)
        found[name] = value
    return found


def plain(value: npt.NDArray[Any]) -> str | int | float:
    """Turn an attribute into a Python scalar; text must be UTF-8."""
    item: bytes | int | float = value.item()
    return item.decode() if isinstance(item, bytes) else item


def content_sha256(manifest: bytes, found: Mapping[str, Attributes]) -> str:
    """Digest the manifest's bytes and the attributes of all objects, but for the digest itself.

    After the manifest follow, for every object and attribute sorted by name, a line feed, "<path>@<name> <numpy type> "
    and the value's little-endian bytes.
    """
    digest = hashlib.sha256(manifest)
    for path in sorted(found):
        for name in sorted(found[path]):
            if (path, name) != ("/", "content_sha256"):
                value = found[path][name]
                digest.update(f"\n{path}@{name} {value.dtype.str} ".encode() + value.tobytes())
    return digest.hexdigest()


def read(dataset: Any, dtype: str, rank: int, where: str, max_bytes: int = MAX_DATASET_BYTES) -> npt.NDArray[Any]:
    """Read a dataset after checking all that it declares.

    Parameters
    ----------
    dataset : h5py.h5d.DatasetID
    dtype : str
        Little-endian numpy type that it must have exactly.
    rank : int
    where : str
        Its path, for the message.
    max_bytes : int
        Largest size of the values.

    Returns
    -------
    ndarray

    Raises
    ------
    CorruptBankError
        When type or rank differ, or chunks are missing.
    UnsafeBankError
        When it is not chunked, lies in another file, uses foreign filters or is too large.
    """
    kind, space, layout = dataset.get_type(), dataset.get_space(), dataset.get_create_plist()
    shape = space.get_simple_extent_dims() if space.get_simple_extent_type() == h5py.h5s.SIMPLE else ()
    if kind.committed() or not kind.equal(h5py.h5t.py_create(np.dtype(dtype))):
        raise CorruptBankError(f"the type is not {dtype}", where=where, remedy=_DAMAGED)
    if len(shape) != rank or min(shape) < 1:
        raise CorruptBankError(f"the shape {shape} has not {rank} axes with values on them", where=where)
    size = prod(shape) * np.dtype(dtype).itemsize
    if size > max_bytes:
        raise UnsafeBankError(f"{size} bytes are too many for a dataset", where=where, remedy=_STRANGE)
    # HDF5 keeps external storage to contiguous datasets, as it stands; the second test does not rely on it
    if layout.get_layout() != h5py.h5d.CHUNKED or layout.get_external_count():
        raise UnsafeBankError("the values are not stored in chunks of this file", where=where, remedy=_STRANGE)
    filters = [layout.get_filter(i)[0] for i in range(layout.get_nfilters())]
    if len(set(filters)) != len(filters) or not FILTERS.issuperset(filters):
        raise UnsafeBankError(f"the filters {filters} are not psfbank's", where=where, remedy=_STRANGE)
    _require_sound_chunks(dataset, shape, layout.get_chunk(), np.dtype(dtype).itemsize, where)
    values = np.empty(shape, dtype=dtype)
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values


def stored_bytes(dataset: Any) -> int:
    """Size of a dataset in the file, bytes."""
    return int(dataset.get_storage_size())


def _child(parent: Any, name: str, where: str) -> Any:
    if not _COMPONENT.fullmatch(name):
        raise CorruptBankError("this is no path of a bank", where=where)
    if not parent.links.exists(name.encode()):
        raise CorruptBankError("this object is missing", where=where)
    if parent.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise UnsafeBankError("this is a link to somewhere else", where=where, remedy=_STRANGE)
    return h5py.h5o.open(parent, name.encode())


def _attribute_type(kind: Any, name: str, where: str) -> str:
    if kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str() and kind.get_size() <= MAX_TEXT_BYTES:
        return f"S{kind.get_size()}"
    for dtype in NUMBER_TYPES:
        if not kind.committed() and kind.equal(h5py.h5t.py_create(np.dtype(dtype))):
            return dtype
    raise UnsafeBankError(
        f"the attribute {name} is neither a number nor a short fixed-length text", where=where, remedy=_STRANGE
    )


def _require_sound_chunks(dataset: Any, shape: tuple[int, ...], chunk: tuple[int, ...], item: int, where: str) -> None:
    size = prod(chunk) * item
    if size > MAX_CHUNK_BYTES or any(c > n for c, n in zip(chunk, shape, strict=True)):
        raise UnsafeBankError(f"chunks of {chunk} are too large", where=where, remedy=_STRANGE)
    # Deflate may shrink a chunk a thousandfold but grows one by a few bytes in a thousand only. A stored chunk that is
    # larger than its content is there to burst on reading.
    stored: list[int] = []
    dataset.chunk_iter(lambda info: stored.append(info.size))
    if len(stored) != prod(-(-n // c) for n, c in zip(shape, chunk, strict=True)):
        raise CorruptBankError("chunks are missing", where=where)
    if max(stored) > size + size // 100 + 64:
        raise UnsafeBankError("a stored chunk is larger than what it holds", where=where, remedy=_STRANGE)
