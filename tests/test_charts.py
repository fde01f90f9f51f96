"""Boards and noise targets drawn sharp through a known lens, blurred by its own wavefront, are what the sensor saw."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from calib import charts
from calib.chartmodel import DRAWN_FINER, to_grid
from calib.charts import ChartView, draw, excitation, join, observe
from calib.fieldmodel import closed_form
from calib.geometry import BoardShape
from calib.pointmodel import Optics, PointModel, Shape
from calib.synth import Lens, render_chart
from calib.synth_camera import phone_like
from calib.synth_views import BOARD, board_poses
from psfbank.model import Capture, NoiseModel, PsfGrid
from psfbank.sensor import mosaic
from psfbank.zernike import centroid_px, effective_psf, noll_terms

SIZE_PX = (240, 320)
TERMS = noll_terms(4, 8)
COEFFICIENTS_NM = np.array([25.0, 12.0, -9.0, 18.0, 10.0])
DIFFUSION_PX, HALF_PX = 0.28, 5
GREEN = Optics(TERMS, np.tile([[540.0]], (3, 1)), np.ones((3, 1)), 2.0, 1.4)

Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def model() -> PointModel:
    return PointModel(GREEN, 1, HALF_PX)


@pytest.fixture(scope="module")
def lens() -> Lens:
    """The geometry of a phone with one skewed PSF everywhere, as its wavefront makes it, not centred."""
    bank = phone_like(SIZE_PX[1], SIZE_PX[0], tiles=(4, 5), half_px=6)
    kernel = effective_psf(
        COEFFICIENTS_NM, TERMS, wavelengths_nm=np.array([540.0]), weights=np.ones(1), f_number=2.0, pitch_um=1.4,
        half_px=HALF_PX + 4, oversample=3, diffusion_px=DIFFUSION_PX,
    )  # fmt: skip
    assert np.hypot(*centroid_px(kernel, 3)) > 0.05, "coma moves the centroid"
    kernels = np.broadcast_to(kernel, (3, 2, 2, *kernel.shape))
    grid = PsfGrid([0.0, SIZE_PX[1] - 1.0], [0.0, SIZE_PX[0] - 1.0], kernels, oversample=3)
    return replace(Lens.of(bank.at(), SIZE_PX), psf_grid=grid)


@pytest.fixture(scope="module")
def view(lens: Lens) -> ChartView:
    """One board, seen without noise through an RGGB mosaic; light falls off to the right."""
    pose = board_poses(lens)[2]
    fall = 0.5 * (1.0 - 0.3 * np.arange(SIZE_PX[1]) / SIZE_PX[1])
    pixels = mosaic(np.moveaxis(render_chart(lens, BOARD, pose) * fall, 0, -1), "RGGB")
    capture = Capture(pixels, pixels > 2, "board.png", "0" * 64)
    flat = BoardShape(0, np.zeros((1, 0)), np.zeros((1, 2)), np.ones(1))
    return ChartView(
        capture=capture,
        chart=BOARD,
        pose=pose,
        height_mm=partial(flat.height_mm, target=0),
        places_mm=BOARD.corners_mm(),
        low_mm=np.full(2, -BOARD.square_mm),
        high_mm=np.array([BOARD.columns, BOARD.rows]) * BOARD.square_mm,
    )


def noise() -> NoiseModel:
    return NoiseModel(*(np.full(3, v) for v in (0.25, 3.0, 0.0, 0.0, 64.0, 1023.0)))


def camera():
    return phone_like(SIZE_PX[1], SIZE_PX[0], tiles=(4, 5), half_px=6).camera


@pytest.fixture(scope="module")
def small_window() -> pytest.MonkeyPatch:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "WINDOW_PX", 4)
        yield patch


def left_over(view: ChartView, lens: Lens, model: PointModel, coefficients_nm: Array, channel: int) -> Array:
    """Residual of each piece against its contrast."""
    drawing, _ = draw(view, lens.distortion, "RGB"[channel], model.fine_px, 4)
    samples = observe(view.capture, drawing, camera(), channel, noise(), 0)
    count = len(drawing.xy_px)
    clip = np.tile([0.0, 0.0, 1.1], (count, 1))
    shape = Shape(np.tile(coefficients_nm, (count, 1)), drawing.xy_px, clip, DIFFUSION_PX, 1.0)
    residual = closed_form(model.render(shape, samples), samples)[1]
    known = samples.weights.reshape(count, -1) > 0
    return np.array([np.std(r[k]) for r, k in zip(residual, known, strict=True)]) / np.ptp(view.capture.pixels)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_board_is_what_its_drawing_blurs_to(
    view: ChartView, lens: Lens, model: PointModel, channel: int, small_window: pytest.MonkeyPatch
) -> None:
    left = left_over(view, lens, model, COEFFICIENTS_NM, channel)
    assert len(left) > 20
    assert np.median(left) < 2e-3
    turned = COEFFICIENTS_NM * [1, 1, 1, -1, -1]  # coma the other way
    assert np.median(left_over(view, lens, model, turned, channel)) > 4 * np.median(left)


def test_pieces_that_leave_the_known_chart_are_not_drawn(view: ChartView, lens: Lens, model: PointModel) -> None:
    small = replace(view, low_mm=np.array([30.0, 30.0]), high_mm=np.array([130.0, 110.0]))
    drawing, kept = draw(small, lens.distortion, "G", model.fine_px, 4)
    assert 0 < kept.sum() < len(kept)
    assert len(drawing.drawing) == len(drawing.xy_px) == kept.sum()
    inside = ((view.places_mm > small.low_mm) & (view.places_mm < small.high_mm)).all(1)
    assert (inside | ~kept).all()
    nothing, none = draw(replace(view, high_mm=np.full(2, -20.0)), lens.distortion, "G", model.fine_px, 4)
    assert (len(nothing.drawing), none.any()) == (0, False)


def test_what_the_sensor_saw_is_cut_at_the_colours_own_sites(
    view: ChartView, lens: Lens, model: PointModel, small_window: pytest.MonkeyPatch
) -> None:
    drawing, _ = draw(view, lens.distortion, "G", model.fine_px, 4)
    pixels = view.capture.pixels
    for channel, share in ((0, 0.25), (1, 0.5), (2, 0.25)):
        samples = observe(view.capture, drawing, camera(), channel, noise(), 7)
        assert samples.number[0] == 7
        for k in (0, 5):
            known = samples.weights[k, 0, :, 0] > 0
            assert known.sum() == pytest.approx(81 * share, abs=6)
            row, col = (drawing.middle_px[k, a] + at[k] for a, at in ((1, samples.rows), (0, samples.cols)))
            seen = pixels[row.astype(int)[known], col.astype(int)[known]]
            np.testing.assert_allclose(samples.values[k, 0, known, 0], seen, rtol=1e-6)


def test_saturated_sites_say_nothing(
    view: ChartView, lens: Lens, model: PointModel, small_window: pytest.MonkeyPatch
) -> None:
    drawing, _ = draw(view, lens.distortion, "G", model.fine_px, 4)
    blind = replace(view, capture=replace(view.capture, saturated=np.ones(SIZE_PX, dtype=bool)))
    assert (observe(blind.capture, drawing, camera(), 1, noise(), 0).weights == 0).all()


def test_joined_pieces_keep_their_own(
    view: ChartView, lens: Lens, model: PointModel, small_window: pytest.MonkeyPatch
) -> None:
    drawing, _ = draw(view, lens.distortion, "G", model.fine_px, 4)
    halves = [drawing.take(np.arange(5)), drawing.take(np.arange(5, len(drawing.xy_px)))]
    parts = [observe(view.capture, d, camera(), 0, noise(), first) for d, first in zip(halves, (0, 5), strict=True)]
    whole, joined = observe(view.capture, drawing, camera(), 0, noise(), 0), join(parts, drawing.drawing)
    np.testing.assert_array_equal(joined.number, whole.number)
    np.testing.assert_allclose(joined.weights.sum(), whole.weights.sum())
    np.testing.assert_allclose(joined.drawn_px, whole.drawn_px)


@pytest.mark.parametrize(("turn_deg", "sector"), [(0.0, 0), (22.5, 1), (45.0, 2), (90.0, 4), (157.5, 7)])
def test_an_edge_excites_the_direction_across_it(turn_deg: float, sector: int) -> None:
    size, step = 61, 1 / 3
    axis = (np.arange(size) - size // 2) * step
    x, y = np.meshgrid(axis, axis)
    across = np.cos(np.radians(turn_deg)) * x + np.sin(np.radians(turn_deg)) * y
    found = excitation(np.clip(across / step + 0.5, 0, 1)[None], step)
    assert int(np.argmax(found)) == sector
    assert found.max() == 1
    assert found[(sector + 4) % 8] < 0.05


def test_filtering_a_drawing_keeps_what_the_grid_can_hold() -> None:
    size = 91
    at = np.arange(DRAWN_FINER * (size - 1) + 1) / DRAWN_FINER
    middle = slice(15, -15)
    for cycles, passed in ((0.1, 1.0), (0.3, 1.0), (0.8, 0.0)):  # per step of the grid; half is its limit
        wave = np.cos(2 * np.pi * cycles * at)
        kept = to_grid(np.outer(np.ones_like(wave), wave))[45, middle]
        np.testing.assert_allclose(kept, passed * np.cos(2 * np.pi * cycles * np.arange(size))[middle], atol=0.03)
