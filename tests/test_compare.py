"""Same truth and independent errors: the same lens. A truth that moved: another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import fourier_gaussian, fourier_shift, gaussian_filter
from scipy.spatial.transform import Rotation

from psfbank.bank import PsfBank
from psfbank.compare import Comparison, compare, save_maps
from psfbank.compare.difference import CHANCE, against_sigma, rms_limit
from psfbank.compare.maps import freedom_of, places
from psfbank.compare.psfs import on_common_nodes, relative_distance
from psfbank.errors import ComparisonError, ExportError
from psfbank.frames import apart_px, map_distance_px
from psfbank.model import Calibration, DistortionMap, MapUncertainty, PsfGrid

Array = npt.NDArray[np.float64]
SIGMA = 0.02


def held(comparison: Comparison, quantity: str) -> list[bool | None]:
    return [each.differs for each in comparison.differences if each.quantity.startswith(quantity)]


def blurred(kernels: Array, sigma_samples: float) -> Array:
    """Kernels a little wider than they were."""
    out = np.array(kernels, dtype=np.float64)
    for node in np.ndindex(out.shape[:3]):
        transfer = fourier_gaussian(np.fft.fft2(np.fft.ifftshift(out[node])), sigma_samples)
        out[node] = np.maximum(np.fft.fftshift(np.fft.ifft2(transfer).real), 0)
    return out / out.sum((-2, -1), keepdims=True)


def erring(grid: PsfGrid, rng: np.random.Generator, sigma: float = SIGMA) -> PsfGrid:
    """Kernels with errors of a relative L2 norm of sigma: smooth, and different at each node."""
    kernels = np.array(grid.kernels, dtype=np.float64)
    noise = gaussian_filter(rng.normal(size=kernels.shape), (0, 0, 0, 1.5, 1.5)) * kernels
    noise -= kernels * noise.sum((-2, -1), keepdims=True)
    norm = np.linalg.norm(kernels, axis=(-2, -1)) / np.linalg.norm(noise, axis=(-2, -1))
    size = sigma * rng.normal(1, 0.2, norm.shape) * norm
    wrong = np.maximum(kernels + size[..., None, None] * noise, 0)
    wrong /= wrong.sum((-2, -1), keepdims=True)
    return replace(grid, kernels=wrong, sigma=np.full(norm.shape, sigma))


def sure_map(distortion: DistortionMap, scale_px: float = 0.02) -> DistortionMap:
    """A map whose errors are in focal length and four bends, the colours' own a fifth of green's."""
    ny, nx = distortion.coefficients.shape[-2:]
    v, u = np.meshgrid(np.linspace(-1, 1, ny), np.linspace(-1, 1, nx), indexing="ij")
    zero = np.zeros_like(u)
    shapes = [
        (2 * u, 2 * v),
        (np.sin(8 * u), zero),
        (zero, np.sin(8 * v)),
        (np.cos(9 * v), zero),
        (zero, np.cos(9 * u)),
    ]
    own = 0.2 * np.array([(u * (u**2 + v**2), v * (u**2 + v**2)), (u, -v), (v, u), (zero, u), (v, zero)])
    green = np.array(shapes)
    modes = scale_px * np.stack(
        [np.concatenate([green, own]), np.concatenate([green, 0 * own]), np.concatenate([green, own])]
    )
    return replace(distortion, uncertainty=MapUncertainty(modes, 0.06))


def erring_map(distortion: DistortionMap, rng: np.random.Generator) -> DistortionMap:
    sure = distortion.uncertainty
    assert sure is not None
    common, own = rng.normal(size=5), rng.normal(size=(3, 5))
    weights = np.concatenate([np.tile(common, (3, 1)), own], axis=1)
    wrong = np.einsum("cr,crkij->ckij", weights, sure.modes.astype(np.float64))
    return replace(distortion, coefficients=distortion.coefficients + wrong)


@pytest.fixture(scope="module")
def truth(small_bank: PsfBank) -> Calibration:
    bare = replace(small_bank.at(), wavefront=None, evidence=None, edges=None, noise_by_iso=None)
    assert bare.distortion is not None
    return replace(bare, distortion=sure_map(bare.distortion))


def measured(truth: Calibration, seed: int) -> Calibration:
    """What a session would find of it."""
    rng = np.random.default_rng(seed)
    light, noise = truth.illumination, truth.noise
    assert truth.psf_grid is not None
    assert truth.distortion is not None
    assert light is not None
    assert noise is not None
    return replace(
        truth,
        psf_grid=erring(truth.psf_grid, rng),
        distortion=erring_map(truth.distortion, rng),
        illumination=replace(light, relative=light.relative * rng.normal(1, 0.003, light.relative.shape)),
        noise=replace(noise, gain_dn_per_e=noise.gain_dn_per_e * rng.normal(1, 0.01, 3)),
    )


def against(small_bank: PsfBank, one: Calibration, other: Calibration) -> Comparison:
    return compare(small_bank.camera, one, small_bank.camera, other)


def test_two_sessions_of_one_lens_are_the_same(small_bank: PsfBank, truth: Calibration) -> None:
    """Over pairs, the differences are as large as both errors together, and none is called another lens."""
    found = [against(small_bank, measured(truth, seed), measured(truth, 100 + seed)) for seed in range(8)]

    assert [each.verdict for each in found] == ["the same lens within errors"] * 8
    for quantity, low, high in (
        ("psf", 0.6, 1.2),
        ("mtf50", 0.3, 1.5),
        ("distortion", 0.6, 1.5),
        ("lateral", 0.5, 1.5),
    ):
        of_part = [d.in_sigma for each in found for d in each.differences if d.quantity.startswith(quantity)]
        assert low < np.sqrt(np.mean(np.square(of_part))) < high, quantity
    assert found[0].left_out == ()


def test_a_lens_that_blurs_more_is_another(small_bank: PsfBank, truth: Calibration) -> None:
    one, other = measured(truth, 1), measured(truth, 2)
    assert other.psf_grid is not None
    softer = replace(other, psf_grid=replace(other.psf_grid, kernels=blurred(other.psf_grid.kernels, 0.7)))
    found = against(small_bank, one, softer)

    assert found.same is False
    assert found.verdict.startswith("not the same lens")
    assert held(found, "psf") == [True] * 3
    assert held(found, "distortion") + held(found, "lateral") + held(found, "shading") == [False] * 6
    fell = found.maps["mtf50_tangential.G"]
    assert (fell < 0).mean() > 0.9


def test_one_tile_that_is_far_off_is_seen(small_bank: PsfBank, truth: Calibration) -> None:
    one, other = measured(truth, 1), measured(truth, 2)
    assert other.psf_grid is not None
    kernels = np.array(other.psf_grid.kernels)
    kernels[1, 2, 3] = blurred(kernels, 2.0)[1, 2, 3]
    found = against(small_bank, one, replace(other, psf_grid=replace(other.psf_grid, kernels=kernels)))

    assert held(found, "psf") == [False, True, False]
    worst = np.unravel_index(np.argmax(found.maps["psf.relative_l2.G"]), (4, 5))
    assert worst == (2, 3)


@pytest.mark.parametrize(("part", "by"), [("distortion", 0.3), ("lateral colour", 0.03)])
def test_a_map_that_moved_is_another(small_bank: PsfBank, truth: Calibration, part: str, by: float) -> None:
    one, other = measured(truth, 3), measured(truth, 4)
    assert other.distortion is not None
    ny, nx = other.distortion.coefficients.shape[-2:]
    v, u = np.meshgrid(np.linspace(-1, 1, ny), np.linspace(-1, 1, nx), indexing="ij")
    bend = by * np.array([np.cos(4 * v), np.sin(5 * u)])
    moved = np.zeros_like(other.distortion.coefficients)
    moved[slice(None) if part == "distortion" else 0] += bend
    bent = replace(other.distortion, coefficients=other.distortion.coefficients + moved)
    found = against(small_bank, one, replace(other, distortion=bent))

    assert found.same is False
    assert {d.quantity for d in found.differences if d.differs} == {part}
    assert [d.channel for d in found.differences if d.differs] == (["G"] if part == "distortion" else ["R"])


def turned(distortion: DistortionMap, turn: Array) -> DistortionMap:
    """The same lens with its frame of rays turned, on finer knots than turn matters to."""
    from lenses import spline_map

    rotation = Rotation.from_rotvec(turn)

    def lens(channel: str) -> object:
        def project(rays: Array) -> Array:
            toward = rotation.apply(np.column_stack([rays, np.ones(len(rays))]))
            return distortion.project(toward[:, :2] / toward[:, 2:], channel)

        return project

    lenses = {c: lens(c) for c in distortion.channels}
    made = spline_map(lenses, distortion.camera_matrix, (96, 128), 1.3, knots=40)
    return replace(made, uncertainty=None)


def test_a_turned_frame_is_no_difference(small_bank: PsfBank, truth: Calibration) -> None:
    assert truth.distortion is not None
    turn = np.array([0.01, -0.02, 0.015])
    other = turned(truth.distortion, turn)
    x_px, y_px = places((96, 128))
    xy_px = np.stack(np.meshgrid(x_px, y_px), axis=-1).reshape(-1, 2)
    difference, found = apart_px(truth.distortion, other, xy_px)

    assert np.abs(difference).max() < 2e-3
    np.testing.assert_allclose(found, turn, atol=1e-4)
    assert map_distance_px(truth.distortion, other) < 2e-3
    comparison = against(small_bank, truth, replace(truth, distortion=other))
    assert comparison.same is True
    assert comparison.turn_deg == pytest.approx(np.degrees(np.linalg.norm(turn)), abs=0.01)


def test_the_sign_of_a_difference_is_second_minus_first(small_bank: PsfBank, truth: Calibration) -> None:
    assert truth.distortion is not None
    ny, nx = truth.distortion.coefficients.shape[-2:]
    bump = np.zeros((2, ny, nx))
    bump[0, :, nx - 5 :] = 0.5  # red, on the right, to the right
    coefficients = np.array(truth.distortion.coefficients)
    coefficients[0] += bump
    found = against(small_bank, truth, replace(truth, distortion=replace(truth.distortion, coefficients=coefficients)))
    lateral = found.maps["lateral.R"]

    assert lateral.shape == (19, 25, 2)
    assert lateral[9, -1, 0] > 0.1
    assert np.abs(lateral[9, 2]).max() < 1e-3
    assert np.abs(lateral[..., 1]).max() < 1e-6


def test_registration_takes_out_fractions_of_a_sample(small_bank: PsfBank) -> None:
    grid = small_bank.at().psf_grid
    assert grid is not None
    kernel = np.array(grid.kernels[1, 0, 0], dtype=np.float64)
    kernel = blurred(kernel[None, None, None], 0.8)[0, 0, 0]
    moved = np.fft.ifft2(fourier_shift(np.fft.fft2(kernel), (0.31, -0.22))).real

    assert np.linalg.norm(moved - kernel) / np.linalg.norm(kernel) > 0.1
    assert relative_distance(kernel, moved) < 1e-6
    assert relative_distance(kernel, kernel.T) > 0.05
    other = grid.kernels[2, 0, 0]
    assert relative_distance(kernel, other) == pytest.approx(relative_distance(other, kernel), rel=1e-6)


def test_freedom_is_that_of_the_modes(truth: Calibration) -> None:
    """Mean squares of errors drawn from the modes vary as chi-squared of so many degrees of freedom."""
    assert truth.distortion is not None
    distortion, sure = truth.distortion, truth.distortion.uncertainty
    assert sure is not None
    x_px, y_px = places((96, 128))
    xy_px = np.stack(np.meshgrid(x_px, y_px), axis=-1).reshape(-1, 2)
    freedom = freedom_of(distortion, distortion, xy_px, "G")
    u = distortion.unproject(xy_px)
    u = 2 * u / (1 + np.sqrt(1 + np.sum(u**2, axis=1, keepdims=True)))
    fields = sure.displacements(u, distortion.knots_x, distortion.knots_y, 1)
    draws = np.random.default_rng(0).normal(size=(4000, fields.shape[1]))
    errors = np.einsum("dr,nrk->dnk", draws, fields)
    means = np.mean(np.sum(errors**2, axis=2) / np.sum(fields**2, axis=(1, 2)), axis=1)

    assert 1.2 < freedom < 5
    # two independent maps of the same modes have the same correlations as one
    assert 2 / means.var() == pytest.approx(freedom, rel=0.15)
    assert np.mean(np.sqrt(means) > rms_limit(freedom)) < 20 * CHANCE


def test_grids_of_another_kind_meet_where_both_are_defined(small_bank: PsfBank, truth: Calibration) -> None:
    grid = truth.psf_grid
    assert grid is not None
    kernels = grid.kernels[:, 1:, :-1, 2:-2, 2:-2]
    kernels = kernels / kernels.sum((-2, -1), keepdims=True)
    part = PsfGrid(grid.x_px[:-1], grid.y_px[1:], kernels, 3)
    one, other = on_common_nodes(truth, replace(truth, psf_grid=part), ("R", "G", "B"))

    np.testing.assert_array_equal(one.x_px, grid.x_px[:-1])
    np.testing.assert_array_equal(other.y_px, grid.y_px[1:])
    assert one.kernels.shape == other.kernels.shape == (3, 3, 4, 15, 15)
    coarse = PsfGrid(grid.x_px, grid.y_px, np.full((3, 4, 5, 5, 5), 0.04), 1)
    one, other = on_common_nodes(truth, replace(truth, psf_grid=coarse), ("R", "G", "B"))
    assert (one.oversample, other.oversample) == (1, 1)
    found = against(small_bank, truth, replace(truth, psf_grid=coarse))
    assert held(found, "psf") == [True] * 3


def test_what_is_missing_is_said(small_bank: PsfBank, truth: Calibration) -> None:
    found = against(small_bank, replace(truth, distortion=None, noise=None), replace(truth, psf_grid=None, noise=None))
    assert found.left_out == (
        "PSF: not in the second",
        "distortion: not in the first",
        "noise: not in the first nor in the second",
    )
    assert {each.quantity for each in found.differences} == {"shading"}
    assert np.isnan(found.turn_deg)
    with pytest.raises(ComparisonError, match=r"nothing to compare: PSF: not in the second; distortion"):
        against(
            small_bank, replace(truth, distortion=None, noise=None, illumination=None), replace(truth, psf_grid=None)
        )


def test_sensors_that_differ_are_refused(small_bank: PsfBank, truth: Calibration) -> None:
    camera = small_bank.camera
    with pytest.raises(ComparisonError, match="128 x 96 and 256 x 96 pixels"):
        compare(camera, truth, replace(camera, size_px=(96, 256)), truth)
    with pytest.raises(ComparisonError, match="share no channel"):
        compare(camera, truth, replace(camera, cfa="mono"), truth)
    grid = truth.psf_grid
    assert grid is not None
    away = replace(truth, psf_grid=replace(grid, x_px=grid.x_px + 500))
    with pytest.raises(ComparisonError, match="no PSF of the first"):
        compare(camera, truth, camera, away)


def test_another_sensor_behind_the_same_lens(small_bank: PsfBank, truth: Calibration) -> None:
    assert truth.noise is not None
    louder = replace(truth, noise=replace(truth.noise, gain_dn_per_e=2 * truth.noise.gain_dn_per_e))
    found = against(small_bank, truth, louder)
    assert found.same is False
    assert found.verdict == "the same lens within errors; the sensor or its ISO speed differs in gain"


def test_without_errors_a_difference_cannot_be_judged(small_bank: PsfBank, truth: Calibration) -> None:
    assert truth.psf_grid is not None
    assert truth.distortion is not None
    unsure = replace(
        truth,
        psf_grid=replace(truth.psf_grid, sigma=None),
        distortion=replace(truth.distortion, uncertainty=None),
    )
    softer = replace(unsure, psf_grid=replace(unsure.psf_grid, kernels=blurred(truth.psf_grid.kernels, 0.7)))
    found = against(small_bank, unsure, softer)

    assert found.same is None
    assert found.verdict == "undecided: neither bank states the errors of psf, mtf50 sagittal, mtf50 tangential"
    assert against(small_bank, unsure, unsure).same is True
    assert against(small_bank, truth, softer).same is False


def test_errors_that_nobody_states_are_not_guessed() -> None:
    apart = np.array([0.1, np.nan, -0.3])
    unknown = against_sigma("psf", "1", "G", apart, np.full(3, np.nan))
    assert (unknown.differs, unknown.largest) == (None, 0.3)
    nothing = against_sigma("psf", "1", "G", np.full(3, np.nan), np.ones(3))
    assert nothing.differs is None
    known = against_sigma("psf", "1", "G", apart, np.array([0.1, 0.1, np.nan]))
    assert (known.in_sigma, known.largest_in_sigma) == pytest.approx((1.0, 1.0))


def test_maps_are_written_whole(small_bank: PsfBank, truth: Calibration, tmp_path: Path) -> None:
    found = against(small_bank, measured(truth, 1), measured(truth, 2))
    save_maps(found, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as maps:
        assert set(maps) == set(found.maps)
        assert maps["distortion.G"].shape == (len(maps["field.y_px"]), len(maps["field.x_px"]), 2)
        assert maps["psf.relative_l2.B.sigma"].shape == (len(maps["psf.y_px"]), len(maps["psf.x_px"]))
        assert 0 < np.nanmax(np.abs(maps["shading.R"])) < 0.03
    for path, words in (
        (tmp_path / "a.npz", "--overwrite"),
        (tmp_path / "a.npy", r"\.npz"),
        (tmp_path / "b" / "a.npz", "written"),
    ):
        with pytest.raises(ExportError, match=words):
            save_maps(found, path)
