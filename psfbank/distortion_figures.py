"""Figures of distortion and lateral colour that the field quotes, from a spline map instead of a photographed chart.

A flat chart parallel to the sensor shows the rays (x/z, y/z) as its own coordinates, so what the standards measure on
dots and lines follows from the map alone. Heights are distances from the picture's centre over half its diagonal. The
texts of ISO 17850:2015 and ISO 19084:2015 were not at hand: the definitions are those that measurement software quotes
from them, and clause numbers are not given. Local figures say nothing of places beyond the map's valid region; those
that need the picture's edges, its field of view and TV distortion, take the map as it goes on there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from skimage.measure import points_in_poly

from psfbank.arrays import BoolArray, FloatArray
from psfbank.distortion import unproject_stereographic
from psfbank.model import DistortionMap, channel_index

AZIMUTHS = 72
GRID = 65  # rows and columns of places for lateral colour
LARGEST_CHART = 32.0  # in fields of a lens of the centre's scale: 175 degrees of one that has 90
CENTRE_STEP_PX = 1.0  # over which the scale of the centre is measured


@dataclass(frozen=True)
class ChromaticDisplacement:
    """How far a colour lands from green: largest and RMS, pixels and percent of half the diagonal."""

    max_px: float
    rms_px: float
    max_percent: float
    rms_percent: float


def _centre_px(size_px: tuple[int, int]) -> FloatArray:
    return np.array([(size_px[1] - 1) / 2, (size_px[0] - 1) / 2])


def _half_diagonal_px(size_px: tuple[int, int]) -> float:
    return float(np.hypot(*size_px)) / 2


def _known(distortion: DistortionMap, xy_px: FloatArray) -> BoolArray:
    return np.asarray(points_in_poly(xy_px, distortion.valid_region))  # type: ignore[no-untyped-call]


def field_of_view_deg(
    distortion: DistortionMap, size_px: tuple[int, int], channel: str = "G"
) -> tuple[float, float, float]:
    """Angles that the sensor sees: across, down and from corner to corner, through the picture's centre.

    Parameters
    ----------
    distortion : DistortionMap
    size_px : (H, W)
        Of the sensor.
    channel : str

    Returns
    -------
    horizontal, vertical, diagonal : float
        Degrees, to the outer edges of the pixels; beyond 180 for a lens that sees so far; NaN where nothing lands.
    """
    height, width = size_px
    left, top, right, bottom = -0.5, -0.5, width - 0.5, height - 0.5
    x, y = _centre_px(size_px)
    places = [[x, y], [left, y], [right, y], [x, top], [x, bottom], [left, top], [right, bottom]]
    model = distortion.camera_matrix, distortion.knots_x, distortion.knots_y
    u = unproject_stereographic(
        np.array(places), *model, distortion.coefficients[channel_index(distortion.channels, channel)]
    )
    # u = 2 tan(theta / 2) along the ray: the direction on the unit sphere
    r2 = np.sum(u**2, axis=1, keepdims=True)
    direction = np.hstack([4 * u, 4 - r2]) / (4 + r2)
    off = np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(direction[1:] - direction[0], axis=1) / 2, 0, 1)))
    horizontal, vertical, diagonal = off.reshape(3, 2).sum(axis=1)
    return float(horizontal), float(vertical), float(diagonal)


def _centre_scale(distortion: DistortionMap, size_px: tuple[int, int], channel: str) -> tuple[FloatArray, float]:
    """Ray (2,) of the picture's centre, and pixels a unit of ray around it (the root of the area's magnification)."""
    step = 0.5 * CENTRE_STEP_PX * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    rays = distortion.unproject(_centre_px(size_px) + step, channel)
    area = np.linalg.det(np.stack([rays[1] - rays[2], rays[3] - rays[4]]))
    return rays[0], CENTRE_STEP_PX / float(np.sqrt(area))


def undistorted_px(
    distortion: DistortionMap, size_px: tuple[int, int], xy_px: FloatArray, channel: str = "G"
) -> npt.NDArray[np.float64]:
    """Where light that lands at pixels would land if the scale of the picture's centre held everywhere.

    Parameters
    ----------
    distortion : DistortionMap
    size_px : (H, W)
        Of the sensor.
    xy_px : (N, 2) float
    channel : str

    Returns
    -------
    (N, 2) float64
        Pixels; NaN where the map does not reach.
    """
    ray, scale_px = _centre_scale(distortion, size_px, channel)
    return np.asarray(_centre_px(size_px) + scale_px * (distortion.unproject(xy_px, channel) - ray))


def local_geometric_distortion_percent(
    distortion: DistortionMap, size_px: tuple[int, int], height: npt.ArrayLike, channel: str = "G"
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Local geometric distortion after ISO 17850:2015: 100 (h - h_ideal) / h_ideal over the image height.

    h is the distance of a dot's image from the picture's centre, and h_ideal what it would be if the scale of the
    centre held everywhere. Negative is barrel.

    Parameters
    ----------
    distortion : DistortionMap
    size_px : (H, W)
        Of the sensor.
    height : (N,) float
        Of the image, half the diagonal = 1; positive.
    channel : str

    Returns
    -------
    mean, spread : (N,) float64
        Percent, over all azimuths within the picture and the valid region; spread is half of the largest minus the
        least. NaN where there are none.
    """
    heights = np.atleast_1d(np.asarray(height, dtype=np.float64))
    azimuth = 2 * np.pi * np.arange(AZIMUTHS) / AZIMUTHS
    circle = np.column_stack([np.cos(azimuth), np.sin(azimuth)])
    off_px = heights[:, None] * _half_diagonal_px(size_px)
    xy_px = (_centre_px(size_px) + off_px[..., None] * circle).reshape(-1, 2)
    ray, scale_px = _centre_scale(distortion, size_px, channel)
    inside = np.all(np.abs(xy_px - _centre_px(size_px)) <= np.array(size_px[::-1]) / 2, axis=1)
    inside &= _known(distortion, xy_px)
    percent = np.full(len(xy_px), np.nan)
    ideal_px = scale_px * np.linalg.norm(distortion.unproject(xy_px[inside], channel) - ray, axis=1)
    percent[inside] = 100 * (np.repeat(off_px, AZIMUTHS)[inside] / ideal_px - 1)
    mean, spread = np.full((2, len(heights)), np.nan)
    for k, values in enumerate(percent.reshape(len(heights), -1)):
        if np.isfinite(values).any():
            mean[k], spread[k] = np.nanmean(values), (np.nanmax(values) - np.nanmin(values)) / 2
    return mean, spread


