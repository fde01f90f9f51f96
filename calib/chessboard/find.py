"""Where in a picture a chessboard is: OpenCV's detectors on a grey, tone-mapped picture at several scales."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray

PARTIAL_SHARE = 0.3  # of the corners that a partly visible board must show
FIND_PX = 1600  # longer side of the picture in which the board is first looked for
_SB = cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY | cv2.CALIB_CB_NORMALIZE_IMAGE


def luminance(pixels: FloatArray, cfa: str) -> npt.NDArray[np.float32]:
    """Grey picture (H, W) of a capture on its own pixel grid.

    A mosaic is smoothed by the binomial [1 2 1] / 4 in each direction, which weighs the colours of every pixel's
    neighbourhood alike (R + 2 G + B) / 4 and moves nothing.
    """
    if pixels.ndim == 3:
        return np.asarray(pixels.mean(axis=2), dtype=np.float32)
    if cfa == "mono":
        return np.asarray(pixels, dtype=np.float32)
    tap = np.array([0.25, 0.5, 0.25])
    return np.asarray(cv2.sepFilter2D(np.asarray(pixels, np.float32), -1, tap, tap, borderType=cv2.BORDER_REFLECT_101))


def tone_mapped(grey: FloatArray) -> npt.NDArray[np.uint8]:
    """Picture of 8 bits whose steps the eye, and a detector, sees alike in the dark and in the light."""
    low, high = np.percentile(grey, [1, 99])
    return np.asarray(255 * np.sqrt(np.clip((grey - low) / max(high - low, 1e-6), 0, 1)), dtype=np.uint8)


def contrasty(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Picture with its contrast evened out from place to place."""
    return np.asarray(cv2.createCLAHE(3.0, (8, 8)).apply(picture), dtype=np.uint8)


def scaled(picture: npt.NDArray[np.uint8], scale: float) -> npt.NDArray[np.uint8]:
    """Picture of another size."""
    if scale == 1:
        return picture
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=how), dtype=np.uint8)


def unscaled(xy_px: FloatArray, scale: float) -> FloatArray:
    """Places (N, 2) of a scaled picture in the picture itself."""
    # pixel centres, not pixel corners, are whole numbers
    return np.asarray((xy_px.reshape(-1, 2) + 0.5) / scale - 0.5)


def find_board(grey: FloatArray, columns: int, rows: int) -> tuple[FloatArray, bool] | None:
    """Corners to a pixel or so, (rows', columns', 2), and whether the board is whole; None when there is none."""
    picture = tone_mapped(grey)
    first = min(1.0, FIND_PX / max(picture.shape))
    for tried, scale, flags in (
        (picture, first, 0),
        (picture, first, _SB),
        (picture, first / 2, _SB),
        (contrasty(picture), first, _SB),
        (picture, 2 * first, 0),
    ):
        ok, xy = cv2.findChessboardCornersSB(scaled(tried, scale), (columns, rows), flags=flags)
        if ok:
            return unscaled(np.asarray(xy, np.float64), scale).reshape(rows, columns, 2), True
    ok, xy = cv2.findChessboardCorners(scaled(picture, first), (columns, rows))
    if ok:
        return unscaled(np.asarray(xy, np.float64), first).reshape(rows, columns, 2), True
    part = _find_part(scaled(picture, first), columns, rows)
    return None if part is None else (unscaled(part, first).reshape(part.shape), False)


def _find_part(picture: npt.NDArray[np.uint8], columns: int, rows: int) -> FloatArray | None:
    """Largest full rectangle of corners that a cropped board shows, (rows', columns', 2)."""
    best: FloatArray | None = None
    for least in ((max(columns // 2, 3), max(rows // 2, 3)), (3, 3)):
        ok, xy, meta = cv2.findChessboardCornersSBWithMeta(picture, least, _SB | cv2.CALIB_CB_LARGER)
        if not ok:
            continue
        grid = np.asarray(xy, dtype=np.float64).reshape(*meta.shape[:2], 2)
        if grid.shape[0] > rows or grid.shape[1] > columns:
            grid = grid.transpose(1, 0, 2)
        fits = grid.shape[0] <= rows and grid.shape[1] <= columns
        if fits and grid.shape[0] * grid.shape[1] >= PARTIAL_SHARE * rows * columns:
            best = grid if best is None or grid.size > best.size else best
    return best


def oriented(board: FloatArray) -> FloatArray:
    """Turn a grid so that it is not mirrored and its columns run to the right rather than to the left."""
    along, down = board[:, -1] - board[:, 0], board[-1] - board[0]
    along, down = along.mean(axis=0), down.mean(axis=0)
    if along[0] * down[1] - along[1] * down[0] < 0:
        board, down = board[::-1], -down
    turns = [board, board[::-1, ::-1]]
    if board.shape[0] == board.shape[1]:
        turns += [np.rot90(board, 1), np.rot90(board, 3)]
    return max(turns, key=lambda b: float((b[:, -1] - b[:, 0]).mean(axis=0)[0]) + 0.01 * float(np.mean(b[-1] - b[0])))


def first_dark(grey: FloatArray, board: FloatArray) -> bool:
    """Whether the cell between the first four corners is darker than its neighbour to the right."""
    corners = board[:2, :3].reshape(2, 3, 2)
    centres = (corners[0, :2] + corners[0, 1:] + corners[1, :2] + corners[1, 1:]) / 4
    dark, light = (grey[tuple(np.clip(np.rint(c[::-1]).astype(int), 0, np.array(grey.shape) - 1))] for c in centres)
    return bool(dark < light)
