"""Edges drawn in closed form are found where they are, turned as they are; a picture without any says why."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr

from calib.edge import Edge, find_edges
from psfbank.errors import NoTargetFound
from psfbank.model import Camera, Capture
from psfbank.sensor import cfa_sites

SIZE_PX = (150, 170)
MIDDLE_PX = np.array([82.3, 74.6])
SIDE_PX, BLUR_PX, NOISE = 62.0, 0.8, 0.004
DARK, BRIGHT = 0.06, 0.62

Array = npt.NDArray[np.float64]


def grid() -> tuple[Array, Array]:
    row, column = np.mgrid[: SIZE_PX[0], : SIZE_PX[1]].astype(float)
    return column, row


def square(turn_deg: float, side_px: float = SIDE_PX, middle_px: Array = MIDDLE_PX) -> Array:
    """Share of dark under a Gaussian blur: exact, as a square's blur separates along its sides."""
    x, y = grid()
    cos, sin = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    x, y = x - middle_px[0], y - middle_px[1]
    sides = (cos * x + sin * y, cos * y - sin * x)
    one, other = (ndtr((d + side_px / 2) / BLUR_PX) - ndtr((d - side_px / 2) / BLUR_PX) for d in sides)
    return one * other


def capture_of(light: Array, cfa: str, noise: float = NOISE, seed: int = 0) -> tuple[Capture, Camera]:
    """Colours of different strength, through a mosaic."""
    strength = np.array([0.5, 1.0, 0.7])[cfa_sites(cfa, SIZE_PX)] if cfa != "mono" else 1.0
    pixels = strength * light + np.random.default_rng(seed).normal(0, noise, SIZE_PX)
    camera = Camera("Maker", "Model", SIZE_PX, cfa, pitch_um=1.4)
    return Capture(pixels, pixels >= 1, "edge.png", "0" * 64), camera


def shaded(dark: Array) -> Array:
    """Ink and paper, lit a little more at the right."""
    return (BRIGHT - (BRIGHT - DARK) * dark) * (1 + 5e-4 * (grid()[0] - MIDDLE_PX[0]))


def wrapped(angle_rad: Array) -> Array:
    return np.angle(np.exp(1j * angle_rad))


def errors(edges: tuple[Edge, ...], turn_deg: float) -> tuple[Array, Array]:
    """How far, px, each edge lies beyond the true side that its normal belongs to, and how far it is turned, rad."""
    offsets, turns = [], []
    for edge in edges:
        quarter = np.round((edge.angle_rad - np.radians(turn_deg)) / (np.pi / 2))
        true = np.radians(turn_deg) + quarter * np.pi / 2
        outward = np.array([np.cos(true), np.sin(true)])
        offsets.append((edge.xy_px - MIDDLE_PX) @ outward - SIDE_PX / 2)
        turns.append(wrapped(edge.angle_rad - true))
    return np.array(offsets), np.array(turns)


@pytest.mark.parametrize("cfa", ["RGGB", "GBRG", "mono"])
@pytest.mark.parametrize("turn_deg", [3.0, 5.0, 12.0, 27.0, 40.0])
def test_a_square_shows_four_edges_where_they_are(turn_deg: float, cfa: str) -> None:
    edges = find_edges(*capture_of(shaded(square(turn_deg)), cfa))
    assert len(edges) == 4
    offset, turn = errors(edges, turn_deg)
    assert np.abs(offset).max() < 0.02
    assert np.abs(turn).max() < 1.5e-3
    assert np.sqrt(np.mean(turn**2)) < 8e-4
    quarters = {int(np.round((e.angle_rad - np.radians(turn_deg)) / (np.pi / 2))) % 4 for e in edges}
    assert quarters == {0, 1, 2, 3}, "normals point out of the dark square, each its own way"
    for edge in edges:
        assert edge.contrast == pytest.approx((BRIGHT - DARK) / (BRIGHT + DARK), abs=0.01)
        assert edge.blur_px == pytest.approx(BLUR_PX, abs=0.05)
        assert edge.length_px == pytest.approx(SIDE_PX, abs=6)
        assert abs(edge.bend_per_px) < 5e-4


def test_errors_are_as_large_as_is_said() -> None:
    ratios = []
    for seed in range(12):
        edges = find_edges(*capture_of(shaded(square(8.0)), "mono", seed=seed))
        offset, turn = errors(edges, 8.0)
        ratios += [(o / e.sigma_px, t / e.sigma_rad) for o, t, e in zip(offset, turn, edges, strict=True)]
        assert max(e.sigma_rad for e in edges) < 5e-4
        assert max(e.sigma_px for e in edges) < 0.01
    spread = np.sqrt(np.mean(np.square(ratios), axis=0))
    assert (spread > 0.6).all()
    assert (spread < 1.5).all()


@pytest.mark.parametrize(
    ("light", "words"),
    [
        (np.full(SIZE_PX, 0.5), "no straight edge between a dark and a bright"),
        (2.0 * shaded(square(5.0)), "clipped.*Expose shorter"),
        (shaded(square(5.0, side_px=20.0)), "too short"),
    ],
)
def test_a_picture_without_edges_says_why(light: Array, words: str) -> None:
    capture, camera = capture_of(np.minimum(light, 1.0), "mono", noise=0.0)
    with pytest.raises(NoTargetFound, match=f"edge.png: .*({words})"):
        find_edges(capture, camera)


def test_a_black_picture_shows_none() -> None:
    capture, camera = capture_of(np.zeros(SIZE_PX), "RGGB")
    with pytest.raises(NoTargetFound):
        find_edges(capture, camera)


def test_a_colour_picture_is_measured_in_green() -> None:
    green, elsewhere = shaded(square(10.0)), shaded(square(10.0, middle_px=MIDDLE_PX + 0.5))
    pixels = np.stack([elsewhere, green, elsewhere], axis=-1)
    capture = Capture(pixels, np.zeros(SIZE_PX, dtype=bool), "edge.png", "0" * 64)
    edges = find_edges(capture, Camera("Maker", "Model", SIZE_PX, "RGB", pitch_um=1.4))
    assert np.abs(errors(edges, 10.0)[0]).max() < 0.01


def test_how_clear_an_edge_is_counts_neighbours_other_sides_and_the_border() -> None:
    alone = find_edges(*capture_of(shaded(square(4.0)), "mono"))
    for edge in alone:
        middle = edge.clear_px[np.abs(edge.along_px) < 1].max()
        assert middle == pytest.approx(29.0, abs=3.0), "half a side to the next corners"
        ends = edge.clear_px[[0, -1]]
        assert (ends < 5).all()
    crowd = square(4.0, side_px=44.0, middle_px=np.array([60.0, 74.6]))
    crowd = crowd + square(4.0, side_px=44.0, middle_px=np.array([116.0, 78.5]))
    facing = [e for e in find_edges(*capture_of(shaded(crowd), "mono")) if 75 < e.xy_px[0] < 105]
    assert len(facing) == 4 or len(facing) == 2
    inner = [e for e in facing if abs(np.cos(e.angle_rad)) > 0.9]
    assert len(inner) == 2
    for edge in inner:
        assert edge.clear_px.max() == pytest.approx(12.0, abs=2.0)
