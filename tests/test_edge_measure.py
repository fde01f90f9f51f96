"""Whole pictures of squares in closed form: every side measured in every channel, on its own sites, as it was drawn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from edge_charts import Blur, blur_of, gaussian_px, square

from calib.edge.measure import MeasuredEdge, measure_capture, measure_picture
from calib.edge.quality import EdgeFlag
from psfbank.errors import CaptureUnusable, NoTargetFound
from psfbank.model import Camera, Capture
from psfbank.sensor import cfa_sites

SHARED = Path(os.environ.get("PSFBANK_SHARED", Path(__file__).parents[2] / "shared"))
RECTANGLES = SHARED / "real" / "mtf_rectangles"
SIZE_PX = (190, 196)
MIDDLE_PX = np.array([98.3, 93.6])
SIDE_PX, TURN = 100.0, np.radians(7.0)
DARK, STEP, NOISE = 0.15, 0.6, 0.006
COLOURS = ("R", "G", "B")
MTF50S_CPP = {"R": 0.22, "G": 0.3, "B": 0.18}
SHIFTS_PX = {"R": np.array([0.21, -0.08]), "G": np.zeros(2), "B": np.array([-0.13, 0.3])}
ENCODED_AT = 0.0031308  # IEC 61966-2-1

Array = npt.NDArray[np.float64]


def light(mtf50_cpp: float = 0.3, shift_px: Array | None = None, turn: float = TURN, **parts: Any) -> Array:
    """A dark square, seen through optics and pixels that have this MTF50 on each of its sides."""
    middle = MIDDLE_PX + (0.0 if shift_px is None else shift_px)
    parts = {"size_px": SIZE_PX, "middle_px": middle, "side_px": SIDE_PX, **parts}
    return DARK + STEP * (1 - square(**parts, turn_rad=turn, blur=blur_of(mtf50_cpp, turn)))


def coloured() -> Array:
    return np.stack([light(MTF50S_CPP[c], SHIFTS_PX[c]) for c in COLOURS], axis=-1)


def mosaic(cfa: str) -> Array:
    return np.take_along_axis(coloured(), np.asarray(cfa_sites(cfa, SIZE_PX))[..., None].astype(int), axis=-1)[..., 0]


def noisy(values: Array, noise: float = NOISE, seed: int = 3) -> Array:
    return values + np.random.default_rng(seed).normal(0, noise, values.shape)


def written(path: Path, values: Array, dtype: type[np.unsignedinteger[Any]] = np.uint16) -> Path:
    dn = np.rint(values * np.iinfo(dtype).max).astype(dtype)
    assert cv2.imwrite(str(path), dn[..., ::-1] if dn.ndim == 3 else dn)
    return path


def of_capture(values: Array, cfa: str = "mono", **how: Any) -> tuple[MeasuredEdge, ...]:
    size = values.shape[:2]
    capture = Capture(values, np.zeros(size, dtype=bool), "chart", "0" * 64)
    return measure_capture(capture, Camera("Maker", "Model", size, cfa), **how)


def sides(edges: tuple[MeasuredEdge, ...]) -> list[int]:
    return sorted(int(np.round((e.angle_rad - TURN) / (np.pi / 2))) % 4 for e in edges)


@pytest.fixture(scope="module")
def mono_png(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("charts") / "mono.png", noisy(light()))


def test_four_sides_are_measured_and_told_whole(mono_png: Path) -> None:
    edges = measure_picture(mono_png)

    assert sides(edges) == [0, 1, 2, 3]
    for edge in edges:
        assert edge.mtf50_cpp == pytest.approx(0.3, abs=4 * edge.response.mtf50_std_cpp)
        assert edge.response.mtf50_std_cpp < 0.02 * 0.3
        assert edge.mtf50_cpp < edge.mtf20_cpp < edge.mtf10_cpp
        assert (edge.capture, edge.channel, edge.mode) == ("mono.png", "Y", "accurate")
        assert edge.flags == EdgeFlag.GOOD
        assert edge.contrast == pytest.approx(STEP / (2 * DARK + STEP), abs=5e-3)
        assert edge.cnr == pytest.approx(STEP / NOISE, rel=0.1)
        assert edge.length_px == pytest.approx(SIDE_PX, abs=6)
        normal = np.array([np.cos(edge.angle_rad), np.sin(edge.angle_rad)])
        assert (edge.xy_px - MIDDLE_PX) @ normal == pytest.approx(SIDE_PX / 2, abs=0.02), "outward: paper is bright"
        np.testing.assert_allclose((edge.ends_px - edge.xy_px) @ normal, 0, atol=0.2)
        assert edge.overshoot < 0.02
        assert edge.lateral_px == {}
        assert edge.size_px == SIZE_PX


def test_a_file_of_16_bits_says_what_its_numbers_say(mono_png: Path) -> None:
    of_file, of_numbers = measure_picture(mono_png), of_capture(noisy(light()))

    for one, other in zip(of_file, of_numbers, strict=True):
        assert one.mtf50_cpp == pytest.approx(other.mtf50_cpp, rel=1e-3)
        np.testing.assert_allclose(one.xy_px, other.xy_px, atol=1e-3)


def require_colours(edges: tuple[MeasuredEdge, ...], within: float) -> None:
    """Each channel's own MTF50, and shifts of centroids along the normals."""
    assert [e.channel for e in edges] == list(COLOURS) * 4
    for edge in edges:
        true = MTF50S_CPP[edge.channel]
        assert edge.mtf50_cpp == pytest.approx(true, abs=4 * edge.response.mtf50_std_cpp)
        assert edge.response.mtf50_std_cpp < within * true
        normal = np.array([np.cos(edge.angle_rad), np.sin(edge.angle_rad)])
        assert edge.lateral_px == {
            "R-G": pytest.approx(SHIFTS_PX["R"] @ normal, abs=0.01),
            "B-G": pytest.approx(SHIFTS_PX["B"] @ normal, abs=0.01),
        }


