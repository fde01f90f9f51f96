"""`psfbank info --require`: exit code 3 and a line a gate that fails, whatever is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from calib.gates import FIGURES

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(psfbank_command: Run) -> Run:
    return partial(psfbank_command, "info")


def test_gates_that_hold_change_nothing(run: Run, bank: Path) -> None:
    code, out, err = run(bank, "--require", "read_noise_max_e<3", "--require", "coverage_min>=0.5")
    assert (code, err) == (0, "")
    assert out == run(bank)[1]


def test_gates_that_fail_say_wanted_and_found_a_line_each(run: Run, bank: Path) -> None:
    gates = ("read_noise_max_e<2", "flagged_captures<1", "coverage_min>=0.5")
    code, out, err = run(bank, *(word for gate in gates for word in ("--require", gate)))
    assert code == 3
    assert err.splitlines() == [
        "error: read_noise_max_e: wanted < 2, found 2.2 e-",
        "error: flagged_captures: wanted < 1, the bank does not tell it",
    ]
    assert "gain" in out


def test_json_tells_each_gate(run: Run, bank: Path) -> None:
    code, out, _ = run(bank, "--json", "--require", "read_noise_max_e<2", "--require", "flagged_captures<1")
    noise, flagged = json.loads(out)["gates"]
    assert code == 3
    assert noise["found"] == pytest.approx(2.2)
    assert (noise["figure"], noise["wanted"], noise["unit"], noise["ok"]) == ("read_noise_max_e", "< 2", "e-", False)
    assert (flagged["found"], flagged["ok"]) == (None, False)
    assert "gates" not in json.loads(run(bank, "--json")[1])


@pytest.mark.parametrize("gate", ["mtf>0.2", "mtf50_min", "mtf50_min>x"])
def test_what_is_no_gate_is_wrong_usage(run: Run, bank: Path, gate: str) -> None:
    code, out, err = run(bank, "--require", gate)
    assert (code, out) == (2, "")
    assert "mtf50_min" in err


def test_figures_are_listed_with_units_and_values(run: Run, bank: Path) -> None:
    code, out, _ = run(bank, "--figures")
    assert code == 0
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if line.startswith("│")}
    assert set(FIGURES) <= set(rows)
    assert "2.2" in rows["read_noise_max_e"]
    assert "e-" in rows["read_noise_max_e"]
    (figures,) = json.loads(run(bank, "--figures", "--json")[1])["figures"]
    assert list(figures) == list(FIGURES)
    assert figures["flagged_captures"] is None
