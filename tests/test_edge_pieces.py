"""Edges that were measured, drawn sharp and blurred by the lens's own wavefront, are what the sensor saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from calib.charts import WINDOW_PX, observe
from calib.edge import REMEDIES, find_edges
from calib.edge_pieces import EdgeShot, draw_edges, edge_view, find_edges_of, thinned_edges
from calib.fieldmodel import closed_form
from calib.manifest import Entry, Plan
from calib.pointmodel import Optics, PointModel, Shape
from calib.session import Journal, Shot
from calib.synth import Lens, render_chart
from calib.synth_camera import phone_like
from calib.synth_views import frontal_pose
from calib.targets import SlantedSquares
from psfbank.flags import Flag
from psfbank.model import Camera, Capture, PsfGrid, Setting
from psfbank.sensor import mosaic
from psfbank.zernike import effective_psf, noll_terms

SIZE_PX = (240, 320)
TERMS = noll_terms(4, 8)
COEFFICIENTS_NM = np.array([25.0, 12.0, -9.0, 18.0, 10.0])
DIFFUSION_PX, HALF_PX, NOISE = 0.28, 5, 2e-3
GREEN = Optics(TERMS, np.tile([[540.0]], (3, 1)), np.ones((3, 1)), 2.0, 1.4)

Array = npt.NDArray[np.float64]


def camera(cfa: str = "RGGB") -> Camera:
    return Camera("Maker", "Model", SIZE_PX, cfa, pitch_um=1.4)


@pytest.fixture(scope="module")
def model() -> PointModel:
    return PointModel(GREEN, 1, HALF_PX)


@pytest.fixture(scope="module")
def light() -> Array:
    """Slanted squares through a phone's distortion and one skewed PSF, (3, H, W); light falls off to the right."""
    bank = phone_like(SIZE_PX[1], SIZE_PX[0], tiles=(4, 5), half_px=6)
    kernel = effective_psf(
        COEFFICIENTS_NM, TERMS, wavelengths_nm=np.array([540.0]), weights=np.ones(1), f_number=2.0, pitch_um=1.4,
        half_px=HALF_PX + 4, oversample=3, diffusion_px=DIFFUSION_PX,
    )  # fmt: skip
    kernels = np.broadcast_to(kernel, (3, 2, 2, *kernel.shape))
    grid = PsfGrid([0.0, SIZE_PX[1] - 1.0], [0.0, SIZE_PX[0] - 1.0], kernels, oversample=3)
    lens = replace(Lens.of(bank.at(), SIZE_PX), psf_grid=grid)
    target = SlantedSquares(columns=3, rows=2, square_mm=60.0, pitch_mm=100.0, angle_deg=8.0)
    seen = render_chart(lens, target, frontal_pose(lens, 100.0, 95.0, (0.1, 0.2, 1.0, 30.0, 0.0)))
    return seen * 0.5 * (1.0 - 0.2 * np.arange(SIZE_PX[1]) / SIZE_PX[1])


@pytest.fixture(scope="module", params=["RGGB", "mono"])
def shot(light: Array, request: pytest.FixtureRequest) -> tuple[EdgeShot, Camera]:
    seen = light[1] if request.param == "mono" else mosaic(np.moveaxis(light, 0, -1), "RGGB")
    pixels = seen + np.random.default_rng(0).normal(0, NOISE, SIZE_PX)
    capture = Capture(pixels, pixels > 2, "edge.png", "0" * 64)
    return EdgeShot(capture, find_edges(capture, camera(request.param))), camera(request.param)


def scatter(shot: EdgeShot, of: Camera, model: PointModel, coefficients_nm: Array) -> Array:
    """RMS of each piece's residual in green over the noise, where the fit's own shift across the edge is best."""
    channel = of.channels.index("G") if "G" in of.channels else 0
    view = edge_view(shot, model.fine_px)
    drawing = draw_edges(view, model.fine_px)
    samples = observe(shot.capture, drawing, of, channel, None, 0)
    count = len(drawing.xy_px)
    known = samples.weights.reshape(count, -1) > 0
    assert known.sum(1).min() > 100
    samples = samples.reweighed((samples.weights > 0) / NOISE**2)
    clip, coefficients = np.tile([0.0, 0.0, 1.1], (count, 1)), np.tile(coefficients_nm, (count, 1))
    normals = np.array([edge.normal for edge in view.edges])
    tried = []
    for shift in np.linspace(-0.12, 0.12, 13):
        shape = Shape(coefficients, drawing.xy_px + shift * normals, clip, DIFFUSION_PX, 1.0)
        residual = closed_form(model.render(shape, samples), samples)[1]
        tried.append([np.sqrt(np.mean(r[k] ** 2)) for r, k in zip(residual, known, strict=True)])
    return np.min(tried, axis=0) / NOISE


