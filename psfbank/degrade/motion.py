"""Blur of what moves while the shutter is open: the camera in a hand, an object in the scene, a turn, a zoom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from scipy import fft, ndimage

from psfbank.arrays import BoolArray, FloatArray
from psfbank.degrade import kernels
from psfbank.degrade.stage import Image, admitted, convolved, described, require_within

STEPS = 200  # of a shaken path
# at an anxiety of one: a push a step as a share of the speed, the strongest pull towards the start, the most jerks
PUSH, PULL, JERKS = 0.15, 0.3, 5.0


def shaken_path(length_px: float, anxiety: float, exposure: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Path (N, 2) of a hand-held camera's image: a walk with inertia, drawn back to its start, with sudden jerks.

    After Boracchi and Foi (IEEE Trans. Image Processing 21, 3502, 2012): at each step the velocity receives a Gaussian
    push, a pull towards the start, and now and then a jerk that turns it back, all in proportion to the anxiety; the
    speed stays the same, so the length is known.

    Parameters
    ----------
    length_px : float
        Of the path when the shutter is open for all of it.
    anxiety : float
        0 is a straight line, 1 a trembling hand.
    exposure : float
        Share of the path during which the shutter is open, from its start.
    rng : Generator
        Draws the same numbers whatever the parameters, so a path differs by its exposure only where it ends.

    Returns
    -------
    (N, 2) float64
        Pixels, x and y.
    """
    pushes, lots = rng.standard_normal((STEPS, 2)) @ [1, 1j], rng.random(STEPS)
    turns = np.exp(1j * (np.pi + rng.uniform(-0.5, 0.5, STEPS)))
    velocity, pull, jerks = np.exp(2j * np.pi * rng.random()), PULL * rng.random(), JERKS * rng.random() / STEPS
    at = np.zeros(STEPS + 1, dtype=complex)  # of a path of unit length
    for t in range(STEPS):
        change = PUSH * pushes[t] - pull * at[t]
        if lots[t] < jerks * anxiety:
            change += 2 * velocity * turns[t]
        velocity = velocity + anxiety * change
        velocity = velocity / max(abs(velocity), 1e-12)
        at[t + 1] = at[t] + velocity / STEPS
    seen = at * length_px
    last = exposure * STEPS
    whole = seen[: int(last) + 1]
    if last > int(last):
        whole = np.append(whole, seen[int(last)] + (last - int(last)) * (seen[int(last) + 1] - seen[int(last)]))
    return np.column_stack([whole.real, whole.imag])


