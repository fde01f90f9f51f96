"""Sheets, drawings, and the formats that they are written in."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.prints.boards import charuco_chart, chessboard_chart
from calib.prints.chart import Chart, capture_entry
from calib.prints.drawing import Drawing, Label, Shapes, cell_rectangles, fitting_size, number, rectangles
from calib.prints.patterns import edges_chart, noise_chart
from calib.prints.pdf import pdf_of
from calib.prints.points import points_chart
from calib.prints.raster import rasterise
from calib.prints.save import save_drawing, save_pattern
from calib.prints.screens import screens
from calib.prints.sheet import PAGES_MM, Sheet, display, page
from calib.prints.svg import svg_of
from calib.targets import read_pattern
from psfbank.errors import TargetError
from psfbank.isp import srgb_decode

SHEETS = [
    *(page(name, turn) for name in PAGES_MM for turn in (False, True)),
    page("150x180"),
    display(1920, 1080, 311.0),
]


def charts(sheet: Sheet) -> list[Chart]:
    made = [points_chart(sheet), chessboard_chart(sheet), charuco_chart(sheet), edges_chart(sheet)]
    return [*made, noise_chart(sheet, np.random.default_rng(0))]


def light(drawing: Drawing, pixel_mm: float) -> np.ndarray:
    return np.asarray(srgb_decode(rasterise(drawing, pixel_mm) / 255.0))


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.name)
def test_charts_stay_within_margins_and_off_the_rulers(sheet: Sheet) -> None:
    for chart in charts(sheet):
        shapes = chart.drawing.layers[0]
        corners = shapes.quads_mm.reshape(-1, 2)
        assert corners.min() >= sheet.margin_mm - 1e-9
        assert np.all(corners <= sheet.free_mm - sheet.margin_mm + 1e-9)
        if not sheet.is_display:
            ruler = chart.drawing.layers[-1].quads_mm.reshape(-1, 2)
            assert ruler.min() >= 10 - 1e-9
            assert np.all(ruler <= np.array([sheet.width_mm, sheet.height_mm]) - 10 + 1e-9)


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.name)
def test_charts_are_as_large_as_fits(sheet: Sheet) -> None:
    board = chessboard_chart(sheet)
    larger = float(board.geometry["square_mm"]) + max(sheet.pixel_mm, 5.0)
    with pytest.raises(TargetError, match="do not fit"):
        chessboard_chart(sheet, square_mm=larger)
    size = np.ptp(noise_chart(sheet, np.random.default_rng(0)).drawing.layers[0].quads_mm.reshape(-1, 2), axis=0)
    assert np.all(size > 0.7 * sheet.free_mm)


def test_a_chessboard_keeps_a_rim_one_square_wide() -> None:
    for sheet in SHEETS:
        chart = chessboard_chart(sheet)
        corners, square = chart.drawing.layers[0].quads_mm.reshape(-1, 2), float(chart.geometry["square_mm"])
        assert corners.min() >= square - 1e-6
        assert np.all(corners <= sheet.free_mm - square + 1e-6)


def test_points_of_all_sheets_are_points() -> None:
    for sheet in SHEETS:
        geometry = points_chart(sheet).geometry
        assert float(geometry["diameter_mm"]) * 130 < float(geometry["pitch_mm"])


def test_on_a_display_every_side_is_on_a_pixels_border() -> None:
    sheet = display(1366, 768, 252.3)
    for chart in (points_chart(sheet), chessboard_chart(sheet), charuco_chart(sheet), charts(sheet)[-1]):
        for layer in chart.drawing.layers:
            pixels = layer.quads_mm / sheet.pixel_mm
            np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-6)
        assert set(np.unique(rasterise(chart.drawing, sheet.pixel_mm))) <= {0, 255}


def test_a_displays_points_are_single_pixels_on_a_lattice() -> None:
    sheet = display(1920, 1080, 277.0)

    seen = rasterise(points_chart(sheet).drawing, sheet.pixel_mm)

    y, x = np.nonzero(seen)
    np.testing.assert_array_equal(np.unique(x), x.min() + 160 * np.arange(12))
    np.testing.assert_array_equal(np.unique(y), y.min() + 160 * np.arange(6))
    assert abs(x.min() + x.max() - 1919) <= 1
    assert abs(y.min() + y.max() - 1079) <= 1


def test_screens_are_of_a_display() -> None:
    with pytest.raises(ValueError, match="a display"):
        screens(page("A4"), np.random.default_rng(0))


def test_lengths_on_a_display_are_the_nearest_that_it_can_show() -> None:
    sheet = display(1920, 1080, 300.0)
    assert chessboard_chart(sheet, square_mm=20.0).geometry["square_mm"] == pytest.approx(67 * 0.3)
    assert points_chart(sheet, pitch_mm=40.0, diameter_mm=0.7).geometry == {
        "pitch_mm": pytest.approx(133 * 0.3),
        "diameter_mm": pytest.approx(2 * 0.3 * 2 / np.sqrt(3)),
    }


@given(st.floats(-1e5, 1e5))
def test_a_number_is_read_back_to_ten_picometres(value: float) -> None:
    text = number(value)
    assert "e" not in text
    assert abs(float(text) - value) <= 0.51e-5


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_cells_are_covered_once(rows: int, columns: int, seed: int) -> None:
    cells = np.random.default_rng(seed).random((rows, columns)) < 0.5

    quads = cell_rectangles(cells, np.array([1.0, 2.0]), 0.5)

    seen = np.zeros((rows, columns))
    for quad in quads:
        (left, top), (right, bottom) = np.round((quad[[0, 2]] - [1, 2]) / 0.5).astype(int)
        seen[top:bottom, left:right] += 1
    np.testing.assert_array_equal(seen, cells)


def test_pixels_hold_the_share_of_their_area_that_is_white() -> None:
    square = Shapes(quads_mm=rectangles(1.25, 0.5, 2.0, 2.25))
    seen = light(Drawing("", 5.0, 4.0, (square,)), 1.0)

    across, down = np.array([0, 0.75, 1, 0.25, 0]), np.array([0.5, 1, 0.75, 0])
    np.testing.assert_allclose(seen, 1 - np.outer(down, across), atol=0.004)


def sampled(inside: Callable[[np.ndarray, np.ndarray], np.ndarray], size: int, finer: int = 80) -> np.ndarray:
    at = (np.arange(size * finer) + 0.5) / finer
    x, y = np.meshgrid(at, at)
    return inside(x, y).reshape(size, finer, size, finer).mean(axis=(1, 3))


@pytest.mark.parametrize("angle", [5.0, 20.0, 45.0, -30.0])
def test_a_slanted_square_covers_its_share_of_each_pixel(angle: float) -> None:
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    corner = 3.3 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    quad = [8.2, 7.7] + corner @ np.array([[cos, sin], [-sin, cos]])

    ink = 1 - light(Drawing("", 16.0, 16.0, (Shapes(quads_mm=quad[None]),)), 1.0)

    expected = sampled(
        lambda x, y: (
            np.maximum(np.abs(cos * (x - 8.2) + sin * (y - 7.7)), np.abs(cos * (y - 7.7) - sin * (x - 8.2))) < 3.3
        ),
        16,
    )
    np.testing.assert_allclose(ink, expected, atol=0.04)
    assert ink.sum() == pytest.approx(6.6**2, abs=0.1)


@pytest.mark.parametrize("diameter", [0.3, 1.0, 6.4])
def test_a_disc_covers_its_share_of_each_pixel(diameter: float) -> None:
    black = Shapes(quads_mm=rectangles(0.0, 0.0, 12.0, 12.0))
    disc = Shapes(white=True, discs_mm=np.array([[5.7, 6.1, diameter]]))

    seen = light(Drawing("", 12.0, 12.0, (black, disc)), 1.0)

    np.testing.assert_allclose(seen, sampled(lambda x, y: np.hypot(x - 5.7, y - 6.1) < diameter / 2, 12), atol=0.03)
    assert seen.sum() == pytest.approx(np.pi * diameter**2 / 4, rel=0.05)


def test_shapes_that_share_a_side_join_without_a_seam() -> None:
    halves = Shapes(quads_mm=rectangles(np.array([1.0, 2.4]), 1.0, np.array([1.4, 1.6]), 3.0))
    assert rasterise(Drawing("", 5.0, 5.0, (halves,)), 1.0)[1:4, 1:4].max() == 0


def test_text_is_black_within_its_line() -> None:
    ink = 1 - light(Drawing("", 100.0, 20.0, (), (Label(10.0, 12.0, 5.0, "psfbank 8 x 5"),)), 0.1)

    rows, columns = np.nonzero(ink > 0.5)
    assert 80 < rows.min() < 100  # capitals are about 3 mm high above the base line
    assert 115 < rows.max() < 140
    assert 95 < columns.min() < 110
    assert columns.max() < 100 + 10 * 13 * 5


def test_letters_shrink_to_fit() -> None:
    assert fitting_size("short", 3.0, 100.0) == 3.0
    assert fitting_size("x" * 100, 3.0, 100.0) == pytest.approx(100 / 56)


def test_a_picture_of_too_many_pixels_is_refused() -> None:
    with pytest.raises(TargetError, match="20000 x 10000 pixels"):
        rasterise(Drawing("", 2000.0, 1000.0, ()), 0.1)


def pdf_objects(data: bytes) -> dict[int, bytes]:
    """Objects of a PDF, found by its table of places."""
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", data)[1])
    assert data[start:].startswith(b"xref\n0 ")
    places = [int(line[:10]) for line in re.findall(rb"\d{10} 00000 n ", data[start:])]
    for k, place in enumerate(places, start=1):
        assert data[place:].startswith(f"{k} 0 obj\n".encode())
    return {k: data[place : data.index(b"\nendobj\n", place)] for k, place in enumerate(places, start=1)}


def test_a_pdf_says_in_millimetres_what_it_draws() -> None:
    square = Shapes(quads_mm=rectangles(12.5, 20.0, 30.0, 40.0))
    slanted = Shapes(quads_mm=np.array([[[1.0, 0], [2, 1], [1, 2], [0, 1]]]))
    disc = Shapes(white=True, discs_mm=np.array([[25.0, 40.0, 2.0]]))
    drawing = Drawing("a (b) \\c", 210.0, 297.0, (square, disc, slanted), (Label(10.0, 290.0, 3.0, "(x)"),))

    objects = pdf_objects(pdf_of(drawing))

    assert b"/PrintScaling /None" in objects[1]
    box = [float(v) for v in re.search(rb"MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", objects[3]).groups()]
    np.testing.assert_allclose(np.array(box) / 72 * 25.4, [210, 297], atol=1e-5)
    stream = objects[4].split(b"stream\n", 1)[1].removesuffix(b"\nendstream")
    assert len(stream) == int(re.search(rb"/Length (\d+)", objects[4])[1])
    first, *content = zlib.decompress(stream).decode("ascii").splitlines()
    scale, _, _, down, _, top, _ = first.split()
    assert float(scale) == -float(down) == pytest.approx(72 / 25.4)
    assert float(top) == pytest.approx(297 * 72 / 25.4)
    assert content[:4] == ["0 g", "12.5 20 30 40 re", "f", "1 g"]
    assert content[4].startswith("26 40 m 26 40.55228")
    assert content[6:9] == ["0 g", "1 0 m 2 1 l 1 2 l 0 1 l h", "f"]
    assert content[-1] == "BT /F 3 Tf 1 0 0 -1 10 290 Tm (\\(x\\)) Tj ET"
    assert b"/Title (a \\(b\\) \\\\c)" in objects[6]


def test_an_svg_says_in_millimetres_what_it_draws() -> None:
    chart = chessboard_chart(page("A4"))
    name = "{http://www.w3.org/2000/svg}"

    root = ET.fromstring(svg_of(chart.drawing))  # noqa: S314 - our own

    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("297mm", "210mm", "0 0 297 210")
    board, rulers = (group.find(f"{name}path").get("d") for group in root.iter(f"{name}g"))
    for path, layer in ((board, chart.drawing.layers[0]), (rulers, chart.drawing.layers[1])):
        quads = np.array([[float(v) for v in re.findall(r"-?[\d.]+", quad)] for quad in path.split("\n")])
        np.testing.assert_allclose(quads.reshape(-1, 4, 2), layer.quads_mm, atol=1e-5)
    assert [text.text for text in root.iter(f"{name}text")] == [label.text for label in chart.drawing.labels]
    middles = points_chart(page("A4")).drawing
    circles = list(ET.fromstring(svg_of(middles)).iter(f"{name}circle"))  # noqa: S314 - our own
    found = np.array([[float(circle.get(key)) for key in ("cx", "cy", "r")] for circle in circles])
    np.testing.assert_allclose(found * [1, 1, 2], middles.layers[1].discs_mm, atol=2e-5)


def test_markup_in_a_text_stays_text() -> None:
    drawing = Drawing("<a & b>", 10.0, 10.0, (), (Label(1.0, 1.0, 1.0, "</text><script>"),))
    root = ET.fromstring(svg_of(drawing))  # noqa: S314 - our own
    assert [part.tag.split("}")[1] for part in root] == ["title", "rect", "text"]


def test_a_png_tells_its_resolution(tmp_path: Path) -> None:
    from PIL import Image

    save_drawing(chessboard_chart(page("200x150")).drawing, tmp_path / "a.PNG", 25.4 / 120)

    with Image.open(tmp_path / "a.PNG") as picture:
        assert picture.size == (945, 709)
        assert picture.info["dpi"] == pytest.approx((120, 120), abs=0.02)


def test_a_pattern_is_read_back(tmp_path: Path) -> None:
    pattern = noise_chart(page("A4"), np.random.default_rng(5)).pattern
    save_pattern(pattern, tmp_path / "pattern.png")
    np.testing.assert_array_equal(read_pattern(tmp_path / "pattern.png"), pattern)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.pdf, \.svg, \.png"):
        save_drawing(Drawing("", 10.0, 10.0, ()), tmp_path / "a.eps", 0.1)
    assert not list(tmp_path.iterdir())


def test_an_entry_names_files_pattern_and_geometry() -> None:
    chart = noise_chart(page("A4"), np.random.default_rng(0), cell_mm=1.5)
    assert capture_entry(chart, "n/*.dng", "p.png").splitlines() == [
        "[[capture]]",
        'kind = "noise_target"',
        'files = "n/*.dng"',
        'pattern = "p.png"',
        "cell_mm = 1.5",
    ]


@pytest.mark.parametrize("dictionary", ["DICT_4X4_100", "DICT_6X6_250", "DICT_APRILTAG_36h11", "DICT_ARUCO_ORIGINAL"])
def test_markers_of_other_dictionaries_are_read(dictionary: str) -> None:
    sheet = display(1300, 900, 250.0)
    chart = charuco_chart(sheet, dictionary=dictionary)

    known = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, dictionary))
    _, number_of, _ = cv2.aruco.ArucoDetector(known).detectMarkers(rasterise(chart.drawing, sheet.pixel_mm))

    assert sorted(np.ravel(number_of)) == list(range(13 * 9 // 2))
