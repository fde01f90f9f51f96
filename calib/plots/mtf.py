"""Figures of the modulation transfer over the field."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from calib.plots.style import (
    DPI,
    FAINT,
    OF_CHANNEL,
    OF_FOUR,
    PANEL_IN,
    colour_bar,
    label_outer,
    limits_of,
    over_field,
    panels,
    tidy,
    tile_map,
)
from psfbank.arrays import FloatArray, IntArray
from psfbank.metrics import FieldMtf

DIRECTIONS = ("sagittal", "tangential")
QUADRANTS = ("upper left", "upper right", "lower left", "lower right")
CURVES_AT = (0.0, 0.35, 0.65, 0.9)  # image heights of MTF curves, half the diagonal = 1
WITHIN = 0.09  # of a height: tiles whose curves are averaged
HEIGHT_BINS = 8
NYQUIST_CPP = 0.5


def heights(field: FieldMtf, size_px: tuple[int, int]) -> FloatArray:
    """Image height (Ty, Tx) of the tiles: distance from the picture's middle, half the diagonal = 1."""
    height, width = size_px
    off_px = np.hypot(field.x_px - (width - 1) / 2, field.y_px[:, None] - (height - 1) / 2)
    return np.asarray(off_px / (np.hypot(*size_px) / 2))


def mtf50_maps(field: FieldMtf, size_px: tuple[int, int]) -> Figure:
    """Show MTF50 of every tile, sagittal and tangential, and its standard deviation, a column a channel.

    Parameters
    ----------
    field : FieldMtf
    size_px : (H, W)
        Of the sensor.

    Returns
    -------
    Figure
        MTF50 on one scale for all channels and both directions; the standard deviation, the larger of both
        directions', on another.
    """
    count = len(field.channels)
    figure = panels(count, 3, size_px=size_px)
    grid = figure.subplots(3, count, squeeze=False)
    worse = np.fmax(field.mtf50_std_cpp[..., 0], field.mtf50_std_cpp[..., 1])
    limits, limits_std = limits_of(field.mtf50_cpp, least=0.0), limits_of(worse, least=0.0)
    for c, channel in enumerate(field.channels):
        for k, name in enumerate(DIRECTIONS):
            shown = tile_map(grid[k, c], field.x_px, field.y_px, field.mtf50_cpp[c, :, :, k], size_px, limits)
            over_field(grid[k, c], size_px, f"{channel} {name}")
        shown_std = tile_map(grid[2, c], field.x_px, field.y_px, worse[c], size_px, limits_std, "magma")
        over_field(grid[2, c], size_px, f"{channel} standard deviation")
    label_outer(grid)
    colour_bar(figure, shown, grid[:2].ravel(), "MTF50 [cycles/px]")
    colour_bar(figure, shown_std, grid[2], "± [cycles/px]")
    return figure


def mtf_curves(field: FieldMtf, size_px: tuple[int, int]) -> Figure:
    """Show modulation transfer against frequency at a few image heights, the mean of the tiles there.

    Parameters
    ----------
    field : FieldMtf
    size_px : (H, W)
        Of the sensor.

    Returns
    -------
    Figure
        A panel a channel; sagittal drawn through, tangential dashed.
    """
    figure = Figure(figsize=(PANEL_IN * len(field.channels) + 0.9, 3.3), dpi=DPI, layout="constrained")
    grid = figure.subplots(1, len(field.channels), sharey=True, squeeze=False)[0]
    height = heights(field, size_px)
    for c, (axes, channel) in enumerate(zip(grid, field.channels, strict=True)):
        for at, colour in zip(CURVES_AT, OF_FOUR, strict=True):
            there = np.abs(height - at) <= max(WITHIN, float(np.abs(height - at).min()))
            for k, style in enumerate(("-", "--")):
                axes.plot(field.freq_cpp, field.mtf[c, there, k].mean(axis=0), style, color=colour, linewidth=1.4)
        axes.axvline(NYQUIST_CPP, color=FAINT, linewidth=0.8, linestyle=":")
        axes.text(NYQUIST_CPP + 0.01, 0.97, "Nyquist", color=FAINT, fontsize=8, verticalalignment="top")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="frequency [cycles/px]")
        axes.set_title(channel, fontsize=10)
        tidy(axes)
    grid[0].set_ylabel("MTF")
    handles = [Line2D([], [], color=c, label=f"height {at:g}") for at, c in zip(CURVES_AT, OF_FOUR, strict=True)]
    handles += [Line2D([], [], color=FAINT, label=DIRECTIONS[0])]
    handles += [Line2D([], [], color=FAINT, label=DIRECTIONS[1], linestyle="--")]
    figure.legend(handles=handles, loc="outside upper center", ncols=6, frameon=False, fontsize=9)
    return figure


