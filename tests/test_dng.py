"""A written DNG is read back by LibRaw bit by bit, and its metadata by ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rawpy

from calib.capture import read_picture
from calib.dng import write_dng
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


def test_unknown_setting_stays_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    write_dng(path, mosaic(), cfa="RGGB", black_level=64, white_level=1023, maker="M", model="N")
    picture = read_picture(path)
    assert np.isnan(picture.exposure_s)
    assert picture.setting.known() == Setting().known() == {}


def test_libraw_can_develop_it(tmp_path: Path) -> None:
    path, dn = tmp_path / "a.dng", np.full((40, 60), 256, np.uint16)
    dn[::2, ::2] = 3000  # red sites of RGGB alone
    write_dng(path, dn, cfa="RGGB", black_level=256, white_level=4095, maker="M", model="N")
    with rawpy.imread(str(path)) as raw:
        developed = raw.postprocess(output_color=rawpy.ColorSpace.raw, no_auto_bright=True)
    red, green, blue = developed[10:-10, 10:-10].reshape(-1, 3).mean(axis=0)
    assert red > 10 * max(green, blue, 1)


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
