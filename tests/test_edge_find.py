"""Edges drawn in closed form are found where they are, turned as they are; a picture without any says why."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from skimage.data import camera

from calib.edge import FOR_SFR, Edge, edge_in_region, find_edges
from psfbank.errors import CaptureUnusable, NoTargetFound
from psfbank.model import Camera, Capture
from psfbank.sensor import cfa_sites

SIZE_PX = (150, 170)
MIDDLE_PX = np.array([82.3, 74.6])
SIDE_PX, BLUR_PX, NOISE = 62.0, 0.8, 0.004
DARK, BRIGHT = 0.06, 0.62
SHARED = Path(os.environ.get("PSFBANK_SHARED", Path(__file__).parents[2] / "shared"))
RECTANGLES = sorted((SHARED / "real" / "mtf_rectangles").glob("*.png"))
REAL_EDGES = SHARED / "real" / "slanted_edge"
CHART_PX = (250, 250)

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
        assert edge.length_px == pytest.approx(SIDE_PX, abs=2)
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


def gaussian_px(mtf50_cpp: float) -> float:
    """The width of a Gaussian that halves the contrast at a frequency."""
    return float(np.sqrt(np.log(2) / 2) / (np.pi * mtf50_cpp))


def convex(corners_px: Array, blur_px: float, size_px: tuple[int, int] = CHART_PX) -> Array:
    """A polygon under a Gaussian blur: exact where only one side is near."""
    row, column = np.mgrid[: size_px[0], : size_px[1]].astype(float)
    inside = np.ones(size_px)
    for first, second in zip(corners_px, np.roll(corners_px, -1, axis=0), strict=True):
        normal = np.array([first[1] - second[1], second[0] - first[0]]) / np.hypot(*(second - first))
        inside *= ndtr((normal[0] * (column - first[0]) + normal[1] * (row - first[1])) / blur_px)
    return inside


def regular(sides: int, middle_px: tuple[float, float] | Array, radius_px: float, turn_deg: float) -> Array:
    angles = np.radians(turn_deg) + 2 * np.pi * np.arange(sides) / sides
    return np.array(middle_px) + radius_px * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def sides_of(polygons: list[Array], bright_inside: bool) -> list[tuple[Array, Array, float]]:
    """Both ends of every side, and the angle of its normal to the bright side."""
    sides = []
    for polygon in polygons:
        for first, second in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            inward = float(np.arctan2(second[0] - first[0], first[1] - second[1]))
            sides.append((first, second, inward if bright_inside else inward + np.pi))
    return sides


def compared(edges: tuple[Edge, ...], sides: list[tuple[Array, Array, float]]) -> tuple[list[int], Array, Array]:
    """How often each side was found, and how far off, px and rad; every edge must be one of the sides."""
    count, offset, turn = [0] * len(sides), [], []
    for edge in edges:
        for k, (first, second, angle) in enumerate(sides):
            length = np.hypot(*(second - first))
            along = (edge.xy_px - first) @ (second - first) / length
            off = (edge.xy_px - first) @ [np.cos(angle), np.sin(angle)]
            if abs(off) < 2 and 0 < along < length and abs(wrapped(edge.angle_rad - angle)) < 0.1:
                count[k] += 1
                offset.append(off)
                turn.append(wrapped(edge.angle_rad - angle))
                break
        else:
            pytest.fail(f"no side of the chart: {edge}")
    return count, np.array(offset), np.array(turn)


def chart_capture(light: Array, cfa: str, noise: float, seed: int = 0) -> tuple[Capture, Camera]:
    strength = {"mono": np.ones(1), "RGB": np.array([0.5, 1.0, 0.7])}.get(cfa)
    if cfa == "RGB":
        light = light[..., None] * strength
    elif cfa != "mono":
        light = light * np.array([0.5, 1.0, 0.7])[cfa_sites(cfa, light.shape)]
    pixels = light + np.random.default_rng(seed).normal(0, noise, light.shape)
    camera = Camera("Maker", "Model", pixels.shape[:2], cfa, pitch_um=1.4)
    return Capture(pixels, np.zeros(pixels.shape[:2], dtype=bool), "chart.png", "0" * 64), camera


@pytest.mark.parametrize("mtf50_cpp", [0.05, 0.08, 0.3, 0.75])
@pytest.mark.parametrize("cfa", ["mono", "RGGB", "RGB"])
@pytest.mark.parametrize("bright_inside", [False, True])
def test_every_side_of_a_grid_of_squares_is_found_once(mtf50_cpp: float, cfa: str, bright_inside: bool) -> None:
    rng = np.random.default_rng(round(100 * mtf50_cpp))
    blur = gaussian_px(mtf50_cpp)
    places = 45 + 78 * np.stack(np.meshgrid(range(3), range(3)), axis=-1).reshape(-1, 2) + rng.uniform(-1, 1, (9, 2))
    squares = [regular(4, place, 34.0, 45 + rng.uniform(3, 42)) for place in places]
    ink = sum(convex(s, blur) for s in squares)
    light = 0.1 + 0.5 * ink if bright_inside else 0.6 - 0.5 * ink
    edges = find_edges(*chart_capture(light, cfa, 0.05 * 0.5), FOR_SFR)
    count, offset, turn = compared(edges, sides_of(squares, bright_inside))
    assert count == [1] * 36
    assert np.sqrt(np.mean(offset**2)) < 0.03 + 0.02 * blur
    assert np.abs(offset).max() < 0.06 + 0.07 * blur
    assert np.sqrt(np.mean(turn**2)) < 0.002 + 0.004 * blur
    for edge in edges:
        assert edge.length_px == pytest.approx(34 * np.sqrt(2), abs=1.5 + 1.2 * blur)


def test_sides_of_any_polygon_count() -> None:
    polygons = [
        regular(3, (60.0, 62.0), 48.0, 12),
        regular(5, (180.0, 65.0), 50.0, 5),
        regular(6, (70.0, 180.0), 48.0, 4),
    ]
    light = 0.6 - 0.5 * sum(convex(p, 0.8) for p in polygons)
    arrow = [regular(3, (185.0, 180.0), 55.0, 20), regular(3, (150.0, 167.0), 24.0, 20)]  # a notch makes it concave
    light = light - 0.5 * convex(arrow[0], 0.8) * (1 - convex(arrow[1], 0.8))
    edges = find_edges(*chart_capture(light, "mono", 0.01), FOR_SFR)
    of_whole = sides_of(polygons, False)
    whole = [e for e in edges if e.xy_px[0] < 125 or e.xy_px[1] < 120]
    count, offset, turn = compared(tuple(whole), of_whole)
    assert count == [1] * len(of_whole)
    assert np.abs(offset).max() < 0.03
    assert np.abs(turn).max() < 3e-3
    notched = sides_of([arrow[0]], False) + sides_of([arrow[1]], True)
    count, _, _ = compared(tuple(e for e in edges if e not in whole), notched)
    assert sum(c > 0 for c in count) >= 4
    assert max(count) <= 2, "a side that the notch parts is two"


def test_a_chessboard_shows_its_sides_between_the_crossings() -> None:
    row, column = np.mgrid[: CHART_PX[0], : CHART_PX[1]].astype(float)
    turn, pitch, blur = np.radians(7.0), 40.0, 0.7
    u, v = np.cos(turn) * column + np.sin(turn) * row, np.cos(turn) * row - np.sin(turn) * column

    def stripes(w: Array) -> Array:
        return sum((2 * ndtr((w - pitch * k) / blur) - 1) * (-1) ** k for k in range(-8, 9))

    edges = find_edges(*chart_capture(0.35 + 0.25 * stripes(u) * stripes(v), "RGGB", 0.01), FOR_SFR)
    whole = [e for e in edges if e.length_px > 30 and np.all(np.abs(e.xy_px - 124.5) < 95)]
    assert len(whole) > 35
    across = np.array([e.xy_px @ [np.cos(turn), np.sin(turn)] for e in whole]) / pitch
    down = np.array([e.xy_px @ [-np.sin(turn), np.cos(turn)] for e in whole]) / pitch
    upright = np.array([abs(np.cos(e.angle_rad - turn)) > 0.7 for e in whole])
    place, beside = np.where(upright, across, down), np.where(upright, down, across)
    np.testing.assert_allclose(place, np.round(place), atol=0.05 / pitch)
    np.testing.assert_allclose(beside - np.floor(beside), 0.5, atol=0.06)
    names = set(zip(upright, np.round(place), np.floor(beside), strict=True))
    assert len(names) == len(whole), "each once"


def test_low_contrast_beside_high_is_found() -> None:
    squares = [regular(4, (60.0 + 125 * i, 60.0 + 125 * j), 46.0, 50) for i in range(2) for j in range(2)]
    levels = [0.15, 0.4, 0.6, 0.67]
    light = 0.75 - sum((0.75 - level) * convex(s, 0.8) for level, s in zip(levels, squares, strict=True))
    edges = find_edges(*chart_capture(light, "mono", 0.003), FOR_SFR)
    count, _, _ = compared(edges, sides_of(squares, False))
    assert count == [1] * 16
    least = min(e.contrast for e in edges)
    assert least == pytest.approx(0.08 / 1.42, abs=0.005)
    assert len(find_edges(*chart_capture(light, "mono", 0.003))) == 8, "a PSF's evidence has contrast"


def test_what_is_no_straight_edge_is_none() -> None:
    row, column = np.mgrid[: CHART_PX[0], : CHART_PX[1]].astype(float)
    x, y = column - 124.3, row - 125.1
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    star = 0.35 + 0.25 * np.tanh(radius * np.sin(36 * angle) / 36) * (radius < 115)
    disc = 0.6 - 0.5 * ndtr((50 - radius) / 0.8)
    thin = 0.6 - 0.5 * (ndtr((0.2 * y + x + 2) / 0.8) - ndtr((0.2 * y + x - 2) / 0.8))
    for light in (star, disc, thin):
        with pytest.raises(NoTargetFound, match=r"chart.png: .*straight runs.*Focus"):
            find_edges(*chart_capture(light, "mono", 0.01), FOR_SFR)


def test_a_photograph_gives_a_psf_almost_nothing() -> None:
    photo = camera() / 255.0
    assert len(find_edges(*chart_capture(photo, "mono", 0.0))) < 12


def test_a_picture_without_numbers_is_refused() -> None:
    light = shaded(square(5.0))
    light[40, 40] = np.nan
    with pytest.raises(CaptureUnusable, match="1 pixels are not numbers"):
        find_edges(*capture_of(light, "mono"))


def test_pictures_of_a_few_pixels_show_none() -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 1), (1, 40), (3, 3), (4, 300)):
        with pytest.raises(NoTargetFound):
            find_edges(*chart_capture(rng.uniform(0, 1, size), "mono", 0.0), FOR_SFR)


def half_plane(size_px: tuple[int, int], angle_rad: float, offset_px: float, blur_px: float) -> Array:
    """Bright where the normal points to; the edge passes the picture's middle at a distance."""
    row, column = np.mgrid[: size_px[0], : size_px[1]].astype(float)
    x, y = column - (size_px[1] - 1) / 2, row - (size_px[0] - 1) / 2
    return DARK + (BRIGHT - DARK) * ndtr((np.cos(angle_rad) * x + np.sin(angle_rad) * y - offset_px) / blur_px)


