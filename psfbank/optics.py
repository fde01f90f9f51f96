"""The wavefront over the field of view, and what else makes PSFs of it; validation only, `psfbank.render` renders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psfbank.arrays import (
    FloatArray,
    IntArray,
    by_constructor,
    freeze,
    require_finite,
    require_increasing,
    require_shape,
)

HIGHEST_DEGREE = 60  # of a Zernike term; far above what a lens needs, far below what takes for ever to evaluate
MOST_WAVELENGTHS = 100
LEAST_OPENING = 0.1  # pupil radii that the two stops leave open between their rims


@dataclass(frozen=True, eq=False)
class Imaging:
    """What turns a wavefront into effective PSFs: spectrum, pixel and the second stop, which cuts the pupil off axis.

    `wavelengths_nm` and `weights` (C, W) are each channel's spectrum, `diffusion_px` (C,) the sigma of the charge
    diffusion; `clip` (C, Ty, Tx, 3) holds the second stop's centre x, y and radius at each node, in pupil radii.
    """

    wavelengths_nm: FloatArray
    weights: FloatArray
    diffusion_px: FloatArray
    clip: FloatArray
    pitch_um: float

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, np.float64, wavelengths_nm="C,W", weights="C,W", diffusion_px="C", clip="C,Ty,Tx,3")
        require_shape(self.weights, "weights", self.wavelengths_nm.shape)
        for name in ("wavelengths_nm", "weights", "diffusion_px", "clip"):
            require_finite(getattr(self, name), name)
        if not 0 < self.wavelengths_nm.shape[1] <= MOST_WAVELENGTHS or not np.all(self.wavelengths_nm > 0):
            raise ValueError(f"`wavelengths_nm` must be positive, 1 to {MOST_WAVELENGTHS} a channel")
        if not np.all(self.weights >= 0) or not np.all(self.weights.sum(1) > 0):
            raise ValueError("`weights` must not be negative, and each channel's must have a positive sum")
        if not np.all(self.diffusion_px >= 0):
            raise ValueError(f"`diffusion_px` must not be negative, the least value is {self.diffusion_px.min():.3g}")
        # the opening is a concave function of (x, y, radius): wide enough at the nodes, it is so on a mix of them
        opening = 1.0 + self.clip[..., 2] - np.hypot(self.clip[..., 0], self.clip[..., 1])
        if not np.all(np.minimum(opening, 2 * self.clip[..., 2]) >= LEAST_OPENING):
            raise ValueError("`clip` must leave some of the pupil open")
        if not 0 < self.pitch_um < np.inf:
            raise ValueError(f"`pitch_um` must be positive, got {self.pitch_um}")


@dataclass(frozen=True, eq=False)
class ZernikeField:
    """Wavefront of the optics at the nodes of a grid: `coefficients_nm` (C, Ty, Tx, J) RMS, terms `nm` (J, 2).

    With `imaging` the PSFs between the nodes can be rendered; without it the wavefront is there to be looked at.
    """

    x_px: FloatArray
    y_px: FloatArray
    coefficients_nm: FloatArray
    stderr_nm: FloatArray
    nm: IntArray
    wavelength_nm: FloatArray
    f_number: float
    residual: FloatArray
    channels: tuple[str, ...] = ("R", "G", "B")
    imaging: Imaging | None = None

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, np.float64, x_px="Tx", y_px="Ty", coefficients_nm="C,Ty,Tx,J", stderr_nm="C,Ty,Tx,J")
        freeze(self, np.float64, wavelength_nm="C")
        freeze(self, np.float32, residual="C,Ty,Tx")
        freeze(self, np.int32, nm="J,2")
        tiles = (len(self.channels), len(self.y_px), len(self.x_px))
        require_shape(self.coefficients_nm, "coefficients_nm", (*tiles, len(self.nm)))
        require_shape(self.stderr_nm, "stderr_nm", (*tiles, len(self.nm)))
        require_shape(self.residual, "residual", tiles)
        require_shape(self.wavelength_nm, "wavelength_nm", (len(self.channels),))
        require_finite(self.coefficients_nm, "coefficients_nm")
        require_increasing(self.x_px, "x_px")
        require_increasing(self.y_px, "y_px")
        _require_zernike_terms(self.nm)
        if self.imaging is not None:
            require_shape(self.imaging.clip, "clip", (*tiles, 3))
            for name in ("wavelengths_nm", "diffusion_px"):
                if len(getattr(self.imaging, name)) != len(self.channels):
                    raise ValueError(f"`{name}` must hold {len(self.channels)} channels")
            if not 0 < self.f_number < np.inf:
                raise ValueError(f"`f_number` must be positive, got {self.f_number}")


def _require_zernike_terms(nm: IntArray) -> None:
    n, m = nm.T.astype(np.int64)
    valid = np.all((np.abs(m) <= n) & (n <= HIGHEST_DEGREE) & ((n - m) % 2 == 0))
    if not valid or len(np.unique(nm, axis=0)) < len(nm):
        raise ValueError(f"`nm` must hold different Zernike terms (n, m) up to degree {HIGHEST_DEGREE}")
