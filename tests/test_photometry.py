"""Noise and shading of synthetic flats and darks, whose truth is known; tolerances are those of the statistics."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from calib.manifest import load_plan
from calib.photometry import fit_illumination, fit_noise
from calib.photometry.cells import channel_cells, site_offsets
from calib.photometry.noise import fit_line, frame_pairs, transfer_points
from psfbank.errors import FitFailed
from psfbank.model import Camera, Capture, NoiseModel
from psfbank.sensor import Sensor, cfa_sites

SHARED = Path(os.environ.get("PSFBANK_SHARED", Path(__file__).parents[2] / "shared"))
SHAPE = HEIGHT, WIDTH = 256, 320
BLACK, WHITE, GAIN, READ_E = 128.3, 4095.0, 0.6, 3.1
BAYER, MONO = Camera("M", "N", SHAPE, "GBRG"), Camera("M", "N", SHAPE, "mono")
BALANCE = np.array([0.7, 1.0, 0.8])
LEVELS = (0.06, 0.2, 0.4, 0.65)


def shading(channel: int = 1) -> np.ndarray:
    """Off-centre, steeper in blue than in red, and not symmetric in x and y: a swapped axis would show."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    u, v = (x - 180) / WIDTH, (y - 120) / HEIGHT
    return 1 - (0.5 + 0.1 * channel) * u**2 - 0.8 * v**2 - 0.1 * u**4


def expose(level: float, rng: np.random.Generator, camera: Camera = BAYER, **truth: float | np.ndarray) -> Capture:
    """Photons, PRNU, Poisson, dark current, read noise, hot pixels, gain, black level, rounding, clipping."""
    sites = cfa_sites(camera.cfa, SHAPE)
    field = np.choose(sites, [shading(c) for c in range(3)]) * BALANCE[sites] if camera is BAYER else shading()
    gain, exposure_s = float(truth.get("gain", GAIN)), float(truth.get("exposure_s", np.nan))
    electrons = level * field * (WHITE - BLACK) / gain * truth.get("fixed", 1.0)
    electrons = electrons + truth.get("dark_e_per_s", 0.0) * np.nan_to_num(exposure_s)
    collected = rng.poisson(electrons) + rng.normal(0, truth.get("read_e", READ_E), SHAPE)
    dn = np.clip(np.round(gain * collected + BLACK + truth.get("offset_dn", 0.0)), 0, WHITE)
    return Capture((dn - 128) / (WHITE - 128), dn >= WHITE, "flat", "", exposure_s)  # declared black: 128


def session(rng: np.random.Generator, levels: tuple[float, ...] = LEVELS, **truth: float | np.ndarray) -> list[Capture]:
    return [expose(level, rng, **truth) for level in levels for _ in range(2)]  # type: ignore[arg-type]


def four_sigma(flats: int, channel_share: float) -> float:
    """Relative error of a variance from that many pairs of frames, which is about the gain's; four times."""
    return 4 * np.sqrt(2 / (flats * channel_share * HEIGHT * WIDTH))


def test_gain_read_noise_and_black_level_of_a_shaded_bayer_camera() -> None:
    rng = np.random.default_rng(5)
    noise = fit_noise(session(rng), session(rng, (0.0,)), BAYER, 128, WHITE)
    # the brightest level gives less than its share, being beyond the linear range in part
    assert np.abs(noise.gain_dn_per_e / GAIN - 1).max() < four_sigma(3, 0.25)
    assert np.abs(noise.read_noise_e / READ_E - 1).max() < four_sigma(1, 0.25) / 2 + four_sigma(3, 0.25)
    black_sigma = np.hypot(READ_E * GAIN, 0.29) / np.sqrt(2 * HEIGHT * WIDTH / 4)
    assert np.abs(noise.black_dn - BLACK).max() < 4 * black_sigma
    np.testing.assert_array_equal(noise.white_dn, WHITE)
    assert noise.channels == ("R", "G", "B")
    assert np.isnan(noise.dark_e_per_s).all()
    assert noise.prnu.max() < 0.002


