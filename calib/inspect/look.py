"""Which target is in a picture, by the detectors that calibrate from it, and how it shows there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from calib import led, noise_target
from calib.chessboard.board import BoardDetection, detect, measure, trimmed
from calib.chessboard.charuco import FAMILIES, LEAST_MARKERS, detect_charuco, read_markers
from calib.chessboard.find import FIND_PX, find_rectangle, luminance, oriented, scaled, tone_mapped, unscaled
from calib.edge.segments import gradient_of, ridges
from calib.inspect.blur import (
    BINOMIAL_PX2,
    blur_across,
    point_moments,
    streak_of_edges,
    streak_of_moments,
)
from calib.inspect.findings import Seen
from calib.inspect.light import exposure, green, hot_pixels
from calib.inspect.squares import see_edges, straight_share
from calib.manifest import Entry
from psfbank.arrays import BoolArray, FloatArray
from psfbank.errors import NoTargetFound
from psfbank.flags import Flag
from psfbank.model import Camera, Capture

DARK_BACKGROUND = 0.4  # of the brightest light above the median, that nine tenths of a picture of points stay below
WIDEST_POINT_PX = 3.2  # rms radius in the window in which points are compared; an even field fills it to 4
EVEN_SHARE = 5e-4  # of a picture's pixels that may lie on an edge while it is an even field
EVEN, PARTS = 0.03, 14  # relative, from shading that is smooth; parts of a picture a side, in which it is judged
STRAIGHT_SHARE = 0.25  # of all edges' length that lies on straight ones, in a picture of slanted edges
UNKNOWN_BOARD = 6, 6  # corners to start from where nobody says how many there are
LEAST_CONTRAST = 0.3  # of a pattern, over that of the picture: noise has less
REPEATS = 0.5  # correlation with itself of what repeats; random cells stay below 0.3
LEAST_CELLS_ACROSS = 20  # of a random pattern, that change along a row
OUTER = 0.7  # of half the diagonal: beyond are the corners of the picture
ASSUMED_FOCAL = 0.8  # of the picture's width, where nothing tells the focal length
KINDS = ("led", "chessboard", "charuco", "noise_target", "slanted_edge", "flat", "dark")


def look(capture: Capture, camera: Camera, kind: str = "", entry: Entry | None = None) -> Seen:
    """Tell which target a capture shows, and measure it.

    Parameters
    ----------
    capture : Capture
    camera : Camera
    kind : str
        Of `KINDS`, when it is known; what else there may be is not looked for.
    entry : Entry, optional
        Of a session, whose geometry is looked for.

    Returns
    -------
    Seen
        Of kind "" where nothing known is in the picture; `complaint` says what was missing.
    """
    seekers: dict[str, Callable[[Capture, Camera, Entry | None], Seen]] = {
        "led": see_points,
        "chessboard": see_board,
        "charuco": see_markers,
        "noise_target": see_noise,
        "slanted_edge": see_edges,
        "flat": see_even,
        "dark": see_dark,
    }
    told = kind or (entry.kind if entry else "")
    wanted = [told] if told else _likely(capture, camera)
    complaints = []
    for name in wanted:
        try:
            return seekers[name](capture, camera, entry if entry is not None and entry.kind == name else None)
        except NoTargetFound as error:
            complaints.append(f"{error.what}. {error.remedy}")
    return Seen("", complaint=complaints[0] if told and complaints else "")


def _likely(capture: Capture, camera: Camera) -> list[str]:
    """Kinds of target worth looking for, by how a picture's light is spread."""
    light = exposure(capture)
    if is_black(light):
        return ["dark"]
    if is_black({**light, "brightest": light["almost_all"]}):
        return ["led", "dark"]  # either has few bright pixels, but of a point they come together
    above = {name: light[name] - light["median"] for name in ("most", "brightest")}
    points = ["led"] if above["most"] < DARK_BACKGROUND * above["brightest"] else []
    values, use = green(capture, camera)
    gradient = gradient_of(values, use)
    marked = ridges(gradient)
    if marked[1:-1, 1:-1].mean() < EVEN_SHARE:
        return [*points, "flat"] if unevenness(capture, camera) < EVEN else points
    straight = ["slanted_edge"] if straight_share(gradient, marked) > STRAIGHT_SHARE else []
    return [*points, "chessboard", "charuco", "noise_target", *straight]


def is_black(light: Mapping[str, float]) -> bool:
    """Whether nothing but noise is in a picture, as capture files are refused by."""
    return light["median"] < 0.01 and light["brightest"] - light["median"] < max(0.005, 6 * light["spread"])


