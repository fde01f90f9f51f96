"""Picture files: what goes in comes back, and what is no picture is refused in words."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from psfbank import pictures
from psfbank.errors import ImageError
from psfbank.isp import srgb_encode
from psfbank.pictures import read_image, write_image


@pytest.fixture
def image() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).random((96, 128, 3), dtype=np.float32)


@pytest.mark.parametrize(("suffix", "step"), [(".npy", 0.0), (".png", 0.5001 / 65535), (".tif", 0.5001 / 65535)])
def test_linear_formats_give_back_what_they_took(
    tmp_path: Path, image: npt.NDArray[np.float32], suffix: str, step: float
) -> None:
    for picture in (image, image[..., 0]):
        write_image(tmp_path / f"a{suffix}", picture)
        got = read_image(tmp_path / f"a{suffix}")
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, picture, rtol=0, atol=step + 1e-7)


def test_jpeg_goes_through_the_srgb_curve(tmp_path: Path) -> None:
    flat = np.broadcast_to(np.array([0.6, 0.2, 0.05], np.float32), (32, 32, 3))
    write_image(tmp_path / "a.jpg", flat)

    stored = cv2.imread(str(tmp_path / "a.jpg"))[16, 16, ::-1]
    np.testing.assert_allclose(stored / 255, srgb_encode(flat[0, 0]), atol=0.01)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg", "srgb")[16, 16], flat[0, 0], atol=0.01)


def test_light_outside_the_range_is_clipped_but_not_in_npy(tmp_path: Path) -> None:
    wide = np.array([[-0.5, 0.25, 1.5]], np.float32)
    for suffix, want in ((".png", [[0, 0.25, 1]]), (".npy", wide)):
        write_image(tmp_path / f"a{suffix}", wide)
        np.testing.assert_allclose(read_image(tmp_path / f"a{suffix}"), want, atol=1e-5)


def test_eight_bits_must_be_declared(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 4, 3), 128, np.uint8))
    np.save(tmp_path / "a.npy", np.full((4, 4, 3), 128, np.uint8))
    for name in ("a.png", "a.npy"):
        with pytest.raises(ImageError, match=r"8-bit.*--assume-srgb"):
            read_image(tmp_path / name)
        assert read_image(tmp_path / name, "linear")[0, 0, 0] == pytest.approx(128 / 255)
        assert read_image(tmp_path / name, "srgb")[0, 0, 0] == pytest.approx(0.2158605, abs=1e-5)


@pytest.mark.parametrize("name", ["none.png", "none.npy", "text.png", "text.npy", "empty.png", "empty.npy"])
def test_what_is_no_picture_is_refused_in_words(tmp_path: Path, name: str) -> None:
    if not name.startswith("none"):
        (tmp_path / name).write_text("not a picture" if name.startswith("text") else "")
    with pytest.raises(ImageError, match=name):
        read_image(tmp_path / name)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 4), np.float32), np.zeros((4, 4), complex), np.zeros(5), np.zeros((0, 3))]
)
def test_arrays_that_are_no_pictures_are_refused(tmp_path: Path, array: npt.NDArray[np.generic]) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ImageError, match=r"a\.npy"):
        read_image(tmp_path / "a.npy")


def test_alpha_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 4), np.uint16))
    with pytest.raises(ImageError, match="without alpha"):
        read_image(tmp_path / "a.png")


def test_other_formats_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"\.exr"):
        write_image(tmp_path / "a.exr", np.zeros((2, 2)))


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.npy"
    target.write_bytes(b"old")

    def full(file: object, array: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures.np, "save", full)
    with pytest.raises(ImageError, match=r"a\.npy: cannot be written: No space left on device\. Is there room"):
        write_image(target, np.zeros((2, 2)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    assert target.read_bytes() == b"old"
