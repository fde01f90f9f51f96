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
from psfbank.model import Setting

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(psfbank_command: Run) -> Run:
    return partial(psfbank_command, "export")


def test_the_loss_is_printed_and_told(run: Run, bank: Path, tmp_path: Path) -> None:
    code, said, complaint = run(bank, "--to", "opencv", "-o", tmp_path / "a.yml")
    lines = said.splitlines()
    assert (code, complaint, lines[:2]) == (0, "", [str(tmp_path / "a.yml"), "model: brown5"])
    assert [line.split(":")[0] for line in lines[2:]] == [f"loss in {c}" for c in "GRB"]
    assert all("px RMS" in line and "px at most" in line for line in lines[2:])

    code, said, _ = run(
        bank, "--to", "opencv", "-o", tmp_path / "b.yml", "--model", "rational8", "--channel=R", "--json"
    )
    told = json.loads(said)
    assert (code, told["model"], told["written"], told["to"]) == (0, "rational8", str(tmp_path / "b.yml"), "opencv")
    assert list(told["loss"]) == ["R", "G", "B"]
    assert 0 < told["loss"]["R"]["rms_px"] < told["loss"]["R"]["max_px"]
    file = cv2.FileStorage(str(tmp_path / "b.yml"), cv2.FILE_STORAGE_READ)
    assert file.getNode("loss_rms_px").real() == told["loss"]["R"]["rms_px"]


def test_formats_that_hold_everything_have_no_loss(run: Run, bank: Path, tmp_path: Path) -> None:
    for to in ("csv", "json", "npz"):
        code, said, _ = run(bank, "--to", to, "-o", tmp_path / f"a.{to}")
        assert (code, said.split()) == (0, [str(tmp_path / f"a.{to}")])


def test_a_setting_between_is_exported(run: Run, small_bank: PsfBank, tmp_path: Path) -> None:
    near = small_bank.at()
    assert near.distortion is not None
    wider = replace(
        near.distortion, camera_matrix=near.distortion.camera_matrix * [[1.1, 1, 1], [1, 1.1, 1], [1, 1, 1]]
    )
    far = replace(near, setting=Setting(focus_m=1.0), distortion=wider)
    near = replace(near, setting=Setting(focus_m=0.5))
    PsfBank(small_bank.camera, (near, far)).save(tmp_path / "two.h5")

    code, _, complaint = run(tmp_path / "two.h5", "--to", "json", "-o", tmp_path / "a.json")
    assert (code, "Name more of" in complaint) == (1, True)
    code, _, _ = run(tmp_path / "two.h5", "--to", "json", "-o", tmp_path / "a.json", "--at", f"focus_m={2 / 3}")
    told = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert code == 0
    assert told["setting"]["focus_m"] == pytest.approx(2 / 3)
    np.testing.assert_allclose(np.diag(told["distortion"]["camera_matrix"])[:2], 110 * 1.05)


def test_what_exists_is_kept_and_what_cannot_be_is_said(run: Run, bank: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    for arguments, words in (
        (("colmap", tmp_path / "a.txt"), "--overwrite"),
        (("colmap", tmp_path / "a.yml"), "colmap goes into .txt"),
        (("colmap", tmp_path / "none" / "a.txt"), "cannot be written"),
        (("ros", tmp_path / "a.yaml", "--model", "OPENCV"), "There are brown5"),
    ):
        code, said, complaint = run(bank, "--to", arguments[0], "-o", *arguments[1:])
        assert (code, said, words in complaint.replace("\n", " ")) == (1, "", True)
    assert (tmp_path / "a.txt").read_text() == "mine"
    code, _, _ = run(bank, "--to", "colmap", "-o", tmp_path / "a.txt", "--overwrite")
    assert (code, (tmp_path / "a.txt").read_text()[0]) == (0, "#")


def test_a_bank_without_a_map_names_what_is_missing(run: Run, small_bank: PsfBank, tmp_path: Path) -> None:
    bare = replace(small_bank.at(), distortion=None)
    PsfBank(small_bank.camera, (bare,)).save(tmp_path / "bare.h5")
    code, _, complaint = run(tmp_path / "bare.h5", "--to", "stmap", "-o", tmp_path / "a.exr")
    assert (code, "no distortion map" in complaint, "chessboard" in complaint) == (1, True, True)
