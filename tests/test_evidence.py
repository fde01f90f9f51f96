"""What may serve as evidence of the PSF, and the words for what may not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from calib import evidence
from calib.charts import ChartView
from calib.edge import find_edges
from calib.edge_pieces import EdgeShot, EdgeView, edge_view
from calib.edge_profile import ProfileSamples
from calib.evidence import Evidence, cut_charts, fit_summary, gather, measure_wavefront, render_psfs, thinned_views
from calib.fieldmodel import Layout
from calib.geometry import BoardShape, Coverage, DistortionFit
from calib.manifest import Plan
from calib.pointmodel import Optics, PointModel
from calib.session import Journal
from calib.synth import Lens, render_chart
from calib.synth_camera import phone_like
from calib.synth_views import BOARD, board_poses, frontal_pose
from calib.targets import SlantedSquares
from calib.wavefront import WavefrontFit
from psfbank.model import Camera, Capture, Setting
from psfbank.sensor import mosaic
from psfbank.zernike import noll_terms

SIZE_PX = (240, 320)
OPTICS = Optics(noll_terms(4, 8), np.array([[610.0], [540.0], [465.0]]), np.ones((3, 1)), 2.0, 1.4)
FINE_PX = PointModel(OPTICS, 0, 5).fine_px


def plan(**changes: object) -> Plan:
    camera = Camera("Maker", "Model", SIZE_PX, "RGGB", pitch_um=1.4)
    setting = Setting(focal_mm=0.4, f_number=2.0)
    whole = Plan(
        Path("session/capture.toml"), Path("session"), camera, "linear", (64.0,) * 3, 1023.0, setting,
        (610.0, 540.0, 465.0), (),
    )  # fmt: skip
    return replace(whole, **changes)


@pytest.fixture(scope="module")
def seen() -> tuple[list[ChartView], DistortionFit]:
    """Two boards through a phone of known geometry."""
    lens = Lens.of(phone_like(SIZE_PX[1], SIZE_PX[0], tiles=(4, 5), half_px=6).at(), SIZE_PX)
    poses = board_poses(lens)[2:4]
    shape = BoardShape(0, np.zeros((1, 0)), np.zeros((1, 2)), np.ones(1))
    covered = Coverage(np.ones((6, 8)), np.zeros(2), np.zeros((0, 2)), ())
    fit = DistortionFit(lens.distortion, np.array(poses), shape, 0.01, 0.01, 1e-6, np.zeros((0, 2)), covered)
    views = []
    for k, pose in enumerate(poses):
        pixels = mosaic(np.moveaxis(render_chart(lens, BOARD, pose), 0, -1), "RGGB")
        capture = Capture(pixels, pixels > 2, f"board_{k}.png", "0" * 64)
        low, high = np.full(2, -BOARD.square_mm), np.array([BOARD.columns, BOARD.rows]) * BOARD.square_mm
        views.append(ChartView(capture, BOARD, pose, evidence.flat, BOARD.corners_mm(), low, high))
    return views, fit


def test_pieces_of_all_views_are_taken_evenly(seen: tuple[list[ChartView], DistortionFit]) -> None:
    views, fit = seen
    few = thinned_views(views, fit, "G", SIZE_PX, 30, np.random.default_rng(0))
    assert sum(len(v.places_mm) for v in few) == pytest.approx(30, abs=1)
    assert all(len(v.places_mm) > 5 for v in few)
    assert thinned_views(views, fit, "G", SIZE_PX, 1000, np.random.default_rng(0)) == views


def test_pieces_come_with_their_captures(
    seen: tuple[list[ChartView], DistortionFit], monkeypatch: pytest.MonkeyPatch
) -> None:
    views, fit = seen
    monkeypatch.setattr(evidence, "MOST_BESIDE_POINTS", 40)
    ((pieces, captures),) = cut_charts(plan(), views, [], fit, None, FINE_PX, True, np.random.default_rng(0))
    assert len(pieces.xy_px) == len(captures) > 20
    assert set(captures) == {"board_0.png", "board_1.png"}
    assert [len(samples.values) for samples in pieces.channels] == [len(captures)] * 3
    small = [replace(view, high_mm=np.full(2, 1.0)) for view in views]
    assert cut_charts(plan(), small, [], fit, None, FINE_PX, True, np.random.default_rng(0)) == []


def reason(given: Plan, *, charts: bool = False) -> str:
    journal = Journal()
    boards = [object()] if charts else []
    assert gather(given, None, boards, [], [], None, None, np.random.default_rng(0), journal) is None
    assert "psf" not in journal.summary
    return journal.missing["psf"]


def test_no_targets_no_evidence() -> None:
    assert reason(plan()) == "no capture shows a grid of points or a chart"
    assert "gamma-coded pictures of charts show no PSF; shoot RAW" in reason(plan(encoding="srgb"), charts=True)
    assert "too few, unsharp, or too small" in reason(plan(), charts=True)


def test_boards_that_all_lie_one_way_are_refused_with_what_to_shoot(
    seen: tuple[list[ChartView], DistortionFit], monkeypatch: pytest.MonkeyPatch
) -> None:
    views, fit = seen
    upright = np.array([1.0, 0.02, 0.01, 0.02, 0.9, 0.02, 0.01, 0.02])
    monkeypatch.setattr(evidence, "excitation", lambda *_: upright)
    monkeypatch.setattr(evidence, "MOST_PIECES", 20)
    monkeypatch.setattr(evidence, "board_charts", lambda *_: views)
    journal = Journal()
    assert gather(plan(), None, [object(), object()], [], [], fit, None, np.random.default_rng(0), journal) is None
    assert "edges in 2 of 8 directions only, 3 are needed" in journal.missing["psf"]
    assert "turned by 20 and by 45 degrees" in journal.missing["psf"]


def squares(turn_deg: float, name: str) -> EdgeShot:
    """Dark squares of 60 px through a lens of known geometry and little blur."""
    lens = Lens.of(phone_like(SIZE_PX[1], SIZE_PX[0], tiles=(4, 5), half_px=6).at(), SIZE_PX)
    target = SlantedSquares(columns=3, rows=2, square_mm=60.0, pitch_mm=100.0, angle_deg=turn_deg)
    pose = frontal_pose(lens, 100.0, 85.0, (0.0, 0.0, 0.0, 0.0, 0.0))
    pixels = mosaic(np.moveaxis(0.5 * render_chart(lens, target, pose), 0, -1), "RGGB")
    noisy = pixels + np.random.default_rng(0).normal(0, 2e-3, pixels.shape)
    capture = Capture(noisy, noisy > 2, name, "0" * 64)
    return EdgeShot(capture, find_edges(capture, plan().camera))


@pytest.fixture(scope="module")
def turned() -> list[EdgeShot]:
    return [squares(5.0, "edge_0.png"), squares(27.0, "edge_1.png")]


def test_edges_alone_are_evidence_when_they_lie_in_enough_directions(
    turned: list[EdgeShot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "CHART_HALF_PX", 5)
    journal = Journal()
    found = gather(plan(), None, [], [], turned, None, None, np.random.default_rng(0), journal)
    assert found is not None
    assert set(found.capture) == {"edge_0.png", "edge_1.png"}
    told = journal.summary["psf"]
    assert told["pieces_of_charts"] > 20
    assert told["profiles_of_edges"] == 0, "all have room for a piece"
    assert len(found.capture) == len(found.problem.detected_px)
    assert len(found.capture) == told["pieces_of_charts"]
    assert 0 < found.reserved.sum() < len(found.reserved)
    excited = np.array(journal.summary["psf"]["charts_excite"])
    assert (excited[[0, 1, 4, 5]] > 0.1).all()  # across edges that run down and across, and 27 degrees on
    assert (excited[[2, 3, 6, 7]] < 0.1).all()


def test_edges_of_one_turn_alone_are_refused(turned: list[EdgeShot], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "CHART_HALF_PX", 5)
    journal = Journal()
    upright = [squares(0.0, "edge.png")]
    assert gather(plan(), None, [], [], upright, None, None, np.random.default_rng(0), journal) is None
    assert "edges in 2 of 8 directions only, 3 are needed" in journal.missing["psf"]
    assert "the squares turned by 20 and by 45 degrees" in journal.missing["psf"]
    journal = Journal()
    coded = plan(encoding="srgb")
    assert gather(coded, None, [], [], turned, None, None, np.random.default_rng(0), journal) is None
    assert "gamma-coded" in journal.missing["psf"]


def test_edges_without_room_for_a_piece_are_evidence_by_their_profiles(
    turned: list[EdgeShot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "CHART_HALF_PX", 20)
    journal = Journal()
    found = gather(plan(), None, [], [], turned, None, None, np.random.default_rng(0), journal)
    assert found is not None
    told = journal.summary["psf"]
    assert told["pieces_of_charts"] == 0
    assert told["profiles_of_edges"] == len(found.capture) == len(found.problem.detected_px) > 20
    assert set(found.capture) == {"edge_0.png", "edge_1.png"}
    assert 0 < found.reserved.sum() < len(found.reserved)
    assert [type(images.samples) for images in found.problem.images] == [ProfileSamples] * 3
    excited = np.array(told["charts_excite"])
    assert (excited[[0, 1, 4, 5]] > 0.1).all()
    assert (excited[[2, 3, 6, 7]] < 0.1).all()
    journal = Journal()
    assert gather(plan(), None, [], [], [squares(0.0, "a")], None, None, np.random.default_rng(0), journal) is None
    assert "edges in 2 of 8 directions only, 3 are needed" in journal.missing["psf"]


def test_profiles_beside_points_are_not_too_many(turned: list[EdgeShot], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST_PROFILES_BESIDE_POINTS", 9)
    wide = np.arange(-84, 85) / 3
    ((pieces, names),) = cut_charts(plan(), [], turned, None, None, wide, True, np.random.default_rng(0))
    assert len(pieces.xy_px) == len(names) == pytest.approx(9, abs=1)


def test_what_is_held_back_of_pieces_does_not_hang_on_profiles(
    turned: list[EdgeShot], monkeypatch: pytest.MonkeyPatch
) -> None:
    def some_pieces(*given: Any) -> EdgeView:
        view = edge_view(*given)
        return replace(view, edges=view.edges[:30], along_px=view.along_px[:30])

    monkeypatch.setattr(evidence, "CHART_HALF_PX", 8)
    monkeypatch.setattr(evidence, "edge_view", some_pieces)
    held = []
    for cut in (evidence.cut_profiles, lambda *_: None):
        monkeypatch.setattr(evidence, "cut_profiles", cut)
        found = gather(plan(), None, [], [], turned, None, None, np.random.default_rng(0), Journal())
        assert found is not None
        held.append(found)
    count = len(held[1].capture)
    assert len(held[0].capture) > count + 5
    np.testing.assert_array_equal(held[0].reserved[:count], held[1].reserved)
    assert 0 < held[0].reserved[count:].sum() < len(held[0].capture) - count


def test_charts_and_edges_share_the_places(
    seen: tuple[list[ChartView], DistortionFit], turned: list[EdgeShot], monkeypatch: pytest.MonkeyPatch
) -> None:
    views, fit = seen
    for name, value in (("MOST_PIECES", 30), ("MOST_BESIDE_POINTS", 20), ("MOST_EDGES_BESIDE_POINTS", 7)):
        monkeypatch.setattr(evidence, name, value)
    for beside_points, most in ((True, (20, 7)), (False, None)):
        cuts = cut_charts(plan(), views, turned, fit, None, FINE_PX, beside_points, np.random.default_rng(0))
        counts = [len(captures) for _, captures in cuts]
        assert [len(pieces.xy_px) for pieces, _ in cuts] == counts
        if most is None:
            assert min(counts) > 3
            assert sum(counts) <= 32
        else:
            assert counts[0] <= most[0] + 1
            assert counts[1] == pytest.approx(most[1], abs=1)


def fitted(count: int = 4) -> WavefrontFit:
    layout = Layout(5, 3, degree=1)
    vector = np.zeros(layout.slices()["scale"].stop)
    at = layout.slices()
    vector[at["diffusion"]], vector[at["scale"].start] = 0.27, 1.05
    used, reserved = np.array([True, False, True, False]), np.array([False, True, False, False])
    told: npt.NDArray[np.float64] = np.ones((3, count))
    return WavefrontFit(
        layout, OPTICS, SIZE_PX, 8, vector, 1e-4 * np.eye(len(vector)), 10.0 * np.ones((count, 2)),
        np.full(count, 0.01), used, reserved, np.array([1.0, 1.1, 0.9, 7.0]), told, told,
    )  # fmt: skip


def test_the_summary_lists_what_was_rejected_and_where() -> None:
    told = fit_summary(fitted(), Evidence(None, np.zeros(4, dtype=bool), ("a", "b", "c", "d"), False))
    assert told["rejected"] == [{"capture": "d", "x_px": 10.0, "y_px": 10.0, "chi2_per_sample": 7.0}]
    assert (told["chi2_per_sample"], told["chi2_per_sample_reserved"], told["reserved"]) == (0.95, 1.1, 1)
    assert (told["f_number"], told["f_number_sigma"], told["f_number_declared"]) == (2.1, 0.02, False)
    assert told["local_corrections"] is None


def test_without_evidence_there_is_no_field() -> None:
    journal = Journal()
    assert measure_wavefront(plan(), None, None, journal, None) is None
    assert render_psfs(plan(), None, None, np.arange(3.0), np.arange(3.0), journal) == (None, None)
    assert (journal.missing, journal.summary) == ({}, {})
