"""Take the distortion and the lateral colour out of a picture: what an ideal pinhole camera would have seen.

Each channel is read where its own map puts the rays of the new picture, filtered where that is coarser than the sensor
(`psfbank.resample`), in linear light.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.measure import points_in_poly

from psfbank.arrays import BoolArray, FloatArray, by_constructor, freeze
from psfbank.distortion import from_stereographic, unproject_stereographic
from psfbank.errors import ImageError
from psfbank.model import DistortionMap, channel_index
from psfbank.resample import coefficients, gradient, read, tiles

Image = npt.NDArray[np.float32]
WIDEST_DEG = 170.0  # of a pinhole picture: at 180 its edges are infinitely far
UNSEEN = -1e4  # position of what the sensor did not see, far outside any picture
OVERVIEW = 128  # rows and columns of a coarse grid over a view
SAME_RAY = 1e-6


@dataclass(frozen=True, eq=False)
class Pinhole:
    """An ideal camera: `camera_matrix` (3, 3) px without skew, and `size_px` (H, W) of its picture."""

    camera_matrix: FloatArray
    size_px: tuple[int, int]

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, np.float64, camera_matrix="3,3")

    def rays(self, x_px: npt.NDArray[Any], y_px: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Rays (Ny, Nx, 2) of the pixels at columns (Nx,) and rows (Ny,)."""
        (fx, fy), (cx, cy) = np.diag(self.camera_matrix)[:2], self.camera_matrix[:2, 2]
        return np.stack(np.meshgrid((x_px - cx) / fx, (y_px - cy) / fy), axis=-1)

    @property
    def fov_deg(self) -> tuple[float, float, float]:
        """Field of view: across, down, and from corner to corner; degrees, to the pixels' outer edges."""
        height, width = self.size_px
        x, y = np.array([-0.5, width - 0.5]), np.array([-0.5, height - 0.5])
        corners = self.rays(x, y)
        across = np.diff(np.arctan(corners[0, :, 0]))[0]
        down = np.diff(np.arctan(corners[:, 0, 1]))[0]
        first, last = (np.append(corners[i, i], 1.0) for i in (0, 1))
        corner = np.arctan2(np.linalg.norm(np.cross(first, last)), first @ last)
        return float(np.degrees(across)), float(np.degrees(down)), float(np.degrees(corner))


@dataclass(frozen=True, eq=False)
class Undistorted:
    """A picture (H, W, 3) or (H, W) float32, black where the sensor did not see, and `seen` (H, W) bool."""

    image: Image
    seen: BoolArray


def pinhole_view(
    distortion: DistortionMap,
    sensor_px: tuple[int, int],
    fov: str | float = "keep",
    size_px: tuple[int, int] | None = None,
) -> Pinhole:
    """Choose the ideal camera of the new picture.

    Parameters
    ----------
    distortion : DistortionMap
    sensor_px : (H, W)
        Of the pictures to come.
    fov : "keep", "full" or float
        "keep" is the map's own focal length and centre; "full" the largest focal length that shows the whole valid
        region in all channels, up to 85 degrees from the axis; a number is the angle in degrees across the picture,
        about the axis.
    size_px : (H, W), optional
        Of the new picture; that of the sensor when not given.

    Returns
    -------
    Pinhole
        With square pixels, but for "keep".

    Raises
    ------
    ValueError
        When the angle is not between 0 and 170 degrees.
    """
    height, width = size_px or sensor_px
    if fov == "keep":
        matrix = distortion.camera_matrix.copy()
        matrix[:2, 2] += (width - sensor_px[1]) / 2, (height - sensor_px[0]) / 2
        return Pinhole(matrix, (height, width))
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    if fov == "full":
        rays = _border_rays(distortion, sensor_px)
        low, high = rays.min(axis=0), rays.max(axis=0)
        focal = float(np.min([width, height] / (high - low)))
        middle = middle - focal * (low + high) / 2
    elif isinstance(fov, str) or not 0 < fov <= WIDEST_DEG:
        raise ValueError(f"`fov` must be 'keep', 'full' or between 0 and {WIDEST_DEG:g} degrees, got {fov!r}")
    else:
        focal = width / 2 / np.tan(np.radians(fov) / 2)
    return Pinhole(np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]]), (height, width))


