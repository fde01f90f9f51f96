"""Boards and point grids arranged as views of planes: which physical target, which channel, how sure."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from calib import chessboard, planes
from calib.corners import DetectedCorners
from calib.fieldmodel import Layout
from calib.led import PointView
from calib.manifest import Entry, Plan
from calib.measure import PointSet
from calib.planes import Board, board_views, centre_boards, find_boards, measure_distortion, point_views
from calib.pointmodel import Optics
from calib.psf import image_centroids
from calib.session import Journal, Shot
from calib.wavefront import WavefrontFit
from psfbank.bank import PsfBank
from psfbank.errors import NoTargetFound
from psfbank.flags import Flag
from psfbank.model import Camera, Capture, DistortionMap, Points, Setting
from psfbank.zernike import noll_terms

SIZE_PX, FOCAL_PX = (240, 320), 260.0
CENTRE_PX = np.array([159.5, 119.5])
CHANNELS = ("R", "G", "B")
CAMERA = Camera("Maker", "Model", SIZE_PX, "RGGB", pitch_um=1.4)
LATERAL = {"R": 1.001, "G": 1.0, "B": 0.999}
LAYOUT = Layout(terms=8, channels=3, degree=1)
TILTS_DEG = ((25, 10, 0), (-20, 25, 5), (5, -30, 90), (-28, -8, 3), (10, 30, -4), (-5, -22, 88))

Array = np.ndarray


def measured_map(*given: Any) -> DistortionMap | None:
    measured = measure_distortion(*given)
    return None if measured is None else measured.distortion


def plan(camera: Camera = CAMERA) -> Plan:
    channels = len(camera.channels)
    return Plan(
        Path("s/capture.toml"), Path("s"), camera, "linear", (0.0,) * channels, 1.0, Setting(), (540.0,) * channels, ()
    )


def entry(kind: str, **geometry: float) -> Entry:
    return Entry(kind, (), Setting(), **geometry)


def blank(name: str) -> Capture:
    return Capture(np.zeros(SIZE_PX), np.zeros(SIZE_PX, dtype=bool), name, "0" * 64)


def lattice(columns: int, rows: int) -> Array:
    return np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)


def project(plane_mm: Array, turn_deg: tuple[float, ...], depth_mm: float, channel: str = "G") -> Array:
    """Pinhole image of a plane that stands in front of the camera, its middle on the axis."""
    flat = np.column_stack([plane_mm - plane_mm.mean(axis=0), np.zeros(len(plane_mm))])
    turned = Rotation.from_euler("xyz", turn_deg, degrees=True).apply(flat) + np.array([0, 0, depth_mm])
    return CENTRE_PX + FOCAL_PX * LATERAL[channel] * turned[:, :2] / turned[:, 2:]


def detection(
    columns: int, rows: int, turn_deg: tuple[float, ...], square_mm: float = 25.0, flags: Flag = Flag.GOOD
) -> chessboard.BoardDetection:
    grid = lattice(columns, rows)
    seen = {c: project(grid * square_mm, turn_deg, 14 * square_mm, c) for c in CHANNELS}
    sigma = {c: np.full(len(grid), 0.01 * (k + 1)) for k, c in enumerate(CHANNELS)}
    found = {c: np.ones(len(grid), dtype=bool) for c in CHANNELS}
    return chessboard.BoardDetection(grid, seen, found, sigma, sigma, flags)


def boards_of(
    described: Entry, size: tuple[int, int], tilts: tuple = TILTS_DEG, square_mm: float = 25.0
) -> list[Board]:
    return [
        Board(detection(*size, tilt, square_mm), Shot(described, blank(f"{size}_{k}.png")))
        for k, tilt in enumerate(tilts)
    ]


@pytest.mark.parametrize(("channels", "reference"), [(("R", "G", "B"), "G"), (("Y",), "Y")])
def test_the_reference_is_green_or_the_only_channel(channels: tuple[str, ...], reference: str) -> None:
    assert planes.reference_channel(channels) == reference


def test_rows_of_several_lengths_are_padded_with_no_weight_at_all() -> None:
    stacked = planes.stack_padded([np.ones((2, 3)), np.full((1, 5), 2.0)])
    assert stacked.tolist() == [[1, 1, 1, np.inf, np.inf]] * 2 + [[2] * 5]


def test_boards_of_one_entry_are_one_target_and_parts_are_flat() -> None:
    large, small = entry("chessboard", square_mm=30.0), entry("chessboard", square_mm=10.0)
    whole, part = detection(5, 4, (0, 20, 0), 30.0), detection(3, 4, (0, -20, 0), 30.0, Flag.PARTIAL)
    boards = [
        Board(whole, Shot(large, blank("0"))),
        Board(detection(7, 5, (20, 0, 0), 10.0), Shot(small, blank("1"))),
        Board(part, Shot(large, blank("2"))),
    ]
    views = board_views(boards, CHANNELS)

    assert views.target == (0, -1, 1)  # by entry: both of the large board, then the small one
    assert set(views.corners) == set(CHANNELS)
    green = views.corners["G"]
    assert green.found.sum(axis=1).tolist() == [20, 12, 35]
    np.testing.assert_array_equal(green.object_mm[0, :20], lattice(5, 4) * 30.0)
    np.testing.assert_array_equal(green.object_mm[2], lattice(7, 5) * 10.0)
    np.testing.assert_array_equal(green.image_px[1, :12], part.xy_px["G"])
    np.testing.assert_array_equal(views.corners["B"].image_px[0, :20], whole.xy_px["B"])
    assert views.sigma_px.shape == (3, 35)
    assert (views.sigma_px[0, :20] == 0.02).all(), "green's own"
    assert not np.isfinite(views.sigma_px[0, 20:]).any()


def test_boards_are_measured_or_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "whole.png": detection(5, 4, (0, 0, 0)),
        "part.png": replace(detection(3, 4, (0, 0, 0), flags=Flag.PARTIAL), reason="3 x 4 corners of 5 x 4 in view"),
        "copy.png": detection(5, 4, (0, 0, 0)),
        "dim.png": replace(detection(5, 4, (0, 10, 0), flags=Flag.UNUSABLE), reason="2 of 20 corners measurable in R"),
    }

    def detect(capture: Capture, camera: Camera, columns: int, rows: int) -> chessboard.BoardDetection:
        assert (columns, rows) == (5, 4)
        if capture.name not in answers:
            raise NoTargetFound("no chessboard of 5 x 4 inner corners", where=capture.name, remedy="Check columns")
        return answers[capture.name]

    monkeypatch.setattr(chessboard, "detect", detect)
    journal, told = Journal(), []
    shots = [
        Shot(entry("chessboard", columns=5, rows=4), blank(name))
        for name in ("whole.png", "none.png", "part.png", "dim.png", "copy.png")
    ]
    boards = find_boards(plan(), shots, journal, lambda *step: told.append(step))

    assert [board.shot.capture.name for board in boards] == ["whole.png", "part.png"]
    assert journal.flagged == [
        {"name": "none.png", "flag": "unusable", "reason": "no chessboard of 5 x 4 inner corners. Check columns"},
        {"name": "part.png", "flag": "partial", "reason": "3 x 4 corners of 5 x 4 in view"},
        {"name": "dim.png", "flag": "unusable", "reason": "2 of 20 corners measurable in R"},
        {"name": "copy.png", "flag": "unusable", "reason": "its corners are those of whole.png: a copy"},
    ]
    assert told == [("find chessboards", k, 5) for k in range(1, 6)]


def test_a_charuco_board_is_detected_as_its_entry_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict] = []

    def detect(capture: Capture, camera: Camera, columns: int, rows: int, **told: object) -> chessboard.BoardDetection:
        asked.append({"size": (columns, rows), **told})
        return detection(5, 4, (0, 10 * len(asked), 0))

    monkeypatch.setattr(chessboard, "detect_charuco", detect)
    told: list[tuple] = []
    shots = [
        Shot(entry("charuco", columns=5, rows=4, square_mm=30.0), blank("0.png")),
        Shot(entry("charuco", columns=5, rows=4, square_mm=30.0, marker_mm=21.0, dictionary="DICT_4X4_50"), blank("1")),
    ]
    assert len(find_boards(plan(), shots, Journal(), lambda *step: told.append(step))) == 2
    assert asked == [
        {"size": (5, 4), "dictionary": None, "marker_share": None},
        {"size": (5, 4), "dictionary": "DICT_4X4_50", "marker_share": 0.7},
    ]
    assert told[-1] == ("find ChArUco boards", 2, 2)


def detections(described: Entry, tilts: tuple = TILTS_DEG) -> planes.Detections:
    """Boards of 9 x 6 corners, 25 mm apart, as another program would report them."""
    xy_px = np.stack([project(lattice(9, 6) * 25.0, tilt, 14 * 25.0) for tilt in tilts])
    found = np.ones(xy_px.shape[:2], dtype=bool)
    names = tuple(f"{k}.png" for k in range(len(tilts)))
    return planes.Detections(DetectedCorners(names, xy_px, found, np.full(found.shape, 0.1)), described)


def test_corners_from_elsewhere_are_views_of_the_reference_channel_alone() -> None:
    first, second = (entry("corners", columns=9, rows=6, square_mm=25.0) for _ in range(2))
    views = planes.detected_views([detections(first), detections(second, TILTS_DEG[:2]), detections(first)], CHANNELS)
    assert views.target == (0,) * 6 + (1,) * 2 + (0,) * 6
    assert views.corners["G"].found.all()
    assert not views.corners["R"].found.any()
    np.testing.assert_array_equal(views.corners["G"].object_mm[7], lattice(9, 6) * 25.0)
    assert (views.sigma_px == 0.1).all()


def test_targets_of_several_kinds_keep_numbers_of_their_own() -> None:
    large, small = entry("chessboard", square_mm=30.0), entry("charuco", square_mm=10.0)
    boards = boards_of(large, (5, 4)) + boards_of(small, (5, 4), TILTS_DEG[:1])
    part = Board(detection(3, 4, (0, -20, 0), 30.0, Flag.PARTIAL), Shot(large, blank("2")))
    elsewhere = planes.detected_views([detections(entry("corners", columns=9, rows=6, square_mm=25.0))], CHANNELS)
    views = planes.joined_views([board_views([*boards, part], CHANNELS), elsewhere])
    assert views.target == (0,) * 6 + (-1, 1) + (2,) * 6
    assert views.corners["G"].found.shape == views.sigma_px.shape == (14, 54)
    assert views.alike == (False,) * 14


@pytest.mark.parametrize("camera", [CAMERA, Camera("", "", SIZE_PX, "mono")])
def test_corners_from_elsewhere_make_a_map_without_lateral_colour(camera: Camera) -> None:
    journal = Journal()
    seen = detections(entry("corners", columns=9, rows=6, square_mm=25.0))
    found = measured_map(plan(camera), None, None, [], [], [seen], journal)
    assert found is not None
    assert ("lateral_colour" in journal.summary["distortion"]) == (camera is CAMERA)
    np.testing.assert_allclose(found.project(np.zeros((1, 2)), "G")[0], CENTRE_PX, atol=1.0)
    np.testing.assert_array_equal(found.project([[0.1, 0.2]], "R"), found.project([[0.1, 0.2]], "B"))


def test_boards_that_show_no_psf_support_the_geometry_of_charts_and_get_no_pose() -> None:
    boards = boards_of(entry("chessboard", square_mm=25.0), (7, 5), TILTS_DEG[:2])
    coded = boards_of(entry("charuco", square_mm=25.0), (9, 6))
    assert planes.sharp_geometry(plan(), boards, [], [], Journal()) is None, "two views are too few"
    beside = planes.beside_charts(plan(), coded, [detections(entry("corners", columns=9, rows=6, square_mm=25.0))])
    fit = planes.sharp_geometry(plan(), boards, [], beside, Journal())
    assert fit is not None
    assert fit.poses.shape == (2, 6)
    assert planes.sharp_geometry(plan(), [], [], beside, Journal()) is None, "nothing to draw"


def test_without_psfs_corners_stay(small_bank: PsfBank) -> None:
    boards = boards_of(entry("chessboard", square_mm=25.0), (7, 5))
    kept = centre_boards(plan(), boards, None)
    assert all(a is b for a, b in zip(kept, boards, strict=True))
    told: list[tuple[str, int, int]] = []
    moved = centre_boards(plan(), boards[:2], small_bank.at().psf_grid, lambda *step: told.append(step))
    assert [m.shot for m in moved] == [b.shot for b in boards[:2]]
    assert not np.allclose(moved[0].detection.xy_px["G"], boards[0].detection.xy_px["G"], atol=0.005)
    assert told == [("centre corners", 1, 2), ("centre corners", 2, 2)]


def grids(turns: tuple[tuple[float, ...], ...]) -> tuple[PointSet, WavefrontFit]:
    """Point grids of two sizes, and a field without aberrations that found every light where it is."""
    views, lights = [], []
    for k, turn in enumerate(turns):
        index = lattice(8 - k % 2, 6)
        lights.append(project(index * 40.0, turn, 420.0))
        views.append(PointView(lights[-1], index, 25.0))
    xy_px = np.concatenate(lights)
    at = LAYOUT.slices()
    vector = np.zeros(at["scale"].stop)
    vector[at["diffusion"]], vector[at["clip"].stop - 1], vector[at["scale"].start] = 0.28, 1.1, 1.0
    lateral = vector[at["lateral"]].reshape(2, 2, LAYOUT.shared)  # red, then blue
    half_diagonal = np.hypot(*SIZE_PX) / 2
    for channel, shift in zip("RB", lateral, strict=True):
        shift[0, 1] = shift[1, 2] = (LATERAL[channel] - 1) * half_diagonal
    optics = Optics(noll_terms(4, 11), np.tile([[600.0], [540.0], [460.0]], 2), np.ones((3, 2)), 2.0, 1.4)
    count = len(xy_px)
    used = np.arange(count) % 10 != 3
    sigma = np.linspace(0.01, 0.02, count)
    unseen = np.zeros(count, dtype=bool)
    eye, chi2 = np.eye(len(vector)), np.ones(count)
    fit = WavefrontFit(
        LAYOUT, optics, SIZE_PX, 8, vector, eye, xy_px, sigma, used, unseen, chi2, *np.ones((2, 3, count))
    )
    images = Points(
        xy_px, np.ones(count), np.zeros((count, 3, 3)), np.ones((count, 3, 3)), np.zeros((count, 2)),
        np.arange(count), np.zeros(count), np.zeros(count),
    )  # fmt: skip
    pitches = tuple(entry("led", pitch_mm=40.0) for _ in turns)
    return PointSet(images, tuple(views), pitches, tuple(f"{k}.png" for k in range(len(turns)))), fit


def test_point_grids_are_flat_views_at_the_centroids_of_their_images() -> None:
    points, fit = grids(((0, 5, 0), (4, 0, 2)))
    views = point_views(points, fit, CHANNELS)
    assert views.target == (-1, -1)
    assert views.alike == (True, True)
    for c, channel in enumerate(CHANNELS):
        corners = views.corners[channel]
        np.testing.assert_allclose(corners.image_px[0], image_centroids(fit, c, fit.xy_px)[:48])
        np.testing.assert_allclose(corners.image_px[1, :42], image_centroids(fit, c, fit.xy_px)[48:])
        np.testing.assert_array_equal(corners.object_mm[1, :42], points.views[1].index * 40.0)
        np.testing.assert_array_equal(corners.found[0], fit.used[:48])
        assert not corners.found[1, 42:].any()
    np.testing.assert_array_equal(views.sigma_px[0], fit.sigma_px[:48])
    assert not np.isfinite(views.sigma_px[1, 42:]).any()
    shift = views.corners["R"].image_px[0] - views.corners["G"].image_px[0]
    np.testing.assert_allclose(shift, (LATERAL["R"] - 1) * (points.views[0].xy_px - CENTRE_PX), atol=2e-3)


def test_boards_and_points_give_one_map_with_lateral_colour() -> None:
    journal, told = Journal(), []
    points, fit = grids(((0, 5, 0), (4, 0, 2)))
    boards = boards_of(entry("chessboard", square_mm=25.0), (9, 6))
    found = measured_map(plan(), points, fit, boards, [], [], journal, lambda *step: told.append(step))
    assert found is not None
    np.testing.assert_allclose(found.camera_matrix[[0, 1], [0, 1]], FOCAL_PX, rtol=2e-3)
    rays = np.array([(0.3, 0.2), (-0.4, 0.1), (0.1, -0.3)])
    for channel in "RB":
        shift = found.project(rays, channel) - found.project(rays, "G")
        expected = (LATERAL[channel] - 1) * (found.project(rays, "G") - CENTRE_PX)
        np.testing.assert_allclose(shift, expected, atol=0.01)
    summary = journal.summary["distortion"]
    assert summary["views"] == 8
    assert summary["points"] == 6 * 54 + int(fit.used.sum())
    assert summary["rms_px"] < 0.01
    assert summary["heldout_rms_px"] < 0.02
    assert summary["outliers"] < 5
    assert 0.3 < summary["share_of_picture"] <= 1
    assert np.isfinite(found.sigma_px([CENTRE_PX], "R")).all()
    assert told == [("distortion", 0, 1), ("distortion", 1, 1)]


def test_points_alone_give_a_map_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    points, fit = grids(((0, 25, 0), (24, 0, 2), (-20, -15, 5), (18, -20, 0)))
    with caplog.at_level(logging.WARNING):
        found = measured_map(plan(), points, fit, [], [], [], Journal())
    assert found is not None
    np.testing.assert_allclose(found.camera_matrix[[0, 1], [0, 1]], FOCAL_PX, rtol=5e-3)
    assert "without chessboards the focal length is only as sure as the point grids are tilted" in caplog.text
    assert "shoot boards where there are none" in caplog.text


def test_a_camera_of_one_channel_has_no_lateral_colour() -> None:
    mono = replace(CAMERA, cfa="mono")
    boards = [
        replace(
            board,
            detection=replace(
                board.detection,
                **{n: {"Y": getattr(board.detection, n)["G"]} for n in ("xy_px", "found", "sigma_px", "blur_px")},
            ),
        )
        for board in boards_of(entry("chessboard", square_mm=25.0), (9, 6))
    ]
    found = measured_map(plan(mono), None, None, boards, [], [], Journal())
    assert found is not None
    assert found.channels == ("Y",)


@pytest.mark.parametrize(
    ("views", "reason"),
    [
        (0, "no capture shows a chessboard or a grid of points"),
        (2, "2 views show 6 corners or more, 3 are needed. Shoot ten boards"),
    ],
)
def test_too_few_views_give_no_map(views: int, reason: str) -> None:
    journal = Journal()
    boards = boards_of(entry("chessboard", square_mm=25.0), (9, 6))[:views]
    assert measured_map(plan(), None, None, boards, [], [], journal) is None
    assert journal.missing["distortion"].startswith(reason)
    assert journal.summary == {}


def test_one_view_of_a_point_grid_alone_is_registered() -> None:
    journal, told = Journal(), []
    points, fit = grids(((0, 5, 0),))
    found = measured_map(plan(), points, fit, [], [], [], journal, lambda *step: told.append(step))
    assert found is not None
    assert told == [("distortion", 0, 1), ("distortion", 1, 1)]
    to_rays = np.array(journal.summary["distortion"]["registration_to_rays"])
    corners = point_views(points, fit, CHANNELS).corners
    rays = corners["G"].object_mm[0] @ to_rays[:, :2].T + to_rays[:, 2]
    for channel in CHANNELS:
        np.testing.assert_allclose(found.project(rays, channel), corners[channel].image_px[0], atol=0.02)
    journal = Journal()
    boards = boards_of(entry("chessboard", square_mm=25.0), (9, 6))[:1]
    board = measured_map(plan(), None, None, boards, [], [], journal)
    assert board is not None
    assert journal.summary["distortion"]["registration_to_rays"] != to_rays.tolist(), "of the board's own plane"
    journal = Journal()
    assert measured_map(plan(), points, fit, boards, [], [], journal) is None, "two views ask for a camera"
    assert journal.missing["distortion"].startswith("2 views show")


def test_a_target_seen_only_in_part_does_not_spoil_the_others() -> None:
    """Partial views are flat, so the first target may be one that no view shows whole."""
    cropped, whole = entry("chessboard", square_mm=30.0), entry("chessboard", square_mm=25.0)
    part = Board(detection(4, 5, (0, -20, 0), 30.0, Flag.PARTIAL), Shot(cropped, blank("part")))
    journal = Journal()
    found = measured_map(plan(), None, None, [part, *boards_of(whole, (9, 6))], [], [], journal)
    assert found is not None
    assert journal.summary["distortion"]["views"] == 7
    np.testing.assert_allclose(found.camera_matrix[[0, 1], [0, 1]], FOCAL_PX, rtol=2e-3)
