"""Figures of how well a calibration predicts what it was not fitted to."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from calib.plots.psf import COLOURS, MOST_ACROSS, MOST_DOWN, mosaic_of, thinned
from calib.plots.style import (
    DPI,
    FAINT,
    INK,
    OF_CHANNEL,
    PANEL_IN,
    SIGNED,
    colour_bar,
    label_outer,
    levels,
    limits_of,
    over_field,
    panels,
    tidy,
    tile_map,
)
from psfbank.arrays import FloatArray
from psfbank.model import EdgeResponses, PsfEvidence


def chi2_maps(evidence: PsfEvidence, size_px: tuple[int, int]) -> Figure:
    """Show chi2 per sample of the images that a fit used, above those held in reserve; a column a channel.

    Parameters
    ----------
    evidence : PsfEvidence
    size_px : (H, W)
        Of the sensor.

    Returns
    -------
    Figure
        One scale about 1, where data and model agree to within the noise; tiles without such images are empty.
    """
    count = len(evidence.channels)
    figure = panels(count, 2, size_px=size_px)
    grid = figure.subplots(2, count, squeeze=False)
    both = evidence.chi2_used, evidence.chi2_reserved
    off = max(limits_of(*[np.abs(values - 1) for values in both], least=0.0)[1], 0.1)
    for row, values, name in zip(grid, both, ("fitted", "in reserve"), strict=True):
        for axes, channel, of_channel in zip(row, evidence.channels, values, strict=True):
            shown = tile_map(axes, evidence.x_px, evidence.y_px, of_channel, size_px, (1 - off, 1 + off), SIGNED)
            over_field(axes, size_px, f"{channel} {name}")
    label_outer(grid)
    colour_bar(figure, shown, grid.ravel(), "chi2 per sample")
    return figure


def residual_montage(evidence: PsfEvidence) -> Figure:
    """Show the mean of data minus model about the lights of each tile, a panel a channel.

    Parameters
    ----------
    evidence : PsfEvidence

    Returns
    -------
    Figure
        Percent of the model's peak, one scale for all channels.
    """
    rows, columns = thinned(len(evidence.y_px), MOST_DOWN), thinned(len(evidence.x_px), MOST_ACROSS)
    percent = 100.0 * evidence.residual[:, rows][:, :, columns].astype(np.float64)
    mosaics = [mosaic_of(of_channel) for of_channel in percent]
    count, shape = len(mosaics), mosaics[0].shape
    figure = panels(count, size_px=(shape[0], shape[1]))
    panel = figure.subplots(1, count, squeeze=False)[0]
    most = limits_of(np.percentile(np.abs(percent), [99.8]), least=0.0)[1]
    for axes, channel, mosaic in zip(panel, evidence.channels, mosaics, strict=True):
        shown = axes.imshow(mosaic, cmap=levels(SIGNED, COLOURS), vmin=-most, vmax=most, interpolation="none")
        axes.set_title(f"{channel} data - model", fontsize=10)
        axes.set_axis_off()
    colour_bar(figure, shown, panel, "share of the peak [%]")
    return figure


def edge_agreement(edges: EdgeResponses, predicted_cpp: FloatArray) -> Figure:
    """Show MTF50 that slanted edges show against that of the PSFs there, along the edges' normals.

    Parameters
    ----------
    edges : EdgeResponses
    predicted_cpp : (N,) float
        MTF50 of the PSFs, cycles/pixel.

    Returns
    -------
    Figure
        A panel a channel, one dot an edge; on the line both agree. The frame leaves a few outliers out.
    """
    figure = Figure(figsize=(PANEL_IN * len(edges.channels) + 0.9, 3.5), dpi=DPI, layout="constrained")
    row = figure.subplots(1, len(edges.channels), sharex=True, sharey=True, squeeze=False)[0]
    measured = np.asarray(edges.mtf50_cpp)
    low, high = _frame(predicted_cpp, measured)
    for c, (axes, channel) in enumerate(zip(row, edges.channels, strict=True)):
        which = (edges.channel == c) & np.isfinite(predicted_cpp) & np.isfinite(measured)
        std = np.nan_to_num(edges.mtf50_std_cpp[which])
        colour = OF_CHANNEL.get(channel, INK)
        axes.plot([low, high], [low, high], color=FAINT, linewidth=0.8)
        axes.errorbar(
            *(predicted_cpp[which], measured[which], std),
            fmt=".",
            color=colour,
            alpha=0.5,
            markersize=3,
            linewidth=0.6,
            rasterized=True,
        )
        off = measured[which] - predicted_cpp[which]
        told = f", off by {np.median(np.abs(off)):.4f} (median)" if off.size else ""
        axes.set_title(f"{channel}: {off.size} edges{told}", fontsize=9)
        axes.set(xlim=(low, high), ylim=(low, high))
        axes.set_xlabel("of the PSFs [cycles/px]")
        axes.locator_params(nbins=6, prune="both")
        tidy(axes)
    row[0].set_ylabel("of slanted edges, MTF50 [cycles/px]")
    return figure


def _frame(*values: FloatArray) -> tuple[float, float]:
    """Limits that nearly all values lie within."""
    known = [v[np.isfinite(v)] for v in values]
    low, high = limits_of(*[np.percentile(v, [0.3, 99.7]) for v in known if v.size])
    margin = 0.08 * (high - low)
    return low - margin, high + margin
