"""Verify a bank from a stranger in a process of its own, with a limit on memory and on time.

The HDF5 library parses a file before any of our checks can look at it; what a hostile file makes of it then ends a
child process and no more. What comes back is JSON, never a pickle.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from psfbank import errors
from psfbank.errors import BankFormatError, CorruptBankError, UnsafeBankError
from psfbank.store.reader import BankSummary, PathLike, verify

SECONDS, MEMORY_BYTES = 60.0, 4 * 2**30


def verify_isolated(path: PathLike, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> dict[str, Any]:
    """Load a bank in a child process and check everything in it.

    Parameters
    ----------
    path : str or Path
    seconds : float
        Wall-clock time it may take.
    memory_bytes : int
        Address space it may take; not limited where the system has no such limit.

    Returns
    -------
    dict
        `content_sha256`, `schema_version`, `generator`, `file_bytes`, and `datasets` {path: SHA-256}.

    Raises
    ------
    BankFormatError
        As `verify`; UnsafeBankError when the child was ended by a limit or by the file.
    """
    program = "import sys; from psfbank.store.isolated import tell; tell(*sys.argv[1:])"
    with TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-c", program, str(Path(path).absolute()), str(answer), str(memory_bytes)]
        try:
            child = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603 our own words
        except subprocess.TimeoutExpired as error:
            raise UnsafeBankError(f"reading it takes more than {seconds:g} s", where=str(path)) from error
        if child.returncode or not answer.exists():
            last = child.stderr.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
            raise UnsafeBankError(f"reading it ended the process that did: {last[0]}", where=str(path))
        told = json.loads(answer.read_text("utf-8"))
    if "kind" in told:
        kind = getattr(errors, told["kind"], CorruptBankError)
        if not (isinstance(kind, type) and issubclass(kind, BankFormatError)):
            kind = CorruptBankError
        raise kind(str(told["what"]), where=str(told["where"]), remedy=str(told["remedy"]))
    return dict(told)


def summary_of(summary: BankSummary) -> dict[str, Any]:
    """Gather what `verify_isolated` returns."""
    told = ("content_sha256", "schema_version", "generator", "file_bytes")
    datasets = {dataset.path: dataset.sha256 for dataset in summary.datasets}
    return {**{name: getattr(summary, name) for name in told}, "datasets": datasets}


def tell(path: str, answer: str, memory_bytes: str) -> None:
    """Verify a bank within a limit of memory, and write what is to be told as JSON: the child's part."""
    _limit_memory(int(memory_bytes))
    try:
        told = summary_of(verify(path))
    except BankFormatError as error:
        told = {"kind": type(error).__name__, "what": error.what, "where": error.where, "remedy": error.remedy}
    Path(answer).write_text(json.dumps(told), "utf-8")


def _limit_memory(memory_bytes: int) -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
