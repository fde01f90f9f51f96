"""Chessboards rendered in closed form: corners, their sigma, colours, orientation, crops and clipping."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from calib import chessboard
from calib.chessboard import find
from psfbank.errors import NoTargetFound
from psfbank.flags import Flag
from psfbank.model import Camera, Capture

COLUMNS, ROWS, CELL_PX, BLUR_PX = 8, 5, 24.0, 0.8
SIZE = (220, 300)
ORIGIN = np.array([58.3, 52.6])
TURN = np.radians(7.0)
STEP = np.array([0.2, 0.0])
GRID = np.stack(np.meshgrid(np.arange(COLUMNS), np.arange(ROWS)), axis=-1).reshape(-1, 2)


def corners(origin: np.ndarray = ORIGIN, turn: float = TURN, cell: float = CELL_PX) -> np.ndarray:
    along = np.array([np.cos(turn), np.sin(turn)]) * cell
    return origin + GRID @ np.array([along, [-along[1], along[0]]])


def board(
    origin: np.ndarray = ORIGIN,
    turn: float = TURN,
    blur: float = BLUR_PX,
    size: tuple = SIZE,
    cell: float = CELL_PX,
) -> np.ndarray:
    """Dark cells 0.1 on white 0.8 under a Gaussian blur: separable along the board's axes, so exact."""
    row, col = np.indices(size)
    x, y = col - origin[0], row - origin[1]
    across = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    inside, wave = [], []
    for at, count in zip(across, (COLUMNS, ROWS), strict=True):
        step = [0.5 * (1 + erf((at - k * cell) / (np.sqrt(2) * blur))) for k in range(-1, count + 1)]
        inside.append(step[0] - step[-1])
        wave.append(step[0] + sum(2 * (-1) ** k * s for k, s in enumerate(step[1:-1], 1)) + (-1) ** count * -step[-1])
    # the cell before the first corner is dark, and so is the one diagonally after it
    return 0.8 - 0.35 * (inside[0] * inside[1] + wave[0] * wave[1])


def capture(pixels: np.ndarray, saturated: np.ndarray | None = None) -> Capture:
    return Capture(pixels, np.zeros(pixels.shape[:2], bool) if saturated is None else saturated, "board.png", "")


def mono(size: tuple[int, int] = SIZE) -> Camera:
    return Camera("", "", size, "mono")


def noisy(pixels: np.ndarray, seed: int, sigma: float = 0.008) -> np.ndarray:
    return pixels + np.random.default_rng(seed).normal(0, sigma, pixels.shape)


def test_corners_without_noise_are_exact() -> None:
    found = chessboard.detect(capture(board()), mono(), COLUMNS, ROWS)
    assert found.flags == Flag.GOOD
    assert found.found["Y"].all()
    np.testing.assert_array_equal(found.grid, GRID)
    np.testing.assert_allclose(found.xy_px["Y"], corners(), atol=2e-3)
    np.testing.assert_allclose(found.blur_px["Y"], BLUR_PX, atol=0.01)


def test_noise_scatters_corners_as_much_as_their_sigma_says() -> None:
    pulls, misses = [], []
    for seed in range(12):
        found = chessboard.detect(capture(noisy(board(), seed)), mono(), COLUMNS, ROWS)
        miss = found.xy_px["Y"] - corners()
        pulls.append(miss / found.sigma_px["Y"][:, None])
        misses.append(miss)
    assert 0.85 < np.std(pulls) < 1.15
    assert np.sqrt(np.mean(np.square(misses))) < 0.007  # of a coordinate; gradient methods reach 0.02
    assert np.abs(np.mean(misses, axis=(0, 1))).max() < 0.002


def test_small_cells_at_any_turn_are_measured_to_eight_thousandths_of_a_pixel() -> None:
    """Cells of 16 px, blur 0.8 px, noise of 2 / 255: the Cramer-Rao bound of such a corner is 0.006 px."""
    rng, misses = np.random.default_rng(3), []
    for _ in range(12):
        turn, origin = rng.uniform(0, 2 * np.pi), 99.5 + rng.uniform(-1, 1, 2)
        origin = origin - (corners(np.zeros(2), turn, 16.0).mean(axis=0))
        pixels = board(origin, turn, size=(200, 200), cell=16.0) + rng.normal(0, 2 / 255, (200, 200))
        found = chessboard.detect(capture(pixels), mono((200, 200)), COLUMNS, ROWS)
        assert found.found["Y"].all()
        off = found.xy_px["Y"][:, None] - corners(origin, turn, 16.0)
        misses.append(np.linalg.norm(off, axis=2).min(axis=1))
    assert np.mean(misses) < 0.008


