"""Figures of the sensor and of the light that reaches it: photon transfer, shading."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calib.plots.distortion import even_places
from calib.plots.style import DPI, FAINT, INK, OF_CHANNEL, colour_bar, label_outer, over_field, panels, tidy
from psfbank.model import Illumination, NoiseByIso, NoiseModel

LEVELS = 200  # of the signal
SHADES = 121  # samples of a shading map across the longer side
CONTOUR_STEP = 0.1


def photon_transfer(noise: NoiseModel, by_iso: NoiseByIso | None = None) -> Figure:
    """Show noise against signal and the signal-to-noise ratio against electrons, as the calibrated model has them.

    Parameters
    ----------
    noise : NoiseModel
    by_iso : NoiseByIso, optional
        Adds the green channel's noise at each calibrated ISO speed.

    Returns
    -------
    Figure
        At the left the photon transfer curve after EMVA 1288: standard deviation against mean signal, both in DN, up
        to saturation. At the right the signal-to-noise ratio, a bare photon count's dotted.
    """
    figure = Figure(figsize=(11, 3.8), dpi=DPI, layout="constrained")
    transfer, ratio = figure.subplots(1, 2)
    for channel, width in zip(noise.channels, (4.0, 2.5, 1.2), strict=False):  # each shows beside the next one's
        own: dict[str, Any] = {"color": OF_CHANNEL.get(channel, INK), "linewidth": width}
        _draw_noise(transfer, ratio, noise, channel, label=channel, **own)
    if by_iso is not None:
        channel = "G" if "G" in by_iso.channels else by_iso.channels[0]
        for iso, style in zip(by_iso.iso.tolist(), cycle(("--", "-.", ":")), strict=False):
            label = f"{channel}, ISO {iso:g}"
            drawn = {"color": INK, "linestyle": style, "linewidth": 1.0}
            _draw_noise(transfer, ratio, by_iso.at(iso), channel, label=label, **drawn)
    electrons = np.array(ratio.dataLim.intervalx)
    ratio.plot(electrons, np.sqrt(electrons), ":", color=FAINT, label="photons alone")
    transfer.set(xlabel="signal above black [DN]", ylabel="noise, one standard deviation [DN]")
    ratio.set(xlabel="signal [electrons]", ylabel="signal-to-noise ratio")
    transfer.set_title("photon transfer", fontsize=10)
    ratio.set_title("signal-to-noise ratio", fontsize=10)
    for axes in (transfer, ratio):
        axes.set(xscale="log", yscale="log")
        tidy(axes)
        axes.legend(frameon=False, fontsize=8)
    return figure


def shading_maps(illumination: Illumination, size_px: tuple[int, int]) -> Figure:
    """Show relative illumination, a panel a channel on one scale, with a contour each tenth.

    Parameters
    ----------
    illumination : Illumination
    size_px : (H, W)
        Of the sensor.

    Returns
    -------
    Figure
    """
    count = len(illumination.channels)
    figure = panels(count, size_px=size_px)
    row = figure.subplots(1, count, squeeze=False)[0]
    x_px, y_px = even_places(size_px, SHADES)
    levels = np.arange(CONTOUR_STEP, 1, CONTOUR_STEP)
    extent = (-0.5, size_px[1] - 0.5, size_px[0] - 0.5, -0.5)
    for axes, channel in zip(row, illumination.channels, strict=True):
        values = illumination.at(*np.meshgrid(x_px, y_px), channel)
        shown = axes.imshow(values, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="none")
        if (levels > values.min()).any() and (levels < values.max()).any():
            lines = axes.contour(x_px, y_px, values, levels=levels, colors="#D55E00", linewidths=0.8)
            axes.clabel(lines, fontsize=7)
        over_field(axes, size_px, channel)
    label_outer(row[None])
    colour_bar(figure, shown, row, "relative illumination")
    return figure


def _draw_noise(transfer: Axes, ratio: Axes, noise: NoiseModel, channel: str, **style: Any) -> None:
    """Draw one channel: variance = gain^2 (read^2 + e) + (prnu gain e)^2, what is not known left out."""
    c = noise.channels.index(channel)
    gain, full = float(noise.gain_dn_per_e[c]), float(noise.white_dn[c] - noise.black_dn[c])
    read, prnu = (float(np.nan_to_num(values[c])) for values in (noise.read_noise_e, noise.prnu))
    electrons = np.geomspace(min(1.0, full / gain / 10), full / gain, LEVELS)
    std_e = np.sqrt(read**2 + electrons + (prnu * electrons) ** 2)
    transfer.plot(gain * electrons, gain * std_e, **style)
    ratio.plot(electrons, electrons / std_e, **style)
