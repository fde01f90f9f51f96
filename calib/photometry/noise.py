"""Gain, read noise, black level, dark current and PRNU of flats and darks, by photon transfer.

Terms and equations are those of EMVA 1288, release 4.0, linear model. Its single mean and variance a picture assume an
even field, which no lens gives; here each picture is cut into cells, each of which is one point of the photon transfer
curve, and one pair of frames yields hundreds of them at all the levels that the shading spans.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy import stats

from calib.photometry.cells import OUTLIER_SIGMA, channel_cells, dark_mean, site_offsets
from psfbank.arrays import BoolArray, FloatArray
from psfbank.errors import FitFailed
from psfbank.model import Camera, Capture, NoiseModel

CELL_PX = 32  # even, so that each cell holds the same sites
LINEAR_RANGE = 0.7  # of saturation: the part of the curve that is fitted, as EMVA 1288 does
LEVEL_MATCH = 0.02  # two frames of one level differ in mean by less
QUANTISATION_DN2 = 1.0 / 12.0
QUANTISATION_LIMIT_DN2 = 0.24  # dark variance under which EMVA 1288 gives the read noise as an upper bound
MAX_GAIN_ERROR = 0.1  # one sigma, relative
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TransferPoints:
    """N cells of one channel, each a point of the photon transfer curve.

    Mean, temporal variance and spatial covariance of two frames of one level, of `count` samples each.
    """

    mean_dn: FloatArray
    variance_dn2: FloatArray
    covariance_dn2: FloatArray
    count: FloatArray

    def take(self, which: BoolArray) -> TransferPoints:
        """Select cells by a mask."""
        return TransferPoints(
            self.mean_dn[which], self.variance_dn2[which], self.covariance_dn2[which], self.count[which]
        )


def fit_noise(
    flats: Sequence[Capture],
    darks: Sequence[Capture],
    camera: Camera,
    black_level: npt.ArrayLike,
    white_level: float,
) -> NoiseModel:
    """Measure gain, read noise, black level, dark current and PRNU by channel after EMVA 1288, release 4.0.

    Parameters
    ----------
    flats : sequence of Capture
        Evenly lit; two or more frames a level, in any order; at best at several levels.
    darks : sequence of Capture
        Without light; two or more frames an exposure time. Without darks `black_dn` is the declared level, and the
        read noise, extrapolated from the flats, is NaN where they do not determine it.
    camera : Camera
    black_level : float or (C,) array
        DN that the captures took as 0.
    white_level : float
        DN that they took as 1.

    Returns
    -------
    NoiseModel
        `dark_e_per_s` is NaN unless the darks have known exposure times, two or more different ones.

    Raises
    ------
    FitFailed
        When no two flats show one level, or the flats do not determine the gain.
    """
    black = np.broadcast_to(np.asarray(black_level, dtype=np.float64), (len(camera.channels),))
    pairs, dark_pairs = frame_pairs(flats), frame_pairs(darks)
    if not pairs:
        raise FitFailed(
            f"no two of {len(flats)} flat captures show one level, so noise cannot be told from shading",
            where="flat",
            remedy="Capture two or more flats at each of several exposures",
        )
    rows = []
    for c, (name, zero) in enumerate(zip(camera.channels, black, strict=True)):
        lit = [_points(pair, camera.cfa, c, zero, white_level) for pair in pairs]
        unlit = [_points(pair, camera.cfa, c, zero, white_level) for pair in dark_pairs]
        offset, dn_per_s = _black([(d.exposure_s, dark_mean(d, camera.cfa, c)) for d in darks])
        black_dn, dn_per_s = zero + (white_level - zero) * offset, (white_level - zero) * dn_per_s
        rows.append((*_fit_channel(lit, unlit, black_dn, white_level, name), dn_per_s, black_dn))
    gain, read_noise_e, prnu, dark_dn_per_s, black_dn = np.array(rows).T
    white = np.full(len(black), float(white_level))
    return NoiseModel(gain, read_noise_e, dark_dn_per_s / gain, prnu, black_dn, white, camera.channels)


def frame_pairs(captures: Sequence[Capture]) -> list[tuple[Capture, Capture]]:
    """Pair frames of one exposure time and one mean signal, whatever their order; a frame left over is left out."""
    times = [-1.0 if math.isnan(c.exposure_s) else c.exposure_s for c in captures]  # unknown times are one time
    means = [float(c.pixels.mean(dtype=np.float64)) for c in captures]
    by_level = sorted(zip(times, means, range(len(captures)), strict=True))
    pairs, i = [], 0
    while i + 1 < len(by_level):
        (time_a, mean_a, a), (time_b, mean_b, b) = by_level[i], by_level[i + 1]
        same = time_a == time_b and mean_b - mean_a <= LEVEL_MATCH * max(abs(mean_a), abs(mean_b), 0.05)
        if same:
            pairs.append((captures[a], captures[b]))
        i += 2 if same else 1
    return pairs


def transfer_points(
    a_dn: FloatArray, b_dn: FloatArray, saturated: BoolArray, cfa: str, channel: int, cell_px: int = CELL_PX
) -> TransferPoints:
    """Reduce two frames of one level to points of the photon transfer curve.

    The temporal variance is half that of the difference, in which everything fixed cancels (EMVA 1288, temporal noise
    from two images). The covariance of the two frames, after a quadratic in x and y is taken out of each cell, holds
    what is fixed and not smooth: the non-uniformity, free of temporal noise.

    Parameters
    ----------
    a_dn, b_dn : (H, W) or (H, W, C) float
        DN, black level included.
    saturated : (H, W) bool
        In either frame; cells that hold such a pixel are left out, for they would bend the curve.
    cfa : str
    channel : int
    cell_px : int

    Returns
    -------
    TransferPoints
    """
    clean = ~channel_cells(saturated, cfa, 0 if cfa == "RGB" else channel, cell_px).any(axis=-1)
    a, b = (channel_cells(dn, cfa, channel, cell_px)[clean].astype(np.float64) for dn in (a_dn, b_dn))
    basis = _quadratic(site_offsets(cfa, channel, cell_px) / cell_px)
    mean, difference = (a + b) / 2, a - b
    rough_a, rough_b = (x - (x @ basis) @ basis.T for x in (a, b))
    keep = _inliers(difference - difference.mean(axis=-1, keepdims=True)) & _inliers(rough_a + rough_b)
    count = keep.sum(axis=-1).astype(np.float64)
    centred = np.where(keep, difference - _masked_mean(difference, keep, count)[:, None], 0.0)
    fixed = np.where(keep, rough_a * rough_b, 0.0)
    return TransferPoints(
        _masked_mean(mean, keep, count),
        np.sum(centred**2, axis=-1) / (2 * (count - 1)),
        np.sum(fixed, axis=-1) / (count - basis.shape[1]),
        count,
    )


def fit_line(
    signal_dn: FloatArray, variance_dn2: FloatArray, count: FloatArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fit variance = dark variance + gain * signal to the points of a photon transfer curve.

    A sample variance of n Gaussian values scatters by variance * sqrt(2 / (n - 1)). The weights follow the fitted line,
    not the points, whose own scatter would weigh the low ones up and bias the gain; iterated, this is the maximum
    likelihood of their gamma distribution. Points beyond five sigma are left out.

    Parameters
    ----------
    signal_dn, variance_dn2, count : (N,) float
        Signal above black, temporal variance, samples.

    Returns
    -------
    parameters : (2,) float64
        Dark variance, DN^2 (quantisation included), and gain, DN/e.
    stderr : (2,) float64
    """
    design = np.column_stack([np.ones_like(signal_dn), signal_dn])
    model = np.full_like(variance_dn2, variance_dn2.mean())
    parameters, normal = np.zeros(2), np.eye(2)
    for round_ in range(20):
        spread = model * np.sqrt(2 / (count - 1))
        near = np.abs(variance_dn2 - model) < OUTLIER_SIGMA * spread if round_ > 2 else np.ones(len(model), bool)
        weighted = design[near] / spread[near, None]
        normal = weighted.T @ weighted
        parameters = np.linalg.lstsq(weighted, variance_dn2[near] / spread[near], rcond=None)[0]
        model = np.maximum(design @ parameters, QUANTISATION_DN2)
    return parameters, np.sqrt(np.diag(np.linalg.pinv(normal)))


