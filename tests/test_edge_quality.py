"""Each flag is raised by what it stands for and by nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.edge.quality import CRITICAL_DEG, WHAT_TO_DO, EdgeFlag, quality_flags, slant_deg

GOOD: dict[str, Any] = {"slant_deg": 7.0, "length_px": 60.0, "contrast": 0.6, "cnr": 50.0}


def test_an_edge_without_fault_is_good() -> None:
    assert quality_flags(**GOOD) == EdgeFlag.GOOD
    assert EdgeFlag.GOOD.words() == ()


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"slant_deg": 0.9}, "critical_angle"),
        ({"slant_deg": 25.6}, "critical_angle"),
        ({"length_px": 24.9}, "short"),
        ({"length_px": 49.0, "site_density": 0.5}, "short"),
        ({"length_px": 99.0, "site_density": 0.25}, "short"),
        ({"contrast": 0.19}, "low_contrast"),
        ({"cnr": 9.0}, "low_cnr"),
        ({"clipped": True}, "clipped"),
        ({"contaminated": True}, "contaminated"),
        ({"turn_deg": -6.0}, "curved"),
        ({"gamma_unknown": True}, "gamma_suspected"),
        ({"mtf50_relative_std": 0.2}, "unreliable"),
    ],
)
def test_a_fault_raises_its_flag_alone(fault: dict[str, Any], word: str) -> None:
    assert quality_flags(**{**GOOD, **fault}).words() == (word,)


@pytest.mark.parametrize(
    "harmless",
    [
        {"slant_deg": 1.1},
        {"slant_deg": 12.9},
        {"slant_deg": 43.9},
        {"length_px": 50.0, "site_density": 0.5},
        {"turn_deg": 4.9},
        {"mtf50_relative_std": float("nan")},
    ],
)
def test_what_is_near_a_fault_is_none(harmless: dict[str, Any]) -> None:
    assert quality_flags(**{**GOOD, **harmless}) == EdgeFlag.GOOD


def test_flags_add_up() -> None:
    flags = quality_flags(slant_deg=45.0, length_px=10.0, contrast=0.1, cnr=60.0, clipped=True)

    assert flags.words() == ("critical_angle", "short", "low_contrast", "clipped")


def test_critical_angles_are_those_of_small_ratios() -> None:
    assert np.allclose(np.tan(np.radians(CRITICAL_DEG)), [0, 1 / 4, 1 / 3, 1 / 2, 1], atol=1e-4)


def test_every_flag_says_what_to_do() -> None:
    assert set(WHAT_TO_DO) == {flag for flag in EdgeFlag if flag}
    assert all("\n" not in words and not words.endswith(".") for words in WHAT_TO_DO.values())


@given(st.floats(0, 45), st.integers(-8, 8), st.sampled_from([-1, 1]))
def test_slant_is_the_same_from_every_side(slant: float, quarters: int, side: int) -> None:
    assert slant_deg(side * np.radians(slant) + quarters * np.pi / 2) == pytest.approx(slant, abs=1e-9)
