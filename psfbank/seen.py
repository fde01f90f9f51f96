"""What the observations say: how well the PSF of every tile explains them, and what was measured on slanted edges."""

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

WIDEST_RESIDUAL_PX = 21
HIGHEST_MTF = 10.0  # sharpened pictures exceed 1, by far less


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
