"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from psfbank.errors import PsfBankError


@contextmanager
def appearing_whole(path: Path, error: type[PsfBankError]) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when everything has been written, and vanishes otherwise.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    error : type
        Raised where the system refuses: no such folder, no room, no right.

    Yields
    ------
    BinaryIO
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as refused:
        raise error(
            f"cannot be written: {refused.strerror or refused}",
            where=str(path),
            remedy="Is there room on the disk, may you write there?",
        ) from refused
    finally:
        temporary.unlink(missing_ok=True)
