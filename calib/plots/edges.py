"""Figures of slanted edges: their curves, and where they lie in the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath

from calib.edge.response import NYQUIST_CPP, plateaus
from calib.plots.style import DPI, FAINT, INK, OF_CHANNEL
from psfbank.arrays import FloatArray

if TYPE_CHECKING:
    from calib.edge.measure import MeasuredEdge

# Okabe and Ito's colours, which all eyes can tell apart
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
OF_ORIENTATION = {"sagittal": "#B84A00", "tangential": "#005F99", "oblique": "#8A3D78", "": "#2F6B3A"}
MOST_NAMED = 12  # curves that a legend tells apart
PROFILE_PX = (4.0, 16.0)  # half width that profiles are shown over
WIDTHS_OF_BLUR = 1.2  # that half width times MTF50: 6 sigma of a Gaussian

LONGEST_PX, SHORTEST_PX = 2400, 1200  # longer side of an annotated picture
LEGEND_OF = 1 / 75  # the size of the legend's letters, of that side
LABEL_PX = (34, 28, 23, 19, 16, 13, 11)  # sizes of labels: the largest at which none is lost
SHADES = (0.25, 0.9)  # of black and white in the picture: what is drawn over it shows on both

Array = npt.NDArray[np.float64]


def sfr_figure(edges: Sequence[MeasuredEdge]) -> Figure:
    """Edge spread, line spread and spatial frequency response of edges, with the band of one standard deviation.

    Parameters
    ----------
    edges : sequence of MeasuredEdge
        One or more. Up to a dozen are named; flagged ones are dashed.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(12, 6), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(2, 3), wspace=0.06)
    spread, line = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
    response = figure.add_subplot(grid[:, 1])
    few = len(edges) <= MOST_NAMED
    for edge, colour in zip(edges, _colours(edges), strict=True):
        style: dict[str, Any] = {"color": colour, "linestyle": "--" if edge.flags else "-"}
        style |= {"linewidth": 1.4} if few else {"linewidth": 0.6, "alpha": 0.3}
        dark, bright = plateaus(edge.response.esf)
        spread.plot(edge.response.x_px, (edge.response.esf - dark) / (bright - dark), **style)
        line.plot(edge.response.x_px, edge.response.lsf, **style)
        response.plot(edge.response.freq_cpp, edge.response.sfr, label=_name(edge), **style)
        if few:
            _draw_band(response, edge, colour)
    half = max(_half_width_px(edge) for edge in edges)
    spread.set(xlim=(-half, half), ylabel="ESF, of the step")
    line.set(xlim=(-half, half), ylabel="LSF [1/px]", xlabel="distance from the edge, to the bright side [px]")
    _finish_response(response, edges, None if few else _medians(edges))
    for axes in (spread, line, response):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.suptitle(_title(edges), fontsize=11, color=INK, parse_math=False)  # a file name may hold dollars
    return figure


def annotated_picture(picture: npt.ArrayLike, edges: Sequence[MeasuredEdge]) -> Figure:
    """Draw edges over the picture they were found in, MTF50 beside each.

    Parameters
    ----------
    picture : (H, W) or (H, W, 3) array
        Samples of any kind; shown in grey.
    edges : sequence of MeasuredEdge
        Those of green are drawn, or of the first channel where there is no green; flagged ones dashed.

    Returns
    -------
    Figure
        To be saved at its own resolution. Labels that would cover others are left out.
    """
    grey = _shown(np.asarray(picture))
    longer = int(np.clip(max(grey.shape), SHORTEST_PX, LONGEST_PX))
    scale = longer / max(grey.shape)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    grey = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=method))
    channel = "G" if any(edge.channel == "G" for edge in edges) else next((edge.channel for edge in edges), "")
    drawn = [edge for edge in edges if edge.channel == channel]
    # pixel centres are whole numbers in the picture and in its scaled copy
    ends = np.array([edge.ends_px for edge in drawn]).reshape(-1, 2, 2) * scale + (scale - 1) / 2
    figure, axes = _canvas(grey, strip_px=round(3 * LEGEND_OF * longer))
    rim = [withStroke(linewidth=5, foreground="white", alpha=0.8)]
    for edge, end in zip(drawn, ends, strict=True):
        style = "--" if edge.flags else "-"
        axes.plot(*end.T, style, color=OF_ORIENTATION[edge.orientation], linewidth=2.5, path_effects=rim)
    _label(axes, drawn, ends, grey.shape)
    _draw_legend(figure, drawn, channel, text_px=LEGEND_OF * longer)
    return figure


