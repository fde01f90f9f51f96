"""psfbank: what a lens and a sensor do to light, and how to replay it.

Conventions, everywhere:

- Images are `[row, col]`, linear light, float32 unless raw. Points are `(x, y)` pixels; (0, 0) is the centre of the
  top-left pixel, +x right, +y down. Rays are (x/z, y/z), z forward.
- A kernel is the image of a point: convolve, never correlate. It is the effective PSF (optics, pixel aperture, charge
  diffusion, low-pass filter), sums to one, is never negative, and has its intensity centroid on the array centre.
  Every displacement, lateral colour included, lives in the distortion map.
- Zernike coefficients describe the optics only, orthonormal, nm RMS, beside their (n, m) table.
- A finer image of scale s has samples centred at (i - (s - 1) / 2) / s pixels.
- Field names carry units: `x_px`, `opd_nm`, `pitch_um`, `focal_mm`, `freq_cpp`, `gain_dn_per_e`.
- Randomness (`rng`) and parallelism (`executor`) are arguments; a result never depends on the number of workers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psfbank.bank import PsfBank as PsfBank
    from psfbank.blur import SpatiallyVaryingBlur as SpatiallyVaryingBlur
    from psfbank.simulate import Simulator as Simulator

__version__ = "0.1.0"
__all__ = ["PsfBank", "Simulator", "SpatiallyVaryingBlur", "__version__"]

_HOME = {"PsfBank": "psfbank.bank", "Simulator": "psfbank.simulate", "SpatiallyVaryingBlur": "psfbank.blur"}


def __getattr__(name: str) -> Any:
    # numpy, scipy and h5py load on first use, so that `psfbank --help` answers at once
    if name not in _HOME:
        raise AttributeError(f"module 'psfbank' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