@given(
    angle_deg=st.one_of(st.sampled_from([0.0, 45.0, 90.0, -135.0, 180.0]), st.floats(-180, 180)),
    offset_px=st.floats(-4, 4),
    mtf50_cpp=st.floats(0.05, 0.75),
    site=st.sampled_from(["mono", "R", "G"]),
    seed=st.integers(0, 999),
)
def test_a_small_region_shows_its_edge_at_any_angle(
    angle_deg: float, offset_px: float, mtf50_cpp: float, site: str, seed: int
) -> None:
    size, angle, blur = (28, 26), np.radians(angle_deg), gaussian_px(mtf50_cpp)
    noise = np.random.default_rng(seed).normal(0, 0.04 * (BRIGHT - DARK), size)
    use = np.ones(size, dtype=bool) if site == "mono" else np.asarray(cfa_sites("RGGB", size) == "RG".index(site))
    edge = edge_in_region(half_plane(size, angle, offset_px, blur) + noise, use, np.zeros(size, dtype=bool))
    middle = np.array([12.5, 13.5]) + offset_px * np.array([np.cos(angle), np.sin(angle)])
    assert edge.frame(middle)[0] == pytest.approx(0, abs=1.2)
    assert wrapped(edge.angle_rad - angle) == pytest.approx(0, abs=0.15)
    assert edge.length_px > 24
    ends = edge.at(np.array([-0.5, 0.5]) * edge.length_px)
    assert np.all(np.abs(ends - [12.5, 13.5]).max(axis=1) > 10), "it ends where it leaves the region"


