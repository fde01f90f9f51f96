"""From what the sensor reads to a picture, and back: linear light as float32, white = 1.

`subtract_black`, `white_balance`, `demosaic`, `apply_matrix` (camera to linear sRGB), `tone_map`, `jpeg`, in
this order. `Development` holds the numbers of the steps between mosaic and picture; `process` takes them, `unprocess`
takes them back, so that an ordinary photograph becomes the light that a camera would have seen.
"""

from __future__ import annotations

from psfbank.isp.colour import (
    SRGB_TO_XYZ,
    XYZ_TO_SRGB,
    apply_matrix,
    camera_to_srgb,
    daylight_gains,
    known_cameras,
    read_matrices,
    sample_colour_matrix,
    srgb_to_camera,
)
from psfbank.isp.demosaic import Method, demosaic
from psfbank.isp.development import Development, camera_light, process, sample_development, unprocess
from psfbank.isp.jpeg import Subsampling, encode_jpeg, jpeg
from psfbank.isp.levels import subtract_black, white_balance
from psfbank.isp.tone import Filmic, Smoothstep, Srgb, Tone, srgb_decode, srgb_encode, tone_map, tone_unmap

__all__ = [
    "SRGB_TO_XYZ",
    "XYZ_TO_SRGB",
    "Development",
    "Filmic",
    "Method",
    "Smoothstep",
    "Srgb",
    "Subsampling",
    "Tone",
    "apply_matrix",
    "camera_light",
    "camera_to_srgb",
    "daylight_gains",
    "demosaic",
    "encode_jpeg",
    "jpeg",
    "known_cameras",
    "process",
    "read_matrices",
    "sample_colour_matrix",
    "sample_development",
    "srgb_decode",
    "srgb_encode",
    "srgb_to_camera",
    "subtract_black",
    "tone_map",
    "tone_unmap",
    "unprocess",
    "white_balance",
]
