"""`psfbank sfr`: what is measured is said, whatever the form it is asked for in; what fails does not stop the rest."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.special import ndtr

Run = Callable[..., tuple[int, str, str]]
HEIGHT_PX, WIDTH_PX = 120, 80
PINNED = {
    *("file", "channel", "x_px", "y_px", "angle_deg", "length_px"),
    *("mtf50_cpp", "mtf50_std_cpp", "freq_cpp", "sfr", "flags"),
}


@pytest.fixture
def run(psfbank_command: Run) -> Run:
    return partial(psfbank_command, "sfr")


def light(blur_px: float = 0.7) -> np.ndarray:
    row, column = np.mgrid[:HEIGHT_PX, :WIDTH_PX].astype(float)
    angle = np.radians(6.0)
    across = (column - 39.7) * np.cos(angle) + (row - 59.5) * np.sin(angle)
    return 0.15 + 0.6 * ndtr(across / blur_px)


def written(path: Path, values: np.ndarray, dtype: type = np.uint16) -> Path:
    noise = np.random.default_rng(1).normal(0, 0.002, values.shape)
    cv2.imwrite(str(path), np.rint((values + noise) * np.iinfo(dtype).max).astype(dtype))
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return written(tmp_path / "edge.png", light())


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Blue, green, red, as OpenCV writes them, sharpest first."""
    return written(tmp_path / "colours.png", np.stack([light(blur) for blur in (0.5, 0.7, 1.0)], axis=-1))


def edges_of(said: str) -> list[dict[str, Any]]:
    return json.loads(said)["edges"]


def table(said: str) -> tuple[list[str], list[list[str]]]:
    """Heading and rows, between the rule and the blank line that ends a table."""
    heading, _, *rest = (line for line in said.splitlines() if line.strip())
    return heading.split(), [line.split() for line in rest if ": " not in line]


@pytest.mark.parametrize("mode", ["accurate", "iso"])
def test_one_object_holds_all_there_is(run: Run, picture: Path, mode: str) -> None:
    code, said, complaint = run(picture, "--roi", "full", "--mode", mode, "--pitch-um", "2", "--json")

    assert (code, complaint) == (0, "")
    (edge,) = edges_of(said)
    assert set(edge) >= PINNED
    assert (edge["file"], edge["mode"]) == (str(picture), mode)
    # a Gaussian and a pixel, seen along the normal
    freq = np.linspace(0, 1, 1001)
    truth = np.interp(-0.5, -np.exp(-2 * (np.pi * 0.7 * freq) ** 2), freq)
    assert edge["mtf50_cpp"] == pytest.approx(truth, rel=0.03)
    assert edge["mtf50_lp_mm"] == pytest.approx(500 * edge["mtf50_cpp"])
    assert edge["mtf50_lw_ph"] == pytest.approx(2 * HEIGHT_PX * edge["mtf50_cpp"])
    assert edge["slant_deg"] == pytest.approx(6.0, abs=0.2)
    assert (len(edge["freq_cpp"]), edge["sfr"][0]) == (len(edge["sfr"]), pytest.approx(1))
    assert (edge["mtf50_std_cpp"] is None) == (mode == "iso")


def test_a_region_is_measured_alone(run: Run, picture: Path, tmp_path: Path) -> None:
    wide = np.pad(light(), ((30, 50), (40, 60)), mode="edge")
    _, whole, _ = run(picture, "--roi", "full", "--mode", "iso", "--json")
    code, part, _ = run(
        written(tmp_path / "wide.png", wide), "--roi", f"40,30,{WIDTH_PX},{HEIGHT_PX}", "--mode", "iso", "--json"
    )

    assert code == 0
    (edge,), (other,) = edges_of(part), edges_of(whole)
    assert edge["mtf50_cpp"] == pytest.approx(other["mtf50_cpp"], rel=0.02)
    assert edge["x_px"] == pytest.approx(other["x_px"] + 40, abs=0.2)
    assert edge["y_px"] == pytest.approx(other["y_px"] + 30, abs=2)


def test_colours_are_told_apart(run: Run, colours: Path) -> None:
    _, said, _ = run(colours, "--roi", "full", "--json")

    edges = {edge["channel"]: edge["mtf50_cpp"] for edge in edges_of(said)}
    assert list(edges) == ["R", "G", "B"]
    assert edges["R"] < 0.9 * edges["G"] < 0.8 * edges["B"]


def test_one_channel_may_be_asked_for(run: Run, colours: Path) -> None:
    _, said, _ = run(colours, "--roi", "full", "--channel", "G", "--json")

    assert [edge["channel"] for edge in edges_of(said)] == ["G"]


def test_the_table_has_a_row_an_edge(run: Run, colours: Path) -> None:
    code, said, complaint = run(colours, "--roi", "full")

    assert (code, complaint) == (0, "")
    heading, rows = table(said)
    assert heading[:6] == ["channel", "x", "y", "slant", "length", "MTF50"]
    assert [row[0] for row in rows] == ["R", "G", "B"]
    assert all(float(row[5]) > 0.1 for row in rows)


