"""ROS: the YAML file of a camera_info, as camera_calibration_parsers read it.

Models are OpenCV's under other names, pixels too. The rectification is the identity and the projection that of the
camera itself, as for one camera alone.
"""

from __future__ import annotations

import json
import re

import numpy as np

from psfbank.arrays import FloatArray
from psfbank.interop.parametric import Model, Parametric
from psfbank.model import Camera

NAMES: dict[Model, str] = {"brown5": "plumb_bob", "fisheye4": "equidistant", "rational8": "rational_polynomial"}


def camera_info(fit: Parametric, camera: Camera) -> str:
    """Write one fitted model as a camera_info file."""
    height, width = camera.size_px
    name = re.sub(r"[^A-Za-z0-9_]+", "_", f"{camera.maker} {camera.model}").strip("_") or "camera"
    projection = np.column_stack([fit.camera_matrix, np.zeros(3)])
    lines = [
        f"# channel {fit.loss.channel}: off by {fit.loss.rms_px:.4g} px RMS, {fit.loss.max_px:.4g} px at most",
        f"image_width: {width}",
        f"image_height: {height}",
        f"camera_name: {name}",
        *_matrix("camera_matrix", fit.camera_matrix),
        f"distortion_model: {NAMES[fit.model]}",
        *_matrix("distortion_coefficients", fit.coefficients[None]),
        *_matrix("rectification_matrix", np.eye(3)),
        *_matrix("projection_matrix", projection),
    ]
    return "\n".join(lines) + "\n"


def _matrix(name: str, values: FloatArray) -> list[str]:
    rows, columns = values.shape
    # repr keeps every digit, but YAML 1.1 takes 1e-05 for a word: its floats have a point
    numbers = [re.sub(r"^(-?\d+)e", r"\1.0e", json.dumps(value)) for value in values.ravel().tolist()]
    return [f"{name}:", f"  rows: {rows}", f"  cols: {columns}", f"  data: [{', '.join(numbers)}]"]
