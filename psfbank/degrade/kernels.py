"""Kernels of plain shapes with graded edges: disc, Gaussian, and the path that a point's image runs along."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray

ROWS_A_PIXEL = 32  # at which a disc's chords are integrated; along them its area is exact
STEPS_A_PIXEL = 16  # of a path
GAUSSIAN_REACH = 4.0  # sigmas


def disc(diameter_px: float) -> npt.NDArray[np.float64]:
    """Uniform disc (K, K): of every pixel the share of its area that lies inside; sums to one."""
    radius = max(diameter_px / 2, 1e-6)
    half = int(np.ceil(max(radius - 0.5, 0)))
    axis = np.arange(-half, half + 1)
    # strips end where the disc does, so that one narrower than a strip is found as well
    edges = np.linspace(-half - 0.5, half + 0.5, ROWS_A_PIXEL * (2 * half + 1) + 1)
    low, high = np.clip(edges[:-1], -radius, radius), np.clip(edges[1:], -radius, radius)
    chord = np.sqrt(radius**2 - np.square((low + high) / 2))[:, None]
    covered = np.maximum(np.minimum(axis + 0.5, chord) - np.maximum(axis - 0.5, -chord), 0)
    kernel = (covered * (high - low)[:, None]).reshape(2 * half + 1, ROWS_A_PIXEL, -1).sum(1)
    kernel = kernel + kernel.T
    return np.asarray(kernel / kernel.sum())


def gaussian(sigma_px: float, sigma_across_px: float, angle_deg: float) -> npt.NDArray[np.float64]:
    """Gaussian (K, K) of `sigma_px` along an angle from x (right) towards y (down), and another across; sums to one."""
    half = int(np.ceil(GAUSSIAN_REACH * max(sigma_px, sigma_across_px)))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    angle = np.radians(angle_deg)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    narrowest = 1e-3  # a sample at the centre alone
    exponent = (along / max(sigma_px, narrowest)) ** 2 + (across / max(sigma_across_px, narrowest)) ** 2
    kernel = np.exp(-exponent / 2)
    return np.asarray(kernel / kernel.sum())


def path(xy_px: FloatArray) -> npt.NDArray[np.float64]:
    """Kernel (K, K) of a path (N, 2) that is run along at constant time a segment; its centroid is the array centre.

    Each segment is cut into short steps, each step shared bilinearly by the four pixels around it, which keeps sum and
    centroid exactly.
    """
    if len(xy_px) == 1:
        return np.ones((1, 1))
    longest = float(np.hypot(*np.diff(xy_px, axis=0).T).max(initial=0))
    steps = max(1, int(np.ceil(longest * STEPS_A_PIXEL)))
    middle = ((np.arange(steps) + 0.5) / steps)[:, None, None]
    at = (xy_px[None, :-1] * (1 - middle) + xy_px[None, 1:] * middle).reshape(-1, 2)
    at = at - at.mean(0)
    half = int(np.ceil(np.abs(at).max(initial=0) + 1e-9))
    low = np.floor(at).astype(np.int64)
    part = at - low
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    for down, right in np.ndindex(2, 2):
        share = np.prod(np.where([right, down], part, 1 - part), axis=1)
        here = low + half + [right, down]
        inside = share > 0
        np.add.at(kernel, (here[inside, 1], here[inside, 0]), share[inside])
    return np.asarray(kernel / kernel.sum())
