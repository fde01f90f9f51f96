"""The greater part of an edge spread function: a blurred step whose number of terms is averaged over, not chosen.

With the blur's width from the fit of a Gaussian, all columns of `calib.edge.shape` enter linearly. Candidates with more
and more wings, and with more and more terms, weigh as their Bayesian information criterion says (Hoeting et al., Stat.
Sci. 14, 1999): the mean is linear in the samples but for the weights, and what the candidates differ by is part of its
uncertainty. One QR decomposition holds all nested numbers of terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from scipy.optimize import least_squares
from scipy.special import ndtr

from calib.edge.shape import HEAD, Wing, esf_columns, lsf_columns, otf_columns
from psfbank.arrays import FloatArray, IntArray
from psfbank.errors import FitFailed

TERMS = (2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20)  # numbers of terms that are tried; two are a Gaussian's place and width
WINGS = (Wing(2.0), Wing(2.0, leaning=True), Wing(8.0))  # none, the first, the first two and all are tried
CORE_BLURS = 4.0  # half width of the part of the profile that tells the terms
LEAST_WEIGHT = 3e-3  # of a candidate that has a part
LEAST_PIVOT = 0.5  # of a column beside those before it, over that of dense samples: below, phases leave gaps
DENSE_BLURS, DENSE = 30.0, 1201  # half width and number of dense samples, to compare with

Array = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class Profile:
    """Samples of an edge spread function: `value` (B,) at `x_px` (B,), of variance 1 / `weight` (B,).

    `count` is that of the pixels behind them, `inner` the weighted sum of squares that is left within samples.
    """

    x_px: Array
    value: Array
    weight: Array
    count: int
    inner: float


@dataclass(frozen=True, eq=False)
class Estimate:
    """What an estimator that is linear in a profile (B,) makes of it.

    `esf` (B,) is the edge spread function at the samples, `esf_of` (B, B) its derivative by them; `otf` (F,) the
    transform of the LSF, not normalised, and `otf_of` (F, B) its derivative; `fine_esf`, `fine_lsf` (X,) lie where they
    were asked for. `spread` (K, F) are the candidates' distances from the mean, each times the root of its weight.
    `middle_px` and `blur_px` are the place and the sigma of the Gaussian.
    """

    esf: Array
    esf_of: Array
    otf: Complex
    otf_of: Complex
    fine_esf: Array
    fine_lsf: Array
    spread: Complex
    middle_px: float
    blur_px: float


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Some of the columns, by their numbers, and the triangle that solves for them; `criterion` is its BIC."""

    taken: IntArray
    triangle: Array
    criterion: float


def fit_trunk(profile: Profile, blur_px: float, freq_cpp: FloatArray, fine_px: FloatArray) -> Estimate:
    """Fit blurred steps to a profile and average over them.

    Parameters
    ----------
    profile : Profile
    blur_px : float
        About the width of its blur.
    freq_cpp : (F,) float
        Where the transform is wanted, cycles/pixel.
    fine_px : (X,) float
        Where the ESF and the LSF are wanted.

    Returns
    -------
    Estimate

    Raises
    ------
    FitFailed
        When there are fewer places than a blurred step has unknowns.
    """
    middle, blur, level = _gaussian(profile, blur_px)
    x, most = profile.x_px - middle, max(TERMS)
    columns = esf_columns(x, blur, level, WINGS, most)
    weighted = columns * np.sqrt(profile.weight)[:, None]
    scale = np.linalg.norm(weighted, axis=0)
    weighted /= scale
    # what is at stake is the core: pixels of the plateaus tell nothing of the terms
    core = max(10, int(profile.count * np.mean(np.abs(x) < CORE_BLURS * blur)))
    candidates = [c for wings in range(len(WINGS) + 1) for c in _candidates(profile, weighted, wings, core)]
    if not candidates:
        raise FitFailed(f"its samples fall on {len(x)} distances only", remedy="Turn the edge by 5 or 8 degrees")
    least = min(c.criterion for c in candidates)
    shares = np.exp(0.5 * (least - np.array([c.criterion for c in candidates])))
    shares = np.where(shares > LEAST_WEIGHT, shares, 0.0) / np.sum(shares[shares > LEAST_WEIGHT])
    kept = np.flatnonzero(shares)
    of_profile = np.zeros((len(kept), columns.shape[1], len(x)))
    for row, k in enumerate(kept):
        taken, triangle = candidates[k].taken, candidates[k].triangle
        normal = solve_triangular(triangle, weighted[:, taken].T, trans="T")
        of_profile[row, taken] = solve_triangular(triangle, normal) * np.sqrt(profile.weight) / scale[taken, None]
    each = of_profile @ profile.value
    mean_of, mean = np.tensordot(shares[kept], of_profile, 1), shares[kept] @ each
    transforms = otf_columns(freq_cpp, blur, WINGS, most)
    still = np.where(np.arange(len(mean)) == HEAD - 1, 0.0, mean)  # the light's slope is no blur
    return Estimate(
        esf=columns @ mean,
        esf_of=columns @ mean_of,
        otf=transforms @ mean,
        otf_of=transforms @ mean_of,
        fine_esf=esf_columns(fine_px - middle, blur, level, WINGS, most) @ still,
        fine_lsf=lsf_columns(fine_px - middle, blur, WINGS, most) @ still,
        spread=np.asarray(np.sqrt(shares[kept])[:, None] * ((each - mean) @ transforms.T), dtype=np.complex128),
        middle_px=middle,
        blur_px=blur,
    )


