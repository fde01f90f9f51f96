"""How long the whole camera takes, lens to JPEG, beside a stationary convolution; how much memory; how fast are crops.

python tests/bench/bench_camera.py [size_px]

The picture is RGB, the PSFs are 33 x 33 on 9 x 9 nodes; then shading, mosaic, noise, quantisation, white balance,
Malvar's demosaic, colour matrix, tone curve and JPEG. The unit is one stationary convolution of the three channels by
`scipy.fft` (`rfft2`, padded to a fast length, transfer function kept, two threads) of the same picture in the same run:
best of several, interleaved. degradr 1.0 (one kernel an image, no demosaic) took 50 such units on a 2048 x 2048 picture
on another 2-core machine.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from scipy import fft
from threadpoolctl import threadpool_limits
from timing import interleaved

from psfbank import Simulator
from psfbank.isp import Development
from psfbank.model import Calibration, Illumination, NoiseModel, PsfGrid
from psfbank.sensor import Sensor

KERNEL, NODES, CROP = 33, 9, 256
STAGES = (*("blur", "shading", "mosaic", "noise", "quantise"), *("white_balance", "demosaic", "colour", "tone", "jpeg"))
DEVELOPMENT = Development((2.0, 1.0, 1.6), ((1.7, -0.5, -0.2), (-0.2, 1.6, -0.4), (0.0, -0.5, 1.5)))


def camera(size: int) -> Calibration:
    """Gaussian PSFs that widen and stretch towards the corners, 1 to 4 px."""
    nodes = np.linspace(0, size - 1, NODES)
    at = np.arange(KERNEL) - KERNEL // 2
    field = np.linspace(-1, 1, NODES)
    width = [1 + 3 * np.abs(field)[:, None, None, None] * np.ones((1, NODES, 1, 1)), None]
    width[1] = np.swapaxes(width[0], 0, 1)
    kernels = np.exp(-0.5 * ((at[:, None] / width[0]) ** 2 + (at[None] / width[1]) ** 2))
    kernels = np.stack([kernels / kernels.sum((-2, -1), keepdims=True)] * 3)
    light = 1 - 0.4 * (field[:, None] ** 2 + field[None] ** 2) / 2
    return Calibration(
        psf_grid=PsfGrid(nodes, nodes, kernels),
        illumination=Illumination(nodes, nodes, np.stack([light / light.max()] * 3)),
        noise=NoiseModel([0.25] * 3, [2.5] * 3, [0.1] * 3, [0.004] * 3, [64.0] * 3, [1023.0] * 3),
    )


def simulator(size: int, shot: str, workers: int | None = None, stages: tuple[str, ...] = STAGES) -> Simulator:
    cal = camera(size)
    assert cal.noise is not None
    return Simulator(
        cal, stages, size_px=(size, size), development=DEVELOPMENT, sensor=Sensor(cal.noise, shot=shot), workers=workers
    )


def picture(size: int) -> np.ndarray:
    return np.random.default_rng(0).random((size, size, 3), dtype=np.float32)


def stationary(image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    shape = tuple(fft.next_fast_len(n + KERNEL - 1, real=True) for n in image.shape[:2])
    kernel = np.full((KERNEL, KERNEL), 1 / KERNEL**2, dtype=np.float32)
    return fft.rfft2(kernel, s=shape, workers=2), shape


def convolve(image: np.ndarray, transfer: np.ndarray, shape: tuple[int, int], workers: int = 2) -> None:
    for c in range(3):
        fft.irfft2(fft.rfft2(image[..., c], s=shape, workers=workers) * transfer, s=shape, workers=workers)


def whole(size: int) -> None:
    image, rng = picture(size), np.random.default_rng(1)
    transfer, shape = stationary(image)
    chains = {f"whole camera, {shot} noise": simulator(size, shot) for shot in ("exact", "gaussian")}
    chains["its blur alone"] = simulator(size, "exact", stages=("blur",))
    runs = {name: partial(chain, image, rng) for name, chain in chains.items()}
    seconds = interleaved({"unit": partial(convolve, image, transfer, shape), **runs}, 5)
    unit = seconds["unit"][:, 0]
    for name in chains:
        took = seconds[name][:, 0]
        sys.stdout.write(
            f"{name:32s} {took.min() / unit.min():6.2f} units (medians {np.median(took) / np.median(unit):.2f})\n"
        )


def memory(size: int) -> None:
    """Peak of a process that simulates, less that of one that only holds the picture and the code."""
    peaks = {}
    for name in ("hold", "simulate"):
        told = subprocess.run([sys.executable, __file__, str(size), name], capture_output=True, text=True, check=True)
        peaks[name] = int(told.stdout)
    copies = (peaks["simulate"] - peaks["hold"]) * 1024 / (size * size * 3 * 4)
    sys.stdout.write(f"memory beside the picture: {copies:.1f} float32 copies of it\n")


def one(size: int, what: str) -> None:
    image = picture(size)
    chain = simulator(size, "exact")
    if what == "simulate":
        chain(image, np.random.default_rng(0))
    # not ru_maxrss, which begins at what the parent process held
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    sys.stdout.write(peak.split()[1])


def crops(size: int) -> None:
    """Crops at random places of the sensor, as in the midst of a long run; processor time of one thread."""
    rng = np.random.default_rng(2)
    image = picture(CROP)
    transfer, shape = stationary(image)
    chains = {shot: simulator(size, shot, workers=1) for shot in ("exact", "gaussian")}
    for at in product(range(0, size - CROP + 1, CROP // 2), repeat=2):
        for chain in chains.values():  # every node's transfer function is made once
            chain(image, rng, origin=at)
    places = [tuple(rng.integers(0, (size - CROP) // 2, 2) * 2) for _ in range(60)]

    def run(chain: Simulator) -> None:
        for at in places:
            chain(image, rng, origin=at)

    def unit() -> None:
        for _ in places:
            convolve(image, transfer, shape, 1)

    cv2.setNumThreads(1)
    with threadpool_limits(1):
        seconds = interleaved({"unit": unit, **{shot: partial(run, chain) for shot, chain in chains.items()}}, 5)
    once = seconds["unit"][:, 1].min()
    for shot in chains:
        took = seconds[shot][:, 1].min()
        sys.stdout.write(
            f"crop of {CROP} x {CROP}, {shot} noise: {took / once:.1f} units, {len(places) / took:.0f} a second here\n"
        )


if __name__ == "__main__":
    pixels = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    if len(sys.argv) > 2:
        one(pixels, sys.argv[2])
    else:
        whole(pixels)
        memory(pixels)
        crops(pixels)
