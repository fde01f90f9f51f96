"""The numbers beside a section's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from calib.plots.bank import Measured
from calib.plots.mtf import heights
from calib.report.html import number, table, text
from calib.report.words import SIGNS_OPEN
from calib.summary import ACROSS, LABELS
from psfbank.metrics import strehl_ratio


def of_section(anchor: str, summary: Mapping[str, Any], measured: Measured) -> str:
    """Write the tables of a section; "" where there is nothing to tell."""
    return {
        "psf": lambda: _psf(summary),
        "mtf": lambda: _mtf(measured),
        "distortion": lambda: _distortion(summary, measured),
        "lateral": lambda: _by_channel(
            summary["distortion"], ("lateral_rms_px", "lateral_max_px", "lateral_max_percent")
        ),
        "wavefront": lambda: _wavefront(summary, measured),
        "sensor": lambda: _sensor(summary),
        "validation": lambda: _by_channel(summary["evidence"]) + _by_channel(summary["edges"]),
    }[anchor]()


def _by_channel(part: Mapping[str, Any] | None, names: tuple[str, ...] | None = None) -> str:
    """Tabulate a part's figures, a column a channel; rows without any are left out."""
    if part is None:
        return ""
    figures = {name: part["by_channel"][name] for name in names or part["by_channel"]}
    known = {name: values for name, values in figures.items() if any(number(value) for value in values.values())}
    if not known:
        return ""
    channels = list(next(iter(known.values())))
    return table(["by channel", *channels], [[LABELS[name], *values.values()] for name, values in known.items()])


def _psf(summary: Mapping[str, Any]) -> str:
    psf = summary["psf"]
    if psf is None:
        return ""
    (rows, columns), width = psf["tiles"], psf["kernel_px"]
    flags = {word: None for counts in psf["flags"].values() for word in counts}
    flagged = [
        [f"tiles flagged {flag.replace('_', ' ')}", *(counts.get(flag, 0) for counts in psf["flags"].values())]
        for flag in flags
    ]
    return (
        f"<p>{columns} x {rows} tiles; kernels {width:.3g} px wide, {psf['oversample']} samples a pixel.</p>"
        + _by_channel(psf)
        + table(["flags", *psf["flags"]], flagged)
    )


def _mtf(measured: Measured) -> str:
    if measured.calibration.psf_grid is None:
        return ""
    field = measured.mtf
    j, i = np.unravel_index(np.argmin(heights(field, measured.size_px)), field.mtf50_cpp.shape[1:3])
    rows = []
    for k, name in enumerate(("sagittal", "tangential")):
        values = field.mtf50_cpp[..., k]
        rows.append([f"MTF50 {name}, middle [cycles/px]", *values[:, j, i].tolist()])
        for word, of in (("median", np.median), ("lowest", np.min)):
            told = [float(of(v[np.isfinite(v)])) if np.isfinite(v).any() else math.nan for v in values]
            rows.append([f"MTF50 {name}, {word} [cycles/px]", *told])
    return table(["by channel", *field.channels], rows)


def _distortion(summary: Mapping[str, Any], measured: Measured) -> str:
    told = summary["distortion"]
    if told is None or measured.calibration.distortion is None:
        return ""
    (fx, fy), (cx, cy) = told["focal_px"], told["centre_px"]
    across, down, corner = (told["fov_deg"][name] for name in ACROSS)
    tv, worst = told["tv_percent"], told["iso_17850_worst"]
    sure = measured.calibration.distortion.uncertainty
    session = measured.calibration.provenance.get("summary")
    session = session.get("distortion") if isinstance(session, Mapping) else None
    counts = session if isinstance(session, Mapping) else {}
    rows: list[list[object]] = [
        ["focal length across, down [px]", f"{fx:.2f}, {fy:.2f}"],
        ["principal point x, y [px]", f"{cx:.2f}, {cy:.2f}"],
        ["field of view across, down, from corner to corner [°]", f"{across:.2f}, {down:.2f}, {corner:.2f}"],
        ["TV distortion (SMIA) across, down [%]", f"{tv['horizontal']:.2f}, {tv['vertical']:.2f}"],
        ["largest local distortion (ISO 17850) [%]", f"{worst['percent']:.2f} at {worst['height']:.2f} of the height"],
        ["residual RMS of views left out of the fit [px]", math.nan if sure is None else sure.heldout_rms_px],
        *([name, counts[name]] for name in ("views", "points", "outliers") if isinstance(counts.get(name), int)),
    ]
    shown = [[name, value] for name, value in rows if "nan" not in number(value) and number(value)]
    note = "<p>A registration of one grid's own plane: focal length and field of view are conventions.</p>"
    return table((), shown) + _by_channel(told, ("rms_px",)) + (note if told["registration"] else "")


def _wavefront(summary: Mapping[str, Any], measured: Measured) -> str:
    wavefront = measured.calibration.wavefront
    if wavefront is None:
        return ""
    strehl = [
        float(np.median(strehl_ratio(c, wavefront.nm, float(w))))
        for c, w in zip(wavefront.coefficients_nm, wavefront.wavelength_nm, strict=True)
    ]
    session = measured.calibration.provenance.get("summary")
    session = session.get("psf") if isinstance(session, Mapping) else None
    is_open = isinstance(session, Mapping) and session.get("signs_are_known") is False
    return (
        f"<p>{len(wavefront.nm)} Zernike terms at f/{text(f'{wavefront.f_number:.4g}')}.</p>"
        + _by_channel(summary["wavefront"])
        + table(["by channel", *wavefront.channels], [["Strehl ratio, median", *strehl]])
        + (f"<p>{SIGNS_OPEN}</p>" if is_open else "")
    )


def _sensor(summary: Mapping[str, Any]) -> str:
    of_speeds = [
        [f"{LABELS[name]} at ISO {at['iso']:g}", *at["by_channel"][name].values()]
        for at in summary["noise_by_iso"] or ()
        for name in ("gain_dn_per_e", "read_noise_e")
    ]
    channels = summary["noise"]["by_channel"]["gain_dn_per_e"] if summary["noise"] else ()
    return (
        _by_channel(summary["noise"])
        + table(["by ISO speed", *channels], of_speeds)
        + _by_channel(summary["illumination"])
    )
