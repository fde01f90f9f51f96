"""Where on the sensor a picture lies, and what that part of the sensor sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.errors import ImageError
from psfbank.model import DistortionMap, channel_index
from psfbank.pixelmap import PixelMap
from psfbank.resample import resample

Fit = Literal["centre", "crop", "scale"]
Image = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """The part of a sensor that a picture covers, pixels."""

    y: int
    x: int
    height: int
    width: int


def window_of(
    shape: tuple[int, int],
    source_scale: int,
    size_px: tuple[int, int] | None,
    origin: tuple[int, int] | None = None,
) -> Window:
    """Place a picture on the sensor.

    Parameters
    ----------
    shape : (H, W)
        Of the picture.
    source_scale : int
        Its samples a sensor pixel.
    size_px : (H, W), optional
        Of the sensor; the picture is the whole of it when not given.
    origin : (y, x), optional
        Row and column of the sensor where the picture begins. By default a smaller picture lies in the middle, at an
        even row and column, so that the colours of the mosaic stay in place.

    Returns
    -------
    Window

    Raises
    ------
    ImageError
        When the picture is no whole number of pixels, or does not lie on the sensor.
    """
    if shape[0] % source_scale or shape[1] % source_scale or min(shape) < source_scale:
        raise ImageError(
            f"a picture of {shape[1]} x {shape[0]} is not a whole number of pixels at source scale {source_scale}",
            remedy=f"Crop it to multiples of {source_scale}",
        )
    height, width = (n // source_scale for n in shape)
    if origin is not None and min(origin) < 0:
        raise ImageError(f"a picture cannot begin at row {origin[0]}, column {origin[1]}")
    y, x = origin or (0, 0)
    sensor_height, sensor_width = size_px or (y + height, x + width)
    if y + height > sensor_height or x + width > sensor_width:
        where = f" from row {y}, column {x} on" if origin else ""
        raise ImageError(
            f"a picture of {shape[1]} x {shape[0]} at source scale {source_scale} covers {width} x {height} pixels"
            f"{where}, the sensor has {sensor_width} x {sensor_height}",
            remedy="Crop or shrink it (--fit crop, --fit scale), or say by a larger source scale that it is finer",
        )
    if origin is None:
        y, x = (sensor_height - height) // 4 * 2, (sensor_width - width) // 4 * 2
    return Window(y, x, height, width)


def fitted(image: Image, size_px: tuple[int, int], source_scale: int, fit: Fit) -> Image:
    """Bring a picture to what a sensor takes.

    Parameters
    ----------
    image : (H, W) or (H, W, C) float32
    size_px : (H, W)
        Of the sensor.
    source_scale : int
        Samples a sensor pixel of the picture that comes out.
    fit : "centre", "crop" or "scale"
        "centre" leaves it alone; "crop" takes the middle of what is larger than the sensor, or no whole number of
        pixels; "scale" takes the largest middle part of the sensor's shape and resamples it to cover the sensor,
        filtered where it shrinks.

    Returns
    -------
    (h, w) or (h, w, C) float32
    """
    if fit == "centre":
        return image
    height, width = image.shape[:2]
    want_height, want_width = (n * source_scale for n in size_px)
    if fit == "crop":
        keep = [min(n // source_scale * source_scale, want) for n, want in ((height, want_height), (width, want_width))]
        top, left = (height - keep[0]) // 2, (width - keep[1]) // 2
        return image[top : top + keep[0], left : left + keep[1]]
    step = min(height / want_height, width / want_width)

    def positions(y: FloatArray, x: FloatArray) -> FloatArray:
        return np.stack(
            np.meshgrid(
                (x - (want_width - 1) / 2) * step + (width - 1) / 2,
                (y - (want_height - 1) / 2) * step + (height - 1) / 2,
            ),
            axis=-1,
        )

    planes = image[..., None] if image.ndim == 2 else image
    shape = want_height, want_width
    out = np.stack([resample(planes[..., c], positions, shape) for c in range(planes.shape[2])], axis=-1)
    return np.maximum(out.reshape(*shape, *image.shape[2:]), np.float32(0))


def pinhole_map(distortion: DistortionMap, channel: str, window: Window, scale: int) -> PixelMap:
    """Say where each sample of a distorted picture comes from in the ideal one.

    Parameters
    ----------
    distortion : DistortionMap
    channel : str
    window : Window
    scale : int
        Samples a pixel of both pictures.

    Returns
    -------
    PixelMap
        Into samples of a pinhole picture of the same camera matrix and window.
    """
    # in samples of the window the same map reads: focal length times scale, centre moved, displacements times scale
    matrix = distortion.camera_matrix.copy()
    matrix[:2, 2] -= window.x, window.y
    matrix[:2] *= scale
    matrix[:2, 2] += (scale - 1) / 2
    coefficients = scale * distortion.coefficients[channel_index(distortion.channels, channel)]
    shape = (window.height * scale, window.width * scale)
    return PixelMap.of(shape, matrix, distortion.knots_x, distortion.knots_y, coefficients)