def _border_rays(distortion: DistortionMap, sensor_px: tuple[int, int]) -> FloatArray:
    """Rays (N, 2) of the border of what is known and was on the sensor, in all channels, within `WIDEST_DEG`."""
    corners = np.clip(distortion.valid_region, -0.5, np.array(sensor_px[::-1]) - 0.5)
    part = np.linspace(0, 1, 64, endpoint=False)[:, None]
    border = np.concatenate([a + part * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)])
    model = distortion.camera_matrix, distortion.knots_x, distortion.knots_y
    u = np.concatenate([unproject_stereographic(border, *model, spline) for spline in distortion.coefficients])
    u = u[np.isfinite(u[:, 0])]
    farthest = 2 * np.tan(np.radians(WIDEST_DEG) / 4)
    radius = np.maximum(np.linalg.norm(u, axis=1, keepdims=True), 1e-12)
    if not len(u):
        raise ImageError("the valid region of the distortion map shows no ray", remedy="Calibrate with more boards")
    return from_stereographic(u * np.minimum(1.0, farthest / radius))


def remap_tables(
    distortion: DistortionMap, view: Pinhole, sensor_px: tuple[int, int], channel: str = "G"
) -> npt.NDArray[np.float32]:
    """Say where each pixel of an undistorted picture lies in the sensor's, as tables for `cv2.remap`.

    `cv2.remap` filters nothing, and rounds positions to 1/32 px (OpenCV 4 always, OpenCV 5 with INTER_LANCZOS4);
    `undistort` does neither.

    Parameters
    ----------
    distortion : DistortionMap
    view : Pinhole
        Of the undistorted picture.
    sensor_px : (H, W)
    channel : str

    Returns
    -------
    (H, W, 2) float32
        x and y in the sensor's picture, px; `UNSEEN` where it did not see.
    """
    tables = np.empty((*view.size_px, 2), dtype=np.float32)
    for tile in _tiles(distortion, channel, view, sensor_px):
        tables[tile.here] = np.where(tile.seen[..., None], tile.at, UNSEEN)
    return tables


def undistort(image: npt.ArrayLike, distortion: DistortionMap, view: Pinhole) -> Undistorted:
    """Take distortion and lateral colour out of a picture.

    Parameters
    ----------
    image : (H, W, 3) or (H, W) float
        The sensor's picture, linear light; (H, W) with a map of one channel.
    distortion : DistortionMap
        One of a single channel serves all colours.
    view : Pinhole
        From `pinhole_view`.

    Returns
    -------
    Undistorted
        Beside sharp edges the filter and the spline swing a little below 0 and above the brightest light.

    Raises
    ------
    ImageError
        When the picture is a mosaic, or no picture.
    """
    light = np.asarray(image, dtype=np.float32)
    if light.ndim == 2 and len(distortion.channels) > 1:
        raise ImageError(
            "a grey picture of a colour camera is a mosaic, whose neighbours are of other colours",
            remedy="Demosaic it first: psfbank.isp.demosaic, or a RAW converter that leaves the geometry alone",
        )
    if light.ndim not in (2, 3) or light.shape[2:] not in ((), (3,)):
        raise ImageError(f"a picture of (H, W, 3) or (H, W) is needed, got {light.shape}")
    if not np.isfinite(light).all():
        raise ImageError(f"the picture holds {int(np.sum(~np.isfinite(light)))} values that are not finite")
    planes = [light] if light.ndim == 2 else [light[..., c] for c in range(3)]
    read = [_channel(plane, distortion, "RGB"[c], view) for c, plane in enumerate(planes)]
    seen = np.logical_and.reduce([each for _, each in read])
    out = np.stack([np.where(seen, plane, np.float32(0)) for plane, _ in read], axis=-1)
    return Undistorted(out[..., 0] if light.ndim == 2 else out, seen)


