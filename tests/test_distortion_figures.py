"""Figures of distortion against lenses in closed form: third-order barrel and pincushion, fisheye, scaled colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import BSpline

from psfbank.distortion_figures import (
    chromatic_displacement,
    field_of_view_deg,
    local_geometric_distortion_percent,
    tv_distortion_percent,
)
from psfbank.model import DistortionMap

SIZE = (480, 640)
FOCAL_PX, HALF_PX = 500.0, 400.0
CENTRE_PX = np.array([319.5, 239.5])


def lens(k: float, scales: tuple[float, ...] = (1.0,), shift_px: float = 0.0) -> DistortionMap:
    """pixel = s f tan(theta) (1 + k tan^2 theta) + c, the principal point `shift_px` to the right of the middle."""
    counts, reaches = (24, 20), (0.75, 0.6)
    knots = [r / (n - 3) * (2 * np.arange(-3.0, n + 1) - (n - 3)) for n, r in zip(counts, reaches, strict=True)]
    nodes = [np.linspace(at[3], at[-4], 6 * n) for at, n in zip(knots, counts, strict=True)]
    u = np.stack(np.meshgrid(*nodes), axis=-1)
    rays = u / (1 - np.sum(u**2, axis=-1, keepdims=True) / 4)
    to_x, to_y = (np.linalg.pinv(BSpline.design_matrix(at, t, 3).toarray()) for at, t in zip(nodes, knots, strict=True))
    bent = rays * (1 + k * np.sum(rays**2, axis=-1, keepdims=True))
    moved = [FOCAL_PX * (scale * bent - u) for scale in scales]
    coefficients = [[to_y @ m[..., axis] @ to_x.T for axis in range(2)] for m in moved]
    matrix = np.array([[FOCAL_PX, 0, CENTRE_PX[0] + shift_px], [0, FOCAL_PX, CENTRE_PX[1]], [0, 0, 1]])
    region = np.array([[-1.0, -1], [640, -1], [640, 480], [-1, 480]])
    names = ("Y",) if len(scales) == 1 else ("R", "G", "B")
    return DistortionMap(matrix, *knots, np.array(coefficients), region, np.zeros(len(scales)), names)


def fisheye(focal_px: float) -> DistortionMap:
    """Stereographic: r = 2 f tan(theta / 2)."""
    matrix = np.array([[focal_px, 0, CENTRE_PX[0]], [0, focal_px, CENTRE_PX[1]], [0, 0, 1]])
    knots = np.linspace(-4, 4, 12)
    region = np.array([[0.0, 0], [639, 0], [639, 479]])
    return DistortionMap(matrix, knots, knots, np.zeros((1, 2, 8, 8)), region, np.array([0.1]), ("Y",))


def radius_of(tan: float, k: float) -> float:
    return FOCAL_PX * tan * (1 + k * tan**2)


@pytest.mark.parametrize("k", [-0.2, 0.0, 0.15])
def test_local_distortion_of_a_third_order_lens(k: float) -> None:
    tan = np.array([0.1, 0.3, 0.5, 0.7])
    heights = np.array([radius_of(t, k) for t in tan]) / HALF_PX
    mean, spread = local_geometric_distortion_percent(lens(k), SIZE, heights)
    np.testing.assert_allclose(mean, 100 * k * tan**2, atol=2e-3)
    np.testing.assert_allclose(spread, 0, atol=2e-3)


def test_beyond_the_valid_region_and_the_picture_nothing_is_said() -> None:
    part = replace(lens(-0.1), valid_region=np.array([[120.0, 40], [520, 40], [520, 440], [120, 440]]))
    mean, spread = local_geometric_distortion_percent(part, SIZE, [0.4, 0.8, 1.1])
    assert np.isfinite(mean[0])
    assert np.isnan(mean[1:]).all()
    assert np.isnan(spread[1:]).all()


def test_a_decentred_lens_spreads_over_azimuths() -> None:
    _, spread = local_geometric_distortion_percent(lens(-0.2, shift_px=30.0), SIZE, 0.5)
    assert spread[0] > 1


@pytest.mark.parametrize("k", [-0.2, 0.15])
def test_tv_distortion_of_a_third_order_lens(k: float) -> None:
    # the chart's corner (X, Y), the image of its middle lines' ends, and of its sides' (Smia: heights left and right)
    share = 1.0
    for _ in range(200):  # barrel: middle lines touch the border first; pincushion: corners
        x, y = share * 320 / FOCAL_PX, share * 240 / FOCAL_PX
        widest = max(x * (1 + k * x**2), x * (1 + k * (x**2 + y**2))) * FOCAL_PX / 320
        highest = max(y * (1 + k * y**2), y * (1 + k * (x**2 + y**2))) * FOCAL_PX / 240
        share /= max(widest, highest) ** 0.5
    horizontal, vertical = tv_distortion_percent(lens(k), SIZE)
    assert horizontal == pytest.approx(100 * k * y**2 / (1 + k * x**2), abs=0.01)
    assert vertical == pytest.approx(100 * k * x**2 / (1 + k * y**2), abs=0.01)
    assert np.sign(vertical) == np.sign(k)


def test_a_pinhole_has_no_distortion() -> None:
    assert tv_distortion_percent(lens(0.0), SIZE) == pytest.approx((0, 0), abs=1e-3)


def test_field_of_view_of_a_pinhole_and_of_a_fisheye() -> None:
    want = [2 * np.degrees(np.arctan(half / FOCAL_PX)) for half in (320, 240, 400)]
    assert field_of_view_deg(lens(0.0), SIZE) == pytest.approx(want, abs=1e-3)
    round_lens = fisheye(150.0)
    want = [4 * np.degrees(np.arctan(half / 150 / 2)) for half in (320, 240, 400)]
    assert want[2] > 180
    assert field_of_view_deg(round_lens, SIZE) == pytest.approx(want, abs=1e-6)


def test_no_flat_chart_fills_the_picture_of_a_fisheye() -> None:
    assert np.isnan(tv_distortion_percent(fisheye(60.0), SIZE)).all()  # 90 degrees at 120 px


def test_lateral_colour_of_scaled_channels() -> None:
    colour = lens(-0.1, (0.998, 1.0, 1.001))
    grid = np.stack(np.meshgrid(np.linspace(0, 639, 65), np.linspace(0, 479, 65)), axis=-1)
    radius = np.linalg.norm(grid - CENTRE_PX, axis=-1)
    for channel, scale in (("R", 0.002), ("B", 0.001)):
        found = chromatic_displacement(colour, SIZE, channel)
        assert found.max_px == pytest.approx(scale * radius.max(), rel=1e-3)
        assert found.rms_px == pytest.approx(scale * np.sqrt(np.mean(radius**2)), rel=1e-3)
        assert found.max_percent == pytest.approx(100 * found.max_px / HALF_PX)
        assert found.rms_percent == pytest.approx(100 * found.rms_px / HALF_PX)
    nowhere = replace(colour, valid_region=np.array([[-9.0, -9], [-8, -9], [-8, -8]]))
    assert np.isnan(chromatic_displacement(nowhere, SIZE, "R").max_px)
