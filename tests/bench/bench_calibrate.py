"""Time one whole calibration, as a multiple of reading its captures, and say what share its steps take.

python tests/bench/bench_calibrate.py sample_captures
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from calib import calibrate

READING = "read captures"


class Clock:
    """Time spent from the first word of each step to the first word of the next."""

    def __init__(self) -> None:
        self.last, self.step, self.seconds = perf_counter(), "", {}

    def __call__(self, step: str, done: int, total: int) -> None:
        now = perf_counter()
        self.seconds[self.step] = self.seconds.get(self.step, 0.0) + now - self.last
        self.last, self.step = now, step


def main(session: str) -> None:
    clock = Clock()
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        calibrate(session, executor=executor, report=clock)
    clock("end", 1, 1)
    total = sum(clock.seconds.values())
    sys.stdout.write(f"calibration: {total / clock.seconds[READING]:.1f} times reading the captures\n")
    for step, seconds in clock.seconds.items():
        if step:
            sys.stdout.write(f"{step:20s} {100 * seconds / total:5.1f} %\n")


if __name__ == "__main__":
    main(sys.argv[1])
