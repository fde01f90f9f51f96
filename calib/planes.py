"""Steps of a calibration: boards and point grids, brought together as views of planes, and the distortion map."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calib import chessboard, geometry, noise_target
from calib.corners import DetectedCorners, judge_views, read_vnl, same_corners
from calib.focus import planes_of
from calib.manifest import Entry, Plan
from calib.measure import PointSet
from calib.progress import Report, silent
from calib.psf import image_centroids
from calib.registration import register_view
from calib.session import Journal, Shot, in_words
from calib.wavefront import FocusPlanes, WavefrontFit
from psfbank.arrays import FloatArray
from psfbank.errors import CaptureUnusable, FitFailed, NoTargetFound
from psfbank.flags import Flag
from psfbank.model import Corners, DistortionMap, PsfGrid

log = logging.getLogger(__name__)

# No detection is trusted beyond this: what is left of asymmetric blur, a chart's own flaws and the wavefront model's
# misfit is smooth over the field, and a few points that noise alone makes very sure would bend the focal length.
SYSTEMATIC_PX = 0.03
BLOCK_SIGMA_PX = 0.2  # of a block of a noise target: where its light is, not where the centroid puts it


@dataclass(frozen=True)
class Board:
    """One chessboard or ChArUco board seen: its detection, the capture it is in, and the entry that describes it."""

    detection: chessboard.BoardDetection
    shot: Shot


def find_boards(plan: Plan, shots: Sequence[Shot], journal: Journal, report: Report = silent) -> list[Board]:
    """Detect and measure every board; views without one, or with a part of one, are flagged, and so are copies."""
    boards: list[Board] = []
    for done, shot in enumerate(shots, start=1):
        try:
            detection = _detected(plan, shot)
        except NoTargetFound as error:
            journal.flag(shot.capture.name, Flag.UNUSABLE, in_words(error))
        else:
            if detection.flags:
                journal.flag(shot.capture.name, detection.flags, detection.reason)
            original = _original(detection, boards, reference_channel(plan.camera.channels))
            if original is not None:
                journal.flag(shot.capture.name, Flag.UNUSABLE, f"its corners are those of {original}: a copy")
            elif not detection.flags & Flag.UNUSABLE:
                boards.append(Board(detection, shot))
        report("find ChArUco boards" if shot.entry.kind == "charuco" else "find chessboards", done, len(shots))
    return boards


def _detected(plan: Plan, shot: Shot) -> chessboard.BoardDetection:
    entry = shot.entry
    columns, rows = entry.columns or 0, entry.rows or 0
    if entry.kind == "chessboard":
        return chessboard.detect(shot.capture, plan.camera, columns, rows)
    share = entry.marker_mm / entry.square_mm if entry.marker_mm and entry.square_mm else None
    return chessboard.detect_charuco(
        shot.capture, plan.camera, columns, rows, dictionary=entry.dictionary, marker_share=share
    )


def _original(detection: chessboard.BoardDetection, boards: Sequence[Board], channel: str) -> str | None:
    """Name the capture, if there is one, that shows the very corners of a detection."""
    xy_px, found = detection.xy_px[channel], detection.found[channel]
    for board in boards:
        others_px, others_found = board.detection.xy_px[channel], board.detection.found[channel]
        if others_px.shape == xy_px.shape and same_corners(xy_px, found, others_px[None], others_found[None])[0]:
            return board.shot.capture.name
    return None


@dataclass(frozen=True)
class Detections:
    """Boards that another program detected, and the manifest entry that describes them."""

    detected: DetectedCorners
    entry: Entry


def read_detections(plan: Plan, journal: Journal) -> list[Detections]:
    """Read corners that another program detected; tables and boards that cannot be used are flagged."""
    out = []
    for entry, file in ((e, f) for e in plan.entries if e.kind == "corners" for f in e.files):
        name, columns = plan.name(file), entry.columns or 1
        try:
            detected = read_vnl(file, columns, entry.rows or 1, plan.camera.size_px, name)
        except CaptureUnusable as error:
            journal.flag(name, Flag.UNUSABLE, in_words(error))
            continue
        journal.inputs.append({"name": name, "kind": entry.kind, "sha256": detected.sha256})
        kept = np.ones(len(detected.names), dtype=bool)
        for k, reason in judge_views(detected, columns):
            journal.flag(f"{name}, {detected.names[k]}", Flag.UNUSABLE, reason)
            kept[k] = False
        out.append(Detections(detected.of_views(kept), entry))
    return out


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


@dataclass(frozen=True)
class PlaneViews:
    """Views of plane targets in every channel, ready for the bundle adjustment.

    `alike` tells of each view whether its points share errors that depend on the place in the picture.
    """

    corners: dict[str, Corners]
    sigma_px: FloatArray
    target: tuple[int, ...]
    alike: tuple[bool, ...] = ()


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


def detected_views(detections: Sequence[Detections], channels: tuple[str, ...]) -> PlaneViews:
    """Arrange boards that another program detected as views, seen in the reference channel alone.

    Those of one manifest entry are one physical target.
    """
    entries = list({id(d.entry): d.entry for d in detections}.values())
    parts = [d.detected.to_corners(d.entry.columns or 1, d.entry.square_mm or 1.0) for d in detections]
    seen = geometry.join(parts)
    unseen = replace(seen, found=np.zeros_like(seen.found))
    number = [k for d in detections for k, entry in enumerate(entries) if entry is d.entry for _ in d.detected.names]
    return PlaneViews(
        {channel: seen if channel == reference_channel(channels) else unseen for channel in channels},
        stack_padded([d.detected.sigma_px for d in detections]),
        tuple(number),
    )


def joined_views(parts: Sequence[PlaneViews]) -> PlaneViews:
    """Bring views of several kinds of target together, each physical target with a number of its own."""
    target: list[int] = []
    for part in parts:
        first = max(target, default=-1) + 1
        target += [number + first if number >= 0 else -1 for number in part.target]
    return PlaneViews(
        {channel: geometry.join([part.corners[channel] for part in parts]) for channel in parts[0].corners},
        stack_padded([part.sigma_px for part in parts]),
        tuple(target),
        tuple(alike for part in parts for alike in part.alike or (False,) * len(part.target)),
    )


def board_views(boards: Sequence[Board], channels: tuple[str, ...]) -> PlaneViews:
    """Arrange boards as views; those of one manifest entry are one physical target, parts without a place are flat."""
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
    return PlaneViews(corners, sigma, (-1,) * int(own.sum()), (True,) * int(own.sum()))


def reference_channel(channels: tuple[str, ...]) -> str:
    """Name the channel that the others are measured against: green, or the only one."""
    return "G" if "G" in channels else channels[0]


def beside_charts(plan: Plan, coded: Sequence[Board], detections: Sequence[Detections]) -> list[PlaneViews]:
    """Arrange boards that are no evidence of the PSF: ChArUco boards, and those that another program detected."""
    channels = plan.camera.channels
    parts = [board_views(coded, channels)] if coded else []
    return parts + ([detected_views(detections, channels)] if detections else [])


def sharp_geometry(
    plan: Plan,
    boards: Sequence[Board],
    noise_shots: Sequence[NoiseShot],
    beside: Sequence[PlaneViews],
    journal: Journal,
) -> geometry.DistortionFit | None:
    """Find where charts lie, well enough to draw them sharp: boards first, then noise targets; None when too few.

    Views of other targets `beside` them support the fit; their poses are left out.
    """
    channels = plan.camera.channels
    parts = [board_views(boards, channels)] if boards else []
    parts += [noise_views(noise_shots, channels)] if noise_shots else []
    if not parts:
        return None
    views = joined_views([*parts, *beside])
    try:
        fit = geometry.fit_distortion(
            views.corners[reference_channel(channels)],
            plan.camera.size_px,
            target=views.target,
            sigma_px=np.hypot(views.sigma_px, SYSTEMATIC_PX),
        )
    except FitFailed as error:
        journal.lack("charts", in_words(error))
        return None
    return replace(fit, poses=fit.poses[: len(boards) + len(noise_shots)])


@dataclass(frozen=True, eq=False)
class MeasuredMap:
    """A distortion map; and, unless one view was registered alone, the `fit`, its `corners` (V views) and `target`s."""

    distortion: DistortionMap
    fit: geometry.DistortionFit | None = None
    corners: Corners | None = None
    target: tuple[int, ...] = ()

    def residual_rms_px(self, distortion: DistortionMap) -> float:
        """2-D RMS that another map of this camera leaves of its corners, poses refitted; NaN without corners."""
        if self.fit is None or self.corners is None:
            return float("nan")
        _, left = geometry.fit_poses(replace(self.fit, distortion=distortion), self.corners, self.target)
        return float(np.sqrt(np.nanmean(np.sum(left**2, axis=-1))))


def measure_distortion(
    plan: Plan,
    points: PointSet | None,
    wavefront: WavefrontFit | None,
    boards: Sequence[Board],
    noise_shots: Sequence[NoiseShot],
    detections: Sequence[Detections],
    journal: Journal,
    report: Report = silent,
) -> MeasuredMap | None:
    """Fit the distortion map to boards, noise targets and point grids together; None when they do not suffice.

    One view alone, of points or of a board, is registered against its own plane.
    """
    channels = plan.camera.channels
    parts = [board_views(boards, channels)] if boards else []
    parts += [noise_views(noise_shots, channels)] if noise_shots else []
    parts += [detected_views(detections, channels)] if detections else []
    if points is not None and wavefront is not None:
        parts.append(point_views(points, wavefront, channels, planes_of(plan, points.entries)))
    if not parts:
        journal.lack("distortion", "no capture shows a chessboard or a grid of points")
        return None
    report("distortion", 0, 1)
    views, reference = joined_views(parts), reference_channel(channels)
    if len(views.target) == 1 and not noise_shots:
        sigma_px = np.hypot(views.sigma_px, SYSTEMATIC_PX)
        found = register_view(views.corners, sigma_px, reference, plan.camera.size_px, journal)
        report("distortion", 1, 1)
        return None if found is None else MeasuredMap(found)
    if not boards and not detections:
        log.warning("without chessboards the focal length is only as sure as the point grids are tilted")
    seen = views.corners[reference]
    others = {c: views.corners[c] for c in channels if c != reference}
    coloured = all((other.found & seen.found).any() for other in others.values())
    if not coloured:
        log.warning("no target was measured in every colour: all share one map, without lateral colour")
        others = {}
    try:
        fit = geometry.fit_distortion(
            seen,
            plan.camera.size_px,
            lateral=others or None,
            target=views.target,
            sigma_px=np.hypot(views.sigma_px, SYSTEMATIC_PX),
            alike=views.alike,
        )
    except FitFailed as error:
        journal.lack("distortion", in_words(error))
        return None
    report("distortion", 1, 1)
    for advice in fit.coverage.advice:
        log.warning("%s", advice)
    journal.summary["distortion"] = {
        "heldout_rms_px": round(fit.heldout_rms_px, 4),
        "rms_px": round(fit.rms_px, 4),
        "views": int(np.sum(np.isfinite(fit.poses).all(axis=1))),
        "points": int(seen.found.sum()),
        "outliers": len(fit.outliers),
        "share_of_picture": round(fit.coverage.share, 3),
        **({"advice": list(fit.coverage.advice)} if fit.coverage.advice else {}),
        **({} if coloured else {"lateral_colour": "not measured: all colours share one map"}),
    }
    return MeasuredMap(fit.distortion, fit, seen, tuple(views.target))
