"""Gates hold a bank's own figures against a number: what is not known never passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.gates import COMPARISONS, FIGURES, Gate, figures_of, judge, parse_gate
from psfbank.bank import PsfBank
from psfbank.metrics import mtf_along
from psfbank.model import Setting


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("mtf50_min>0.2", Gate("mtf50_min", ">", 0.2)),
        (" heldout_rms_px <= 1e-1 ", Gate("heldout_rms_px", "<=", 0.1)),
        ("flagged_captures<1", Gate("flagged_captures", "<", 1.0)),
        ("strehl_min>=.8", Gate("strehl_min", ">=", 0.8)),
    ],
)
def test_gate_is_read(text: str, gate: Gate) -> None:
    assert parse_gate(text) == gate


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mtf>0.2", "no figure is called mtf; there are mtf50_min, mtf50_median"),
        ("mtf50_min", "no comparison like mtf50_min>0.2; figures are mtf50_min"),
        ("mtf50_min=0.2", "no comparison"),
        ("mtf50_min>>0.2", "'>0.2' in 'mtf50_min>>0.2' is no number"),
        ("mtf50_min>sharp", "'sharp' in 'mtf50_min>sharp' is no number"),
        ("mtf50_min>nan", "must be finite"),
        ("", "no comparison"),
    ],
)
def test_what_is_no_gate_is_answered_with_what_there_is(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"figure|number") as refused:
        parse_gate(text)
    assert words in str(refused.value)


@given(st.sampled_from(sorted(COMPARISONS)), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_comparisons_are_those_of_numbers(sign: str, found: float, wanted: float) -> None:
    signs = {"<": found < wanted, "<=": found <= wanted, ">": found > wanted, ">=": found >= wanted}
    assert parse_gate(f"prnu_max{sign}{wanted!r}").holds(found) == signs[sign]


@pytest.mark.parametrize("sign", COMPARISONS)
def test_nothing_passes_unknown(sign: str) -> None:
    assert not Gate("prnu_max", sign, 0.0).holds(float("nan"))


def test_figures_are_the_bank_s_own(small_bank: PsfBank) -> None:
    calibration = small_bank.at()
    found = figures_of(calibration, small_bank.camera)
    assert list(found) == list(FIGURES)
    expected = {
        "coverage_min": 0.5, "observations_min": 250, "chi2_reserved_median": 1.595, "heldout_rms_px": 0.06,
        "rms_px_max": 0.05, "lateral_max_px": 0.1623, "gain_max_dn_per_e": 0.26, "read_noise_max_e": 2.2,
        "prnu_max": 0.006, "sigma_max": float(np.max(calibration.psf_grid.sigma)) if calibration.psf_grid else 0.0,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=2e-3)
    assert np.isnan(found["flagged_captures"])  # its provenance does not tell


def test_mtf50_is_that_of_the_worst_kernel_and_direction(small_bank: PsfBank) -> None:
    grid = small_bank.at().psf_grid
    assert grid is not None
    found = figures_of(small_bank.at(), small_bank.camera, ["mtf50_min", "mtf50_median"])
    middle = (np.array(small_bank.camera.size_px[::-1]) - 1) / 2
    at = found["mtf50_min"]

    def at_least(c: int, j: int, i: int) -> float:
        away = np.arctan2(grid.y_px[j] - middle[1], grid.x_px[i] - middle[0])
        turned = (
            mtf_along(grid.kernels[c, j, i], away + turn, np.array([at]), grid.oversample) for turn in (0, np.pi / 2)
        )
        return min(float(mtf[0]) for mtf in turned)

    least = [at_least(*node) for node in np.ndindex(grid.kernels.shape[:3])]
    assert min(least) == pytest.approx(0.5, abs=2e-3)
    assert found["mtf50_median"] > at


def test_strehl_of_a_perfect_wavefront_is_one(small_bank: PsfBank) -> None:
    calibration = small_bank.at()
    assert calibration.wavefront is not None
    assert 0 < figures_of(calibration, small_bank.camera, ["strehl_min"])["strehl_min"] < 1
    nothing = np.zeros_like(calibration.wavefront.coefficients_nm)
    perfect = replace(calibration, wavefront=replace(calibration.wavefront, coefficients_nm=nothing))
    assert figures_of(perfect, small_bank.camera, ["strehl_min"])["strehl_min"] == pytest.approx(1)


def test_flagged_captures_are_counted(small_bank: PsfBank) -> None:
    told = replace(small_bank.at(), provenance={"flagged": [{"name": "a"}, {"name": "b"}]})
    assert figures_of(told, small_bank.camera, ["flagged_captures"]) == {"flagged_captures": 2}


def test_a_part_that_nobody_captured_fails_its_gates(small_bank: PsfBank) -> None:
    (calibration,) = small_bank.calibrations
    bare = replace(calibration, psf_grid=None, wavefront=None, distortion=None, noise=None, noise_by_iso=None)
    bare = replace(bare, illumination=None, evidence=None, edges=None, axis=None)
    for name in FIGURES:
        (one,) = judge(PsfBank(small_bank.camera, (bare,)), [Gate(name, ">", -1e9)])
        assert not one.ok
        assert str(one) == f"{name}: wanted > -1e+09, the bank does not tell it"


def test_every_setting_must_pass(small_bank: PsfBank) -> None:
    (calibration,) = small_bank.calibrations
    assert calibration.noise is not None
    louder = replace(calibration.noise, read_noise_e=2 * calibration.noise.read_noise_e)
    settings = [
        replace(calibration, setting=Setting(focus_m=m), noise=noise, noise_by_iso=None, axis=None)
        for m, noise in ((1.0, calibration.noise), (2.0, louder))
    ]
    near, far = judge(PsfBank(small_bank.camera, tuple(settings)), [parse_gate("read_noise_max_e<3")])
    assert (near.ok, far.ok) == (True, False)
    assert str(far) == "read_noise_max_e: wanted < 3, found 4.4 e- (at focus_m 2)"
