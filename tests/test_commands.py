"""What every command promises: where it writes, what it exits with, how soon it answers."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from rich.console import Console

from calib.commands import _console, main
from psfbank import __version__, store
from psfbank.bank import PsfBank
from psfbank.errors import (
    BankFormatError,
    CaptureUnusable,
    CorruptBankError,
    UnsafeBankError,
    UnsupportedSchemaError,
)
from psfbank.model import Calibration, ZernikeField


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["psfbank", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Answer(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def bank_file(small_bank: PsfBank, tmp_path: Path) -> Path:
    """A bank without a wavefront, its dark current unknown."""
    (calibration,) = small_bank.calibrations
    assert calibration.noise is not None
    noise = replace(calibration.noise, dark_e_per_s=np.full(3, np.nan))
    PsfBank(small_bank.camera, (replace(calibration, wavefront=None, noise=noise),)).save(tmp_path / "small.h5")
    return tmp_path / "small.h5"


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"psfbank {__version__}\n", "")


def test_info_says_what_the_bank_holds(run: Run, bank_file: Path) -> None:
    answer = run("info", bank_file)

    assert (answer.code, answer.err) == (0, "")
    for words in (
        "Reference Small f/2 Ω 007: 128 x 96 px of 1.4 um, RGGB",
        "focal_mm 4.2, f_number 2, iso 100",
        "5 x 4 tiles",
        "field of view: 65.9 degrees across",
        "local distortion (ISO 17850): up to -1",
        "not captured: wavefront",
        "one of several along focus_m",
        "left out, its map is predicted to 0.02 px; its own held-out error is 0.03 px",
    ):
        assert words in answer.out
    for label, numbers in (
        ("observations", ["250", "650", "1050"]),
        ("tiles with data of their own", ["0.5"] * 3),
        ("tiles flagged filled", ["10"] * 3),
        ("distortion residual RMS [px]", ["0.05"] * 3),
        ("lateral colour, largest [px]", ["0.1623", "0.1623"]),
        ("gain [DN/e-]  ", ["0.24", "0.25", "0.26"]),
        ("gain [DN/e-] at ISO 400", ["0.96", "1", "1.04"]),
        ("read noise [e-] at ISO 1600", ["0.525", "0.5", "0.55"]),
        ("chi2 per sample, median", ["1.1", "1.295", "1.495"]),
        ("slanted edges measured", ["2", "2", "2"]),
    ):
        (row,) = (line for line in answer.out.splitlines() if label in line)
        assert [word for word in row.split() if word in numbers] == numbers
    assert "nan" not in answer.out


def test_info_as_json_is_one_object_with_null_for_nan(run: Run, bank_file: Path, small_bank: PsfBank) -> None:
    answer = run("info", bank_file, "--json")
    darkest = min(small_bank.at().shading([0, 127, 0, 127], [0, 0, 95, 95], "G"))

    summary = json.loads(answer.out, parse_constant=pytest.fail)
    (calibration,) = summary["calibrations"]
    assert summary["camera"]["size_px"] == [96, 128]
    assert calibration["setting"] == {"focal_mm": 4.2, "f_number": 2.0, "iso": 100.0}
    assert calibration["psf"]["flags"]["G"] == {"filled": 10}
    assert calibration["psf"]["kernel_px"] == 5
    assert calibration["noise"]["by_channel"]["dark_e_per_s"] == {"R": None, "G": None, "B": None}
    assert [row["iso"] for row in calibration["noise_by_iso"]] == [100, 400, 1600]
    assert calibration["noise_by_iso"][2]["by_channel"]["gain_dn_per_e"]["G"] == pytest.approx(4.0)
    assert calibration["illumination"]["by_channel"]["corner_min"]["G"] == pytest.approx(darkest)
    assert calibration["wavefront"] is None
    distortion = calibration["distortion"]
    assert distortion["by_channel"]["lateral_rms_px"]["G"] is None
    assert distortion["by_channel"]["lateral_max_percent"]["R"] == pytest.approx(100 * 0.1623 / 80, rel=1e-3)
    assert distortion["tv_percent"]["vertical"] < distortion["tv_percent"]["horizontal"] < 0
    assert distortion["iso_17850_worst"]["height"] == pytest.approx(0.95)
    assert calibration["evidence"]["residual_px"] == 7
    assert calibration["evidence"]["by_channel"]["chi2_reserved_median"]["B"] == pytest.approx(1.595)
    edges = calibration["edges"]["by_channel"]
    assert edges["measured"] == {"R": 2, "G": 2, "B": 2}
    assert edges["mtf50_sagittal_cpp"]["G"] == pytest.approx(0.32 * np.sqrt(np.log(2)))
    assert edges["mtf50_tangential_cpp"]["R"] == pytest.approx(0.34 * np.sqrt(np.log(2)))
    assert edges["mtf50_tangential_cpp"]["G"] is None
    for channel in "RGB":
        assert 0 < edges["mtf50_off_median_cpp"][channel] <= edges["mtf50_off_p90_cpp"][channel]
    assert calibration["provenance"] == {"command": "synthetic", "seed": 0, "inputs": "1 entries"}


def test_info_says_that_a_map_is_a_registration(run: Run, small_bank: PsfBank, tmp_path: Path) -> None:
    (calibration,) = small_bank.calibrations
    told = {"summary": {"distortion": {"registration_to_rays": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]}}}
    PsfBank(small_bank.camera, (replace(calibration, provenance=told),)).save(tmp_path / "plane.h5")
    small_bank.save(tmp_path / "lens.h5")
    assert "a registration of one grid's own plane" in run("info", tmp_path / "plane.h5").out
    assert "a registration" not in run("info", tmp_path / "lens.h5").out


def test_the_wavefront_rms_leaves_piston_and_tilt_out(run: Run, small_bank: PsfBank, tmp_path: Path) -> None:
    one = np.array([500.0]), np.array([400.0])
    terms = np.array([[[[9.0, 9.0, 9.0, 30.0, 40.0]]]])
    nm = [[0, 0], [1, -1], [1, 1], [2, 0], [2, 2]]
    green = ZernikeField(*one, terms, terms, nm, [530.0], 1.8, np.zeros((1, 1, 1)), channels=("Y",))
    mono = replace(small_bank.camera, cfa="mono")
    PsfBank(mono, (Calibration(wavefront=green),)).save(tmp_path / "mono.h5")

    (calibration,) = json.loads(run("info", tmp_path / "mono.h5", "--json").out)["calibrations"]

    assert calibration["wavefront"]["by_channel"]["rms_nm_median"] == {"Y": pytest.approx(50)}


def test_verify_says_ok_and_the_digest(run: Run, bank_file: Path) -> None:
    plain, as_json = run("verify", bank_file), run("verify", bank_file, "--json")

    told = json.loads(as_json.out)
    digest = told["content_sha256"]
    assert (told["ok"], told["file_bytes"]) == (True, bank_file.stat().st_size)
    assert "/settings/000/psf/kernels" in told["datasets"]
    assert len(bytes.fromhex(digest)) == 32
    assert plain == (0, f"ok {digest}\n", "")


def test_a_damaged_bank_exits_with_4(run: Run, bank_file: Path) -> None:
    content = bytearray(bank_file.read_bytes())
    content[len(content) // 2] ^= 1
    bank_file.write_bytes(content)

    for command in ("verify", "info"):
        answer = run(command, bank_file)
        assert (answer.code, answer.out) == (4, "")
        assert answer.err.startswith("error: ")


def fails_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr(store, "verify", fail)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CaptureUnusable("all black", where="led.png", remedy="Expose longer"), 1, "led.png: all black. Expose longer"),
        (OSError(28, "No space left on device", "out.h5"), 1, "out.h5: No space left on device"),
        (BankFormatError("the bank cannot be written", where="a.h5"), 1, "a.h5: the bank cannot be written"),
        (CorruptBankError("a digest differs"), 4, "a digest differs"),
        (UnsafeBankError("an external link"), 4, "an external link"),
        (UnsupportedSchemaError("schema 9.0"), 4, "schema 9.0"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, run: Run, bank_file: Path, error: BaseException, code: int, message: str
) -> None:
    fails_with(monkeypatch, error)

    assert run("verify", bank_file) == (code, "", f"error: {message}\n")


@pytest.mark.parametrize("arguments", [["-v", "verify"], ["verify", "-v"], ["verify", "--verbose"]], ids=" ".join)
def test_verbose_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, run: Run, bank_file: Path, arguments: list[str]
) -> None:
    fails_with(monkeypatch, CaptureUnusable("all black"))

    answer = run(*arguments, bank_file)

    assert answer.code == 1
    assert "Traceback" in answer.err
    assert "error: all black\n" in answer.err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, run: Run, bank_file: Path) -> None:
    fails_with(monkeypatch, ZeroDivisionError("a bug"))

    with pytest.raises(ZeroDivisionError):
        run("verify", bank_file)


@pytest.mark.parametrize(
    "arguments", [["verify", "missing.h5"], ["verify"], ["no-such-command"], ["info", "--nope"], ["info", "--", "-v"]]
)
def test_wrong_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    answer = run(*arguments)

    assert (answer.code, answer.out) == (2, "")
    assert "Usage" in answer.err


def test_the_json_printer_knows_arrays_and_numbers_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    _console.print_json({"a": np.array([1.5, np.nan]), "b": np.float32(2), "c": (float("inf"), None), "d": "µm"})

    assert json.loads(capsys.readouterr().out) == {"a": [1.5, None], "b": 2.0, "c": [None, None], "d": "µm"}


def test_progress_is_a_line_a_step_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _console.set_up_logging(verbose=False)

    with _console.progress() as report:
        for done in range(3):
            report("LED frames", done + 1, 3)
        report("chessboards", 1, 1)

    assert capsys.readouterr() == ("", "LED frames\nchessboards\n")


def test_progress_is_a_bar_a_step_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(_console, "stderr", terminal)

    with _console.progress() as report:
        report("LED frames", 1, 3)
        report("chessboards", 7, 10)
        report("LED frames", 2, 3)

    drawn = terminal.file.getvalue()
    assert "LED frames" in drawn
    assert "2/3" in drawn
    assert "7/10" in drawn


def test_the_log_of_both_packages_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    _console.set_up_logging(verbose=False)

    logging.getLogger("psfbank.blur").debug("not shown")
    logging.getLogger("calib.led").warning("led_%d.png is [dark]", 3)

    assert capsys.readouterr() == ("", "warning: led_3.png is [dark]\n")


def test_help_loads_no_numerical_library() -> None:
    code = "import sys, calib.commands; print({'numpy', 'scipy', 'cv2', 'h5py'} & set(sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert loaded.stdout == "set()\n"


@pytest.mark.parametrize("launcher", [["-m", "calib"], [Path(__file__).parents[1] / "cli.py"]], ids=str)
def test_every_launcher_starts_the_same_program(launcher: list[str]) -> None:
    answer = subprocess.run([sys.executable, *launcher, "--version"], capture_output=True, text=True)

    assert answer.stdout == f"psfbank {__version__}\n"
