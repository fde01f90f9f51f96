"""Slanted edges with too little space for a drawn piece -> their profiles, as observations of the PSF.

An edge's SFR is the modulus of the section through the OTF along its normal. What enters the fit is the same section
before the modulus is taken: the edge spread function, in narrow bins of distance from the edge. It is linear in the
PSF but for a shift, which the fit finds as it finds the position of a light; step and level are eliminated as flux and
background are; its bins hold different pixels, so that their errors are independent and known from the sensor's noise,
where those of neighbouring frequencies of an SFR are not. Edges of three orientations or more determine the even part
of the OTF (Fourier slice theorem), their skewness the odd one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from calib.edge.line import EdgeLine, fit_line
from calib.edge.window import Window, window_of
from calib.edge_pieces import EdgeShot, EdgeView, taken_evenly
from calib.photometry.variance import pixel_variance
from calib.pointmodel import Batch
from psfbank.arrays import BoolArray, FloatArray
from psfbank.model import Camera, NoiseModel
from psfbank.sensor import cfa_sites

REACH_PX, BIN_PX = 8.0, 0.2  # of profiles on either side of the edge, and their bins
BINS = 2 * round(REACH_PX / BIN_PX)
LEAST_REACH_PX = 4.0  # on both sides, or levels and blur are told apart badly
MARGIN_PX = 2.0  # of a profile's period beyond what the PSF reaches: half a pixel, diffusion, the shift
HIGHEST_CPP = 1.25  # of a profile: beyond, a pixel's response to the finest that lenses show is a hundredth


@dataclass(frozen=True)
class ProfileSamples:
    """Data of N profiles of edges in D bins each.

    `across_px` (N, D) is the mean distance of a bin's pixels from the measured edge, positive where bright, along
    `normal` (N, 2); the edge passes through `measured_px` (N, 2). `pixels` (N, 1, D, 1) counts them; `values` and
    `weights` (N, 1, D, 1) are their means and the inverse variances of these, 0 for bins without pixels.
    """

    across_px: FloatArray
    normal: FloatArray
    measured_px: FloatArray
    pixels: FloatArray
    values: FloatArray
    weights: FloatArray

    def take(self, which: npt.NDArray[np.int64] | slice) -> ProfileSamples:
        """Select profiles."""
        return ProfileSamples(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    def sampled(self, fine: Batch, fine_px: FloatArray, xy_px: FloatArray, diffusion_px: float) -> Batch:
        """Blur a step with point images (B, V, F, F), the edges through places (B, 2), px: (B, 1, V, D, 1).

        With H the transform of the PSF along the normal, LSF(u) is the integral of H(f) exp(2 pi i f u), and the step's
        image its running integral. As a Fourier series over a period T that holds the LSF, f = k / T:
        ESF(u) = H(0) (u + T/2) / T + sum_k 2 Re[H(f) (exp(2 pi i f u) - (-1)^k) / (2 pi i f T)].
        """
        step, period = float(fine_px[1] - fine_px[0]), 2 * (float(fine_px[-1]) + MARGIN_PX)
        k = np.arange(1, int(HIGHEST_CPP * period) + 1)
        freq = np.append(0.0, k / period)
        turns = 2 * np.pi * freq * self.normal[:, :, None]  # (B, 2, K)
        across, down = (np.exp(-1j * turns[:, axis, :, None] * fine_px).astype(np.complex64) for axis in (0, 1))
        count, views, size = fine.shape[:3]
        parts = np.swapaxes(np.concatenate([across.real, across.imag], axis=1), 1, 2)  # (B, F, 2 K)
        rows = (fine.reshape(count, -1, size) @ parts).reshape(count, views, size, 2, -1)
        transfer = np.einsum("bvfk,bkf->bvk", rows[..., 0, :] + np.complex64(1j) * rows[..., 1, :], down)
        # a pixel is a box, a bin is one along the normal, diffusion is a Gaussian
        seen = (
            np.sinc(freq * BIN_PX) * np.sinc(freq * self.normal[:, 0, None]) * np.sinc(freq * self.normal[:, 1, None])
        )
        transfer *= (step**2 * seen * np.exp(-2 * (np.pi * diffusion_px * freq) ** 2)).astype(np.float32)[:, None]
        shift = np.sum((xy_px - self.measured_px) * self.normal, axis=1)
        at = self.across_px - shift[:, None]
        waves = np.empty((len(at), len(freq), at.shape[1]), dtype=np.complex64)
        waves[:, 0] = at / period + 0.5
        turning = np.exp(2j * np.pi * freq[1:, None] * at[:, None]) - ((-1.0) ** k)[:, None]
        waves[:, 1:] = turning / (1j * np.pi * k[:, None])
        esf = transfer.real @ waves.real - transfer.imag @ waves.imag
        return np.asarray(esf[:, None, ..., None], dtype=np.float32)

    def cropped(self, half_px: int) -> ProfileSamples:
        """Keep all: a narrower PSF reaches every bin."""
        return self

    def reweighed(self, weights: FloatArray) -> ProfileSamples:
        """Return the same data, single pixels having other weights."""
        return replace(self, weights=weights * self.pixels)

    def linear(self, images: FloatArray) -> npt.NDArray[np.float64]:
        """Stack what the data are a linear combination of, (B, 4, D): edge, level, and light that varies over both."""
        at = self.across_px / REACH_PX
        return np.stack([images, np.ones_like(images), images * at, at], axis=1)

    def drawn(self, size: int) -> npt.NDArray[np.float32]:
        """Draw the edges sharp through the middles of pictures (N, size, size)."""
        x, y = np.meshgrid(*(np.arange(size) - size // 2,) * 2)
        away = self.normal[:, 0, None, None] * x + self.normal[:, 1, None, None] * y
        return np.asarray(np.clip(away + 0.5, 0.0, 1.0), dtype=np.float32)


def without_pieces(seen: EdgeShot, view: EdgeView) -> EdgeShot:
    """Edges of a capture on which no piece was laid: nothing is counted twice."""
    taken = {id(edge) for edge in view.edges}
    return EdgeShot(seen.capture, tuple(edge for edge in seen.edges if id(edge) not in taken))


def thinned_shots(
    shots: Sequence[EdgeShot], size_px: tuple[int, int], most: int, rng: np.random.Generator
) -> list[EdgeShot]:
    """Take about `most` of the edges of all captures, evenly over the picture (H, W)."""
    places = [np.array([edge.xy_px for edge in shot.edges]).reshape(-1, 2) for shot in shots]
    taken = taken_evenly(places, size_px, most, rng)
    return [
        EdgeShot(s.capture, tuple(s.edges[k] for k in np.flatnonzero(t))) for s, t in zip(shots, taken, strict=True)
    ]


def profiles_of(
    seen: EdgeShot, camera: Camera, noise: NoiseModel | None
) -> tuple[npt.NDArray[np.float64], tuple[ProfileSamples, ...]]:
    """Average the clear pixels around edges in bins of their distance from the edge, channel by channel.

    The edge's course is that of the reference channel, so that the others tell lateral colour.

    Parameters
    ----------
    seen : EdgeShot
    camera : Camera
    noise : NoiseModel or None

    Returns
    -------
    xy_px : (M, 2) float64
        A point of each edge that has clear space on both sides and no clipped pixel.
    channels : tuple of ProfileSamples
        M profiles of each channel.
    """
    pixels, variance = np.asarray(seen.capture.pixels, dtype=np.float64), pixel_variance(seen.capture, camera, noise)
    planes = [_plane(pixels, camera, c) for c in range(len(camera.channels))]
    variances = [variance[..., c] if variance.ndim == 3 else variance for c in range(len(planes))]
    reference = camera.channels.index("G") if "G" in camera.channels else 0
    saturated = np.asarray(seen.capture.saturated)
    places, lines, parts = [], [], list[list[tuple[FloatArray, ...]]]()
    for edge in seen.edges:
        windows = [window_of(values, use, saturated, edge) for values, use in planes]
        if any(w.contaminated or w.clipped for w in windows):
            continue
        line = fit_line(windows[reference].values, windows[reference].xy_px, edge)
        across = line.frame(windows[reference].xy_px)[0]
        if min(across.max(initial=0.0), -across.min(initial=0.0)) < LEAST_REACH_PX:
            continue
        lines.append(line)
        places.append(_middle(line))
        parts.append([_binned(w, line, v) for w, v in zip(windows, variances, strict=True)])
    xy_px = np.array(places).reshape(-1, 2)
    normal = np.array([[np.cos(line.angle_rad), np.sin(line.angle_rad)] for line in lines]).reshape(-1, 2)
    channels = []
    for c in range(len(planes)):
        at, count, mean, weight = np.array([part[c] for part in parts]).reshape(-1, 4, BINS).swapaxes(0, 1)
        stacked = (a[:, None, :, None] for a in (count, mean, weight))
        channels.append(ProfileSamples(at, normal, xy_px, *stacked))
    return xy_px, tuple(channels)


def joined(parts: Sequence[ProfileSamples]) -> ProfileSamples:
    """Put the profiles of several captures one after the other."""
    names = ProfileSamples.__dataclass_fields__
    return ProfileSamples(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _plane(pixels: FloatArray, camera: Camera, channel: int) -> tuple[FloatArray, BoolArray]:
    """Values (H, W) of one channel, and which of them are its own sites."""
    if pixels.ndim == 3:
        return pixels[..., channel], np.ones(pixels.shape[:2], dtype=bool)
    return pixels, np.asarray(cfa_sites(camera.cfa, pixels.shape) == channel)


def _middle(line: EdgeLine) -> npt.NDArray[np.float64]:
    """Point (2,) px where an edge crosses the normal of its straight line's middle."""
    return np.asarray(line.xy_px + line.middle_px * np.array([np.cos(line.angle_rad), np.sin(line.angle_rad)]))


def _binned(window: Window, line: EdgeLine, variance: FloatArray) -> tuple[FloatArray, ...]:
    """Mean distance, count, mean value and its inverse variance in every bin, (BINS,) each."""
    across, along = line.frame(window.xy_px)
    near = np.abs(across) < REACH_PX
    number = np.floor((across[near] + REACH_PX) / BIN_PX).astype(np.int64)
    columns, rows = window.xy_px[near].astype(np.int64).T
    light = 1 + line.light_per_px * along[near]
    count, at, mean, spread = (
        np.bincount(number, w, BINS).astype(np.float64)
        for w in (np.ones(len(number)), across[near], window.values[near] / light, variance[rows, columns] / light**2)
    )
    some = np.maximum(count, 1)
    weight = np.divide(count**2, spread, out=np.zeros(BINS), where=np.isfinite(spread) & (count > 0))
    return at / some, count, mean / some, weight
