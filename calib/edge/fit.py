"""The line of one slanted edge, fitted to one colour's own sites.

A side is fitted as I = L (a + b Phi(d / s)), d = n.(x - x0) - k t^2 / 2: a straight edge between two levels under a
Gaussian blur, bent a little by the lens, in light L that varies slowly. ISO 12233:2017, 6.2, asks for edges that lie
slanted to the sites, so that the sites sample the edge spread function finer than the pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.special import ndtr

from psfbank.arrays import BoolArray, FloatArray, IntArray

LEAST_LENGTH_PX = 24.0  # of a side
CORNER_OF_SIDE, CORNER_PX = 0.2, (5.0, 10.0)  # left out at each end, where the other side's blur reaches
REACH_PX = 8.0  # of the data, on either side of the edge
BLUR_PX = (0.2, 3.5)  # beyond which a fit's window does not hold the blur
LEAST_CONTRAST = 0.2  # of Michelson
WORST_SCATTER = 0.1  # about the fit, over the step: noise, or a line that is no edge
WORST_BEND_PER_PX = 1 / 200
SEED_PX, SEED_RAD = 4.0, 0.12  # how far a fit may lie from where the side was found
LENS_BEND = 0.15  # curvature of a line's image, times the picture's longer side, that lenses are expected to make

REMEDIES = {
    "no dark square on white is in the picture": "Shoot dark squares on white, sides of 40 px or more, in the open",
    "the edges are clipped": "Expose shorter",
    "the edges are cut by the picture's border or too short": "Stand so that squares of 40 px or more lie wholly in it",
    "the edges show little contrast": "Print black on white, and light it evenly",
    "the edges are unsharp, curved, noisy, or touch something else": "Focus, light better, and leave white around them",
}
ABSENT, CLIPPED, SHORT, PALE, POOR = REMEDIES


@dataclass(frozen=True, eq=False)
class Edge:
    """One straight edge.

    `xy_px` (2,) is its middle; `angle_rad` that of its normal, which points to the bright side, from x towards y;
    `bend_per_px` its curvature, positive where the ends bend to the bright side. `length_px` from corner to corner;
    `contrast` after Michelson; `blur_px` the Gaussian's sigma; `sigma_px`, `sigma_rad` the standard deviations of place
    and angle. At the distances `along_px` (P,) from the middle nothing else lies within `clear_px` (P,) in x and y.
    """

    xy_px: FloatArray
    angle_rad: float
    bend_per_px: float
    length_px: float
    contrast: float
    blur_px: float
    sigma_px: float
    sigma_rad: float
    along_px: FloatArray
    clear_px: FloatArray

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """Unit vector (2,) to the bright side."""
        return np.array([np.cos(self.angle_rad), np.sin(self.angle_rad)])

    def frame(self, xy_px: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Places (..., 2) px -> distance from the edge, positive where bright, and distance along it, (...) px each."""
        across, down = self.normal
        x, y = xy_px[..., 0] - self.xy_px[0], xy_px[..., 1] - self.xy_px[1]
        along = across * y - down * x
        return across * x + down * y - 0.5 * self.bend_per_px * along**2, along

    def at(self, along_px: FloatArray) -> npt.NDArray[np.float64]:
        """Points (N, 2) px of the edge at distances (N,) from its middle."""
        across, down = self.normal
        bend = 0.5 * self.bend_per_px * along_px**2
        return np.asarray(self.xy_px + np.outer(along_px, [-down, across]) + np.outer(bend, [across, down]))


def measure_edge(
    values: FloatArray, use: BoolArray, clipped: BoolArray, first_px: FloatArray, second_px: FloatArray
) -> Edge | str:
    """Fit the edge between two points.

    Parameters
    ----------
    values : (H, W) float
    use, clipped : (H, W) bool
        Sites of the colour that is measured, and those at the white level.
    first_px, second_px : (2,) float
        The edge's ends, to a few pixels.

    Returns
    -------
    Edge or str
        A word of `REMEDIES` when it is of no use. How clear it is is not known yet: `along_px` is empty.
    """
    side = second_px - first_px
    length = float(np.hypot(*side))
    if length < LEAST_LENGTH_PX:
        return SHORT
    half = length / 2 - float(np.clip(CORNER_OF_SIDE * length, *CORNER_PX))
    seed, turn = (first_px + second_px) / 2, float(np.arctan2(-side[0], side[1]))
    middle: FloatArray = seed
    angle, bend_sigma = turn, LENS_BEND / max(values.shape)
    for _ in range(2):  # the window follows the line
        rows, columns = _sites(middle, angle, half)
        inside = (rows >= 0) & (columns >= 0) & (rows < values.shape[0]) & (columns < values.shape[1])
        if not inside.all():
            return SHORT
        known = use[rows, columns]
        rows, columns = rows[known], columns[known]
        if clipped[rows, columns].any():
            return CLIPPED
        edge = _fit(values[rows, columns], np.column_stack([columns, rows]), middle, angle, length, bend_sigma)
        if isinstance(edge, str):
            return edge
        middle, angle = edge.xy_px, edge.angle_rad
        if np.hypot(*(middle - seed)) > SEED_PX or abs(np.sin(angle - turn)) > SEED_RAD:
            return POOR
    return edge


