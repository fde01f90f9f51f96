"""The accurate SFR is that of edges in closed form, at any slant, and its band covers the truth as often as it says."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from edge_charts import Blur, blur_of, edge_about, sites

from calib.edge.accurate import FREQ_CPP, AccurateSfr, sfr_accurate
from calib.edge.response import crossing_cpp
from psfbank.errors import FitFailed

DARK, STEP = 0.16, 0.67
LENGTH_PX = 100.0
SLANTS_DEG = (2.0, 5.0, 9.0, 14.04, 18.43, 22.0, 26.565, 33.0, 40.0, 43.0)
MTF50S_CPP = (0.08, 0.15, 0.25, 0.4, 0.5)
TO_NYQUIST = FREQ_CPP <= 0.5

Array = npt.NDArray[np.float64]


def measured(
    blur: Blur,
    angle_rad: float,
    noise: float = 0.0,
    rng: np.random.Generator | None = None,
    *,
    middle_px: tuple[float, float] = (100.3, 99.8),
    length_px: float = LENGTH_PX,
) -> AccurateSfr:
    """SFR of an edge whose noise is given in shares of its step."""
    middle = np.array(middle_px)
    xy, across = sites(angle_rad, middle, length_px)
    values = DARK + STEP * blur.esf(across, angle_rad)
    if rng is not None:
        values = values + rng.normal(0, noise * STEP, len(values))
    about = edge_about(middle, angle_rad, 0.19 / blur.mtf50_cpp(angle_rad), length_px)
    return sfr_accurate(values, xy, about)


def mtf50(sfr: AccurateSfr) -> float:
    return crossing_cpp(sfr.response.freq_cpp, sfr.response.sfr, 0.5)


@pytest.mark.parametrize("mtf50_cpp", MTF50S_CPP)
def test_optics_and_pixel_are_measured_as_they_are(mtf50_cpp: float) -> None:
    """Without noise, at slants that sample few phases as well, on every side of a square."""
    for k, slant in enumerate(SLANTS_DEG):
        angle = np.radians(slant + 90 * k)
        blur = blur_of(mtf50_cpp, angle)
        sfr = measured(blur, angle)

        assert mtf50(sfr) == pytest.approx(mtf50_cpp, rel=1e-3), slant
        error = np.abs(sfr.response.sfr - np.abs(blur.otf(FREQ_CPP, angle)))
        assert error[TO_NYQUIST].max() < 1e-3, slant
        assert (sfr.dark, sfr.step) == pytest.approx((DARK, STEP), abs=1e-3)
        assert not sfr.contaminated


@pytest.mark.parametrize("pixel", [False, True])
def test_the_response_is_told_whole(pixel: bool) -> None:
    angle = np.radians(7.0)
    blur = blur_of(0.25, angle, pixel)
    response = measured(blur, angle).response

    assert response.freq_cpp[[0, -1]] == pytest.approx([0, 1])
    assert response.sfr[0] == 1
    assert response.sfr_std[0] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(response.esf, DARK + STEP * blur.esf(response.x_px, angle), atol=0.01)
    lsf = (blur.esf(response.x_px + 1e-4, angle) - blur.esf(response.x_px - 1e-4, angle)) / 2e-4
    np.testing.assert_allclose(response.lsf, lsf, atol=0.01)
    assert np.sum(response.lsf) * (response.x_px[1] - response.x_px[0]) == pytest.approx(1, abs=1e-3)


def test_bands_cover_the_truth_as_often_as_one_standard_deviation_does() -> None:
    rng = np.random.default_rng(11)
    seen = np.arange(8, 129, 8)
    within, of_mtf50, errors = [], [], []
    for mtf50_cpp, noise in product((0.08, 0.12, 0.2, 0.3, 0.4, 0.5), (0.01, 0.03)):
        for slant in (4.0, 7.0, 9.0, 11.0, 16.0, 21.0, 23.0, 30.0, 33.0, 35.0, 38.0, 41.0):
            angle = np.radians(slant + 90 * rng.integers(4))
            blur = blur_of(mtf50_cpp, angle)
            sfr = measured(blur, angle, noise, rng, middle_px=tuple(100 + rng.uniform(-0.5, 0.5, 2)))
            error = np.abs(sfr.response.sfr - np.abs(blur.otf(FREQ_CPP, angle)))
            within.append(np.mean(error[seen] < sfr.response.sfr_std[seen]))
            of_mtf50.append(abs(mtf50(sfr) - mtf50_cpp) < sfr.response.mtf50_std_cpp)
            errors.append((mtf50(sfr) / mtf50_cpp - 1) / noise)

    assert 0.60 <= np.mean(within) <= 0.76
    assert 0.60 <= np.mean(of_mtf50) <= 0.76
    assert abs(np.mean(errors)) < 0.1, "in noises of a sample"
    assert np.percentile(np.abs(errors), 95) < 0.9


def test_the_noise_is_found() -> None:
    sfr = measured(Blur(0.8), 0.15, 0.02, np.random.default_rng(3))

    assert sfr.noise == pytest.approx(0.02 * STEP, rel=0.05)


def sampled(across: Array, seed: int = 5) -> Array:
    """An edge whose LSF leans: a second step follows the first."""
    values = 0.75 * Blur(0.6).esf(across, 0.0) + 0.25 * Blur(0.9).esf(across - 1.4, 0.0)
    return DARK + STEP * values + np.random.default_rng(seed).normal(0, 0.003, len(across))


def test_a_mirrored_or_turned_picture_gives_the_same_response() -> None:
    angle, middle = 0.12, np.array([100.3, 99.8])
    xy, across = sites(angle, middle)
    values = sampled(across)
    base = sfr_accurate(values, xy, edge_about(middle, angle, 0.8)).response
    mirrored_xy, mirrored_middle = xy * [-1, 1] + [200, 0], middle * [-1, 1] + [200, 0]
    turned_xy, turned_middle = xy[:, ::-1], middle[::-1]
    for places, where, turned in (
        (mirrored_xy, mirrored_middle, np.pi - angle),
        (turned_xy, turned_middle, np.pi / 2 - angle),
    ):
        other = sfr_accurate(values, places, edge_about(where, turned, 0.8)).response
        np.testing.assert_allclose(other.sfr, base.sfr, atol=2e-3)
        np.testing.assert_allclose(other.lsf, base.lsf, atol=5e-3)
    lean = np.sum(base.lsf * base.x_px**3)
    assert lean > 0.5, "the tail lies on the bright side"


def test_a_dark_side_in_place_of_the_bright_gives_the_mirrored_response() -> None:
    """The normal points to the bright side: of the negative it points the other way."""
    angle, middle = 0.12, np.array([100.3, 99.8])
    xy, across = sites(angle, middle)
    values = sampled(across)
    base = sfr_accurate(values, xy, edge_about(middle, angle, 0.8)).response
    negative = sfr_accurate(1 - values, xy, edge_about(middle, angle + np.pi, 0.8)).response

    np.testing.assert_allclose(negative.sfr, base.sfr, atol=2e-3)
    np.testing.assert_allclose(negative.lsf[::-1], base.lsf, atol=1e-2)


def test_the_order_of_samples_tells_nothing() -> None:
    angle, middle = 0.12, np.array([100.3, 99.8])
    xy, across = sites(angle, middle)
    values, shuffled = sampled(across), np.random.default_rng(0).permutation(len(across))
    about = edge_about(middle, angle, 0.8)
    ordered, other = (sfr_accurate(values[k], xy[k], about).response for k in (np.arange(len(across)), shuffled))

    np.testing.assert_allclose(other.sfr, ordered.sfr, atol=1e-6)


@pytest.mark.parametrize("shift_px", [-0.37, 0.0, 0.25])
@pytest.mark.parametrize("angle_deg", [6.0, 100.0, -171.0])
def test_the_centroid_lies_where_the_edge_was_moved_to(shift_px: float, angle_deg: float) -> None:
    angle, middle = np.radians(angle_deg), np.array([100.3, 99.8])
    xy, across = sites(angle, middle)
    blur = Blur(0.7, pixel=True)
    noise = np.random.default_rng(2).normal(0, 0.005, len(across))
    about = edge_about(middle, angle, 0.75)
    at, moved = (sfr_accurate(blur.esf(across - s, angle) + noise, xy, about).centroid_px for s in (0.0, shift_px))

    assert moved - at == pytest.approx(shift_px, abs=2e-3)
    normal = np.array([np.cos(angle), np.sin(angle)])
    assert at == pytest.approx((middle - about.xy_px) @ normal, abs=5e-3)


@pytest.mark.parametrize("height", [0.05, -0.3])
def test_something_else_in_the_window_is_told(height: float) -> None:
    angle, middle = 0.1, np.array([100.3, 99.8])
    xy, across = sites(angle, middle)
    clean = Blur(0.7).esf(across, angle) + np.random.default_rng(1).normal(0, 0.01, len(across))
    blot = np.hypot(*(xy - middle - [14.0, 10.0]).T) < 5
    about = edge_about(middle, angle, 0.7)

    assert not sfr_accurate(clean, xy, about).contaminated
    assert sfr_accurate(clean + height * blot, xy, about).contaminated


def test_light_along_and_across_the_edge_changes_little() -> None:
    angle, middle = np.radians(5.0), np.array([100.3, 99.8])
    xy, across = sites(angle, middle, LENGTH_PX)
    blur = blur_of(0.3, angle)
    light = 1 + 1e-3 * (xy - middle) @ [0.6, 0.8]
    sfr = sfr_accurate((DARK + STEP * blur.esf(across, angle)) * light, xy, edge_about(middle, angle, 0.6, LENGTH_PX))

    assert mtf50(sfr) == pytest.approx(0.3, rel=2e-3)


@pytest.mark.parametrize("every", [2, 3])
def test_sites_of_a_mosaic_suffice(every: int) -> None:
    """A quarter and a ninth of the pixels, as those of one colour."""
    angle, middle = np.radians(8.0), np.array([100.3, 99.8])
    xy, across = sites(angle, middle, LENGTH_PX)
    own = (xy % every == 0).all(axis=1)
    blur = blur_of(0.25, angle)
    values = DARK + STEP * blur.esf(across, angle)
    sfr = sfr_accurate(values[own], xy[own], edge_about(middle, angle, 0.75, LENGTH_PX))

    assert mtf50(sfr) == pytest.approx(0.25, rel=2e-3)


@pytest.mark.parametrize("angle_deg", [0.0, 45.0, 90.0])
@pytest.mark.parametrize(("sigma_px", "noise"), [(0.38, 0.004), (6.0, 0.03)])
def test_few_samples_of_few_phases_are_measured_or_refused(angle_deg: float, sigma_px: float, noise: float) -> None:
    """Every other site of a small window, along rows, columns and the diagonal; no number is made of nothing."""
    refused = 0
    for seed in range(8):
        angle, rng = np.radians(angle_deg), np.random.default_rng(seed)
        middle = 100 + rng.uniform(-0.5, 0.5, 2)
        xy, across = sites(angle, middle, 34.0, rng.uniform(4, 12))
        own = (xy % 2 == 0).all(axis=1)
        values = Blur(sigma_px).esf(across, angle) + rng.normal(0, noise, len(across))
        try:
            sfr = sfr_accurate(values[own], xy[own], edge_about(middle, angle, sigma_px, 34.0))
        except FitFailed:
            refused += 1
            continue
        response = sfr.response
        for told in (response.sfr, response.sfr_std, response.esf, response.lsf, [sfr.centroid_px, sfr.noise]):
            assert np.isfinite(told).all()

    assert refused < 8
