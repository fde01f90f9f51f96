"""Between settings of a lens that is known at each: maps and PSFs come out as that lens's own; beyond is nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from psfbank.along import between, mixed_map, weights
from psfbank.axis import Axis
from psfbank.bank import PsfBank
from psfbank.errors import AmbiguousSettingError, OutOfFieldError
from psfbank.model import Calibration, DistortionMap, Setting

FOCUS_M = (0.3, 0.45, 0.8, 2.0, np.inf)
SIZE_PX = (480, 640)

Array = npt.NDArray[np.float64]


def lens(rays: Array, focus_m: float) -> Array:
    """Breathing, barrel that grows as the lens extends, and a ripple that wanders over the field."""
    d = 1 / focus_m
    r2 = np.sum(rays**2, axis=1, keepdims=True)
    px = (500 + 12 * d + 0.8 * d**2) * rays * (1 - (0.1 + 0.02 * d) * r2) + np.array([319.5, 239.5 + 0.5 * d])
    return px + (0.2 + 0.05 * d) * np.sin(px[:, ::-1] / 90 + 0.3 * d)


def fitted(focus_m: float, spans: int = 12, reach: float = 0.85) -> DistortionMap:
    """The lens on knots of its own, by least squares on a dense grid: what a perfect session would find."""
    from psfbank import distortion as maps

    knots = [limit / spans * np.arange(-spans - 3, spans + 4) for limit in (reach, 0.8 * reach)]
    axes = [np.linspace(k[3], k[-4], 6 * spans) for k in knots]
    u = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    matrix = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    moved = lens(maps.from_stereographic(u), focus_m) - (u * 500 + matrix[:2, 2])
    dense = []
    for k, at in zip(knots, axes, strict=True):
        first, values, _ = maps.basis(k, at)
        design = np.zeros((len(at), len(k) - 4))
        np.put_along_axis(design, first[:, None] + np.arange(4), values, axis=1)
        dense.append(np.linalg.pinv(design))
    field = moved.reshape(len(axes[1]), len(axes[0]), 2).transpose(2, 0, 1)
    corners = np.array([[0, 0], [639, 0], [639, 479], [0, 479]], dtype=float)
    coefficients = (dense[1] @ field @ dense[0].T)[None]
    return DistortionMap(matrix, knots[0], knots[1], coefficients, corners, np.array([0.05]), channels=("Y",))


def calibration(focus_m: float, **parts: object) -> Calibration:
    return Calibration(Setting(focus_m=focus_m), axis=Axis("focus_m", np.array([0.02, 0.03])), **parts)


@pytest.fixture(scope="module")
def along_focus() -> list[Calibration]:
    return [calibration(f, distortion=fitted(f)) for f in FOCUS_M]


def rays() -> Array:
    px = np.stack(np.meshgrid(np.linspace(20, 619, 15), np.linspace(20, 459, 11)), axis=-1).reshape(-1, 2)
    return (px - [319.5, 239.5]) / 520


def rms(difference: Array) -> float:
    return float(np.sqrt(np.mean(np.sum(difference**2, axis=1))))


@pytest.mark.parametrize("focus_m", [0.36, 0.6, 1.2, 6.0])
def test_a_map_between_settings_is_the_lens_own(along_focus: list[Calibration], focus_m: float) -> None:
    found = between(along_focus, "focus_m", focus_m)
    assert found.distortion is not None
    assert rms(found.distortion.project(rays(), "Y") - lens(rays(), focus_m)) < 0.01
    nearest = min(along_focus, key=lambda c: abs(1 / c.setting.focus_m - 1 / focus_m))
    assert nearest.distortion is not None
    assert rms(nearest.distortion.project(rays(), "Y") - lens(rays(), focus_m)) > 0.5
    assert found.setting.focus_m == focus_m


def test_a_setting_left_out_is_predicted(along_focus: list[Calibration]) -> None:
    rest = [c for c in along_focus if c.setting.focus_m != 0.8]
    predicted, own = between(rest, "focus_m", 0.8).distortion, along_focus[2].distortion
    assert predicted is not None
    assert own is not None
    assert rms(predicted.project(rays(), "Y") - own.project(rays(), "Y")) < 0.03


def test_at_a_setting_it_is_the_one_that_was_calibrated(along_focus: list[Calibration]) -> None:
    assert between(along_focus, "focus_m", 0.8) is along_focus[2]
    assert between(along_focus, "focus_m", np.inf) is along_focus[4]


@pytest.mark.parametrize("focus_m", [0.29, 0.1])
def test_beyond_the_settings_there_is_no_answer(along_focus: list[Calibration], focus_m: float) -> None:
    with pytest.raises(OutOfFieldError, match=r"0\.3 \.\. inf"):
        between(along_focus, "focus_m", focus_m)


def test_two_at_one_setting_are_refused(along_focus: list[Calibration]) -> None:
    with pytest.raises(AmbiguousSettingError, match="same focus_m"):
        between([*along_focus, along_focus[1]], "focus_m", 0.5)


def test_maps_on_other_knots_are_brought_together() -> None:
    mixed = mixed_map([fitted(0.45), fitted(0.45, spans=15, reach=0.9)], np.array([0.6, 0.4]))
    assert rms(mixed.project(rays(), "Y") - fitted(0.45).project(rays(), "Y")) < 2e-3


def test_shares_sum_to_one_and_follow_cubics() -> None:
    places = np.array([0.0, 0.5, 1.3, 2.0, 3.3])
    shares = weights(places, 0.9)
    assert shares.sum() == pytest.approx(1.0)
    assert shares @ (1 - 2 * places + 0.3 * places**3) == pytest.approx(1 - 1.8 + 0.3 * 0.9**3)
    assert np.count_nonzero(weights(places, 0.9, degree=1)) == 2


def test_psfs_are_rendered_from_the_wavefront_between(rendered_bank: PsfBank) -> None:
    """Defocus of either sign at the ends: in the middle the lens is sharp, and a mix of kernels would not be."""
    cal = rendered_bank.at()
    assert cal.wavefront is not None
    assert cal.psf_grid is not None
    defocus = np.flatnonzero((cal.wavefront.nm == [2, 0]).all(axis=1))[0]

    def at(focus_m: float, added_nm: float) -> Calibration:
        coefficients_nm = cal.wavefront.coefficients_nm.copy()
        coefficients_nm[..., defocus] = added_nm
        wavefront = replace(cal.wavefront, coefficients_nm=coefficients_nm)
        bare = replace(cal, setting=Setting(focus_m=focus_m), wavefront=wavefront)
        renderer = bare.renderer
        assert renderer is not None
        kernels = np.array(cal.psf_grid.kernels)
        for c, j, i in np.ndindex(*kernels.shape[:3]):
            kernels[c, j, i] = renderer.wavefront_kernel(c, cal.psf_grid.x_px[i], cal.psf_grid.y_px[j])
        return replace(bare, psf_grid=replace(cal.psf_grid, kernels=kernels), axis=Axis("focus_m", np.full(2, np.nan)))

    near, sharp, far = at(0.5, 200.0), at(1.0, 0.0), at(np.inf, -200.0)
    found = between([near, far], "focus_m", 1.0)
    assert found.psf_grid is not None
    assert sharp.psf_grid is not None
    assert np.abs(found.psf_grid.kernels - sharp.psf_grid.kernels).max() < 1e-4
    mixed = (near.psf_grid.kernels + far.psf_grid.kernels) / 2  # type: ignore[union-attr]
    assert np.abs(mixed - sharp.psf_grid.kernels).max() > 0.01


def test_a_bank_answers_along_its_axis(rendered_bank: PsfBank, along_focus: list[Calibration]) -> None:
    bank = PsfBank(rendered_bank.camera, tuple(along_focus))
    told = bank.at(focus_m=0.6).provenance["interpolated"]
    assert told["between"] == [0.8, 0.45]
    assert told["left_out_px"] == 0.02
    assert bank.at(focus_m=0.45) is along_focus[1]
    with pytest.raises(OutOfFieldError):
        bank.at(focus_m=0.2)
    with pytest.raises(AmbiguousSettingError):
        bank.at()


def test_banks_of_separate_settings_choose_the_nearest(rendered_bank: PsfBank, along_focus: list[Calibration]) -> None:
    bank = PsfBank(rendered_bank.camera, tuple(replace(c, axis=None) for c in along_focus))
    assert bank.at(focus_m=0.2).setting.focus_m == 0.3
