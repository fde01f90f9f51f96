"""Corners and point grids -> a distortion map, poses and the targets' shape."""

from __future__ import annotations

from calib.geometry.coverage import Coverage
from calib.geometry.fit import DistortionFit, fit_distortion, fit_poses
from calib.geometry.observe import join
from calib.geometry.shape import BoardShape

__all__ = ["BoardShape", "Coverage", "DistortionFit", "fit_distortion", "fit_poses", "join"]
