"""PSFs between the nodes: rendered from the wavefront where there is one, mixed where there is none."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psfbank.bank import PsfBank
from psfbank.model import Calibration, Imaging, PsfGrid, ZernikeField
from psfbank.render import PUPIL_SAMPLES, FieldRenderer, unit_sum
from psfbank.zernike import centroid_px, effective_psf, noll_terms

TERMS = noll_terms(4, 8)  # defocus, two of astigmatism, coma along y, coma along x
DEFOCUS, COMA_X = 0, 4
OVERSAMPLE, HALF_PX, F_NUMBER, PITCH_UM, DIFFUSION_PX = 3, 8, 2.0, 1.4, 0.28
WAVELENGTHS_NM = np.array([[520.0, 550.0]])
OPEN = (0.0, 0.0, 2.0)

Array = npt.NDArray[np.float64]


def reference(coefficients_nm: Array, clip: tuple[float, float, float] = OPEN) -> Array:
    return effective_psf(
        coefficients_nm,
        TERMS,
        wavelengths_nm=WAVELENGTHS_NM[0],
        weights=np.ones(2),
        f_number=F_NUMBER,
        pitch_um=PITCH_UM,
        half_px=HALF_PX,
        oversample=OVERSAMPLE,
        diffusion_px=DIFFUSION_PX,
        clip=clip,
        samples=PUPIL_SAMPLES,
    )


def field_of(x_px: Array, y_px: Array, clip: tuple[float, float, float] = OPEN, **terms: Array) -> ZernikeField:
    """One channel; a term is an array that broadcasts over (Ty, Tx)."""
    tiles = (1, len(y_px), len(x_px))
    coefficients = np.zeros((*tiles, len(TERMS)))
    for name, values in terms.items():
        coefficients[..., {"defocus": DEFOCUS, "coma_x": COMA_X}[name]] = values
    imaging = Imaging(WAVELENGTHS_NM, np.ones((1, 2)), [DIFFUSION_PX], np.broadcast_to(clip, (*tiles, 3)), PITCH_UM)
    wavelength = WAVELENGTHS_NM.mean(1)
    unknown = np.full_like(coefficients, np.nan)
    return ZernikeField(
        x_px, y_px, coefficients, unknown, TERMS, wavelength, F_NUMBER, np.zeros(tiles), ("Y",), imaging
    )


def calibration_of(wavefront: ZernikeField) -> Calibration:
    """Nodes hold what the wavefront gives."""
    x_px, y_px, imaging = wavefront.x_px, wavefront.y_px, wavefront.imaging
    assert imaging is not None
    size = 2 * HALF_PX * OVERSAMPLE + 1
    empty = np.zeros((1, len(y_px), len(x_px), size, size))
    renderer = FieldRenderer.of(x_px, y_px, empty, OVERSAMPLE, wavefront, imaging)
    kernels = [[renderer.wavefront_kernel(0, x, y) for x in x_px] for y in y_px]
    return Calibration(psf_grid=PsfGrid(x_px, y_px, [kernels], OVERSAMPLE, channels=("Y",)), wavefront=wavefront)


def relative_l2(got: Array, want: Array) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_between_two_nodes_the_wavefront_is_mixed_and_not_the_kernels(share: float) -> None:
    x_px, y_px = np.array([0.0, 100.0]), np.array([0.0, 80.0])
    cal = calibration_of(field_of(x_px, y_px, defocus=np.array([-70.0, 90.0])))
    expected = reference(np.array([-70.0 + 160.0 * share, 0, 0, 0, 0]))

    assert relative_l2(cal.psf(100 * share, 33.0, oversample=OVERSAMPLE), expected) < 2e-3
    assert cal.psf_grid is not None
    assert relative_l2(cal.psf_grid.at(100 * share, 33.0, oversample=OVERSAMPLE), expected) > 0.2


def test_curvature_of_the_field_is_followed_and_not_cut_off() -> None:
    x_px, y_px = np.linspace(0, 300, 4), np.linspace(0, 300, 5)
    gx, gy = np.meshgrid(x_px - 150, y_px - 150)
    cal = calibration_of(field_of(x_px, y_px, defocus=120.0 * (gx**2 + gy**2) / 150**2))

    expected = reference(np.array([120.0 * (20.0**2 + 35.0**2) / 150**2, 0, 0, 0, 0]))
    assert relative_l2(cal.psf(170.0, 115.0, oversample=OVERSAMPLE), expected) < 2e-3


@pytest.mark.parametrize(("x", "sign"), [(20.0, -1), (80.0, 1)])
def test_a_tail_points_where_the_wavefront_sends_it(x: float, sign: int) -> None:
    cal = calibration_of(field_of(np.array([0.0, 100.0]), np.array([0.0, 80.0]), coma_x=np.array([-70.0, 70.0])))
    kernel = cal.psf(x, 40.0, oversample=OVERSAMPLE)
    at = np.arange(len(kernel)) - len(kernel) // 2

    np.testing.assert_allclose(centroid_px(kernel, OVERSAMPLE), 0.0, atol=1e-4)
    assert sign * (kernel.sum(0) @ at**3) > 1.0
    assert abs(kernel.sum(1) @ at**3) < 1e-3


def test_the_second_stop_moves_between_nodes() -> None:
    x_px, y_px = np.array([0.0, 100.0]), np.array([0.0, 80.0])
    wavefront = field_of(x_px, y_px, defocus=np.array([60.0, 60.0]))
    assert wavefront.imaging is not None
    clip = np.zeros((1, 2, 2, 3))
    clip[..., 2], clip[..., 1, 0] = 0.9, 0.6  # the stop's x grows along x
    cal = calibration_of(replace(wavefront, imaging=replace(wavefront.imaging, clip=clip)))
    defocus = np.array([60.0, 0, 0, 0, 0])
    kernel = cal.psf(50.0, 0.0, oversample=OVERSAMPLE)
    displaced = reference(defocus, (0.3, 0.0, 0.9))

    def widths(k: Array) -> tuple[float, float]:
        at = (np.arange(len(k)) - len(k) // 2) / OVERSAMPLE
        cx, cy = centroid_px(k, OVERSAMPLE)
        return float(np.sqrt(k.sum(0) @ (at - cx) ** 2)), float(np.sqrt(k.sum(1) @ (at - cy) ** 2))

    np.testing.assert_allclose(widths(kernel), widths(displaced), rtol=0.01)
    assert widths(kernel) != pytest.approx(widths(reference(defocus)), rel=0.03)
    np.testing.assert_allclose(centroid_px(kernel, OVERSAMPLE), 0.0, atol=1e-4)


def test_at_a_node_the_kernel_is_the_one_that_stands_there(rendered_bank: PsfBank) -> None:
    """Those kernels are no wavefront's: what the wavefront leaves unsaid is added."""
    cal = rendered_bank.at()
    grid = cal.psf_grid
    assert grid is not None
    for c, channel in enumerate(grid.channels):
        for j, i in ((0, 0), (2, 3), (3, 4)):
            kernel = cal.psf(grid.x_px[i], grid.y_px[j], channel, oversample=3)
            np.testing.assert_allclose(kernel, grid.kernels[c, j, i], atol=1e-7)


