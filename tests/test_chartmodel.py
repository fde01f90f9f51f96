"""Charts seen through a lens: what a bright cell gives is what points give, and every place moves its own way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from calib.chartmodel import DRAWN_FINER, MARGIN_PX, ChartSamples, drawn_half, to_grid
from calib.pointmodel import EXTRAS, Optics, PointModel, Samples, Shape
from psfbank.zernike import noll_terms

TERMS = noll_terms(4, 8)
WINDOW_PX = 3
COMA_AND_MORE = np.array([[25.0, 10.0, -8.0, 20.0, 12.0]])  # nothing about it is symmetric

Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def model() -> PointModel:
    return PointModel(Optics(TERMS, np.array([[540.0]]), np.ones((1, 1)), 2.0, 1.4), 0, 6, 31)


def shape(xy_px: tuple[float, float] = (0.0, 0.0)) -> Shape:
    return Shape(COMA_AND_MORE, np.array([xy_px]), np.array([[0.0, 0.0, 1.1]]), 0.28, 1.0)


def sites() -> tuple[Array, Array]:
    axis = np.arange(-WINDOW_PX, WINDOW_PX + 1)
    cols, rows = np.meshgrid(axis, axis)
    return rows.reshape(1, -1), cols.reshape(1, -1)


def chart(model: PointModel, drawing: Array | None = None) -> ChartSamples:
    """A piece whose middle is pixel (0, 0); dark unless drawn."""
    size = 2 * drawn_half(WINDOW_PX, model.fine_px) + 1
    drawing = np.zeros((1, size, size)) if drawing is None else drawing
    rows, cols = sites()
    data = np.ones((1, 1, rows.shape[1], 1))
    zero = np.zeros((1, 2))
    return ChartSamples(drawing.astype(np.float32), np.zeros(1, dtype=np.int64), zero, zero, rows, cols, data, data)


def cell(model: PointModel, x_steps: int, y_steps: int) -> ChartSamples:
    """One bright cell, (x, y) steps of the fine grid from the middle."""
    dark = np.zeros_like(chart(model).drawing, dtype=np.float64)
    middle = dark.shape[1] // 2
    dark[0, middle + y_steps, middle + x_steps] = 1.0
    return chart(model, dark)


def seen(model: PointModel, samples: ChartSamples, at: Shape) -> Array:
    return model.render(at, samples)[0, 0, :, 0].reshape(2 * WINDOW_PX + 1, -1).astype(np.float64)


def test_a_bright_square_is_all_its_points(model: PointModel) -> None:
    step = float(model.fine_px[1] - model.fine_px[0])
    axis = np.arange(-WINDOW_PX, WINDOW_PX + 1.0)[None, None]
    pixels = Samples(axis, axis, np.zeros(0), np.zeros(0))
    inside = 3 * (np.arange(9) - 4) / 9  # middles of 81 parts of a square of three cells a side
    places = [((2 + i) * step, (-1 + j) * step) for i in inside for j in inside]
    point = np.mean([model.render(shape(xy), pixels)[0, 0] for xy in places], axis=0, dtype=np.float64)
    size = DRAWN_FINER * (chart(model).drawing.shape[1] - 1) + 1
    x, y = (DRAWN_FINER * at for at in (2, -1))
    reach = 3 * DRAWN_FINER // 2  # a border row or column of cells is half covered
    axis = np.clip(reach + 0.5 - np.abs(np.arange(size) - size // 2 - np.array([[x], [y]])), 0.0, 1.0)
    axis[np.abs(np.arange(size) - size // 2 - np.array([[x], [y]])) == reach] = 0.5
    image = seen(model, chart(model, to_grid(np.outer(axis[1], axis[0]))[None]), shape()) / (3 * step) ** 2

    assert np.linalg.norm(image - point) < 5e-3 * np.linalg.norm(point)
    for mirrored in (point[::-1], point[:, ::-1], point[::-1, ::-1], point.T):
        assert np.linalg.norm(image - mirrored) > 0.1 * np.linalg.norm(point)


def test_registration_moves_the_chart_with_its_place(model: PointModel) -> None:
    step = float(model.fine_px[1] - model.fine_px[0])
    drawn, moved = seen(model, cell(model, 2, -1), shape()), seen(model, cell(model, 0, 0), shape((2 * step, -step)))
    assert np.linalg.norm(drawn - moved) < 2e-3 * np.linalg.norm(drawn)


def test_an_even_chart_is_even(model: PointModel) -> None:
    size = chart(model).drawing.shape[1]
    image = seen(model, chart(model, np.ones((1, size, size))), shape())
    total = model.fine_images(shape()).sum() * (model.fine_px[1] - model.fine_px[0]) ** 2
    np.testing.assert_allclose(image / image.mean(), 1.0, atol=1e-5)
    assert image.mean() == pytest.approx(total, rel=1e-4)


def test_an_edge_has_the_line_integral_of_the_psf(model: PointModel) -> None:
    size = chart(model).drawing.shape[1]
    middle = size // 2
    edge = np.zeros((DRAWN_FINER * (size - 1) + 1,) * 2)
    edge[:, DRAWN_FINER * middle + 1 :] = 1.0
    edge[:, DRAWN_FINER * middle] = 0.5  # the cell that the edge halves
    profile = seen(model, chart(model, to_grid(edge)[None]), shape())[WINDOW_PX]

    step = 1 / 24
    fine = np.arange(-12 * 24, 12 * 24 + 1) * step
    at = Samples(np.arange(-6.0, 7.0)[None, None], fine[None, None], np.zeros(0), np.zeros(0))
    wide = PointModel(model.optics, 0, 12, 51)
    line = wide.render(shape(), at)[0, 0].sum(0).astype(np.float64)  # LSF: the PSF summed along the edge
    cumulative = np.concatenate([[0.0], np.cumsum((line[1:] + line[:-1]) / 2)]) * step
    expected = np.interp(np.arange(-WINDOW_PX, WINDOW_PX + 1.0), fine, cumulative)
    np.testing.assert_allclose(profile / profile[-1], expected / expected[-1], atol=5e-3)


def test_derivatives_are_those_of_the_picture(model: PointModel) -> None:
    rng = np.random.default_rng(0)
    size = chart(model).drawing.shape[1]
    noise = chart(model, rng.random((1, size // 3 + 1, size // 3 + 1)).repeat(3, 1).repeat(3, 2)[:, :size, :size])
    at = shape((0.2, -0.1))
    _, columns = model.jacobian(at, noise)

    def difference(**steps: Array | float) -> Array:
        moved = [replace(at, **{k: getattr(at, k) + sign * v for k, v in steps.items()}) for sign in (1, -1)]
        return (seen(model, noise, moved[0]) - seen(model, noise, moved[1])) / 2

    expected = {k: difference(coefficients_nm=np.eye(len(TERMS))[k]) for k in range(len(TERMS))}
    for name, way in (("x_px", (1.0, 0.0)), ("y_px", (0.0, 1.0))):
        expected[len(TERMS) + EXTRAS.index(name)] = difference(xy_px=0.01 * np.array([way])) / 0.01
    expected[len(TERMS) + EXTRAS.index("diffusion_px")] = difference(diffusion_px=0.01) / 0.01
    for k, want in expected.items():
        got = columns[0, 0, k, :, 0].reshape(want.shape)
        assert np.linalg.norm(got - want) < 0.02 * np.linalg.norm(want), k


def test_uneven_light_is_linear(model: PointModel) -> None:
    samples = chart(model)
    images = np.full((1, samples.rows.shape[1]), 2.0)
    even, floor, across, down = samples.linear(images)[0]
    np.testing.assert_array_equal(even, 2.0)
    np.testing.assert_array_equal(floor, 1.0)
    np.testing.assert_allclose(across, 2.0 * samples.cols[0] / WINDOW_PX)
    np.testing.assert_allclose(down, 2.0 * samples.rows[0] / WINDOW_PX)


def test_taking_pieces_keeps_what_belongs_together(model: PointModel) -> None:
    one, other = cell(model, 0, 0), cell(model, 3, 0)
    both = replace(
        one,
        drawing=np.concatenate([one.drawing, other.drawing]),
        number=np.array([1, 0]),
        **{
            name: np.concatenate([getattr(one, name), getattr(other, name)])
            for name in ("middle_px", "drawn_px", "rows", "cols", "values", "weights")
        },
    )
    np.testing.assert_array_equal(seen(model, both.take(np.array([0])), shape()), seen(model, other, shape()))
    assert both.take(slice(1, 2)).drawing is both.drawing
    assert MARGIN_PX >= 1
