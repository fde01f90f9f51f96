from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from psfbank.bank import PsfBank
from psfbank.simulate import Simulator

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(psfbank_command: Run) -> Run:
    return partial(psfbank_command, "undistort")


def ideal() -> np.ndarray:
    rows, columns = np.indices((96, 128))
    waves = [np.sin(columns / 5 + c) * np.cos(rows / (6 + c)) for c in range(3)]
    return (0.5 + 0.4 * np.stack(waves, axis=-1)).astype(np.float32)


@pytest.fixture
def taken(small_bank: PsfBank, tmp_path: Path) -> Path:
    picture = Simulator(small_bank.at(), ["distortion"])(ideal(), np.random.default_rng(0))
    np.save(tmp_path / "taken.npy", picture)
    return tmp_path / "taken.npy"


def test_what_the_lens_distorted_comes_back(run: Run, bank: Path, taken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    code, said, complaint = run(bank, taken, "-o", out, "--json")

    assert (code, complaint.replace("undistort\n", "")) == (0, "")
    told = json.loads(said)
    assert told["written"] == [str(out)]
    assert told["size_px"] == [96, 128]
    np.testing.assert_allclose(told["camera_matrix"], [[110, 0, 63.5], [0, 110, 47.5], [0, 0, 1]])
    assert told["fov_deg"]["horizontal"] == pytest.approx(2 * np.degrees(np.arctan(64 / 110)))
    image = np.load(out)
    seen = np.any(image != 0, axis=-1)
    assert told["seen"] == pytest.approx(seen.mean(), abs=0.01)
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(image - ideal())[inner].max() < 2e-3
    assert np.abs(np.load(taken) - ideal())[inner].max() > 0.1


def test_size_and_angle_are_chosen(run: Run, bank: Path, taken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    code, said, _ = run(bank, taken, "-o", out, "--fov", "50", "--size", "200x100")
    assert code == 0
    assert "50.0 degrees across" in said
    assert f"{100 / np.tan(np.radians(25)):.3f}" in said
    assert np.load(out).shape == (100, 200, 3)
    code, said, _ = run(bank, taken, "-o", out, "--fov", "full", "--overwrite", "--json")
    matrix = json.loads(said)["camera_matrix"]
    assert code == 0
    assert matrix[0][0] == matrix[1][1] < 110


def test_many_files_the_same_whoever_works(run: Run, bank: Path, taken: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "b.png"), (np.load(taken)[..., ::-1].clip(0, 1) * 65535).astype(np.uint16))
    files = (taken, tmp_path / "b.png")
    assert run(bank, *files, "-o", tmp_path / "one")[0] == 0
    assert run(bank, *files, "-o", tmp_path / "two", "--jobs", "2")[0] == 0
    for file in files:
        assert (tmp_path / "one" / file.name).read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_what_lies_beyond_the_boards_is_said(run: Run, small_bank: PsfBank, taken: Path, tmp_path: Path) -> None:
    cal = small_bank.at()
    assert cal.distortion is not None
    small = np.array([[32.0, 24], [96, 24], [96, 72], [32, 72]])
    PsfBank(small_bank.camera, (replace(cal, distortion=replace(cal.distortion, valid_region=small)),)).save(
        tmp_path / "part.h5"
    )
    code, _, complaint = run(tmp_path / "part.h5", taken, "-o", tmp_path / "out.npy")
    assert code == 0
    assert "beyond the region that the calibration saw" in complaint


@pytest.mark.parametrize(
    ("shape", "words"), [((96, 128), "Demosaic"), ((48, 64, 3), "does not fit a map of 128 x 96 pixels")]
)
def test_mosaics_and_other_sizes_are_refused(
    run: Run, bank: Path, tmp_path: Path, shape: tuple[int, ...], words: str
) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
    code, said, complaint = run(bank, tmp_path / "a.npy", "-o", tmp_path / "out.npy")
    assert (code, said) == (1, "")
    assert words in complaint
    assert not (tmp_path / "out.npy").exists()


def test_eight_bits_without_a_word_are_refused(run: Run, bank: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((96, 128, 3), np.uint8))
    code, _, complaint = run(bank, tmp_path / "a.png", "-o", tmp_path / "out.npy")
    assert code == 1
    assert "--assume-srgb" in complaint
    assert run(bank, tmp_path / "a.png", "-o", tmp_path / "out.npy", "--assume-srgb")[0] == 0


def test_a_bank_without_a_map_says_what_to_capture(run: Run, small_bank: PsfBank, taken: Path, tmp_path: Path) -> None:
    PsfBank(small_bank.camera, (replace(small_bank.at(), distortion=None),)).save(tmp_path / "none.h5")
    code, _, complaint = run(tmp_path / "none.h5", taken, "-o", tmp_path / "out.npy")
    assert code == 1
    assert "chessboard" in complaint


@pytest.mark.parametrize(
    "options",
    [
        ["--fov", "wide"],
        ["--fov", "180"],
        ["--fov", "nan"],
        ["--size", "100"],
        ["--size", "0x50"],
        ["--assume-srgb", "--assume-linear"],
    ],
)
def test_wrong_usage_ends_with_two(run: Run, bank: Path, taken: Path, tmp_path: Path, options: list[str]) -> None:
    assert run(bank, taken, "-o", tmp_path / "out.npy", *options)[0] == 2
