from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

from psfbank.bank import PsfBank
from psfbank.blur import SpatiallyVaryingBlur
from psfbank.degrade import CATALOGUE, parse
from psfbank.errors import ImageError, MissingPartError
from psfbank.isp import Development, jpeg, srgb_encode
from psfbank.model import Calibration, Illumination, NoiseModel, PsfGrid
from psfbank.simulate import STAGES, Simulator, Window, fitted, pinhole_map, window_of
from psfbank.simulate.window import Fit

SIZE = (96, 128)
WARM = Development((2.0, 1.0, 1.5), ((1.6, -0.5, -0.1), (-0.2, 1.5, -0.3), (0.0, -0.6, 1.6)), highlights=1.0)


@pytest.fixture(scope="module")
def cal(small_bank: PsfBank) -> Calibration:
    return small_bank.at()


def picture(scale: int = 1) -> npt.NDArray[np.float32]:
    y, x = (np.arange(n * scale) / scale for n in SIZE)
    waves = [0.5 + 0.4 * np.sin(x / (5 + c))[None] * np.cos(y / (7 - c))[:, None] for c in range(3)]
    return np.stack(waves, axis=-1).astype(np.float32)


def take(cal: Calibration, image: npt.ArrayLike, seed: int = 0, **options: object) -> npt.NDArray[np.float32]:
    return Simulator(cal, **options)(image, np.random.default_rng(seed))  # type: ignore[arg-type]


def test_all_stages_make_a_picture_of_the_sensors_size(cal: Calibration) -> None:
    result = take(cal, picture(2), source_scale=2)

    assert result.shape == (*SIZE, 3)
    assert result.dtype == np.float32
    assert np.abs(result - take(cal, picture(2), source_scale=2)).max() == 0
    assert np.abs(result - take(cal, picture(2), seed=1, source_scale=2)).max() > 0


def test_a_read_noise_that_nobody_measured_is_left_out_with_a_warning(
    cal: Calibration, caplog: pytest.LogCaptureFixture
) -> None:
    assert cal.noise is not None
    unknown, none = (replace(cal, noise=replace(cal.noise, read_noise_e=[v, v, 2.0])) for v in (np.nan, 0.0))
    stages = ["mosaic", "noise"]
    with caplog.at_level(logging.WARNING):
        expected = take(none, picture(), stages=stages)
        assert caplog.text == ""
        got = take(unknown, picture(), stages=stages)
    np.testing.assert_array_equal(got, expected)
    assert "read noise" in caplog.text


def test_the_order_of_the_stages_is_that_of_light(cal: Calibration) -> None:
    asked = Simulator(cal, ("noise", "blur", "shading"))
    assert asked.stages == ("blur", "shading", "noise")
    assert Simulator(cal).stages == (*STAGES[:6], "demosaic")
    assert Simulator(cal, development=WARM).stages == STAGES[:9]
    assert Simulator(cal, STAGES, development=WARM).stages == STAGES


def test_no_stage_at_all_changes_nothing(cal: Calibration) -> None:
    np.testing.assert_array_equal(take(cal, picture(), stages=()), picture())
    # sample i of a picture three times finer stands at (i - 1) / 3 pixels
    fine = picture(3)
    np.testing.assert_allclose(
        take(cal, fine, stages=(), source_scale=3)[8:-8, 8:-8], fine[25:-24:3, 25:-24:3], atol=1e-3
    )


def test_blur_is_the_blur_of_every_channel(cal: Calibration) -> None:
    got = take(cal, picture(), stages=["blur"])
    for c, name in enumerate("RGB"):
        want = SpatiallyVaryingBlur(cal.psf_grid, SIZE, name).forward(picture()[..., c])  # type: ignore[arg-type]
        np.testing.assert_array_equal(got[..., c], want)


