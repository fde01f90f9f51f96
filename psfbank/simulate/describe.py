"""What a simulation does, in words and numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from psfbank.sensor import Sensor

if TYPE_CHECKING:
    from psfbank.simulate.simulator import Simulator


def described(simulator: Simulator) -> list[str]:
    """Name every stage in its order, with its numbers, a line each; what happens to the source first."""
    scale = simulator.source_scale
    first = f"source: {scale} x {scale} samples a pixel, white at {simulator.exposure:g} of the white level"
    if scale > 1 and "blur" not in simulator.stages:
        first += ", brought down by a low-pass filter"
    if "white_balance" in simulator.stages or "colour" in simulator.stages:
        first += ", taken from sRGB to the camera's colours"
    numbers = _numbers(simulator)
    lines = [stage if isinstance(stage, str) else stage.describe() for stage in simulator.stages]
    told = [f"{place}. {line}" for place, line in enumerate(lines, 1)]
    for k, line in enumerate(lines):
        if line in numbers:
            told[k] += f": {numbers[line]}"
    return [first, *told]


def _numbers(simulator: Simulator) -> dict[str, str]:
    cal, development = simulator.cal, simulator.development
    gains = np.asarray(development.gains) * development.brightness
    rows = "; ".join(_listed(row) for row in development.matrix)
    numbers = {
        "mosaic": simulator.cfa,
        "demosaic": simulator.demosaic,
        "white_balance": f"gains {_listed(gains)}, clipped at white",
        "colour": f"camera to sRGB {rows}",
        "tone": repr(development.tone),
        "jpeg": f"quality {simulator.jpeg_quality}, {simulator.jpeg_subsampling}",
    }
    if cal.distortion is not None:
        focal_px = _listed(np.diag(cal.distortion.camera_matrix)[:2])
        numbers["distortion"] = f"maps of {' '.join(simulator.channels)}, focal length {focal_px} px, edges mirrored"
    if cal.psf_grid is not None:
        _, down, across, size, _ = cal.psf_grid.kernels.shape
        width_px = size / cal.psf_grid.oversample
        numbers["blur"] = f"{across} x {down} PSFs, {width_px:.3g} px wide, {simulator.mode}, edges mirrored"
    if cal.illumination is not None:
        numbers["shading"] = f"down to {cal.illumination.relative.min():.3g} of the peak"
    if simulator.sensor is not None:
        numbers |= _of_sensor(simulator.sensor)
    return numbers


def _of_sensor(sensor: Sensor) -> dict[str, str]:
    noise = sensor.noise
    words = [f"gain {_listed(noise.gain_dn_per_e)} DN/e-", f"read noise {_listed(noise.read_noise_e)} e-"]
    words += [f"{sensor.shot} shot noise"]
    if sensor.exposure_s and np.nan_to_num(noise.dark_e_per_s).any():
        words.append(f"dark current {_listed(noise.dark_e_per_s)} e-/s over {sensor.exposure_s:g} s")
    if sensor.prnu_seed is not None and np.nan_to_num(noise.prnu).any():
        words.append(f"PRNU {_listed(100 * noise.prnu)} %, sensor {sensor.prnu_seed}")
    if math.isfinite(sensor.full_well_e):
        words.append(f"full well {sensor.full_well_e:g} e-")
    if sensor.mixture is not None:
        words.append(f"read noise of {len(sensor.mixture.share)} Gaussians")
    for name, value_e in (("row", sensor.row_noise_e), ("column", sensor.column_noise_e)):
        if value_e:
            words.append(f"{name} noise {value_e:g} e-")
    levels = f"black {_listed(noise.black_dn)} DN, white {_listed(noise.white_dn)} DN"
    return {"noise": ", ".join(words), "quantise": levels}


def _listed(values: npt.ArrayLike) -> str:
    return " ".join(f"{value:.4g}" for value in np.asarray(values))