def _points(pair: tuple[Capture, Capture], cfa: str, channel: int, black: float, white: float) -> TransferPoints:
    a, b = (black + (white - black) * capture.pixels for capture in pair)
    return transfer_points(a, b, pair[0].saturated | pair[1].saturated, cfa, channel)


def _quadratic(xy: FloatArray) -> npt.NDArray[np.float64]:
    """Orthonormal basis (n, 6) of quadratics at (n, 2) places."""
    x, y = xy.T
    return np.linalg.qr(np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y]))[0]


def _inliers(centred: FloatArray) -> BoolArray:
    """Mark samples (N, n) within five standard deviations of their cell's; iterated, for outliers widen it."""
    keep = np.ones(centred.shape, dtype=bool)
    for _ in range(3):
        count = keep.sum(axis=-1, keepdims=True)
        spread = np.sqrt(np.sum(np.where(keep, centred, 0.0) ** 2, axis=-1, keepdims=True) / count)
        keep = np.abs(centred) <= OUTLIER_SIGMA * spread
    return keep


def _masked_mean(values: FloatArray, keep: BoolArray, count: FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray(np.sum(np.where(keep, values, 0.0), axis=-1) / count)


def _black(means: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Signal of darks at no exposure, and its growth a second, from (exposure_s, mean) of each."""
    if not means:
        return 0.0, math.nan
    exposure_s, level = np.array(means).T
    if np.isfinite(exposure_s).all() and np.ptp(exposure_s) > 0:
        slope, offset = np.polyfit(exposure_s, level, 1)
        return float(offset), float(slope)
    return float(level.mean()), math.nan


def _fit_channel(
    lit: Sequence[TransferPoints], unlit: Sequence[TransferPoints], black_dn: float, white_dn: float, name: str
) -> tuple[float, float, float]:
    """Gain DN/e, read noise e and PRNU of one channel."""
    flat, dark = _joined(lit), _joined(unlit)
    flat = flat.take(flat.mean_dn - black_dn < LINEAR_RANGE * (white_dn - black_dn))
    both = _joined([flat, dark])
    remedy = "Capture two flats at each of several levels up to 70 % of saturation, and two darks"
    if len(flat.count) < 3:
        raise FitFailed(f"no part of the flats is in the linear range of channel {name}", where="flat", remedy=remedy)
    (dark_dn2, gain), (dark_error, gain_error) = fit_line(both.mean_dn - black_dn, both.variance_dn2, both.count)
    if not gain_error < MAX_GAIN_ERROR * gain:
        what = f"the gain of channel {name} is {gain:.3g} +- {gain_error:.3g} DN/e, which is no measurement"
        raise FitFailed(what, where="flat", remedy=remedy)
    known = len(dark.count) > 0 or dark_dn2 > 2 * dark_error + QUANTISATION_DN2
    if known and dark_dn2 < QUANTISATION_LIMIT_DN2:
        _log.warning("quantisation hides the read noise of channel %s: what is given is an upper bound", name)
        dark_dn2 = QUANTISATION_LIMIT_DN2
    read_noise_e = math.sqrt(dark_dn2 - QUANTISATION_DN2) / gain if known else math.nan
    model = dark_dn2 + gain * (flat.mean_dn - black_dn)
    return float(gain), read_noise_e, _prnu(flat, dark, black_dn, model)


def _joined(parts: Sequence[TransferPoints]) -> TransferPoints:
    columns = ([getattr(part, field.name) for part in parts] for field in fields(TransferPoints))
    return TransferPoints(*(np.concatenate(column or [np.empty(0)]) for column in columns))


def _prnu(flat: TransferPoints, dark: TransferPoints, black_dn: float, temporal_dn2: FloatArray) -> float:
    """Photo-response non-uniformity: fixed-pattern variance beyond that of the darks, over the squared signal."""
    dsnu_dn2 = stats.trim_mean(dark.covariance_dn2, 0.05) if len(dark.count) else 0.0
    signal = flat.mean_dn - black_dn
    ratio = (flat.covariance_dn2 - dsnu_dn2) / signal**2
    # the fitted variance serves, for a cell's own is low where chance made its two frames alike, and would favour it
    weight = flat.count * (signal**2 / temporal_dn2) ** 2
    score = (ratio - np.median(ratio)) * np.sqrt(weight)
    near = np.abs(score) <= OUTLIER_SIGMA * stats.median_abs_deviation(score, scale="normal")
    return math.sqrt(max(0.0, float(np.average(ratio[near], weights=weight[near]))))
