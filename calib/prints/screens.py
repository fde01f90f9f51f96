"""The pictures of a session shot off a display, each filling it."""

from __future__ import annotations

import numpy as np

from calib.prints.boards import chessboard_chart
from calib.prints.chart import Chart, chart_of
from calib.prints.drawing import Shapes, rectangles
from calib.prints.patterns import edges_chart, noise_chart
from calib.prints.points import points_chart
from calib.prints.sheet import RULER_MM, Sheet

ANGLES_DEG = (5.0, 20.0, 45.0)
BAR_OF_LENGTH = 0.2  # width of the ruler's bar
MOST_OF_WIDTH = 0.8  # that the bar takes

MEASURE = "Measure the bar: if it is not as long as that, correct --pixel-um in proportion and draw all anew"
LIGHT = (
    "Light for flats: opal acrylic or paper on the lens, close to the display; exposures of many of its periods, "
    "three levels by exposure time, two frames of each"
)
GLOW = "Shows what the display lights when black, and what the room adds; darks are taken with the lens covered"


def screens(sheet: Sheet, rng: np.random.Generator) -> dict[str, Chart]:
    """Draw all pictures for a display.

    Parameters
    ----------
    sheet : Sheet
        A display.
    rng : Generator
        Draws the noise.

    Returns
    -------
    dict
        Names of files without suffix, in the order in which they are shown, and charts; those that are no targets
        have the kind "".

    Raises
    ------
    ValueError
        When the sheet is a page.
    TargetError
        When a chart does not fit.
    """
    if not sheet.is_display:
        raise ValueError("`sheet` must be a display, got a page")
    edges = [edges_chart(sheet, angle_deg=angle) for angle in ANGLES_DEG]
    charts = {
        "ruler": _ruler(sheet),
        "white": chart_of("flat", sheet, (), {}, "white", LIGHT),
        "black": chart_of("", sheet, (_filled(sheet),), {}, "black", GLOW),
        "points": points_chart(sheet),
        "noise": noise_chart(sheet, rng),
        **{f"edges-{angle:g}": chart for angle, chart in zip(ANGLES_DEG, edges, strict=True)},
        "chessboard": chessboard_chart(sheet),
    }
    return {f"{i}-{name}": chart for i, (name, chart) in enumerate(charts.items())}


def _filled(sheet: Sheet) -> Shapes:
    return Shapes(quads_mm=rectangles(0.0, 0.0, sheet.width_mm, sheet.height_mm))


def _ruler(sheet: Sheet) -> Chart:
    """Draw a bar about 100 mm long, or as long as the display can show."""
    length = sheet.nearest(min(RULER_MM, MOST_OF_WIDTH * sheet.width_mm))
    width = sheet.nearest(min(BAR_OF_LENGTH * length, MOST_OF_WIDTH * sheet.height_mm))
    left, top = sheet.origin_mm(np.array([length, width]), 0.0, "a bar")
    bar = Shapes(quads_mm=rectangles(left, top, length, width))
    pixels = round(length / sheet.pixel_mm)
    return chart_of("", sheet, (bar,), {}, f"a bar of {pixels} pixels, which should be {length:.5g} mm long", MEASURE)
