"""`psfbank targets`: charts to print or to show on a display."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from calib.commands._console import log, print_json, progress
from calib.commands._options import AsJson, Overwrite, Seed, size_of

if TYPE_CHECKING:
    from calib.prints.chart import Chart
    from calib.prints.sheet import Sheet

TAKES = {  # what of the options below each kind of chart understands
    "led": ("pitch_mm", "diameter_mm", "template"),
    "edge": ("square_mm", "pitch_mm", "angle_deg"),
    "chessboard": ("columns", "rows", "square_mm"),
    "charuco": ("columns", "rows", "square_mm", "marker_mm", "dictionary"),
    "noise": ("cell_mm",),
    "screen": (),
}
PRINT_DPI, MM_PER_INCH = 300.0, 25.4
LEAST_POINT_PX = 3.0  # across a point, to be printed round
PATTERN = "noise-pattern.png"  # of a display's pictures


def targets(
    kind: Annotated[
        Literal["led", "edge", "chessboard", "charuco", "noise", "screen"],
        typer.Argument(metavar="KIND", help="led, edge, chessboard, charuco, noise; or screen: all for a display."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="A file (.pdf, .svg, .png); a folder for screen.")],
    page: Annotated[str, typer.Option(metavar="NAME|WxH", help="A4 to A0, Letter, or a size in mm.")] = "A4",
    portrait: Annotated[bool, typer.Option("--portrait", help="Upright; charts lie by default.")] = False,
    dpi: Annotated[float | None, typer.Option(help="Of a page as PNG; 300 by default.", min=50, max=2400)] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="A display's pixels, in place of a page.")] = None,
    pixel_um: Annotated[
        float | None, typer.Option("--pixel-um", help="From one pixel of the display to the next.", min=1)
    ] = None,
    columns: Annotated[int | None, typer.Option(help="Inner corners a row of a board.", min=1)] = None,
    rows: Annotated[int | None, typer.Option(help="Inner corners a column of a board.", min=1)] = None,
    square_mm: Annotated[float | None, typer.Option(help="Of a board, or slanted squares.", min=0.1)] = None,
    marker_mm: Annotated[float | None, typer.Option(help="Of a ChArUco board's markers.", min=0.1)] = None,
    dictionary: Annotated[str | None, typer.Option(help="OpenCV's name of the markers' dictionary.")] = None,
    pitch_mm: Annotated[float | None, typer.Option(help="Between points, or slanted squares.", min=0.1)] = None,
    diameter_mm: Annotated[float | None, typer.Option(help="Of points.", min=0.01)] = None,
    template: Annotated[bool, typer.Option("--template", help="Crosses on white, to prick pin-holes by.")] = False,
    angle_deg: Annotated[float | None, typer.Option(help="Turn of slanted squares; 5 by default.")] = None,
    cell_mm: Annotated[float | None, typer.Option(help="Side of a cell of noise.", min=0.1)] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Draw a chart to scale, as large as the page allows, and print what capture.toml says of it.

    The last lines printed are an entry for capture.toml; put your captures where its `files` says, or change that.
    """
    given = {
        "columns": columns, "rows": rows, "square_mm": square_mm, "marker_mm": marker_mm, "dictionary": dictionary,
        "pitch_mm": pitch_mm, "diameter_mm": diameter_mm, "template": template or None, "angle_deg": angle_deg,
        "cell_mm": cell_mm,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    _require_meant(kind, given, out, size, pixel_um, dpi)

    from calib.prints.sheet import display
    from calib.prints.sheet import page as page_of

    if size is not None and pixel_um is not None:
        height, width = size_of(size)
        sheet = display(width, height, pixel_um)
    else:
        sheet = page_of(page, portrait)
    outputs = [_Output(path, pattern, chart) for path, pattern, chart in _drawn(kind, sheet, given, seed, out)]
    _require_place(kind, out, outputs, overwrite)
    pixel_mm = sheet.pixel_mm or MM_PER_INCH / (dpi or PRINT_DPI)
    if kind == "led" and out.suffix.lower() == ".png" and not (sheet.is_display or template):
        _warn_of_faint(outputs[0].chart, pixel_mm)
    _save(outputs, pixel_mm)
    if as_json:
        page_mm = [sheet.width_mm, sheet.height_mm]
        print_json({"sheet": sheet.name, "size_mm": page_mm, "files": [output.as_dict() for output in outputs]})
    else:
        _print(outputs, sheet.is_display)


@dataclass(frozen=True, eq=False)
class _Output:
    """A chart, its file, and that of its noise pattern where it has one."""

    path: Path
    pattern: Path | None
    chart: Chart

    def as_dict(self) -> dict[str, Any]:
        """Describe it as JSON does; `capture` is an entry of capture.toml but for `files`, null for no target."""
        pattern = {"pattern": self.pattern.name} if self.pattern else {}
        capture = {"kind": self.chart.kind, **pattern, **self.chart.geometry} if self.chart.kind else None
        shown = str(self.pattern) if self.pattern else None
        return {"file": str(self.path), "pattern": shown, "text": self.chart.text, "capture": capture}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _require_meant(
    kind: str, given: Mapping[str, Any], out: Path, size: str | None, pixel_um: float | None, dpi: float | None
) -> None:
    """Refuse options that this kind of chart, or of output, does not take."""
    if others := [_option(name) for name in given if name not in TAKES[kind]]:
        known = ", ".join(map(_option, TAKES[kind])) or "none of these options"
        raise typer.BadParameter(f"{kind} takes {known}", param_hint=", ".join(others))
    numbers = {**given, "pixel_um": pixel_um, "dpi": dpi}
    if wild := [_option(name) for name, value in numbers.items() if isinstance(value, float) and not isfinite(value)]:
        raise typer.BadParameter("it must be a finite number", param_hint=", ".join(wild))
    if (size is None) != (pixel_um is None):
        what = "a display needs both: its pixels, and the width of its lit area over their number"
        raise typer.BadParameter(what, param_hint="--size, --pixel-um")
    if kind == "screen" and size is None:
        raise typer.BadParameter("give those of the display", param_hint="--size, --pixel-um")
    suffix = out.suffix.lower()
    allowed = (".png",) if size else (".pdf", ".svg", ".png")
    if kind != "screen" and suffix not in allowed:
        raise typer.BadParameter(f"{out.name} does not end in {', '.join(allowed)}", param_hint="--out")
    if dpi is not None and (size or suffix != ".png"):
        raise typer.BadParameter("only a page as PNG has a resolution of its own", param_hint="--dpi")


def _drawn(
    kind: str, sheet: Sheet, given: Mapping[str, Any], seed: int, out: Path
) -> Iterator[tuple[Path, Path | None, Chart]]:
    """Draw what is asked for, and say into which files it goes."""
    import numpy as np

    from calib.prints.boards import charuco_chart, chessboard_chart
    from calib.prints.patterns import edges_chart, noise_chart
    from calib.prints.points import points_chart
    from calib.prints.screens import screens

    rng = np.random.default_rng(seed)
    if kind == "screen":
        for name, chart in screens(sheet, rng).items():
            yield out / f"{name}.png", None if chart.pattern is None else out / PATTERN, chart
    elif kind == "noise":
        yield out, out.with_name(f"{out.stem}-pattern.png"), noise_chart(sheet, rng, **given)
    elif kind == "led":
        yield out, None, points_chart(sheet, **given)
    elif kind == "edge":
        yield out, None, edges_chart(sheet, **given)
    elif kind == "chessboard":
        yield out, None, chessboard_chart(sheet, **given)
    else:
        yield out, None, charuco_chart(sheet, **given)


def _require_place(kind: str, out: Path, outputs: Sequence[_Output], overwrite: bool) -> None:
    """Refuse to replace files unasked, and places where there can be none."""
    files = [file for output in outputs for file in (output.path, output.pattern) if file]
    if there := [file for file in files if file.exists() and not (overwrite and file.is_file())]:
        what = f"{there[0]} exists; choose another name or say --overwrite"
        raise typer.BadParameter(what if there[0].is_file() else f"{there[0]} is a folder", param_hint="--out")
    if kind == "screen" and out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file; screen writes into a folder", param_hint="--out")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {out.parent}; make it first", param_hint="--out")
    if kind == "screen":
        out.mkdir(exist_ok=True)


