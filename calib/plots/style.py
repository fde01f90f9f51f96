"""What all figures share: colours, panels over the field, and how a figure becomes a file or a part of a page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from PIL import Image

from psfbank.arrays import FloatArray
from psfbank.errors import ReportError
from psfbank.files import appearing_whole

SUFFIXES = (".png", ".pdf", ".svg")
DPI = 100
INK, FAINT, GRID = "#333333", "#999999", "#e6e6e6"
# Okabe and Ito's colours, which all eyes can tell apart
OF_CHANNEL = {"R": "#D55E00", "G": "#009E73", "B": "#0072B2"}
OF_FOUR = (INK, "#E69F00", "#CC79A7", "#56B4E9")  # of things that are no channels
MAP, SIGNED = "viridis", "coolwarm"  # perceptually uniform; the second has its middle at 0
PANEL_IN = 3.4  # width of one panel over the field

# what a page gives colours of its own in the light and in the dark; #000000 is matplotlib's own ink
_THEMED = {
    "#000000": "currentColor",
    INK: "currentColor",
    FAINT: "var(--faint)",
    GRID: "var(--grid)",
    **{OF_CHANNEL[name]: f"var(--{name.lower()})" for name in OF_CHANNEL},
}
_FONTS = re.compile(r"(font: [^;\"]*?px|font-family:) [^;\"]*")  # Matplotlib up to 3.10, and later
_OWN_ID = re.compile(r'<g id="[^"]*"')
_DRAWN = re.compile(r' d="[^"]*"')
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_PICTURE = re.compile(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=\s]+")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's suffix, one of `SUFFIXES`; the same figure is the same PNG or PDF.

    ReportError when it cannot be written.
    """
    undated = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    suffix = path.suffix.lower()
    with appearing_whole(path, ReportError) as file:
        figure.savefig(file, format=suffix[1:], dpi=figure.dpi, metadata=undated[suffix])


def require_writable(path: Path, overwrite: bool, suffixes: Sequence[str]) -> None:
    """Refuse before the work what would fail after it: ReportError."""
    if path.suffix.lower() not in suffixes:
        raise ReportError("has no suffix that can be written", where=str(path), remedy=f"Use {', '.join(suffixes)}")
    if path.exists() and not overwrite:
        raise ReportError("exists already", where=str(path), remedy="Choose another name, or say --overwrite")
    if not path.parent.is_dir():
        raise ReportError("its folder does not exist", where=str(path), remedy="Make the folder first")


def svg_of(figure: Figure) -> str:
    """Draw a figure as an <svg> element that takes the colours of the page around it; the same one each time.

    Parameters
    ----------
    figure : Figure

    Returns
    -------
    str
        Without a background. Ink is the page's own `currentColor`; --faint, --grid, --r, --g and --b are the page's to
        define.
    """
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "psfbank"}):
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(file, format="svg", transparent=True, dpi=1.5 * DPI, metadata=metadata)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    for ours, of_page in _THEMED.items():
        svg = svg.replace(ours.lower(), of_page).replace(ours, of_page)
    svg = _DRAWN.sub(lambda path: _DECIMALS.sub(r"\1", path[0]), svg)  # points a hundredth of a point apart are one
    svg = _PICTURE.sub(lambda picture: _with_palette(picture[0]), svg)
    return _OWN_ID.sub("<g", _FONTS.sub(r"\1 var(--sans)", svg))


def levels(cmap: str, count: int = 200) -> Colormap:
    """Give a colour map so few levels that a picture and what it leaves empty fit a palette."""
    return mpl.colormaps[cmap].resampled(count)


def palette(cmap: str) -> npt.NDArray[np.uint8]:
    """Give the colours (256, 3) of a map, from its lowest value to its highest."""
    return np.asarray(mpl.colormaps[cmap](np.arange(256), bytes=True)[:, :3])


