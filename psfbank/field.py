"""Interpolation over the field of view: kernels and surfaces between the nodes of a rectilinear grid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import interpolate, ndimage

from psfbank.arrays import FloatArray


def bracket(nodes: FloatArray, at: float) -> tuple[int, int, float]:
    """Neighbouring nodes of a place and its fraction between them; places outside take the nearest node."""
    if len(nodes) == 1:
        return 0, 0, 0.0
    low = int(np.clip(np.searchsorted(nodes, at) - 1, 0, len(nodes) - 2))
    fraction = (at - nodes[low]) / (nodes[low + 1] - nodes[low])
    return low, low + 1, float(np.clip(fraction, 0.0, 1.0))


def kernel_at(x_px: FloatArray, y_px: FloatArray, kernels: FloatArray, x: float, y: float) -> FloatArray:
    """Mix the four neighbouring kernels bilinearly.

    Parameters
    ----------
    x_px, y_px : (Tx,), (Ty,) float
        Node positions, pixels.
    kernels : (Ty, Tx, K, K) float
    x, y : float
        Place, pixels.

    Returns
    -------
    (K, K) float64
        Sums to one.
    """
    i0, i1, a = bracket(x_px, x)
    j0, j1, b = bracket(y_px, y)
    top = (1 - a) * kernels[j0, i0].astype(np.float64) + a * kernels[j0, i1].astype(np.float64)
    bottom = (1 - a) * kernels[j1, i0].astype(np.float64) + a * kernels[j1, i1].astype(np.float64)
    kernel = (1 - b) * top + b * bottom
    return np.asarray(kernel / kernel.sum())


def resample_kernel(kernel: FloatArray, have: int, want: int) -> FloatArray:
    """Sample a kernel given `have` times a pixel `want` times a pixel, about the same centre.

    Effective PSFs are smooth on the scale of a pixel, so a cubic spline through their samples serves between them;
    where `want` divides `have` samples are picked and nothing is interpolated.

    Parameters
    ----------
    kernel : (K, K) float
        K odd.
    have, want : int
        Samples a pixel.

    Returns
    -------
    (k, k) float64
        k odd, covers no more than the input does; sums to one, not negative.
    """
    if have == want:
        return np.asarray(kernel, dtype=np.float64)
    centre = kernel.shape[0] // 2
    half = centre * want // have
    at = centre + np.arange(-half, half + 1) * (have / want)
    if have % want == 0:
        picked = kernel[np.ix_(at.astype(int), at.astype(int))].astype(np.float64)
    else:
        grid = np.meshgrid(at, at, indexing="ij")
        picked = ndimage.map_coordinates(kernel.astype(np.float64), grid, order=3, mode="constant")
    picked = np.maximum(picked, 0.0)
    return np.asarray(picked / picked.sum())


def spline_surface_at(
    x_px: FloatArray, y_px: FloatArray, nodes: FloatArray, x: npt.ArrayLike, y: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Cubic spline through (Ty, Tx) node values at arrays of places; places outside take the border's value."""
    x, y = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
    degrees = min(3, len(y_px) - 1), min(3, len(x_px) - 1)
    if min(degrees) < 1:
        raise ValueError(f"a surface needs two nodes a side, got {nodes.shape}")
    surface = interpolate.RectBivariateSpline(y_px, x_px, nodes, kx=degrees[0], ky=degrees[1])
    inside_x, inside_y = np.clip(x, x_px[0], x_px[-1]), np.clip(y, y_px[0], y_px[-1])
    return np.asarray(surface.ev(inside_y.ravel(), inside_x.ravel()).reshape(x.shape))
