"""Geometry of the calibration targets, in millimetres on their own plane, and what they reflect.

A target's plane has x to the right and y down as printed, like an image; z points away from the camera that faces it.
Reflectances are averaged over a footprint in closed form, so that a rendering of them does not alias.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from calib.capture import read_picture
from psfbank.arrays import BoolArray, FloatArray, freeze
from psfbank.errors import CaptureUnusable

WHITE, INK, SURROUND = 0.9, 0.04, 0.3  # diffuse reflectance of paper, of toner, and of the room behind
GAP_CELLS, FRAME_CELLS, RIM_CELLS = 4, 8, 8  # around a noise target's pattern: white, ink, white
BLACK_AND_WHITE = "Save the pattern as PNG, black and white, one pixel a cell"
LEAST_CELLS = 24  # of a noise target along each side: fewer are not told from other things in a room


class Chart(Protocol):
    """Anything flat that reflects light."""

    def reflectance(self, x_mm: FloatArray, y_mm: FloatArray, footprint_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Mean reflectance over boxes centred at (x, y)."""
        ...


def steps_average(
    at: FloatArray, width: npt.ArrayLike, edges: FloatArray, values: FloatArray
) -> npt.NDArray[np.float64]:
    """Average a piecewise constant function over intervals.

    The function is `values[i]` between `edges[i]` and `edges[i + 1]` and zero elsewhere. Its integral is piecewise
    linear, so the average over an interval is a difference of two interpolated integrals: exact.

    Parameters
    ----------
    at : float array
        Centres of the intervals.
    width : float array_like
        Their widths, positive; broadcasts against `at`.
    edges : (E,) float
        Increasing.
    values : (E - 1,) float

    Returns
    -------
    float64, shape of `at`
    """
    integral = np.concatenate([[0.0], np.cumsum(values * np.diff(edges))])
    half = np.asarray(width) / 2
    return np.asarray((np.interp(at + half, edges, integral) - np.interp(at - half, edges, integral)) / (2 * half))


