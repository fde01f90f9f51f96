"""What the observations say: how well PSFs explain them, what slanted edges show, how sure a distortion map is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from psfbank.arrays import (
    FloatArray,
    IntArray,
    by_constructor,
    freeze,
    require_finite,
    require_increasing,
    require_shape,
)
from psfbank.distortion import basis

WIDEST_RESIDUAL_PX = 21
HIGHEST_MTF = 10.0  # sharpened pictures exceed 1, by far less
BLOCK = 16384  # places at which a map's modes are evaluated at once


@dataclass(frozen=True, eq=False)
class PsfEvidence:
    """How the images nearest to each node of a grid agree with the fitted PSFs; NaN where there are none.

    `chi2_used` and `chi2_reserved` (C, Ty, Tx) are per sample, of the images that the fit used and of the `n_reserved`
    that it did not see. `asymmetry` (C, Ty, Tx) is the rise of chi2 per image when each kernel is replaced by its
    centrally symmetric part. `residual` (C, Ty, Tx, P, P) float32, P odd, is the mean of data minus model over a tile's
    images of points, about the pixel nearest to the light, as a share of the model's peak; 0 where nothing was seen.
    """

    x_px: FloatArray
    y_px: FloatArray
    chi2_used: FloatArray
    chi2_reserved: FloatArray
    n_reserved: IntArray
    asymmetry: FloatArray
    residual: FloatArray
    channels: tuple[str, ...] = ("R", "G", "B")

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, np.float64, x_px="Tx", y_px="Ty")
        freeze(self, np.float32, chi2_used="C,Ty,Tx", chi2_reserved="C,Ty,Tx", asymmetry="C,Ty,Tx")
        freeze(self, np.float32, residual="C,Ty,Tx,P,P")
        freeze(self, np.int32, n_reserved="C,Ty,Tx")
        require_increasing(self.x_px, "x_px")
        require_increasing(self.y_px, "y_px")
        tiles = (len(self.channels), len(self.y_px), len(self.x_px))
        for name in ("chi2_used", "chi2_reserved", "n_reserved", "asymmetry"):
            require_shape(getattr(self, name), name, tiles)
            if np.any(np.isinf(getattr(self, name))):
                raise ValueError(f"`{name}` must be finite, or NaN where there are no images")
        for name in ("chi2_used", "chi2_reserved", "n_reserved"):
            if np.any(getattr(self, name) < 0):
                raise ValueError(f"`{name}` must not be negative")
        width = self.residual.shape[-1]
        require_shape(self.residual, "residual", (*tiles, width, width))
        if width % 2 == 0 or width > WIDEST_RESIDUAL_PX:
            raise ValueError(f"`residual` must have an odd width up to {WIDEST_RESIDUAL_PX}, got {width}")
        require_finite(self.residual, "residual")


@dataclass(frozen=True, eq=False)
class EdgeResponses:
    """Modulation transfer across N slanted edges, each in one channel, as the captures show it.

    `xy_px` (N, 2) is an edge's middle, `angle_rad` (N,) the direction of its normal, which points to the bright side,
    from x towards y; `channel` (N,) the number of its channel in `channels`. `mtf` (N, F) float32 is the modulation
    transfer along the normal at `freq_cpp` (F,), cycles/pixel, lens and pixel together, 1 at 0; `mtf_std` (N, F) its
    standard deviation. `mtf50_cpp` (N,) is where it falls to a half, with its standard deviation `mtf50_std_cpp` (N,).
    Standard deviations are NaN where none was estimated, MTF50 where the transfer stays above a half. `flags` (N,)
    holds `Flag` bits.
    """

    xy_px: FloatArray
    angle_rad: FloatArray
    channel: IntArray
    freq_cpp: FloatArray
    mtf: FloatArray
    mtf_std: FloatArray
    mtf50_cpp: FloatArray
    mtf50_std_cpp: FloatArray
    flags: IntArray
    channels: tuple[str, ...] = ("R", "G", "B")

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, np.float64, xy_px="N,2", angle_rad="N", freq_cpp="F", mtf50_cpp="N", mtf50_std_cpp="N")
        freeze(self, np.float32, mtf="N,F", mtf_std="N,F")
        freeze(self, np.int32, channel="N")
        freeze(self, np.uint16, flags="N")
        count = len(self.xy_px)
        for name in ("angle_rad", "channel", "mtf50_cpp", "mtf50_std_cpp", "flags"):
            require_shape(getattr(self, name), name, (count,))
        require_increasing(self.freq_cpp, "freq_cpp")
        for name in ("mtf", "mtf_std"):
            require_shape(getattr(self, name), name, (count, len(self.freq_cpp)))
        for name in ("xy_px", "angle_rad", "mtf"):
            require_finite(getattr(self, name), name)
        for name in ("freq_cpp", "channel", "mtf", "mtf_std", "mtf50_cpp", "mtf50_std_cpp"):
            if np.any(getattr(self, name) < 0) or np.any(np.isinf(getattr(self, name))):
                raise ValueError(f"`{name}` must be finite and not negative, or NaN where it is not known")
        if np.any(self.mtf > HIGHEST_MTF):
            raise ValueError(f"`mtf` must not exceed {HIGHEST_MTF:g}, got {float(self.mtf.max()):.3g}")
        if np.any(self.channel >= len(self.channels)):
            raise ValueError(f"`channel` must be below {len(self.channels)}, got {int(self.channel.max())}")

    def __len__(self) -> int:
        return len(self.xy_px)


@dataclass(frozen=True, eq=False)
class MapUncertainty:
    """The covariance of a distortion map's projection, and how well it predicted views that it had not seen.

    `modes` (C, R, 2, Ny, Nx) px are R displacement fields of each channel, splines on the map's own knots, that vary
    independently with unit variance: the covariance of the projection between two places is the sum of their outer
    products there. Rotations of the whole frame, which no picture of targets tells, are not part of it.
    `heldout_rms_px` is the 2-D residual of views left out of the fit in turn, their poses fitted; NaN when unknown.
    """

    modes: FloatArray
    heldout_rms_px: float = float("nan")

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, np.float32, modes="C,R,2,Ny,Nx")
        require_finite(self.modes, "modes")
        if self.heldout_rms_px < 0 or np.isinf(self.heldout_rms_px):
            raise ValueError(f"`heldout_rms_px` must not be negative, or NaN when unknown, got {self.heldout_rms_px}")

    def displacements(
        self, u: FloatArray, knots_x: FloatArray, knots_y: FloatArray, channel: int
    ) -> npt.NDArray[np.float64]:
        """Evaluate one channel's fields at stereographic directions (N, 2): (N, R, 2) px."""
        first_x, value_x, _ = basis(knots_x, u[:, 0])
        first_y, value_y, _ = basis(knots_y, u[:, 1])
        ny, nx = self.modes.shape[-2:]
        column = (first_y * nx + first_x)[:, None] + (nx * np.arange(4)[:, None] + np.arange(4)).ravel()
        value = (value_y[:, :, None] * value_x[:, None, :]).reshape(-1, 16)
        rows = np.arange(0, 16 * len(u) + 1, 16)
        design = sparse.csr_array((value.ravel(), column.ravel(), rows), shape=(len(u), ny * nx))
        fields = self.modes[channel].astype(np.float64).reshape(-1, ny * nx)
        return np.asarray(design @ fields.T).reshape(len(u), -1, 2)

    def sigma(self, u: FloatArray, knots_x: FloatArray, knots_y: FloatArray, channel: int) -> npt.NDArray[np.float64]:
        """Give the standard deviation (N, 2) px of one channel's projection in x and y at directions (N, 2)."""
        out = np.full(u.shape, np.nan)
        known = np.flatnonzero(np.isfinite(u).all(axis=1))
        for start in range(0, len(known), BLOCK):
            part = known[start : start + BLOCK]
            out[part] = np.sqrt(np.sum(self.displacements(u[part], knots_x, knots_y, channel) ** 2, axis=1))
        return out