def shares(distortion: DistortionMap, view: Pinhole, sensor_px: tuple[int, int]) -> tuple[float, float]:
    """Estimate which share of a view the sensor saw, and which part of the view is within the map's valid region."""
    channel = distortion.channels[channel_index(distortion.channels, "G")]
    at, seen, _ = _overview(distortion, channel, view, sensor_px)
    sure = points_in_poly(at[seen], distortion.valid_region)  # type: ignore[no-untyped-call]
    return float(seen.mean()), float(sure.sum() / seen.size)


def _channel(plane: Image, distortion: DistortionMap, channel: str, view: Pinhole) -> tuple[Image, BoolArray]:
    spline = coefficients(plane)
    sensor_px = (plane.shape[0], plane.shape[1])
    out, seen = np.zeros(view.size_px, dtype=np.float32), np.zeros(view.size_px, dtype=bool)

    def positions(y_px: FloatArray, x_px: FloatArray) -> FloatArray:
        return _positions(distortion, channel, view, x_px, y_px)

    for tile in _tiles(distortion, channel, view, sensor_px):
        seen[tile.here] = tile.seen
        if tile.seen.any():
            out[tile.here] = read(spline, positions, tile.here, tile.at, tile.seen)
    return out, seen


@dataclass(frozen=True, eq=False)
class _Tile:
    here: tuple[slice, slice]
    at: FloatArray  # (h, w, 2) px on the sensor
    seen: BoolArray


def _tiles(distortion: DistortionMap, channel: str, view: Pinhole, sensor_px: tuple[int, int]) -> Iterator[_Tile]:
    _, _, proven = _overview(distortion, channel, view, sensor_px)
    for here in tiles(view.size_px):
        y, x = (np.arange(part.start, part.stop) for part in here)
        at = _positions(distortion, channel, view, x, y)
        seen = _on_sensor(at, sensor_px)
        yield _Tile(here, at, seen if proven else _returning(distortion, channel, view.rays(x, y), at, seen))


def _overview(
    distortion: DistortionMap, channel: str, view: Pinhole, sensor_px: tuple[int, int]
) -> tuple[FloatArray, BoolArray, bool]:
    """Positions and what is seen on a coarse grid of a view, and whether all that is seen there is seen just once.

    A map that runs away beyond its data can come back over the sensor; its inverse then leads elsewhere.
    """
    y, x = (np.linspace(0, n - 1, min(n, OVERVIEW)) for n in view.size_px)
    at = _positions(distortion, channel, view, x, y)
    seen = _on_sensor(at, sensor_px)
    once = _returning(distortion, channel, view.rays(x, y), at, seen)
    return at, once, bool((once == seen).all())


def _returning(distortion: DistortionMap, channel: str, rays: FloatArray, at: FloatArray, seen: BoolArray) -> BoolArray:
    back = distortion.unproject(at[seen], channel)
    out = seen.copy()
    out[seen] = np.abs(back - rays[seen]).max(axis=-1) < SAME_RAY
    return out


def _positions(
    distortion: DistortionMap, channel: str, view: Pinhole, x_px: npt.NDArray[Any], y_px: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Where columns and rows of a view lie on the sensor, (Ny, Nx, 2) px; NaN where the map is folded over."""
    at = distortion.project(view.rays(x_px, y_px).reshape(-1, 2), channel).reshape(len(y_px), len(x_px), 2)
    along_y, along_x = gradient(at)
    turned = along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0] <= 0
    at[turned] = np.nan
    return at


def _on_sensor(at: FloatArray, sensor_px: tuple[int, int]) -> BoolArray:
    height, width = sensor_px
    x, y = at[..., 0], at[..., 1]
    return np.asarray((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5))
