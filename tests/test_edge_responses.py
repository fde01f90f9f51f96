"""Slanted edges of a session: every channel measured, bad captures left out, and a bank's own MTF50 beside them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr

from calib.edge.quality import EdgeFlag
from calib.edge_responses import FREQ_CPP, MEANING, measure_edges, predicted_mtf50_cpp, to_flag
from calib.manifest import Entry, Plan
from calib.session import Journal, Shot
from psfbank.flags import Flag
from psfbank.model import Calibration, Camera, Capture, EdgeResponses, PsfGrid, Setting

SIZE_PX = (96, 128)
BLUR_PX = {"R": 0.9, "G": 0.6, "B": 0.75}
NOISE = 2e-3


def plan(cfa: str = "RGGB", encoding: str = "linear") -> Plan:
    here = Path("session")
    return Plan(here / "capture.toml", here, Camera("", "", SIZE_PX, cfa), encoding, 0.0, 1.0, Setting(), (), ())


def shot(angle_deg: float, name: str, cfa: str = "RGGB") -> Shot:
    """One straight edge through the middle, each channel blurred by a Gaussian of its own."""
    angle = np.radians(angle_deg)
    y, x = np.indices(SIZE_PX) - np.array([[[47.3]], [[63.6]]])
    across = np.cos(angle) * x + np.sin(angle) * y
    pixels: npt.NDArray[np.float64] = np.zeros(SIZE_PX)
    sites = {"R": np.s_[::2, ::2], "B": np.s_[1::2, 1::2]} if cfa == "RGGB" else {}
    pixels = 0.1 + 0.6 * ndtr(across / BLUR_PX["G"])
    for channel, at in sites.items():
        pixels[at] = 0.1 + 0.6 * ndtr(across[at] / BLUR_PX[channel])
    pixels += np.random.default_rng(1).normal(0, NOISE, SIZE_PX)
    capture = Capture(pixels, np.zeros(SIZE_PX, dtype=bool), name, "0" * 64)
    return Shot(Entry("slanted_edge", (), Setting(), float("nan")), capture)


@pytest.fixture(scope="module")
def edges() -> EdgeResponses:
    found = measure_edges(plan(), [shot(8.0, "a.png"), shot(-58.0, "b.png")], Journal())
    assert found is not None
    return found


def test_every_channel_is_measured_on_its_own_sites(edges: EdgeResponses) -> None:
    assert len(edges) == 6
    assert sorted(edges.channel.tolist()) == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(edges.freq_cpp, np.arange(65) / 64)
    for k, channel in enumerate(edges.channel):
        sigma_px = BLUR_PX["RGB"[channel]]
        assert edges.mtf50_cpp[k] == pytest.approx(np.sqrt(np.log(2) / 2) / (np.pi * sigma_px), rel=0.04)
        want = np.exp(-2 * (np.pi * sigma_px * FREQ_CPP) ** 2)
        low = FREQ_CPP < 0.5
        np.testing.assert_allclose(edges.mtf[k][low], want[low], atol=0.03)
        assert 0 < edges.mtf50_std_cpp[k] < 0.02
    normals = np.degrees(edges.angle_rad[edges.channel == 1])
    np.testing.assert_allclose(np.sort(normals), [-58.0, 8.0], atol=0.3)
    np.testing.assert_allclose(edges.xy_px, np.tile([63.6, 47.3], (6, 1)), atol=8.0)


def test_a_bad_capture_is_left_out_and_the_rest_goes_on(edges: EdgeResponses) -> None:
    blank = shot(8.0, "blank.png")
    blank = replace(blank, capture=replace(blank.capture, pixels=np.full(SIZE_PX, 0.5)))
    journal, told = Journal(), []
    shots = [blank, shot(8.0, "a.png"), shot(-58.0, "b.png")]
    with ThreadPoolExecutor(2) as executor:
        found = measure_edges(plan(), shots, journal, executor, lambda *step: told.append(step))
    assert found is not None
    np.testing.assert_array_equal(found.mtf, edges.mtf)
    (flagged,) = journal.flagged
    assert (flagged["name"], flagged["flag"]) == ("blank.png", "unusable")
    assert "no straight edge" in flagged["reason"]
    assert journal.is_flagged("blank.png")
    assert not journal.is_flagged("a.png")
    assert told == [("measure edges", k, 3) for k in (1, 2, 3)]
    assert journal.summary["edges"] == {"measured": {"R": 2, "G": 2, "B": 2}}


def test_what_cannot_be_measured_is_said() -> None:
    assert measure_edges(plan(), [], journal := Journal()) is None
    assert journal.missing == {}
    assert measure_edges(plan(encoding="srgb"), [shot(8.0, "a.png")], journal) is None
    assert "gamma-coded" in journal.missing["edges"]
    blank = shot(8.0, "blank.png")
    blank = replace(blank, capture=replace(blank.capture, pixels=np.full(SIZE_PX, 0.5)))
    assert measure_edges(plan(), [blank], journal := Journal()) is None
    assert journal.missing["edges"] == "no capture shows a slanted edge that could be measured"


@pytest.mark.parametrize("flag", [flag for flag in EdgeFlag if flag])
def test_every_flag_of_an_edge_has_a_word_in_the_bank(flag: EdgeFlag) -> None:
    assert to_flag(flag) == MEANING[flag] != Flag.GOOD
    assert to_flag(flag | EdgeFlag.SHORT) == MEANING[flag] | Flag.SHORT


def test_good_edges_have_no_flag(edges: EdgeResponses) -> None:
    assert to_flag(EdgeFlag.GOOD) == Flag.GOOD
    assert edges.flags[edges.channel == 1].tolist() == [0, 0]


def test_a_banks_own_mtf50_is_taken_across_the_edge(edges: EdgeResponses) -> None:
    # wide across normals of 8 degrees, narrow across those at -58: a mirrored kernel would have it otherwise
    y, x = np.mgrid[-15:16, -15:16] / 3
    kernels = []
    for factor in (1.0, 1.3, 1.6):
        u, v = np.cos(0.3) * x + np.sin(0.3) * y, np.cos(0.3) * y - np.sin(0.3) * x
        kernel = np.exp(-0.5 * ((u / (0.9 * factor)) ** 2 + (v / (0.5 * factor)) ** 2))
        kernels.append(np.broadcast_to(kernel / kernel.sum(), (2, 2, 31, 31)))
    grid = PsfGrid([0.0, 127.0], [0.0, 95.0], np.array(kernels), oversample=3)
    found = predicted_mtf50_cpp(Calibration(psf_grid=grid), edges)
    for k, channel in enumerate(edges.channel):
        off = edges.angle_rad[k] - 0.3
        sigma_px = np.hypot(0.9 * np.cos(off), 0.5 * np.sin(off)) * (1.0, 1.3, 1.6)[channel]
        assert found[k] == pytest.approx(np.sqrt(np.log(2) / 2) / (np.pi * sigma_px), rel=0.02)
    assert np.isnan(predicted_mtf50_cpp(Calibration(), edges)).all()