@given(
    x=st.floats(-20, 150, allow_nan=False),
    y=st.floats(-20, 120, allow_nan=False),
    channel=st.sampled_from("RGB"),
    oversample=st.integers(1, 4),
)
@settings(max_examples=40)
def test_every_place_has_a_kernel(rendered_bank: PsfBank, x: float, y: float, channel: str, oversample: int) -> None:
    cal = rendered_bank.at()
    assert cal.psf_grid is not None
    kernel = cal.psf(x, y, channel, oversample)

    assert kernel.shape == cal.psf_grid.at(x, y, channel, oversample).shape
    assert kernel.dtype == np.float64
    assert kernel.sum() == pytest.approx(1.0, abs=1e-12)
    assert kernel.min() >= 0
    if oversample == cal.psf_grid.oversample:
        np.testing.assert_allclose(centroid_px(kernel, oversample), 0.0, atol=0.01)


def test_beyond_the_nodes_stands_the_borders_kernel(rendered_bank: PsfBank) -> None:
    cal = rendered_bank.at()
    assert cal.psf_grid is not None
    np.testing.assert_array_equal(cal.psf(-500.0, 40.0), cal.psf(cal.psf_grid.x_px[0], 40.0))


def test_without_imaging_kernels_are_mixed(small_bank: PsfBank) -> None:
    cal = small_bank.at()
    assert cal.psf_grid is not None
    np.testing.assert_array_equal(cal.psf(51.0, 40.0, "R", 2), cal.psf_grid.at(51.0, 40.0, "R", 2))


