"""Closed forms of blurred steps: edge spread functions, line spread functions and transforms, column by column.

    ESF(x) = a + b Phi(u) + k x (a0 + b0 Phi(u)) + sum_j h_j W_j(x / s_j) + sum_n c_n E_n(u),    u = x / s

k is light that varies across the edge. W_j is a wing: 1/2 + arctan(v) / pi - Phi(u), a Lorentzian's step, which falls
as the light does that a rim diffracts, or -1 / (1 + v^2) / pi, the wing of one that leans to a side. E_n =
-He_(n-1)(u) exp(-u^2 / 2) / sqrt(2 pi n!) is the integral of a Gauss-Hermite function. The LSF is the slope without
the light's part. With w = 2 pi f s and v = 2 pi f s_j its transforms are exp(-w^2 / 2); exp(-v) - exp(-w^2 / 2) and
-i v exp(-v); (-i w)^n exp(-w^2 / 2) / sqrt(n!): no sampling, no difference and no window comes between samples and SFR.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import factorial, ndtr

from psfbank.arrays import FloatArray

HEAD = 3  # columns before the wings: dark level, step, light

Array = npt.NDArray[np.float64]


class Wing(NamedTuple):
    """Wings of a line spread function: their half width in widths of the Gaussian, and whether they are odd."""

    half_width: float
    leaning: bool = False


Wings = tuple[Wing, ...]


def esf_columns(
    x_px: FloatArray, blur_px: float, level: FloatArray, wings: Wings, terms: int
) -> npt.NDArray[np.float64]:
    """Edge spread functions that are summed.

    Parameters
    ----------
    x_px : (N,) float
        Distances from the edge.
    blur_px : float
        Sigma s of the Gaussian.
    level : (2,) float
        Dark level a0 and step b0 that light which varies falls on.
    wings : tuple of Wing
    terms : int
        Number of Gauss-Hermite terms; the first two move and widen.

    Returns
    -------
    (N, 3 + len(wings) + terms) float64
    """
    u = x_px / blur_px
    rise = ndtr(u)
    head = [np.ones_like(u), rise, (level[0] + level[1] * rise) * x_px]
    sides = [
        -1 / (np.pi * (1 + (u / width) ** 2)) if leaning else 0.5 + np.arctan(u / width) / np.pi - rise
        for width, leaning in wings
    ]
    steps = -_hermite(u, terms)[:, :-1] / np.sqrt(np.arange(1, terms + 1))  # He_(n-1) / sqrt(n!)
    return np.column_stack([*head, *sides, steps])


def lsf_columns(x_px: FloatArray, blur_px: float, wings: Wings, terms: int) -> npt.NDArray[np.float64]:
    """Line spread functions of the same columns, per px; nought for those that are no step."""
    u = x_px / blur_px
    bell, nothing = np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi), np.zeros_like(u)
    sides = [
        2 * width**2 * u / (np.pi * (width**2 + u**2) ** 2) if leaning else width / (np.pi * (width**2 + u**2)) - bell
        for width, leaning in wings
    ]
    return np.column_stack([nothing, bell, nothing, *sides, _hermite(u, terms)[:, 1:]]) / blur_px


def otf_columns(freq_cpp: FloatArray, blur_px: float, wings: Wings, terms: int) -> npt.NDArray[np.complex128]:
    """Transform the same line spread functions: (F, 3 + len(wings) + terms) at frequencies (F,) in cycles/pixel."""
    w = 2 * np.pi * freq_cpp * blur_px
    bell, nothing = np.exp(-0.5 * w**2), np.zeros_like(w)
    sides = [-1j * width * w * np.exp(-width * w) if leaning else np.exp(-width * w) - bell for width, leaning in wings]
    order = np.arange(1, terms + 1)
    hermite = bell[:, None] * (-1j * w[:, None]) ** order / np.sqrt(factorial(order))
    return np.column_stack([nothing, bell, nothing, *sides, hermite])


def _hermite(u: FloatArray, terms: int) -> Array:
    """He_n(u) exp(-u^2 / 2) / sqrt(2 pi n!) for n = 0 .. terms (N, terms + 1), by their three-term recurrence."""
    columns = np.empty((len(u), terms + 1))
    columns[:, 0] = np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi)
    columns[:, 1] = u * columns[:, 0]
    for n in range(1, terms):
        columns[:, n + 1] = (u * columns[:, n] - np.sqrt(n) * columns[:, n - 1]) / np.sqrt(n + 1)
    return columns