def test_flags_say_what_to_do(run: Run, tmp_path: Path) -> None:
    eight = written(tmp_path / "eight.png", light(), np.uint8)
    code, said, _ = run(eight, "--roi", "full")

    assert code == 0
    assert "gamma suspected: 8-bit samples" in said
    assert "gamma" not in run(eight, "--roi", "full", "--assume-linear")[1]


def test_srgb_is_decoded_first(run: Run, tmp_path: Path) -> None:
    values = light()
    coded = np.where(values < 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)
    eight = written(tmp_path / "eight.png", coded, np.uint8)
    sixteen = written(tmp_path / "sixteen.png", values)
    (truth,), (decoded,), (stored,) = (
        edges_of(run(*arguments, "--roi", "full", "--json")[1])
        for arguments in ((sixteen,), (eight, "--assume-srgb"), (eight,))
    )

    assert decoded["flags"] == truth["flags"] == []
    assert decoded["mtf50_cpp"] == pytest.approx(truth["mtf50_cpp"], rel=0.02)
    assert "gamma_suspected" in stored["flags"]


def test_rows_of_a_file(run: Run, colours: Path, tmp_path: Path) -> None:
    target = tmp_path / "edges.csv"
    code, said, _ = run(colours, "--roi", "full", "--csv", target, "--json")

    assert code == 0
    with target.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["channel"] for row in rows] == ["R", "G", "B"]
    for row, edge in zip(rows, edges_of(said), strict=True):
        assert float(row["mtf50_cpp"]) == pytest.approx(edge["mtf50_cpp"], rel=1e-5)
        assert row["mtf50_lp_mm"] == ""
        assert float(row["sfr_0.00_cpp"]) == pytest.approx(1)
        curve = np.interp(0.3, edge["freq_cpp"], edge["sfr"])
        assert float(row["sfr_0.30_cpp"]) == pytest.approx(curve, rel=1e-4)


def test_figures_are_written(run: Run, picture: Path, tmp_path: Path) -> None:
    plot, annotated = tmp_path / "sfr.svg", tmp_path / "edges.png"
    code, _, complaint = run(picture, "--roi", "full", "--plot", plot, "--annotate", annotated)

    assert (code, complaint) == (0, f"{plot} written\n{annotated} written\n")
    assert "<svg" in plot.read_text("utf-8")
    drawn = cv2.imread(str(annotated))
    assert drawn.shape[0] > 1200
    assert drawn.shape[1] == 800


def test_one_bad_picture_does_not_stop_the_rest(run: Run, picture: Path, tmp_path: Path) -> None:
    flat = written(tmp_path / "flat.png", np.full((60, 60), 0.4))
    code, said, complaint = run(tmp_path / "none.png", flat, picture, "--roi", "full", "--json")

    assert code == 1
    assert [edge["file"] for edge in edges_of(said)] == [str(picture)]
    assert [line.split(":")[0] for line in complaint.splitlines()] == ["error", "error"]
    assert "none.png" in complaint
    assert "flat.png" in complaint


def test_several_pictures_are_named_in_the_table(run: Run, picture: Path, colours: Path) -> None:
    code, said, _ = run(picture, colours, "--roi", "full")

    assert code == 0
    assert [row[0] for row in table(said)[1]] == ["edge.png", *["colours.png"] * 3]


@pytest.mark.parametrize("roi", ["0,0,500,20", "70,0,40,60"])
def test_a_region_outside_the_picture_is_an_error_in_words(run: Run, picture: Path, roi: str) -> None:
    code, said, complaint = run(picture, "--roi", roi, "--json")

    assert (code, said) == (1, "")
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--roi", "all"),
        ("--roi", "1,2,3"),
        ("--roi", "1,2,0,4"),
        ("--roi", "-1,2,3,4"),
        ("--mode", "fast"),
        ("--plot", "curves.gif"),
        ("--annotate", "no/such/folder.png"),
        ("--pitch-um", "0"),
        ("--assume-srgb", "--assume-linear"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told(run: Run, picture: Path, arguments: tuple[str, ...]) -> None:
    assert run(picture, *arguments)[:2] == (2, "")


def test_one_picture_is_drawn_over(run: Run, picture: Path, colours: Path, tmp_path: Path) -> None:
    assert run(picture, colours, "--annotate", tmp_path / "edges.png")[0] == 2


def test_what_exists_is_kept(run: Run, picture: Path, tmp_path: Path) -> None:
    target = tmp_path / "edges.csv"
    target.write_text("mine")

    assert run(picture, "--roi", "full", "--csv", target)[0] == 2
    assert target.read_text() == "mine"
    assert run(picture, "--roi", "full", "--csv", target, "--overwrite")[0] == 0
    assert target.read_text().startswith("file,channel")
