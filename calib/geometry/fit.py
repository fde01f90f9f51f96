"""Corners of plane targets in many views -> the distortion map, the poses and the targets' shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from calib.geometry import bundle, choose, coverage, seed, shape, uncertainty
from calib.geometry import lateral as lateral_colour
from calib.geometry.bundle import Base, Observations, State
from calib.geometry.coverage import LEAST_VIEWS, Coverage
from calib.geometry.observe import LEAST_POINTS, observe
from psfbank import distortion
from psfbank.arrays import FloatArray, IntArray, frozen, require_shape
from psfbank.errors import FitFailed
from psfbank.model import Corners, DistortionMap, MapUncertainty

OUTLIER_SIGMA = 4.0  # of a coordinate: in noise alone, one point in three thousand


@dataclass(frozen=True, eq=False)
class DistortionFit:
    """A fitted camera: the map, `poses` (V, 6) as Rodrigues vector and mm, the targets' shape, 2-D residuals.

    `rms_px` is over every point found, none removed; `heldout_rms_px` over views left out of the fit in turn, with
    the camera held and only their poses fitted. A view with too few points has NaN for its pose. `outliers` (K, 2) are
    the view and the number of each point whose residual exceeds four robust standard deviations of a coordinate, the
    largest first; they stay in both figures. `coverage` tells what the views show, and what to shoot next.
    """

    distortion: DistortionMap
    poses: FloatArray
    board_shape: shape.BoardShape
    rms_px: float
    heldout_rms_px: float
    smoothness: float
    outliers: IntArray
    coverage: Coverage

    def __post_init__(self) -> None:
        object.__setattr__(self, "outliers", frozen(self.outliers, np.int64, "outliers", "K,2"))
        object.__setattr__(self, "poses", frozen(self.poses, np.float64, "poses", "V,6"))


def rms(residual: FloatArray) -> float:
    """2-D root mean square of residuals (N, 2)."""
    return float(np.sqrt(np.mean(np.sum(np.square(residual), axis=-1))))


def _moved(seen: Observations, there: Corners) -> tuple[Observations, npt.NDArray[np.bool_]]:
    """Points seen in green and in another channel, with the way from the one to the other in place of a position."""
    both = there.found[seen.view, seen.point]
    if both.sum() < LEAST_POINTS:
        raise FitFailed("a colour channel shows no corners", remedy="Light the boards with white light")
    part = seen.where(both)
    return replace(part, xy_px=there.image_px[part.view, part.point] - part.xy_px), both


def fit_distortion(
    corners: Corners,
    size_px: tuple[int, int],
    *,
    lateral: Mapping[str, Corners] | None = None,
    target: npt.ArrayLike | None = None,
    sigma_px: npt.ArrayLike | None = None,
    alike: npt.ArrayLike | None = None,
) -> DistortionFit:
    """Fit a distortion map, the poses of all views and the shape of the targets.

    Parameters
    ----------
    corners : Corners
        V views of M points, in the green channel where there are several.
    size_px : (H, W)
        Sensor.
    lateral : mapping of "R" and "B" to Corners, optional
        The same views and points in the other channels; the map then has channels R, G, B, otherwise Y alone.
    target : (V,) int, optional
        Which physical target each view shows: views of one share its shape. -1 is a target taken as flat. All views
        show one target when absent.
    sigma_px : (V, M) float, optional
        Standard deviation of each point; a point whose own is not finite is left out.
    alike : (V,) bool, optional
        Views of one kind of point whose errors depend on the place in the picture, such as spots of light, whose
        positions rest on one model of their images. However many they are, such errors do not average out: a smooth
        field of a few hundredths of a pixel, common to these views, is fitted along with the lens where there are
        other views beside them.

    Returns
    -------
    DistortionFit

    Raises
    ------
    FitFailed
        With too few views, views that are all alike or frontal, or when no camera explains the points.
    """
    views = len(corners.found)
    targets = np.zeros(views, dtype=np.int64) if target is None else np.asarray(target, dtype=np.int64)
    require_shape(targets, "target", (views,))
    sigma = None if sigma_px is None else np.asarray(sigma_px, dtype=np.float64)
    if sigma is not None:
        require_shape(sigma, "sigma_px", corners.found.shape)
        corners = replace(corners, found=corners.found & np.isfinite(sigma))
    shares = np.zeros(views, dtype=bool) if alike is None else np.asarray(alike, dtype=bool)
    require_shape(shares, "alike", (views,))
    lights_alone = bool(shares.all())
    if lights_alone:  # what every view shares is the lens
        shares = np.zeros(views, dtype=bool)
    usable = int(np.sum(corners.found.sum(axis=1) >= LEAST_POINTS))
    if usable < LEAST_VIEWS:
        raise FitFailed(
            f"{usable} views show {LEAST_POINTS} corners or more, {LEAST_VIEWS} are needed",
            remedy="Shoot ten boards that together reach every corner of the picture, each tilted another way",
        )
    flat = observe(corners, np.full(views, -1), sigma, 0)
    with threadpool_limits(1, user_api="blas"):  # many small products: BLAS threads would wait for each other
        coarse, start = choose.begin(flat, size_px, views)
        coverage.require_telling(flat, start, size_px, may_be_frontal=lights_alone)
        base = choose.widen(coarse, flat, start, size_px)
        best = choose.choose(base, start, corners, targets, sigma, shares)
        at = uncertainty.places(base, best.state, choose.matrix_of(base), best.seen.xy_px, size_px)
        free = choose.prior(base, best.seen, best.state, best.smoothness, gauge=0.0)
        sure = uncertainty.map_modes(base, best, free, at)
    linear = bundle.linearise(base, best.seen, best.state)
    matrix, coefficients = choose.recentred(base, best.state)
    own = "Y" if lateral is None else "G"
    channels, rms_px, modes = {own: coefficients}, {own: rms(linear.residual)}, {own: sure}
    for name, seen_there in (lateral or {}).items():
        moved, both = _moved(best.seen, seen_there)
        with threadpool_limits(1, user_api="blas"):
            difference = lateral_colour.fit_difference(base, linear.u[both], moved, at)
            both_sure = np.concatenate([sure, difference.modes]).reshape(-1, coefficients.size)
            modes[name] = uncertainty.compress(both_sure, at).reshape(-1, *coefficients.shape)
        channels[name] = coefficients + difference.coefficients
        left = moved.xy_px - bundle.tensor_design(base, linear.u[both]) @ difference.coefficients.reshape(2, -1).T
        rms_px[name] = rms(left + linear.residual[both])
    order = tuple(name for name in ("R", "G", "B", "Y") if name in channels)
    hull = ConvexHull(best.seen.xy_px)
    found = DistortionMap(
        camera_matrix=matrix,
        knots_x=base.knots_x,
        knots_y=base.knots_y,
        coefficients=np.stack([channels[name] for name in order]),
        valid_region=best.seen.xy_px[hull.vertices],
        rms_px=np.array([rms_px[name] for name in order]),
        channels=order,
        uncertainty=MapUncertainty(_stacked([modes[name] for name in order]), rms(best.left)),
    )
    return DistortionFit(
        distortion=found,
        poses=_pose_vectors(best.state, best.seen),
        board_shape=_board_shape(best, targets),
        rms_px=rms(linear.residual),
        heldout_rms_px=rms(best.left),
        smoothness=best.smoothness,
        outliers=_outliers(linear.residual, best.seen),
        coverage=coverage.survey(best.seen, best.state, size_px),
    )


def _outliers(residual: FloatArray, seen: Observations) -> IntArray:
    """View and point (K, 2) of residuals beyond four robust standard deviations, the largest first."""
    length = np.sqrt(seen.weight) * np.linalg.norm(residual, axis=1)
    far = np.flatnonzero(length > OUTLIER_SIGMA * bundle.robust_scale(residual, seen))
    far = far[np.argsort(-length[far])]
    return np.column_stack([seen.view[far], seen.point[far]])


def _stacked(modes: Sequence[FloatArray]) -> FloatArray:
    """Stack modes (R, 2, Ny, Nx) of channels that differ in their number, padded with zeros."""
    most = max(len(part) for part in modes)
    return np.stack([np.pad(part, ((0, most - len(part)), (0, 0), (0, 0), (0, 0))) for part in modes])


def _pose_vectors(state: State, seen: Observations) -> FloatArray:
    poses = np.full((len(state.rotation), 6), np.nan)
    shown = np.unique(seen.view)
    poses[shown, :3] = Rotation.from_matrix(state.rotation[shown]).as_rotvec()
    poses[shown, 3:] = state.translation_mm[shown]
    return poses


def _board_shape(best: choose.Trial, target: IntArray) -> shape.BoardShape:
    centre, half_width = shape.extent(best.seen.object_mm, target[best.seen.view])
    coefficients = best.state.shape_mm.reshape(len(centre), -1)
    return shape.BoardShape(best.degree, coefficients, centre, half_width)


def fit_poses(
    fit: DistortionFit, corners: Corners, target: npt.ArrayLike | None = None
) -> tuple[FloatArray, FloatArray]:
    """Poses of new views, with the lens and the shape of the targets held.

    Parameters
    ----------
    fit : DistortionFit
        Its green channel, or its only one, is used.
    corners : Corners
        V views of M points.
    target : (V,) int, optional
        Which physical target each view shows, as in `fit_distortion`; the first when absent.

    Returns
    -------
    poses : (V, 6) float64
        Rodrigues vector and mm; NaN for a view with too few points.
    residuals_px : (V, M, 2) float64
        Observed minus predicted; NaN where a point was not found.
    """
    lens, views = fit.distortion, len(corners.found)
    targets = np.zeros(views, dtype=np.int64) if target is None else np.asarray(target, dtype=np.int64)
    require_shape(targets, "target", (views,))
    channel = lens.channels.index("G") if "G" in lens.channels else 0
    base = Base(np.diag(lens.camera_matrix)[:2], lens.camera_matrix[:2, 2], lens.knots_x, lens.knots_y)
    seen = observe(corners, np.full(views, -1), None, 0)
    height = np.zeros(len(seen.view))
    for t in np.unique(targets):
        rows = targets[seen.view] == t
        height[rows] = fit.board_shape.height_mm(seen.object_mm[rows], int(t))
    seen = replace(seen, monomials=height[:, None])
    u = distortion.unproject_stereographic(
        seen.xy_px, lens.camera_matrix, lens.knots_x, lens.knots_y, lens.coefficients[channel]
    )
    pose = seed.poses_from_directions(seen, seed.directions(u), views)
    start = State(*pose, coefficients=lens.coefficients[channel], shape_mm=np.ones(1), shared_px=np.zeros((2, 0)))
    state = bundle.refine_poses(base, seen, start, 30)
    residuals = np.full(corners.image_px.shape, np.nan)
    residuals[seen.view, seen.point] = bundle.residuals(base, seen, state)
    return _pose_vectors(state, seen), residuals
