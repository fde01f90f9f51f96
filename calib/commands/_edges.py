"""Measured edges as plain records, as a table on the screen, and as rows of a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from calib.commands._console import print_whole, stdout

if TYPE_CHECKING:
    from calib.edge.measure import MeasuredEdge

Record = Mapping[str, Any]
CSV_STEPS = 50  # of the frequencies from 0 to 1 cycle/pixel that a row gives the SFR at
_CURVES = ("freq_cpp", "sfr", "sfr_std")
_COLUMNS = {  # heading of the table -> key of a record, and how it is written
    "x": ("x_px", "{:.0f}"),
    "y": ("y_px", "{:.0f}"),
    "slant": ("slant_deg", "{:.1f}"),
    "length": ("length_px", "{:.0f}"),
    "MTF50": ("mtf50_cpp", "{:.3f}"),
    "±": ("mtf50_std_cpp", "{:.3f}"),
    "MTF20": ("mtf20_cpp", "{:.3f}"),
    "MTF10": ("mtf10_cpp", "{:.3f}"),
    "Nyquist": ("mtf_nyquist", "{:.3f}"),
    "lp/mm": ("mtf50_lp_mm", "{:.1f}"),
    "LW/PH": ("mtf50_lw_ph", "{:.0f}"),
    "overshoot": ("overshoot", "{:.0%}"),
}


def edge_records(edges: Sequence[MeasuredEdge], path: Path, *, pitch_um: float | None) -> list[dict[str, Any]]:
    """Say what was measured in one picture in plain numbers and words; lp/mm is None where no pitch is known."""
    from calib.edge.quality import slant_deg
    from calib.edge.response import lp_per_mm, lw_per_ph, sfr_at

    return [
        {
            "file": str(path),
            "channel": edge.channel,
            "mode": edge.mode,
            "x_px": edge.xy_px[0],
            "y_px": edge.xy_px[1],
            "angle_deg": math.degrees(edge.angle_rad),
            "slant_deg": slant_deg(edge.angle_rad),
            "length_px": edge.length_px,
            "contrast": edge.contrast,
            "cnr": edge.cnr,
            "mtf50_cpp": edge.mtf50_cpp,
            "mtf50_std_cpp": edge.response.mtf50_std_cpp,
            "mtf20_cpp": edge.mtf20_cpp,
            "mtf10_cpp": edge.mtf10_cpp,
            "mtf_nyquist": sfr_at(edge.response.freq_cpp, edge.response.sfr),
            "mtf50_lp_mm": lp_per_mm(edge.mtf50_cpp, pitch_um) if pitch_um else None,
            "mtf50_lw_ph": lw_per_ph(edge.mtf50_cpp, edge.size_px[0]),
            "overshoot": edge.overshoot,
            "orientation": edge.orientation,
            "lateral_px": dict(edge.lateral_px),
            "flags": list(edge.flags.words()),
            "freq_cpp": edge.response.freq_cpp,
            "sfr": edge.response.sfr,
            "sfr_std": edge.response.sfr_std,
        }
        for edge in edges
    ]


def print_edges(records: Sequence[Record]) -> None:
    """Print one row an edge, and what to do about the flags that are raised."""
    from calib.edge.quality import WHAT_TO_DO

    several = len({record["file"] for record in records}) > 1
    lateral = list(dict.fromkeys(name for record in records for name in record["lateral_px"]))
    columns = {name: how for name, how in _COLUMNS.items() if any(_is_known(record[how[0]]) for record in records)}
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("file", "channel") if several else ("channel",):
        table.add_column(name, no_wrap=True)
    for name in (*columns, *lateral):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("direction", "flags"):
        table.add_column(name, no_wrap=True)
    for record in records:
        table.add_row(
            *([Path(record["file"]).name] if several else []),
            record["channel"],
            *(_written(record[key], form) for key, form in columns.values()),
            *(_written(record["lateral_px"].get(name), "{:+.2f}") for name in lateral),
            record["orientation"],
            ", ".join(record["flags"]).replace("_", " "),
        )
    print_whole(table)
    for flag, what_to_do in WHAT_TO_DO.items():
        (word,) = flag.words()
        if any(word in record["flags"] for record in records):
            stdout.print(f"{word.replace('_', ' ')}: {what_to_do}", soft_wrap=True)


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """Write one row an edge: its figures, flags, and SFR at 0, 0.02 .. 1 cycle/pixel; what is unknown is empty."""
    import numpy as np

    freq = np.linspace(0, 1, CSV_STEPS + 1)
    lateral = list(dict.fromkeys(name for record in records for name in record["lateral_px"]))
    plain = [key for key in records[0] if key not in (*_CURVES, "lateral_px", "flags")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*plain, *(f"lateral_{n}_px" for n in lateral), "flags", *(f"sfr_{f:.2f}_cpp" for f in freq)])
        for record in records:
            curve = np.interp(freq, record["freq_cpp"], record["sfr"], right=np.nan)
            shifts = [record["lateral_px"].get(name) for name in lateral]
            values = [*(record[key] for key in plain), *shifts, " ".join(record["flags"]), *curve]
            writer.writerow([value if isinstance(value, str) else _written(value, "{:.6g}") for value in values])


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _written(value: float | None, form: str) -> str:
    return form.format(value) if value is not None and math.isfinite(value) else ""
