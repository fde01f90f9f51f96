"""Panels over the field show each tile where it is, and a page's figure is the file's, in the page's colours."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from calib.plots.style import GRID, OF_CHANNEL, levels, limits_of, over_field, svg_of, tile_edges, tile_map


def test_tiles_meet_half_way_and_end_at_the_sensor() -> None:
    np.testing.assert_array_equal(tile_edges(np.array([10.0, 20.0, 50.0]), 64), [-0.5, 15.0, 35.0, 63.5])
    np.testing.assert_array_equal(tile_edges(np.array([10.0]), 64), [-0.5, 63.5])


def test_a_map_shows_each_value_at_its_tile() -> None:
    figure = Figure(figsize=(4, 3), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    values = np.array([[0.0, 1.0, 2.0], [3.0, np.nan, 5.0]])
    tile_map(axes, np.array([0.0, 20.0, 39.0]), np.array([0.0, 29.0]), values, (30, 40), (0, 5), "gray")
    over_field(axes, (30, 40))
    axes.set_axis_off()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    picture = np.asarray(Image.open(file).convert("L")).astype(float)

    shown = [[picture[row, column] for column in (20, 200, 380)] for row in (20, 280)]
    np.testing.assert_allclose(shown[0], [0, 51, 102], atol=3)
    np.testing.assert_allclose(shown[1], [153, 255, 255], atol=3)  # the tile without a value is paper


@pytest.mark.parametrize(
    ("values", "least", "limits"),
    [
        ([1.0, np.nan, 3.0], None, (1.0, 3.0)),
        ([1.0, 3.0], 0.0, (0.0, 3.0)),
        ([2.0, 2.0], None, (2.0, 4.0)),
        ([0.0], 0.0, (0.0, 1.0)),
        ([np.nan, np.inf], None, (0.0, 1.0)),
        ([], None, (0.0, 1.0)),
    ],
)
def test_limits_are_never_empty(values: list[float], least: float | None, limits: tuple[float, float]) -> None:
    assert limits_of(np.array(values), least=least) == limits


def coloured() -> Figure:
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.plot([0.123456789, 1], [0, 1], color=OF_CHANNEL["G"], label="$a < b$ & c")
    axes.imshow(np.arange(48.0).reshape(6, 8), cmap=levels("viridis"), interpolation="none")
    axes.grid(color=GRID)
    axes.set_title("<b> & 'quotes'")
    return figure


def test_a_pages_figure_takes_the_pages_colours_and_is_the_same_each_time() -> None:
    svg = svg_of(coloured())

    assert svg == svg_of(coloured())
    assert svg.startswith("<svg")
    assert "stroke: var(--g)" in svg
    assert "stroke: var(--grid)" in svg
    assert "currentColor" in svg
    assert "&lt;b&gt; &amp;" in svg
    fonts = re.findall(r"font: [^;\"]*|font-family: [^;\"]*", svg)
    assert fonts
    assert all(font.endswith(" var(--sans)") for font in fonts)
    assert re.findall(r' d="[^"]*\.\d{3}', svg) == []


def test_a_palette_changes_no_pixel() -> None:
    (data,) = re.findall("data:image/png;base64,([A-Za-z0-9+/=\\s]+)", svg_of(coloured()))
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    expected = levels("viridis")(np.arange(48.0).reshape(6, 8) / 47, bytes=True)

    assert picture.mode == "P"
    # a picture lies in an SVG upside down or not as its axes' origin has it
    found = np.asarray(picture.convert("RGBA"))
    assert any(np.array_equal(turned, expected) for turned in (found, found[::-1]))


def test_a_picture_of_many_colours_is_kept() -> None:
    figure = Figure(figsize=(3, 2))
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    figure.subplots().imshow(image, interpolation="none")
    (data,) = re.findall("data:image/png;base64,([A-Za-z0-9+/=\\s]+)", svg_of(figure))
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

    assert any(np.array_equal(turned, image) for turned in (found, found[::-1]))
