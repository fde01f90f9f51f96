"""The shape of the targets: polynomials of the height above the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psfbank.arrays import FloatArray, IntArray, frozen


@dataclass(frozen=True, eq=False)
class BoardShape:
    """Height of T targets above their planes: sum of `coefficients_mm` (T, P) x^a y^b, 2 <= a + b <= `degree`.

    x, y are the target's coordinates less `centre_mm` (T, 2), divided by `half_width_mm` (T,).
    """

    degree: int
    coefficients_mm: FloatArray
    centre_mm: FloatArray
    half_width_mm: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "coefficients_mm", frozen(self.coefficients_mm, np.float64, "coefficients_mm", "T,P"))
        object.__setattr__(self, "centre_mm", frozen(self.centre_mm, np.float64, "centre_mm", "T,2"))
        object.__setattr__(self, "half_width_mm", frozen(self.half_width_mm, np.float64, "half_width_mm", "T"))

    def height_mm(self, object_mm: FloatArray, target: int = 0) -> FloatArray:
        """Height (N,) mm at places (N, 2) mm of one target; a negative target is flat."""
        if target < 0 or self.degree < 2:
            return np.zeros(len(object_mm))
        normalised = (object_mm - self.centre_mm[target]) / self.half_width_mm[target]
        return np.asarray(monomials(normalised, self.degree) @ self.coefficients_mm[target])


def powers(degree: int) -> list[tuple[int, int]]:
    """Exponents (a, b) of the monomials: an affine height is a pose, so the degrees start at two."""
    return [(total - b, b) for total in range(2, degree + 1) for b in range(total + 1)]


def monomials(xy: FloatArray, degree: int) -> FloatArray:
    """Values (N, P) of the monomials at places (N, 2)."""
    columns = [xy[:, 0] ** a * xy[:, 1] ** b for a, b in powers(degree)]
    return np.stack(columns, axis=1) if columns else np.zeros((len(xy), 0))


def extent(object_mm: FloatArray, target: IntArray) -> tuple[FloatArray, FloatArray]:
    """Centre (T, 2) and half-width (T,) of each target from the points (N, 2) seen of it."""
    count = max(int(target.max(initial=-1)) + 1, 1)
    centre, half_width = np.zeros((count, 2)), np.ones(count)
    for t in range(count):
        points = object_mm[target == t]
        if len(points):
            low, high = points.min(axis=0), points.max(axis=0)
            centre[t], half_width[t] = (low + high) / 2, max(float((high - low).max()) / 2, 1e-9)
    return centre, half_width


def design(object_mm: FloatArray, target: IntArray, degree: int) -> FloatArray:
    """Monomials (N, T P) with the columns of other targets, and the rows of flat ones, zero."""
    centre, half_width = extent(object_mm, target)
    width = len(powers(degree))
    out = np.zeros((len(object_mm), len(centre) * width))
    for t in range(len(centre)):
        rows = target == t
        out[rows, t * width : (t + 1) * width] = monomials((object_mm[rows] - centre[t]) / half_width[t], degree)
    return out
