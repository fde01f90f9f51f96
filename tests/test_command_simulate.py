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
from psfbank.isp import known_cameras

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(psfbank_command: Run) -> Run:
    return partial(psfbank_command, "simulate")


@pytest.fixture
def sharp(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 256, (3 * 96, 3 * 128, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "sharp.png"), image)
    return tmp_path / "sharp.png"


def test_a_fine_picture_becomes_one_of_the_sensor(run: Run, bank: Path, sharp: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    code, said, _ = run(bank, sharp, "-o", out, "--stages", "blur", "--source-scale", "3", "--assume-linear")

    assert (code, said) == (0, f"{out}\n")
    image = np.load(out)
    assert (image.shape, image.dtype) == ((96, 128, 3), np.float32)
    stored = cv2.imread(str(sharp))[..., ::-1] / 255
    np.testing.assert_allclose(image.mean(axis=(0, 1)), stored.mean(axis=(0, 1)), atol=2e-3)


def test_the_same_seed_gives_the_same_files_whoever_works(run: Run, bank: Path, sharp: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(sharp.read_bytes())
    options = ("--assume-srgb", "--source-scale", "3", "--seed", "4")
    assert run(bank, sharp, copy, "-o", tmp_path / "one", *options)[0] == 0
    code, said, _ = run(bank, sharp, copy, "-o", tmp_path / "two", *options, "--jobs", "2", "--json")

    assert code == 0
    assert [Path(path).name for path in json.loads(said)["written"]] == ["sharp.png", "copy.png"]
    files = {
        name: [(tmp_path / folder / name).read_bytes() for folder in ("one", "two")] for name in (sharp.name, copy.name)
    }
    assert all(one == two for one, two in files.values())
    assert files[sharp.name][0] != files[copy.name][0]


def test_eight_bits_without_a_word_are_refused(run: Run, bank: Path, sharp: Path, tmp_path: Path) -> None:
    code, said, complaint = run(bank, sharp, "-o", tmp_path / "out.npy", "--source-scale", "3")
    assert (code, said) == (1, "")
    assert "--assume-srgb" in complaint
    assert not (tmp_path / "out.npy").exists()


def test_a_second_run_keeps_what_is_there(run: Run, bank: Path, sharp: Path, tmp_path: Path) -> None:
    options = ("-o", tmp_path / "out", "--assume-srgb", "--source-scale", "3", "--json")
    assert run(bank, tmp_path / "*.png", *options)[0] == 0
    (tmp_path / "second.png").write_bytes(sharp.read_bytes())
    code, said, told = run(bank, tmp_path / "*.png", *options)
    assert code == 0
    outputs = json.loads(said)
    assert [Path(path).name for path in outputs["written"]] == ["second.png"]
    assert [Path(path).name for path in outputs["kept"]] == ["sharp.png"]
    assert "1 of 2 outputs are there already" in told


def test_a_dry_run_says_what_would_be_done_and_does_nothing(run: Run, bank: Path, sharp: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, told = run(bank, sharp, "-o", out, "--assume-srgb", "--source-scale", "3", "--dry-run")
    assert (code, said) == (0, f"{out / sharp.name}\n")
    assert "5. noise: gain" in told
    assert not out.exists()


def test_the_whole_camera_to_a_jpeg(run: Run, bank: Path, sharp: Path, tmp_path: Path) -> None:
    camera = next(iter(known_cameras()))
    stages = "camera_shake:length_px=4..6,anxiety=0.2,all,tone,jpeg,jpeg:quality=90,subsampling=4:2:0"
    options = ("--stages", stages, "--colours", camera, "--tone", "smoothstep", "--shot", "gaussian")
    for quality in (30, 95):
        more = ("--assume-srgb", "--source-scale", "3", "--jpeg-quality", quality, "--json")
        code, said, _ = run(bank, sharp, "-o", tmp_path / f"{quality}.jpg", *options, *more)
        assert code == 0
        named = [line.split(": ")[0].split(":")[0] for line in json.loads(said)["stages"][1:]]
        assert named[0] == "1. camera_shake"
        assert named[-5:] == ["9. demosaic", "10. colour", "11. tone", "12. jpeg", "13. jpeg"]
    assert (tmp_path / "30.jpg").stat().st_size < 0.7 * (tmp_path / "95.jpg").stat().st_size


def test_colours_that_nobody_knows_are_refused(run: Run, bank: Path, sharp: Path, tmp_path: Path) -> None:
    given = (bank, sharp, "-o", tmp_path / "out.npy", "--assume-srgb", "--source-scale", "3", "--colours")
    code, _, told = run(*given, "bank")
    assert (code, "does not know its camera's colours" in told) == (1, True)
    code, _, told = run(*given, "Brownie")
    assert (code, "no camera 'Brownie' is known; there are" in told) == (1, True)
    table = tmp_path / "two.csv"
    table.write_text("a,1,0,0,0,1,0,0,0,1\nb,1,0,0,0,1,0,0,0,1\n")
    code, _, told = run(*given, table)
    assert (code, "holds 2 matrices" in told) == (1, True)


@pytest.mark.parametrize(
    "options",
    [
        ["--stages", "blur,defocus:diameter=3"],
        ["--stages", "blur,none"],
        ["--stages", "blur,noise,blur"],
        ["--gains", "1,2"],
        ["--fit", "stretch"],
        ["--stages", "blur,jpeg"],
        ["--stages", "demosaic"],
        ["--assume-srgb", "--assume-linear"],
        ["--source-scale", "0"],
        ["--assume-srgb", "--at", "focus_m"],
        ["--assume-srgb", "--at", "focus_m=-1"],
        ["--assume-srgb", "--at", "aperture=2"],
    ],
)
def test_wrong_usage_ends_with_two(run: Run, bank: Path, sharp: Path, tmp_path: Path, options: list[str]) -> None:
    assert run(bank, sharp, "-o", tmp_path / "out.npy", *options)[0] == 2


def test_a_bank_of_several_settings_is_asked_for_one(
    run: Run, small_bank: PsfBank, sharp: Path, tmp_path: Path
) -> None:
    cal, bank, out = small_bank.at(), tmp_path / "axis.h5", tmp_path / "out.npy"
    settings = [replace(cal, setting=replace(cal.setting, focus_m=focus_m)) for focus_m in (0.5, 1.0, 2.0)]
    PsfBank(small_bank.camera, tuple(settings)).save(bank)
    given = (bank, sharp, "-o", out, "--stages", "distortion", "--source-scale", "3", "--assume-linear")

    code, _, complaint = run(*given)
    assert (code, "focus_m=0.5" in complaint) == (1, True)
    assert run(*given, "--at", "focus_m=0.7")[0] == 0
    code, _, complaint = run(*given, "--overwrite", "--at", "focus_m=0.3")
    assert (code, "beyond 0.5 .. 2" in complaint) == (1, True)
