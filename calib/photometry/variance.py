"""How sure each sample of a capture is, from the noise model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from psfbank.arrays import FloatArray, IntArray
from psfbank.model import Camera, Capture, NoiseModel
from psfbank.sensor import cfa_sites

SMOOTHING_PX = 1.0  # of the light that stands for its own expectation
UNKNOWN_SHARE = 0.05  # of the light, where no noise model tells


def variance_terms(noise: NoiseModel) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Slope and floor, (C,) each, of a sample's variance against its light, in units of white = 1.

    EMVA 1288: var = K (light) + K^2 read^2 + 1/12 DN^2; the floor is NaN where the read noise is.
    """
    span = noise.white_dn - noise.black_dn
    floor = (noise.gain_dn_per_e * noise.read_noise_e) ** 2 + 1 / 12
    return np.asarray(noise.gain_dn_per_e / span), np.asarray(floor / span**2)


def smoothed(pixels: FloatArray, sites: IntArray | None, channels: int) -> npt.NDArray[np.float64]:
    """Average each colour with its own kind around: (H, W) of a mosaic with its sites' colours, or (H, W, C)."""
    if sites is None:
        return np.asarray(ndimage.gaussian_filter(pixels, (SMOOTHING_PX, SMOOTHING_PX, 0)[: pixels.ndim]))
    out = np.zeros(pixels.shape)
    for channel in range(channels):
        own = np.equal(sites, channel)
        light = ndimage.gaussian_filter(np.where(own, pixels, 0.0), SMOOTHING_PX)
        share = ndimage.gaussian_filter(own.astype(np.float64), SMOOTHING_PX)
        out[own] = light[own] / share[own]
    return out


def pixel_variance(capture: Capture, camera: Camera, noise: NoiseModel | None) -> npt.NDArray[np.float64]:
    """Variance of every sample in units of white = 1, (H, W) or (H, W, C); infinite where saturated.

    Where no noise model tells the read noise the background's scatter stands for it; without one at all, light above
    the background is taken to be known to `UNKNOWN_SHARE`.
    """
    pixels = np.asarray(capture.pixels, dtype=np.float64)
    mosaic = pixels.ndim == 2 and len(camera.channels) > 1
    sites = cfa_sites(camera.cfa, pixels.shape) if mosaic else None
    light = np.maximum(smoothed(pixels, sites, len(camera.channels)), 0.0)
    background = (1.4826 * np.median(np.abs(pixels - np.median(pixels)))) ** 2 + 1e-12
    if noise is None:
        variance = background + (UNKNOWN_SHARE * light) ** 2
    else:
        shot, floor = variance_terms(noise)
        floor = np.where(np.isnan(floor), background, floor)
        colour = np.arange(pixels.shape[-1]) if pixels.ndim == 3 else np.zeros(1, int) if sites is None else sites
        variance = shot[colour] * light + floor[colour]
    variance[capture.saturated] = np.inf
    return np.asarray(variance)