def _gaussian(profile: Profile, blur_px: float) -> tuple[float, float, Array]:
    """Place and sigma, px, of the Gaussian blur that fits best, and its dark level and step (2,)."""
    x, y, root = profile.x_px, profile.value, np.sqrt(profile.weight)
    low, high = (float(np.average(y[side], weights=profile.weight[side])) for side in (x < 0, x > 0))

    def model(p: FloatArray) -> tuple[Array, Array]:
        blur = np.exp(np.clip(p[3], -5, 5))
        u = (x - p[2]) / blur
        steep, rise = p[1] * np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi), ndtr(u)
        slopes = np.stack([np.ones_like(u), rise, -steep / blur, -steep * u], axis=1)
        return (p[0] + p[1] * rise - y) * root, slopes * root[:, None]

    start = np.array([low, high - low, 0.0, np.log(blur_px)])
    fit = least_squares(lambda p: model(p)[0], start, lambda p: model(p)[1], method="lm", x_scale="jac", max_nfev=40)
    return float(fit.x[2]), float(np.exp(np.clip(fit.x[3], -5, 5))), np.asarray(fit.x[:2])


def _candidates(profile: Profile, weighted: Array, wings: int, core: int) -> Iterator[_Candidate]:
    """Judge every number of terms beside so many wings."""
    columns = np.concatenate([np.arange(HEAD + wings), np.arange(HEAD + len(WINGS), weighted.shape[1])])
    columns = columns[: len(weighted) - 1]  # few samples, whose phases fall together, tell no more
    value = (profile.value * np.sqrt(profile.weight))[:, None]
    triangle: Array = np.asarray(np.linalg.qr(np.concatenate([weighted[:, columns], value], axis=1), mode="r"))
    left = float(value[:, 0] @ value[:, 0]) + profile.inner - np.cumsum(triangle[:-1, -1] ** 2)
    floor = np.finfo(float).eps * profile.count
    told = np.abs(np.diag(triangle)[:-1]) > LEAST_PIVOT * _dense_pivots(wings)[: len(columns)]
    for terms in TERMS:
        size = HEAD + wings + terms
        if size > len(columns) or (terms > TERMS[0] and (size > len(value) - 2 or not told[:size].all())):
            return
        chi2 = max(float(left[size - 1]), floor)
        criterion = profile.count * float(np.log(chi2 / profile.count)) + size * float(np.log(core))
        yield _Candidate(columns[:size], triangle[:size, :size], criterion)


@cache
def _dense_pivots(wings: int) -> Array:
    """Tell what each column (M,) has of its own beside those before it where samples lie dense: 1 is all of it."""
    x = np.linspace(-DENSE_BLURS, DENSE_BLURS, DENSE)
    columns = esf_columns(x, 1.0, np.array([0.0, 1.0]), WINGS[:wings], max(TERMS))
    triangle: Array = np.asarray(np.linalg.qr(columns / np.linalg.norm(columns, axis=0), mode="r"))
    return np.abs(np.diag(triangle))
