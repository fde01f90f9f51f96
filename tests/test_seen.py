"""What evidence of a PSF field, responses of edges and a map's uncertainty refuse, and that they survive in a bank."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from psfbank.bank import PsfBank
from psfbank.model import EdgeResponses, MapUncertainty, PsfEvidence


@pytest.fixture
def seen(small_bank: PsfBank) -> PsfEvidence:
    found = small_bank.at().evidence
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("chi2_used", np.inf, "finite"),
        ("chi2_used", -0.1, "negative"),
        ("chi2_reserved", -np.inf, "finite"),
        ("chi2_reserved", -0.1, "negative"),
        ("n_reserved", -1, "negative"),
        ("asymmetry", np.inf, "finite"),
        ("residual", np.nan, "not finite"),
        ("residual", np.inf, "not finite"),
        ("x_px", np.nan, "increase"),
        ("y_px", 1e6, "increase"),
    ],
)
def test_one_wrong_value_is_refused(seen: PsfEvidence, field: str, value: float, message: str) -> None:
    array = np.array(getattr(seen, field))
    array.flat[0] = value
    with pytest.raises(ValueError, match=message):
        replace(seen, **{field: array})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chi2_used": np.ones((3, 4, 4))}, "shape"),
        ({"n_reserved": np.ones((2, 4, 5))}, "shape"),
        ({"residual": np.zeros((3, 4, 5, 7, 9))}, "shape"),
        ({"residual": np.zeros((3, 5, 4, 7, 7))}, "shape"),
        ({"residual": np.zeros((3, 4, 5, 6, 6))}, "odd width"),
        ({"residual": np.zeros((3, 4, 5, 23, 23))}, "odd width"),
        ({"channels": ("G",)}, "shape"),
    ],
)
def test_impossible_evidence_is_refused(seen: PsfEvidence, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(seen, **change)


def test_what_was_not_seen_is_nan(seen: PsfEvidence) -> None:
    nothing = np.full(seen.chi2_used.shape, np.nan)
    unseen = replace(seen, chi2_used=nothing, chi2_reserved=nothing, asymmetry=nothing)
    assert np.isnan(unseen.chi2_used).all()


def test_it_survives_copying_and_a_file(small_bank: PsfBank, seen: PsfEvidence, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "bank.h5")
    loaded = PsfBank.open(tmp_path / "bank.h5").at().evidence
    for again in (copy.deepcopy(seen), loaded):
        assert isinstance(again, PsfEvidence)
        for field in fields(PsfEvidence):
            np.testing.assert_array_equal(getattr(again, field.name), getattr(seen, field.name))
        with pytest.raises(ValueError, match="read-only"):
            again.residual[0] = 0


def test_a_bank_without_it_loads(small_bank: PsfBank, tmp_path: Path) -> None:
    PsfBank(small_bank.camera, (replace(small_bank.at(), evidence=None),)).save(tmp_path / "bank.h5")
    loaded = PsfBank.open(tmp_path / "bank.h5").at()
    assert loaded.evidence is None
    assert loaded.psf_grid is not None


# -- responses of edges ----------------------------------------------------------------------------------------------


@pytest.fixture
def edges(small_bank: PsfBank) -> EdgeResponses:
    found = small_bank.at().edges
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("xy_px", np.nan, "not finite"),
        ("angle_rad", np.inf, "not finite"),
        ("channel", -1, "negative"),
        ("channel", 3, "below 3"),
        ("freq_cpp", -0.1, "negative"),
        ("freq_cpp", 0.5, "increase"),
        ("freq_cpp", np.nan, "increase"),
        ("mtf", np.nan, "not finite"),
        ("mtf", -0.1, "negative"),
        ("mtf", 11.0, "exceed 10"),
        ("mtf_std", -0.1, "negative"),
        ("mtf_std", np.inf, "finite"),
        ("mtf50_cpp", -0.1, "negative"),
        ("mtf50_cpp", np.inf, "finite"),
        ("mtf50_std_cpp", -0.1, "negative"),
    ],
)
def test_one_wrong_value_of_an_edge_is_refused(edges: EdgeResponses, field: str, value: float, message: str) -> None:
    array = np.array(getattr(edges, field))
    array.flat[0] = value
    with pytest.raises(ValueError, match=message):
        replace(edges, **{field: array})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xy_px": np.zeros((6, 3))}, "shape"),
        ({"xy_px": np.zeros((5, 2))}, "shape"),
        ({"angle_rad": np.zeros(5)}, "shape"),
        ({"mtf": np.ones((6, 64))}, "shape"),
        ({"mtf_std": np.ones((5, 65))}, "shape"),
        ({"flags": np.zeros(7)}, "shape"),
        ({"channels": ("R", "G")}, "below 2"),
    ],
)
def test_impossible_responses_are_refused(edges: EdgeResponses, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(edges, **change)


def test_responses_survive_copying_and_a_file(small_bank: PsfBank, edges: EdgeResponses, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "bank.h5")
    loaded = PsfBank.open(tmp_path / "bank.h5").at().edges
    for again in (copy.deepcopy(edges), loaded):
        assert isinstance(again, EdgeResponses)
        assert len(again) == 6
        for field in fields(EdgeResponses):
            np.testing.assert_array_equal(getattr(again, field.name), getattr(edges, field.name))
        with pytest.raises(ValueError, match="read-only"):
            again.mtf[0] = 0


def test_a_bank_with_responses_alone_or_without_them_loads(small_bank: PsfBank, tmp_path: Path) -> None:
    for kept, dropped in (("edges", "evidence"), ("evidence", "edges")):
        PsfBank(small_bank.camera, (replace(small_bank.at(), **{dropped: None}),)).save(tmp_path / "bank.h5")
        loaded = PsfBank.open(tmp_path / "bank.h5").at()
        assert getattr(loaded, dropped) is None
        assert getattr(loaded, kept) is not None


def test_the_deviation_of_a_map_is_the_root_sum_of_its_modes(small_bank: PsfBank) -> None:
    """Three channels with modes of 0.01, 0.02 and 0.03 px in x alone and in y alone, the same all over the picture."""
    lens = small_bank.at().distortion
    assert lens is not None
    xy = np.array([[3.0, 4.0], [100.0, 70.0], [64.0, 48.0]])
    for channel, want in zip("RGB", (0.01, 0.02, 0.03), strict=True):
        np.testing.assert_allclose(lens.sigma_px(xy, channel), want, rtol=1e-6)
    assert np.isnan(lens.sigma_px([[np.nan, 2.0]])).all()


def test_modes_are_displacements_of_their_own_axis(small_bank: PsfBank) -> None:
    lens = small_bank.at().distortion
    assert lens is not None
    assert lens.uncertainty is not None
    knots = lens.knots_x, lens.knots_y
    moved = lens.uncertainty.displacements(np.array([[0.1, -0.2]]), *knots, channel=1)
    np.testing.assert_allclose(moved, [[[0.02, 0.0], [0.0, 0.02]]], atol=1e-8)
    sloped = replace(lens.uncertainty, modes=lens.uncertainty.modes * np.linspace(1, 2, len(lens.knots_x) - 4))
    right, left = sloped.sigma(np.array([[0.4, 0.0], [-0.4, 0.0]]), *knots, 0)[:, 0]
    assert right > left


def test_the_uncertainty_of_a_map_survives_in_a_bank(small_bank: PsfBank, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "a.h5")
    kept = PsfBank.open(tmp_path / "a.h5").at().distortion.uncertainty  # type: ignore[union-attr]
    here = small_bank.at().distortion.uncertainty  # type: ignore[union-attr]
    assert kept is not None
    assert here is not None
    np.testing.assert_array_equal(kept.modes, here.modes)
    assert kept.heldout_rms_px == here.heldout_rms_px
    assert kept.modes.dtype == np.float32


@pytest.mark.parametrize(
    ("modes", "heldout", "message"),
    [(np.ones((3, 2, 2, 8)), 0.1, "modes"), (np.full((3, 1, 2, 8, 9), np.inf), 0.1, "not finite"),
     (np.ones((3, 1, 2, 8, 9)), -0.1, "negative"), (np.ones((3, 1, 2, 8, 9)), np.inf, "negative")],
)  # fmt: skip
def test_an_uncertainty_that_cannot_be_is_refused(modes: np.ndarray, heldout: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MapUncertainty(modes, heldout)


def test_modes_on_other_knots_are_refused(small_bank: PsfBank) -> None:
    lens = small_bank.at().distortion
    assert lens is not None
    with pytest.raises(ValueError, match="modes"):
        replace(lens, uncertainty=MapUncertainty(np.ones((3, 1, 2, 5, 5))))