def _save(outputs: Sequence[_Output], pixel_mm: float) -> None:
    from calib.prints.save import save_drawing, save_pattern

    with progress() as report:
        for done, output in enumerate(outputs):
            if len(outputs) > 1 or output.path.suffix.lower() == ".png":
                report("drawing", done, len(outputs))
            save_drawing(output.chart.drawing, output.path, pixel_mm)
            if output.pattern is not None and output.chart.pattern is not None:
                save_pattern(output.chart.pattern, output.pattern)


def _warn_of_faint(chart: Chart, pixel_mm: float) -> None:
    """Say when a page's pixels are too coarse for its points."""
    across = float(chart.geometry["diameter_mm"]) / pixel_mm
    if across < LEAST_POINT_PX:
        log.warning("points are %.1f pixels wide, and come out grey: write a PDF, or give more --dpi", across)


def _print(outputs: Sequence[_Output], on_display: bool) -> None:
    """Say what is in each file, as comments of capture.toml, and its entry: one for pictures of like geometry."""
    from calib.prints.chart import capture_entry

    if not on_display:
        typer.echo("# Print at 100 %; if the rulers are x mm long, not 100, multiply the millimetres below by x / 100")
    told: list[tuple[str, Mapping[str, Any]]] = []
    for output in outputs:
        chart = output.chart
        typer.echo(f"# {output.path}: {chart.text}")
        if (chart.kind, chart.geometry) in told:
            continue
        told.append((chart.kind, chart.geometry))
        typer.echo(f"# {chart.hint}")
        if chart.kind:
            pattern = output.pattern.name if output.pattern else ""
            typer.echo(capture_entry(chart, f"{chart.kind}/*.dng", pattern))
