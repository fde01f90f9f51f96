"""Slanted edges -> pieces of charts: the line that was measured, drawn sharp; nothing else need be known of a chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calib.chartmodel import DRAWN_FINER, drawn_half, to_grid
from calib.charts import WINDOW_PX, Drawing
from calib.edge import Edge, find_edges
from calib.kernel import reserve
from calib.manifest import Plan
from calib.progress import Report, silent
from calib.session import Journal, Shot, in_words
from psfbank.arrays import BoolArray, FloatArray
from psfbank.errors import NoTargetFound
from psfbank.flags import Flag
from psfbank.model import Capture

MARGIN_PX = 1.0  # of an outline's place: what is clear, is clear by more


@dataclass(frozen=True)
class EdgeShot:
    """One capture of slanted edges, and those that were found."""

    capture: Capture
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class EdgeView:
    """Pieces of edges in one capture: piece k lies `along_px[k]` (N,) from the middle of `edges[k]`."""

    capture: Capture
    edges: tuple[Edge, ...]
    along_px: FloatArray

    def places_px(self) -> npt.NDArray[np.float64]:
        """Middles (N, 2) of the pieces, px."""
        places = [edge.at(np.atleast_1d(along))[0] for edge, along in zip(self.edges, self.along_px, strict=True)]
        return np.array(places).reshape(-1, 2)


def find_edges_of(plan: Plan, shots: Sequence[Shot], journal: Journal, report: Report = silent) -> list[EdgeShot]:
    """Find and measure every slanted edge; captures without one that is of use are flagged, unless they are already."""
    found = []
    shots = [shot for shot in shots if not journal.is_flagged(shot.capture.name)]
    for done, shot in enumerate(shots, start=1):
        try:
            found.append(EdgeShot(shot.capture, find_edges(shot.capture, plan.camera)))
        except NoTargetFound as error:
            journal.flag(shot.capture.name, Flag.UNUSABLE, in_words(error))
        report("find edges", done, len(shots))
    return found


def edge_view(seen: EdgeShot, fine_px: FloatArray, window_px: int = WINDOW_PX) -> EdgeView:
    """Lay pieces along edges wherever their drawing shows nothing but the edge.

    Parameters
    ----------
    seen : EdgeShot
    fine_px : (F,) float
        Grid of the optical images that drawings will be seen through.
    window_px : int
        Half width of the data. Pieces follow each other so that no sample is used twice.

    Returns
    -------
    EdgeView
    """
    reach_px = drawn_half(window_px, fine_px) * float(fine_px[1] - fine_px[0]) + MARGIN_PX
    chosen: list[Edge] = []
    laid: list[float] = []
    for edge in seen.edges:
        last = -np.inf
        for along in edge.along_px[edge.clear_px > reach_px]:
            if along >= last + 2 * window_px + 1:
                chosen.append(edge)
                laid.append(float(along))
                last = along
    return EdgeView(seen.capture, tuple(chosen), np.array(laid))


def taken_evenly(
    places_px: Sequence[FloatArray], size_px: tuple[int, int], most: int, rng: np.random.Generator
) -> list[BoolArray]:
    """Take about `most` of places (N, 2) px in several pictures, all together evenly over the field (H, W)."""
    count = sum(len(xy) for xy in places_px)
    if count <= most:
        return [np.ones(len(xy), dtype=np.bool_) for xy in places_px]
    taken = reserve(np.concatenate(places_px), size_px, most / count, rng)
    return np.split(taken, np.cumsum([len(xy) for xy in places_px])[:-1])


def thinned_edges(
    views: Sequence[EdgeView], size_px: tuple[int, int], most: int, rng: np.random.Generator
) -> list[EdgeView]:
    """Take about `most` of the pieces of all views, evenly over the picture (H, W)."""
    taken = taken_evenly([view.places_px() for view in views], size_px, most, rng)
    return [
        v if t.all() else EdgeView(v.capture, tuple(v.edges[k] for k in np.flatnonzero(t)), v.along_px[t])
        for v, t in zip(views, taken, strict=True)
    ]


def draw_edges(view: EdgeView, fine_px: FloatArray, window_px: int = WINDOW_PX) -> Drawing:
    """Draw edges sharp around their pieces, averaged over the cells of the grid.

    Reflectance is 1 where bright and keeps the measured contrast: light that varies over a piece varies on its dark
    side too. The average over a cell is taken across the edge, over a box of the cell's second moments.
    """
    step, half = float(fine_px[1] - fine_px[0]), drawn_half(window_px, fine_px)
    places_px = view.places_px()
    middle_px = np.rint(places_px)
    cell = step / DRAWN_FINER
    axis = np.arange(-half * DRAWN_FINER, half * DRAWN_FINER + 1) * cell
    around = np.stack(np.meshgrid(axis, axis), -1)
    drawn = np.zeros((len(places_px), 2 * half + 1, 2 * half + 1), dtype=np.float32)
    for k, edge in enumerate(view.edges):
        across_px, _ = edge.frame(middle_px[k] + around)
        bright = np.clip(across_px / cell + 0.5, 0.0, 1.0)
        dark = (1 - edge.contrast) / (1 + edge.contrast)
        drawn[k] = to_grid(dark + (1 - dark) * bright)
    return Drawing(drawn, middle_px, places_px)
