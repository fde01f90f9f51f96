"""Render what a known camera sees of a target: from millimetres to electrons a pixel, noise-free.

Light takes the same way in every rendering: a target point, placed by a pose, becomes a ray; the distortion map sends
the ray to the pixel of its image's centroid, a channel at a time; the effective PSF of that place spreads it; shading
dims it. A pose is (6,): rotation vector, then translation in mm, from target to camera.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import convolve1d
from scipy.spatial.transform import Rotation
from scipy.special import j1

from calib.targets import Chart, LedGrid
from psfbank.arrays import FloatArray
from psfbank.blur import SpatiallyVaryingBlur
from psfbank.errors import MissingPartError, OutOfFieldError
from psfbank.field import kernel_at
from psfbank.model import Calibration, DistortionMap, PsfGrid, channel_index

RAY_STEP_PX = 4.0  # rays are found exactly at this step and splined between: a lens bends them slowly
STRIP_ROWS = 192  # fine rows rendered at a time: bounds the memory


@dataclass(frozen=True)
class Lens:
    """The parts of a calibration that rendering needs, all present, and the sensor's size (H, W)."""

    psf_grid: PsfGrid
    distortion: DistortionMap
    size_px: tuple[int, int]

    @classmethod
    def of(cls, calibration: Calibration, size_px: tuple[int, int]) -> Lens:
        """Take PSFs and distortion from a calibration; MissingPartError when one was not captured."""
        if calibration.psf_grid is None or calibration.distortion is None:
            raise MissingPartError(
                "rendering needs a bank with PSFs and distortion", remedy="Calibrate with led and chessboard captures"
            )
        return cls(calibration.psf_grid, calibration.distortion, size_px)

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels in the order of every rendering's first axis."""
        return self.psf_grid.channels


def rays_of(points_mm: FloatArray, pose: FloatArray) -> npt.NDArray[np.float64]:
    """Points (N, 2) of a target's plane -> rays (N, 2) as x/z, y/z."""
    placed = points_mm @ Rotation.from_rotvec(pose[:3]).as_matrix()[:, :2].T + pose[3:]
    return np.asarray(placed[:, :2] / placed[:, 2:])


def plane_of(rays: FloatArray, pose: FloatArray) -> npt.NDArray[np.float64]:
    """Rays (..., 2) -> the points (..., 2), mm, where they meet a target's plane; the inverse of `rays_of`."""
    # a plane point is (r1 x + r2 y + t) in camera coordinates: a homography
    homography = np.column_stack([Rotation.from_rotvec(pose[:3]).as_matrix()[:, :2], pose[3:]])
    back = np.linalg.inv(homography)
    met = rays @ back[:, :2].T + back[:, 2]
    return np.asarray(met[..., :2] / met[..., 2:])


def render_points(lens: Lens, grid: LedGrid, pose: FloatArray) -> npt.NDArray[np.float64]:
    """Draw point sources.

    Parameters
    ----------
    lens : Lens
    grid : LedGrid
    pose : (6,) float

    Returns
    -------
    (C, H, W) float64
        Each source wholly inside the picture adds one in all.
    """
    image = np.zeros((len(lens.channels), *lens.size_px))
    points = grid.points_mm()
    for c, channel in enumerate(lens.channels):
        kernels = lens.psf_grid.kernels[channel_index(lens.channels, channel)]
        xy_px = lens.distortion.project(rays_of(points, pose), channel)
        diameter_px = grid.diameter_mm * _pixels_per_mm(lens.distortion, points, pose, channel)
        for (x, y), diameter in zip(xy_px, diameter_px, strict=True):
            kernel = kernel_at(lens.psf_grid.x_px, lens.psf_grid.y_px, kernels, x, y)
            _add_patch(image[c], kernel, lens.psf_grid.oversample, (x, y), diameter)
    return image


def _pixels_per_mm(
    distortion: DistortionMap, points_mm: FloatArray, pose: FloatArray, channel: str
) -> npt.NDArray[np.float64]:
    """Local scale (N,) of the image of a plane: the square root of its magnification of areas."""
    step = 1e-2
    x0, x1, y0, y1 = (
        distortion.project(rays_of(points_mm + np.array(move) * step, pose), channel)
        for move in ((-1, 0), (1, 0), (0, -1), (0, 1))
    )
    jacobian = np.stack([x1 - x0, y1 - y0], axis=-1) / (2 * step)
    return np.asarray(np.sqrt(np.abs(np.linalg.det(jacobian))))


def _add_patch(
    image: FloatArray, kernel: FloatArray, oversample: int, xy_px: tuple[float, float], diameter_px: float
) -> None:
    half = kernel.shape[0] // 2 // oversample + 1
    column, row = round(xy_px[0]), round(xy_px[1])
    height, width = image.shape
    left, right = max(column - half, 0), min(column + half + 1, width)
    top, bottom = max(row - half, 0), min(row + half + 1, height)
    if left >= right or top >= bottom:
        return
    patch = point_patch(kernel, oversample, (xy_px[0] - column, xy_px[1] - row), diameter_px)
    first_row, first_column = row - half, column - half
    image[top:bottom, left:right] += patch[
        top - first_row : bottom - first_row, left - first_column : right - first_column
    ]


