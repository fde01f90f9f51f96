"""JPEG of a picture in linear light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from psfbank import isp
from psfbank.degrade.stage import Image, admitted, described, require_choice, require_within
from psfbank.errors import ImageError


@dataclass(frozen=True)
class Jpeg:
    """Encodes by the curve of sRGB, compresses, decompresses, decodes; `toned` pictures have been encoded already."""

    quality: int = 75
    subsampling: isp.Subsampling = "4:2:0"
    toned: bool = False

    def __post_init__(self) -> None:
        require_within(self, quality=(0, 100))
        require_choice(self, "subsampling", get_args(isp.Subsampling))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`; ImageError unless the picture is grey or RGB."""
        light = admitted(image)
        if light.shape[2:] not in ((), (1,), (3,)):
            raise ImageError(f"JPEG is grey or RGB, got a picture {light.shape}")
        plain = light[..., 0] if light.shape[2:] == (1,) else light
        values = np.clip(plain, 0, 1) if self.toned else isp.srgb_encode(plain)
        left = isp.jpeg(values, self.quality, self.subsampling)
        return np.asarray(left if self.toned else isp.srgb_decode(left), dtype=np.float32).reshape(light.shape)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)
