"""What every chart comes as: its drawing, and what an entry of capture.toml says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from calib.prints.drawing import Drawing, Shapes
from calib.prints.sheet import Sheet
from psfbank.arrays import BoolArray

DIGITS = 10  # of a length in capture.toml: a display's pixels are sums of powers of two only seldom


@dataclass(frozen=True, eq=False)
class Chart:
    """A drawing, and the `kind` and `geometry` of captures of it; `text` says both in a line, `hint` how to use it.

    A noise target's `pattern` (rows, columns) belongs into a file of its own.
    """

    kind: str
    drawing: Drawing
    geometry: Mapping[str, float | int | str]
    text: str
    hint: str
    pattern: BoolArray | None = None


def chart_of(
    kind: str,
    sheet: Sheet,
    layers: tuple[Shapes, ...],
    geometry: Mapping[str, float | int | str],
    text: str,
    hint: str,
    pattern: BoolArray | None = None,
) -> Chart:
    """Put a chart on its sheet, with the sheet's rulers and a line of text."""
    line = f"psfbank: {text}; {sheet.name}"
    drawing = Drawing(line, sheet.width_mm, sheet.height_mm, (*layers, sheet.rulers()), sheet.labels(line))
    return Chart(kind, drawing, _rounded(geometry), line, hint, pattern)


def capture_entry(chart: Chart, files: str, pattern: str = "") -> str:
    """Write a table [[capture]] of capture.toml.

    Parameters
    ----------
    chart : Chart
    files : str
        Glob of the captures to be made.
    pattern : str
        Name of the file that holds the noise target's pattern.
    """
    entry = {"kind": chart.kind, "files": files, **({"pattern": pattern} if pattern else {}), **chart.geometry}
    return "\n".join(["[[capture]]", *(f"{key} = {json.dumps(value)}" for key, value in entry.items()), ""])


def _rounded(geometry: Mapping[str, float | int | str]) -> dict[str, float | int | str]:
    return {key: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for key, value in geometry.items()}
