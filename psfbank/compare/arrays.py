"""Difference maps as a file of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from psfbank.compare.calibrations import Comparison
from psfbank.errors import ExportError
from psfbank.files import appearing_whole


def save_maps(comparison: Comparison, path: Path, overwrite: bool = False) -> None:
    """Write the maps of a comparison as a compressed NPZ, atomically.

    ExportError when the suffix is another, or the file exists or cannot be written.
    """
    if path.suffix.lower() != ".npz":
        raise ExportError("difference maps go into .npz", where=str(path), remedy="Name the file like that")
    if path.exists() and not overwrite:
        raise ExportError("the output exists", where=str(path), remedy="Say --overwrite to replace it")
    maps: dict[str, Any] = dict(comparison.maps)
    with appearing_whole(path, ExportError) as file:
        np.savez_compressed(file, allow_pickle=False, **maps)
