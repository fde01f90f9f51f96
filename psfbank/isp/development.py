"""Camera light to an sRGB picture and back, one set of numbers for both ways.

After Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019, section 3. The matrix acts on linear
light, between the gains and the tone curve, whichever way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from psfbank.arrays import require_finite, require_shape
from psfbank.camera import Matrix
from psfbank.isp.colour import apply_matrix, camera_to_srgb, daylight_gains, sample_colour_matrix
from psfbank.isp.demosaic import STRIP_PIXELS
from psfbank.isp.levels import Image
from psfbank.isp.tone import Smoothstep, Srgb, Tone, tone_map, tone_unmap

_SRGB = Srgb()
_IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Development:
    """How a camera's light becomes a picture.

    `gains` (3,) is the white balance of R, G and B; `brightness` multiplies all three; `matrix` (3, 3) takes the
    white-balanced camera to linear sRGB, its rows sum to one; `tone` is the curve. `highlights` is where `unprocess`
    begins to keep bright places bright: above this mean of the three colours gains are given back to less than their
    inverse, and at 1 not at all; 1 turns that off, and then no place of a photograph saturates the sensor.
    """

    gains: tuple[float, ...] = (1.0, 1.0, 1.0)
    matrix: Matrix = _IDENTITY
    tone: Tone = _SRGB
    brightness: float = 1.0
    highlights: float = 0.9

    def __post_init__(self) -> None:
        gains, matrix = np.asarray(self.gains, dtype=np.float64), np.asarray(self.matrix, dtype=np.float64)
        require_shape(gains, "gains", (3,))
        require_shape(matrix, "matrix", (3, 3))
        require_finite(matrix, "matrix")
        if not np.all(gains > 0) or not self.brightness > 0 or not 0 <= self.highlights <= 1:
            raise ValueError("`gains` and `brightness` must be positive, `highlights` 0..1")
        if np.abs(matrix.sum(axis=1) - 1).max() > 1e-3:
            raise ValueError("each row of `matrix` must sum to one, so that grey stays grey")
        object.__setattr__(self, "gains", tuple(gains.tolist()))
        object.__setattr__(self, "matrix", tuple(map(tuple, matrix.tolist())))

    @classmethod
    def of_camera(
        cls,
        xyz_to_camera: npt.ArrayLike,
        gains: npt.ArrayLike | None = None,
        tone: Tone = _SRGB,
        brightness: float = 1.0,
    ) -> Development:
        """Develop what a camera sees, by its matrix (3, 3) from XYZ; `gains` (3,) are those for daylight by default."""
        balance = daylight_gains(xyz_to_camera) if gains is None else np.asarray(gains, dtype=np.float64)
        matrix = camera_to_srgb(xyz_to_camera)
        return cls(tuple(balance.tolist()), tuple(map(tuple, matrix.tolist())), tone, brightness)


def process(
    light: npt.NDArray[Any], development: Development, dtype: type[np.float32] | type[np.uint8] = np.float32
) -> npt.NDArray[Any]:
    """Develop demosaiced light: gains, clip at white, matrix, clip, tone curve.

    Parameters
    ----------
    light : (H, W, 3) float
        Camera R, G, B, linear, 1 where the sensor saturates.
    development : Development
    dtype : float32 or uint8

    Returns
    -------
    (H, W, 3) float32 0..1, or uint8 0..255
        SRGB values, from the table of `tone_map`.
    """
    gains = np.asarray(development.gains) * development.brightness
    picture = np.empty(light.shape, dtype=dtype)
    for here in _strips(light.shape):
        balanced = np.minimum(apply_matrix(light[here], np.diag(gains)), np.float32(1))
        picture[here] = tone_map(apply_matrix(balanced, development.matrix), development.tone, dtype)
    return picture


def unprocess(picture: npt.NDArray[Any], development: Development) -> Image:
    """Turn an sRGB picture back into the light that a camera would have seen: `process` backwards.

    Parameters
    ----------
    picture : (H, W, 3) uint8, uint16 or float 0..1
        SRGB values.
    development : Development

    Returns
    -------
    (H, W, 3) float32
        Camera R, G, B, linear, 0..1. `process` gives the picture back wherever the camera can see its colours and the
        mean of the white-balanced ones is below `development.highlights`.
    """
    light = np.empty(picture.shape, dtype=np.float32)
    for here in _strips(picture.shape):
        linear = tone_unmap(picture[here], development.tone)
        np.minimum(camera_light(linear, development), np.float32(1), out=light[here])
    return light


def camera_light(linear: Image, development: Development) -> Image:
    """Turn linear sRGB light into that of the camera, before its white balance: what follows the curve in `unprocess`.

    Parameters
    ----------
    linear : (H, W, 3) float32
        Light, white = 1; what is brighter stays brighter.
    development : Development

    Returns
    -------
    (H, W, 3) float32
        Colours that the camera cannot see are clipped at 0.
    """
    from_srgb = np.linalg.inv(development.matrix)
    light = np.empty(linear.shape, dtype=np.float32)
    for here in _strips(linear.shape):
        np.maximum(_without_gains(apply_matrix(linear[here], from_srgb), development), np.float32(0), out=light[here])
    return light


def _strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of a picture, few enough that the steps of a strip find it in the processor's cache."""
    rows = max(STRIP_PIXELS // shape[1], 1)
    for top in range(0, shape[0], rows):
        yield slice(top, top + rows)


def _without_gains(camera: Image, development: Development) -> Image:
    inverse = 1 / (np.asarray(development.gains) * development.brightness)
    darker = apply_matrix(camera, np.diag(inverse))
    start = development.highlights
    if start < 1:
        grey = apply_matrix(camera, np.full((1, 3), 1 / 3))
        bright = grey > start
        mask = np.square(np.minimum((grey[bright] - start) / (1 - start), 1))[:, None]
        # towards the light itself as the mask rises to one; a gain below one is always undone
        darker[bright] = camera[bright] * np.maximum(mask + (1 - mask) * inverse, inverse)
    return darker


def sample_development(
    rng: np.random.Generator, matrices: Sequence[npt.ArrayLike] | None = None, tone: Tone | None = None
) -> Development:
    """Draw the development of a camera in daylight, as Brooks et al. do (CVPR 2019, section 3).

    Parameters
    ----------
    rng : Generator
    matrices : sequence of (3, 3) array_like, optional
        From XYZ to cameras, to be mixed; one alone is taken as it is. Those of `known_cameras` by default.
    tone : Srgb, Smoothstep or Filmic, optional
        `Smoothstep` by default.

    Returns
    -------
    Development
        Gain of red 1.9 to 2.4, of blue 1.5 to 1.9, both uniform; brightness 1 / N(0.8, 0.1), the divisor at least 0.5.
    """
    xyz_to_camera = sample_colour_matrix(rng, matrices)
    red, blue = rng.uniform(1.9, 2.4), rng.uniform(1.5, 1.9)
    brightness = 1 / max(rng.normal(0.8, 0.1), 0.5)
    tone = Smoothstep() if tone is None else tone
    return Development.of_camera(xyz_to_camera, (red, 1.0, blue), tone, brightness)
