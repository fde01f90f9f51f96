"""Figures show what they were given, where it was, and nothing over anything else."""

from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy.special import ndtr

from calib.edge.measure import MeasuredEdge
from calib.edge.quality import EdgeFlag
from calib.edge.response import Response
from calib.plots import annotated_picture, save_figure, sfr_figure
from calib.plots.edges import LONGEST_PX, MOST_NAMED, OF_ORIENTATION, SHORTEST_PX
from calib.plots.style import OF_CHANNEL

FREQ_CPP, X_PX = np.linspace(0, 1, 201), np.linspace(-16, 16, 513)


def response(blur_px: float) -> Response:
    """Of a Gaussian: MTF50 = sqrt(2 ln 2) / (2 pi blur)."""
    sfr = np.exp(-2 * (np.pi * blur_px * FREQ_CPP) ** 2)
    lsf = np.exp(-0.5 * (X_PX / blur_px) ** 2) / (np.sqrt(2 * np.pi) * blur_px)
    return Response(FREQ_CPP, sfr, 0.01 * np.sqrt(FREQ_CPP), X_PX, 5 + 20 * ndtr(X_PX / blur_px), lsf, 0.004)


def edge(x_px: float = 300.0, y_px: float = 200.0, angle_deg: float = 5.0, **changed: Any) -> MeasuredEdge:
    blur_px = changed.pop("blur_px", 0.5)
    length_px = changed.get("length_px", 60.0)
    angle = np.radians(angle_deg)
    half = length_px / 2 * np.array([-np.sin(angle), np.cos(angle)])
    middle = np.array([x_px, y_px])
    fields = {
        "capture": "chart.dng",
        "channel": "G",
        "mode": "accurate",
        "xy_px": middle,
        "angle_rad": float(angle),
        "ends_px": np.array([middle - half, middle + half]),
        "length_px": length_px,
        "contrast": 0.7,
        "cnr": 60.0,
        "response": response(blur_px),
        "flags": EdgeFlag.GOOD,
        "orientation": "sagittal",
        "lateral_px": {},
        "size_px": (300, 400),
    }
    return MeasuredEdge(**(fields | changed))


def curves(figure: Figure, panel: int) -> list[Any]:
    """Lines of a panel that are measured, not drawn to guide the eye."""
    return [line for line in figure.axes[panel].get_lines() if len(line.get_xdata()) > 2]


def drawn(figure: Figure) -> np.ndarray:
    """RGB as the file has it."""
    file = io.BytesIO()
    figure.savefig(file, dpi=figure.dpi)
    return cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1] / 255


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[2].get_legend().get_texts()]


def test_one_edge_is_shown_in_all_its_forms() -> None:
    one = edge()
    figure = sfr_figure([one])
    drawn(figure)

    ((spread,), (line,), (sfr,)) = (curves(figure, panel) for panel in range(3))
    np.testing.assert_allclose(spread.get_ydata(), ndtr(X_PX / 0.5), atol=1e-9)
    np.testing.assert_array_equal(line.get_ydata(), one.response.lsf)
    np.testing.assert_array_equal(sfr.get_xydata(), np.column_stack([FREQ_CPP, one.response.sfr]))
    assert figure.axes[2].get_xlim() == (0, 1)
    (mark,) = (m for m in figure.axes[2].get_lines() if m.get_marker() == "o")
    np.testing.assert_allclose(mark.get_xydata(), [[np.sqrt(2 * np.log(2)) / np.pi, 0.5]], atol=1e-3)
    assert legend(figure) == ["G (300, 200): 0.375 ± 0.004"]
    assert figure.get_suptitle() == "chart.dng: 1 edge, accurate mode"


def test_the_band_is_one_standard_deviation() -> None:
    one = edge()
    figure = sfr_figure([one])
    (band,) = figure.axes[2].collections
    path = band.get_paths()[0].vertices

    at_half = path[np.abs(path[:, 0] - 0.5) < 1e-9][:, 1]
    middle = np.exp(-2 * (np.pi * 0.25) ** 2)
    np.testing.assert_allclose(
        [at_half.min(), at_half.max()], [middle - 0.01 * 0.5**0.5, middle + 0.01 * 0.5**0.5], atol=1e-9
    )


def test_flags_are_named_and_dashed() -> None:
    figure = sfr_figure([edge(flags=EdgeFlag.SHORT | EdgeFlag.CRITICAL_ANGLE), edge(x_px=90.0)])

    assert figure.get_suptitle().endswith("flagged: critical angle (1), short (1)")
    assert [line.get_linestyle() for line in curves(figure, 2)] == ["--", "-"]


def test_channels_have_their_colours() -> None:
    figure = sfr_figure([edge(channel=channel) for channel in "RGB"])

    assert [line.get_color() for line in curves(figure, 2)] == [OF_CHANNEL[channel] for channel in "RGB"]


def test_many_edges_are_named_by_channel() -> None:
    edges = [edge(channel=channel, blur_px=0.4 + 0.1 * k) for k in range(MOST_NAMED) for channel in "RG"]
    figure = sfr_figure(edges)
    drawn(figure)

    median = np.median([e.mtf50_cpp for e in edges])
    assert legend(figure) == [f"R: median {median:.3f}", f"G: median {median:.3f}"]
    assert len(curves(figure, 2)) == len(edges)


