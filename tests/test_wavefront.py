"""The wavefront of a whole field, from the noisy mosaic images of a camera whose wavefront is known."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

from calib import fieldsolver
from calib.fieldmodel import Layout, local_map, to_shape
from calib.fieldsolver import Parameters, refine_positions
from calib.pointmodel import Optics, PointModel, Samples
from calib.psf import relative_sigma, render_kernels
from calib.wavefront import pose
from calib.wavefront.joint import (
    LEAST_LIGHTS,
    REJECTIONS,
    START_DEFOCUS_NM,
    WavefrontFit,
    fit_wavefront,
    starting_points,
    thinned,
)
from calib.wavefront.pose import field_position, pose_problem, priors
from calib.wavefront.quality import MOST_REJECTED, light_excess, outliers, reweighed
from psfbank.errors import FitFailed
from psfbank.flags import Flag
from psfbank.model import Points
from psfbank.sensor import cfa_sites
from psfbank.zernike import noll_terms

SIZE_PX = (120, 160)
HALF_PX = 7
FULL_WELL_E, READ_NOISE_E = 6000.0, 3.0
FLUX = (1.6, 2.2, 1.4)  # of a light in each channel; white is 1
ODD_LIGHT = 23  # the one with a companion

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """Truth and the points that a camera made of it."""

    vector: Array
    xy_px: Array
    points: Points


def optics() -> Optics:
    centres = np.array([[610.0], [540.0], [465.0]])
    return Optics(noll_terms(4, 8), centres, np.ones_like(centres), 2.0, 1.4)


def true_vector(layout: Layout) -> Array:
    """Curved field, astigmatism and coma that grow outwards, some axial and lateral colour; nothing cuts the pupil."""
    vector = np.zeros(layout.slices()["scale"].stop)
    at = layout.slices()
    wave = vector[at["wave"]].reshape(layout.terms, layout.shared)  # columns 1, x, y
    wave[:] = [(50, 15, -10), (5, 12, 20), (-8, 25, -15), (4, 0, 30), (-6, 35, 0)]
    deviation = vector[at["deviation"]].reshape(2, layout.terms, layout.deviating)
    deviation[0, 0], deviation[1, 0] = (15, 2, 1), (-20, 1, 3)
    lateral = vector[at["lateral"]].reshape(2, 2, layout.shared)
    lateral[0, 0, 1] = lateral[0, 1, 2] = 0.35
    lateral[1, 0, 1] = lateral[1, 1, 2] = -0.25
    vector[at["diffusion"]] = 0.28
    vector[at["clip"]] = 0.0, 0.0, 0.0, 1.1
    vector[at["scale"].start] = 1.0
    return vector


def lights(rng: np.random.Generator) -> Array:
    """Two frames of a grid, 16 px apart, each light a little off its place."""
    x, y = np.meshgrid(np.arange(8.0, 155.0, 17.5), np.arange(8.0, 115.0, 17.3))
    frame = np.stack([x.ravel(), y.ravel()], 1)
    return np.concatenate([frame, frame + np.array([2.7, -1.6])]) + rng.uniform(-1, 1, (2 * len(frame), 2))


def images_of(layout: Layout, vector: Array, xy_px: Array, seed: int) -> Points:
    """Patches of an RGGB mosaic with shot and read noise; positions as a detector gives them, 0.15 px off."""
    rng = np.random.default_rng(seed)
    count, width = len(xy_px), 2 * HALF_PX + 1
    corner = np.rint(xy_px).astype(np.int64) - HALF_PX
    cols, rows = (corner[:, k, None, None] + np.arange(width) for k in (0, 1))
    sites = cfa_sites("RGGB", (400, 400))  # an even step beyond the image on all sides
    parts = []
    for c in range(3):
        model = PointModel(optics(), c, HALF_PX, 25)
        mapped = local_map(layout, c, field_position(xy_px, SIZE_PX)) @ vector
        light = model.render(to_shape(layout, mapped, xy_px), Samples(rows, cols, np.zeros(0), np.zeros(0)))[:, 0]
        light = 0.01 + FLUX[c] * light.astype(np.float64)
        light[ODD_LIGHT] += 0.25 * np.roll(light[ODD_LIGHT], (-4, 4), (0, 1))
        read = rng.poisson(light * FULL_WELL_E) + rng.normal(0, READ_NOISE_E, light.shape)
        own = sites[rows[:, 0, :, None] + 100, cols[:, 0, None, :] + 100] == c
        variance = np.where(own, (light * FULL_WELL_E + READ_NOISE_E**2) / FULL_WELL_E**2, np.inf)
        parts.append((read / FULL_WELL_E, variance))
    zero = np.zeros(3 * count, dtype=np.int64)
    detected = xy_px + rng.normal(0, 0.15, xy_px.shape)
    return Points(
        xy_px=np.tile(detected, (3, 1)),
        channel=np.repeat([0, 1, 2], count),
        patch=np.concatenate([patch for patch, _ in parts]),
        variance=np.concatenate([variance for _, variance in parts]),
        corner_px=np.tile(corner, (3, 1)),
        source=np.tile(np.arange(count), 3),
        view=zero,
        flags=zero,
    )


@pytest.fixture(scope="module", autouse=True)
def small_pupil() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pose, "PUPIL_SAMPLES", 25)
        yield


@pytest.fixture(scope="module")
def known() -> Known:
    layout = Layout(5, 3, degree=1)
    vector, xy_px = true_vector(layout), lights(np.random.default_rng(0))
    return Known(vector, xy_px, images_of(layout, vector, xy_px, seed=1))


@pytest.fixture(scope="module")
def fit(known: Known) -> WavefrontFit:
    return fit_wavefront(pose_problem(known.points, optics(), SIZE_PX, 3, half_px=HALF_PX, degree=1), SIZE_PX)


def test_kernels_over_the_whole_field_are_the_true_ones(fit: WavefrontFit, known: Known) -> None:
    truth = replace(fit, vector=known.vector)
    nodes = np.stack(np.meshgrid(np.linspace(5, 154, 5), np.linspace(5, 114, 4)), -1).reshape(-1, 2)
    errors, expected_errors = [], []
    for channel in range(3):
        found, expected = (render_kernels(f, channel, nodes, 3)[0] for f in (fit, truth))
        errors.append(np.linalg.norm(found - expected, axis=(1, 2)) / np.linalg.norm(expected, axis=(1, 2)))
        expected_errors.append(relative_sigma(fit, channel, nodes))
    assert np.median(errors) < 0.02
    assert np.max(errors) < 0.05
    assert 0.5 < np.median(expected_errors) / np.median(errors) < 2.5, "the fit knows how well it knows"


def test_lights_are_where_they_were(fit: WavefrontFit, known: Known) -> None:
    miss = np.hypot(*(fit.xy_px - known.xy_px)[fit.used].T)
    assert np.sqrt(np.mean(miss**2)) < 0.03
    assert miss.max() < 0.1
    assert 0.2 < np.sqrt(np.mean(miss**2) / 2) / np.sqrt(np.mean(fit.sigma_px[fit.used] ** 2)) < 3


def test_lateral_colour_and_diffusion_come_back(fit: WavefrontFit, known: Known) -> None:
    at = fit.layout.slices()
    assert np.abs(fit.vector[at["lateral"]] - known.vector[at["lateral"]]).max() < 0.05
    assert np.abs(fit.vector[at["diffusion"]] - 0.28).max() < 0.05
    assert fit.vector[at["scale"].start] == pytest.approx(1.0, abs=0.04)


def test_noise_explains_what_is_left(fit: WavefrontFit) -> None:
    assert np.median(fit.chi2[fit.used]) == pytest.approx(1.0, abs=0.1)


def test_a_light_with_a_companion_is_rejected(fit: WavefrontFit) -> None:
    assert not fit.used[ODD_LIGHT]
    assert fit.chi2[ODD_LIGHT] == np.nanmax(fit.chi2)
    assert np.sum(~fit.used) <= REJECTIONS * max(1, MOST_REJECTED * len(fit.used))


def test_the_covariance_is_symmetric_and_positive(fit: WavefrontFit) -> None:
    size = fit.layout.slices()["scale"].stop
    assert fit.covariance.shape == (size, size)
    scale = np.sqrt(np.diag(fit.covariance))
    correlation = fit.covariance / np.outer(scale, scale)
    np.testing.assert_allclose(correlation, correlation.T, atol=1e-9)
    assert np.linalg.eigvalsh((correlation + correlation.T) / 2).min() > 0


def fit_green(known: Known, **options: object) -> WavefrontFit:
    """Fit a few lights of the green channel, as a monochrome camera would."""
    few = known.points.take((known.points.source < 32) & (known.points.channel == 1))
    mono = replace(few, channel=np.zeros(len(few), dtype=np.int64))
    green = replace(optics(), wavelengths_nm=np.array([[540.0]]), weights=np.ones((1, 1)))
    return fit_wavefront(pose_problem(mono, green, SIZE_PX, 1, half_px=HALF_PX, degree=0), SIZE_PX, **options)


def test_the_fit_does_not_depend_on_the_number_of_workers(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fieldsolver, "CHUNK", 12)  # several jobs, out of few images
    alone = fit_green(known)
    with ThreadPoolExecutor(2) as executor:
        together = fit_green(known, executor=executor)
    for name in ("vector", "covariance", "xy_px", "sigma_px", "used", "chi2"):
        np.testing.assert_array_equal(getattr(together, name), getattr(alone, name))


def test_saturated_images_take_no_part(known: Known) -> None:
    points = known.points
    flags = np.where(points.source == 5, int(Flag.SATURATED), 0)
    problem = pose_problem(replace(points, flags=flags), optics(), SIZE_PX, 3, half_px=HALF_PX, degree=1)
    assert 5 not in problem.lights()
    assert len(problem.lights()) == len(known.xy_px) - 1
    np.testing.assert_array_equal(problem.detected_px, points.xy_px[points.channel == 0])


@pytest.mark.parametrize("saturated", [False, True])
def test_too_few_lights_are_refused_in_words(known: Known, saturated: bool) -> None:
    few = known.points.take(known.points.source < LEAST_LIGHTS - 1)
    if saturated:
        flags = np.where(known.points.source >= LEAST_LIGHTS - 1, int(Flag.SATURATED), 0)
        few = replace(known.points, flags=flags)
    with pytest.raises(FitFailed, match=f"{LEAST_LIGHTS - 1} images of points or corners without saturation") as caught:
        fit_wavefront(pose_problem(few, optics(), SIZE_PX, 3, half_px=HALF_PX, degree=1), SIZE_PX)
    assert "LED frames" in caught.value.remedy


def test_progress_counts_up_to_its_total(known: Known) -> None:
    told: list[tuple[str, int, int]] = []
    fit = fit_green(known, report=lambda *step: told.append(step))
    done = [step[1] for step in told]
    assert done == sorted(done)
    assert told[-1][1] == told[-1][2]
    assert {step[0] for step in told} == {"wavefront"}
    assert (fit.layout.channels, fit.layout.reference) == (1, 0)


def test_field_coordinates_are_half_diagonals_from_the_centre() -> None:
    corners = np.array([(79.5, 59.5), (-0.5, -0.5), (159.5, 119.5), (159.5, 59.5), (79.5, 119.5)])
    expected = [(0, 0), (-0.8, -0.6), (0.8, 0.6), (0.8, 0), (0, 0.6)]
    np.testing.assert_allclose(field_position(corners, SIZE_PX), expected, atol=1e-12)


def test_priors_are_narrow_where_physics_is_small() -> None:
    layout = Layout(12, 3, degree=3)
    mean, sigma = priors(layout)
    at = layout.slices()
    assert mean.shape == sigma.shape == (at["scale"].stop,)
    assert (sigma > 0).all()
    wave = sigma[at["wave"]].reshape(12, layout.shared)
    assert (wave[:, 0] > wave[:, 1]).all()
    assert (wave[:, 2] > wave[:, 9]).all()
    deviation = sigma[at["deviation"]].reshape(2, 12, 3)
    assert (deviation[:, 0] > deviation[:, 1]).all(), "channels differ mostly in focus"
    assert np.all(mean[at["wave"]] == 0)
    scale = at["scale"].start
    assert mean[scale] == 1
    assert priors(layout, f_number_known=False)[1][scale] > 5 * sigma[scale]


def test_thinning_takes_lights_from_everywhere(known: Known) -> None:
    problem = pose_problem(known.points, optics(), SIZE_PX, 3, half_px=HALF_PX, degree=1)
    few = thinned(problem, 20).lights()
    assert 20 <= len(few) <= 40
    assert np.ptp(known.xy_px[few], axis=0).min() > 90
    np.testing.assert_array_equal(thinned(problem, 10_000).lights(), problem.lights())


def test_outliers_are_the_worst_and_few() -> None:
    rng = np.random.default_rng(0)
    chi2 = rng.normal(1.0, 0.05, 400)
    grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), -1).reshape(-1, 2)
    chi2[[103, 250]] = 4.0, 9.0
    chi2[10] = np.nan
    assert np.flatnonzero(outliers(chi2, grid)).tolist() == [103, 250]
    chi2[::30] = 5.0 + np.arange(14)
    bad = np.flatnonzero(outliers(chi2, grid))
    assert len(bad) <= MOST_REJECTED * 400
    assert chi2[bad].min() >= np.sort(chi2[np.isfinite(chi2)])[-4]
    assert not outliers(rng.normal(1.0, 0.05, 400), grid).any()


def test_a_place_that_fits_badly_is_not_a_crowd_of_outliers() -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), -1).reshape(-1, 2)
    chi2 = rng.normal(1.0, 0.05, 400) + 3.0 * np.exp(-np.sum((grid - 8.0) ** 2, 1) / 2 / 3.0**2)
    chi2[4] = 3.0
    assert np.flatnonzero(outliers(chi2, grid)).tolist() == [4]


def kernel_error(fit: WavefrontFit, truth: WavefrontFit, channel: int) -> float:
    nodes = np.stack(np.meshgrid(np.linspace(20, 140, 4), np.linspace(20, 100, 3)), -1).reshape(-1, 2)
    found, expected = (render_kernels(f, channel, nodes, 1)[0] for f in (fit, truth))
    return float(np.median(np.linalg.norm(found - expected, axis=(1, 2)) / np.linalg.norm(expected, axis=(1, 2))))


@pytest.mark.parametrize("added_nm", [0.0, 30.0])
def test_the_misfit_is_the_error_of_a_wrong_model(fit: WavefrontFit, known: Known, added_nm: float) -> None:
    """Chi2 above its expectation measures how far the PSF is off, without knowing the truth."""
    problem = pose_problem(known.points, optics(), SIZE_PX, 3, half_px=HALF_PX, degree=1)
    vector = known.vector.copy()
    vector[fit.layout.slices()["wave"].start] += added_nm
    at = Parameters(vector, known.xy_px)
    noise = np.full(3, 1 / FULL_WELL_E), np.full(3, (READ_NOISE_E / FULL_WELL_E) ** 2)
    problem = reweighed(problem, Parameters(known.vector, known.xy_px), *noise)
    excess, signal = light_excess(problem, replace(at, xy_px=refine_positions(problem, at)[0]))
    wrong = replace(fit, vector=vector, excess=excess, signal=signal, xy_px=known.xy_px)
    truth = replace(fit, vector=known.vector)
    for channel in range(3):
        told = float(np.median(wrong.misfit(channel, known.xy_px)))
        expected = kernel_error(wrong, truth, channel)
        assert told == pytest.approx(expected, rel=0.35, abs=0.035), (channel, told, expected)


def test_weights_come_from_the_light_that_the_model_expects(known: Known) -> None:
    problem = pose_problem(known.points, optics(), SIZE_PX, 3, half_px=HALF_PX, degree=1)
    spoilt = replace(
        problem,
        images=tuple(replace(i, samples=i.samples.reweighed(7.0 * (i.samples.weights > 0))) for i in problem.images),
    )
    shot, floor = np.full(3, 1 / FULL_WELL_E), np.full(3, (READ_NOISE_E / FULL_WELL_E) ** 2)
    told = reweighed(spoilt, Parameters(known.vector, known.xy_px), shot, floor)
    for before, after in zip(problem.images, told.images, strict=True):
        clean = np.flatnonzero(before.source != ODD_LIGHT)
        want, got = before.samples.weights[clean], after.samples.weights[clean]
        np.testing.assert_array_equal(got > 0, want > 0)
        assert np.median(np.abs(got[want > 0] / want[want > 0] - 1)) < 0.05
    unknown = reweighed(spoilt, Parameters(known.vector, known.xy_px), shot, np.full(3, np.nan))
    np.testing.assert_array_equal(unknown.images[0].samples.weights, spoilt.images[0].samples.weights)


def test_what_is_held_in_reserve_is_placed_but_not_learnt_from(known: Known) -> None:
    few = known.points.take((known.points.source < 60) & (known.points.channel == 1))
    mono = replace(few, channel=np.zeros(len(few), dtype=np.int64))
    green = replace(optics(), wavelengths_nm=np.array([[540.0]]), weights=np.ones((1, 1)))
    problem = pose_problem(mono, green, SIZE_PX, 1, half_px=HALF_PX, degree=0)
    reserved = np.arange(60) % 5 == 2
    fit = fit_wavefront(problem, SIZE_PX, reserved=reserved)
    dark = np.where(np.isin(mono.source, np.flatnonzero(reserved))[:, None, None], 0.01 + 0 * mono.patch, mono.patch)
    blind = fit_wavefront(
        pose_problem(replace(mono, patch=dark), green, SIZE_PX, 1, half_px=HALF_PX, degree=0),
        SIZE_PX,
        reserved=reserved,
    )
    np.testing.assert_array_equal(fit.vector, blind.vector)
    np.testing.assert_array_equal(fit.reserved, reserved)
    assert not (fit.used & fit.reserved).any()
    assert (fit.sound & fit.reserved).sum() > 8
    miss = np.hypot(*(fit.xy_px - known.xy_px[:60])[reserved].T)
    assert np.median(miss) < 0.12


def test_starts_differ_in_what_a_fit_does_not_change_on_its_way(known: Known) -> None:
    wide = replace(optics(), nm=noll_terms(4, 11))
    problem = pose_problem(known.points, wide, SIZE_PX, 3, half_px=HALF_PX, degree=1)
    starts = np.array(starting_points(problem))
    wave = problem.layout.slices()["wave"].start
    pairs = {(start[wave], start[wave + 7 * problem.layout.shared]) for start in starts}
    assert len(pairs) == len(starts) == len(START_DEFOCUS_NM) * 2
    assert {np.sign(sphere) for _, sphere in pairs} == {-1, 1}
    assert all(defocus > 0 for defocus, _ in pairs), "the common sign is the twin"
