"""LED and point grids: find the points on the mosaic's own sites, index them to the grid, cut their patches."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.feature import peak_local_max

from calib.photometry.variance import pixel_variance
from psfbank.arrays import BoolArray, FloatArray
from psfbank.errors import NoTargetFound
from psfbank.flags import Flag
from psfbank.model import Camera, Capture, NoiseModel, Points
from psfbank.sensor import cfa_sites

MATCHED_SIGMA_PX = 1.5  # of the filter that finds points: wide enough to bridge the sites of one colour
DETECTION_SIGMA = 8.0  # height of a peak above the background's noise
FAINTEST_SHARE = 0.15  # of the median peak: fainter ones are reflections
HOT_SHARE, HOT_SIGMA = 0.015, 2.5  # of a sample in the eight around it: less was no lens; f/1.6 on 3 um leaves 0.03
LEAST_POINTS = 12
WIDTH_HALF_PX = 7  # half width of the windows in which images' widths are compared
BLENDED_RATIO, NEIGHBOURS = 1.35, 9  # of an image's width to its neighbours': single lights stay below 1.23
UNSHARP_RATIO = 1.1  # of a frame's widths to the sharpest's at the same places: good frames agree to 0.02
STRAY_REACH_PX = 3  # of a stray light's image beyond its centre
STARTS = 5  # of the walk over a grid


@dataclass(frozen=True)
class PointView:
    """The points of one capture: `xy_px` (M, 2), their grid `index` (M, 2) as (column, row), `spacing_px`.

    `strays_px` (K, 2) are other lights and reflections, which belong to no grid.
    """

    xy_px: FloatArray
    index: npt.NDArray[np.int64]
    spacing_px: float
    strays_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))


def luminance(capture: Capture, camera: Camera) -> npt.NDArray[np.float64]:
    """Sum of the channels, or a mosaic with each colour's background level removed: (H, W), for detection only."""
    if capture.pixels.ndim == 3:
        return np.asarray(capture.pixels.sum(-1) - np.median(capture.pixels.sum(-1)), dtype=np.float64)
    image = np.array(capture.pixels, dtype=np.float64)
    sites = cfa_sites(camera.cfa, image.shape)
    for channel in np.unique(sites):
        image[sites == channel] -= np.median(image[sites == channel])
    return image


def find_peaks(image: FloatArray) -> npt.NDArray[np.float64]:
    """Positions (M, 2) of point images: local maxima of the matched-filtered picture, refined by a parabola.

    A maximum that is one bright sample among dark ones is a hot pixel: a point's image spreads.
    """
    smooth = ndimage.gaussian_filter(image, MATCHED_SIGMA_PX)
    noise = 1.4826 * np.median(np.abs(smooth - np.median(smooth))) + 1e-12
    found: FloatArray = peak_local_max(  # type: ignore[no-untyped-call]
        smooth, min_distance=4, threshold_abs=DETECTION_SIGMA * noise, exclude_border=1
    )
    rows, cols = found[~_lone(image)[tuple(found.T)]].T.astype(np.int64)
    if rows.size:
        keep = smooth[rows, cols] > FAINTEST_SHARE * np.median(smooth[rows, cols])
        rows, cols = rows[keep], cols[keep]

    def vertex(before: FloatArray, at: FloatArray, after: FloatArray) -> FloatArray:
        return np.asarray(0.5 * (before - after) / (before - 2 * at + after))

    at = smooth[rows, cols]
    x = cols + vertex(smooth[rows, cols - 1], at, smooth[rows, cols + 1])
    y = rows + vertex(smooth[rows - 1, cols], at, smooth[rows + 1, cols])
    return np.column_stack([x, y])


def _lone(image: FloatArray) -> BoolArray:
    """Mask (H, W) of places whose brightest sample within a pixel has next to nothing around it."""
    around = ndimage.uniform_filter(image, 3, mode="nearest") * 9 - image
    noise = 1.4826 * np.median(np.abs(image - np.median(image))) * np.sqrt(8.0)
    most = np.maximum(HOT_SHARE * image, 0.0) + HOT_SIGMA * noise
    hot = (image > 2 * most) & (around < most) & (image == ndimage.maximum_filter(image, 5))
    return np.asarray(ndimage.maximum_filter(hot, 3), dtype=np.bool_)


