"""Charts measured back from their rendering, by renderers that are not ours, within 0.05 mm."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage

from calib.prints.boards import charuco_chart, chessboard_chart
from calib.prints.chart import Chart
from calib.prints.patterns import edges_chart, noise_chart
from calib.prints.points import points_chart
from calib.prints.save import save_drawing
from calib.prints.sheet import page

DPI = 300
PIXEL_MM = 25.4 / DPI
WITHIN_MM = 0.05
A4 = page("A4")
LETTER = page("Letter", portrait=True)
SMALL = page("240x180")

Rendered = Callable[[Chart], np.ndarray]


def render(chart: Chart, how: str, folder: Path) -> np.ndarray:
    """Share of each pixel that is ink, (H, W)."""
    source, picture = folder / f"chart.{how}", folder / "out.png"
    save_drawing(chart.drawing, source, PIXEL_MM)
    if how == "pdf":
        command = [
            "pdftoppm",
            "-gray",
            "-r",
            str(DPI),
            "-singlefile",
            "-png",
            str(source),
            str(picture.with_suffix("")),
        ]
        subprocess.run(command, check=True, timeout=100)
    elif how == "svg":
        # what is not square to the pixels of a page of odd size would be scaled to them: ask for a resolution only
        command = ["rsvg-convert", "-d", str(DPI), "-p", str(DPI), "-o", str(picture), str(source)]
        subprocess.run(command, check=True, timeout=100)
    else:
        linear = (cv2.imread(str(source), cv2.IMREAD_GRAYSCALE) / 255.0).astype(np.float64)
        return 1 - np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    return 1 - cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE) / 255.0


@pytest.fixture(params=["pdf", "svg", "png"])
def rendered(request: pytest.FixtureRequest, tmp_path: Path) -> Rendered:
    tool = {"pdf": "pdftoppm", "svg": "rsvg-convert", "png": ""}[request.param]
    if tool and not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    return lambda chart: render(chart, request.param, tmp_path)


def crossings_mm(ink: np.ndarray) -> np.ndarray:
    """Where a line of pixels crosses half ink, mm from its first pixel's outer side."""
    above = np.diff((ink > 0.5).astype(int))
    at = np.nonzero(above)[0]
    return (at + 0.5 + (0.5 - ink[at]) / (ink[at + 1] - ink[at])) * PIXEL_MM


def row_at(ink: np.ndarray, y_mm: float) -> np.ndarray:
    return ink[int(y_mm / PIXEL_MM)]


