"""The standard's figures: those that Burns' sfrmat5 gives, to the last digit it was noted with; and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr

from calib.edge.iso12233 import LUMINANCE, sfr_iso12233
from calib.edge.response import crossing_cpp, sfr_at
from psfbank.errors import CaptureUnusable, NoTargetFound

SHARED = Path(os.environ.get("PSFBANK_SHARED", Path(__file__).parents[2] / "shared"))
REAL = SHARED / "real" / "slanted_edge"
HEIGHT_PX, WIDTH_PX = 100, 64
PHASE_PX = 0.13

Array = npt.NDArray[np.float64]


def third_integral(x: Array, sigma: float) -> Array:
    """Integrate the normal density three times."""
    density = np.exp(-0.5 * (x / sigma) ** 2) / np.sqrt(2 * np.pi)
    return 0.5 * ((x**2 + sigma**2) * ndtr(x / sigma) + sigma * x * density)


def edge(sigma_px: float, slant_deg: float, size_px: tuple[int, int] = (HEIGHT_PX, WIDTH_PX)) -> Array:
    """Gaussian optics and a square pixel, exactly: the pixel is a box of |cos| convolved with one of |sin|."""
    row, column = np.mgrid[: size_px[0], : size_px[1]].astype(float)
    cos, sin = np.cos(np.radians(slant_deg)), np.sin(np.radians(slant_deg))
    x, y = column - (size_px[1] - 1) / 2 - PHASE_PX, row - (size_px[0] - 1) / 2
    wide, narrow = abs(cos) / 2, abs(sin) / 2
    seen = sum(
        a * b * third_integral(x * cos - y * sin + a * wide + b * narrow, sigma_px) for a in (-1, 1) for b in (-1, 1)
    )
    return 0.2 + 0.6 * seen / (4 * wide * narrow)


def mtf50(region: Array, order: int = 5) -> float:
    response = sfr_iso12233(region, order)
    return crossing_cpp(response.freq_cpp, response.sfr, 0.5)


def real(name: str) -> Array:
    if not (REAL / name).exists():
        pytest.skip("the real edges are not here")
    picture = cv2.imread(str(REAL / name), cv2.IMREAD_UNCHANGED).astype(np.float64)
    return picture if picture.ndim == 2 else picture[..., 0]  # grey, stored three times over


@pytest.mark.parametrize(
    ("sigma_px", "slant_deg", "sfr50"), [(0.5, 5.0, 0.321611), (1.0, 7.3, 0.180353), (0.25, 3.1, 0.475921)]
)
def test_drawn_edges_give_the_reference_figures(sigma_px: float, slant_deg: float, sfr50: float) -> None:
    assert mtf50(edge(sigma_px, slant_deg)) == pytest.approx(sfr50, abs=5e-7)


@pytest.mark.parametrize(
    ("name", "first_order", "fifth_order", "nyquist"),
    [
        ("burns_test_edge1_mono.tif", 0.283996, 0.275311, 0.0368814),
        ("asplund_f2.png", 0.293753, 0.300687, 0.334377),
        ("asplund_f2_8.png", 0.467417, 0.465078, 0.450187),
    ],
)
def test_real_edges_give_the_reference_curves(
    name: str, first_order: float, fifth_order: float, nyquist: float
) -> None:
    region = real(name)
    curve = np.loadtxt((REAL / name).with_suffix(".sfr.csv"), delimiter=",", skiprows=1)
    response = sfr_iso12233(region)

    np.testing.assert_allclose(np.column_stack([response.freq_cpp, response.sfr]), curve, rtol=0, atol=2e-8)
    assert mtf50(region, order=1) == pytest.approx(first_order, abs=5e-7)
    assert mtf50(region) == pytest.approx(fifth_order, abs=5e-7)
    assert sfr_at(response.freq_cpp, response.sfr) == pytest.approx(nyquist, abs=5e-7)


def test_the_profile_lies_on_the_edge_and_rises_to_the_bright_side() -> None:
    response = sfr_iso12233(7 * edge(0.8, 6.0))
    step_px = np.diff(response.x_px)

    assert response.esf[[0, -1]] == pytest.approx([1.4, 5.6])
    assert np.interp(3.5, response.esf, response.x_px) == pytest.approx(0, abs=0.02)
    assert step_px == pytest.approx(np.cos(np.radians(6.0)) / 4, rel=2e-3)
    assert np.sum(response.lsf) * step_px[0] == pytest.approx(1, abs=1e-9)
    assert response.freq_cpp[-1] >= 1
    assert np.isnan(response.sfr_std).all()
    assert np.isnan(response.mtf50_std_cpp)


@pytest.mark.parametrize("turned", [np.fliplr, np.flipud, np.rot90, np.transpose, np.negative])
def test_the_answer_does_not_depend_on_how_the_edge_lies(turned: object) -> None:
    # phases differ by where a region begins, figures by what phases differ
    region = edge(0.6, 8.0)

    assert mtf50(turned(region)) == pytest.approx(mtf50(region), rel=4e-3)  # type: ignore[operator]


def test_the_scale_of_samples_does_not_matter() -> None:
    region = edge(0.6, 8.0)

    assert mtf50(3000 * region + 64) == pytest.approx(mtf50(region), rel=1e-9)


def test_colours_are_weighted_as_luminance() -> None:
    red, green, blue = edge(0.4, 5.0), edge(0.6, 5.0), edge(0.9, 5.0)
    grey = LUMINANCE[0] * red + LUMINANCE[1] * green + LUMINANCE[2] * blue

    assert mtf50(np.stack([red, green, blue], axis=-1)) == pytest.approx(mtf50(grey), rel=1e-9)


def test_a_higher_order_follows_a_bent_edge() -> None:
    row, column = np.mgrid[:HEIGHT_PX, :WIDTH_PX].astype(float)
    bent = ndtr((column - 31.5 - 0.1 * (row - 49.5) - 8e-4 * (row - 49.5) ** 2) / 0.7)
    straight = ndtr((column - 31.5 - 0.1 * (row - 49.5)) / 0.7)

    assert mtf50(bent, 5) == pytest.approx(mtf50(straight), rel=0.02)
    assert mtf50(bent, 1) < 0.9 * mtf50(straight)


@pytest.mark.parametrize("size_px", [(1, 1), (9, 64), (100, 6), (0, 20)])
def test_a_region_too_small_holds_no_edge(size_px: tuple[int, int]) -> None:
    with pytest.raises(NoTargetFound, match="too small"):
        sfr_iso12233(np.ones(size_px))


def line() -> Array:
    row, column = np.mgrid[:HEIGHT_PX, :WIDTH_PX].astype(float)
    return np.exp(-0.5 * (column - 31.5 - 0.1 * (row - 49.5)) ** 2)


@pytest.mark.parametrize(
    "region",
    [
        np.full((60, 60), 0.4),
        np.random.default_rng(0).normal(0.5, 0.1, (60, 60)),
        np.indices((60, 60)).sum(axis=0) // 8 % 2 * 1.0,
        line(),
        line()[:, ::-1] + 1e-9 * np.arange(WIDTH_PX),
        edge(0.5, 30.0)[:, :50],
        edge(0.5, 9.0) * (np.arange(WIDTH_PX) < 38),
    ],
    ids=["flat", "noise", "squares", "line", "line on a slope", "edge through a corner", "edge beside another"],
)
def test_what_is_no_edge_is_told(region: Array) -> None:
    with pytest.raises(NoTargetFound, match="no edge crosses"):
        sfr_iso12233(region)


def test_samples_that_are_not_finite_are_told() -> None:
    region = edge(0.5, 5.0)
    region[3, 4] = np.nan

    with pytest.raises(CaptureUnusable, match="NaN or infinite"):
        sfr_iso12233(region)


def test_an_edge_that_is_not_slanted_is_told() -> None:
    with pytest.raises(CaptureUnusable, match="do not fill a pixel"):
        sfr_iso12233(edge(0.5, 0.3))


def test_rows_too_few_for_their_slant_are_told() -> None:
    with pytest.raises(CaptureUnusable, match="rows are too few"):
        sfr_iso12233(edge(0.5, -44.5, (23, 38)))


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(ValueError, match="order"):
        sfr_iso12233(edge(0.5, 5.0), order=6)
    with pytest.raises(ValueError, match="shape"):
        sfr_iso12233(np.ones((40, 40, 4)))
