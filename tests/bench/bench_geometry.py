"""Fit real corners beside OpenCV's models, and hold what maps say of themselves to held-out corners and known lenses.

python tests/bench/bench_geometry.py ../shared [known lenses]

Corners come from files that are no part of this repository; see PSFBANK_SHARED in the tests. Errors are 2-D, px, of
views that were not fitted, with their poses refitted; times are CPU seconds. mrcal stands beside where it is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import process_time

import cv2
import mrcal_fit
import numpy as np
from scipy.spatial.transform import Rotation

from calib.geometry import DistortionFit, bundle, fit_distortion, fit_poses, observe
from psfbank.model import Corners

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_geometry import SIZE, _fisheye_plane, barrel, views
from test_geometry_uncertainty import errors_in_deviations

PICTURE = (800, 1280)
MRCAL = {
    "mrcal, OpenCV 8": "LENSMODEL_OPENCV8",
    "mrcal, spline": "LENSMODEL_SPLINED_STEREOGRAPHIC_order=3_Nx=20_Ny=13_fov_x_deg=110",
}
MAD = 1.4826  # standard deviation over the median of absolute values


def webcam(shared: Path) -> Corners:
    """108 + 108 boards of 13 x 8 corners, in the order of their files."""
    lines = (shared / "real/corners/webcam_13x8_1280x800.vnl").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    names = sorted({row[0] for row in rows})
    values = {name: [row[1:4] for row in rows if row[0] == name] for name in names}
    found = np.array([[v[0] != "-" and v[2] != "-" for v in values[name]] for name in names])
    image = np.array([[[float(a) if a != "-" else 0.0 for a in v[:2]] for v in values[name]] for name in names])
    board = np.stack(np.meshgrid(np.arange(13), np.arange(8)), axis=-1).reshape(-1, 2) * 40.0
    return Corners(np.tile(board, (len(names), 1, 1)), image, found)


def some(corners: Corners, which: slice) -> Corners:
    return Corners(corners.object_mm[which], corners.image_px[which], corners.found[which])


def lengths(residual: np.ndarray) -> np.ndarray:
    return np.linalg.norm(residual[np.isfinite(residual[..., 0])], axis=1)


def opencv(train: Corners, test: Corners, flags: int) -> np.ndarray:
    """Held-out residuals (N,) of an OpenCV model, poses refitted by its own solver."""
    objects = [
        np.column_stack([o[f], np.zeros(f.sum())]).astype(np.float32)
        for o, f in zip(train.object_mm, train.found, strict=True)
    ]
    images = [i[f].astype(np.float32) for i, f in zip(train.image_px, train.found, strict=True)]
    _, matrix, lens, _, _ = cv2.calibrateCamera(objects, images, PICTURE[::-1], None, None, flags=flags)
    left = []
    for o, i, f in zip(test.object_mm, test.image_px, test.found, strict=True):
        if f.sum() >= observe.LEAST_POINTS:
            solid = np.column_stack([o[f], np.zeros(f.sum())])
            _, turn, move = cv2.solvePnP(solid, i[f], matrix, lens)
            turn, move = cv2.solvePnPRefineLM(solid, i[f], matrix, lens, turn, move)
            left.append(i[f] - cv2.projectPoints(solid, turn, move, matrix, lens)[0].reshape(-1, 2))
    return np.linalg.norm(np.concatenate(left), axis=1)


def heldout_in_deviations(fit: DistortionFit, corners: Corners, noise_px: float) -> np.ndarray:
    """Residuals of new views over the deviation of noise and map, less what a pose of their own takes of both."""
    lens = fit.distortion
    assert lens.uncertainty is not None
    base = bundle.Base(np.diag(lens.camera_matrix)[:2], lens.camera_matrix[:2, 2], lens.knots_x, lens.knots_y)
    poses, _ = fit_poses(fit, corners)
    seen = observe.observe(corners, np.full(len(poses), -1), None, 0)
    seen = replace(seen, monomials=fit.board_shape.height_mm(seen.object_mm)[:, None])
    known = np.nan_to_num(poses)
    turns = Rotation.from_rotvec(known[:, :3]).as_matrix()
    state = bundle.State(turns, known[:, 3:], lens.coefficients[0], np.ones(1), np.zeros((2, 0)))
    linear = bundle.linearise(base, seen, state)
    out = []
    for v in np.unique(seen.view):
        of = seen.view == v
        pose, left = linear.pose[of].reshape(-1, 6), linear.residual[of].ravel()
        remains = np.eye(len(left)) - pose @ np.linalg.pinv(pose)
        modes = lens.uncertainty.displacements(linear.u[of], lens.knots_x, lens.knots_y, 0)
        moved = remains @ modes.transpose(0, 2, 1).reshape(len(left), -1)
        out.append(left / np.sqrt(np.sum(moved**2, axis=1) + noise_px**2 * np.diag(remains)))
    return np.concatenate(out)


Other = tuple[str, Callable[[], np.ndarray]]  # a model's name, and what it leaves of the held-out corners


def compare(name: str, train: Corners, test: Corners, others: Sequence[Other]) -> None:
    def line(model: str, work: Callable[[], np.ndarray]) -> None:
        begun = process_time()
        left = work()
        sys.stdout.write(
            f"{name:8s} {model:18s} rms {np.sqrt(np.mean(left**2)):.4f}  median {np.median(left):.4f}  "
            f"p95 {np.percentile(left, 95):.3f}  {process_time() - begun:.1f} s\n"
        )

    for other in others:
        line(*other)
    fits: list[DistortionFit] = []

    def ours() -> np.ndarray:
        fits.append(fit_distortion(train, PICTURE))
        return lengths(fit_poses(fits[0], test)[1])

    line("spline map", ours)
    inside = fit_poses(fits[0], train)[1]
    noise_px = MAD * float(np.nanmedian(np.abs(inside)))
    z = np.abs(heldout_in_deviations(fits[0], test, noise_px))
    sys.stdout.write(
        f"{name:8s} noise {noise_px:.3f} px; of what is held out, {100 * np.mean(z < 1):.0f} % within one deviation, "
        f"{100 * np.mean(z < 2):.0f} % within two; {len(fits[0].outliers)} outliers\n"
    )


def known_lenses(count: int) -> None:
    for boards in (8, 14, 30):
        z = [
            np.abs(errors_in_deviations(fit_distortion(views(boards, s), SIZE), barrel))
            for s in range(200, 200 + count)
        ]
        one, two = (100 * np.mean([np.mean(part < k) for part in z]) for k in (1, 2))
        rms = np.sqrt(np.mean(np.concatenate(z) ** 2))
        sys.stdout.write(
            f"{count} lenses by {boards} boards: {one:.0f} % of errors within one deviation, {two:.0f} % within two, "
            f"rms {rms:.2f} deviations\n"
        )


def main(shared: Path, count: int) -> None:
    corners = webcam(shared)
    train, test = some(corners, slice(0, None, 2)), some(corners, slice(1, None, 2))
    others: list[Other] = [
        ("OpenCV, 5 terms", partial(opencv, train, test, 0)),
        ("OpenCV, rational", partial(opencv, train, test, cv2.CALIB_RATIONAL_MODEL)),
    ]
    if mrcal_fit.THERE:
        others += [
            (name, partial(mrcal_fit.heldout, train, test, (8, 13), PICTURE, model, 500.0))
            for name, model in MRCAL.items()
        ]
    else:
        sys.stdout.write("mrcal is not installed beside this Python\n")
    compare("webcam", train, test, others)
    compare("fisheye", _fisheye_plane("train"), _fisheye_plane("test"), [])
    known_lenses(count)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 24)
