"""Distortion, lateral colour and shading of two calibrations at the same places."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from skimage.measure import points_in_poly

from psfbank.arrays import FloatArray
from psfbank.compare.difference import FREEDOM, both_sigmas
from psfbank.distortion import unproject_stereographic
from psfbank.errors import MissingPartError
from psfbank.frames import apart_px
from psfbank.model import DistortionMap, Illumination, channel_index

Array = npt.NDArray[np.float64]
PLACES = 25  # along the longer side
OWN_SHARE = 0.03  # of green's variance, that a colour's displacement has at least; measured, `_lateral_sigma_px`


def places(size_px: tuple[int, int]) -> tuple[Array, Array]:
    """Columns (Nx,) and rows (Ny,) of an even grid over a picture (H, W), px."""
    step = max(size_px) / PLACES
    counts = [max(3, round(n / step)) for n in size_px]
    y_px, x_px = ((np.arange(k) + 0.5) * n / k - 0.5 for n, k in zip(size_px, counts, strict=True))
    return x_px, y_px


def distortion_apart_px(
    one: DistortionMap, other: DistortionMap, xy_px: FloatArray, channel: str
) -> tuple[Array, Array, Array]:
    """Difference (N, 2) of two maps, its sigma (N, 2), and the rotation (3,) between their frames that was removed.

    NaN where one of the two is not valid.
    """
    difference, turn = np.full(xy_px.shape, np.nan), np.full(3, np.nan)
    known = _known(one, xy_px) & _known(other, xy_px)
    if known.any():
        difference[known], turn = apart_px(one, other, xy_px[known], channel)
    return difference, both_sigmas(one.sigma_px(xy_px, channel), other.sigma_px(xy_px, channel)), turn


def freedom_of(one: DistortionMap, other: DistortionMap, xy_px: FloatArray, channel: str) -> float:
    """Degrees of freedom that errors of two maps have over places (N, 2), by the modes of their covariances.

    A focal length that is a little off moves all places at once: there are far fewer than places. The mean of the
    squares of n errors of unit expectation has the variance 2 |C|^2 / n^2, with the Frobenius norm of their covariance,
    which is 2 / freedom for chi-squared over its degrees of freedom.
    """
    fields = [_error_fields(each, xy_px, channel) for each in (one, other) if each.uncertainty is not None]
    if not fields:
        return FREEDOM
    both = np.concatenate(fields, axis=1)
    both = both[np.isfinite(both).all(axis=(1, 2))]
    both /= np.sqrt(np.sum(both**2, axis=(1, 2), keepdims=True))
    flat = both.transpose(0, 2, 1).reshape(-1, both.shape[1])
    return float(len(both) ** 2 / np.sum((flat.T @ flat) ** 2))


def _error_fields(distortion: DistortionMap, xy_px: FloatArray, channel: str) -> Array:
    """Displacements (N, R, 2) px that vary independently with unit variance; NaN where the map does not reach."""
    c = channel_index(distortion.channels, channel)
    knots = distortion.knots_x, distortion.knots_y
    u = unproject_stereographic(xy_px, distortion.camera_matrix, *knots, distortion.coefficients[c])
    sure = distortion.uncertainty
    if sure is None:
        raise MissingPartError("a distortion map without covariance has no error fields")
    out = np.full((len(xy_px), sure.modes.shape[1], 2), np.nan)
    seen = np.isfinite(u).all(axis=1)
    out[seen] = sure.displacements(u[seen], *knots, c)
    return out


def lateral_apart_px(
    one: DistortionMap, other: DistortionMap, xy_px: FloatArray, channel: str, against: str
) -> tuple[Array, Array]:
    """Difference (N, 2) of where a colour lands from another's pixels, and its sigma (N, 2); NaN where not valid."""
    landed = [each.project(each.unproject(xy_px, against), channel) for each in (one, other)]
    difference = landed[1] - landed[0]
    known = _known(one, xy_px) & _known(other, xy_px)
    difference[~known] = np.nan
    return difference, both_sigmas(*(_lateral_sigma_px(each, xy_px, channel, against) for each in (one, other)))


def _lateral_sigma_px(distortion: DistortionMap, xy_px: FloatArray, channel: str, against: str) -> Array:
    """Give the standard deviation (N, 2) px of a colour's displacement from another.

    A colour's map is that of green and a displacement from it, so its variance is green's and the displacement's own.
    What is over of the one beyond the other, on average, is the share that the displacement has; over the field it is
    taken to go as green's, larger towards the border. Modes are not complete enough for so small a rest: `OWN_SHARE` is
    added, with which four rendered sessions are about one sigma from the truth.
    """
    green = distortion.sigma_px(xy_px, against)
    if distortion.uncertainty is None or not np.isfinite(green).any():
        return np.full(xy_px.shape, np.nan)
    known = _known(distortion, xy_px)
    colour, of_green = (float(np.nanmean(distortion.sigma_px(xy_px[known], c) ** 2)) for c in (channel, against))
    return np.asarray(green * np.sqrt(max(colour / of_green - 1, 0.0) + OWN_SHARE))


def shading_apart(one: Illumination, other: Illumination, x_px: Array, y_px: Array, channel: str) -> Array:
    """Relative difference (Ny, Nx) of illumination, each colour's level apart; NaN beyond the nodes of either."""
    light = [each.over(x_px, y_px, channel) for each in (one, other)]
    ratio = light[1] / light[0]
    inside = [
        np.all([(at >= line[0] - 0.5) & (at <= line[-1] + 0.5) for line in lines], axis=0)
        for at, lines in ((y_px, (one.y_px, other.y_px)), (x_px, (one.x_px, other.x_px)))
    ]
    known = inside[0][:, None] & inside[1]
    return np.where(known, ratio / np.mean(ratio[known]) - 1, np.nan) if known.any() else np.full(ratio.shape, np.nan)


def _known(distortion: DistortionMap, xy_px: FloatArray) -> npt.NDArray[np.bool_]:
    return np.asarray(points_in_poly(xy_px, distortion.valid_region))  # type: ignore[no-untyped-call]