def test_a_flat_scene_shows_the_shading(cal: Calibration) -> None:
    got = take(cal, np.ones((*SIZE, 3)), stages=["shading"], exposure=0.5)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    np.testing.assert_allclose(got[..., 2], 0.5 * cal.shading(x, y, "B"), rtol=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_ray_of_the_pinhole_picture_lands_where_the_map_says(cal: Calibration, scale: int) -> None:
    assert cal.distortion is not None
    window = Window(20, 30, 40, 64)
    for name in "RB":
        row, column = 17 * scale, 50 * scale
        at = pinhole_map(cal.distortion, name, window, scale).at(np.array([row]), np.array([column]))[0, 0]
        pinhole_px = (at - (scale - 1) / 2) / scale + (window.x, window.y)
        focal, centre = np.diag(cal.distortion.camera_matrix)[:2], cal.distortion.camera_matrix[:2, 2]
        landed = cal.distortion.project(((pinhole_px - centre) / focal)[None], name)[0]
        sensor_px = (np.array([column, row]) - (scale - 1) / 2) / scale + (window.x, window.y)
        np.testing.assert_allclose(landed, sensor_px, atol=2e-4)


def test_distortion_moves_a_spot_to_where_its_ray_lands(cal: Calibration) -> None:
    assert cal.distortion is not None
    focal, centre = np.diag(cal.distortion.camera_matrix)[:2], cal.distortion.camera_matrix[:2, 2]
    at = np.array([103.0, 17.0])
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    spot = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 2.9)  # narrow against the map's curvature
    image = take(cal, np.repeat(spot[..., None], 3, axis=2), stages=["distortion"])
    for c, name in enumerate("RGB"):
        light = image[..., c].astype(float)
        centroid = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
        landed = cal.distortion.project(((at - centre) / focal)[None], name)[0]
        assert np.hypot(*(landed - at)) > 0.5
        np.testing.assert_allclose(centroid, landed, atol=0.02)


def test_noise_of_a_flat_scene_is_that_of_the_photon_transfer(cal: Calibration) -> None:
    assert cal.noise is not None
    image = np.full((400, 400, 3), 0.4)
    got = take(cal, image, stages=["noise"])
    quantised = take(cal, image, stages=["noise", "quantise"])
    full_e = (cal.noise.white_dn - cal.noise.black_dn) / cal.noise.gain_dn_per_e
    for c in range(3):
        signal_e = 0.4 * full_e[c]
        variance = (signal_e + cal.noise.read_noise_e[c] ** 2 + (cal.noise.prnu[c] * signal_e) ** 2) / full_e[c] ** 2
        assert got[..., c].mean() == pytest.approx(0.4, rel=2e-4)
        assert got[..., c].var() == pytest.approx(variance, rel=0.02)
        step = 1 / (cal.noise.white_dn[c] - cal.noise.black_dn[c])
        assert quantised[..., c].var() == pytest.approx(variance + step**2 / 12, rel=0.02)


def test_quantised_light_stops_at_white_and_at_zero_dn(cal: Calibration) -> None:
    ramp = np.broadcast_to(np.linspace(0, 1.5, 128, dtype=np.float32)[None, :, None], (4, 128, 3))
    got = take(cal, ramp, stages=["quantise"])

    assert got.max() == 1.0
    assert got[..., 0].min() == 0
    assert cal.noise is not None
    loud = replace(cal, noise=replace(cal.noise, read_noise_e=[400.0] * 3))
    assert take(loud, 0 * ramp, stages=["noise", "quantise"])[..., 0].min() == pytest.approx(-64 / 959)
    inside = got[..., 0][(ramp[..., 0] > 0) & (ramp[..., 0] < 1)]
    np.testing.assert_allclose(inside * 959, np.rint(inside * 959), atol=1e-3)


def test_a_mosaic_alone_keeps_each_sites_colour_and_demosaicing_restores_a_flat_one(cal: Calibration) -> None:
    flat = np.broadcast_to(np.array([0.2, 0.5, 0.7], np.float32), (8, 10, 3))
    raw = take(cal, flat, stages=["mosaic"], cfa="GRBG")
    np.testing.assert_allclose(raw[:2, :2], [[0.5, 0.2], [0.7, 0.5]])
    np.testing.assert_allclose(take(cal, flat, stages=["mosaic", "demosaic"], cfa="GRBG"), flat, rtol=1e-6)


