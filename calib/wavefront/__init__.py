"""Point images -> the lens's wavefront: one smooth field fitted to all of them at once."""

from __future__ import annotations

from calib.wavefront.joint import WavefrontFit, field_position, fit_wavefront

__all__ = ["WavefrontFit", "field_position", "fit_wavefront"]
