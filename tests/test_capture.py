"""Files -> linear captures: exact arithmetic on good files, one clear sentence on each kind of bad file."""

from __future__ import annotations

import hashlib
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from calib.capture import read_capture, read_picture
from calib.dng import write_dng
from psfbank.errors import CaptureUnusable
from psfbank.model import Camera, Setting

HEIGHT, WIDTH = 48, 64
BLACK, WHITE = 256.0, 4095.0
BAYER = Camera("M", "N", (HEIGHT, WIDTH), "GRBG")
COLOUR = Camera("M", "N", (HEIGHT, WIDTH), "RGB")
MONO = Camera("M", "N", (HEIGHT, WIDTH), "mono")


def mosaic(low: int = 200, high: int = 4000) -> np.ndarray:
    return np.random.default_rng(3).integers(low, high, (HEIGHT, WIDTH)).astype(np.uint16)


def colours(dtype: type = np.uint16, high: int = 4000) -> np.ndarray:
    return np.random.default_rng(4).integers(10, high, (HEIGHT, WIDTH, 3)).astype(dtype)


def write(path: Path, dn: np.ndarray) -> Path:
    if path.suffix == ".dng":
        write_dng(path, dn, cfa="GRBG", black_level=BLACK, white_level=WHITE, maker="M", model="N", iso=100)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, dn, photometric="rgb" if dn.ndim == 3 else "minisblack")
    else:
        assert cv2.imwrite(str(path), dn[..., ::-1] if dn.ndim == 3 else dn)
    return path


def refusal(path: Path, camera: Camera = BAYER, **kwargs: object) -> str:
    with pytest.raises(CaptureUnusable) as caught:
        read_capture(path, camera, **{"black_level": BLACK, "white_level": WHITE, **kwargs})  # type: ignore[arg-type]
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".dng"])
def test_mosaic_is_linearised_exactly(tmp_path: Path, suffix: str) -> None:
    path, dn = tmp_path / f"a{suffix}", mosaic()
    dn[5, 7], dn[6, 7] = WHITE, WHITE - 1
    capture = read_capture(write(path, dn), BAYER, black_level=BLACK, white_level=WHITE)
    np.testing.assert_allclose(capture.pixels, (dn - BLACK) / (WHITE - BLACK), rtol=0, atol=2e-7)
    assert capture.pixels.dtype == np.float32
    assert capture.pixels.min() < 0  # noise below the black level is kept
    assert capture.saturated[5, 7]
    assert capture.saturated.sum() == 1
    assert capture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert capture.name == path.name


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_keep_their_order(tmp_path: Path, suffix: str) -> None:
    dn = colours()
    capture = read_capture(write(tmp_path / f"a{suffix}", dn), COLOUR, black_level=[0, 100, 0], white_level=WHITE)
    np.testing.assert_allclose(capture.pixels[..., 0], dn[..., 0] / WHITE, atol=2e-7)
    np.testing.assert_allclose(capture.pixels[..., 1], (dn[..., 1] - 100.0) / (WHITE - 100), atol=2e-7)
    np.testing.assert_allclose(capture.pixels[..., 2], dn[..., 2] / WHITE, atol=2e-7)


def test_planar_tiff_is_turned_into_interleaved(tmp_path: Path) -> None:
    dn = colours()
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.moveaxis(dn, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_picture(path).dn, dn)


def test_black_level_of_each_colour_meets_its_own_sites(tmp_path: Path) -> None:
    dn = mosaic(500)
    black = np.array([100.0, 200.0, 300.0])
    capture = read_capture(write(tmp_path / "a.png", dn), BAYER, black_level=black, white_level=WHITE)
    for c, (row, col) in {0: (0, 1), 1: (0, 0), 2: (1, 0)}.items():  # of GRBG
        want = (dn[row::2, col::2] - black[c]) / (WHITE - black[c])
        np.testing.assert_allclose(capture.pixels[row::2, col::2], want, atol=2e-7)


