"""Charts to files: the format follows the suffix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from calib.prints.drawing import Drawing
from calib.prints.pdf import pdf_of
from calib.prints.raster import rasterise
from calib.prints.svg import svg_of
from psfbank.arrays import BoolArray
from psfbank.errors import TargetError
from psfbank.files import appearing_whole

SUFFIXES = (".pdf", ".svg", ".png")
MM_PER_INCH = 25.4


def save_drawing(drawing: Drawing, path: Path, pixel_mm: float) -> None:
    """Write a drawing; `pixel_mm` is the side of a PNG's pixels.

    Raises
    ------
    ValueError
        When the suffix is none of `SUFFIXES`.
    TargetError
        When a PNG would have too many pixels, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == ".png":
        values = rasterise(drawing, pixel_mm)
        dpi = MM_PER_INCH / pixel_mm
        with appearing_whole(path, TargetError) as file:
            Image.fromarray(values).save(file, format="PNG", dpi=(dpi, dpi))
        return
    if suffix not in SUFFIXES:
        raise ValueError(f"`path` must end in one of {', '.join(SUFFIXES)}, got {path.name}")
    content = pdf_of(drawing) if suffix == ".pdf" else svg_of(drawing).encode("utf-8")
    with appearing_whole(path, TargetError) as file:
        file.write(content)


def save_pattern(pattern: BoolArray, path: Path) -> None:
    """Write a noise target's pattern (rows, columns) as PNG, one pixel a cell, black where it holds True."""
    with appearing_whole(path, TargetError) as file:
        Image.fromarray(np.where(pattern, 0, 255).astype(np.uint8)).save(file, format="PNG")