def point_patch(
    kernel: FloatArray, oversample: int, offset_px: tuple[float, float], diameter_px: float = 0.0
) -> npt.NDArray[np.float64]:
    """Sample a fine effective PSF with pixels when its source lies off the middle of one, and is a disc.

    Both are products in the Fourier domain: a phase ramp for the offset, 2 J1(pi f d) / (pi f d) for the disc.
    Optics and pixel pass next to nothing above 1.5 cycles/pixel, so three samples a pixel lose nothing.

    Parameters
    ----------
    kernel : (K, K) float
        K odd, sums to one.
    oversample : int
        Its samples a pixel.
    offset_px : (x, y)
        Source relative to the middle pixel.
    diameter_px : float
        Diameter of the disc's image.

    Returns
    -------
    (k, k) float64
        k = 2 (K // 2 // oversample + 1) + 1 pixels, not negative, sums to one.
    """
    half = kernel.shape[0] // 2 // oversample + 1
    wide = np.pad(np.asarray(kernel, dtype=np.float64), 2 * oversample)  # room for the shift before it wraps
    centre = wide.shape[0] // 2
    freq_cpp = np.fft.fftfreq(wide.shape[0]) * oversample
    ramp = np.exp(-2j * np.pi * freq_cpp * offset_px[0])[None] * np.exp(-2j * np.pi * freq_cpp * offset_px[1])[:, None]
    disc = np.pi * diameter_px * np.hypot(freq_cpp[None], freq_cpp[:, None])
    blunted = np.divide(2 * j1(disc), disc, out=np.ones_like(disc), where=disc > 0)
    moved = np.fft.ifft2(np.fft.fft2(wide) * ramp * blunted).real
    picked = slice(centre - half * oversample, centre + half * oversample + 1, oversample)
    patch = np.maximum(moved[picked, picked], 0.0)
    return np.asarray(patch / patch.sum())


def render_chart(lens: Lens, chart: Chart, pose: FloatArray) -> npt.NDArray[np.float64]:
    """Draw a flat target that reflects light.

    The scene is rendered `oversample` times finer than the sensor, over a rim as wide as the PSF, and blurred by the
    spatially varying PSF, every source place with its own kernel.

    Parameters
    ----------
    lens : Lens
    chart : Chart
    pose : (6,) float

    Returns
    -------
    (C, H, W) float64
        Reflectance, as the pixels average it.
    """
    grid, scale = lens.psf_grid, lens.psf_grid.oversample
    rim = grid.kernels.shape[-1] // 2 // scale + 1
    height, width = lens.size_px
    wider = replace(grid, x_px=grid.x_px + rim, y_px=grid.y_px + rim)
    shape = (height + 2 * rim, width + 2 * rim)
    image = np.empty((len(lens.channels), height, width))
    for c, channel in enumerate(lens.channels):
        scene = _fine_reflectance(lens, chart, pose, channel, rim)
        blur = SpatiallyVaryingBlur(wider, shape, channel=channel, source_scale=scale)
        image[c] = blur.forward(scene)[rim : rim + height, rim : rim + width]
    return image


def _fine_reflectance(lens: Lens, chart: Chart, pose: FloatArray, channel: str, rim_px: int) -> npt.NDArray[np.float32]:
    scale = lens.psf_grid.oversample
    height, width = ((n + 2 * rim_px) * scale for n in lens.size_px)
    x_px, y_px = (np.arange(n) - (scale - 1) / 2 for n in (width, height))
    x_px, y_px = x_px / scale - rim_px, y_px / scale - rim_px
    ray_x, ray_y = _ray_surfaces(lens, channel, rim_px + 1.0)
    fine = np.empty((height, width), dtype=np.float32)
    for top in range(0, height, STRIP_ROWS):
        # a row more on each side, so that strips share their differences
        first, last = max(top - 1, 0), min(top + STRIP_ROWS + 1, height)
        rays = np.stack([ray_x(y_px[first:last], x_px), ray_y(y_px[first:last], x_px)], axis=-1)
        place = plane_of(rays, pose)
        down, right = np.gradient(place, axis=(0, 1))
        footprint = np.hypot(down, right)  # second moments of the fine pixel's image along the target's axes
        level = chart.reflectance(place[..., 0], place[..., 1], footprint)
        keep = min(top + STRIP_ROWS, height)
        fine[top:keep] = level[top - first : keep - first]
    return samples_from_means(fine)


def _ray_surfaces(lens: Lens, channel: str, rim_px: float) -> tuple[RectBivariateSpline, RectBivariateSpline]:
    """Rays as smooth functions of (y, x) px, over the sensor and a rim around it."""
    axes = [np.linspace(-rim_px, n - 1 + rim_px, int(n / RAY_STEP_PX) + 8) for n in lens.size_px]
    gy, gx = np.meshgrid(*axes, indexing="ij")
    rays = lens.distortion.unproject(np.column_stack([gx.ravel(), gy.ravel()]), channel)
    if np.isnan(rays).any():
        raise OutOfFieldError(
            f"the distortion of channel {channel} has no inverse at places within {rim_px:.0f} px of the sensor",
            remedy="Render from a bank whose boards covered the field",
        )
    first, second = (RectBivariateSpline(*axes, rays[:, k].reshape(gx.shape)) for k in range(2))
    return first, second


def samples_from_means(means: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Turn averages over fine pixels into samples at their centres.

    A kernel holds samples of the effective PSF, so it wants samples of the scene: averages would blur by one fine pixel
    more. f = m - D m / 24 + 3 D^2 m / 640, D the second difference, along each axis: the series of finite volumes,
    within 0.1 % of the inverse of sinc(f / scale) up to half a cycle a pixel at scale 3.
    """
    second = np.array([1.0, -2.0, 1.0])
    weights = np.pad(-second / 24, 1) + 3 * np.convolve(second, second) / 640
    weights[2] += 1.0
    return np.asarray(convolve1d(convolve1d(means, weights, 0, mode="nearest"), weights, 1, mode="nearest"))
