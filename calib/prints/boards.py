"""Charts of chessboards and ChArUco boards."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from calib.chessboard.charuco import dictionaries
from calib.manifest import LEAST_CORNERS
from calib.prints.chart import Chart, chart_of
from calib.prints.drawing import Shapes, cell_rectangles
from calib.prints.sheet import Sheet
from calib.targets import Chessboard
from psfbank.errors import TargetError

BOARD, CHARUCO_BOARD = (9, 6), (12, 8)  # inner corners along the longer and the shorter side
CHARUCO_RIM = 0.5  # of a square, white around the board
MARKER_OF_SQUARE = 0.75  # more leaves too little room for the blurred edges of the squares
FAMILY = "DICT_5X5_"
MOST_CORNERS = 200  # a side

VIEWS = "10 to 20 views, tilted by 15 to 35 degrees, that reach all corners of the picture; squares of {} px or more"
GLUE, MOVE = "Glue it on glass or an aluminium plate", "Leave the display and move the camera"


def chessboard_chart(
    sheet: Sheet, *, columns: int | None = None, rows: int | None = None, square_mm: float | None = None
) -> Chart:
    """Draw a chessboard inside a white rim one square wide.

    Parameters
    ----------
    sheet : Sheet
    columns, rows : int, optional
        Inner corners.
    square_mm : float, optional
        The largest that fits when None; on a display rounded to whole pixels.

    Raises
    ------
    TargetError
        When it does not fit, or is too small to be found.
    """
    columns, rows = _counts(sheet, BOARD, columns, rows, LEAST_CORNERS)
    squares = np.array([columns + 1, rows + 1])
    square = sheet.nearest(square_mm) if square_mm else sheet.largest(squares, 1.0)
    corner = sheet.origin_mm(square * squares, square, "squares")
    ink = cell_rectangles(Chessboard(columns, rows, square).cells(), corner, square)
    geometry = {"columns": columns, "rows": rows, "square_mm": square}
    text = f"chessboard of {columns} x {rows} inner corners, squares of {square:.6g} mm"
    return chart_of("chessboard", sheet, (Shapes(quads_mm=ink),), geometry, text, _hint(sheet, 20))


def charuco_chart(
    sheet: Sheet,
    *,
    columns: int | None = None,
    rows: int | None = None,
    square_mm: float | None = None,
    marker_mm: float | None = None,
    dictionary: str | None = None,
) -> Chart:
    """Draw a ChArUco board as OpenCV 4.6 and later lay it out: a black square at the top left.

    Parameters
    ----------
    sheet : Sheet
    columns, rows : int, optional
        Inner corners.
    square_mm, marker_mm : float, optional
        The largest square that fits, and three quarters of it, when None; on a display markers are of whole pixels.
    dictionary : str, optional
        OpenCV's name; the smallest of 5 x 5 bits that suffices when None.

    Raises
    ------
    TargetError
        When it does not fit, or no dictionary holds so many markers.
    """
    columns, rows = _counts(sheet, CHARUCO_BOARD, columns, rows, 2)
    name = _dictionary((columns + 1) * (rows + 1) // 2, dictionary)
    markers = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
    bits = markers.markerSize + 2
    squares = np.array([columns + 1, rows + 1])
    square = sheet.nearest(square_mm) if square_mm else sheet.largest(squares, CHARUCO_RIM)
    bit = (marker_mm or MARKER_OF_SQUARE * square) / bits
    if sheet.is_display:
        bit = max(1.0, np.floor(bit / sheet.pixel_mm + 1e-9)) * sheet.pixel_mm
    if bits * bit >= square:
        what = f"markers of {bits * bit:.4g} mm do not fit into squares of {square:.4g} mm"
        raise TargetError(what, where=sheet.name, remedy="Give a smaller --marker-mm, or fewer and larger squares")
    corner = sheet.origin_mm(square * squares, CHARUCO_RIM * square, "squares")
    cells = Chessboard(columns, rows, square).cells()
    first = _markers_mm(sheet, ~cells, corner, square, bits * bit)
    drawn = [
        cell_rectangles(np.asarray(markers.generateImageMarker(k, bits)).reshape(bits, bits) < 128, at, bit)
        for k, at in enumerate(first)
    ]
    layers = (Shapes(quads_mm=np.concatenate([cell_rectangles(cells, corner, square), *drawn])),)
    marker = bits * bit
    geometry = {"columns": columns, "rows": rows, "square_mm": square, "marker_mm": marker}
    text = f"ChArUco board of {columns} x {rows} inner corners, squares of {square:.6g} mm, markers of {marker:.6g} mm"
    return chart_of("charuco", sheet, layers, {**geometry, "dictionary": name}, f"{text}, {name}", _hint(sheet, 30))


def _hint(sheet: Sheet, least_px: int) -> str:
    return f"{MOVE if sheet.is_display else GLUE}; {VIEWS.format(least_px)}"


def _counts(
    sheet: Sheet, default: tuple[int, int], columns: int | None, rows: int | None, least: int
) -> tuple[int, int]:
    """Inner corners a row and a column, those that are not given after the sheet's shape."""
    usual = default if sheet.width_mm >= sheet.height_mm else default[::-1]
    counts = columns or usual[0], rows or usual[1]
    if not least <= min(counts) <= max(counts) <= MOST_CORNERS:
        raise TargetError(
            f"a board of {counts[0]} x {counts[1]} inner corners is none that is looked for",
            remedy=f"Give from {least} to {MOST_CORNERS} --columns and --rows: corners where four squares meet",
        )
    return counts


def _dictionary(count: int, name: str | None) -> str:
    """Name a dictionary that holds so many markers."""
    if name is None:
        name = next((known for known in dictionaries(count) if known.startswith(FAMILY)), None)
    if name is None or name not in dictionaries(count, all_members=True):
        what = f"{name} is no dictionary of {count} markers or more" if name else f"no dictionary holds {count} markers"
        known = ", ".join(dictionaries(count))
        remedy = f"Those that suffice: {known}" if known else "Give fewer --columns and --rows"
        raise TargetError(what, remedy=remedy)
    return name


def _markers_mm(
    sheet: Sheet, white: npt.NDArray[np.bool_], corner_mm: npt.NDArray[np.float64], square_mm: float, marker_mm: float
) -> npt.NDArray[np.float64]:
    """Top left corners (N, 2) of markers in the middles of the white squares, row by row."""
    row, column = np.nonzero(white)
    inset = (square_mm - marker_mm) / 2
    if sheet.is_display:
        inset = np.floor(inset / sheet.pixel_mm + 1e-9) * sheet.pixel_mm
    return np.asarray(corner_mm + square_mm * np.column_stack([column, row]) + inset)