def mtf50_against_height(field: FieldMtf, size_px: tuple[int, int]) -> Figure:
    """Show MTF50 of all tiles against the image height, with error bars, and the mean of each quadrant.

    Parameters
    ----------
    field : FieldMtf
    size_px : (H, W)
        Of the sensor.

    Returns
    -------
    Figure
        A column a channel, sagittal above tangential. The band spans the four quadrants: wide where the lens is
        decentred or tilted.
    """
    count = len(field.channels)
    figure = Figure(figsize=(PANEL_IN * count + 0.9, 5.4), dpi=DPI, layout="constrained")
    grid = figure.subplots(2, count, sharex=True, sharey=True, squeeze=False)
    height, quadrant = heights(field, size_px), _quadrants(field, size_px)
    top = limits_of(field.mtf50_cpp, least=0.0)[1]
    for c, channel in enumerate(field.channels):
        for k, name in enumerate(DIRECTIONS):
            axes = grid[k, c]
            colour = OF_CHANNEL.get(channel, "#000000")
            values, std = field.mtf50_cpp[c, :, :, k], np.nan_to_num(field.mtf50_std_cpp[c, :, :, k])
            axes.errorbar(
                *(height.ravel(), values.ravel(), std.ravel()),
                fmt=".",
                color=colour,
                alpha=0.4,
                markersize=4,
                linewidth=1.0,
                rasterized=True,
            )
            _draw_quadrants(axes, height, values, quadrant)
            axes.set(xlim=(0, 1.02), ylim=(0, 1.08 * top))
            axes.set_title(f"{channel} {name}", fontsize=10)
            tidy(axes)
    for axes in grid[-1]:
        axes.set_xlabel("image height [half the diagonal]")
    for axes in grid[:, 0]:
        axes.set_ylabel("MTF50 [cycles/px]")
    handles = [
        Line2D([], [], color=c, marker="o", markersize=3, label=n) for n, c in zip(QUADRANTS, OF_FOUR, strict=True)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def _quadrants(field: FieldMtf, size_px: tuple[int, int]) -> IntArray:
    """Tell which of `QUADRANTS` each tile (Ty, Tx) lies in; -1 on the picture's axes."""
    right = np.sign(field.x_px - (size_px[1] - 1) / 2)[None, :]
    below = np.sign(field.y_px - (size_px[0] - 1) / 2)[:, None]
    return np.asarray(np.where(right * below == 0, -1, (right > 0) + 2 * (below > 0)), dtype=np.int64)


def _draw_quadrants(axes: Axes, height: FloatArray, values: FloatArray, quadrant: IntArray) -> None:
    borders = np.linspace(0, 1, HEIGHT_BINS + 1)
    middles = (borders[1:] + borders[:-1]) / 2
    means = np.full((len(QUADRANTS), HEIGHT_BINS), np.nan)
    for q in range(len(QUADRANTS)):
        for b in range(HEIGHT_BINS):
            inside = values[(quadrant == q) & (height >= borders[b]) & (height < borders[b + 1]) & np.isfinite(values)]
            means[q, b] = inside.mean() if inside.size else np.nan
        known = np.isfinite(means[q])
        axes.plot(middles[known], means[q, known], "o-", color=OF_FOUR[q], markersize=3, linewidth=1.1)
    all_four = np.isfinite(means).all(axis=0)
    axes.fill_between(
        *(middles[all_four], means[:, all_four].min(axis=0), means[:, all_four].max(axis=0)),
        color=FAINT,
        alpha=0.25,
        linewidth=0,
    )
