"""Find a noise target in a capture, and tie places of its pattern to pixels.

The inked frame around the pattern says where to look; the pattern itself, which is known and like nothing else, says
which way round it is, and block by block where exactly it lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from calib.manifest import Entry
from calib.targets import FRAME_CELLS, GAP_CELLS, NoiseTarget, read_pattern
from psfbank.arrays import FloatArray, freeze
from psfbank.errors import NoTargetFound
from psfbank.model import Camera, Capture
from psfbank.sensor import cfa_sites

LEAST_AREA = 0.01  # of the picture that the frame encloses
STRAIGHT = 0.03  # of its outline's length, by which distortion may bend the frame
MARGINS = (GAP_CELLS + FRAME_CELLS, GAP_CELLS)  # of the frame's outer and inner edge, beyond the pattern
BLOCK_CELLS, MOST_BLOCKS = 16, 10  # size and count along a side of what is matched
SEARCH, LEAST_SEARCH_PX = (0.016, 0.008, 0.004), (8, 4, 2)  # about the expected place, round by round: of the pattern
ALIKE = 0.5  # least correlation of a block with its rendering
BLUR_PX = 2.0  # box that stands for the lens, and for the filter that joins the sites of a mosaic
STRAY_PX, STRAY_MEDIANS = 0.5, 5.0  # distance from the map of all blocks, also in medians, beyond which one is wrong
LEAST_POINTS = 8


@dataclass(frozen=True, eq=False)
class NoiseView:
    """One noise target seen: middles of N blocks on the target (N, 2), mm, and in green's picture (N, 2), px."""

    target: NoiseTarget
    object_mm: FloatArray
    image_px: FloatArray
    correlation: FloatArray

    def __post_init__(self) -> None:
        freeze(self, np.float64, object_mm="N,2", image_px="N,2", correlation="N")


@dataclass(frozen=True)
class _Map:
    """Plane to pixels: a homography, and a cubic polynomial of the place on the pattern for what it leaves."""

    homography: FloatArray
    size_mm: FloatArray
    bend_px: FloatArray

    def __call__(self, places_mm: FloatArray) -> npt.NDArray[np.float64]:
        flat = cv2.perspectiveTransform(places_mm.reshape(1, -1, 2), self.homography).reshape(-1, 2)
        return np.asarray(flat + _cubics(places_mm, self.size_mm)[:, : len(self.bend_px)] @ self.bend_px)

    def diagonal_px(self) -> float:
        """Length of the pattern's diagonal in the picture."""
        ends = self(np.array([[0.0, 0.0], self.size_mm]))
        return float(np.hypot(*(ends[1] - ends[0])))

    def jacobian(self, places_mm: FloatArray, step_mm: float) -> npt.NDArray[np.float64]:
        """Differentiate pixels by millimetres, (N, 2, 2)."""
        moves = [(self(places_mm + step) - self(places_mm - step)) / (2 * step_mm) for step in step_mm * np.eye(2)]
        return np.stack(moves, axis=-1)


def _cubics(places_mm: FloatArray, size_mm: FloatArray) -> npt.NDArray[np.float64]:
    """Monomials (N, 10) of the place, from -1 to 1 over the pattern, by rising degree."""
    x, y = (2 * places_mm / size_mm - 1).T
    return np.stack([x ** (degree - k) * y**k for degree in range(4) for k in range(degree + 1)], axis=-1)


