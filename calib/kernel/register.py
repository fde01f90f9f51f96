"""Where points lie, given their kernels; and kernels whose centroid lies at the array's centre, given where it lay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from calib.kernel.observe import CHUNK, Observations, mixing, robust_levels
from calib.sampling import Batch, sinc_matrix
from psfbank.arrays import FloatArray
from psfbank.zernike import centroid_px

ROUNDS = 3
STEP_PX = 1e-2  # of the central difference that differentiates by position
LARGEST_STEP_PX = 0.3
CENTRED_PX = 1e-4  # a centroid nearer to the centre is there


def register(
    observations: Observations, kernels: Batch, x_px: FloatArray, y_px: FloatArray, sigma_px: float
) -> Observations:
    """Shift images to where they fit best: Gauss-Newton steps, flux and background projected out.

    Parameters
    ----------
    observations : Observations
    kernels : (Ty, Tx, K, K) float32
        Of the observations' channel, at the nodes.
    x_px, y_px : (Tx,), (Ty,) float
    sigma_px : float
        Standard deviation of the positions as given; 0 leaves them where they are.

    Returns
    -------
    Observations
        With what they show moved.
    """
    if sigma_px == 0 or len(observations) == 0:
        return observations
    nodes = kernels.reshape(-1, *kernels.shape[-2:])
    mix = mixing(x_px, y_px, observations.xy_px)
    total = np.zeros((len(observations), 2))
    for k in range(0, len(observations), CHUNK):
        rows = slice(k, k + CHUNK)
        mixed = (mix[rows] @ nodes.reshape(len(nodes), -1)).reshape(-1, *nodes.shape[1:])
        part, moved = observations.take(rows), np.zeros((mixed.shape[0], 2))
        for _ in range(ROUNDS):
            moved = moved + _step(replace(part, sampling=part.sampling.moved(moved)), mixed, moved, sigma_px)
        total[rows] = moved
    return replace(observations, sampling=observations.sampling.moved(total))


def _step(part: Observations, kernels: Batch, moved_px: FloatArray, sigma_px: float) -> npt.NDArray[np.float64]:
    sampling = part.sampling
    kernels = kernels[:, None]
    images = sampling.forward(kernels)[:, 0]
    flux, residual, weights = robust_levels(images, part)
    shifts = np.broadcast_to(STEP_PX * np.eye(2)[:, None], (2, len(part), 2))
    ahead, behind = (np.stack([sampling.moved(sign * s).forward(kernels)[:, 0] for s in shifts], 1) for sign in (1, -1))
    columns = (ahead - behind) * (flux[:, None, None] / np.float32(2 * STEP_PX))
    nuisance = np.stack([images, np.ones_like(images)], axis=1)
    weighted = nuisance * weights[:, None]
    inner = weighted @ np.swapaxes(nuisance, 1, 2)
    columns = columns - columns @ np.swapaxes(weighted, 1, 2) @ np.linalg.pinv(inner, hermitian=True) @ nuisance
    matrix = (columns * weights[:, None]) @ np.swapaxes(columns, 1, 2) + np.eye(2) / sigma_px**2
    right = (columns @ (weights * residual)[..., None])[..., 0] - moved_px / sigma_px**2
    step = np.linalg.solve(matrix.astype(np.float64), right.astype(np.float64)[..., None])[..., 0]
    return np.asarray(np.clip(step, -LARGEST_STEP_PX, LARGEST_STEP_PX))


def centred(kernels: Batch, oversample: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Move every kernel's centroid to the array's centre.

    Parameters
    ----------
    kernels : (..., K, K) float32
    oversample : int

    Returns
    -------
    kernels : (..., K, K) float32
        Sum to one, not negative; untouched where the centroid is within `CENTRED_PX` already.
    displacement_px : (..., 2) float64
        Where the centroid (x, y) lay: what positions, and so the distortion, take over.
    """
    size = kernels.shape[-1]
    flat = kernels.reshape(-1, size, size)
    out, displacement = flat.copy(), np.zeros((len(flat), 2))
    for n, kernel in enumerate(flat):
        for _ in range(4):  # the window moves along, so the centroid within it settles in a few rounds
            off = np.array(centroid_px(out[n], oversample))
            if np.abs(off).max() < CENTRED_PX:
                break
            displacement[n] += off
            across, down = (sinc_matrix(np.arange(size) + d * oversample, size) for d in displacement[n])
            moved = np.maximum(down @ kernel @ across.T, 0)
            out[n] = moved / moved.sum(dtype=np.float64)
    return out.reshape(kernels.shape), displacement.reshape(*kernels.shape[:-2], 2)