def _with_palette(png: str) -> str:
    """Store a PNG of few colours with a palette, which takes a quarter of the room; others stay as they are."""
    data = base64.b64decode(png)
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    packed, index = np.unique(np.asarray(picture).reshape(-1, 4).copy().view(np.uint32), return_inverse=True)
    colours = packed.view(np.uint8).reshape(-1, 4)
    if len(colours) > 256:
        return png
    indexed = Image.fromarray(index.reshape(picture.size[::-1]).astype(np.uint8))
    indexed.putpalette(colours[:, :3].tobytes())
    file = io.BytesIO()
    indexed.save(file, "png", optimize=True, transparency=colours[:, 3].tobytes())
    return base64.b64encode(file.getvalue()).decode()


def panels(columns: int, rows: int = 1, *, size_px: tuple[int, int] | None = None, height_in: float = 2.6) -> Figure:
    """Make a figure with room for panels side by side; those over a sensor of `size_px` (H, W) get its proportions."""
    if size_px is not None:
        height_in = float(np.clip(PANEL_IN * size_px[0] / size_px[1], 1.2, 2 * PANEL_IN)) + 0.35
    return Figure(figsize=(PANEL_IN * columns + 0.9, height_in * rows + 0.15), dpi=DPI, layout="constrained")


def tidy(axes: Axes) -> None:
    """Leave curves with a faint grid and without a box."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)


def over_field(axes: Axes, size_px: tuple[int, int], title: str = "", margin_px: float = 0.0) -> None:
    """Show the whole sensor (H, W) and a margin around it, rows downwards, the places in pixels."""
    height, width = size_px
    near, right, bottom = -0.5 - margin_px, width - 0.5 + margin_px, height - 0.5 + margin_px
    axes.set(xlim=(near, right), ylim=(bottom, near), aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)
    axes.locator_params(nbins=5)


def label_outer(rows: npt.NDArray[Any]) -> None:
    """Name the pixels' axes at the left and at the foot of a grid (rows, columns) of panels, once for all."""
    for j, row in enumerate(rows):
        for i, axes in enumerate(row):
            axes.tick_params(labelleft=i == 0, labelbottom=j == len(rows) - 1)
        row[0].set_ylabel("y [px]", fontsize=9)
    for axes in rows[-1]:
        axes.set_xlabel("x [px]", fontsize=9)


def tile_edges(nodes_px: FloatArray, length_px: int) -> FloatArray:
    """Borders (T + 1,) px of the tiles around nodes (T,): half-way between them, and the sensor's own."""
    between = (nodes_px[1:] + nodes_px[:-1]) / 2
    return np.concatenate([[min(-0.5, nodes_px[0])], between, [max(length_px - 0.5, nodes_px[-1])]])


def tile_map(
    axes: Axes,
    x_px: FloatArray,
    y_px: FloatArray,
    values: FloatArray,
    size_px: tuple[int, int],
    limits: tuple[float, float],
    cmap: str = MAP,
) -> ScalarMappable:
    """Colour each tile of a grid (Ty, Tx) by its value between `limits`; tiles without one stay empty."""
    borders = tile_edges(x_px, size_px[1]), tile_edges(y_px, size_px[0])
    return axes.pcolormesh(
        *borders, np.ma.masked_invalid(values), cmap=levels(cmap), vmin=limits[0], vmax=limits[1], rasterized=True
    )


def colour_bar(figure: Figure, mappable: ScalarMappable, beside: Iterable[Axes], label: str) -> None:
    """Draw one scale for several panels at their right."""
    bar = figure.colorbar(mappable, ax=list(beside), fraction=0.05, pad=0.02, aspect=22)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)


def limits_of(*values: FloatArray, least: float | None = None) -> tuple[float, float]:
    """Range of all finite values, from `least` where that is given; (0, 1) where there are none, never empty."""
    known = np.concatenate([np.zeros(0), *(np.ravel(v)[np.isfinite(np.ravel(v))] for v in values)])
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()) if least is None else least, float(known.max())
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))
