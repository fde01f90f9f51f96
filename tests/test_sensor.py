"""The sensor against the closed forms of its statistics; tolerances are five standard errors unless they say else."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from psfbank.model import NoiseModel
from psfbank.sensor import (
    ReadMixture,
    Sensor,
    cfa_sites,
    digitise,
    fixed_pattern,
    mosaic,
    read_out,
    read_out_gaussian,
)

NOISE = NoiseModel([0.6, 0.5, 0.8], [2.5, 2.0, 3.0], [40, 20, 30], [0.01, 0.02, 0.005], [64, 64, 66], [4095] * 3)
MONO = NoiseModel([0.6], [2.5], [40], [0.01], [64], [4095], ("Y",))
DRAWS = (read_out, read_out_gaussian)


@pytest.mark.parametrize(
    ("cfa", "top", "bottom"),
    [("RGGB", [0, 1, 0], [1, 2, 1]), ("BGGR", [2, 1, 2], [1, 0, 1]), ("GRBG", [1, 0, 1], [2, 1, 2])],
)
def test_sites_repeat_the_pattern_from_the_top_left(cfa: str, top: list[int], bottom: list[int]) -> None:
    np.testing.assert_array_equal(cfa_sites(cfa, (3, 3)), [top, bottom, top])


@given(st.sampled_from(["RGGB", "BGGR", "GRBG", "GBRG", "mono"]), st.integers(0, 5), st.integers(0, 5))
def test_a_window_of_the_mosaic_keeps_its_place(cfa: str, y: int, x: int) -> None:
    np.testing.assert_array_equal(cfa_sites(cfa, (5, 6), (y, x)), cfa_sites(cfa, (12, 12))[y : y + 5, x : x + 6])


def test_a_monochrome_sensor_has_one_kind_of_site() -> None:
    assert not cfa_sites("mono", (3, 5)).any()


@pytest.mark.parametrize("cfa", ["RGB", "RGBW", ""])
def test_what_is_no_mosaic_is_refused(cfa: str) -> None:
    with pytest.raises(ValueError, match="2 x 2 mosaic"):
        cfa_sites(cfa, (4, 4))


def test_a_mosaic_keeps_the_colour_of_each_site() -> None:
    image = np.broadcast_to(np.array([0.1, 0.2, 0.3], np.float32), (5, 6, 3))
    np.testing.assert_allclose(mosaic(image, "GBRG")[:2, :2], [[0.2, 0.3], [0.1, 0.2]])
    np.testing.assert_allclose(mosaic(image, "GBRG", (1, 0))[:2, :2], [[0.1, 0.2], [0.2, 0.3]])
    np.testing.assert_allclose(mosaic(image[..., :1], "mono"), 0.1)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("expected_e", [0.0, 3.0, 200.0])
def test_mean_and_variance_follow_the_photon_transfer_line(draw: type, expected_e: float) -> None:
    """EMVA 1288: the variance of electrons is the signal plus the squared read noise."""
    read = draw(np.full((400, 500), expected_e), 2.5, np.random.default_rng(0))
    variance = expected_e + 2.5**2

    assert read.mean() == pytest.approx(expected_e, abs=5 * np.sqrt(variance / read.size))
    kurtosis = 3 + expected_e / variance**2  # of a Poisson variate plus a Gaussian one
    assert read.var() == pytest.approx(variance, rel=5 * np.sqrt((kurtosis - 1) / read.size))


@pytest.mark.parametrize(("expected_e", "read_e"), [(3.0, 2.5), (12.5, 2.5), (200.0, 2.5), (100.0, 0.5)])
def test_what_the_gaussian_draw_loses_is_the_skewness(expected_e: float, read_e: float) -> None:
    signal, variance = np.full((1000, 1000), expected_e), expected_e + read_e**2
    skewness = expected_e / variance**1.5
    exact, near = (draw(signal, read_e, np.random.default_rng(1)).ravel() for draw in DRAWS)
    sigma = np.sqrt(6 / signal.size)  # of a sample skewness

    assert stats.skew(exact) == pytest.approx(skewness, abs=5 * sigma)
    assert stats.skew(near) == pytest.approx(0.0, abs=5 * sigma)
    # 1/6 of the skewness times the normal density at its middle, by Edgeworth's series
    stated = skewness / (6 * np.sqrt(2 * np.pi))
    distance = stats.ks_2samp(exact, near).statistic
    assert stated - 0.003 < distance < 1.15 * stated + 0.003  # two samples of a million lie 0.002 apart by chance


def test_without_read_noise_few_electrons_are_steps() -> None:
    """The distance that the module states for one electron is Poisson's own from a Gaussian."""
    near = read_out_gaussian(np.ones(200_000), 0.0, np.random.default_rng(2))
    steps = np.arange(8)
    below = np.searchsorted(np.sort(near), steps, side="left") / near.size
    upto = np.searchsorted(np.sort(near), steps, side="right") / near.size
    distance = max(
        np.abs(stats.poisson.cdf(steps, 1) - upto).max(), np.abs(stats.poisson.cdf(steps - 1, 1) - below).max()
    )
    assert distance == pytest.approx(0.24, abs=0.01)


