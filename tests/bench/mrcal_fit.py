"""The same corners through mrcal, where it is installed: its own steps, from a stereographic seed to a splined model.

mrcal has wheels for Python 3.12 and newer: `pip install --no-deps mrcal && pip install numpysane gnuplotlib pyyaml
shapely` beside psfbank.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from psfbank.model import Corners

THERE = find_spec("mrcal") is not None


def heldout(
    train: Corners, test: Corners, board: tuple[int, int], size_px: tuple[int, int], model: str, focal_px: float
) -> np.ndarray:
    """Held-out residual lengths (N,), px, of a mrcal model; poses refitted by mrcal with the model held.

    `board` is (rows, columns) of the corners, `size_px` (H, W), `focal_px` where its seed begins.
    """
    import mrcal

    spacing = float(np.ptp(train.object_mm[0, :, 0])) / (board[1] - 1)
    common: dict[str, Any] = {
        "imagersizes": np.array([[size_px[1], size_px[0]]], dtype=np.int32),
        "calibration_object_spacing": spacing,
        "rt_cam_ref": np.zeros((0, 6)),
        "points": None,
        "verbose": False,
    }
    seen, indices = _observations(train, board)
    seeds = mrcal.seed_stereographic(common["imagersizes"], focal_px, indices[:, :2].copy(), seen, spacing)
    core, _, frames = (np.ascontiguousarray(s) for s in seeds)
    warp = np.zeros(2)

    def adjust(lens: np.ndarray, name: str, poses: np.ndarray, observed: np.ndarray, which: np.ndarray, **free: bool):
        return mrcal.optimize(
            lens,
            rt_ref_frame=poses,
            observations_board=observed,
            indices_frame_camintrinsics_camextrinsics=which,
            lensmodel=name,
            calobject_warp=warp,
            **common,
            **{
                "do_optimize_intrinsics_core": True,
                "do_optimize_intrinsics_distortions": True,
                "do_optimize_calobject_warp": False,
                "do_apply_outlier_rejection": False,
                "do_apply_regularization": True,
                **free,
            },
        )

    adjust(core, "LENSMODEL_STEREOGRAPHIC", frames, seen, indices)
    count = mrcal.lensmodel_num_params(model)
    lens = np.concatenate([core[0], np.zeros(count - 4)])[None]
    if "SPLINED" not in model:
        lens[0, 4:] = 1e-6 * np.random.default_rng(0).standard_normal(count - 4)
    adjust(lens, model, frames, seen, indices, do_optimize_intrinsics_core="SPLINED" not in model)
    last = {"do_optimize_intrinsics_core": "SPLINED" not in model, "do_optimize_calobject_warp": True}
    adjust(lens, model, frames, seen, indices, **last)
    adjust(lens, model, frames, seen, indices, **last, do_apply_outlier_rejection=True)

    held, which = _observations(test, board)
    _, _, poses = mrcal.seed_stereographic(common["imagersizes"], float(core[0, 0]), which[:, :2].copy(), held, spacing)
    poses = np.ascontiguousarray(poses)
    fixed = {"do_optimize_intrinsics_core": False, "do_optimize_intrinsics_distortions": False}
    told = adjust(lens, model, poses, held, which, **fixed, do_apply_regularization=False)
    left = told["x"][: 2 * held[..., 0].size].reshape(-1, 2)[held[..., 2].ravel() > 0]
    return np.linalg.norm(left, axis=1)


def _observations(corners: Corners, board: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    weight = np.where(corners.found, 1.0, -1.0)
    image = np.where(corners.found[..., None], corners.image_px, -1.0)
    seen = np.concatenate([image, weight[..., None]], axis=-1).reshape(-1, *board, 3)
    views = np.arange(len(seen), dtype=np.int32)
    return seen, np.column_stack([views, np.zeros_like(views), np.full_like(views, -1)])
