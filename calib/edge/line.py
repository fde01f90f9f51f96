"""The edge's course: a polynomial through a window's samples, of the order that the samples ask for.

Within a few widths of the blur the samples follow I = (1 + g t) (a + b Phi((u - p(t)) / s)) with u across and t along a
straight line and p a polynomial. About this fit the course is found once more while the profile may have any shape, of
the order of least Bayesian information criterion (Schwarz, Ann. Stat. 6, 1978). Distances are taken along the
polynomial's own normal (Kohm, ISPRS 2004), to first order in its curvature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre
from scipy.linalg import solve_triangular
from scipy.optimize import least_squares
from scipy.special import ndtr

from calib.edge.fit import Edge
from calib.edge.shape import HEAD, esf_columns
from psfbank.arrays import FloatArray

MOST_ORDER = 5  # as in ISO 12233:2023
CORE_BLURS, CORE_PX = 4.0, 1.5  # half width of the samples that tell the course
SAMPLES_PER_TERM = 12
SHAPE_TERMS = 10  # of the profile that is left free while the course is found
STEPS = 3
LEAST_OWN = 0.1  # of a column of the course beside the profile's: below, too few phases tell one from the other
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
    bent = 0.5 * edge.bend_per_px * half**2  # t^2 in Legendre polynomials is h^2 (P_0 + 2 P_2) / 3
    start = np.array([low, high - low, np.log(edge.blur_px), 0.0, bent / 3, 0.0, 2 * bent / 3])
    fitted = _fit(values, across, at, start)
    course = fitted[4:]
    for _ in range(STEPS):
        course = _with_free_shape(values, across, at, np.concatenate([fitted[:4], course]))
    return EdgeLine(edge.xy_px, edge.angle_rad, half, course, float(fitted[3]) / half, float(np.exp(fitted[2])))


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


def _with_free_shape(values: FloatArray, across_px: FloatArray, at: FloatArray, p: FloatArray) -> Array:
    """Take a Gauss-Newton step of the course, of the order of least BIC, while the profile has any shape.

    Where a Gaussian does not fit, what it leaves follows the phases of the sites along the edge, and a course would
    bend to make up for it. Columns of the profile go first, those of the course as far as they are their own.
    """
    count, blur = len(values), float(np.exp(np.clip(p[2], -5, 5)))
    most = int(np.clip(count // SAMPLES_PER_TERM - SHAPE_TERMS, 1, MOST_ORDER))
    course = np.append(p[4:], np.zeros(MOST_ORDER))[: most + 1]
    basis = legendre.legvander(at, most)
    level, slopes = _model(np.concatenate([p[:4], course]), across_px, at, basis)
    shape = esf_columns(across_px - basis @ course, blur, p[:2], (), SHAPE_TERMS)[:, HEAD + 2 :]
    columns = np.concatenate([slopes[:, :4], shape, slopes[:, 4:]], axis=1)
    first = columns.shape[1] - (most + 1)
    target = values - level + slopes[:, 4:] @ course
    triangle = np.asarray(np.linalg.qr(np.column_stack([columns, target]), mode="r"))
    left, told = (
        triangle[:, -1],
        np.abs(np.diag(triangle))[first:-1] > LEAST_OWN * np.linalg.norm(slopes[:, 4:], axis=0),
    )
    if not told[:2].all():
        return np.asarray(p[4:])
    orders = np.arange(1, int(np.argmin(np.append(told, False))))
    rest = np.array([np.sum(left[first + order + 1 :] ** 2) for order in orders])
    floor = np.finfo(float).eps * float(values @ values)
    order = int(orders[np.argmin(count * np.log(np.maximum(rest, floor)) + orders * np.log(count))])
    last = first + order + 1
    return np.asarray(solve_triangular(triangle[:last, :last], left[:last])[first:])
