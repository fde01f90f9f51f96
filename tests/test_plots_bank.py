"""Every figure of a calibration: drawn in every scheme and format, legible, or refused for what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from calib.plots import FIGURES, Measured, draw_figure, svg_of
from psfbank.bank import PsfBank
from psfbank.errors import MissingPartError, ReportError
from psfbank.model import Calibration

SIZE_PX = (96, 128)
NEEDS = {
    "psf": "PSFs",
    "encircled-energy": "PSFs",
    "mtf50": "PSFs",
    "mtf": "PSFs",
    "mtf50-height": "PSFs",
    "distortion": "distortion map",
    "uncertainty": "distortion map",
    "lateral-colour": "distortion map",
    "zernike": "wavefront",
    "wavefront": "wavefront",
    "aberrations": "wavefront",
    "noise": "noise",
    "shading": "shading",
    "chi2": "observations in reserve",
    "residuals": "observations in reserve",
    "edges": "slanted edges",
}


def beyond_the_frame(figure: Figure) -> Iterator[int]:
    """Labels of ticks that are there and not drawn."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                yield from (id(tick.label1), id(tick.label2))


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of words of a figure that cover one another, but for labels of contours, which stand where they may."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # it is where it is
    left_out = {id(text) for axes in figure.axes for text in axes.texts} | set(beyond_the_frame(figure))
    words = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and id(t) not in left_out]
    # the boxes of slanted words are wider than they are
    boxes = [(t.get_text(), t.get_window_extent()) for t in words if t.get_rotation() % 90 == 0]
    inside = [(name, box) for name, box in boxes if box.width > 0 and figure.bbox.overlaps(box)]
    return [
        (a, b)
        for (a, first), (b, second) in combinations(inside, 2)
        if min(first.x1, second.x1) - max(first.x0, second.x0) > 1
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 1
    ]


def test_what_covers_is_seen() -> None:
    figure = Figure()
    figure.text(0.5, 0.5, "one")
    figure.text(0.51, 0.5, "another")

    assert overlapping(figure) == [("one", "another")]


@pytest.mark.parametrize("kind", FIGURES)
def test_a_figure_is_legible_in_the_light_and_in_the_dark(small_bank: PsfBank, kind: str) -> None:
    figure = FIGURES[kind](Measured(small_bank.at(), SIZE_PX))
    assert overlapping(figure) == []
    svg = svg_of(figure)
    root = ET.fromstring(svg)  # noqa: S314  our own

    assert root.tag.endswith("svg")
    assert "#000000" not in svg
    assert "#333333" not in svg
    assert "currentColor" in svg
    assert not any("facecolor" in (e.get("style") or "") for e in root.iter())
    assert len(svg) < 300_000


@pytest.mark.parametrize("kind", FIGURES)
def test_a_figure_of_what_nobody_captured_is_refused(kind: str) -> None:
    with pytest.raises(MissingPartError, match=f"has no {NEEDS[kind]}"):
        FIGURES[kind](Measured(Calibration(), SIZE_PX))


def test_a_map_that_does_not_say_how_sure_it_is_has_no_figure_of_that(small_bank: PsfBank) -> None:
    distortion = small_bank.at().distortion
    assert distortion is not None
    measured = Measured(Calibration(distortion=replace(distortion, uncertainty=None)), SIZE_PX)
    with pytest.raises(MissingPartError, match="how sure"):
        FIGURES["uncertainty"](measured)
    with pytest.raises(MissingPartError, match="PSFs to compare"):
        FIGURES["edges"](Measured(Calibration(edges=small_bank.at().edges), SIZE_PX))


def test_one_tile_and_one_channel_are_enough(small_bank: PsfBank) -> None:
    cal = small_bank.at()
    assert cal.psf_grid is not None
    assert cal.wavefront is not None
    assert cal.evidence is not None
    middle = slice(1, 2), slice(2, 3), slice(2, 3)
    at = {"x_px": cal.psf_grid.x_px[2:3], "y_px": cal.psf_grid.y_px[2:3], "channels": ("G",)}
    grid = replace(cal.psf_grid, **at, kernels=cal.psf_grid.kernels[middle], sigma=None, n_obs=None, flags=None)
    names = ("coefficients_nm", "stderr_nm", "residual")
    part = {name: getattr(cal.wavefront, name)[middle] for name in names}
    wavefront = replace(cal.wavefront, **at, **part, wavelength_nm=[540.0])
    names = ("chi2_used", "chi2_reserved", "n_reserved", "asymmetry", "residual")
    evidence = replace(cal.evidence, **at, **{name: getattr(cal.evidence, name)[middle] for name in names})
    measured = Measured(Calibration(psf_grid=grid, wavefront=wavefront, evidence=evidence), SIZE_PX)

    for kind in (
        "psf",
        "encircled-energy",
        "mtf50",
        "mtf",
        "mtf50-height",
        "zernike",
        "wavefront",
        "chi2",
        "residuals",
    ):
        FIGURES[kind](measured).draw_without_rendering()
    one = part["coefficients_nm"][..., :1]
    few = Measured(Calibration(wavefront=replace(wavefront, nm=[(4, 0)], coefficients_nm=one, stderr_nm=one)), SIZE_PX)
    with pytest.raises(MissingPartError, match="neither astigmatism nor coma"):
        FIGURES["aberrations"](few)


def test_a_figure_goes_into_a_file_that_was_not_there(small_bank: PsfBank, tmp_path: Path) -> None:
    cal, path = small_bank.at(), tmp_path / "noise.png"
    draw_figure("noise", cal, SIZE_PX, path)
    first = path.read_bytes()
    draw_figure("noise", cal, SIZE_PX, path, overwrite=True)

    assert path.read_bytes() == first
    for bad, words in (
        (path, "exists already"),
        (tmp_path / "noise.gif", "no suffix that can be written"),
        (tmp_path / "nowhere" / "noise.png", "folder does not exist"),
    ):
        with pytest.raises(ReportError, match=words):
            draw_figure("noise", cal, SIZE_PX, bad)
    assert np.frombuffer(first[:4], np.uint8).tolist() == [0x89, *b"PNG"]
