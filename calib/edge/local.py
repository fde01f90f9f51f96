"""What blurred steps leave of an edge spread function: local weighted polynomials, whose slope adds to the LSF.

At each place a cubic is fitted to the residuals around it under Cleveland's tricube weights (J. Am. Stat. Assoc. 74,
1979); its slope there is read off, nothing is differenced. The span is a few widths of the blur at the edge and grows
with the distance: features of the wings are wide. Spans follow each other from wide to narrow, each on what the one
before left. What noise explains is taken back: a correction of energy e, of which noise makes e0, is shrunk by
1 - e0 / e (James and Stein, 1961), where e0 includes four of its standard deviations.

A span blurs what it sees. The share that it lets pass is told by the same estimator's answer to the ESF itself,
frequency by frequency, and divided out as far as it stands above the least that is trusted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from calib.edge.trunk import Estimate, Profile
from psfbank.arrays import FloatArray

SPANS = (1.6, 0.7)  # half widths at the edge, in widths of the blur
WIDENS_BLURS = 3.0  # spans and the distances between places grow beyond
PLACES_A_BLUR = 4.0
NEIGHBOURS = 3  # samples on either side that a span reaches at least
DEGREE = 3
CHANCE = 4.0  # standard deviations of the energy of noise that are noise as well
LEAST_PASSED = 0.5  # of a frequency, that is divided out
RIDGE = 1e-9  # of the moments' trace, where samples lie too close together to tell a cubic

Array = npt.NDArray[np.float64]


def add_local(profile: Profile, trunk: Estimate, freq_cpp: FloatArray, fine_px: FloatArray) -> Estimate:
    """Add to an estimate what it has left of a profile and noise does not explain.

    Parameters
    ----------
    profile : Profile
    trunk : Estimate
    freq_cpp : (F,) float
        Of the estimate's transform.
    fine_px : (X,) float
        Where the estimate's ESF and LSF lie.

    Returns
    -------
    Estimate
    """
    places = _places(profile.x_px - trunk.middle_px, trunk.blur_px) + trunk.middle_px
    estimate = trunk
    for span in SPANS:
        estimate = _corrected(profile, estimate, places, span, freq_cpp, fine_px)
    return estimate


def _corrected(
    profile: Profile, estimate: Estimate, places: Array, span: float, freq_cpp: FloatArray, fine_px: FloatArray
) -> Estimate:
    """Add what one span sees."""
    spans = _spans(profile, places, span * estimate.blur_px, estimate)
    values, slopes = _local_polynomials(profile, places, spans)
    slopes_of = slopes - slopes @ estimate.esf_of
    slope = slopes_of @ profile.value
    # energies per px of the profile: places lie wider apart where spans are wider
    width = np.gradient(places)
    root = slopes_of * np.sqrt(width[:, None] / profile.weight)
    shrink = _shrinkage(float(np.sum(width * slope**2)), root @ root.T)
    if shrink == 0:
        return estimate
    transform = _transform(places - estimate.middle_px, freq_cpp)  # about the middle, as the columns lie
    restored = _restoration(transform @ (slopes @ estimate.esf), estimate.otf)[:, None] * transform
    at_samples = _between(places, profile.x_px) @ (values - values @ estimate.esf_of)
    value = values @ (profile.value - estimate.esf)
    return replace(
        estimate,
        esf=estimate.esf + shrink * (at_samples @ profile.value),
        esf_of=estimate.esf_of + shrink * at_samples,
        otf=estimate.otf + shrink * (restored @ slope),
        otf_of=estimate.otf_of + shrink * (restored @ slopes_of),
        fine_esf=estimate.fine_esf + shrink * np.interp(fine_px, places, value),
        fine_lsf=estimate.fine_lsf + shrink * np.interp(fine_px, places, slope, left=0.0, right=0.0),
    )


def _shrinkage(energy: float, covariance: Array) -> float:
    """Share of a correction that noise of this covariance (P, P) does not explain, chance included."""
    mean, variance = float(np.trace(covariance)), 2 * float(np.sum(covariance**2))
    return max(0.0, 1 - float(mean + CHANCE * np.sqrt(variance)) / max(energy, np.finfo(float).tiny))


def _places(x_px: Array, blur_px: float) -> Array:
    """Places over the profile, close at the edge and wider apart with the distance."""
    widens = WIDENS_BLURS * blur_px
    low, high = np.arcsinh(x_px.min() / widens), np.arcsinh(x_px.max() / widens)
    count = int((high - low) * WIDENS_BLURS * PLACES_A_BLUR) + 2
    return np.asarray(widens * np.sinh(np.linspace(low, high, count)))


def _spans(profile: Profile, places: Array, span_px: float, estimate: Estimate) -> Array:
    """Half widths of the spans: phases that fall together leave gaps that a span must bridge."""
    wide = span_px * np.hypot(1, (places - estimate.middle_px) / (WIDENS_BLURS * estimate.blur_px))
    x, at = profile.x_px, np.searchsorted(profile.x_px, places)
    before = x[np.clip(at - NEIGHBOURS, 0, len(x) - 1)]
    behind = x[np.clip(at + NEIGHBOURS - 1, 0, len(x) - 1)]
    return np.maximum(wide, 1.5 * np.maximum(places - before, behind - places))


def _local_polynomials(profile: Profile, places: Array, spans: Array) -> tuple[Array, Array]:
    """Value and slope at places (P,) of local polynomials, linear in the profile's values: (P, B) each."""
    u = (profile.x_px - places[:, None]) / spans[:, None]
    weight = np.clip(1 - np.abs(u) ** 3, 0, None) ** 3 * profile.weight
    powers = [weight]
    for _ in range(2 * DEGREE):
        powers.append(powers[-1] * u)
    sums = np.stack([p.sum(axis=1) for p in powers], axis=1)
    index = np.add.outer(np.arange(DEGREE + 1), np.arange(DEGREE + 1))
    moments = sums[:, index]
    moments = moments + RIDGE * np.trace(moments, axis1=1, axis2=2)[:, None, None] * np.eye(DEGREE + 1)
    inverse = np.linalg.inv(moments)
    stacked = np.stack(powers[: DEGREE + 1], axis=1)
    value, slope = (np.einsum("pj,pjb->pb", inverse[:, k], stacked) for k in (0, 1))
    return value, slope / spans[:, None]


