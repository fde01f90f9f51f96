"""Which camera a bank is of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psfbank.arrays import require_finite, require_shape

CFA_PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG", "mono", "RGB")
Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Camera:
    """One physical camera: `size_px` is (H, W), `cfa` the colours of the top-left 2 x 2 sites, or "mono", or "RGB".

    `xyz_to_camera` (3, 3) takes CIE XYZ to R, G and B of the camera, its row r the channel r: ColorMatrix of DNG 1.4,
    rgb_xyz_matrix of LibRaw; None where unknown. Kept as nested tuples, so that cameras compare and hash.
    """

    maker: str
    model: str
    size_px: tuple[int, int]
    cfa: str = "RGGB"
    serial: str = ""
    lens: str = ""
    pitch_um: float = float("nan")
    xyz_to_camera: Matrix | None = None

    def __post_init__(self) -> None:
        if self.cfa not in CFA_PATTERNS:
            raise ValueError(f"`cfa` must be one of {', '.join(CFA_PATTERNS)}, got {self.cfa!r}")
        if len(self.size_px) != 2 or min(self.size_px) < 1:
            raise ValueError(f"`size_px` must be (H, W), both positive, got {self.size_px}")
        if self.xyz_to_camera is not None:
            matrix = np.asarray(self.xyz_to_camera, dtype=np.float64)
            require_shape(matrix, "xyz_to_camera", (3, 3))
            require_finite(matrix, "xyz_to_camera")
            if self.cfa == "mono" or abs(np.linalg.det(matrix)) < 1e-9:
                raise ValueError("`xyz_to_camera` must be invertible, and a monochrome camera has none")
            object.__setattr__(self, "xyz_to_camera", tuple(map(tuple, matrix.tolist())))

    @property
    def channels(self) -> tuple[str, ...]:
        """("R", "G", "B"), or ("Y",) of a monochrome sensor."""
        return ("Y",) if self.cfa == "mono" else ("R", "G", "B")
