"""Bundle adjustment against lenses, boards and poses that are known: projected points, noise, outliers, few views."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from calib.geometry import (
    BoardShape,
    DistortionFit,
    adjust,
    bundle,
    choose,
    fit_distortion,
    fit_poses,
    heldout,
    join,
    observe,
    penalty,
    seed,
)
from psfbank.errors import FitFailed
from psfbank.model import Corners

SIZE = (480, 640)
GRID_MM = np.stack(np.meshgrid(np.arange(10), np.arange(7)), axis=-1).reshape(-1, 2) * 30.0
NOISE_PX = 0.03
SHARED = Path(os.environ.get("PSFBANK_SHARED", Path(__file__).parents[1].parent / "shared"))

Lens = Callable[[np.ndarray], np.ndarray]


def barrel(rays: np.ndarray, stretch: float = 1.0) -> np.ndarray:
    """Radial and tangential distortion, and a ripple of 0.4 px that no radial lens has."""
    r2 = np.sum(rays**2, axis=1, keepdims=True)
    x, y = rays.T
    bent = rays * (1 - 0.12 * r2 + 0.02 * r2**2) + 1e-3 * np.column_stack([2 * x * y, r2[:, 0] + 2 * y**2])
    px = np.array([520.0, 522.0]) * bent * stretch + np.array([322.0, 236.0])
    return px + 0.4 * np.column_stack([np.sin(px[:, 1] / 90), np.cos(px[:, 0] / 110)])


def fisheye(vectors: np.ndarray) -> np.ndarray:
    """Equidistant lens of 170 degrees along the diagonal, from directions (N, 3)."""
    angle = np.arctan2(np.linalg.norm(vectors[:, :2], axis=1), vectors[:, 2])
    radius = np.linalg.norm(vectors[:, :2], axis=1)
    return vectors[:, :2] * (270.0 * angle / radius)[:, None] + np.array([318.0, 241.0])


def views(count: int, seed: int, lens: Lens = barrel, bow_mm: float = 0.0, noise: float = NOISE_PX) -> Corners:
    """Boards about the field, tilted by up to 35 degrees; points beyond the picture are not found."""
    rng = np.random.default_rng(seed)
    middle = GRID_MM.mean(axis=0)
    normalised = (GRID_MM - middle) / 135.0
    height = bow_mm * (1 - normalised[:, 0] ** 2)
    local = np.column_stack([GRID_MM - middle, height])
    image, found = [], []
    while len(image) < count:
        turn = Rotation.from_euler("xyz", rng.uniform([-0.6, -0.6, -0.3], [0.6, 0.6, 0.3]))
        away = rng.uniform(280, 560)
        p = turn.apply(local) + away * np.append(rng.uniform([-0.45, -0.33], [0.45, 0.33]), 1.0)
        px = lens(p if lens is fisheye else p[:, :2] / p[:, 2:]) + rng.normal(0, noise, (len(p), 2))
        inside = np.all((px > -0.5) & (px < np.array(SIZE[::-1]) - 0.5), axis=1)
        if inside.sum() > 40:
            image.append(px)
            found.append(inside)
    return Corners(np.tile(GRID_MM, (count, 1, 1)), np.array(image), np.array(found))


def misfit_px(fit: DistortionFit, lens: Lens, channel: str = "Y") -> np.ndarray:
    """Distance from the truth at rays all over the picture, after the rotation that nothing observes."""
    x, y = np.meshgrid(np.linspace(-0.55, 0.55, 15), np.linspace(-0.4, 0.4, 11))
    rays = np.column_stack([x.ravel(), y.ravel()])
    want = lens(rays)

    def miss(w: np.ndarray) -> np.ndarray:
        turned = Rotation.from_rotvec(w).apply(np.column_stack([rays, np.ones(len(rays))]))
        return (fit.distortion.project(turned[:, :2] / turned[:, 2:], channel) - want).ravel()

    return np.linalg.norm(least_squares(miss, np.zeros(3)).fun.reshape(-1, 2), axis=1)


@pytest.fixture(scope="module")
def fitted() -> tuple[Corners, DistortionFit]:
    corners = views(14, 0)
    return corners, fit_distortion(corners, SIZE)


def test_the_lens_is_found_to_the_noise(fitted: tuple[Corners, DistortionFit]) -> None:
    fit = fitted[1]
    error = misfit_px(fit, barrel)
    assert np.median(error) < 0.03
    assert np.percentile(error, 95) < 0.15
    assert 0.8 * NOISE_PX * np.sqrt(2) < fit.rms_px < 1.2 * NOISE_PX * np.sqrt(2)
    assert fit.rms_px <= fit.heldout_rms_px < 4 * NOISE_PX
    assert fit.distortion.channels == ("Y",)
    assert fit.poses.shape == (14, 6)


def test_the_axis_of_the_map_carries_no_displacement(fitted: tuple[Corners, DistortionFit]) -> None:
    matrix = fitted[1].distortion.camera_matrix
    np.testing.assert_allclose(fitted[1].distortion.project([[0.0, 0.0]])[0], matrix[:2, 2], atol=1e-9)
    slope = fitted[1].distortion.project([[1e-5, 0.0], [0.0, 1e-5]]) - matrix[:2, 2]
    np.testing.assert_allclose(np.diag(slope) / 1e-5, matrix[[0, 1], [0, 1]], rtol=1e-4)


def test_the_valid_region_surrounds_every_point(fitted: tuple[Corners, DistortionFit]) -> None:
    corners, fit = fitted
    polygon = fit.distortion.valid_region
    edge = np.roll(polygon, -1, axis=0) - polygon
    to_points = corners.image_px[corners.found][:, None] - polygon
    side = edge[:, 0] * to_points[..., 1] - edge[:, 1] * to_points[..., 0]
    assert np.all(side > -1e-6) or np.all(side < 1e-6)


def test_poses_of_new_views_leave_the_noise_and_nan_where_nothing_was_found(
    fitted: tuple[Corners, DistortionFit],
) -> None:
    new = views(5, 99)
    hidden = new.found.copy()
    hidden[4, 5:] = False
    poses, residuals = fit_poses(fitted[1], replace(new, found=hidden))
    assert np.isfinite(poses[:4]).all()
    assert np.isnan(poses[4]).all()
    assert np.isnan(residuals[~hidden]).all()
    length = np.linalg.norm(residuals[:4][hidden[:4]], axis=1)
    assert np.sqrt(np.mean(length**2)) < 3.5 * NOISE_PX


def test_poses_of_the_fitted_views_are_the_fits_own(fitted: tuple[Corners, DistortionFit]) -> None:
    corners, fit = fitted
    poses, _ = fit_poses(fit, corners)
    np.testing.assert_allclose(poses[:, :3], fit.poses[:, :3], atol=2e-3)
    np.testing.assert_allclose(poses[:, 3:], fit.poses[:, 3:], atol=1.0)


def test_a_pose_takes_board_to_camera(fitted: tuple[Corners, DistortionFit]) -> None:
    """X right, Y down, Z forward: a board moved to the right has a larger translation in x."""
    fit = fitted[1]
    middle, _ = fit_poses(fit, views(1, 5))
    moved = views(1, 5)
    moved = replace(moved, image_px=moved.image_px + np.array([40.0, 0.0]))
    right, _ = fit_poses(fit, moved)
    assert right[0, 3] > middle[0, 3] + 10
    assert middle[0, 5] > 200


def test_a_bowed_board_is_seen_as_bowed() -> None:
    fit = fit_distortion(views(14, 2, bow_mm=1.0), SIZE)
    assert fit.board_shape.degree >= 2
    height = fit.board_shape.height_mm(GRID_MM)
    want = 1.0 - ((GRID_MM[:, 0] - 135.0) / 135.0) ** 2
    plane = np.column_stack([GRID_MM, np.ones(len(GRID_MM))])  # a plane is a pose
    left = [h - plane @ np.linalg.lstsq(plane, h, rcond=None)[0] for h in (height, want)]
    np.testing.assert_allclose(left[0], left[1], atol=0.05)
    assert np.median(misfit_px(fit, barrel)) < 0.06


def test_each_target_has_its_own_shape_and_a_flat_one_none() -> None:
    parts = [views(6, 2, bow_mm=1.5), views(6, 3)]
    fit = fit_distortion(join(parts), SIZE, target=[0] * 6 + [-1] * 6)
    assert np.ptp(fit.board_shape.height_mm(GRID_MM, 0)) > 1.0
    assert not fit.board_shape.height_mm(GRID_MM, -1).any()
    assert fit.rms_px < 1.3 * NOISE_PX * np.sqrt(2)
    _, residuals = fit_poses(fit, parts[0], target=[0] * 6)
    _, taken_as_flat = fit_poses(fit, parts[0], target=[-1] * 6)
    assert np.nanstd(residuals) < 0.5 * np.nanstd(taken_as_flat)


def test_gross_errors_move_nothing_and_stay_in_the_rms() -> None:
    corners = views(14, 0)
    rng = np.random.default_rng(1)
    image = corners.image_px.copy()
    wrong = corners.found & (rng.uniform(size=corners.found.shape) < 0.02)
    image[wrong] += rng.normal(0, 15, (wrong.sum(), 2))
    fit = fit_distortion(replace(corners, image_px=image), SIZE)
    assert np.median(misfit_px(fit, barrel)) < 0.06
    assert fit.rms_px > 1.0


def test_uncertain_points_weigh_little() -> None:
    corners = views(5, 0)
    sigma = np.full(corners.found.shape, NOISE_PX)
    image = corners.image_px.copy()
    image[:, ::3] += np.random.default_rng(5).normal(0, 2.0, image[:, ::3].shape)
    poor = replace(corners, image_px=image)
    sigma[:, ::3] = 2.0
    blind, told = fit_distortion(poor, SIZE), fit_distortion(poor, SIZE, sigma_px=sigma)
    assert np.median(misfit_px(told, barrel)) < 0.7 * np.median(misfit_px(blind, barrel))


def test_errors_that_spots_share_bend_no_focal_length() -> None:
    """Many spots of light, nearly frontal and all wrong by the same smooth field, beside few tilted boards."""
    corners, rng = views(8, 3, noise=0.01), np.random.default_rng(0)
    spots = np.stack(np.meshgrid(np.arange(-11, 12), np.arange(-8, 9)), axis=-1).reshape(-1, 2) * 40.0
    image = []
    for turn in ((0.03, 0.02, 0.01), (-0.02, 0.04, 0.0), (0.01, -0.05, 0.02)):
        p = Rotation.from_rotvec(turn).apply(np.column_stack([spots, np.zeros(len(spots))])) + np.array([0, 0, 800.0])
        px = barrel(p[:, :2] / p[:, 2:])
        wrong = 0.03 * np.column_stack([np.cos(px[:, 0] / 100), np.sin(px[:, 1] / 80 + px[:, 0] / 200)])
        image.append(px + wrong + rng.normal(0, 0.01, px.shape))
    inside = np.all((np.array(image) > 0) & (np.array(image) < [639, 479]), axis=2)
    joined = join([corners, Corners(np.tile(spots, (3, 1, 1)), np.array(image), inside)])
    trusted, doubted = (
        fit_distortion(joined, SIZE, target=[0] * 8 + [-1] * 3, alike=[False] * 8 + [told] * 3)
        for told in (False, True)
    )
    assert np.sqrt(np.mean(misfit_px(doubted, barrel) ** 2)) < 0.6 * np.sqrt(np.mean(misfit_px(trusted, barrel) ** 2))


def test_lateral_colour_is_the_difference_to_green() -> None:
    green = views(10, 6)
    others = {"R": 0.9985, "B": 1.001}
    lateral = {c: views(10, 6, lambda rays, s=s: barrel(rays, s)) for c, s in others.items()}
    both = np.logical_and.reduce([green.found, *(c.found for c in lateral.values())])
    fit = fit_distortion(
        replace(green, found=both), SIZE, lateral={c: replace(v, found=both) for c, v in lateral.items()}
    )
    assert fit.distortion.channels == ("R", "G", "B")
    rays = np.array([[0.4, 0.1], [-0.3, 0.3], [0.0, -0.35]])
    for channel, stretch in others.items():
        got = fit.distortion.project(rays, channel) - fit.distortion.project(rays, "G")
        np.testing.assert_allclose(got, barrel(rays, stretch) - barrel(rays), atol=0.05)


def test_a_fisheye_is_found_where_a_pinhole_model_is_lost() -> None:
    rng = np.random.default_rng(0)
    corners = views(4, 7, fisheye)
    wide = []
    for azimuth in np.linspace(0, 2 * np.pi, 10, endpoint=False):
        aim = Rotation.from_euler("zyz", [azimuth, 0.9, -azimuth + rng.uniform(-0.2, 0.2)])
        tilt = Rotation.from_rotvec(rng.uniform(-0.4, 0.4, 3))
        p = aim.apply(
            tilt.apply(np.column_stack([GRID_MM - GRID_MM.mean(axis=0), np.zeros(70)])) + np.array([0, 0, 260.0])
        )
        wide.append(fisheye(p) + rng.normal(0, NOISE_PX, (70, 2)))
    inside = np.all((np.array(wide) > 0) & (np.array(wide) < [640, 480]), axis=2)
    fit = fit_distortion(join([corners, Corners(np.tile(GRID_MM, (10, 1, 1)), np.array(wide), inside)]), SIZE)
    assert fit.rms_px < 1.5 * NOISE_PX * np.sqrt(2)
    slope = fit.distortion.camera_matrix
    np.testing.assert_allclose([slope[0, 0], slope[1, 1]], 270.0, rtol=0.02)


def test_three_views_are_enough_and_two_are_not() -> None:
    corners = views(3, 8)
    fit = fit_distortion(corners, SIZE)
    assert fit.rms_px < 0.5
    two = Corners(*(getattr(corners, n)[:2] for n in ("object_mm", "image_px", "found")))
    with pytest.raises(FitFailed, match=r"2 views .* 3 are needed.*tilted"):
        fit_distortion(two, SIZE)


def test_a_seed_gone_astray_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, fitted: tuple[Corners, DistortionFit]
) -> None:
    """OpenCV's calibration can diverge to a camera that looks possible."""

    def astray(
        seen: bundle.Observations, size_px: tuple[int, int], n_views: int
    ) -> tuple[float, np.ndarray, bundle.State]:
        scale, centre, state = seed.stereographic_seed(seen, size_px, n_views)
        rng = np.random.default_rng(0)
        turned = Rotation.from_rotvec(rng.normal(0, 0.5, (n_views, 3))).as_matrix() @ state.rotation
        return 3 * scale, centre + 150.0, replace(state, rotation=turned)

    monkeypatch.setattr(seed, "opencv_seed", astray)
    fit = fit_distortion(fitted[0], SIZE)
    assert fit.rms_px < 1.05 * fitted[1].rms_px
    assert np.median(misfit_px(fit, barrel)) < 0.03