def test_a_region_is_measured_alone_and_told_in_the_pictures_px() -> None:
    size = (200, 300)
    light = half_plane(size, 0.1, 0.0, 0.7)
    around = light.copy()
    around[:60], around[120:], around[:, :120], around[:, 190:] = 0.3, 0.9, 0.1, np.nan
    everywhere = np.ones(size, dtype=bool)
    whole = edge_in_region(light, everywhere, ~everywhere)
    alone = edge_in_region(around, everywhere, ~everywhere, (120, 60, 70, 60))
    assert whole.frame(alone.xy_px)[0] == pytest.approx(0, abs=0.01)
    assert alone.angle_rad == pytest.approx(0.1, abs=1e-3)
    assert alone.length_px == pytest.approx(60 / np.cos(0.1), abs=0.1)
    assert whole.length_px == pytest.approx(200 / np.cos(0.1), abs=0.1)
    assert alone.clear_px.max() == pytest.approx(30, abs=8), "to the region's border"


def test_of_several_edges_a_region_gives_the_longest() -> None:
    light = 0.6 - 0.5 * convex(np.array([[30.0, 60.0], [200.0, 50.0], [203.0, 110.0], [33.0, 120.0]]), 0.8)
    everywhere = np.ones(CHART_PX, dtype=bool)
    edge = edge_in_region(light, everywhere, ~everywhere)
    assert edge.length_px == pytest.approx(170, abs=5)
    upright = edge_in_region(light, everywhere, ~everywhere, (180, 40, 50, 90))
    assert abs(np.cos(upright.angle_rad)) > 0.9