@pytest.mark.parametrize("count", [1, MOST_NAMED + 1])
def test_an_edge_without_mtf50_or_error_is_drawn_all_the_same(count: int) -> None:
    flat = Response(FREQ_CPP, np.ones(201), np.full(201, np.nan), X_PX, ndtr(X_PX), X_PX, float("nan"))
    figure = sfr_figure([edge(response=flat, mode="iso")] * count)
    drawn(figure)

    assert legend(figure)[0].endswith(": none")


@pytest.mark.parametrize(
    ("size_px", "longer_px"), [((90, 120), SHORTEST_PX), ((1100, 1500), 1500), ((3000, 2000), LONGEST_PX)]
)
def test_edges_are_drawn_where_they_are(size_px: tuple[int, int], longer_px: int) -> None:
    # the middle of one end of a nearly upright edge, off both centre lines: a mirrored picture would show it elsewhere
    height, width = size_px
    scale = longer_px / max(size_px)
    one = edge(0.3 * width, 0.35 * height, 4.0, length_px=0.2 * height, orientation="tangential")
    picture = drawn(annotated_picture(np.random.default_rng(0).uniform(0, 1, size_px), [one]))
    assert picture.shape[1] == round(width * scale)
    x, y = np.rint((one.ends_px[1] * 0.9 + one.xy_px * 0.1) * scale + (scale - 1) / 2).astype(int)

    np.testing.assert_allclose(picture[y, x], to_rgb(OF_ORIENTATION["tangential"]), atol=0.05)
    others = [picture[y, picture.shape[1] - 1 - x], picture[round(height * scale) - 1 - y, x]]
    assert all(np.ptp(other) < 0.02 for other in others)


def squares(columns: int, rows: int, side_px: float, pitch_px: float) -> list[MeasuredEdge]:
    middles = [((i + 1) * pitch_px, (j + 1) * pitch_px) for i in range(columns) for j in range(rows)]
    normals = [(np.cos(np.radians(a)), np.sin(np.radians(a)), a) for a in (5, 95, 185, 275)]
    return [
        edge(x + side_px / 2 * c, y + side_px / 2 * s, a, length_px=0.7 * side_px)
        for x, y in middles
        for c, s, a in normals
    ]


def label_boxes(figure: Figure) -> np.ndarray:
    drawn(figure)
    boxes = [text.get_bbox_patch().get_window_extent() for text in figure.axes[0].texts]
    return np.array([[b.x0, b.y0, b.x1, b.y1] for b in boxes])


@pytest.mark.parametrize(("columns", "rows", "pitch_px"), [(3, 2, 300.0), (10, 5, 85.0), (10, 5, 30.0)])
def test_labels_cover_neither_each_other_nor_an_edge(columns: int, rows: int, pitch_px: float) -> None:
    edges = squares(columns, rows, 0.6 * pitch_px, pitch_px)
    figure = annotated_picture(np.ones((int(6.2 * pitch_px), int(11 * pitch_px))), edges)
    boxes = label_boxes(figure)

    assert len(boxes) > len(edges) / 2
    assert not any(np.all(a[:2] < b[2:] - 1) and np.all(b[:2] < a[2:] - 1) for a, b in combinations(boxes, 2))
    lines = np.concatenate([line.get_xydata() for line in figure.axes[0].get_lines()])
    points = figure.axes[0].transData.transform((lines[::2] + lines[1::2]) / 2)
    assert not any(np.any(np.all((points > b[:2] + 1) & (points < b[2:] - 1), axis=1)) for b in boxes)


def test_few_labels_are_large_and_none_is_lost() -> None:
    edges = squares(2, 1, 120.0, 300.0)
    figure = annotated_picture(np.ones((600, 900)), edges)

    assert [text.get_text() for text in figure.axes[0].texts] == ["0.375"] * len(edges)
    assert figure.axes[0].texts[0].get_fontsize() > 20


def test_one_channel_is_drawn_and_named() -> None:
    figure = annotated_picture(np.ones((400, 600, 3)), [edge(channel=channel) for channel in "RGB"])

    assert len(figure.axes[0].get_lines()) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["MTF50 of G [cycles/pixel]", "sagittal"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_picture_without_contrast_or_edges_is_shown(dtype: type) -> None:
    drawn(annotated_picture(np.zeros((40, 60), dtype=dtype), []))


def test_flagged_edges_are_dashed_over_the_picture() -> None:
    figure = annotated_picture(np.ones((400, 600)), [edge(flags=EdgeFlag.CLIPPED), edge(x_px=100.0)])

    assert [line.get_linestyle() for line in figure.axes[0].get_lines()] == ["--", "-"]


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_the_same_figure_is_the_same_file(tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        save_figure(sfr_figure([edge()]), file)

    assert files[0].read_bytes() == files[1].read_bytes()


def test_vectors_are_written_too(tmp_path: Path) -> None:
    save_figure(sfr_figure([edge()]), tmp_path / "sfr.SVG")

    assert "<svg" in (tmp_path / "sfr.SVG").read_text("utf-8")
