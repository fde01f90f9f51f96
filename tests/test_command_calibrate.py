"""`psfbank calibrate`: what it writes, what it prints and where, what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from calib.commands import main
from calib.dng import write_dng
from psfbank.bank import PsfBank


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Answer]
Part = Callable[..., Path]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["psfbank", "calibrate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Answer(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "bank.h5"


def test_the_summary_goes_to_stdout_and_progress_to_stderr(run: Run, sample_part: Part, output: Path) -> None:
    code, out, err = run(sample_part("flat", "dark"), "-o", output)

    assert code == 0
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if line.startswith("│")}
    assert "0.25" in rows["noise"]
    assert "least: 0.4" in rows["shading"]
    assert "none: no capture shows a grid of points or a chart" in rows["psf"]
    assert "none: no capture shows a chessboard" in rows["distortion"]
    assert out.split("\n")[0].rstrip() == "psfbank phone-like"
    assert out.rstrip().endswith(f"{output}  {output.stat().st_size / 1e6:.3g} MB")
    assert err.splitlines()[0] == "read captures"
    assert "read captures" not in out
    bank = PsfBank.open(output)
    assert bank.camera.model == "phone-like"
    assert bank.at().noise is not None
    assert bank.at().psf_grid is None


def test_a_capture_left_out_is_named_in_both_places(run: Run, sample_part: Part, output: Path) -> None:
    session = sample_part("flat", "dark")
    (session / "flat" / "flat_30_1.png").write_bytes(b"not a picture")
    code, out, err = run(session, "-o", output)

    assert code == 0
    for text in (out, err):
        (line,) = (line for line in text.splitlines() if "flat/flat_30_1.png" in line)
        assert "copy it again from the camera" in line
    assert "warning: flat/flat_30_1.png" in err


def test_json_is_one_object_and_nothing_else(run: Run, sample_part: Part, output: Path) -> None:
    session = sample_part("flat", "dark")
    (session / "flat" / "flat_30_1.png").write_bytes(b"not a picture")
    code, out, err = run(session, "-o", output, "--json")

    told = json.loads(out, parse_constant=pytest.fail)
    assert code == 0
    assert set(told) == {"bank", "summary", "missing", "flagged"}
    assert told["bank"] == str(output)
    assert set(told["summary"]) == {"noise", "shading"}
    assert set(told["missing"]) == {"psf", "distortion"}
    assert [row["name"] for row in told["flagged"]] == ["flat/flat_30_1.png"]
    assert "read captures" in err


def test_a_bank_is_replaced_only_when_told_to(run: Run, sample_part: Part, output: Path) -> None:
    session = sample_part("flat", "dark")
    output.write_bytes(b"precious")
    refused = run(session, "-o", output)
    assert (refused.code, refused.out) == (2, "")
    assert "--overwrite" in refused.err
    assert output.read_bytes() == b"precious"

    assert run(session, "-o", output, "--overwrite").code == 0
    assert PsfBank.open(output).at().noise is not None


def test_the_same_session_gives_the_same_bytes_whoever_works(run: Run, sample_part: Part, tmp_path: Path) -> None:
    session = sample_part("flat", "dark")
    assert run(session, "-o", tmp_path / "one.h5", "--jobs", "1").code == 0
    assert run(session / "capture.toml", "-o", tmp_path / "two.h5", "--jobs", "3").code == 0
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_nothing_is_written_when_nothing_could_be_measured(run: Run, sample_part: Part, output: Path) -> None:
    session = sample_part("flat")
    for picture in (session / "flat").iterdir():
        picture.write_bytes(b"not a picture")
    code, out, err = run(session, "-o", output)

    assert (code, out) == (1, "")
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert "nothing could be measured" in line
    assert "no shading: the session has no usable flat captures" in line
    assert not output.exists()
    assert [path.name for path in output.parent.iterdir()] == [session.name]


def test_an_existing_bank_survives_a_failure(run: Run, sample_part: Part, output: Path) -> None:
    session = sample_part("flat")
    (session / "capture.toml").write_text("[camera]\n", encoding="utf-8")
    output.write_bytes(b"precious")
    assert run(session, "-o", output, "--overwrite").code == 1
    assert output.read_bytes() == b"precious"


def test_a_wrong_manifest_is_one_line_with_a_remedy(run: Run, sample_part: Part, output: Path) -> None:
    session = sample_part("flat", "dark")
    manifest = session / "capture.toml"
    manifest.write_text(manifest.read_text().replace("black_level", "blak_level"), encoding="utf-8")
    code, out, err = run(session, "-o", output)

    assert (code, out) == (1, "")
    assert err == f"error: {manifest}, [camera].blak_level: unknown key. Did you mean black_level?\n"
    assert not output.exists()


def test_a_folder_that_is_not_there_is_refused_before_the_work(run: Run, sample_part: Part, tmp_path: Path) -> None:
    code, out, err = run(sample_part("flat", "dark"), "-o", tmp_path / "nowhere" / "bank.h5")
    assert (code, out) == (2, "")
    assert "nowhere" in "".join(err.replace("│", "").split())  # the frame breaks long paths anywhere
    assert "read captures" not in err


@pytest.mark.parametrize("arguments", [["no-such-session", "-o", "bank.h5"], ["."], [".", "-o", "."]], ids=" ".join)
def test_wrong_usage_ends_with_two(run: Run, arguments: list[str]) -> None:
    answer = run(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert "Usage" in answer.err


def test_a_folder_without_a_manifest_is_told_what_it_lacks(run: Run, tmp_path: Path, output: Path) -> None:
    code, out, err = run(tmp_path, "-o", output)
    assert (code, out) == (1, "")
    assert "capture.toml" in err
    assert "Give a session directory" in err


def test_gates_are_judged_after_the_bank_is_written(run: Run, sample_part: Part, output: Path) -> None:
    gates = ("--require", "read_noise_max_e<1", "--require", "mtf50_min>0.1", "--require", "flagged_captures<1")
    code, out, err = run(sample_part("flat", "dark"), "-o", output, *gates, "--json")

    assert code == 3
    assert PsfBank.open(output).at().noise is not None
    noise, sharp, flagged = json.loads(out)["gates"]
    assert (noise["ok"], sharp["ok"], flagged["ok"]) == (False, False, True)
    assert (sharp["found"], flagged["found"]) == (None, 0)
    failed = [line for line in err.splitlines() if line.startswith("error")]
    assert "read_noise_max_e: wanted < 1, found 2" in failed[0]
    assert failed[1] == "error: mtf50_min: wanted > 0.1, the bank does not tell it"


def test_a_gate_that_is_none_is_refused_before_the_work(run: Run, sample_part: Part, output: Path) -> None:
    code, out, err = run(sample_part("flat", "dark"), "-o", output, "--require", "sharpness>1")

    assert (code, out) == (2, "")
    assert "mtf50_min" in err
    assert not output.exists()


def test_a_dry_run_lists_what_would_be_read_and_written(run: Run, sample_part: Part, output: Path) -> None:
    session = sample_part("flat", "dark")
    code, out, _ = run(session, "-o", output, "--dry-run")

    assert code == 0
    assert "psfbank phone-like" in out
    assert "flat/flat_08_0.png" in out
    assert out.rstrip().endswith(f"would write {output}")
    told = json.loads(run(session, "-o", output, "--dry-run", "--json")[1])
    assert [(row["kind"], len(row["files"])) for row in told["captures"]] == [("flat", 6), ("dark", 2)]
    assert told["levels"]["white_dn"] == 1023
    assert not output.exists()


def test_a_dry_run_finds_a_mistake_in_the_description(run: Run, sample_part: Part, output: Path) -> None:
    session = sample_part("flat", "dark")
    (session / "capture.toml").write_text((session / "capture.toml").read_text().replace('"flat"', '"flats"'))
    code, out, err = run(session, "-o", output, "--dry-run")

    assert (code, out) == (1, "")
    assert "capture[0].kind" in err


def test_raw_files_calibrate_without_a_camera_table(run: Run, sample_part: Part, output: Path) -> None:
    session = sample_part("flat", "dark")
    for path in sorted((session / "flat").iterdir()):
        dn = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        levels = {"black_level": 64, "white_level": 1023, "maker": "Own", "model": "Self"}
        write_dng(path.with_suffix(".dng"), dn, cfa="RGGB", **levels, f_number=2.0, pitch_um=1.4, lens="wide", iso=100)
    table = (session / "capture.toml").read_text()
    described = table[table.index("[[capture]]") :].replace("flat/*.png", "flat/*.dng")
    (session / "capture.toml").write_text(described)
    code, _, err = run(session, "-o", output)

    assert (code, "warning" in err) == (0, False)
    bank = PsfBank.open(output)
    noise = bank.at().noise
    assert (bank.camera.maker, bank.camera.lens, bank.camera.pitch_um) == ("Own", "wide", pytest.approx(1.4))
    assert bank.at().setting.known() == pytest.approx({"f_number": 2.0, "iso": 100})
    assert noise is not None
    np.testing.assert_allclose(noise.gain_dn_per_e, 0.25, rtol=0.03)
