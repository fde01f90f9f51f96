"""Slanted edges of a whole picture: sides of dark squares on white."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from calib.chessboard.find import luminance
from calib.edge.fit import ABSENT, REMEDIES, Edge, measure_edge
from calib.edge.segments import border_px, find_squares
from psfbank.arrays import FloatArray
from psfbank.errors import NoTargetFound
from psfbank.model import Camera, Capture
from psfbank.sensor import cfa_sites

FAR_PX = 60.0  # as far as it is told how clear an edge is
OWN_PX = 3.0  # outline points nearer to the edge than this are its own


def find_edges(capture: Capture, camera: Camera) -> tuple[Edge, ...]:
    """Find the sides of dark squares on white and measure each on the green, or the only, sites.

    Parameters
    ----------
    capture : Capture
    camera : Camera

    Returns
    -------
    tuple of Edge

    Raises
    ------
    NoTargetFound
        When no side of a square can be used; says why.
    """
    channel = camera.channels.index("G") if "G" in camera.channels else 0
    pixels = np.asarray(capture.pixels, dtype=np.float64)
    if pixels.ndim == 3:
        values, use = pixels[..., channel], np.ones(pixels.shape[:2], dtype=bool)
    else:
        values, use = pixels, np.asarray(cfa_sites(camera.cfa, pixels.shape) == channel)
    clipped = np.asarray(capture.saturated)
    outlines, squares = find_squares(luminance(capture.pixels, camera.cfa))
    points = np.concatenate([border_px(values.shape), *outlines])
    tree = cKDTree(points)
    edges, refused = [], Counter({ABSENT: 0})
    for corners in squares:
        for first, second in pairwise([*corners, corners[0]]):
            found = measure_edge(values, use, clipped, first, second)
            if isinstance(found, str):
                refused[found] += 1
            else:
                edges.append(_cleared(found, points, tree))
    if not edges:
        reason = refused.most_common(1)[0][0]
        raise NoTargetFound(reason, where=capture.name, remedy=REMEDIES[reason])
    return tuple(edges)


def _cleared(edge: Edge, points_px: FloatArray, tree: cKDTree) -> Edge:
    """Tell how far, in x and y, all else in the picture (N, 2) px lies from each place of an edge."""
    half = int(edge.length_px / 2)
    along = np.arange(-half, half + 1, dtype=np.float64)
    near = points_px[tree.query_ball_point(edge.xy_px, FAR_PX + half, p=np.inf)]
    other = near[np.abs(edge.frame(near)[0]) > OWN_PX]
    apart = np.abs(edge.at(along)[:, None] - other).max(axis=2).min(axis=1, initial=FAR_PX)
    return replace(edge, along_px=along, clear_px=apart)
