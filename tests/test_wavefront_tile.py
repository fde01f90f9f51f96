"""The wavefront of one tile: known truth, derivatives, the mirror twin, mirrored tiles, and what must be refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from calib.pointmodel import Optics, PointModel, Samples, Shape
from calib.wavefront.diversity import Planes, objective_planes, parabolic_planes
from calib.wavefront.parameters import Extras, TileImages, Within, pose_tiles, with_terms_of
from calib.wavefront.problem import jacobian, residual
from calib.wavefront.symmetry import LEAST_P, fit_mirrored, mirror_signs
from calib.wavefront.tile import ONE_PLANE, check_f_number, fit_tile, predict
from psfbank.errors import FitFailed
from psfbank.zernike import Pupil, effective_psf, noll_terms

WAVE_NM = 550.0
HALF_PX = 7
THREE = parabolic_planes([-0.3 * WAVE_NM, 0.0, 0.3 * WAVE_NM])
OPEN = (0.0, 0.0, 1.1)

Array = npt.NDArray[np.float64]


def optics(last: int = 11, f_number: float = 2.0) -> Optics:
    return Optics(noll_terms(4, last), np.array([[WAVE_NM]]), np.ones((1, 1)), f_number, 1.4)


def some_wavefront(rng: np.random.Generator, terms: int, rms_waves: float = 0.12) -> Array:
    coefficients = rng.normal(size=terms)
    return np.asarray(coefficients * rms_waves * WAVE_NM / np.linalg.norm(coefficients))


def sites(count: int, mosaic: bool, half_px: int = HALF_PX) -> tuple[Array, Array]:
    """Rows and columns (N, L, O) of the green sites of a mosaic, or of all pixels, about (100, 100)."""
    axis = np.arange(-half_px, half_px + 1) + 100.0
    lattices = [axis[:-1:2], axis[1::2]] if mosaic else [axis]
    at = np.tile(np.array(lattices), (count, 1, 1))
    return at, at.copy()


def images_of(
    coefficients: Array,
    lens: Optics,
    rng: np.random.Generator,
    *,
    planes: Planes = ONE_PLANE,
    each: int = 1,
    mosaic: bool = True,
    half_px: int = HALF_PX,
    clip: tuple[float, float, float] = OPEN,
    peak_e: float = 20e3,
    noise: bool = True,
) -> TileImages:
    """`each` images a plane with 20 ke- at their peaks, 3 e- read noise, diffusion 0.25 px, roughly known places."""
    plane = np.repeat(np.arange(len(planes.at)), each)
    count = len(plane)
    rows, cols = sites(count, mosaic, half_px)
    xy = 100.0 + rng.uniform(-0.5, 0.5, (count, 2))
    full = with_terms_of(lens, planes)
    terms = np.zeros((count, len(full.nm)))
    terms[:, : len(coefficients)] = coefficients
    terms[:, [full.nm.tolist().index(term) for term in planes.nm.tolist()]] += np.outer(
        planes.at[plane], planes.unit_nm
    )
    shape = Shape(terms, xy, np.tile(clip, (count, 1)), 0.25, 1.0)
    image = PointModel(full, 0, half_px).render(shape, Samples(rows, cols, rows, rows)).astype(np.float64)
    expected = 20.0 + peak_e * image / image.max((1, 2, 3), keepdims=True)
    seen = rng.poisson(expected) + rng.normal(0, 3.0, expected.shape) if noise else expected
    return TileImages(Samples(rows, cols, seen, 1 / (expected + 9.0)), xy + rng.normal(0, 0.1, xy.shape), plane)


def twin_of(coefficients: Array, lens: Optics) -> Array:
    return np.where(lens.nm[:, 0] % 2 == 0, -coefficients, coefficients)


def rms_waves(off_nm: Array) -> float:
    return float(np.linalg.norm(off_nm) / WAVE_NM)


LOOSE = Extras(
    diffusion_px=Within(0.3, 0.05, 0.6),
    clip_x=Within(0.1, -0.5, 0.5),
    clip_y=Within(-0.1, -0.5, 0.5),
    clip_radius=Within(0.95, 0.6, 1.2),
    scale=Within(1.0, 0.7, 1.4),
)


@pytest.mark.parametrize(
    "planes", [parabolic_planes([-120.0, 0.0, 90.0], 50.0), objective_planes([-2.0, 0.0], 0.25, 1.0, 1.0)]
)
def test_the_analytic_jacobian_agrees_with_finite_differences(planes: Planes) -> None:
    rng = np.random.default_rng(3)
    lens = optics()
    problem = pose_tiles((images_of(some_wavefront(rng, 8), lens, rng, planes=planes),), lens, 0, planes, LOOSE, 41)
    at = problem.parameters.copy()
    for name in (name for name in at if "_z" in name):
        at[name].value = 40.0 * rng.normal()

    off, slope = residual(at, problem), jacobian(at, problem)
    names = [name for name, parameter in at.items() if parameter.vary]
    for k, name in enumerate(names):
        costs = []
        step = 0.3 if at[name].user_data.start_nm or (name.startswith("focus") and planes.free > 2) else 5e-3
        for sign in (-1, 1):
            moved = at.copy()
            moved[name].value += sign * step
            costs.append(np.sum(residual(moved, problem) ** 2))
        scale = 2 * np.linalg.norm(slope[:, k]) * np.linalg.norm(off)
        # of the cost: the Jacobian leaves out a part that is orthogonal to the residual; the stop's columns are coarse
        tolerance = 0.05 if "clip" in name else 0.003
        assert 2 * slope[:, k] @ off == pytest.approx((costs[1] - costs[0]) / (2 * step), abs=tolerance * scale), name


def test_the_jacobian_is_that_of_the_residual_where_the_model_fits() -> None:
    rng = np.random.default_rng(4)
    lens, truth = optics(), some_wavefront(rng, 8)
    problem = pose_tiles((images_of(truth, lens, rng, each=2, noise=False),), lens, 0, ONE_PLANE, Extras(), 41)
    at = problem.parameters.copy()
    for name, value in zip(problem.names, truth, strict=False):
        at[name].value = value
    slope = jacobian(at, problem)
    for k, name in enumerate(problem.names[:8]):
        after, before = at.copy(), at.copy()
        after[name].value += 0.3
        before[name].value -= 0.3
        measured = (residual(after, problem) - residual(before, problem)) / 0.6
        assert np.linalg.norm(slope[:, k] - measured) < 0.2 * np.linalg.norm(measured), name


@pytest.mark.parametrize("mosaic", [True, False])
@pytest.mark.parametrize("waves", [0.07, 0.15, 0.3])
def test_three_planes_tell_all_signs_and_magnitudes(mosaic: bool, waves: float) -> None:
    rng = np.random.default_rng(int(100 * waves))
    lens = optics(15)
    truth = some_wavefront(rng, 12, waves)
    images = images_of(truth, lens, rng, planes=THREE, mosaic=mosaic, half_px=9)

    fit = fit_tile(images, lens, rng=rng, planes=THREE)

    assert rms_waves(fit.coefficients_nm - truth) <= 0.005
    assert fit.success
    assert not fit.ambiguous
    assert fit.reduced_chi2 == pytest.approx(1.0, abs=0.35)


def test_in_focus_the_twin_is_found_and_no_sign_is_claimed() -> None:
    rng = np.random.default_rng(8)
    lens = optics()
    truth = some_wavefront(rng, 8)

    fit = fit_tile(images_of(truth, lens, rng, each=4), lens, rng=rng)

    found = sorted((fit.coefficients_nm, fit.twin_coefficients_nm), key=lambda c: rms_waves(c - truth))
    assert rms_waves(found[0] - truth) < 0.02
    assert rms_waves(found[1] - twin_of(truth, lens)) < 0.02
    assert fit.twin_cost_ratio == pytest.approx(1.0, abs=1e-3)
    assert fit.ambiguous


def test_a_cut_pupil_betrays_the_twin() -> None:
    rng = np.random.default_rng(9)
    lens = optics()
    truth = some_wavefront(rng, 8)
    stop = (0.35, -0.2, 0.95)
    extras = Extras(clip_x=Within(*3 * [stop[0]]), clip_y=Within(*3 * [stop[1]]), clip_radius=Within(*3 * [stop[2]]))

    fit = fit_tile(images_of(truth, lens, rng, each=6, clip=stop), lens, rng=rng, extras=extras)

    assert rms_waves(fit.coefficients_nm - truth) < 0.02
    assert not fit.ambiguous


def test_diffusion_and_a_second_stop_are_found_within_their_errors() -> None:
    rng = np.random.default_rng(10)
    lens = optics()
    truth = some_wavefront(rng, 8)
    images = images_of(truth, lens, rng, planes=THREE, each=2, clip=(0.3, -0.15, 0.9))

    fit = fit_tile(images, lens, rng=rng, planes=THREE, extras=replace(LOOSE, scale=Within(1.0, 1.0, 1.0)))

    assert rms_waves(fit.coefficients_nm - truth) < 0.02
    for name, true in (("diffusion_px", 0.25), ("clip_x", 0.3), ("clip_y", -0.15), ("clip_radius", 0.9)):
        assert fit.extras[name] == pytest.approx(true, abs=0.05), name
        assert 0 < fit.extras_stderr[name] < 0.05, name
    assert fit.extras_stderr["scale"] == 0


def test_of_a_stop_that_cuts_nothing_only_its_bounds_are_known() -> None:
    rng = np.random.default_rng(25)
    lens = optics(8)
    truth = some_wavefront(rng, 5)
    extras = Extras(clip_radius=Within(1.5, 1.4, 1.6))

    fit = fit_tile(images_of(truth, lens, rng, planes=THREE), lens, rng=rng, planes=THREE, extras=extras)

    assert fit.extras_stderr["clip_radius"] == pytest.approx(0.2 / np.sqrt(12))
    assert (fit.stderr_nm < 2.0).all()
    assert rms_waves(fit.coefficients_nm - truth) < 0.005


def test_standard_errors_are_those_of_repeated_fits() -> None:
    rng = np.random.default_rng(11)
    lens = optics()
    truth = some_wavefront(rng, 8)
    fits = [fit_tile(images_of(truth, lens, rng, planes=THREE), lens, rng=rng, planes=THREE) for _ in range(6)]
    pulls = np.array([(fit.coefficients_nm - truth) / fit.stderr_nm for fit in fits])
    assert 0.75 < np.sqrt(np.mean(pulls**2)) < 1.3
    for fit in fits[:1]:
        np.testing.assert_allclose(np.diag(fit.correlation), 1.0)
        np.testing.assert_allclose(fit.correlation, fit.correlation.T)


def test_unknown_focus_is_fitted_where_a_reference_is_held() -> None:
    rng = np.random.default_rng(12)
    lens = optics()
    truth = some_wavefront(rng, 8)
    images = images_of(truth, lens, rng, planes=THREE, each=2)
    guessed = parabolic_planes([-0.25 * WAVE_NM, 0.0, 0.33 * WAVE_NM], free_nm=60.0)

    fit = fit_tile(images, lens, rng=rng, planes=guessed)

    np.testing.assert_allclose(fit.focus, THREE.at, atol=5.0)
    assert fit.focus[1] == 0.0
    assert rms_waves(fit.coefficients_nm - truth) < 0.01


def test_a_picture_made_elsewhere_gives_its_wavefront_the_right_way_round() -> None:
    rng = np.random.default_rng(13)
    lens = optics()
    truth = some_wavefront(rng, 8, 0.1)
    kernels = [
        effective_psf(
            truth + shift * (np.arange(8) == 0),
            lens.nm,
            wavelengths_nm=np.array([WAVE_NM]),
            weights=np.ones(1),
            f_number=2.0,
            pitch_um=1.4,
            half_px=9,
            diffusion_px=0.25,
        )
        for shift in THREE.at
    ]
    values = 1e5 * np.array(kernels)[:, None] + 20.0
    axis = np.tile(np.arange(-9.0, 10.0), (3, 1, 1))
    samples = Samples(axis, axis, values, 1 / (values + 9.0))

    fit = fit_tile(TileImages(samples, np.zeros((3, 2)), np.arange(3)), lens, rng=rng, planes=THREE)
    assert rms_waves(fit.coefficients_nm - truth) < 2e-3
    np.testing.assert_allclose(fit.xy_px, 0.0, atol=5e-3)

    turned = replace(samples, values=values[..., ::-1])
    mirrored = fit_tile(TileImages(turned, np.zeros((3, 2)), np.arange(3)), lens, rng=rng, planes=THREE)
    np.testing.assert_allclose(mirrored.coefficients_nm, truth * mirror_signs(lens.nm, True, False), atol=1.0)


def test_flux_and_background_shape_nothing() -> None:
    rng = np.random.default_rng(14)
    lens = optics(8)
    images = images_of(some_wavefront(rng, 5), lens, rng, planes=THREE)
    s = images.samples
    other = replace(images, samples=replace(s, values=7.0 * s.values - 300.0, weights=s.weights / 49.0))
    fits = [fit_tile(i, lens, rng=np.random.default_rng(0), planes=THREE) for i in (images, other)]
    np.testing.assert_allclose(fits[0].coefficients_nm, fits[1].coefficients_nm, atol=0.05)
    assert fits[0].chi2 == pytest.approx(fits[1].chi2, rel=1e-4)


def test_the_same_seed_gives_the_same_fit() -> None:
    lens = optics(8)
    images = images_of(some_wavefront(np.random.default_rng(15), 5), lens, np.random.default_rng(15), each=2)
    first, second = (fit_tile(images, lens, rng=np.random.default_rng(2)) for _ in range(2))
    np.testing.assert_array_equal(first.coefficients_nm, second.coefficients_nm)


def test_a_fit_predicts_planes_that_it_has_not_seen() -> None:
    rng = np.random.default_rng(16)
    lens = optics()
    truth = some_wavefront(rng, 8)
    fit = fit_tile(images_of(truth, lens, rng, planes=THREE), lens, rng=rng, planes=THREE)
    between = parabolic_planes([-80.0, 80.0])
    seen = images_of(truth, lens, rng, planes=between, noise=False)
    true_xy = fit_tile(seen, lens, rng=rng, planes=between).xy_px

    predicted = predict(fit, replace(seen, xy_px=true_xy), lens, planes=between)

    light = seen.samples.values - 20.0
    assert np.linalg.norm(predicted - seen.samples.values) < 0.02 * np.linalg.norm(light)


def test_a_saturated_core_and_unreadable_samples_are_done_without() -> None:
    rng = np.random.default_rng(17)
    lens = optics()
    truth = some_wavefront(rng, 8)
    images = images_of(truth, lens, rng, planes=THREE, each=2)
    s = images.samples
    values, weights = s.values.copy(), s.weights.copy()
    weights[values > 10e3] = 0.0
    values[1, 0, 2, 2], weights[2, 1, 3, 3] = np.nan, np.inf
    weights[0] = 0.0

    fit = fit_tile(replace(images, samples=replace(s, values=values, weights=weights)), lens, rng=rng, planes=THREE)

    assert rms_waves(fit.coefficients_nm - truth) < 0.02
    assert fit.used.tolist() == [False, True, True, True, True, True]
    assert fit.xy_px.shape == (5, 2)


def test_images_without_data_or_light_are_refused() -> None:
    rng = np.random.default_rng(18)
    lens = optics()
    images = images_of(some_wavefront(rng, 8), lens, rng, each=2)
    s = images.samples
    with pytest.raises(FitFailed, match="no point image with"):
        fit_tile(replace(images, samples=replace(s, weights=0 * s.weights)), lens, rng=rng)
    dark = replace(s, values=rng.normal(20, 5, s.values.shape), weights=np.full(s.values.shape, 1 / 25))
    with pytest.raises(FitFailed, match="no light above"):
        fit_tile(replace(images, samples=dark), lens, rng=rng)
    sparse = np.zeros(s.weights.shape)
    sparse[0, 0, 2:5, 2:5] = 1.0
    with pytest.raises(FitFailed, match="too few"):
        fit_tile(replace(images, samples=replace(s, weights=sparse)), lens, rng=rng)
    with pytest.raises(ValueError, match="planes 5 to 5"):
        fit_tile(replace(images, plane=np.array([5, 5])), lens, rng=rng)


@pytest.mark.parametrize("waves", [1.5, 4.0])
def test_images_too_far_out_of_focus_are_refused(waves: float) -> None:
    rng = np.random.default_rng(19)
    lens = optics()
    wide = images_of(waves * WAVE_NM * (np.arange(8) == 0), lens, rng, half_px=22, each=2)
    s = wide.samples
    keep = np.abs(s.rows_px[0, 0] - 100) <= HALF_PX
    window = Samples(
        s.rows_px[..., keep], s.cols_px[..., keep], *(a[:, :, keep][..., keep] for a in (s.values, s.weights))
    )
    with pytest.raises(FitFailed, match=r"explains|ran into its bound"):
        fit_tile(replace(wide, samples=window), lens, rng=rng, starts=2)
    with pytest.raises(FitFailed, match="planes 1 are so far out of focus"):
        fit_tile(
            replace(wide, samples=window, plane=np.array([0, 1])),
            lens,
            rng=rng,
            planes=parabolic_planes([0.0, waves * WAVE_NM]),
        )


@pytest.mark.parametrize(("true", "stated", "contradicts"), [(2.8, 2.0, True), (2.0, 2.8, True), (2.0, 2.0, False)])
def test_an_f_number_that_contradicts_the_data_is_told(true: float, stated: float, contradicts: bool) -> None:
    rng = np.random.default_rng(20)
    images = images_of(some_wavefront(rng, 5, 0.08), optics(8, true), rng, each=3)

    test = check_f_number(images, optics(8, stated), rng=rng)

    assert test.contradicts is contradicts
    assert test.wanted == pytest.approx(true, rel=0.04)
    assert abs(test.wanted - true) < 5 * test.stderr
    assert str(test).startswith(f"the data want f/{true:.2g} " if contradicts else "the data agree: f/2 ")
    assert str(test).endswith(f"the manifest says f/{stated:.2g}")


def mirrored_tiles(
    rng: np.random.Generator,
    lens: Optics,
    signs: list[tuple[int, int]],
    broken_nm: float = 0.0,
    decentred: bool = False,
) -> tuple[list[TileImages], list[Array]]:
    base = some_wavefront(rng, len(lens.nm), 0.1)
    tiles, truth = [], []
    for sx, sy in signs:
        coefficients = base * mirror_signs(lens.nm, sx < 0, sy < 0) + broken_nm * rng.normal(size=len(base))
        if decentred:
            coefficients = coefficients + np.array([25 * sx * 0.4 - 40 * sy * 0.3, 0, 0, -9, 12])
        images = images_of(coefficients, lens, rng, planes=THREE, half_px=6)
        tiles.append(replace(images, field=(sx * 0.4, sy * 0.3)))
        truth.append(coefficients)
    return tiles, truth


FOUR = [(1, 1), (-1, 1), (1, -1), (-1, -1)]


def test_signs_of_mirrored_terms_are_those_of_the_terms_themselves() -> None:
    nm = noll_terms(2, 28)
    terms = Pupil.of(41).basis(nm)
    for x, y in FOUR:
        signs = mirror_signs(nm, x < 0, y < 0)
        np.testing.assert_allclose(terms[:, ::y, ::x], signs[:, None, None] * terms, atol=1e-12)


@pytest.mark.parametrize("signs", [FOUR, FOUR[:2], FOUR[::2]])
def test_a_symmetric_lens_is_accepted_and_its_ties_sharpen_the_fit(signs: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(21)
    lens = optics(8)
    tiles, truth = mirrored_tiles(rng, lens, signs)

    result = fit_mirrored(tiles, lens, rng=rng, planes=THREE, decentring=False)

    assert result.accepted
    assert result.ties == 5 * (len(signs) - 1)
    assert result.fits is result.tied
    for tied, free, true in zip(result.tied, result.free, truth, strict=True):
        assert rms_waves(tied.coefficients_nm - true) < 0.005
        assert (tied.stderr_nm < 0.8 * free.stderr_nm).all()
    for (a, b), (one, other) in zip(pairwise(signs), pairwise(result.tied), strict=True):
        turn = mirror_signs(lens.nm, a[0] != b[0], a[1] != b[1])
        np.testing.assert_allclose(one.coefficients_nm * turn, other.coefficients_nm)


def test_decentring_is_free_beside_the_ties_and_found() -> None:
    rng = np.random.default_rng(22)
    lens = optics(8)
    tiles, truth = mirrored_tiles(rng, lens, FOUR, decentred=True)

    result = fit_mirrored(tiles, lens, rng=rng, planes=THREE)

    assert result.accepted
    assert result.ties == 5 * 3 - 4
    true = {"tilt_x": 25.0, "tilt_y": -40.0, "coma_x": 12.0, "coma_y": -9.0}
    assert set(result.decentring_nm) == set(true)
    for name, value in result.decentring_nm.items():
        assert abs(value - true[name]) < 5 * result.decentring_stderr_nm[name], name
        assert result.decentring_stderr_nm[name] < 0.2 * abs(true[name]), name
    for fit, coefficients in zip(result.tied, truth, strict=True):
        assert rms_waves(fit.coefficients_nm - coefficients) < 0.005
    rigid = fit_mirrored(tiles, lens, rng=rng, planes=THREE, decentring=False, starts=1)
    assert not rigid.accepted
    assert rigid.p_value < 1e-10


def test_a_lens_without_symmetry_is_refused_and_its_free_fit_stands() -> None:
    rng = np.random.default_rng(23)
    lens = optics(8)
    tiles, truth = mirrored_tiles(rng, lens, FOUR, broken_nm=6.0)

    result = fit_mirrored(tiles, lens, rng=rng, planes=THREE, starts=1)

    assert result.p_value < LEAST_P
    assert result.fits is result.free
    assert result.delta_chi2 > 0
    for fit, coefficients in zip(result.fits, truth, strict=True):
        assert rms_waves(fit.coefficients_nm - coefficients) < 0.01


def test_tiles_that_are_no_mirror_images_are_a_mistake() -> None:
    rng = np.random.default_rng(24)
    lens = optics(8)
    tiles, _ = mirrored_tiles(rng, lens, FOUR)
    for wrong in (tiles[:1], tiles[:3], tiles[::3], [tiles[0], tiles[0]]):
        with pytest.raises(ValueError, match="mirror each other"):
            fit_mirrored(wrong, lens, rng=rng, planes=THREE)
    with pytest.raises(ValueError, match="different distances"):
        fit_mirrored([tiles[0], replace(tiles[1], field=(-0.5, 0.3))], lens, rng=rng, planes=THREE)
