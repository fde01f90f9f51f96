"""Barrel, pincushion and fisheye deformation of a picture about its centre, filtered where it shrinks.

Radii are in half diagonals of the picture: 1 is a corner. A lens with distortion images what a pinhole would put at
radius r at r (1 + k1 r^2 + k2 r^4), the radial terms of Brown (Photogrammetric Engineering 32, 444, 1966).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.degrade.stage import Image, admitted, described, require_choice, require_within
from psfbank.resample import resample

BEYOND = ("mirror", "black")  # what lies outside the picture
PROJECTIONS = ("equidistant", "equisolid", "stereographic", "orthographic")
FARTHEST, TABLE = 3.0, 16384  # radius up to which a distortion is tabulated, where it does not fold before
LEAST_SLOPE = 0.02  # of a distortion within the picture; zero is a fold
Radial = Callable[[FloatArray], npt.NDArray[np.float64]]


def deformed(image: Image, source_radius: Radial, beyond: str) -> Image:
    """Read a picture at other radii about its centre.

    Parameters
    ----------
    image : (H, W) or (H, W, C) float32
    source_radius : callable
        Of radii in the new picture, half diagonals, to radii in the old one.
    beyond : one of `BEYOND`

    Returns
    -------
    float32, shape of `image`
    """
    height, width = image.shape[:2]
    centre, half_diagonal = np.array([width - 1, height - 1]) / 2, np.hypot(width, height) / 2

    def positions(y: FloatArray, x: FloatArray) -> FloatArray:
        off_x, off_y = x - centre[0], y[:, None] - centre[1]
        radius = np.sqrt(off_x**2 + off_y**2) / half_diagonal + 1e-9  # the centre has no direction
        stretch = source_radius(radius) / radius
        return np.stack([centre[0] + off_x * stretch, centre[1] + off_y * stretch], axis=-1)

    planes = image[..., None] if image.ndim == 2 else image
    out = np.stack([resample(planes[..., c], positions, (height, width)) for c in range(planes.shape[2])], axis=-1)
    if beyond == "black":
        at = positions(np.arange(height, dtype=np.float64), np.arange(width, dtype=np.float64))
        out[np.any((at < -0.5) | (at > np.array([width, height]) - 0.5), axis=-1)] = 0
    return out.reshape(image.shape)


def undistorted_radius(k1: float, k2: float) -> Radial:
    """Inverse of r (1 + k1 r^2 + k2 r^4) from 0 to the corner; ValueError when it folds over before that."""
    ideal = np.linspace(0, FARTHEST, TABLE)
    distorted = np.polyval([k2, 0, k1, 0, 1, 0], ideal)
    folds = np.polyval([5 * k2, 0, 3 * k1, 0, 1], ideal) < LEAST_SLOPE
    end = int(np.argmax(folds)) if folds.any() else TABLE
    if distorted[end - 1] < 1:
        raise ValueError(f"a distortion of k1 = {k1:g}, k2 = {k2:g} folds over before it reaches the corners")
    return lambda radius: np.interp(radius, distorted[:end], ideal[:end])


@dataclass(frozen=True)
class Barrel:
    """A distortion that pulls the picture in, the more the farther out: k1 r^2 + k2 r^4 is negative at the corner."""

    k1: float = -0.1
    k2: float = 0.0
    beyond: str = "mirror"

    def __post_init__(self) -> None:
        require_within(self, k1=(-1, 1), k2=(-1, 1))
        require_choice(self, "beyond", BEYOND)
        if self.k1 + self.k2 > 0:
            raise ValueError(f"k1 + k2 = {self.k1 + self.k2:g} is a pincushion, not a barrel: take a negative k1")
        undistorted_radius(self.k1, self.k2)

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        return deformed(admitted(image), undistorted_radius(self.k1, self.k2), self.beyond)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)


@dataclass(frozen=True)
class Pincushion:
    """A distortion that draws the picture out, the more the farther out: k1 r^2 + k2 r^4 is positive at the corner."""

    k1: float = 0.1
    k2: float = 0.0
    beyond: str = "mirror"

    def __post_init__(self) -> None:
        require_within(self, k1=(-1, 1), k2=(-1, 1))
        require_choice(self, "beyond", BEYOND)
        if self.k1 + self.k2 < 0:
            raise ValueError(f"k1 + k2 = {self.k1 + self.k2:g} is a barrel, not a pincushion: take a positive k1")
        undistorted_radius(self.k1, self.k2)

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        return deformed(admitted(image), undistorted_radius(self.k1, self.k2), self.beyond)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)


@dataclass(frozen=True)
class Fisheye:
    """What a fisheye makes of a pinhole's picture of `field_deg` from corner to corner; its corners stay.

    A ray at angle t lands at a radius in proportion to t ("equidistant"), 2 sin(t / 2) ("equisolid"), 2 tan(t / 2)
    ("stereographic") or sin(t) ("orthographic"). The centre is enlarged, the rim shrinks; nothing is black.
    """

    field_deg: float = 120.0
    projection: str = "equidistant"

    def __post_init__(self) -> None:
        require_within(self, field_deg=(1, 170))
        require_choice(self, "projection", PROJECTIONS)

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        return deformed(admitted(image), self.source_radius, "mirror")

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)

    def source_radius(self, radius: FloatArray) -> npt.NDArray[np.float64]:
        """Radius in the pinhole's picture of a radius in the fisheye's, half diagonals."""
        corner = np.radians(self.field_deg / 2)
        if self.projection == "equidistant":
            angle = radius * corner
        elif self.projection == "equisolid":
            angle = 2 * np.arcsin(np.minimum(radius * np.sin(corner / 2), 1))
        elif self.projection == "stereographic":
            angle = 2 * np.arctan(radius * np.tan(corner / 2))
        else:
            angle = np.arcsin(np.minimum(radius * np.sin(corner), 1))
        return np.asarray(np.tan(np.minimum(angle, np.radians(89))) / np.tan(corner))