def test_each_channel_is_its_own() -> None:
    """Colours that differ in gain must not be mixed up."""
    rng, gains = np.random.default_rng(6), np.array([0.4, 0.6, 0.9])
    sites = cfa_sites(BAYER.cfa, SHAPE)
    captures = {}
    for name, levels in (("flat", LEVELS), ("dark", (0.0,))):
        per_gain = [session(np.random.default_rng(rng.integers(1 << 30)), levels, gain=gain) for gain in gains]
        captures[name] = [
            Capture(np.choose(sites, [c.pixels for c in frames]), np.zeros(SHAPE, bool), "", "")
            for frames in zip(*per_gain, strict=True)
        ]
    noise = fit_noise(captures["flat"], captures["dark"], BAYER, 128, WHITE)
    np.testing.assert_allclose(noise.gain_dn_per_e, gains, rtol=four_sigma(3, 0.25))


def test_order_of_the_frames_does_not_matter() -> None:
    rng = np.random.default_rng(7)
    flats, darks = session(rng, LEVELS[:3]), session(rng, (0.0,))
    shuffled = [flats[i] for i in (3, 0, 5, 1, 4, 2)]
    straight, mixed = (fit_noise(f, darks, BAYER, 128, WHITE) for f in (flats, shuffled))
    np.testing.assert_allclose(mixed.gain_dn_per_e, straight.gain_dn_per_e, rtol=1e-12)
    assert len(frame_pairs(shuffled)) == 3


def test_frames_of_different_levels_or_exposures_are_no_pair() -> None:
    rng = np.random.default_rng(8)
    a, b, c = (expose(level, rng) for level in (0.2, 0.3, 0.2))
    assert frame_pairs([a, b]) == []
    assert len(frame_pairs([a, b, c])) == 1
    short, long = (expose(0.0, rng, exposure_s=t) for t in (0.1, 10.0))
    assert frame_pairs([short, long]) == []


def test_prnu_without_the_shading_and_without_the_temporal_noise() -> None:
    rng = np.random.default_rng(9)
    fixed = 1 + 0.01 * rng.standard_normal(SHAPE)
    offset = rng.normal(0, 2.0, SHAPE)  # a fixed pattern of the darks is no photo response
    noise = fit_noise(
        session(rng, fixed=fixed, offset_dn=offset), session(rng, (0.0,), offset_dn=offset), BAYER, 128, WHITE
    )
    np.testing.assert_allclose(noise.prnu, 0.01, rtol=0.05)
    assert np.abs(noise.gain_dn_per_e / GAIN - 1).max() < four_sigma(3, 0.25)


def test_hot_pixels_and_dust_do_no_harm() -> None:
    rng = np.random.default_rng(10)
    hot = np.zeros(SHAPE)
    hot.flat[rng.choice(hot.size, 40, replace=False)] = rng.uniform(50, 3000, 40)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    dust = 1 - 0.08 * (np.hypot(x - 100, y - 60) < 9) - 0.05 * (np.hypot(x - 250, y - 200) < 6)
    flats, darks = session(rng, fixed=dust, offset_dn=hot), session(rng, (0.0,), offset_dn=hot)
    noise = fit_noise(flats, darks, BAYER, 128, WHITE)
    assert np.abs(noise.gain_dn_per_e / GAIN - 1).max() < four_sigma(3, 0.25)
    assert np.abs(noise.read_noise_e / READ_E - 1).max() < four_sigma(1, 0.25)
    assert np.abs(noise.black_dn - BLACK).max() < 0.05
    assert noise.prnu.max() < 0.002
    assert shading_error(fit_illumination(flats, BAYER, *nodes())) < 0.003


def test_saturated_flats_do_not_bend_the_curve() -> None:
    rng = np.random.default_rng(11)
    flats = [*session(rng), *session(rng, (0.97, 1.4))]
    assert flats[-1].saturated.any()
    noise = fit_noise(flats, session(rng, (0.0,)), BAYER, 128, WHITE)
    assert np.abs(noise.gain_dn_per_e / GAIN - 1).max() < four_sigma(3, 0.25)
    assert shading_error(fit_illumination(flats, BAYER, *nodes())) < 0.003


def test_dark_current_from_darks_of_several_exposures() -> None:
    rng = np.random.default_rng(12)
    darks = [expose(0.0, rng, dark_e_per_s=4.0, exposure_s=t) for t in (1.0, 10.0, 30.0) for _ in range(2)]
    noise = fit_noise(session(rng), darks, BAYER, 128, WHITE)
    np.testing.assert_allclose(noise.dark_e_per_s, 4.0, rtol=0.02)
    np.testing.assert_allclose(noise.black_dn, BLACK, atol=0.15)
    np.testing.assert_allclose(noise.read_noise_e, READ_E, rtol=0.05)


