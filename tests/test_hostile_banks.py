"""Damaged and malicious banks: whatever a file holds, loading it ends in our own words or in the true content.

Run as a script, this file is the worker of the bit-flip test: BANK SEED COUNT -> one JSON object on stdout.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from psfbank import schema, store
from psfbank.bank import PsfBank
from psfbank.canonical import canonical_json
from psfbank.errors import BankFormatError, CorruptBankError, UnsafeBankError, UnsupportedSchemaError
from psfbank.store import guard

SETTING = "/settings/000"
PSF = f"{SETTING}/psf"
KERNELS = f"{PSF}/kernels"
IMAGING = f"{SETTING}/zernike/imaging"
EVIDENCE = f"{SETTING}/evidence"
EDGES = f"{EVIDENCE}/edges"
UNCERTAINTY = f"{SETTING}/distortion/uncertainty"
SOUND = {"compression": "gzip", "shuffle": True, "fletcher32": True}


@pytest.fixture
def bank_file(rendered_bank: PsfBank, tmp_path: Path) -> Path:
    path = tmp_path / "bank.h5"
    rendered_bank.save(path)
    return path


def fingerprint(path: Path) -> str:
    """Digest of everything that loading a bank returns."""
    content = schema.flatten(*store.load(path))
    digest = hashlib.sha256(repr(sorted((k, sorted(v.items())) for k, v in content.attributes.items())).encode())
    for name, values in sorted(content.arrays.items()):
        digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()


def edit(path: Path, change: Callable[[Any], None], *, sign: bool = False) -> None:
    """Change a bank; `sign` forges its digests, as an attacker would."""
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        names = list(json.loads(file["manifest"][()].tobytes()))
        change(file)
        if sign:
            write_manifest(file, [name for name in names if name in file])


def write_manifest(file: Any, names: list[str]) -> None:
    values = {name: file[name][()] for name in names}
    manifest = {
        n: {"dtype": v.dtype.str, "shape": list(v.shape), "sha256": hashlib.sha256(v.tobytes()).hexdigest()}
        for n, v in values.items()
    }
    replace_manifest(file, canonical_json(manifest))


def replace_manifest(file: Any, data: bytes) -> None:
    old = dict(file["manifest"].attrs)
    del file["manifest"]
    dataset = file.create_dataset(
        "manifest", data=np.frombuffer(data, np.uint8), chunks=(min(len(data), 100_000),), **SOUND
    )
    for name, text in old.items():
        dataset.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", max(1, len(text))))
    names = [name for name in json.loads(data) if name in file] if data.startswith(b"{") else []
    objects = guard.walk(h5py.h5g.open(file.id, b"/"), ["/manifest", *names])
    found = {name: guard.attributes(obj, name) for name, obj in objects.items()}
    file.attrs.create("content_sha256", guard.content_sha256(data, found), dtype=h5py.string_dtype("utf-8", 64))


def replace_dataset(file: Any, name: str, **how: Any) -> Any:
    """Put another dataset in a dataset's place, with the same attributes."""
    old = dict(file[name].attrs)
    del file[name]
    dataset = file.create_dataset(name, **how)
    for key, text in old.items():
        dataset.attrs.create(key, text, dtype=h5py.string_dtype("utf-8", max(1, len(text))))
    return dataset


# -- links and storage elsewhere -------------------------------------------------------------------------------------


def soft_leaf(file: Any) -> None:
    file.move(KERNELS, "/elsewhere")
    file[KERNELS] = h5py.SoftLink("/elsewhere")


def soft_group(file: Any) -> None:
    file.move(PSF, "/elsewhere")
    file[PSF] = h5py.SoftLink("/elsewhere")


def soft_manifest(file: Any) -> None:
    file.move("/manifest", "/elsewhere")
    file["/manifest"] = h5py.SoftLink("/elsewhere")


def external(file: Any, name: str) -> None:
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as target:
        file.copy(name, target, "content")
    del file[name]
    file[name] = h5py.ExternalLink(str(other), "/content")


def external_leaf(file: Any) -> None:
    external(file, KERNELS)


def external_group(file: Any) -> None:
    external(file, PSF)


def external_setting(file: Any) -> None:
    external(file, SETTING)


