"""Time of the blur against plain convolutions in the same run: `python tests/bench/bench_blur.py`.

2048 x 2048 float32, kernels of 33 x 33, 9 x 9 nodes. Ratios carry from one machine to another, seconds do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scipy import fft, signal

from psfbank.blur import SpatiallyVaryingBlur
from psfbank.model import PsfGrid

SIZE, KERNEL, NODES, WORKERS, REPEATS = 2048, 33, 9, 2, 7


def interleaved(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Best time of each, taken in turns so that a busy moment of the machine hits all alike."""
    best = dict.fromkeys(runs, np.inf)
    for _ in range(REPEATS + 1):  # the first round fills the caches
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main() -> None:
    rng = np.random.default_rng(0)
    kernels = rng.random((1, NODES, NODES, KERNEL, KERNEL)) ** 4
    kernels /= kernels.sum((-2, -1), keepdims=True)
    nodes = np.linspace(0, SIZE - 1, NODES)
    grid = PsfGrid(nodes, nodes, kernels, channels=("Y",))
    image = rng.random((SIZE, SIZE), dtype=np.float32)
    kernel = kernels[0, 0, 0].astype(np.float32)
    shape = 2 * (fft.next_fast_len(SIZE + KERNEL - 1, real=True),)
    transfer = fft.rfft2(kernel, s=shape)

    def plain() -> object:
        return fft.irfft2(fft.rfft2(image, s=shape, workers=WORKERS) * transfer, s=shape, workers=WORKERS)

    scatter, gather = (
        SpatiallyVaryingBlur(grid, image.shape, mode=mode, workers=WORKERS) for mode in ("scatter", "gather")
    )
    times = interleaved(
        {
            "one scipy.fft convolution, cached transfer function": plain,
            "scipy.signal.fftconvolve": lambda: signal.fftconvolve(image, kernel, mode="same"),
            "scatter forward": lambda: scatter.forward(image),
            "scatter adjoint": lambda: scatter.adjoint(image),
            "gather forward": lambda: gather.forward(image),
            "gather adjoint": lambda: gather.adjoint(image),
        }
    )
    reference = times["one scipy.fft convolution, cached transfer function"]
    for name, seconds in times.items():
        rate = f"{1e3 * seconds:7.1f} ms  {image.size / seconds / 1e6:6.1f} MP/s  x {seconds / reference:.2f}"
        print(f"{name:54s} {rate}")  # noqa: T201 its result


if __name__ == "__main__":
    main()
