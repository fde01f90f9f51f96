"""A noise target is found whichever way it lies, tied to pixels to a fraction of one, and never mistaken."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from calib.manifest import Entry
from calib.noise_target import LEAST_POINTS, _Map, _smoothed, find
from calib.synth import plane_of, rays_of
from calib.targets import SURROUND, Chessboard, NoiseTarget, bernoulli_pattern
from psfbank.errors import NoTargetFound
from psfbank.model import Camera, Capture, Setting
from psfbank.sensor import cfa_sites

SIZE_PX, FOCAL_PX, BARREL = (240, 320), 400.0, -0.5
TARGET = NoiseTarget(bernoulli_pattern(48, 64, np.random.default_rng(3)), cell_mm=1.5)
CENTRE_PX = np.array([159.5, 119.5])


def project(points_mm, pose):
    rays = rays_of(points_mm, pose)
    return FOCAL_PX * rays * (1 + BARREL * np.sum(rays**2, axis=1, keepdims=True)) + CENTRE_PX


def pose_of(turns_deg=(4.0, -3.0, 0.0), px_per_mm=1.5, shift_mm=(0.0, 0.0), target=TARGET):
    turn = Rotation.from_euler("xyz", turns_deg, degrees=True)
    middle = np.append(np.array(shift_mm), FOCAL_PX / px_per_mm)
    return np.concatenate([turn.as_rotvec(), middle - turn.as_matrix()[:, :2] @ target.size_mm / 2])


def seen(pose, target=TARGET, cfa="mono", sigma_px=0.8, flip=False):
    """Picture of a target by a lens with barrel distortion and a Gaussian PSF, on a noisy sensor."""
    gy, gx = np.indices(SIZE_PX).astype(float)
    distorted = (np.stack([gx, gy], -1) - CENTRE_PX) / FOCAL_PX
    rays = distorted.copy()
    for _ in range(12):
        rays = distorted / (1 + BARREL * np.sum(rays**2, -1, keepdims=True))
    place = plane_of(rays, pose)
    footprint = np.hypot(*np.gradient(place, axis=(0, 1)))
    light = gaussian_filter(target.reflectance(place[..., 0], place[..., 1], footprint), sigma_px) * 0.7
    if flip:
        light = light[:, ::-1]
    if cfa != "mono":
        light = light * np.array([0.55, 1.0, 0.7])[cfa_sites(cfa, SIZE_PX)]
    return picture(light)


def picture(light):
    noisy = np.clip(light + np.random.default_rng(1).normal(0, 0.006, SIZE_PX), 0, 1)
    return Capture(noisy.astype(np.float32), noisy >= 1, "noise/0.png", "0" * 64)


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    cv2.imwrite(str(tmp_path / "pattern.png"), np.where(TARGET.pattern, 0, 255).astype(np.uint8))
    return Entry("noise_target", (), Setting(), pattern=tmp_path / "pattern.png", cell_mm=TARGET.cell_mm)


def camera(cfa="mono"):
    return Camera("Maker", "Model", SIZE_PX, cfa)


def misses_px(view, pose):
    return view.image_px - project(view.object_mm, pose)


@pytest.mark.parametrize(
    "pose",
    [
        pose_of(),
        pose_of((3.0, 2.0, 180.0)),
        pose_of((-3.0, 2.0, 88.0), px_per_mm=1.25),
        pose_of((-3.0, 2.0, -93.0), px_per_mm=1.25),
        pose_of((25.0, -20.0, 8.0), px_per_mm=1.4, shift_mm=(10.0, -8.0)),
    ],
    ids=["level", "upside down", "turned right", "turned left", "tilted"],
)
def test_the_pattern_is_tied_to_pixels_whichever_way_it_lies(pose, entry):
    view = find(seen(pose), camera(), entry)
    miss = misses_px(view, pose)
    assert np.sqrt(np.mean(miss**2)) < 0.04
    assert np.abs(miss).max() < 0.15
    assert len(view.object_mm) >= 12
    assert np.all(np.ptp(view.object_mm, axis=0) > 0.6 * TARGET.size_mm)


@pytest.mark.parametrize("cfa", ["RGGB", "GRBG"])
def test_a_mosaic_moves_nothing(cfa, entry):
    pose = pose_of()
    miss = misses_px(find(seen(pose, cfa=cfa), camera(cfa), entry), pose)
    assert np.abs(miss.mean(axis=0)).max() < 0.03
    assert np.sqrt(np.mean(miss**2)) < 0.08


def test_a_picture_in_colour_is_measured_in_green(entry):
    pose = pose_of()
    grey = seen(pose).pixels
    colours = np.stack([np.roll(grey, 3, axis=1), grey, np.roll(grey, -3, axis=1)], axis=-1)
    view = find(Capture(colours, np.zeros(SIZE_PX, bool), "noise/0.png", "0" * 64), camera("RGB"), entry)
    assert np.sqrt(np.mean(misses_px(view, pose) ** 2)) < 0.04


def test_distortion_is_followed_beyond_a_homography(entry):
    """A map without its cubic part would miss the outer blocks."""
    pose = pose_of(px_per_mm=1.75)
    view = find(seen(pose), camera(), entry)
    homography = cv2.findHomography(view.object_mm, view.image_px)[0]
    flat = cv2.perspectiveTransform(view.object_mm[None], homography)[0]
    assert np.abs(flat - view.image_px).max() > 0.2
    assert np.abs(misses_px(view, pose)).max() < 0.15


def test_uneven_light_does_not_hide_the_target(entry):
    pose = pose_of()
    light = seen(pose).pixels * np.linspace(0.25, 1.0, SIZE_PX[1])
    assert np.abs(misses_px(find(picture(light), camera(), entry), pose)).max() < 0.2


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (seen(pose_of(), flip=True), "does not look like the pattern"),
        (
            seen(pose_of(), NoiseTarget(bernoulli_pattern(48, 64, np.random.default_rng(4)), 1.5)),
            "does not look like the pattern",
        ),
        (seen(pose_of(), sigma_px=5.0), "does not look like the pattern|no inked frame"),
        (seen(pose_of(px_per_mm=4.0)), "no inked frame|does not look like the pattern"),
        (picture(np.full(SIZE_PX, SURROUND)), "no inked frame"),
    ],
    ids=["mirrored", "another pattern", "blurred", "cropped", "nothing"],
)
def test_what_is_not_the_target_is_refused_with_the_reason(other, reason, entry):
    with pytest.raises(NoTargetFound, match=reason) as refused:
        find(other, camera(), entry)
    assert refused.value.where == "noise/0.png"
    assert refused.value.remedy


def test_a_chessboard_is_no_noise_target(entry):
    board = Chessboard(columns=9, rows=6, square_mm=12.0)
    gy, gx = np.indices(SIZE_PX) * 0.6
    with pytest.raises(NoTargetFound):
        find(picture(0.7 * board.reflectance(gx - 40, gy - 30, 0.6)), camera(), entry)


def test_a_thing_that_hides_part_of_the_pattern_costs_that_part_alone(entry):
    pose = pose_of()
    hidden = np.array(seen(pose).pixels)
    left, top = np.rint(project(np.array([[30.0, 20.0]]), pose)[0]).astype(int)
    hidden[top : top + 40, left : left + 40] = 0.3
    view = find(picture(hidden), camera(), entry)
    assert len(view.object_mm) >= LEAST_POINTS
    assert np.abs(misses_px(view, pose)).max() < 0.2
    inside = (view.image_px > [left + 14, top + 14]) & (view.image_px < [left + 26, top + 26])
    assert not inside.all(axis=1).any()


def test_an_entry_of_another_kind_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="led"):
        find(picture(np.zeros(SIZE_PX)), camera(), Entry("led", (), Setting(), pitch_mm=40.0))


def test_a_picture_that_bends_more_than_the_map_loses_only_its_wrong_blocks():
    """Large pictures leave pixels to a cubic map; what stands out against that is still wrong."""
    places = np.stack(np.meshgrid(np.linspace(10, 90, 10), np.linspace(10, 90, 10)), -1).reshape(-1, 2)
    rho = places / 50 - 1
    found_px = 20 * places + 30 * rho * np.sum(rho**2, axis=1, keepdims=True) ** 2
    found_px[[7, 45, 88]] += np.array([[25.0, 0.0], [-14.0, 14.0], [0.0, 30.0]])
    start = _Map(np.diag([20.0, 20.0, 1.0]), np.array([100.0, 100.0]), np.zeros((0, 2)))
    good, fitted = _smoothed(start, places, found_px, np.ones(100, dtype=bool))
    assert np.flatnonzero(~good).tolist() == [7, 45, 88]
    assert np.hypot(*(fitted(places) - found_px).T)[good].max() > 0.5
