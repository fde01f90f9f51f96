"""Geometry of the calibration targets, in millimetres on their own plane, and what they reflect.

A target's plane has x to the right and y down as printed, like an image; z points away from the camera that faces it.
Reflectances are averaged over a footprint in closed form, so that a rendering of them does not alias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray

WHITE, INK, SURROUND = 0.9, 0.04, 0.3  # diffuse reflectance of paper, of toner, and of the room behind


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


def _lattice_mm(columns: int, rows: int, pitch_mm: float) -> npt.NDArray[np.float64]:
    y, x = np.mgrid[:rows, :columns]
    return pitch_mm * np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)


def _middle(columns: int, rows: int, pitch_mm: float) -> npt.NDArray[np.float64]:
    return pitch_mm * np.array([columns - 1, rows - 1], dtype=np.float64) / 2
