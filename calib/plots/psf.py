"""Figures of the PSFs over the field."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from calib.plots.style import DPI, MAP, OF_CHANNEL, PANEL_IN, colour_bar, levels, tidy
from psfbank.arrays import FloatArray
from psfbank.metrics import encircled_energy
from psfbank.model import PsfGrid

MOST_ACROSS, MOST_DOWN = 17, 13  # stamps of a montage that can still be told apart
STAMP_PX = 10.0  # width of a stamp, pixels; narrower where kernels are
COLOURS = 64  # 6 percent a level over four decades
DECADES = 4.0  # of the logarithmic scale
LIGHT = "light per pixel [share of the point's]"
ENERGY_OF_PLACES = 3  # heights at which encircled energy is shown


def thinned(count: int, most: int) -> npt.NDArray[np.intp]:
    """Pick at most `most` of `count` nodes: every second, third ..., as much left out before as behind."""
    step = -(-count // most)
    return np.arange((count - 1) % step // 2, count, step)


def stamp(kernels: FloatArray, oversample: int, width_px: float = STAMP_PX) -> FloatArray:
    """Cut the middle (..., k, k) of kernels (..., K, K), k odd, `width_px` pixels wide, in light per pixel."""
    centre = kernels.shape[-1] // 2
    half = min(centre, round(width_px * oversample / 2))
    middle = slice(centre - half, centre + half + 1)
    return np.asarray(kernels[..., middle, middle], dtype=np.float64) * oversample**2


def mosaic_of(stamps: FloatArray) -> FloatArray:
    """Lay stamps (Ty, Tx, k, k) side by side, a line of NaN between: (Ty (k + 1) - 1, Tx (k + 1) - 1)."""
    rows, columns, size, _ = stamps.shape
    framed = np.full((rows, columns, size + 1, size + 1), np.nan)
    framed[..., :size, :size] = stamps
    return framed.transpose(0, 2, 1, 3).reshape(rows * (size + 1), -1)[:-1, :-1]


def psf_montage(grid: PsfGrid) -> Figure:
    """Show the PSFs where they belong in the picture, on a linear and on a logarithmic scale, a row a channel.

    Parameters
    ----------
    grid : PsfGrid
        Of more tiles than can be told apart side by side, an even choice is shown.

    Returns
    -------
    Figure
        Colours mean light per pixel, as a share of the point's, on one scale for all channels.
    """
    rows, columns = thinned(len(grid.y_px), MOST_DOWN), thinned(len(grid.x_px), MOST_ACROSS)
    stamps = stamp(grid.kernels[:, rows][:, :, columns], grid.oversample)
    peak, period = float(stamps.max()), stamps.shape[-1] + 1
    tall = float(np.clip(len(rows) / len(columns), 0.2, 3))
    figure = Figure(figsize=(11, (4.6 * tall + 0.35) * len(grid.channels) + 0.2), dpi=DPI, layout="constrained")
    panels = figure.subplots(len(grid.channels), 2, sharex=True, sharey=True, squeeze=False)
    floor = peak * 10**-DECADES
    scales = Normalize(0, peak), LogNorm(floor, peak)
    for pair, of_channel, channel in zip(panels, stamps, grid.channels, strict=True):
        mosaic = mosaic_of(of_channel)
        for axes, scale, name in zip(pair, scales, ("linear", "logarithmic"), strict=True):
            shown = mosaic if name == "linear" else np.maximum(mosaic, floor)
            axes.imshow(shown, cmap=levels(MAP, COLOURS), norm=scale, interpolation="none")
            axes.set_title(f"{channel}, {name}", fontsize=10)
            axes.spines[:].set_visible(False)
            axes.tick_params(labelsize=8)
        pair[0].set_ylabel("tile's y [px]", fontsize=9)
    few = thinned(len(columns), 5)
    for axes, scale, column in zip(panels[-1], scales, panels.T, strict=True):
        axes.set_xlabel("tile's x [px]", fontsize=9)
        axes.set_xticks(few * period + period // 2, [f"{x:.0f}" for x in grid.x_px[columns[few]]])
        colour_bar(figure, ScalarMappable(scale, levels(MAP, COLOURS)), column, LIGHT)
    few = thinned(len(rows), 5)
    panels[0, 0].set_yticks(few * period + period // 2, [f"{y:.0f}" for y in grid.y_px[rows[few]]])
    return figure


def encircled_energy_figure(grid: PsfGrid, size_px: tuple[int, int]) -> Figure:
    """Show the share of light within circles: the tile nearest to the picture's middle, half-way out and outermost.

    Parameters
    ----------
    grid : PsfGrid
    size_px : (H, W)
        Of the sensor.

    Returns
    -------
    Figure
        A panel a channel.
    """
    height, width = size_px
    off = np.hypot(grid.x_px - (width - 1) / 2, grid.y_px[:, None] - (height - 1) / 2) / (np.hypot(*size_px) / 2)
    wanted = np.linspace(0, float(off.max()), ENERGY_OF_PLACES)
    radius_px = np.linspace(0, min(6.0, grid.kernels.shape[-1] / 2 / grid.oversample), 61)
    figure = Figure(figsize=(PANEL_IN * len(grid.channels) + 0.9, 2.9), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(grid.channels), sharey=True, squeeze=False)[0]
    for kernels, channel, axes in zip(grid.kernels, grid.channels, panels, strict=True):
        for at, style in zip(wanted, ("-", "--", ":"), strict=True):
            j, i = np.unravel_index(np.argmin(np.abs(off - at)), off.shape)
            energy = encircled_energy(kernels[j, i], radius_px, grid.oversample)
            label = f"height {off[j, i]:.2f}: ({grid.x_px[i]:.0f}, {grid.y_px[j]:.0f}) px"
            axes.plot(radius_px, energy, style, color=OF_CHANNEL.get(channel, "#000000"), label=label)
        axes.set(xlim=(0, radius_px[-1]), ylim=(0, 1.02), xlabel="radius [px]")
        axes.set_title(channel, fontsize=10)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        tidy(axes)
    panels[0].set_ylabel("encircled energy")
    return figure
