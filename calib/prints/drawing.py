"""A drawing in millimetres: shapes in black or white, and lines of text. x runs to the right, y down."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from psfbank.arrays import BoolArray, FloatArray, freeze

DIGITS = 5  # behind the point of a length in mm that is written as text: ten picometres
LETTER_WIDTH = 0.56  # of a line of Helvetica's mean letter, over its size: figures have just that


@dataclass(frozen=True, eq=False)
class Shapes:
    """Quadrangles (N, 4, 2) and discs (M, 3), as x, y and diameter, mm, all black or all white.

    They do not overlap, and lie on the other colour: shapes that share a side join without a seam.
    """

    white: bool = False
    quads_mm: FloatArray = field(default_factory=lambda: np.zeros((0, 4, 2)))
    discs_mm: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))

    def __post_init__(self) -> None:
        freeze(self, np.float64, quads_mm="N,4,2", discs_mm="M,3")


@dataclass(frozen=True)
class Label:
    """A line of black text, plain ASCII: the left end of its base line, and its letters' size, mm."""

    x_mm: float
    y_mm: float
    size_mm: float
    text: str


@dataclass(frozen=True, eq=False)
class Drawing:
    """A white page of `width_mm` x `height_mm`, and what lies on it, the lowest first."""

    title: str
    width_mm: float
    height_mm: float
    layers: tuple[Shapes, ...]
    labels: tuple[Label, ...] = ()


def rectangles(
    left: npt.ArrayLike, top: npt.ArrayLike, width: npt.ArrayLike, height: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Corners (N, 4, 2) of upright rectangles: top left, top right, bottom right, bottom left; arguments broadcast."""
    left, top, width, height = (np.ravel(a) for a in np.broadcast_arrays(left, top, width, height))
    x, y = np.stack([left, left + width, left + width, left]), np.stack([top, top, top + height, top + height])
    return np.stack([x.T, y.T], axis=-1).astype(np.float64)


def cell_rectangles(cells: BoolArray, origin_mm: FloatArray, cell_mm: float) -> npt.NDArray[np.float64]:
    """Corners (N, 4, 2) of rectangles that cover the cells (rows, columns) that hold True: one a run along a row.

    `origin_mm` (2,) is the first cell's top left corner.
    """
    change = np.diff(np.pad(np.asarray(cells, dtype=np.int8), ((0, 0), (1, 1))), axis=1)
    row, first = np.nonzero(change == 1)
    last = np.nonzero(change == -1)[1]
    left, top = np.asarray(origin_mm)[:, None] + cell_mm * np.stack([first, row])
    return rectangles(left, top, cell_mm * (last - first), cell_mm)


def number(value: float) -> str:
    """Write a length in mm without trailing zeros."""
    text = f"{value:.{DIGITS}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def fitting_size(text: str, size_mm: float, width_mm: float) -> float:
    """Size of letters, mm, at which a line is no wider than `width_mm`, `size_mm` at most."""
    return min(size_mm, width_mm / (LETTER_WIDTH * max(len(text), 1)))
