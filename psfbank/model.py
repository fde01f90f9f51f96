"""What is known about a camera, as frozen dataclasses: validation and lookup, no estimation.

Shapes use C channels, Ty x Tx tiles, K odd kernel width, J Zernike terms, N observations, V views of M target points.
Arrays are copied and made read-only. Conventions are those of `psfbank.__doc__`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

from psfbank import distortion as _distortion
from psfbank import field as _field
from psfbank.arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    by_constructor,
    freeze,
    frozen,
    require_finite,
    require_increasing,
    require_shape,
)
from psfbank.arrays import channel_index as channel_index
from psfbank.axis import Axis as Axis
from psfbank.camera import CFA_PATTERNS as CFA_PATTERNS
from psfbank.camera import Camera as Camera
from psfbank.errors import MissingPartError
from psfbank.noise import NoiseByIso as NoiseByIso
from psfbank.noise import NoiseModel as NoiseModel
from psfbank.optics import Imaging as Imaging
from psfbank.optics import ZernikeField as ZernikeField
from psfbank.render import FieldRenderer, require_affordable
from psfbank.seen import EdgeResponses as EdgeResponses
from psfbank.seen import MapUncertainty as MapUncertainty
from psfbank.seen import PsfEvidence as PsfEvidence

UNIT_SUM_TOLERANCE = 1e-5  # of a float32 kernel


@dataclass(frozen=True)
class Setting:
    """What can be turned on a camera; NaN where unknown."""

    focal_mm: float = float("nan")
    f_number: float = float("nan")
    focus_m: float = float("nan")
    iso: float = float("nan")
    pressure_kpa: float = float("nan")

    def __post_init__(self) -> None:
        for name, value in self.known().items():
            if (value <= 0 and name != "pressure_kpa") or (np.isinf(value) and name != "focus_m"):
                raise ValueError(f"`{name}` must be positive, or NaN where unknown, got {value}")

    def known(self) -> dict[str, float]:
        """Only the values that are not NaN."""
        return {k: v for k, v in self.__dict__.items() if not np.isnan(v)}


@dataclass(frozen=True, eq=False)
class Capture:
    """One linear picture: black is 0, white 1; (H, W) mosaic or mono, or (H, W, C)."""

    pixels: FloatArray
    saturated: BoolArray
    name: str
    sha256: str
    exposure_s: float = float("nan")
    setting: Setting = Setting()

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        pixels = np.asarray(self.pixels)
        if pixels.ndim not in (2, 3):
            raise ValueError(f"`pixels` must be (H, W) or (H, W, C), got {pixels.shape}")
        object.__setattr__(self, "pixels", frozen(pixels, np.float32, "pixels", ",".join("HWC"[: pixels.ndim])))
        freeze(self, bool, saturated="H,W")
        require_shape(self.saturated, "saturated", pixels.shape[:2])


@dataclass(frozen=True, eq=False)
class Points:
    """N point images cut from mosaics; sites of other colours have infinite variance.

    `patch` and `variance` are (N, P, P) in units of white = 1, P odd; `corner_px` (N, 2) is the (x, y) of each patch's
    top-left pixel, `xy_px` (N, 2) the position of the image's centroid, `source` (N,) the number of the light that made
    it (one light gives an image a channel), `view` (N,) the capture's number.
    """

    xy_px: FloatArray
    channel: IntArray
    patch: FloatArray
    variance: FloatArray
    corner_px: IntArray
    source: IntArray
    view: IntArray
    flags: IntArray

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, np.float64, xy_px="N,2", patch="N,P,P", variance="N,P,P")
        freeze(self, np.int64, channel="N", corner_px="N,2", source="N", view="N", flags="N")
        for name in ("channel", "patch", "variance", "corner_px", "source", "view", "flags"):
            if len(getattr(self, name)) != len(self.xy_px):
                raise ValueError(f"`{name}` must hold {len(self.xy_px)} observations, got {len(getattr(self, name))}")

    def __len__(self) -> int:
        return len(self.xy_px)

    def take(self, which: npt.NDArray[Any]) -> Points:
        """Select the observations at an index or mask array."""
        return Points(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class Corners:
    """V views of M target points: `object_mm` and `image_px` (V, M, 2), `found` (V, M)."""

    object_mm: FloatArray
    image_px: FloatArray
    found: BoolArray

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, np.float64, object_mm="V,M,2", image_px="V,M,2")
        freeze(self, bool, found="V,M")
        require_shape(self.image_px, "image_px", self.object_mm.shape)
        require_shape(self.found, "found", self.object_mm.shape[:2])
        require_finite(self.image_px[self.found], "image_px")


@dataclass(frozen=True, eq=False)
class PsfGrid:
    """Effective PSFs at the nodes of a rectilinear grid.

    `kernels` (C, Ty, Tx, K, K) float32, K odd, sampled `oversample` times a pixel; each sums to one, is not negative
    and has its centroid at the array centre. `sigma` (C, Ty, Tx) is the expected relative L2 error, `n_obs` counts
    observations, `flags` holds `Flag` bits.
    """

    x_px: FloatArray
    y_px: FloatArray
    kernels: FloatArray
    oversample: int = 1
    sigma: FloatArray | None = None
    n_obs: IntArray | None = None
    flags: IntArray | None = None
    channels: tuple[str, ...] = ("R", "G", "B")

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, np.float64, x_px="Tx", y_px="Ty")
        freeze(self, np.float32, kernels="C,Ty,Tx,K,K")
        require_increasing(self.x_px, "x_px")
        require_increasing(self.y_px, "y_px")
        size = self.kernels.shape[-1]
        tiles = (len(self.channels), len(self.y_px), len(self.x_px))
        require_shape(self.kernels, "kernels", (*tiles, size, size))
        if size % 2 == 0 or self.oversample < 1:
            raise ValueError(
                f"`kernels` must have an odd width and `oversample` be positive, got {size}, {self.oversample}"
            )
        require_finite(self.kernels, "kernels")
        if self.kernels.min() < 0:
            raise ValueError(f"`kernels` must not be negative, the least value is {self.kernels.min():.3g}")
        worst = float(np.abs(self.kernels.sum((-2, -1), dtype=np.float64) - 1).max())
        if worst > UNIT_SUM_TOLERANCE:
            raise ValueError(f"each of `kernels` must sum to one; the worst is off by {worst:.3g}")
        for name, dtype, default in (("sigma", np.float32, np.nan), ("n_obs", np.int32, 0), ("flags", np.uint16, 0)):
            given = getattr(self, name)
            array = frozen(np.full(tiles, default) if given is None else given, dtype, name, "C,Ty,Tx")
            require_shape(array, name, tiles)
            object.__setattr__(self, name, array)

    def at(self, x_px: float, y_px: float, channel: str = "G", oversample: int = 1) -> FloatArray:
        """Kernel at (x, y), bilinear between nodes: (k, k) float64, k odd, sums to one."""
        nodes = self.kernels[channel_index(self.channels, channel)]
        kernel = _field.kernel_at(self.x_px, self.y_px, nodes, x_px, y_px)
        return _field.resample_kernel(kernel, self.oversample, oversample)


@dataclass(frozen=True, eq=False)
class DistortionMap:
    """Where each ray lands, a channel at a time: pinhole of the stereographic direction plus a cubic B-spline.

    With u = 2 tan(theta / 2) (x, y) / |(x, y)| of a ray, pixel = f u + c + spline(u). `camera_matrix` (3, 3) px holds
    f and c; `knots_x` (Nx + 4,), `knots_y` (Ny + 4,) are full knot vectors in u; `coefficients` (C, 2, Ny, Nx) px the
    displacement in x and y; `valid_region` (V, 2) px a polygon around the data; `rms_px` (C,) the 2-D residual;
    `uncertainty` the covariance of all that, None when unknown.
    """

    camera_matrix: FloatArray
    knots_x: FloatArray
    knots_y: FloatArray
    coefficients: FloatArray
    valid_region: FloatArray
    rms_px: FloatArray
    channels: tuple[str, ...] = ("R", "G", "B")
    degree: int = 3
    uncertainty: MapUncertainty | None = None

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, np.float64, camera_matrix="3,3", knots_x="Kx", knots_y="Ky", coefficients="C,2,Ny,Nx")
        freeze(self, np.float64, valid_region="V,2", rms_px="C")
        if self.degree != 3:
            raise ValueError(f"`degree` must be 3, a cubic spline, got {self.degree}")
        counts = len(self.knots_y) - 4, len(self.knots_x) - 4
        require_shape(self.coefficients, "coefficients", (len(self.channels), 2, *counts))
        require_shape(self.rms_px, "rms_px", (len(self.channels),))
        for name in ("camera_matrix", "coefficients", "valid_region"):
            require_finite(getattr(self, name), name)
        require_increasing(self.knots_x, "knots_x")
        require_increasing(self.knots_y, "knots_y")
        if self.uncertainty is not None:
            modes = self.uncertainty.modes
            require_shape(modes, "modes", (len(self.channels), modes.shape[1], 2, *counts))

    def project(self, rays: npt.ArrayLike, channel: str = "G") -> npt.NDArray[np.float64]:
        """Rays (N, 2) as x/z, y/z -> pixels (N, 2) of the image's centroid."""
        c = channel_index(self.channels, channel)
        rays = np.asarray(rays, dtype=np.float64)
        return _distortion.project(rays, self.camera_matrix, self.knots_x, self.knots_y, self.coefficients[c])

    def unproject(self, xy_px: npt.ArrayLike, channel: str = "G") -> npt.NDArray[np.float64]:
        """Pixels (N, 2) -> rays (N, 2); NaN where the map does not reach."""
        c = channel_index(self.channels, channel)
        xy_px = np.asarray(xy_px, dtype=np.float64)
        return _distortion.unproject(xy_px, self.camera_matrix, self.knots_x, self.knots_y, self.coefficients[c])

    def sigma_px(self, xy_px: npt.ArrayLike, channel: str = "G") -> npt.NDArray[np.float64]:
        """Give one standard deviation (N, 2) px, x and y, of what lands at pixels, the frame's rotation apart."""
        c = channel_index(self.channels, channel)
        xy_px = np.asarray(xy_px, dtype=np.float64)
        if self.uncertainty is None:
            return np.full(xy_px.shape, np.nan)
        u = _distortion.unproject_stereographic(
            xy_px, self.camera_matrix, self.knots_x, self.knots_y, self.coefficients[c]
        )
        return self.uncertainty.sigma(u, self.knots_x, self.knots_y, c)