def external_storage(file: Any) -> None:
    values = file[KERNELS][()]
    secret = Path(file.filename).with_name("secret.txt")
    secret.write_bytes(values.tobytes())
    where = [(str(secret), 0, values.nbytes)]
    replace_dataset(file, KERNELS, shape=values.shape, dtype="<f4", external=where)


def virtual(file: Any) -> None:
    values = file[KERNELS][()]
    file.create_dataset("/source", data=values)
    layout = h5py.VirtualLayout(values.shape, "<f4")
    layout[...] = h5py.VirtualSource(".", "/source", values.shape)
    del file[KERNELS]
    file.create_virtual_dataset(KERNELS, layout)


def contiguous(file: Any) -> None:
    replace_dataset(file, KERNELS, data=file[KERNELS][()])


# -- bombs -----------------------------------------------------------------------------------------------------------


def huge_shape(file: Any) -> None:
    shape = (3, 4, 5, 1_000_001, 1_000_001)
    replace_dataset(file, KERNELS, shape=shape, dtype="<f4", chunks=(1, 1, 1, 15, 15), **SOUND)


def huge_shape_in_manifest(file: Any) -> None:
    manifest = json.loads(file["manifest"][()].tobytes())
    manifest[KERNELS]["shape"] = [3, 4, 5, 1_000_001, 1_000_001]
    replace_manifest(file, canonical_json(manifest))


def many_datasets(file: Any) -> None:
    entry = {"dtype": "<f8", "shape": [1], "sha256": "0" * 64}
    replace_manifest(file, canonical_json({f"/later/x{i}": entry for i in range(20_001)}))


def huge_chunk(file: Any) -> None:
    shape = file[KERNELS].shape
    how = {"maxshape": (None,) * 5, "chunks": (3, 4, 5, 1000, 1000)}
    replace_dataset(file, KERNELS, shape=shape, dtype="<f4", **how, **SOUND)


def bursting_chunk(file: Any) -> None:
    values = file[KERNELS][()]
    dataset = replace_dataset(file, KERNELS, data=values, chunks=values.shape, compression="gzip")
    dataset.id.write_direct_chunk((0,) * 5, zlib.compress(bytes(200_000_000), 1))


def missing_chunks(file: Any) -> None:
    shape = file[KERNELS].shape
    replace_dataset(file, KERNELS, shape=shape, dtype="<f4", chunks=(1, 1, 1, 15, 15), **SOUND)


def many_attributes(file: Any) -> None:
    for i in range(100):
        file[PSF].attrs.create(f"x{i}", i, dtype="<i4")


def long_attribute(file: Any) -> None:
    file[PSF].attrs.create("note", b"x" * 10_000, dtype=h5py.string_dtype("utf-8", 10_000))


# -- types and filters -----------------------------------------------------------------------------------------------


def vlen_attribute(file: Any) -> None:
    file.attrs["schema_version"] = "1.0"


def vlen_setting_attribute(file: Any) -> None:
    file[SETTING].attrs["note"] = "text"


def vlen_dataset_attribute(file: Any) -> None:
    file[KERNELS].attrs["units"] = "1"


def array_attribute(file: Any) -> None:
    file[SETTING].attrs["iso"] = np.array([100.0, 200.0])


def reference_attribute(file: Any) -> None:
    file[SETTING].attrs["iso"] = file[PSF].ref


def empty_attribute(file: Any) -> None:
    file[SETTING].attrs["iso"] = h5py.Empty("<f8")


def vlen_dataset(file: Any) -> None:
    replace_dataset(file, KERNELS, data=["text"] * 5, dtype=h5py.string_dtype(), chunks=(5,))


def vlen_provenance(file: Any) -> None:
    kind = h5py.vlen_dtype(np.uint8)
    replace_dataset(file, f"{SETTING}/provenance", shape=(1,), dtype=kind, chunks=(1,))


def reference_dataset(file: Any) -> None:
    replace_dataset(file, f"{SETTING}/noise/gain", shape=(3,), dtype=h5py.ref_dtype, chunks=(3,))


