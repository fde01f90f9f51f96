"""Undistortion against closed forms: straight lines, one colour, no moire, the right way round, what was not seen."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.interpolate import BSpline

from psfbank.bank import PsfBank
from psfbank.errors import ImageError
from psfbank.isp import srgb_decode
from psfbank.model import DistortionMap
from psfbank.simulate import Simulator
from psfbank.undistort import UNSEEN, Pinhole, pinhole_view, remap_tables, shares, undistort

SAMPLE_CAPTURES = Path(__file__).parents[1] / "sample_captures"
SIZE = (240, 320)
FOCAL_PX, CENTRE_PX = 300.0, np.array([159.5, 119.5])
LATERAL = {"R": 0.996, "G": 1.0, "B": 1.004}

Array = np.ndarray


def radial_lens(k: float = -0.25, lateral: dict[str, float] | None = None, focal_px: float = FOCAL_PX) -> DistortionMap:
    """pixel = s f tan(theta) (1 + k tan^2 theta) + c, as splines over stereographic directions that follow it closely.

    The spline interpolates at its Greville points, from four times the field.
    """
    scales = lateral or {"Y": 1.0}
    counts = 26, 22
    knots = [
        reach / (n - 3) * (2 * np.arange(-3.0, n + 1) - (n - 3)) for n, reach in zip(counts, (0.7, 0.55), strict=True)
    ]
    nodes = [np.linspace(k[3], k[-4], 6 * n) for k, n in zip(knots, counts, strict=True)]
    u = np.stack(np.meshgrid(*nodes), axis=-1)
    rays = u / (1 - np.sum(u**2, axis=-1, keepdims=True) / 4)
    r2 = np.sum(rays**2, axis=-1, keepdims=True)
    fits = []
    design = [BSpline.design_matrix(at, k, 3).toarray() for at, k in zip(nodes, knots, strict=True)]
    to_x, to_y = (np.linalg.pinv(d) for d in design)
    for scale in scales.values():
        moved = focal_px * (scale * rays * (1 + k * r2) - u)
        fits.append([to_y @ moved[..., axis] @ to_x.T for axis in range(2)])
    matrix = np.array([[focal_px, 0, CENTRE_PX[0]], [0, focal_px, CENTRE_PX[1]], [0, 0, 1]])
    region = [[0, 0], [SIZE[1] - 1, 0], [SIZE[1] - 1, SIZE[0] - 1], [0, SIZE[0] - 1]]
    return DistortionMap(
        matrix, *knots, np.array(fits), np.array(region, float), np.full(len(scales), 0.01), tuple(scales)
    )


def scene(rays: Array) -> Array:
    """A smooth pattern of directions, different along x and y."""
    x, y = rays[..., 0], rays[..., 1]
    return 0.5 + 0.2 * np.sin(60 * x + 9 * y) + 0.2 * np.cos(41 * y - 7 * x) * np.exp(-3 * x)


def taken(lens: DistortionMap, channel: str = "Y") -> Array:
    """What the sensor sees of the scene: exact, without blur."""
    rows, columns = np.indices(SIZE)
    xy = np.stack([columns, rows], axis=-1).reshape(-1, 2).astype(float)
    return scene(lens.unproject(xy, channel).reshape(*SIZE, 2))


def ideal(view: Pinhole) -> Array:
    height, width = view.size_px
    return scene(view.rays(np.arange(width), np.arange(height)))


def psnr(got: Array, want: Array, where: Array) -> float:
    return float(-10 * np.log10(np.mean((got - want)[where] ** 2)))


@pytest.mark.parametrize("k", [-0.25, 0.2], ids=["barrel", "pincushion"])
def test_what_a_lens_bent_becomes_what_a_pinhole_sees(k: float) -> None:
    lens = radial_lens(k)
    view = pinhole_view(lens, SIZE)
    got = undistort(taken(lens), lens, view)
    assert got.image.dtype == np.float32
    assert psnr(got.image, ideal(view), got.seen) > 58
    assert psnr(taken(lens), ideal(view), got.seen) < 25  # doing nothing
    assert (got.image[~got.seen] == 0).all()


def test_lateral_colour_goes_channel_by_channel() -> None:
    lens = radial_lens(lateral=LATERAL)
    view = pinhole_view(lens, SIZE)
    picture = np.stack([taken(lens, c) for c in "RGB"], axis=-1)
    got = undistort(picture, lens, view)
    for c in range(3):
        assert psnr(got.image[..., c], ideal(view), got.seen) > 60
    exchanged = undistort(picture[..., ::-1], lens, view)
    assert psnr(exchanged.image[..., 0], ideal(view), got.seen) < 45


def test_a_map_of_one_channel_serves_a_colour_picture() -> None:
    lens = radial_lens()
    view = pinhole_view(lens, SIZE)
    picture = taken(lens)
    got = undistort(np.stack([picture, 2 * picture, 3 * picture], axis=-1), lens, view)
    np.testing.assert_allclose(got.image[..., 2], 3 * undistort(picture, lens, view).image, rtol=1e-5, atol=1e-5)


def test_no_corner_is_exchanged_for_another() -> None:
    """A light at the sensor's bottom left stays there and moves outwards, as a barrel is undone."""
    lens = radial_lens()
    picture = np.zeros(SIZE, np.float32)
    picture[199:202, 59:62] = 1.0
    view = pinhole_view(lens, SIZE)
    got = np.maximum(undistort(picture, lens, view).image, 0)
    rows, columns = np.indices(SIZE)
    centre = np.array([(got * columns).sum(), (got * rows).sum()]) / got.sum()
    want = FOCAL_PX * lens.unproject([[60.0, 200.0]])[0] + CENTRE_PX
    assert want[0] < 58
    assert want[1] > 202
    np.testing.assert_allclose(centre, want, atol=0.1)


