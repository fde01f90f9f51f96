"""The edge's course: a polynomial through a window's samples, of the order that the samples ask for.

Within a few widths of the blur the samples follow I = (1 + g t) (a + b Phi((u - p(t)) / s)) with u across and t along a
straight line and p a polynomial. Its order is the one of least Bayesian information criterion (Schwarz, Ann. Stat. 6,
1978), from the linearised fit of the highest. Distances are taken along the polynomial's own normal (Kohm, ISPRS 2004),
to first order in its curvature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre
from scipy.optimize import least_squares
from scipy.special import ndtr

from calib.edge.fit import Edge
from psfbank.arrays import FloatArray

MOST_ORDER = 5  # as in ISO 12233:2023
CORE_BLURS, CORE_PX = 4.0, 1.5  # half width of the samples that tell the course
SAMPLES_PER_TERM = 12
CLOSE = 1e-8  # relative change at which a fit is at its end

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EdgeLine:
    """Course of an edge in one channel.

    At a distance t along the straight line through `xy_px` (2,) with its normal at `angle_rad` the edge lies
    sum_k `legendre_px[k]` P_k(t / `half_px`) px towards the bright side. `light_per_px` is the light's relative slope
    along the edge, `blur_px` the sigma of the Gaussian that fits it.
    """

    xy_px: FloatArray
    angle_rad: float
    half_px: float
    legendre_px: FloatArray
    light_per_px: float
    blur_px: float

    @property
    def order(self) -> int:
        """Order of the polynomial."""
        return len(self.legendre_px) - 1

    @property
    def turn_rad(self) -> float:
        """How much the edge's direction changes from end to end."""
        slope = legendre.legder(self.legendre_px) / self.half_px
        low, high = np.arctan(legendre.legval(np.array([-1.0, 1.0]), slope))
        return float(abs(high - low))

    @property
    def middle_px(self) -> float:
        """Where the edge crosses the normal of the straight line's middle."""
        return float(legendre.legval(0.0, self.legendre_px))

    def frame(self, xy_px: FloatArray) -> tuple[Array, Array]:
        """Places (N, 2) px -> distance (N,) px from the edge, positive where bright, and along it (N,)."""
        across, along = _straight(self.xy_px, self.angle_rad, xy_px)
        at = along / self.half_px
        slope = legendre.legval(at, legendre.legder(self.legendre_px)) / self.half_px
        return (across - legendre.legval(at, self.legendre_px)) / np.hypot(1, slope), along


def fit_line(values: FloatArray, xy_px: FloatArray, edge: Edge) -> EdgeLine:
    """Fit the course of an edge to the samples around it.

    Parameters
    ----------
    values : (N,) float
        Samples of one channel.
    xy_px : (N, 2) float
        Where they are.
    edge : Edge
        About where the edge is, and how blurred.

    Returns
    -------
    EdgeLine
    """
    near, _ = edge.frame(xy_px)
    across, along = _straight(edge.xy_px, edge.angle_rad, xy_px)
    core = np.abs(near) < CORE_BLURS * edge.blur_px + CORE_PX
    values, across, along = values[core], across[core], along[core]
    half = float(np.abs(along).max(initial=1.0))
    at = along / half
    low, high = (float(np.mean(values[side])) for side in (near[core] < 0, near[core] > 0))
    bend = edge.bend_per_px * half**2  # t^2 / 2 in Legendre polynomials is h^2 (P_0 / 6 + P_2 / 3)
    start = np.array([low, high - low, np.log(edge.blur_px), 0.0, bend / 6, 0.0, bend / 3])
    order = 2
    for _ in range(2):  # the order is chosen about the fit of an order near it
        fitted = _fit(values, across, at, np.append(start, np.zeros(max(0, 5 + order - len(start))))[: 5 + order])
        chosen = _chosen_order(values, across, at, fitted)
        if chosen == order:
            break
        order, start = chosen, fitted
    else:
        fitted = _fit(values, across, at, np.append(start, np.zeros(max(0, 5 + order - len(start))))[: 5 + order])
    return EdgeLine(edge.xy_px, edge.angle_rad, half, fitted[4:], float(fitted[3]) / half, float(np.exp(fitted[2])))


def _straight(middle_px: FloatArray, angle_rad: float, xy_px: FloatArray) -> tuple[Array, Array]:
    """Distances (N,) px of places (N, 2) across and along a straight line."""
    across, down = np.cos(angle_rad), np.sin(angle_rad)
    x, y = (xy_px - middle_px).T
    return np.asarray(across * x + down * y), np.asarray(across * y - down * x)


def _fit(values: FloatArray, across_px: FloatArray, at: FloatArray, start: FloatArray) -> Array:
    basis = legendre.legvander(at, len(start) - 5)
    fit = least_squares(
        lambda p: _model(p, across_px, at, basis)[0] - values,
        start,
        lambda p: _model(p, across_px, at, basis)[1],
        method="lm", x_scale="jac", max_nfev=30, ftol=CLOSE, xtol=CLOSE,
    )  # fmt: skip
    return np.asarray(fit.x)


def _model(p: FloatArray, across_px: FloatArray, at: FloatArray, basis: FloatArray) -> tuple[Array, Array]:
    """Blurred edge (N,) and its derivatives (N, 5 + order): dark, step, log of blur, light, and the course."""
    blur = np.exp(np.clip(p[2], -5, 5))
    distance = (across_px - basis @ p[4:]) / blur
    rise, light = ndtr(distance), 1 + p[3] * at
    level = p[0] + p[1] * rise
    steep = p[1] * light * np.exp(-0.5 * distance**2) / np.sqrt(2 * np.pi)
    slopes = np.empty((len(at), len(p)))
    slopes[:, 0], slopes[:, 1], slopes[:, 2], slopes[:, 3] = light, light * rise, -steep * distance, level * at
    slopes[:, 4:] = (-steep / blur)[:, None] * basis
    return light * level, slopes


def _chosen_order(values: FloatArray, across_px: FloatArray, at: FloatArray, p: FloatArray) -> int:
    """Order of least BIC, from what the samples (N,) leave of a fit, linear about it up to the highest order."""
    count = len(values)
    most = int(np.clip(count // SAMPLES_PER_TERM - 4, 1, MOST_ORDER))
    full = np.append(p, np.zeros(max(0, 5 + most - len(p))))
    basis = legendre.legvander(at, len(full) - 5)
    level, slopes = _model(full, across_px, at, basis)
    # about the fitted course: what a lower order would leave is what the terms beyond it had taken away
    target = values - level + slopes[:, 4:] @ full[4:]
    q, _ = np.linalg.qr(slopes)
    left = float(target @ target) - np.cumsum((q.T @ target) ** 2)
    orders = np.arange(1, most + 1)
    floor = np.finfo(float).eps * float(values @ values)
    criterion = count * np.log(np.maximum(left[4 + orders], floor)) + orders * np.log(count)
    return int(orders[np.argmin(criterion)])