def enum_dataset(file: Any) -> None:
    kind = h5py.enum_dtype({"GOOD": 0, "BAD": 1}, basetype="<u2")
    replace_dataset(file, f"{PSF}/flags", shape=(3, 4, 5), dtype=kind, chunks=(3, 4, 5))


def other_precision(file: Any) -> None:
    replace_dataset(file, KERNELS, data=file[KERNELS][()].astype("<f8"), chunks=(1, 1, 1, 15, 15), **SOUND)


def big_endian(file: Any) -> None:
    replace_dataset(file, KERNELS, data=file[KERNELS][()].astype(">f4"), chunks=(1, 1, 1, 15, 15), **SOUND)


def committed_type(file: Any) -> None:
    file["/type"] = np.dtype("<f4")
    values = file[KERNELS][()]
    replace_dataset(file, KERNELS, data=values, dtype=file["/type"], chunks=(1, 1, 1, 15, 15))


def other_rank(file: Any) -> None:
    replace_dataset(file, KERNELS, data=file[KERNELS][0], chunks=(1, 1, 15, 15), **SOUND)


def other_shape(file: Any) -> None:
    replace_dataset(file, KERNELS, data=file[KERNELS][:, :3], chunks=(1, 1, 1, 15, 15), **SOUND)


def lzf_filter(file: Any) -> None:
    replace_dataset(file, KERNELS, data=file[KERNELS][()], chunks=(1, 1, 1, 15, 15), compression="lzf")


def scale_offset_filter(file: Any) -> None:
    replace_dataset(file, f"{PSF}/n_obs", data=file[f"{PSF}/n_obs"][()], chunks=(3, 4, 5), scaleoffset=0)


# -- structure -------------------------------------------------------------------------------------------------------


def missing_dataset(file: Any) -> None:
    del file[KERNELS]


def missing_manifest(file: Any) -> None:
    del file["manifest"]


def group_for_dataset(file: Any) -> None:
    del file[KERNELS]
    file.create_group(KERNELS)


def dataset_for_group(file: Any) -> None:
    del file[PSF]
    file[PSF] = np.zeros(3)


def type_for_group(file: Any) -> None:
    del file[PSF]
    file[PSF] = np.dtype("<f4")


def manifest_is_no_json(file: Any) -> None:
    replace_manifest(file, b"not JSON")


def manifest_is_a_list(file: Any) -> None:
    replace_manifest(file, b"[1, 2]")


def manifest_nests_too_deep(file: Any) -> None:
    replace_manifest(file, b"[" * 100_000)


def manifest_leaves_the_file(file: Any) -> None:
    manifest = json.loads(file["manifest"][()].tobytes())
    manifest["/settings/../x"] = manifest[KERNELS]
    replace_manifest(file, canonical_json(manifest))


def manifest_goes_below_a_dataset(file: Any) -> None:
    manifest = json.loads(file["manifest"][()].tobytes())
    manifest[f"{KERNELS}/x"] = manifest[KERNELS]
    data = np.frombuffer(canonical_json(manifest), np.uint8)
    replace_dataset(file, "manifest", data=data, chunks=data.shape, **SOUND)


def manifest_goes_round_in_circles(file: Any) -> None:
    file["/settings/loop"] = file["/settings"]
    manifest = json.loads(file["manifest"][()].tobytes())
    manifest["/settings" + "/loop" * 100_000 + KERNELS.removeprefix("/settings")] = manifest[KERNELS]
    data = np.frombuffer(canonical_json(manifest), np.uint8)
    replace_dataset(file, "manifest", data=data, chunks=data.shape, **SOUND)


def manifest_is_huge(file: Any) -> None:
    how = {"data": np.full(9 << 20, ord(" "), np.uint8), "chunks": (1 << 20,)}
    replace_dataset(file, "manifest", **how, **SOUND)


def no_digest(file: Any) -> None:
    del file.attrs["content_sha256"]


# -- edits without a forged digest -----------------------------------------------------------------------------------


def value_edit(file: Any) -> None:
    file[KERNELS][1, 2, 3, 4, 5] *= np.float32(1.01)


def attribute_edit(file: Any) -> None:
    file[SETTING].attrs.modify("iso", np.float64(200))


def dataset_attribute_edit(file: Any) -> None:
    file[KERNELS].attrs.create("units", b"2", dtype=h5py.string_dtype("utf-8", 1))