def _colours(edges: Sequence[MeasuredEdge]) -> list[str]:
    """By channel where each comes once or where there are too many curves to tell apart, else by edge."""
    channels = [edge.channel for edge in edges]
    if len(set(channels)) == len(channels) or len(edges) > MOST_NAMED:
        return [OF_CHANNEL.get(channel, INK) for channel in channels]
    return [hue for hue, _ in zip(cycle(HUES), edges, strict=False)]


def _half_width_px(edge: MeasuredEdge) -> float:
    extent = float(np.max(np.abs(edge.response.x_px)))
    wanted = WIDTHS_OF_BLUR / edge.mtf50_cpp if edge.mtf50_cpp > 0 else extent
    return min(extent, float(np.clip(wanted, *PROFILE_PX)))


def _draw_band(axes: Axes, edge: MeasuredEdge, colour: str) -> None:
    sfr, std = edge.response.sfr, edge.response.sfr_std
    axes.fill_between(edge.response.freq_cpp, sfr - std, sfr + std, color=colour, alpha=0.2, linewidth=0)
    axes.plot([edge.mtf50_cpp], [0.5], "o", color=colour, markersize=5)


def _finish_response(axes: Axes, edges: Sequence[MeasuredEdge], entries: list[Line2D] | None) -> None:
    """Scale, mark and name; `entries` of the legend stand for the curves' own."""
    top = max(float(np.max(edge.response.sfr[edge.response.freq_cpp <= 1])) for edge in edges)
    axes.set(xlim=(0, 1), ylim=(0, top + 0.05), xlabel="frequency along the normal [cycles/pixel]", ylabel="SFR")
    axes.axhline(0.5, color=FAINT, linewidth=0.8, linestyle=":")
    axes.axvline(NYQUIST_CPP, color=FAINT, linewidth=0.8, linestyle=":")
    above = axes.get_xaxis_transform()
    axes.text(NYQUIST_CPP, 1.01, "Nyquist", transform=above, color=FAINT, fontsize=9, horizontalalignment="center")
    handles = entries or [curve for curve in axes.get_lines() if not str(curve.get_label()).startswith("_")]
    axes.legend(
        handles=handles,
        title="MTF50 [cycles/pixel]",
        loc="upper right",
        alignment="left",
        frameon=False,
        fontsize=9,
        title_fontsize=9,
    )


def _medians(edges: Sequence[MeasuredEdge]) -> list[Line2D]:
    """Entries of a legend by channel, for edges too many to be named."""
    entries = []
    for channel in dict.fromkeys(edge.channel for edge in edges):
        figures = np.array([edge.mtf50_cpp for edge in edges if edge.channel == channel])
        known = figures[np.isfinite(figures)]
        label = f"{channel}: median {np.median(known):.3f}" if known.size else f"{channel}: none"
        entries.append(Line2D([], [], color=OF_CHANNEL.get(channel, INK), label=label))
    return entries


def _name(edge: MeasuredEdge) -> str:
    x, y = edge.xy_px
    std = edge.response.mtf50_std_cpp
    figure = f"{_mtf50(edge)} \N{PLUS-MINUS SIGN} {std:.3f}" if np.isfinite(std) else _mtf50(edge)
    return f"{edge.channel} ({x:.0f}, {y:.0f}): {figure}"


def _mtf50(edge: MeasuredEdge) -> str:
    return f"{edge.mtf50_cpp:.3f}" if np.isfinite(edge.mtf50_cpp) else "none"


def _title(edges: Sequence[MeasuredEdge]) -> str:
    """Where the edges are from, and what stands against them."""
    captures = list(dict.fromkeys(edge.capture for edge in edges))
    modes = " and ".join(dict.fromkeys(edge.mode for edge in edges))
    count = f"{len(edges)} edges" if len(edges) > 1 else "1 edge"
    head = f"{captures[0] if len(captures) == 1 else f'{len(captures)} pictures'}: {count}, {modes} mode"
    flags = Counter(word.replace("_", " ") for edge in edges for word in edge.flags.words())
    words = [f"{word} ({number})" if len(edges) > 1 else word for word, number in flags.most_common()]
    return f"{head}\nflagged: {', '.join(words)}" if words else head