def tv_distortion_percent(
    distortion: DistortionMap, size_px: tuple[int, int], channel: str = "G"
) -> tuple[float, float]:
    """TV distortion after SMIA: 100 (A - B) / B, A the mean of the outer lengths and B the length in the middle.

    The chart is the largest rectangle of the picture's proportions that is wholly in the picture, its middle on the
    picture's; lengths are those of its sides and of its middle lines. Negative is barrel. The older figure of the EBU
    is half of it.

    Parameters
    ----------
    distortion : DistortionMap
    size_px : (H, W)
        Of the sensor.
    channel : str

    Returns
    -------
    horizontal, vertical : float
        Percent: of widths (top and bottom against the middle), and of heights (left and right against the middle); NaN
        for a lens whose picture no flat chart fills.
    """
    ray, scale_px = _centre_scale(distortion, size_px, channel)
    half_px = np.array(size_px[::-1]) / 2
    side = np.linspace(-1, 1, 33)
    outline = np.concatenate([np.column_stack([s * side**0, side]) for s in (-1, 1)])
    outline = np.concatenate([outline, outline[:, ::-1]])

    def beyond(share: float) -> float:
        at = distortion.project(ray + share * outline * half_px / scale_px, channel)
        return float(np.max(np.abs(at - _centre_px(size_px)) / half_px)) - 1

    shares = np.geomspace(0.25, LARGEST_CHART, 64)
    past = next((share for share in shares if beyond(share) > 0), None)
    if past is None:
        return float("nan"), float("nan")
    largest = brentq(beyond, 0.0, past, xtol=1e-9)
    nodes = np.stack(np.meshgrid([-1.0, 0, 1], [-1.0, 0, 1]), axis=-1)
    at = distortion.project((ray + largest * nodes * half_px / scale_px).reshape(-1, 2), channel).reshape(3, 3, 2)
    widths, heights = at[:, 2, 0] - at[:, 0, 0], at[2, :, 1] - at[0, :, 1]
    horizontal, vertical = (100 * ((a[0] + a[2]) / 2 - a[1]) / a[1] for a in (widths, heights))
    return float(horizontal), float(vertical)


def chromatic_displacement(
    distortion: DistortionMap, size_px: tuple[int, int], channel: str, against: str = "G"
) -> ChromaticDisplacement:
    """Lateral chromatic displacement after ISO 19084:2015: how far a colour lands from green, over the picture.

    Parameters
    ----------
    distortion : DistortionMap
    size_px : (H, W)
        Of the sensor.
    channel, against : str

    Returns
    -------
    ChromaticDisplacement
        Over an even grid of places in the valid region.
    """
    height, width = size_px
    places = np.stack(np.meshgrid(np.linspace(0, width - 1, GRID), np.linspace(0, height - 1, GRID)), axis=-1)
    xy_px = places.reshape(-1, 2)
    xy_px = xy_px[_known(distortion, xy_px)]
    moved = np.linalg.norm(distortion.project(distortion.unproject(xy_px, against), channel) - xy_px, axis=1)
    moved = moved[np.isfinite(moved)]
    if not len(moved):
        return ChromaticDisplacement(*[float("nan")] * 4)
    largest, rms = float(moved.max()), float(np.sqrt(np.mean(moved**2)))
    percent = 100 / _half_diagonal_px(size_px)
    return ChromaticDisplacement(largest, rms, percent * largest, percent * rms)
