"""Slanted edges: where they are in a picture, and the line of each on one colour's own sites."""

from __future__ import annotations

from calib.edge.find import edge_in_region, find_edges
from calib.edge.fit import FOR_PSF, FOR_SFR, REMEDIES, Edge, Limits, measure_edge

__all__ = ["FOR_PSF", "FOR_SFR", "REMEDIES", "Edge", "Limits", "edge_in_region", "find_edges", "measure_edge"]
