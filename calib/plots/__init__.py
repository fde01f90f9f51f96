"""Figures of what was measured: data in, a figure out; nothing is shown, and no state is shared."""

from calib.plots.bank import FIGURES, Measured, draw_figure
from calib.plots.edges import annotated_picture, sfr_figure
from calib.plots.style import SUFFIXES, save_figure, svg_of

__all__ = [
    "FIGURES",
    "SUFFIXES",
    "Measured",
    "annotated_picture",
    "draw_figure",
    "save_figure",
    "sfr_figure",
    "svg_of",
]
