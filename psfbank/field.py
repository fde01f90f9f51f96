"""Interpolation over the field of view: kernels and surfaces between the nodes of a rectilinear grid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import interpolate

from psfbank.arrays import FloatArray


def bracket(nodes: FloatArray, at: float) -> tuple[int, int, float]:
    """Neighbouring nodes of a place and its fraction between them; places outside take the nearest node."""
    if len(nodes) == 1:
        return 0, 0, 0.0
    low = int(np.clip(np.searchsorted(nodes, at) - 1, 0, len(nodes) - 2))
    fraction = (at - nodes[low]) / (nodes[low + 1] - nodes[low])
    return low, low + 1, float(np.clip(fraction, 0.0, 1.0))


def corner_weights(x_px: FloatArray, y_px: FloatArray, x: float, y: float) -> list[tuple[int, int, float]]:
    """Nodes (row, column) around a place with their bilinear weights, those of weight zero left out."""
    i0, i1, a = bracket(x_px, x)
    j0, j1, b = bracket(y_px, y)
    corners = ((j0, i0, (1 - b) * (1 - a)), (j0, i1, (1 - b) * a), (j1, i0, b * (1 - a)), (j1, i1, b * a))
    return [corner for corner in corners if corner[2] > 0]


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
    corners = corner_weights(x_px, y_px, x, y)
    kernel = np.sum([weight * kernels[j, i].astype(np.float64) for j, i, weight in corners], axis=0)
    return np.asarray(kernel / kernel.sum())


def _spline_matrix(size: int, at: FloatArray) -> npt.NDArray[np.float64]:
    # A cubic spline is linear in its samples: one matrix (len(at), size) interpolates, applied to rows and columns it
    # does so in two dimensions. Beyond its ends the kernel is zero, and the spline ends at the first of those zeros.
    margin = 3
    knots = np.arange(-margin, size + margin)
    samples = np.eye(len(knots), size, k=-margin)
    matrix = interpolate.make_interp_spline(knots, samples, k=3)(np.clip(at, -1, size))
    return np.asarray(np.where(((at > -1) & (at < size))[:, None], matrix, 0.0))


def _sampled(kernels: FloatArray, at: FloatArray) -> npt.NDArray[np.float64]:
    matrix = _spline_matrix(kernels.shape[-1], at)
    samples = np.maximum(matrix @ kernels.astype(np.float64) @ matrix.T, 0.0)
    total = samples.sum((-2, -1), keepdims=True)
    if not np.all(total > 0):
        raise ValueError(
            f"kernels of {kernels.shape[-1]} samples are narrower than the spacing that they are sampled at"
        )
    return np.asarray(samples / total)


def resample_kernel(kernel: FloatArray, have: int, want: int) -> FloatArray:
    """Sample a kernel given `have` times a pixel `want` times a pixel, about the same centre.

    Effective PSFs are smooth on the scale of a pixel, so a cubic spline through their samples serves between them;
    where `want` divides `have` it passes through the samples that are picked.

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
    return _sampled(kernel, centre + np.arange(-half, half + 1) * (have / want))


def source_kernels(kernels: FloatArray, have: int, scale: int) -> npt.NDArray[np.float64]:
    """Sample kernels where a source `scale` times finer than the sensor has its light, seen from pixel centres.

    Fine sample i lies at (i - (scale - 1) / 2) / scale pixels, so pixel centres fall on samples when `scale` is odd and
    half-way between them when it is even. Sample t of the result is the kernel at (t - (L - 1) / 2) / scale pixels from
    its centre, which holds for both; L is `scale` times an odd number of pixels.

    Parameters
    ----------
    kernels : (..., K, K) float
        K odd.
    have : int
        Samples a pixel of the kernels.
    scale : int
        Samples a pixel of the source.

    Returns
    -------
    (..., L, L) float64
        Each sums to one, not negative; as many whole pixels as lie within the first zeros around the input.

    Raises
    ------
    ValueError
        When a kernel vanishes at every one of these places.
    """
    centre = kernels.shape[-1] // 2
    # largest R whose outermost sample, (scale (2 R + 1) - 1) / (2 scale) pixels out, is nearer than (centre + 1) / have
    radius_px = max(0, -((have * (scale - 1) - 2 * (centre + 1) * scale) // (2 * scale * have)) - 1)
    length = scale * (2 * radius_px + 1)
    return _sampled(kernels, centre + (np.arange(length) - (length - 1) / 2) * (have / scale))


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


def cardinal_spline(nodes: FloatArray) -> interpolate.BSpline:
    """Weights (T,) that nodes (T,) have in the cubic spline through them, as a function of the place between them.

    Fewer than four nodes carry a spline of lower degree, down to a constant.
    """
    if len(nodes) == 1:
        return interpolate.BSpline(nodes[0] + np.array([-1.0, 1.0]), np.ones((1, 1)), 0)
    return interpolate.make_interp_spline(nodes, np.eye(len(nodes)), k=min(3, len(nodes) - 1))
