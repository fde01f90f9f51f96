from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from psfbank.bank import PsfBank
from psfbank.model import Setting

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(psfbank_command: Run) -> Run:
    return partial(psfbank_command, "compare")


@pytest.fixture
def banks(small_bank: PsfBank, tmp_path: Path) -> tuple[Path, Path]:
    """The small camera, and one whose kernels are those of the tile beside."""
    small_bank.save(tmp_path / "a.h5")
    one = small_bank.at()
    assert one.psf_grid is not None
    kernels = np.roll(one.psf_grid.kernels, 2, axis=2)
    other = replace(one, psf_grid=replace(one.psf_grid, kernels=kernels))
    PsfBank(small_bank.camera, (other,)).save(tmp_path / "b.h5")
    return tmp_path / "a.h5", tmp_path / "b.h5"


def test_a_bank_is_the_same_as_itself(run: Run, banks: tuple[Path, Path]) -> None:
    code, said, complaint = run(banks[0], banks[0], "--require-same")
    lines = said.splitlines()
    assert (code, complaint, lines[0]) == (0, "", "the same lens within errors")
    assert [sum(line.startswith(name) for line in lines) for name in (" psf", " mtf50", " distortion", " lateral")] == [
        3,
        6,
        1,
        2,
    ]
    assert "…" not in said
    assert "differs" not in said


def test_another_lens_fails_the_gate_and_nothing_else(run: Run, banks: tuple[Path, Path]) -> None:
    code, said, _ = run(*banks)
    assert (code, said.splitlines()[0][:17]) == (0, "not the same lens")
    code, said, _ = run(*banks, "--require-same", "--json")
    told = json.loads(said)
    assert (code, told["same"], told["left_out"], told["maps"]) == (3, False, [], None)
    psf = [each for each in told["differences"] if each["quantity"] == "psf"]
    assert [each["channel"] for each in psf] == ["R", "G", "B"]
    assert all(each["differs"] and each["largest_in_sigma"] > 5 and each["unit"] == "relative L2" for each in psf)
    assert all(each["tolerance"] is None for each in psf)
    distortion = next(each for each in told["differences"] if each["quantity"] == "distortion")
    assert (distortion["differs"], distortion["rms"] < 1e-6) == (False, True)


def test_maps_are_written_and_kept(run: Run, banks: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "maps.npz"
    code, said, _ = run(*banks, "--npz", out)
    assert (code, said.splitlines()[-1]) == (0, str(out))
    with np.load(out) as maps:
        assert maps["psf.relative_l2.G"].shape == (4, 5)
    code, _, complaint = run(*banks, "--npz", out)
    assert (code, "--overwrite" in complaint) == (1, True)
    assert run(*banks, "--npz", out, "--overwrite")[0] == 0


def test_settings_are_chosen_for_each(run: Run, small_bank: PsfBank, banks: tuple[Path, Path], tmp_path: Path) -> None:
    one = small_bank.at()
    assert one.distortion is not None
    wider = replace(one.distortion, camera_matrix=one.distortion.camera_matrix * [[1.1, 1, 1], [1, 1.1, 1], [1, 1, 1]])
    bare = replace(one, axis=None, noise_by_iso=None, edges=None, evidence=None)
    near = replace(bare, setting=Setting(focus_m=0.5))
    far = replace(bare, setting=Setting(focus_m=2.0), distortion=wider)
    PsfBank(small_bank.camera, (near, far)).save(tmp_path / "two.h5")
    two = tmp_path / "two.h5"

    code, _, complaint = run(two, two)
    assert (code, "Name more of" in complaint) == (1, True)
    assert run(two, two, "--at", "focus_m=2", "--require-same")[0] == 0
    assert run(two, two, "--at", "focus_m=2", "--other-at", "focus_m=0.5", "--require-same")[0] == 3
    assert run(two, banks[0], "--at", "focus_m=0.5", "--require-same")[0] == 0


def test_sensors_that_cannot_be_compared(
    run: Run, small_bank: PsfBank, banks: tuple[Path, Path], tmp_path: Path
) -> None:
    larger = replace(small_bank.camera, size_px=(192, 256))
    PsfBank(larger, small_bank.calibrations).save(tmp_path / "large.h5")
    code, said, complaint = run(banks[0], tmp_path / "large.h5")
    assert (code, said, "128 x 96 and 256 x 192 pixels" in complaint) == (1, "", True)
    coarser = replace(small_bank.camera, pitch_um=2.8)
    PsfBank(coarser, small_bank.calibrations).save(tmp_path / "coarse.h5")
    code, said, complaint = run(banks[0], tmp_path / "coarse.h5")
    assert (code, "warning: pixels differ: 1.4 and 2.8 um" in complaint) == (0, True)
