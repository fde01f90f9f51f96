"""What a wavefront and its imaging refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from psfbank.bank import PsfBank
from psfbank.optics import Imaging, ZernikeField


@pytest.fixture
def wavefront(rendered_bank: PsfBank) -> ZernikeField:
    field = rendered_bank.at().wavefront
    assert field is not None
    return field


def imaging_of(wavefront: ZernikeField) -> Imaging:
    assert wavefront.imaging is not None
    return wavefront.imaging


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("wavelengths_nm", 0.0, "must be positive"),
        ("wavelengths_nm", np.nan, "not finite"),
        ("weights", -0.1, "must not be negative"),
        ("weights", np.inf, "not finite"),
        ("diffusion_px", -0.01, "must not be negative"),
        ("diffusion_px", np.nan, "not finite"),
        ("clip", np.nan, "not finite"),
        ("clip", 3.0, "open"),  # a stop that far out leaves nothing
    ],
)
def test_one_wrong_value_is_refused(wavefront: ZernikeField, field: str, value: float, message: str) -> None:
    good = imaging_of(wavefront)
    array = np.array(getattr(good, field))
    array.flat[0] = value
    with pytest.raises(ValueError, match=message):
        replace(good, **{field: array})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.zeros((3, 2))}, "positive sum"),
        ({"weights": np.ones((3, 3))}, "shape"),
        ({"wavelengths_nm": np.full((3, 101), 500.0), "weights": np.ones((3, 101))}, "1 to 100"),
        ({"pitch_um": 0.0}, "pitch_um"),
        ({"pitch_um": np.nan}, "pitch_um"),
        ({"clip": np.zeros((3, 4, 5, 3))}, "open"),
    ],
)
def test_impossible_imaging_is_refused(wavefront: ZernikeField, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(imaging_of(wavefront), **change)


@pytest.mark.parametrize(
    "change",
    [
        {"clip": np.full((3, 4, 4, 3), 1.0)},
        {"wavelengths_nm": np.full((2, 2), 500.0), "weights": np.ones((2, 2))},
        {"diffusion_px": np.array([0.3])},
    ],
)
def test_imaging_of_other_tiles_or_channels_is_refused(wavefront: ZernikeField, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must h"):
        replace(wavefront, imaging=replace(imaging_of(wavefront), **change))


@pytest.mark.parametrize("f_number", [0.0, -2.0, np.nan, np.inf])
def test_rendering_needs_an_f_number(wavefront: ZernikeField, f_number: float) -> None:
    with pytest.raises(ValueError, match="f_number"):
        replace(wavefront, f_number=f_number)
    assert np.isnan(replace(wavefront, f_number=np.nan, imaging=None).f_number)


@pytest.mark.parametrize("term", [(2, 1), (1, 3), (-2, 0), (61, 1), (4, 0)])
def test_only_different_zernike_terms_are_taken(wavefront: ZernikeField, term: tuple[int, int]) -> None:
    nm = np.array(wavefront.nm)
    nm[0] = term  # the last row is (4, 0) already
    with pytest.raises(ValueError, match="different Zernike terms"):
        replace(wavefront, nm=nm)