def test_a_freer_model_that_leaves_more_than_a_stiffer_one_is_not_taken(
    fitted: tuple[Corners, DistortionFit],
) -> None:
    seen = observe.observe(fitted[0], np.full(14, -1), None, 0)
    state = bundle.State(np.zeros((14, 3, 3)), np.zeros((14, 3)), np.zeros((2, 9, 9)), np.zeros(0), np.zeros((2, 0)))
    left = np.ones((len(seen.view), 2))
    stiff = choose.Trial(seen, state, 0, 1e-6, left, (), own=1.0)
    assert choose.freer_is_better(replace(stiff, left=0.9 * left, own=0.8), stiff)
    assert not choose.freer_is_better(replace(stiff, left=0.9 * left, own=1.2), stiff)
    assert not choose.freer_is_better(replace(stiff, left=left, own=0.5), stiff)


def test_views_left_out_by_one_step_are_as_if_fitted_anew() -> None:
    """The step from the whole fit is exact to second order: against adjustments of the other views to their end."""
    corners = views(20, 1)
    seen = observe.observe(corners, np.full(20, -1), None, 0)
    coarse, start = choose.begin(seen, SIZE, 20)
    base = choose.widen(coarse, seen, start, SIZE)
    flat = replace(start, coefficients=np.zeros((2, *base.shape)))
    prior = choose.prior(base, seen, flat, 1e-6)
    state = adjust.adjust(base, seen, adjust.start_spline(base, seen, flat, prior), prior)
    leaves, left = heldout.leave_out(base, seen, state, prior, 5)
    for k, leaf in enumerate(leaves):
        aside = np.isin(seen.view, np.arange(k, 20, 5))
        rest = seen.where(~aside)
        share = rest.weight.sum() / seen.weight.sum()
        anew = adjust.adjust(base, rest, state, share * prior, widths=adjust.LOSS_WIDTHS[-1:])
        anew = bundle.refine_poses(base, seen.where(aside), anew)
        want = bundle.residuals(base, seen.where(aside), anew)
        np.testing.assert_allclose(left[aside], want, atol=0.1 * np.sqrt(np.mean(want**2)))
        assert np.abs(leaf.coefficients - state.coefficients).max() > 0


