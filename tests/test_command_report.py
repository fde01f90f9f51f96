"""`psfbank report` and `psfbank plot`: what they write, print and refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import cv2
import h5py
import pytest

from calib.commands.plot import Kind
from calib.plots import FIGURES
from psfbank.bank import PsfBank
from psfbank.model import Calibration, Setting

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(psfbank_command: Run) -> Run:
    return psfbank_command


@pytest.fixture
def bank(small_bank: PsfBank, tmp_path: Path) -> Path:
    """Of two settings, each with a part of its own, so that a report of it is soon drawn."""
    cal = small_bank.at()
    near = Calibration(Setting(focus_m=0.5), noise=cal.noise, provenance={"missing": {"psf": "<b>no</b> points"}})
    far = Calibration(Setting(focus_m=4.0), psf_grid=cal.psf_grid)
    PsfBank(small_bank.camera, (near, far)).save(tmp_path / "small.h5")
    return tmp_path / "small.h5"


def test_a_report_is_written_and_its_verdict_printed(run: Run, bank: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    code, out, err = run("report", bank, "-o", page, "--at", "focus_m=0.5")

    assert code == 0
    assert out.splitlines() == [str(page), "1 warning"]
    assert "warning: Not calibrated: psf: <b>no</b> points." in err
    html = page.read_text("utf-8")
    assert "focus_m 0.5" in html
    assert "small.h5" in html
    assert "<b>no</b>" not in html


def test_json_is_one_object(run: Run, bank: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    code, out, _ = run("report", bank, "-o", page, "--at", "focus_m=4", "--json")
    told = json.loads(out)

    assert code == 0
    assert told["written"] == str(page)
    assert told["size_bytes"] == page.stat().st_size
    assert told["verdict"]["worst"]["channel"] in "RGB"
    assert 0 < told["verdict"]["worst"]["mtf50_cpp"] < told["verdict"]["mtf50_median_cpp"]


@pytest.mark.parametrize("command", ["report", "plot"])
def test_a_bank_of_several_settings_wants_one_named(run: Run, bank: Path, tmp_path: Path, command: str) -> None:
    kind, out = (["noise"], tmp_path / "n.png") if command == "plot" else ([], tmp_path / "r.html")
    code, _, err = run(command, *kind, bank, "-o", out)

    assert code == 1
    assert "focus_m=0.5; focus_m=4" in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("there.html", "exists already. Choose another name, or say --overwrite"),
        ("nowhere/report.html", "its folder does not exist"),
        ("report.pdf", "has no suffix that can be written. Use .html, .htm"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(
    run: Run, bank: Path, tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "there.html").write_text("mine")
    code, out, err = run("report", bank, "-o", tmp_path / name, "--at", "focus_m=0.5")

    assert (code, out) == (1, "")
    assert words in err
    assert "measure" not in err
    assert (tmp_path / "there.html").read_text() == "mine"


def test_a_folder_that_takes_no_files_is_said(
    run: Run, bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("psfbank.files.os.fsync", full)
    code, out, err = run("plot", "noise", bank, "-o", tmp_path / "n.png", "--at", "focus_m=0.5")

    assert (code, out) == (1, "")
    assert "No space left on device" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.h5"]


def test_overwrite_replaces(run: Run, bank: Path, tmp_path: Path) -> None:
    page = tmp_path / "there.html"
    page.write_text("old")

    assert run("report", bank, "-o", page, "--overwrite", "--at", "focus_m=0.5")[0] == 0
    assert page.read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_figure_is_a_file_of_its_own(run: Run, bank: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"noise{suffix}"
    code, out, err = run("plot", "noise", bank, "-o", path, "--at", "focus_m=0.5", "--json")

    assert (code, err) == (0, "")
    assert json.loads(out) == {"written": str(path), "kind": "noise"}
    head = path.read_bytes()[:8]
    assert head.startswith({".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix])
    if suffix == ".png":
        assert cv2.imread(str(path)).mean() > 200  # dark on white


def test_a_figure_of_what_is_not_there_is_refused(run: Run, bank: Path, tmp_path: Path) -> None:
    code, _, err = run("plot", "distortion", bank, "-o", tmp_path / "d.png", "--at", "focus_m=4")

    assert code == 1
    assert "has no distortion map. Calibrate a session with `chessboard` captures" in err
    assert run("plot", "portrait", bank, "-o", tmp_path / "d.png")[0] == 2
    assert run("plot", "noise", bank, "-o", tmp_path / "d.bmp", "--at", "focus_m=0.5")[0] == 1


def test_every_figure_has_its_name_on_the_command_line() -> None:
    assert get_args(Kind) == tuple(FIGURES)


def test_a_bank_of_another_major_version_is_refused(run: Run, small_bank: PsfBank, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "future.h5")
    with h5py.File(tmp_path / "future.h5", "r+") as file:
        file.attrs.create("schema_version", b"9.0", dtype=h5py.string_dtype("utf-8", 3))
    code, out, err = run("report", tmp_path / "future.h5", "-o", tmp_path / "r.html")

    assert (code, out) == (4, "")
    assert "9.0" in err
    assert not (tmp_path / "r.html").exists()
