"""How far a model of another program lands from our map: measured where its fit did not look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.measure import points_in_poly

from psfbank.arrays import FloatArray
from psfbank.errors import ExportError
from psfbank.model import DistortionMap

PLACES = 40  # along the longer side of the picture
BORDER = 16  # places on each side of the valid region
FEWEST = 50  # places that a fit needs

Array = npt.NDArray[np.float64]
Predict = Callable[[FloatArray], Array]  # rays (N, 2) -> pixels (N, 2)


@dataclass(frozen=True)
class Loss:
    """Distances of a model from our map in one channel, over the valid region: RMS and largest, pixels.

    `coverage` is the share of the valid region that the model can hold at all.
    """

    channel: str
    rms_px: float
    max_px: float
    coverage: float = 1.0


@dataclass(frozen=True, eq=False)
class Places:
    """Pixels (N, 2) of the valid region and the rays (N, 2) that land there; `coverage` is the share that has one.

    The first `inner` are spread evenly; those behind them are on the region's border, where models are worst.
    """

    xy_px: Array
    rays: Array
    inner: int
    coverage: float


def lattice(size_px: tuple[int, int], shift: float) -> Array:
    """Places (N, 2) px, evenly spaced over a picture (H, W): middles of cells at 0.5, their corners at 0."""
    step = max(size_px) / PLACES
    lines = []
    for n in size_px:
        cells = max(2, round(n / step))
        at = np.arange(cells) + shift if shift else np.arange(cells + 1)
        lines.append(np.clip(at * n / cells - 0.5, 0, n - 1))
    return np.stack(np.meshgrid(lines[1], lines[0]), axis=-1).reshape(-1, 2)


def fitted(distortion: DistortionMap, size_px: tuple[int, int], channel: str) -> Places:
    """Places for a fit; ExportError when too little of the picture is known."""
    return _places(distortion, channel, lattice(size_px, 0.5), np.zeros((0, 2)))


def reserved(distortion: DistortionMap, size_px: tuple[int, int], channel: str) -> Places:
    """Places half-way between those of the fit, and on the valid region's border, for the loss."""
    corners = np.clip(distortion.valid_region, 0, np.array(size_px[::-1]) - 1.0)
    part = np.linspace(0, 1, BORDER, endpoint=False)[:, None]
    border = [a + part * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)]
    return _places(distortion, channel, lattice(size_px, 0.0), np.concatenate(border))


def _places(distortion: DistortionMap, channel: str, inner_px: Array, border_px: Array) -> Places:
    inside = points_in_poly(inner_px, distortion.valid_region)  # type: ignore[no-untyped-call]
    inner_px = inner_px[inside]
    xy_px = np.concatenate([inner_px, border_px])
    rays = distortion.unproject(xy_px, channel)
    seen = np.asarray(np.isfinite(rays).all(axis=1))
    inner = int(seen[: len(inner_px)].sum())
    if inner < FEWEST:
        raise ExportError(
            f"the distortion map of channel {channel} is valid in too little of the picture to be exported",
            remedy="Calibrate with more boards, that cover the picture",
        )
    return Places(xy_px[seen], rays[seen], inner, inner / len(inner_px))


def loss_of(predict: Predict, places: Places, channel: str) -> Loss:
    """Compare what a model predicts with what our map says: RMS over even places, largest over all."""
    off_px = np.linalg.norm(predict(places.rays) - places.xy_px, axis=1)
    rms_px = float(np.sqrt(np.mean(off_px[: places.inner] ** 2)))
    return Loss(channel, rms_px, float(off_px.max()), places.coverage)


def exported_channels(distortion: DistortionMap, channel: str) -> tuple[str, ...]:
    """Name all channels of a map, the one that leads first."""
    lead = distortion.channels[0] if len(distortion.channels) == 1 else channel
    return (lead, *(c for c in distortion.channels if c != lead))
