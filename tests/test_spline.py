"""Fast tensor splines against scipy's: even and uneven knots, derivatives, and the straight pieces beyond."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import NdBSpline

from psfbank.spline import BLOCK, Pieces, Surface, blocks

EVEN = np.linspace(-1.0, 1.0, 14)
UNEVEN = np.array([-1.0, -0.9, -0.7, -0.6, -0.2, -0.15, 0.0, 0.4, 0.5, 0.55, 0.8, 1.0])
KNOTS = pytest.mark.parametrize("knots", [EVEN, UNEVEN], ids=["even", "uneven"])


def made_of(knots_x: np.ndarray, knots_y: np.ndarray) -> tuple[np.ndarray, NdBSpline, Surface]:
    coefficients = np.random.default_rng(0).normal(size=(2, len(knots_y) - 4, len(knots_x) - 4))
    reference = NdBSpline((knots_y, knots_x), np.moveaxis(coefficients, 0, -1), 3)
    return coefficients, reference, Surface.of(knots_x, knots_y, coefficients)


@KNOTS
def test_values_and_slopes_are_scipys(knots: np.ndarray) -> None:
    _, reference, surface = made_of(knots, EVEN + 0.1)
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(knots[3], knots[-4], 300), knots[3:-3]])
    y = rng.uniform(EVEN[3] + 0.1, EVEN[-4] + 0.1, len(x))
    at = np.column_stack([y, x])
    value, along_x, along_y = surface.with_slopes(x, y)
    np.testing.assert_allclose(surface.at(x, y), reference(at).T, atol=1e-12)
    np.testing.assert_allclose(value, reference(at).T, atol=1e-12)
    np.testing.assert_allclose(along_x, reference(at, nu=(0, 1)).T, atol=1e-10)
    np.testing.assert_allclose(along_y, reference(at, nu=(1, 0)).T, atol=1e-10)


@KNOTS
def test_x_and_y_are_not_exchanged(knots: np.ndarray) -> None:
    columns, rows = np.arange(len(knots) - 4.0), np.arange(len(EVEN) - 4.0)
    surface = Surface.of(knots, EVEN, np.stack(np.meshgrid(columns, rows)))
    (x0, y0), (x1, y1), (x2, y2) = surface.at(np.array([0.0, 0.1, 0.0]), np.array([0.0, 0.0, 0.1])).T
    assert x1 > x0 + 0.01
    assert y1 == pytest.approx(y0)
    assert y2 > y0 + 0.01
    assert x2 == pytest.approx(x0)


@KNOTS
@given(st.floats(-3.0, 3.0), st.floats(-3.0, 3.0))
def test_beyond_the_knots_a_line_goes_on(knots: np.ndarray, x: float, y: float) -> None:
    _, reference, surface = made_of(knots, EVEN)
    inside_x, inside_y = np.clip(x, knots[3], knots[-4]), np.clip(y, EVEN[3], EVEN[-4])
    dx, dy = x - inside_x, y - inside_y

    def there(*nu: int) -> np.ndarray:
        return reference([[inside_y, inside_x]], nu=nu)[0]

    want = there(0, 0) + dx * there(0, 1) + dy * there(1, 0) + dx * dy * there(1, 1)
    got, along_x, along_y = surface.with_slopes(np.array([x]), np.array([y]))
    np.testing.assert_allclose(got[:, 0], want, atol=1e-9)
    np.testing.assert_allclose(along_x[:, 0], there(0, 1) + dy * there(1, 1), atol=1e-9)
    np.testing.assert_allclose(along_y[:, 0], there(1, 0) + dx * there(1, 1), atol=1e-9)


@KNOTS
def test_nan_stays_nan_and_spoils_no_other(knots: np.ndarray) -> None:
    _, _, surface = made_of(knots, EVEN)
    got = surface.at(np.array([0.1, np.nan, 0.1]), np.array([0.2, 0.2, np.nan]))
    assert np.isfinite(got[:, 0]).all()
    assert np.isnan(got[:, 1:]).all()


def test_knots_at_the_ends_may_be_repeated() -> None:
    knots = np.array([0.0, 0, 0, 0, 1, 2, 4, 4, 4, 4])
    _, reference, surface = made_of(knots, EVEN)
    x = np.linspace(0, 4, 41)
    y = np.zeros(41)
    np.testing.assert_allclose(surface.at(x, y), reference(np.column_stack([y, x])).T, atol=1e-12)


def test_even_knots_need_no_search() -> None:
    assert Pieces.of(EVEN).per_unit == pytest.approx(6.5)
    assert Pieces.of(UNEVEN).per_unit == 0


def test_blocks_cover_every_place_once() -> None:
    for count in (0, 1, BLOCK, 2 * BLOCK + 3):
        assert [i for part in blocks(count) for i in range(part.start, part.stop)] == list(range(count))
