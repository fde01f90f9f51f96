"""Flats and darks -> noise of the sensor and relative illumination of the lens."""

from __future__ import annotations

from calib.photometry.illumination import fit_illumination
from calib.photometry.iso import MeasuredNoise, measure_by_iso
from calib.photometry.noise import fit_noise

__all__ = ["MeasuredNoise", "fit_illumination", "fit_noise", "measure_by_iso"]
