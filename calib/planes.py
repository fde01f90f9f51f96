"""Steps of a calibration: chessboards and point grids, brought together as views of planes, and the distortion map."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calib import chessboard, geometry, noise_target
from calib.focus import planes_of
from calib.manifest import Entry, Plan
from calib.measure import PointSet
from calib.progress import Report, silent
from calib.psf import image_centroids
from calib.session import Journal, Shot, in_words
from calib.wavefront import FocusPlanes, WavefrontFit
from psfbank.arrays import FloatArray
from psfbank.errors import FitFailed, NoTargetFound
from psfbank.flags import Flag
from psfbank.model import Corners, DistortionMap, PsfGrid

log = logging.getLogger(__name__)

# No detection is trusted beyond this: what is left of asymmetric blur, a chart's own flaws and the wavefront model's
# misfit is smooth over the field, and a few points that noise alone makes very sure would bend the focal length.
SYSTEMATIC_PX = 0.03
BLOCK_SIGMA_PX = 0.2  # of a block of a noise target: where its light is, not where the centroid puts it


@dataclass(frozen=True)
class Board:
    """One chessboard seen: its detection, the capture it is in, and the manifest entry that describes it."""

    detection: chessboard.BoardDetection
    shot: Shot


def find_boards(plan: Plan, shots: Sequence[Shot], journal: Journal, report: Report = silent) -> list[Board]:
    """Detect and measure every chessboard; views without one, or with a part of one, are flagged."""
    boards = []
    for done, shot in enumerate(shots, start=1):
        try:
            detection = chessboard.detect(shot.capture, plan.camera, shot.entry.columns or 0, shot.entry.rows or 0)
        except NoTargetFound as error:
            journal.flag(shot.capture.name, Flag.UNUSABLE, in_words(error))
        else:
            if detection.flags:
                journal.flag(shot.capture.name, detection.flags, detection.reason)
            if not detection.flags & Flag.UNUSABLE:
                boards.append(Board(detection, shot))
        report("find chessboards", done, len(shots))
    return boards


def centre_boards(plan: Plan, boards: Sequence[Board], psf: PsfGrid | None, report: Report = silent) -> list[Board]:
    """Move corners to the PSF's centroid, so that they and the points obey one map; unchanged without PSFs."""
    if psf is None:
        return list(boards)
    centred = []
    for done, board in enumerate(boards, start=1):
        detection = chessboard.to_centroids(board.detection, board.shot.capture, plan.camera, psf)
        centred.append(replace(board, detection=detection))
        report("centre corners", done, len(boards))
    return centred


@dataclass(frozen=True)
class NoiseShot:
    """One noise target seen: what was found of it, and the capture it is in."""

    view: noise_target.NoiseView
    shot: Shot


def find_noise_targets(plan: Plan, shots: Sequence[Shot], journal: Journal, report: Report = silent) -> list[NoiseShot]:
    """Find every noise target; views without one are flagged."""
    found = []
    for done, shot in enumerate(shots, start=1):
        try:
            found.append(NoiseShot(noise_target.find(shot.capture, plan.camera, shot.entry), shot))
        except NoTargetFound as error:
            journal.flag(shot.capture.name, Flag.UNUSABLE, in_words(error))
        report("find noise targets", done, len(shots))
    return found


def noise_views(noise_shots: Sequence[NoiseShot], channels: tuple[str, ...]) -> PlaneViews:
    """Arrange noise targets as views of flat targets, seen in the reference channel alone."""
    corners = {}
    for channel in channels:
        seen = channel == reference_channel(channels)
        corners[channel] = geometry.join(
            [
                Corners(n.view.object_mm[None], n.view.image_px[None], np.full((1, len(n.view.object_mm)), seen))
                for n in noise_shots
            ]
        )
    return PlaneViews(corners, np.full(corners[channels[0]].found.shape, BLOCK_SIGMA_PX), (-1,) * len(noise_shots))


@dataclass(frozen=True)
class PlaneViews:
    """Views of plane targets in every channel, ready for the bundle adjustment."""

    corners: dict[str, Corners]
    sigma_px: FloatArray
    target: tuple[int, ...]


def board_views(boards: Sequence[Board], channels: tuple[str, ...]) -> PlaneViews:
    """Arrange chessboards as views; whole boards of one manifest entry are one physical target, parts are flat."""
    entries: list[Entry] = list({id(board.shot.entry): board.shot.entry for board in boards}.values())
    grouped = [[board.detection for board in boards if board.shot.entry is entry] for entry in entries]
    corners, sigma = {}, {}
    for channel in channels:
        parts = [
            chessboard.to_corners(found, entry.square_mm or 1.0, channel)
            for found, entry in zip(grouped, entries, strict=True)
        ]
        corners[channel] = geometry.join([part[0] for part in parts])
        sigma[channel] = stack_padded([part[1] for part in parts])
    return PlaneViews(corners, sigma[reference_channel(channels)], board_targets(boards))