def attribute_added(file: Any) -> None:
    file[PSF].attrs.create("note", 1, dtype="<i4")


def attribute_removed(file: Any) -> None:
    del file[SETTING].attrs["iso"]


REFUSED = [
    (soft_leaf, UnsafeBankError, "link"),
    (soft_group, UnsafeBankError, "link"),
    (soft_manifest, UnsafeBankError, "link"),
    (external_leaf, UnsafeBankError, "link"),
    (external_group, UnsafeBankError, "link"),
    (external_setting, UnsafeBankError, "link"),
    (huge_shape_in_manifest, UnsafeBankError, "too many"),
    (many_datasets, UnsafeBankError, "20001 datasets"),
    (many_attributes, UnsafeBankError, "attributes are too many"),
    (long_attribute, UnsafeBankError, "fixed-length"),
    (vlen_attribute, UnsafeBankError, "fixed-length"),
    (vlen_setting_attribute, UnsafeBankError, "fixed-length"),
    (vlen_dataset_attribute, UnsafeBankError, "fixed-length"),
    (array_attribute, UnsafeBankError, "not a scalar"),
    (empty_attribute, UnsafeBankError, "not a scalar"),
    (reference_attribute, UnsafeBankError, "fixed-length"),
    (missing_dataset, CorruptBankError, "missing"),
    (missing_manifest, CorruptBankError, "missing"),
    (group_for_dataset, CorruptBankError, "no dataset"),
    (dataset_for_group, CorruptBankError, "no group"),
    (type_for_group, CorruptBankError, "no group"),
    (manifest_is_no_json, CorruptBankError, "not valid JSON"),
    (manifest_is_a_list, CorruptBankError, "not a JSON object"),
    (manifest_nests_too_deep, CorruptBankError, "not valid JSON"),
    (manifest_leaves_the_file, CorruptBankError, "no path of a bank"),
    (manifest_goes_below_a_dataset, CorruptBankError, "no group"),
    (manifest_goes_round_in_circles, CorruptBankError, "not valid"),
    (manifest_is_huge, UnsafeBankError, "too many for a dataset"),
    (no_digest, CorruptBankError, "content_sha256"),
    (value_edit, CorruptBankError, "digest"),
    (attribute_edit, CorruptBankError, "digest"),
    (dataset_attribute_edit, CorruptBankError, "digest"),
    (attribute_added, CorruptBankError, "digest"),
    (attribute_removed, CorruptBankError, "digest"),
    (external_storage, UnsafeBankError, "chunks of this file"),
    (virtual, UnsafeBankError, "chunks of this file"),
    (contiguous, UnsafeBankError, "chunks of this file"),
    (huge_shape, UnsafeBankError, "too many for a dataset"),
    (huge_chunk, UnsafeBankError, "too large"),
    (bursting_chunk, UnsafeBankError, "larger than what it holds"),
    (missing_chunks, CorruptBankError, "chunks are missing"),
    (vlen_dataset, CorruptBankError, "type is not <f4"),
    (vlen_provenance, CorruptBankError, "type is not |u1"),
    (reference_dataset, CorruptBankError, "type is not <f8"),
    (enum_dataset, CorruptBankError, "type is not <u2"),
    (other_precision, CorruptBankError, "type is not <f4"),
    (big_endian, CorruptBankError, "type is not <f4"),
    (committed_type, CorruptBankError, "type is not <f4"),
    (other_rank, CorruptBankError, "axes"),
    (other_shape, CorruptBankError, "manifest"),
    (lzf_filter, UnsafeBankError, "filters"),
    (scale_offset_filter, UnsafeBankError, "filters"),
]


@pytest.mark.parametrize(("change", "error", "words"), REFUSED, ids=[case[0].__name__ for case in REFUSED])
def test_hostile_structure_is_refused_in_words(
    bank_file: Path, change: Callable[[Any], None], error: type[BankFormatError], words: str
) -> None:
    edit(bank_file, change)
    if change.__name__ == "virtual":  # the attributes of the original are gone: forge the digest around the guard
        forge_attributes(bank_file)
    with pytest.raises(error) as caught:
        store.load(bank_file)
    assert type(caught.value) is error
    assert words in str(caught.value)
    assert str(bank_file) in caught.value.where
    assert caught.value.remedy


