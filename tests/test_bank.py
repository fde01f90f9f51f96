"""Choosing among settings, and carrying a bank about."""

from __future__ import annotations

import math
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank import PsfBank
from psfbank.errors import AmbiguousSettingError, BankFormatError, OutOfFieldError
from psfbank.model import Calibration, Camera, Setting

CAMERA = Camera("Reference", "Small", (96, 128))
NEAR, MID, FAR = Setting(focus_m=0.1, iso=100), Setting(focus_m=1.0, iso=100), Setting(focus_m=math.inf, iso=100)
LOUD = Setting(focus_m=1.0, iso=1600)


def bank_of(*settings: Setting) -> PsfBank:
    return PsfBank(CAMERA, tuple(Calibration(setting=setting) for setting in settings))


def test_the_only_setting_answers_every_request() -> None:
    bank = bank_of(MID)
    assert bank.at() is bank.calibrations[0]
    assert bank.at(focus_m=1.3, f_number=2.8) is bank.calibrations[0]


@pytest.mark.parametrize(
    ("request_", "chosen"),
    [
        ({"focus_m": 0.12, "iso": 100}, NEAR),
        ({"focus_m": 1.2, "iso": 110}, MID),
        ({"focus_m": math.inf, "iso": 100}, FAR),
        ({"focus_m": 1e6, "iso": 100}, FAR),
        ({"iso": 3200}, LOUD),
        ({"focus_m": 0.1}, NEAR),
        ({"focus_m": 0.17, "iso": 100}, NEAR),  # 5.9 dioptres: nearer to 10 than to 1, though 0.17 m is no middle
        ({"focus_m": 1.9, "iso": 100}, MID),  # 0.53 dioptres, just on the near side of the middle to infinity
        ({"focus_m": 2.1, "iso": 100}, FAR),
    ],
)
def test_nearest_in_dioptres_and_stops(request_: dict[str, float], chosen: Setting) -> None:
    assert bank_of(NEAR, MID, FAR, LOUD).at(**request_).setting is chosen


def test_noise_alone_follows_the_iso_speed(small_bank: PsfBank) -> None:
    own, noisier = small_bank.at(), small_bank.at(iso=800)
    assert small_bank.at(iso=100) is own
    assert noisier.setting == replace(own.setting, iso=800)
    np.testing.assert_allclose(noisier.noise.gain_dn_per_e, 8 * own.noise.gain_dn_per_e)
    assert noisier.noise_by_iso is own.noise_by_iso
    for part in ("psf_grid", "distortion", "illumination", "wavefront"):
        assert getattr(noisier, part) is getattr(own, part)
    with pytest.raises(OutOfFieldError, match=r"iso = 3200 lies beyond 100 \.\. 1600"):
        small_bank.at(iso=3200)


def test_iso_speeds_survive_the_file(small_bank: PsfBank, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "a.h5")
    again = PsfBank.open(tmp_path / "a.h5")
    np.testing.assert_array_equal(again.at(iso=250).noise.gain_dn_per_e, small_bank.at(iso=250).noise.gain_dn_per_e)


def test_an_iso_speed_between_settings_of_an_axis(small_bank: PsfBank) -> None:
    """Along an axis the part that is interpolated over settings comes first, then noise over ISO speeds."""
    near = replace(small_bank.at(), setting=NEAR)
    bank = PsfBank(CAMERA, (near, replace(near, setting=MID)))
    between = bank.at(focus_m=0.5, iso=400)
    assert (between.setting.focus_m, between.setting.iso) == (0.5, 400)
    np.testing.assert_array_equal(between.noise.gain_dn_per_e, near.noise_by_iso.gain_dn_per_e[1])


def test_iso_is_compared_in_stops() -> None:
    bank = bank_of(Setting(iso=100), Setting(iso=1600))
    assert bank.at(iso=390).setting.iso == 100
    assert bank.at(iso=410).setting.iso == 1600


def test_keys_are_weighed_by_their_range_in_the_bank() -> None:
    # 7.1 dioptres: 2.9 of 8 from the first and 5.1 of 8 from the second; ISO: the whole range, one stop, from the first
    bank = bank_of(Setting(focus_m=0.1, iso=100), Setting(focus_m=0.5, iso=200))
    assert bank.at(focus_m=0.14, iso=200).setting.iso == 200


