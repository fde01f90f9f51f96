"""How a capture is exposed, and whether its noise grows with its signal as that of light does.

Photons are counted with a variance that is their number, and a sensor adds what does not depend on light: in linear
samples the variance never falls while the signal rises (EMVA 1288, photon transfer). A gamma curve of exponent 1/g
multiplies it by its squared slope, ~ v^(2 - 2 g) of the coded signal v, and turns the rise ~ v^g of photon noise into
v^(2 - g), which falls where g is above 2; that of constant noise falls in any case.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from psfbank.arrays import BoolArray, FloatArray
from psfbank.model import Camera, Capture
from psfbank.sensor import cfa_sites

CELL_PX = 8  # sites of one colour a side, in which mean and variance are taken
SMOOTH_SHARE = 0.5  # of the cells of a level, the quietest, speak for it: others hold structure
LEVELS, LEAST_CELLS, LEAST_SPAN = 8, 12, 2.5  # of signal: bins in its logarithm, cells a bin, largest over least
BRIGHTEST = 0.9  # of white: beyond, clipping takes noise away
HOT_SIGMA = 10.0  # above the neighbours of one colour, in standard deviations of the whole frame


def exposure(capture: Capture) -> dict[str, float]:
    """Share of saturated pixels, and quantiles of the light in units of white = 1."""
    pixels = np.asarray(capture.pixels)
    median, most, almost_all, brightest = np.percentile(pixels, [50, 90, 99, 99.99])
    return {
        "pixels": float(capture.saturated.size),
        "saturated_share": float(np.mean(capture.saturated)),
        "median": float(median),
        "most": float(most),
        "almost_all": float(almost_all),
        "brightest": float(brightest),
        "spread": 1.4826 * float(np.median(np.abs(pixels - median))),
    }


def planes(capture: Capture, camera: Camera) -> list[npt.NDArray[np.float64]]:
    """Split a capture into square grids of one colour: the four sites of a mosaic, or the channels."""
    pixels = np.asarray(capture.pixels, dtype=np.float64)
    if pixels.ndim == 3:
        return [pixels[..., c] for c in range(pixels.shape[2])]
    if camera.cfa == "mono":
        return [pixels]
    return [pixels[y::2, x::2] for y in (0, 1) for x in (0, 1)]


def noise_slope(capture: Capture, camera: Camera) -> tuple[float, float]:
    """Slope of log variance against log signal over the quiet parts of one picture, and its standard deviation.

    The variance is that of second differences along the diagonal, which shading and slanted edges hardly reach, in the
    quietest cells of each level; NaN where the picture holds too few levels.
    """
    signal, variance = _levels(planes(capture, camera))
    if len(signal) < 3 or signal.max() < LEAST_SPAN * signal.min():
        return float("nan"), float("nan")
    fit, covariance = np.polyfit(np.log(signal), np.log(variance), 1, cov="unscaled")
    residual = np.log(variance) - np.polyval(fit, np.log(signal))
    scatter = max(float(np.sqrt(np.mean(residual**2))), 0.05)
    return float(fit[0]), scatter * float(np.sqrt(covariance[0, 0]))


def flat_noise(capture: Capture, camera: Camera) -> tuple[float, float]:
    """Signal of an even field and the variance of its noise, both medians over cells of all colours."""
    signal, variance = _levels(planes(capture, camera))
    return (float(np.median(signal)), float(np.median(variance))) if len(signal) else (float("nan"), float("nan"))


def _levels(samples: list[npt.NDArray[np.float64]]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Signal and variance of the levels that a picture's quiet cells hold."""
    means, variances = [], []
    for plane in samples:
        kernel = np.array([[1.0, -2.0, 1.0]])
        rough = cv2.sepFilter2D(plane, -1, kernel, kernel.T) / 6  # (1 + 4 + 1)^2 = 36 times the variance of white noise
        rows, columns = (n // CELL_PX for n in plane.shape)
        shape = rows, CELL_PX, columns, CELL_PX
        cut = np.s_[: rows * CELL_PX, : columns * CELL_PX]
        means.append(plane[cut].reshape(shape).mean(axis=(1, 3)).ravel())
        variances.append((rough[cut] ** 2).reshape(shape).mean(axis=(1, 3)).ravel())
    mean, variance = np.concatenate(means), np.concatenate(variances)
    good = (mean > 0.005) & (mean < BRIGHTEST) & (variance > 0)
    mean, variance = mean[good], variance[good]
    if len(mean) < 3 * LEAST_CELLS:
        return np.zeros(0), np.zeros(0)
    edges = np.geomspace(mean.min(), mean.max() * (1 + 1e-9), LEVELS + 1)
    level = np.digitize(mean, edges) - 1
    signal, quiet = [], []
    for k in range(LEVELS):
        own = np.flatnonzero(level == k)
        if len(own) >= LEAST_CELLS:
            least = own[np.argsort(variance[own])[: int(SMOOTH_SHARE * len(own))]]
            signal.append(float(mean[least].mean()))
            quiet.append(float(variance[least].mean()))
    return np.array(signal), np.array(quiet)


def hot_pixels(capture: Capture, camera: Camera) -> BoolArray:
    """Mark (H, W) the pixels of a dark frame that stand far above their neighbours of one colour."""
    hot = np.zeros(capture.pixels.shape[:2], dtype=bool)
    pixels = np.asarray(capture.pixels, dtype=np.float32)
    grids = [np.s_[y::2, x::2] for y in (0, 1) for x in (0, 1)] if _is_mosaic(capture, camera) else [np.s_[:, :]]
    for grid in grids:
        plane = pixels[grid] if pixels.ndim == 2 else pixels.max(axis=2)
        above = plane - cv2.medianBlur(np.ascontiguousarray(plane), 5)
        noise = 1.4826 * float(np.median(np.abs(above))) + float(np.std(above[np.abs(above) < 0.01])) + 1e-6
        hot[grid] = above > HOT_SIGMA * noise
    return hot


def _is_mosaic(capture: Capture, camera: Camera) -> bool:
    return capture.pixels.ndim == 2 and camera.cfa != "mono"


def green(capture: Capture, camera: Camera) -> tuple[FloatArray, BoolArray]:
    """Values (H, W) of green, or of the only channel, and the mask (H, W) of its own sites."""
    pixels = np.asarray(capture.pixels, dtype=np.float64)
    channel = camera.channels.index("G") if "G" in camera.channels else 0
    if pixels.ndim == 3:
        return pixels[..., channel], np.ones(pixels.shape[:2], dtype=bool)
    return pixels, np.equal(cfa_sites(camera.cfa, pixels.shape), channel)