@pytest.mark.parametrize("draw", DRAWS)
def test_read_noise_may_differ_by_site(draw: type) -> None:
    noise = np.where(cfa_sites("RGGB", (300, 300)) == 1, 1.0, 4.0)
    read = draw(np.zeros((300, 300)), noise, np.random.default_rng(1))

    assert read[noise == 1].std() == pytest.approx(1.0, rel=0.02)
    assert read[noise == 4].std() == pytest.approx(4.0, rel=0.02)


@pytest.mark.parametrize("draw", DRAWS)
def test_a_well_fills_before_it_is_read(draw: type) -> None:
    read = draw(np.full(100_000, 2000.0), 3.0, np.random.default_rng(3), full_well_e=1500.0)
    assert read.mean() == pytest.approx(1500, abs=0.05)
    assert read.std() == pytest.approx(3.0, rel=0.012)


@pytest.mark.parametrize("draw", DRAWS)
def test_a_mixture_of_read_noise_keeps_its_variance_and_gets_its_tail(draw: type) -> None:
    share, ratio = np.array([0.97, 0.03]), np.array([1.0, 4.0])
    read = draw(np.zeros(1_000_000), 2.0, np.random.default_rng(4), mixture=ReadMixture((97, 3), (1, 4)))
    kurtosis = 3 * (share @ ratio**4) / (share @ ratio**2) ** 2
    assert read.var() == pytest.approx(4.0, rel=5 * np.sqrt((kurtosis - 1) / read.size))
    assert stats.kurtosis(read, fisher=False) == pytest.approx(kurtosis, rel=0.05)


@pytest.mark.parametrize(
    ("share", "ratio"), [((), ()), ((1.0,), (1.0, 2.0)), ((0.0, 1.0), (1.0, 1.0)), ((1.0,), (-1.0,)), ((1.0,), (0.0,))]
)
def test_a_mixture_of_nothing_is_refused(share: tuple[float, ...], ratio: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="`ratio`"):
        ReadMixture(share, ratio)


def test_digital_numbers_are_whole_and_stay_within_the_range() -> None:
    dn = digitise(np.array([-500.0, 0.0, 10.0, 13.0, 1e9]), 0.5, 64.0, 1023.0)
    np.testing.assert_array_equal(dn, [0, 64, 69, 70, 1023])


def test_quantisation_adds_a_twelfth_of_a_step_to_the_variance() -> None:
    signal = np.random.default_rng(2).uniform(100, 200, 100_000)
    error = digitise(signal, 0.7, 64.0, 1023.0) - (64 + 0.7 * signal)
    assert error.var() == pytest.approx(1 / 12, rel=0.02)


@given(st.integers(0, 150), st.integers(0, 150), st.integers(1, 90), st.integers(1, 90))
def test_a_window_holds_the_pattern_of_the_whole_sensor(y: int, x: int, height: int, width: int) -> None:
    whole = fixed_pattern((240, 240), seed=3)
    np.testing.assert_array_equal(fixed_pattern((height, width), (y, x), 3), whole[y : y + height, x : x + width])


def test_the_pattern_is_gaussian_white_and_the_sensors_own() -> None:
    pattern = fixed_pattern((512, 640))
    assert stats.kstest(pattern.ravel()[:100_000], "norm").pvalue > 0.001
    sigma = 1 / np.sqrt(pattern.size)
    assert abs((pattern[:-1] * pattern[1:]).mean()) < 5 * sigma
    assert abs((pattern[:, :-1] * pattern[:, 1:]).mean()) < 5 * sigma
    assert abs((pattern * fixed_pattern((512, 640), seed=1)).mean()) < 5 * sigma
    assert abs((pattern[:64, :64] * pattern[64:128, :64]).mean()) < 5 / 64
    with pytest.raises(ValueError, match="on the sensor"):
        fixed_pattern((4, 4), (-1, 0))


def light(shape: tuple[int, ...] = (70, 50)) -> np.ndarray:
    return np.random.default_rng(9).uniform(0, 0.9, shape).astype(np.float32)


