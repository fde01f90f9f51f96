"""Charts of slanted squares and of noise."""

from __future__ import annotations

import numpy as np

from calib.prints.chart import Chart, chart_of
from calib.prints.drawing import Shapes, cell_rectangles
from calib.prints.sheet import Sheet
from calib.targets import (
    FRAME_CELLS,
    GAP_CELLS,
    LEAST_CELLS,
    RIM_CELLS,
    NoiseTarget,
    SlantedSquares,
    bernoulli_pattern,
)
from psfbank.errors import TargetError

SQUARES_ACROSS, SQUARE_OF_PITCH = 8, 0.5  # of the longer side; dark squares as far apart as they are wide
LEAST_TURN_DEG, MOST_SQUARES = 1.0, 40_000
CELLS_ALONG, CELL_STEP_MM, CELL_PX = 297, 0.5, 6  # of a page's longer side; and a cell's side on a display

TURN = "Squares of 50 px or more; turn the camera too, so that edges lie at about 5, 20 and 45 degrees"
RANDOM = (
    "Cells 2 to 4 px wide, the whole frame and its white rim in the picture; keep the pattern's file in the session"
)


def edges_chart(
    sheet: Sheet, *, square_mm: float | None = None, pitch_mm: float | None = None, angle_deg: float = 5.0
) -> Chart:
    """Draw a turned grid of dark squares, as many as lie wholly in it.

    Parameters
    ----------
    sheet : Sheet
    square_mm, pitch_mm : float, optional
        Side, and distance from one middle to the next; on a display rounded to whole pixels, sides softened.
    angle_deg : float
        Of the turn, x towards y.

    Raises
    ------
    TargetError
        When squares touch, none fits, or they are not turned.
    """
    off = abs((angle_deg + 45) % 90 - 45)
    if off < LEAST_TURN_DEG:
        what = f"edges that are turned by {angle_deg:g} degrees are not slanted"
        raise TargetError(what, remedy="Give an --angle-deg of 5, 20 or 45")
    longer = float(sheet.inked_mm.max())
    pitch = pitch_mm or (square_mm / SQUARE_OF_PITCH if square_mm else sheet.rounded_down(longer / SQUARES_ACROSS))
    pitch = sheet.nearest(pitch)
    square = sheet.nearest(square_mm or sheet.rounded_down(SQUARE_OF_PITCH * pitch))
    if not 0 < square < pitch:
        what = f"squares of {square:.4g} mm that are {pitch:.4g} mm apart touch each other"
        raise TargetError(what, remedy=f"Give a --pitch-mm of {2 * square:.4g}")
    count = int(np.hypot(*sheet.inked_mm) / pitch) // 2 * 2 + 3
    if count**2 > MOST_SQUARES:
        what = f"squares {pitch:.4g} mm apart are too many for one sheet"
        raise TargetError(what, where=sheet.name, remedy="Give larger squares")
    quads = SlantedSquares(count, count, square, pitch, angle_deg).squares_mm()
    low, high = (sheet.free_mm - sheet.inked_mm) / 2, (sheet.free_mm + sheet.inked_mm) / 2
    quads = quads + sheet.free_mm / 2
    quads = quads[np.all((quads >= low) & (quads <= high), axis=(1, 2))]
    if not len(quads):
        raise TargetError(
            f"squares of {square:.4g} mm do not fit", where=sheet.name, remedy="Give a smaller --square-mm"
        )
    text = f"{len(quads)} squares of {square:.6g} mm, {pitch:.6g} mm apart, turned by {angle_deg:g} degrees"
    return chart_of("slanted_edge", sheet, (Shapes(quads_mm=quads),), {"square_mm": square}, text, TURN)


def noise_chart(sheet: Sheet, rng: np.random.Generator, *, cell_mm: float | None = None) -> Chart:
    """Draw random cells inside an inked frame, as many as fit.

    Parameters
    ----------
    sheet : Sheet
    rng : Generator
    cell_mm : float, optional
        A millimetre on A4 and Letter, in proportion on others; on a display rounded to whole pixels.

    Raises
    ------
    TargetError
        When too few cells fit to be recognised.
    """
    longer = max(sheet.width_mm, sheet.height_mm)
    usual = max(CELL_STEP_MM, round(longer / CELLS_ALONG / CELL_STEP_MM) * CELL_STEP_MM)
    cell = sheet.nearest(cell_mm or CELL_PX * sheet.pixel_mm or usual)
    around = 2 * (GAP_CELLS + FRAME_CELLS)
    most = np.minimum(sheet.inked_mm / cell, sheet.free_mm / cell - 2 * RIM_CELLS)
    columns, rows = (int(n) for n in np.floor(most + 1e-9) - around)
    if min(columns, rows) < LEAST_CELLS:
        what = f"{max(columns, 0)} x {max(rows, 0)} cells of {cell:.4g} mm fit, {LEAST_CELLS} a side are needed"
        raise TargetError(what, where=sheet.name, remedy="Give a smaller --cell-mm, or a larger --page")
    target = NoiseTarget(bernoulli_pattern(rows, columns, rng), cell)
    cells = target.cells()[RIM_CELLS:-RIM_CELLS, RIM_CELLS:-RIM_CELLS]
    corner = sheet.origin_mm(cell * np.array(cells.shape[::-1]), RIM_CELLS * cell, "cells")
    layers = (Shapes(quads_mm=cell_rectangles(cells, corner, cell)),)
    text = f"{columns} x {rows} random cells of {cell:.6g} mm"
    return chart_of("noise_target", sheet, layers, {"cell_mm": cell}, text, RANDOM, target.pattern)
