"""The table is sound, and a bank survives being flattened and built again."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from psfbank import layout, schema
from psfbank.bank import PsfBank
from psfbank.errors import BankFormatError, CorruptBankError
from psfbank.model import Calibration, Illumination, Setting

INNER = [inner for part in layout.PARTS for inner in part.parts]


def test_no_two_rows_share_a_path() -> None:
    paths = [row.path for row in layout.TABLE]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("row", layout.TABLE, ids=lambda row: row.path)
def test_every_row_is_complete(row: layout.Row) -> None:
    assert row.long_name
    if row.is_attribute:
        assert row.dtype in ("text", "<i4", "<f8")
        assert row.rank == 0
    else:
        assert np.dtype(row.dtype).str == row.dtype  # spelt as the manifest spells it
        assert row.rank > 0
        assert row.units


@pytest.mark.parametrize("part", [*layout.PARTS, *INNER], ids=lambda part: part.group)
def test_every_field_of_a_domain_type_has_a_row(part: layout.Part) -> None:
    groups = {part.group, "grid"} if part.on_grid else {part.group}
    stored = {row.field for row in layout.TABLE if row.group in groups and row.field}
    assert stored | {inner.field for inner in part.parts} == {field.name for field in fields(part.kind)}


def test_every_part_of_a_calibration_is_stored() -> None:
    assert {part.field for part in layout.PARTS} | {"setting", "provenance"} == {f.name for f in fields(Calibration)}
    assert {f.name for f in fields(Setting)} == {r.field for r in layout.TABLE if r.path.startswith("@")}


def test_flatten_then_rebuild_changes_nothing(small_bank: PsfBank) -> None:
    content = schema.flatten(small_bank.camera, small_bank.calibrations)
    again = schema.flatten(*schema.rebuild(content))
    assert content.arrays.keys() == again.arrays.keys()
    for path, values in content.arrays.items():
        np.testing.assert_array_equal(values, again.arrays[path], strict=True)
    np.testing.assert_equal(again.attributes, content.attributes)


def test_arrays_have_the_types_and_ranks_of_the_table(small_bank: PsfBank) -> None:
    for path, values in schema.flatten(small_bank.camera, small_bank.calibrations).arrays.items():
        row = schema.row_of(path)
        assert row is not None
        assert (values.dtype.str, values.ndim) == (row.dtype, row.rank)


@pytest.mark.parametrize("part", layout.PARTS, ids=lambda part: part.group)
def test_each_part_may_stand_alone(small_bank: PsfBank, part: layout.Part) -> None:
    alone = Calibration(**{part.field: getattr(small_bank.at(), part.field)})
    content = schema.flatten(small_bank.camera, [alone])
    groups = {path.removeprefix("/settings/000/").rpartition("/")[0] or "provenance" for path in content.arrays}
    inner = {p.group for p in part.parts if getattr(getattr(alone, part.field), p.field) is not None}
    assert groups == {part.group, "provenance"} | inner | ({"grid"} if part.on_grid else set())
    _, (again,) = schema.rebuild(content)
    assert [p.field for p in layout.PARTS if getattr(again, p.field) is not None] == [part.field]


def test_a_group_inside_a_part_survives(rendered_bank: PsfBank) -> None:
    content = schema.flatten(rendered_bank.camera, rendered_bank.calibrations)
    assert {"/settings/000/zernike", "/settings/000/zernike/imaging"} <= set(content.attributes)
    _, (again,) = schema.rebuild(content)
    np.testing.assert_equal(schema.flatten(rendered_bank.camera, [again]).arrays, content.arrays)
    assert again.wavefront is not None
    assert again.wavefront.imaging is not None
    np.testing.assert_array_equal(again.wavefront.imaging.wavelengths_nm[2], [455.0, 475.0])


@pytest.mark.parametrize(
    ("path", "group", "name"),
    [
        ("psf/kernels", "psf", "kernels"),
        ("zernike/imaging/clip", "zernike/imaging", "clip"),
        ("zernike/imaging@pitch_um", "zernike/imaging", "pitch_um"),
        ("evidence/edges/mtf", "evidence/edges", "mtf"),
        ("@iso", "", "iso"),
    ],
)
def test_the_group_of_a_row(path: str, group: str, name: str) -> None:
    row = next(row for row in layout.TABLE if row.path == path)
    assert (row.group, row.name) == (group, name)


def test_different_grids_are_refused(small_bank: PsfBank) -> None:
    light = small_bank.at().illumination
    assert light is not None
    moved = Illumination(light.x_px + 1, light.y_px, light.relative)
    with pytest.raises(BankFormatError, match=r"grid/x: psf and illumination lie on different grids"):
        schema.flatten(small_bank.camera, [replace(small_bank.at(), illumination=moved)])


def test_the_number_of_settings_is_bounded(small_bank: PsfBank) -> None:
    with pytest.raises(BankFormatError, match="not 0"):
        schema.flatten(small_bank.camera, [])
    with pytest.raises(BankFormatError, match="not 1001"):
        schema.flatten(small_bank.camera, [Calibration()] * 1001)


def test_a_part_keeps_its_own_channels(small_bank: PsfBank) -> None:
    light = small_bank.at().illumination
    assert light is not None
    green = Illumination(light.x_px, light.y_px, light.relative[1:2], channels=("G",))
    _, (again,) = schema.rebuild(schema.flatten(small_bank.camera, [Calibration(illumination=green)]))
    assert again.illumination is not None
    assert again.illumination.channels == ("G",)


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/manifest", True),
        ("/settings/000/psf/kernels", True),
        ("/settings/999/provenance", True),
        ("/psf/kernels", False),
        ("psf/kernels", True),
        ("/settings/000/psf/later", False),
        ("/settings/0000/psf/kernels", False),
    ],
)
def test_row_of(path: str, known: bool) -> None:
    assert (schema.row_of(path) is not None) == known


def test_markdown_has_a_line_for_every_row() -> None:
    lines = schema.markdown().splitlines()
    assert len(lines) == 2 + len(layout.TABLE)
    assert all(line.count("|") == 6 for line in lines)
    assert (
        "| `/settings/NNN/psf/kernels` | f4 | C, Ty, Tx, K, K | 1 | effective PSF, centroid on the array centre |"
        in lines
    )
    assert "| `/settings/NNN@iso` | f8 |  | 1 | ISO speed, NaN when unknown |" in lines


def test_colours_that_no_camera_has_are_corrupt(small_bank: PsfBank) -> None:
    camera = replace(small_bank.camera, xyz_to_camera=np.eye(3))  # type: ignore[arg-type]
    content = schema.flatten(camera, small_bank.calibrations)
    assert schema.rebuild(content)[0].xyz_to_camera == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    for wrong in (np.eye(4), np.ones((3, 3)), np.full((3, 3), np.nan)):
        with pytest.raises(CorruptBankError, match="xyz_to_camera"):
            schema.rebuild(replace(content, arrays={**content.arrays, "/xyz_to_camera": wrong}))


def test_manifest_json_names_are_what_the_table_says(small_bank: PsfBank) -> None:
    provenance = schema.flatten(small_bank.camera, small_bank.calibrations).arrays["/settings/000/provenance"]
    assert json.loads(provenance.tobytes())["seed"] == 0
