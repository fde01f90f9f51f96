"""One bad capture among good ones: it is named, its fault and its remedy are said, and the session goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from calib import calibrate, pipeline
from psfbank.bank import PsfBank
from psfbank.errors import CalibrationError, ManifestError

Part = Callable[..., Path]
Spoil = Callable[[Path], None]

HEIGHT_PX, WIDTH_PX = 384, 512
TRUE_GAIN = 0.25


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return picture


def write(path: Path, dn: np.ndarray) -> None:
    assert cv2.imwrite(str(path), dn)


def to_another_size(path: Path) -> None:
    write(path, read(path)[:, :-32])


def to_black(path: Path) -> None:
    noise = np.random.default_rng(0).normal(64, 0.7, (HEIGHT_PX, WIDTH_PX))
    write(path, noise.round().astype(np.uint16))


def to_zero(path: Path) -> None:
    write(path, np.zeros((HEIGHT_PX, WIDTH_PX), np.uint16))


def to_white(path: Path) -> None:
    write(path, np.minimum(2.5 * (read(path) - 64.0) + 64, 1023).astype(np.uint16))


def to_gamma(path: Path) -> None:
    write(path, (255 * ((read(path) - 60.0) / 963).clip(0, 1) ** (1 / 2.2)).astype(np.uint8))


def to_colour(path: Path) -> None:
    write(path, np.dstack([read(path)] * 2 + [read(path) // 2]))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def to_text(path: Path) -> None:
    path.write_text("see attached", encoding="utf-8")


def to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def flagged(bank: PsfBank) -> dict[str, tuple[str, str]]:
    rows = bank.calibrations[0].provenance["flagged"]
    return {row["name"]: (row["flag"], row["reason"]) for row in rows}


def missing(bank: PsfBank) -> dict[str, str]:
    return dict(bank.calibrations[0].provenance["missing"])


FAULTS: list[tuple[Spoil, str, str]] = [
    (to_another_size, "the picture is 480 x 384 pixels, the camera's are 512 x 384", "Leave it out of `files`"),
    (to_black, "the picture is all black", "Expose more, or take the cap off"),
    (to_zero, "every sample is 0", "Leave it out"),
    (to_white, "of the pixels are saturated", "Expose less; or is white_level in capture.toml too low?"),
    (to_gamma, "8-bit samples look gamma-coded", 'Declare encoding = "srgb"'),
    (to_colour, "the picture has three channels, those of a camera with cfa = RGGB have one", "RAW"),
    (cut, "not a complete picture", "copy it again from the camera"),
    (to_text, "not a complete picture", "copy it again from the camera"),
    (to_nothing, "not a complete picture", "copy it again from the camera"),
]


@pytest.mark.parametrize(("spoil", "what", "remedy"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_a_bad_flat_is_named_and_the_others_serve(sample_part: Part, spoil: Spoil, what: str, remedy: str) -> None:
    session = sample_part("flat", "dark")
    spoil(session / "flat" / "flat_80_1.png")
    bank = calibrate(session)

    ((name, (flag, reason)),) = flagged(bank).items()
    assert (name, flag) == ("flat/flat_80_1.png", "unusable")
    assert what in reason
    assert remedy in reason
    provenance = bank.calibrations[0].provenance
    assert "flat/flat_80_1.png" not in {row["name"] for row in provenance["inputs"]}
    assert len(provenance["inputs"]) == 7
    noise = bank.at().noise
    assert noise is not None
    np.testing.assert_allclose(noise.gain_dn_per_e, TRUE_GAIN, rtol=0.02)
    assert bank.at().illumination is not None
    PsfBank.save(bank, session / "bank.h5")
    assert flagged(PsfBank.open(session / "bank.h5")) == flagged(bank)


def test_a_bad_file_that_comes_first_does_not_describe_the_camera(sample_part: Part) -> None:
    session = sample_part("flat", "dark")
    to_text(session / "flat" / "flat_08_0.png")
    bank = calibrate(session)
    assert list(flagged(bank)) == ["flat/flat_08_0.png"]
    assert bank.camera.size_px == (HEIGHT_PX, WIDTH_PX)


def test_a_whole_session_of_eight_bits_is_refused_before_the_work(sample_part: Part) -> None:
    session = sample_part("flat")
    for path in (session / "flat").iterdir():
        to_gamma(path)
    with pytest.raises(ManifestError, match="8-bit and look gamma-coded") as refused:
        calibrate(session)
    assert "[camera].encoding" in str(refused.value)
    assert 'encoding = "srgb"' in str(refused.value)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"black_level": 100.0}, ("black_level = 64", "declares 100", "Correct black_level in capture.toml")),
        ({"white_level": 4095.0}, ("white_level = 1023", "declares 4095", "Correct white_level in capture.toml")),
        ({"cfa": "BGGR"}, ("cfa = RGGB", "declares BGGR", "Correct cfa in capture.toml")),
        ({"f_number": 4.0}, ("f_number = 2", "declares 4", "leave it out and the file's own is used")),
    ],
    ids=lambda v: next(iter(v), "") if isinstance(v, dict) else "",
)
def test_a_raw_file_that_contradicts_the_manifest_is_left_out(
    sample_part: Part, declared: dict[str, Any], words: tuple[str, ...]
) -> None:
    bank = calibrate(sample_part("flat", "dark", **declared))
    assert set(flagged(bank)) == {"dark/dark_0.dng", "dark/dark_1.dng"}
    for flag, reason in flagged(bank).values():
        assert flag == "unusable"
        assert all(word in reason for word in words)
    assert bank.at().illumination is not None


def test_too_few_flats_are_said_part_by_part(sample_part: Part) -> None:
    session = sample_part("flat", "dark")
    for path in sorted((session / "flat").iterdir())[1:]:
        cut(path)
    bank = calibrate(session)
    assert len(flagged(bank)) == 5
    assert bank.at().noise is None
    assert "no two of 1 flat captures show one level" in missing(bank)["noise"]
    assert "Capture two or more flats" in missing(bank)["noise"]
    assert bank.at().illumination is not None


def test_a_session_of_which_nothing_is_left_is_an_error_that_names_every_part(sample_part: Part) -> None:
    session = sample_part("flat", "chessboard")
    for kind in ("flat", "chessboard"):
        for path in (session / kind).iterdir():
            to_text(path)
    with pytest.raises(CalibrationError) as refused:
        calibrate(session)
    text = str(refused.value)
    assert text.startswith(str(session / "capture.toml"))
    for part in ("noise", "shading", "psf", "distortion"):
        assert f"no {part}: " in text


@pytest.fixture(scope="module")
def spoilt_boards(tmp_path_factory: pytest.TempPathFactory) -> PsfBank:
    """Ten boards: one torn, one behind a curtain by a third, one wholly, one dark, one of another size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "gather", lambda *_: None)
        return calibrate(boards(tmp_path_factory.mktemp("boards"), spoil=True))