def test_an_edge_is_what_its_drawing_blurs_to(shot: tuple[EdgeShot, Camera], model: PointModel) -> None:
    left = scatter(*shot, model, COEFFICIENTS_NM)
    assert len(left) > 20
    assert 0.9 < np.median(left) < 1.1
    assert np.percentile(left, 90) < 1.3
    turned = COEFFICIENTS_NM * [1, 1, 1, -1, -1]  # coma the other way
    assert np.median(scatter(*shot, model, turned)) > 2 * np.median(left)


def test_pieces_lie_where_nothing_else_is_drawn_and_share_no_sample(
    shot: tuple[EdgeShot, Camera], model: PointModel
) -> None:
    view = edge_view(shot[0], model.fine_px)
    reach_px = WINDOW_PX + 3 + HALF_PX
    for edge in set(view.edges):
        mine = np.sort(view.along_px[[e is edge for e in view.edges]])
        assert (np.diff(mine) >= 2 * WINDOW_PX + 1).all()
        assert np.abs(mine).max() < edge.length_px / 2 - 0.9 * reach_px
    wide = edge_view(shot[0], PointModel(GREEN, 1, 3 * HALF_PX).fine_px)
    assert len(wide.edges) < len(view.edges)
    none = edge_view(shot[0], PointModel(GREEN, 1, 6 * HALF_PX).fine_px)
    assert (len(none.edges), none.places_px().shape) == (0, (0, 2))
    assert len(draw_edges(none, model.fine_px).xy_px) == 0


def test_drawings_are_bright_where_the_picture_is(shot: tuple[EdgeShot, Camera], model: PointModel) -> None:
    view = edge_view(shot[0], model.fine_px)
    drawing = draw_edges(view, model.fine_px)
    half = drawing.drawing.shape[1] // 2
    step = float(model.fine_px[1] - model.fine_px[0])
    for k, edge in enumerate(view.edges):
        for side, level in ((4.0, 1.0), (-4.0, (1 - edge.contrast) / (1 + edge.contrast))):
            column, row = half + np.rint((drawing.xy_px[k] + side * edge.normal - drawing.middle_px[k]) / step).astype(
                int
            )
            assert drawing.drawing[k, row, column] == pytest.approx(level, abs=0.02)
        assert np.abs(drawing.xy_px[k] - drawing.middle_px[k]).max() <= 0.5


def test_few_are_taken_evenly(shot: tuple[EdgeShot, Camera], model: PointModel) -> None:
    view = edge_view(shot[0], model.fine_px)
    few = thinned_edges([view, view], SIZE_PX, 10, np.random.default_rng(0))
    assert sum(len(v.edges) for v in few) == pytest.approx(10, abs=1)
    assert all(len(v.edges) == len(v.along_px) == len(v.places_px()) > 0 for v in few)
    assert thinned_edges([view], SIZE_PX, 10_000, np.random.default_rng(0)) == [view]
    assert thinned_edges([], SIZE_PX, 10, np.random.default_rng(0)) == []


def test_captures_without_edges_are_flagged_and_the_rest_goes_on(shot: tuple[EdgeShot, Camera]) -> None:
    seen, of = shot
    blank = Capture(np.full(SIZE_PX, 0.3), np.zeros(SIZE_PX, dtype=bool), "blank.png", "0" * 64)
    entry = Entry("slanted_edge", (Path("edge.png"), Path("blank.png")), Setting())
    plan = Plan(Path("capture.toml"), Path(), of, "linear", (64.0,), 1023.0, Setting(), (540.0,), (entry,))
    journal, told = Journal(), []
    found = find_edges_of(plan, [Shot(entry, blank), Shot(entry, seen.capture)], journal, lambda *s: told.append(s))
    assert [(f.capture.name, len(f.edges)) for f in found] == [("edge.png", len(seen.edges))]
    assert [(row["name"], row["flag"]) for row in journal.flagged] == [("blank.png", Flag.UNUSABLE.words())]
    assert journal.flagged[0]["reason"].endswith(tuple(REMEDIES.values()))
    assert told == [("find edges", 1, 2), ("find edges", 2, 2)]