@pytest.mark.parametrize(
    ("xywh", "words"),
    [
        ((40, 0, 20, 20), "40,0,20,20 is empty or does not lie in the picture. Give x,y,width,height within 0,0,50,50"),
        ((-1, 0, 20, 20), "does not lie in the picture"),
        ((5, 5, 0, 20), "is empty"),
        ((5, 5, 1, 1), "no straight edge"),
        (None, "no straight edge.*15 px or longer and of contrast 0.04 or more"),
    ],
)
def test_a_region_without_an_edge_says_so(xywh: tuple[int, int, int, int] | None, words: str) -> None:
    everywhere = np.ones((50, 50), dtype=bool)
    with pytest.raises(NoTargetFound, match=f"flat.png: .*{words}"):
        edge_in_region(np.full((50, 50), 0.4), everywhere, ~everywhere, xywh, where="flat.png")


def test_a_region_with_a_pixel_that_is_no_number_is_refused() -> None:
    everywhere = np.ones((50, 50), dtype=bool)
    light = half_plane((50, 50), 0.1, 0.0, 0.7)
    light[7, 7] = np.inf
    with pytest.raises(CaptureUnusable, match=r"bad.png: 1 pixels are not numbers"):
        edge_in_region(light, everywhere, ~everywhere, where="bad.png")


@pytest.mark.skipif(not RECTANGLES, reason="the rectangles are not here (PSFBANK_SHARED)")
def test_the_rectangles_show_four_edges_each() -> None:
    for path in RECTANGLES:
        light = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 65535.0
        mtf50 = float(path.stem.split("_m")[1].split("_")[0])
        edges = find_edges(*chart_capture(light, "mono", 0.0), FOR_SFR)
        assert len(edges) == 4, path.name
        assert {int(np.round(e.angle_rad / (np.pi / 2))) % 4 for e in edges} == {0, 1, 2, 3}
        for edge in edges:
            assert edge.blur_px == pytest.approx(gaussian_px(mtf50), rel=0.06)


@pytest.mark.skipif(not REAL_EDGES.exists(), reason="the real edges are not here (PSFBANK_SHARED)")
@pytest.mark.parametrize("name", ["asplund_f2.png", "asplund_f2_8.png", "burns_test_edge1_mono.tif"])
def test_real_edges_are_found_in_the_whole_picture(name: str) -> None:
    stored = cv2.imread(str(REAL_EDGES / name), cv2.IMREAD_UNCHANGED)
    light = (stored if stored.ndim == 2 else stored[..., 1]) / 255.0
    edge = edge_in_region(light, np.ones(light.shape, dtype=bool), light >= 1)
    assert edge.length_px > min(light.shape) - 2
    assert edge.scatter < 0.05
    assert 0.35 < edge.blur_px < 0.75
