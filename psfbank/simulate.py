"""Make a sharp picture look as if a calibrated camera had taken it.

Stages always run in the order in which light meets them, whatever the order in which they are asked for:

1. distortion: an ideal pinhole picture is warped, each channel by its own map, so lateral colour comes with it
2. blur: each place gets the effective PSF of the lens and pixel there; a finer source is sampled once, here
3. shading: relative illumination
4. mosaic: each site keeps its colour
5. noise: electrons are drawn, Poisson, and Gaussian read noise added
6. quantise: whole digital numbers between 0 and the white level, then black back to 0 and white to 1
7. demosaic
8. white_balance: the picture is taken as balanced, so its colours are divided by the gains before the lens, and
   multiplied by them here: that is how weak channels come out noisier

Beyond its edges a picture goes on as its mirror image, in the warp as in the blur.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from psfbank import isp, sensor
from psfbank.arrays import FloatArray
from psfbank.blur import SpatiallyVaryingBlur
from psfbank.errors import ImageError, MissingPartError
from psfbank.model import Calibration, DistortionMap, channel_index
from psfbank.pixelmap import PixelMap
from psfbank.resample import resample, shrink

Image = npt.NDArray[np.float32]
STAGES = ("distortion", "blur", "shading", "mosaic", "noise", "quantise", "demosaic", "white_balance")
_PART = {
    "distortion": "distortion",
    "blur": "psf_grid",
    "shading": "illumination",
    "noise": "noise",
    "quantise": "noise",
}
_CAPTURES = {"distortion": "chessboard", "blur": "led", "shading": "flat", "noise": "flat", "quantise": "flat"}
_WITHOUT_MOSAIC = {"mono": {"mosaic", "demosaic", "white_balance"}, "RGB": {"mosaic", "demosaic"}}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Window:
    """The part of a sensor that a picture covers, pixels."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class _Field:
    """What stages need to know of every pixel of a window; None or empty for those that are off."""

    maps: tuple[PixelMap, ...]
    blurs: tuple[SpatiallyVaryingBlur, ...]
    shading: Image | None


