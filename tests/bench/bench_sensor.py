"""Time of the sensor against numpy's own draws in the same run: `python tests/bench/bench_sensor.py`.

A mosaic of 2048 x 2048 and a crop of 256 x 256, one thread. Ratios carry from one machine to another, seconds do not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from timing import best

from psfbank.model import NoiseModel
from psfbank.sensor import Sensor, mosaic

SIZE, CROP, REPEATS = 2048, 256, 9
REFERENCE = "numpy: Poisson and Gaussian draws alone"


def steps(size: int) -> dict[str, Callable[[], object]]:
    """Build what is timed, for one size of picture."""
    rng = np.random.default_rng(0)
    levels = (np.full(3, value) for value in (0.62, 2.6, 0.0, 0.005, 256.0, 4095.0))
    exact = Sensor(NoiseModel(*levels))
    near = Sensor(exact.noise, shot="gaussian")
    image = rng.random((size, size, 3), dtype=np.float32)
    light = mosaic(image, "RGGB")
    own = exact.sensitivity(light.shape)
    dn = exact(light, rng, sensitivity=own)
    expected_e = light.astype(np.float64) * (4095 - 256) / 0.62
    return {
        REFERENCE: lambda: rng.poisson(expected_e) + rng.standard_normal(light.shape, dtype=np.float32),
        "mosaic": lambda: mosaic(image, "RGGB"),
        "sensitivities of one window": lambda: exact.sensitivity(light.shape),
        "noise and quantisation, exact": lambda: exact(light, rng, sensitivity=own),
        "noise and quantisation, gaussian": lambda: near(light, rng, sensitivity=own),
        "quantisation alone": lambda: exact(light, rng, noise=False),
        "back to linear light": lambda: exact.to_linear(dn),
    }


def main() -> None:
    lines = []
    for size in (SIZE, CROP):
        times = best(steps(size), REPEATS)
        lines.append(f"{size} x {size}")
        for name, seconds in times.items():
            rate = f"{1e3 * seconds:8.2f} ms  {size * size / seconds / 1e6:6.1f} MP/s"
            lines.append(f"  {name:42s} {rate}  x {seconds / times[REFERENCE]:.2f}")
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
