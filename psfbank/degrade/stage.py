"""What every degradation is, and what all of them need: guards, a convolution, and their description as text."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.errors import ImageError

Image = npt.NDArray[np.float32]


class Degradation(Protocol):
    """A frozen dataclass of parameters that turns a picture into a worse one."""

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade a picture.

        Parameters
        ----------
        image : (H, W) or (H, W, C) float
            Linear light, white = 1.
        rng : Generator
            All that is random comes from it; what is not leaves it alone.

        Returns
        -------
        float32
            Of the same shape, unless it is a down-sampling.

        Raises
        ------
        ImageError
            When the picture has another shape, or holds values that are not finite.
        """
        ...

    def describe(self) -> str:
        """Give name and parameters in one line, as `psfbank.degrade.parse` reads them."""
        ...


def admitted(image: npt.ArrayLike) -> Image:
    """Take a picture (H, W) or (H, W, C) as float32; ImageError when it is none or not finite."""
    light = np.asarray(image, dtype=np.float32)
    if light.ndim not in (2, 3) or light.size == 0:
        raise ImageError(f"a picture is (H, W) or (H, W, C), got {np.shape(image)}")
    if not np.isfinite(light).all():
        raise ImageError(f"the picture holds {int(np.sum(~np.isfinite(light)))} values that are not finite")
    return light


def name_of(kind: type) -> str:
    """Name of a degradation in text: `CameraShake` is "camera_shake"."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def described(degradation: Any) -> str:
    """Write a degradation as `name:parameter=value,...`, all of its digits, so that it can be made again."""
    values = [f"{f.name}={as_text(getattr(degradation, f.name))}" for f in fields(degradation)]
    return ":".join([name_of(type(degradation)), *([",".join(values)] if values else [])])


def as_text(value: object) -> str:
    """Write a parameter: a tuple with slashes, a truth value as `true` or `false`."""
    if isinstance(value, tuple):
        return "/".join(map(as_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def require_within(degradation: Any, **bounds: tuple[float, float]) -> None:
    """Raise ValueError unless parameters are finite and within (least, most), both included; tuples value by value."""
    for name, (least, most) in bounds.items():
        value = getattr(degradation, name)
        for one in value if isinstance(value, tuple) else (value,):
            if not least <= one <= most or not np.isfinite(one):
                of = name_of(type(degradation))
                raise ValueError(f"`{name}` of {of} must lie between {least:g} and {most:g}, got {one}")


def require_choice(degradation: Any, name: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless a parameter is one of these words."""
    if getattr(degradation, name) not in choices:
        of = name_of(type(degradation))
        raise ValueError(f"`{name}` of {of} must be one of {', '.join(choices)}, got {getattr(degradation, name)!r}")


def convolved(image: Image, kernel: FloatArray) -> Image:
    """Convolve each channel of a picture with a kernel, its centre in the middle; beyond the edge lies a mirror image.

    Parameters
    ----------
    image : (H, W) or (H, W, C) float32
    kernel : (K, L) float
        K and L odd. It is the image of a point: its right is the picture's right.

    Returns
    -------
    float32, shape of `image`
    """
    turned = np.ascontiguousarray(kernel[::-1, ::-1], dtype=np.float32)  # OpenCV correlates
    planes = image[..., None] if image.ndim == 2 else image
    out = np.empty_like(planes)
    for c in range(planes.shape[2]):
        plane = np.ascontiguousarray(planes[..., c])
        out[..., c] = cv2.filter2D(plane, -1, turned, borderType=cv2.BORDER_REFLECT)
    return out.reshape(image.shape)