def test_points_that_no_camera_explains_fail_in_words() -> None:
    corners = views(5, 9)
    scrambled = np.random.default_rng(0).permuted(corners.image_px, axis=1)
    with pytest.raises(FitFailed, match="no camera explains"):
        fit_distortion(replace(corners, image_px=scrambled), SIZE)


def test_the_result_does_not_depend_on_the_run(fitted: tuple[Corners, DistortionFit]) -> None:
    """Threads sum in any order; what they feed must not carry it on."""
    again = fit_distortion(fitted[0], SIZE)
    np.testing.assert_array_equal(again.distortion.coefficients, fitted[1].distortion.coefficients)


def test_join_pads_smaller_targets_with_points_not_found() -> None:
    small = Corners(np.ones((2, 3, 2)), np.ones((2, 3, 2)), np.ones((2, 3), bool))
    large = Corners(np.zeros((1, 5, 2)), np.zeros((1, 5, 2)), np.ones((1, 5), bool))
    joined = join([small, large])
    assert joined.image_px.shape == (3, 5, 2)
    assert joined.found.sum(axis=1).tolist() == [3, 3, 5]


def test_arguments_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="sigma_px"):
        fit_distortion(views(3, 0), SIZE, sigma_px=np.ones((2, 2)))
    with pytest.raises(ValueError, match="target"):
        fit_distortion(views(3, 0), SIZE, target=[0])


