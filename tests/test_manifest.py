"""capture.toml -> plan; every mistake is answered with file, field and remedy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from calib.dng import write_dng
from calib.manifest import DEFAULT_WAVELENGTHS_NM, GEOMETRY, load_plan
from calib.settings import axis_of
from psfbank.errors import CaptureUnusable, ManifestError

SHARED = Path(os.environ.get("PSFBANK_SHARED", Path(__file__).parents[2] / "shared"))
CAMERA = """
[camera]
make = "Maker"
model = "Model"
width = 32
height = 24
pixel_pitch_um = 1.4
f_number = 2.0
focal_length_mm = 4.5
cfa = "RGGB"
black_level = 64
white_level = 1023
"""
FLAT = '[[capture]]\nkind = "flat"\nfiles = "flat/*.png"\n'
VALUES = {
    "pitch_mm": 46.0, "columns": 13, "rows": 9, "square_mm": 30.0, "diameter_mm": 0.5, "cell_mm": 1.2,
    "pattern": "pattern.png", "dictionary": "DICT_5X5_100", "marker_mm": 22.5,
}  # fmt: skip


def write_pattern(file: Path) -> None:
    cv2.imwrite(str(file), np.where(np.random.default_rng(0).random((30, 40)) < 0.5, 0, 255).astype(np.uint8))


@pytest.fixture
def session(tmp_path: Path) -> Path:
    (tmp_path / "flat").mkdir()
    for i in (2, 0, 1):
        dn = np.random.default_rng(i).integers(100, 900, (24, 32)).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "flat" / f"{i}.png"), dn)
    write_pattern(tmp_path / "pattern.png")
    describe(tmp_path, CAMERA + FLAT)
    return tmp_path


def describe(session: Path, text: str) -> Path:
    (session / "capture.toml").write_text(text)
    return session


def refusal(session: Path, text: str) -> str:
    with pytest.raises(ManifestError) as caught:
        load_plan(describe(session, text))
    assert "capture.toml" in caught.value.where
    assert caught.value.remedy
    return str(caught.value)


def test_complete_description(session: Path) -> None:
    row = (
        'kind = "led"\nfiles = "flat/0.png"\npitch_mm = 46\ndiameter_mm = 0.5\n'
        "focus_m = 1.5\npressure_kpa = -2.5\nexposure_s = 0.01\n"
    )
    plan = load_plan(describe(session, CAMERA + FLAT + "[[capture]]\n" + row))
    assert (plan.camera.maker, plan.camera.model, plan.camera.cfa) == ("Maker", "Model", "RGGB")
    assert (plan.camera.size_px, plan.camera.pitch_um) == ((24, 32), 1.4)
    assert (plan.black_level, plan.white_level, plan.encoding) == ((64.0,) * 3, 1023.0, "linear")
    assert plan.wavelengths_nm == DEFAULT_WAVELENGTHS_NM
    assert plan.setting.known() == {"f_number": 2.0, "focal_mm": 4.5}
    flat, led = plan.entries
    assert [plan.name(file) for file in flat.files] == ["flat/0.png", "flat/1.png", "flat/2.png"]
    assert (flat.kind, flat.setting.known(), flat.pitch_mm) == ("flat", plan.setting.known(), None)
    assert (led.kind, led.setting.known()) == ("led", {**plan.setting.known(), "focus_m": 1.5, "pressure_kpa": -2.5})
    assert (led.pitch_mm, led.diameter_mm, led.exposure_s) == (46.0, 0.5, 0.01)


def test_directory_and_file_mean_the_same(session: Path) -> None:
    assert load_plan(session).entries[0].files == load_plan(str(session / "capture.toml")).entries[0].files


def test_plan_reads_its_captures(session: Path) -> None:
    plan = load_plan(session)
    capture = plan.read(plan.entries[0], plan.entries[0].files[1])
    dn = cv2.imread(str(session / "flat" / "1.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(capture.pixels, (dn - 64.0) / (1023 - 64), atol=2e-7)
    assert capture.name == "flat/1.png"


def test_all_black_is_fine_for_a_dark_and_not_for_a_flat(session: Path) -> None:
    dn = np.random.default_rng(0).normal(64, 2, (24, 32)).round().astype(np.uint16)
    cv2.imwrite(str(session / "flat" / "0.png"), dn)
    plan = load_plan(describe(session, CAMERA + FLAT + FLAT.replace('"flat"', '"dark"')))
    flat, dark = plan.entries
    assert plan.read(dark, dark.files[0]).pixels.max() < 0.02
    with pytest.raises(CaptureUnusable, match="all black"):
        plan.read(flat, flat.files[0])


@pytest.mark.parametrize("kind", GEOMETRY)
def test_every_kind_needs_its_geometry_and_no_other(session: Path, kind: str) -> None:
    needed, allowed = GEOMETRY[kind]
    row = FLAT.replace('"flat"', f'"{kind}"')
    given = {key: f"{key} = {json.dumps(VALUES[key])}\n" for key in (*needed, *allowed)}
    (entry,) = load_plan(describe(session, CAMERA + row + "".join(given.values()))).entries
    assert entry.kind == kind
    expected = VALUES | {"pattern": session / "pattern.png"}
    assert all(getattr(entry, key) == expected[key] for key in given)
    for key in needed:
        message = refusal(session, CAMERA + row + "".join(text for other, text in given.items() if other != key))
        assert f"capture[0].{key}: {kind} captures need it" in message
    for key in VALUES.keys() - given.keys():
        text = CAMERA + row + f"{key} = {json.dumps(VALUES[key])}\n" + "".join(given.values())
        assert f"capture[0].{key}: {kind} captures have none" in refusal(session, text)


CHARUCO = FLAT.replace('"flat"', '"charuco"') + "columns = 13\nrows = 9\nsquare_mm = 30.0\n"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("marker_mm = 30.0", ("capture[0].marker_mm", "markers of 30 mm do not fit into squares of 30 mm")),
        ('dictionary = "DICT_5X5"', ("capture[0].dictionary", '"DICT_5X5" is no dictionary of 70', "DICT_5X5_100")),
        ('dictionary = "DICT_5X5_50"', ("capture[0].dictionary", "of 70 markers or more", "DICT_4X4_100")),
        ('dictionary = "__doc__"', ("capture[0].dictionary", "is no dictionary")),
    ],
)
def test_markers_that_no_board_can_hold_are_refused(session: Path, more: str, words: tuple[str, ...]) -> None:
    message = refusal(session, CAMERA + CHARUCO + more)
    assert all(word in message for word in words), message


def test_a_chessboard_of_two_columns_is_refused(session: Path) -> None:
    row = FLAT.replace('"flat"', '"chessboard"') + "columns = 2\nrows = 9\nsquare_mm = 30.0\n"
    assert "capture[0].columns: 2 x 9 inner corners are too few" in refusal(session, CAMERA + row)


def test_a_larger_dictionary_serves_and_a_board_of_thousands_has_none(session: Path) -> None:
    (entry,) = load_plan(describe(session, CAMERA + CHARUCO + 'dictionary = "DICT_5X5_1000"')).entries
    assert entry.dictionary == "DICT_5X5_1000"
    assert "more than any dictionary holds" in refusal(
        session, CAMERA + CHARUCO.replace("columns = 13", "columns = 999")
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("width = 32", "widht = 32", ("[camera].widht", "unknown key", "Did you mean width?")),
        ("width = 32", 'width = "32"', ("[camera].width", "'32'", "pixels")),
        ("width = 32", "width = 32.5", ("[camera].width", "32.5", "integer")),
        ("width = 32", "width = true", ("[camera].width", "True")),
        ("width = 32", "width = -32", ("[camera].width", "-32", "greater than 0")),
        ("width = 32\n", "", ("[camera].width", "is missing although height is given")),
        ("pixel_pitch_um = 1.4", "pixel_pitch_um = nan", ("[camera].pixel_pitch_um", "finite")),
        ("white_level = 1023", "white_level = 64", ("[camera].white_level", "not above black_level = 64")),
        ("white_level = 1023\n", "", ("[camera].white_level", "only RAW files bring their own")),
        ('cfa = "RGGB"', 'cfa = "RGBG"', ("[camera].cfa", "'RGBG'", "GBRG")),
        ('cfa = "RGGB"', 'encoding = "gamma"', ("[camera].encoding", "'gamma'", "srgb")),
        ('cfa = "RGGB"', 'cfa = "RGGB"\nencoding = "srgb"', ("[camera].cfa", "never gamma-coded")),
        ('cfa = "RGGB"', 'encoding = "srgb"', ("[camera].black_level", "Leave black_level out")),
        ("f_number = 2.0", "f_number = 2.0\nwavelengths_nm = [610, 540]", ("[camera].wavelengths_nm", "2", "3")),
        ("f_number = 2.0", "f_number = 2.0\nwavelengths_nm = [0.61]", ("[camera].wavelengths_nm[0]", "0.61")),
        ("[camera]", "[camrea]", ("camrea", "unknown key", "Did you mean camera?")),
        ("[[capture]]", "[[captures]]", ("capture", "[[capture]]")),
        ('"flat"', '"flats"', ("capture[0].kind", "'flats'", "noise_target")),
        ('"flat/*.png"', '""', ("capture[0].files", "glob")),
        ('"flat/*.png"', '"flat/*.dng"', ("capture[0].files", 'no file matches "flat/*.dng"')),
        ('"flat/*.png"', '"../*.png"', ("capture[0].files", "leaves the session directory")),
        ('"flat/*.png"', '"/etc/*"', ("capture[0].files", "leaves the session directory")),
        ('"flat/*.png"', '"**flat"', ("capture[0].files", "**flat")),
        ('"flat/*.png"', "3", ("capture[0].files", "string")),
        ('kind = "flat"', 'kind = "flat"\nfocus = 2', ("capture[0].focus", "Did you mean focus_m?")),
    ],
)
def test_mistake_is_named_with_its_field_and_remedy(session: Path, old: str, new: str, words: tuple[str, ...]) -> None:
    text = CAMERA + FLAT
    assert old in text
    message = refusal(session, text.replace(old, new))
    assert all(word in message for word in words), message


def test_second_table_is_counted_from_zero(session: Path) -> None:
    assert "capture[1].iso" in refusal(session, CAMERA + FLAT + FLAT + "iso = 0\n")


def test_bad_toml_tells_the_line(session: Path) -> None:
    assert "line 3" in refusal(session, '[camera]\nmake = "x"\nmodel = Model\n')


def test_text_that_is_not_utf8(session: Path) -> None:
    (session / "capture.toml").write_bytes(b'[camera]\nmake = "\xff"\n')
    with pytest.raises(ManifestError, match="UTF-8"):
        load_plan(session)


def test_missing_description(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"capture\.toml: the file cannot be read"):
        load_plan(tmp_path)
    with pytest.raises(ManifestError, match="nowhere"):
        load_plan(tmp_path / "nowhere")


def test_link_out_of_the_session_is_refused(session: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    outside.write_bytes((session / "flat" / "0.png").read_bytes())
    (session / "flat" / "9.png").symlink_to(outside)
    assert "links to outside" in refusal(session, CAMERA + FLAT)


def test_pictures_decide_what_the_camera_table_leaves_open(session: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    row = FLAT.replace("png", "jpg")
    cv2.imwrite(str(session / "flat" / "a.jpg"), colours)
    plan = load_plan(describe(session, '[camera]\nencoding = "srgb"\n' + row))
    assert (plan.camera.cfa, plan.camera.size_px, plan.camera.maker) == ("RGB", (20, 30), "unknown")
    cv2.imwrite(str(session / "flat" / "a.jpg"), colours[..., 0])
    plan = load_plan(describe(session, '[camera]\nencoding = "srgb"\n' + row))
    assert (plan.camera.cfa, plan.camera.channels, plan.wavelengths_nm) == ("mono", ("Y",), (540.0,))
    assert "8-bit" in refusal(session, "[camera]\n" + row)


def test_broken_first_picture_does_not_decide(session: Path) -> None:
    (session / "flat" / "0.png").write_bytes(b"")
    text = CAMERA.replace('cfa = "RGGB"\n', "").replace("width = 32\nheight = 24\n", "")
    plan = load_plan(describe(session, text + FLAT))
    assert (plan.camera.cfa, plan.camera.size_px) == ("mono", (24, 32))


def test_nothing_readable_and_no_size(session: Path) -> None:
    for file in (session / "flat").iterdir():
        file.write_bytes(b"")
    assert "[camera].width" in refusal(session, CAMERA.replace("width = 32\nheight = 24\n", "") + FLAT)


def test_raw_brings_all_of_its_own(session: Path) -> None:
    dn = np.random.default_rng(0).integers(100, 900, (26, 34)).astype(np.uint16)
    write_dng(
        session / "flat" / "a.dng",
        dn,
        cfa="BGGR",
        black_level=50,
        white_level=1000,
        maker="Own",
        model="Self",
        iso=200,
        exposure_s=0.25,
        xyz_to_camera=np.diag([0.5, 1.0, 0.6]),
    )
    plan = load_plan(describe(session, "[camera]\n" + FLAT.replace("png", "dng")))
    assert plan.camera.xyz_to_camera == ((0.5, 0, 0), (0, 1, 0), (0, 0, 0.6))
    assert (plan.camera.maker, plan.camera.model, plan.camera.cfa) == ("Own", "Self", "BGGR")
    assert (plan.camera.size_px, plan.black_level, plan.white_level) == ((26, 34), (50.0,) * 3, 1000.0)
    assert plan.setting.iso == 200
    capture = plan.read(plan.entries[0], plan.entries[0].files[0])
    assert (capture.setting.iso, capture.exposure_s) == (200, 0.25)


RAW = FLAT.replace("png", "dng")
SHOT: dict[str, Any] = {
    "cfa": "GRBG", "black_level": 50, "white_level": 1000, "maker": "Own", "model": "Self", "f_number": 1.8,
    "focal_mm": 4.3, "lens": "wide", "pitch_um": 1.2, "iso": 100,
}  # fmt: skip


def shoot(file: Path, **other: Any) -> None:
    """Write a RAW picture that tells all that it can."""
    file.parent.mkdir(exist_ok=True)
    dn = np.random.default_rng(len(file.name)).integers(100, 900, (26, 34)).astype(np.uint16)
    write_dng(file, dn, **(SHOT | other))


def test_raw_needs_no_camera_table(session: Path) -> None:
    shoot(session / "flat" / "a.dng")
    plan = load_plan(describe(session, RAW))
    camera = plan.camera
    assert (camera.maker, camera.model, camera.lens, camera.cfa) == ("Own", "Self", "wide", "GRBG")
    assert camera.pitch_um == pytest.approx(1.2)
    assert camera.size_px == (26, 34)
    assert plan.setting.known() == pytest.approx({"f_number": 1.8, "focal_mm": 4.3, "iso": 100})
    assert plan.entries[0].setting.known() == pytest.approx({"f_number": 1.8, "focal_mm": 4.3})
    assert plan.read(plan.entries[0], plan.entries[0].files[0]).pixels.shape == (26, 34)


def test_what_is_declared_comes_before_what_a_file_says(session: Path) -> None:
    shoot(session / "flat" / "a.dng")
    told = '[camera]\nlens = "mine"\npixel_pitch_um = 1.1\nf_number = 1.78\nmodel = "S"\n'
    plan = load_plan(describe(session, told + RAW))
    assert (plan.camera.lens, plan.camera.pitch_um, plan.camera.model, plan.camera.maker) == ("mine", 1.1, "S", "Own")
    assert plan.setting.f_number == plan.entries[0].setting.f_number == 1.78


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('cfa = "RGGB"', ("cfa = GRBG", "capture.toml declares RGGB")),
        ("width = 32\nheight = 24", ("is 34 x 26 pixels", "declares 32 x 24", "leave them out")),
        ("black_level = 64", ("black_level = 50", "64")),
        ("white_level = 1023", ("white_level = 1000", "1023")),
        ('encoding = "srgb"', ("encoding = linear", "srgb")),
        ("f_number = 2.8", ("f_number = 1.8", "2.8")),
        ("focal_length_mm = 35.0", ("focal_length_mm = 4.3", "35")),
    ],
)
def test_raw_that_contradicts_the_table_is_an_error(session: Path, row: str, words: tuple[str, ...]) -> None:
    shoot(session / "flat" / "a.dng")
    message = refusal(session, f"[camera]\n{row}\n{RAW}")
    assert all(word in message for word in (*words, "[camera]", "a.dng")), message


def test_one_stray_raw_file_does_not_decide(session: Path) -> None:
    shoot(session / "flat" / "a.dng", cfa="BGGR", maker="Stray")
    shoot(session / "dark" / "b.dng")
    plan = load_plan(describe(session, '[camera]\ncfa = "GRBG"\n' + RAW + RAW.replace("flat", "dark")))
    assert (plan.camera.maker, plan.camera.cfa) == ("Own", "GRBG")
    with pytest.raises(CaptureUnusable, match="cfa = BGGR"):
        plan.read(plan.entries[0], plan.entries[0].files[0])


def test_files_tell_at_which_zoom_each_board_was_shot(session: Path) -> None:
    board = '[[capture]]\nkind = "chessboard"\ncolumns = 9\nrows = 6\nsquare_mm = 25.0\n'
    for folder, focal_mm in (("near", 24.0), ("again", 24.5), ("far", 70.0)):
        shoot(session / folder / "a.dng", focal_mm=focal_mm)
    told = "".join(board + f'files = "{folder}/*.dng"\n' for folder in ("near", "again", "far"))
    plan = load_plan(describe(session, told))
    assert [entry.setting.focal_mm for entry in plan.entries] == [24.0, 24.0, 70.0]
    assert axis_of(plan) == "focal_mm"


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared captures here")
@pytest.mark.parametrize(
    ("folder", "cfa", "kinds"),
    [
        ("truth/camera_a/captures", "RGGB", ["led", "slanted_edge", "chessboard", "flat", "dark"]),
        ("real/dashcam", "RGB", ["chessboard"]),
        ("real/opencv_left", "mono", ["chessboard"]),
    ],
)
def test_real_sessions(folder: str, cfa: str, kinds: list[str]) -> None:
    plan = load_plan(SHARED / folder)
    assert plan.camera.cfa == cfa
    assert [entry.kind for entry in plan.entries] == kinds
    first = plan.entries[0]
    assert plan.read(first, first.files[0]).pixels.shape[:2] == plan.camera.size_px


NOISE = FLAT.replace('"flat"', '"noise_target"') + 'pattern = "pattern.png"\ncell_mm = 1.2\n'


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other.png", ('there is no file "other.png"', "Check the name")),
        ("../pattern.png", ("leaves the session directory", "Copy the pattern into it")),
        ("/etc/hostname", ("leaves the session directory",)),
        ("link.png", ("leaves the session directory",)),
        ("flat", ('there is no file "flat"',)),
        ("flat/0.png", ("levels of grey", "black and white, one pixel a cell")),
        ("capture.toml", ('"capture.toml"', "of another format")),
        ("small.png", ("8 x 8 cells", "Shoot a larger pattern")),
        ("", ("at least 1 character", "pattern.png")),
    ],
)
def test_a_pattern_is_a_black_and_white_picture_inside_the_session(
    session: Path, name: str, words: tuple[str, ...]
) -> None:
    write_pattern(session.parent / "pattern.png")
    (session / "link.png").symlink_to(session.parent / "pattern.png")
    cv2.imwrite(str(session / "small.png"), (np.eye(8) * 255).astype(np.uint8))
    message = refusal(session, CAMERA + NOISE.replace("pattern.png", name))
    assert "capture[0].pattern" in message
    for word in words:
        assert word in message


def test_a_pattern_may_lie_in_a_folder_of_the_session(session: Path) -> None:
    write_pattern(session / "flat" / "pattern.png")
    (entry,) = load_plan(describe(session, CAMERA + NOISE.replace("pattern.png", "flat/pattern.png"))).entries
    assert entry.pattern == session / "flat" / "pattern.png"
