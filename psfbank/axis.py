"""An axis along which a camera was calibrated: focus, zoom, or what moves a lens."""

from __future__ import annotations

import math
from dataclasses import dataclass

from psfbank.arrays import FloatArray, by_constructor, freeze

AXIS_KEYS = ("focus_m", "focal_mm", "pressure_kpa")  # settings that move an image continuously


@dataclass(frozen=True, eq=False)
class Axis:
    """A calibration's place among those of one axis: its setting's `key`, and how well its neighbours predict it.

    `left_out_px` (2,) is the 2-D RMS that the map which the other settings predict leaves of this setting's corners,
    poses refitted, and this setting's own held-out error; NaN where not known, as at the axis's ends.
    """

    key: str
    left_out_px: FloatArray

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, float, left_out_px="2")
        if self.key not in AXIS_KEYS:
            raise ValueError(f"`key` must be one of {', '.join(AXIS_KEYS)}, got {self.key!r}")


def axis_scale(key: str, value: float) -> float:
    """Bring a setting's value to the scale on which what it changes changes evenly; NaN stays NaN.

    A thin lens's image moves with the reciprocal of the focus distance (dioptres); focal length, f-number and ISO count
    by their logarithm; the power of a membrane lens follows the pressure itself.
    """
    if key == "focus_m":
        return 1.0 / value
    return value if key == "pressure_kpa" else math.log2(value)