def test_monochrome_and_colour_pictures() -> None:
    rng = np.random.default_rng(13)
    flats = [expose(level, rng, MONO) for level in LEVELS[:3] for _ in range(2)]
    darks = [expose(0.0, rng, MONO) for _ in range(2)]
    noise = fit_noise(flats, darks, MONO, 128, WHITE)
    assert noise.channels == ("Y",)
    assert abs(noise.gain_dn_per_e[0] / GAIN - 1) < four_sigma(3, 1.0)

    def stacked(planes: list[Capture]) -> list[Capture]:
        shaped = [np.dstack([p.pixels, 0.5 * p.pixels, p.pixels]) for p in planes]
        return [Capture(pixels, p.saturated, "", "") for pixels, p in zip(shaped, planes, strict=True)]

    colour = fit_noise(stacked(flats), stacked(darks), Camera("M", "N", SHAPE, "RGB"), 128, WHITE)
    np.testing.assert_allclose(colour.gain_dn_per_e[[0, 2]], noise.gain_dn_per_e[0], rtol=1e-6)
    np.testing.assert_allclose(colour.gain_dn_per_e[1], noise.gain_dn_per_e[0] / 2, rtol=1e-4)


def test_without_darks_the_flats_alone_give_the_gain() -> None:
    rng = np.random.default_rng(14)
    noise = fit_noise(session(rng), [], BAYER, BLACK, WHITE)
    np.testing.assert_allclose(noise.gain_dn_per_e, GAIN, rtol=0.03)
    np.testing.assert_array_equal(noise.black_dn, BLACK)
    bright = fit_noise(session(rng, (0.35, 0.65)), [], BAYER, BLACK, WHITE)
    assert np.isnan(bright.read_noise_e).all()  # 2 DN of read noise under 25 of shot noise cannot be told
    with pytest.raises(FitFailed, match="which is no measurement"):
        fit_noise(session(rng, (0.5,)), [], BAYER, BLACK, WHITE)


def test_a_lone_dark_still_gives_the_black_level() -> None:
    rng = np.random.default_rng(15)
    noise = fit_noise(session(rng), [expose(0.0, rng)], BAYER, 128, WHITE)
    np.testing.assert_allclose(noise.black_dn, BLACK, atol=0.06)


def test_what_is_missing_is_named() -> None:
    rng = np.random.default_rng(16)
    darks = session(rng, (0.0,))
    with pytest.raises(FitFailed, match="no two of 0 flat captures"):
        fit_noise([], darks, BAYER, 128, WHITE)
    with pytest.raises(FitFailed, match="no two of 2 flat captures"):
        fit_noise([expose(0.2, rng), expose(0.4, rng)], darks, BAYER, 128, WHITE)
    bright = [expose(0.97, rng, MONO, fixed=1 / shading()) for _ in range(2)]
    with pytest.raises(FitFailed, match="linear range of channel Y"):
        fit_noise(bright, [], MONO, 128, WHITE)
    with pytest.raises(FitFailed, match="no flat captures"):
        fit_illumination([], BAYER, *nodes())
    with pytest.raises(FitFailed, match="not saturated"):
        fit_illumination([expose(3.0, rng)], BAYER, *nodes())


def test_read_noise_under_a_quantisation_step_is_an_upper_bound(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(17)
    truth = {"gain": 0.1, "read_e": 2.0}
    with caplog.at_level(logging.WARNING):
        noise = fit_noise(session(rng, **truth), session(rng, (0.0,), **truth), BAYER, 128, WHITE)  # type: ignore[arg-type]
    assert "upper bound" in caplog.text
    assert (noise.read_noise_e > 2.0).all()


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 5.0), st.floats(0.2, 50.0), st.integers(0, 2**31))
def test_line_through_a_photon_transfer_curve(gain: float, dark_dn2: float, seed: int) -> None:
    rng, count = np.random.default_rng(seed), np.full(900, 256.0)
    signal = np.linspace(0, 3000, 900)
    variance = (dark_dn2 + gain * signal) * rng.chisquare(255, 900) / 255
    variance[50::100] *= 5  # cells with something in them
    (fitted_dark, fitted_gain), (dark_error, gain_error) = fit_line(signal, variance, count)
    assert abs(fitted_gain - gain) < 5 * gain_error
    assert gain_error < 0.01 * gain
    assert abs(fitted_dark - dark_dn2) < 5 * dark_error