def forge_attributes(path: Path) -> None:
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        replace_manifest(file, file["manifest"][()].tobytes())


# -- forged banks: every digest is right, the content is not ----------------------------------------------------------


def nan_edit(file: Any) -> None:
    file[KERNELS][0, 0, 0, 7, 7] = np.nan


def negative_edit(file: Any) -> None:
    file[KERNELS][0, 0, 0, 7, 6:8] += np.float32([-1, 1])


def sum_edit(file: Any) -> None:
    file[KERNELS][0, 0, 0] *= np.float32(1.01)


def grid_edit(file: Any) -> None:
    file[f"{SETTING}/grid/x"][1] = -100.0


def knot_edit(file: Any) -> None:
    file[f"{SETTING}/distortion/knots_x"][3] = np.inf


def gain_edit(file: Any) -> None:
    file[f"{SETTING}/noise/gain"][0] = -1.0


def iso_edit(file: Any) -> None:
    file[f"{SETTING}/noise/by_iso/iso"][0] = 1e9


def noise_edit(file: Any) -> None:
    file[f"{SETTING}/noise/by_iso/read_noise"][1, 2] = np.inf


def even_kernels(file: Any) -> None:
    values = file[KERNELS][..., :14, :14]
    replace_dataset(file, KERNELS, data=values, chunks=values.shape, **SOUND)


def other_tiles(file: Any) -> None:
    values = file[f"{PSF}/sigma"][:, :3]
    replace_dataset(file, f"{PSF}/sigma", data=values, chunks=values.shape, **SOUND)


def oversample_zero(file: Any) -> None:
    file[PSF].attrs.modify("oversample", np.int32(0))


def oversample_is_text(file: Any) -> None:
    del file[PSF].attrs["oversample"]
    file[PSF].attrs.create("oversample", b"3", dtype=h5py.string_dtype("utf-8", 1))


def negative_iso(file: Any) -> None:
    file[SETTING].attrs.modify("iso", np.float64(-1))


def cfa_unknown(file: Any) -> None:
    file.attrs.create("cfa", b"XXXX", dtype=h5py.string_dtype("utf-8", 4))


def channels_contradict(file: Any) -> None:
    file.attrs.create("channels", b"R,G", dtype=h5py.string_dtype("utf-8", 3))


def text_is_not_utf8(file: Any) -> None:
    file.attrs.create("lens", b"\xff\xfe", dtype=h5py.string_dtype("ascii", 2))


def no_kernels(file: Any) -> None:
    del file[KERNELS]


def no_grid(file: Any) -> None:
    del file[f"{SETTING}/grid"]


def no_provenance(file: Any) -> None:
    del file[f"{SETTING}/provenance"]


def no_settings(file: Any) -> None:
    del file["/settings"]


def no_iso(file: Any) -> None:
    del file[SETTING].attrs["iso"]


def provenance_with_nan(file: Any) -> None:
    data = np.frombuffer(b'{"x":NaN}', np.uint8)
    replace_dataset(file, f"{SETTING}/provenance", data=data, chunks=data.shape, **SOUND)


def other_content(file: Any) -> None:
    file[PSF].attrs.create("content", b"optics", dtype=h5py.string_dtype("utf-8", 6))


def change_imaging(file: Any, name: str, value: float) -> None:
    values = file[f"{IMAGING}/{name}"][()]
    values.flat[0] = value
    file[f"{IMAGING}/{name}"][...] = values


def wavelength_zero(file: Any) -> None:
    change_imaging(file, "wavelengths", 0.0)


def wavelength_far_too_short(file: Any) -> None:
    change_imaging(file, "wavelengths", 1e-6)


def weights_negative(file: Any) -> None:
    change_imaging(file, "weights", -1.0)


def diffusion_nan(file: Any) -> None:
    change_imaging(file, "diffusion", np.nan)


def stop_shut(file: Any) -> None:
    change_imaging(file, "clip", 9.0)


def no_clip(file: Any) -> None:
    del file[f"{IMAGING}/clip"]


def no_pitch(file: Any) -> None:
    del file[IMAGING].attrs["pitch_um"]


