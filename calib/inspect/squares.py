"""Slanted edges of a picture: how sharp they are, and whether they overshoot as no lens makes them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from calib.edge.accurate import sfr_accurate
from calib.edge.find import find_edges
from calib.edge.fit import FOR_SFR, Edge
from calib.edge.quality import CRITICAL_DEG, CRITICAL_WITHIN_DEG, slant_deg
from calib.edge.response import crossing_cpp, overshoot
from calib.edge.segments import Gradient, straight_runs
from calib.edge.window import window_of
from calib.inspect.blur import streak_of_edges
from calib.inspect.findings import Seen
from calib.inspect.light import green
from calib.manifest import Entry
from psfbank.errors import FitFailed
from psfbank.model import Camera, Capture

MOST_MEASURED, CELLS = 20, 3  # edges whose response is measured; cells a side that they are taken from in turn
OUTER = 0.7  # of half the diagonal
LEAST_CLEAR_CNR = 20.0  # of an edge that tells of overshoot


def straight_share(gradient: Gradient, marked: npt.NDArray[np.uint8]) -> float:
    """Share of all that is marked (H, W) in a picture that lies on straight runs long enough to measure."""
    runs = straight_runs(gradient, FOR_SFR.length_px)
    length = float(np.hypot(*(runs.second_px - runs.first_px).T).sum())
    return length / max(int(marked[1:-1, 1:-1].sum()), 1)


def see_edges(capture: Capture, camera: Camera, entry: Entry | None) -> Seen:
    """Measure slanted edges, the response of some of them all over the picture; NoTargetFound where there are none."""
    edges = find_edges(capture, camera, FOR_SFR)
    xy = np.array([edge.xy_px for edge in edges])
    blur, angle = (np.array([getattr(edge, name) for edge in edges]) for name in ("blur_px", "angle_rad"))
    streak, std = streak_of_edges(blur, angle, xy, camera.size_px)
    lines = np.array([edge.at(np.array([-0.5, 0.5]) * edge.length_px) for edge in edges])
    slant = np.array([slant_deg(float(a)) for a in angle])
    critical = np.abs(slant[:, None] - np.array(CRITICAL_DEG)).min(axis=1) < CRITICAL_WITHIN_DEG
    figures = {
        "edges": len(edges),
        "edges_clipped": int(sum(edge.clipped > 0 for edge in edges)),
        "slant_deg": float(np.median(slant)),
        "critical_share": float(critical.mean()),
        **_responses(_spread(edges, camera.size_px), capture, camera),
        "blur_px": float(np.median(blur)),
    }
    clipped = np.array([edge.clipped > 0 for edge in edges])
    return Seen("slanted_edge", xy, blur, clipped, lines, streak, std, figures)


def _spread(edges: tuple[Edge, ...], size_px: tuple[int, int]) -> list[Edge]:
    """Take edges from all parts of a picture in turn, the corners apart, the longest of each part first."""
    parts: dict[tuple[int, int, bool], list[Edge]] = {}
    for edge in sorted(edges, key=lambda e: -e.length_px):
        column, row = (int(CELLS * v / n) for v, n in zip(edge.xy_px, size_px[::-1], strict=True))
        parts.setdefault((row, column, _is_outer(edge, size_px)), []).append(edge)
    turns = max(len(part) for part in parts.values())
    return [part[k] for k in range(turns) for part in parts.values() if k < len(part)][:MOST_MEASURED]


def _is_outer(edge: Edge, size_px: tuple[int, int]) -> bool:
    middle = (np.array(size_px[::-1]) - 1) / 2
    return bool(np.hypot(*(edge.xy_px - middle)) > OUTER * np.hypot(*size_px) / 2)


def _responses(edges: list[Edge], capture: Capture, camera: Camera) -> dict[str, float]:
    """MTF50 in the picture and in its outer parts, cycles/px, overshoot as a share of the step, and the SFR's peak."""
    values, use = green(capture, camera)
    saturated = np.asarray(capture.saturated)
    mtf50, outer, over, peak = [], [], [], []
    for edge in edges:
        window = window_of(values, use, saturated, edge, None)
        try:
            with threadpool_limits(1, user_api="blas"):
                found = sfr_accurate(window.values, window.xy_px, edge)
        except FitFailed:
            continue  # the others tell as well
        mtf50.append(crossing_cpp(found.response.freq_cpp, found.response.sfr, 0.5))
        outer.append(_is_outer(edge, camera.size_px))
        if found.step > LEAST_CLEAR_CNR * found.noise and not window.clipped:
            over.append(overshoot(found.response.esf))
            peak.append(float(found.response.sfr.max()))
    sharp, far = np.array(mtf50), np.array(outer, dtype=bool)
    return {
        "mtf50_cpp": _median(sharp),
        "mtf50_outer_cpp": _median(sharp[far]),
        "overshoot": _median(np.array(over)),
        "sfr_peak": _median(np.array(peak)),
    }


def _median(values: npt.NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")