@given(st.sampled_from(["RGGB", "BGGR", "GRBG", "GBRG", "mono"]), st.integers(0, 2))
def test_cells_hold_the_sites_of_their_channel_in_order(cfa: str, channel: int) -> None:
    y, x = np.mgrid[:50, :70]
    channel = 0 if cfa == "mono" else channel
    sites = channel_cells(cfa_sites(cfa, (50, 70)), cfa, channel, 16)
    assert sites.shape[:2] == (3, 4)
    assert (sites == channel).all()
    offsets = site_offsets(cfa, channel, 16)
    np.testing.assert_array_equal(channel_cells(x, cfa, channel, 16)[1, 2], 32 + offsets[:, 0])
    np.testing.assert_array_equal(channel_cells(y, cfa, channel, 16)[1, 2], 16 + offsets[:, 1])


def nodes() -> tuple[np.ndarray, np.ndarray]:
    return np.linspace(0, WIDTH - 1, 13), np.linspace(0, HEIGHT - 1, 9)


def shading_error(illumination: object) -> float:
    y, x = np.mgrid[4 : HEIGHT - 4 : 9, 4 : WIDTH - 4 : 9]
    return max(
        float(np.abs(illumination.at(x, y, name) - shading(c)[y, x]).max())  # type: ignore[attr-defined]
        for c, name in enumerate("RGB")
    )


def test_illumination_of_each_channel_the_right_way_round() -> None:
    rng = np.random.default_rng(18)
    illumination = fit_illumination(session(rng), BAYER, *nodes(), session(rng, (0.0,)))
    assert shading_error(illumination) < 0.002
    assert illumination.relative.shape == (3, 9, 13)
    assert illumination.relative.max() <= 1


def test_darks_correct_a_wrong_black_level() -> None:
    rng = np.random.default_rng(19)
    dark_offset = {"offset_dn": 40.0}
    flats, darks = session(rng, (0.1,), **dark_offset), session(rng, (0.0,), **dark_offset)  # type: ignore[arg-type]
    assert shading_error(fit_illumination(flats, BAYER, *nodes())) > 0.02
    assert shading_error(fit_illumination(flats, BAYER, *nodes(), darks)) < 0.005


TRUTH = NoiseModel([0.6, 0.5, 0.8], [3.1, 2.6, 3.6], [9, 7, 8], [0.008, 0.01, 0.012], [128.3] * 3, [WHITE] * 3)


def simulated(sensor: Sensor, levels: tuple[float, ...], shape: tuple[int, int], seed: int) -> list[Capture]:
    """Pairs of even frames at each level, as a RAW file of declared black 128 brings them."""
    rng, captures = np.random.default_rng(seed), []
    for level in np.repeat(levels, 2):
        dn = sensor(np.full(shape, level, dtype=np.float32), rng)
        captures.append(Capture((dn - 128) / (WHITE - 128), dn >= WHITE, "", "", sensor.exposure_s))
    return captures


@pytest.mark.parametrize("shot", ["exact", "gaussian"])
def test_a_simulated_sensor_is_measured_as_what_it_was_made_from(shot: str) -> None:
    """Of red and blue, 82 000 sites a frame, ten pairs of flats give a gain to 0.2 %, of darks three a noise."""
    shape = 512, 640
    camera, levels = Camera("M", "N", shape, "RGGB"), tuple(np.linspace(0.06, 0.66, 10))
    sensor = Sensor(TRUTH, "RGGB", shot, exposure_s=0.5)  # type: ignore[arg-type]
    longer = replace(sensor, exposure_s=60.0)
    flats, darks = simulated(sensor, levels, shape, 1), simulated(sensor, (0.0,) * 3, shape, 2)
    found = fit_noise(flats, [*darks, *simulated(longer, (0.0,) * 2, shape, 3)], camera, 128, WHITE)
    np.testing.assert_allclose(found.gain_dn_per_e, TRUTH.gain_dn_per_e, rtol=0.01)
    np.testing.assert_allclose(found.read_noise_e, TRUTH.read_noise_e, rtol=0.01)
    np.testing.assert_allclose(found.black_dn, TRUTH.black_dn, atol=0.1)
    np.testing.assert_allclose(found.dark_e_per_s, TRUTH.dark_e_per_s, rtol=0.01)
    np.testing.assert_allclose(found.prnu, TRUTH.prnu, rtol=0.02)


