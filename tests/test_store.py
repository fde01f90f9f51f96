"""Saving and loading: nothing is lost, nothing is half-written, nothing stays open."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank import schema, store
from psfbank.bank import PsfBank
from psfbank.errors import BankFormatError
from psfbank.model import Calibration, Camera, PsfGrid
from psfbank.store import guard
from psfbank.store.writer import chunk_shape


def assert_same(one: PsfBank, other: PsfBank) -> None:
    a, b = (schema.flatten(bank.camera, bank.calibrations) for bank in (one, other))
    np.testing.assert_equal(b.attributes, a.attributes)
    assert a.arrays.keys() == b.arrays.keys()
    for path, values in a.arrays.items():
        np.testing.assert_array_equal(b.arrays[path], values, strict=True)


def test_round_trip(small_bank: PsfBank, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "a.h5")
    again = PsfBank.open(tmp_path / "a.h5")
    assert_same(small_bank, again)
    assert again.camera == small_bank.camera
    assert again.at().provenance == small_bank.at().provenance
    assert not again.at().noise.gain_dn_per_e.flags.writeable  # type: ignore[union-attr]


def test_round_trip_of_what_rendering_needs(rendered_bank: PsfBank, tmp_path: Path) -> None:
    rendered_bank.save(tmp_path / "a.h5")
    assert_same(rendered_bank, PsfBank.open(tmp_path / "a.h5"))
    with h5py.File(tmp_path / "a.h5") as file:
        group = file["settings/000/zernike/imaging"]
        assert set(group) == {"wavelengths", "weights", "diffusion", "clip"}
        assert group.attrs["pitch_um"] == 1.4
        assert group["wavelengths"].attrs["units"] == b"nm"
        np.testing.assert_array_equal(group["diffusion"][()], [0.30, 0.28, 0.26])


def test_round_trip_of_the_unknown(tmp_path: Path) -> None:
    # no part at all, empty texts, NaN everywhere
    camera = Camera("", "", (3, 5), "mono")
    store.save(tmp_path / "a.h5", camera, [Calibration(provenance={"rms_px": float("nan")})])
    again, (calibration,) = store.load(tmp_path / "a.h5")
    assert (again.maker, again.size_px, again.channels) == ("", (3, 5), ("Y",))
    assert np.isnan(again.pitch_um)
    assert calibration.setting.known() == {}
    assert calibration.psf_grid is None
    assert calibration.provenance == {"rms_px": None}


def test_the_colours_of_a_camera_come_back(small_bank: PsfBank, tmp_path: Path) -> None:
    matrix = ((0.66, -0.21, -0.06), (-0.48, 1.3, 0.19), (-0.1, 0.16, 0.52))
    store.save(tmp_path / "a.h5", replace(small_bank.camera, xyz_to_camera=matrix), small_bank.calibrations)
    camera, _ = store.load(tmp_path / "a.h5")
    assert camera.xyz_to_camera == matrix
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["xyz_to_camera"].attrs["dims"] == b"3,3"
        np.testing.assert_array_equal(file["xyz_to_camera"][:], matrix)


def test_a_reader_of_its_own_finds_what_the_schema_says(small_bank: PsfBank, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "a.h5")
    calibration = small_bank.at()
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file.attrs["schema"], file.attrs["schema_version"]) == (b"psfbank", b"1.4")
        assert (file.attrs["height_px"], file.attrs["width_px"], file.attrs["channels"]) == (96, 128, b"R,G,B")
        assert file.attrs["lens"].decode() == "f/2 Ω"
        setting = file["settings/000"]
        assert (setting.attrs["f_number"], setting.attrs["iso"]) == (2.0, 100.0)
        assert np.isnan(setting.attrs["focus_m"])
        for path, values in {
            "grid/x": calibration.psf_grid.x_px,  # type: ignore[union-attr]
            "grid/y": calibration.psf_grid.y_px,  # type: ignore[union-attr]
            "psf/kernels": calibration.psf_grid.kernels,  # type: ignore[union-attr]
            "zernike/nm": calibration.wavefront.nm,  # type: ignore[union-attr]
            "distortion/coefficients": calibration.distortion.coefficients,  # type: ignore[union-attr]
            "illumination/relative": calibration.illumination.relative,  # type: ignore[union-attr]
            "evidence/edges/mtf": calibration.edges.mtf,  # type: ignore[union-attr]
            "noise/gain": calibration.noise.gain_dn_per_e,  # type: ignore[union-attr]
            "noise/read_noise": calibration.noise.read_noise_e,  # type: ignore[union-attr]
        }.items():
            np.testing.assert_array_equal(setting[path][()], values, strict=True)
        assert setting["psf"].attrs["oversample"] == 3
        assert setting["psf"].attrs["content"] == b"effective"
        assert setting["distortion"].attrs["direction"] == b"ideal_to_distorted"
        assert setting["noise/gain"].attrs["units"] == b"DN/e"
        assert setting["psf/kernels"].attrs["dims"] == b"C,Ty,Tx,K,K"
        assert json.loads(setting["provenance"][()].tobytes()) == calibration.provenance


def test_same_content_same_bytes(small_bank: PsfBank, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "a.h5")
    time.sleep(1.1)  # HDF5 stamps seconds
    again = PsfBank.open(tmp_path / "a.h5")
    again.save(tmp_path / "another name.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "another name.h5").read_bytes()


def test_nothing_in_the_file_can_hang_or_reach_out(small_bank: PsfBank, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "a.h5")
    seen = []

    def inspect(name: str, obj: Any) -> None:
        seen.append(name)
        for attribute in (h5py.h5a.open(obj.id, index=i) for i in range(len(obj.attrs))):
            kind = attribute.get_type()
            assert kind.get_class() != h5py.h5t.STRING or not kind.is_variable_str()
        if isinstance(obj, h5py.Dataset):
            assert (obj.compression, obj.compression_opts, obj.shuffle, obj.fletcher32) == ("gzip", 4, True, True)
            assert {"units", "dims", "long_name"} <= set(obj.attrs)
            assert h5py.h5o.get_info(obj.id).mtime == 0

    with h5py.File(tmp_path / "a.h5") as file:
        file.visititems(inspect)
    assert "settings/000/psf/kernels" in seen


def test_the_manifest_covers_every_dataset(small_bank: PsfBank, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        manifest = json.loads(file["manifest"][()].tobytes())
        found: list[str] = []
        file.visititems(lambda name, obj: found.append(f"/{name}") if isinstance(obj, h5py.Dataset) else None)
        assert set(found) == {*manifest, "/manifest"}
        for name, entry in manifest.items():
            assert entry["sha256"] == hashlib.sha256(file[name][()].tobytes()).hexdigest()


def test_no_handle_stays_open(small_bank: PsfBank, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "a.h5")
    bank = PsfBank.open(tmp_path / "a.h5")
    files = h5py.h5f.OBJ_FILE | h5py.h5f.OBJ_DATASET | h5py.h5f.OBJ_GROUP | h5py.h5f.OBJ_ATTR
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, files) == 0
    (tmp_path / "a.h5").unlink()
    bank.save(tmp_path / "a.h5")
    assert_same(bank, PsfBank.open(tmp_path / "a.h5"))


def test_a_failed_load_leaves_no_handle_open(small_bank: PsfBank, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "a.h5")
    data = bytearray((tmp_path / "a.h5").read_bytes())
    with h5py.File(tmp_path / "a.h5") as file:
        offset = file["settings/000/psf/kernels"].id.get_chunk_info(0).byte_offset
    data[offset + 20] ^= 1
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(BankFormatError):
        store.load(tmp_path / "a.h5")
    files = h5py.h5f.OBJ_FILE | h5py.h5f.OBJ_DATASET | h5py.h5f.OBJ_GROUP | h5py.h5f.OBJ_ATTR
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, files) == 0


# -- atomicity -------------------------------------------------------------------------------------------------------


def fail(error: BaseException) -> Callable[..., Any]:
    def raiser(*_: Any, **__: Any) -> Any:
        raise error

    return raiser


@pytest.mark.parametrize(
    ("where", "error", "raised"),
    [
        ("psfbank.store.writer.os.fsync", OSError(28, "No space left on device"), BankFormatError),
        ("psfbank.store.writer.load", BankFormatError("it does not read back"), BankFormatError),
        ("psfbank.store.writer.load", KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failing_save_leaves_the_old_file(
    small_bank: PsfBank,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: BaseException,
    raised: type[BaseException],
) -> None:
    path = tmp_path / "a.h5"
    small_bank.save(path)
    before = path.read_bytes()
    other = PsfBank(replace(small_bank.camera, model="Other"), small_bank.calibrations)
    monkeypatch.setattr(where, fail(error))
    with pytest.raises(raised):
        other.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.h5"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files the POSIX way")
def test_a_full_disk_is_said_in_words(small_bank: PsfBank, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    small_bank.save(path)
    before = path.read_bytes()
    script = (
        "import resource, sys\n"
        "from psfbank import PsfBank\n"
        "bank = PsfBank.open(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n    bank.save(sys.argv[1])\n"
        "except Exception as error:\n    sys.exit(f'{type(error).__name__}: {error}')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"BankFormatError: {path}: the bank cannot be written")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.h5"]


def test_overwriting_is_a_choice(small_bank: PsfBank, tmp_path: Path) -> None:
    small_bank.save(tmp_path / "a.h5", overwrite=False)
    with pytest.raises(BankFormatError, match="exists"):
        small_bank.save(tmp_path / "a.h5", overwrite=False)
    small_bank.save(tmp_path / "a.h5")


def test_targets_that_cannot_be_files(small_bank: PsfBank, tmp_path: Path) -> None:
    with pytest.raises(BankFormatError, match="no file"):
        small_bank.save(tmp_path)
    with pytest.raises(BankFormatError, match="cannot be written"):
        small_bank.save(tmp_path / "none" / "a.h5")
    assert os.listdir(tmp_path) == []


def test_a_link_is_followed_and_the_mode_is_the_users(small_bank: PsfBank, tmp_path: Path) -> None:
    (tmp_path / "link.h5").symlink_to(tmp_path / "real.h5")
    small_bank.save(tmp_path / "link.h5")
    assert (tmp_path / "link.h5").is_symlink()
    (tmp_path / "plain").touch()  # made with the process's own umask
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("real.h5", "plain")}
    assert len(modes) == 1


@pytest.mark.parametrize("text", ["a\0b", "x" * 5000])
def test_texts_that_would_not_come_back_are_refused(small_bank: PsfBank, tmp_path: Path, text: str) -> None:
    bank = PsfBank(replace(small_bank.camera, lens=text), small_bank.calibrations)
    with pytest.raises(BankFormatError, match="lens"):
        bank.save(tmp_path / "a.h5")
    assert os.listdir(tmp_path) == []


def test_what_could_not_be_loaded_is_not_saved(
    small_bank: PsfBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MAX_FILE_BYTES", 1000)
    with pytest.raises(BankFormatError, match="too many"):
        small_bank.save(tmp_path / "a.h5")
    assert os.listdir(tmp_path) == []


# -- verify ----------------------------------------------------------------------------------------------------------


def test_verify_tells_what_is_inside(small_bank: PsfBank, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    small_bank.save(path)
    summary = store.verify(path)
    assert summary.path == str(path)
    assert summary.file_bytes == path.stat().st_size
    assert summary.schema_version == "1.4"
    assert summary.camera == small_bank.camera
    assert [s.parts for s in summary.settings] == [
        (
            *("psf", "zernike", "distortion", "illumination", "noise", "noise/by_iso"),
            *("evidence", "evidence/edges", "axis"),
        )
    ]
    assert summary.settings[0].setting.known() == small_bank.at().setting.known()
    kernels = next(d for d in summary.datasets if d.path == "/settings/000/psf/kernels")
    assert (kernels.dtype, kernels.shape) == ("<f4", (3, 4, 5, 15, 15))
    assert kernels.sha256 == hashlib.sha256(small_bank.at().psf_grid.kernels.tobytes()).hexdigest()  # type: ignore[union-attr]
    assert 0 < kernels.stored_bytes < path.stat().st_size
    with h5py.File(path) as file:
        assert summary.content_sha256 == file.attrs["content_sha256"].decode()


# -- chunks ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 4000), min_size=1, max_size=5).filter(lambda s: np.prod(s, dtype=float) < 1e12),
    st.sampled_from([1, 2, 4, 8]),
)
def test_chunks_fit_their_bounds(shape: list[int], itemsize: int) -> None:
    chunk = chunk_shape(tuple(shape), itemsize)
    assert np.prod(chunk, dtype=float) * itemsize <= guard.MAX_CHUNK_BYTES
    assert all(1 <= c <= n for c, n in zip(chunk, shape, strict=True))
    if np.prod(shape, dtype=float) * itemsize <= guard.MAX_CHUNK_BYTES:
        assert chunk == tuple(shape)


def test_kernels_of_several_chunks_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernels = rng.random((1, 3, 7, 129, 129))  # 1.4 MB, and no axis divides evenly
    kernels /= kernels.sum((-2, -1), keepdims=True)
    grid = PsfGrid(np.arange(7.0), np.arange(3.0), kernels, channels=("Y",))
    store.save(tmp_path / "a.h5", Camera("", "", (10, 10), "mono"), [Calibration(psf_grid=grid)])
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["settings/000/psf/kernels"].id.get_num_chunks() > 1
    _, (again,) = store.load(tmp_path / "a.h5")
    np.testing.assert_array_equal(again.psf_grid.kernels, grid.kernels)  # type: ignore[union-attr]
