"""JSON and NPZ: a calibration's parts under the names of its own types, for programs that read neither HDF5 nor us."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from psfbank.canonical import canonical_json, json_ready
from psfbank.model import Calibration, Camera


def json_text(camera: Camera, calibration: Calibration) -> str:
    """Write camera and calibration as one JSON object: everything but the kernels; NaN as null.

    Arrays are nested lists in the order of their axes, as `psfbank.model` gives them.
    """
    parts = _plain(calibration)
    if parts["psf_grid"] is not None:
        del parts["psf_grid"]["kernels"]
    return (
        json.dumps(json_ready({"camera": _plain(camera), **_brief(parts)}), ensure_ascii=False, allow_nan=False) + "\n"
    )


def npz_bytes(camera: Camera, calibration: Calibration) -> bytes:
    """Pack camera and calibration as a compressed NPZ without pickles: "psf_grid.kernels", "distortion.knots_x", ..

    Parts that there are none of are left out; `provenance` is JSON text.
    """
    parts = _plain(calibration)
    parts["provenance"] = canonical_json(parts["provenance"]).decode()
    arrays = _flat({"camera": _plain(camera), **parts})
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, by their fields, all the way down."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def _brief(value: Any) -> Any:
    """Numbers of 32 bits as the shortest that round to them, where Python would write all digits of their double."""
    if isinstance(value, Mapping):
        return {key: _brief(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        short = [float(str(number)) for number in value.ravel()]
        return np.array(short).reshape(value.shape)
    return value


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        elif value is not None:
            flat[f"{before}{name}"] = np.asarray(value)
    return flat
