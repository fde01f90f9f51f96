"""How sure a map says that it is, against how far it is from lenses that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial import Delaunay
from scipy.spatial.transform import Rotation
from test_geometry import SIZE, Lens, barrel, views

from calib.geometry import DistortionFit, bundle, fit_distortion, penalty, uncertainty
from psfbank.model import Corners


def errors_in_deviations(fit: DistortionFit, lens: Lens, channel: str = "Y") -> np.ndarray:
    """Errors (P, 2) of the map among its points, rotated to fit best, over what it says of them."""
    found = fit.distortion
    x, y = np.meshgrid(np.linspace(0, SIZE[1] - 1, 25), np.linspace(0, SIZE[0] - 1, 19))
    xy = np.column_stack([x.ravel(), y.ravel()])
    xy = xy[Delaunay(found.valid_region).find_simplex(xy) >= 0]
    rays = np.column_stack([found.unproject(xy, channel), np.ones(len(xy))])

    def miss(w: np.ndarray) -> np.ndarray:
        turned = Rotation.from_rotvec(w).apply(rays)
        return (lens(turned[:, :2] / turned[:, 2:]) - xy).ravel()

    left = least_squares(miss, np.zeros(3), x_scale=1e-3).fun.reshape(-1, 2)
    return left / found.sigma_px(xy, channel)


@pytest.fixture(scope="module")
def fits() -> list[DistortionFit]:
    return [fit_distortion(views(9, seed), SIZE) for seed in range(100, 112)]


def test_one_deviation_holds_two_thirds_of_the_errors(fits: list[DistortionFit]) -> None:
    """Errors of one map rise and fall together, so a share over maps says more than that of any one."""
    z = [np.abs(errors_in_deviations(fit, barrel)) for fit in fits]
    assert 0.60 < np.mean([np.mean(part < 1) for part in z]) < 0.76
    assert 0.90 < np.mean([np.mean(part < 2) for part in z]) < 0.995


def test_deviations_grow_beyond_the_points(fits: list[DistortionFit]) -> None:
    for fit in fits[:4]:
        corners = fit.distortion.sigma_px([[0, 0], [SIZE[1] - 1, 0], [0, SIZE[0] - 1], [SIZE[1] - 1, SIZE[0] - 1]])
        assert corners.min() > fit.distortion.sigma_px([[320.0, 240.0]]).max()


def test_more_views_make_the_map_surer() -> None:
    few, many = (fit_distortion(views(n, 3), SIZE).distortion for n in (6, 24))
    xy = np.stack(np.meshgrid([160.0, 320, 480], [120.0, 240, 360]), axis=-1).reshape(-1, 2)
    assert np.median(many.sigma_px(xy)) < 0.7 * np.median(few.sigma_px(xy))


def test_errors_that_a_view_shares_widen_what_is_said() -> None:
    """The same spread of errors, once from point to point and once as a smooth field of each view's own."""
    corners, rng = views(12, 4, noise=0.01), np.random.default_rng(0)
    normalised = corners.object_mm / 270.0 - 0.5
    smooth = np.zeros(corners.image_px.shape)
    for v in range(len(smooth)):
        for axis in range(2):
            a, b, c = rng.normal(0, 0.06, 3)
            x, y = normalised[v].T
            smooth[v, :, axis] = 6 * (a * x * y + b * (x**2 - 0.08) + c * (y**2 - 0.08))
    rough = rng.normal(0, np.std(smooth[corners.found]), smooth.shape)
    shared, free = (
        fit_distortion(Corners(corners.object_mm, corners.image_px + e, corners.found), SIZE) for e in (smooth, rough)
    )
    z = errors_in_deviations(shared, barrel)
    assert np.sqrt(np.mean(z**2)) < 2.0
    xy = np.array([[320.0, 240.0], [200.0, 200.0], [450.0, 300.0]])
    assert np.median(shared.distortion.sigma_px(xy)) > np.median(free.distortion.sigma_px(xy))


def test_colours_are_less_sure_than_green() -> None:
    green = views(8, 6)
    red = views(8, 6, lambda rays: barrel(rays, 0.9985))
    rng = np.random.default_rng(1)
    both = green.found & red.found
    noisy = Corners(red.object_mm, red.image_px + rng.normal(0, 0.02, red.image_px.shape), both)
    fit = fit_distortion(Corners(green.object_mm, green.image_px, both), SIZE, lateral={"R": noisy})
    xy = np.array([[320.0, 240.0], [200.0, 200.0]])
    assert np.all(fit.distortion.sigma_px(xy, "R") > fit.distortion.sigma_px(xy, "G"))
    assert fit.distortion.uncertainty is not None
    assert fit.distortion.uncertainty.heldout_rms_px == fit.heldout_rms_px


def test_rotation_fields_are_what_rotations_do() -> None:
    base = bundle.Base(np.ones(2), np.zeros(2), np.linspace(-1.2, 1.2, 15), np.linspace(-1, 1, 13))
    u = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 2))
    quarter = np.sum(u**2, axis=1, keepdims=True) / 4
    ray = np.concatenate([u, 1 - quarter], axis=1) / (1 + quarter)
    fields = (bundle.tensor_design(base, u) @ c.reshape(2, -1).T for c in penalty.rotation_fields(base).T)
    for axis, got in zip(np.eye(3), fields, strict=True):
        turned = Rotation.from_rotvec(1e-6 * axis).apply(ray)
        moved = (2 * turned[:, :2] / (1 + turned[:, 2:]) - u) / 1e-6
        scale = np.sum(got * moved) / np.sum(moved**2)
        np.testing.assert_allclose(got, scale * moved, atol=1e-5 * np.abs(got).max())


def test_compressed_modes_keep_the_variance_of_every_place() -> None:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(5, 2 * 42)) * 0.01
    design = rng.uniform(0, 1, (30, 42))
    at = uncertainty.Places(design, np.ones(30, bool), np.zeros((60, 3)))
    modes = uncertainty.compress(np.concatenate([few, few]), at)
    assert len(modes) == 5
    want = 2 * np.sum(at.field(few) ** 2, axis=0)
    np.testing.assert_allclose(np.sum(at.field(modes) ** 2, axis=0), want, rtol=1e-6)
    many = uncertainty.compress(rng.normal(size=(84, 84)) * np.geomspace(1, 1e-3, 84)[:, None], at)
    assert len(many) < 60


def test_independent_fields_make_their_covariance() -> None:
    root = np.random.default_rng(0).normal(size=(6, 9))
    fields = uncertainty.independent_fields(root @ root.T)
    np.testing.assert_allclose(fields.T @ fields, np.linalg.inv(root @ root.T), atol=1e-12)
