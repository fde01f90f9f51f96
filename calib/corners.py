"""Corners that another program detected, read from its table: mrcal's .vnl.

The table is vnlog's: lines of `##` and `#!` are remarks, the first other line that begins with `#` names the columns,
`-` stands for what is not known. A corner a line: `filename x y`, and `level` or `weight` where the detector tells how
sure it is; level n says that the corner was found in the picture halved n times over, so its weight is 1 / 2^n.
A board's corners stand together, row by row, in the order of the board; a board that was not found is one line.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from psfbank.arrays import BoolArray, FloatArray, freeze
from psfbank.errors import CaptureUnusable
from psfbank.model import Corners

DETECTED_SIGMA_PX = 0.1  # of a corner of weight 1: what detectors that follow gradients reach on real pictures
SAME_PX = 0.01  # within which no two pictures show all corners, for noise alone
WORST_BEND = 0.5  # of a step along a board's rows: what the step may differ from the one before it
WHAT_IT_IS = "Give mrcal's table of corners: a line `# filename x y level`, then a corner a line"


@dataclass(frozen=True, eq=False)
class DetectedCorners:
    """Boards that another program detected in pictures `names` (V): `xy_px` (V, M, 2), `found`, `sigma_px` (V, M).

    `sigma_px` is of a coordinate, NaN where a corner was not found.
    """

    names: tuple[str, ...]
    xy_px: FloatArray
    found: BoolArray
    sigma_px: FloatArray
    sha256: str = ""

    def __post_init__(self) -> None:
        freeze(self, np.float64, xy_px="V,M,2", sigma_px="V,M")
        freeze(self, bool, found="V,M")

    def of_views(self, which: BoolArray) -> DetectedCorners:
        """Take some of the boards, by mask (V,)."""
        names = tuple(name for name, taken in zip(self.names, which, strict=True) if taken)
        return DetectedCorners(names, self.xy_px[which], self.found[which], self.sigma_px[which], self.sha256)

    def to_corners(self, columns: int, square_mm: float) -> Corners:
        """Put the corners beside their places on the board, for `calib.geometry`."""
        row, column = np.divmod(np.arange(self.found.shape[1]), columns)
        places_mm = square_mm * np.column_stack([column, row]).astype(np.float64)
        return Corners(np.broadcast_to(places_mm, self.xy_px.shape), self.xy_px, self.found)


@dataclass(frozen=True)
class _Row:
    line: int
    picture: str
    x_px: float
    y_px: float
    weight: float


def read_vnl(path: Path, columns: int, rows: int, size_px: tuple[int, int], name: str = "") -> DetectedCorners:
    """Read detected corners from a table of mrcal's.

    Parameters
    ----------
    path : Path
    columns, rows : int
        Inner corners of the board; the corners of a row stand together in the table.
    size_px : (H, W)
        Of the pictures.
    name : str
        What errors call the file; its path when empty.

    Returns
    -------
    DetectedCorners
        Every board of which a corner was found, in the file's order.

    Raises
    ------
    CaptureUnusable
        When the file is no such table, with the number of the line.
    """
    where = name or str(path)
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8").splitlines()
    except OSError as error:
        raise _refused(where, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise _refused(where, f"is not text (byte {error.start})") from error
    height, width = size_px
    names, boards = [], []
    for picture, group in groupby(_rows(lines, where), key=lambda row: row.picture):
        board = list(group)
        if picture in names:
            what = f"line {board[0].line}: corners of {picture} again, after those of another picture"
            raise _refused(where, what, "Keep the corners of a picture together; the table may have been sorted")
        names.append(picture)
        if len(board) == 1 and math.isnan(board[0].x_px):
            board = [_Row(board[0].line, picture, math.nan, math.nan, math.nan)] * (columns * rows)
        if len(board) != columns * rows:
            what = f"line {board[0].line}: {picture} has {len(board)} corners, not {columns} x {rows}"
            raise _refused(where, what, "Set columns and rows to the inner corners of the board")
        for row in board:
            if not (math.isnan(row.x_px) or (-0.5 <= row.x_px <= width - 0.5 and -0.5 <= row.y_px <= height - 0.5)):
                what = f"line {row.line}: ({row.x_px:g}, {row.y_px:g}) lies outside pictures of {width} x {height}"
                raise _refused(where, what, "Check width and height in [camera], and that no picture was resized")
        boards.append([(row.x_px, row.y_px, row.weight) for row in board])
    if not boards:
        raise _refused(where, "holds no corners", WHAT_IT_IS)
    table = np.array(boards)
    found = np.isfinite(table).all(axis=2)
    sigma_px = np.where(found, DETECTED_SIGMA_PX / np.where(found, table[..., 2], 1.0), np.nan)
    detected = DetectedCorners(tuple(names), table[..., :2], found, sigma_px, hashlib.sha256(content).hexdigest())
    detected = detected.of_views(found.any(axis=1))
    if not detected.names:
        raise _refused(where, "no corner was found in any picture", "Check what the detector was told of the board")
    _require_order(detected, columns, rows, where)
    return detected


def judge_views(detected: DetectedCorners, columns: int) -> list[tuple[int, str]]:
    """Say which boards cannot be used beside the others.

    Parameters
    ----------
    detected : DetectedCorners
    columns : int

    Returns
    -------
    list of (int, str)
        Number of the board and reason: numbered in mirror image of most others, which would be seen from behind; or
        the very corners of one before it.
    """
    handed = np.array([_handedness(xy, columns) for xy in detected.xy_px])
    usual = 1.0 if np.sum(handed > 0) >= np.sum(handed < 0) else -1.0
    verdicts = []
    for k in range(len(detected.names)):
        same = same_corners(detected.xy_px[k], detected.found[k], detected.xy_px[:k], detected.found[:k])
        if same.any():
            verdicts.append((k, f"its corners are those of {detected.names[int(np.argmax(same))]}: a copy"))
        elif handed[k] * usual < 0:
            verdicts.append((k, "its corners are numbered in mirror image of those of other boards"))
    return verdicts


def same_corners(
    xy_px: FloatArray, found: BoolArray, others_px: FloatArray, others_found: BoolArray
) -> npt.NDArray[np.bool_]:
    """Which of other views (V, M, 2) show the very corners of a view (M, 2): the same picture, or a copy of it."""
    off = np.where(found[:, None], np.abs(others_px - xy_px), 0.0).max(axis=(1, 2), initial=0.0)
    return np.asarray((others_found == found).all(axis=1) & (off < SAME_PX))


def _handedness(xy_px: FloatArray, columns: int) -> float:
    """Sign of the area between a board's rows and columns; 0 where too few corners were found."""
    grid = xy_px.reshape(-1, columns, 2)
    along, down = grid[:-1, 1:] - grid[:-1, :-1], grid[1:, :-1] - grid[:-1, :-1]
    area = along[..., 0] * down[..., 1] - along[..., 1] * down[..., 0]
    return float(np.sign(np.median(area[np.isfinite(area)]))) if np.isfinite(area).any() else 0.0