def test_raw_brings_its_levels_and_setting(tmp_path: Path) -> None:
    dn = mosaic()
    capture = read_capture(write(tmp_path / "a.dng", dn), BAYER, setting=Setting(focus_m=2.0))
    np.testing.assert_allclose(capture.pixels, (dn - BLACK) / (WHITE - BLACK), atol=2e-7)
    assert capture.setting.known() == {"iso": 100.0, "focus_m": 2.0}


@pytest.mark.parametrize(
    ("camera", "kwargs", "both"),
    [
        (Camera("M", "N", (HEIGHT, WIDTH), "RGGB"), {}, ("cfa", "GRBG", "RGGB")),
        (BAYER, {"black_level": 64.0}, ("black_level", "256", "64")),
        (BAYER, {"white_level": 16383.0}, ("white_level", "4095", "16383")),
        (BAYER, {"encoding": "srgb"}, ("encoding", "linear", "srgb")),
        (BAYER, {"setting": Setting(iso=800)}, ("iso", "100", "800")),
    ],
)
def test_contradiction_with_raw_names_both(
    tmp_path: Path, camera: Camera, kwargs: dict[str, object], both: tuple[str, str, str]
) -> None:
    message = refusal(write(tmp_path / "a.dng", mosaic()), camera, **kwargs)
    assert all(word in message for word in both)


def test_small_disagreement_with_raw_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dng", mosaic())
    capture = read_capture(path, BAYER, black_level=257, white_level=4090, setting=Setting(iso=102))
    assert capture.setting.iso == 102


def test_missing_rawpy_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.dng", mosaic())
    monkeypatch.setitem(sys.modules, "rawpy", None)
    assert "psfbank[raw]" in refusal(path)


@given(st.integers(0, 255))
def test_srgb_is_decoded_exactly(tmp_path_factory: pytest.TempPathFactory, code: int) -> None:
    dn = np.full((HEIGHT, WIDTH), 128, np.uint8)
    dn[3, 4], dn[0, 0] = code, 127
    path = write(tmp_path_factory.mktemp("srgb") / "a.png", dn)
    value = read_capture(path, MONO, encoding="srgb").pixels[3, 4]
    coded = code / 255
    want = coded / 12.92 if coded <= 0.04045 else ((coded + 0.055) / 1.055) ** 2.4  # IEC 61966-2-1
    assert value == pytest.approx(want, abs=2e-7)


def test_eight_bits_saturate_at_255(tmp_path: Path) -> None:
    dn = colours(np.uint8, 254)
    dn[4, 5, 2] = 255
    capture = read_capture(write(tmp_path / "a.png", dn), COLOUR, encoding="srgb")
    assert capture.saturated[4, 5]
    assert capture.saturated.sum() == 1


def test_eight_bits_declared_linear_are_taken(tmp_path: Path) -> None:
    dn = colours(np.uint8, 254)
    capture = read_capture(write(tmp_path / "a.png", dn), COLOUR, black_level=0, white_level=255)
    np.testing.assert_allclose(capture.pixels, dn / 255, atol=1e-7)


def test_eight_bits_without_a_word_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", colours(np.uint8, 254))
    assert "gamma-coded" in refusal(path, COLOUR)
    assert 'encoding = "srgb"' in refusal(path, COLOUR, black_level=None, white_level=None)


def test_grey_jpeg_of_three_equal_channels_serves_a_monochrome_camera(tmp_path: Path) -> None:
    grey = cv2.GaussianBlur(mosaic(), (0, 0), 4)
    grey = (grey // 16).astype(np.uint8)
    path = write(tmp_path / "a.jpg", np.repeat(grey[..., None], 3, axis=2))
    assert read_picture(path).cfa == "mono"
    capture = read_capture(path, MONO, encoding="srgb")
    assert capture.pixels.shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".dng"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.97])
def test_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    dn = colours(np.uint8, 254) if suffix == ".jpg" else mosaic()
    path = write(tmp_path / f"a{suffix}", dn)
    blob = path.read_bytes()
    path.write_bytes(blob[: int(share * len(blob))])
    assert "not a complete picture" in refusal(path, COLOUR if suffix == ".jpg" else BAYER)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".dng", ".xyz"])