@pytest.mark.parametrize("stages", [["white_balance"], ["mosaic", "white_balance"]])
def test_white_balance_gives_the_colours_back_and_makes_weak_channels_noisy(
    cal: Calibration, stages: list[str]
) -> None:
    grey = np.full((64, 64, 3), 0.5, np.float32)
    np.testing.assert_allclose(take(cal, grey, stages=stages, development=WARM), 0.5, rtol=1e-6)
    noisy = take(cal, grey, stages=["noise", "white_balance"], development=WARM)
    assert noisy[..., 0].std() > 1.3 * noisy[..., 1].std()


def test_what_saturates_stays_white(cal: Calibration) -> None:
    bright = np.full((32, 32, 3), 8.0, np.float32)
    stages = ["mosaic", "quantise", "white_balance", "demosaic", "colour"]
    np.testing.assert_allclose(take(cal, bright, stages=stages, development=WARM), 1.0, rtol=1e-5)


def test_colours_come_back_through_the_camera(cal: Calibration) -> None:
    """Only what the camera can see comes back: its own colours, seen from sRGB."""
    seen = np.array([0.3, 0.5, 0.2]) @ np.array(WARM.matrix).T
    scene = np.broadcast_to(seen.astype(np.float32), (24, 24, 3))
    stages = ["mosaic", "white_balance", "demosaic", "colour"]
    np.testing.assert_allclose(take(cal, scene, stages=stages, development=WARM), scene, atol=2e-6)
    with_curve = take(cal, scene, stages=[*stages, "tone"], development=WARM)
    np.testing.assert_allclose(with_curve, srgb_encode(scene), atol=2 / 65535)
    compressed = take(cal, scene, stages=[*stages, "tone", "jpeg"], development=WARM, jpeg_quality=30)
    np.testing.assert_array_equal(compressed, jpeg(with_curve, 30))
    assert Simulator(cal, [*stages, "tone"]).encoded
    assert not Simulator(cal, stages).encoded


def test_a_smaller_picture_is_the_middle_of_the_sensor(cal: Calibration) -> None:
    """Without noise, a crop of the scene gives the crop of the picture, colours of the mosaic included."""
    stages = ["blur", "shading", "mosaic", "quantise"]
    whole = take(cal, picture(), stages=stages, size_px=SIZE)
    window = window_of((50, 70), 1, SIZE)
    assert (window.y % 2, window.x % 2) == (0, 0)
    part = np.s_[window.y : window.y + 50, window.x : window.x + 70]
    crop = take(cal, picture()[part], stages=stages, size_px=SIZE)
    inner = np.s_[4:-4, 4:-4]  # the mirrored edge of a crop is not its surroundings
    assert np.abs(crop[inner] - whole[part][inner]).max() <= 1.01 / 959


def test_a_crop_is_taken_where_it_lies(cal: Calibration) -> None:
    """PSFs, shading, colour sites and sensitivities of an odd place; a wrong origin would show in all of them."""
    stages = ["blur", "shading", "mosaic", "noise"]
    assert cal.noise is not None
    still = replace(cal, noise=replace(cal.noise, gain_dn_per_e=[1e-9] * 3, read_noise_e=[0.0] * 3, prnu=[0.05] * 3))
    simulator = Simulator(still, stages, size_px=SIZE)  # so many electrons that only sensitivities scatter
    whole = simulator(picture(), np.random.default_rng(0))
    part = np.s_[21:71, 33:103]
    crop = simulator(picture()[part], np.random.default_rng(1), origin=(21, 33))
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(crop[inner] - whole[part][inner]).max() < 1e-5
    elsewhere = simulator(picture()[part], np.random.default_rng(1), origin=(20, 32))
    assert np.abs(elsewhere[inner] - whole[part][inner]).max() > 0.01
    with pytest.raises(ImageError, match="from row 60, column 33 on, the sensor has 128 x 96"):
        simulator(picture()[part], np.random.default_rng(1), origin=(60, 33))
    with pytest.raises(ImageError, match="cannot begin at row -2"):
        simulator(picture()[part], np.random.default_rng(1), origin=(-2, 0))


