"""A drawing as SVG 1.1, a user unit a millimetre."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from calib.prints.drawing import Drawing, Shapes, number


def svg_of(drawing: Drawing) -> str:
    """Write a drawing as SVG."""
    width, height = number(drawing.width_mm), number(drawing.height_mm)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" version="1.1" width="{width}mm" height="{height}mm" '
        f'viewBox="0 0 {width} {height}">',
        f"<title>{escape(drawing.title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for layer in drawing.layers:
        lines += [f'<g fill="{"#fff" if layer.white else "#000"}">', *_shapes(layer), "</g>"]
    lines += [
        f'<text x="{number(label.x_mm)}" y="{number(label.y_mm)}" font-size="{number(label.size_mm)}" '
        f'font-family="Helvetica, Arial, sans-serif">{escape(label.text)}</text>'
        for label in drawing.labels
    ]
    return "\n".join([*lines, "</svg>", ""])


def _shapes(layer: Shapes) -> Iterator[str]:
    if len(layer.quads_mm):  # one path, so that shapes which share a side show no seam
        quads = ("M" + "L".join(f"{number(x)} {number(y)}" for x, y in quad) + "Z" for quad in layer.quads_mm.tolist())
        yield '<path d="' + "\n".join(quads) + '"/>'
    for x, y, diameter in layer.discs_mm.tolist():
        yield f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(diameter / 2)}"/>'
