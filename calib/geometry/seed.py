"""First guesses for the bundle adjustment: a focal length, a centre, and a pose for each view."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from calib.geometry.bundle import Observations, State
from calib.geometry.observe import LEAST_POINTS
from psfbank.arrays import FloatArray
from psfbank.errors import FitFailed

TRIAL_VIEWS = 8  # enough to tell focal lengths apart


def directions(u: FloatArray) -> FloatArray:
    """Stereographic (N, 2) -> unit vectors (N, 3)."""
    quarter = np.sum(u**2, axis=1, keepdims=True) / 4.0
    return np.asarray(np.concatenate([u, 1.0 - quarter], axis=1) / (1.0 + quarter))


def poses_from_directions(seen: Observations, toward: FloatArray, n_views: int) -> tuple[FloatArray, FloatArray]:
    """Pose of each plane target from the directions of its points (direct linear transform on unit vectors).

    Unit vectors instead of image points keep the estimate sound up to and beyond 90 degrees from the axis
    (Hartley and Zisserman, Multiple View Geometry, 4.1, with d x H X = 0).

    Parameters
    ----------
    seen : Observations
    toward : (N, 3) float
        Unit vectors; a row with a NaN is left out.
    n_views : int

    Returns
    -------
    rotation : (V, 3, 3) float64
    translation_mm : (V, 3) float64
        The identity, far ahead, where a view has too few points.
    """
    rotation = np.tile(np.eye(3), (n_views, 1, 1))
    translation = np.tile([0.0, 0.0, 1e3 * max(float(np.abs(seen.object_mm).max()), 1.0)], (n_views, 1))
    for v in np.unique(seen.view):
        use = (seen.view == v) & np.isfinite(toward).all(axis=1)
        if use.sum() < LEAST_POINTS:
            continue
        middle = seen.object_mm[use].mean(axis=0)
        size = np.abs(seen.object_mm[use] - middle).max()
        plane = np.column_stack([(seen.object_mm[use] - middle) / size, np.ones(use.sum())])
        d = toward[use]
        cross = np.einsum("nij,nk->nijk", np.cross(np.eye(3)[None], d[:, None]), plane).reshape(-1, 9)
        H = np.linalg.eigh(cross.T @ cross)[1][:, 0].reshape(3, 3)
        H *= np.sign(np.sum(d * (plane @ H.T)))
        H /= np.linalg.norm(H[:, :2]) / np.sqrt(2)
        left, _, right = np.linalg.svd(np.column_stack([H[:, :2], np.cross(H[:, 0], H[:, 1])]))
        rotation[v] = left @ right
        translation[v] = H[:, 2] * size - rotation[v][:, :2] @ middle
    return rotation, translation


def _flat_state(rotation: FloatArray, translation_mm: FloatArray) -> State:
    return State(rotation, translation_mm, np.zeros((2, 4, 4)), np.zeros(0), np.zeros((2, 0)))


def _stereographic_misfit(seen: Observations, state: State, scale_px: float, centre_px: FloatArray) -> float:
    p = np.einsum("nij,nj->ni", state.rotation[seen.view][:, :, :2], seen.object_mm) + state.translation_mm[seen.view]
    u = 2 * p[:, :2] / (np.linalg.norm(p, axis=1) + p[:, 2])[:, None]
    return float(np.median(np.linalg.norm(seen.xy_px - centre_px - scale_px * u, axis=1)))


def stereographic_seed(seen: Observations, size_px: tuple[int, int], n_views: int) -> tuple[float, FloatArray, State]:
    """Focal length by trial: each candidate's poses come in closed form, and the best reprojection wins."""
    centre = np.array([size_px[1] - 1, size_px[0] - 1]) / 2
    few = seen.of_views(np.argsort(-np.bincount(seen.view, minlength=n_views), kind="stable")[:TRIAL_VIEWS])

    def misfit(scale: float) -> float:
        pose = poses_from_directions(few, directions((few.xy_px - centre) / scale), n_views)
        return _stereographic_misfit(few, _flat_state(*pose), scale, centre)

    scale = min(np.geomspace(0.2, 5.0, 24) * max(size_px), key=misfit)
    pose = poses_from_directions(seen, directions((seen.xy_px - centre) / scale), n_views)
    return float(scale), centre, _flat_state(*pose)


def opencv_seed(seen: Observations, size_px: tuple[int, int], n_views: int) -> tuple[float, FloatArray, State] | None:
    """OpenCV's five-parameter calibration; None where it does not converge to a camera that could be."""
    views = [v for v in range(n_views) if np.sum(seen.view == v) >= LEAST_POINTS]
    objects = [np.column_stack([seen.object_mm[seen.view == v], np.zeros(np.sum(seen.view == v))]) for v in views]
    images = [seen.xy_px[seen.view == v].astype(np.float32) for v in views]
    try:
        rms, matrix, _, turns, moves = cv2.calibrateCamera(
            [o.astype(np.float32) for o in objects],
            images,
            size_px[::-1],
            None,
            None,
        )
    except cv2.error:  # degenerate views: the caller has another seed
        return None
    # OpenCV sums in the order its threads finish; digits beyond those of a seed would make results differ by run
    extent = float(np.ptp(seen.object_mm, axis=0).max())
    matrix, turns = np.round(matrix, 2), [np.round(turn, 5) for turn in turns]
    moves = [np.round(move / extent, 5) * extent for move in moves]
    centre: FloatArray = np.array(matrix[:2, 2], dtype=np.float64)
    scale = float(np.sqrt(matrix[0, 0] * matrix[1, 1])) if min(matrix[0, 0], matrix[1, 1]) > 0 else float("nan")
    inside = np.all(centre > -0.2 * np.array(size_px[::-1])) and np.all(centre < 1.2 * np.array(size_px[::-1]))
    if not (np.isfinite(rms) and np.isfinite(scale) and inside and 0.05 < scale / max(size_px) < 50):
        return None
    rotation, translation = np.tile(np.eye(3), (n_views, 1, 1)), np.tile([0.0, 0.0, 1e3], (n_views, 1))
    for v, turn, move in zip(views, turns, moves, strict=True):
        rotation[v], translation[v] = cv2.Rodrigues(turn)[0], np.ravel(move)
    return scale, centre, _flat_state(rotation, translation)


def seeds(seen: Observations, size_px: tuple[int, int], n_views: int) -> Iterator[tuple[float, FloatArray, State]]:
    """Every candidate (focal length px, centre px, poses) worth a bundle adjustment.

    Raises
    ------
    FitFailed
        When no view has enough points.
    """
    if not len(seen.view):
        raise FitFailed(
            "no view shows enough of a target", remedy="Shoot boards that fill a third of the picture or more"
        )
    makers: tuple[Callable[..., tuple[float, FloatArray, State] | None], ...] = (opencv_seed, stereographic_seed)
    for make in makers:
        found = make(seen, size_px, n_views)
        if found is not None:
            yield found
