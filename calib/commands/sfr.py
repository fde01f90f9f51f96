"""`psfbank sfr`: slanted edges of any picture, measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from calib.commands._console import fail, log, print_json
from calib.commands._options import AsJson, Overwrite

if TYPE_CHECKING:
    from calib.edge.measure import MeasuredEdge

Region = tuple[int, int, int, int]
_FULL: Literal["full"] = "full"


def sfr(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures with slanted edges.")],
    roi: Annotated[
        str | None,
        typer.Option(metavar="X,Y,W,H|full", help="Region of one edge, px; full: all of the picture."),
    ] = None,
    mode: Annotated[
        Literal["accurate", "iso"], typer.Option(help="iso: the steps of ISO 12233:2023, to compare with other tools.")
    ] = "accurate",
    channel: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Measure this channel alone; repeat for more.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one row an edge.", dir_okay=False)] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the curves (.png, .pdf, .svg).", dir_okay=False)
    ] = None,
    annotate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the edges over their picture.", dir_okay=False)
    ] = None,
    cfa: Annotated[
        Literal["RGGB", "BGGR", "GRBG", "GBRG", "mono"] | None, typer.Option(help="Colours of a mosaic's sites.")
    ] = None,
    pitch_um: Annotated[float | None, typer.Option(help="Pixel pitch, for lp/mm.", min=0.01)] = None,
    black_level: Annotated[float | None, typer.Option(help="DN without light.")] = None,
    white_level: Annotated[float | None, typer.Option(help="DN at which samples saturate.")] = None,
    assume_srgb: Annotated[bool, typer.Option("--assume-srgb", help="The pictures are sRGB: decode them.")] = False,
    assume_linear: Annotated[bool, typer.Option("--assume-linear", help="The pictures are linear light.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Measure the sharpness of slanted edges: SFR, MTF50 and what stands against each.

    Pictures of 8 bits are measured as stored and flagged, unless one of the --assume options says what they are.
    """
    from calib.commands._edges import edge_records, print_edges, write_csv
    from calib.edge.measure import measure_picture
    from psfbank.errors import PsfBankError

    if assume_srgb and assume_linear:
        raise typer.BadParameter("a picture is either sRGB or linear", param_hint="--assume-srgb, --assume-linear")
    if annotate and len(images) > 1:
        raise typer.BadParameter("one picture at a time can be drawn over", param_hint="--annotate")
    _require_writable({"--csv": csv, "--plot": plot, "--annotate": annotate}, overwrite)
    region = _region(roi)
    edges: list[MeasuredEdge] = []
    records = []
    failed = False
    for image in images:
        try:
            found = measure_picture(
                image,
                roi=region,
                mode=mode,
                channels=channel,
                cfa=cfa,
                black_dn=black_level,
                white_dn=white_level,
                encoding="srgb" if assume_srgb else "linear" if assume_linear else "as-stored",
            )
        except PsfBankError as error:
            fail(error, str(error))
            failed = True
            continue
        edges += found
        records += edge_records(found, image, pitch_um=pitch_um)
    if records:
        if csv:
            write_csv(csv, records)
        _draw(edges, images[0], plot, annotate)
        if as_json:
            print_json({"edges": records})
        else:
            print_edges(records)
    if failed:
        raise typer.Exit(1)


def _region(roi: str | None) -> Region | Literal["full"] | None:
    if roi is None:
        return None
    if roi == _FULL:
        return _FULL
    try:
        x, y, width, height = (int(word) for word in roi.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{roi} is neither x,y,w,h nor full", param_hint="--roi") from error
    if min(x, y) < 0 or min(width, height) < 1:
        raise typer.BadParameter(f"{roi} is no region: x, y from 0 and w, h from 1", param_hint="--roi")
    return x, y, width, height


def _require_writable(outputs: dict[str, Path | None], overwrite: bool) -> None:
    """Refuse before the work what would fail after it."""
    for option, path in outputs.items():
        if path is None:
            continue
        if path.exists() and not overwrite:
            raise typer.BadParameter(f"{path} exists; choose another name or say --overwrite", param_hint=option)
        if not path.parent.is_dir():
            raise typer.BadParameter(f"there is no folder {path.parent}; make it first", param_hint=option)
        if option != "--csv":
            from calib.plots import SUFFIXES

            if path.suffix.lower() not in SUFFIXES:
                raise typer.BadParameter(f"{path.name} must end in {', '.join(SUFFIXES)}", param_hint=option)


def _draw(edges: Sequence[MeasuredEdge], image: Path, plot: Path | None, annotate: Path | None) -> None:
    if not (plot or annotate):
        return
    from calib.capture import read_picture
    from calib.plots import annotated_picture, save_figure, sfr_figure

    if plot:
        save_figure(sfr_figure(edges), plot)
        log.info("%s written", plot)
    if annotate:
        save_figure(annotated_picture(read_picture(image).dn, edges), annotate)
        log.info("%s written", annotate)
