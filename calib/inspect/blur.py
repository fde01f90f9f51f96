"""How blurred a target is, and whether the blur is longer in one direction that the whole field has in common.

Aberrations of a lens with an axis turn with the field: what they add to a second moment in one direction at one place,
they take from it at another, so that constant and turning parts are told apart by a fit. What remains the same
everywhere is motion of the camera or of the target, or a lens that is out of centre. A motion of length L at constant
speed adds L^2 / 12 to the variance of the blur along it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from psfbank.arrays import BoolArray, FloatArray

MOMENT_HALF_PX = 7  # of the windows about points
WINDOW_PX = 3.0  # sigma of the Gaussian that keeps noise out of their moments; its effect is taken back
BINOMIAL_PX2 = 0.5  # variance that [1 2 1] / 4 adds
PROFILE_PX, PROFILE_STEP_PX = 6.0, 0.25  # of profiles across the sides of cells
ONE_SIGMA = (0.1587, 0.8413)  # of the normal distribution
LEAST_OBSERVED = 8
LEAST_VARIED = 0.1  # variance of cos 2t and sin 2t over directions t
CENTRAL, BALANCED = 0.1, 0.55  # of squared half diagonals, where aberrations hardly turn; mean over RMS of what turns
NEAR = 0.08  # of the picture's diagonal, within which blur is compared between pictures


def point_moments(grey: FloatArray, xy_px: FloatArray, added_px2: float = 0.0) -> npt.NDArray[np.float64]:
    """Second moments (M, 3) of point images, px^2: xx, yy and xy; NaN near the border and where noise prevails.

    Parameters
    ----------
    grey : (H, W) float
        Dark background.
    xy_px : (M, 2) float
    added_px2 : float
        Variance along each axis that the picture was smoothed by, taken off.

    Returns
    -------
    (M, 3) float64
    """
    half = MOMENT_HALF_PX
    image = np.asarray(grey, dtype=np.float64) - np.median(grey)
    centre = np.rint(xy_px).astype(np.int64)
    inside = np.flatnonzero(np.all((centre >= half) & (centre < np.array(image.shape[::-1]) - half), axis=1))
    offset = np.arange(-half, half + 1)
    rows, columns = (centre[inside, k, None] + offset for k in (1, 0))
    patch = image[rows[:, :, None], columns[:, None, :]]
    at = np.zeros((len(inside), 2))
    moments = np.full((len(inside), 3), np.nan)
    for _ in range(4):  # the window follows the centroid
        x, y = (offset - at[:, k, None] for k in (0, 1))
        light = patch * np.exp(-(y[:, :, None] ** 2 + x[:, None, :] ** 2) / (2 * WINDOW_PX**2))
        total = light.sum((1, 2))
        mean = np.stack([(light.sum(1) * x).sum(1), (light.sum(2) * y).sum(1)], axis=1) / total[:, None]
        moments = np.stack(
            [
                (light.sum(1) * x**2).sum(1) / total - mean[:, 0] ** 2,
                (light.sum(2) * y**2).sum(1) / total - mean[:, 1] ** 2,
                np.einsum("nyx,ny,nx->n", light, y, x) / total - mean.prod(axis=1),
            ],
            axis=1,
        )
        at = np.clip(at + mean, -2.0, 2.0)
    told = np.full((len(xy_px), 3), np.nan)
    told[inside] = _without_window(moments) - [added_px2, added_px2, 0.0]
    told[~(told[:, :2].min(axis=1, initial=np.inf) > 0)] = np.nan
    return told


def _without_window(moments: FloatArray) -> npt.NDArray[np.float64]:
    """Take back what a Gaussian window did to the moments (M, 3) of Gaussians: inverses of covariances add."""
    xx, yy, xy = moments.T
    determinant = xx * yy - xy**2
    a, b, c = yy / determinant - WINDOW_PX**-2, xx / determinant - WINDOW_PX**-2, -xy / determinant
    back = np.stack([b, a, -c], axis=1) / (a * b - c**2)[:, None]
    return np.where((determinant > 0)[:, None] & (a > 0)[:, None] & (b > 0)[:, None], back, np.nan)


def streak_of_moments(
    moments: FloatArray, xy_px: FloatArray, size_px: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], float]:
    """Motion (2,) px that explains what the moments (M, 3) of all points have in common, and its uncertainty."""
    known = np.flatnonzero(np.isfinite(moments).all(axis=1))
    if not _separable(xy_px[known], size_px):
        return np.full(2, np.nan), float("nan")
    xx, yy, xy = moments[known].T
    turn = _turning(xy_px[known], size_px)
    ones, none = np.ones(len(known)), np.zeros(len(known))
    design = np.vstack([np.column_stack([ones, none, turn[:, 0]]), np.column_stack([none, ones, turn[:, 1]])])
    return _streak(design, np.concatenate([xx - yy, 2 * xy]), np.eye(2))


def streak_of_edges(
    blur_px: FloatArray, angle_rad: FloatArray, xy_px: FloatArray, size_px: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], float]:
    """Motion (2,) px that explains how the blur (N,) across edges hangs on the direction (N,) of their normals.

    The variance along a direction t is that of the tensor, a + (b cos 2t + c sin 2t) / 2.
    """
    known = np.flatnonzero(np.isfinite(blur_px))
    twice = 2 * angle_rad[known]
    directions = np.stack([np.cos(twice), np.sin(twice)], axis=1)
    if not _separable(xy_px[known], size_px):
        return np.full(2, np.nan), float("nan")
    # edges of one direction say nothing of others; those of a board, in two, nothing of motion half-way between
    strength, axes = np.linalg.eigh(np.cov(directions.T))
    axes = axes[:, strength > LEAST_VARIED]
    if axes.shape[1] == 0:
        return np.full(2, np.nan), float("nan")
    turn = _turning(xy_px[known], size_px)
    radius2 = np.hypot(*turn.T)
    design = np.column_stack([directions @ axes / 2, np.ones(len(known)), radius2, (directions * turn).sum(axis=1)])
    return _streak(design, blur_px[known] ** 2, axes)


def _separable(xy_px: FloatArray, size_px: tuple[int, int]) -> bool:
    """Whether places (M, 2) lie on all sides of the middle, or close to it: what turns averages out only there."""
    if len(xy_px) < LEAST_OBSERVED:
        return False
    turn = _turning(xy_px, size_px)
    rms = float(np.sqrt(np.mean(np.sum(turn**2, axis=1))))
    return rms < CENTRAL or float(np.hypot(*turn.mean(axis=0))) < BALANCED * rms


def _turning(xy_px: FloatArray, size_px: tuple[int, int]) -> npt.NDArray[np.float64]:
    """r^2 (cos 2 phi, sin 2 phi) of places (M, 2), r in half diagonals about the middle, phi their direction."""
    away = (xy_px - (np.array(size_px[::-1]) - 1) / 2) / (np.hypot(*size_px) / 2)
    return np.stack([away[:, 0] ** 2 - away[:, 1] ** 2, 2 * away[:, 0] * away[:, 1]], axis=1)


def _streak(design: FloatArray, values: FloatArray, axes: FloatArray) -> tuple[npt.NDArray[np.float64], float]:
    """Fit robustly; the first terms are (xx - yy, 2 xy) of a tensor along `axes` (2, A), its long axis a motion's."""
    weight = np.asarray(np.ones(len(values)), dtype=np.float64)
    spread = 0.0
    for _ in range(8):
        parameters: FloatArray = np.linalg.lstsq(design * weight[:, None], values * weight, rcond=1e-6)[0]
        apart = np.abs(values - design @ parameters)
        spread = 1.4826 * float(np.median(apart)) + 1e-9
        weight = np.sqrt(np.minimum(1.0, 1.5 * spread / np.maximum(apart, 1e-12))).astype(np.float64)
    normal = np.linalg.pinv((design * weight[:, None] ** 2).T @ design, rcond=1e-6)
    told = axes.shape[1]
    cos2, sin2 = axes @ parameters[:told]
    excess_px2 = float(np.hypot(cos2, sin2))
    std_px2 = spread * float(np.sqrt(np.trace(normal[:told, :told])))
    length, angle = np.sqrt(12 * excess_px2), np.arctan2(sin2, cos2) / 2
    std_px = 6 * std_px2 / max(length, np.sqrt(12 * std_px2) / 2, 1e-9)
    return length * np.array([np.cos(angle), np.sin(angle)]), float(std_px)