def boards(folder: Path, spoil: bool) -> Path:
    source = Path(__file__).parents[1] / "sample_captures"
    (folder / "chessboard").mkdir()
    for path in sorted((source / "chessboard").iterdir()):
        (folder / "chessboard" / path.name).write_bytes(path.read_bytes())
    head, *tables = (source / "capture.toml").read_text(encoding="utf-8").split("[[capture]]\n")
    (table,) = (t for t in tables if 'kind = "chessboard"' in t)
    (folder / "capture.toml").write_text(f"{head}[[capture]]\n{table}", encoding="utf-8")
    if spoil:
        cut(folder / "chessboard" / "board_2.png")
        covered = read(folder / "chessboard" / "board_0.png")
        covered[:, WIDTH_PX // 2 + 40 :] = np.tile(covered[:, :2], (1, WIDTH_PX // 4 - 20))
        write(folder / "chessboard" / "board_0.png", covered)
        hidden = read(folder / "chessboard" / "board_3.png")
        write(folder / "chessboard" / "board_3.png", np.tile(hidden[:2, :2], (HEIGHT_PX // 2, WIDTH_PX // 2)))
        to_black(folder / "chessboard" / "board_4.png")
        to_another_size(folder / "chessboard" / "board_5.png")
    return folder


def test_bad_boards_are_named_and_the_others_give_a_map(spoilt_boards: PsfBank) -> None:
    found = flagged(spoilt_boards)
    assert set(found) == {f"chessboard/board_{k}.png" for k in (0, 2, 3, 4, 5)}
    assert "not a complete picture" in found["chessboard/board_2.png"][1]
    assert "no chessboard of 9 x 6 inner corners" in found["chessboard/board_3.png"][1]
    assert "Check columns and rows" in found["chessboard/board_3.png"][1]
    assert "all black" in found["chessboard/board_4.png"][1]
    assert "480 x 384" in found["chessboard/board_5.png"][1]
    assert spoilt_boards.at().distortion is not None


def test_a_board_only_partly_seen_is_flagged_and_serves(spoilt_boards: PsfBank) -> None:
    flag, reason = flagged(spoilt_boards)["chessboard/board_0.png"]
    assert flag == "partial"
    assert "corners of 9 x 6 in view, though it ends inside the picture" in reason
    assert "that nothing covers it" in reason
    summary = spoilt_boards.calibrations[0].provenance["summary"]["distortion"]
    assert summary["views"] == 6
    assert 5 * 54 < summary["points"] < 6 * 54
    assert summary["rms_px"] < 0.1


def test_two_boards_are_too_few_and_said_so(tmp_path: Path) -> None:
    session = boards(tmp_path, spoil=False)
    for path in sorted((session / "chessboard").iterdir())[2:]:
        to_text(path)
    with pytest.raises(CalibrationError, match="2 views show 6 corners or more, 3 are needed") as refused:
        calibrate(session)
    assert "Shoot ten boards" in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "where", "remedy"),
    [
        ("white_level =", "whitelevel =", "[camera].whitelevel", "Did you mean white_level?"),
        ("exposure_s =", "exposure =", "capture[0].exposure", "Did you mean exposure_s?"),
        ('files = "flat', 'file = "flat', "capture[0].files", "Give a glob inside the session directory"),
        ('"flat"', '"flats"', "capture[0].kind", "Choose one of led, slanted_edge"),
        ("black_level = 64.0", "black_level = 2000.0", "[camera].white_level", "Give the DN at which"),
        ('"flat/*.png"', '"flat/*.tif"', "capture[0].files", "Check the pattern"),
    ],
)
def test_a_wrong_manifest_names_file_field_and_remedy(
    sample_part: Part, old: str, new: str, where: str, remedy: str
) -> None:
    manifest = sample_part("flat") / "capture.toml"
    text = manifest.read_text(encoding="utf-8")
    assert old in text
    manifest.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ManifestError) as refused:
        calibrate(manifest)
    assert str(refused.value).startswith(f"{manifest}, {where}: ")
    assert remedy in str(refused.value)
