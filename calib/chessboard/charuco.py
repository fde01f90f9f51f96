"""ChArUco boards: chessboards whose white cells hold markers, which tell every corner's place on the board.

OpenCV reads the markers and interpolates the corners between them; from there on corners are measured as those of
chessboards are, on each colour's own sites, with the cells' middles left out. A board in a mirror, of another size, or
with markers of another dictionary is told from the markers, and refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from calib.chessboard.board import BoardDetection, measure
from calib.chessboard.find import FIND_PX, contrasty, luminance, scaled, tone_mapped, unscaled
from psfbank.arrays import BoolArray, FloatArray, IntArray
from psfbank.errors import NoTargetFound
from psfbank.model import Camera, Capture

FAMILIES = {  # of OpenCV's dictionaries, and how many markers their members hold
    **{f"DICT_{n}X{n}_": (50, 100, 250, 1000) for n in (4, 5, 6, 7)},
    "DICT_ARUCO_ORIGINAL": (1024,),
    "DICT_ARUCO_MIP_36h12": (250,),
    "DICT_APRILTAG_16h5": (30,),
    "DICT_APRILTAG_25h9": (35,),
    "DICT_APRILTAG_36h10": (2320,),
    "DICT_APRILTAG_36h11": (587,),
}
LEAST_CORNERS = 6
LEAST_MARKERS = 4  # from which a layout can be told
FIT_OF_SIDE = 0.4  # of a marker's side: how far its corners may lie from where a pinhole sees them; lenses bend
LEAST_FITTING = 0.5  # of the markers
MOST_SQUARES = 40  # a row, among which a board of another size is sought
SHARE_TOLERANCE = 0.1  # relative, of the markers' side


@dataclass(frozen=True, eq=False)
class Markers:
    """Markers seen: `corners_px` (N, 4, 2) in the picture, their `number` (N,), and the dictionary they are of."""

    dictionary: str
    corners_px: FloatArray
    number: IntArray


@dataclass(frozen=True, eq=False)
class _Layout:
    """A board that could show the markers: squares a row, whether the first is white, which markers `fits` (N,)."""

    squares: int
    white_first: bool
    fits: BoolArray
    share: float


def dictionaries(count: int, *, all_members: bool = False) -> Iterator[str]:
    """Name OpenCV's dictionaries that hold `count` markers: of each family the smallest, or all."""
    for family, sizes in FAMILIES.items():
        enough = [size for size in sizes if size >= count]
        for size in enough if all_members else enough[:1]:
            yield f"{family}{size}" if family.endswith("_") else family


