"""`psfbank targets`: what it prints is understood by the manifest, what it draws is found by the detectors."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from calib import noise_target
from calib.chessboard import detect, detect_charuco
from calib.edge.find import find_edges
from calib.led import find_points
from calib.manifest import GEOMETRY, Entry, Plan, load_plan
from psfbank.isp import srgb_decode, srgb_encode
from psfbank.model import Capture

Run = Callable[..., tuple[int, str, str]]
CAMERA = '[camera]\npixel_pitch_um = 2.0\nencoding = "srgb"\n\n'
KINDS = {
    "led": "led",
    "edge": "slanted_edge",
    "chessboard": "chessboard",
    "charuco": "charuco",
    "noise": "noise_target",
}
DISPLAY = ("--size", "960x720", "--pixel-um", "250")


@pytest.fixture
def run(psfbank_command: Run) -> Run:
    return partial(psfbank_command, "targets")


def look_at(session: Path, kind: str, said: str, blur_px: float = 0.8) -> tuple[Plan, Entry, Capture]:
    """Have a camera of unit scale see a chart, and read it as capture.toml says."""
    picture = session / "chart.png"
    seen = cv2.GaussianBlur(srgb_decode(cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE) / 255.0), (0, 0), blur_px)
    (session / kind).mkdir()
    cv2.imwrite(str(session / kind / "seen.png"), np.rint(255 * srgb_encode(0.05 + 0.9 * seen)).astype(np.uint8))
    (session / "capture.toml").write_text(CAMERA + said.replace(".dng", ".png"), encoding="utf-8")
    plan = load_plan(session)
    (entry,) = plan.entries
    assert entry.kind == kind
    return plan, entry, plan.read(entry, entry.files[0])


@pytest.mark.parametrize("place", [("--page", "200x150", "--dpi", "110"), ("--page", "A4", "--dpi", "100"), DISPLAY])
def test_a_chessboard_is_found_where_it_was_drawn(run: Run, tmp_path: Path, place: tuple[str, ...]) -> None:
    code, said, _ = run("chessboard", "-o", tmp_path / "chart.png", *place)
    assert code == 0
    plan, entry, capture = look_at(tmp_path, "chessboard", said)

    board = detect(capture, plan.camera, entry.columns or 0, entry.rows or 0)

    (channel,) = plan.camera.channels
    assert board.found[channel].all()
    mm_per_px = float(place[-1]) / 1000 if place is DISPLAY else 25.4 / float(place[-1])
    places = board.grid * entry.square_mm / mm_per_px
    off = board.xy_px[channel] - places
    assert np.ptp(off, axis=0).max() < 0.1  # of a pixel: square, pitch and order are those of the entry
    np.testing.assert_allclose(off, off.mean(axis=0) * np.ones_like(off), atol=0.05)


@pytest.mark.parametrize("place", [("--page", "A4", "--dpi", "130"), DISPLAY])
def test_a_charuco_board_is_found_where_it_was_drawn(run: Run, tmp_path: Path, place: tuple[str, ...]) -> None:
    code, said, _ = run("charuco", "-o", tmp_path / "chart.png", *place)
    assert code == 0
    plan, entry, capture = look_at(tmp_path, "charuco", said)

    share = entry.marker_mm / entry.square_mm
    board = detect_charuco(
        capture, plan.camera, entry.columns, entry.rows, dictionary=entry.dictionary, marker_share=share
    )

    (channel,) = plan.camera.channels
    found = board.found[channel]
    assert found.sum() > 0.9 * 12 * 8
    mm_per_px = float(place[-1]) / 1000 if place is DISPLAY else 25.4 / float(place[-1])
    off = (board.xy_px[channel] - board.grid * entry.square_mm / mm_per_px)[found]
    np.testing.assert_allclose(off, np.median(off, axis=0) * np.ones_like(off), atol=0.1)


def test_points_of_a_display_are_found_at_their_pitch(run: Run, tmp_path: Path) -> None:
    code, said, _ = run("led", "-o", tmp_path / "chart.png", *DISPLAY)
    assert code == 0
    plan, entry, capture = look_at(tmp_path, "led", said, 1.2)

    view = find_points(capture, plan.camera)

    assert len(view.xy_px) == 6 * 4
    off = view.xy_px - view.index * entry.pitch_mm / 0.25
    np.testing.assert_allclose(off, off.mean(axis=0) * np.ones_like(off), atol=0.05)
    assert entry.diameter_mm == pytest.approx(0.25 * 2 / np.sqrt(3))


def test_a_film_on_a_light_box_shows_its_points(run: Run, tmp_path: Path) -> None:
    code, said, _ = run("led", "-o", tmp_path / "chart.png", "--dpi", "254", "--pitch-mm", "15", "--diameter-mm", "0.3")
    assert code == 0
    picture = cv2.imread(str(tmp_path / "chart.png"), cv2.IMREAD_GRAYSCALE)
    inside = np.s_[101:1789, 101:2719]  # the white border, of 10 mm, and the rulers are covered, as the entry says
    covered = np.zeros_like(picture)
    covered[inside] = picture[inside]
    cv2.imwrite(str(tmp_path / "chart.png"), covered)
    plan, entry, capture = look_at(tmp_path, "led", said, 1.2)

    view = find_points(capture, plan.camera)

    assert (len(view.xy_px), entry.diameter_mm) == (17 * 11, 0.3)
    off = view.xy_px - view.index * entry.pitch_mm / 0.1
    np.testing.assert_allclose(off, off.mean(axis=0) * np.ones_like(off), atol=0.1)


def test_slanted_squares_are_measured_at_their_turn(run: Run, tmp_path: Path) -> None:
    code, said, _ = run("edge", "-o", tmp_path / "chart.png", "--dpi", "130", "--angle-deg", "7.5")
    assert code == 0
    plan, entry, capture = look_at(tmp_path, "slanted_edge", said)

    edges = find_edges(capture, plan.camera)

    assert len(edges) > 100
    turn = (np.degrees([edge.angle_rad for edge in edges]) + 45) % 90 - 45
    assert np.median(turn) == pytest.approx(7.5, abs=0.02)
    assert np.median([edge.length_px for edge in edges]) == pytest.approx(entry.square_mm / 25.4 * 130, rel=0.1)


@pytest.mark.parametrize("place", [("--page", "200x150", "--dpi", "70"), DISPLAY])
def test_noise_is_found_by_its_pattern(run: Run, tmp_path: Path, place: tuple[str, ...]) -> None:
    code, said, _ = run("noise", "-o", tmp_path / "chart.png", *place, "--cell-mm", "1.75")
    assert code == 0
    plan, entry, capture = look_at(tmp_path, "noise_target", said)

    view = noise_target.find(capture, plan.camera, entry)

    mm_per_px = float(place[-1]) / 1000 if place is DISPLAY else 25.4 / float(place[-1])
    off = view.image_px - view.object_mm / mm_per_px
    np.testing.assert_allclose(off, np.median(off, axis=0) * np.ones_like(off), atol=0.1)
    assert np.median(view.correlation) > 0.8


def test_all_pictures_of_a_display_come_with_their_entries(run: Run, tmp_path: Path) -> None:
    code, said, _ = run("screen", "-o", tmp_path / "screens", *DISPLAY)

    assert code == 0
    pictures = sorted((tmp_path / "screens").glob("?-*.png"))
    names = [path.stem[2:] for path in pictures]
    edges = ["edges-5", "edges-20", "edges-45"]
    assert names == ["ruler", "white", "black", "points", "noise", *edges, "chessboard"]
    shown = {name: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for name, path in zip(names, pictures, strict=True)}
    assert {picture.shape for picture in shown.values()} == {(720, 960)}
    assert shown["white"].min() == 255
    assert shown["black"].max() == 0
    assert np.count_nonzero(shown["points"]) == 24
    assert set(np.unique(shown["noise"])) == set(np.unique(shown["chessboard"])) == {0, 255}
    assert np.count_nonzero(shown["ruler"][360] == 0) == 400  # 100 mm of 0.25
    (tmp_path / "screens" / "capture.toml").write_text(CAMERA + said, encoding="utf-8")
    entries = tomllib.loads(said)["capture"]
    assert [entry["kind"] for entry in entries] == ["flat", "led", "noise_target", "slanted_edge", "chessboard"]
    for entry in entries:
        needed, allowed = GEOMETRY[entry["kind"]]
        assert set(needed) <= entry.keys() - {"kind", "files"} <= {*needed, *allowed}
        file = tmp_path / "screens" / entry["files"].replace("*", "a")
        file.parent.mkdir()
        file.touch()
    kinds = [entry.kind for entry in load_plan_of(tmp_path / "screens", said)]
    assert kinds == [entry["kind"] for entry in entries]


def load_plan_of(session: Path, said: str) -> tuple[Entry, ...]:
    """Entries of a session whose captures are there by name only."""
    camera = '[camera]\nwidth = 960\nheight = 720\nblack_level = 0\nwhite_level = 1023\ncfa = "RGGB"\n'
    (session / "capture.toml").write_text(f"{camera}{said}", encoding="utf-8")
    return load_plan(session).entries


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("page", ["A4", "A3", "A2", "A1", "A0", "Letter"])
@pytest.mark.parametrize("turn", [(), ("--portrait",)])
def test_every_chart_fits_every_page(run: Run, tmp_path: Path, kind: str, page: str, turn: tuple[str, ...]) -> None:
    code, said, told = run(kind, "-o", tmp_path / "chart.pdf", "--page", page, *turn)

    assert (code, told) == (0, "")
    (entry,) = tomllib.loads(said)["capture"]
    assert entry["kind"] == KINDS[kind]
    assert (tmp_path / "chart.pdf").read_bytes().startswith(b"%PDF-1.6")


def test_json_is_one_object(run: Run, tmp_path: Path) -> None:
    code, said, _ = run("noise", "-o", tmp_path / "a.svg", "--page", "200x150", "--cell-mm", "1.5", "--json")

    told = json.loads(said)
    assert (code, told["sheet"], told["size_mm"]) == (0, "200x150 mm, landscape", [200, 150])
    (file,) = told["files"]
    assert file["capture"] == {"kind": "noise_target", "pattern": "a-pattern.png", "cell_mm": 1.5}
    assert Path(file["pattern"]).is_file()


def test_the_same_seed_is_the_same_file(run: Run, tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run("noise", "-o", tmp_path / f"{name}.pdf", "--seed", seed)[0] == 0

    a, b, c = ((tmp_path / f"{name}.pdf").read_bytes() for name in "abc")
    assert a == b != c


def test_a_template_of_pin_holes_leaves_their_width_to_the_needle(run: Run, tmp_path: Path) -> None:
    code, said, _ = run("led", "-o", tmp_path / "a.svg", "--template", "--pitch-mm", "20")

    assert code == 0
    (entry,) = tomllib.loads(said)["capture"]
    assert entry == {"kind": "led", "files": "led/*.dng", "pitch_mm": 20.0}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("chessboard", "-o", "there.pdf"), 2, "--overwrite"),
        (("noise", "-o", "there.pdf"), 2, "--overwrite"),
        (("screen", "-o", "there.pdf", *DISPLAY), 2, "is a file"),
        (("chessboard", "-o", "folder.pdf", "--overwrite"), 2, "is a folder"),
        (("chessboard", "-o", "a.doc"), 2, ".svg"),
        (("chessboard", "-o", "nowhere/a.pdf"), 2, "there is no folder"),
        (("chessboard", "-o", "a.pdf", *DISPLAY), 2, ".png"),
        (("chessboard", "-o", "a.pdf", "--dpi", "300"), 2, "--dpi"),
        (("chessboard", "-o", "a.png", "--size", "960x720"), 2, "needs both"),
        (("chessboard", "-o", "a.png", "--size", "960", "--pixel-um", "250"), 2, "1920x1080"),
        (("chessboard", "-o", "a.png", "--size", "20x20", "--pixel-um", "250"), 1, "100 and"),
        (("chessboard", "-o", "a.png", "--size", "960x720", "--pixel-um", "1e6"), 1, "divide it by"),
        (("screen", "-o", "screens"), 2, "--pixel-um"),
        (("chessboard", "-o", "a.pdf", "--cell-mm", "2"), 2, "--columns"),
        (("edge", "-o", "a.pdf", "--angle-deg", "nan"), 2, "finite"),
        (("chessboard", "-o", "a.pdf", "--page", "A7"), 1, "Choose from A4"),
        (("chessboard", "-o", "a.pdf", "--page", "100x200"), 1, "between 140"),
        (("chessboard", "-o", "a.pdf", "--page", "200x9000"), 1, "between 140"),
        (("chessboard", "-o", "a.pdf", "--square-mm", "30"), 1, "a larger --page"),
        (("chessboard", "-o", "a.png", *DISPLAY, "--square-mm", "30"), 1, "fewer or smaller"),
        (("chessboard", "-o", "a.pdf", "--columns", "2"), 1, "--columns"),
        (("charuco", "-o", "a.pdf", "--dictionary", "DICT_4X4_50"), 1, "DICT_5X5_100"),
        (("charuco", "-o", "a.pdf", "--columns", "99", "--rows", "99"), 1, "fewer --columns"),
        (("charuco", "-o", "a.pdf", "--marker-mm", "18"), 1, "--marker-mm"),
        (("noise", "-o", "a.pdf", "--cell-mm", "5"), 1, "--cell-mm"),
        (("edge", "-o", "a.pdf", "--angle-deg", "90"), 1, "5, 20 or 45"),
        (("edge", "-o", "a.pdf", "--square-mm", "30", "--pitch-mm", "30"), 1, "--pitch-mm of 60"),
        (("edge", "-o", "a.pdf", "--square-mm", "500"), 1, "--square-mm"),
        (("edge", "-o", "a.pdf", "--square-mm", "0.1"), 1, "larger squares"),
        (("led", "-o", "a.pdf", "--pitch-mm", "1"), 1, "--pitch-mm of 15"),
        (("led", "-o", "a.pdf", "--pitch-mm", "150"), 1, "smaller --pitch-mm"),
        (("led", "-o", "a.png", "--template", *DISPLAY), 1, "--template"),
        (("chessboard", "-o", "a.png", "--page", "A0", "--dpi", "600"), 1, "fewer --dpi"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_what_to_try(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "there.pdf").write_bytes(b"mine")
    (tmp_path / "there-pattern.png").write_bytes(b"mine")
    (tmp_path / "folder.pdf").mkdir()

    ended, said, told = run(*arguments)

    assert (ended, said) == (code, "")
    assert words in told
    assert (tmp_path / "there.pdf").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.pdf", "there-pattern.png", "there.pdf"]


def test_points_finer_than_pixels_are_warned_of(run: Run, tmp_path: Path) -> None:
    _, _, coarse = run("led", "-o", tmp_path / "a.png", "--page", "200x150", "--dpi", "100")
    _, _, fine = run("led", "-o", tmp_path / "b.png", "--page", "200x150", "--dpi", "100", "--diameter-mm", "0.8",
                     "--pitch-mm", "40")  # fmt: skip

    assert "0.4 pixels wide" in coarse
    assert "pixels wide" not in fine


def test_overwrite_replaces(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"old")

    assert run("chessboard", "-o", tmp_path / "a.pdf", "--overwrite")[0] == 0
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert run("screen", "-o", tmp_path / "s", *DISPLAY)[0] == 0
    assert run("screen", "-o", tmp_path / "s", *DISPLAY)[0] == 2
    assert run("screen", "-o", tmp_path / "s", *DISPLAY, "--overwrite")[0] == 0


def test_a_folder_that_cannot_be_written_to_says_so(run: Run) -> None:
    code, said, told = run("chessboard", "-o", "/proc/chart.pdf")

    assert (code, said) == (1, "")
    assert "cannot be written" in told
