"""Corners under an asymmetric PSF come back to where the PSF's centroid puts them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.signal import fftconvolve
from scipy.special import erf

from calib import chessboard
from calib.chessboard.centroid import LARGEST_SHIFT_PX, blurred_corner, checkerboard
from psfbank.bank import PsfBank
from psfbank.flags import Flag
from psfbank.model import Camera, Capture, PsfGrid

COLUMNS, ROWS, CELL_PX, OVERSAMPLE = 7, 5, 22.0, 3
SIZE_PX = (150, 192)
ORIGIN_PX = np.array([31 + 7 / 18, 26 + 15 / 18])  # upright edges fall halfway between the points that average them
GRID = np.stack(np.meshgrid(np.arange(COLUMNS), np.arange(ROWS)), axis=-1).reshape(-1, 2)

Array = np.ndarray


def cell(turn_deg: float, skew: float = 0.0) -> tuple[Array, Array]:
    """Sides of a cell along the rows and down the columns."""
    turn = np.radians(turn_deg)
    along = CELL_PX * np.array([np.cos(turn), np.sin(turn)])
    return along, np.array([-along[1], along[0]]) + skew * along


def signs(xy_px: Array, along: Array, down: Array) -> Array:
    """+-1 checkerboard at points."""
    counts = np.floor(xy_px @ np.linalg.inv(np.stack([along, down], axis=1)).T)
    return 1.0 - 2.0 * (counts.sum(axis=-1) % 2)


def averages(xy_px: Array, along: Array, down: Array, sample_px: float, side: int = 60) -> Array:
    """Averages over square samples by many points in each."""
    at = sample_px * ((np.arange(side) + 0.5) / side - 0.5)
    offsets = np.stack(np.meshgrid(at, at), axis=-1)
    total = np.zeros(xy_px.shape[:-1])
    for offset in offsets.reshape(-1, 2):
        total += signs(xy_px + offset, along, down)
    return total / side**2


SPOTS = np.random.default_rng(0).uniform(-2 * CELL_PX, 2 * CELL_PX, (4000, 2))


def test_an_upright_checkerboard_is_averaged_exactly() -> None:
    sides = cell(0.0)
    np.testing.assert_allclose(checkerboard(SPOTS, *sides, 0.9), averages(SPOTS, *sides, 0.9), atol=0.04)


@pytest.mark.parametrize(("turn_deg", "skew"), [(4.0, 0.0), (20.0, 0.1), (-45.0, 0.0), (110.0, -0.2)])
def test_a_turned_checkerboard_is_averaged_without_bias(turn_deg: float, skew: float) -> None:
    """The profile across an edge is a ramp instead of a trapezoid's integral: never far off, and never to one side."""
    sides = cell(turn_deg, skew)
    miss = checkerboard(SPOTS, *sides, 1 / 3) - averages(SPOTS, *sides, 1 / 3)
    assert np.abs(miss).max() < 0.3
    assert np.abs(miss).mean() < 8e-3
    assert abs(miss.mean()) < 1e-3


@pytest.mark.parametrize("turn_deg", [0.0, 12.0, 40.0])
def test_a_corner_under_a_gaussian_has_its_closed_form(turn_deg: float) -> None:
    sigma_px, offset_px, reach = 0.9, np.array([0.31, -0.44]), 6
    row, col = np.mgrid[-15:16, -15:16] / OVERSAMPLE
    kernel = np.exp(-0.5 * (row**2 + col**2) / sigma_px**2)
    along, down = cell(turn_deg)
    patch = blurred_corner(kernel / kernel.sum(), OVERSAMPLE, offset_px, along, down, reach)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    from_corner = np.stack([x, y], axis=-1) - offset_px
    width = np.sqrt(2) * np.hypot(sigma_px, 1 / OVERSAMPLE / np.sqrt(12))
    expected = np.prod([erf(from_corner @ side / CELL_PX / width) for side in (along, down)], axis=0)
    assert patch.shape == (13, 13)
    np.testing.assert_allclose(patch, expected, atol=4e-3)


