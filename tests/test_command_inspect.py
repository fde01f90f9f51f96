"""`psfbank inspect`: what it prints, draws and refuses, and what it exits with."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import SAMPLE_CAPTURES
from inspected import SIZE, board, flat, points, saved, taken

Run = Callable[..., tuple[int, str, str]]
LEVELS = ("--black-level", "256", "--white-level", "4095", "--cfa", "mono")


@pytest.fixture
def run(psfbank_command: Run) -> Run:
    return partial(psfbank_command, "inspect")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, light in enumerate((points(), board(), flat(0.5))):
        saved(tmp_path / "in" / f"{i}.png", taken(light, i))
    return tmp_path / "in"


def test_good_captures_are_told_with_their_targets(run: Run, folder: Path) -> None:
    code, out, err = run(f"{folder}/*.png", *LEVELS)
    assert code == 0
    for words in (
        "0.png: usable, led",
        "117 points",
        "1.png: usable, chessboard",
        "7 columns, 5 rows, 35 corners",
        "2.png: usable, flat",
        "256 x 192 mono, 12 bits, black 256, white 4095 as told or assumed",
        "3 of 3 usable",
    ):
        assert words in out
    assert err.splitlines() == ["inspect"]


def test_a_bad_file_is_listed_and_the_rest_goes_on(run: Run, folder: Path) -> None:
    (folder / "1.png").write_bytes(b"torn")
    code, out, _ = run(f"{folder}/*.png", *LEVELS, "--json")
    told = json.loads(out, parse_constant=pytest.fail)
    assert (code, told["usable"]) == (1, False)
    assert [row["usable"] for row in told["captures"]] == [True, False, True]
    led, torn, even = told["captures"]
    assert torn["holds"] is None
    assert torn["troubles"][0]["name"] == "unreadable"
    assert torn["troubles"][0]["remedy"]
    assert (led["kind"], even["kind"]) == ("led", "flat")
    assert led["figures"]["points"] == 117
    assert led["holds"]["size_px"] == [192, 256]
    assert run(f"{folder}/*.png", *LEVELS)[1].rstrip().endswith("2 of 3 usable")


def test_a_kind_that_is_not_there_is_not_usable(run: Run, folder: Path) -> None:
    code, out, _ = run(folder / "0.png", *LEVELS, "--kind", "chessboard")
    assert code == 1
    assert "no chessboard was found" in out


def test_eight_bits_want_a_word(run: Run, tmp_path: Path) -> None:
    picture = saved(tmp_path / "a.png", np.rint(255 * flat(0.5)).astype(np.uint8))
    code, out, _ = run(picture)
    assert code == 1
    assert "--assume-srgb" in out
    assert run(picture, "--assume-srgb")[0] == 0


def test_one_picture_is_drawn_into_a_file_and_several_into_a_folder(run: Run, folder: Path, tmp_path: Path) -> None:
    code, _, err = run(folder / "0.png", *LEVELS, "--annotate", tmp_path / "out.png")
    assert code == 0
    assert "out.png written" in err
    drawn = cv2.imread(str(tmp_path / "out.png"))
    assert drawn.shape[1] == 4 * SIZE[1]
    (folder / "1.png").write_bytes(b"torn")
    code, _, err = run(f"{folder}/*.png", *LEVELS, "--annotate", tmp_path / "drawn")
    assert code == 1
    assert "1.png cannot be read, and is not drawn" in err
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["0.png.png", "2.png.png"]


def test_output_is_refused_before_the_work(run: Run, folder: Path, tmp_path: Path) -> None:
    taken_name = tmp_path / "out.png"
    taken_name.write_bytes(b"mine")
    for arguments, words in (
        ((folder / "0.png", "--annotate", taken_name), "exists"),
        ((folder / "0.png", "--annotate", tmp_path / "out.jpg"), "must end in .png"),
        ((folder / "0.png", "--annotate", tmp_path / "no" / "out.png"), "there is no folder"),
        ((f"{folder}/*.png", "--annotate", tmp_path / "all.png"), "want a folder"),
        ((f"{folder}/*.dng",), "fits no file"),
        ((), "name pictures"),
        ((folder / "0.png", "--assume-srgb", "--assume-linear"), "either sRGB or linear"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert words in " ".join(err.replace("│", " ").split())
    assert taken_name.read_bytes() == b"mine"


def test_a_session_is_inspected_as_it_is_described(run: Run) -> None:
    files = [SAMPLE_CAPTURES / "dark" / "dark_0.dng", SAMPLE_CAPTURES / "flat" / "flat_30_0.png"]
    code, out, _ = run(*files, "--session", SAMPLE_CAPTURES)
    assert code == 0
    assert "black 64, white 1023 of the file" in out
    assert "512 x 384 RGGB, 10 bits, black 64, white 1023 as told" in out


def test_a_session_without_captures_is_all_of_its_pictures(run: Run, sample_part: Callable[..., Path]) -> None:
    code, out, _ = run("--session", sample_part("flat", "dark"))
    assert code == 0
    assert out.rstrip().endswith("8 of 8 usable")
