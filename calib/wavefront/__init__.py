"""Point images -> the lens's wavefront: one smooth field fitted to all of them at once, or a tile by itself."""

from __future__ import annotations

from calib.wavefront.diversity import Planes, objective_planes, parabolic_planes
from calib.wavefront.joint import WavefrontFit, fit_wavefront
from calib.wavefront.parameters import Extras, TileImages, Within
from calib.wavefront.pose import FocusPlanes, Pieces, field_position, pose_problem
from calib.wavefront.symmetry import MirrorFit, fit_mirrored, mirror_signs
from calib.wavefront.tile import FNumberTest, TileFit, check_f_number, fit_tile, predict

__all__ = [
    "Extras",
    "FNumberTest",
    "FocusPlanes",
    "MirrorFit",
    "Pieces",
    "Planes",
    "TileFit",
    "TileImages",
    "WavefrontFit",
    "Within",
    "check_f_number",
    "field_position",
    "fit_mirrored",
    "fit_tile",
    "fit_wavefront",
    "mirror_signs",
    "objective_planes",
    "parabolic_planes",
    "pose_problem",
    "predict",
]