@dataclass(frozen=True)
class CameraShake:
    """A hand that holds the camera: a path of its own for every picture, centred on its centroid; see `shaken_path`."""

    length_px: float = 12.0
    anxiety: float = 0.3
    exposure: float = 1.0

    def __post_init__(self) -> None:
        require_within(self, length_px=(0, 1000), anxiety=(0, 1), exposure=(0, 1))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        return convolved(admitted(image), self.kernel(rng))

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)

    def kernel(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draw a kernel (K, K): sums to one, centroid at the array centre."""
        return kernels.path(shaken_path(self.length_px, self.anxiety, self.exposure, rng))


@dataclass(frozen=True)
class LinearMotion:
    """Uniform motion of the whole picture along a line; the angle runs from right towards down."""

    length_px: float = 10.0
    angle_deg: float = 0.0

    def __post_init__(self) -> None:
        require_within(self, length_px=(0, 1000), angle_deg=(-360, 360))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        return convolved(admitted(image), _line(self.length_px, self.angle_deg))

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)


@dataclass(frozen=True)
class ObjectMotion:
    """Uniform motion of a round object over a background at rest.

    Its centre lies at shares of the width and height, its radius is a share of the shorter side. For an object of any
    other shape there is `region_moved`.
    """

    length_px: float = 20.0
    angle_deg: float = 0.0
    x_share: float = 0.5
    y_share: float = 0.5
    radius_share: float = 0.25

    def __post_init__(self) -> None:
        require_within(self, length_px=(0, 1000), angle_deg=(-360, 360))
        require_within(self, x_share=(0, 1), y_share=(0, 1), radius_share=(0, 2))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        light = admitted(image)
        height, width = light.shape[:2]
        y, x = np.ogrid[:height, :width]
        away = np.hypot(x + 0.5 - self.x_share * width, y + 0.5 - self.y_share * height)
        return region_moved(light, away < self.radius_share * min(height, width), self.length_px, self.angle_deg)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)


def region_moved(image: npt.ArrayLike, mask: BoolArray, length_px: float, angle_deg: float) -> Image:
    """Move a part of a picture along a line while the shutter is open; the rest stands still.

    Parameters
    ----------
    image : (H, W) or (H, W, C) float
    mask : (H, W) bool
        The part that moves. What it uncovers is taken to look like the nearest place outside.
    length_px, angle_deg : float
        As of `LinearMotion`.

    Returns
    -------
    float32, shape of `image`
    """
    light, mask = admitted(image), np.asarray(mask, dtype=bool)
    if mask.shape != light.shape[:2]:
        raise ValueError(f"`mask` must have shape {light.shape[:2]}, got {mask.shape}")
    if mask.all() or not mask.any():
        return convolved(light, _line(length_px, angle_deg)) if mask.all() else light
    opaque = mask.astype(np.float32).reshape(*mask.shape, *(1,) * (light.ndim - 2))
    behind = light[tuple(ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True))]
    kernel = _line(length_px, angle_deg)
    covered = convolved(opaque, kernel)
    return np.asarray(convolved(light * opaque, kernel) + (1 - covered) * behind, dtype=np.float32)


@dataclass(frozen=True)
class SpinBlur:
    """A turn by `angle_deg` about a place given in shares of width and height while the shutter is open.

    The picture is read in polar coordinates, where a turn is a shift: its spectrum along the angle is multiplied by the
    sinc of a uniform motion.
    """

    angle_deg: float = 5.0
    x_share: float = 0.5
    y_share: float = 0.5

    def __post_init__(self) -> None:
        require_within(self, angle_deg=(0, 360), x_share=(0, 1), y_share=(0, 1))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        light = admitted(image)
        planes = light[..., None] if light.ndim == 2 else light
        turned = [self._plane(planes[..., c]) for c in range(planes.shape[2])]
        return np.stack(turned, axis=-1).reshape(light.shape)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)

    def _plane(self, plane: Image) -> Image:
        height, width = plane.shape
        centre_x, centre_y = self.x_share * width - 0.5, self.y_share * height - 0.5
        y, x = np.mgrid[:height, :width].astype(np.float32)
        y, x = y - np.float32(centre_y), x - np.float32(centre_x)
        radius = np.hypot(x, y)
        radii = int(np.ceil(radius.max())) + 2
        angles = int(fft.next_fast_len(max(16, int(np.ceil(2 * np.pi * radii))), real=True))
        turn = (2 * np.pi / angles * np.arange(angles)).astype(np.float32)
        out = np.arange(radii, dtype=np.float32)[:, None]
        around = ndimage.map_coordinates(
            plane, [centre_y + out * np.sin(turn), centre_x + out * np.cos(turn)], order=3, mode="reflect"
        )
        share = np.sinc(np.arange(angles // 2 + 1) * self.angle_deg / 360).astype(np.float32)
        around = fft.irfft(fft.rfft(around, axis=1) * share, n=angles, axis=1)
        # rows mirrored through the centre lie half a turn on, so that radii below zero are there for the spline
        inner = np.roll(around[1:4], angles // 2, axis=1)[::-1] if angles % 2 == 0 else around[3:0:-1]
        ring = np.concatenate([inner, around])
        angle = np.mod(np.arctan2(y, x), 2 * np.float32(np.pi)) * np.float32(angles / (2 * np.pi))
        return _wrapped(ring, radius + 3, angle)


def _wrapped(ring: Image, row: FloatArray, column: FloatArray) -> Image:
    """Read a picture whose columns go round at places in it, by a cubic spline."""
    margin = 8  # a cubic spline forgets its border within
    wide = np.concatenate([ring[:, -margin:], ring, ring[:, :margin]], axis=1)
    read = ndimage.map_coordinates(wide, [row, column + margin], order=3, mode="nearest")
    return np.asarray(read, dtype=np.float32)


@dataclass(frozen=True)
class ZoomBlur:
    """A lens zoomed in by `zoom` while the shutter is open: 0.1 enlarges by a tenth, about a place in shares."""

    zoom: float = 0.1
    x_share: float = 0.5
    y_share: float = 0.5

    def __post_init__(self) -> None:
        require_within(self, zoom=(0, 10), x_share=(0, 1), y_share=(0, 1))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        light = admitted(image)
        planes = light[..., None] if light.ndim == 2 else light
        zoomed = [self._plane(np.ascontiguousarray(planes[..., c])) for c in range(planes.shape[2])]
        return np.stack(zoomed, axis=-1).reshape(light.shape)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)

    def _plane(self, plane: Image) -> Image:
        height, width = plane.shape
        # no place moves by more than a pixel from one of the steps to the next
        steps = int(np.ceil(np.log1p(self.zoom) * np.hypot(height, width))) + 1
        picture, total = Pillow.fromarray(plane), np.zeros((height, width))
        for step in range(steps):
            share = (1 + self.zoom) ** -((step + 0.5) / steps)
            left, top = self.x_share * width * (1 - share), self.y_share * height * (1 - share)
            box = (left, top, left + share * width, top + share * height)
            total += np.asarray(picture.resize((width, height), Pillow.Resampling.BICUBIC, box=box))
        return np.asarray(total / steps, dtype=np.float32)


def _line(length_px: float, angle_deg: float) -> npt.NDArray[np.float64]:
    end = length_px / 2 * np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
    return kernels.path(np.stack([-end, end]))
