"""The accurate SFR: every pixel at its distance along the edge's normal, an ESF that is a function, its transform.

In this order: course of the edge (`line`), noise of the samples, profile, blurred steps (`trunk`), what these leave
(`local`). There is no difference and no window to correct for; bins are a twelfth of the blur wide, and their own
response, a part in a thousand, is divided out. The covariance of the samples is carried to the SFR and to MTF50.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from calib.edge.fit import Edge
from calib.edge.line import EdgeLine, fit_line
from calib.edge.local import add_local
from calib.edge.response import Response, crossing_cpp
from calib.edge.trunk import Estimate, Profile, fit_trunk
from psfbank.arrays import ComplexArray, FloatArray, IntArray
from psfbank.errors import FitFailed

FREQ_CPP = np.arange(257) / 256
FINE_PX = np.arange(-128, 129) / 8  # of the ESF and LSF that are told
FEWEST_SAMPLES = 60  # around an edge
BINS_A_BLUR = 12  # at the edge
WIDENS_BLURS = 2.0  # bins grow beyond
LEAST_NOISE = 1e-6  # of the step: rounding
CELL_PX, LEAST_IN_CELL = 8.0, 12  # of the window, and samples in it, that are looked at together
BLOT_SIGMAS, LEAST_BLOT = 6.0, 0.03  # of a cell's mean that is something else, and at least this share of the step
CENTROID_BLURS, CENTROID_STEPS = 2.0, 8  # width of the weight under which the LSF's centroid lies

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AccurateSfr:
    """Response of an edge in one channel, and what was found on the way.

    `centroid_px` is where the LSF's centroid lies, along the normal at `line.angle_rad` from `line.xy_px`. `dark`,
    `step` are the levels, `noise` is the standard deviation of samples halfway between them. `contaminated` tells that
    samples lie together off the edge's profile: something else is in the window.
    """

    response: Response
    line: EdgeLine
    centroid_px: float
    dark: float
    step: float
    noise: float
    contaminated: bool


def sfr_accurate(values: FloatArray, xy_px: FloatArray, edge: Edge) -> AccurateSfr:
    """Measure the SFR along the normal of an edge.

    Parameters
    ----------
    values : (N,) float
        Linear samples of one channel around one edge, nothing else among them.
    xy_px : (N, 2) float
        Where they are: any sites, in any order.
    edge : Edge
        About where the edge is, and how blurred.

    Returns
    -------
    AccurateSfr

    Raises
    ------
    FitFailed
        When there is no step between the two sides, or too few samples to tell.
    """
    if len(values) < FEWEST_SAMPLES:
        raise FitFailed(
            f"only {len(values)} samples lie clear around it",
            where=f"the edge at {edge.xy_px[0]:.0f}, {edge.xy_px[1]:.0f}",
            remedy="Come nearer, print it larger, or leave more clear space around it",
        )
    line = fit_line(values, xy_px, edge)
    x, along = line.frame(xy_px)
    if not x.min() < 0 < x.max():
        raise FitFailed(
            "it does not cross its own window",
            where=f"the edge at {edge.xy_px[0]:.0f}, {edge.xy_px[1]:.0f}",
            remedy="Leave more clear space on either side of the edge",
        )
    even = values / (1 + line.light_per_px * along)
    fine = FINE_PX[(x.min() <= FINE_PX) & (x.max() >= FINE_PX)]
    profile = _profile(x, even, np.full(len(x), float(np.var(even))), line.blur_px)
    first = fit_trunk(profile, line.blur_px, np.zeros(1), fine)
    variance, noise = _variance(even - np.interp(x, profile.x_px, first.esf), x, first)
    profile = _profile(x, even, variance, line.blur_px)
    estimate = add_local(profile, fit_trunk(profile, line.blur_px, FREQ_CPP, fine), FREQ_CPP, fine)
    step = float(estimate.otf[0].real)
    if not step > noise:
        raise FitFailed(
            f"its two sides differ by {step:.2g}, the noise is {noise:.2g}",
            where=f"the edge at {edge.xy_px[0]:.0f}, {edge.xy_px[1]:.0f}",
            remedy="Leave more clear space on either side of the edge, or give it more contrast",
        )
    left = even - np.interp(x, profile.x_px, estimate.esf)
    response = _response(profile, estimate, _of_bins(x, _bins(x, line.blur_px), line.blur_px), fine)
    contaminated = _something_else(left / np.maximum(np.sqrt(variance), LEAST_BLOT / BLOT_SIGMAS * step), x, along)
    centroid = line.middle_px + _centroid(fine, estimate.fine_lsf / step, estimate.blur_px, estimate.middle_px)
    return AccurateSfr(response, line, centroid, float(estimate.fine_esf[0]), step, noise, contaminated)


def _profile(x_px: Array, values: Array, variance: Array, blur_px: float) -> Profile:
    """Gather samples in bins, narrow at the edge; each bin's mean place and value is a sample of the profile."""
    number = _bins(x_px, blur_px)
    weights = np.bincount(number, 1 / variance)
    taken = weights > 0
    weight: Array = np.asarray(weights[taken], np.float64)
    place = np.bincount(number, x_px / variance)[taken] / weight
    value = np.bincount(number, values / variance)[taken] / weight
    inner = float(np.sum(values**2 / variance) - np.sum(weight * value**2))
    return Profile(place, value, weight, len(values), max(inner, 0.0))