def residual_infinite(file: Any) -> None:
    file[f"{EVIDENCE}/residual"][0, 0, 0, 3, 3] = np.inf


def residual_huge(file: Any) -> None:
    values = np.zeros((3, 4, 5, 201, 201), np.float32)
    replace_dataset(file, f"{EVIDENCE}/residual", data=values, chunks=(1, 1, 1, 201, 201), **SOUND)


def chi2_negative(file: Any) -> None:
    file[f"{EVIDENCE}/chi2_reserved"][0, 0, 1] = -1.0


def reserve_of_other_tiles(file: Any) -> None:
    values = file[f"{EVIDENCE}/n_reserved"][:, 1:]
    replace_dataset(file, f"{EVIDENCE}/n_reserved", data=values, chunks=values.shape, **SOUND)


def no_asymmetry(file: Any) -> None:
    del file[f"{EVIDENCE}/asymmetry"]


def mtf_nan(file: Any) -> None:
    file[f"{EDGES}/mtf"][1, 3] = np.nan


def mtf_beyond_belief(file: Any) -> None:
    file[f"{EDGES}/mtf"][1, 3] = 1e30


def frequencies_fall(file: Any) -> None:
    file[f"{EDGES}/freq"][3] = 0.0


def edge_of_no_channel(file: Any) -> None:
    file[f"{EDGES}/channel"][2] = 2**30


def edges_too_few(file: Any) -> None:
    values = file[f"{EDGES}/angle"][1:]
    replace_dataset(file, f"{EDGES}/angle", data=values, chunks=values.shape, **SOUND)


def edges_of_wide_numbers(file: Any) -> None:
    values = file[f"{EDGES}/mtf"][()].astype(np.float64)
    replace_dataset(file, f"{EDGES}/mtf", data=values, chunks=values.shape, **SOUND)


def no_edge_flags(file: Any) -> None:
    del file[f"{EDGES}/flags"]


def mode_nan(file: Any) -> None:
    file[f"{UNCERTAINTY}/modes"][0, 1, 0, 2, 2] = np.nan


def modes_on_other_knots(file: Any) -> None:
    values = file[f"{UNCERTAINTY}/modes"][:, :, :, 1:]
    replace_dataset(file, f"{UNCERTAINTY}/modes", data=values, chunks=values.shape, **SOUND)


def heldout_error_negative(file: Any) -> None:
    file[UNCERTAINTY].attrs["heldout_rms"] = -0.1


def term_of_endless_degree(file: Any) -> None:
    file[f"{SETTING}/zernike/nm"][0] = (2**30, 0)


FORGED = [
    (nan_edit, CorruptBankError, "not finite"),
    (negative_edit, CorruptBankError, "must not be negative"),
    (sum_edit, CorruptBankError, "sum to one"),
    (grid_edit, CorruptBankError, "increase strictly"),
    (knot_edit, CorruptBankError, "finite"),
    (gain_edit, CorruptBankError, "must be positive"),
    (iso_edit, CorruptBankError, "increase strictly"),
    (noise_edit, CorruptBankError, "`read_noise_e` must be finite"),
    (even_kernels, CorruptBankError, "odd width"),
    (other_tiles, CorruptBankError, "shape"),
    (oversample_zero, CorruptBankError, "oversample"),
    (oversample_is_text, CorruptBankError, "type str"),
    (negative_iso, CorruptBankError, "positive"),
    (cfa_unknown, CorruptBankError, "cfa"),
    (channels_contradict, CorruptBankError, "contradict"),
    (text_is_not_utf8, CorruptBankError, "damaged"),
    (no_kernels, CorruptBankError, "missing"),
    (no_grid, CorruptBankError, "missing"),
    (no_provenance, CorruptBankError, "missing"),
    (no_settings, CorruptBankError, "no setting"),
    (no_iso, CorruptBankError, "iso is missing"),
    (provenance_with_nan, CorruptBankError, "not valid JSON"),
    (other_content, UnsupportedSchemaError, "optics"),
    (wavelength_zero, CorruptBankError, "must be positive"),
    (wavelength_far_too_short, CorruptBankError, "samples across the pupil"),
    (weights_negative, CorruptBankError, "must not be negative"),
    (diffusion_nan, CorruptBankError, "not finite"),
    (stop_shut, CorruptBankError, "open"),
    (no_clip, CorruptBankError, "missing"),
    (no_pitch, CorruptBankError, "pitch_um is missing"),
    (term_of_endless_degree, CorruptBankError, "Zernike terms"),
    (residual_infinite, CorruptBankError, "not finite"),
    (residual_huge, CorruptBankError, "odd width up to 21"),
    (chi2_negative, CorruptBankError, "must not be negative"),
    (reserve_of_other_tiles, CorruptBankError, "shape"),
    (no_asymmetry, CorruptBankError, "missing"),
    (mtf_nan, CorruptBankError, "not finite"),
    (mtf_beyond_belief, CorruptBankError, "must not exceed"),
    (frequencies_fall, CorruptBankError, "increase strictly"),
    (edge_of_no_channel, CorruptBankError, "below 3"),
    (edges_too_few, CorruptBankError, "shape"),
    (edges_of_wide_numbers, CorruptBankError, "the type <f8"),
    (no_edge_flags, CorruptBankError, "missing"),
    (mode_nan, CorruptBankError, "not finite"),
    (modes_on_other_knots, CorruptBankError, "shape"),
    (heldout_error_negative, CorruptBankError, "negative"),
]