@cache
def centred_coma(strength: float, size: int = 27) -> Array:
    """A core with a tail down and to the right, its centroid on the array centre, three samples a pixel."""
    row, col = (np.mgrid[:size, :size] - size // 2) / OVERSAMPLE
    shift = np.zeros(2)
    for _ in range(60):
        kernel = np.zeros((size, size))
        for weight, along, sigma in ((0.65, 0.0, 0.55), (0.25, 0.9, 0.8), (0.10, 1.9, 1.0)):
            x, y = along * strength * np.array([0.8, 0.6]) - shift
            kernel += weight / sigma**2 * np.exp(-0.5 * ((col - x) ** 2 + (row - y) ** 2) / sigma**2)
        kernel /= kernel.sum()
        shift += np.array([(kernel * col).sum(), (kernel * row).sum()])
    return kernel


def uniform(kernels: Array, channels: tuple[str, ...]) -> PsfGrid:
    """The same kernels (C, K, K) all over the picture."""
    x_px, y_px = np.array([0.0, SIZE_PX[1] - 1]), np.array([0.0, SIZE_PX[0] - 1])
    return PsfGrid(x_px, y_px, np.tile(kernels[:, None, None], (1, 2, 2, 1, 1)), OVERSAMPLE, channels=channels)


def corners(turn_deg: float) -> Array:
    return ORIGIN_PX + GRID @ np.array(cell(turn_deg))


@cache
def picture(strength: float, turn_deg: float) -> Array:
    """The board on white, averaged by brute force on a fine grid and blurred by a kernel of some coma."""
    kernel = centred_coma(strength)
    half = kernel.shape[0] // 2
    y, x = (np.arange(-half, (n - 1) * OVERSAMPLE + half + 1) / OVERSAMPLE for n in SIZE_PX)
    places = np.stack(np.meshgrid(x, y), axis=-1) - ORIGIN_PX
    along, down = cell(turn_deg)
    middle = places - 0.5 * (COLUMNS - 1) * along - 0.5 * (ROWS - 1) * down
    counted = np.abs(middle @ np.linalg.inv(np.stack([along, down], axis=1)).T)
    sharp = averages(places, along, down, 1 / OVERSAMPLE, side=6)
    sharp = np.where((counted <= [(COLUMNS + 1) / 2, (ROWS + 1) / 2]).all(axis=-1), sharp, -1.0)
    return 0.45 - 0.35 * np.asarray(fftconvolve(sharp, kernel, mode="valid")[::OVERSAMPLE, ::OVERSAMPLE])


def shot(pixels: Array) -> Capture:
    return Capture(pixels, np.zeros(pixels.shape[:2], dtype=bool), "board.png", "")


MONO = Camera("", "", SIZE_PX, "mono")


def rms(miss: Array) -> float:
    return float(np.sqrt(np.mean(np.sum(miss**2, axis=-1))))


def test_a_symmetric_kernel_moves_no_corner() -> None:
    kernel = centred_coma(0.0)
    detection = chessboard.detect(shot(picture(0.0, 6.0)), MONO, COLUMNS, ROWS)
    moved = chessboard.to_centroids(detection, shot(np.zeros(SIZE_PX)), MONO, uniform(kernel[None], ("Y",)))
    assert moved.found["Y"].all()
    np.testing.assert_allclose(moved.xy_px["Y"], detection.xy_px["Y"], atol=3e-3)
    np.testing.assert_allclose(moved.xy_px["Y"], corners(6.0), atol=4e-3)


@pytest.mark.parametrize("turn_deg", [0.0, 9.0])
def test_corners_under_coma_come_back_to_the_centroid(turn_deg: float) -> None:
    kernel = centred_coma(1.0)
    seen = shot(picture(1.0, turn_deg))
    detection = chessboard.detect(seen, MONO, COLUMNS, ROWS)
    off = detection.xy_px["Y"] - corners(turn_deg)
    assert rms(off) > 0.08

    moved = chessboard.to_centroids(detection, seen, MONO, uniform(kernel[None], ("Y",)))
    assert moved.found["Y"].all()
    assert rms(moved.xy_px["Y"] - corners(turn_deg)) < 0.01


@pytest.mark.parametrize("wrong", [np.s_[::-1, ::-1], np.s_[:, ::-1], np.s_[::-1]], ids=["turned", "x", "y"])
def test_a_mirrored_kernel_does_not_bring_them_back(wrong: tuple[slice, ...]) -> None:
    kernel = centred_coma(1.0)
    seen = shot(picture(1.0, 9.0))
    detection = chessboard.detect(seen, MONO, COLUMNS, ROWS)
    moved = chessboard.to_centroids(detection, seen, MONO, uniform(kernel[wrong][None], ("Y",)))
    assert rms(moved.xy_px["Y"] - corners(9.0)) > 0.1


def test_each_colour_is_corrected_with_its_own_kernel_on_its_own_sites() -> None:
    strengths = 1.0, 0.0, 0.6
    kernels = np.stack([centred_coma(strength) for strength in strengths])
    layers = [picture(strength, 9.0) for strength in strengths]
    mosaic = layers[1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = layers[0][::2, ::2], layers[2][1::2, 1::2]
    camera = Camera("", "", SIZE_PX, "RGGB")
    detection = chessboard.detect(shot(mosaic), camera, COLUMNS, ROWS)
    moved = chessboard.to_centroids(detection, shot(mosaic), camera, uniform(kernels, ("R", "G", "B")))
    before = {c: rms(detection.xy_px[c] - corners(9.0)) for c in "RGB"}
    after = {c: rms(moved.xy_px[c] - corners(9.0)) for c in "RGB"}
    assert before["R"] > 0.1
    assert before["B"] > 0.05
    assert max(after.values()) < 0.015


def test_a_correction_keeps_all_else() -> None:
    kernel = centred_coma(1.0)
    seen = shot(picture(1.0, 0.0))
    detection = chessboard.detect(seen, MONO, COLUMNS, ROWS)
    found = np.arange(COLUMNS * ROWS) % 4 != 0
    part = chessboard.BoardDetection(
        detection.grid, detection.xy_px, {"Y": found}, detection.sigma_px, detection.blur_px, Flag.PARTIAL, "cropped"
    )
    moved = chessboard.to_centroids(part, seen, MONO, uniform(kernel[None], ("Y",)))
    np.testing.assert_array_equal(moved.found["Y"], found)
    np.testing.assert_array_equal(moved.xy_px["Y"][~found], detection.xy_px["Y"][~found])
    np.testing.assert_array_equal(moved.sigma_px["Y"], detection.sigma_px["Y"])
    assert (moved.flags, moved.reason) == (Flag.PARTIAL, "cropped")


def test_a_shift_too_large_to_be_one_is_not_believed() -> None:
    """A kernel displaced by a pixel and more tells of another lens, not of coma."""
    seen = shot(picture(0.0, 6.0))
    detection = chessboard.detect(seen, MONO, COLUMNS, ROWS)
    displaced = np.roll(centred_coma(0.0), round(1.4 * LARGEST_SHIFT_PX * OVERSAMPLE), axis=1)
    moved = chessboard.to_centroids(detection, seen, MONO, uniform(displaced[None], ("Y",)))
    assert not moved.found["Y"].any()


def test_the_kernel_of_the_place_is_used(small_bank: PsfBank) -> None:
    """Coma that points away from the middle moves opposite corners of the field in opposite ways."""
    psf = small_bank.at().psf_grid
    assert psf is not None
    camera = small_bank.camera
    grid = np.stack(np.meshgrid(np.arange(7), np.arange(5)), axis=-1).reshape(-1, 2)
    places = np.array([16.0, 16.0]) + 16.0 * grid
    detection = chessboard.BoardDetection(
        grid, {"G": places}, {"G": np.ones(35, bool)}, {"G": np.full(35, 0.01)}, {"G": np.ones(35)}, Flag.GOOD
    )
    moved = chessboard.to_centroids(detection, shot(np.zeros(camera.size_px)), camera, psf)
    shift = moved.xy_px["G"] - places
    first, last = shift[0], shift[-1]
    assert np.hypot(*first) > 0.02
    assert first @ last < -0.5 * np.hypot(*first) * np.hypot(*last)


def test_what_a_corner_is_corrected_by_does_not_depend_on_its_neighbours() -> None:
    """Cells of a tilted board shrink along it: the wide window of a large one must not reach into a small one's."""
    across, down_px = 20 + np.cumsum([0, 27, 24, 21, 18, 15, 12]), 30 + 24 * np.arange(5)
    places = np.stack(np.meshgrid(across, down_px), axis=-1).reshape(-1, 2) + 0.3

    def corrected(found: Array) -> Array:
        board = chessboard.BoardDetection(
            GRID, {"Y": places}, {"Y": found}, {"Y": np.full(35, 0.01)}, {"Y": np.ones(35)}, Flag.GOOD
        )
        psf = uniform(centred_coma(1.0)[None], ("Y",))
        return chessboard.to_centroids(board, shot(np.zeros(SIZE_PX)), MONO, psf).xy_px["Y"]

    together = corrected(np.ones(35, dtype=bool))
    for alone in range(0, 35, 3):
        np.testing.assert_array_equal(corrected(np.arange(35) == alone)[alone], together[alone])