def window_of(shape: tuple[int, int], source_scale: int, size_px: tuple[int, int] | None) -> Window:
    """Place a picture on the sensor.

    Parameters
    ----------
    shape : (H, W)
        Of the picture.
    source_scale : int
        Its samples a sensor pixel.
    size_px : (H, W), optional
        Of the sensor; the picture is the whole of it when not given.

    Returns
    -------
    Window
        A smaller picture lies in the middle, at an even row and column so that the colours of the mosaic stay in place.

    Raises
    ------
    ImageError
        When the picture is no whole number of pixels, or larger than the sensor.
    """
    if shape[0] % source_scale or shape[1] % source_scale or min(shape) < source_scale:
        raise ImageError(
            f"a picture of {shape[1]} x {shape[0]} is not a whole number of pixels at source scale {source_scale}",
            remedy=f"Crop it to multiples of {source_scale}",
        )
    height, width = (n // source_scale for n in shape)
    sensor_height, sensor_width = size_px or (height, width)
    if height > sensor_height or width > sensor_width:
        raise ImageError(
            f"a picture of {shape[1]} x {shape[0]} at source scale {source_scale} covers {width} x {height} pixels, "
            f"the sensor has {sensor_width} x {sensor_height}",
            remedy="Crop it, shrink it, or say by a larger source scale that it is finer than the sensor",
        )
    return Window((sensor_height - height) // 4 * 2, (sensor_width - width) // 4 * 2, height, width)


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


class Simulator:
    """A camera: what it makes of a sharp picture.

    Parameters
    ----------
    cal : Calibration
        What is known of the camera at one setting.
    stages : sequence of str, optional
        Of `STAGES`. By default all that the calibration has data for, and a warning names those that it has not.
    source_scale : int
        Samples of the picture a sensor pixel. Without blur they are brought down by a low-pass filter.
    size_px : (H, W), optional
        Of the sensor. By default the picture covers it all; a smaller one is taken as its middle.
    cfa : str, optional
        Colours of the top-left 2 x 2 sites, "mono" or "RGB"; by default "RGGB", or "mono" for a monochrome calibration.
    exposure : float
        White of the picture, 1, comes to this share of the white level.
    gains : (3,) float
        White balance of R, G and B.
    demosaic : "malvar", "bilinear" or "edge_aware"
    mode : "scatter" or "gather"
        Of the blur.
    workers : int, optional
        Threads of the blur; the result does not depend on it.

    Raises
    ------
    ValueError
        When there is no such stage, or "demosaic" is asked for without "mosaic".
    MissingPartError
        When a stage is asked for by name and the calibration has no data for it.
    """

    def __init__(
        self,
        cal: Calibration,
        stages: Sequence[str] | None = None,
        source_scale: int = 1,
        size_px: tuple[int, int] | None = None,
        cfa: str | None = None,
        exposure: float = 1.0,
        gains: Sequence[float] = (1.0, 1.0, 1.0),
        demosaic: isp.Method = "malvar",
        mode: Literal["scatter", "gather"] = "scatter",
        workers: int | None = None,
    ) -> None:
        if source_scale < 1 or not exposure > 0 or min(gains) <= 0:
            raise ValueError("`source_scale`, `exposure` and `gains` must be positive")
        self.cal, self.source_scale, self.size_px = cal, source_scale, size_px
        parts = (cal.psf_grid, cal.distortion, cal.illumination, cal.noise)
        known = next((part.channels for part in parts if part is not None), None)
        self.cfa = cfa or ("mono" if known is not None and len(known) == 1 else "RGGB")
        self.channels = ("Y",) if self.cfa == "mono" else ("R", "G", "B")
        self.exposure, self.gains = exposure, np.asarray(gains, dtype=np.float32)
        self.demosaic, self.mode, self.workers = demosaic, mode, workers
        self.stages = self._chosen(stages)
        if cal.noise is not None and "noise" in self.stages and np.isnan(cal.noise.read_noise_e).any():
            log.warning("the read noise of this calibration is unknown: simulated without where it is")
        self._fields: dict[Window, _Field] = {}

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Take a picture.

        Parameters
        ----------
        image : (s H, s W, 3) float, or (s H, s W) for a monochrome camera
            Linear light, white = 1, s samples a pixel.
        rng : Generator
            Of the noise.

        Returns
        -------
        (H, W, 3) float32
            Linear light, white = 1; (H, W) of a monochrome camera, or of a mosaic that is not demosaiced.

        Raises
        ------
        ImageError
            When the picture has the wrong channels or size, or holds NaN.
        """
        light = self._admitted(image)
        window = window_of((light.shape[0], light.shape[1]), self.source_scale, self.size_px)
        field = self._field(window)
        light = light * np.float32(self.exposure)
        if "white_balance" in self.stages:
            light = isp.white_balance(light, 1 / self.gains)
        if "distortion" in self.stages:
            shape, threads = (light.shape[0], light.shape[1]), self.workers or os.cpu_count() or 1
            warped = [resample(light[..., c], at.at, shape, workers=threads) for c, at in enumerate(field.maps)]
            light = np.stack(warped, axis=-1)
        if "blur" in self.stages:
            light = np.stack([blur.forward(light[..., c]) for c, blur in enumerate(field.blurs)], axis=-1)
        elif self.source_scale > 1:
            light = shrink(light, self.source_scale)
        if field.shading is not None:
            light = light * field.shading
        if "mosaic" in self.stages:
            light = sensor.mosaic(light, self.cfa)
        light = self._sensed(light, rng)
        if "demosaic" in self.stages:
            light = isp.demosaic(light, self.cfa, self.demosaic)
        if "white_balance" in self.stages:
            light = isp.white_balance(light, self._by_site(self.gains, light.shape))
        return np.asarray(light[..., 0] if light.shape[2:] == (1,) else light, dtype=np.float32)

    def describe(self) -> list[str]:
        """Name every stage in its order, with its numbers, a line each."""
        lines = [f"source: {self.source_scale} x {self.source_scale} samples a pixel, white at {self.exposure:g}"]
        numbers = self._numbers()
        return lines + [f"{place}. {stage}: {numbers[stage]}" for place, stage in enumerate(self.stages, 1)]

    def _chosen(self, stages: Sequence[str] | None) -> tuple[str, ...]:
        if unknown := sorted(set(stages or ()) - set(STAGES)):
            raise ValueError(f"no stage {', '.join(map(repr, unknown))}; there are {', '.join(STAGES)}")
        if stages is not None and "demosaic" in stages and "mosaic" not in stages:
            raise ValueError("stage 'demosaic' needs stage 'mosaic'")
        missing = [name for name, part in _PART.items() if getattr(self.cal, part) is None]
        beside = _WITHOUT_MOSAIC.get(self.cfa, set())
        if stages is None:
            if missing:
                log.warning("this calibration has no data for %s: simulated without", ", ".join(missing))
            return tuple(stage for stage in STAGES if stage not in missing and stage not in beside)
        for stage in stages:
            if stage in missing:
                raise MissingPartError(
                    f"this calibration has no data for stage {stage!r}",
                    remedy=f"Leave it out, or calibrate a session with `{_CAPTURES[stage]}` captures",
                )
            if stage in beside:
                raise MissingPartError(
                    f"stage {stage!r} has no meaning for this camera, which is {self.cfa}", remedy="Leave it out"
                )
        return tuple(stage for stage in STAGES if stage in stages)

    def _admitted(self, image: npt.ArrayLike) -> Image:
        light = np.asarray(image, dtype=np.float32)
        wanted = "(H, W)" if self.cfa == "mono" else "(H, W, 3)"
        if light.ndim == 2 and self.cfa == "mono":
            light = light[..., None]
        if light.ndim != 3 or light.shape[2] != len(self.channels):
            raise ImageError(f"this camera takes a picture of {wanted}, got {np.shape(image)}")
        if not np.isfinite(light).all():
            raise ImageError(f"the picture holds {int(np.sum(~np.isfinite(light)))} values that are not finite")
        return light

    def _field(self, window: Window) -> _Field:
        field = self._fields.get(window)
        if field is None:
            field = self._prepared(window)
            self._fields = {window: field}  # replaced, never changed: threads may share a simulator
        return field

    def _prepared(self, window: Window) -> _Field:
        cal, scale = self.cal, self.source_scale
        maps: tuple[PixelMap, ...] = ()
        blurs: tuple[SpatiallyVaryingBlur, ...] = ()
        shading = None
        if "distortion" in self.stages and cal.distortion is not None:
            maps = tuple(pinhole_map(cal.distortion, c, window, scale) for c in self.channels)
        if "blur" in self.stages and cal.psf_grid is not None:
            grid = replace(cal.psf_grid, x_px=cal.psf_grid.x_px - window.x, y_px=cal.psf_grid.y_px - window.y)
            shape = (window.height, window.width)
            blurs = tuple(SpatiallyVaryingBlur(grid, shape, c, self.mode, scale, self.workers) for c in self.channels)
        if "shading" in self.stages:
            y, x = np.mgrid[window.y : window.y + window.height, window.x : window.x + window.width]
            shading = np.stack([cal.shading(x, y, c) for c in self.channels], axis=-1).astype(np.float32)
        return _Field(maps, blurs, shading)

    def _sensed(self, light: Image, rng: np.random.Generator) -> Image:
        noise = self.cal.noise
        if noise is None or not {"noise", "quantise"} & set(self.stages):
            return light
        gain, black, white, read_e = (
            self._by_site(values, light.shape)
            for values in (noise.gain_dn_per_e, noise.black_dn, noise.white_dn, np.nan_to_num(noise.read_noise_e))
        )
        full_e = (white - black) / gain
        signal_e = light * full_e
        if "noise" in self.stages:
            signal_e = sensor.read_out(signal_e, read_e, rng)
        if "quantise" in self.stages:
            return isp.subtract_black(sensor.digitise(signal_e, gain, black, white), black, white)
        return np.asarray(signal_e / full_e, dtype=np.float32)

    def _by_site(self, values: FloatArray, shape: tuple[int, ...]) -> Image:
        """Values by channel (C,), spread over a mosaic, or as they are for a picture with channels."""
        values = np.asarray(values, dtype=np.float32)
        return values[sensor.cfa_sites(self.cfa, (shape[0], shape[1]))] if len(shape) == 2 else values

    def _numbers(self) -> dict[str, str]:
        cal = self.cal
        numbers = {"mosaic": self.cfa, "demosaic": self.demosaic, "white_balance": f"gains {_listed(self.gains)}"}
        if cal.distortion is not None:
            focal_px = _listed(np.diag(cal.distortion.camera_matrix)[:2])
            numbers["distortion"] = f"maps of {' '.join(self.channels)}, focal length {focal_px} px, edges mirrored"
        if cal.psf_grid is not None:
            _, rows, columns, size, _ = cal.psf_grid.kernels.shape
            width_px = size / cal.psf_grid.oversample
            numbers["blur"] = f"{columns} x {rows} PSFs, {width_px:.3g} px wide, {self.mode}, edges mirrored"
        if cal.illumination is not None:
            numbers["shading"] = f"down to {cal.illumination.relative.min():.3g} of the peak"
        if cal.noise is not None:
            gain, read = _listed(cal.noise.gain_dn_per_e), _listed(cal.noise.read_noise_e)
            numbers["noise"] = f"gain {gain} DN/e-, read noise {read} e-"
            numbers["quantise"] = f"black {_listed(cal.noise.black_dn)} DN, white {_listed(cal.noise.white_dn)} DN"
        return numbers


def _listed(values: FloatArray) -> str:
    return " ".join(f"{value:.4g}" for value in values)