def _bins(x_px: Array, blur_px: float) -> IntArray:
    """Give each sample the number (N,) of its bin."""
    widens, width = WIDENS_BLURS * blur_px, blur_px / BINS_A_BLUR
    number = np.floor(widens * np.arcsinh(x_px / widens) / width).astype(np.int64)
    return np.asarray(number - number.min())


def _variance(left: Array, x_px: Array, trunk: Estimate) -> tuple[Array, float]:
    """Variance (N,) of samples, linear in their level as photon noise makes it, and the noise halfway up the edge."""
    level = ndtr((x_px - trunk.middle_px) / trunk.blur_px)
    design = np.column_stack([1 - level, level])
    dark, bright = np.linalg.lstsq(design, left**2, rcond=None)[0]
    mean = float(np.mean(left**2))
    floor = max((LEAST_NOISE * abs(trunk.otf[0])) ** 2, 0.05 * mean)
    dark, bright = max(float(dark), floor), max(float(bright), floor)
    return dark + (bright - dark) * level, float(np.sqrt((dark + bright) / 2))


def _something_else(left: Array, x_px: Array, along_px: Array) -> bool:
    """Whether residuals (N,), in standard deviations, of some cell of the window are off together."""
    across, down = (np.floor((v - v.min()) / CELL_PX).astype(np.int64) for v in (x_px, along_px))
    cell = across * (down.max() + 1) + down
    count = np.bincount(cell)
    mean = np.bincount(cell, left) / np.maximum(count, 1)
    return bool(np.any((count >= LEAST_IN_CELL) & (np.abs(mean) * np.sqrt(count) > BLOT_SIGMAS)))


def _centroid(x_px: Array, lsf: Array, blur_px: float, start_px: float) -> float:
    """Centroid of a line spread function (X,) under a Gaussian that follows it: wings and noise have little part."""
    middle = start_px
    for _ in range(CENTROID_STEPS):
        weight = lsf * np.exp(-0.5 * ((x_px - middle) / (CENTROID_BLURS * blur_px)) ** 2)
        total = float(np.sum(weight))
        if not total > 0:  # a line spread function whose lobes outdo each other is none
            raise FitFailed("its samples fall on too few distances", remedy="Turn the edge by 5 or 8 degrees")
        middle = float(np.sum(weight * x_px)) / total
    return middle


def _response(profile: Profile, estimate: Estimate, of_bins: Array, fine_px: Array) -> Response:
    """Normalise an estimate, and carry the samples' noise to the SFR and to MTF50."""
    step = estimate.otf[0].real
    sfr = np.abs(estimate.otf) / step / of_bins
    turned = np.asarray(
        np.conj(estimate.otf) / np.maximum(np.abs(estimate.otf), np.finfo(float).tiny), dtype=np.complex128
    )
    sfr_of = _of_sfr(estimate.otf_of, turned, sfr, step)
    root = np.concatenate([sfr_of / np.sqrt(profile.weight), _of_sfr(estimate.spread.T, turned, sfr, step)], axis=1)
    std = np.sqrt(np.sum(root**2, axis=1))
    mtf50 = crossing_cpp(FREQ_CPP, sfr, 0.5)
    mtf50_std = float("nan")
    if np.isfinite(mtf50):
        at = min(int(mtf50 * (len(FREQ_CPP) - 1)), len(FREQ_CPP) - 2)
        slope = (sfr[at + 1] - sfr[at]) * (len(FREQ_CPP) - 1)
        share = mtf50 * (len(FREQ_CPP) - 1) - at
        mtf50_std = float(np.linalg.norm((1 - share) * root[at] + share * root[at + 1]) / abs(slope))
    lsf = estimate.fine_lsf / step
    return Response(FREQ_CPP, sfr, std, fine_px, estimate.fine_esf, lsf, mtf50_std)


def _of_bins(x_px: Array, number: IntArray, blur_px: float) -> Array:
    """Response (F,) to averaging samples (N,) over bins, as far as the edge is blurred like a Gaussian.

    Its variance is that of places within bins, as it is where the line spread function is. Where phases fall together
    bins hold one place and blur nothing.
    """
    count = np.bincount(number)
    mean = np.bincount(number, x_px) / np.maximum(count, 1)
    density = np.exp(-0.5 * (x_px / blur_px) ** 2)
    variance_px2 = float(np.sum(density * (x_px - mean[number]) ** 2) / np.sum(density))
    return np.asarray(np.exp(-2 * (np.pi * FREQ_CPP) ** 2 * variance_px2))


def _of_sfr(otf_of: ComplexArray, turned: ComplexArray, sfr: Array, step: float) -> Array:
    """Turn a transform's derivative (F, B) into that of its normalised modulus."""
    return np.asarray((np.real(turned[:, None] * otf_of) - sfr[:, None] * np.real(otf_of[:1])) / step)
