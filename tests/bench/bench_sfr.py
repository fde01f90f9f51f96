"""Errors of slanted edges' MTF50 and what they cost: `PYTHONPATH=tests python tests/bench/bench_sfr.py [PICTURES]`.

Dark squares of 100 px are drawn in closed form, a Gaussian blur between two levels, in the noise of MTF Mapper's own
renderings. Beside the errors stand those of MTF Mapper 0.7.38 on its own renderings, other pictures of the same kind,
and the Cramer-Rao bound, on the samples that are used, of an edge whose two levels, place, angle and blur are unknown
while its shape and its noise are known: what a measurement of any shape comes to at best.

Ratios of times carry from one machine to another, milliseconds do not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt
from edge_charts import Blur, gaussian_px, square
from scipy.special import ndtr

from calib.edge import FOR_SFR, Edge, find_edges
from calib.edge.measure import MeasuredEdge, measure_capture
from calib.edge.window import window_of
from psfbank.model import Camera, Capture

MTF_MAPPER_P95 = {0.08: 1.0, 0.15: 2.4, 0.25: 2.7, 0.40: 2.9, 0.55: 5.5, 0.70: 7.5}  # percent
ANGLES_DEG = (4.0, 7.0, 12.0, 20.0, 26.565, 33.0, 38.0, 43.0)
SIZE_PX, SIDE_PX = (200, 200), 100.0
DARK, STEP = 0.165, 0.670  # of white
DARK_NOISE, BRIGHT_NOISE = 0.0081, 0.0192  # standard deviations, of white; the variance is linear in between
P95 = 1.96  # standard deviations of a Gaussian
BAND_AT = slice(8, 129, 8)  # of the response: 1/32 .. 1/2 cycle/pixel
REPEATS = 5

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Relative errors, percent, of one level's edges; whether MTF50 and how much of the curve lie within one sigma."""

    error: Array
    mtf50_within: Array
    band_within: Array
    least_std: Array


def camera() -> Camera:
    return Camera("bench", "squares", SIZE_PX, "mono")


def capture_of(mtf50_cpp: float, turn_rad: float, rng: np.random.Generator) -> Capture:
    middle = (np.array(SIZE_PX) - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
    share = 1 - square(SIZE_PX, middle, SIDE_PX, turn_rad, Blur(gaussian_px(mtf50_cpp)))
    values = DARK + STEP * share + rng.normal(size=SIZE_PX) * np.sqrt(variance(share))
    return Capture(values, np.zeros(SIZE_PX, dtype=bool), "square", "0" * 64)


def variance(share: Array) -> Array:
    return DARK_NOISE**2 + (BRIGHT_NOISE**2 - DARK_NOISE**2) * share


def least_std(edge: Edge, mtf50_cpp: float) -> float:
    """Relative standard deviation, percent, of MTF50 that no unbiased estimate falls below, on the samples in use."""
    everywhere = np.ones(SIZE_PX, dtype=bool)
    x, along = edge.frame(window_of(np.zeros(SIZE_PX), everywhere, ~everywhere, edge).xy_px)
    sigma = gaussian_px(mtf50_cpp)
    steep = STEP * np.exp(-0.5 * (x / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    rise = ndtr(x / sigma)
    slopes = np.stack([np.ones_like(x), rise, steep, steep * along, steep * x / sigma], axis=1)
    told = slopes.T @ (slopes / variance(rise)[:, None])
    return float(100 * np.sqrt(np.linalg.inv(told)[-1, -1]) / sigma)  # MTF50 is as 1 / sigma


def measure_level(mtf50_cpp: float, pictures: int) -> Found:
    rng = np.random.default_rng(round(1000 * mtf50_cpp))
    edges, least = list[MeasuredEdge](), []
    for number in range(pictures):
        turn = np.radians(ANGLES_DEG[number % len(ANGLES_DEG)])
        capture = capture_of(mtf50_cpp, turn, rng)
        least += [least_std(edge, mtf50_cpp) for edge in find_edges(capture, camera(), FOR_SFR)]
        edges += measure_capture(capture, camera())
    error = np.array([e.mtf50_cpp for e in edges]) - mtf50_cpp
    true = Blur(gaussian_px(mtf50_cpp)).otf(edges[0].response.freq_cpp, 0.0)
    within = [np.abs(e.response.sfr - true)[BAND_AT] < e.response.sfr_std[BAND_AT] for e in edges]
    return Found(
        error=100 * error / mtf50_cpp,
        mtf50_within=np.abs(error) < [e.response.mtf50_std_cpp for e in edges],
        band_within=np.mean(within, axis=1),
        least_std=np.array(least),
    )


def accuracy(pictures: int) -> str:
    lines = [
        f"{pictures} pictures of 4 edges a level; percent of MTF50",
        "MTF50  edges    bias  (+-)    p95  worst  bound's p95  MTF Mapper's p95  MTF50 within 1 sd  band within 1 sd",
    ]
    for mtf50_cpp, theirs in MTF_MAPPER_P95.items():
        found = measure_level(mtf50_cpp, pictures)
        size = np.abs(found.error)
        count = len(size)
        lines.append(
            f"{mtf50_cpp:5.2f} {count:6d} {found.error.mean():7.2f} {found.error.std() / np.sqrt(count):5.2f} "
            f"{np.percentile(size, 95):6.2f} {size.max():6.2f} {P95 * np.sqrt(np.mean(found.least_std**2)):12.2f} "
            f"{theirs:17.1f} {found.mtf50_within.mean():18.2f} {found.band_within.mean():17.2f}"
        )
    return "\n".join(lines)


def best_ms(run: Callable[[], int]) -> float:
    """Milliseconds an edge of the fastest of some runs, each of which says how many edges it had."""
    best = np.inf
    for _ in range(REPEATS):
        began = perf_counter()
        edges = run()
        best = min(best, 1e3 * (perf_counter() - began) / edges)
    return best


def speed() -> str:
    capture = capture_of(0.25, np.radians(7.0), np.random.default_rng(0))
    detection = best_ms(lambda: len(find_edges(capture, camera(), FOR_SFR)))
    accurate = best_ms(lambda: len(measure_capture(capture, camera()))) - detection
    iso = best_ms(lambda: len(measure_capture(capture, camera(), mode="iso"))) - detection
    rows = [("detection", detection), ("accurate SFR", accurate), ("ISO 12233 SFR", iso)]
    return "\n".join(
        f"{name:14s} {ms / detection:6.2f} times detection  ({ms:.1f} ms an edge here)" for name, ms in rows
    )


if __name__ == "__main__":
    sys.stdout.write(f"{accuracy(int(sys.argv[1]) if len(sys.argv) > 1 else 24)}\n\n{speed()}\n")
