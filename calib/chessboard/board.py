"""Find a chessboard in a capture and measure its inner corners on each colour's own sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from calib.chessboard.corner import CornerFits, clipping_imbalance, fit_corners, window_px
from calib.chessboard.find import find_board, first_dark, luminance, oriented
from psfbank.arrays import BoolArray, FloatArray, frozen
from psfbank.errors import NoTargetFound
from psfbank.flags import Flag
from psfbank.model import Camera, Capture, Corners
from psfbank.sensor import cfa_sites

WORST_IMBALANCE = 0.05  # of clipped sites about a corner
LEAST_SHARE = 0.5  # of the corners that must be measurable in every channel
UNSHARP_OF_CELL = 0.15  # blur beyond which neighbouring corners run together


@dataclass(frozen=True, eq=False)
class BoardDetection:
    """Corners of one board in one capture, channel by channel.

    `grid` (M, 2) counts columns and rows from the board's first inner corner; `xy_px` (M, 2), `found` (M,),
    `sigma_px` (M,) (of a coordinate) and `blur_px` (M,) (Gaussian sigma, pixel included) are by channel.
    """

    grid: FloatArray
    xy_px: Mapping[str, FloatArray]
    found: Mapping[str, BoolArray]
    sigma_px: Mapping[str, FloatArray]
    blur_px: Mapping[str, FloatArray]
    flags: Flag
    reason: str = ""

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


def _measure(capture: Capture, camera: Camera, channel: str, board: FloatArray) -> CornerFits:
    """Fit every corner of a board (rows, columns, 2) in a channel; unevenly clipped and wrongly coloured ones fail."""
    down, along = np.gradient(board, axis=(0, 1))
    flat = board.reshape(-1, 2)
    values, mask = sites(capture, camera, channel)
    along, down = along.reshape(-1, 2), down.reshape(-1, 2)
    fits = fit_corners(values, mask, flat, along, down)
    good = fits.good
    good = good & (clipping_imbalance(capture.saturated, mask, flat, window_px(along, down)) < WORST_IMBALANCE)
    parity = np.where(np.indices(board.shape[:2]).sum(axis=0).ravel() % 2 == 0, 1.0, -1.0)
    sign = np.sign(fits.contrast) * parity
    good = good & (sign == np.sign(np.sum(sign[good]) + 1e-9))
    return replace(fits, good=good)


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
        PARTIAL where a rectangle of corners of a cropped board was found, whose place on the board is unknown; its
        grid counts from its own first corner, and the target's shape should be taken as flat. UNSHARP where blur is
        large against the cells; UNUSABLE where fewer than half of the corners of a channel could be measured.

    Raises
    ------
    NoTargetFound
        When the picture shows no such board.
    """
    grey = luminance(capture.pixels, camera.cfa)
    located = find_board(grey, columns, rows)
    nothing = NoTargetFound(
        f"no chessboard of {columns} x {rows} inner corners",
        where=capture.name,
        remedy="Check columns and rows (corners where four squares meet, not squares), light and focus",
    )
    if located is None:
        raise nothing
    board, whole = oriented(located[0]), located[1]
    if whole and (columns + rows) % 2 == 1 and not first_dark(grey, board):
        board = board[::-1, ::-1]  # only one of the two half-turns puts a dark cell first
    count_y, count_x = board.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(count_x), np.arange(count_y)), axis=-1).reshape(-1, 2).astype(float)
    fits = {channel: _measure(capture, camera, channel, board) for channel in camera.channels}
    if not whole and min(fit.good.mean() for fit in fits.values()) < LEAST_SHARE:
        raise nothing  # a search for parts sees small boards in noise
    cell = float(np.median(np.linalg.norm(np.diff(board, axis=1), axis=-1)))
    flags, reasons = Flag.GOOD, []
    if not whole:
        flags |= Flag.PARTIAL
        reasons.append(f"{count_x} x {count_y} corners of {columns} x {rows} in view")
    blur = float(np.median(np.concatenate([f.blur_px for f in fits.values()])))
    if blur > UNSHARP_OF_CELL * cell:
        flags |= Flag.UNSHARP
        reasons.append(f"blur of {blur:.1f} px in cells of {cell:.0f} px")
    for channel, fit in fits.items():
        if fit.good.mean() < LEAST_SHARE:
            flags |= Flag.UNUSABLE
            reasons.append(f"{fit.good.sum()} of {fit.good.size} corners measurable in {channel}")
    return BoardDetection(
        grid=grid,
        xy_px={c: f.xy_px for c, f in fits.items()},
        found={c: f.good for c, f in fits.items()},
        sigma_px={c: f.sigma_px for c, f in fits.items()},
        blur_px={c: f.blur_px for c, f in fits.items()},
        flags=flags,
        reason="; ".join(reasons),
    )


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