def test_text_is_no_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("the quick brown fox jumps over the lazy dog\n" * 40)
    assert "not a complete picture" in refusal(path)


def test_flipped_byte_of_a_png_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", mosaic())
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 0x10
    path.write_bytes(blob)
    assert "not a complete picture" in refusal(path)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nowhere.png")
    assert "directory" in refusal(tmp_path)


def test_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 16, 0, 0, 0, 0)
    path = tmp_path / "a.png"
    rows = zlib.compress(b"\0" * 1_000_000)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    assert "pixels" in refusal(path)
    tiff = tmp_path / "a.tif"
    tifffile.imwrite(tiff, mosaic())
    blob = bytearray(tiff.read_bytes())
    for tag in (256, 257):  # ImageWidth, ImageLength
        at = blob.index(struct.pack("<HHI", tag, 4, 1))
        blob[at + 8 : at + 12] = struct.pack("<I", 1_000_000)
    tiff.write_bytes(blob)
    assert "1000000 x 1000000" in refusal(tiff)


def test_wrong_size_and_a_turned_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", mosaic()[:, :-2])
    assert "62 x 48 pixels, the camera's are 64 x 48" in refusal(path)
    turned = write(tmp_path / "b.png", np.ascontiguousarray(mosaic().T))
    assert "turned by 90 degrees" in refusal(turned)


def test_channels_that_do_not_fit_the_camera(tmp_path: Path) -> None:
    assert "three channels" in refusal(write(tmp_path / "a.png", colours()), BAYER)
    assert "one channel" in refusal(write(tmp_path / "b.png", mosaic()), COLOUR)
    transparent = tmp_path / "c.png"
    cv2.imwrite(str(transparent), np.dstack([colours(), mosaic()]))
    assert "transparent" in refusal(transparent, COLOUR)


def test_an_opaque_alpha_channel_is_left_out(tmp_path: Path) -> None:
    opaque = np.full((HEIGHT, WIDTH), np.iinfo(np.uint16).max, np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([colours()[..., ::-1], opaque]))
    assert np.array_equal(read_picture(tmp_path / "a.png").dn, colours())


def test_constant_black_and_saturated(tmp_path: Path) -> None:
    assert "every sample is 300" in refusal(write(tmp_path / "a.png", np.full((HEIGHT, WIDTH), 300, np.uint16)))
    noise = np.random.default_rng(0).normal(BLACK, 3, (HEIGHT, WIDTH)).round().astype(np.uint16)
    black = write(tmp_path / "b.png", noise)
    assert "all black" in refusal(black)
    assert read_capture(black, BAYER, black_level=BLACK, white_level=WHITE, lit=False).pixels.max() < 0.01
    bright = mosaic()
    bright[: HEIGHT // 2] = WHITE
    assert "50% of the pixels are saturated" in refusal(write(tmp_path / "c.png", bright))


def test_grid_of_faint_points_is_not_black(tmp_path: Path) -> None:
    dn = np.random.default_rng(0).normal(BLACK, 2, (HEIGHT, WIDTH)).round().astype(np.uint16)
    dn[8::16, 8::16] += 200
    capture = read_capture(write(tmp_path / "a.png", dn), BAYER, black_level=BLACK, white_level=WHITE)
    assert capture.pixels.max() > 0.04


def test_floating_point_tiff_with_a_nan(tmp_path: Path) -> None:
    dn = (mosaic() / WHITE).astype(np.float32)
    path = write(tmp_path / "a.tif", dn)
    assert read_capture(path, BAYER, black_level=0, white_level=1).pixels.max() == pytest.approx(dn.max())
    dn[3, 3] = np.nan
    assert "1 samples are NaN" in refusal(write(path, dn), black_level=0, white_level=1)


def test_unknown_levels_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", mosaic())
    assert "white_level" in refusal(path, black_level=None, white_level=None)
