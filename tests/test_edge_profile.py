"""Profiles of edges: the model blurs a step as pixels see it, and small squares show the PSF that blurred them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr

from calib.charts import observe
from calib.edge import Edge, find_edges
from calib.edge_pieces import EdgeShot, EdgeView, draw_edges, edge_view
from calib.edge_profile import (
    BIN_PX,
    BINS,
    REACH_PX,
    ProfileSamples,
    joined,
    profiles_of,
    thinned_shots,
    without_pieces,
)
from calib.fieldmodel import closed_form
from calib.pointmodel import Optics, PointModel, Shape
from calib.synth import Lens, render_chart
from calib.synth_camera import phone_like
from calib.synth_views import frontal_pose
from calib.targets import SlantedSquares
from psfbank.model import Camera, Capture, PsfGrid
from psfbank.sensor import mosaic
from psfbank.zernike import effective_psf, noll_terms

SIZE_PX = (192, 256)
TERMS = noll_terms(4, 8)
COEFFICIENTS_NM = np.array([25.0, 12.0, -9.0, 28.0, 20.0])
DIFFUSION_PX, HALF_PX, NOISE = 0.28, 8, 2e-3
GREEN = Optics(TERMS, np.tile([[540.0]], (3, 1)), np.ones((3, 1)), 2.0, 1.4)

Array = npt.NDArray[np.float64]


def camera(cfa: str) -> Camera:
    return Camera("Maker", "Model", SIZE_PX, cfa, pitch_um=1.4)


@pytest.fixture(scope="module")
def model() -> PointModel:
    return PointModel(GREEN, 1, HALF_PX)


@pytest.fixture(scope="module")
def light() -> Array:
    """Slanted squares of 36 px, as far apart, through one skewed PSF, (3, H, W); light falls off to the right."""
    bank = phone_like(SIZE_PX[1], SIZE_PX[0], tiles=(4, 5), half_px=6)
    kernel = effective_psf(
        COEFFICIENTS_NM, TERMS, wavelengths_nm=np.array([540.0]), weights=np.ones(1), f_number=2.0, pitch_um=1.4,
        half_px=HALF_PX + 4, oversample=3, diffusion_px=DIFFUSION_PX,
    )  # fmt: skip
    kernels = np.broadcast_to(kernel, (3, 2, 2, *kernel.shape))
    grid = PsfGrid([0.0, SIZE_PX[1] - 1.0], [0.0, SIZE_PX[0] - 1.0], kernels, oversample=3)
    lens = replace(Lens.of(bank.at(), SIZE_PX), psf_grid=grid)
    target = SlantedSquares(columns=4, rows=3, square_mm=50.0, pitch_mm=85.0, angle_deg=8.0)
    seen = render_chart(lens, target, frontal_pose(lens, 85.0, 61.0, (0.1, 0.2, 1.0, 30.0, 0.0)))
    return seen * 0.5 * (1.0 - 0.2 * np.arange(SIZE_PX[1]) / SIZE_PX[1])


@pytest.fixture(scope="module", params=["RGGB", "mono"])
def shot(light: Array, request: pytest.FixtureRequest) -> tuple[EdgeShot, Camera]:
    seen = light[1] if request.param == "mono" else mosaic(np.moveaxis(light, 0, -1), "RGGB")
    pixels = seen + np.random.default_rng(0).normal(0, NOISE, SIZE_PX)
    capture = Capture(pixels, pixels > 2, "edge.png", "0" * 64)
    return EdgeShot(capture, find_edges(capture, camera(request.param))), camera(request.param)


def shape(places_px: Array, coefficients_nm: Array = COEFFICIENTS_NM) -> Shape:
    count = len(places_px)
    clip = np.tile([0.0, 0.0, 1.3], (count, 1))
    return Shape(np.tile(coefficients_nm, (count, 1)), places_px, clip, DIFFUSION_PX, 1.0)


def straight(angle_deg: float, xy_px: Array) -> Edge:
    along = np.arange(-30.0, 31.0)
    return Edge(xy_px, float(np.radians(angle_deg)), 0.0, 80.0, 1.0, 0.7, 0.01, 1e-3, along, np.full(len(along), 40.0))


def profile(across_px: Array, edge: Edge) -> ProfileSamples:
    data = np.ones((1, 1, len(across_px), 1))
    return ProfileSamples(across_px[None], edge.normal[None], edge.xy_px[None], data, data, data)


@pytest.mark.parametrize("angle_deg", [7.0, 40.0, 100.0, -62.0, 171.0])
def test_a_blurred_step_is_that_of_a_drawn_edge(model: PointModel, angle_deg: float) -> None:
    edge = straight(angle_deg, np.array([60.2, 49.7]))
    view = EdgeView(Capture(np.zeros((100, 120)), np.zeros((100, 120), bool), "a", ""), (edge,), np.zeros(1))
    drawing = draw_edges(view, model.fine_px)
    pieces = observe(view.capture, drawing, Camera("", "", (100, 120), "mono"), 0, None, 0)
    where = np.stack([pieces.cols[0], pieces.rows[0]], -1) + pieces.middle_px[0]
    across = edge.frame(where)[0]
    near = np.abs(across) < REACH_PX
    moved = edge.xy_px + np.array([[0.31, -0.17]])  # what both are asked for
    drawn = model.render(shape(moved), pieces).ravel()[near]
    blurred = model.render(shape(moved), profile(across[near], edge)).ravel()
    np.testing.assert_allclose(blurred, drawn, atol=3e-3)
    mirrored = model.render(shape(moved, COEFFICIENTS_NM * [1, 1, 1, -1, -1]), profile(across[near], edge)).ravel()
    assert np.abs(mirrored - drawn).max() > 0.02


def test_a_gaussian_spread_is_an_error_function() -> None:
    fine_px = np.arange(-30, 31) / 3
    fine = np.exp(-0.5 * (fine_px[:, None] ** 2 + fine_px**2)) / (2 * np.pi)
    across = np.linspace(-REACH_PX, REACH_PX, 41)
    samples = profile(across, straight(30.0, np.zeros(2)))
    found = samples.sampled(fine[None, None].astype(np.float32), fine_px, np.zeros((1, 2)), 0.4).ravel()
    # a pixel's and a bin's boxes have the variance 1 / 12 of their squared widths, but for their kurtosis
    sigma_px = np.sqrt(1 + 0.4**2 + 1 / 12 + BIN_PX**2 / 12)
    np.testing.assert_allclose(found, ndtr(across / sigma_px), atol=1e-3)


def test_derivatives_are_those_of_the_profile(model: PointModel) -> None:
    edge = straight(23.0, np.array([10.0, 20.0]))
    samples = profile(np.linspace(-REACH_PX, REACH_PX, BINS), edge)
    at = shape(edge.xy_px[None])
    image, slopes = model.jacobian(at, samples)
    np.testing.assert_allclose(image, model.render(at, samples), atol=1e-6)
    for j in range(len(TERMS)):
        step = 0.5 * np.eye(len(TERMS))[j]
        low, high = (model.render(shape(edge.xy_px[None], COEFFICIENTS_NM + s), samples) for s in (-step, step))
        np.testing.assert_allclose(slopes[:, :, j], high - low, atol=2e-5)
    for k, move in enumerate(0.05 * np.eye(2)):
        low, high = (model.render(shape(edge.xy_px + s[None]), samples) for s in (-move, move))
        np.testing.assert_allclose(slopes[:, :, len(TERMS) + k], (high - low) / 0.1, atol=3e-3)


def excess(shot: EdgeShot, of: Camera, model: PointModel, coefficients_nm: Array) -> Array:
    """Chi2 per degree of freedom of each green profile at its best shift."""
    places, channels = profiles_of(shot, of, None)
    samples = channels[of.channels.index("G") if "G" in of.channels else 0]
    samples = samples.reweighed((samples.pixels > 0) / NOISE**2)
    root = np.sqrt(samples.weights.reshape(len(places), -1))

    def left(shift_px: Array) -> Array:
        image = model.render(shape(places + shift_px[:, None] * samples.normal, coefficients_nm), samples)
        return closed_form(image, samples)[1] * root

    shift_px = np.zeros(len(places))
    for _ in range(5):  # of Gauss and Newton's method
        now = left(shift_px)
        slope = (left(shift_px + 0.01) - now) / 0.01
        shift_px = shift_px - np.sum(slope * now, axis=1) / np.sum(slope**2, axis=1)
    return np.sum(left(shift_px) ** 2, axis=1) / (np.sum(root > 0, axis=1) - 5)


def test_small_squares_show_the_psf_that_blurred_them(shot: tuple[EdgeShot, Camera], model: PointModel) -> None:
    assert len(shot[0].edges) > 20
    chi2 = excess(*shot, model, COEFFICIENTS_NM)
    assert len(chi2) > 20
    assert np.median(chi2) == pytest.approx(1.0, abs=0.25)
    assert np.percentile(chi2, 90) < 1.8
    other = excess(*shot, model, COEFFICIENTS_NM * [1, 1, 1, -1, -1])
    assert np.median(other) > 2 * np.median(chi2)


def test_what_gave_pieces_gives_no_profile(shot: tuple[EdgeShot, Camera], model: PointModel) -> None:
    narrow = np.arange(-12, 13) / 3
    view = edge_view(shot[0], narrow)
    assert len(view.edges) > 5
    left = without_pieces(shot[0], view)
    assert len(left.edges) + len({id(edge) for edge in view.edges}) == len(shot[0].edges)
    assert not {id(edge) for edge in view.edges} & {id(edge) for edge in left.edges}
    assert without_pieces(shot[0], edge_view(shot[0], model.fine_px * 3)).edges == shot[0].edges


def test_profiles_know_their_pixels_and_noise(shot: tuple[EdgeShot, Camera]) -> None:
    seen, of = shot
    places, channels = profiles_of(seen, of, None)
    assert len(channels) == len(of.channels)
    green = channels[len(channels) // 2]
    assert green.values.shape == green.weights.shape == green.pixels.shape == (len(places), 1, BINS, 1)
    empty = green.pixels == 0
    assert (green.weights[empty] == 0).all()
    assert (green.weights[~empty] > 0).all()
    heavier = green.reweighed(np.where(empty, 0.0, 2.0))
    np.testing.assert_array_equal(heavier.weights, 2.0 * green.pixels)
    density = 1.0 if of.cfa == "mono" else 0.5
    full = green.pixels.sum((1, 2, 3)) / (2 * REACH_PX)  # px along the edge, of which this many are green
    assert 10 * density < np.median(full) < 36 * density
    assert (np.abs(green.across_px) <= REACH_PX).all()
    assert ((places > 0) & (places < np.array(SIZE_PX[::-1]))).all()
    for values, at, known in zip(green.values[:, 0, :, 0], green.across_px, ~empty[:, 0, :, 0], strict=True):
        assert values[known & (at > 1)].min() > values[known & (at < -1)].max(), "bright where the normal points"


def test_clipped_and_crowded_edges_are_left_out(shot: tuple[EdgeShot, Camera]) -> None:
    seen, of = shot
    clipped = replace(seen.capture, saturated=np.ones(SIZE_PX, dtype=bool))
    assert len(profiles_of(EdgeShot(clipped, seen.edges), of, None)[0]) == 0
    beside = [edge.at(np.arange(-20.0, 21.0)) + 4 * np.array([[[-1.0]], [[1.0]]]) * edge.normal for edge in seen.edges]
    crowded = tuple(replace(e, others_px=px.reshape(-1, 2)) for e, px in zip(seen.edges, beside, strict=True))
    assert len(profiles_of(EdgeShot(seen.capture, crowded), of, None)[0]) == 0


def test_few_edges_are_taken_evenly_and_joined(shot: tuple[EdgeShot, Camera]) -> None:
    seen, of = shot
    few = thinned_shots([seen, seen], SIZE_PX, 12, np.random.default_rng(0))
    assert sum(len(s.edges) for s in few) == pytest.approx(12, abs=1)
    assert min(len(s.edges) for s in few) > 0
    parts = [profiles_of(s, of, None)[1][0] for s in few]
    both = joined(parts)
    assert len(both.values) == sum(len(part.values) for part in parts)
    np.testing.assert_array_equal(both.take(np.arange(len(parts[0].values))).across_px, parts[0].across_px)
