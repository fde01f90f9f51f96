"""Tables of corners that other programs detected: what is read, what is refused, what stands beside the others."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from calib import calibrate
from calib.corners import DETECTED_SIGMA_PX, DetectedCorners, judge_views, read_vnl, same_corners
from psfbank.errors import CaptureUnusable

SHARED = Path(os.environ.get("PSFBANK_SHARED", Path(__file__).parents[2] / "shared"))
WEBCAM = SHARED / "real" / "corners" / "webcam_13x8_1280x800.vnl"
COLUMNS, ROWS = 4, 3
SIZE_PX = (240, 320)


def grid(shift: float = 0.0, turn: float = 0.1) -> np.ndarray:
    places = 20.0 * np.stack(np.meshgrid(np.arange(COLUMNS), np.arange(ROWS)), axis=-1).reshape(-1, 2)
    cos, sin = np.cos(turn), np.sin(turn)
    return 60 + shift + places @ np.array([[cos, sin], [-sin, cos]])


def lines(picture: str, xy: np.ndarray, last: str = "") -> list[str]:
    return [f"{picture} {x:.17g} {y:.17g} {last}".strip() for x, y in xy]


def read(tmp_path: Path, text: str | list[str], columns: int = COLUMNS, rows: int = ROWS) -> DetectedCorners:
    path = tmp_path / "corners.vnl"
    path.write_text(text if isinstance(text, str) else "\n".join(text) + "\n")
    return read_vnl(path, columns, rows, SIZE_PX, "corners.vnl")


def test_boards_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = ["## made by hand", "# filename x y", *lines("b.png", grid()), "", *lines("a.png", grid(7.5))]
    found = read(tmp_path, text)
    assert found.names == ("b.png", "a.png")
    np.testing.assert_allclose(found.xy_px, [grid(), grid(7.5)], rtol=1e-15)
    assert found.found.all()
    assert (found.sigma_px == DETECTED_SIGMA_PX).all()
    assert found.sha256 == hashlib.sha256((tmp_path / "corners.vnl").read_bytes()).hexdigest()
    corners = found.to_corners(COLUMNS, 30.0)
    np.testing.assert_array_equal(corners.object_mm[1, :5], [[0, 0], [30, 0], [60, 0], [90, 0], [0, 30]])


def test_the_legend_tells_the_order_of_the_columns(tmp_path: Path) -> None:
    text = ["# y weight filename x note", *(f"{y:.17g} 0.5 a.png {x:.17g} -" for x, y in grid())]
    found = read(tmp_path, text)
    np.testing.assert_allclose(found.xy_px[0], grid(), rtol=1e-15)
    np.testing.assert_allclose(found.sigma_px, 2 * DETECTED_SIGMA_PX)


@pytest.mark.parametrize(
    ("legend", "said", "sigma_px"),
    [
        ("weight", "0.25", 4),
        ("level", "0", 1),
        ("level", "2", 4),
        *(("level", word, None) for word in ("-", "-1")),
        *(("weight", word, None) for word in ("-", "0", "-1")),
    ],
)
def test_levels_and_weights_are_standard_deviations(
    tmp_path: Path, legend: str, said: str, sigma_px: float | None
) -> None:
    """Level n has the weight 1 / 2^n; who is not found has neither."""
    text = [f"# filename x y {legend}", *lines("a.png", grid(), "1" if legend == "weight" else "0")]
    text[6] = " ".join([*text[6].split()[:3], said])
    found = read(tmp_path, text)
    assert found.found[0].sum() == 12 - (sigma_px is None)
    expected = np.nan if sigma_px is None else sigma_px * DETECTED_SIGMA_PX
    np.testing.assert_allclose(found.sigma_px[0, 5], expected)
    assert (np.delete(found.sigma_px[0], 5) == DETECTED_SIGMA_PX).all()


def test_pictures_without_a_board_are_left_out(tmp_path: Path) -> None:
    nowhere = ["c.png - - -"] * (COLUMNS * ROWS)
    found = read(tmp_path, ["# filename x y level", "a.png - - -", *lines("b.png", grid(), "0"), *nowhere])
    assert found.names == ("b.png",)


LEGEND = ["# filename x y weight"]
GOOD = lines("a.png", grid(), "1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no corners. Give mrcal's table"),
        ("# filename x y\n", "holds no corners"),
        ([*LEGEND, "a.png - - -"], "no corner was found in any picture"),
        (GOOD, "line 1: a corner before the line that names the columns"),
        (["# filename x level", *GOOD], "line 1: no column y"),
        (LEGEND + GOOD[:-1], r"line 2: a\.png has 11 corners, not 4 x 3\. Set columns and rows"),
        (LEGEND + GOOD + GOOD[:1], "line 2: a.png has 13 corners"),
        ([*LEGEND, *GOOD[:3], "a.png 1 2", *GOOD[4:]], "line 5: 3 values for 4 columns"),
        ([*LEGEND, *GOOD[:3], "a.png 1 zwei 1", *GOOD[4:]], 'line 5: y = "zwei" is not a number'),
        ([*LEGEND, *GOOD[:3], "a.png 1 inf 1", *GOOD[4:]], 'line 5: y = "inf" is not finite'),
        ([*LEGEND, *GOOD[:3], "a.png nan 1 1", *GOOD[4:]], 'line 5: x = "nan" is not finite'),
        ([*LEGEND, *GOOD[:3], "a.png 400 1 1", *GOOD[4:]], r"line 5: \(400, 1\) lies outside pictures of 320 x 240"),
        (LEGEND + GOOD + lines("b.png", grid(3), "1") + GOOD, "line 26: corners of a.png again"),
        ("\x00\n", "a corner before the line that names the columns"),
    ],
)
def test_what_is_no_such_table_is_refused_with_its_line(tmp_path: Path, text: str | list[str], words: str) -> None:
    with pytest.raises(CaptureUnusable, match=words) as refused:
        read(tmp_path, text)
    assert refused.value.where == "corners.vnl"


def test_a_picture_in_place_of_a_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "corners.vnl"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(CaptureUnusable, match=r"corners\.vnl: is not text \(byte 0\)"):
        read_vnl(path, COLUMNS, ROWS, SIZE_PX)


@pytest.mark.parametrize(("columns", "rows"), [(3, 4), (6, 2), (2, 6)])
def test_columns_and_rows_that_do_not_fit_the_order_are_named(tmp_path: Path, columns: int, rows: int) -> None:
    with pytest.raises(CaptureUnusable, match=f"along rows of {columns}. They do along rows of 4: set columns = 4 and"):
        read(tmp_path, LEGEND + GOOD, columns, rows)


def test_copies_and_boards_seen_from_behind_are_left_aside(tmp_path: Path) -> None:
    behind = grid(5).reshape(ROWS, COLUMNS, 2)[:, ::-1].reshape(-1, 2)
    views = [grid(), grid(3, 0.4), behind, grid(0.003), grid(9)]
    text = LEGEND + [line for k, xy in enumerate(views) for line in lines(f"{k}.png", xy, "1")]
    assert judge_views(read(tmp_path, text), COLUMNS) == [
        (2, "its corners are numbered in mirror image of those of other boards"),
        (3, "its corners are those of 0.png: a copy"),
    ]


def test_the_same_corners_are_found_and_seen_alike() -> None:
    found = np.array([True, True, False])
    xy = np.array([[1.0, 2.0], [3.0, 4.0], [np.nan, np.nan]])
    others = np.stack([xy + 0.009, xy + np.array([[0, 0], [0.011, 0], [0, 0]]), xy])
    others_found = np.array([found, found, [True, True, True]])
    assert same_corners(xy, found, others, others_found).tolist() == [True, False, False]


@pytest.mark.skipif(not WEBCAM.exists(), reason="the corners are not here (PSFBANK_SHARED)")
def test_a_session_of_nothing_but_detected_corners_gives_a_map(tmp_path: Path) -> None:
    whole = read_vnl(WEBCAM, 13, 8, (800, 1280))
    assert whole.found.shape == (216, 104)
    assert whole.found.sum() == 21932
    kept = set(whole.names[::24])
    legend, *rest = WEBCAM.read_text().splitlines()
    (tmp_path / "few.vnl").write_text("\n".join([legend, *(line for line in rest if line.split()[0] in kept)]) + "\n")
    (tmp_path / "capture.toml").write_text(
        "[camera]\nwidth = 1280\nheight = 800\n"
        '[[capture]]\nkind = "corners"\nfiles = "*.vnl"\ncolumns = 13\nrows = 8\nsquare_mm = 40.0\n'
    )
    bank = calibrate(tmp_path)
    cal = bank.at()
    assert bank.camera.size_px == (800, 1280)
    assert cal.distortion is not None
    assert cal.psf_grid is None
    assert cal.noise is None
    assert cal.provenance["summary"]["distortion"]["views"] == 9
    assert cal.provenance["summary"]["distortion"]["heldout_rms_px"] < 0.6
    assert [i["name"] for i in cal.provenance["inputs"]] == ["few.vnl"]