def test_colours_are_measured_each_for_itself(tmp_path: Path) -> None:
    require_colours(measure_picture(written(tmp_path / "rgb.png", noisy(coloured()))), within=0.02)


@pytest.mark.parametrize("cfa", ["RGGB", "GRBG"])
def test_a_mosaic_is_measured_on_its_own_sites(tmp_path: Path, cfa: str) -> None:
    """Without demosaicing: a shift or a blur of another colour's would be told."""
    require_colours(measure_picture(written(tmp_path / "raw.png", noisy(mosaic(cfa), 0.003)), cfa=cfa), within=0.03)


def test_channels_are_chosen_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "rgb.png", noisy(coloured()))

    assert {e.channel for e in measure_picture(path, channels=["B"])} == {"B"}
    two = measure_picture(path, channels=["B", "G"])
    assert [e.channel for e in two[:2]] == ["G", "B"]
    assert all(set(e.lateral_px) == {"B-G"} for e in two)
    with pytest.raises(CaptureUnusable, match=r"rgb.png: it has no channel X. Its channels are R, G, B"):
        measure_picture(path, channels=["G", "X"])


@pytest.mark.parametrize("mtf50_cpp", [0.18, 0.25, 0.4])
def test_the_standards_steps_come_near_on_the_same_picture(mtf50_cpp: float) -> None:
    edges = of_capture(noisy(light(mtf50_cpp), 0.001), mode="iso")

    assert sides(edges) == [0, 1, 2, 3]
    for edge in edges:
        assert edge.mtf50_cpp == pytest.approx(mtf50_cpp, rel=0.02)
        assert edge.mode == "iso"
        assert np.isnan(edge.response.mtf50_std_cpp)


def test_the_standards_steps_measure_a_mosaics_sites() -> None:
    """Red and blue two pixels apart: frequencies are told per pixel all the same."""
    edges = of_capture(noisy(mosaic("RGGB"), 0.001), "RGGB", mode="iso")

    assert len(edges) == 12
    for edge in edges:
        assert edge.mtf50_cpp == pytest.approx(MTF50S_CPP[edge.channel], rel=0.05)