def test_each_colour_is_measured_on_its_own_sites() -> None:
    moved = {"R": np.array([0.4, 0.0]), "G": np.zeros(2), "B": np.array([0.0, -0.3])}
    layers = {c: board(ORIGIN + shift) * level for (c, shift), level in zip(moved.items(), (0.6, 1, 0.7), strict=True)}
    mosaic = layers["G"].copy()
    mosaic[::2, 1::2], mosaic[1::2, ::2] = layers["R"][::2, 1::2], layers["B"][1::2, ::2]
    camera = Camera("", "", SIZE, "GRBG")
    found = chessboard.detect(capture(noisy(mosaic, 1, 0.002)), camera, COLUMNS, ROWS)
    assert list(found.xy_px) == ["R", "G", "B"]
    for channel, shift in moved.items():
        assert found.found[channel].all()
        np.testing.assert_allclose(found.xy_px[channel], corners(ORIGIN + shift), atol=0.03)
        np.testing.assert_allclose((found.xy_px[channel] - corners()).mean(axis=0), shift, atol=0.003)


def test_colour_pictures_are_measured_layer_by_layer() -> None:
    pixels = np.stack([board(ORIGIN + STEP), board(), board(ORIGIN - STEP)], axis=-1)
    found = chessboard.detect(capture(pixels), Camera("", "", SIZE, "RGB"), COLUMNS, ROWS)
    np.testing.assert_allclose((found.xy_px["R"] - found.xy_px["B"]).mean(axis=0), [0.4, 0], atol=2e-3)


def test_an_even_by_odd_board_is_numbered_from_the_same_corner_upside_down() -> None:
    """Half a turn of the picture moves every corner, and none changes its number."""
    upright = chessboard.detect(capture(board()), mono(), COLUMNS, ROWS)
    turned = chessboard.detect(capture(board()[::-1, ::-1]), mono(), COLUMNS, ROWS)
    np.testing.assert_allclose(turned.xy_px["Y"], np.array(SIZE[::-1]) - 1 - upright.xy_px["Y"], atol=2e-3)


def test_the_numbering_is_never_mirrored() -> None:
    for turn in np.radians([0, 60, 100, 170, 250]):
        size = (300, 300)
        along = np.array([np.cos(turn), np.sin(turn)]) * CELL_PX
        middle = np.array([(COLUMNS - 1) / 2, (ROWS - 1) / 2]) @ np.array([along, [-along[1], along[0]]])
        pixels = board(np.array([149.5, 149.5]) - middle, turn, size=size)
        grid = chessboard.detect(capture(pixels), mono(size), COLUMNS, ROWS).xy_px["Y"].reshape(ROWS, COLUMNS, 2)
        right, down = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
        assert right[0] * down[1] - right[1] * down[0] > 0


