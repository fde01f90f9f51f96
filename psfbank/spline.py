"""Tensor products of cubic B-splines, evaluated at many places fast.

A spline is brought to the powers of its pieces once (Taylor's theorem at each knot), and then each place needs one
gather of 32 numbers and two rounds of Horner's rule. Places go through in blocks that stay in the cache, and the
gathered numbers lie place beside place, so that every step runs over long rows. Beyond the knots each axis goes on
along its tangent: one more piece at either end, a straight one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

from psfbank.arrays import FloatArray, IntArray

BLOCK = 2048  # places at a time: their 32 numbers each take half a megabyte
EVEN = 1e-9  # knots whose steps differ by less, relatively, are found by a division instead of a search
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of one axis, S between the knots and a straight one at either end.

    `breaks` (S + 1,) are the places where pieces meet, `origin` (S + 2,) where each piece counts from, `first` (S + 2,)
    the number of the first of its four functions, `powers` (S + 2, 4, 4) what multiplies t^3, t^2, t and 1 in each of
    them; `per_unit` is the number of pieces a unit where all are equally long, otherwise 0.
    """

    breaks: Float64
    origin: Float64
    first: IntArray
    powers: Float64
    per_unit: float

    @classmethod
    def of(cls, knots: FloatArray) -> Pieces:
        """Take a cubic knot vector apart; inside its base interval the knots must be simple."""
        breaks, count = np.asarray(knots[3:-3], dtype=np.float64), len(knots) - 4
        functions = BSpline(knots, np.eye(count), 3)
        every = np.stack([functions(breaks[:-1], nu=n) / f for n, f in ((3, 6), (2, 2), (1, 1), (0, 1))])
        spans = np.arange(len(breaks) - 1)
        inside = every[:, spans[:, None], spans[:, None] + np.arange(4)].transpose(1, 0, 2)
        begin, end = np.zeros((2, 4, 4))
        begin[2:] = inside[0, 2:]
        cube, square, slope, value = inside[-1]
        t = breaks[-1] - breaks[-2]
        end[2:] = (3 * cube * t + 2 * square) * t + slope, ((cube * t + square) * t + slope) * t + value
        steps = np.diff(breaks)
        even = np.ptp(steps) <= EVEN * steps.mean()
        return cls(
            breaks=breaks,
            origin=np.append(breaks[0], breaks),
            first=np.concatenate([spans[:1], spans, spans[-1:]]),
            powers=np.concatenate([begin[None], inside, end[None]]),
            per_unit=float(1 / steps.mean()) if even else 0.0,
        )

    def locate(self, at: FloatArray) -> tuple[IntArray, Float64]:
        """Find the piece (N,) of each place (N,), and how far into it the place is."""
        if self.per_unit:
            # the reversed order of arguments sends NaN to the first piece, where it stays NaN
            steps = np.fmin(np.fmax((at - self.breaks[0]) * self.per_unit + 1.0, 0.0), len(self.breaks))
            piece = steps.astype(np.intp)
        else:
            piece = np.searchsorted(self.breaks, at, side="right")
        return piece, at - self.origin[piece]


@dataclass(frozen=True, eq=False)
class Surface:
    """Two functions over a plane, as polynomials: `table` (32, pieces) by power of y, power of x, and function."""

    x: Pieces
    y: Pieces
    table: Float64

    @classmethod
    def of(cls, knots_x: FloatArray, knots_y: FloatArray, coefficients: FloatArray) -> Surface:
        """Bring B-spline coefficients (2, Ny, Nx) to powers."""
        x, y = Pieces.of(knots_x), Pieces.of(knots_y)
        windows = np.lib.stride_tricks.sliding_window_view(coefficients, (4, 4), axis=(1, 2))
        windows = windows[:, y.first[:, None], x.first[None, :]]
        table = np.einsum("ypj,xqi,cyxji->pqcyx", y.powers, x.powers, windows, optimize=True)
        return cls(x, y, np.ascontiguousarray(table.reshape(32, -1)))

    def _gather(self, x: FloatArray, y: FloatArray) -> tuple[Float64, Float64, Float64]:
        (column, tx), (row, ty) = self.x.locate(x), self.y.locate(y)
        return self.table.take(row * len(self.x.origin) + column, axis=1).reshape(4, 8, -1), tx, ty

    def at(self, x: FloatArray, y: FloatArray) -> Float64:
        """Values (2, N) at places (N,), a block of them."""
        powers, tx, ty = self._gather(x, y)
        return _horner(_horner(powers, ty).reshape(4, 2, -1), tx)

    def with_slopes(self, x: FloatArray, y: FloatArray) -> tuple[Float64, Float64, Float64]:
        """Values (2, N) at places (N,), a block of them, and the derivatives along x and along y."""
        powers, tx, ty = self._gather(x, y)
        slope_y = _horner_slope(powers, ty).reshape(4, 2, -1)
        along_x = _horner(powers, ty).reshape(4, 2, -1)
        slope_x = _horner_slope(along_x, tx)
        return _horner(along_x, tx), slope_x, _horner(slope_y, tx)


def _horner(powers: Float64, t: Float64) -> Float64:
    """Cubic polynomials (4, ...) at t; takes the memory of the first power for the answer."""
    out: Float64 = powers[0]
    for power in powers[1:]:
        out *= t
        out += power
    return out


def _horner_slope(powers: Float64, t: Float64) -> Float64:
    out: Float64 = np.multiply(powers[0], 1.5 * t)
    out += powers[1]
    out *= 2.0 * t
    out += powers[2]
    return out


def blocks(count: int) -> Iterator[slice]:
    """Cut `count` places into blocks."""
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))
