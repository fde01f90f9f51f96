"""The page itself: sections in their order, each of figures and the numbers beside them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from calib.plots.bank import FIGURES, Measured
from calib.plots.style import require_writable, svg_of
from calib.progress import Report, silent
from calib.report import numbers
from calib.report.explorer import explorer_data, field_map
from calib.report.html import embedded, nested_table, table, text
from calib.report.verdict import Verdict, verdict_of
from calib.report.words import ABSENT, CAPTIONS
from calib.summary import calibration_summary
from psfbank.bank import PsfBank
from psfbank.errors import MissingPartError, ReportError
from psfbank.files import appearing_whole
from psfbank.model import Calibration

SUFFIXES = (".html", ".htm")
MOST_WARNINGS = 20
SECTIONS = (  # anchor, heading, figures
    ("psf", "PSFs", ("psf", "encircled-energy")),
    ("mtf", "MTF", ("mtf50", "mtf", "mtf50-height")),
    ("distortion", "Distortion", ("distortion", "uncertainty")),
    ("lateral", "Lateral colour", ("lateral-colour",)),
    ("wavefront", "Wavefront", ("zernike", "wavefront", "aberrations")),
    ("sensor", "Noise and shading", ("noise", "shading")),
    ("validation", "Validation", ("chi2", "residuals", "edges")),
)
PROVENANCE = "provenance"


def report_html(
    bank: PsfBank, calibration: Calibration, origin: Mapping[str, str] | None = None, report: Report = silent
) -> tuple[str, Verdict]:
    """Make the page of one calibration of a bank.

    Parameters
    ----------
    bank : PsfBank
    calibration : Calibration
        Of that bank, as `PsfBank.at` chooses or interpolates it.
    origin : mapping, optional
        Where the bank is from, for the list of provenance: its file's name, its digest ...
    report : callable

    Returns
    -------
    page : str
        Below 3 MB however many tiles there are; the same each time. Nothing in it is loaded from elsewhere, and every
        string of the bank is escaped.
    verdict : Verdict
    """
    report("measure", 0, 1)
    measured = Measured(calibration, bank.camera.size_px)
    comparable = calibration.edges is not None and calibration.psf_grid is not None
    summary = calibration_summary(calibration, bank.camera, measured.predicted_mtf50_cpp if comparable else None)
    verdict = verdict_of(measured, summary)
    report("measure", 1, 1)
    body = [_top(bank, calibration, verdict)]
    for done, (anchor, heading, kinds) in enumerate(SECTIONS, start=1):
        report("draw", done, len(SECTIONS))
        inside = _explorer(measured) if anchor == "psf" and calibration.psf_grid is not None else ""
        inside += numbers.of_section(anchor, summary, measured) + _figures(anchor, kinds, measured)
        body.append(f'<section id="{anchor}"><h2>{heading}</h2>\n{inside}</section>')
    body.append(_provenance(bank, calibration, origin or {}))
    return _page(_name(bank), "\n".join(body), runs=calibration.psf_grid is not None), verdict


def write_report(
    path: Path,
    bank: PsfBank,
    calibration: Calibration,
    origin: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
    report: Report = silent,
) -> Verdict:
    """Write the page that `report_html` makes; ReportError when the file exists already or cannot be written."""
    require_writable(path, overwrite, SUFFIXES)
    page, verdict = report_html(bank, calibration, origin, report)
    with appearing_whole(path, ReportError) as file:
        file.write(page.encode())
    return verdict


def _name(bank: PsfBank) -> str:
    camera = bank.camera
    return text(" ".join(w for w in (camera.maker, camera.model, camera.lens, camera.serial) if w) or "unnamed camera")


def _top(bank: PsfBank, calibration: Calibration, verdict: Verdict) -> str:
    height, width = bank.camera.size_px
    setting = ", ".join(f"{key} {value:g}" for key, value in calibration.setting.known().items())
    anchors = [*((anchor, heading) for anchor, heading, _ in SECTIONS), (PROVENANCE, "Settings and provenance")]
    items = [f"<li>{text(warning)}</li>" for warning in verdict.warnings[:MOST_WARNINGS]]
    if len(verdict.warnings) > MOST_WARNINGS:
        items.append(f"<li>… and {len(verdict.warnings) - MOST_WARNINGS} more</li>")
    return f"""<header><h1>{_name(bank)}</h1>
<p class="faint">{width} x {height} px of {bank.camera.pitch_um:g} µm, {text(bank.camera.cfa)}; {
        text(setting or "its only setting")
    }</p>
