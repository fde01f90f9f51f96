"""ChArUco boards in closed form: corners clear of markers, parts, colours, boards that are not the announced one."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from charuco_boards import Drawn, place
from scipy.spatial.transform import Rotation

from calib import calibrate, chessboard
from calib.chessboard import charuco
from calib.chessboard.board import clear_of_markers
from psfbank.errors import NoTargetFound
from psfbank.flags import Flag
from psfbank.model import Camera, Capture, PsfGrid

CELL_PX, TURN = 32.0, np.radians(7.0)
SIZE = (290, 380)
ORIGIN = np.array([70.3, 62.6])
BOARD = Drawn(8, 5)
RIGHT = np.array([1.0, 0.0])
KNOWN = "DICT_5X5_100"


@lru_cache
def drawn(board: Drawn = BOARD, turn: float = TURN) -> np.ndarray:
    return board.draw(SIZE, ORIGIN, turn, CELL_PX, 0.8)


def noisy(pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    return pixels + np.random.default_rng(seed).normal(0, 2 / 255, pixels.shape)


def detect(pixels: np.ndarray, columns: int = 8, rows: int = 5, **told: object) -> chessboard.BoardDetection:
    size = pixels.shape[:2]
    camera = Camera("", "", size, "mono" if pixels.ndim == 2 else "RGB")
    capture = Capture(pixels, np.zeros(size, bool), "board.png", "")
    return chessboard.detect_charuco(capture, camera, columns, rows, **{"dictionary": KNOWN, **told})


def test_corners_lie_where_they_were_drawn_and_sigma_says_how_well() -> None:
    misses, pulls = [], []
    for seed in range(4):
        found = detect(noisy(drawn(), seed))
        assert found.flags == Flag.GOOD
        assert found.found["Y"].all()
        miss = found.xy_px["Y"] - place(BOARD, ORIGIN, TURN, CELL_PX)
        misses.append(miss)
        pulls.append(miss / found.sigma_px["Y"][:, None])
    assert np.linalg.norm(misses, axis=-1).mean() < 0.012
    assert np.abs(np.mean(misses, axis=(0, 1))).max() < 0.003
    assert 0.8 < np.std(pulls) < 1.15


def test_markers_inside_the_window_would_be_noticed() -> None:
    """Without leaving cells' middles out the blur comes out wrong."""
    found = detect(drawn())
    flat = np.ones(SIZE, bool)
    step = np.tile([[np.cos(TURN), np.sin(TURN)]], (40, 1)) * CELL_PX
    down = step[:, ::-1] * [-1, 1]
    whole = chessboard.fit_corners(drawn(), flat, found.xy_px["Y"], step, down)
    assert np.median(np.abs(found.blur_px["Y"] - 0.8)) < 0.01
    assert np.median(np.abs(whole.blur_px - 0.8)) > 0.05


def test_cells_middles_are_left_out_on_all_four_sides_of_a_corner() -> None:
    board = np.stack(np.meshgrid(20.0 + 20 * np.arange(3), 20.0 + 20 * np.arange(3)), axis=-1)
    mask = clear_of_markers(np.ones((81, 81), bool), board, 0.7)
    assert not mask[10::20, 10::20].any()
    assert mask[20::20].all()
    assert mask[:, 20::20].all()
    np.testing.assert_array_equal(mask, mask[::-1, ::-1])
    assert 0.2 < mask[20:60, 20:60].mean() < 0.5


@pytest.mark.parametrize(
    "board",
    [
        Drawn(8, 5, legacy=True),
        Drawn(5, 4, 0.6, "DICT_4X4_50"),
        Drawn(6, 6, 0.8, "DICT_APRILTAG_36h11"),
        Drawn(7, 5, 0.7, "DICT_6X6_250"),
    ],
)
def test_layout_share_and_dictionary_are_told_from_the_picture(board: Drawn) -> None:
    found = detect(noisy(drawn(board)), board.columns, board.rows, dictionary=None)
    seen = found.found["Y"]
    assert seen.mean() > 0.8
    assert found.marker_share == pytest.approx(board.marker_share, abs=0.03)
    np.testing.assert_allclose(found.xy_px["Y"][seen], place(board, ORIGIN, TURN, CELL_PX)[seen], atol=0.06)


def test_a_part_of_the_board_keeps_its_place() -> None:
    found = detect(noisy(drawn())[:180, 150:])
    truth = place(BOARD, ORIGIN, TURN, CELL_PX) - [150, 0]
    seen = found.found["Y"]
    assert found.flags == Flag.GOOD
    assert 8 <= seen.sum() < 30
    np.testing.assert_array_equal(found.grid, BOARD.corners())
    np.testing.assert_allclose(found.xy_px["Y"][seen], truth[seen], atol=0.06)


def test_upside_down_corners_keep_their_numbers() -> None:
    found = detect(noisy(drawn())[::-1, ::-1])
    expected = np.array(SIZE[::-1]) - 1 - place(BOARD, ORIGIN, TURN, CELL_PX)
    np.testing.assert_allclose(found.xy_px["Y"], expected, atol=0.06)


def test_colours_are_measured_one_by_one() -> None:
    shifted = np.stack([BOARD.draw(SIZE, ORIGIN + s * RIGHT, TURN, CELL_PX, 0.8) for s in (0.3, 0.0, -0.2)], axis=-1)
    found = detect(shifted)
    np.testing.assert_allclose((found.xy_px["R"] - found.xy_px["G"]).mean(axis=0), [0.3, 0], atol=5e-3)
    np.testing.assert_allclose((found.xy_px["B"] - found.xy_px["G"]).mean(axis=0), [-0.2, 0], atol=5e-3)