def test_detail_beyond_nyquist_vanishes_and_detail_below_it_stays() -> None:
    """A pinhole lens, a picture three times coarser: 0.3 cycles a sensor pixel would alias to 0.1 a new pixel."""
    lens = radial_lens(k=0.0)
    rows, columns = np.indices(SIZE)
    third = Pinhole(np.array([[FOCAL_PX / 3, 0, 52.8], [0, FOCAL_PX / 3, 39.5], [0, 0, 1]]), (80, 106))
    for freq_cpp, along in ((0.3, columns), (0.23, rows), (0.45, rows)):
        got = undistort(0.5 + 0.5 * np.cos(2 * np.pi * freq_cpp * along), lens, third)
        inner = got.image[8:-8, 8:-8]
        np.testing.assert_allclose(inner, 0.5, atol=0.02)
    x = FOCAL_PX * third.rays(np.arange(106), np.arange(80))[..., 0] + CENTRE_PX[0]
    got = undistort(0.5 + 0.5 * np.cos(2 * np.pi * 0.1 * columns), lens, third)
    np.testing.assert_allclose(got.image[8:-8, 8:-8], (0.5 + 0.5 * np.cos(2 * np.pi * 0.1 * x))[8:-8, 8:-8], atol=0.02)


def test_a_coarser_picture_keeps_its_light_without_seams() -> None:
    lens = radial_lens()
    wide = pinhole_view(lens, SIZE, "full", (150, 200))
    got = undistort(np.full(SIZE, 0.7), lens, wide)
    np.testing.assert_allclose(got.image[got.seen], 0.7, atol=1e-5)


def test_what_the_sensor_did_not_see_is_black_and_counted() -> None:
    lens = radial_lens(k=0.0)
    matrix = lens.camera_matrix.copy()
    matrix[0, 2] += 160.25  # half a picture to the right: the left half looks beyond the sensor
    view = Pinhole(matrix, SIZE)
    got = undistort(np.ones(SIZE), lens, view)
    np.testing.assert_array_equal(got.seen, np.broadcast_to(np.arange(320) >= 160, SIZE))
    assert (got.image[:, :160] == 0).all()
    np.testing.assert_allclose(got.image[:, 160:], 1, atol=1e-5)
    seen, sure = shares(lens, view, SIZE)
    assert seen == pytest.approx(0.5, abs=0.01)
    assert sure == pytest.approx(0.5, abs=0.01)


def test_beyond_the_valid_region_is_seen_but_not_sure() -> None:
    lens = radial_lens(k=0.0)
    x, y = CENTRE_PX
    inner = np.array([[x - 80, y - 60], [x + 80, y - 60], [x + 80, y + 60], [x - 80, y + 60]])
    part = DistortionMap(lens.camera_matrix, lens.knots_x, lens.knots_y, lens.coefficients, inner, [0.1], ("Y",))
    assert shares(part, pinhole_view(part, SIZE), SIZE) == pytest.approx((1.0, 0.25), abs=0.01)


def test_the_full_view_holds_the_whole_sensor_and_touches_its_border() -> None:
    for k in (-0.25, 0.2):
        lens = radial_lens(k, LATERAL)
        view = pinhole_view(lens, SIZE, "full")
        border = np.array([[x, y] for x in np.linspace(0, 319, 40) for y in (0, 239)] + [[0, 120], [319, 120]])
        landed = []
        for channel in "RGB":
            rays = lens.unproject(border, channel)
            landed.append(rays * view.camera_matrix[0, 0] + view.camera_matrix[:2, 2])
        low, high = np.min(landed, axis=(0, 1)), np.max(landed, axis=(0, 1))
        assert (low > -0.51).all()
        assert (high < [319.51, 239.51]).all()
        assert min(*(low + 0.5), *([319.5, 239.5] - high)) < 0.01


def test_the_full_view_of_a_fisheye_ends_at_170_degrees() -> None:
    lens = DistortionMap(
        np.array([[80.0, 0, CENTRE_PX[0]], [0, 80.0, CENTRE_PX[1]], [0, 0, 1]]),  # 90 degrees at 160 px
        np.linspace(-3, 3, 12),
        np.linspace(-3, 3, 12),
        np.zeros((1, 2, 8, 8)),
        np.array([[0.0, 119], [319, 119], [160, 120]]),
        np.array([0.1]),
        ("Y",),
    )
    rays = pinhole_view(lens, SIZE, "full").fov_deg[0]
    assert 169 < rays < 170.01


