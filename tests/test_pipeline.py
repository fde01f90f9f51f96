"""The sample session from end to end, against the camera it was rendered from; sessions that lack a part."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.ndimage import fourier_shift
from scipy.optimize import least_squares, minimize
from scipy.spatial.transform import Rotation

from calib import calibrate, evidence, pipeline, unmodelled
from calib.edge_responses import predicted_mtf50_cpp
from calib.psf import LEAST_OBSERVATIONS
from calib.wavefront import WavefrontFit
from psfbank.bank import PsfBank
from psfbank.blur import SpatiallyVaryingBlur
from psfbank.errors import MissingPartError
from psfbank.flags import Flag
from psfbank.model import Calibration

SAMPLE = Path(__file__).parents[1] / "sample_captures"
EXPOSURE_S = 0.04

Array = np.ndarray
Part = Callable[..., Path]


class Run(NamedTuple):
    """What came of the sample session: the bank, the wavefront inside, and the steps that were told."""

    bank: PsfBank
    wavefront: WavefrontFit
    told: list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def run() -> Run:
    fits, told = [], []
    measure = pipeline.measure_wavefront

    def measure_and_keep(*arguments: Any) -> WavefrontFit | None:
        fits.append(measure(*arguments))
        return fits[0]

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as executor:
        patch.setattr(pipeline, "measure_wavefront", measure_and_keep)
        bank = calibrate(SAMPLE, executor=executor, report=lambda *step: told.append(step))
    return Run(bank, fits[0], told)


@pytest.fixture(scope="module")
def truth() -> Calibration:
    return PsfBank.open(SAMPLE / "truth.h5").at()


@pytest.fixture(scope="module")
def got(run: Run) -> Calibration:
    return run.bank.at()


HEIGHT_PX, WIDTH_PX = 384, 512
PLACES_PX = np.stack(np.meshgrid(np.linspace(0, WIDTH_PX - 1, 9), np.linspace(0, HEIGHT_PX - 1, 7)), -1).reshape(-1, 2)


def psf_error(got: Array, want: Array) -> float:
    """Relative L2 after the best shift."""
    width = max(len(got), len(want))
    got, want = (np.pad(kernel, (width - len(kernel)) // 2) for kernel in (got, want))
    spectrum = np.fft.fft2(want)

    def miss(shift: Array) -> float:
        return float(np.linalg.norm(got - np.fft.ifft2(fourier_shift(spectrum, shift)).real))

    start = np.array([(0.0, 0.0), (0.2, 0.0), (0.0, 0.2)])
    best = minimize(miss, start[0], method="Nelder-Mead", options={"initial_simplex": start, "xatol": 2e-3})
    return float(best.fun / np.linalg.norm(want))


@pytest.mark.parametrize("channel", ["R", "G", "B"])
def test_psfs_are_those_of_the_camera_all_over_the_field(got: Calibration, truth: Calibration, channel: str) -> None:
    middle = truth.psf(WIDTH_PX / 2, HEIGHT_PX / 2, channel)
    wants = [truth.psf(x, y, channel) for x, y in PLACES_PX]
    errors = [psf_error(got.psf(x, y, channel), want) for (x, y), want in zip(PLACES_PX, wants, strict=True)]
    assert np.median(errors) < 0.08
    assert np.percentile(errors, 90) < 0.10
    assert np.median([psf_error(middle, want) for want in wants]) > 3 * np.median(errors)


@pytest.mark.parametrize("mirror", [np.s_[:, ::-1], np.s_[::-1], np.s_[::-1, ::-1]], ids=["x", "y", "turned"])
def test_mirrored_psfs_are_not(got: Calibration, truth: Calibration, mirror: tuple[slice, ...]) -> None:
    corner = 30.0, 25.0
    want = truth.psf(*corner, "G")
    assert psf_error(got.psf(*corner, "G")[mirror], want) > 3 * psf_error(got.psf(*corner, "G"), want)


def test_a_replay_is_that_of_the_camera(got: Calibration, truth: Calibration) -> None:
    sharp = np.random.default_rng(0).random((HEIGHT_PX // 4, WIDTH_PX // 4)).repeat(4, 0).repeat(4, 1)
    blurred = [
        SpatiallyVaryingBlur(calibration.psf_grid, sharp.shape, channel="G").forward(sharp.astype(np.float32))
        for calibration in (got, truth)
    ]
    inside = np.s_[16:-16, 16:-16]
    psnr_db = -10 * np.log10(np.mean((blurred[0] - blurred[1])[inside] ** 2))
    assert psnr_db > 43
    assert psnr_db > -10 * np.log10(np.mean((sharp - blurred[1])[inside] ** 2)) + 20


def test_tiles_without_points_of_their_own_are_filled_and_flagged(got: Calibration, truth: Calibration) -> None:
    grid = got.psf_grid
    assert grid is not None
    filled = np.asarray(grid.flags) & Flag.FILLED != 0
    np.testing.assert_array_equal(filled, np.asarray(grid.n_obs) < LEAST_OBSERVATIONS)
    assert 0 < filled.sum() < 0.2 * filled.size
    for c, j, i in np.argwhere(filled)[::5]:
        place = grid.x_px[i], grid.y_px[j], grid.channels[c]
        assert psf_error(got.psf(*place), truth.psf(*place)) < 0.15


def test_the_expected_error_is_of_the_order_of_the_error(got: Calibration, truth: Calibration) -> None:
    grid = got.psf_grid
    assert grid is not None
    expected = np.asarray(grid.sigma)
    assert (expected > 0).all()
    places = [(x, y) for y in grid.y_px[1::2] for x in grid.x_px[1::3]]
    errors = [psf_error(got.psf(x, y, "G"), truth.psf(x, y, "G")) for x, y in places]
    assert 0.2 * np.median(errors) < np.median(expected[1]) < 2 * np.median(errors)


def test_the_images_of_every_tile_agree_with_the_fit(got: Calibration) -> None:
    assert got.evidence is not None
    assert got.psf_grid is not None
    seen = np.asarray(got.psf_grid.n_obs) > 0
    np.testing.assert_array_equal(np.isfinite(got.evidence.chi2_used), seen)
    for chi2 in (got.evidence.chi2_used, got.evidence.chi2_reserved):
        assert np.nanmedian(chi2) == pytest.approx(1.0, abs=0.15)
    assert np.isfinite(got.evidence.asymmetry).any()
    middle = got.evidence.residual.mean((1, 2))
    assert np.abs(middle).max() < 0.02, "of the peak, on the mean over the field"


def test_the_edges_show_the_sharpness_of_the_psfs(got: Calibration, truth: Calibration) -> None:
    edges = got.edges
    assert edges is not None
    assert got.provenance["summary"]["edges"] == {
        "measured": {c: int(np.sum(edges.channel == k)) for k, c in enumerate(edges.channels)}
    }
    for calibration in (got, truth):
        off = predicted_mtf50_cpp(calibration, edges) - edges.mtf50_cpp
        for channel in range(3):
            known = off[(edges.channel == channel) & np.isfinite(off)]
            assert len(known) > 250
            assert abs(np.median(known)) < 0.006
            assert np.median(np.abs(known)) < 0.012


def rays_and_pixels(truth: Calibration) -> tuple[Array, Array]:
    x, y = np.meshgrid(np.linspace(8, WIDTH_PX - 9, 30), np.linspace(8, HEIGHT_PX - 9, 22))
    seen_px = np.column_stack([x.ravel(), y.ravel()])
    assert truth.distortion is not None
    return truth.distortion.unproject(seen_px, channel="G"), seen_px


def turned(rays: Array, turn: Array, stretch: float = 1.0) -> Array:
    directions = np.column_stack([rays, np.ones(len(rays))]) @ Rotation.from_rotvec(turn).as_matrix().T
    return stretch * directions[:, :2] / directions[:, 2:]


def rms(miss: Array) -> float:
    return float(np.sqrt(np.mean(np.sum(miss.reshape(-1, 2) ** 2, axis=1))))


def test_the_map_is_the_cameras_but_for_a_turn_of_its_frame(got: Calibration, truth: Calibration) -> None:
    rays, seen_px = rays_and_pixels(truth)
    assert got.distortion is not None

    def miss(unknowns: Array) -> Array:
        return np.ravel(got.distortion.project(turned(rays, unknowns[:3], *unknowns[3:]), "G") - seen_px)

    assert rms(least_squares(miss, np.zeros(3)).fun) < 0.22  # of which nearly all is the focal length, to 0.1 %
    assert rms(least_squares(miss, [0, 0, 0, 1]).fun) < 0.03
    claimed = got.provenance["summary"]["distortion"]
    assert claimed["heldout_rms_px"] < 0.04
    assert claimed["rms_px"] == pytest.approx(got.distortion.rms_px[1], abs=1e-4)


@pytest.mark.parametrize("channel", ["R", "B"])
def test_lateral_colour(got: Calibration, truth: Calibration, channel: str) -> None:
    rays, seen_px = rays_and_pixels(truth)
    assert got.distortion is not None
    assert truth.distortion is not None
    found_px = got.distortion.unproject(seen_px, channel="G")
    shift = got.distortion.project(found_px, channel) - seen_px
    want = truth.distortion.project(rays, channel) - seen_px
    assert rms(want) > 0.1
    assert rms(shift - want) < 0.04


def test_noise(got: Calibration, truth: Calibration) -> None:
    noise, want = got.noise, truth.noise
    assert noise is not None
    assert want is not None
    np.testing.assert_allclose(noise.gain_dn_per_e, want.gain_dn_per_e, rtol=0.005)
    # all frames are exposed alike, so the dark current's electrons and their noise count as offset and read noise
    dark_e = want.dark_e_per_s * EXPOSURE_S
    np.testing.assert_allclose(noise.black_dn, want.black_dn + want.gain_dn_per_e * dark_e, atol=0.01)
    np.testing.assert_allclose(noise.read_noise_e, np.hypot(want.read_noise_e, np.sqrt(dark_e)), rtol=0.01)
    np.testing.assert_array_equal(noise.white_dn, want.white_dn)


@pytest.mark.parametrize("channel", ["R", "G", "B"])
def test_shading(got: Calibration, truth: Calibration, channel: str) -> None:
    x, y = PLACES_PX.T
    found, want = (c.shading(x, y, channel) / np.max(c.shading(x, y, channel)) for c in (got, truth))
    assert want.min() < 0.5
    np.testing.assert_allclose(found, want, atol=7e-3)  # in the corners, where little light falls; 2e-3 elsewhere


def test_provenance_tells_what_went_in_and_what_came_out(run: Run, got: Calibration) -> None:
    told = got.provenance
    assert told["missing"] == {}
    assert told["flagged"] == []
    assert {row["kind"] for row in told["inputs"]} >= {"led", "slanted_edge", "chessboard", "flat", "dark"}
    for row in told["inputs"]:
        assert row["sha256"] == hashlib.sha256((SAMPLE / row["name"]).read_bytes()).hexdigest()
    assert set(told["summary"]) == {"noise", "shading", "psf", "distortion", "edges"}
    assert str(SAMPLE.parent) not in json.dumps(dict(told))
    grid = got.psf_grid
    assert grid is not None
    psf = told["summary"]["psf"]
    assert psf["tiles"] == [len(grid.y_px), len(grid.x_px)]
    assert psf["tiles_filled"] == int(np.sum(np.asarray(grid.flags) & Flag.FILLED != 0))
    assert psf["points"] > 350
    assert psf["pieces_of_charts"] > 100
    assert 60 < psf["profiles_of_edges"] <= 82
    sources = psf["points"] + psf["pieces_of_charts"] + psf["profiles_of_edges"]
    assert psf["reserved"] == pytest.approx(0.2 * sources, abs=2)
    assert psf["chi2_per_sample_reserved"] < 1.3
    for row in psf["rejected"]:
        assert set(row) == {"capture", "x_px", "y_px", "chi2_per_sample"}
    assert psf["led_frames"] == 3
    assert psf["f_number_declared"] is True
    assert 0.8 < psf["chi2_per_sample"] < 1.2


def test_every_step_is_told_to_its_end(run: Run) -> None:
    steps = list(dict.fromkeys(step for step, _, _ in run.told))
    assert steps == [
        *("read captures", "find points", "find chessboards", "measure edges", "find edges"),
        *("gather", "wavefront", "remainder", "centre corners", "distortion"),
    ]
    for step in steps:
        done, total = zip(*((d, t) for s, d, t in run.told if s == step), strict=True)
        assert list(done) == sorted(done)
        assert done[-1] == total[-1]


def test_the_bank_survives_its_file(run: Run, tmp_path: Path) -> None:
    run.bank.save(tmp_path / "phone.h5")
    opened = PsfBank.open(tmp_path / "phone.h5")
    x, y = 100.3, 57.9
    np.testing.assert_array_equal(opened.at().psf(x, y, "B"), run.bank.at().psf(x, y, "B"))
    assert opened.camera == run.bank.camera
    assert (
        opened.at().setting.known()
        == run.bank.at().setting.known()
        == {"focal_mm": 0.5949, "f_number": 2.0, "iso": 100}
    )
    stored, told = opened.at().provenance, run.bank.at().provenance
    for part in ("versions", "inputs", "flagged", "missing", "summary"):
        assert stored[part] == told[part]


def test_without_points_the_boards_give_the_psfs(
    sample_part: Part, truth: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "MOST_PIECES", 110)  # enough for a test
    monkeypatch.setattr(unmodelled, "MOST_PIECES", 20)
    with ThreadPoolExecutor(2) as executor:
        calibration = calibrate(sample_part("chessboard", "flat", "dark"), executor=executor).at()
    assert calibration.provenance["missing"] == {}
    summary = calibration.provenance["summary"]["psf"]
    assert (summary["points"], len(summary["charts_excite"])) == (0, 8)
    places = [(x, y) for x in (60.0, 255.0, 450.0) for y in (60.0, 190.0, 320.0)]
    for channel in "RGB":
        errors = [relative_error(calibration, truth, x, y, channel) for x, y in places]
        assert np.median(errors) < 0.12, channel


def relative_error(got: Calibration, truth: Calibration, x_px: float, y_px: float, channel: str) -> float:
    kernel, expected = got.psf(x_px, y_px, channel), truth.psf(x_px, y_px, channel)
    pad = (expected.shape[0] - kernel.shape[0]) // 2
    kernel, expected = np.pad(kernel, max(pad, 0)), np.pad(expected, max(-pad, 0))
    return float(np.linalg.norm(kernel - expected) / np.linalg.norm(expected))


def test_boards_without_evidence_give_a_bank_without_psfs(sample_part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "gather", lambda *_: None)
    calibration = calibrate(sample_part("chessboard", "flat", "dark")).at()
    assert calibration.psf_grid is None
    assert calibration.wavefront is None
    assert calibration.distortion is not None
    assert calibration.illumination is not None
    assert calibration.noise is not None
    assert set(calibration.provenance["summary"]) == {"noise", "shading", "distortion"}
    with pytest.raises(MissingPartError):
        calibration.psf(10, 10)


def test_without_boards_the_map_rests_on_the_points(
    run: Run, sample_part: Part, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pipeline, "measure_wavefront", lambda *arguments: run.wavefront)
    with caplog.at_level(logging.WARNING):
        calibration = calibrate(sample_part("led", "flat", "dark")).at()
    assert calibration.psf_grid is not None
    np.testing.assert_array_equal(calibration.psf_grid.kernels, run.bank.at().psf_grid.kernels)
    assert calibration.noise is not None
    assert calibration.provenance["missing"] == {}
    assert calibration.distortion is not None
    assert calibration.provenance["summary"]["distortion"]["views"] == 3
    assert "only as sure as the point grids are tilted" in caplog.text


def test_without_flats_there_is_a_map_and_neither_noise_nor_shading(
    sample_part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "gather", lambda *_: None)
    calibration = calibrate(sample_part("chessboard", "dark")).at()
    assert calibration.noise is None
    assert calibration.illumination is None
    assert calibration.distortion is not None
    missing = calibration.provenance["missing"]
    assert set(missing) == {"noise", "shading"}
    assert "no two of 0 flat captures show one level" in missing["noise"]
    assert missing["shading"] == "the session has no usable flat captures"


def test_flats_and_darks_alone_give_noise_and_shading(sample_part: Part) -> None:
    calibration = calibrate(sample_part("flat", "dark") / "capture.toml").at()
    assert calibration.noise is not None
    assert calibration.illumination is not None
    assert calibration.distortion is None
    assert calibration.provenance["missing"] == {
        "psf": "no capture shows a grid of points or a chart",
        "distortion": "no capture shows a chessboard or a grid of points",
    }