def _footprints(footprint_mm: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Widths along x and y of footprints given as (..., 2), or as one width for both."""
    width = np.asarray(footprint_mm, dtype=np.float64)
    return (width, width) if width.ndim == 0 else (width[..., 0], width[..., 1])


def _require(positive: dict[str, float]) -> None:
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"`{name}` must be positive, got {value}")


@dataclass(frozen=True)
class LedGrid:
    """Point sources on black, `columns` x `rows` of them, centred on the origin; each a disc of `diameter_mm`."""

    pitch_mm: float
    columns: int
    rows: int
    diameter_mm: float = 0.0

    def __post_init__(self) -> None:
        _require({"pitch_mm": self.pitch_mm, "columns": self.columns, "rows": self.rows})
        if not 0 <= self.diameter_mm < self.pitch_mm:
            raise ValueError(f"`diameter_mm` must be below the pitch, {self.pitch_mm}, got {self.diameter_mm}")

    def points_mm(self) -> npt.NDArray[np.float64]:
        """Centres of the sources, (rows * columns, 2), x fastest."""
        return _lattice_mm(self.columns, self.rows, self.pitch_mm) - _middle(self.columns, self.rows, self.pitch_mm)


@dataclass(frozen=True)
class Chessboard:
    """A board of `columns` x `rows` inner corners; the origin is the first of them.

    It has one more square than corners each way, a white rim one square wide, and an inked square at the top left.
    """

    columns: int
    rows: int
    square_mm: float

    def __post_init__(self) -> None:
        _require({"columns": self.columns, "rows": self.rows, "square_mm": self.square_mm})

    def corners_mm(self) -> npt.NDArray[np.float64]:
        """Inner corners, (rows * columns, 2), x fastest, the first at (0, 0)."""
        return _lattice_mm(self.columns, self.rows, self.square_mm)

    def cells(self) -> npt.NDArray[np.bool_]:
        """Ink of the squares without the rim, (rows + 1, columns + 1)."""
        return np.asarray(np.indices((self.rows + 1, self.columns + 1)).sum(axis=0) % 2 == 0)

    def centre_mm(self) -> npt.NDArray[np.float64]:
        """Middle of the board, (2,)."""
        return _middle(self.columns, self.rows, self.square_mm)

    def reflectance(self, x_mm: FloatArray, y_mm: FloatArray, footprint_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Mean reflectance over boxes along the board's axes.

        With e(x) one on the board and s(x) its alternating sign, ink covers (e(x) e(y) + s(x) s(y)) / 2: a sum of
        products, so the average over a box is the same sum of products of one-dimensional averages.

        Parameters
        ----------
        x_mm, y_mm : float arrays of one shape
            Centres of the boxes.
        footprint_mm : (..., 2) float or float
            Their widths along x and y.

        Returns
        -------
        float64, shape of `x_mm`
        """
        rim, board, sign = [], [], []
        for at, width, count in zip((x_mm, y_mm), _footprints(footprint_mm), (self.columns, self.rows), strict=True):
            edges = self.square_mm * np.arange(-2.0, count + 2.0)
            on_board = np.r_[0.0, np.ones(count + 1), 0.0]
            rim.append(steps_average(at, width, edges[[0, -1]], np.ones(1)))
            board.append(steps_average(at, width, edges, on_board))
            sign.append(steps_average(at, width, edges, on_board * (-1.0) ** np.arange(-1, count + 2)))
        ink = (board[0] * board[1] + sign[0] * sign[1]) / 2
        return np.asarray(SURROUND + (WHITE - SURROUND) * rim[0] * rim[1] - (WHITE - INK) * ink)


@dataclass(frozen=True)
class SlantedSquares:
    """Dark squares on white, all turned by `angle_deg` (x towards y) about the origin, which is their centre."""

    columns: int
    rows: int
    square_mm: float
    pitch_mm: float
    angle_deg: float = 5.0

    def __post_init__(self) -> None:
        _require({"columns": self.columns, "rows": self.rows, "square_mm": self.square_mm})
        if not self.pitch_mm > self.square_mm:
            raise ValueError(f"`pitch_mm` must exceed `square_mm`, {self.square_mm}, got {self.pitch_mm}")

    def squares_mm(self) -> npt.NDArray[np.float64]:
        """Corners (rows * columns, 4, 2) of the squares, x fastest: each top left, then clockwise, before the turn."""
        middle = _lattice_mm(self.columns, self.rows, self.pitch_mm) - _middle(self.columns, self.rows, self.pitch_mm)
        corner = self.square_mm / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        cos, sin = np.cos(np.radians(self.angle_deg)), np.sin(np.radians(self.angle_deg))
        return np.asarray((middle[:, None] + corner) @ np.array([[cos, sin], [-sin, cos]]))

    def reflectance(self, x_mm: FloatArray, y_mm: FloatArray, footprint_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Mean reflectance over boxes along the squares' own axes; parameters as `Chessboard.reflectance`.

        The box is not turned with the squares: a square box has the same second moments along any axes.
        """
        cos, sin = np.cos(np.radians(self.angle_deg)), np.sin(np.radians(self.angle_deg))
        along = (cos * x_mm + sin * y_mm, cos * y_mm - sin * x_mm)
        dark = []
        for at, width, count in zip(along, _footprints(footprint_mm), (self.columns, self.rows), strict=True):
            first = -self.square_mm / 2 - self.pitch_mm * (count - 1) / 2
            starts = first + self.pitch_mm * np.arange(count)
            edges = np.stack([starts, starts + self.square_mm], axis=1).ravel()
            dark.append(steps_average(at, width, edges, np.arange(2 * count - 1) % 2 == 0))
        return np.asarray(WHITE - (WHITE - INK) * dark[0] * dark[1])


@dataclass(frozen=True, eq=False)
class NoiseTarget:
    """Random cells, inked where `pattern` (rows, columns) holds True; the origin is the pattern's top left corner.

    Around the pattern lie a white gap, an inked frame, by which it is found, and a white rim: `GAP_CELLS`,
    `FRAME_CELLS` and `RIM_CELLS` wide.
    """

    pattern: BoolArray
    cell_mm: float

    def __post_init__(self) -> None:
        _require({"cell_mm": self.cell_mm})
        freeze(self, bool, pattern="rows,columns")

    @property
    def size_mm(self) -> npt.NDArray[np.float64]:
        """Width and height of the pattern, (2,)."""
        return self.cell_mm * np.array(self.pattern.shape[::-1], dtype=np.float64)

    def outline_mm(self, margin_cells: int = GAP_CELLS + FRAME_CELLS + RIM_CELLS) -> npt.NDArray[np.float64]:
        """Corners (4, 2) of the pattern grown by a margin: top left, top right, bottom right, bottom left."""
        margin = margin_cells * self.cell_mm
        (left, top), (right, bottom) = np.full(2, -margin), self.size_mm + margin
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])

    def cells(self) -> npt.NDArray[np.bool_]:
        """Ink of the whole target, rim included: (rows + 40, columns + 40)."""
        framed = np.pad(np.pad(self.pattern, GAP_CELLS), FRAME_CELLS, constant_values=True)
        return np.pad(framed, RIM_CELLS)

    def reflectance(self, x_mm: FloatArray, y_mm: FloatArray, footprint_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Mean reflectance over boxes along the target's axes; parameters as `Chessboard.reflectance`.

        The integral of a function that is constant in each cell is bilinear in each cell. A table of sums over whole
        cells (Crow, SIGGRAPH 1984), interpolated bilinearly at a box's four corners, therefore averages exactly.
        """
        above = np.where(self.cells(), INK, WHITE) - SURROUND
        table = np.pad(above.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        border = GAP_CELLS + FRAME_CELLS + RIM_CELLS
        edges = []
        for at, width in zip((x_mm, y_mm), _footprints(footprint_mm), strict=True):
            edges.append([np.asarray(at + side * width / 2) / self.cell_mm + border for side in (-1, 1)])
        (left, right), (top, bottom) = edges

        def integral(x: FloatArray, y: FloatArray) -> FloatArray:
            at = np.array([y.ravel(), x.ravel()])
            return np.asarray(map_coordinates(table, at, order=1, mode="nearest").reshape(x.shape))

        total = integral(right, bottom) - integral(left, bottom) - integral(right, top) + integral(left, top)
        return np.asarray(SURROUND + total / ((right - left) * (bottom - top)))


def bernoulli_pattern(rows: int, columns: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw a pattern whose cells are inked independently with probability one half.

    It excites all frequencies alike: Delbracio et al., "The non-parametric sub-pixel local point spread function
    estimation is a well posed problem", IJCV 96, 175 (2012).
    """
    return rng.random((rows, columns)) < 0.5


def read_pattern(path: Path) -> npt.NDArray[np.bool_]:
    """Read a noise target's pattern: a black and white picture, one pixel a cell, black where there is ink.

    Raises
    ------
    CaptureUnusable
        When it is no picture, holds other levels than two, or is too small to be recognised.
    """
    picture = read_picture(path)
    if picture.cfa != "mono":
        raise CaptureUnusable("is in colour", where=str(path), remedy=BLACK_AND_WHITE)
    dn = picture.dn if picture.dn.ndim == 2 else picture.dn[..., 0]
    levels, white = np.unique(dn), np.iinfo(dn.dtype).max if dn.dtype.kind == "u" else 1
    if len(levels) != 2 or levels[0] > white / 4 or levels[1] < white * 3 / 4:
        what = f"holds {len(levels)} levels of grey from {levels[0]} to {levels[-1]}, not black and white"
        raise CaptureUnusable(what, where=str(path), remedy=BLACK_AND_WHITE)
    if min(dn.shape) < LEAST_CELLS:
        what = f"is {dn.shape[1]} x {dn.shape[0]} cells, {LEAST_CELLS} a side are needed"
        raise CaptureUnusable(what, where=str(path), remedy="Shoot a larger pattern")
    return np.asarray(dn == levels[0])


def _lattice_mm(columns: int, rows: int, pitch_mm: float) -> npt.NDArray[np.float64]:
    y, x = np.mgrid[:rows, :columns]
    return pitch_mm * np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)


def _middle(columns: int, rows: int, pitch_mm: float) -> npt.NDArray[np.float64]:
    return pitch_mm * np.array([columns - 1, rows - 1], dtype=np.float64) / 2
