"""A session with a bad file among good ones goes on, and its journal tells what became of each."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import pytest

from calib import session as session_module
from calib.manifest import Plan, load_plan
from calib.session import KINDS, LIBRARIES, Journal, in_words, provenance, read_session
from psfbank import __version__
from psfbank.errors import CaptureUnusable
from psfbank.flags import Flag

DESCRIPTION = """
[camera]
make = "Maker"
model = "Model"
width = 32
height = 24
pixel_pitch_um = 1.4
f_number = 2.0
cfa = "RGGB"
black_level = 64
white_level = 1023

[[capture]]
kind = "flat"
files = "flat/*.png"

[[capture]]
kind = "dark"
files = "dark/*.png"

[[capture]]
kind = "led"
files = "led/*.png"
pitch_mm = 46.0

[[capture]]
kind = "noise_target"
files = "noise/*.png"
pattern = "pattern.png"
cell_mm = 1.2

[[capture]]
kind = "charuco"
files = "charuco/*.png"
columns = 9
rows = 6
square_mm = 25.0

[[capture]]
kind = "corners"
files = "corners.vnl"
columns = 9
rows = 6
square_mm = 25.0
"""


def write(path: Path, dn: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), np.clip(dn, 0, 1023).astype(np.uint16))


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Three flats of which the second is torn, a dark, an LED picture of the wrong size, and a table of corners."""
    rng = np.random.default_rng(0)
    for name, level in (
        ("flat/0", 400),
        ("flat/1", 420),
        ("flat/2", 440),
        ("dark/0", 64),
        ("noise/0", 300),
        ("charuco/0", 300),
    ):
        write(tmp_path / f"{name}.png", rng.normal(level, 3, (24, 32)).round())
    write(tmp_path / "led" / "0.png", rng.normal(100, 30, (20, 32)).round())
    pattern = np.where(rng.random((24, 24)) < 0.5, 0, 255).astype(np.uint8)
    assert cv2.imwrite(str(tmp_path / "pattern.png"), pattern)
    (tmp_path / "corners.vnl").write_text("# filename x y\n")
    torn = tmp_path / "flat" / "1.png"
    torn.write_bytes(torn.read_bytes()[:200])
    (tmp_path / "capture.toml").write_text(DESCRIPTION)
    return tmp_path


@pytest.fixture
def plan(session: Path) -> Plan:
    return load_plan(session)


def test_one_bad_file_does_not_stop_the_others(plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    with caplog.at_level(logging.WARNING):
        shots = read_session(plan, journal)

    assert list(shots) == list(KINDS)
    assert {kind: [shot.capture.name for shot in found] for kind, found in shots.items() if found} == {
        "flat": ["flat/0.png", "flat/2.png"],
        "dark": ["dark/0.png"],
        "noise_target": ["noise/0.png"],
        "charuco": ["charuco/0.png"],
    }
    assert all(shot.entry.kind == kind for kind, found in shots.items() for shot in found)
    bad = {entry["name"]: entry for entry in journal.flagged}
    assert set(bad) == {"flat/1.png", "led/0.png"}
    assert all(entry["flag"] == Flag.UNUSABLE.words() for entry in bad.values())
    assert "copy it again" in bad["flat/1.png"]["reason"]
    assert "32 x 20" in bad["led/0.png"]["reason"] or "20 x 32" in bad["led/0.png"]["reason"]
    assert "flat/1.png" in caplog.text


def test_inputs_are_listed_with_the_digests_of_their_bytes(plan: Plan, session: Path) -> None:
    journal = Journal()
    read_session(plan, journal)
    assert [(i["name"], i["kind"]) for i in journal.inputs] == [
        ("flat/0.png", "flat"),
        ("flat/2.png", "flat"),
        ("dark/0.png", "dark"),
        ("noise/0.png", "noise_target"),
        ("charuco/0.png", "charuco"),
    ]
    for entry in journal.inputs:
        assert entry["sha256"] == hashlib.sha256((session / entry["name"]).read_bytes()).hexdigest()


def test_tables_of_corners_are_not_read_as_pictures(plan: Plan) -> None:
    journal = Journal()
    assert "corners" not in read_session(plan, journal)
    assert not {"corners.vnl"} & {entry["name"] for entry in journal.inputs + journal.flagged}
    assert not journal.missing


def test_progress_counts_every_file_good_or_bad(plan: Plan) -> None:
    told: list[tuple[str, int, int]] = []
    read_session(plan, Journal(), lambda *step: told.append(step))
    assert told == [("read captures", k, 7) for k in range(1, 8)]


def test_an_error_in_words_leaves_out_the_place() -> None:
    error = CaptureUnusable("the picture is all black", where="/home/somebody/a.png", remedy="Expose longer")
    assert in_words(error) == "the picture is all black. Expose longer"
    assert in_words(CaptureUnusable("it is torn", where="a.png")) == "it is torn"


def test_the_journal_takes_notes_and_tells_the_log(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    with caplog.at_level(logging.INFO):
        journal.flag("a.png", Flag.SATURATED | Flag.PARTIAL, "half of it is white")
        journal.lack("noise", "no darks")
    assert journal.flagged == [{"name": "a.png", "flag": "saturated, partial", "reason": "half of it is white"}]
    assert journal.missing == {"noise": "no darks"}
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_journals_do_not_share_their_notes() -> None:
    Journal().lack("noise", "no darks")
    assert Journal().missing == {}


def texts(value: object) -> list[str]:
    """Every string in nested containers, keys aside."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def test_provenance_tells_all_but_who_and_where(plan: Plan, session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "host-of-somebody")
    monkeypatch.setenv("USER", "somebody")
    journal = Journal()
    read_session(plan, journal)
    journal.summary["noise"] = {"gain": [0.25]}
    told = provenance(plan, journal)
    text = json.dumps(told)

    assert str(session) not in text
    assert session.name not in text
    assert "somebody" not in text
    assert not any(Path(word).is_absolute() for word in texts(told))
    assert set(told["versions"]) == {"python", "psfbank", "opencv", *LIBRARIES}
    assert told["inputs"] is journal.inputs
    assert [entry["name"] for entry in told["flagged"]] == [e["name"] for e in journal.flagged]
    assert told["missing"] == journal.missing
    assert told["summary"] == {"noise": {"gain": [0.25]}}


def test_a_checkout_that_is_not_installed_has_a_provenance_too(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = version

    def of_others(name: str) -> str:
        if name == "psfbank" or name.startswith("opencv"):
            raise PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(session_module, "version", of_others)
    told = provenance(plan, Journal())["versions"]
    assert (told["psfbank"], told["opencv"]) == (__version__, cv2.__version__)


def test_provenance_repeats_the_plan(plan: Plan) -> None:
    told = provenance(plan, Journal())["plan"]
    assert told["camera"]["model"] == "Model"
    assert (told["encoding"], told["white_level"], list(told["black_level"])) == ("linear", 1023.0, [64.0] * 3)
    flat, _, led, *_ = told["captures"]
    assert [e["kind"] for e in told["captures"]] == ["flat", "dark", "led", "noise_target", "charuco", "corners"]
    assert flat["files"] == ["flat/0.png", "flat/1.png", "flat/2.png"]
    assert led["pitch_mm"] == 46.0
    assert "pitch_mm" not in flat
    assert told["captures"][3]["pattern"] == "pattern.png"
