"""Every column's LSF is the slope of its ESF, and its transform that of its LSF: told by numerical means alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.edge.shape import HEAD, Wing, Wings, esf_columns, lsf_columns, otf_columns

LEVEL = np.array([0.2, 0.6])
DARK, RISE, LIGHT = range(HEAD)
STEP_PX = 1e-4
BLURS_PX = st.floats(0.2, 6.0)
WINGS = st.lists(st.builds(Wing, st.floats(0.7, 9.0), st.booleans()), max_size=3).map(tuple)
TERMS = st.integers(2, 20)


@given(blur_px=BLURS_PX, wings=WINGS, terms=TERMS, at=st.lists(st.floats(-40, 40), min_size=1, max_size=9))
def test_lsf_is_the_slope_of_esf(blur_px: float, wings: Wings, terms: int, at: list[float]) -> None:
    x = np.array(at)
    lsf = lsf_columns(x, blur_px, wings, terms)
    step = STEP_PX * blur_px
    low, high = (esf_columns(x + side, blur_px, LEVEL, wings, terms) for side in (-step, step))

    assert lsf.shape == (len(x), HEAD + len(wings) + terms)
    steps = np.arange(lsf.shape[1]) != LIGHT
    np.testing.assert_allclose(((high - low) / (2 * step))[:, steps], lsf[:, steps], atol=2e-7 / blur_px)
    np.testing.assert_array_equal(lsf[:, [DARK, LIGHT]], 0, "what is no step has no spread")


@given(blur_px=BLURS_PX, terms=TERMS, freq_blurs=st.lists(st.floats(0, 1.2), min_size=1, max_size=9))
def test_otf_is_the_transform_of_lsf(blur_px: float, terms: int, freq_blurs: list[float]) -> None:
    """Trapezia are exact but for e^-(pi^2 / step^2 ..) where a function and all its slopes fall to nought."""
    freq = np.array(freq_blurs) / blur_px
    x = np.arange(-16, 16.01, 0.125) * blur_px
    lsf = lsf_columns(x, blur_px, (), terms)
    numeric = np.exp(-2j * np.pi * freq[:, None] * x) @ lsf * (x[1] - x[0])

    np.testing.assert_allclose(otf_columns(freq, blur_px, (), terms), numeric, atol=1e-9)


@pytest.mark.parametrize("leaning", [False, True])
@pytest.mark.parametrize("half_width", [1.0, 2.0, 8.0])
def test_otf_of_a_wing_is_the_transform_of_its_lsf(half_width: float, leaning: bool) -> None:
    """Summed far out; what lies beyond falls as 1 / x^2 and turns with the frequency: its sum is less than that."""
    blur, wings = 1.3, (Wing(half_width, leaning),)
    freq = np.array([0.05, 0.11, 0.23])
    x = np.arange(-4000, 4000.01, 0.1)
    lsf = lsf_columns(x, blur, wings, 2)[:, HEAD]
    numeric = np.exp(-2j * np.pi * freq[:, None] * x) @ lsf * 0.1

    np.testing.assert_allclose(otf_columns(freq, blur, wings, 2)[:, HEAD], numeric, atol=2e-6)
    assert (numeric[0].imag < -0.1) == leaning, "an odd LSF's transform is imaginary"


@given(blur_px=BLURS_PX, wings=WINGS, terms=TERMS)
def test_only_the_step_rises_from_end_to_end(blur_px: float, wings: Wings, terms: int) -> None:
    """Its transform is 1 without frequency, that of all else nought: they leave a step's height alone."""
    otf = otf_columns(np.zeros(1), blur_px, wings, terms)[0]
    ends = esf_columns(np.array([-1e7, 1e7]) * blur_px, blur_px, LEVEL, wings, terms)

    np.testing.assert_array_equal(otf, np.arange(len(otf)) == RISE)
    rise = np.delete(ends[1] - ends[0], LIGHT)
    np.testing.assert_allclose(rise, np.delete(otf.real, LIGHT), atol=1e-6)


def test_light_falls_on_the_edge_itself() -> None:
    x = np.array([-7.0, -0.4, 0.0, 3.0])
    columns = esf_columns(x, 0.9, LEVEL, (), 2)

    np.testing.assert_allclose(columns[:, LIGHT], x * (columns[:, [DARK, RISE]] @ LEVEL))


def test_a_leaning_wing_and_the_first_term_have_sides() -> None:
    """Mirrored, they change sign; the wing and the second term do not."""
    x = np.linspace(-9, 9, 37)
    lsf = lsf_columns(x, 1.1, (Wing(2.0), Wing(2.0, leaning=True)), 2)[:, HEAD:]

    np.testing.assert_allclose(lsf[::-1] * [1, -1, -1, 1], lsf, atol=1e-15)
    assert lsf[x > 0, 1].min() > 0, "leans to the bright side"
    assert lsf[x > 0, 2].min() > 0, "moves to the bright side"