def test_a_wavefront_of_other_channels_says_nothing_of_these(rendered_bank: PsfBank) -> None:
    cal = rendered_bank.at()
    assert cal.wavefront is not None
    assert cal.wavefront.imaging is not None
    green = replace(cal.wavefront.imaging, **{n: getattr(cal.wavefront.imaging, n)[1:2] for n in PER_CHANNEL})
    arrays = ("coefficients_nm", "stderr_nm", "residual", "wavelength_nm")
    only = {n: getattr(cal.wavefront, n)[1:2] for n in arrays}
    other = replace(cal, wavefront=replace(cal.wavefront, **only, channels=("G",), imaging=green))
    assert other.psf_grid is not None
    np.testing.assert_array_equal(other.psf(51.0, 40.0, "R"), other.psf_grid.at(51.0, 40.0, "R"))


PER_CHANNEL = ("wavelengths_nm", "weights", "diffusion_px", "clip")


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_few_nodes_serve(columns: int, rows: int) -> None:
    x_px, y_px = np.linspace(10, 90, columns), np.linspace(10, 70, rows)
    cal = calibration_of(field_of(x_px, y_px, defocus=np.array(40.0)))
    np.testing.assert_allclose(cal.psf(33.0, 44.0, oversample=OVERSAMPLE), cal.psf_grid.kernels[0, 0, 0], atol=1e-7)  # type: ignore[union-attr]


def test_the_wavefront_may_lie_on_a_grid_of_its_own() -> None:
    linear = np.array([-60.0, 0.0, 60.0])
    fine = calibration_of(field_of(np.array([0.0, 50.0, 100.0]), np.array([0.0, 80.0]), defocus=linear))
    coarse = field_of(np.array([0.0, 100.0]), np.array([0.0, 80.0]), defocus=linear[[0, 2]])
    other = replace(fine, wavefront=coarse)
    np.testing.assert_allclose(other.psf(70.0, 9.0), fine.psf(70.0, 9.0), atol=1e-7)


def test_another_process_renders_the_same(rendered_bank: PsfBank) -> None:
    here = rendered_bank.at()
    first = here.psf(51.0, 40.0)
    there = pickle.loads(pickle.dumps(here))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(there.psf(51.0, 40.0), first)
    np.testing.assert_array_equal(here.psf(51.0, 40.0), first)
    assert len(pickle.dumps(here)) == len(pickle.dumps(replace(here))), "what was rendered is not sent along"


def test_a_file_renders_the_same(rendered_bank: PsfBank, tmp_path: Path) -> None:
    rendered_bank.save(tmp_path / "a.h5")
    again = PsfBank.open(tmp_path / "a.h5")
    np.testing.assert_array_equal(again.at().psf(51.0, 40.0, "B", 2), rendered_bank.at().psf(51.0, 40.0, "B", 2))


@pytest.mark.parametrize("turn", [0.0, 0.3, np.pi / 4, 2.0])
def test_stops_that_barely_overlap_still_let_light_through(rendered_bank: PsfBank, turn: float) -> None:
    cal = rendered_bank.at()
    assert cal.wavefront is not None
    assert cal.wavefront.imaging is not None
    clip = np.broadcast_to([1.79 * np.cos(turn), 1.79 * np.sin(turn), 0.9], (3, 4, 5, 3))
    dark = replace(cal, wavefront=replace(cal.wavefront, imaging=replace(cal.wavefront.imaging, clip=clip)))
    assert dark.psf(50.0, 40.0).sum() == pytest.approx(1.0)


def test_no_light_is_said_in_words() -> None:
    with pytest.raises(ValueError, match="no light"):
        unit_sum(np.full((3, 3), -1.0))
    np.testing.assert_allclose(unit_sum(np.array([[3.0, -2.0, 1.0]])), [[0.75, 0.0, 0.25]])


def test_pixels_too_large_for_the_wavelength_are_refused_before_they_take_the_memory() -> None:
    wavefront = field_of(np.array([0.0, 100.0]), np.array([0.0, 80.0]), defocus=np.array([0.0, 40.0]))
    cal = calibration_of(wavefront)
    assert wavefront.imaging is not None
    with pytest.raises(ValueError, match="samples across the pupil"):
        replace(cal, wavefront=replace(wavefront, imaging=replace(wavefront.imaging, pitch_um=1e6)))
