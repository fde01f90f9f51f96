"""A drawing as PDF 1.6 (see ISO 32000-1): one page, one stream of paths, and Helvetica, which every reader has.

It is written by hand. A figure library draws charts of data: it would place points by its own transforms, hint lines
to pixels and bring megabytes of fonts, whereas a page of rectangles and circles needs a dozen operators, which can be
read in the file in millimetres. Readers are asked not to scale the page when they print it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from calib.prints.drawing import Drawing, Label, Shapes, number

POINTS_PER_MM = 72 / 25.4
ROUND = 0.5522847498  # 4 (sqrt 2 - 1) / 3: a quarter of a circle as a cubic, true to 0.03 % of its radius
PRINT_AS_IT_IS = "/ViewerPreferences << /PrintScaling /None >>"


def pdf_of(drawing: Drawing) -> bytes:
    """Write a drawing as PDF; the same drawing is the same file."""
    size = f"{drawing.width_mm * POINTS_PER_MM:.5f} {drawing.height_mm * POINTS_PER_MM:.5f}"
    stream = zlib.compress("\n".join(_content(drawing)).encode("ascii"), 9)
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {PRINT_AS_IT_IS} >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {size}] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>",
        f"<< /Length {len(stream)} /Filter /FlateDecode >>\nstream\n",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        f"<< /Title {_text(drawing.title)} /Producer (psfbank) >>",
    ]
    out, places = bytearray(b"%PDF-1.6\n%\xe2\xe3\xcf\xd3\n"), []
    for i, body in enumerate(objects, start=1):
        places.append(len(out))
        content = body.encode("ascii") + (stream + b"\nendstream" if body.endswith("stream\n") else b"")
        out += f"{i} 0 obj\n".encode("ascii") + content + b"\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    count = len(objects) + 1
    trailer = f"<< /Size {count} /Root 1 0 R /Info 6 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    out += f"xref\n0 {count}\n0000000000 65535 f \n{table}trailer\n{trailer}".encode("ascii")
    return bytes(out)


def _content(drawing: Drawing) -> Iterator[str]:
    """Operators of the page, in millimetres from its top left corner."""
    scale = f"{POINTS_PER_MM:.10f}"
    yield f"{scale} 0 0 -{scale} 0 {drawing.height_mm * POINTS_PER_MM:.5f} cm"
    for layer in drawing.layers:
        yield "1 g" if layer.white else "0 g"
        yield from _path(layer)
        yield "f"
    yield "0 g"
    for label in drawing.labels:
        yield _line(label)


def _path(layer: Shapes) -> Iterator[str]:
    for quad in layer.quads_mm.tolist():
        (left, top), _, (right, bottom), _ = quad
        if quad == [[left, top], [right, top], [right, bottom], [left, bottom]]:
            yield f"{number(left)} {number(top)} {number(right - left)} {number(bottom - top)} re"
            continue
        first, *others = (f"{number(x)} {number(y)}" for x, y in quad)
        yield " ".join([f"{first} m", *(f"{point} l" for point in others), "h"])
    for x, y, diameter in layer.discs_mm.tolist():
        r, k = diameter / 2, ROUND * diameter / 2
        quarters = (
            ((r, k), (k, r), (0, r)),
            ((-k, r), (-r, k), (-r, 0)),
            ((-r, -k), (-k, -r), (0, -r)),
            ((k, -r), (r, -k), (r, 0)),
        )
        curves = (" ".join(f"{number(x + u)} {number(y + v)}" for u, v in quarter) + " c" for quarter in quarters)
        yield f"{number(x + r)} {number(y)} m {' '.join(curves)} h"


def _line(label: Label) -> str:
    # the page's y runs down: letters are turned over once more
    place = f"1 0 0 -1 {number(label.x_mm)} {number(label.y_mm)} Tm"
    return f"BT /F {number(label.size_mm)} Tf {place} {_text(label.text)} Tj ET"


def _text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
    return f"({escaped})"
