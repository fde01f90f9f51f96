"""Figures of what was measured: data in, a figure out; nothing is shown, and no state is shared."""

from calib.plots.edges import annotated_picture, sfr_figure
from calib.plots.style import SUFFIXES, save_figure, svg_of

__all__ = ["SUFFIXES", "annotated_picture", "save_figure", "sfr_figure", "svg_of"]