<p class="verdict{" wary" if verdict.warnings else ""}" id="verdict">{text(verdict.line())}</p>
{f'<ul class="warnings">{"".join(items)}</ul>' if items else ""}
<nav>{"".join(f'<a href="#{anchor}">{heading}</a>' for anchor, heading in anchors)}</nav></header>"""


def _figures(anchor: str, kinds: tuple[str, ...], measured: Measured) -> str:
    """Draw a section's figures; what is missing is said, once for a section that lacks all."""
    drawn, lacking = [], []
    for kind in kinds:
        try:
            svg = svg_of(FIGURES[kind](measured))
        except MissingPartError as error:
            lacking.append(f'<p class="absent">Left out: {text(error.what)}.</p>')
            continue
        drawn.append(f'<figure id="figure-{kind}">{svg}<figcaption>{CAPTIONS[kind]}</figcaption></figure>')
    if not drawn:
        return f'<p class="absent">Left out. {ABSENT[anchor]}</p>'
    return "\n".join([*drawn, *lacking])


def _explorer(measured: Measured) -> str:
    data = explorer_data(measured)
    channels = [text(channel) for channel in data["channels"]]
    psfs = "".join(
        f'<div>{channel}<canvas id="linear-{channel}"></canvas><canvas id="logarithmic-{channel}"></canvas></div>'
        for channel in channels
    )
    bars = '<svg id="bars" viewBox="0 0 480 300" role="img" aria-label="Zernike coefficients"></svg>'
    bars = bars if data["zernike"] else ""
    return f"""<h3>At a place in the field</h3>
<p class="faint">Point at a tile to look, click to stay there; arrow keys move. Tiles are coloured by MTF50{
        " of green" if "G" in channels else ""
    }; PSFs are linear above, logarithmic below, {data["size"] / data["perPx"]:.0f} px wide, on one scale.</p>
<div id="explorer"><div>{field_map(measured, data)}{_place_table(data)}</div>
<div><output id="place"></output><div id="psfs">{psfs}</div>
<svg id="curves" viewBox="0 0 480 192" role="img" aria-label="MTF curves"></svg>{
        bars if data["zernike"] else ""
    }</div></div>
<script type="application/json" id="data">{embedded(data)}</script>"""


def _place_table(data: Mapping[str, Any]) -> str:
    rows = ["MTF50 sagittal [cycles/px]", "MTF50 tangential [cycles/px]"]
    rows += ["radius of 50 % of the light [px]", "radius of 80 % of the light [px]"]
    if data["zernike"]:
        rows += ["RMS wavefront error [nm]", "Strehl ratio"]
    rows += ["expected relative PSF error", "observations", "flags"]
    empty = [""] * len(data["channels"])
    return f'<div id="figures">{table(["", *data["channels"]], [[row, *empty] for row in rows])}</div>'


def _provenance(bank: PsfBank, calibration: Calibration, origin: Mapping[str, str]) -> str:
    shown = next((k for k, c in enumerate(bank.calibrations) if c is calibration), None)
    parts = ("psf_grid", "wavefront", "distortion", "illumination", "noise", "evidence", "edges")
    settings = [
        [
            f"{k + 1}{' (this report)' if k == shown else ''}",
            ", ".join(f"{key} {value:g}" for key, value in c.setting.known().items()) or "the only one",
            ", ".join(part.replace("_grid", "") for part in parts if getattr(c, part) is not None),
        ]
        for k, c in enumerate(bank.calibrations[:100])
    ]
    between = "" if shown is not None else "<p>This report is of a setting between those that were calibrated.</p>"
    told = dict(calibration.provenance)
    details = "".join(_details(key, told.pop(key)) for key in ("summary", "inputs", "plan", "versions") if key in told)
    return f"""<section id="{PROVENANCE}"><h2>Settings and provenance</h2>
{table(["setting", "is", "holds"], settings, numbers=False)}{between}
{nested_table({**origin, **told})}{details}</section>"""


def _details(key: str, value: object) -> str:
    # open, so that print has it; a reader folds it away
    inside = nested_table(value if isinstance(value, Mapping | list | tuple) else {key: value})
    return f"<details open><summary>{text(key)}</summary>{inside}</details>"


def _page(name: str, body: str, runs: bool) -> str:
    """Wrap a body: style and script within, and a policy that lets the browser run and load nothing else."""
    css, js = (files("calib.report").joinpath(file).read_text("utf-8") for file in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(js.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>PSF bank: {name}</title>
<style>{css}</style></head>
<body>
{body}
{f"<script>{js}</script>" if runs else ""}
</body></html>
"""
