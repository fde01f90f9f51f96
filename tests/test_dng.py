"""A written DNG is read back by LibRaw bit by bit, and its metadata by ours."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import rawpy
import tifffile

from calib.capture import read_picture
from calib.dng import write_dng
from calib.picture import dng_colours, tiff_metadata
from psfbank import sensor
from psfbank.isp import Development, camera_to_srgb, daylight_gains, known_cameras, process
from psfbank.model import Setting

BAYER = ("RGGB", "BGGR", "GRBG", "GBRG")


def mosaic(shape: tuple[int, int] = (38, 50)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4096, shape).astype(np.uint16)


@pytest.mark.parametrize("cfa", [*BAYER, "mono"])
def test_libraw_returns_the_same_mosaic_levels_and_pattern(tmp_path: Path, cfa: str) -> None:
    path, dn = tmp_path / "a.dng", mosaic()
    write_dng(path, dn, cfa=cfa, black_level=256, white_level=4095, maker="Maker", model="Model")
    with rawpy.imread(str(path)) as raw:
        np.testing.assert_array_equal(raw.raw_image_visible, dn)
        assert raw.white_level == 4095
        assert list(raw.black_level_per_channel) == [256] * 4
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.dn, dn)
    assert picture.cfa == cfa
    assert picture.black_dn == ((256.0,) if cfa == "mono" else (256.0,) * 3)
    assert picture.white_dn == 4095
    assert (picture.maker, picture.model) == ("Maker", "Model")


def test_setting_survives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    write_dng(
        path,
        mosaic(),
        cfa="RGGB",
        black_level=64,
        white_level=1023,
        maker="M",
        model="N",
        exposure_s=1 / 125,
        iso=400,
        f_number=1.78,
        focal_mm=5.43,
    )
    picture = read_picture(path)
    assert picture.exposure_s == pytest.approx(1 / 125, rel=1e-6)
    assert picture.setting.known() == pytest.approx({"focal_mm": 5.43, "f_number": 1.78, "iso": 400}, rel=1e-6)


@pytest.mark.parametrize("pitch_um", [1.0, 1.4, 3.76, 25.0])
def test_lens_and_pixel_pitch_survive_the_file(tmp_path: Path, pitch_um: float) -> None:
    path = tmp_path / "a.dng"
    levels = {"black_level": 64, "white_level": 1023}
    write_dng(path, mosaic(), cfa="RGGB", **levels, maker="M", model="N", lens="35 mm f/2 Ω", pitch_um=pitch_um)
    picture = read_picture(path)
    assert picture.pitch_um == pytest.approx(pitch_um, rel=1e-6)
    assert picture.lens == "35 mm f/2 ?"


@pytest.mark.parametrize(("unit", "per_unit"), [(2, 25_400 / 2.5), (3, 4_000.0), (4, 400.0)])
def test_exif_counts_pixels_per_inch_centimetre_or_millimetre(tmp_path: Path, unit: int, per_unit: float) -> None:
    tags = [(41486, 12, 1, per_unit, True), (41488, 3, 1, unit, True)]
    tifffile.imwrite(tmp_path / "a.tif", mosaic(), extratags=tags, metadata=None)
    assert tiff_metadata((tmp_path / "a.tif").read_bytes()).pitch_um == pytest.approx(2.5)


def test_unknown_setting_stays_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    write_dng(path, mosaic(), cfa="RGGB", black_level=64, white_level=1023, maker="M", model="N")
    picture = read_picture(path)
    assert np.isnan(picture.exposure_s)
    assert picture.setting.known() == Setting().known() == {}
    assert np.isnan(picture.pitch_um)
    assert picture.lens == ""


def test_libraw_can_develop_it(tmp_path: Path) -> None:
    path, dn = tmp_path / "a.dng", np.full((40, 60), 256, np.uint16)
    dn[::2, ::2] = 3000  # red sites of RGGB alone
    write_dng(path, dn, cfa="RGGB", black_level=256, white_level=4095, maker="M", model="N")
    with rawpy.imread(str(path)) as raw:
        developed = raw.postprocess(output_color=rawpy.ColorSpace.raw, no_auto_bright=True)
    red, green, blue = developed[10:-10, 10:-10].reshape(-1, 3).mean(axis=0)
    assert red > 10 * max(green, blue, 1)


def test_colours_survive_the_file(tmp_path: Path) -> None:
    path, matrix = tmp_path / "a.dng", np.array([[0.66, -0.21, -0.06], [-0.48, 1.3, 0.19], [-0.1, 0.16, 0.52]])
    write_dng(path, mosaic(), cfa="GRBG", black_level=64, white_level=1023, maker="M", model="N", xyz_to_camera=matrix)
    np.testing.assert_allclose(read_picture(path).xyz_to_camera, matrix, atol=1e-4)
    with rawpy.imread(str(path)) as raw:  # its own development starts from the gains for daylight
        gains = np.array(raw.camera_whitebalance[:3]) / raw.camera_whitebalance[1]
    np.testing.assert_allclose(gains, daylight_gains(matrix), rtol=1e-4)


def test_libraw_finds_the_same_matrix_to_srgb(tmp_path: Path) -> None:
    """Rows and columns swapped, or the white of another illuminant, would show."""
    path, matrix = tmp_path / "a.dng", known_cameras()["Darmstadt Noise Dataset, camera 4"]
    write_dng(path, mosaic(), cfa="RGGB", black_level=64, white_level=1023, maker="M", model="N", xyz_to_camera=matrix)
    with rawpy.imread(str(path)) as raw:
        theirs = raw.color_matrix[:, :3]
    np.testing.assert_allclose(camera_to_srgb(matrix), theirs, atol=2e-3)


@pytest.mark.parametrize("light", [(0.12, 0.2, 0.1), (0.1, 0.25, 0.2), (0.2, 0.22, 0.05)])
def test_libraw_develops_it_to_our_colours(tmp_path: Path, light: tuple[float, float, float]) -> None:
    """Gains, matrix and curve, in this order and this way round."""
    path, matrix = tmp_path / "a.dng", known_cameras()["Darmstadt Noise Dataset, camera 3"]
    seen = np.broadcast_to(np.array(light, np.float32), (40, 60, 3))
    dn = np.rint(256 + sensor.mosaic(seen, "RGGB") * 16000).astype(np.uint16)
    levels = {"black_level": 256, "white_level": 16256}
    write_dng(path, dn, cfa="RGGB", **levels, maker="M", model="N", xyz_to_camera=matrix)
    with rawpy.imread(str(path)) as raw:
        theirs = raw.postprocess(
            use_camera_wb=True, no_auto_bright=True, gamma=(2.4, 12.92), output_bps=16, auto_bright_thr=0, user_flip=0,
            adjust_maximum_thr=0,
        )  # fmt: skip
    ours = process(seen, Development.of_camera(matrix))
    np.testing.assert_allclose(ours[20, 30], theirs[20, 30] / 65535, atol=0.004)


def test_the_file_is_believed_before_the_name_of_its_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LibRaw has a matrix of its own for some models, which is what other RAW formats go by."""
    path, matrix = tmp_path / "a.dng", np.diag([0.5, 1.0, 0.6])
    levels: dict[str, float] = {"black_level": 64, "white_level": 1023}
    write_dng(path, mosaic(), cfa="RGGB", **levels, maker="NIKON", model="NIKON D850", xyz_to_camera=matrix)
    np.testing.assert_allclose(read_picture(path).xyz_to_camera, matrix, atol=1e-4)
    monkeypatch.setattr("calib.capture.dng_colours", lambda blob: None)
    known = read_picture(path).xyz_to_camera
    assert known is not None
    np.testing.assert_allclose(camera_to_srgb(known).sum(axis=1), 1)
    assert np.abs(np.array(known) - matrix).max() > 0.1
    write_dng(path, mosaic(), cfa="RGGB", **levels, maker="M", model="N")
    assert read_picture(path).xyz_to_camera is None