@dataclass(frozen=True, eq=False)
class Illumination:
    """Relative illumination (C, Ty, Tx) at the nodes of a grid, 1 at each channel's peak."""

    x_px: FloatArray
    y_px: FloatArray
    relative: FloatArray
    channels: tuple[str, ...] = ("R", "G", "B")

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        freeze(self, np.float64, x_px="Tx", y_px="Ty")
        freeze(self, np.float32, relative="C,Ty,Tx")
        require_shape(self.relative, "relative", (len(self.channels), len(self.y_px), len(self.x_px)))
        require_finite(self.relative, "relative")
        require_increasing(self.x_px, "x_px")
        require_increasing(self.y_px, "y_px")
        if self.relative.min() < 0:
            raise ValueError("`relative` must not be negative")

    def at(self, x_px: npt.ArrayLike, y_px: npt.ArrayLike, channel: str = "G") -> npt.NDArray[np.float64]:
        """Relative illumination at arrays of places, a cubic spline through the nodes."""
        nodes = self.relative[channel_index(self.channels, channel)]
        return _field.spline_surface_at(self.x_px, self.y_px, nodes, x_px, y_px)

    def over(self, x_px: FloatArray, y_px: FloatArray, channel: str = "G") -> npt.NDArray[np.float64]:
        """Relative illumination (h, w) where rows `y_px` (h,) and columns `x_px` (w,) cross; the spline of `at`."""
        nodes = self.relative[channel_index(self.channels, channel)]
        places = ((self.y_px, y_px), (self.x_px, x_px))
        down, across = (
            spline(np.clip(at, of[0], of[-1])) for spline, (of, at) in zip(self._cardinal, places, strict=True)
        )
        return np.asarray(down @ nodes @ across.T)

    @cached_property
    def _cardinal(self) -> tuple[BSpline, BSpline]:
        return _field.cardinal_spline(self.y_px), _field.cardinal_spline(self.x_px)


