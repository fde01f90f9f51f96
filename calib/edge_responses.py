"""Step of a calibration: SFR of the slanted edges of a session in every channel, kept beside the PSFs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
import numpy.typing as npt

from calib.edge.measure import MeasuredEdge, measure_capture
from calib.edge.quality import EdgeFlag
from calib.edge.response import crossing_cpp
from calib.manifest import Plan
from calib.progress import Report, silent
from calib.session import Journal, Shot, in_words
from psfbank.errors import PsfBankError
from psfbank.flags import Flag
from psfbank.metrics import mtf_along
from psfbank.model import Calibration, EdgeResponses
from psfbank.seen import HIGHEST_MTF

FREQ_CPP = np.arange(65) / 64  # that all edges of a bank share
MEANING = {
    EdgeFlag.CRITICAL_ANGLE: Flag.CRITICAL_ANGLE,
    EdgeFlag.SHORT: Flag.SHORT,
    EdgeFlag.LOW_CONTRAST: Flag.LOW_SNR,
    EdgeFlag.LOW_CNR: Flag.LOW_SNR,
    EdgeFlag.CLIPPED: Flag.SATURATED,
    EdgeFlag.CONTAMINATED: Flag.OVERLAPPING,
    EdgeFlag.CURVED: Flag.CURVED,
    EdgeFlag.GAMMA_SUSPECTED: Flag.UNUSABLE,
    EdgeFlag.UNRELIABLE: Flag.LOW_SNR,
}


def to_flag(flags: EdgeFlag) -> Flag:
    """Say in a bank's words what stands against an edge."""
    meant = Flag.GOOD
    for flag, meaning in MEANING.items():
        if flag in flags:
            meant |= meaning
    return meant


def to_responses(measured: Sequence[MeasuredEdge], channels: tuple[str, ...]) -> EdgeResponses:
    """Bring measured edges to the frequencies `FREQ_CPP`."""
    curves = [m.response for m in measured]
    return EdgeResponses(
        xy_px=np.array([m.xy_px for m in measured]),
        angle_rad=np.array([m.angle_rad for m in measured]),
        channel=np.array([channels.index(m.channel) for m in measured]),
        freq_cpp=FREQ_CPP,
        mtf=np.array([np.interp(FREQ_CPP, c.freq_cpp, c.sfr) for c in curves]),
        mtf_std=np.array([np.interp(FREQ_CPP, c.freq_cpp, c.sfr_std) for c in curves]),
        mtf50_cpp=np.array([m.mtf50_cpp for m in measured]),
        mtf50_std_cpp=np.array([c.mtf50_std_cpp for c in curves]),
        flags=np.array([int(to_flag(m.flags)) for m in measured]),
        channels=channels,
    )


def measure_edges(
    plan: Plan, shots: Sequence[Shot], journal: Journal, executor: Executor | None = None, report: Report = silent
) -> EdgeResponses | None:
    """Measure the SFR of every slanted edge in every channel.

    Parameters
    ----------
    plan : Plan
    shots : sequence of Shot
        Captures of slanted edges; one that shows none is flagged, the others go on.
    journal : Journal
    executor : Executor, optional
        For a capture each; the result does not depend on it.
    report : callable

    Returns
    -------
    EdgeResponses or None
        None where there are no such captures, none of them shows an edge, or all are gamma-coded.
    """
    if not shots:
        return None
    if plan.encoding != "linear":
        journal.lack("edges", "gamma-coded pictures do not keep the contrast of edges; shoot RAW")
        return None

    def measure(shot: Shot) -> tuple[MeasuredEdge, ...] | PsfBankError:
        try:
            return measure_capture(shot.capture, plan.camera)
        except PsfBankError as error:
            return error

    measured: list[MeasuredEdge] = []
    for done, (shot, found) in enumerate(
        zip(shots, (map if executor is None else executor.map)(measure, shots), strict=True), start=1
    ):
        if isinstance(found, PsfBankError):
            journal.flag(shot.capture.name, Flag.UNUSABLE, in_words(found))
        else:
            measured += [edge for edge in found if _is_sane(edge)]
        report("measure edges", done, len(shots))
    if not measured:
        journal.lack("edges", "no capture shows a slanted edge that could be measured")
        return None
    edges = to_responses(measured, plan.camera.channels)
    counts = np.bincount(edges.channel, minlength=len(edges.channels))
    journal.summary["edges"] = {"measured": dict(zip(edges.channels, counts.tolist(), strict=True))}
    return edges


def predicted_mtf50_cpp(calibration: Calibration, edges: EdgeResponses) -> npt.NDArray[np.float64]:
    """MTF50 (N,) that a calibration's own PSFs have at the edges' places, along their normals; NaN where none."""
    grid = calibration.psf_grid
    found = np.full(len(edges), np.nan)
    if grid is None:
        return found
    for k, (xy_px, angle_rad, channel) in enumerate(zip(edges.xy_px, edges.angle_rad, edges.channel, strict=True)):
        x_px, y_px = xy_px
        kernel = calibration.psf(float(x_px), float(y_px), edges.channels[channel], grid.oversample)
        found[k] = crossing_cpp(FREQ_CPP, mtf_along(kernel, float(angle_rad), FREQ_CPP, grid.oversample), 0.5)
    return found


def _is_sane(edge: MeasuredEdge) -> bool:
    return bool(np.isfinite(edge.response.sfr).all() and np.max(edge.response.sfr) <= HIGHEST_MTF)