def _lattice_steps(xy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Typical steps to the right and downward neighbour: medians of the steps to the four nearest points."""
    near = cKDTree(xy).query(xy, k=min(5, len(xy)))[1][:, 1:]
    steps = (xy[near] - xy[:, None]).reshape(-1, 2)
    right = steps[(steps[:, 0] > 0) & (np.abs(steps[:, 0]) >= np.abs(steps[:, 1]))]
    down = steps[(steps[:, 1] > 0) & (np.abs(steps[:, 1]) > np.abs(steps[:, 0]))]
    if len(right) < 3 or len(down) < 3:
        raise NoTargetFound("the points do not form a grid", remedy="Shoot a planar grid, its rows roughly level")
    return np.median(right, axis=0), np.median(down, axis=0)


def index_grid(xy: FloatArray) -> tuple[npt.NDArray[np.int64], BoolArray]:
    """Give every point its (column, row) by walking from neighbour to neighbour.

    A step is predicted from the last step taken in that direction, so perspective and distortion are followed
    rather than modelled. Of the walks from the most central points the longest counts: one of them may be a stray.

    Parameters
    ----------
    xy : (M, 2) float
        Positions, pixels.

    Returns
    -------
    index : (M, 2) int
        (column, row), the origin arbitrary.
    reached : (M,) bool
        False for points that are no neighbour of any grid point, or claim a place already taken.
    """
    tree, steps = cKDTree(xy), _lattice_steps(xy)
    starts = tree.query(xy.mean(0), k=min(STARTS, len(xy)))[1]
    walks = [_walk(xy, tree, int(start), *steps) for start in starts]
    return max(walks, key=lambda walk: int(walk[1].sum()))


def _walk(
    xy: FloatArray, tree: cKDTree, start: int, right: FloatArray, down: FloatArray
) -> tuple[npt.NDArray[np.int64], BoolArray]:
    index = np.zeros((len(xy), 2), dtype=np.int64)
    reached = np.zeros(len(xy), dtype=bool)
    taken = {(0, 0)}
    reached[start] = True
    queue = deque([(start, right, down)])
    while queue:
        here, right, down = queue.popleft()
        for step, move in ((right, (1, 0)), (-right, (-1, 0)), (down, (0, 1)), (-down, (0, -1))):
            distance, there = tree.query(xy[here] + step)
            place = (int(index[here, 0]) + move[0], int(index[here, 1]) + move[1])
            if distance > 0.25 * np.hypot(*step) or reached[there] or place in taken:
                continue
            taken.add(place)
            index[there], reached[there] = place, True
            made = (xy[there] - xy[here]) * (1 if sum(move) > 0 else -1)
            queue.append((int(there), made, down) if move[0] else (int(there), right, made))
    return index, reached


def find_points(capture: Capture, camera: Camera) -> PointView:
    """Find and index the points of one capture.

    Parameters
    ----------
    capture : Capture
    camera : Camera

    Returns
    -------
    PointView
        Positions to a few tenths of a pixel; points off the grid are left out.

    Raises
    ------
    NoTargetFound
        When fewer than `LEAST_POINTS` points form a grid.
    """
    xy = find_peaks(luminance(capture, camera))
    remedy = "Darken the room, expose so that the points' peaks reach half the white level, and focus"
    if len(xy) < LEAST_POINTS:
        raise NoTargetFound(
            f"only {len(xy)} points found, {LEAST_POINTS} are needed", where=capture.name, remedy=remedy
        )
    index, reached = index_grid(xy)
    if reached.sum() < LEAST_POINTS:
        raise NoTargetFound(f"only {reached.sum()} of {len(xy)} points form a grid", where=capture.name, remedy=remedy)
    spacing = float(np.median(cKDTree(xy).query(xy, k=2)[0][:, 1]))
    return PointView(xy[reached], index[reached] - index[reached].min(0), spacing, xy[~reached])


def image_widths(capture: Capture, camera: Camera, xy_px: FloatArray) -> npt.NDArray[np.float64]:
    """Widths (M,) of point images, px: the rms radius of the light within a soft window; NaN near the border.

    The window, a Gaussian of half the half width, holds noise down, and makes widths comparable, not absolute.
    """
    image, half = luminance(capture, camera), WIDTH_HALF_PX
    centre = np.rint(xy_px).astype(np.int64)
    inside = np.all((centre >= half) & (centre < np.array(image.shape[::-1]) - half), axis=1)
    offset = np.arange(-half, half + 1)
    rows, cols = (centre[inside, k, None] + offset for k in (1, 0))
    patch = image[rows[:, :, None], cols[:, None, :]]
    radius2 = (offset + (centre[inside] - xy_px[inside])[:, 1:])[:, :, None] ** 2
    radius2 = radius2 + (offset + (centre[inside] - xy_px[inside])[:, :1])[:, None, :] ** 2
    light = patch * np.exp(-radius2 / (2 * (half / 2) ** 2))
    widths = np.full(len(xy_px), np.nan)
    widths[inside] = np.sqrt(np.maximum((light * radius2).sum((1, 2)) / light.sum((1, 2)), 0.0))
    return widths


def _blended(widths_px: FloatArray, xy_px: FloatArray) -> BoolArray:
    """Mask (M,) of images that are much wider than those around them: two lights, or one seen twice."""
    near = cKDTree(xy_px).query(xy_px, k=min(NEIGHBOURS, len(xy_px)))[1].reshape(len(xy_px), -1)
    known = np.where(np.isfinite(widths_px), widths_px, np.inf)  # few at the border: they raise a median, if anything
    return np.asarray(widths_px > BLENDED_RATIO * np.median(known[near], axis=1), dtype=np.bool_)


def relative_widths(views: Sequence[PointView], captures: Sequence[Capture], camera: Camera) -> npt.NDArray[np.float64]:
    """How much wider the points of each frame are than those of the sharpest frame at the same places.

    Frames of one lens at one focus differ where the camera or the lights moved, or focus was lost: always to the wider.
    Widths are compared with the nearest point of the other frame, as they vary over the field.

    Parameters
    ----------
    views, captures : sequences of equal length
        Of one setting of the lens.
    camera : Camera

    Returns
    -------
    (V,) float64
        Median ratios, 1 for the sharpest frame and for one that shares no place with another.
    """
    widths = [image_widths(shot, camera, view.xy_px) for view, shot in zip(views, captures, strict=True)]
    worst = np.ones(len(views))
    for v, w in permutations(range(len(views)), 2):
        distance, near = cKDTree(views[w].xy_px).query(views[v].xy_px)
        ratio = (widths[v] / widths[w][near])[distance < views[w].spacing_px]
        ratio = ratio[np.isfinite(ratio)]
        if len(ratio) >= LEAST_POINTS:
            worst[v] = max(worst[v], float(np.median(ratio)))
    return worst


def cut_points(
    views: Sequence[PointView], captures: Sequence[Capture], camera: Camera, noise: NoiseModel | None, half_px: int
) -> Points:
    """Cut a patch around every point, once a channel; sites of other colours get infinite variance.

    Parameters
    ----------
    views, captures : sequences of equal length
    camera : Camera
    noise : NoiseModel or None
    half_px : int
        Half width of a patch; patches are 2 half_px + 1 wide.

    Returns
    -------
    Points
        Flagged SATURATED where a sample near the centre is at white, NEAR_BORDER where the footprint leaves the image,
        OVERLAPPING where a light that is none of the grid's lies in the footprint, or the image is of two lights.
    """
    parts = [
        _cut_view(v, view, capture, camera, noise, half_px)
        for v, (view, capture) in enumerate(zip(views, captures, strict=True))
    ]
    first = np.cumsum([0, *(len(view.xy_px) for view in views)])
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in Points.__dataclass_fields__}
    joined["source"] = np.concatenate([p.source + start for p, start in zip(parts, first, strict=False)])
    return Points(**joined)


def _cut_view(
    number: int, view: PointView, capture: Capture, camera: Camera, noise: NoiseModel | None, half_px: int
) -> Points:
    variance = pixel_variance(capture, camera, noise)
    mosaic = capture.pixels.ndim == 2
    sites = cfa_sites(camera.cfa, capture.pixels.shape) if mosaic else None
    pad = [(half_px, half_px)] * 2
    centre = np.rint(view.xy_px).astype(np.int64)
    rows, cols = (centre[:, k, None] + np.arange(2 * half_px + 1) for k in (1, 0))
    window = rows[:, :, None], cols[:, None, :]  # into padded arrays, whose origin lies half_px before the image's
    core = np.s_[:, half_px - 3 : half_px + 4, half_px - 3 : half_px + 4]
    saturated = np.pad(capture.saturated, pad)[window][core].any((1, 2))
    near = ((centre < half_px) | (centre >= np.array(capture.pixels.shape[1::-1]) - half_px)).any(1)
    flags = np.where(saturated, int(Flag.SATURATED), 0) | np.where(near, int(Flag.NEAR_BORDER), 0)
    flags |= np.where(_blended(image_widths(capture, camera, view.xy_px), view.xy_px), int(Flag.OVERLAPPING), 0)
    if len(view.strays_px):
        apart = np.abs(view.xy_px[:, None] - view.strays_px).max(-1).min(1)
        flags |= np.where(apart < half_px + STRAY_REACH_PX, int(Flag.OVERLAPPING), 0)
    patches, variances = [], []
    for c in range(len(camera.channels)):
        known = np.where(sites == c, variance, np.inf) if mosaic else variance[..., c]
        patches.append(np.pad(capture.pixels if mosaic else capture.pixels[..., c], pad)[window])
        variances.append(np.pad(known, pad, constant_values=np.inf)[window])
    count, repeat = len(centre), len(camera.channels)
    return Points(
        xy_px=np.tile(view.xy_px, (repeat, 1)),
        channel=np.repeat(np.arange(repeat), count),
        patch=np.concatenate(patches),
        variance=np.concatenate(variances),
        corner_px=np.tile(centre - half_px, (repeat, 1)),
        source=np.tile(np.arange(count), repeat),
        view=np.full(count * repeat, number),
        flags=np.tile(flags, repeat),
    )
