"""Figures that are read off a response, against closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from calib.edge.response import Response, crossing_cpp, lp_per_mm, lw_per_ph, overshoot, sfr_at

FREQ_CPP = np.linspace(0, 1, 65)
NONE = np.full(65, np.nan)
X_PX = np.linspace(-8, 8, 129)


def response(**changed: object) -> Response:
    fields: dict[str, object] = {
        "freq_cpp": FREQ_CPP,
        "sfr": 1 - FREQ_CPP,
        "sfr_std": NONE,
        "x_px": X_PX,
        "esf": ndtr(X_PX),
        "lsf": np.exp(-(X_PX**2)),
        "mtf50_std_cpp": float("nan"),
    }
    return Response(**(fields | changed))  # type: ignore[arg-type]


@given(st.floats(0.02, 0.98))
def test_a_straight_response_is_crossed_where_it_should_be(level: float) -> None:
    assert crossing_cpp(FREQ_CPP, 1 - FREQ_CPP, level) == pytest.approx(1 - level, abs=1e-12)


def test_the_first_crossing_counts() -> None:
    wavy = 0.5 + 0.5 * np.cos(2 * np.pi * 2 * FREQ_CPP)

    assert crossing_cpp(FREQ_CPP, wavy, 0.5) == pytest.approx(0.125, abs=1e-9)


@pytest.mark.parametrize("sfr", [np.full(65, 0.6), np.linspace(0.4, 0, 65)])
def test_no_crossing_is_nan(sfr: np.ndarray) -> None:
    assert np.isnan(crossing_cpp(FREQ_CPP, sfr, 0.5))


def test_at_nyquist_and_beyond_the_data() -> None:
    assert sfr_at(FREQ_CPP, 1 - FREQ_CPP) == pytest.approx(0.5)
    assert sfr_at(FREQ_CPP, 1 - FREQ_CPP, 0.3) == pytest.approx(0.7)
    assert np.isnan(sfr_at(FREQ_CPP, FREQ_CPP, 1.5))


def test_a_lens_does_not_overshoot() -> None:
    assert overshoot(0.2 + 0.5 * ndtr(X_PX)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("turned", [slice(None), slice(None, None, -1)])
def test_sharpening_overshoots_by_its_halo(turned: slice) -> None:
    halo = 3 + 10 * (ndtr(X_PX) + 0.1 * np.exp(-((X_PX - 2.5) ** 2)) - 0.04 * np.exp(-((X_PX + 2.5) ** 2)))

    assert overshoot(halo[turned]) == pytest.approx(0.1, abs=0.01)
    assert overshoot(-halo[turned]) == pytest.approx(0.1, abs=0.01)


def test_no_step_has_no_overshoot() -> None:
    assert np.isnan(overshoot(np.ones(40)))


def test_units() -> None:
    assert lp_per_mm(0.5, pitch_um=2.0) == 250
    assert lw_per_ph(0.25, height_px=3000) == 1500


def test_a_response_is_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        response().sfr[0] = 2  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "value"),
    [("sfr", np.ones(64)), ("lsf", np.ones(64)), ("sfr_std", np.ones((65, 1))), ("freq_cpp", NONE), ("x_px", -X_PX)],
)
def test_arrays_that_do_not_belong_together_are_refused(name: str, value: np.ndarray) -> None:
    with pytest.raises(ValueError, match=name):
        response(**{name: value})