def test_of_two_matrices_the_one_nearest_to_daylight_is_taken() -> None:
    stream, fractions = io.BytesIO(), [part for value in range(1, 10) for part in (value, 10)]
    tags = [
        (50706, 1, 4, bytes((1, 4, 0, 0)), True),
        (50721, 10, 9, tuple(fractions), True),  # made in tungsten light
        (50722, 10, 9, tuple(fractions[::-1]), True),
        (50778, 3, 1, 17, True),
        (50779, 3, 1, 21, True),
    ]
    tifffile.imwrite(stream, mosaic(), extratags=tags, metadata=None)
    np.testing.assert_allclose(dng_colours(stream.getvalue()), 10 / np.arange(9.0, 0, -1).reshape(3, 3))
    assert dng_colours(b"P5 no DNG") is None


def test_a_monochrome_file_has_no_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    write_dng(path, mosaic(), cfa="mono", black_level=64, white_level=1023, maker="M", model="N")
    assert read_picture(path).xyz_to_camera is None


@pytest.mark.parametrize(
    ("dn", "cfa", "word"),
    [
        (mosaic().astype(np.float32), "RGGB", "uint16"),
        (np.zeros((4, 4, 3), np.uint16), "RGGB", "H, W"),
        (mosaic(), "RGB", "Bayer"),
    ],
)
def test_what_is_no_mosaic_is_refused(tmp_path: Path, dn: np.ndarray, cfa: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        write_dng(tmp_path / "a.dng", dn, cfa=cfa, black_level=0, white_level=9, maker="M", model="N")
