"""Each fault is named where it is, and nowhere else; each target is told from the others; bad files are listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from conftest import SAMPLE_CAPTURES
from inspected import (
    FINE,
    KNOWN,
    SIZE,
    board,
    flat,
    gamma_coded,
    points,
    saved,
    seen,
    sharpened,
    squares,
    taken,
)
from scipy.ndimage import gaussian_filter

from calib.capture import read_picture
from calib.dng import write_dng
from calib.inspect import Assumed, Inspection, inspect_file, inspect_files
from calib.inspect.annotate import LINE, annotated, write_annotated
from calib.inspect.run import light_in
from calib.manifest import load_plan
from calib.targets import NoiseTarget, bernoulli_pattern
from psfbank.errors import ImageError

SHOTS = {"led": points, "chessboard": board, "slanted_edge": squares}


def names(inspection: Inspection) -> set[str]:
    return {trouble.name for trouble in inspection.troubles}


def of_file(path: Path, dn: np.ndarray, assumed: Assumed = KNOWN) -> Inspection:
    return inspect_files([saved(path, dn)], assumed)[0]


def charuco() -> np.ndarray:
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_100)
    picture = cv2.aruco.CharucoBoard((8, 6), 30.0, 22.0, dictionary).generateImage(
        (SIZE[1] * FINE, SIZE[0] * FINE), None, 18
    )
    return 0.04 + 0.6 * seen(np.asarray(picture) / 255, 0.5)


def noise_target() -> np.ndarray:
    target = NoiseTarget(bernoulli_pattern(30, 44, np.random.default_rng(2)), 1.0)
    cells = np.where(target.cells(), 0.04, 0.9)
    return 0.7 * cv2.resize(cells, SIZE[::-1], interpolation=cv2.INTER_AREA)


def blobs() -> np.ndarray:
    """Light of some scene or other."""
    rough = gaussian_filter(np.random.default_rng(0).random(SIZE), 4)
    return 0.1 + 0.5 * (rough - rough.min()) / np.ptp(rough)


@pytest.mark.parametrize(
    ("kind", "light", "figures"),
    [
        ("led", points(), {"points": 117, "strays": 0, "blur_px": 0.76, "tilt_deg": 0.0}),
        ("chessboard", board(), {"columns": 7, "rows": 5, "corners": 35, "square_px": 24.0, "blur_px": 0.76}),
        ("slanted_edge", squares(), {"edges": 48, "slant_deg": 6.0, "mtf50_cpp": 0.247, "blur_px": 0.76}),
        ("charuco", charuco(), {}),
        ("noise_target", noise_target(), {}),
        ("flat", flat(0.5), {"darkest_corner": 0.69}),
        ("dark", flat(0.0), {"hot_pixels": 0}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_target_is_told_from_the_others(
    tmp_path: Path, kind: str, light: np.ndarray, figures: dict[str, float]
) -> None:
    found = of_file(tmp_path / "a.png", taken(light))
    assert found.seen is not None
    assert found.seen.kind == kind
    assert {name: found.seen.figures[name] for name in figures} == pytest.approx(figures, rel=0.03, abs=0.1)
    assert (found.usable, names(found)) == (True, set())


def test_blur_is_that_of_the_picture(tmp_path: Path) -> None:
    # a pixel adds 1/12 to the variance of the Gaussian
    for kind, shot in SHOTS.items():
        for blur_px in (0.6, 1.3):
            found = inspect_file(saved(tmp_path / f"{kind}.png", taken(shot(blur_px))), KNOWN)
            assert found.seen is not None
            assert found.seen.figures["blur_px"] == pytest.approx(np.sqrt(blur_px**2 + 1 / 12), rel=0.05)


@pytest.mark.parametrize("kind", SHOTS)
def test_the_defocused_frame_stands_out(tmp_path: Path, kind: str) -> None:
    shot = SHOTS[kind]
    frames = [saved(tmp_path / f"{i}.png", taken(shot(blur), i)) for i, blur in enumerate((0.7, 0.7, 1.3, 0.7))]
    found = inspect_files(frames, KNOWN)
    assert [names(one) for one in found] == [set(), set(), {"blurred"}, set()]
    assert "times as much" in str(found[2].troubles[0])


@pytest.mark.parametrize("kind", SHOTS)
@pytest.mark.parametrize(("streak", "angle_deg"), [((2.2, 0.27), 7), ((-0.27, 2.2), 97)])
def test_the_moved_frame_stands_out_with_its_direction(
    tmp_path: Path, kind: str, streak: tuple[float, float], angle_deg: int
) -> None:
    shot = SHOTS[kind]
    frames = [saved(tmp_path / f"{i}.png", taken(shot(), i)) for i in range(3)]
    frames.append(saved(tmp_path / "moved.png", taken(shot(streak_px=streak), 3)))
    *steady, moved = inspect_files(frames, KNOWN)
    assert all(one.usable and not names(one) for one in steady)
    assert "motion" in names(moved)
    assert moved.usable == (kind == "chessboard")  # where it was on average is known
    assert moved.seen is not None
    length, angle = np.hypot(*moved.seen.streak_px), np.degrees(np.arctan2(*moved.seen.streak_px[::-1])) % 180
    assert length == pytest.approx(2.2, rel=0.15)
    assert angle == pytest.approx(angle_deg, abs=6)
    (motion,) = (trouble for trouble in moved.troubles if trouble.name == "motion")
    assert "suspected" in motion.what


def test_what_all_frames_have_in_common_is_no_motion(tmp_path: Path) -> None:
    frames = [saved(tmp_path / f"{i}.png", taken(points(streak_px=(1.5, 0)), i)) for i in range(4)]
    assert [names(one) for one in inspect_files(frames, KNOWN)] == [set()] * 4
    (alone,) = inspect_files(frames[:1], KNOWN)
    assert "out of centre looks alike" in str(alone.troubles[0])
    assert alone.usable


@pytest.mark.parametrize(
    ("dn", "name", "words", "usable"),
    [
        (taken(points(peak=3.0)), "clipped", "at 117 of 117 places", False),
        (taken(2 * flat(0.6)), "clipped", "of the pixels are saturated", False),
        (taken(points(peak=0.1)), "too dark", "10% of white", True),
        (taken(board() / 10), "too dark", "% of white", True),
        (taken(flat(0.015)), "too dark", "Fine as the lowest", True),
        (taken(points(blur_px=2.3)), "blurred", "2.3 px (sigma)", False),
        (taken(squares(blur_px=2.6)), "blurred", "px (sigma)", False),
        (taken(squares(angle_deg=0.2)), "critical angle", "5 or 8 degrees", True),
        (taken(sharpened(points(0.9) + 0.05)), "sharpened", "sharpening is suspected", False),
        (taken(sharpened(squares())), "sharpened", "SFR rises to", False),
        (taken(sharpened(board())), "sharpened", "overshoot by", True),
        (gamma_coded(taken(squares())), "gamma suspected", "noise falls", False),
        (gamma_coded(taken(board())), "gamma suspected", "noise falls", False),
        (np.full(SIZE, 900, np.uint16), "empty", "every sample is 900", False),
        (taken(blobs()), "no target", "no target was found", False),
    ],
)
def test_fault_is_named(tmp_path: Path, dn: np.ndarray, name: str, words: str, usable: bool) -> None:
    found = of_file(tmp_path / "a.png", dn)
    assert names(found) == {name}
    assert words in str(found.troubles[0])
    assert found.troubles[0].remedy
    assert found.usable == usable


def test_a_tilted_grid_is_told_by_its_angle(tmp_path: Path) -> None:
    light = points()
    rows, columns = SIZE
    focal = 0.8 * columns
    turn = cv2.Rodrigues(np.array([0.0, np.radians(25), 0.0]))[0]
    to_centre = np.array([[focal, 0, (columns - 1) / 2], [0, focal, (rows - 1) / 2], [0, 0, 1.0]])
    tilted = cv2.warpPerspective(light, to_centre @ turn @ np.linalg.inv(to_centre), (columns, rows))
    found = of_file(tmp_path / "a.png", taken(tilted))
    assert found.seen is not None
    assert found.seen.figures["tilt_deg"] == pytest.approx(25, abs=1.5)
    assert "tilted by 2" in " ".join(map(str, found.troubles))


def test_hot_pixels_of_a_dark_are_counted(tmp_path: Path) -> None:
    dn = taken(flat(0.0))
    dn[10:180:40, 20:240:50] += 800
    found = of_file(tmp_path / "a.png", dn)
    assert found.seen is not None
    assert (found.seen.kind, found.seen.figures["hot_pixels"], found.usable) == ("dark", 25, True)
    dn[::12, ::12] += 800
    assert names(of_file(tmp_path / "a.png", dn)) == {"hot pixels"}


def test_flats_of_several_levels_show_a_gamma_curve(tmp_path: Path) -> None:
    linear = [taken(flat(level), i) for i, level in enumerate((0.06, 0.25, 0.8))]
    paths = [saved(tmp_path / f"{i}.png", dn) for i, dn in enumerate(linear)]
    assert [names(one) for one in inspect_files(paths, KNOWN)] == [set()] * 3
    coded = [saved(tmp_path / f"g{i}.png", gamma_coded(dn)) for i, dn in enumerate(linear)]
    assert [names(one) for one in inspect_files(coded, KNOWN)] == [{"gamma suspected"}] * 3


def test_wrong_sizes_and_copies_show_beside_the_others(tmp_path: Path) -> None:
    frames = [saved(tmp_path / f"{i}.png", taken(flat(0.5), i)) for i in range(4)]
    frames.append(saved(tmp_path / "turned.png", taken(flat(0.5), 5).T))
    frames.append(saved(tmp_path / "small.png", taken(flat(0.5), 6)[:100]))
    tifffile.imwrite(tmp_path / "copy.tif", taken(flat(0.5), 2))  # other bytes, the same pixels
    frames.append(tmp_path / "copy.tif")
    *good, turned, small, copy = inspect_files(frames, KNOWN)
    assert all(one.usable for one in good)
    assert names(turned) == names(small) == {"wrong size"}
    assert "turned by 90 degrees" in str(turned.troubles[0])
    assert "100 pixels, the others are 256 x 192" in str(small.troubles[0])
    assert "those of 2.png" in str(copy.troubles[0])
    assert [one.usable for one in (turned, small, copy)] == [False] * 3


def test_bad_files_are_listed_while_the_rest_goes_on(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.png", taken(flat(0.5)))
    torn = saved(tmp_path / "torn.png", taken(flat(0.5)))
    torn.write_bytes(torn.read_bytes()[:2000])
    text = tmp_path / "text.png"
    text.write_text("no picture")
    nan = tmp_path / "nan.tif"
    cv2.imwrite(str(nan), np.full((20, 20), np.nan, np.float32))
    eight = saved(tmp_path / "eight.png", np.rint(255 * flat(0.5)).astype(np.uint8))
    found = inspect_files([torn, text, nan, tmp_path / "missing.png", eight, good], Assumed("mono", 0, WHITE_DN))
    assert [one.usable for one in found] == [False] * 5 + [True]
    assert [names(one) for one in found] == [{"unreadable"}] * 4 + [{"gamma unknown"}, set()]
    assert "NaN" in str(found[2].troubles[0])
    assert "--assume-srgb" in str(found[4].troubles[0])
    assert of_file(eight, np.rint(255 * flat(0.5)).astype(np.uint8), Assumed(encoding="srgb")).usable


WHITE_DN = 4095.0


def test_what_nobody_says_is_guessed_and_said(tmp_path: Path) -> None:
    light = squares().copy()
    light[::2, ::2] *= 0.6
    light[1::2, 1::2] *= 0.7
    found = of_file(tmp_path / "a.png", taken(light), Assumed())
    assert names(found) == {"mosaic", "levels unknown"}
    assert "--cfa RGGB" in str(found.troubles[0])
    assert found.facts is not None
    assert (found.facts.cfa, found.facts.white_dn, found.facts.bits_used) == ("RGGB", 4095, 12)
    assert found.seen is not None
    assert found.seen.kind == "slanted_edge"
    assert names(of_file(tmp_path / "a.png", taken(light[:, 1:]), Assumed(black_dn=256, white_dn=4095))) == {"mosaic"}


def test_samples_that_are_spread_over_more_bits_hold_no_more(tmp_path: Path) -> None:
    found = of_file(tmp_path / "a.png", 16 * taken(flat(0.5)), Assumed("mono", 16 * 256, 65535))
    assert found.facts is not None
    assert (found.facts.bits_used, found.facts.sample_type) == (12, "uint16")


def test_raw_tells_its_own(tmp_path: Path) -> None:
    write_dng(
        tmp_path / "a.dng", taken(flat(0.5)), cfa="GBRG", black_level=256, white_level=4095, maker="M", model="N",
        exposure_s=0.02, iso=200, f_number=1.8, focal_mm=4.3, lens="wide", pitch_um=1.2,
    )  # fmt: skip
    found = inspect_file(tmp_path / "a.dng", Assumed("RGGB", 0.0, 65535.0))
    facts = found.facts
    assert facts is not None
    assert (facts.cfa, facts.black_dn, facts.white_dn, facts.own_levels) == ("GBRG", (256.0,) * 3, 4095.0, True)
    assert (facts.maker, facts.model, facts.lens, facts.exposure_s) == ("M", "N", "wide", 0.02)
    assert facts.setting.known() == pytest.approx({"iso": 200, "f_number": 1.8, "focal_mm": 4.3})
    assert facts.pitch_um == pytest.approx(1.2)
    assert facts.xyz_to_camera is not None
    assert found.usable


def test_a_target_that_is_not_there_is_said(tmp_path: Path) -> None:
    told = replace(KNOWN, kind="chessboard")
    found = of_file(tmp_path / "a.png", taken(points()), told)
    assert names(found) == {"no target"}
    assert "no chessboard" in str(found.troubles[0])
    assert names(of_file(tmp_path / "a.png", taken(flat(0.5)), replace(KNOWN, kind="dark"))) == {"light"}
    assert names(of_file(tmp_path / "a.png", taken(flat(0.0)), replace(KNOWN, kind="flat"))) == {"black"}


def test_a_session_tells_what_its_files_do_not() -> None:
    plan = load_plan(SAMPLE_CAPTURES)
    files = [SAMPLE_CAPTURES / name for name in ("led/led_0.png", "chessboard/board_3.png", "dark/dark_0.dng")]
    led, chess, dark = inspect_files(files, plan=plan)
    assert [one.seen.kind for one in (led, chess, dark) if one.seen] == ["led", "chessboard", "dark"]
    assert all(one.usable and not names(one) for one in (led, chess, dark))
    assert chess.seen is not None
    assert led.facts is not None
    assert (chess.seen.figures["columns"], chess.seen.figures["rows"]) == (9, 6)
    assert (led.facts.cfa, led.facts.black_dn, led.facts.white_dn) == ("RGGB", (64.0,) * 3, 1023.0)


def test_the_drawing_shows_edges_where_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", taken(squares()))
    found = inspect_file(path, KNOWN)
    assert found.seen is not None
    capture, camera, _, _ = light_in(read_picture(path), path, KNOWN, None, None)
    drawing = annotated(capture, camera, found)
    assert drawing.shape[1] == 4 * SIZE[1]  # enlarged
    assert drawing.shape[0] > 4 * SIZE[0]  # words below
    for first, second in found.seen.lines_px:
        x, y = (0.75 * first + 0.25 * second + 0.5) * 4 - 0.5
        near = drawing[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3].reshape(-1, 3)
        assert (near == LINE).all(axis=1).any()
    write_annotated(found, tmp_path / "out.png", KNOWN, None)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out.png")), drawing)
    with pytest.raises(ImageError):
        write_annotated(found, tmp_path / "nowhere" / "out.png", KNOWN, None)


def test_squares_that_repeat_inside_a_frame_are_no_noise_target(tmp_path: Path) -> None:
    cells = np.where(np.indices((22, 30)).sum(axis=0) % 2 == 0, 0.04, 0.9)
    cells[::3] = cells[:, ::3] = 0.9
    framed = np.pad(np.pad(np.pad(np.kron(cells, np.ones((5, 5))), 8, constant_values=0.9), 8, constant_values=0.04), 8)
    light = np.full(SIZE, 0.9)
    light[10 : 10 + framed.shape[0], 20 : 20 + framed.shape[1]] = framed
    found = of_file(tmp_path / "a.png", taken(0.7 * gaussian_filter(light, 0.6)))
    assert found.seen is not None
    assert found.seen.kind != "noise_target"
