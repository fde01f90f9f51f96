"""Find a chessboard in a capture and measure its inner corners on each colour's own sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from calib.chessboard.corner import CornerFits, clipping_imbalance, fit_corners, window_px
from calib.chessboard.find import find_board, find_rectangle, first_dark, fits_into, grown, luminance, oriented
from psfbank.arrays import BoolArray, FloatArray, frozen
from psfbank.errors import NoTargetFound
from psfbank.flags import Flag
from psfbank.model import Camera, Capture, Corners
from psfbank.sensor import cfa_sites

WORST_IMBALANCE = 0.05  # of clipped sites about a corner
LEAST_SHARE = 0.5  # of the corners that must be measurable in every channel
WHOLE_SHARE = 0.9  # of the places of a board where corners must be for no other board to be sought
PARTIAL_SHARE = 0.3  # of the corners that a partly visible board must show
LEAST_LINES = 3  # rows and columns of a part
UNSHARP_OF_CELL = 0.15  # blur beyond which neighbouring corners run together
LEAST_CLEAR_PX = 2.0  # on either side of an edge: with less a corner's place, blur and contrast are not told apart
MARKER_ROOM = 0.35  # of the white around a marker that its blurred border may darken
_BITS = 4  # of the fractions in which polygons are drawn


@dataclass(frozen=True, eq=False)
class BoardDetection:
    """Corners of one board in one capture, channel by channel.

    `grid` (M, 2) counts columns and rows from the board's first inner corner; `xy_px` (M, 2), `found` (M,),
    `sigma_px` (M,) (of a coordinate) and `blur_px` (M,) (Gaussian sigma, pixel included) are by channel.
    `marker_share` is the side of the markers of a ChArUco board over that of a cell, 0 of a chessboard.
    """

    grid: FloatArray
    xy_px: Mapping[str, FloatArray]
    found: Mapping[str, BoolArray]
    sigma_px: Mapping[str, FloatArray]
    blur_px: Mapping[str, FloatArray]
    flags: Flag
    reason: str = ""
    marker_share: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", frozen(self.grid, np.float64, "grid", "M,2"))
        for name, dtype, shape in (
            ("xy_px", np.float64, "M,2"),
            ("found", bool, "M"),
            ("sigma_px", np.float64, "M"),
            ("blur_px", np.float64, "M"),
        ):
            by_channel = {c: frozen(values, dtype, name, shape) for c, values in getattr(self, name).items()}
            object.__setattr__(self, name, MappingProxyType(by_channel))


def sites(capture: Capture, camera: Camera, channel: str) -> tuple[FloatArray, BoolArray]:
    """Values (H, W) and the mask (H, W) of the sites that measure a channel."""
    pixels, layer = capture.pixels, camera.channels.index(channel)
    if pixels.ndim == 3:
        return pixels[..., layer], np.ones(pixels.shape[:2], dtype=bool)
    return pixels, np.equal(cfa_sites(camera.cfa, pixels.shape), layer)


def clear_of_markers(mask: BoolArray, board: FloatArray, share: float) -> BoolArray:
    """Take the middle of every cell of a board (rows, columns, 2) out of a mask (H, W): there markers may lie.

    Of black cells as well as of white ones: the sites about a corner stay alike on its four sides.
    """
    if share == 0:
        return mask
    at = grown(board)
    quads = np.stack([at[:-1, :-1], at[:-1, 1:], at[1:, 1:], at[1:, :-1]], axis=2).reshape(-1, 4, 2)
    middle = quads.mean(axis=1, keepdims=True)
    cell_px = 2**0.5 * np.linalg.norm(quads - middle, axis=2).mean(axis=1)
    clear_px = np.maximum((1 - MARKER_ROOM) * (1 - share) / 2 * cell_px, LEAST_CLEAR_PX)
    side = np.maximum(1 - 2 * clear_px / cell_px, 0.0)[:, None, None]
    hidden = np.zeros(mask.shape, dtype=np.uint8)
    for quad in np.rint((middle + side * (quads - middle)) * 2**_BITS):
        cv2.fillConvexPoly(hidden, quad.astype(np.int32), 1, shift=_BITS)
    return np.asarray(mask & (hidden == 0))


def _measure(
    capture: Capture, camera: Camera, channel: str, board: FloatArray, seen: BoolArray, share: float
) -> tuple[CornerFits, int]:
    """Fit every corner of a board (rows, columns, 2) in a channel; unevenly clipped and wrongly coloured ones fail.

    Returns with the fits how many corners clipping alone spoilt.
    """
    down, along = (g.reshape(-1, 2) for g in np.gradient(board, axis=(0, 1)))
    flat = board.reshape(-1, 2)
    values, mask = sites(capture, camera, channel)
    mask = clear_of_markers(mask, board, share)
    fits = fit_corners(values, mask, flat, along, down)
    clipped = clipping_imbalance(capture.saturated, mask, flat, window_px(along, down)) >= WORST_IMBALANCE
    good = fits.good & seen & ~clipped
    parity = np.where(np.indices(board.shape[:2]).sum(axis=0).ravel() % 2 == 0, 1.0, -1.0)
    sign = np.sign(fits.contrast) * parity
    good = good & (sign == np.sign(np.sum(sign[good]) + 1e-9))
    return replace(fits, good=good), int(np.sum(clipped & seen))


def measure(
    capture: Capture,
    camera: Camera,
    board: FloatArray,
    seen: BoolArray | None = None,
    marker_share: float = 0.0,
) -> BoardDetection:
    """Measure corners that were found to a pixel or two.

    Parameters
    ----------
    capture : Capture
    camera : Camera
    board : (rows, columns, 2) float
        Where the corners lie, px; neighbours tell the size and turn of a corner's cells.
    seen : (M,) bool, optional
        Those to be measured; all when absent.
    marker_share : float
        Side of the markers inside the cells over that of a cell; 0 without markers.

    Returns
    -------
    BoardDetection
        UNSHARP where blur is large against the cells; SATURATED where clipped light spoilt more than half of the
        corners of a channel; UNUSABLE where fewer than half of them could be measured.
    """
    count_y, count_x = board.shape[:2]
    looked = np.ones(count_x * count_y, dtype=bool) if seen is None else seen
    grid = np.stack(np.meshgrid(np.arange(count_x), np.arange(count_y)), axis=-1).reshape(-1, 2).astype(float)
    fits, flags, reasons = {}, Flag.GOOD, []
    for channel in camera.channels:
        fits[channel], clipped = _measure(capture, camera, channel, board, looked, marker_share)
        least = LEAST_SHARE * looked.sum()
        if clipped > least:
            flags |= Flag.SATURATED
            reasons.append(f"light about {clipped} of {looked.sum()} corners is clipped in {channel}")
        if fits[channel].good.sum() < least:
            flags |= Flag.UNUSABLE
            reasons.append(f"{fits[channel].good.sum()} of {looked.sum()} corners measurable in {channel}")
    cell = float(np.median(np.linalg.norm(np.diff(board, axis=1), axis=-1)))
    blurs = np.concatenate([f.blur_px[f.good if f.good.any() else looked] for f in fits.values()])
    if np.median(blurs) > UNSHARP_OF_CELL * cell:
        flags |= Flag.UNSHARP
        reasons.insert(0, f"blur of {np.median(blurs):.1f} px in cells of {cell:.0f} px")
    return BoardDetection(
        grid=grid,
        xy_px={c: f.xy_px for c, f in fits.items()},
        found={c: f.good for c, f in fits.items()},
        sigma_px={c: f.sigma_px for c, f in fits.items()},
        blur_px={c: f.blur_px for c, f in fits.items()},
        flags=flags,
        reason="; ".join(reasons),
        marker_share=marker_share,
    )


def detect(capture: Capture, camera: Camera, columns: int, rows: int) -> BoardDetection:
    """Find a chessboard and measure its inner corners in every channel.

    Parameters
    ----------
    capture : Capture
    camera : Camera
    columns, rows : int
        Inner corners.

    Returns
    -------
    BoardDetection
        As from `measure`. PARTIAL where a rectangle of corners of a cropped board was found, whose place on the board
        is unknown; its grid counts from its own first corner, and the target's shape should be taken as flat.

    Raises
    ------
    NoTargetFound
        When the picture shows no such board, or one of another size.
    """
    grey = luminance(capture.pixels, camera.cfa)
    board, found = find_board(grey, columns, rows), None
    if board is not None:
        board = oriented(board)
        if (columns + rows) % 2 == 1 and not first_dark(grey, board):
            board = board[::-1, ::-1]  # only one of the two half-turns puts a dark cell first
        found = measure(capture, camera, board)
        if _corners_at(grey, board).mean() > WHOLE_SHARE and not _continues(grey, board):
            return found
    # what was found, if anything, may be a part of a larger board, or no corners at all
    part = find_rectangle(grey, columns, rows)
    part = None if part is None else trimmed(grey, oriented(part))
    if part is not None and min(part.shape[:2]) >= LEAST_LINES:
        rectangle = measure(capture, camera, part)
        if min(good.mean() for good in rectangle.found.values()) >= LEAST_SHARE:
            if not fits_into(part, columns, rows):
                raise _another(part, columns, rows, capture.name)
            if len(rectangle.grid) >= PARTIAL_SHARE * columns * rows and _count(rectangle) > _count(found):
                return _as_part(rectangle, part, columns, rows, capture)
    if found is None:
        raise NoTargetFound(
            f"no chessboard of {columns} x {rows} inner corners",
            where=capture.name,
            remedy="Check columns and rows (corners where four squares meet, not squares), light and focus",
        )
    return found


def _count(found: BoardDetection | None) -> int:
    """How many corners were measured in the channel that shows least."""
    return 0 if found is None else min(int(good.sum()) for good in found.found.values())


def _corners_at(grey: FloatArray, board: FloatArray) -> BoolArray:
    """Which places of a board (rows, columns, 2) are corners of alternating cells, (rows, columns)."""
    down, along = (g.reshape(-1, 2) for g in np.gradient(board, axis=(0, 1)))
    fits = fit_corners(grey, np.ones(grey.shape, dtype=bool), board.reshape(-1, 2), along, down)
    sign = np.sign(fits.contrast).reshape(board.shape[:2]) * (1 - 2 * (np.indices(board.shape[:2]).sum(axis=0) % 2))
    good = fits.good.reshape(board.shape[:2])
    return np.asarray(good & (sign == np.sign(np.sum(sign[good]) + 1e-9)))


def _continues(grey: FloatArray, board: FloatArray) -> bool:
    """Whether the corners go on beyond a side: these are a part of a larger board."""
    beyond = _corners_at(grey, grown(board))
    sides = beyond[0, 1:-1], beyond[-1, 1:-1], beyond[1:-1, 0], beyond[1:-1, -1]
    return max(float(side.mean()) for side in sides) > LEAST_SHARE


def trimmed(grey: FloatArray, board: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Board without the outer rows and columns in which most places are no corners."""
    good = _corners_at(grey, board)
    rows, columns = (np.flatnonzero(good.mean(axis=k) > LEAST_SHARE) for k in (1, 0))
    if not rows.size or not columns.size:
        return board[:0, :0]
    return board[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _another(board: FloatArray, columns: int, rows: int, where: str) -> NoTargetFound:
    seen = sorted(board.shape[:2], reverse=columns >= rows)
    return NoTargetFound(
        f"a chessboard of {seen[0]} x {seen[1]} inner corners or more, not of {columns} x {rows}",
        where=where,
        remedy="Set columns and rows to the corners where four squares meet, not to squares",
    )


def _as_part(rectangle: BoardDetection, board: FloatArray, columns: int, rows: int, capture: Capture) -> BoardDetection:
    """Flag a rectangle of corners as a part of the board, saying so where nothing of it seems to be out of view."""
    reason = f"{board.shape[1]} x {board.shape[0]} corners of {columns} x {rows} in view"
    rim, size = grown(grown(board)), np.array(capture.saturated.shape[::-1])
    if np.all((rim >= 0) & (rim < size)):
        reason += ", though it ends inside the picture: check columns and rows, and that nothing covers it"
    reason = "; ".join(filter(None, [reason, rectangle.reason]))
    return replace(rectangle, flags=rectangle.flags | Flag.PARTIAL, reason=reason)


def to_corners(detections: Sequence[BoardDetection], square_mm: float, channel: str) -> tuple[Corners, FloatArray]:
    """One channel of several detections, for `calib.geometry`.

    Parameters
    ----------
    detections : sequence of BoardDetection
    square_mm : float
    channel : str

    Returns
    -------
    corners : Corners
        V views, padded to the largest.
    sigma_px : (V, M) float64
        NaN where a corner was not found.
    """
    most = max(len(d.grid) for d in detections)
    shape = (len(detections), most)
    object_mm, image_px = np.zeros((*shape, 2)), np.zeros((*shape, 2))
    found, sigma_px = np.zeros(shape, dtype=bool), np.full(shape, np.nan)
    for v, detection in enumerate(detections):
        n, good = len(detection.grid), detection.found[channel]
        object_mm[v, :n] = detection.grid * square_mm
        found[v, :n] = good
        image_px[v, :n][good] = detection.xy_px[channel][good]
        sigma_px[v, :n][good] = detection.sigma_px[channel][good]
    return Corners(object_mm, image_px, found), sigma_px
