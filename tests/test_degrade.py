"""What holds for every degradation, and how they are made from text."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psfbank.degrade import CATALOGUE, Defocus, Degradation, Downsample, Jpeg, Varied, parse
from psfbank.degrade.stage import convolved, name_of
from psfbank.errors import ImageError

SEEDED = {
    *("random_zernike", "camera_shake", "turbulence"),
    *("gaussian_noise", "poisson_noise", "impulse_noise", "speckle_noise"),
}
BLURS = (
    *("defocus", "gaussian_blur", "zernike_blur", "random_zernike", "optical_low_pass"),
    *("camera_shake", "linear_motion", "object_motion", "spin_blur", "zoom_blur"),
)
RESHAPED = {"downsample"}
every = pytest.mark.parametrize("name", CATALOGUE)


def picture(height: int = 48, width: int = 60, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth patches and noise between 0.1 and 0.9."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.1, 0.9, (height // 6 + 1, width // 6 + 1, channels))
    return np.kron(coarse, np.ones((6, 6, 1)))[:height, :width].astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@every
def test_the_same_seed_gives_the_same_picture_and_another_one_another(name: str) -> None:
    degradation, image = parse(name), picture()
    first = degradation(image, rng(1))

    np.testing.assert_array_equal(degradation(image, rng(1)), first)
    assert np.array_equal(degradation(image, rng(2)), first) == (name not in SEEDED)


@every
def test_what_draws_nothing_leaves_the_generator_alone(name: str) -> None:
    used, fresh = rng(), rng()
    parse(name)(picture(), used)
    assert (used.random() == fresh.random()) == (name not in SEEDED)


@every
@pytest.mark.parametrize("shape", [(40, 52), (40, 52, 1), (40, 52, 3), (9, 7, 3)])
def test_shape_and_type_are_kept_and_the_picture_is_not_touched(name: str, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).random(shape)
    before = image.copy()
    out = parse(name)(image, rng())

    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert out.shape == ((shape[0] // 2, shape[1] // 2, *shape[2:]) if name in RESHAPED else shape)
    np.testing.assert_array_equal(image, before)


@every
def test_sixteen_channels_are_treated_alike(name: str) -> None:
    if name == "jpeg":
        with pytest.raises(ImageError, match="JPEG"):
            parse(name)(picture(channels=16), rng())
        return
    image = np.repeat(picture(channels=1), 16, axis=2)
    out = parse(name)(image, rng())
    if not name.endswith("noise"):
        np.testing.assert_allclose(out, np.broadcast_to(out[..., :1], out.shape), atol=1e-6)


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_picture_that_is_not_finite_is_refused(name: str, bad: float) -> None:
    image = picture()
    image[3, 4, 1] = bad
    with pytest.raises(ImageError, match="1 values that are not finite"):
        parse(name)(image, rng())


@every
def test_what_is_no_picture_is_refused(name: str) -> None:
    for shape in ((5,), (0, 4), (2, 3, 4, 5)):
        with pytest.raises(ImageError, match=r"\(H, W\)"):
            parse(name)(np.zeros(shape), rng())


@every
def test_a_parameter_that_is_not_finite_is_refused(name: str) -> None:
    number = next(f.name for f in fields(CATALOGUE[name]) if f.type in ("float", "int"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=number):
        CATALOGUE[name](**{number: np.nan})


@every
def test_a_line_says_how_to_make_it_again(name: str) -> None:
    degradation = parse(name)
    assert name_of(CATALOGUE[name]) == name
    assert "\n" not in degradation.describe()
    assert parse(degradation.describe()) == degradation


@every
def test_another_process_gets_the_same(name: str) -> None:
    degradation = parse(name)
    there = pickle.loads(pickle.dumps(degradation))  # noqa: S301 - our own bytes
    assert there == degradation
    np.testing.assert_array_equal(there(picture(), rng(3)), degradation(picture(), rng(3)))
    with pytest.raises(FrozenInstanceError):
        setattr(degradation, fields(degradation)[0].name, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*BLURS, "turbulence", "downsample", "barrel", "pincushion", "fisheye"])
@given(level=st.floats(0.01, 5), seed=st.integers(0, 2**20))
@settings(max_examples=5)
def test_a_flat_field_stays_flat(name: str, level: float, seed: int) -> None:
    flat = np.full((24, 31), level)
    np.testing.assert_allclose(parse(name)(flat, rng(seed)), level, rtol=2e-5)


@pytest.mark.parametrize("name", ["defocus", "gaussian_blur", "zernike_blur", "random_zernike", "camera_shake"])
@given(seed=st.integers(0, 2**20))
@settings(max_examples=5)
def test_blur_keeps_the_light_and_where_its_centre_is(name: str, seed: int) -> None:
    point = np.zeros((81, 75))
    point[40, 36] = 7.0
    out = parse(name)(point, rng(seed)).astype(np.float64)

    assert out.sum() == pytest.approx(7, rel=1e-5)
    y, x = np.mgrid[:81, :75]
    assert (out * y).sum() / 7 == pytest.approx(40, abs=0.02)
    assert (out * x).sum() / 7 == pytest.approx(36, abs=0.02)


@pytest.mark.parametrize("size", [3, 9, 15, 41])
def test_convolution_spreads_light_to_where_the_kernel_shows_it(size: int) -> None:
    """A correlation would mirror it; beyond the edge lies a mirror image."""
    kernel = np.random.default_rng(0).random((size, size))
    point = np.zeros((61, 61), np.float32)
    point[30, 25] = 1
    half = size // 2
    spread = convolved(point, kernel)
    np.testing.assert_allclose(spread[30 - half : 31 + half, 25 - half : 26 + half], kernel, atol=1e-5)

    from scipy import ndimage

    image = np.random.default_rng(1).random((12, 17, 2)).astype(np.float32)
    for c in range(2):
        expected = ndimage.convolve(image[..., c].astype(np.float64), kernel, mode="reflect")
        np.testing.assert_allclose(convolved(image, kernel)[..., c], expected, rtol=1e-4)


def test_text_sets_parameters_of_every_kind() -> None:
    assert parse("defocus") == Defocus()
    assert parse(" defocus:diameter_px=7.5 ") == Defocus(7.5)
    made = Downsample(3.0, "lanczos", back=True)
    assert parse("downsample:factor=3,method=lanczos,back=true") == made
    assert parse("jpeg:quality=30,subsampling=4:4:4") == Jpeg(30, "4:4:4")
    aberrated = parse("zernike_blur:coefficients_nm=10/-20/3e1,wavelengths_nm=610/535/465")
    assert aberrated.coefficients_nm == (10.0, -20.0, 30.0)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("defokus", "no degradation 'defokus'; there are defocus, gaussian_blur"),
        ("defocus:radius=3", "sets no parameter of defocus; it has diameter_px"),
        ("defocus:4", "'4' sets no parameter of defocus"),
        ("defocus:diameter_px=wide", "`diameter_px` of defocus must be of type float, got 'wide'"),
        ("defocus:diameter_px=-1", "`diameter_px` of defocus must lie between 0 and 1000, got -1"),
        ("defocus:diameter_px=1,diameter_px=2", "given `diameter_px` twice"),
        ("jpeg:quality=50.5", "`quality` of jpeg must be of type int"),
        ("jpeg:subsampling=4:2:1", "`subsampling` of jpeg must be one of 4:4:4, 4:2:2"),
        ("jpeg:toned=yes", "`toned` of jpeg must be of type bool"),
        ("downsample:method=magic", "must be one of nearest, bilinear"),
        ("zernike_blur:coefficients_nm=1;2", "must be numbers with slashes between them"),
        ("defocus:diameter_px=8..2", "runs from 8 down to 2"),
        ("defocus:diameter_px=1..2000", "must lie between 0 and 1000, got 2000"),
        ("defocus:diameter_px=1..", "must be of type float, got ''"),
    ],
)
def test_wrong_text_is_answered_in_words(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)


def test_a_range_is_drawn_for_every_picture() -> None:
    varied = parse("jpeg:quality=10..12,subsampling=4:4:4")
    assert isinstance(varied, Varied)
    assert parse(varied.describe()) == varied
    generator = rng()
    drawn = [varied.draw(generator) for _ in range(60)]
    assert {one.quality for one in drawn} == {10, 11, 12}  # type: ignore[attr-defined]
    assert {one.subsampling for one in drawn} == {"4:4:4"}  # type: ignore[attr-defined]


def test_what_was_drawn_can_be_logged_and_made_again() -> None:
    varied = parse("defocus:diameter_px=2..8")
    assert isinstance(varied, Varied)
    drawn: Degradation = varied.draw(rng(4))
    assert 2 <= drawn.diameter_px <= 8  # type: ignore[attr-defined]
    again = parse(drawn.describe())
    assert again == drawn
    np.testing.assert_array_equal(again(picture(), rng()), varied(picture(), rng(4)))
    assert pickle.loads(pickle.dumps(varied)) == varied  # noqa: S301 - our own bytes