@pytest.mark.parametrize(("change", "error", "words"), FORGED, ids=[case[0].__name__ for case in FORGED])
def test_right_digests_do_not_excuse_wrong_content(
    bank_file: Path, change: Callable[[Any], None], error: type[BankFormatError], words: str
) -> None:
    edit(bank_file, change, sign=True)
    with pytest.raises(error) as caught:
        store.load(bank_file)
    assert type(caught.value) is error
    assert words in str(caught.value)
    assert str(bank_file) in caught.value.where


def test_a_forged_but_unchanged_bank_loads(bank_file: Path) -> None:
    # what the forged cases rest on: the digests that these tests forge are the right ones
    before = fingerprint(bank_file)
    edit(bank_file, lambda file: None, sign=True)
    assert fingerprint(bank_file) == before


# -- what may be there and is left alone -----------------------------------------------------------------------------


def test_what_a_later_minor_version_adds_is_ignored(bank_file: Path) -> None:
    before = fingerprint(bank_file)

    def extend(file: Any) -> None:
        file.attrs.create("schema_version", b"1.7", dtype=h5py.string_dtype("utf-8", 3))
        file[PSF].attrs.create("fitted_by", b"x", dtype=h5py.string_dtype("utf-8", 1))
        file.create_dataset(f"{EVIDENCE}/speckle/mtf", data=np.arange(6.0), chunks=(6,))
        names = json.loads(file["manifest"][()].tobytes())
        write_manifest(file, [*names, f"{EVIDENCE}/speckle/mtf"])

    edit(bank_file, extend)
    assert fingerprint(bank_file) == before
    assert any(d.path.endswith("speckle/mtf") for d in store.verify(bank_file).datasets)


