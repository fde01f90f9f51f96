from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from psfbank.bank import PsfBank
from psfbank.batch import own_rng, simulate_files
from psfbank.errors import ImageError
from psfbank.isp import Development, Filmic
from psfbank.simulate import Simulator

SPAWN = get_context("spawn")


@pytest.fixture
def image() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).random((96, 128, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def simulator(small_bank: PsfBank) -> Simulator:
    return Simulator(small_bank.at(), ["blur", "noise"], workers=1)


def test_one_picture_goes_into_one_file(tmp_path: Path, image: npt.NDArray[np.float32], simulator: Simulator) -> None:
    np.save(tmp_path / "a.npy", image)
    out = tmp_path / "new" / "b.npy"

    assert simulate_files(simulator, [tmp_path / "a.npy"], out, seed=5).written == (out,)
    want = simulator(image, own_rng(5, "a.npy"))
    np.testing.assert_array_equal(np.load(out), want)


def test_many_pictures_go_into_a_folder_the_same_whoever_works(
    tmp_path: Path, image: npt.NDArray[np.float32], simulator: Simulator
) -> None:
    sources = [tmp_path / f"{name}.npy" for name in "abc"]
    for source in sources:
        np.save(source, image)
    told: list[tuple[str, int, int]] = []
    outputs = simulate_files(simulator, sources, tmp_path / "one", report=lambda *now: told.append(now))
    first = [np.load(path) for path in outputs.written]

    assert told == [("simulate", i, 3) for i in (1, 2, 3)]
    assert np.any(first[0] != first[1])
    pools = {"threads": partial(ThreadPoolExecutor, 2), "processes": partial(ProcessPoolExecutor, 2, SPAWN)}
    for name, pool in pools.items():
        others = simulate_files(simulator, sources[::-1], tmp_path / name, executor=pool).written
        assert [path.name for path in others] == ["c.npy", "b.npy", "a.npy"]
        for path, want in zip(others, first[::-1], strict=True):
            np.testing.assert_array_equal(np.load(path), want)


def test_a_second_run_goes_on_where_the_first_stopped(
    tmp_path: Path, image: npt.NDArray[np.float32], simulator: Simulator
) -> None:
    sources = [tmp_path / f"{name}.npy" for name in "abc"]
    for source in sources:
        np.save(source, image)
    out = tmp_path / "out"
    simulate_files(simulator, sources[:2], out)
    np.save(out / "a.npy", np.zeros(3))
    again = simulate_files(simulator, sources, out)
    assert ([p.name for p in again.written], [p.name for p in again.kept]) == (["c.npy"], ["a.npy", "b.npy"])
    assert np.load(out / "a.npy").shape == (3,)
    anew = simulate_files(simulator, sources, out, overwrite=True)
    assert (len(anew.written), anew.kept) == (3, ())
    assert np.load(out / "a.npy").shape == image.shape


@dataclass(frozen=True)
class Deadly:
    """Ends the process that simulates a picture of a certain brightness."""

    above: float

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        light = np.asarray(image, dtype=np.float32)
        if light.mean() > self.above:
            os._exit(1)
        return light

    def describe(self) -> str:
        return "deadly"


def test_a_worker_that_dies_takes_no_other_picture_along(tmp_path: Path, small_bank: PsfBank) -> None:
    sources = [tmp_path / f"{name}.npy" for name in ("a", "bright", "c")]
    for source in sources:
        np.save(source, np.full((96, 128, 3), 0.9 if source.stem == "bright" else 0.1, np.float32))
    simulator = Simulator(small_bank.at(), [Deadly(0.5), "shading"], workers=1)
    with pytest.raises(ImageError, match=r"bright\.npy: the worker that simulated it died\. Is there memory"):
        simulate_files(simulator, sources, tmp_path / "out", executor=partial(ProcessPoolExecutor, 2, SPAWN))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npy", "c.npy"]


def test_an_interrupt_begins_nothing_more(tmp_path: Path, image: npt.NDArray[np.float32], simulator: Simulator) -> None:
    sources = [tmp_path / f"{i}.npy" for i in range(12)]
    for source in sources:
        np.save(source, image)

    def interrupted(step: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_files(
            simulator, sources, tmp_path / "out", report=interrupted, executor=partial(ThreadPoolExecutor, 1)
        )
    assert all(path.suffix == ".npy" for path in (tmp_path / "out").iterdir())


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
    (out,) = simulate_files(simulator, [tmp_path / "a.npy"], tmp_path / "b.npy").written
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
    written = simulate_files(simulator, [tmp_path / "a.bmp"], tmp_path / "out", assume="srgb").written
    assert [path.name for path in written] == ["a.png"]


def test_pictures_of_other_sizes_are_fitted_as_asked(tmp_path: Path, small_bank: PsfBank) -> None:
    np.save(tmp_path / "a.npy", np.full((200, 301, 3), 0.5, np.float32))
    simulator = Simulator(small_bank.at(), ["shading"], size_px=small_bank.camera.size_px)
    with pytest.raises(ImageError, match=r"the sensor has 128 x 96.*--fit crop, --fit scale"):
        simulate_files(simulator, [tmp_path / "a.npy"], tmp_path / "out")
    for fit in ("crop", "scale"):
        (out,) = simulate_files(simulator, [tmp_path / "a.npy"], tmp_path / fit, fit=fit).written
        assert np.load(out).shape == (96, 128, 3)


def test_a_picture_behind_a_tone_curve_is_written_as_it_is(tmp_path: Path, small_bank: PsfBank) -> None:
    grey = np.full((96, 128, 3), 200, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    simulator = Simulator(
        small_bank.at(), ["tone"], development=Development(tone=Filmic()), size_px=small_bank.camera.size_px
    )
    for suffix, white in ((".png", 65535), (".jpg", 255)):
        simulate_files(simulator, [tmp_path / "a.png"], tmp_path / f"b{suffix}", assume="srgb")
        stored = cv2.imread(str(tmp_path / f"b{suffix}"), cv2.IMREAD_UNCHANGED)
        assert stored.mean() / white == pytest.approx(200 / 255, abs=2e-3)  # through the curve, and back through it
