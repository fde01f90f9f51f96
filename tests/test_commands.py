"""What every command promises: where it writes, what it exits with, how soon it answers."""

from __future__ import annotations

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

from calib.commands import _console, main
from psfbank import __version__, store
from psfbank.bank import PsfBank
from psfbank.errors import CaptureUnusable, CorruptBankError, UnsafeBankError, UnsupportedSchemaError
from psfbank.flags import Flag
from psfbank.model import Calibration, Camera, DistortionMap, Illumination, NoiseModel, PsfGrid, Setting, ZernikeField


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


def small_bank() -> PsfBank:
    x_px, y_px = np.array([100.0, 320.0, 540.0]), np.array([120.0, 360.0])
    kernel = np.full((5, 5), 1 / 25)
    flags = np.zeros((3, 2, 3), np.uint16)
    flags[0, 0, 0] = Flag.FILLED
    knots = np.linspace(-1, 1, 8)
    calibration = Calibration(
        setting=Setting(f_number=1.8, focus_m=0.5),
        psf_grid=PsfGrid(x_px, y_px, np.tile(kernel, (3, 2, 3, 1, 1)), n_obs=np.full((3, 2, 3), 7), flags=flags),
        distortion=DistortionMap(
            np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1]]),
            knots,
            knots,
            np.zeros((3, 2, 4, 4)),
            np.array([[0.0, 0], [639, 0], [639, 479]]),
            np.array([0.11, 0.12, 0.13]),
        ),
        illumination=Illumination(x_px, y_px, np.tile([0.75, 1.0, 0.875], (3, 2, 1))),
        noise=NoiseModel([0.5] * 3, [2.5] * 3, [np.nan] * 3, [0.01] * 3, [64.0] * 3, [1023.0] * 3),
        provenance={"seed": 3, "inputs": [{"name": "led_0.png"}, {"name": "led_1.png"}]},
    )
    return PsfBank(Camera("ACME", "One", (480, 640), pitch_um=1.5), (calibration,))


@pytest.fixture
def bank_file(tmp_path: Path) -> Path:
    small_bank().save(tmp_path / "acme.h5")
    return tmp_path / "acme.h5"


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"psfbank {__version__}\n", "")


def test_info_says_what_the_bank_holds(run: Run, bank_file: Path) -> None:
    answer = run("info", bank_file)

    assert (answer.code, answer.err) == (0, "")
    for words in ("ACME One: 640 x 480 px of 1.5 um, RGGB", "3 x 2 tiles", "f_number 1.8", "not captured: wavefront"):
        assert words in answer.out
    for label, numbers in (
        ("observations", ["42", "42", "42"]),
        ("tiles flagged filled", ["1", "0", "0"]),
        ("distortion residual RMS [px]", ["0.11", "0.12", "0.13"]),
        ("illumination, darkest corner", ["0.75"] * 3),
        ("read noise [e-]", ["2.5"] * 3),
    ):
        (row,) = (line for line in answer.out.splitlines() if label in line)
        assert [word for word in row.split() if word in numbers] == numbers
    assert "nan" not in answer.out


def test_info_as_json_is_one_object_with_null_for_nan(run: Run, bank_file: Path) -> None:
    answer = run("info", bank_file, "--json")

    summary = json.loads(answer.out, parse_constant=pytest.fail)
    (calibration,) = summary["calibrations"]
    assert summary["camera"]["size_px"] == [480, 640]
    assert calibration["setting"] == {"f_number": 1.8, "focus_m": 0.5}
    assert calibration["psf"]["flags"] == {"R": {"filled": 1}, "G": {}, "B": {}}
    assert calibration["psf"]["by_channel"]["coverage"]["R"] == pytest.approx(5 / 6)
    assert calibration["noise"]["by_channel"]["dark_e_per_s"] == {"R": None, "G": None, "B": None}
    assert calibration["illumination"]["by_channel"]["corner_max"]["B"] == pytest.approx(0.875)
    assert calibration["wavefront"] is None
    assert calibration["provenance"] == {"seed": 3, "inputs": "2 entries"}


def test_the_wavefront_rms_leaves_piston_and_tilt_out(run: Run, tmp_path: Path) -> None:
    bank = small_bank()
    one = np.array([500.0]), np.array([400.0])
    terms = np.array([[[[9.0, 9.0, 9.0, 30.0, 40.0]]]])
    nm = [[0, 0], [1, -1], [1, 1], [2, 0], [2, 2]]
    green = ZernikeField(*one, terms, terms, nm, [530.0], 1.8, np.zeros((1, 1, 1)), channels=("Y",))
    mono = replace(bank.camera, cfa="mono")
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


@pytest.mark.parametrize("arguments", [["verify", "missing.h5"], ["verify"], ["no-such-command"], ["info", "--nope"]])
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