def see_points(capture: Capture, camera: Camera, entry: Entry | None) -> Seen:
    """Measure a grid of points; NoTargetFound where there is none."""
    view = led.find_points(capture, camera)
    width = led.image_widths(capture, camera, view.xy_px)
    if not np.nanmedian(width) < WIDEST_POINT_PX:
        raise NoTargetFound(
            f"{len(view.xy_px)} lights form a grid, but are {np.nanmedian(width):.1f} px wide (rms)",
            where=capture.name,
            remedy="Focus; a light's image should be smaller than its pixels, by diameter and distance",
        )
    grey = luminance(capture.pixels, camera.cfa)
    added = BINOMIAL_PX2 if capture.pixels.ndim == 2 and camera.cfa != "mono" else 0.0
    moments = point_moments(grey, view.xy_px, added)
    blur = np.sqrt(np.mean(moments[:, :2], axis=1))
    streak, std = streak_of_moments(moments, view.xy_px, camera.size_px)
    clipped = near_clipped(capture, view.xy_px, 3)
    figures = {
        "points": len(view.xy_px),
        "strays": len(view.strays_px),
        "spacing_px": view.spacing_px,
        "points_clipped": int(clipped.sum()),
        **blur_figures(view.xy_px, blur, camera.size_px),
        **_tilt(view.index.astype(np.float64), view.xy_px, capture, camera),
        "undershoot": _undershoot(grey, view.xy_px) if camera.cfa in ("RGB", "mono") else float("nan"),
    }
    return Seen("led", view.xy_px, blur, clipped, streak_px=streak, streak_std_px=std, figures=figures)


def _undershoot(grey: FloatArray, xy_px: FloatArray) -> float:
    """Share of its peak by which the mean image of points falls below the background, which no light can."""
    half = led.WIDTH_HALF_PX
    centre = np.rint(xy_px).astype(np.int64)
    inside = np.all((centre >= half) & (centre < np.array(grey.shape[::-1]) - half), axis=1)
    cut = [grey[y - half : y + half + 1, x - half : x + half + 1] - np.median(grey) for x, y in centre[inside]]
    if not cut:
        return float("nan")
    mean = np.mean([patch / patch.max() for patch in cut], axis=0)
    return float(max(-mean.min(), 0.0))


def see_board(capture: Capture, camera: Camera, entry: Entry | None) -> Seen:
    """Measure a chessboard, of any size where no entry tells it; NoTargetFound where there is none."""
    if entry is not None and entry.columns and entry.rows:
        return _board("chessboard", detect(capture, camera, entry.columns, entry.rows), capture, camera)
    grey = luminance(capture.pixels, camera.cfa)
    found = find_rectangle(grey, *UNKNOWN_BOARD)
    board = None if found is None else trimmed(grey, oriented(found))
    if board is None or min(board.shape[:2]) < 3:
        remedy = "Show the whole board, evenly lit, squares 20 px wide or more"
        raise NoTargetFound("no chessboard is in view", where=capture.name, remedy=remedy)
    return _board("chessboard", measure(capture, camera, board), capture, camera)


def see_markers(capture: Capture, camera: Camera, entry: Entry | None) -> Seen:
    """Measure a ChArUco board; without an entry only its markers are found. NoTargetFound where there is none."""
    if entry is not None and entry.columns and entry.rows:
        share = entry.marker_mm / entry.square_mm if entry.marker_mm and entry.square_mm else None
        found = detect_charuco(
            capture, camera, entry.columns, entry.rows, dictionary=entry.dictionary, marker_share=share
        )
        return _board("charuco", found, capture, camera)
    picture = tone_mapped(luminance(capture.pixels, camera.cfa))
    scale = min(1.0, FIND_PX / max(picture.shape))
    names = [f"{family}{max(sizes)}" if family.endswith("_") else family for family, sizes in FAMILIES.items()]
    markers = read_markers(scaled(picture, scale), names)
    number = len(np.unique(markers.number))
    if number < LEAST_MARKERS:
        remedy = "Show the board upright and not mirrored, its markers 10 px wide or more"
        raise NoTargetFound("no markers of a ChArUco board are in view", where=capture.name, remedy=remedy)
    outline = unscaled(markers.corners_px, scale).reshape(-1, 4, 2)
    sides = np.stack([outline, np.roll(outline, -1, axis=1)], axis=2).reshape(-1, 2, 2)
    middle = outline.mean(axis=1)
    return Seen("charuco", middle, np.full(len(middle), np.nan), near_clipped(capture, middle, 3), sides,
                figures={"markers": number})  # fmt: skip