def board_targets(boards: Sequence[Board]) -> tuple[int, ...]:
    """Count the physical targets that boards show: a number for every manifest entry; -1 for a part, taken as flat."""
    entries = list({id(board.shot.entry): board.shot.entry for board in boards}.values())
    return tuple(
        -1 if board.detection.flags & Flag.PARTIAL else k
        for k, entry in enumerate(entries)
        for board in boards
        if board.shot.entry is entry
    )


def stack_padded(rows: Sequence[FloatArray]) -> FloatArray:
    """Stack (V, M) arrays of different M, padded with infinity to the widest."""
    widest = max(part.shape[1] for part in rows)
    return np.concatenate([np.pad(p, ((0, 0), (0, widest - p.shape[1])), constant_values=np.inf) for p in rows])


def point_views(
    points: PointSet, fit: WavefrontFit, channels: tuple[str, ...], planes: FocusPlanes | None = None
) -> PlaneViews:
    """Arrange point grids as views, each point at its image's centroid in each channel; the grids are taken as flat.

    Views in another focus than the session's own are left out: the picture's scale changes with focus.
    """
    own = (planes or FocusPlanes()).of(np.arange(len(points.views))) == 0
    view = np.repeat(np.arange(len(points.views)), [len(v.xy_px) for v in points.views])
    corners, lights = {}, slice(len(view))  # pieces of charts come after the lights
    sound = fit.sound[lights]
    for c, channel in enumerate(channels):
        centroid = image_centroids(fit, c, fit.xy_px[lights])
        parts = [
            Corners((v.index * (e.pitch_mm or 1.0))[None], centroid[None, view == k], sound[None, view == k])
            for k, (v, e) in enumerate(zip(points.views, points.entries, strict=True))
            if own[k]
        ]
        corners[channel] = geometry.join(parts)
    sigma = stack_padded([fit.sigma_px[None, lights][:, view == k] for k in np.flatnonzero(own)])
    return PlaneViews(corners, sigma, (-1,) * int(own.sum()))


def reference_channel(channels: tuple[str, ...]) -> str:
    """Name the channel that the others are measured against: green, or the only one."""
    return "G" if "G" in channels else channels[0]


def sharp_geometry(
    plan: Plan, boards: Sequence[Board], noise_shots: Sequence[NoiseShot], journal: Journal
) -> geometry.DistortionFit | None:
    """Find where charts lie, well enough to draw them sharp: boards first, then noise targets; None when too few."""
    channels = plan.camera.channels
    parts = [board_views(boards, channels)] if boards else []
    parts += [noise_views(noise_shots, channels)] if noise_shots else []
    if not parts:
        return None
    reference = reference_channel(channels)
    try:
        return geometry.fit_distortion(
            geometry.join([part.corners[reference] for part in parts]),
            plan.camera.size_px,
            target=[number for part in parts for number in part.target],
            sigma_px=np.hypot(stack_padded([part.sigma_px for part in parts]), SYSTEMATIC_PX),
        )
    except FitFailed as error:
        journal.lack("charts", in_words(error))
        return None


def measure_distortion(
    plan: Plan,
    points: PointSet | None,
    wavefront: WavefrontFit | None,
    boards: Sequence[Board],
    noise_shots: Sequence[NoiseShot],
    journal: Journal,
    report: Report = silent,
) -> DistortionMap | None:
    """Fit the distortion map to chessboards, noise targets and point grids together; None when they do not suffice."""
    channels = plan.camera.channels
    parts = [board_views(boards, channels)] if boards else []
    parts += [noise_views(noise_shots, channels)] if noise_shots else []
    if points is not None and wavefront is not None:
        parts.append(point_views(points, wavefront, channels, planes_of(plan, points.entries)))
    if not parts:
        journal.lack("distortion", "no capture shows a chessboard or a grid of points")
        return None
    if not boards:
        log.warning("without chessboards the focal length is only as sure as the point grids are tilted")
    report("distortion", 0, 1)
    joined = {channel: geometry.join([part.corners[channel] for part in parts]) for channel in channels}
    reference = reference_channel(channels)
    try:
        fit = geometry.fit_distortion(
            joined[reference],
            plan.camera.size_px,
            lateral={c: joined[c] for c in channels if c != reference} or None,
            target=[number for part in parts for number in part.target],
            sigma_px=np.hypot(stack_padded([part.sigma_px for part in parts]), SYSTEMATIC_PX),
        )
    except FitFailed as error:
        journal.lack("distortion", in_words(error))
        return None
    report("distortion", 1, 1)
    journal.summary["distortion"] = {
        "views": int(np.sum(np.isfinite(fit.poses).all(axis=1))),
        "points": int(joined[reference].found.sum()),
        "rms_px": round(fit.rms_px, 4),
        "heldout_rms_px": round(fit.heldout_rms_px, 4),
    }
    return fit.distortion