@dataclass(frozen=True, eq=False)
class Calibration:
    """All that is known of a camera at one setting; a part that nobody captured is None.

    `noise` is that of the setting's own ISO speed, `noise_by_iso` that of all speeds where several were calibrated.
    """

    setting: Setting = Setting()
    psf_grid: PsfGrid | None = None
    wavefront: ZernikeField | None = None
    distortion: DistortionMap | None = None
    illumination: Illumination | None = None
    noise: NoiseModel | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    evidence: PsfEvidence | None = None
    edges: EdgeResponses | None = None
    axis: Axis | None = None
    noise_by_iso: NoiseByIso | None = None

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))
        if self._renderable is not None:
            grid, wavefront, imaging = self._renderable
            require_affordable(grid.kernels.shape[-1], grid.oversample, wavefront, imaging)

    @property
    def _renderable(self) -> tuple[PsfGrid, ZernikeField, Imaging] | None:
        grid, wavefront = self.psf_grid, self.wavefront
        if grid is None or wavefront is None or wavefront.imaging is None or wavefront.channels != grid.channels:
            return None
        return grid, wavefront, wavefront.imaging

    @cached_property
    def renderer(self) -> FieldRenderer | None:
        """Renders PSFs from the wavefront, at any place; None where there is no such wavefront."""
        if self._renderable is None:
            return None
        grid, wavefront, imaging = self._renderable
        return FieldRenderer.of(grid.x_px, grid.y_px, grid.kernels, grid.oversample, wavefront, imaging)

    def psf(self, x: float, y: float, channel: str = "G", oversample: int = 1) -> FloatArray:
        """Effective PSF at one place: at a node of `psf_grid` the kernel there.

        Between nodes it comes from the wavefront, interpolated there, where that has `imaging`; else it is a bilinear
        mix of the kernels around.

        Parameters
        ----------
        x, y : float
            Place on the sensor, pixels.
        channel : str
        oversample : int
            Samples a pixel.

        Returns
        -------
        (k, k) float64
            k odd, sums to one, not negative, centroid at the array centre.

        Raises
        ------
        MissingPartError
            When the session held no points.
        """
        if self.psf_grid is None:
            raise MissingPartError("this calibration has no PSFs", remedy="Calibrate a session with `led` captures")
        if self.renderer is None:
            return self.psf_grid.at(x, y, channel, oversample)
        kernel = self.renderer.kernel_at(channel_index(self.psf_grid.channels, channel), x, y)
        return _field.resample_kernel(kernel, self.psf_grid.oversample, oversample)

    def shading(self, x: npt.ArrayLike, y: npt.ArrayLike, channel: str = "G") -> npt.NDArray[np.float64]:
        """Relative illumination at arrays of places (pixels), 1 at its peak; MissingPartError without flats."""
        if self.illumination is None:
            raise MissingPartError("this calibration has no shading", remedy="Calibrate a session with `flat` captures")
        return self.illumination.at(x, y, channel)