def blobs_mm(ink: np.ndarray, area_mm2: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Centroids (N, 2) and areas (N,) of connected parts, mm."""
    labels, count = ndimage.label(ink > 0.02)
    index = np.arange(1, count + 1)
    area = ndimage.sum_labels(ink, labels, index) * PIXEL_MM**2
    keep = index[(area > area_mm2[0]) & (area < area_mm2[1])]
    y, x = np.array(ndimage.center_of_mass(ink, labels, keep)).T
    return (np.column_stack([x, y]) + 0.5) * PIXEL_MM, area[keep - 1]


def test_the_rulers_are_100_mm_long(rendered: Rendered) -> None:
    ink = rendered(chessboard_chart(LETTER))
    height, width = 279.4, 215.9

    upper, lower = (crossings_mm(row_at(ink, height - 13 + y)[: int(112 / PIXEL_MM)]) for y in (0.75, 2.25))
    np.testing.assert_allclose(upper, 10 + 10 * np.arange(10), atol=WITHIN_MM)
    np.testing.assert_allclose(lower, 20 + 10 * np.arange(10), atol=WITHIN_MM)
    left, right = (crossings_mm(row_at(ink.T, width - 13 + x)[: int(112 / PIXEL_MM)]) for x in (0.75, 2.25))
    np.testing.assert_allclose(left, 10 + 10 * np.arange(10), atol=WITHIN_MM)
    np.testing.assert_allclose(right, 20 + 10 * np.arange(10), atol=WITHIN_MM)


def test_a_chessboards_squares_are_where_they_should_be(rendered: Rendered) -> None:
    chart = chessboard_chart(A4)
    ink = rendered(chart)
    square = float(chart.geometry["square_mm"])
    assert square == 21.0
    left, top = (297 - 15 - 10 * square) / 2, (210 - 21 - 7 * square) / 2

    for row in range(7):  # black first on even rows
        found = crossings_mm(row_at(ink, top + (row + 0.5) * square)[: int(280 / PIXEL_MM)])
        first = row % 2
        np.testing.assert_allclose(found, left + square * (first + np.arange(10)), atol=WITHIN_MM)
    for column in range(10):
        found = crossings_mm(row_at(ink.T, left + (column + 0.5) * square)[: int(185 / PIXEL_MM)])
        first = column % 2
        count = 8 - 2 * first
        np.testing.assert_allclose(found, top + square * (first + np.arange(count)), atol=WITHIN_MM)


def test_slanted_squares_are_of_their_size_pitch_and_turn(rendered: Rendered) -> None:
    ink = rendered(edges_chart(SMALL, square_mm=20.0, pitch_mm=40.0, angle_deg=12.0))

    middles, area = blobs_mm(ink, (200, 600))

    np.testing.assert_allclose(np.sqrt(area), 20.0, atol=WITHIN_MM)
    cos, sin = np.cos(np.radians(12.0)), np.sin(np.radians(12.0))
    turned_back = (middles - [(240 - 15) / 2, (180 - 21) / 2]) @ np.array([[cos, -sin], [sin, cos]])
    places = np.round(turned_back / 40)
    assert len(np.unique(places, axis=0)) == len(middles) > 10
    np.testing.assert_allclose(turned_back, 40 * places, atol=WITHIN_MM)
    for x, y in middles[:3]:
        window = np.s_[
            int((y - 16) / PIXEL_MM) : int((y + 16) / PIXEL_MM), int((x - 16) / PIXEL_MM) : int((x + 16) / PIXEL_MM)
        ]
        upper = crossings_mm(ink[window][int(12 / PIXEL_MM)])
        lower = crossings_mm(ink[window][int(20 / PIXEL_MM)])
        slope = (lower - upper) / ((int(20 / PIXEL_MM) - int(12 / PIXEL_MM)) * PIXEL_MM)
        np.testing.assert_allclose(np.degrees(np.arctan(-slope)), 12.0, atol=0.2)  # x towards y: sides lean to the left


def test_points_are_where_they_should_be_and_as_large(rendered: Rendered) -> None:
    chart = points_chart(SMALL, pitch_mm=24.0, diameter_mm=0.8)
    light = 1 - rendered(chart)

    found, area = blobs_mm(light, (0.1, 2.0))
    inside = np.all((found > 12) & (found < [223, 157]), axis=1)
    found, area = found[inside], area[inside]

    assert len(found) == 8 * 5
    across, down = np.meshgrid(np.arange(8) - 3.5, np.arange(5) - 2)
    expected = np.array([225 / 2, 159 / 2]) + 24 * np.column_stack([across.ravel(), down.ravel()])
    order = np.lexsort(np.round(found / 24).T)
    np.testing.assert_allclose(found[order], expected, atol=WITHIN_MM)
    np.testing.assert_allclose(2 * np.sqrt(area / np.pi), 0.8, atol=WITHIN_MM)


def test_noise_shows_its_pattern_without_seams(rendered: Rendered) -> None:
    chart = noise_chart(SMALL, np.random.default_rng(3), cell_mm=2.0)
    ink = rendered(chart)
    rows, columns = chart.pattern.shape
    left, top = (225 - 2 * (columns + 24)) / 2, (159 - 2 * (rows + 24)) / 2

    frame = crossings_mm(row_at(ink, top + 10 * 2)[: int(224 / PIXEL_MM)])
    np.testing.assert_allclose(frame, left + np.array([0, 16, 2 * columns + 32, 2 * columns + 48]), atol=WITHIN_MM)
    y, x = np.mgrid[:rows, :columns]
    row, column = (np.round((first + 24 + 2 * n + 1) / PIXEL_MM).astype(int) for first, n in ((top, y), (left, x)))
    np.testing.assert_array_equal(ink[row, column] > 0.5, chart.pattern)
    both = chart.pattern[:-1] & chart.pattern[1:]  # two inked cells, one below the other: none shows where they meet
    seam = np.round((top + 24 + 2 * (y[:-1] + 1)) / PIXEL_MM).astype(int)
    for shift in (-1, 0):
        assert ink[seam + shift, column[:-1]][both].min() > 0.95


def test_charuco_markers_are_of_their_size_and_place(rendered: Rendered) -> None:
    chart = charuco_chart(A4)
    ink = rendered(chart)
    square, marker = float(chart.geometry["square_mm"]), float(chart.geometry["marker_mm"])
    left, top = (282 - 13 * square) / 2, (189 - 9 * square) / 2

    found = crossings_mm(row_at(ink, top + (square - marker) / 2 + 0.5 * marker / 7)[: int(280 / PIXEL_MM)])

    starts = left + square * np.arange(13)
    black = np.stack([starts[::2], starts[::2] + square], axis=1).ravel()
    inset = (square - marker) / 2
    markers = np.stack([starts[1::2] + inset, starts[1::2] + inset + marker], axis=1).ravel()
    np.testing.assert_allclose(found, np.sort(np.concatenate([black, markers])), atol=WITHIN_MM)


def test_a_charuco_board_is_opencvs(tmp_path: Path) -> None:
    chart = charuco_chart(A4, columns=8, rows=5, square_mm=22.0, marker_mm=14.0)  # eleven units, and seven
    ink = render(chart, "png", tmp_path)
    left, top = (282 - 9 * 22) / 2, (189 - 6 * 22) / 2
    x, y = (np.int64((first + 2 * np.arange(n * 11) + 1) / PIXEL_MM) for first, n in ((left, 9), (top, 6)))

    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_100)
    drawn = cv2.aruco.CharucoBoard((9, 6), 11.0, 7.0, dictionary).generateImage((9 * 11 * 8, 6 * 11 * 8))

    np.testing.assert_array_equal(ink[np.ix_(y, x)] > 0.5, np.asarray(drawn)[4::8, 4::8] < 128)


@pytest.mark.parametrize(
    ("name", "width", "height"), [("A0", 1189, 841), ("Letter", 279.4, 215.9), ("300x200", 300, 200)]
)
def test_the_pdfs_page_is_of_its_size(tmp_path: Path, name: str, width: float, height: float) -> None:
    if not shutil.which("pdfinfo"):
        pytest.skip("pdfinfo is not installed")
    save_drawing(chessboard_chart(page(name)).drawing, tmp_path / "a.pdf", PIXEL_MM)

    told = subprocess.run(["pdfinfo", str(tmp_path / "a.pdf")], capture_output=True, text=True, check=True)

    assert told.stderr == ""
    (line,) = [line for line in told.stdout.splitlines() if line.startswith("Page size")]
    points = [float(word) for word in line.split() if word.replace(".", "").isdigit()]
    np.testing.assert_allclose(np.array(points[:2]) * 25.4 / 72, [width, height], atol=0.01)
