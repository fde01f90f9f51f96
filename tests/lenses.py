"""Distortion maps of lenses that are given by a formula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from psfbank.distortion import basis_matrix, from_stereographic
from psfbank.model import DistortionMap

Array = npt.NDArray[np.float64]
Lens = Callable[[Array], Array]  # rays (N, 2) -> pixels (N, 2)


def spline_map(
    lens: Lens | dict[str, Lens], camera_matrix: Array, size_px: tuple[int, int], reach: float, knots: int = 24
) -> DistortionMap:
    """The spline that follows a lens (each channel's, by name) over stereographic directions up to `reach`."""
    lenses = lens if isinstance(lens, dict) else {"Y": lens}
    line = np.linspace(-reach, reach, knots)
    at = np.linspace(line[3], line[-4], 4 * knots)
    u = np.stack(np.meshgrid(at, at), axis=-1)
    straight = u * np.diag(camera_matrix)[:2] + camera_matrix[:2, 2]
    inverse = np.linalg.pinv(basis_matrix(line, at))
    coefficients = []
    for each in lenses.values():
        moved = each(from_stereographic(u.reshape(-1, 2))).reshape(u.shape) - straight
        coefficients.append([inverse @ moved[..., k] @ inverse.T for k in range(2)])
    height, width = size_px
    region = np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], dtype=float)
    rms = np.full(len(lenses), 0.05)
    return DistortionMap(camera_matrix, line, line, np.array(coefficients), region, rms, tuple(lenses))