@pytest.mark.parametrize("shot", ["exact", "gaussian"])
@pytest.mark.parametrize("level", [0.0, 0.002, 0.05, 0.5, 0.95])
def test_mean_and_variance_of_simulated_flats_at_every_level(shot: str, level: float) -> None:
    """Two pairs of 330 000 sites: a variance is known to 0.17 %, one sigma, a mean far better."""
    sensor = Sensor(replace(TRUTH, prnu=np.zeros(3)), "RGGB", shot)  # type: ignore[arg-type]
    frames = simulated(sensor, (level, level), (1024, 1280), 4)
    for c in range(3):
        points = [
            transfer_points(*(128 + (WHITE - 128) * f.pixels for f in pair), pair[0].saturated, "RGGB", c)
            for pair in (frames[:2], frames[2:])
        ]
        gain, black = TRUTH.gain_dn_per_e[c], TRUTH.black_dn[c]
        signal_dn = level * (WHITE - black)
        variance_dn2 = gain * signal_dn + (gain * TRUTH.read_noise_e[c]) ** 2 + 1 / 12
        weights = np.concatenate([p.count for p in points])
        assert np.average(np.concatenate([p.mean_dn for p in points]), weights=weights) - black == pytest.approx(
            signal_dn, rel=0.01, abs=5 * np.sqrt(variance_dn2 / weights.sum())
        )
        variance = np.average(np.concatenate([p.variance_dn2 for p in points]), weights=weights - 1)
        assert variance == pytest.approx(variance_dn2, rel=0.01)


@pytest.mark.parametrize("shot", ["exact", "gaussian"])
@pytest.mark.parametrize("over_dn", [-50.0, 0.0, 25.0])
def test_simulated_flats_saturate_as_a_clipped_bell_does(shot: str, over_dn: float) -> None:
    """Mean, variance and share of saturated samples where a part of a flat reaches the white level."""
    sensor = Sensor(replace(TRUTH, prnu=np.zeros(3)), "RGGB", shot)  # type: ignore[arg-type]
    gain, span = TRUTH.gain_dn_per_e[1], WHITE - TRUTH.black_dn[1]
    spread = np.sqrt(gain * (span + over_dn) + (gain * TRUTH.read_noise_e[1]) ** 2 + 1 / 12)
    frames = simulated(sensor, (1 + over_dn / span,), (1024, 1280), 5)
    own = cfa_sites("RGGB", (1024, 1280)) == 1
    missing = np.array([(WHITE - 128) * (1 - frame.pixels[own].astype(np.float64)) for frame in frames])
    sigmas = over_dn / spread
    below, density = stats.norm.cdf(-sigmas), stats.norm.pdf(sigmas)
    mean, square = density - sigmas * below, (1 + sigmas**2) * below - sigmas * density  # of a bell clipped at zero
    share = np.mean([frame.saturated[own] for frame in frames])
    assert share == pytest.approx(stats.norm.cdf(sigmas + 0.5 / spread), abs=0.003)  # half a step is rounded to white
    assert missing.mean() == pytest.approx(mean * spread, rel=0.01)
    assert missing.var() == pytest.approx((square - mean**2) * spread**2, rel=0.01)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared captures here")
def test_reference_camera() -> None:
    plan = load_plan(SHARED / "truth" / "camera_a" / "captures")
    flats, darks = (
        [plan.read(e, file) for e in plan.entries if e.kind == kind for file in e.files] for kind in ("flat", "dark")
    )
    assert plan.black_level is not None
    assert plan.white_level is not None
    noise = fit_noise(flats, darks, plan.camera, plan.black_level, plan.white_level)
    np.testing.assert_allclose(noise.gain_dn_per_e, 0.62, rtol=0.005)
    np.testing.assert_allclose(noise.read_noise_e, 2.6, rtol=0.01)
    np.testing.assert_allclose(noise.black_dn, 256, atol=0.02)
