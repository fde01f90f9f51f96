"""Where in a picture a chessboard is: OpenCV's detectors on a grey, tone-mapped picture at several scales."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray

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


def unscaled(xy_px: FloatArray, scale: float) -> npt.NDArray[np.float64]:
    """Places (N, 2) of a scaled picture in the picture itself."""
    # pixel centres, not pixel corners, are whole numbers
    return np.asarray((xy_px.reshape(-1, 2) + 0.5) / scale - 0.5)


def find_board(grey: FloatArray, columns: int, rows: int) -> npt.NDArray[np.float64] | None:
    """Corners of a board of this size to a pixel or so, (rows, columns, 2); None when there is none.

    Of a larger board these may be a part, or every other corner.
    """
    picture = tone_mapped(grey)
    first = min(1.0, FIND_PX / max(picture.shape))
    for tried, scale, flags in (
        (picture, first, 0),
        (picture, first, _SB),
        (picture, first / 2, _SB),
        (contrasty(picture), first, _SB),
        (picture, 2 * first, 0),
    ):
        cv2.setRNGSeed(0)  # the detector draws lots
        ok, xy = cv2.findChessboardCornersSB(scaled(tried, scale), (columns, rows), flags=flags)
        if ok:
            return unscaled(np.asarray(xy, np.float64), scale).reshape(rows, columns, 2)
    ok, xy = cv2.findChessboardCorners(scaled(picture, first), (columns, rows))
    return unscaled(np.asarray(xy, np.float64), first).reshape(rows, columns, 2) if ok else None


def find_rectangle(grey: FloatArray, columns: int, rows: int) -> npt.NDArray[np.float64] | None:
    """Largest full rectangle of corners to a pixel or so, (any, any, 2): of a cropped board, or of one of another size.

    It stands on that side that makes it fit into `columns` x `rows`, if one does.
    """
    picture = tone_mapped(grey)
    first = min(1.0, FIND_PX / max(picture.shape))
    best: npt.NDArray[np.float64] | None = None
    for least in ((max(columns // 2, 3), max(rows // 2, 3)), (3, 3)):
        cv2.setRNGSeed(0)
        ok, xy, meta = cv2.findChessboardCornersSBWithMeta(scaled(picture, first), least, _SB | cv2.CALIB_CB_LARGER)
        if ok and (best is None or meta.size > best.shape[0] * best.shape[1]):
            best = unscaled(np.asarray(xy, np.float64), first).reshape(*meta.shape[:2], 2)
    if best is not None and not fits_into(best, columns, rows):
        best = best.transpose(1, 0, 2)
    return best


def fits_into(board: FloatArray, columns: int, rows: int) -> bool:
    """Whether a board (any, any, 2) has no more columns and no more rows than these."""
    return bool(board.shape[0] <= rows and board.shape[1] <= columns)


def grown(board: FloatArray) -> npt.NDArray[np.float64]:
    """Board (rows + 2, columns + 2, 2) with the corners that would follow on every side."""
    return np.pad(board, ((1, 1), (1, 1), (0, 0)), mode="reflect", reflect_type="odd")


def oriented(board: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
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