@pytest.mark.parametrize("longest", [150, 300, 450])
def test_looking_at_another_scale_moves_no_corner(monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    """Half a pixel is lost where pixel centres are taken for pixel corners."""
    monkeypatch.setattr(find, "FIND_PX", longest)
    located = find.find_board(board().astype(np.float32), COLUMNS, ROWS)
    assert located is not None
    near = find.oriented(located).reshape(-1, 2)
    assert np.abs((near - corners()).mean(axis=0)).max() < 0.1


def test_binomial_luminance_is_flat_on_a_coloured_mosaic() -> None:
    mosaic = np.tile(np.array([[0.2, 0.6], [0.6, 0.4]], np.float32), (8, 8))
    np.testing.assert_allclose(find.luminance(mosaic, "RGGB"), 0.45, atol=1e-6)


def test_a_cropped_board_is_flagged_and_its_rectangle_measured() -> None:
    cut = int(corners()[:, 0].max() - 1.6 * CELL_PX)
    found = chessboard.detect(capture(noisy(board(), 2)[:, :cut]), mono((SIZE[0], cut)), COLUMNS, ROWS)
    assert Flag.PARTIAL in found.flags
    assert str(COLUMNS) in found.reason
    seen = found.xy_px["Y"][found.found["Y"]]
    assert len(seen) >= 0.3 * COLUMNS * ROWS
    nearest = np.linalg.norm(seen[:, None] - corners(), axis=2).min(axis=1)
    assert nearest.max() < 0.1


@pytest.mark.parametrize("pixels", [np.full(SIZE, 0.5), np.zeros(SIZE), noisy(np.full(SIZE, 0.5), 0)])
def test_no_board_is_said_in_words(pixels: np.ndarray) -> None:
    with pytest.raises(NoTargetFound, match=r"board\.png: no chessboard of 8 x 5"):
        chessboard.detect(capture(pixels), mono(), COLUMNS, ROWS)


@pytest.mark.parametrize("size", [(7, 5), (6, 4), (8, 4), (5, 5), (4, 3)])
def test_a_larger_board_is_not_taken_for_a_smaller_one(size: tuple[int, int]) -> None:
    """OpenCV finds parts of it, or every other corner."""
    with pytest.raises(NoTargetFound, match=f"a chessboard of 8 x 5 inner corners or more, not of {size[0]} x"):
        chessboard.detect(capture(noisy(board(), 0)), mono(), *size)


def test_a_smaller_board_that_ends_in_view_is_a_part_with_a_doubt() -> None:
    size = (300, 380)
    pixels = board(ORIGIN + 40, size=size)
    found = chessboard.detect(capture(noisy(pixels, 0)), mono(size), COLUMNS + 1, ROWS + 1)
    assert found.flags == Flag.PARTIAL
    assert found.reason.startswith("8 x 5 corners of 9 x 6 in view, though it ends inside the picture: check columns")


def test_the_same_picture_gives_the_same_corners() -> None:
    """OpenCV's detector draws lots."""
    answers = [find.find_board(noisy(board(), 0), 6, 4) for _ in range(4)]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


def test_a_blur_that_runs_cells_together_is_flagged() -> None:
    found = chessboard.detect(capture(board(blur=4.0)), mono(), COLUMNS, ROWS)
    assert Flag.UNSHARP in found.flags
    assert "blur of 4.0 px in cells of 24 px" in found.reason


def test_a_board_in_clipped_light_is_unusable() -> None:
    saturated = np.zeros(SIZE, bool)
    for x, y in np.rint(corners()).astype(int):
        saturated[y - 9 : y, x - 9 : x + 9] = True
    found = chessboard.detect(capture(board(), saturated), mono(), COLUMNS, ROWS)
    assert found.flags == Flag.SATURATED | Flag.UNUSABLE
    assert found.reason == "light about 40 of 40 corners is clipped in Y; 0 of 40 corners measurable in Y"


def test_a_corner_that_clips_on_one_side_is_rejected() -> None:
    saturated = np.zeros(SIZE, bool)
    x, y = corners()[10]
    saturated[int(y) - 9 : int(y) - 1, int(x) - 9 : int(x) + 10] = True
    found = chessboard.detect(capture(board(), saturated), mono(), COLUMNS, ROWS)
    assert not found.found["Y"][10]
    assert found.found["Y"].sum() == COLUMNS * ROWS - 1


def test_even_clipping_keeps_a_corner_in_its_place() -> None:
    """White cells blown out alike leave a corner its point symmetry."""
    clipped = np.minimum(board(), 0.55)
    found = chessboard.detect(capture(clipped, clipped >= 0.55), mono(), COLUMNS, ROWS)
    inner = (GRID > 0).all(axis=1) & (GRID < [COLUMNS - 1, ROWS - 1]).all(axis=1)
    assert found.found["Y"][inner].all()
    np.testing.assert_allclose(found.xy_px["Y"][inner], corners()[inner], atol=0.02)


def test_a_wrong_seed_is_not_called_good() -> None:
    """Halfway along an edge there is no corner to fit."""
    step = np.tile([[CELL_PX, 0.0]], (2, 1)), np.tile([[0.0, CELL_PX]], (2, 1))
    pixels = board(np.array([60.0, 60.0]), 0.0)
    seeds = np.array([[60.0, 60.0], [60.0 + CELL_PX / 2, 60.0]])
    fits = chessboard.fit_corners(pixels, np.ones(SIZE, bool), seeds, *step)
    assert fits.good.tolist() == [True, False]


def test_detections_become_padded_corners() -> None:
    whole = chessboard.detect(capture(board()), mono(), COLUMNS, ROWS)
    joined, sigma = chessboard.to_corners([whole, whole], 30.0, "Y")
    assert joined.found.shape == sigma.shape == (2, COLUMNS * ROWS)
    np.testing.assert_allclose(joined.object_mm[0], GRID * 30.0)
    np.testing.assert_allclose(joined.image_px[1], corners(), atol=2e-3)
