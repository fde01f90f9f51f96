"""Time of every degradation on a picture of 1024 x 1024 RGB, one thread: `python tests/bench/bench_degrade.py`.

Beside that: how long a lens like the calibrated one takes to render, 9 x 9 nodes of three channels.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from psfbank.degrade import CATALOGUE, parse, perturbed
from psfbank.model import Calibration, Imaging, PsfGrid, ZernikeField
from psfbank.zernike import noll_terms

SIZE, NODES, KERNEL, REPEATS = 1024, 9, 33, 3


def best(run: Callable[[], object]) -> float:
    """Shortest time of a run, s."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def lens() -> Calibration:
    """A lens of twelve Zernike terms at f/2 whose PSFs are those of its wavefront."""
    at, tiles = np.linspace(0, 2000, NODES), (3, NODES, NODES)
    nm = noll_terms(4, 15)
    coefficients = np.broadcast_to(np.linspace(30, 5, len(nm)), (*tiles, len(nm)))
    wavelengths = np.array([[600.0, 620.0], [525.0, 545.0], [455.0, 475.0]])
    imaging = Imaging(wavelengths, np.ones((3, 2)), np.full(3, 0.28), np.full((*tiles, 3), [0.0, 0.0, 1.2]), 1.4)
    unknown = np.full(coefficients.shape, np.nan)
    field = ZernikeField(at, at, coefficients, unknown, nm, wavelengths.mean(1), 2.0, np.zeros(tiles), imaging=imaging)
    point = np.zeros((*tiles, KERNEL, KERNEL))
    point[..., KERNEL // 2, KERNEL // 2] = 1
    cal = Calibration(psf_grid=PsfGrid(at, at, point), wavefront=field)
    renderer = cal.renderer
    assert renderer is not None
    kernels = [[[renderer.wavefront_kernel(c, x, y) for x in at] for y in at] for c in range(3)]
    return replace(cal, psf_grid=PsfGrid(at, at, np.array(kernels)))


def main() -> None:
    """Print a line a degradation."""
    image = np.random.default_rng(0).random((SIZE, SIZE, 3), dtype=np.float32)
    for name in CATALOGUE:
        degradation = parse(name)

        def run(degradation=degradation) -> None:
            degradation(image, np.random.default_rng(0))

        seconds = best(run)
        sys.stdout.write(f"{1e3 * seconds:8.1f} ms {SIZE**2 / 1e6 / seconds:7.1f} MP/s  {degradation.describe()}\n")
    cal = lens()
    drawn = best(lambda: perturbed(cal, np.random.default_rng(0), rms_nm=15.0))
    count = 3 * NODES**2
    sys.stdout.write(
        f"{1e3 * drawn:8.1f} ms for a perturbed lens, {count} kernels of {KERNEL} x {KERNEL}: "
        f"{1e3 * drawn / count:.2f} ms a kernel\n"
    )


if __name__ == "__main__":
    main()
