"""Reference sessions that lie beside the repository, where they are there: what was reached is held."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from calib import calibrate
from calib.manifest import load_plan
from psfbank.arrays import FloatArray, IntArray
from psfbank.bank import PsfBank
from psfbank.model import Calibration, NoiseModel
from psfbank.sensor import Sensor, cfa_sites

SHARED = Path(os.environ.get("PSFBANK_SHARED", Path(__file__).parents[2] / "shared"))
TRUTH, REAL = SHARED / "truth", SHARED / "real"
AT_MOST = {
    "psf_rel_l2_median": 0.025,
    "psf_rel_l2_p90": 0.05,
    "mtf_abs_err_p90": 0.02,
    "geometry_rms_px": 0.03,
    "lateral_ca_R_rms_px": 0.02,
    "lateral_ca_B_rms_px": 0.02,
    "gain_rel_err": 0.005,
    "read_noise_rel_err": 0.01,
    "black_err_dn": 0.05,
    "shading_max_abs_err": 0.002,
}
LEAST_PSNR_DB = 58.0

pytestmark = pytest.mark.slow


def session(folder: Path) -> Calibration:
    """Calibrate a session, or skip the test when it is not there."""
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return calibrate(folder).at()


@pytest.fixture(scope="module")
def camera_a() -> PsfBank:
    folder = TRUTH / "camera_a"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    with ThreadPoolExecutor(2) as executor:
        return calibrate(folder / "captures", executor=executor)


def test_a_camera_with_known_truth(camera_a: PsfBank, tmp_path: Path) -> None:
    folder, bank = TRUTH / "camera_a", camera_a
    bank.save(tmp_path / "a.h5")
    command = [sys.executable, TRUTH / "score.py", tmp_path / "a.h5", folder, "--json"]
    scores = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert not [key for key in scores if key.startswith("failed")], scores
    assert {key: scores[key] for key in AT_MOST if scores[key] > AT_MOST[key]} == {}
    assert scores["replay_psnr_db"] >= LEAST_PSNR_DB
    assert bank.at().provenance["flagged"] == []


@pytest.mark.parametrize("shot", ["exact", "gaussian"])
def test_its_flats_simulated_are_its_flats(camera_a: PsfBank, shot: Literal["exact", "gaussian"]) -> None:
    """Mean and temporal variance in twelve tiles agree within 1 %, with one brightness for each flat and colour.

    Two frames a level and four simulated pairs of it tell the variance of 100 000 samples to 0.5 %, of a tile's three
    levels together to 0.29 %, one standard error.
    """
    plan, sensor = load_plan(TRUTH / "camera_a" / "captures"), Sensor(noise_of(camera_a), camera_a.camera.cfa, shot)
    frames = [plan.read(e, file) for e in plan.entries if e.kind == "flat" for file in e.files]
    pairs = [(a.pixels, b.pixels) for a, b in zip(frames[::2], frames[1::2], strict=True)]
    assert len(pairs) == 3
    y, x = np.indices(camera_a.camera.size_px)
    sites = cfa_sites(camera_a.camera.cfa, x.shape)
    shading = np.choose(sites, [camera_a.at().shading(x, y, c) for c in camera_a.camera.channels])
    rng, ratios = np.random.default_rng(0), []
    for pair in pairs:
        light = shading.copy()
        for c in range(3):
            light[sites == c] *= np.mean([frame[sites == c] for frame in pair]) / shading[sites == c].mean()
        taken = [[sensor.to_linear(sensor(light, rng)) for _ in range(2)] for _ in range(4)]
        simulated = np.mean([tile_moments(two, sites) for two in taken], axis=0)
        ratios.append(simulated / tile_moments(pair, sites))
    mean, variance = np.moveaxis(ratios, 1, 0)  # (levels, colours, tiles) each
    assert np.abs(mean - 1).max() < 0.01
    pooled = np.average(variance.mean(axis=0), axis=0, weights=[1, 2, 1])
    assert np.abs(pooled - 1).max() < 0.01
    assert variance.std() < 0.012  # of single tiles, levels and colours; by chance alone 0.009


def noise_of(bank: PsfBank) -> NoiseModel:
    noise = bank.at().noise
    assert noise is not None
    return noise


def tile_moments(pair: Sequence[FloatArray], sites: IntArray, rows: int = 3, columns: int = 4) -> FloatArray:
    """Mean and temporal variance (2, C, tiles) of two frames of one level, in tiles of the field."""
    first, second, colours = (
        a.reshape(rows, a.shape[0] // rows, columns, -1).swapaxes(1, 2).reshape(rows * columns, -1)
        for a in (np.asarray(pair[0], np.float64), np.asarray(pair[1], np.float64), sites)
    )
    own = [[(a[k == c], b[k == c]) for a, b, k in zip(first, second, colours, strict=True)] for c in range(3)]
    mean = [[(a.mean() + b.mean()) / 2 for a, b in tiles] for tiles in own]
    return np.array([mean, [[np.var(a - b, ddof=1) / 2 for a, b in tiles] for tiles in own]])


def test_its_boards_alone_give_psfs(tmp_path: Path) -> None:
    captures, folder = TRUTH / "camera_a" / "captures", tmp_path / "session"
    if not captures.is_dir():
        pytest.skip(f"{captures} is not there")
    head, *tables = (captures / "capture.toml").read_text("utf-8").split("[[capture]]")
    kinds = ("chessboard", "flat", "dark")
    kept = [table for table in tables if any(f'kind = "{kind}"' in table for kind in kinds)]
    for kind in kinds:
        shutil.copytree(captures / kind, folder / kind)
    (folder / "capture.toml").write_text("[[capture]]".join([head, *kept]), "utf-8")
    with ThreadPoolExecutor(2) as executor:
        bank = calibrate(folder, executor=executor)
    bank.save(tmp_path / "boards.h5")
    command = [sys.executable, TRUTH / "score.py", tmp_path / "boards.h5", TRUTH / "camera_a", "--json"]
    scores = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert scores["psf_rel_l2_median"] <= 0.045
    assert scores["psf_rel_l2_p90"] <= 0.08


@pytest.mark.parametrize(("name", "views", "heldout_rms_px"), [("dashcam", 10, 1.0), ("opencv_left", 13, 0.2)])
def test_boards_of_a_real_camera_give_a_map_and_nothing_else(name: str, views: int, heldout_rms_px: float) -> None:
    calibration = session(REAL / name)
    assert calibration.distortion is not None
    parts = (calibration.psf_grid, calibration.wavefront, calibration.illumination, calibration.noise)
    assert parts == (None,) * 4
    assert {"psf", "shading", "noise"} <= set(calibration.provenance["missing"])
    summary = calibration.provenance["summary"]["distortion"]
    assert summary["views"] == views
    assert summary["heldout_rms_px"] < heldout_rms_px