def find(capture: Capture, camera: Camera, entry: Entry) -> NoiseView:
    """Find the noise target of a manifest entry in one of its captures.

    Parameters
    ----------
    capture : Capture
    camera : Camera
    entry : Entry
        Of kind "noise_target".

    Returns
    -------
    NoiseView
        At least `LEAST_POINTS` points spread over the pattern, each within about 0.1 px.

    Raises
    ------
    NoTargetFound
        When no frame is in view, what it holds is another pattern, or most of it is too blurred to be matched.
    """
    if entry.pattern is None or entry.cell_mm is None:
        raise ValueError(f"`entry` must be of a noise target, got {entry.kind}")
    target = NoiseTarget(read_pattern(entry.pattern), entry.cell_mm)
    grey = _green(capture, camera)
    places = _block_middles(target)
    best, alike = _first_guess(grey, target, places)
    if best is None:
        raise NoTargetFound(
            "no inked frame around a pattern is in view",
            where=capture.name,
            remedy="Keep the whole frame and its white rim in the picture, evenly lit, on a flat support",
        )
    if alike < ALIKE:
        raise NoTargetFound(
            f"a frame is in view, but what it holds does not look like the pattern (correlation {alike:.2f})",
            where=capture.name,
            remedy="Check `pattern`, focus, and that cells are two pixels wide or more",
        )
    for share, least_px in zip(SEARCH, LEAST_SEARCH_PX, strict=True):
        search_px = max(least_px, int(share * best.diagonal_px()))
        found_px, correlation = _match(grey, target, best, places, search_px)
        good, best = _smoothed(best, places, found_px, correlation > ALIKE)
    if good.sum() < LEAST_POINTS:
        raise NoTargetFound(
            f"only {good.sum()} of {len(places)} parts of the pattern could be matched, {LEAST_POINTS} are needed",
            where=capture.name,
            remedy="Focus, hold still, and light the target evenly without clipping",
        )
    return NoiseView(target, places[good], found_px[good], correlation[good])


def _green(capture: Capture, camera: Camera) -> npt.NDArray[np.float32]:
    """Picture (H, W) of green light, or of the only channel: other colours lie elsewhere."""
    pixels = np.asarray(capture.pixels, dtype=np.float32)
    if pixels.ndim == 3:
        return pixels[..., 1]
    if camera.cfa == "mono":
        return pixels
    tap = np.array([0.25, 0.5, 0.25])
    known = (cfa_sites(camera.cfa, pixels.shape) == camera.channels.index("G")).astype(np.float32)
    # the sites about every pixel are symmetric, so that the average over them moves nothing
    light, weight = (
        cv2.sepFilter2D(a, -1, tap, tap, borderType=cv2.BORDER_REFLECT_101) for a in (pixels * known, known)
    )
    return np.asarray(light / weight, dtype=np.float32)