def _shown(picture: npt.NDArray[Any]) -> Array:
    """Grey, stretched between its darkest and brightest percent, brightened as screens expect, and muted."""
    grey: Array = np.asarray(picture if picture.ndim == 2 else picture.mean(axis=2), dtype=np.float64)
    dark, bright = np.percentile(grey, [0.5, 99.5])
    stretched = np.clip((grey - dark) / max(bright - dark, 1e-12), 0, 1) ** (1 / 2.2)
    return np.asarray(SHADES[0] + (SHADES[1] - SHADES[0]) * stretched)


def _canvas(grey: Array, strip_px: int) -> tuple[Figure, Axes]:
    """Show a picture (H, W) pixel for pixel, above a strip left free."""
    height, width = grey.shape
    whole = height + strip_px
    figure = Figure(figsize=(width / DPI, whole / DPI), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, strip_px / whole, 1, height / whole))
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="none", aspect="auto")
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_axis_off()
    return figure, axes


def _label(axes: Axes, edges: Sequence[MeasuredEdge], ends_px: FloatArray, size_px: tuple[int, ...]) -> None:
    """Write MTF50 beside each edge, in the largest size at which no label covers another, an edge or the border."""
    normals = np.array([[np.cos(edge.angle_rad), np.sin(edge.angle_rad)] for edge in edges]).reshape(-1, 2)
    inked = TextPath((0, 0), "0.000", size=1).get_extents()
    for text_px in LABEL_PX:
        places = _place(ends_px, normals, text_px * np.array([inked.width + 0.5, inked.height + 0.5]), size_px)
        if np.isfinite(places).all():
            break
    for edge, (x, y) in zip(edges, places, strict=True):
        if np.isnan(x):
            continue
        axes.text(
            x,
            y,
            _mtf50(edge),
            color="white",
            fontsize=text_px * 72 / DPI,
            bbox={"boxstyle": "square,pad=0.2", "facecolor": OF_ORIENTATION[edge.orientation], "linewidth": 0},
            horizontalalignment="center",
            verticalalignment="center",
        )


def _place(ends_px: FloatArray, normals: FloatArray, label_px: FloatArray, size_px: tuple[int, ...]) -> Array:
    """Find room for labels of one size (2,), one after the other, beside edges (N, 2, 2): (N, 2) px, NaN without."""
    middles, half = ends_px.mean(axis=1), label_px / 2
    lines = np.linspace(ends_px[:, 0], ends_px[:, 1], 24).reshape(-1, 2)
    places, taken = np.full(middles.shape, np.nan), np.zeros((0, 4))
    for k, normal in enumerate(normals):
        reach = np.abs(normal) @ half + 0.6 * half[1]
        for away in (reach, -reach, 1.8 * reach, -1.8 * reach):  # the bright side first
            place = middles[k] + away * normal
            box = np.concatenate([place - half - 0.2 * half[1], place + half + 0.2 * half[1]])
            if _is_free(box, taken, lines, size_px):
                places[k], taken = place, np.vstack([taken, box])
                break
    return places


def _is_free(box_px: FloatArray, taken_px: FloatArray, lines_px: FloatArray, size_px: tuple[int, ...]) -> bool:
    """Tell whether a box (left, top, right, bottom) lies in the picture, off other boxes (N, 4) and points (M, 2)."""
    first, last = box_px[:2], box_px[2:]
    inside = np.all(first >= 0) and np.all(last <= size_px[::-1])
    covers = np.any(np.all((first < taken_px[:, 2:]) & (last > taken_px[:, :2]), axis=1))
    crosses = np.any(np.all((lines_px > first) & (lines_px < last), axis=1))
    return bool(inside and not covers and not crosses)


def _draw_legend(figure: Figure, edges: Sequence[MeasuredEdge], channel: str, text_px: float) -> None:
    orientations = [name for name in OF_ORIENTATION if any(edge.orientation == name for edge in edges)]
    of = f" of {channel}" if channel else ""
    handles = [Line2D([], [], linestyle="none", label=f"MTF50{of} [cycles/pixel]")]
    handles += [Line2D([], [], color=OF_ORIENTATION[name], linewidth=3, label=name or "edge") for name in orientations]
    if any(edge.flags for edge in edges):
        handles.append(Line2D([], [], color=INK, linewidth=3, linestyle="--", label="flagged"))
    figure.legend(
        handles=handles, loc="lower left", ncols=6, frameon=False, fontsize=text_px * 72 / DPI, handlelength=3
    )
