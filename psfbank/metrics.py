"""Figures of a PSF that the field quotes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray


def mtf_along(
    kernel: FloatArray, angle_rad: float, freq_cpp: FloatArray, oversample: int = 1
) -> npt.NDArray[np.float64]:
    """Modulation transfer of a kernel along one direction: the modulus of its Fourier transform over that at 0.

    It is what a slanted edge with its normal in that direction shows (ISO 12233): the transform of a line spread
    function is the section through the transform of the PSF across the line.

    Parameters
    ----------
    kernel : (K, K) float
        Rows down, columns to the right.
    angle_rad : float
        From x (right) towards y (down).
    freq_cpp : (F,) float
        Cycles/pixel along the direction.
    oversample : int
        Samples a pixel; frequencies beyond half of it are folded back.

    Returns
    -------
    (F,) float64
    """
    rows, columns = ((np.arange(n) - n // 2) / oversample for n in kernel.shape)
    turn = -2j * np.pi * np.asarray(freq_cpp)[:, None]
    down, across = np.exp(turn * np.sin(angle_rad) * rows), np.exp(turn * np.cos(angle_rad) * columns)
    transfer = np.einsum("fr,rc,fc->f", down, np.asarray(kernel, dtype=np.float64), across, optimize=True)
    return np.asarray(np.abs(transfer) / kernel.sum())
