"""Figures of the wavefront over the field."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calib.plots.psf import thinned
from calib.plots.style import (
    DPI,
    FAINT,
    INK,
    OF_CHANNEL,
    colour_bar,
    label_outer,
    limits_of,
    over_field,
    panels,
    tidy,
    tile_map,
)
from psfbank.arrays import FloatArray, IntArray
from psfbank.errors import MissingPartError
from psfbank.metrics import rms_wfe_nm, strehl_ratio
from psfbank.model import ZernikeField

NAMES = {
    (2, 0): "defocus",
    (2, 2): "astigmatism 0°",
    (2, -2): "astigmatism 45°",
    (3, 1): "coma x",
    (3, -1): "coma y",
    (3, 3): "trefoil x",
    (3, -3): "trefoil y",
    (4, 0): "spherical",
    (4, 2): "2nd astigmatism 0°",
    (4, -2): "2nd astigmatism 45°",
}
VECTORS = (("astigmatism", 2, 2), ("coma", 3, 1))
MOST_BARS = 24  # terms that can be told apart
MOST_ACROSS, MOST_DOWN = 12, 9  # lines or arrows
LONGEST = 0.9  # of the distance between two nodes: the longest line or arrow


def zernike_bars(wavefront: ZernikeField, size_px: tuple[int, int]) -> Figure:
    """Show the Zernike coefficients of the tile nearest to the picture's middle and of the outermost one.

    Parameters
    ----------
    wavefront : ZernikeField
        Of more than two dozen terms the largest are shown, in their own order.
    size_px : (H, W)
        Of the sensor.

    Returns
    -------
    Figure
        A bar a channel with its standard error; piston and tilt, which blur nothing, left out.
    """
    off = np.hypot(wavefront.x_px - (size_px[1] - 1) / 2, wavefront.y_px[:, None] - (size_px[0] - 1) / 2)
    terms = np.flatnonzero(wavefront.nm[:, 0] >= 2)
    strength = np.abs(wavefront.coefficients_nm).mean(axis=(0, 1, 2))[terms]
    terms = np.sort(terms[np.argsort(-strength, kind="stable")[:MOST_BARS]])
    figure = Figure(figsize=(11, 5.6), dpi=DPI, layout="constrained")
    rows = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, node in zip(rows, (np.argmin(off), np.argmax(off)), strict=True):
        j, i = np.unravel_index(node, off.shape)
        _draw_bars(axes, wavefront, terms, (int(j), int(i)))
        axes.set_title(f"tile at ({wavefront.x_px[i]:.0f}, {wavefront.y_px[j]:.0f}) px", fontsize=10)
        axes.set_ylabel("coefficient [nm RMS]")
    rows[1].set_xticks(
        np.arange(len(terms)), [term_name(*wavefront.nm[k]) for k in terms], rotation=35, fontsize=8, ha="right"
    )
    rows[0].legend(frameon=False, fontsize=9, ncols=len(wavefront.channels))
    return figure


def term_name(n: int, m: int) -> str:
    """Name a Zernike term as opticians do, with its (n, m)."""
    index = f"({n}, {m})"
    return f"{NAMES[n, m]} {index}" if (n, m) in NAMES else index


def wavefront_maps(wavefront: ZernikeField, size_px: tuple[int, int]) -> Figure:
    """Show the RMS wavefront error and the Strehl ratio of every tile, a column a channel.

    Parameters
    ----------
    wavefront : ZernikeField
    size_px : (H, W)
        Of the sensor.

    Returns
    -------
    Figure
        One scale for all channels; the Strehl ratio is that of a full circular pupil.
    """
    count = len(wavefront.channels)
    figure = panels(count, 2, size_px=size_px)
    grid = figure.subplots(2, count, squeeze=False)
    rms = rms_wfe_nm(wavefront.coefficients_nm, wavefront.nm)
    strehl = [
        strehl_ratio(c, wavefront.nm, float(w))
        for c, w in zip(wavefront.coefficients_nm, wavefront.wavelength_nm, strict=True)
    ]
    limits = limits_of(rms, least=0.0)
    nodes = wavefront.x_px, wavefront.y_px
    for c, channel in enumerate(wavefront.channels):
        shown = tile_map(grid[0, c], *nodes, rms[c], size_px, limits, "magma")
        over_field(grid[0, c], size_px, f"{channel} RMS error, {wavefront.wavelength_nm[c]:.0f} nm")
        shown_strehl = tile_map(grid[1, c], *nodes, strehl[c], size_px, (0, 1))
        over_field(grid[1, c], size_px, f"{channel} Strehl ratio")
    label_outer(grid)
    colour_bar(figure, shown, grid[0], "RMS [nm]")
    colour_bar(figure, shown_strehl, grid[1], "Strehl ratio")
    return figure


def aberration_vectors(wavefront: ZernikeField, size_px: tuple[int, int]) -> Figure:
    """Show astigmatism as lines along its axis and coma as arrows, all channels on one scale.

    Parameters
    ----------
    wavefront : ZernikeField
    size_px : (H, W)
        Of the sensor.

    Returns
    -------
    Figure
        A row for each aberration whose two terms are there. An astigmatism's line lies along the meridian on which the
        wavefront is highest, and coma's arrow points to its higher side.

    Raises
    ------
    MissingPartError
        When the wavefront has neither.
    """
    index = {(int(n), int(m)): k for k, (n, m) in enumerate(wavefront.nm)}
    kinds = [(name, n, m) for name, n, m in VECTORS if {(n, m), (n, -m)} <= set(index)]
    if not kinds:
        raise MissingPartError("this wavefront has neither astigmatism nor coma among its terms")
    count = len(wavefront.channels)
    figure = panels(count, len(kinds), size_px=size_px)
    grid = figure.subplots(len(kinds), count, squeeze=False)
    for row, (name, n, m) in zip(grid, kinds, strict=True):
        terms = wavefront.coefficients_nm[..., [index[n, m], index[n, -m]]]
        longest = limits_of(np.linalg.norm(terms, axis=-1), least=0.0)[1]
        for axes, channel, values in zip(row, wavefront.channels, terms, strict=True):
            _draw_vectors(axes, wavefront, values, m, longest, OF_CHANNEL.get(channel, INK), size_px)
            over_field(axes, size_px, f"{channel} {name}, longest {longest:.0f} nm", margin_px=0.05 * max(size_px))
    label_outer(grid)
    return figure


def _draw_bars(axes: Axes, wavefront: ZernikeField, terms: IntArray, node: tuple[int, int]) -> None:
    width = 0.8 / len(wavefront.channels)
    for c, channel in enumerate(wavefront.channels):
        at = np.arange(len(terms)) + (c - (len(wavefront.channels) - 1) / 2) * width
        height, error = wavefront.coefficients_nm[c, *node, terms], wavefront.stderr_nm[c, *node, terms]
        axes.bar(at, height, 0.9 * width, color=OF_CHANNEL.get(channel, INK), label=channel)
        known = np.isfinite(error)
        axes.errorbar(at[known], height[known], error[known], fmt="none", color="#000000", linewidth=1, capsize=2)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    tidy(axes)


def _draw_vectors(
    axes: Axes,
    wavefront: ZernikeField,
    terms: FloatArray,
    m: int,
    longest: float,
    colour: str,
    size_px: tuple[int, int],
) -> None:
    """Draw the axis (m = 2) or the direction (m = 1) of two terms (Ty, Tx, 2) at each node."""
    rows, columns = thinned(len(wavefront.y_px), MOST_DOWN), thinned(len(wavefront.x_px), MOST_ACROSS)
    x_px, y_px, terms = wavefront.x_px[columns], wavefront.y_px[rows], terms[np.ix_(rows, columns)]
    steps = [float(np.diff(n).min()) if len(n) > 1 else max(size_px) / 4 for n in (x_px, y_px)]
    angle = np.arctan2(terms[..., 1], terms[..., 0]) / m
    length = np.hypot(terms[..., 0], terms[..., 1]) * LONGEST * min(steps) / longest
    x, y = np.meshgrid(x_px, y_px)
    headless: dict[str, Any] = {"headwidth": 0, "headlength": 0, "headaxislength": 0} if m == 2 else {"headwidth": 4}
    axes.quiver(
        *(x, y, length * np.cos(angle), length * np.sin(angle)),
        angles="xy",
        scale_units="xy",
        scale=1,
        pivot="middle",
        color=colour,
        width=0.005,
        **headless,
    )
