from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from psfbank import batch
from psfbank.bank import PsfBank
from psfbank.batch import read_image, simulate_files, write_image
from psfbank.errors import ImageError
from psfbank.isp import srgb_encode
from psfbank.simulate import Simulator


@pytest.fixture
def image() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).random((96, 128, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def simulator(small_bank: PsfBank) -> Simulator:
    return Simulator(small_bank.at(), ["blur", "noise"], workers=1)


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

    monkeypatch.setattr(batch.np, "save", full)
    with pytest.raises(OSError, match="No space"):
        write_image(target, np.zeros((2, 2)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    assert target.read_bytes() == b"old"


def test_one_picture_goes_into_one_file(tmp_path: Path, image: npt.NDArray[np.float32], simulator: Simulator) -> None:
    np.save(tmp_path / "a.npy", image)
    out = tmp_path / "new" / "b.npy"

    assert simulate_files(simulator, [tmp_path / "a.npy"], out, seed=5) == [out]
    want = simulator(image, np.random.default_rng(np.random.SeedSequence((5, 0))))
    np.testing.assert_array_equal(np.load(out), want)


def test_many_pictures_go_into_a_folder_the_same_whoever_works(
    tmp_path: Path, image: npt.NDArray[np.float32], simulator: Simulator
) -> None:
    sources = [tmp_path / f"{name}.npy" for name in "abc"]
    for source in sources:
        np.save(source, image)
    told: list[tuple[str, int, int]] = []
    written = simulate_files(simulator, sources, tmp_path / "one", report=lambda *now: told.append(now))
    first = [np.load(path) for path in written]

    assert told == [("simulate", i, 3) for i in (1, 2, 3)]
    assert np.any(first[0] != first[1])
    for name, pool in (("threads", ThreadPoolExecutor(2)), ("processes", ProcessPoolExecutor(2, get_context("spawn")))):
        with pool as executor:
            others = simulate_files(simulator, sources, tmp_path / name, executor=executor)
        assert [path.name for path in others] == ["a.npy", "b.npy", "c.npy"]
        for path, want in zip(others, first, strict=True):
            np.testing.assert_array_equal(np.load(path), want)


def test_one_bad_picture_does_not_stop_the_others(
    tmp_path: Path, image: npt.NDArray[np.float32], simulator: Simulator
) -> None:
    np.save(tmp_path / "good.npy", image)
    np.save(tmp_path / "nan.npy", np.full_like(image, np.nan))
    (tmp_path / "bad.png").write_text("no")
    sources = [tmp_path / name for name in ("bad.png", "nan.npy", "good.npy")]
    with pytest.raises(ImageError, match=r"(?s)2 of 3 pictures failed.*bad\.png.*nan\.npy: .*not finite"):
        simulate_files(simulator, sources, tmp_path / "out")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.npy"]
    with pytest.raises(ImageError, match=r"^\S*bad\.png: "):
        simulate_files(simulator, sources[::2], tmp_path / "out", overwrite=True)


def test_a_grey_picture_is_white_light_to_a_colour_camera(tmp_path: Path, simulator: Simulator) -> None:
    np.save(tmp_path / "a.npy", np.full((96, 128), 0.5, np.float32))
    (out,) = simulate_files(simulator, [tmp_path / "a.npy"], tmp_path / "b.npy")
    assert np.load(out).mean(axis=(0, 1)) == pytest.approx([0.5, 0.5, 0.5], abs=0.01)


def test_nothing_is_replaced_unasked(tmp_path: Path, image: npt.NDArray[np.float32], simulator: Simulator) -> None:
    source = tmp_path / "a.npy"
    np.save(source, image)
    with pytest.raises(ImageError, match="replace an input"):
        simulate_files(simulator, [source], source, overwrite=True)
    with pytest.raises(ImageError, match="replace an input"):
        simulate_files(simulator, [source], tmp_path, overwrite=True)
    np.save(tmp_path / "b.npy", np.zeros(1))
    with pytest.raises(ImageError, match=r"exists.*--overwrite"):
        simulate_files(simulator, [source], tmp_path / "b.npy")
    simulate_files(simulator, [source], tmp_path / "b.npy", overwrite=True)
    assert np.load(tmp_path / "b.npy").shape == image.shape


def test_places_that_cannot_take_the_outputs_are_refused(tmp_path: Path, simulator: Simulator) -> None:
    two = [tmp_path / "x" / "a.png", tmp_path / "y" / "a.png"]
    with pytest.raises(ImageError, match="into one file"):
        simulate_files(simulator, two, tmp_path / "b.png")
    with pytest.raises(ImageError, match="would both be written here"):
        simulate_files(simulator, two, tmp_path / "out")
    with pytest.raises(ImageError, match=r"cannot write \.gif"):
        simulate_files(simulator, two[:1], tmp_path / "b.gif")


def test_a_format_that_cannot_be_written_becomes_png(
    tmp_path: Path, image: npt.NDArray[np.float32], simulator: Simulator
) -> None:
    cv2.imwrite(str(tmp_path / "a.bmp"), (image * 255).astype(np.uint8))
    written = simulate_files(simulator, [tmp_path / "a.bmp"], tmp_path / "out", assume="srgb")
    assert [path.name for path in written] == ["a.png"]
