"""ST maps: for each pixel of a new picture, where it lies in the old one, as two numbers from 0 to 1.

As compositing programs read them (Nuke's STMap node): (0, 0) is the bottom-left corner of the picture and (1, 1) its
top-right corner, outer edges of pixels, so the centre of the pixel in column x and row y from the top is
((x + 0.5) / W, 1 - (y + 0.5) / H). R and G take the distortion out: each pixel of the undistorted picture finds its
place in the camera's. B and A put it back: each pixel of the camera's picture finds its place in the undistorted one.
The undistorted picture is that of a pinhole camera of the map's own camera matrix and of the same size; places outside
of a picture lie outside of 0 .. 1.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import tifffile
from scipy.ndimage import map_coordinates

from psfbank.arrays import BoolArray, FloatArray
from psfbank.interop.exr import exr_bytes
from psfbank.interop.loss import Array, Loss, Places, loss_of, reserved
from psfbank.model import DistortionMap, channel_index
from psfbank.pixelmap import PixelMap
from psfbank.undistort import UNSEEN, pinhole_view, remap_tables

BAND = 256  # rows at once
NOWHERE = -1.0
CONVENTION = (
    "R, G: place in the distorted picture of each undistorted pixel; B, A: place in the undistorted picture of each "
    "distorted pixel; origin at the bottom-left outer corner, 1 at the top-right one, pixel centres at half-integers"
)


def st_map(distortion: DistortionMap, size_px: tuple[int, int], channel: str) -> npt.NDArray[np.float32]:
    """Compute both directions of one channel.

    Parameters
    ----------
    distortion : DistortionMap
    size_px : (H, W)
    channel : str

    Returns
    -------
    (H, W, 4) float32
        S and T that undistort, S and T that distort again; where no place is known, -1.
    """
    height, width = size_px
    view = pinhole_view(distortion, size_px)
    seen = remap_tables(distortion, view, size_px, channel)[..., 0] != np.float32(UNSEEN)
    model = distortion.camera_matrix, distortion.knots_x, distortion.knots_y
    back = PixelMap.of(size_px, *model, distortion.coefficients[channel_index(distortion.channels, channel)])
    columns = np.arange(width, dtype=np.float64)
    st = np.empty((height, width, 4), dtype=np.float32)
    for first in range(0, height, BAND):
        rows = np.arange(first, min(first + BAND, height), dtype=np.float64)
        band = slice(first, first + len(rows))
        there = _distorted(distortion, view.rays(columns, rows), seen[band], size_px, channel)
        both = to_st(np.stack([there, back.at(rows, columns)], axis=-2), size_px).reshape(len(rows), width, 4)
        st[band] = np.where(np.isfinite(both), both, NOWHERE)
    return st


def _distorted(
    distortion: DistortionMap, rays: FloatArray, seen: BoolArray, size_px: tuple[int, int], channel: str
) -> Array:
    """Place on the sensor of rays (h, w, 2), beyond its edges too.

    A map that runs away beyond its data can come back over the sensor, where it is not `seen`: such places are NaN.
    """
    at = distortion.project(rays.reshape(-1, 2), channel).reshape(rays.shape)
    inside = np.all((at >= -0.5) & (at <= np.array(size_px[::-1]) - 0.5), axis=-1)
    at[inside & ~seen] = np.nan
    return at


def to_st(xy_px: FloatArray, size_px: tuple[int, int]) -> Array:
    """Pixels (..., 2) -> S and T (..., 2)."""
    height, width = size_px
    return np.stack([(xy_px[..., 0] + 0.5) / width, 1 - (xy_px[..., 1] + 0.5) / height], axis=-1)


def from_st(st: FloatArray, size_px: tuple[int, int]) -> Array:
    """S and T (..., 2) -> pixels (..., 2)."""
    height, width = size_px
    return np.stack([st[..., 0] * width - 0.5, (1 - st[..., 1]) * height - 0.5], axis=-1)


def losses(st: FloatArray, distortion: DistortionMap, size_px: tuple[int, int], channel: str) -> tuple[Loss, Loss]:
    """Loss of both directions, read between pixels with bilinear weights, as programs do: undistorting, distorting."""
    places = reserved(distortion, size_px, channel)
    focal_px, centre_px = np.diag(distortion.camera_matrix)[:2], distortion.camera_matrix[:2, 2]

    def sampled(xy_px: FloatArray, columns: slice) -> Array:
        table = from_st(np.asarray(st[..., columns], dtype=np.float64), size_px)
        # not cv2.remap, which rounds places to 1/32 px
        return np.stack([map_coordinates(table[..., k], xy_px.T[::-1], order=1) for k in range(2)], axis=-1)

    ideal_px = places.rays * focal_px + centre_px
    within = np.all((ideal_px >= 0) & (ideal_px <= np.array(size_px[::-1]) - 1.0), axis=1)
    inner = within[: places.inner]
    coverage = places.coverage * float(inner.mean())
    shown = Places(places.xy_px[within], places.rays[within], int(inner.sum()), coverage)
    turned = Places(ideal_px[within], places.xy_px[within], shown.inner, coverage)
    return (
        loss_of(lambda rays: sampled(rays * focal_px + centre_px, slice(0, 2)), shown, channel),
        loss_of(lambda xy_px: sampled(xy_px, slice(2, 4)), turned, channel),
    )


def packed(st: FloatArray, suffix: str) -> bytes:
    """Pack an ST map (H, W, 4) as OpenEXR (".exr") or TIFF, 32-bit floats."""
    if suffix == ".exr":
        return exr_bytes({name: st[..., k] for k, name in enumerate("RGBA")}, comments=CONVENTION)
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        np.asarray(st, dtype=np.float32),
        photometric="rgb",
        extrasamples=["unassalpha"],
        compression="zlib",
        description=CONVENTION,
        metadata=None,
    )
    return file.getvalue()
