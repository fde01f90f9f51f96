"""Slanted edges: where they are in a picture, and the line of each on one colour's own sites."""

from __future__ import annotations

from calib.edge.find import find_edges
from calib.edge.fit import CLIPPED, PALE, POOR, REMEDIES, SHORT, Edge, measure_edge

__all__ = ["CLIPPED", "PALE", "POOR", "REMEDIES", "SHORT", "Edge", "find_edges", "measure_edge"]
