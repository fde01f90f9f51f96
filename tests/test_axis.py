"""Settings that move an image: which there are, and the scale on which they move it evenly."""

from __future__ import annotations

import numpy as np
import pytest

from psfbank.axis import Axis, axis_scale


def test_the_image_of_a_thin_lens_moves_evenly_with_dioptres() -> None:
    focal_m = 0.05
    focus_m = 1 / np.linspace(0.2, 2.0, 5)
    image_m = focal_m * focus_m / (focus_m - focal_m)
    scale = [axis_scale("focus_m", s) for s in focus_m]
    bend = np.diff(image_m, 2) / np.diff(image_m)[:-1]
    assert np.allclose(np.diff(scale), np.diff(scale)[0])
    assert np.abs(bend).max() < 3 * focal_m * np.diff(scale)[0]  # 1 / s' = 1 / f - 1 / s: even but for f / s


def test_zoom_counts_by_ratios_and_pressure_by_itself() -> None:
    assert axis_scale("focal_mm", 48) - axis_scale("focal_mm", 24) == pytest.approx(1.0)
    assert axis_scale("pressure_kpa", -3.5) == -3.5
    assert np.isnan(axis_scale("focus_m", np.nan))


def test_only_what_moves_an_image_is_an_axis() -> None:
    with pytest.raises(ValueError, match="focus_m, focal_mm, pressure_kpa"):
        Axis("iso", np.zeros(2))
    with pytest.raises(ValueError, match="left_out_px"):
        Axis("focus_m", np.zeros(3))
