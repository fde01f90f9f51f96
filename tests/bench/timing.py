"""How benches time: runs in turns, so that a busy moment of the machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Runs = Mapping[str, Callable[[], object]]


def interleaved(runs: Runs, repeats: int) -> dict[str, npt.NDArray[np.float64]]:
    """Seconds of each (repeats, 2), by the clock and of processors; a first round fills the caches."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            start, used = time.perf_counter(), time.process_time()
            run()
            seconds[name].append((time.perf_counter() - start, time.process_time() - used))
    return {name: np.array(values[1:]) for name, values in seconds.items()}


def best(runs: Runs, repeats: int) -> dict[str, float]:
    """Shortest time of each by the clock, s."""
    return {name: float(seconds[:, 0].min()) for name, seconds in interleaved(runs, repeats).items()}
