"""Point grids: found on the mosaic's own sites, indexed whatever the lens does to them, cut without loss of place."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from calib.led import (
    UNSHARP_RATIO,
    PointView,
    cut_points,
    find_peaks,
    find_points,
    image_widths,
    index_grid,
    luminance,
    relative_widths,
)
from calib.photometry.variance import pixel_variance
from psfbank.errors import NoTargetFound
from psfbank.flags import Flag
from psfbank.model import Camera, Capture, NoiseModel
from psfbank.sensor import cfa_sites, mosaic
from psfbank.zernike import effective_psf, noll_terms

SIZE_PX = (240, 320)
COLUMNS, ROWS, SPACING_PX = 9, 7, 27.0

Array = npt.NDArray[np.float64]


def grid_px(angle_rad: float = 0.0, tilt: float = 0.0, barrel: float = 0.0) -> tuple[Array, npt.NDArray[np.int64]]:
    """Positions (63, 2) of a grid seen by a lens, px, and their (column, row)."""
    index = np.stack(np.meshgrid(np.arange(COLUMNS), np.arange(ROWS)), -1).reshape(-1, 2)
    flat = (index - index.mean(0)) * SPACING_PX
    turn = np.array([[np.cos(angle_rad), -np.sin(angle_rad)], [np.sin(angle_rad), np.cos(angle_rad)]])
    seen = flat @ turn.T
    seen = seen / (1 + tilt * (seen @ np.array([0.8, 0.6])) / SIZE_PX[1])[:, None]
    seen = seen * (1 - barrel * np.sum(seen**2, 1, keepdims=True) / SIZE_PX[1] ** 2)
    return seen + np.array([SIZE_PX[1] - 1.3, SIZE_PX[0] - 0.4]) / 2, index


def picture(xy_px: Array, cfa: str = "RGGB", peak: float = 0.6, sigma_px: float = 0.9, seed: int = 0) -> Capture:
    """Gaussian points on a dim background, read by a mosaic, a mono or an RGB sensor."""
    rows, cols = (np.arange(n) for n in SIZE_PX)
    across = np.exp(-0.5 * ((cols - xy_px[:, :1]) / sigma_px) ** 2)
    down = np.exp(-0.5 * ((rows - xy_px[:, 1:]) / sigma_px) ** 2)
    light = 0.004 + peak * (down.T @ across)
    colours = light[..., None] * np.array([0.6, 1.0, 0.5]) + np.array([0.002, 0.0, 0.001])
    pixels = light if cfa == "mono" else colours if cfa == "RGB" else mosaic(colours, cfa)
    pixels = pixels + np.random.default_rng(seed).normal(0, 0.001, pixels.shape)
    return capture(pixels)


def capture(pixels: Array) -> Capture:
    saturated = pixels >= 1 if pixels.ndim == 2 else (pixels >= 1).any(-1)
    return Capture(np.minimum(pixels, 1.0), saturated, "led/0.png", "0" * 64)


def camera(cfa: str = "RGGB") -> Camera:
    return Camera("Maker", "Model", SIZE_PX, cfa)


def consistent(index: npt.NDArray[np.int64], true: npt.NDArray[np.int64]) -> bool:
    """Whether two indexings differ by a common shift alone."""
    return bool(np.ptp(index - true, axis=0).max() == 0)


@pytest.mark.parametrize("cfa", ["RGGB", "GBRG", "mono", "RGB"])
@pytest.mark.parametrize(("angle_deg", "tilt", "barrel"), [(0.0, 0.0, 0.0), (4.0, 0.25, 0.3), (-6.0, -0.2, -0.2)])
def test_points_are_found_and_indexed(cfa: str, angle_deg: float, tilt: float, barrel: float) -> None:
    xy_px, index = grid_px(np.radians(angle_deg), tilt, barrel)
    view = find_points(picture(xy_px, cfa), camera(cfa))
    distance, which = cKDTree(xy_px).query(view.xy_px)
    assert sorted(which) == list(range(len(xy_px)))
    assert distance.max() < 0.3
    np.testing.assert_array_equal(view.index, index[which])
    assert view.spacing_px == pytest.approx(SPACING_PX, rel=0.15)


@pytest.mark.parametrize("cfa", ["RGGB", "BGGR"])
def test_positions_have_no_bias_towards_the_sites_of_one_colour(cfa: str) -> None:
    xy_px, _ = grid_px(0.05, 0.1, 0.2)
    view = find_points(picture(xy_px, cfa), camera(cfa))
    near = cKDTree(xy_px).query(view.xy_px)[1]
    np.testing.assert_allclose((view.xy_px - xy_px[near]).mean(0), 0, atol=0.05)


def test_luminance_has_no_checkerboard_of_colour_backgrounds() -> None:
    sites = cfa_sites("RGGB", SIZE_PX)
    pixels = np.array([0.3, 0.1, 0.2])[sites] + np.random.default_rng(0).normal(0, 1e-3, SIZE_PX)
    flat = luminance(capture(pixels), camera())
    assert flat.std() < 1.2e-3
    np.testing.assert_allclose([flat[sites == c].mean() for c in range(3)], 0, atol=1e-4)


def test_faint_reflections_are_no_points() -> None:
    xy_px, _ = grid_px()
    ghosts = xy_px[10:20] + SPACING_PX / 2
    light = picture(xy_px, "mono").pixels + picture(ghosts, "mono", peak=0.06).pixels
    assert len(find_peaks(luminance(capture(light), camera("mono")))) == len(xy_px)


@given(
    angle_deg=st.floats(-20, 20),
    tilt=st.floats(-0.25, 0.25),
    barrel=st.floats(-0.2, 0.3),
    missing=st.sets(st.integers(0, COLUMNS * ROWS - 1), max_size=9),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_a_grid_is_indexed_turned_tilted_and_with_holes(
    angle_deg: float, tilt: float, barrel: float, missing: set[int], seed: int
) -> None:
    xy_px, index = grid_px(np.radians(angle_deg), tilt, barrel)
    rng = np.random.default_rng(seed)
    keep = rng.permutation([k for k in range(len(xy_px)) if k not in missing])
    given_px = xy_px[keep] + rng.normal(0, 0.2, (len(keep), 2))
    got, reached = index_grid(given_px)
    there = np.isin(np.arange(COLUMNS * ROWS), keep).reshape(ROWS, COLUMNS)
    connected = np.bincount(ndimage.label(there)[0].ravel())[1:].max()
    assert reached.sum() >= connected, "only what holes cut off is left out"
    assert consistent(got[reached], index[keep][reached])


@given(seed=st.integers(0, 2**32 - 1), angle_deg=st.floats(-15, 15))
@settings(max_examples=40)
def test_strays_off_the_grid_are_left_out(seed: int, angle_deg: float) -> None:
    xy_px, index = grid_px(np.radians(angle_deg), 0.15, 0.2)
    rng = np.random.default_rng(seed)
    between = xy_px[rng.choice(len(xy_px), 4, replace=False)] + SPACING_PX * rng.uniform(0.38, 0.6, (4, 2))
    got, reached = index_grid(np.concatenate([xy_px, between]))
    assert not reached[len(xy_px) :].any()
    assert reached[: len(xy_px)].all()
    assert consistent(got[: len(xy_px)], index)


def test_a_stray_in_the_very_centre_does_not_hide_the_grid() -> None:
    xy_px, index = grid_px()
    holed = np.delete(xy_px, len(xy_px) // 2, axis=0)
    strays = xy_px[len(xy_px) // 2] + np.array([(-11.0, 9.0), (0.6, 13.5), (12.0, -10.0)])
    got, reached = index_grid(np.concatenate([strays, holed]))
    assert reached.tolist() == [False] * 3 + [True] * len(holed)
    assert consistent(got[3:], np.delete(index, len(xy_px) // 2, axis=0))


def test_hot_pixels_do_not_disturb_the_picture_of_a_grid() -> None:
    xy_px, index = grid_px(0.1, 0.1, 0.1)
    shot = picture(xy_px, "mono")
    pixels = np.array(shot.pixels, dtype=np.float64)
    for x, y in xy_px[[5, 20, 31, 40]] + np.array([13.0, 12.0]):
        pixels[int(y), int(x)] = 1.0
    view = find_points(capture(pixels), camera("mono"))
    distance, which = cKDTree(xy_px).query(view.xy_px)
    assert len(view.xy_px) == len(xy_px)
    assert distance.max() < 0.3
    np.testing.assert_array_equal(view.index, index[which])


@pytest.mark.parametrize("count", [0, 1, 5, 11])
def test_too_few_points_are_refused_in_words(count: int) -> None:
    with pytest.raises(NoTargetFound, match=f"only {count} points found, 12 are needed") as caught:
        find_points(picture(grid_px()[0][:count]), camera())
    assert caught.value.where == "led/0.png"
    assert "expose" in caught.value.remedy


def test_points_without_order_are_refused_in_words() -> None:
    rng = np.random.default_rng(3)
    angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    ring = np.array([160.0, 120.0]) + rng.uniform(60, 110, 14)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    with pytest.raises(NoTargetFound, match="grid") as caught:
        find_points(picture(ring), camera())
    assert caught.value.remedy


def test_a_row_of_points_is_no_grid() -> None:
    row = np.stack([np.linspace(20, 300, 14), np.full(14, 120.0)], 1)
    with pytest.raises(NoTargetFound, match="do not form a grid") as caught:
        index_grid(row)
    assert caught.value.remedy


@pytest.mark.parametrize("cfa", ["RGGB", "GRBG"])
def test_a_patch_knows_its_place_and_its_own_colours_sites(cfa: str) -> None:
    xy_px, _ = grid_px(0.1)
    shot = picture(xy_px, cfa)
    view = find_points(shot, camera(cfa))
    half = 6
    points = cut_points([view], [shot], camera(cfa), None, half)
    count = len(view.xy_px)
    sites = cfa_sites(cfa, SIZE_PX)
    assert len(points) == 3 * count
    np.testing.assert_array_equal(points.channel, np.repeat([0, 1, 2], count))
    np.testing.assert_array_equal(points.source, np.tile(np.arange(count), 3))
    np.testing.assert_array_equal(points.xy_px, np.tile(view.xy_px, (3, 1)))
    for k in range(len(points)):
        x, y = points.corner_px[k]
        window = np.s_[y : y + 2 * half + 1, x : x + 2 * half + 1]
        np.testing.assert_array_equal(points.patch[k], shot.pixels[window])
        np.testing.assert_array_equal(np.isfinite(points.variance[k]), sites[window] == points.channel[k])
        assert np.abs(points.corner_px[k] + half - points.xy_px[k]).max() <= 0.5
    assert (points.variance > 0).all()


def test_a_colour_picture_gives_every_channel_all_of_its_samples() -> None:
    xy_px, _ = grid_px()
    shot = picture(xy_px, "RGB")
    points = cut_points([find_points(shot, camera("RGB"))], [shot], camera("RGB"), None, 5)
    assert np.isfinite(points.variance).all()
    x, y = points.corner_px[70]
    assert points.channel[70] == 1
    np.testing.assert_array_equal(points.patch[70], shot.pixels[y : y + 11, x : x + 11, 1])


def test_views_are_numbered_and_lights_counted_on() -> None:
    shots = [picture(grid_px(angle)[0]) for angle in (0.0, 0.1)]
    views = [find_points(shot, camera()) for shot in shots]
    points = cut_points(views, shots, camera(), None, 5)
    assert np.unique(points.source).tolist() == list(range(2 * 63))
    assert all(np.unique(points.view[points.source == s]).tolist() == [int(s >= 63)] for s in (0, 62, 63, 125))
    second = points.take((points.view == 1) & (points.channel == 1))
    np.testing.assert_array_equal(second.xy_px, views[1].xy_px)


def test_saturated_cores_and_cut_footprints_are_flagged() -> None:
    xy_px = np.array([(50.2, 60.1), (100.0, 60.0), (3.0, 60.0), (100.0, 237.0), (60.0, 120.0), (314.0, 120.0)])
    pixels = np.array(picture(xy_px, "mono").pixels, dtype=np.float64)
    pixels[61, 52] = 1.2  # in the core of the first
    pixels[120, 65] = 1.2  # in the footprint, but not the core, of the fifth
    view = PointView(xy_px, np.zeros((6, 2), dtype=np.int64), 27.0)
    points = cut_points([view], [capture(pixels)], camera("mono"), None, 6)
    flags = [Flag.SATURATED, Flag.GOOD, Flag.NEAR_BORDER, Flag.NEAR_BORDER, Flag.GOOD, Flag.NEAR_BORDER]
    assert [Flag(int(f)) for f in points.flags] == flags
    assert np.isinf(points.variance[0, 7, 8])
    assert np.isinf(points.variance[4, 6, 11])
    assert np.isinf(points.variance[2, :, :3]).all()
    assert np.isfinite(points.variance[2, :, 3:]).all()
    assert np.isinf(points.variance[3, 9:]).all()
    assert np.isinf(points.variance[5, :, 12:]).all()
    assert np.isfinite(points.variance[5, :, :12]).all()
    np.testing.assert_array_equal(points.corner_px[2], (-3, 54))


def test_variance_follows_the_noise_model_where_there_is_one() -> None:
    gain, read, black, white = np.array([0.2, 0.25, 0.5]), np.array([2.0, 3.0, 4.0]), 64.0, 1023.0
    zero = np.zeros(3)
    noise = NoiseModel(gain, read, zero, zero, np.full(3, black), np.full(3, white))
    level = 0.3
    flat = capture(np.full(SIZE_PX, level))
    variance = pixel_variance(flat, camera(), noise)
    electrons = level * (white - black) / gain
    expected = (gain**2 * (electrons + read**2) + 1 / 12) / (white - black) ** 2
    np.testing.assert_allclose(variance, expected[cfa_sites("RGGB", SIZE_PX)], rtol=1e-6)
    colours = capture(np.full((*SIZE_PX, 3), level))
    np.testing.assert_allclose(pixel_variance(colours, camera("RGB"), noise)[100, 100], expected, rtol=1e-6)


def test_the_background_stands_for_a_read_noise_that_the_model_lacks() -> None:
    zero, one = np.zeros(3), np.ones(3)
    unknown = NoiseModel(0.25 * one, [np.nan, 3.0, np.nan], zero, zero, 64 * one, 1023 * one)
    dark = capture(np.random.default_rng(0).normal(0, 0.002, SIZE_PX))
    variance, sites = pixel_variance(dark, camera(), unknown), cfa_sites("RGGB", SIZE_PX)
    assert np.isfinite(variance).all()
    assert np.sqrt(variance[sites != 1].min()) == pytest.approx(0.002, rel=0.05)
    assert variance[sites == 1].min() == pytest.approx(((0.25 * 3) ** 2 + 1 / 12) / 959**2)


def test_without_a_noise_model_the_background_stands_for_the_read_noise() -> None:
    shot = picture(grid_px()[0], "mono")
    variance = pixel_variance(shot, camera("mono"), None)
    background = shot.pixels < 0.02
    assert np.sqrt(np.median(variance[background])) == pytest.approx(0.001, rel=0.1)
    assert np.isinf(
        pixel_variance(dataclasses.replace(shot, saturated=~background), camera("mono"), None)[~background]
    ).all()


@pytest.mark.parametrize("cfa", ["RGGB", "mono"])
def test_a_hot_pixel_in_a_hole_of_the_grid_is_no_light(cfa: str) -> None:
    xy_px, _ = grid_px(0.1, 0.1, 0.1)
    holes = [5, 20, 31, 40]
    pixels = np.array(picture(np.delete(xy_px, holes, axis=0), cfa).pixels, dtype=np.float64)
    for level, (x, y) in zip((1.0, 0.7, 0.3, 0.1), xy_px[holes], strict=True):
        pixels[round(y), round(x)] = level
    view = find_points(capture(pixels), camera(cfa))
    assert len(view.xy_px) == len(xy_px) - len(holes)
    assert cKDTree(view.xy_px).query(xy_px[holes])[0].min() > SPACING_PX / 2


@pytest.mark.parametrize("cfa", ["RGGB", "GRBG", "mono"])
@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5])
def test_the_sharpest_images_are_no_hot_pixels(cfa: str, phase: float) -> None:
    """Large pixels behind a fast lens: f/1.6 and 3 um at 465 nm, hardly any charge diffusion."""
    kernel = effective_psf(
        np.zeros(1), noll_terms(4, 4), wavelengths_nm=np.array([465.0]), weights=np.ones(1), f_number=1.6,
        pitch_um=3.0, half_px=4, oversample=4, diffusion_px=0.1,
    )  # fmt: skip
    light = np.zeros(SIZE_PX)
    start = 16 - round(4 * phase)  # of the kernel's samples, four a pixel
    image = kernel[start % 4 :: 4, start % 4 :: 4] * 16 * 0.8
    half = len(image) // 2
    corners = np.rint(grid_px()[0]).astype(int)
    for x, y in corners:
        light[y - half : y - half + len(image), x - half : x - half + len(image)] += image
    pixels = light if cfa == "mono" else mosaic(light[..., None] * np.array([0.4, 1.0, 0.4]), cfa)
    noisy = pixels + np.random.default_rng(0).normal(0, 0.001, SIZE_PX)
    assert len(find_points(capture(noisy), camera(cfa)).xy_px) == len(corners)


@pytest.mark.parametrize("cfa", ["RGGB", "mono", "RGB"])
@pytest.mark.parametrize(("sigma_px", "ratio"), [(0.9, 1.0), (1.35, 1.35), (1.8, 1.85)])
def test_a_frame_that_lost_focus_is_wider_than_the_others(cfa: str, sigma_px: float, ratio: float) -> None:
    grids = [grid_px(angle)[0] for angle in (0.0, 0.06, -0.05)]
    shots = [
        picture(xy, cfa, sigma_px=s, seed=k) for k, (xy, s) in enumerate(zip(grids, (0.9, sigma_px, 0.9), strict=True))
    ]
    views = [find_points(shot, camera(cfa)) for shot in shots]
    widths = relative_widths(views, shots, camera(cfa))
    assert widths[[0, 2]] == pytest.approx(1.0, abs=0.06)
    assert widths[1] == pytest.approx(ratio, rel=0.1)
    assert (widths[1] > UNSHARP_RATIO) == (sigma_px > 1)


def test_a_frame_in_which_the_camera_moved_is_wider_than_the_others() -> None:
    xy_px, _ = grid_px()
    moving = np.mean(
        [picture(xy_px + np.array([step, step / 2]), seed=3).pixels for step in np.linspace(-2, 2, 9)], axis=0
    )
    shots = [picture(xy_px), capture(moving), picture(xy_px, seed=2)]
    widths = relative_widths([find_points(shot, camera()) for shot in shots], shots, camera())
    assert widths[1] > UNSHARP_RATIO
    assert widths[[0, 2]] == pytest.approx(1.0, abs=0.06)


def test_points_are_compared_where_frames_share_a_place() -> None:
    """A lens that blurs towards the right: a frame of its right side is wide, and no worse than another of it."""
    xy_px, _ = grid_px()
    left = xy_px[:, 0] < SIZE_PX[1] / 2

    def shot_of(which: npt.NDArray[np.bool_], seed: int) -> Capture:
        sharp, dull = (picture(xy_px[which & side], sigma_px=s, seed=seed) for side, s in ((left, 0.8), (~left, 1.4)))
        return capture(np.asarray(sharp.pixels) + dull.pixels)

    shots = [shot_of(np.ones(len(xy_px), dtype=bool), 0), shot_of(~left, 1)]
    widths = relative_widths([find_points(shot, camera()) for shot in shots], shots, camera())
    assert widths == pytest.approx(1.0, abs=0.06)


def test_one_frame_is_its_own_measure() -> None:
    shot = picture(grid_px()[0])
    assert relative_widths([find_points(shot, camera())], [shot], camera()).tolist() == [1.0]


def test_images_cut_by_the_border_have_no_width() -> None:
    xy_px = np.array([(3.0, 60.0), (60.2, 60.3), (SIZE_PX[1] - 2.0, 100.0)])
    widths = image_widths(picture(xy_px, "mono"), camera("mono"), xy_px)
    assert np.isnan(widths).tolist() == [True, False, True]
    assert widths[1] == pytest.approx(0.9 * np.sqrt(2), rel=0.1)  # the window takes a little


def test_lights_with_a_stray_in_their_footprint_are_flagged() -> None:
    xy_px, _ = grid_px()
    strays = xy_px[[11, 37]] + np.array([[7.0, 4.0], [-5.0, 8.0]])
    shot = capture(np.asarray(picture(xy_px, "mono").pixels) + picture(strays, "mono", peak=0.3).pixels)
    view = find_points(shot, camera("mono"))
    assert len(view.strays_px) == 2
    points = cut_points([view], [shot], camera("mono"), None, 8)
    flagged = view.xy_px[points.flags & Flag.OVERLAPPING != 0]
    np.testing.assert_allclose(np.sort(flagged, axis=0), np.sort(xy_px[[11, 37]], axis=0), atol=0.5)


@pytest.mark.parametrize("cfa", ["RGGB", "mono"])
def test_two_lights_that_blend_are_flagged(cfa: str) -> None:
    xy_px, _ = grid_px()
    twice = [11, 37]
    shot = picture(np.concatenate([xy_px, xy_px[twice] + np.array([[2.4, 1.2], [-1.0, 2.6]])]), cfa)
    view = find_points(shot, camera(cfa))
    assert len(view.xy_px) == len(xy_px)
    flags = cut_points([view], [shot], camera(cfa), None, 8).flags[: len(xy_px)]
    near = cKDTree(xy_px).query(view.xy_px)[1]
    assert sorted(near[flags & Flag.OVERLAPPING != 0]) == twice
