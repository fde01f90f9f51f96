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
    """Pixels (N, 2) of the valid region and the rays (N, 2) that land there; `coverage` is the share that has one."""

    xy_px: Array
    rays: Array
    coverage: float

    @classmethod
    def of(cls, distortion: DistortionMap, size_px: tuple[int, int], channel: str, shift: float) -> Places:
        """Lay a square lattice over the picture, moved by a share of its spacing, and keep what is known there.

        ExportError when too little of the picture is known.
        """
        xy_px = lattice(size_px, shift)
        xy_px = xy_px[points_in_poly(xy_px, distortion.valid_region)]  # type: ignore[no-untyped-call]
        rays = distortion.unproject(xy_px, channel)
        seen = np.isfinite(rays).all(axis=1)
        if seen.sum() < FEWEST:
            raise ExportError(
                f"the distortion map of channel {channel} is valid in too little of the picture to be exported",
                remedy="Calibrate with more boards, that cover the picture",
            )
        return cls(xy_px[seen], rays[seen], float(seen.mean()))


def lattice(size_px: tuple[int, int], shift: float) -> Array:
    """Places (N, 2) px over a picture (H, W), evenly spaced, from its outer edge on when `shift` is 0."""
    step = max(size_px) / PLACES
    rows, columns = (np.arange(shift * step, n, step) - 0.5 for n in size_px)
    return np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)


def fitted(distortion: DistortionMap, size_px: tuple[int, int], channel: str) -> Places:
    """Places for a fit."""
    return Places.of(distortion, size_px, channel, 0.5)


def reserved(distortion: DistortionMap, size_px: tuple[int, int], channel: str) -> Places:
    """Places half-way between those of the fit, out to the picture's edges, for the loss."""
    return Places.of(distortion, size_px, channel, 0.0)


def loss_of(predict: Predict, places: Places, channel: str) -> Loss:
    """Compare what a model predicts with what our map says."""
    off_px = np.linalg.norm(predict(places.rays) - places.xy_px, axis=1)
    return Loss(channel, float(np.sqrt(np.mean(off_px**2))), float(off_px.max()), places.coverage)


def exported_channels(distortion: DistortionMap, channel: str) -> tuple[str, ...]:
    """Name all channels of a map, the one that leads first."""
    lead = distortion.channels[0] if len(distortion.channels) == 1 else channel
    return (lead, *(c for c in distortion.channels if c != lead))
