"""Charts of points: light on black for film or a display, or a template for pin-holes.

A point counts as one when its image is no wider than 0.3 px while its neighbours' lie 40 px away: farther apart than
130 diameters. Black paper reflects a twentieth of what white paper does, and printed dots of that size hold too little
light to rise above it: on paper the chart is a template, through which pin-holes are pricked into foil.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calib.prints.chart import Chart, chart_of
from calib.prints.drawing import Shapes, rectangles
from calib.prints.sheet import Sheet
from calib.targets import LedGrid
from psfbank.arrays import FloatArray
from psfbank.errors import TargetError

POINTS_ACROSS, PITCH_OF_POINT = 14, 150  # of a page's shorter side, and over a point's diameter
LEAST_POINT_MM, POINT_STEP_MM = 0.1, 0.05  # that laser printers and film show
LEAST_PITCH_OF_POINT = 20  # nearer together, points are discs
PITCH_PX = 160  # of a display, its pixels being points
DISC_OF_SQUARE = 2 / np.sqrt(3)  # diameter of the disc that spreads light as widely as a square of side one does
CROSS_MM, CROSS_GAP_MM, CROSS_LINE_MM = 3.0, 0.5, 0.1  # of a template's crosses: half arms, from the middle, width

FILM = (
    "Print on film for a light box, see through a magnifier that every point is clear, cover the white border, and "
    "shoot so that neighbours lie 40 to 50 px apart; on paper printed points are too faint (--template)"
)
PIN_HOLES = (
    "Lay it on foil, prick a hole in the middle of every cross, and put the foil before a lamp behind white paper"
)
PIXELS = (
    "Dark room, full brightness, so far away that neighbours lie 40 to 50 px apart; a display's red, green and blue "
    "lie beside each other, which looks like lateral colour"
)


def points_chart(
    sheet: Sheet, *, pitch_mm: float | None = None, diameter_mm: float | None = None, template: bool = False
) -> Chart:
    """Draw a grid of points, white on black; as a `template`, crosses on white where pin-holes are to be pricked.

    Parameters
    ----------
    sheet : Sheet
        On a display points are squares of whole pixels, one by default, and `diameter_mm` is their equivalent disc's.
    pitch_mm, diameter_mm : float, optional
    template : bool

    Raises
    ------
    TargetError
        When fewer than two by two points fit, or they are too wide for their pitch.
    """
    if template and sheet.is_display:
        raise TargetError("pin-holes are not pricked into a display", where=sheet.name, remedy="Leave out --template")
    pitch = sheet.nearest(pitch_mm or _default_pitch(sheet))
    diameter = diameter_mm or _default_diameter(sheet, pitch)
    if sheet.is_display:
        diameter = DISC_OF_SQUARE * sheet.nearest(diameter / DISC_OF_SQUARE)
    if pitch < LEAST_PITCH_OF_POINT * diameter:
        what = f"points of {diameter:.4g} mm that are {pitch:.4g} mm apart are no points"
        remedy = f"Give a --pitch-mm of {PITCH_OF_POINT * diameter:.3g} or so, or a smaller --diameter-mm"
        raise TargetError(what, where=sheet.name, remedy=remedy)
    columns, rows = (int(n) for n in np.floor(sheet.inked_mm / pitch + 1e-9))
    if min(columns, rows) < 2:
        what = f"fewer than 2 x 2 points, {pitch:.4g} mm apart, fit"
        raise TargetError(what, where=sheet.name, remedy="Give a smaller --pitch-mm, or a larger --page")
    points = _centred(sheet, LedGrid(pitch, columns, rows, diameter))
    geometry = {"pitch_mm": pitch, **({} if template else {"diameter_mm": diameter})}
    if template:
        text = f"{columns} x {rows} pin-holes, {pitch:.6g} mm apart"
        return chart_of("led", sheet, (Shapes(quads_mm=_crosses(points)),), geometry, text, PIN_HOLES)
    text = f"{columns} x {rows} points of {diameter:.4g} mm, {pitch:.6g} mm apart"
    hint = PIXELS if sheet.is_display else FILM
    return chart_of("led", sheet, (_field(sheet), _lit(sheet, points, diameter)), geometry, text, hint)


def _default_pitch(sheet: Sheet) -> float:
    if sheet.is_display:
        return PITCH_PX * sheet.pixel_mm
    shorter = min(sheet.width_mm, sheet.height_mm)
    return max(sheet.rounded_down(shorter / POINTS_ACROSS), PITCH_OF_POINT * LEAST_POINT_MM)


def _default_diameter(sheet: Sheet, pitch_mm: float) -> float:
    if sheet.is_display:
        return float(DISC_OF_SQUARE * sheet.pixel_mm)
    steps = np.floor(pitch_mm / PITCH_OF_POINT / POINT_STEP_MM + 1e-9)
    return max(LEAST_POINT_MM, round(POINT_STEP_MM * float(steps), 2))


def _centred(sheet: Sheet, grid: LedGrid) -> npt.NDArray[np.float64]:
    """Middles (N, 2) of the points on the sheet; on a display their first pixels' corners."""
    points = grid.points_mm()
    if not sheet.is_display:
        return np.asarray(sheet.free_mm / 2 + points)
    side = grid.diameter_mm / DISC_OF_SQUARE
    corner = (sheet.free_mm - side) / 2 + points[0]
    return np.asarray(np.floor(corner / sheet.pixel_mm) * sheet.pixel_mm + points - points[0])


def _field(sheet: Sheet) -> Shapes:
    left, top = sheet.origin_mm(sheet.inked_mm, 0.0, "a field")
    width, height = sheet.inked_mm
    return Shapes(quads_mm=rectangles(left, top, width, height))


def _lit(sheet: Sheet, points_mm: FloatArray, diameter_mm: float) -> Shapes:
    if sheet.is_display:
        side = diameter_mm / DISC_OF_SQUARE
        return Shapes(white=True, quads_mm=rectangles(points_mm[:, 0], points_mm[:, 1], side, side))
    return Shapes(white=True, discs_mm=np.column_stack([points_mm, np.full(len(points_mm), diameter_mm)]))


def _crosses(points_mm: FloatArray) -> npt.NDArray[np.float64]:
    """Four arms around each point, which itself stays white."""
    x, y = points_mm.T
    long, thin = CROSS_MM - CROSS_GAP_MM, CROSS_LINE_MM
    arms = [rectangles(x + start, y - CROSS_LINE_MM / 2, long, thin) for start in (-CROSS_MM, CROSS_GAP_MM)] + [
        rectangles(x - CROSS_LINE_MM / 2, y + start, thin, long) for start in (-CROSS_MM, CROSS_GAP_MM)
    ]
    return np.concatenate(arms)
