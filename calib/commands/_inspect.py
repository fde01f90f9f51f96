"""What `inspect` says: one record a file, and the same as lines on the screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from calib.commands._console import stdout

if TYPE_CHECKING:
    from calib.inspect import Facts, Inspection

_FIGURES = {  # of a target -> how it is said; the rest is in the record
    "points": "{:.0f} points",
    "strays": "{:.0f} other lights",
    "columns": "{:.0f} columns",
    "rows": "{:.0f} rows",
    "corners": "{:.0f} corners",
    "markers": "{:.0f} markers",
    "blocks": "{:.0f} blocks matched",
    "edges": "{:.0f} edges",
    "hot_pixels": "{:.0f} hot pixels",
    "mtf50_cpp": "MTF50 {:.3f} cycles/px",
    "mtf50_outer_cpp": "{:.3f} in the outer parts",
    "blur_px": "blur {:.2f} px (sigma)",
    "blur_outer_px": "{:.2f} in the outer parts",
    "square_px": "squares of {:.0f} px",
    "slant_deg": "turned by {:.1f} degrees",
    "tilt_deg": "tilted by {:.0f} degrees",
    "darkest_corner": "darkest corner {:.2f}",
}


def record_of(inspection: Inspection) -> dict[str, Any]:
    """Say all that was found in one file in plain numbers and words."""
    seen, facts = inspection.seen, inspection.facts
    return {
        "file": str(inspection.path),
        "usable": inspection.usable,
        "kind": seen.kind if seen else "",
        "holds": None if facts is None else _held(facts),
        "light": dict(inspection.light),
        "figures": dict(seen.figures) if seen else {},
        "streak_px": seen.streak_px if seen else None,
        "streak_std_px": seen.streak_std_px if seen else None,
        "troubles": [
            {"name": t.name, "what": t.what, "remedy": t.remedy, "blocks": t.blocks} for t in inspection.troubles
        ],
    }


def _held(facts: Facts) -> dict[str, Any]:
    plain = (
        *("size_px", "cfa", "sample_type", "bits_used", "black_dn", "white_dn", "own_levels", "exposure_s"),
        *("maker", "model", "lens", "pitch_um", "xyz_to_camera", "sha256"),
    )
    return {**{name: getattr(facts, name) for name in plain}, "setting": facts.setting.known()}


def print_records(records: Sequence[Mapping[str, Any]]) -> None:
    """Print what each file holds, the target in it, and what is wrong; last how many are usable."""
    for record in records:
        verdict = ("usable", "green") if record["usable"] else ("not usable", "red")
        kind = record["kind"].replace("_", " ")
        stdout.print(Text.assemble(record["file"], ": ", verdict, f", {kind}" if kind else ""), soft_wrap=True)
        if record["holds"]:
            stdout.print("  " + ", ".join(_holding(record["holds"])), soft_wrap=True)
        figures = record["figures"]
        if told := [form.format(figures[name]) for name, form in _FIGURES.items() if _is_known(figures.get(name))]:
            stdout.print("  " + ", ".join(told), soft_wrap=True)
        for trouble in record["troubles"]:
            style = "red" if trouble["blocks"] else "yellow"
            said = f"{trouble['what']}. {trouble['remedy']}" if trouble["remedy"] else trouble["what"]
            stdout.print(Text.assemble("  ", (f"{trouble['name']}: ", style), said), soft_wrap=True)
    usable = sum(record["usable"] for record in records)
    stdout.print(f"{usable} of {len(records)} usable")


def _holding(holds: Mapping[str, Any]) -> list[str]:
    height, width = holds["size_px"]
    black = ", ".join(f"{level:g}" for level in dict.fromkeys(holds["black_dn"]))
    bits = f" {holds['bits_used']} bits," if holds["bits_used"] else ""
    levels = "of the file" if holds["own_levels"] else "as told or assumed"
    words = [f"{width} x {height} {holds['cfa']},{bits} black {black}, white {holds['white_dn']:g} {levels}"]
    words += [" ".join(filter(None, (holds["maker"], holds["model"], holds["lens"])))]
    if _is_known(holds["exposure_s"]):
        words.append(f"{holds['exposure_s']:g} s")
    units = {"iso": "ISO {:g}", "f_number": "f/{:g}", "focal_mm": "{:g} mm", "focus_m": "focused at {:g} m"}
    words += [form.format(holds["setting"][key]) for key, form in units.items() if key in holds["setting"]]
    if _is_known(holds["pitch_um"]):
        words.append(f"pixels of {holds['pitch_um']:.3g} um")
    return [word for word in (*words, "colour matrix" if holds["xyz_to_camera"] else "") if word]


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