def _sites(middle_px: FloatArray, angle_rad: float, half_px: float) -> tuple[IntArray, IntArray]:
    """Rows and columns of the sites within `REACH_PX` of a line and `half_px` of its middle."""
    reach = int(np.ceil(np.hypot(half_px, REACH_PX)))
    at = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2), axis=-1).reshape(-1, 2)
    at += np.rint(middle_px).astype(np.int64)
    across, down = np.cos(angle_rad), np.sin(angle_rad)
    x, y = (at - middle_px).T
    chosen = at[(np.abs(across * x + down * y) <= REACH_PX) & (np.abs(across * y - down * x) <= half_px)]
    return chosen[:, 1], chosen[:, 0]


def _fit(
    values: FloatArray,
    xy_px: IntArray,
    middle_px: FloatArray,
    angle_rad: float,
    length_px: float,
    bend_sigma_per_px: float,
) -> Edge | str:
    """Fit the blurred edge to samples (N,) at (N, 2) px, from a line through a middle; a word when it is of no use."""
    across, down = np.cos(angle_rad), np.sin(angle_rad)
    x, y = (xy_px - middle_px).T
    if np.mean(values[across * x + down * y > 0]) < np.mean(values[across * x + down * y < 0]):
        angle_rad, across, down = angle_rad + np.pi, -across, -down
    d, t = across * x + down * y, across * y - down * x
    low, high = np.mean(values[d < -REACH_PX / 2]), np.mean(values[d > REACH_PX / 2])
    if not high - low > LEAST_CONTRAST * (abs(high) + abs(low)):
        return PALE
    start = np.array([0.0, 0.0, 0.0, 0.0, low, high - low, 0.0, 0.0])
    fit = least_squares(
        lambda p: _model(p, d, t)[0] - values, start, lambda p: _model(p, d, t)[1], method="lm", max_nfev=50
    )
    scatter = float(np.sqrt(2 * fit.cost / (len(values) - len(fit.x))))
    covariance = scatter**2 * np.linalg.pinv(fit.jac.T @ fit.jac)
    # a short edge says less of its bend than is known of lenses: the prior enters as one more observation
    gain = covariance[:, 2] / (covariance[2, 2] + bend_sigma_per_px**2)
    covariance = covariance - np.outer(gain, covariance[2])
    offset, turn, bend, log_blur, low, step = (float(v) for v in (fit.x - gain * fit.x[2])[:6])
    blur = float(np.exp(np.clip(log_blur, -9, 9)))
    sharp = BLUR_PX[0] < blur < BLUR_PX[1]
    if not (fit.success and sharp and scatter < WORST_SCATTER * step and abs(fit.x[2]) < WORST_BEND_PER_PX):
        return POOR
    sigma, nothing = np.sqrt(np.diag(covariance)), np.zeros(0)
    angle = float(np.angle(np.exp(1j * (angle_rad + turn))))
    place, contrast = middle_px + offset * np.array([across, down]), step / (2 * low + step)
    return Edge(place, angle, bend, length_px, contrast, blur, float(sigma[0]), float(sigma[1]), nothing, nothing)


def _model(p: FloatArray, d_px: FloatArray, t_px: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Blurred edge (N,) at distances from and along the line it starts from, and its derivatives (N, 8).

    `p` is offset, turn, bend, log of blur, dark level, step, and the light's slopes along and across.
    """
    blur = np.exp(np.clip(p[3], -9, 9))
    distance = d_px * np.cos(p[1]) + t_px * np.sin(p[1]) - p[0] - 0.5 * p[2] * t_px**2
    rise = ndtr(distance / blur)
    light = 1 + p[6] * t_px + p[7] * d_px
    reflected = p[4] + p[5] * rise
    slope = p[5] * light * np.exp(-0.5 * (distance / blur) ** 2) / (np.sqrt(2 * np.pi) * blur)
    turned = slope * (t_px * np.cos(p[1]) - d_px * np.sin(p[1]))
    columns = [-slope, turned, -0.5 * slope * t_px**2, -slope * distance, light, light * rise]
    return light * reflected, np.stack([*columns, reflected * t_px, reflected * d_px], axis=1)
