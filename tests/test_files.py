from __future__ import annotations

from pathlib import Path

import pytest

from psfbank.errors import ExportError, ImageError
from psfbank.files import appearing_whole


def test_a_file_appears_when_all_of_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with appearing_whole(path, ImageError) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_failed_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), appearing_whole(path, ImageError) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ImageError, ExportError])
def test_a_refusal_of_the_system_is_one_in_words(tmp_path: Path, error: type[ImageError]) -> None:
    with (
        pytest.raises(error, match=r"a\.bin: cannot be written: No such file.*may you write there"),
        appearing_whole(tmp_path / "none" / "a.bin", error) as file,
    ):
        file.write(b"")