SENSORS = [
    (Sensor(NOISE, cfa), (71, 51)) for cfa in ("RGGB", "BGGR", "GRBG", "GBRG")
] + [(Sensor(MONO, "mono"), (71, 51)), (Sensor(NOISE, "RGB"), (71, 51, 3))]  # fmt: skip


@pytest.mark.parametrize(("sensor", "shape"), SENSORS)
def test_without_noise_light_comes_back(sensor: Sensor, shape: tuple[int, ...]) -> None:
    rng, seen = np.random.default_rng(0), light(shape)
    dn = sensor(seen, rng, origin=(3, 4), noise=False, quantise=False)
    np.testing.assert_allclose(sensor.to_linear(dn, (3, 4)), seen, atol=1e-6)
    whole = sensor(seen, rng, origin=(3, 4), noise=False)
    np.testing.assert_array_equal(whole, np.rint(dn))
    assert sensor(4 * seen, rng, noise=False).max() == 4095
    assert sensor(-seen, rng, noise=False).min() == 0


@pytest.mark.parametrize(("sensor", "shape"), SENSORS)
@pytest.mark.parametrize("shot", ["exact", "gaussian"])
def test_each_channel_has_its_own_noise(sensor: Sensor, shape: tuple[int, ...], shot: str) -> None:
    """Electrons of signal, dark current and read noise by channel, and the sensitivity of each pixel."""
    sensor = replace(sensor, shot=shot, exposure_s=2.0)
    rng, model = np.random.default_rng(1), sensor.noise
    frames = np.stack([sensor(np.full(shape, 0.2), rng, origin=(1, 0), quantise=False) for _ in range(200)])
    own = frames.astype(np.float64).mean(axis=0)
    temporal = frames.astype(np.float64).var(axis=0, ddof=1)
    where = np.arange(3) if len(shape) == 3 else cfa_sites(sensor.cfa, shape, (1, 0))  # type: ignore[arg-type]
    where = np.broadcast_to(where, shape)
    for c in range(len(model.channels)):
        at, gain = where == c, model.gain_dn_per_e[c]
        lit_e = 0.2 * (model.white_dn[c] - model.black_dn[c]) / gain
        mean_e, read_e = lit_e + 2 * model.dark_e_per_s[c], model.read_noise_e[c]
        count = at.sum()
        blur = model.prnu[c] * lit_e / np.sqrt(count)  # what the pattern's own mean adds
        sigma = np.hypot(np.sqrt((mean_e + read_e**2) / (200 * count)), blur)
        assert (own[at].mean() - model.black_dn[c]) / gain == pytest.approx(mean_e, abs=5 * sigma)
        assert temporal[at].mean() / gain**2 == pytest.approx(mean_e + read_e**2, rel=5 * np.sqrt(2 / (200 * count)))
        spread = np.hypot(model.prnu[c] * lit_e, np.sqrt((mean_e + read_e**2) / 200))
        assert own[at].std() / gain == pytest.approx(spread, rel=5 / np.sqrt(2 * count))


def test_one_sensor_is_alike_in_every_picture_and_window() -> None:
    sensor = Sensor(NOISE)
    whole = sensor.sensitivity((90, 80))
    assert whole is not None
    np.testing.assert_array_equal(sensor.sensitivity((31, 21), (7, 10)), whole[7:38, 10:31])
    other = replace(sensor, prnu_seed=1).sensitivity((90, 80))
    assert np.any(other != whole)
    assert replace(sensor, prnu_seed=None).sensitivity((90, 80)) is None
    assert Sensor(replace(NOISE, prnu=[0, np.nan, 0])).sensitivity((4, 4)) is None


def test_what_is_drawn_depends_on_the_generator_alone() -> None:
    sensor, seen = Sensor(NOISE), light((600, 700))
    first = sensor(seen, np.random.default_rng(5))
    given_ = sensor.sensitivity(seen.shape)
    np.testing.assert_array_equal(sensor(seen, np.random.default_rng(5), sensitivity=given_), first)
    with ThreadPoolExecutor(3) as executor:
        np.testing.assert_array_equal(sensor(seen, np.random.default_rng(5), executor=executor), first)
    rng = np.random.Generator(np.random.Philox(key=[7, 1]))
    again, other = sensor(seen, rng), sensor(seen, rng)
    assert np.mean(again != other) > 0.9
    assert np.mean(first != again) > 0.9


