"""Figures of where rays land: distortion, how sure it is, and lateral colour."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calib.plots.style import FAINT, INK, OF_CHANNEL, colour_bar, label_outer, limits_of, over_field, panels, tidy
from psfbank.arrays import FloatArray
from psfbank.distortion_figures import local_geometric_distortion_percent, undistorted_px
from psfbank.model import DistortionMap

ARROWS = 15  # across the picture's longer side
MAP_SAMPLES = 121  # likewise, of a smooth map
LONGEST_ARROW = 0.09  # of the longer side
CONTOURS = 6


def even_places(size_px: tuple[int, int], across: int) -> tuple[FloatArray, FloatArray]:
    """Columns and rows, pixels, of an even grid of places over a sensor (H, W), `across` on its longer side."""
    step = max(size_px) / across
    x_px, y_px = (
        (np.arange(n) + 0.5) * length / n - 0.5
        for length, n in ((length, max(2, round(length / step))) for length in (size_px[1], size_px[0]))
    )
    return x_px, y_px


def distortion_field(distortion: DistortionMap, size_px: tuple[int, int]) -> Figure:
    """Show how far each place is displaced from where the scale of the picture's middle would put it.

    Parameters
    ----------
    distortion : DistortionMap
    size_px : (H, W)
        Of the sensor.

    Returns
    -------
    Figure
        At the left arrows that end where light lands, contours of their length in pixels and the valid region; at the
        right the local distortion of ISO 17850 over the image height.
    """
    figure = panels(3, size_px=size_px)
    field, curve = figure.subplots(1, 2, width_ratios=(1.5, 1))
    channel = "G" if "G" in distortion.channels else distortion.channels[0]

    def moved_px(xy_px: FloatArray) -> FloatArray:
        moved = xy_px - undistorted_px(distortion, size_px, xy_px, channel)
        # beside 90 degrees a lens's picture has no place in a flat one: it would be drawn without end
        return np.where(np.linalg.norm(moved, axis=1, keepdims=True) < max(size_px), moved, np.nan)

    at_px = _places(size_px, ARROWS)
    moved = moved_px(at_px)
    longest = _longest(moved)
    _draw_contours(field, np.linalg.norm(moved_px(_places(size_px, MAP_SAMPLES)), axis=1), size_px)
    _draw_arrows(field, at_px, moved, size_px, longest, INK, pivot="tip")
    _draw_region(field, distortion)
    over_field(field, size_px, _arrow_title(channel, longest, size_px))
    label_outer(np.array([[field]]))
    height = np.linspace(0.02, 1, 50)
    mean, spread = local_geometric_distortion_percent(distortion, size_px, height, channel)
    colour = OF_CHANNEL.get(channel, INK)
    curve.plot(height, mean, color=colour)
    curve.fill_between(height, mean - spread, mean + spread, color=colour, alpha=0.25, linewidth=0)
    curve.axhline(0, color=FAINT, linewidth=0.8)
    curve.set(xlim=(0, 1), xlabel="image height [half the diagonal]", ylabel="local distortion, ISO 17850 [%]")
    curve.set_title("mean and spread over azimuth", fontsize=10)
    tidy(curve)
    return figure


def distortion_uncertainty(distortion: DistortionMap, size_px: tuple[int, int]) -> Figure:
    """Show the standard deviation of where light lands, both directions together, a panel a channel.

    Parameters
    ----------
    distortion : DistortionMap
        With `uncertainty`.
    size_px : (H, W)
        Of the sensor.

    Returns
    -------
    Figure
        The region that the calibration saw is outlined; the scale serves what lies within it.
    """
    count = len(distortion.channels)
    figure = panels(count, size_px=size_px)
    row = figure.subplots(1, count, squeeze=False)[0]
    at_px = _places(size_px, MAP_SAMPLES)
    sigma_px = [np.linalg.norm(distortion.sigma_px(at_px, channel), axis=1) for channel in distortion.channels]
    known = [values[np.isfinite(values)] for values in sigma_px]
    limits = limits_of(*[np.percentile(values, [98]) for values in known if values.size], least=0.0)
    extent = (-0.5, size_px[1] - 0.5, size_px[0] - 0.5, -0.5)
    for axes, channel, values in zip(row, distortion.channels, sigma_px, strict=True):
        image = values.reshape(_shape(size_px, MAP_SAMPLES))
        shown = axes.imshow(image, cmap="magma", vmin=limits[0], vmax=limits[1], extent=extent, interpolation="none")
        _draw_region(axes, distortion)
        over_field(axes, size_px, channel)
    label_outer(row[None])
    colour_bar(figure, shown, row, "one standard deviation [px]")
    return figure


def lateral_colour(distortion: DistortionMap, size_px: tuple[int, int]) -> Figure:
    """Show how far red and blue land from green.

    Parameters
    ----------
    distortion : DistortionMap
        With green among its channels.
    size_px : (H, W)
        Of the sensor.

    Returns
    -------
    Figure
        A panel for R - G, one for B - G, their arrows on one scale; contours of the distance in pixels.
    """
    others = [channel for channel in distortion.channels if channel != "G"]
    figure = panels(len(others), size_px=size_px)
    row = figure.subplots(1, len(others), squeeze=False)[0]

    def moved_px(xy_px: FloatArray, channel: str) -> FloatArray:
        return distortion.project(distortion.unproject(xy_px, "G"), channel) - xy_px

    at_px, dense_px = _places(size_px, ARROWS), _places(size_px, MAP_SAMPLES)
    moved = [moved_px(at_px, channel) for channel in others]
    longest = _longest(*moved)
    for axes, channel, by_px in zip(row, others, moved, strict=True):
        _draw_contours(axes, np.linalg.norm(moved_px(dense_px, channel), axis=1), size_px)
        _draw_arrows(axes, at_px, by_px, size_px, longest, OF_CHANNEL.get(channel, INK))
        over_field(axes, size_px, _arrow_title(f"{channel} - G", longest, size_px))
    label_outer(row[None])
    return figure


def _shape(size_px: tuple[int, int], across: int) -> tuple[int, int]:
    x_px, y_px = even_places(size_px, across)
    return len(y_px), len(x_px)


def _places(size_px: tuple[int, int], across: int) -> FloatArray:
    return np.stack(np.meshgrid(*even_places(size_px, across)), axis=-1).reshape(-1, 2)


def _longest(*moved_px: FloatArray) -> float:
    """Length of the longest arrow but a few."""
    lengths = np.concatenate([np.linalg.norm(m, axis=1) for m in moved_px])
    lengths = lengths[np.isfinite(lengths)]
    return float(np.percentile(lengths, 99)) if lengths.size and lengths.max() > 0 else 1.0


def _magnification(longest: float, size_px: tuple[int, int]) -> float:
    """Make the longest arrow `LONGEST_ARROW` of the picture: 1, 2 or 5 times a power of ten."""
    wanted = LONGEST_ARROW * max(size_px) / longest
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(power * max(step for step in (1, 2, 5) if step * power <= wanted * (1 + 1e-9)))


def _arrow_title(name: str, longest: float, size_px: tuple[int, int]) -> str:
    return f"{name}, arrows {_magnification(longest, size_px):g} times as long"


def _draw_arrows(
    axes: Axes,
    at_px: FloatArray,
    by_px: FloatArray,
    size_px: tuple[int, int],
    longest: float,
    colour: str,
    pivot: Literal["tail", "tip"] = "tail",
) -> None:
    shown = np.linalg.norm(by_px, axis=1) <= 3 * longest
    x, y = at_px[shown].T
    axes.quiver(
        *(x, y, *by_px[shown].T),
        angles="xy",
        scale_units="xy",
        scale=1 / _magnification(longest, size_px),
        pivot=pivot,
        color=colour,
        width=0.004,
        zorder=3,
    )


def _draw_contours(axes: Axes, lengths_px: FloatArray, size_px: tuple[int, int]) -> None:
    x_px, y_px = even_places(size_px, MAP_SAMPLES)
    values = np.ma.masked_invalid(lengths_px.reshape(len(y_px), len(x_px)))
    if values.count() and float(np.ptp(values.compressed())) > 0:
        lines = axes.contour(x_px, y_px, values, levels=CONTOURS, colors=FAINT, linewidths=0.8)
        axes.clabel(lines, fontsize=7, colors=FAINT)


def _draw_region(axes: Axes, distortion: DistortionMap) -> None:
    outline = np.concatenate([distortion.valid_region, distortion.valid_region[:1]])
    axes.plot(*outline.T, color=FAINT, linewidth=1.4, linestyle="--")