@pytest.mark.parametrize("angle", [40.0, 90.0, 120.0])
def test_an_angle_asked_for_is_the_angle_across(angle: float) -> None:
    view = pinhole_view(radial_lens(), SIZE, angle, (600, 800))
    across, down, corner = view.fov_deg
    assert across == pytest.approx(angle)
    assert np.tan(np.radians(down) / 2) == pytest.approx(0.75 * np.tan(np.radians(angle) / 2))
    assert np.tan(np.radians(corner) / 2) == pytest.approx(1.25 * np.tan(np.radians(angle) / 2))
    np.testing.assert_allclose(view.camera_matrix[:2, 2], [399.5, 299.5])


def test_keep_keeps_the_focal_length_and_the_middle() -> None:
    lens = radial_lens()
    same, larger = pinhole_view(lens, SIZE), pinhole_view(lens, SIZE, "keep", (340, 420))
    np.testing.assert_array_equal(same.camera_matrix, lens.camera_matrix)
    np.testing.assert_allclose(larger.camera_matrix[:2, 2], CENTRE_PX + 50)


@pytest.mark.parametrize("fov", [0.0, -3.0, 171.0, float("nan"), "wide"])
def test_angles_that_are_none_are_refused(fov: float) -> None:
    with pytest.raises(ValueError, match="fov"):
        pinhole_view(radial_lens(), SIZE, fov)


def test_the_tables_are_what_remap_takes() -> None:
    lens = radial_lens(lateral=LATERAL)
    view = pinhole_view(lens, SIZE, "keep", (300, 400))
    tables = remap_tables(lens, view, SIZE, "R")
    assert tables.dtype == np.float32
    assert tables.shape == (300, 400, 2)
    rays = view.rays(np.array([37]), np.array([200])).reshape(1, 2)
    np.testing.assert_allclose(tables[200, 37], lens.project(rays, "R")[0], atol=1e-3)
    picture = taken(lens, "R").astype(np.float32)
    seen = tables[..., 0] != UNSEEN
    read = cv2.remap(picture, tables, None, cv2.INTER_CUBIC)
    ours = undistort(np.stack([picture] * 3, axis=-1), lens, view)
    assert (tables[~seen] == UNSEEN).all()
    assert 0.3 < seen.mean() < 1
    assert psnr(read, ours.image[..., 0], ours.seen) > 40


def test_a_folded_map_shows_nothing_twice() -> None:
    lens = radial_lens(k=-1.0)  # turns back at tan(theta) = 0.577, 115 px from the middle
    view = Pinhole(lens.camera_matrix, (240, 560))
    tables = remap_tables(lens, view, SIZE, "Y")
    row = tables[120]
    ray = (np.arange(560) - CENTRE_PX[0]) / FOCAL_PX
    assert (row[ray > 0.62] == UNSEEN).all()
    assert (row[(ray > -0.4) & (ray < 0.55)] != UNSEEN).all()


def test_a_mosaic_and_other_shapes_are_refused() -> None:
    colour = radial_lens(lateral=LATERAL)
    view = pinhole_view(colour, SIZE)
    with pytest.raises(ImageError, match=r"mosaic.*Demosaic"):
        undistort(np.zeros(SIZE), colour, view)
    with pytest.raises(ImageError, match=r"\(H, W, 3\)"):
        undistort(np.zeros((*SIZE, 4)), colour, view)
    with pytest.raises(ImageError, match="not finite"):
        undistort(np.full((*SIZE, 3), np.nan), colour, view)


def test_a_picture_that_the_sample_camera_distorted_comes_back() -> None:
    """Closer than through the same tables with OpenCV's cubic: the scene a little blurred, as a lens gives it."""
    bank = PsfBank.open(SAMPLE_CAPTURES / "truth.h5")
    lens = bank.at().distortion
    assert lens is not None
    scene_srgb = cv2.imread(str(SAMPLE_CAPTURES / "scene.png"))[..., ::-1] / np.float32(255)
    sharp = cv2.GaussianBlur(srgb_decode(scene_srgb), (0, 0), 0.7)
    picture = Simulator(bank.at(), ["distortion"])(sharp, np.random.default_rng(0))
    view = pinhole_view(lens, bank.camera.size_px)
    got = undistort(picture, lens, view)
    inner = np.zeros(bank.camera.size_px, dtype=bool)
    inner[8:-8, 8:-8] = True
    tables = [remap_tables(lens, view, bank.camera.size_px, c) for c in "RGB"]
    others = [
        cv2.remap(p.copy(), t, None, cv2.INTER_CUBIC) for p, t in zip(np.moveaxis(picture, -1, 0), tables, strict=True)
    ]
    assert psnr(got.image, sharp, got.seen & inner) > 55
    assert psnr(got.image, sharp, got.seen & inner) > psnr(np.stack(others, axis=-1), sharp, got.seen & inner) + 2
    assert psnr(picture, sharp, got.seen & inner) < 20