def autocorrelation(sensor: Sensor) -> np.ndarray:
    """Of the temporal noise, normalised, by lag in y and x."""
    a, b = (sensor(np.full((256, 512), 0.3), np.random.default_rng(seed)) for seed in (6, 7))
    power = np.abs(np.fft.fft2(a - b - (a - b).mean())) ** 2
    lags = np.fft.ifft2(power).real
    return lags / lags[0, 0]


@pytest.mark.parametrize("shot", ["exact", "gaussian"])
def test_the_noise_spectrum_is_white_unless_rows_or_columns_share_noise(shot: str) -> None:
    sensor = Sensor(MONO, "mono", shot=shot)  # type: ignore[arg-type]
    samples = 256 * 512
    lags = autocorrelation(sensor)
    assert np.abs(lags.ravel()[1:]).max() < 5.5 / np.sqrt(samples)  # of as many lags the largest lies at 4.5

    variance = 0.3 * 4031 / 0.6 + 2.5**2 + 1 / 12 / 0.6**2
    rows = autocorrelation(replace(sensor, row_noise_e=20.0))
    assert rows[0, 1:].mean() == pytest.approx(400 / (variance + 400), rel=5 * np.sqrt(2 / 256))
    assert np.abs(rows[1:, 1:].mean(axis=1)).max() < 5 * np.sqrt(1 / 256)
    columns = autocorrelation(replace(sensor, column_noise_e=20.0))
    assert columns[1:, 0].mean() == pytest.approx(400 / (variance + 400), rel=5 * np.sqrt(2 / 512))


def test_colours_of_one_pixel_share_its_row_and_column() -> None:
    quiet = NoiseModel([0.01] * 3, [0] * 3, [0] * 3, [0] * 3, [64] * 3, [4095] * 3)
    dn = Sensor(quiet, "RGB", row_noise_e=50.0, column_noise_e=30.0)(np.zeros((40, 30, 3)), np.random.default_rng(0))
    np.testing.assert_array_equal(dn[..., 0], dn[..., 2])
    shared = Sensor(quiet, "RGB", row_noise_e=50.0)(np.zeros((40, 30, 3)), np.random.default_rng(0), quantise=False)
    assert (np.ptp(shared, axis=1) == 0).all()
    assert (np.ptp(shared, axis=0) > 0).all()


def test_what_nobody_measured_counts_as_none() -> None:
    unknown = replace(NOISE, read_noise_e=[np.nan] * 3, dark_e_per_s=[np.nan] * 3, prnu=[np.nan] * 3)
    dn = Sensor(unknown, exposure_s=1.0)(np.zeros((8, 8)), np.random.default_rng(0))
    np.testing.assert_array_equal(dn, np.where(cfa_sites("RGGB", (8, 8)) == 2, 66, 64))


def test_saturation_holds_at_the_white_level_or_the_full_well() -> None:
    rng, bright = np.random.default_rng(0), np.full((200, 300), 1.5)
    sensor = Sensor(MONO, "mono", prnu_seed=None)
    assert (sensor(bright, rng) == 4095).all()
    assert (sensor.to_linear(sensor(bright, rng)) == 1).all()
    well_e = 5000.0
    dn = replace(sensor, full_well_e=well_e)(bright, rng)
    assert dn.mean() == pytest.approx(64 + 0.6 * well_e, abs=0.05)
    assert dn.var() == pytest.approx((0.6 * 2.5) ** 2 + 1 / 12, rel=0.03)


def test_a_sensor_crosses_processes() -> None:
    sensor = Sensor(NOISE, shot="gaussian", full_well_e=4000.0, mixture=ReadMixture((9, 1), (1, 3)), row_noise_e=1.0)
    again = pickle.loads(pickle.dumps(sensor))  # noqa: S301  our own bytes
    np.testing.assert_array_equal(again(light(), np.random.default_rng(0)), sensor(light(), np.random.default_rng(0)))


def test_numbers_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="`shot`"):
        Sensor(NOISE, shot="poisson")  # type: ignore[arg-type]
    for wrong in ({"exposure_s": -1.0}, {"row_noise_e": -1.0}, {"column_noise_e": -1.0}, {"full_well_e": 0.0}):
        with pytest.raises(ValueError, match="not be negative"):
            Sensor(NOISE, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="three channels"):
        Sensor(MONO, "RGGB")
    with pytest.raises(ValueError, match="2 x 2 mosaic"):
        Sensor(NOISE, "RGB")(light(), np.random.default_rng(0))
    with pytest.raises(ValueError, match="3 channels"):
        Sensor(NOISE, "RGB")(light((5, 5, 4)), np.random.default_rng(0))
