"""Where the pixels of a distorted picture look in the picture of an ideal pinhole camera, anywhere between them too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.interpolate import RectBivariateSpline

from psfbank.arrays import BoolArray, FloatArray
from psfbank.distortion import basis, filled, from_stereographic, unproject_stereographic

STEP_PX = 8  # between the nodes at which a map is inverted: far finer than the knots of any


@dataclass(frozen=True, eq=False)
class PixelMap:
    """A distortion map turned round for one picture: directions at nodes about every 8 px, joined by a cubic spline.

    `knots_y`, `knots_x` and `coefficients` (2, Ny, Nx) give the stereographic direction of a place in the picture;
    `missing` are nodes `nodes_y`, `nodes_x` where no light from before the camera lands.
    """

    nodes_y: FloatArray
    nodes_x: FloatArray
    knots_y: FloatArray
    knots_x: FloatArray
    coefficients: FloatArray
    missing: BoolArray
    camera_matrix: FloatArray

    @classmethod
    def of(
        cls,
        size_px: tuple[int, int],
        camera_matrix: FloatArray,
        knots_x: FloatArray,
        knots_y: FloatArray,
        coefficients: FloatArray,
    ) -> Self:
        """Turn one channel of a map round.

        Parameters
        ----------
        size_px : (H, W)
            Of the distorted picture.
        camera_matrix, knots_x, knots_y, coefficients
            As `psfbank.distortion.project` takes them.
        """
        nodes_y, nodes_x = (np.linspace(0, n - 1, max(4, n // STEP_PX + 2)) for n in size_px)
        xy_px = np.stack(np.meshgrid(nodes_x, nodes_y), axis=-1).reshape(-1, 2)
        u = unproject_stereographic(xy_px, camera_matrix, knots_x, knots_y, coefficients)
        u = u.reshape(len(nodes_y), len(nodes_x), 2)
        missing = np.isnan(u[..., 0])
        u = np.zeros_like(u) if missing.all() else filled(u)
        # pictures a pixel high or wide still have four nodes, at one place: any distinct ones serve a spline
        apart = [nodes if nodes[-1] > nodes[0] else np.arange(4.0) for nodes in (nodes_y, nodes_x)]
        fits = [RectBivariateSpline(*apart, u[..., k]) for k in range(2)]
        along_y, along_x, _ = fits[0].tck
        turned = np.stack([fit.tck[2].reshape(u.shape[:2]) for fit in fits])
        return cls(nodes_y, nodes_x, along_y, along_x, turned, missing, np.asarray(camera_matrix, np.float64))

    def at(self, y_px: FloatArray, x_px: FloatArray) -> npt.NDArray[np.float64]:
        """Say where rows (h,) and columns (w,), whole or not, look.

        Returns
        -------
        (h, w, 2) float64
            (x, y) px in the pinhole picture of the same camera matrix; NaN where no light can come from.
        """
        (rows, down), (columns, across) = _local(self.knots_y, y_px), _local(self.knots_x, x_px)
        u = np.moveaxis(down @ self.coefficients[:, rows, columns] @ across.T, 0, -1)
        if self.missing.any():
            near = [
                np.clip(np.rint(at / max(nodes[1], 1e-9)).astype(int), 0, len(nodes) - 1)
                for at, nodes in ((y_px, self.nodes_y), (x_px, self.nodes_x))
            ]
            u[self.missing[np.ix_(*near)]] = np.nan
        return np.asarray(from_stereographic(u) * np.diag(self.camera_matrix)[:2] + self.camera_matrix[:2, 2])


def _local(knots: FloatArray, at: FloatArray) -> tuple[slice, npt.NDArray[np.float64]]:
    """Give the B-splines that act on some places, and their values (N, n) there."""
    first, values, _ = basis(knots, np.asarray(at, dtype=np.float64))
    start = int(first.min())
    matrix = np.zeros((len(first), int(first.max()) + 4 - start))
    np.put_along_axis(matrix, first[:, None] - start + np.arange(4), values, axis=1)
    return slice(start, start + matrix.shape[1]), matrix