def detect_charuco(
    capture: Capture,
    camera: Camera,
    columns: int,
    rows: int,
    *,
    dictionary: str | None = None,
    marker_share: float | None = None,
) -> BoardDetection:
    """Find a ChArUco board, whole or in part, and measure its inner corners in every channel.

    Parameters
    ----------
    capture : Capture
    camera : Camera
    columns, rows : int
        Inner corners.
    dictionary : str, optional
        OpenCV's name of the markers' dictionary; when absent that of which most markers are seen.
    marker_share : float, optional
        Side of the markers over that of the squares; measured in any case, and compared with this.

    Returns
    -------
    BoardDetection
        As from `calib.chessboard.board.measure`, its grid that of the whole board: corners out of view are not found.

    Raises
    ------
    NoTargetFound
        When the picture shows no such board, saying how another one differs.
    """
    picture = tone_mapped(luminance(capture.pixels, camera.cfa))
    names = [dictionary] if dictionary else list(dictionaries((columns + 1) * (rows + 1) // 2))
    first = min(1.0, FIND_PX / max(picture.shape))
    best: tuple[npt.NDArray[np.float64], float] | None = None
    for tried, scale in ((picture, first), (picture, 2 * first), (contrasty(picture), first)):
        shown = scaled(tried, scale)
        markers = read_markers(shown, names)
        if len(markers.number) < LEAST_MARKERS:
            continue
        layout = _laid_out(markers, columns, rows, capture.name)
        seeds = unscaled(_interpolated(shown, markers, layout, columns, rows), scale)
        if best is None or np.isfinite(seeds).sum() > np.isfinite(best[0]).sum():
            best = seeds, layout.share
        if np.isfinite(seeds).all():
            break
    if best is None or np.isfinite(best[0][:, 0]).sum() < LEAST_CORNERS:
        raise _nothing(scaled(picture, first), names, columns, rows, capture.name)
    seeds, share = best
    if marker_share and abs(share / marker_share - 1) > SHARE_TOLERANCE:
        raise NoTargetFound(
            f"the markers' sides are {share:.2f} of a square's, not {marker_share:.2f}",
            where=capture.name,
            remedy="Measure marker_mm and square_mm on the print, or leave marker_mm out",
        )
    seen, share = np.isfinite(seeds[:, 0]), marker_share or share
    near = measure(capture, camera, _filled(seeds, columns, rows), seen, share)
    channel = camera.channels[len(camera.channels) // 2]
    if near.found[channel].sum() >= LEAST_CORNERS:  # markers are left out about the very corners, not about the seeds
        seeds = np.where(near.found[channel][:, None], near.xy_px[channel].astype(np.float64), seeds)
    return measure(capture, camera, _filled(seeds, columns, rows), seen, share)


def read_markers(picture: npt.NDArray[np.uint8], names: Sequence[str]) -> Markers:
    """Read the markers of that dictionary of which most are seen."""
    how = cv2.aruco.DetectorParameters()
    how.perspectiveRemovePixelPerCell, how.perspectiveRemoveIgnoredMarginPerCell = 8, 0.3  # blur mixes bits' borders
    read = []
    for name in names:
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
        corners, number, _ = cv2.aruco.ArucoDetector(dictionary, how).detectMarkers(picture)
        ids = np.zeros(0) if number is None else np.asarray(number).ravel()
        at = np.asarray(corners, dtype=np.float64).reshape(-1, 4, 2)
        at = at + 0.5 * np.sign(
            at - at.mean(axis=1, keepdims=True)
        )  # OpenCV's outlines run inside the outermost pixels
        read.append(Markers(name, at, ids.astype(np.int64)))
    return max(read, key=lambda markers: len(markers.number))


def _squares_of(number: IntArray, squares: int, white_first: bool) -> npt.NDArray[np.int64]:
    """Column and row (N, 2) of the squares that hold markers: the white ones, counted along the rows."""
    rows = 2 * (int(number.max()) + 2) // squares + 2
    row, column = np.indices((rows, squares)).reshape(2, -1)
    white = (row + column) % 2 == (0 if white_first else 1)
    return np.asarray(np.stack([column[white], row[white]], axis=1)[number])


def _lay_out(markers: Markers, squares: int, white_first: bool) -> _Layout:
    """See which markers lie as on a board of so many squares a row, in the eyes of a pinhole camera."""
    places = _squares_of(markers.number, squares, white_first) + 0.5
    none = _Layout(squares, white_first, np.zeros(len(places), dtype=bool), 0.0)
    if len(np.unique(places[:, 0])) < 2 or len(np.unique(places[:, 1])) < 2:
        return none
    side = np.linalg.norm(np.roll(markers.corners_px, -1, axis=1) - markers.corners_px, axis=2).mean(axis=1)
    reach = FIT_OF_SIDE * float(np.median(side))
    plane, _ = cv2.findHomography(places, markers.corners_px.mean(axis=1), cv2.RANSAC, reach)
    if plane is None:
        return none
    outline = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    cells = _mapped(plane, places[:, None] + outline)
    share = float(np.median(np.sqrt(np.abs(_area(markers.corners_px) / _area(cells)))))
    expected = _mapped(plane, places[:, None] + share * outline)
    off = np.linalg.norm(markers.corners_px - expected, axis=2).max(axis=1)
    return _Layout(squares, white_first, off < FIT_OF_SIDE * side, share)


def _mapped(plane: cv2.typing.MatLike, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Image (..., 2) of places on a plane."""
    at = cv2.perspectiveTransform(np.asarray(places, dtype=np.float64).reshape(-1, 1, 2), plane)
    return np.asarray(at, dtype=np.float64).reshape(places.shape)


def _area(quads: FloatArray) -> npt.NDArray[np.float64]:
    """Signed area (N,) of quadrangles (N, 4, 2)."""
    (ax, ay), (bx, by) = (np.moveaxis(quads[:, k + 2] - quads[:, k], -1, 0) for k in range(2))
    return np.asarray((ax * by - ay * bx) / 2)


def _laid_out(markers: Markers, columns: int, rows: int, name: str) -> _Layout:
    """Lay the markers out on the board that was announced, or say how the one in the picture differs."""
    orders = (False, True) if rows % 2 == 1 else (False,)  # OpenCV's boards of before 4.6 begin with white
    announced = max((_lay_out(markers, columns + 1, order) for order in orders), key=_fitting)
    count, seen = (columns + 1) * (rows + 1) // 2, len(markers.number)
    if _fitting(announced) >= LEAST_FITTING * seen:
        beyond = announced.fits & (markers.number >= count)
        if not beyond.any():
            return announced
        found = f"more than {rows} rows: marker {markers.number[beyond].max()} of one with {count} markers"
    else:
        others = [_lay_out(markers, squares, order) for squares in range(3, MOST_SQUARES) for order in (False, True)]
        other = max(others, key=_fitting)
        found = "another order" if _fitting(other) < LEAST_FITTING * seen else f"{other.squares - 1} columns"
    raise NoTargetFound(
        f"the ChArUco board is not of {columns} x {rows} inner corners: its markers lie as on a board of {found}",
        where=name,
        remedy="Check columns and rows (corners where four squares meet, not squares)",
    )


def _fitting(layout: _Layout) -> int:
    return int(layout.fits.sum())


def _interpolated(
    picture: npt.NDArray[np.uint8], markers: Markers, layout: _Layout, columns: int, rows: int
) -> npt.NDArray[np.float64]:
    """Corners (M, 2) between the markers to a pixel or so; NaN where no markers show them."""
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, markers.dictionary))
    board = cv2.aruco.CharucoBoard((columns + 1, rows + 1), 1.0, min(layout.share, 0.99), dictionary)
    board.setLegacyPattern(layout.white_first)
    known = markers.number < (columns + 1) * (rows + 1) // 2
    corners = [quad.astype(np.float32)[None] for quad in markers.corners_px[known]]
    ids = markers.number[known].astype(np.int32)[:, None]
    xy, number, _, _ = cv2.aruco.CharucoDetector(board).detectBoard(picture, markerCorners=corners, markerIds=ids)
    out = np.full((columns * rows, 2), np.nan)
    if number is not None:
        out[np.asarray(number).ravel()] = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
    return out


def _filled(seeds: FloatArray, columns: int, rows: int) -> npt.NDArray[np.float64]:
    """Corners (rows, columns, 2) with those that were not seen where the others lead one to expect them.

    They only tell how large the cells of their neighbours are: a pinhole's view, moved by what the nearest corner
    differs from it.
    """
    seen = np.isfinite(seeds[:, 0])
    places = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2).astype(np.float64)
    plane, _ = cv2.findHomography(places[seen], seeds[seen])
    expected = _mapped(plane, places)
    nearest = cKDTree(places[seen]).query(places)[1]
    out = np.where(seen[:, None], seeds, expected + (seeds - expected)[seen][nearest])
    return np.asarray(out.reshape(rows, columns, 2))


def _nothing(
    picture: npt.NDArray[np.uint8], names: Sequence[str], columns: int, rows: int, where: str
) -> NoTargetFound:
    """Say why no board was found: a mirror shows markers that nobody can read."""
    if len(read_markers(np.ascontiguousarray(picture[:, ::-1]), names).number) >= LEAST_MARKERS:
        return NoTargetFound(
            "the ChArUco board is mirrored",
            where=where,
            remedy="Shoot the board itself, not its image in a mirror, and switch off the camera's mirroring",
        )
    which = names[0] if len(names) == 1 else "any dictionary"
    return NoTargetFound(
        f"no ChArUco board of {columns} x {rows} inner corners with markers of {which}",
        where=where,
        remedy="Check the dictionary, columns and rows (corners where four squares meet), light and focus",
    )
