"""Shoot one lens at several focus distances, calibrate the session, and ask for a focus between: how far off is it?

python tests/bench/bench_settings.py [WORK_DIR]

The lens breathes (its focal length and its distortion change with focus), its field curvature and defocus move. Points
and boards are rendered at each focus; flats and darks once. Printed for every focus: the error of its own calibration,
and that of `bank.at(focus_m=...)` from a bank that lacks it, both against the truth, and the error found by
leaving it out, to be no more than 1.2 times what held-out views say of the setting's own map (the last column).
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from accuracy import compare

from calib import calibrate
from calib.synth_camera import camera_of
from calib.synth_lens import PHONE, LensDesign
from calib.synth_session import write_session
from psfbank.bank import PsfBank

WIDTH, HEIGHT = 480, 360
FOCUS_M = (0.15, 0.2, 0.3, 0.6, 3.0)
FIGURES = ("psf_rel_l2_median", "psf_rel_l2_p90", "geometry_rms_px", "lateral_ca_R_rms_px", "lateral_ca_B_rms_px")


def focused(focus_m: float) -> LensDesign:
    """The phone's lens as its elements move to focus nearer: all its numbers are smooth in dioptres."""
    d = 1 / focus_m
    constant, curvature, fourth, tilt = PHONE.defocus_nm
    return replace(
        PHONE,
        focal_widths=PHONE.focal_widths * (1 + 0.004 * d + 1e-4 * d**2),
        radial=(PHONE.radial[0] - 0.004 * d, PHONE.radial[1] + 0.001 * d),
        defocus_nm=(constant + 3.0 * d, curvature - 2.5 * d, fourth, tilt),
        coma_nm=(PHONE.coma_nm[0] + 1.5 * d, PHONE.coma_nm[1]),
    )


def truth_at(focus_m: float) -> PsfBank:
    bank = camera_of(focused(focus_m), WIDTH, HEIGHT)
    only = bank.at()
    setting = replace(only.setting, focus_m=focus_m, focal_mm=4.0)  # the nominal one, as a file's header gives it
    return PsfBank(bank.camera, (replace(only, setting=setting),))


def write_settings(folder: Path) -> list[PsfBank]:
    """Write one session of all focus distances, and return the truth at each."""
    truths, plans = [], []
    for k, focus_m in enumerate(FOCUS_M):
        truth = truth_at(focus_m)
        part = f"at_{k}"
        write_session(truth, folder / part, np.random.default_rng(k))
        head, *entries = (folder / part / "capture.toml").read_text(encoding="utf-8").split("[[capture]]\n")
        head = "\n".join(line for line in head.splitlines() if not line.startswith("focus_m"))
        plans = plans or [head + "\n"]
        kinds = ("led", "chessboard", "flat", "dark") if k == 0 else ("led", "chessboard")
        for entry in entries:
            kind = entry.split('"')[1]
            if kind in kinds:
                at = f"focus_m = {focus_m}\n" if kind in ("led", "chessboard") else ""
                plans.append(entry.strip().replace(f'"{kind}/', f'"{part}/{kind}/') + "\n" + at)
        truths.append(truth)
    (folder / "capture.toml").write_text("[[capture]]\n".join(plans), encoding="utf-8")
    return truths


def main(folder: Path) -> None:
    truths = write_settings(folder)
    bank = calibrate(folder)
    bank.save(folder / "bank.h5")
    say(bank, truths)


def say(bank: PsfBank, truths: list[PsfBank]) -> None:
    sys.stdout.write(f"{'focus, m':>9} {'':9} " + " ".join(f"{name:>20}" for name in FIGURES) + "  left out/own\n")
    for focus_m, truth in zip(FOCUS_M, truths, strict=True):
        own = bank.at(focus_m=focus_m)
        rows = [("own", own)]
        if focus_m not in (FOCUS_M[0], FOCUS_M[-1]):
            rest = PsfBank(bank.camera, tuple(c for c in bank.calibrations if c.setting.focus_m != focus_m))
            rows.append(("between", rest.at(focus_m=focus_m)))
        for name, got in rows:
            figures = compare(got, truth.at(), bank.camera.size_px)
            told = own.axis.left_out_px if own.axis is not None else (np.nan, np.nan)
            numbers = " ".join(f"{figures[key]:20.4f}" for key in FIGURES)
            sys.stdout.write(f"{focus_m:9g} {name:9} {numbers}  {told[0]:.4f}/{told[1]:.4f}\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