class Half:
    """A degradation for these tests: every second row and column."""

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        return np.asarray(image, dtype=np.float32)[::2, ::2]

    def describe(self) -> str:
        return "half"


@dataclass(frozen=True)
class Plus:
    """A degradation for these tests: more light."""

    more: float

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        return np.asarray(image, dtype=np.float32) + np.float32(self.more)

    def describe(self) -> str:
        return f"plus:more={self.more}"


def test_degradations_run_behind_the_stage_they_are_listed_after(cal: Calibration) -> None:
    first, second = Plus(0.1), Plus(0.2)
    simulator = Simulator(cal, [first, "noise", second, "shading"])
    assert simulator.stages == (first, "shading", "noise", second)
    assert [line.split(":")[0] for line in simulator.describe()[1:]] == ["1. plus", "2. shading", "3. noise", "4. plus"]
    flat = np.full((*SIZE, 3), 0.3, np.float32)
    got = take(cal, flat, stages=[first, "shading", second])
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    np.testing.assert_allclose(got[..., 1], 0.4 * cal.shading(x, y, "G") + 0.2, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(CATALOGUE.keys() - {"downsample"}))
def test_every_degradation_finds_its_place(cal: Calibration, name: str) -> None:
    degradation = parse(name)
    for stages in ([degradation, "blur", "noise"], ["blur", degradation, "noise"], ["blur", "noise", degradation]):
        simulator = pickle.loads(pickle.dumps(Simulator(cal, stages)))  # noqa: S301 our own bytes
        assert np.isfinite(simulator(picture(), np.random.default_rng(0))).all()


def test_only_at_the_ends_may_a_degradation_change_the_size(cal: Calibration) -> None:
    assert take(cal, picture(2), stages=[Half(), "shading"]).shape == (*SIZE, 3)
    assert take(cal, picture(), stages=["shading", Half()]).shape == (SIZE[0] // 2, SIZE[1] // 2, 3)
    with pytest.raises(ImageError, match="half changes the size of the picture between"):
        take(cal, picture(), stages=["shading", Half(), "mosaic"])


@pytest.mark.parametrize("fit", ["centre", "crop", "scale"])
def test_a_picture_is_fitted_about_its_middle(fit: Fit) -> None:
    y, x = np.mgrid[:203, :410]
    ramp = ((y - 101) + 3 * (x - 204.5))[..., None].astype(np.float32) + 2000
    got = fitted(ramp, SIZE, 2, fit)
    if fit == "centre":
        assert got is ramp
        return
    assert got.shape == (192, 256, 1)
    step = 203 / 192 if fit == "scale" else 1
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in (192, 256))
    off = 0 if fit == "scale" else -0.5  # an odd number of rows has no middle that is a whole pixel
    want = step * (rows[:, None] + 3 * columns[None]) + off + 2000
    np.testing.assert_allclose(got[9:-9, 9:-9, 0], want[9:-9, 9:-9], atol=0.02)


def test_a_picture_that_does_not_fit_is_refused_in_words(cal: Calibration) -> None:
    with pytest.raises(ImageError, match=r"covers 130 x 96 pixels, the sensor has 128 x 96\. Crop or shrink it"):
        take(cal, np.zeros((96, 130, 3)), size_px=SIZE)
    with pytest.raises(ImageError, match="Crop it to multiples of 3"):
        take(cal, np.zeros((96, 130, 3)), source_scale=3)
    with pytest.raises(ImageError, match=r"takes a picture of \(H, W, 3\), got \(96, 128\)"):
        take(cal, np.zeros(SIZE))
    with pytest.raises(ImageError, match="1 values that are not finite"):
        take(cal, np.where(np.arange(12).reshape(2, 2, 3) == 5, np.nan, 0))
    with pytest.raises(ImageError, match=r"light below nothing, down to -0\.2\. Clip it"):
        take(cal, picture() - 0.3)
    with pytest.raises(ImageError, match=r"whole numbers\. Divide them by their white"):
        take(cal, np.full((*SIZE, 3), 200, np.uint8))