def _block_middles(target: NoiseTarget) -> npt.NDArray[np.float64]:
    """Middles (N, 2) of blocks spread over the pattern, half a block apart or more, mm, the most central first."""
    axes = []
    for size_mm, cells in zip(target.size_mm, target.pattern.shape[::-1], strict=True):
        count = int(np.clip(2 * cells // BLOCK_CELLS, 3, MOST_BLOCKS))
        margin = BLOCK_CELLS / 2 * target.cell_mm
        axes.append(np.linspace(margin, size_mm - margin, count))
    places = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    return places[np.argsort(np.hypot(*(places - target.size_mm / 2).T), kind="stable")]


def quadrilaterals(grey: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    """Outlines (4, 2), px, clockwise, of large four-sided regions that are darker or lighter than around."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.5)
    low, high = np.percentile(smooth, [1, 99])
    picture = np.asarray(255 * np.clip((smooth - low) / max(float(high - low), 1e-6), 0, 1), dtype=np.uint8)
    wide = max(min(grey.shape) // 4, 15) | 1
    around = cv2.blur(picture, (wide, wide))
    binary = [
        cv2.threshold(picture, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1],
        np.where(picture > around, 255, 0),
    ]
    for levels in binary:
        contours = cv2.findContours(levels.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
        for contour in contours:
            if cv2.contourArea(contour) < LEAST_AREA * grey.size:
                continue
            corners = cv2.approxPolyDP(contour, STRAIGHT * cv2.arcLength(contour, True), True).reshape(-1, 2)
            if len(corners) == 4 and cv2.isContourConvex(corners):
                clockwise = cv2.contourArea(corners.astype(np.float32), oriented=True) > 0
                yield np.asarray(corners if clockwise else corners[::-1], dtype=np.float32)


def _first_guess(grey: npt.NDArray[np.float32], target: NoiseTarget, places: FloatArray) -> tuple[_Map | None, float]:
    """Try every outline as either edge of the frame, turned four ways; keep what makes central blocks most alike."""
    best, best_alike = None, -1.0
    for corners, margin, turn in product(quadrilaterals(grey), MARGINS, range(4)):
        outline = target.outline_mm(margin).astype(np.float32)
        homography = cv2.getPerspectiveTransform(outline, np.roll(corners, turn, axis=0))
        guess = _Map(np.asarray(homography, dtype=np.float64), target.size_mm, np.zeros((0, 2)))
        alike = float(np.median(_match(grey, target, guess, places[:5], LEAST_SEARCH_PX[0])[1]))
        if alike > best_alike:
            best, best_alike = guess, alike
    return best, best_alike


def _match(
    grey: npt.NDArray[np.float32], target: NoiseTarget, expected: _Map, places: FloatArray, search_px: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where blocks (N, 2), mm, lie near the places that are expected: (N, 2) px, and their correlation (N,).

    A block is rendered through the map, and slid over the picture; a parabola through the correlation's
    peak gives the fraction of a pixel. A block that leaves the picture, or whose peak is at the search's border,
    has correlation zero.
    """
    at_px, slopes = expected(places), expected.jacobian(places, target.cell_mm)
    found, correlation = at_px.copy(), np.zeros(len(places))
    for i, (place, at, slope) in enumerate(zip(places, at_px, slopes, strict=True)):
        area = abs(float(np.linalg.det(slope)))
        half = int(BLOCK_CELLS / 2 * target.cell_mm * np.sqrt(area)) if np.isfinite(area) else 0
        reach = half + search_px
        column, row = (int(v) for v in np.rint(np.clip(at, -1e6, 1e6)))
        inside = reach <= column < grey.shape[1] - reach and reach <= row < grey.shape[0] - reach
        if half < 4 or not inside:
            continue
        offsets = np.stack(np.meshgrid(*[np.arange(-half, half + 1)] * 2), axis=-1) + np.array([column, row]) - at
        back = np.linalg.inv(slope)
        on_target = place + offsets @ back.T
        missed = expected(on_target.reshape(-1, 2)).reshape(offsets.shape) - at - offsets
        on_target -= missed @ back.T  # one step of Newton's method: perspective bends a block by tenths of a pixel
        footprint = np.maximum(np.hypot(back[:, 0], back[:, 1]) * BLUR_PX, 1e-9)
        block = target.reflectance(on_target[..., 0], on_target[..., 1], np.broadcast_to(footprint, on_target.shape))
        window = grey[row - reach : row + reach + 1, column - reach : column + reach + 1]
        alike = cv2.matchTemplate(window, block.astype(np.float32), cv2.TM_CCOEFF_NORMED)
        y, x = np.unravel_index(int(np.argmax(alike)), alike.shape)
        if 0 < x < 2 * search_px and 0 < y < 2 * search_px:
            move = x + _vertex(alike[y, x - 1 : x + 2]), y + _vertex(alike[y - 1 : y + 2, x])
            found[i], correlation[i] = at + np.array(move) - search_px, alike[y, x]
    return found, correlation


def _vertex(three: npt.NDArray[Any]) -> float:
    """Where a parabola through values at -1, 0 and 1 has its vertex."""
    before, here, after = (float(v) for v in three)
    curvature = before - 2 * here + after
    return 0.5 * (before - after) / curvature if curvature else 0.0


def _smoothed(
    expected: _Map, places: FloatArray, found_px: FloatArray, good: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], _Map]:
    """Fit the map anew to the blocks that were found, leaving out those that stray from it; who stayed, the map."""
    fitted = expected
    for _ in range(3):
        if good.sum() < LEAST_POINTS:
            return good, fitted
        homography = cv2.findHomography(places[good], found_px[good])[0]
        flat = _Map(np.asarray(homography, dtype=np.float64), expected.size_mm, np.zeros((0, 2)))
        columns = _cubics(places, expected.size_mm)[:, : 10 if good.sum() >= 30 else 6 if good.sum() >= 18 else 3]
        bend = np.linalg.lstsq(columns[good], (found_px - flat(places))[good], rcond=None)[0]
        fitted = _Map(flat.homography, expected.size_mm, bend)
        apart = np.hypot(*(found_px - fitted(places)).T)  # large pictures bend more than the map does
        good = good & (apart < max(STRAY_PX, STRAY_MEDIANS * float(np.median(apart[good]))))
    return good, fitted