def _transform(places: Array, freq_cpp: FloatArray) -> npt.NDArray[np.complex128]:
    """Fourier transform (F, P) of what is linear between its values at places: the sum of those of its hats."""
    w = 2 * np.pi * np.maximum(np.asarray(freq_cpp), 1e-6)[:, None]
    step = np.diff(places)
    beyond = np.concatenate([places[:1] - step[:1], places, places[-1:] + step[-1:]])
    waves = np.exp(-1j * w * beyond)
    slopes = np.diff(waves, axis=1) / np.diff(beyond)
    return np.asarray(-np.diff(slopes, axis=1) / w**2)


def _restoration(passed: npt.NDArray[np.complex128], otf: npt.NDArray[np.complex128]) -> Array:
    """Divide out (F,) what an estimator lets pass, where it lets enough pass."""
    share = np.minimum(np.abs(passed) / np.maximum(np.abs(otf), np.finfo(float).tiny), 1.0)
    return np.asarray(share / np.maximum(share, LEAST_PASSED) ** 2)


def _between(places: Array, x_px: Array) -> Array:
    """Linear interpolation (B, P) from places to the profile's samples."""
    at = np.clip(np.searchsorted(places, x_px) - 1, 0, len(places) - 2)
    share = (x_px - places[at]) / (places[at + 1] - places[at])
    matrix = np.zeros((len(x_px), len(places)))
    rows = np.arange(len(x_px))
    matrix[rows, at], matrix[rows, at + 1] = 1 - share, share
    return matrix
