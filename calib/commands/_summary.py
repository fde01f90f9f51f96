"""What a bank holds, as lines and a table on the screen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from calib.commands._console import stdout
from calib.summary import ACROSS, CAPTURED, LABELS, PARTS


def print_bank(summary: Mapping[str, Any]) -> None:
    """Print a bank's summary as a few lines and a table with one column a channel for every setting."""
    camera = summary["camera"]
    name = " ".join(camera[key] for key in ("maker", "model", "lens", "serial") if camera[key])
    height, width = camera["size_px"]
    stdout.print(f"{name or 'unnamed camera'}: {width} x {height} px of {camera['pitch_um']:g} um, {camera['cfa']}")
    for calibration in summary["calibrations"]:
        _print_calibration(calibration, camera["channels"])


def _print_calibration(calibration: Mapping[str, Any], channels: tuple[str, ...]) -> None:
    setting = ", ".join(f"{name} {value:g}" for name, value in calibration["setting"].items())
    stdout.print(f"\nsetting: {setting or 'the only one'}")
    if axis := calibration["axis"]:
        stdout.print(f"one of several along {axis['key']}, between which banks interpolate")
        if math.isfinite(axis["left_out_px"]):
            stdout.print(
                f"left out, its map is predicted to {axis['left_out_px']:.3g} px; its own held-out error is "
                f"{axis['heldout_px']:.3g} px"
            )
    if psf := calibration["psf"]:
        rows, columns = psf["tiles"]
        width, oversample = psf["kernel_px"], psf["oversample"]
        stdout.print(f"PSF: {columns} x {rows} tiles, kernels {width:.3g} px wide, {oversample} samples a pixel")
    if distortion := calibration["distortion"]:
        (fx, fy), (cx, cy) = distortion["focal_px"], distortion["centre_px"]
        stdout.print(f"distortion: focal length {fx:.1f}, {fy:.1f} px, centre {cx:.1f}, {cy:.1f} px")
        _print_distortion_figures(distortion)
    if wavefront := calibration["wavefront"]:
        stdout.print(f"wavefront: {wavefront['terms']} Zernike terms at f/{wavefront['f_number']:g}")
    table = _table(calibration, channels)
    if table.row_count:
        stdout.print(table)
    if missing := [part for part in CAPTURED if calibration[part] is None]:
        stdout.print(f"not captured: {', '.join(missing)}")
    for key, value in calibration["provenance"].items():
        stdout.print(f"{key}: {value}")


def _print_distortion_figures(distortion: Mapping[str, Any]) -> None:
    if distortion["registration"]:
        stdout.print("a registration of one grid's own plane: focal length and field of view are conventions")
    across, down, corner = (distortion["fov_deg"][name] for name in ACROSS)
    if not math.isnan(across + down + corner):
        stdout.print(f"field of view: {across:.1f} degrees across, {down:.1f} down, {corner:.1f} from corner to corner")
    tv, worst = distortion["tv_percent"], distortion["iso_17850_worst"]
    if not math.isnan(tv["horizontal"] + tv["vertical"]):
        stdout.print(f"TV distortion (SMIA): {tv['horizontal']:.2f} % across, {tv['vertical']:.2f} % down")
    if not math.isnan(worst["percent"]):
        percent, height = worst["percent"], worst["height"]
        stdout.print(f"local distortion (ISO 17850): up to {percent:.2f} %, at {height:.2f} of half the diagonal")


def _table(calibration: Mapping[str, Any], channels: tuple[str, ...]) -> Table:
    table = Table()
    table.add_column("by channel")
    for channel in channels:
        table.add_column(channel, justify="right")
    rows = [
        (LABELS[name], values)
        for part in PARTS
        for name, values in ((calibration[part] or {}).get("by_channel") or {}).items()
    ]
    rows += [
        (f"{LABELS[name]} at ISO {at['iso']:g}", at["by_channel"][name])
        for at in calibration["noise_by_iso"] or ()
        for name in ("gain_dn_per_e", "read_noise_e")
    ]
    for label, values in rows:
        if not all(math.isnan(value) for value in values.values()):
            known = (values[channel] for channel in channels)
            table.add_row(label, *("" if math.isnan(value) else f"{value:.4g}" for value in known))
    for flag in {word: None for counts in _flag_counts(calibration) for word in counts}:
        table.add_row(f"tiles flagged {flag}", *(str(counts.get(flag, 0)) for counts in _flag_counts(calibration)))
    return table


def _flag_counts(calibration: Mapping[str, Any]) -> list[dict[str, int]]:
    return list(calibration["psf"]["flags"].values()) if calibration["psf"] else []
