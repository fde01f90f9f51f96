"""Resampling against closed forms: smooth pictures are read exactly, fine detail vanishes, and nothing moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank.resample import Edge, Positions, resample, shrink

Array = np.ndarray


def smooth(y: Array, x: Array) -> Array:
    return 0.5 + 0.3 * np.sin(x / 7 + y / 11) + 0.2 * np.cos(y / 5)


def zone_plate(size: int) -> tuple[Array, Array]:
    """A chirp, and the larger of its frequencies along x and y, cycles a sample: 0 in the middle, 1/2 at the border."""
    at = np.arange(size) - (size - 1) / 2
    r2 = at[:, None] ** 2 + at[None] ** 2
    return 0.5 + 0.5 * np.cos(np.pi * r2 / size), np.maximum(np.abs(at)[:, None], np.abs(at)[None]) / size


def scaled(factor: float, offset: float = 0.0) -> Positions:
    def positions(y: Array, x: Array) -> Array:
        at = [factor * v + (factor - 1) / 2 + offset for v in (x, y)]
        return np.stack(np.meshgrid(*at), axis=-1)

    return positions


@pytest.mark.parametrize("edge", ["reflect", "mirror"])
def test_a_smooth_picture_is_read_exactly_between_its_pixels(edge: Edge) -> None:
    y, x = np.arange(60.0), np.arange(80.0)

    def turned(rows: Array, columns: Array) -> Array:
        gx, gy = np.meshgrid(columns, rows)
        return np.stack([0.96 * gx - 0.2 * gy + 19.3, 0.2 * gx + 0.96 * gy + 9.7], axis=-1)

    got = resample(smooth(y[:, None], x[None]), turned, (30, 40), edge)
    at = turned(np.arange(30.0), np.arange(40.0))
    assert np.abs(got - smooth(at[..., 1], at[..., 0])).max() < 1e-4


def test_what_nobody_sees_is_black() -> None:
    def half(y: Array, x: Array) -> Array:
        at = np.stack(np.meshgrid(x, y), axis=-1)
        at[:, x > 10] = np.nan
        return at

    got = resample(np.ones((20, 20)), half, (20, 20))
    np.testing.assert_array_equal(got[:, 11:], 0)
    np.testing.assert_allclose(got[:, :11], 1, rtol=1e-6)


@pytest.mark.parametrize("path", ["resample", "shrink"])
def test_a_zone_plate_shrunk_four_times_holds_no_alias(path: str) -> None:
    """Beyond the new Nyquist frequency nothing is left; the rings well within it keep their contrast."""
    picture, frequency = zone_plate(2048)
    got = resample(picture, scaled(4), (512, 512)) if path == "resample" else shrink(picture[..., None], 4)[..., 0]
    new_frequency = 4 * shrink(frequency[..., None], 4)[..., 0]  # cycles a new pixel
    # rings are read over the filter's reach, in which their frequency changes by 0.05; the mirrored border is a kink
    aliased = (new_frequency > 0.55)[8:-8, 8:-8]
    assert np.abs(got - 0.5)[8:-8, 8:-8][aliased].max() < 0.5 * 0.01
    kept = got[(new_frequency > 0.1) & (new_frequency < 0.25)]
    assert kept.max() > 0.98
    assert kept.min() < 0.02


@given(st.integers(2, 5), st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
def test_shrinking_moves_nothing(factor: int, slope_y: float, slope_x: float) -> None:
    """Pixel k covers samples s k .. s k + s - 1: a ramp stays the ramp of the pixels' centres."""
    fine = (np.arange(30 * factor) - (factor - 1) / 2) / factor
    ramp = slope_y * fine[:, None, None] + slope_x * fine[None, :, None]
    coarse = np.arange(30)
    want = slope_y * coarse[:, None] + slope_x * coarse[None]
    np.testing.assert_allclose(shrink(ramp, factor)[8:-8, 8:-8, 0], want[8:-8, 8:-8], atol=2e-5)


def test_shrinking_keeps_a_flat_field_to_its_edges() -> None:
    np.testing.assert_allclose(shrink(np.full((24, 36, 3), 0.7), 3), 0.7, rtol=1e-6)
    np.testing.assert_allclose(shrink(np.full((2, 4, 1), 0.7), 2), 0.7, rtol=1e-6)


def test_threads_change_nothing() -> None:
    picture, _ = zone_plate(300)
    one, two = (resample(picture, scaled(1.7, 0.3), (170, 170), workers=n) for n in (1, 2))
    np.testing.assert_array_equal(one, two)