def _board(kind: str, found: BoardDetection, capture: Capture, camera: Camera) -> Seen:
    channel = "G" if "G" in camera.channels else camera.channels[0]
    good = np.asarray(found.found[channel])
    columns, rows = (int(n) + 1 for n in found.grid.max(axis=0))
    at = np.where(good[:, None], found.xy_px[channel], np.nan).reshape(rows, columns, 2)
    sides = [np.stack([at[:, :-1], at[:, 1:]], axis=2), np.stack([at[:-1], at[1:]], axis=2)]
    lines = np.concatenate([side.reshape(-1, 2, 2) for side in sides])
    lines = lines[np.isfinite(lines).all(axis=(1, 2))]
    blur = np.where(good, found.blur_px[channel], np.nan)[good]
    streak, std, overshoot = _sides(kind, lines, capture, camera)
    xy = np.asarray(found.xy_px[channel])[good]
    figures = {
        "columns": columns,
        "rows": rows,
        "corners": int(good.sum()),
        "square_px": float(np.median(np.hypot(*(lines[:, 1] - lines[:, 0]).T))) if len(lines) else float("nan"),
        **blur_figures(xy, blur, camera.size_px),
        **_tilt(np.asarray(found.grid)[good], xy, capture, camera),
        "overshoot": overshoot,
    }
    clipped = near_clipped(capture, xy, 3)
    unusable = bool(found.flags & Flag.UNUSABLE)
    return Seen(kind, xy, blur, clipped, lines, streak, std, figures, found.reason, unusable)


def _sides(
    kind: str, lines_px: FloatArray, capture: Capture, camera: Camera
) -> tuple[npt.NDArray[np.float64], float, float]:
    """Motion, its uncertainty, and overshoot of the sides of a board's cells; markers are in the way of a profile."""
    if kind != "chessboard" or len(lines_px) == 0:
        return np.full(2, np.nan), float("nan"), float("nan")
    blur, overshoot = blur_across(luminance(capture.pixels, camera.cfa), lines_px[:, 0], lines_px[:, 1])
    along = lines_px[:, 1] - lines_px[:, 0]
    normal_rad = np.arctan2(along[:, 0], -along[:, 1])
    streak, std = streak_of_edges(blur, normal_rad, lines_px.mean(axis=1), camera.size_px)
    return streak, std, overshoot


