"""A bank from a stranger is read in a process of its own: it can fail there, and no harm is done here."""

from __future__ import annotations

from pathlib import Path

import pytest

from psfbank import store
from psfbank.bank import PsfBank
from psfbank.errors import BankFormatError, CorruptBankError, UnsafeBankError
from psfbank.store import verify_isolated


@pytest.fixture
def path(small_bank: PsfBank, tmp_path: Path) -> Path:
    small_bank.save(tmp_path / "small.h5")
    return tmp_path / "small.h5"


def test_it_tells_what_verify_tells(path: Path) -> None:
    told = verify_isolated(path)
    assert told == store.summary_of(store.verify(path))
    assert told["content_sha256"] == store.verify(path).content_sha256


def test_errors_come_back_as_what_they_are(path: Path, tmp_path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BankFormatError) as here:
        store.verify(path)
    with pytest.raises(CorruptBankError) as there:
        verify_isolated(path)
    assert (type(there.value), str(there.value)) == (type(here.value), str(here.value))
    with pytest.raises(BankFormatError, match="no_such"):
        verify_isolated(tmp_path / "no_such.h5")


def test_limits_end_the_child_and_nothing_else(path: Path) -> None:
    with pytest.raises(UnsafeBankError, match=r"more than 0\.01 s"):
        verify_isolated(path, seconds=0.01)
    with pytest.raises(UnsafeBankError, match="ended the process"):
        verify_isolated(path, memory_bytes=2**24)
