"""Slanted edges of a picture: every straight run of it, measured on one colour's own sites, and how clear each is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from calib.edge.fit import ABSENT, FOR_PSF, FOR_SFR, POOR, REMEDIES, Edge, Limits, measure_edge
from calib.edge.segments import Gradient, gradient_of, ridges, straight_runs
from psfbank.arrays import BoolArray, FloatArray
from psfbank.errors import CaptureUnusable, NoTargetFound
from psfbank.model import Camera, Capture
from psfbank.sensor import cfa_sites

FAR_PX = 60.0  # as far as it is told how clear an edge is
OWN_PX, OWN_BLURS = 3.0, 1.5  # ridges nearer to the edge than the larger of both are its own
LEAST_RUN = 0.7  # of the shortest edge: corners shorten the run of its gradient
LONG, CLEAR_OF_PART_PX = 4.0, 16.0  # times the shortest edge: what is as long is tried in parts; spokes are none
MOST_NOISE = 0.06  # of the steepest gradient of a region, that has an edge in it


def find_edges(capture: Capture, camera: Camera, limits: Limits = FOR_PSF) -> tuple[Edge, ...]:
    """Find the straight edges between dark and bright areas and measure each on the green, or the only, sites.

    Parameters
    ----------
    capture : Capture
    camera : Camera
    limits : Limits
        What an edge must be.

    Returns
    -------
    tuple of Edge

    Raises
    ------
    NoTargetFound
        When no edge can be used; says why.
    CaptureUnusable
        When a pixel that is measured is not a number.
    """
    channel = camera.channels.index("G") if "G" in camera.channels else 0
    pixels = np.asarray(capture.pixels, dtype=np.float64)
    if pixels.ndim == 3:
        values, use = pixels[..., channel], np.ones(pixels.shape[:2], dtype=bool)
    else:
        values, use = pixels, np.asarray(cfa_sites(camera.cfa, pixels.shape) == channel)
    clipped = np.asarray(capture.saturated)
    _require_numbers(values, use, capture.name)
    edges, refused = [], Counter[str]()
    for found in _measured(values, use, clipped, gradient_of(values, use), limits):
        if isinstance(found, str):
            refused[found] += 1
        else:
            edges.append(found)
    if not edges:
        raise _nothing(refused, limits, capture.name)
    return tuple(edges)


def edge_in_region(
    values: FloatArray,
    use: BoolArray,
    clipped: BoolArray,
    xywh: tuple[int, int, int, int] | None = None,
    *,
    where: str = "",
    limits: Limits = FOR_SFR,
) -> Edge:
    """Find the longest straight edge of a region; what lies beyond the region has no part in it.

    Parameters
    ----------
    values : (H, W) float
    use, clipped : (H, W) bool
        Sites of the colour that is measured, and those at the white level.
    xywh : tuple of int, optional
        Column and row of the region's first pixel, its width and height, px; the whole picture when None.
    where : str
        The picture's name, for messages.
    limits : Limits

    Returns
    -------
    Edge
        In px of the picture; where it leaves the region it ends.

    Raises
    ------
    NoTargetFound
        When the region does not lie in the picture, or holds no edge that can be used.
    CaptureUnusable
        When a pixel that is measured is not a number.
    """
    height, width = values.shape
    x, y, wide, high = (0, 0, width, height) if xywh is None else xywh
    if x < 0 or y < 0 or wide < 1 or high < 1 or x + wide > width or y + high > height:
        raise NoTargetFound(
            f"the region of interest {x},{y},{wide},{high} is empty or does not lie in the picture",
            where=where,
            remedy=f"Give x,y,width,height within 0,0,{width},{height}",
        )
    region = np.s_[y : y + high, x : x + wide]
    seen, use, clipped = np.asarray(values[region], np.float64), use[region], clipped[region]
    _require_numbers(seen, use, where)
    refused = Counter[str]()
    for found in _measured(seen, use, clipped, gradient_of(seen, use, MOST_NOISE), limits):
        if isinstance(found, Edge):
            offset = np.array([x, y], dtype=np.float64)
            return replace(found, xy_px=found.xy_px + offset, others_px=found.others_px + offset)
        refused[found] += 1
    raise _nothing(refused, limits, where)


def _measured(
    values: FloatArray, use: BoolArray, clipped: BoolArray, gradient: Gradient, limits: Limits
) -> Iterator[Edge | str]:
    """Measure every straight run of a gradient, the longest first.

    A long one that is no edge as a whole may meet something on its way: its halves are tried, and taken where nothing
    else is near.
    """
    runs, marked = straight_runs(gradient, LEAST_RUN * limits.length_px), ridges(gradient)
    longest_first = np.argsort(-np.hypot(*(runs.second_px - runs.first_px).T), kind="stable")
    sought = [(runs.first_px[k], runs.second_px[k], float(runs.bend_per_px[k]), 0.0) for k in longest_first[::-1]]
    while sought:
        first, second, bend, clear = sought.pop()
        found = measure_edge(values, use, clipped, first, second, bend, limits)
        if isinstance(found, Edge):
            found = _cleared(found, marked)
            if np.median(found.clear_px) < clear:
                found = POOR
        yield found
        if found == POOR and np.hypot(*(second - first)) > LONG * limits.length_px:
            half_way = (first + second) / 2
            sought += [(half_way, second, bend, CLEAR_OF_PART_PX), (first, half_way, bend, CLEAR_OF_PART_PX)]


def _require_numbers(values: FloatArray, use: BoolArray, where: str) -> None:
    count = int(np.sum(~np.isfinite(values[use])))
    if count:
        raise CaptureUnusable(
            f"{count} pixels are not numbers", where=where, remedy="Write the picture without NaN and infinities"
        )


def _nothing(refused: Counter[str], limits: Limits, where: str) -> NoTargetFound:
    """Say what was looked for, and why what was looked at is of no use."""
    if not refused:
        what = f"{ABSENT}, {limits.length_px:g} px or longer and of contrast {limits.contrast:g} or more"
        return NoTargetFound(what, where=where, remedy=REMEDIES[ABSENT])
    (reason, count), *others = refused.most_common()
    told = "".join(f"; {n}: {word}" for word, n in others)
    what = f"{reason}: {count} of the {refused.total()} straight runs between dark and bright{told}"
    return NoTargetFound(what, where=where, remedy=REMEDIES[reason])


def _cleared(edge: Edge, marked: npt.NDArray[np.uint8]) -> Edge:
    """Tell how far, in x and y, all else that is marked in the picture (H, W) lies from each place of an edge."""
    half = int(edge.length_px / 2)
    along = np.arange(-half, half + 1, dtype=np.float64)
    places = edge.at(along)
    low = np.maximum(np.floor(places.min(axis=0) - FAR_PX).astype(int), 0)
    high = np.ceil(places.max(axis=0) + FAR_PX).astype(int) + 1
    near = marked[low[1] : high[1], low[0] : high[0]]
    y, x = np.nonzero(near)
    own = np.abs(edge.frame(np.stack([x, y], axis=-1) + low)[0]) <= max(OWN_PX, OWN_BLURS * edge.blur_px)
    nothing = np.ones((near.shape[0], near.shape[1]), np.uint8)
    nothing[y[~own], x[~own]] = 0
    apart = cv2.distanceTransform(nothing, cv2.DIST_C, 3)
    at_x, at_y = (np.asarray(v, np.float32)[None] for v in (places - low).T)
    clear = cv2.remap(apart, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    # the next side begins at a corner, where its ridge is as near as the edge's own
    to_end = np.maximum(edge.length_px / 2 - np.abs(along), 0) * np.abs(edge.normal).max()
    clear = np.minimum(np.minimum(np.asarray(clear)[0], to_end), FAR_PX)
    x, y = x[~own] + low[0], y[~own] + low[1]
    inside = (x > 0) & (y > 0) & (x < marked.shape[1] - 1) & (y < marked.shape[0] - 1)  # beyond the border is nothing
    others = np.column_stack([x[inside], y[inside]]).astype(np.float64)
    return replace(edge, along_px=along, clear_px=clear, others_px=others)