def test_a_mirrored_board_is_refused_in_words() -> None:
    with pytest.raises(NoTargetFound, match=r"board\.png: the ChArUco board is mirrored. Shoot the board itself"):
        detect(drawn()[:, ::-1])


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((7, 5), "not of 7 x 5 inner corners: its markers lie as on a board of 8 columns"),
        ((9, 5), "a board of 8 columns"),
        ((5, 8), "a board of 8 columns"),
        ((8, 3), "more than 3 rows: marker 26 of one with 18 markers"),
    ],
)
def test_a_board_of_another_size_is_refused_in_words(size: tuple[int, int], words: str) -> None:
    with pytest.raises(NoTargetFound, match=words):
        detect(drawn(), *size)


def test_a_wrong_share_is_refused_and_the_right_one_used() -> None:
    with pytest.raises(NoTargetFound, match=r"the markers' sides are 0\.7\d of a square's, not 0\.50"):
        detect(drawn(), marker_share=0.5)
    assert detect(drawn(), marker_share=0.75).marker_share == 0.75


@pytest.mark.parametrize(
    ("pixels", "dictionary", "words"),
    [
        (np.full(SIZE, 0.5), KNOWN, "no ChArUco board of 8 x 5 inner corners with markers of DICT_5X5_100"),
        (np.zeros(SIZE), None, "with markers of any dictionary"),
        (drawn(), "DICT_4X4_50", "with markers of DICT_4X4_50"),
    ],
)
def test_no_board_is_said_in_words(pixels: np.ndarray, dictionary: str | None, words: str) -> None:
    with pytest.raises(NoTargetFound, match=words):
        detect(pixels, dictionary=dictionary)


def test_each_family_gives_its_smallest_member_that_suffices() -> None:
    names = list(charuco.dictionaries(60))
    assert "DICT_4X4_100" in names
    assert "DICT_APRILTAG_36h11" in names
    assert not {"DICT_4X4_50", "DICT_APRILTAG_16h5"} & set(names)
    for name in names:
        known = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
        assert len(known.bytesList) >= 60


def test_corners_move_to_the_centroid_of_an_asymmetric_psf() -> None:
    """A core and a flare beside it whose common centroid is 0: the fitted corner follows the core."""
    blobs = ((0.8, -0.3, 0.6), (0.2, 1.2, 1.0))  # weight, place, width
    x, y = np.meshgrid(*2 * (np.arange(-10, 11) / 2,))
    kernel = sum(w * np.exp(-0.5 * ((x - at) ** 2 + y**2) / s**2) / s**2 for w, at, s in blobs)
    psf = PsfGrid([0, SIZE[1]], [0, SIZE[0]], np.tile(kernel / np.sum(kernel), (1, 2, 2, 1, 1)), 2, channels=("Y",))
    pixels = sum(w * BOARD.draw(SIZE, ORIGIN + at * RIGHT, TURN, CELL_PX, s) for w, at, s in blobs)
    found = detect(pixels)
    capture = Capture(pixels, np.zeros(SIZE, bool), "board.png", "")
    moved = chessboard.to_centroids(found, capture, Camera("", "", SIZE, "mono"), psf)
    truth = place(BOARD, ORIGIN, TURN, CELL_PX)
    assert moved.found["Y"].all()
    assert np.abs((found.xy_px["Y"] - truth).mean(axis=0)[0]) > 0.05
    assert np.linalg.norm(moved.xy_px["Y"] - truth, axis=1).max() < 0.02


def test_a_session_of_charuco_boards_gives_a_map(tmp_path: Path) -> None:
    """Six tilted views through a pinhole, two of them cropped by the picture."""
    focal_px, size, square = 420.0, (300, 400), 25.0
    centre = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    tilts = (
        (30, 5, 0, 0),
        (-25, 20, 8, 0),
        (10, -30, 170, 0),
        (-5, 30, -10, 0),
        (25, -15, 4, 110),
        (-20, -25, 3, -120),
    )
    rng = np.random.default_rng(0)
    for k, (a, b, c, aside_mm) in enumerate(tilts):
        turned = Rotation.from_euler("xyz", (a, b, c), degrees=True).as_matrix()
        middle = np.array([3.5, 2.0, 0.0])
        axes = square * np.column_stack([turned[:, 0], turned[:, 1], -turned @ middle])
        axes[:, 2] += [aside_mm, 0, 420]
        plane = np.array([[focal_px, 0, centre[0]], [0, focal_px, centre[1]], [0, 0, 1]]) @ axes
        pixels = BOARD.draw_tilted(size, plane, 0.7) + rng.normal(0, 0.005, size)
        assert cv2.imwrite(str(tmp_path / f"{k}.png"), np.clip(50000 * pixels, 0, 65535).astype(np.uint16))
    (tmp_path / "capture.toml").write_text(
        '[camera]\ncfa = "mono"\nblack_level = 0\nwhite_level = 65535\n'
        '[[capture]]\nkind = "charuco"\nfiles = "*.png"\ncolumns = 8\nrows = 5\nsquare_mm = 25.0\n'
    )
    cal = calibrate(tmp_path).at()
    assert not cal.provenance["flagged"]
    told = cal.provenance["summary"]["distortion"]
    assert told["views"] == 6
    assert 180 < told["points"] < 240
    assert told["rms_px"] < 0.03
    assert cal.distortion is not None
    rays = np.array([[0.1, 0.05], [-0.2, 0.1], [0.0, -0.15]])
    apart = np.diff(cal.distortion.project(rays), axis=0)
    np.testing.assert_allclose(apart, focal_px * np.diff(rays, axis=0), rtol=0.02)
