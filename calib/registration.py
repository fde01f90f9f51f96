"""A map without a camera model: one picture of a regular grid, registered against the grid's own plane.

For optics that no projection describes, or where one picture of one plane is all there is. The plane takes the place of
the rays at z = 1, up to a similarity: turned to stand as in the picture, its middle where the picture's middle looks,
and at a distance that is a convention, since nothing tells the focal length. How the plane stood before the camera is
part of the map. The spline is penalised as the bundle adjustment's is, and the points are its only data: each point
left out in turn with a fifth of the others tells how smooth it is to be.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.spatial import ConvexHull
from threadpoolctl import threadpool_limits

from calib.geometry.bundle import Base, Observations, State, huber, robust_scale, tensor_design
from calib.geometry.choose import recentred
from calib.geometry.penalty import RIDGE, penalty_matrix
from calib.session import Journal, in_words
from psfbank.arrays import BoolArray, FloatArray, frozen, require_shape
from psfbank.distortion import stereographic
from psfbank.errors import FitFailed
from psfbank.model import Corners, DistortionMap

log = logging.getLogger(__name__)

LEAST_POINTS = 30
HALF_FIELD = 0.25  # ray of the farthest point: near enough that the stereographic base is nearly a plane
SMOOTHNESS = (1e-1, 1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
FOLDS = 5
SPANS, POINTS_PER_SPAN = (6, 20), 1.5  # knot spans along the longer side; points along one axis for each
REACH = 0.3  # how far the knots may leave the points towards the picture's border, in their span
MARGIN = 0.03
LOSS_WIDTH = 4.0  # of Huber's loss, in standard deviations of a coordinate


@dataclass(frozen=True, eq=False)
class Registration:
    """A registered plane: the map, and `to_rays` (2, 3) that takes (X, Y, 1) of the reference to the map's rays.

    `rms_px` is 2-D over every point, `heldout_rms_px` over points left out in turn, in the reference channel.
    """

    distortion: DistortionMap
    to_rays: FloatArray
    rms_px: float
    heldout_rms_px: float
    smoothness: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "to_rays", frozen(self.to_rays, np.float64, "to_rays", "2,3"))


def register_grid(
    reference: npt.ArrayLike,
    image_px: npt.ArrayLike,
    size_px: tuple[int, int],
    *,
    sigma_px: npt.ArrayLike | None = None,
    lateral: Mapping[str, npt.ArrayLike] | None = None,
) -> Registration:
    """Register one picture of a plane: a spline from the plane's own coordinates to pixels.

    Parameters
    ----------
    reference : (N, 2) float
        Places on the plane, any unit, x right and y down as seen from the camera, up to a turn.
    image_px : (N, 2) float
        Where they were seen, in the green channel where there are several; NaN where not.
    size_px : (H, W)
        Sensor.
    sigma_px : (N,) float, optional
        Standard deviation of each; all alike when absent.
    lateral : mapping of "R" and "B" to (N, 2) float, optional
        The same points in the other channels; the map then has channels R, G, B, otherwise Y alone.

    Returns
    -------
    Registration
        Its camera matrix holds the focal lengths at which the stretch along x and y in the picture's middle is one.

    Raises
    ------
    FitFailed
        With too few points, points on a line, or a mirrored grid.
    """
    plane, seen_px = (np.asarray(a, dtype=np.float64) for a in (reference, image_px))
    require_shape(plane, "reference", (len(plane), 2))
    require_shape(seen_px, "image_px", plane.shape)
    sigma = np.ones(len(plane)) if sigma_px is None else np.asarray(sigma_px, dtype=np.float64)
    require_shape(sigma, "sigma_px", (len(plane),))
    known = np.isfinite(seen_px).all(axis=1) & np.isfinite(sigma)
    if known.sum() < LEAST_POINTS:
        raise FitFailed(
            f"{known.sum()} points of the grid were found, {LEAST_POINTS} are needed", remedy="Show more of the grid"
        )
    to_rays, scale_px = _stance(plane[known], seen_px[known], size_px)
    u = stereographic(plane @ to_rays[:, :2].T + to_rays[:, 2])
    centre_px = np.array([(size_px[1] - 1) / 2, (size_px[0] - 1) / 2])
    base = _base(u[known], scale_px, centre_px, size_px)

    def seen(xy_px: FloatArray, which: BoolArray) -> Observations:
        count = int(which.sum())
        weight = sigma[which] ** -2.0
        fold = (FOLDS * (np.arange(count) * 0.6180339887498949 % 1)).astype(int)  # spread evenly over any raster
        none = np.zeros((count, 0))
        points = np.flatnonzero(which)
        return Observations(fold, points, plane[which], xy_px[which], weight / weight.mean(), none, none)

    with threadpool_limits(1, user_api="blas"):
        green = _fit(base, u[known], seen(seen_px - u * scale_px - centre_px, known))
        splines, rms_px = {"G" if lateral else "Y": green.coefficients}, {"G" if lateral else "Y": green.rms_px}
        for name, there in (lateral or {}).items():
            moved = np.asarray(there, dtype=np.float64) - seen_px
            both = known & np.isfinite(moved).all(axis=1)
            if both.sum() < LEAST_POINTS:
                raise FitFailed("a colour channel shows too few points", remedy="Light the grid with white light")
            difference = _fit(base, u[both], seen(moved, both))
            splines[name] = green.coefficients + difference.coefficients
            rms_px[name] = float(np.hypot(green.rms_px, difference.rms_px))
    order = tuple(name for name in ("R", "G", "B", "Y") if name in splines)
    still = State(np.zeros((0, 3, 3)), np.zeros((0, 3)), green.coefficients, np.zeros(0), np.zeros((2, 0)))
    matrix, centred = recentred(base, still)
    found = DistortionMap(
        camera_matrix=matrix,
        knots_x=base.knots_x,
        knots_y=base.knots_y,
        coefficients=np.stack([splines[name] + (centred - green.coefficients) for name in order]),
        valid_region=seen_px[known][ConvexHull(seen_px[known]).vertices],
        rms_px=np.array([rms_px[name] for name in order]),
        channels=order,
    )
    return Registration(found, to_rays, green.rms_px, green.heldout_rms_px, green.smoothness)


def register_view(
    corners: Mapping[str, Corners], sigma_px: FloatArray, reference: str, size_px: tuple[int, int], journal: Journal
) -> DistortionMap | None:
    """Register the one view of a session in all channels, and say what that means; None when it does not suffice.

    Parameters
    ----------
    corners : mapping of channel to Corners
        One view of M points; the other channels are measured against `reference`.
    sigma_px : (1, M) float
    reference : str
    size_px : (H, W)
    journal : Journal

    Returns
    -------
    DistortionMap or None
    """
    seen_px = {name: np.where(c.found[0, :, None], c.image_px[0], np.nan) for name, c in corners.items()}
    others = {name: there for name, there in seen_px.items() if name != reference}
    plane = corners[reference].object_mm[0]
    try:
        found = register_grid(plane, seen_px[reference], size_px, sigma_px=sigma_px[0], lateral=others or None)
    except FitFailed as error:
        journal.lack("distortion", in_words(error))
        return None
    log.warning(
        "one view of one grid: the distortion map is a registration of the grid's own plane, how it stood before the "
        "camera included; the focal length is a convention"
    )
    journal.summary["distortion"] = {
        "registration_to_rays": found.to_rays.tolist(),
        "views": 1,
        "points": int(np.isfinite(seen_px[reference]).all(axis=1).sum()),
        "rms_px": round(found.rms_px, 4),
        "heldout_rms_px": round(found.heldout_rms_px, 4),
    }
    return found.distortion


def _stance(plane: FloatArray, seen_px: FloatArray, size_px: tuple[int, int]) -> tuple[FloatArray, float]:
    """Similarity (2, 3) from the plane to rays, and pixels a unit of ray, from the affine map that fits best."""
    middle = plane.mean(axis=0)
    half = float(np.linalg.norm(plane - middle, axis=1).max())
    design = np.column_stack([(plane - middle) / max(half, 1e-300), np.ones(len(plane))])
    fit, _, rank, _ = np.linalg.lstsq(design, seen_px, rcond=1e-6)
    linear, origin_px = fit[:2].T, fit[2]
    if rank < 3 or np.linalg.cond(linear) > 20:
        raise FitFailed("the points of the grid lie on a line", remedy="Show a grid of rows and columns, face on")
    if np.linalg.det(linear) < 0:
        raise FitFailed(
            "the grid is seen mirrored", remedy="Give the grid's coordinates as seen from the camera, or turn it over"
        )
    left, _, right = np.linalg.svd(linear)
    turn = left @ right
    centre_px = np.array([(size_px[1] - 1) / 2, (size_px[0] - 1) / 2])
    middle = middle + half * np.linalg.solve(linear, centre_px - origin_px)
    to_rays = HALF_FIELD / half * np.column_stack([turn, -turn @ middle])
    return to_rays, float(np.sqrt(np.linalg.det(linear))) / HALF_FIELD


def _base(u: FloatArray, scale_px: float, centre_px: FloatArray, size_px: tuple[int, int]) -> Base:
    low, high = u.min(axis=0), u.max(axis=0)
    span = high - low
    border = (np.array([[-0.5, -0.5], [size_px[1] - 0.5, size_px[0] - 0.5]]) - centre_px) / scale_px
    low = np.clip(border[0], low - REACH * span, low) - MARGIN * span
    high = np.clip(border[1], high, high + REACH * span) + MARGIN * span
    size = high - low
    spans = np.clip(np.sqrt(len(u)) / POINTS_PER_SPAN, *SPANS)
    counts = np.maximum(np.ceil(spans * size / size.max()).astype(int), 4)
    knots = [lo + (hi - lo) / n * np.arange(-3, n + 4) for lo, hi, n in zip(low, high, counts, strict=True)]
    return Base(np.full(2, scale_px), centre_px, knots[0], knots[1])


@dataclass(frozen=True, eq=False)
class _Spline:
    coefficients: FloatArray  # (2, Ny, Nx) px
    rms_px: float
    heldout_rms_px: float
    smoothness: float


def _fit(base: Base, u: FloatArray, moved: Observations) -> _Spline:
    """Penalised spline of displacements, as free as the points left out reward; `moved.view` are folds."""
    design, bending = tensor_design(base, u).toarray(), penalty_matrix(base)

    def without(smoothness: float) -> FloatArray:
        left = np.zeros(moved.xy_px.shape)
        for k in range(FOLDS):
            aside = moved.view == k
            left[aside] = moved.xy_px[aside] - design[aside] @ _solve(design, moved, ~aside, smoothness * bending).T
        return left

    best, chosen = without(SMOOTHNESS[0]), SMOOTHNESS[0]
    width = LOSS_WIDTH * robust_scale(best, moved)
    for smoothness in SMOOTHNESS[1:]:
        left = without(smoothness)
        if huber(left, moved, width)[0] < huber(best, moved, width)[0]:
            best, chosen = left, smoothness
    everything = np.ones(len(moved.view), dtype=bool)
    solution = _solve(design, moved, everything, chosen * bending)
    left = moved.xy_px - design @ solution.T
    rms, heldout = (float(np.sqrt(np.mean(np.sum(r**2, axis=1)))) for r in (left, best))
    return _Spline(solution.reshape(2, *base.shape), rms, heldout, chosen)


def _solve(design: FloatArray, moved: Observations, use: BoolArray, bending: FloatArray) -> FloatArray:
    """Robust penalised least squares, (2, Ny Nx)."""
    part, rows, n = moved.where(use), design[use], design.shape[1]
    prior = part.weight.sum() * (bending + RIDGE * np.eye(2 * n))
    weight, solution = part.weight, np.zeros((2, n))
    for _ in range(3):
        weighted = (rows * weight[:, None]).T
        normal = np.kron(np.eye(2), weighted @ rows) + prior
        right = (weighted @ part.xy_px).T.ravel()
        solution = scipy.linalg.solve(normal, right, assume_a="pos").reshape(2, n)
        left = part.xy_px - rows @ solution.T
        weight = huber(left, part, LOSS_WIDTH * robust_scale(left, part))[1]
    return solution