@given(st.permutations([NEAR, MID, FAR, LOUD]), st.floats(0.05, 50), st.floats(50, 5000))
def test_the_choice_does_not_depend_on_the_order(order: list[Setting], focus_m: float, iso: float) -> None:
    def choice(bank: PsfBank) -> Any:
        try:
            return bank.at(focus_m=focus_m, iso=iso).setting
        except AmbiguousSettingError:
            return None

    assert choice(bank_of(*order)) is choice(bank_of(NEAR, MID, FAR, LOUD))


@given(st.sampled_from([NEAR, MID, FAR, LOUD]))
def test_a_calibrated_setting_finds_itself(setting: Setting) -> None:
    assert bank_of(NEAR, MID, FAR, LOUD).at(**setting.known()).setting is setting


def test_an_open_choice_names_the_choices() -> None:
    bank = bank_of(NEAR, MID, FAR, LOUD)
    with pytest.raises(AmbiguousSettingError, match=r"focus_m=0.1 iso=100; .*focus_m=inf iso=100; .*iso=1600"):
        bank.at()
    with pytest.raises(AmbiguousSettingError) as caught:
        bank.at(iso=100)  # three focus distances remain
    assert "iso=1600" not in str(caught.value)
    assert "focus_m=0.1" in str(caught.value)
    with pytest.raises(AmbiguousSettingError, match=r"f_number=2 does not single out one of focus_m=0\.1"):
        bank.at(f_number=2.0)  # that no setting knows


def test_equal_settings_stay_ambiguous() -> None:
    with pytest.raises(AmbiguousSettingError, match="unknown setting; an unknown setting"):
        bank_of(Setting(), Setting()).at()
    with pytest.raises(AmbiguousSettingError):
        bank_of(MID, MID).at(focus_m=1.0)


def test_a_setting_that_lacks_the_key_is_not_chosen() -> None:
    assert bank_of(Setting(focus_m=1.0), Setting(iso=100)).at(iso=6400).setting.iso == 100


def test_requests_that_make_no_sense() -> None:
    bank = bank_of(NEAR, FAR)
    with pytest.raises(TypeError, match="`zoom` is not part of a setting; there are focal_mm, f_number, focus_m, iso"):
        bank.at(zoom=2.0)
    for request in ({"iso": 0.0}, {"iso": -1.0}, {"iso": math.nan}, {"iso": math.inf}, {"focus_m": -1.0}):
        with pytest.raises(ValueError, match="must be positive"):
            bank.at(**request)


def test_a_bank_is_not_empty() -> None:
    with pytest.raises(ValueError, match="at least one"):
        PsfBank(CAMERA, ())


def test_several_settings_round_trip(tmp_path: Path) -> None:
    bank_of(NEAR, MID, FAR, LOUD).save(tmp_path / "a.h5")
    with PsfBank.open(tmp_path / "a.h5") as again:
        assert [c.setting.known() for c in again.calibrations] == [s.known() for s in (NEAR, MID, FAR, LOUD)]


def test_open_takes_text_and_says_what_is_missing(small_bank: PsfBank, tmp_path: Path) -> None:
    small_bank.save(str(tmp_path / "a.h5"))
    assert PsfBank.open(str(tmp_path / "a.h5")).camera == small_bank.camera
    with pytest.raises(BankFormatError, match="no such bank"):
        PsfBank.open(tmp_path / "b.h5")


def test_pickling_keeps_everything_and_its_guards(small_bank: PsfBank) -> None:
    again = pickle.loads(pickle.dumps(small_bank))  # noqa: S301  our own bytes
    assert again.camera == small_bank.camera
    assert again.at().provenance == small_bank.at().provenance
    np.testing.assert_array_equal(again.at().psf(30.0, 40.0), small_bank.at().psf(30.0, 40.0))
    with pytest.raises(ValueError, match="read-only"):
        again.at().psf_grid.kernels[0] = 0
    with pytest.raises(TypeError):
        again.at().provenance["seed"] = 1


def psf_in_a_worker(bank: PsfBank) -> Any:
    return bank.at().psf(30.0, 40.0, "R")


def test_a_bank_crosses_processes(small_bank: PsfBank) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as executor:
        future = executor.submit(pickle.dumps, small_bank)
        again = pickle.loads(future.result(timeout=60))  # noqa: S301  our own bytes
    np.testing.assert_array_equal(psf_in_a_worker(again), psf_in_a_worker(small_bank))
