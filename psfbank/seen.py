"""What the observations say of every tile's PSF: how well they are explained, and what is left of them."""

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