def test_a_region_is_measured_alone(mono_png: Path) -> None:
    whole = {e.angle_rad: e for e in measure_picture(mono_png)}
    right = min(whole, key=lambda a: abs(a - TURN))
    (edge,) = measure_picture(mono_png, roi=(118, 60, 56, 64))

    assert edge.angle_rad == pytest.approx(right, abs=2e-3)
    assert edge.mtf50_cpp == pytest.approx(0.3, abs=4 * edge.response.mtf50_std_cpp)
    assert edge.length_px == pytest.approx(64 / np.cos(TURN), abs=1)
    assert 118 < edge.xy_px[0] < 174


@pytest.mark.parametrize("mode", ["accurate", "iso"])
def test_a_picture_that_is_one_edges_region(mode: Any) -> None:
    edge_alone = light(0.25)[60:124, 118:174]
    (edge,) = of_capture(noisy(edge_alone, 0.002), roi="full", mode=mode)

    assert edge.mtf50_cpp == pytest.approx(0.25, rel=0.02)
    assert edge.orientation == "", "a piece does not know where its picture's middle lies"


@pytest.mark.parametrize(
    ("middle_px", "expected"),
    [
        ((255.0, 150.0), {0: "tangential", 1: "sagittal", 2: "tangential", 3: "sagittal"}),
        ((150.0, 255.0), {0: "sagittal", 1: "tangential", 2: "sagittal", 3: "tangential"}),
        ((242.0, 255.0), dict.fromkeys(range(4), "oblique")),
    ],
)
def test_orientation_is_told_from_the_pictures_middle(middle_px: tuple[float, float], expected: dict[int, str]) -> None:
    """Edges whose normal points along the radius resolve along it: their lines are tangential."""
    edges = of_capture(noisy(light(size_px=(301, 301), middle_px=np.array(middle_px), side_px=50.0)))

    assert {int(np.round((e.angle_rad - TURN) / (np.pi / 2))) % 4: e.orientation for e in edges} == expected


def test_an_edge_in_the_middle_has_no_orientation() -> None:
    edges = of_capture(noisy(light(side_px=40.0, size_px=(700, 700), middle_px=np.array([349.5, 349.5]))))

    assert {e.orientation for e in edges} == {""}


def test_what_nobody_declared_linear_is_flagged(tmp_path: Path) -> None:
    coded = noisy(light(0.2), 0.003)
    coded = np.where(coded > ENCODED_AT, 1.055 * np.abs(coded) ** (1 / 2.4) - 0.055, 12.92 * coded)
    path = written(tmp_path / "eight.png", coded, np.uint8)
    stored, linear, decoded = (measure_picture(path, encoding=e) for e in ("as-stored", "linear", "srgb"))

    assert all(EdgeFlag.GAMMA_SUSPECTED in e.flags for e in stored)
    assert not any(EdgeFlag.GAMMA_SUSPECTED in e.flags for e in (*linear, *decoded))
    for edge in decoded:
        assert edge.mtf50_cpp == pytest.approx(0.2, abs=4 * edge.response.mtf50_std_cpp)
        assert edge.contrast == pytest.approx(STEP / (2 * DARK + STEP), abs=5e-3)


def test_grey_that_is_stored_three_times_is_one_channel(tmp_path: Path) -> None:
    values = noisy(light())
    thrice = measure_picture(written(tmp_path / "thrice.png", np.repeat(values[..., None], 3, axis=-1)))
    once = measure_picture(written(tmp_path / "once.png", values))

    assert [e.channel for e in thrice] == ["Y"] * 4
    assert [e.mtf50_cpp for e in thrice] == [e.mtf50_cpp for e in once]