def test_derivatives_of_the_projection_are_exact() -> None:
    rng = np.random.default_rng(0)
    base = bundle.Base(np.array([500.0, 510]), np.array([320.0, 240]), np.linspace(-2, 2, 12), np.linspace(-2, 2, 11))
    seen = observe.observe(views(2, 1), np.zeros(2, int), None, 2, np.array([True, False]))
    state = bundle.State(
        Rotation.from_rotvec(rng.normal(0, 0.3, (2, 3))).as_matrix(),
        rng.uniform([-100, -100, 400], [100, 100, 600], (2, 3)),
        rng.normal(0, 3, (2, *base.shape)),
        rng.normal(0, 1, 3),
        rng.normal(0, 1, (2, 21)),
    )
    linear, step = bundle.linearise(base, seen, state), 1e-5
    for k in range(6):
        pose = step * np.tile(np.eye(6)[k], (2, 1))
        ahead, behind = (bundle.residuals(base, seen, bundle.apply(state, s * pose)) for s in (1, -1))
        np.testing.assert_allclose((behind - ahead) / (2 * step), linear.pose[:, :, k], atol=1e-3)
    for k in range(3 + 2 * 21):
        bumped = state.with_common(state.common + step * np.eye(len(state.common))[state.coefficients.size + k])
        moved = (linear.residual - bundle.residuals(base, seen, bumped)) / step
        np.testing.assert_allclose(moved, linear.others[:, :, k], atol=1e-3)