def blur_across(grey: FloatArray, first_px: FloatArray, second_px: FloatArray) -> tuple[npt.NDArray[np.float64], float]:
    """Gaussian sigma (N,) px of straight edges between light and dark, and by what share of the step they overshoot.

    Half the distance between the places where an edge's mean profile has risen to 16 % and to 84 %; NaN where none is
    clear. The overshoot is that of the median of all profiles. The quarters at the ends, where corners are, stay out.

    Parameters
    ----------
    grey : (H, W) float
    first_px, second_px : (N, 2) float
        Ends of the edges.
    """
    along = second_px - first_px
    length = np.hypot(*along.T)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.maximum(length, 1e-9)[:, None]
    across_px = np.arange(-PROFILE_PX, PROFILE_PX + PROFILE_STEP_PX / 2, PROFILE_STEP_PX)
    shares = np.linspace(0.25, 0.75, 17)
    places = (first_px[:, None] + shares[:, None] * along[:, None])[:, :, None] + across_px[:, None] * normal[
        :, None, None
    ]
    x, y = (np.ascontiguousarray(places[..., k].reshape(len(along), -1), dtype=np.float32) for k in (0, 1))
    sampled = cv2.remap(
        np.asarray(grey, np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=float("nan")
    )
    profiles = np.asarray(sampled).reshape(len(along), len(shares), len(across_px)).mean(axis=1)
    risen = np.array([_risen(profile) for profile in profiles]).reshape(-1, len(across_px))
    sigma = np.array([_sigma(share, across_px) for share in risen])
    clear = risen[np.isfinite(sigma)]
    if not len(clear):
        return sigma, float("nan")
    typical = np.median(clear, axis=0)
    return sigma, float(max(typical.max() - 1, -typical.min(), 0.0))


def _risen(profile: FloatArray) -> npt.NDArray[np.float64]:
    """Share of its step by which a profile has risen, from one end to the other; NaN where there is no clear step."""
    end = len(profile) // 6
    low, high = float(np.median(profile[:end])), float(np.median(profile[-end:]))
    wobble = np.std(profile[:end]) + np.std(profile[-end:])
    if not abs(high - low) > 10 * wobble + 1e-9:  # nor of a profile that leaves the picture
        return np.full(len(profile), np.nan)
    return np.asarray((profile - low) / (high - low))


def _sigma(share: FloatArray, x_px: FloatArray) -> float:
    at = []
    for level in ONE_SIGMA:
        above = np.flatnonzero(share > level)
        first = int(above[0]) if above.size else 0
        if first == 0:
            return float("nan")
        at.append(np.interp(level, share[first - 1 : first + 1], x_px[first - 1 : first + 1]))
    return float(at[1] - at[0]) / 2


def times_the_sharpest(
    places: Sequence[FloatArray], blurs: Sequence[FloatArray], size_px: tuple[int, int], sets_a_mark: BoolArray
) -> npt.NDArray[np.float64]:
    """How many times more blurred each picture is than the sharpest one at the same places, (V,); 1 where none is.

    Blur varies over the field of a lens: it is compared with that of the nearest places of each other picture.

    Parameters
    ----------
    places : sequence of (N, 2) float
        One a picture, px.
    blurs : sequence of (N,) float
        NaN where not measured.
    size_px : (H, W)
    sets_a_mark : (V,) bool
        Pictures that others may be compared with.
    """
    within_px = NEAR * float(np.hypot(*size_px))
    worst = np.ones(len(places))
    known = [np.isfinite(blur) for blur in blurs]
    for v, (xy, blur) in enumerate(zip(places, blurs, strict=True)):
        for w in range(len(places)):
            if v == w or not sets_a_mark[w] or known[v].sum() < LEAST_OBSERVED or known[w].sum() < LEAST_OBSERVED:
                continue
            distance, near = cKDTree(places[w][known[w]]).query(xy[known[v]])
            ratio = (blur[known[v]] / blurs[w][known[w]][near])[distance < within_px]
            if len(ratio) >= LEAST_OBSERVED:
                worst[v] = max(worst[v], float(np.median(ratio)))
    return worst