def test_levels_that_are_given_are_taken(tmp_path: Path) -> None:
    """A pedestal halves the contrast that is told; taken off, it is as drawn, and so is what is clipped."""
    path = written(tmp_path / "raw.png", 0.2 + 0.5 * noisy(light()))
    as_stored, taken = measure_picture(path), measure_picture(path, black_dn=0.2 * 65535, white_dn=0.7 * 65535)
    clipped = measure_picture(path, white_dn=0.575 * 65535)

    true = STEP / (2 * DARK + STEP)
    assert [e.contrast for e in taken] == pytest.approx([true] * 4, abs=5e-3)
    assert max(e.contrast for e in as_stored) < 0.7 * true
    assert all(EdgeFlag.CLIPPED in e.flags for e in clipped)
    assert not any(EdgeFlag.CLIPPED in e.flags for e in taken)


@pytest.mark.parametrize(("turn_deg", "flagged"), [(26.565, True), (14.036, True), (8.0, False), (33.0, False)])
def test_critical_angles_are_told_and_measured(turn_deg: float, flagged: bool) -> None:
    edges = of_capture(noisy(light(0.25, turn=np.radians(turn_deg))))

    assert len(edges) == 4
    for edge in edges:
        assert (EdgeFlag.CRITICAL_ANGLE in edge.flags) == flagged
        assert edge.mtf50_cpp == pytest.approx(0.25, abs=4 * edge.response.mtf50_std_cpp)
        assert edge.response.mtf50_std_cpp < 0.02 * 0.25


def refused(path: Path, error: type[Exception], words: str, **how: Any) -> None:
    with pytest.raises(error, match=words):
        measure_picture(path, **how)


def test_what_cannot_be_measured_says_why(tmp_path: Path, mono_png: Path) -> None:
    holed = light().astype(np.float32)
    holed[3, 3] = np.nan
    tifffile.imwrite(tmp_path / "holed.tif", holed)
    flat = written(tmp_path / "flat.png", noisy(np.full(SIZE_PX, 0.5)))
    single = written(tmp_path / "single.png", np.full((1, 1), 0.5))
    colours = written(tmp_path / "rgb.png", noisy(coloured()))

    refused(tmp_path / "holed.tif", CaptureUnusable, "holed.tif: 1 samples are NaN")
    refused(flat, NoTargetFound, "flat.png: .*edge")
    refused(flat, NoTargetFound, "flat.png: .*edge", roi="full")
    refused(flat, NoTargetFound, "flat.png: .*edge", mode="iso", roi="full")
    refused(single, NoTargetFound, "single.png: ")
    refused(single, NoTargetFound, "single.png: ", roi="full", mode="iso")
    refused(mono_png, NoTargetFound, "mono.png: .*100,100,200,20 .*not lie in the picture", roi=(100, 100, 200, 20))
    refused(mono_png, CaptureUnusable, "mono.png: it has no channel G. Its channels are Y", channels=["G"])
    refused(colours, CaptureUnusable, "rgb.png: the picture has three channels, a mosaic RGGB has one", cfa="RGGB")
    refused(tmp_path / "none.png", CaptureUnusable, "none.png: the file cannot be read")


@pytest.mark.skipif(not RECTANGLES.exists(), reason="the rectangles are not here (PSFBANK_SHARED)")
@pytest.mark.parametrize(("mtf50_cpp", "p95_percent"), [(0.12, 1.3), (0.3, 2.3), (0.5, 2.5)])
def test_rectangles_of_another_renderer_are_measured_closer_than_its_own_measurement(
    mtf50_cpp: float, p95_percent: float
) -> None:
    """The bars are what MTF Mapper reaches on the same pictures."""
    edges = [e for path in RECTANGLES.glob(f"*_m{mtf50_cpp:.2f}_*.png") for e in measure_picture(path)]
    errors = 100 * (np.array([e.mtf50_cpp for e in edges]) / mtf50_cpp - 1)
    true = Blur(gaussian_px(mtf50_cpp))
    off = [np.abs(e.response.sfr - true.otf(e.response.freq_cpp, 0.0))[:129].max() for e in edges]

    assert len(edges) == 16
    assert np.percentile(np.abs(errors), 95) <= p95_percent
    assert abs(errors.mean()) < 0.4
    assert max(off) < 0.05