def see_noise(capture: Capture, camera: Camera, entry: Entry | None) -> Seen:
    """Find a noise target; without its pattern only a frame full of random cells. NoTargetFound where there is none."""
    if entry is not None:
        view = noise_target.find(capture, camera, entry)
        unknown = np.full(len(view.image_px), np.nan)
        figures = {"blocks": len(view.image_px), "correlation": float(np.median(view.correlation))}
        return Seen("noise_target", view.image_px, unknown, near_clipped(capture, view.image_px, 3), figures=figures)
    grey = luminance(capture.pixels, camera.cfa)
    for outline in noise_target.quadrilaterals(grey):
        side = int(np.clip(np.sqrt(cv2.contourArea(outline)), 32, 1024))
        square = np.array([[0, 0], [side, 0], [side, side], [0, side]], dtype=np.float32)
        flat = cv2.warpPerspective(grey, cv2.getPerspectiveTransform(outline, square), (side, side))
        inner = np.asarray(flat)[side // 4 : -side // 4, side // 4 : -side // 4]
        ink = inner < (np.percentile(inner, 10) + np.percentile(inner, 90)) / 2
        changes = min(float(np.median(np.sum(ink.astype(np.int8)[:, 1:] != ink[:, :-1], axis=1))),
                      float(np.median(np.sum(ink.astype(np.int8)[1:] != ink[:-1], axis=0))))  # fmt: skip
        contrast = np.ptp(np.percentile(inner, [10, 90])) / max(float(np.ptp(np.percentile(grey, [1, 99]))), 1e-6)
        random = 0.3 < ink.mean() < 0.7 and changes > LEAST_CELLS_ACROSS / 2 and _repetition(ink) < REPEATS
        if contrast > LEAST_CONTRAST and random:
            corners = outline.astype(np.float64)
            sides = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
            return Seen("noise_target", lines_px=sides, figures={"changes_a_row": 2 * changes})
    remedy = "Keep the whole frame and its white rim in the picture"
    raise NoTargetFound("no frame around random cells is in view", where=capture.name, remedy=remedy)


def unevenness(capture: Capture, camera: Camera) -> float:
    """RMS by which the light of a picture's parts differs from smooth shading, relative; of unsaturated parts."""
    grey = np.minimum(luminance(capture.pixels, camera.cfa), 1.0)
    parts = np.asarray(cv2.resize(grey, (PARTS, PARTS), interpolation=cv2.INTER_AREA), dtype=np.float64).ravel()
    y, x = (np.indices((PARTS, PARTS)).reshape(2, -1) + 0.5) / PARTS * 2 - 1
    shading = np.stack([x**i * y**j for i in range(5) for j in range(5 - i)], axis=1)
    free = parts < 0.95 * parts.max() if np.mean(capture.saturated) > 1 / PARTS else np.ones(len(parts), dtype=bool)
    if free.sum() < 2 * shading.shape[1]:
        return 0.0
    rest = parts[free] - shading[free] @ np.linalg.lstsq(shading[free], parts[free], rcond=None)[0]
    return float(np.sqrt(np.mean(rest**2)) / max(float(np.mean(parts[free])), 1e-6))


def _repetition(ink: BoolArray) -> float:
    """Largest correlation of a square pattern (N, N) with itself displaced by more than a few cells."""
    spectrum = np.abs(np.fft.fft2(ink - ink.mean())) ** 2
    alike = np.fft.fftshift(np.fft.ifft2(spectrum).real) / spectrum.mean()
    middle, near = len(ink) // 2, max(len(ink) // 8, 2)
    alike[middle - near : middle + near + 1, middle - near : middle + near + 1] = 0
    return float(alike.max())


def see_even(capture: Capture, camera: Camera, entry: Entry | None) -> Seen:
    """Describe an even field: how much darker its corners are."""
    grey = luminance(capture.pixels, camera.cfa)
    small = cv2.resize(grey, (9, 9), interpolation=cv2.INTER_AREA)
    corners = small[np.ix_([0, -1], [0, -1])]
    least = float(corners.min() / max(float(small[3:6, 3:6].mean()), 1e-6))
    values, use = green(capture, camera)
    marked = float(ridges(gradient_of(values, use))[1:-1, 1:-1].mean())
    return Seen("flat", figures={"darkest_corner": least, "structure_share": marked})


def see_dark(capture: Capture, camera: Camera, entry: Entry | None) -> Seen:
    """Describe a dark frame: its hot pixels; NoTargetFound where there is other light."""
    hot = hot_pixels(capture, camera)
    rest = replace(
        capture, pixels=np.asarray(capture.pixels)[~hot][:, None], saturated=np.zeros((int((~hot).sum()), 1), bool)
    )
    if not is_black(exposure(rest) if hot.any() else exposure(capture)):
        brightest = exposure(capture)["brightest"]
        raise NoTargetFound(
            f"there is light in this dark frame, up to {brightest:.0%} of white",
            where=capture.name,
            remedy="Cover the lens, and the viewfinder too",
        )
    xy = np.argwhere(hot)[:, ::-1].astype(np.float64)
    nothing = np.full(len(xy), np.nan)
    return Seen("dark", xy, nothing, np.zeros(len(xy), dtype=bool), figures={"hot_pixels": len(xy)})


def near_clipped(capture: Capture, xy_px: FloatArray, half_px: int) -> BoolArray:
    """Which places (N, 2) have a saturated pixel within `half_px`."""
    wide = cv2.dilate(np.asarray(capture.saturated, np.uint8), np.ones((2 * half_px + 1,) * 2, np.uint8))
    height, width = capture.saturated.shape
    column, row = (np.clip(np.rint(xy_px[:, k]).astype(int), 0, n - 1) for k, n in ((0, width), (1, height)))
    return np.asarray(np.asarray(wide)[row, column] > 0)


def blur_figures(xy_px: FloatArray, blur_px: FloatArray, size_px: tuple[int, int]) -> dict[str, float]:
    """Median blur of a picture, and of its outer parts; NaN where nothing was measured."""
    middle = (np.array(size_px[::-1]) - 1) / 2
    outer = np.hypot(*(xy_px - middle).T) > OUTER * np.hypot(*size_px) / 2

    def median(of: BoolArray) -> float:
        known = blur_px[of & np.isfinite(blur_px)]
        return float(np.median(known)) if known.size else float("nan")

    return {"blur_px": median(np.ones(len(blur_px), dtype=bool)), "blur_outer_px": median(outer)}


def _tilt(grid: FloatArray, xy_px: FloatArray, capture: Capture, camera: Camera) -> dict[str, float]:
    """Angle between a square grid's normal and the axis of a pinhole, from one view, and the focal length used, px."""
    if len(grid) < LEAST_MARKERS or np.ptp(grid, axis=0).min() < 1:
        return {"tilt_deg": float("nan")}
    focal_px = 1000 * capture.setting.focal_mm / camera.pitch_um
    focal_px = focal_px if np.isfinite(focal_px) else ASSUMED_FOCAL * camera.size_px[1]
    centre = (np.array(camera.size_px[::-1]) - 1) / 2
    homography = cv2.findHomography(np.asarray(grid, np.float64), (xy_px - centre) / focal_px, cv2.RANSAC, 0.02)[0]
    if homography is None:
        return {"tilt_deg": float("nan")}
    normal = np.cross(homography[:, 0], homography[:, 1])
    cosine = abs(float(normal[2])) / float(np.linalg.norm(normal))
    return {"tilt_deg": float(np.degrees(np.arccos(min(cosine, 1.0)))), "focal_px_used": float(focal_px)}
