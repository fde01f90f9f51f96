"""From a fitted field to the bank's grid: centred kernels, what was moved into distortion, what supports each tile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import fourier_shift

from calib.fieldmodel import Images, Layout, field_polynomials, local_map
from calib.pointmodel import Optics, PointModel, Samples
from calib.psf import (
    COVERAGE,
    LEAST_OBSERVATIONS,
    OVERSAMPLE,
    count_support,
    image_centroids,
    relative_sigma,
    render_grid,
    render_kernels,
    shape_at,
    tile_nodes,
)
from calib.wavefront.joint import WavefrontFit
from calib.wavefront.pose import PUPIL_SAMPLES, field_position
from psfbank.flags import Flag
from psfbank.render import FieldRenderer
from psfbank.zernike import centroid_px, effective_psf, noll_terms

SIZE_PX = (120, 160)
CENTRE_PX = np.array([[79.5, 59.5]])
LAYOUT = Layout(terms=8, channels=3, degree=1)
TERMS = noll_terms(4, 11)
DEFOCUS, COMA_Y, COMA_X, SPHERICAL = 0, 3, 4, 7
WAVELENGTHS_NM = np.array([[600.0, 620.0], [530.0, 550.0], [455.0, 475.0]])

Array = npt.NDArray[np.float64]


def fit_of(
    wave: dict[int, tuple[float, float, float]], lights_px: Array | None = None, **groups: Array
) -> WavefrontFit:
    """Field with the given terms as (constant, along x, along y) in nm, and other groups of parameters."""
    at = LAYOUT.slices()
    vector = np.zeros(at["scale"].stop)
    terms = vector[at["wave"]].reshape(LAYOUT.terms, LAYOUT.shared)
    for term, coefficients in wave.items():
        terms[term] = coefficients
    vector[at["diffusion"]] = 0.28
    vector[at["clip"].stop - 1] = 1.1
    vector[at["scale"].start] = 1.0
    for name, values in groups.items():
        vector[at[name]] = values
    xy_px = CENTRE_PX if lights_px is None else lights_px
    count = len(xy_px)
    optics = Optics(TERMS, WAVELENGTHS_NM, np.ones((3, 2)), 2.0, 1.4)
    return WavefrontFit(
        LAYOUT,
        optics,
        SIZE_PX,
        9,
        vector,
        1e-4 * np.eye(len(vector)),
        xy_px,
        np.full(count, 0.01),
        np.ones(count, dtype=bool),
        np.zeros(count, dtype=bool),
        np.ones(count),
        np.zeros((3, count)),
        np.ones((3, count)),
    )


def skewed_field(lights_px: Array | None = None, **groups: Array) -> WavefrontFit:
    wave = {
        DEFOCUS: (30.0, 40.0, -20.0),
        COMA_X: (0.0, 45.0, 0.0),
        COMA_Y: (0.0, 0.0, 45.0),
        SPHERICAL: (8.0, 0.0, 0.0),
    }
    return fit_of(wave, lights_px, **groups)


def nodes_px(columns: int = 4, rows: int = 3) -> Array:
    x, y = np.linspace(0, 159, columns), np.linspace(0, 119, rows)
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


@pytest.mark.parametrize(("size_px", "pitch_px"), [((120, 160), 20.0), ((960, 1280), 80.0), ((3000, 4000), 251.0)])
def test_nodes_reach_from_the_first_pixel_to_the_last(size_px: tuple[int, int], pitch_px: float) -> None:
    for nodes, count in zip(tile_nodes(size_px, pitch_px), size_px[::-1], strict=True):
        assert (nodes[0], nodes[-1]) == (0, count - 1)
        np.testing.assert_allclose(np.diff(nodes), (count - 1) / (len(nodes) - 1))
        assert np.diff(nodes)[0] == pytest.approx(pitch_px, rel=0.15)


def test_even_a_tiny_image_has_three_nodes_a_side() -> None:
    assert [len(nodes) for nodes in tile_nodes((20, 30), 100.0)] == [3, 3]


@pytest.mark.parametrize("oversample", [1, 3])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_kernels_are_centred_positive_and_of_unit_sum(channel: int, oversample: int) -> None:
    kernels, displacement = render_kernels(skewed_field(), channel, nodes_px(), oversample)
    assert kernels.shape == (12, 18 * oversample + 1, 18 * oversample + 1)
    assert kernels.min() >= 0
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, rtol=1e-12)
    np.testing.assert_allclose([centroid_px(kernel, oversample) for kernel in kernels], 0, atol=1e-3)
    assert np.abs(displacement).max() > 0.1


@pytest.mark.parametrize(("term", "axis"), [(COMA_X, 0), (COMA_Y, 1)])
@pytest.mark.parametrize("sign", [1, -1])
def test_coma_displaces_to_the_side_of_its_tail(term: int, axis: int, sign: int) -> None:
    fit = fit_of({term: (sign * 25.0, 0.0, 0.0)})
    kernels, (displacement,) = render_kernels(fit, 1, CENTRE_PX, 1)
    coefficients = np.zeros(len(TERMS))
    coefficients[term] = sign * 25.0
    still = effective_psf(
        coefficients,
        TERMS,
        wavelengths_nm=WAVELENGTHS_NM[1],
        weights=np.ones(2),
        f_number=2.0,
        pitch_um=1.4,
        half_px=9,
        diffusion_px=0.28,
    )
    assert sign * displacement[axis] > 0.1
    assert displacement[1 - axis] == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(displacement, centroid_px(still), atol=0.02)
    # the centred kernel keeps its handedness: the tail still points along the displacement
    at = np.arange(19) - 9
    assert sign * (kernels[0].sum(axis) @ at**3) > 0


def test_a_symmetric_wavefront_displaces_nothing() -> None:
    displacement = render_kernels(fit_of({DEFOCUS: (50.0, 0.0, 0.0), SPHERICAL: (20.0, 0, 0)}), 0, CENTRE_PX, 1)[1]
    np.testing.assert_allclose(displacement, 0, atol=1e-4)


def test_lateral_colour_and_position_are_no_part_of_a_kernel() -> None:
    lateral = np.linspace(-2, 2, 12)
    with_colour, without = skewed_field(lateral=lateral), skewed_field()
    np.testing.assert_array_equal(shape_at(with_colour, 0, nodes_px()).xy_px, 0)
    for a, b in zip(*(render_kernels(f, 0, nodes_px(), 1) for f in (with_colour, without)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_centroids_of_images_are_position_lateral_colour_and_displacement() -> None:
    lights = np.array([(30.2, 40.7), (120.6, 90.1), (79.9, 20.4)])
    lateral = np.zeros((2, 2, LAYOUT.shared))
    lateral[0, 0, 1], lateral[1, 1, 2], lateral[1, 0, 0] = 0.8, -0.6, 0.2
    fit = skewed_field(lights, lateral=lateral.ravel())
    at = field_position(lights, SIZE_PX)
    moved = {
        0: np.stack([0.8 * at[:, 0], 0 * at[:, 1]], 1),
        1: 0 * at,
        2: np.stack([0.2 + 0 * at[:, 0], -0.6 * at[:, 1]], 1),
    }
    for channel in range(3):
        centroids = image_centroids(fit, channel, lights)
        np.testing.assert_allclose(
            centroids, lights + moved[channel] + render_kernels(fit, channel, lights, 1)[1], atol=1e-9
        )
        # and that is where a picture of the light has its centroid
        model = PointModel(fit.optics, channel, fit.half_px, PUPIL_SAMPLES)
        for k, place in enumerate(centroids):
            axes = [np.rint(p) + np.arange(-9.0, 10.0) for p in place]
            shape = replace(shape_at(fit, channel, lights[k : k + 1]), xy_px=(lights + moved[channel])[k : k + 1])
            window = Samples(axes[1][None, None], axes[0][None, None], np.zeros(0), np.zeros(0))
            image = model.render(shape, window)[0, 0].astype(np.float64)
            seen = np.array(centroid_px(image)) + np.rint(place)
            np.testing.assert_allclose(seen, place, atol=0.03)


def images_at(count: int, keep: dict[int, list[int]] | None = None) -> list[Images]:
    """Images of `count` lights in three channels; `keep` names those of a channel that are there."""
    nothing = Samples(*(np.zeros((0, 1, 3)),) * 2, *(np.zeros((0, 1, 3, 3)),) * 2)
    sources = [np.array((keep or {}).get(c, list(range(count)))) for c in range(3)]
    return [Images(nothing, np.zeros((len(source), 2)), source, c) for c, source in enumerate(sources)]


def test_support_counts_the_images_nearest_to_each_node_that_were_used() -> None:
    x_px, y_px = np.array([0.0, 80.0, 159.0]), np.array([0.0, 60.0, 119.0])
    lights = np.array([(2.0, 3.0), (10.0, 8.0), (75.0, 5.0), (150.0, 110.0), (85.0, 70.0), (78.0, 50.0)])
    fit = replace(skewed_field(lights), used=np.array([True, True, True, True, True, False]))
    without_second_in_red = images_at(len(lights), {0: [0, 2, 3, 4, 5]})
    counts = count_support(fit, without_second_in_red, x_px, y_px)
    assert counts.tolist() == [
        [[1, 1, 0], [0, 1, 0], [0, 0, 1]],
        [[2, 1, 0], [0, 1, 0], [0, 0, 1]],
        [[2, 1, 0], [0, 1, 0], [0, 0, 1]],
    ]


def test_sigma_grows_with_the_square_root_of_the_covariance() -> None:
    fit = skewed_field()
    sigma = relative_sigma(fit, 1, nodes_px())
    assert sigma.shape == (12,)
    assert (sigma > 0).all()
    np.testing.assert_allclose(relative_sigma(replace(fit, covariance=4 * fit.covariance), 1, nodes_px()), 2 * sigma)


def test_sigma_counts_neither_lateral_colour_nor_other_channels() -> None:
    fit = skewed_field()
    at = LAYOUT.slices()
    for group, silent in (("lateral", (0, 1, 2)), ("deviation", (1,))):
        variance = np.zeros(len(fit.vector))
        variance[at[group]] = 1.0
        for channel in silent:
            blind = relative_sigma(replace(fit, covariance=np.diag(variance)), channel, nodes_px())
            np.testing.assert_allclose(blind, 0, atol=1e-5)


def test_sigma_is_the_scatter_of_kernels_drawn_from_the_covariance() -> None:
    fit = skewed_field()
    variance = np.zeros(len(fit.vector))
    variance[LAYOUT.slices()["wave"]] = 1.0
    variance[LAYOUT.slices()["lateral"]] = 0.1
    variance[LAYOUT.slices()["diffusion"]] = 0.005**2
    rng = np.random.default_rng(0)
    nodes = nodes_px(3, 2)
    plain = render_kernels(fit, 1, nodes, 1)[0]
    drawn = rng.normal(size=(100, len(variance))) * np.sqrt(variance)
    scatter = [render_kernels(replace(fit, vector=fit.vector + d), 1, nodes, 1)[0] - plain for d in drawn]
    measured = np.sqrt(np.mean(np.sum(np.square(scatter), (2, 3)), 0) / np.sum(plain**2, (1, 2)))
    expected = relative_sigma(replace(fit, covariance=np.diag(variance)), 1, nodes)
    np.testing.assert_allclose(expected, measured, rtol=0.2)


def test_the_grid_holds_the_field_its_errors_and_its_support() -> None:
    x_px, y_px = np.array([0.0, 80.0, 159.0]), np.array([0.0, 60.0, 119.0])
    lights = np.concatenate([np.array([[2.0, 3.0]] * LEAST_OBSERVATIONS), [[155.0, 118.0]]])
    fit = replace(skewed_field(lights), chi2=np.array([1.0, 2.0, 3.0, 7.0]))
    fit.vector[LAYOUT.slices()["scale"].start] = 1.02
    grid, field = render_grid(fit, images_at(len(lights)), ("R", "G", "B"), x_px, y_px)

    assert grid.kernels.shape == (3, 3, 3, 18 * OVERSAMPLE + 1, 18 * OVERSAMPLE + 1)
    assert (grid.oversample, grid.channels) == (OVERSAMPLE, ("R", "G", "B"))
    filled = np.full((3, 3), int(Flag.FILLED))
    filled[0, 0] = 0
    np.testing.assert_array_equal(grid.flags, np.broadcast_to(filled, (3, 3, 3)))
    assert np.asarray(grid.n_obs)[:, 0, 0].tolist() == [3, 3, 3]
    assert np.asarray(grid.n_obs)[:, 2, 2].tolist() == [1, 1, 1]
    expected = render_kernels(fit, 2, np.array([[80.0, 119.0]]), OVERSAMPLE)[0][0]
    np.testing.assert_allclose(grid.kernels[2, 2, 1], expected, atol=1e-7)
    np.testing.assert_allclose(
        np.asarray(grid.sigma)[1, 0, 2], COVERAGE * relative_sigma(fit, 1, np.array([[159.0, 0.0]])), rtol=1e-5
    )

    nodes = np.stack(np.meshgrid(x_px, y_px), -1).reshape(-1, 2)
    wave = fit.vector[LAYOUT.slices()["wave"]].reshape(LAYOUT.terms, -1)
    expected = field_polynomials(field_position(nodes, SIZE_PX), 1) @ wave.T
    np.testing.assert_allclose(field.coefficients_nm[1].reshape(9, -1), expected)
    spread = local_map(LAYOUT, 1, field_position(nodes, SIZE_PX))[:, : LAYOUT.terms]
    np.testing.assert_allclose(field.stderr_nm[1].reshape(9, -1), 1e-2 * np.linalg.norm(spread, axis=2))
    np.testing.assert_allclose(field.wavelength_nm, [610, 540, 465])
    assert field.f_number == pytest.approx(2.04)
    np.testing.assert_array_equal(field.nm, TERMS)
    assert field.residual[:, 0, 0].tolist() == [2.0] * 3
    assert field.residual[:, 2, 2].tolist() == [7.0] * 3
    assert np.isnan(field.residual[:, 1, 1]).all()


def test_a_kernel_of_the_grid_points_where_the_light_goes() -> None:
    """Coma that grows to the right: at the right border the tail points right, at the left border left."""
    fit = fit_of({COMA_X: (0.0, 60.0, 0.0)})
    x_px, y_px = tile_nodes(SIZE_PX, 60.0)
    grid, _ = render_grid(fit, images_at(len(CENTRE_PX)), ("R", "G", "B"), x_px, y_px)
    at = np.arange(grid.kernels.shape[-1]) - grid.kernels.shape[-1] // 2
    skew = grid.kernels.sum(-2, dtype=np.float64) @ at**3
    assert (skew[:, :, -1] > 0).all()
    assert (skew[:, :, 0] < 0).all()


def test_the_wavefront_renders_the_kernels_of_the_grid() -> None:
    """Scale of diffraction, its differences between channels, diffusion and the second stop travel with the field."""
    fit = skewed_field(
        scale=np.array([1.04, -0.02, 0.03]),
        diffusion=np.array([0.25, 0.28, 0.32]),
        clip=np.array([0.25, 0.02, -0.03, 1.0]),
    )
    x_px, y_px = tile_nodes(SIZE_PX, 60.0)
    grid, field = render_grid(fit, images_at(len(CENTRE_PX)), ("R", "G", "B"), x_px, y_px)
    imaging = field.imaging
    assert imaging is not None
    renderer = FieldRenderer.of(x_px, y_px, grid.kernels, OVERSAMPLE, field, imaging)
    for c, j, i in ((0, 0, 0), (1, 1, 2), (2, 2, 3), (2, 0, 1)):
        kernel = grid.kernels[c, j, i].astype(np.float64)
        rendered = renderer.wavefront_kernel(c, x_px[i], y_px[j])
        assert np.linalg.norm(rendered - kernel) < 1e-5 * np.linalg.norm(kernel)
        wide = effective_psf(
            field.coefficients_nm[c, j, i],
            field.nm,
            wavelengths_nm=imaging.wavelengths_nm[c],
            weights=imaging.weights[c],
            f_number=field.f_number,
            pitch_um=imaging.pitch_um,
            half_px=fit.half_px + 3,
            oversample=OVERSAMPLE,
            diffusion_px=imaging.diffusion_px[c],
            clip=tuple(imaging.clip[c, j, i]),
            samples=PUPIL_SAMPLES,
        )
        displacement = render_kernels(fit, c, np.array([[x_px[i], y_px[j]]]), OVERSAMPLE)[1][0]
        moved = np.fft.ifft2(fourier_shift(np.fft.fft2(wide), -displacement[::-1] * OVERSAMPLE)).real
        cut = moved[3 * OVERSAMPLE : -3 * OVERSAMPLE, 3 * OVERSAMPLE : -3 * OVERSAMPLE]
        assert np.linalg.norm(cut / cut.sum() - kernel) < 2e-3 * np.linalg.norm(kernel)
    np.testing.assert_allclose(field.wavelength_nm, [610 * 1.02 / 1.04, 540, 465 * 1.07 / 1.04])
