"""How the field's few global numbers shape every image, and what one image tells about them."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.fieldmodel import (
    HUBER_SIGMA,
    Images,
    Layout,
    closed_form,
    field_polynomials,
    huber_cost,
    huber_weights,
    local_map,
    normal_equations,
    to_shape,
)
from calib.pointmodel import EXTRAS, Optics, PointModel, Samples
from psfbank.zernike import noll_terms

RNG = np.random.default_rng(0)
FIELD = RNG.uniform(-0.7, 0.7, (9, 2))
TERMS = 4

Array = npt.NDArray[np.float64]


def layout(channels: int = 3, degree: int = 2) -> Layout:
    return Layout(TERMS, channels, degree, reference=min(1, channels - 1))


def vector(of: Layout, **groups: Array | float) -> Array:
    out = np.zeros(of.slices()["scale"].stop)
    for name, values in groups.items():
        out[of.slices()[name]] = values
    return out


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
def test_field_polynomials_span_every_monomial_up_to_their_degree(degree: int) -> None:
    at = RNG.uniform(-1, 1, (60, 2))
    basis = field_polynomials(at, degree)
    monomials = np.stack([at[:, 0] ** i * at[:, 1] ** j for i in range(degree + 1) for j in range(degree + 1 - i)], 1)
    assert basis.shape == monomials.shape == (60, (degree + 1) * (degree + 2) // 2)
    np.testing.assert_allclose(basis @ np.linalg.lstsq(basis, monomials, rcond=None)[0], monomials, atol=1e-10)
    assert np.linalg.matrix_rank(basis) == basis.shape[1]
    np.testing.assert_array_equal(basis[:, 0], 1.0)


def test_linear_field_polynomials_are_one_x_and_y() -> None:
    np.testing.assert_array_equal(field_polynomials(FIELD, 1), np.column_stack([np.ones(len(FIELD)), FIELD]))


@pytest.mark.parametrize("channels", [1, 3])
def test_groups_lie_side_by_side_and_fill_the_vector(channels: int) -> None:
    of = layout(channels)
    slices = list(of.slices().values())
    assert slices[0].start == 0
    assert all(a.stop == b.start for a, b in itertools.pairwise(slices))
    assert local_map(of, 0, FIELD).shape == (len(FIELD), TERMS + len(EXTRAS), slices[-1].stop)
    sizes = {name: s.stop - s.start for name, s in of.slices().items()}
    others = channels - 1
    assert sizes == {
        "wave": TERMS * 6,
        "deviation": others * TERMS * 3,
        "lateral": others * 2 * 6,
        "diffusion": channels,
        "clip": 4,
        "focus": 0,
        "scale": channels,
    }


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_all_channels_share_the_wavefront(channel: int) -> None:
    of = layout()
    wave = RNG.normal(size=(TERMS, of.shared))
    mapped = local_map(of, channel, FIELD) @ vector(of, wave=wave.ravel())
    np.testing.assert_allclose(mapped[:, :TERMS], field_polynomials(FIELD, 2) @ wave.T)
    np.testing.assert_array_equal(mapped[:, TERMS:], 0)


@pytest.mark.parametrize("group", ["deviation", "lateral"])
def test_a_channels_own_deviation_reaches_that_channel_alone(group: str) -> None:
    of = layout()
    at = of.slices()[group]
    half = (at.stop - at.start) // 2
    rows = slice(0, TERMS) if group == "deviation" else slice(TERMS, TERMS + 2)
    for other, channel in ((0, 0), (1, 2)):
        own = vector(of)
        own[at.start + other * half : at.start + (other + 1) * half] = RNG.normal(size=half)
        for c in range(3):
            mapped = local_map(of, c, FIELD) @ own
            assert np.any(mapped[:, rows]) == (c == channel)
            assert not np.any(np.delete(mapped, np.arange(TERMS + 7)[rows], axis=1))


def test_lateral_colour_is_x_then_y_with_its_own_polynomials() -> None:
    of = layout()
    lateral = RNG.normal(size=(2, 2, of.shared))
    mapped = local_map(of, 2, FIELD) @ vector(of, lateral=lateral.ravel())
    np.testing.assert_allclose(mapped[:, TERMS : TERMS + 2], field_polynomials(FIELD, 2) @ lateral[1].T)


def test_diffusion_stop_and_scale_reach_the_shape() -> None:
    of = layout()
    globals_ = vector(
        of, diffusion=np.array([0.1, 0.2, 0.3]), clip=np.array([0.5, 0.01, -0.02, 1.1]), scale=np.array([1.0, 0.03, 0])
    )
    for channel, scale in ((0, 1.03), (1, 1.0), (2, 1.0)):
        xy_px = RNG.uniform(0, 50, FIELD.shape)
        shape = to_shape(of, local_map(of, channel, FIELD) @ globals_, xy_px)
        assert shape.diffusion_px == pytest.approx(0.1 * (channel + 1))
        assert shape.scale == pytest.approx(scale)
        np.testing.assert_allclose(shape.clip[:, :2], 0.5 * FIELD + np.array([0.01, -0.02]))
        np.testing.assert_allclose(shape.clip[:, 2], 1.1)
        np.testing.assert_allclose(shape.xy_px, xy_px)


def test_a_monochrome_camera_is_its_own_reference() -> None:
    of = layout(channels=1)
    assert of.other(0) is None
    mapped = local_map(of, 0, FIELD) @ vector(of, scale=1.0, diffusion=0.25)
    np.testing.assert_allclose(mapped[:, TERMS + 2], 0.25)
    np.testing.assert_allclose(mapped[:, -1], 1.0)


def samples_of(values: Array, weights: Array) -> Samples:
    nowhere = np.zeros(0)
    return Samples(nowhere, nowhere, values, weights)


@given(flux=st.floats(0.01, 100), floor=st.floats(-10, 10), seed=st.integers(0, 2**32 - 1))
def test_flux_and_background_come_back_exactly(flux: float, floor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = rng.random((3, 2, 4, 4))
    weights = rng.random(model.shape) * (rng.random(model.shape) > 0.2)
    data = flux * model + floor
    data[weights == 0] = 1e3  # what is unknown must not matter
    linear, residual = closed_form(model, samples_of(data, weights))
    np.testing.assert_allclose(linear, np.tile([flux, floor], (3, 1)), rtol=1e-6, atol=1e-8 * (flux + abs(floor)))
    np.testing.assert_allclose(residual[(weights > 0).reshape(3, -1)], 0, atol=1e-8 * (flux + abs(floor)))


def test_flux_and_background_are_the_weighted_least_squares_answer() -> None:
    model, weights, data = RNG.random((3, 2, 5, 5)), RNG.random((3, 2, 5, 5)), RNG.random((3, 2, 5, 5))
    linear, residual = closed_form(model, samples_of(data, weights))
    for k in range(3):
        design = np.stack([model[k].ravel(), np.ones(50)], 1)
        root = np.sqrt(weights[k].ravel())
        expected = np.linalg.lstsq(design * root[:, None], data[k].ravel() * root, rcond=None)[0]
        np.testing.assert_allclose(linear[k], expected, rtol=1e-9)
        np.testing.assert_allclose(residual[k], data[k].ravel() - design @ expected, atol=1e-12)


def test_hubers_loss_is_square_inside_and_straight_outside() -> None:
    weights = np.full((1, 1), 4.0)

    def cost(residual: float) -> float:
        return float(huber_cost(np.array([[residual]]), weights)[0])

    edge = HUBER_SIGMA / 2  # residual at which |r| sqrt(w) reaches the limit
    assert cost(0.3) == pytest.approx(4 * 0.09)
    assert cost(edge) == pytest.approx(HUBER_SIGMA**2)
    assert cost(edge + 1e-6) - cost(edge - 1e-6) == pytest.approx(2e-6 * 2 * HUBER_SIGMA * 2, rel=1e-4)
    assert cost(3 * edge) - cost(2 * edge) == pytest.approx(cost(2 * edge) - cost(edge))
    assert cost(-edge * 5) == cost(edge * 5)


@given(st.floats(-50, 50))
def test_hubers_weight_is_the_slope_of_its_loss_over_the_residual(residual: float) -> None:
    weights, step = np.full((1, 1), 2.0), 1e-5
    high, low = (huber_cost(np.array([[residual + s]]), weights)[0] for s in (step, -step))
    slope = (high - low) / (2 * step)
    weight = huber_weights(np.array([[residual]]), weights)[0, 0]
    assert 2 * weight * residual == pytest.approx(slope, rel=1e-3, abs=1e-3)


def test_normal_equations_are_the_slopes_of_the_cost() -> None:
    """The gradient against finite differences of the image's cost with flux and background solved each time."""
    optics = Optics(noll_terms(4, 7), np.array([[540.0]]), np.ones((1, 1)), 2.0, 1.4)
    model = PointModel(optics, 0, 6.0, 21)
    of = layout(1)
    axis = np.broadcast_to(np.arange(-6.0, 7.0), (1, 1, 13))
    empty = Samples(axis, axis, np.zeros(0), np.zeros(0))
    truth = np.array([[30.0, 10.0, -8.0, 5.0, 0.1, -0.2, 0.28, 0.0, 0.0, 1.1, 1.0]])
    still = np.zeros((1, 2))
    data = 2.0 * model.render(to_shape(of, truth, still), empty).astype(float) + 0.1
    samples = Samples(axis, axis, data, np.full(data.shape, 1e4))

    def cost(mapped: Array) -> float:
        residual = closed_form(model.render(to_shape(of, mapped, still), empty), samples)[1]
        return float(huber_cost(residual, samples.weights.reshape(1, -1))[0])

    start = truth + np.array([[6.0, -4.0, 3.0, 4.0, 0.02, 0.03, 0.02, 0.0, 0.0, 0.0, 0.01]])
    matrix, gradient, at_start = normal_equations(model, to_shape(of, start, still), samples)
    assert at_start[0] == pytest.approx(cost(start), rel=1e-5)
    assert cost(truth) < 1e-3 * at_start[0]
    np.testing.assert_allclose(matrix[0], matrix[0].T, rtol=1e-9)
    assert np.linalg.eigvalsh(matrix[0]).min() > -1e-9 * np.linalg.eigvalsh(matrix[0]).max()
    steps = np.array([0.5] * TERMS + [5e-3] * 3 + [0.0] * 3 + [2e-3])
    for k in np.flatnonzero(steps):
        move = steps[k] * np.eye(len(steps))[k]
        slope = (cost(start + move) - cost(start - move)) / (2 * steps[k])
        assert -2 * gradient[0, k] == pytest.approx(slope, rel=0.05), k
    step = np.linalg.lstsq(matrix[0], gradient[0], rcond=1e-8)[0]
    assert cost(start + step) < 0.2 * at_start[0]


def test_taking_images_keeps_what_belongs_together() -> None:
    axis = np.broadcast_to(np.arange(3.0), (4, 1, 3)) + np.arange(4.0)[:, None, None]
    images = Images(
        Samples(axis, -axis, RNG.random((4, 1, 3, 3)), RNG.random((4, 1, 3, 3))), FIELD[:4], np.arange(4), 0
    )
    some = images.take(np.array([3, 1]))
    np.testing.assert_array_equal(some.field, FIELD[[3, 1]])
    np.testing.assert_array_equal(some.source, [3, 1])
    np.testing.assert_array_equal(some.samples.values, images.samples.values[[3, 1]])
