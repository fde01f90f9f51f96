"""Penalties on what kernels add to their base: quadratic, so that they pull it to zero where the data do not speak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.ndimage import gaussian_filter

from calib.sampling import Batch

ENVELOPE_PX = 1.0  # how far beyond the base's own light a remainder may reach
ENVELOPE_FLOOR = 3e-3  # of the peak
BORDER_PX = 1.5  # width of the border that the boundary penalty empties
STEP_LIMIT = 4.0  # on the power of a step between tiles, in medians
BAND_PASS_CPP = 0.7  # free of the band penalty below, fully under it from 1 cycle a pixel


@dataclass(frozen=True)
class Penalties:
    """Weights of the penalties on delta = kernel - base, in units of chi2; infinite `delta` keeps the base.

    Each is the inverse square of a size that seems likely, relative to the base's local height: 100 says that delta is
    expected within 10 %. `delta` weighs its size, `tiles` its change to the next tile, `channels` how much it differs
    between channels, `symmetry` the part of it that changes sign under a turn by half a circle, `boundary` what of it
    lies at the kernel's border, `band` its power towards and beyond 1 cycle a pixel (relative to the base's peak).
    """

    delta: float = 100.0
    tiles: float = 400.0
    channels: float = 400.0
    symmetry: float = 100.0
    boundary: float = 1e4
    band: float = 1e4


def low_pass(size: int, oversample: int) -> npt.NDArray[np.float32]:
    """Circulant matrix (K, K) that passes frequencies up to `BAND_PASS_CPP` and none from 1 cycle a pixel."""
    freq_cpp = np.abs(fft.fftfreq(size, 1 / oversample))
    ramp = np.clip((freq_cpp - BAND_PASS_CPP) / (1 - BAND_PASS_CPP), 0, 1)
    response = fft.ifft(np.cos(np.pi / 2 * ramp) ** 2).real
    return np.asarray(response[(np.arange(size)[:, None] - np.arange(size)) % size], dtype=np.float32)


def turned(kernels: Batch) -> Batch:
    """Turn kernels (..., K, K) by half a circle."""
    return kernels[..., ::-1, ::-1]


class Penalty:
    """The penalties of deltas (C, Ty, Tx, K, K) about a base.

    Parameters
    ----------
    base : (C, Ty, Tx, K, K) float32
    oversample : int
    weights : Penalties
        Finite.
    """

    def __init__(self, base: Batch, oversample: int, weights: Penalties) -> None:
        size = base.shape[-1]
        blur = (0, 0, 0, ENVELOPE_PX * oversample, ENVELOPE_PX * oversample)
        envelope = gaussian_filter(base, blur, mode="constant")
        peak = envelope.max((-2, -1), keepdims=True)
        variance = (envelope + turned(envelope)) ** 2 / 4 + (ENVELOPE_FLOOR * peak) ** 2
        precision = np.asarray(1 / variance, dtype=np.float32)
        from_border = np.minimum(np.arange(size), np.arange(size)[::-1])
        border = np.minimum(from_border[:, None], from_border) < BORDER_PX * oversample
        self.low_pass = low_pass(size, oversample)
        self.band = np.asarray(weights.band / peak**2, dtype=np.float32)
        self.odd = np.float32(weights.symmetry / 2) * precision
        self.size = precision * np.asarray(weights.delta + weights.boundary * border, dtype=np.float32)
        self.shared = np.asarray(weights.channels / variance.mean(0), dtype=np.float32)
        self.rows, self.columns = (
            np.asarray(2 * weights.tiles / (variance[ahead] + variance[behind]), dtype=np.float32)
            for ahead, behind in (_ends(1), _ends(2))
        )

    def gradient(self, delta: Batch) -> Batch:
        """Half of the penalties' gradient, the same shape; linear in delta."""
        low = self.low_pass
        out = (self.size + self.odd + self.band) * delta
        out -= self.odd * turned(delta)
        out -= self.band * (low @ delta @ low)
        if len(delta) > 1:
            out += self.shared * (delta - delta.mean(0))
        for axis, precision in ((1, self.rows), (2, self.columns)):
            step = precision * np.diff(delta, axis=axis)
            ahead, behind = _ends(axis)
            out[ahead] += step
            out[behind] -= step
        return out

    def bound(self) -> Batch:
        """Diagonal (C, Ty, Tx, K, K) that nowhere curves less than the penalties do (Gershgorin)."""
        out = self.size + 2 * self.odd + self.band
        if len(out) > 1:
            out += 2 * self.shared
        for axis, precision in ((1, self.rows), (2, self.columns)):
            for end in _ends(axis):
                out[end] += 2 * precision
        return np.asarray(out)

    def relax(self, delta: Batch) -> None:
        """Weigh the steps between tiles so that those that stand out count as in Huber's loss, not squared.

        Abrupt spots are real (Chen et al., ICCV 2021): where the data insist on a step, smoothness must not smear it.
        """
        power = [
            np.sum(precision * np.diff(delta, axis=axis) ** 2, axis=(-2, -1), keepdims=True)
            for axis, precision in ((1, self.rows), (2, self.columns))
        ]
        known = np.concatenate([p.ravel() for p in power])
        usual = STEP_LIMIT * np.median(known) if known.size else 0.0
        if usual > 0:
            self.rows, self.columns = (
                precision / np.sqrt(np.maximum(p / np.float32(usual), 1))
                for precision, p in zip((self.rows, self.columns), power, strict=True)
            )


def _ends(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    before = (slice(None),) * axis
    return (*before, slice(1, None)), (*before, slice(None, -1))