def test_a_file_of_the_first_version_has_neither_imaging_nor_evidence(small_bank: PsfBank, tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    blind = replace(small_bank.at().distortion, uncertainty=None)
    PsfBank(small_bank.camera, (replace(small_bank.at(), distortion=blind, evidence=None, edges=None),)).save(path)
    before = fingerprint(path)

    def age(file: Any) -> None:
        assert IMAGING not in file
        assert EVIDENCE not in file
        assert UNCERTAINTY not in file
        file.attrs.create("schema_version", b"1.0", dtype=h5py.string_dtype("utf-8", 3))

    edit(path, age, sign=True)
    assert store.verify(path).schema_version == "1.0"
    cal = PsfBank.open(path).at()
    assert cal.wavefront is not None
    assert cal.wavefront.imaging is None
    assert cal.evidence is None
    assert cal.edges is None
    assert np.isnan(cal.distortion.sigma_px([[30.0, 30.0]])).all()  # type: ignore[union-attr]
    np.testing.assert_array_equal(cal.psf(51.0, 40.0), small_bank.at().psf(51.0, 40.0))
    PsfBank.open(path).save(path)
    assert fingerprint(path) == before


def test_imaging_outside_the_manifest_is_not_read(bank_file: Path) -> None:
    """As a reader of the first version sees a file of this one: rows that it does not know are left alone."""

    def forget(file: Any) -> None:
        names = list(json.loads(file["manifest"][()].tobytes()))
        write_manifest(file, [name for name in names if not name.startswith(IMAGING)])

    edit(bank_file, forget)
    assert PsfBank.open(bank_file).at().wavefront.imaging is None  # type: ignore[union-attr]


def test_objects_outside_the_manifest_are_never_touched(bank_file: Path) -> None:
    before = fingerprint(bank_file)

    def litter(file: Any) -> None:
        file["/settings/000/psf/loop"] = file["/settings"]
        file["/nowhere"] = h5py.ExternalLink("/dev/zero", "/x")
        file.create_dataset("/text", data=["text"], dtype=h5py.string_dtype())

    edit(bank_file, litter)
    assert fingerprint(bank_file) == before


# -- other versions, other files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.0", "0.9", "", "x"])
def test_another_major_version_is_named(bank_file: Path, version: str) -> None:
    kind = h5py.string_dtype("utf-8", max(1, len(version)))
    edit(bank_file, lambda file: file.attrs.create("schema_version", version.encode(), dtype=kind))
    with pytest.raises(UnsupportedSchemaError, match="schema version"):
        store.load(bank_file)


def test_some_other_hdf5_file_is_no_bank(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.arange(3)
    with pytest.raises(UnsupportedSchemaError, match="no PSF bank"):
        store.load(tmp_path / "x.h5")


@pytest.mark.parametrize("keep", [1, 8, 47, 500, 3000, 20_000, -1, -100])
def test_truncation(bank_file: Path, keep: int) -> None:
    bank_file.write_bytes(bank_file.read_bytes()[:keep])
    with pytest.raises(CorruptBankError):
        store.load(bank_file)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04" + b"x" * 5000, b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(5000)]
)
def test_not_hdf5(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.h5").write_bytes(data)
    with pytest.raises(CorruptBankError):
        store.load(tmp_path / "x.h5")


def test_missing_folder_and_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("none.h5", "no such bank"), ("", "no file"), ("pipe", "no file")):
        with pytest.raises(BankFormatError, match=words) as caught:
            store.load(tmp_path / name)
        assert type(caught.value) is BankFormatError


def test_a_file_too_large_is_not_even_opened(tmp_path: Path) -> None:
    with (tmp_path / "x.h5").open("wb") as file:
        file.truncate(guard.MAX_FILE_BYTES + 1)  # sparse: takes no room
    with pytest.raises(UnsafeBankError, match="too many for a bank"):
        store.load(tmp_path / "x.h5")


# -- flipped bits ----------------------------------------------------------------------------------------------------


def flip_bits(path: Path, seed: int, count: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    data, truth = path.read_bytes(), fingerprint(path)
    result: dict[str, Any] = {"refused": 0, "identical": 0, "silent": []}
    # half anywhere, half in the structure at the file's start
    positions = np.concatenate(
        [rng.integers(8 * len(data), size=count - count // 2), rng.integers(8 * 8192, size=count // 2)]
    )
    with tempfile.TemporaryDirectory() as folder:
        flipped = Path(folder) / "flipped.h5"
        for position in positions.tolist():
            sys.stderr.write(f"{position}\n")
            sys.stderr.flush()  # the last line tells which flip hung or crashed
            damaged = bytearray(data)
            damaged[position // 8] ^= 1 << position % 8
            flipped.write_bytes(damaged)
            try:
                same = fingerprint(flipped) == truth
            except BankFormatError:
                result["refused"] += 1
                continue
            result["identical"] += same
            if not same:
                result["silent"].append(position)
    return result


def test_no_flipped_bit_is_silent_or_hangs(bank_file: Path) -> None:
    count = 500
    command = [sys.executable, __file__, str(bank_file), "1", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["silent"] == []
    assert result["refused"] + result["identical"] == count
    assert result["refused"] > 0.8 * count  # the rest hit padding


if __name__ == "__main__":
    sys.stdout.write(json.dumps(flip_bits(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