def test_the_penalty_leaves_lenses_free_and_charges_ripples() -> None:
    base = bundle.Base(np.ones(2), np.zeros(2), np.linspace(-1.2, 1.2, 15), np.linspace(-1, 1, 13))
    gx, gy = np.meshgrid(*(np.convolve(k[1:-1], np.ones(3) / 3, "valid") for k in (base.knots_x, base.knots_y)))
    bending = penalty.penalty_matrix(base)

    def energy(field: list[np.ndarray]) -> float:
        c = np.concatenate([f.ravel() for f in field])
        return float(c @ bending @ c / (c @ c))

    ripple = energy([np.sin(6 * gx), np.cos(5 * gy)])
    assert abs(energy([3 * gx - gy + 1, 2 * gx + gy])) < 1e-8 * ripple
    assert energy([gx * (gx**2 + gy**2), gy * (gx**2 + gy**2)]) < 1e-2 * ripple


def test_board_heights_follow_their_polynomial() -> None:
    bowed = BoardShape(2, np.array([[2.0, 0.0, -1.0]]), np.array([[10.0, 20.0]]), np.array([5.0]))
    np.testing.assert_allclose(bowed.height_mm(np.array([[15.0, 20.0], [10.0, 30.0]])), [2.0, -4.0])


def _fisheye_plane(part: str) -> Corners:
    file = np.load(SHARED / "real/corners" / f"fisheye_plane_{part}.npz")
    numbers = np.unique(file["view"])
    image = np.zeros((len(numbers), len(file["board"]), 2))
    found = np.zeros(image.shape[:2], bool)
    row = np.searchsorted(numbers, file["view"])
    image[row, file["board_index"]] = file["image_px"] - 1  # the file counts pixels from one
    found[row, file["board_index"]] = True
    return Corners(np.tile(file["board"], (len(numbers), 1, 1)), image, found)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "real/corners").is_dir(), reason="needs ../shared")
def test_a_real_fisheye_predicts_views_that_it_never_saw() -> None:
    """BabelCalib's own split: Kannala-Brandt reaches 0.475 px, mrcal's spline 0.360 px."""
    fit = fit_distortion(_fisheye_plane("train"), (800, 1280))
    _, residuals = fit_poses(fit, _fisheye_plane("test"))
    length = np.linalg.norm(residuals[np.isfinite(residuals[..., 0])], axis=1)
    assert np.sqrt(np.mean(length**2)) < 0.30
