from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from psfbank.degrade import CameraShake, LinearMotion, ObjectMotion, SpinBlur, ZoomBlur, region_moved
from psfbank.degrade.kernels import path
from psfbank.degrade.motion import shaken_path
from psfbank.metrics import mtf_along
from psfbank.zernike import centroid_px


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def blob(shape: tuple[int, int], x: float, y: float, sigma: float = 3.0) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))


def point(size: int = 61) -> np.ndarray:
    image = np.zeros((size, size))
    image[size // 2, size // 2] = 1
    return image


def moments(image: np.ndarray) -> tuple[float, float, float, float, float]:
    """Centroid x, y and second moments xx, yy, xy."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    weight = image / image.sum(dtype=np.float64)
    cx, cy = float((weight * x).sum()), float((weight * y).sum())
    dx, dy = x - cx, y - cy
    return cx, cy, float((weight * dx**2).sum()), float((weight * dy**2).sum()), float((weight * dx * dy).sum())


@pytest.mark.parametrize("angle_deg", [0.0, 90.0])
@pytest.mark.parametrize("length_px", [4.0, 7.0, 10.5])
def test_motion_transfers_as_a_sinc(length_px: float, angle_deg: float) -> None:
    """Each step lies between two pixels and is shared by them: a triangle's transfer function comes on top."""
    kernel = LinearMotion(length_px, angle_deg)(point(), rng()).astype(np.float64)
    freq = np.linspace(0, 0.3, 40)
    expected = np.abs(np.sinc(length_px * freq) * np.sinc(freq) ** 2)
    np.testing.assert_allclose(mtf_along(kernel, np.radians(angle_deg), freq), expected, atol=0.02)
    np.testing.assert_allclose(mtf_along(kernel, np.radians(angle_deg + 90), freq), 1, atol=1e-6)


@pytest.mark.parametrize("zero", [1, 2])
def test_motion_is_blind_where_whole_waves_pass(zero: int) -> None:
    kernel = LinearMotion(8.0)(point(), rng())
    assert mtf_along(kernel, 0.0, np.array([zero / 8]))[0] < 1e-6


def test_motion_runs_from_right_to_down() -> None:
    *_, xx, yy, xy = moments(LinearMotion(20, 30)(point(), rng()))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    assert np.degrees(angle) == pytest.approx(30, abs=0.5)


@given(seed=st.integers(0, 2**20), length_px=st.floats(0, 60), anxiety=st.floats(0, 1), exposure=st.floats(0, 1))
@settings(max_examples=30)
def test_a_shaken_kernel_keeps_light_and_centre(seed: int, length_px: float, anxiety: float, exposure: float) -> None:
    kernel = CameraShake(length_px, anxiety, exposure).kernel(rng(seed))
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2 == 1
    assert kernel.shape[0] <= 2 * length_px + 5
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(centroid_px(kernel), 0, atol=1e-9)


@pytest.mark.parametrize("anxiety", [0.0, 0.2, 1.0])
def test_a_path_is_as_long_as_it_says(anxiety: float) -> None:
    at = shaken_path(30.0, anxiety, 1.0, rng(3))
    assert np.hypot(*np.diff(at, axis=0).T).sum() == pytest.approx(30)
    part = shaken_path(30.0, anxiety, 0.333, rng(3))
    assert np.hypot(*np.diff(part, axis=0).T).sum() == pytest.approx(10, abs=0.01)
    np.testing.assert_allclose(part[:-1], at[: len(part) - 1])


def test_a_calm_hand_moves_straight_and_an_anxious_one_does_not_get_far() -> None:
    spans = {a: [np.hypot(*np.ptp(shaken_path(1, a, 1, rng(s)), axis=0)) for s in range(40)] for a in (0, 0.3, 1)}
    np.testing.assert_allclose(spans[0], 1)
    assert 1 > np.mean(spans[0.3]) > np.mean(spans[1]) > 0.1


def test_paths_have_no_preferred_direction() -> None:
    ends = np.array([shaken_path(1, 0.2, 1, rng(s))[-1] for s in range(400)])
    assert np.abs(ends.mean(0)).max() < 5 * 0.7 / 20


def test_a_path_is_seen_the_way_round_it_ran() -> None:
    """An L: down, then right; its corner lies at the bottom left of the array."""
    kernel = path(np.array([[0.0, 0.0], [0.0, 10.0], [10.0, 10.0]]))
    half = len(kernel) // 2
    left, low = -2.5, 2.5  # of the two legs, about the centroid
    rows, columns = np.nonzero(kernel > kernel.max() / 3)
    assert np.all((np.abs(columns - half - left) < 1) | (np.abs(rows - half - low) < 1))
    assert kernel[: half + 1, half + 2 :].sum() == 0


def test_only_the_object_moves() -> None:
    image = np.full((80, 100), 0.2)
    image[30:50, 40:60] = 0.9
    mask = image > 0.5
    out = region_moved(image, mask, 12, 0)

    *_, xx, yy, _ = moments(np.maximum(out - 0.2, 0))
    assert xx == pytest.approx((20**2 - 1 + 12**2) / 12, rel=0.03)
    assert yy == pytest.approx((20**2 - 1) / 12, rel=0.01)
    np.testing.assert_allclose(out[:28], 0.2, atol=1e-6)
    np.testing.assert_allclose(out[30:50, 46:54], 0.9, atol=1e-5)
    assert 0.2 < out[40, 38] < 0.9


def test_what_an_object_uncovers_looks_like_its_surroundings() -> None:
    image = np.tile(np.linspace(0, 1, 60), (50, 1))
    mask = np.zeros(image.shape, dtype=bool)
    mask[20:30, 20:40] = True
    still = region_moved(image, mask, 0, 0)
    np.testing.assert_allclose(still, image, atol=1e-6)
    with pytest.raises(ValueError, match="mask"):
        region_moved(image, mask[:-1], 5, 0)


def test_everything_or_nothing_moves() -> None:
    image = rng().random((30, 40, 3)).astype(np.float32)
    np.testing.assert_array_equal(region_moved(image, np.zeros((30, 40), bool), 9, 20), image)
    whole = region_moved(image, np.ones((30, 40), bool), 9, 20)
    np.testing.assert_array_equal(whole, LinearMotion(9, 20)(image, rng()))


def test_an_object_is_where_its_shares_say() -> None:
    image = rng().random((60, 90)).astype(np.float32)
    changed = np.abs(ObjectMotion(6, 0, x_share=0.25, y_share=0.75, radius_share=0.15)(image, rng()) - image) > 1e-4
    cx, cy, *_ = moments(changed.astype(float))
    assert (cx, cy) == (pytest.approx(22, abs=1.5), pytest.approx(44.5, abs=1.5))


def test_a_turn_draws_arcs() -> None:
    """A blob right of the centre is spread along y by the arc's length, one on the centre not at all."""
    shape = (121, 121)
    image = blob(shape, 60, 60) + blob(shape, 105, 60)
    out = SpinBlur(20.0)(image, rng())
    arc = 45 * np.radians(20)
    *_, xx, yy, xy = moments(np.where(np.mgrid[:121, :121][1] > 80, out, 0))

    assert yy == pytest.approx(9 + arc**2 / 12, rel=0.03)
    assert xx == pytest.approx(9, rel=0.05)
    assert abs(xy) < 0.05
    np.testing.assert_allclose(out[55:66, 55:66], image[55:66, 55:66], atol=2e-3)


def test_a_turn_about_another_place() -> None:
    image = blob((101, 121), 30, 25)
    out = SpinBlur(40.0, x_share=30.5 / 121, y_share=25.5 / 101)(image, rng())
    np.testing.assert_allclose(out, image, atol=2e-3)


def test_a_turn_is_the_mean_of_turned_pictures() -> None:
    image = sum(blob((81, 91), x, y) for x, y in ((20, 30), (60, 20), (70, 60)))
    turned = [ndimage.rotate(image, angle, reshape=False, order=3) for angle in np.linspace(-5, 5, 81)]
    inner = np.s_[12:-12, 12:-12]
    np.testing.assert_allclose(SpinBlur(10.0)(image, rng())[inner], np.mean(turned, axis=0)[inner], atol=6e-3)


def test_no_turn_and_no_zoom_change_nothing_but_by_interpolation() -> None:
    image = ndimage.gaussian_filter(rng().random((60, 70)), 2)
    np.testing.assert_allclose(SpinBlur(0)(image, rng()), image, atol=2e-3)
    np.testing.assert_allclose(ZoomBlur(0)(image, rng()), image, atol=1e-6)


def test_a_zoom_draws_outward() -> None:
    """A place at distance r runs from r to (1 + zoom) r at a speed that grows with it: log r is uniform."""
    out = ZoomBlur(0.25)(blob((201, 201), 130, 100), rng())
    cx, cy, xx, yy, _ = moments(out)
    stretch = np.exp(np.linspace(0, np.log(1.25), 2001))
    weight = stretch**2 / np.sum(stretch**2)  # an enlarged blob holds more light
    mean = np.sum(weight * stretch)
    assert cx == pytest.approx(100 + 30 * mean, abs=0.05)
    assert cy == pytest.approx(100, abs=0.02)
    blurred = 9 * np.sum(weight * stretch**2)
    assert xx == pytest.approx(blurred + 900 * np.sum(weight * (stretch - mean) ** 2), rel=0.02)
    assert yy == pytest.approx(blurred, rel=0.02)
