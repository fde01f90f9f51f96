"""Point images -> the lens's wavefront: one smooth field fitted to all of them at once."""

from __future__ import annotations

from calib.wavefront.joint import WavefrontFit, fit_wavefront
from calib.wavefront.pose import Pieces, field_position, pose_problem

__all__ = ["Pieces", "WavefrontFit", "field_position", "fit_wavefront", "pose_problem"]
