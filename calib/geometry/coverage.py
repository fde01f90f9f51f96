"""What a set of views can tell of a camera, and what to shoot next where it cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.geometry.bundle import Observations, State
from psfbank.arrays import BoolArray, FloatArray, IntArray, freeze
from psfbank.errors import FitFailed

CELLS = (6, 8)  # rows and columns that the picture is divided into
LEAST_VIEWS = 3
FRONTAL_DEG = 10.0  # a view tilted by less says next to nothing of the focal length
TILTED_VIEWS = 3  # of different directions, fewer make the focal length doubtful
ENOUGH = 0.8  # share of the picture that corners should reach
SAME_VIEW = 2e-3  # of the picture's diagonal: no point moved farther


@dataclass(frozen=True, eq=False)
class Coverage:
    """What V views show.

    `cells` (6, 8) is the number of points in each part of the picture, `tilt_deg` (V,) the angle between a target and
    the picture's plane, NaN for a view without points, `repeats` (K, 2) pairs of views that show the same, the later
    one first, `advice` what is missing and what to shoot, a sentence each.
    """

    cells: IntArray
    tilt_deg: FloatArray
    repeats: IntArray
    advice: tuple[str, ...]

    def __post_init__(self) -> None:
        freeze(self, np.int64, cells="Y,X", repeats="K,2")
        freeze(self, np.float64, tilt_deg="V")

    @property
    def share(self) -> float:
        """Share of the picture's cells with points in them."""
        return float(np.mean(self.cells > 0))


def count_cells(xy_px: FloatArray, size_px: tuple[int, int]) -> IntArray:
    """Count points (N, 2) in each cell of the picture, (6, 8)."""
    height, width = size_px
    edges = np.linspace(-0.5, height - 0.5, CELLS[0] + 1), np.linspace(-0.5, width - 0.5, CELLS[1] + 1)
    return np.histogram2d(xy_px[:, 1], xy_px[:, 0], bins=edges)[0].astype(np.int64)


def tilts(state: State, shown: IntArray) -> FloatArray:
    """Angle (V,) between each view's target and the picture's plane, degrees; NaN for views not among `shown`."""
    out = np.full(len(state.rotation), np.nan)
    out[shown] = np.degrees(np.arccos(np.clip(np.abs(state.rotation[shown, 2, 2]), 0.0, 1.0)))
    return out


def repeated(seen: Observations, size_px: tuple[int, int]) -> IntArray:
    """Pairs (K, 2) of a view and the first one before it that shares most of its points, all in the same places."""
    views, row = np.unique(seen.view, return_inverse=True)
    place = np.full((len(views), int(seen.point.max()) + 1, 4), np.nan)
    place[row, seen.point] = np.concatenate([seen.xy_px, seen.object_mm], axis=1)
    shown = np.isfinite(place[:, :, 0])
    limit = SAME_VIEW * float(np.hypot(*size_px))
    pairs: list[tuple[int, int]] = []
    first = np.ones(len(views), dtype=bool)
    for k in range(1, len(views)):
        both = shown[:k] & shown[k]
        away = np.where(both[:, :, None], np.abs(place[:k] - place[k]), 0.0)
        near = (away[:, :, :2] < limit).all(axis=(1, 2)) & (away[:, :, 2:] == 0).all(axis=(1, 2))
        same = np.flatnonzero(first[:k] & near & (2 * both.sum(axis=1) > shown[k].sum()))
        if len(same):
            first[k] = False
            pairs.append((int(views[k]), int(views[same[0]])))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def require_telling(seen: Observations, state: State, size_px: tuple[int, int], may_be_frontal: bool = False) -> None:
    """Refuse views that leave the focal length open.

    Lights hang where they are, and tilting the camera a little is all that can be asked for: where they are all there
    is, frontal views may stand, since their map serves whatever its focal length.

    Raises
    ------
    FitFailed
        When fewer than three views differ, or none is tilted.
    """
    views = np.unique(seen.view)
    differ = len(views) - len(repeated(seen, size_px))
    if differ < LEAST_VIEWS:
        raise FitFailed(
            f"the {len(views)} views show {differ} different pictures of the target, {LEAST_VIEWS} are needed",
            remedy="Move and tilt the board between pictures",
        )
    if not may_be_frontal and np.nanmax(tilts(state, views)) < FRONTAL_DEG:
        raise FitFailed(
            f"all {len(views)} views are within {FRONTAL_DEG:.0f} degrees of frontal: the focal length stays open",
            remedy="Tilt the board by 20 to 40 degrees, to each side and up and down",
        )


def survey(seen: Observations, state: State, size_px: tuple[int, int]) -> Coverage:
    """Say what the views of a fit cover, and what to shoot next.

    Parameters
    ----------
    seen, state
        Points and fitted poses.
    size_px : (H, W)

    Returns
    -------
    Coverage
    """
    cells = count_cells(seen.xy_px, size_px)
    tilt_deg = tilts(state, np.unique(seen.view))
    pairs = repeated(seen, size_px)
    advice = [*_of_picture(cells > 0), *_of_tilts(state, tilt_deg), *_of_repeats(pairs)]
    return Coverage(cells, tilt_deg, pairs, tuple(advice))


def _of_picture(reached: BoolArray) -> list[str]:
    thirds = [np.array_split(np.arange(n), 3) for n in CELLS]
    names = (
        ("the top left", "the top", "the top right"),
        ("the left", "the middle", "the right"),
        ("the bottom left", "the bottom", "the bottom right"),
    )
    empty = [names[i][j] for i in range(3) for j in range(3) if not reached[np.ix_(thirds[0][i], thirds[1][j])].any()]
    corners = [
        names[i][j] for i in (0, 2) for j in (0, 2) if not reached[-(i > 0), -(j > 0)] and names[i][j] not in empty
    ]
    advice = []
    if reached.mean() < ENOUGH or empty:
        where = f", above all in {_listed(empty)}" if empty else ""
        advice.append(
            f"corners reach {100 * reached.mean():.0f} % of the picture: shoot boards where there are none{where}"
        )
    if corners:
        advice.append(f"no corner lies in {_listed(corners)}: let boards reach beyond the picture's edge there")
    return advice


def _of_tilts(state: State, tilt_deg: FloatArray) -> list[str]:
    tilted = np.flatnonzero(tilt_deg > FRONTAL_DEG)
    if len(tilted) < TILTED_VIEWS:
        return [
            f"{len(tilted)} of {int(np.isfinite(tilt_deg).sum())} views are tilted by more than {FRONTAL_DEG:.0f} "
            "degrees, so the focal length is doubtful: tilt the board by 20 to 40 degrees, to each side"
        ]
    lean = state.rotation[tilted, :2, 2] * np.sign(state.rotation[tilted, 2, 2])[:, None]
    spread = np.linalg.svd(lean, compute_uv=False)
    if spread[-1] < 0.3 * np.sin(np.radians(FRONTAL_DEG)) * np.sqrt(len(tilted)):
        return ["all tilts are about one axis: tilt the board about the other one too"]
    return []


def _of_repeats(pairs: IntArray) -> list[str]:
    if not len(pairs):
        return []
    return [f"{len(pairs)} views repeat others, point for point: move the board between pictures"]


def _listed(places: list[str]) -> str:
    return places[0] if len(places) == 1 else ", ".join(places[:-1]) + " and " + places[-1]
