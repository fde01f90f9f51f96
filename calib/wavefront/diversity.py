"""Focus planes: how much the wavefront of each differs from that of the reference plane.

One image in focus cannot tell a wavefront from its twin. Planes whose *relative* defocus is known can: the twin of one
plane is not the twin of another. Gonsalves, Opt. Eng. 21, 829 (1982).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre

from psfbank.arrays import FloatArray, freeze

TAIL = 1e-3  # RMS of the terms left out of an objective's defocus, relative to all of it
MOST_TERMS = 12


@dataclass(frozen=True)
class Planes:
    """Defocus of P planes along one direction in the space of Zernike terms.

    Parameters
    ----------
    nm : (K, 2) int
        The terms that defocus consists of.
    unit_nm : (K,) float
        Coefficients of one unit of defocus, nm RMS.
    at : (P,) float
        Defocus of each plane, in that unit.
    free : float
        How far the planes may lie from `at`, in that unit; 0 where they are known. The plane nearest to zero is held,
        for it alone defines what the fitted coefficients belong to.
    """

    nm: npt.NDArray[np.int32]
    unit_nm: FloatArray
    at: FloatArray
    free: float = 0.0

    def __post_init__(self) -> None:
        freeze(self, np.int32, nm="K,2")
        freeze(self, np.float64, unit_nm="K", at="P")
        if not len(self.at) or not self.free >= 0:
            raise ValueError(f"planes need at least one place and `free` >= 0, got {len(self.at)} and {self.free}")

    @property
    def reference(self) -> int:
        """Number of the plane nearest to zero."""
        return int(np.argmin(np.abs(self.at)))


def parabolic_planes(defocus_nm: npt.ArrayLike, free_nm: float = 0.0) -> Planes:
    """Planes of an ordinary lens: a paraboloid.

    Parameters
    ----------
    defocus_nm : (P,) array_like
        Coefficient of the term (2, 0) of each plane, nm RMS; of a sensor moved by z it is z / (16 sqrt(3) N^2).
    free_nm : float
        How far each may be wrong; 0 where they are known.

    Returns
    -------
    Planes
    """
    return Planes(np.array([[2, 0]], dtype=np.int32), np.ones(1), np.asarray(defocus_nm, float), free_nm)


def objective_planes(
    z_um: npt.ArrayLike, numerical_aperture: float, index: float = 1.0, free_um: float = 0.0
) -> Planes:
    """Planes of an objective of high aperture, whose defocus is z (sqrt(n^2 - NA^2 rho^2) - n).

    Parameters
    ----------
    z_um : (P,) array_like
        Defocus along the axis, um.
    numerical_aperture, index : float
        Of the objective, and of the medium that the object is in.
    free_um : float
        How far each may be wrong; 0 where they are known.

    Returns
    -------
    Planes
        With as many radial terms as hold all but `TAIL` of the defocus.

    Raises
    ------
    ValueError
        When the aperture is not smaller than the index.

    References
    ----------
    Hanser et al., J. Microsc. 216, 32 (2004). The radial terms are Legendre polynomials of 2 rho^2 - 1:
    Z_n^0 = sqrt(n + 1) P_{n/2}(2 rho^2 - 1), and the mean over the disc is the mean over rho^2.
    """
    if not 0 < numerical_aperture < index:
        raise ValueError(f"need 0 < NA < index, got NA {numerical_aperture} and index {index}")
    node, weight = legendre.leggauss(64)
    opd_nm = 1e3 * (np.sqrt(index**2 - numerical_aperture**2 * (node + 1) / 2) - index)
    n = 2 * np.arange(1, MOST_TERMS + 1)
    terms = legendre.legvander(node, MOST_TERMS)[:, 1:] * np.sqrt(n + 1)
    unit_nm = (weight / 2 * opd_nm) @ terms
    tail = np.sqrt(np.cumsum(unit_nm[::-1] ** 2)[::-1])  # RMS from each term on
    count = max(1, int((tail > TAIL * tail[0]).sum()))
    nm = np.stack([n, np.zeros_like(n)], axis=1)[:count].astype(np.int32)
    return Planes(nm, unit_nm[:count], np.asarray(z_um, float), free_um)
