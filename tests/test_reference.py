"""Reference sessions that lie beside the repository, where they are there: what was reached is held."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from calib import calibrate
from psfbank.bank import PsfBank
from psfbank.model import Calibration

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


def test_a_camera_with_known_truth(tmp_path: Path) -> None:
    folder = TRUTH / "camera_a"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    with ThreadPoolExecutor(2) as executor:
        bank: PsfBank = calibrate(folder / "captures", executor=executor)
    bank.save(tmp_path / "a.h5")
    command = [sys.executable, TRUTH / "score.py", tmp_path / "a.h5", folder, "--json"]
    scores = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert not [key for key in scores if key.startswith("failed")], scores
    assert {key: scores[key] for key in AT_MOST if scores[key] > AT_MOST[key]} == {}
    assert scores["replay_psnr_db"] >= LEAST_PSNR_DB
    assert bank.at().provenance["flagged"] == []


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