def _refused(where: str, what: str, remedy: str = WHAT_IT_IS) -> CaptureUnusable:
    return CaptureUnusable(what, where=where, remedy=remedy)


def _rows(lines: list[str], where: str) -> list[_Row]:
    legend: list[str] | None = None
    out = []
    for number, text in enumerate(lines, start=1):
        if legend is None and text.startswith("#") and not text.startswith(("##", "#!")):
            legend = text[1:].split()
            missing = [key for key in ("filename", "x", "y") if key not in legend]
            if missing:
                raise _refused(where, f"line {number}: no column {', '.join(missing)}")
            continue
        words = text.split("#", 1)[0].split()
        if not words:
            continue
        if legend is None:
            raise _refused(where, f"line {number}: a corner before the line that names the columns")
        if len(words) != len(legend):
            raise _refused(where, f"line {number}: {len(words)} values for {len(legend)} columns")
        out.append(_row(dict(zip(legend, words, strict=True)), number, where))
    return out


def _row(words: dict[str, str], line: int, where: str) -> _Row:
    values = {}
    for key in ("x", "y", "level", "weight"):
        word = words.get(key, "0" if key == "level" else "1")
        try:
            values[key] = math.nan if word == "-" else float(word)
        except ValueError as error:
            raise _refused(where, f'line {line}: {key} = "{word}" is not a number') from error
        if math.isinf(values[key]) or (math.isnan(values[key]) and word != "-"):
            raise _refused(where, f'line {line}: {key} = "{word}" is not finite')
    weight = values["weight"] * 2.0 ** -values["level"]
    # mrcal, too, takes a corner of negative level or without weight as not found
    if values["level"] < 0 or not weight > 0 or math.isnan(values["x"] + values["y"]):
        return _Row(line, words["filename"], math.nan, math.nan, math.nan)
    return _Row(line, words["filename"], values["x"], values["y"], weight)


def _bend(detected: DetectedCorners, columns: int) -> float:
    """How much steps along rows and columns change from one to the next, in steps; beyond 1 where rows are no rows.

    The worst of each row and of each column, and the median of these: a few corners may be misplaced.
    """
    grid = detected.xy_px.reshape(len(detected.names), -1, columns, 2)
    bends = []
    for lines in (grid, grid.transpose(0, 2, 1, 3)):
        step = np.diff(lines, axis=2)
        length = np.linalg.norm(step, axis=-1)
        turn = np.linalg.norm(np.diff(step, axis=2), axis=-1) / np.minimum(length[:, :, 1:], length[:, :, :-1])
        worst = np.where(np.isfinite(turn), turn, 0.0).max(axis=2, initial=0.0)
        seen = np.isfinite(turn).any(axis=2)
        bends.append(float(np.median(worst[seen])) if seen.any() else 0.0)
    return max(bends)


def _require_order(detected: DetectedCorners, columns: int, rows: int, where: str) -> None:
    if _bend(detected, columns) < WORST_BEND:
        return
    count = columns * rows
    others = [c for c in range(3, count // 2 + 1) if count % c == 0 and _bend(detected, c) < WORST_BEND]
    best = min(others, key=lambda c: _bend(detected, c), default=None)
    raise _refused(
        where,
        f"the corners do not follow each other along rows of {columns}",
        "Keep the order of the board, row by row"
        if best is None
        else f"They do along rows of {best}: set columns = {best} and rows = {count // best}",
    )