def test_wrong_stages_are_refused_in_words(cal: Calibration) -> None:
    with pytest.raises(ValueError, match="no stage 'sharpen'; there are distortion, blur"):
        Simulator(cal, ["blur", "sharpen"])
    with pytest.raises(ValueError, match="'blur' is named twice"):
        Simulator(cal, ["blur", "noise", "blur"])
    with pytest.raises(ValueError, match="'jpeg' needs stage 'tone'"):
        Simulator(cal, ["jpeg"])
    with pytest.raises(ValueError, match="'demosaic' needs stage 'mosaic'"):
        Simulator(cal, ["demosaic"])
    with pytest.raises(ValueError, match="positive"):
        Simulator(cal, exposure=0)
    with pytest.raises(MissingPartError, match="no meaning for this camera, which is RGB"):
        Simulator(cal, ["mosaic"], cfa="RGB")


@pytest.mark.parametrize(("stage", "part"), [("distortion", "distortion"), ("blur", "psf_grid"), ("quantise", "noise")])
def test_a_stage_without_data_is_refused_when_asked_for(cal: Calibration, stage: str, part: str) -> None:
    with pytest.raises(MissingPartError, match=f"no data for stage '{stage}'"):
        Simulator(replace(cal, **{part: None}), [stage])  # type: ignore[arg-type]


def test_a_stage_without_data_is_left_out_with_a_warning(cal: Calibration, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        simulator = Simulator(replace(cal, illumination=None, noise=None))

    assert simulator.stages == ("distortion", "blur", "mosaic", "demosaic")
    assert "no data for shading, noise, quantise" in caplog.text
    caplog.clear()
    some = Simulator(replace(cal, noise=None), ["blur", "noise"], skip_missing=True)
    assert some.stages == ("blur",)
    assert "no data for noise" in caplog.text


def test_a_monochrome_camera_takes_and_gives_one_channel() -> None:
    cal = Calibration(
        psf_grid=PsfGrid([0.0], [0.0], np.full((1, 1, 1, 3, 3), 1 / 9), channels=("Y",)),
        illumination=Illumination([0.0, 31.0], [0.0, 23.0], np.ones((1, 2, 2)), channels=("Y",)),
        noise=NoiseModel([0.5], [2.0], [0.0], [0.0], [64.0], [1023.0], channels=("Y",)),
    )
    simulator = Simulator(cal)
    assert simulator.stages == ("blur", "shading", "noise", "quantise")
    image = simulator(np.full((24, 32), 0.5), np.random.default_rng(0))
    assert image.shape == (24, 32)
    assert image.mean() == pytest.approx(0.5, rel=0.01)
    stored = Simulator(cal, ["all", "tone", "jpeg"])(np.full((24, 32), 0.5), np.random.default_rng(0))
    assert stored.shape == (24, 32)
    assert stored.mean() == pytest.approx(float(srgb_encode(np.float32(0.5))), rel=0.01)


def test_it_describes_what_it_does(cal: Calibration) -> None:
    lines = Simulator(cal, STAGES, source_scale=3, development=WARM).describe()

    assert lines[0].startswith("source: 3 x 3 samples a pixel")
    assert [line.split(": ")[0] for line in lines[1:]] == [f"{i}. {stage}" for i, stage in enumerate(STAGES, 1)]
    assert "5 x 4 PSFs, 5 px wide, scatter" in lines[2]
    assert "gain 0.24 0.25 0.26 DN/e-" in lines[5]
    assert "gains 2 1 1.5" in lines[7]
    assert lines[-1] == "11. jpeg: quality 95, 4:2:0"


def test_a_simulator_travels_to_another_process(cal: Calibration) -> None:
    simulator = Simulator(cal)
    there = pickle.loads(pickle.dumps(simulator))  # noqa: S301 our own bytes
    np.testing.assert_array_equal(
        there(picture(), np.random.default_rng(3)), simulator(picture(), np.random.default_rng(3))
    )
