"""Make a sharp picture look as if a calibrated camera had taken it.

Stages run in the order in which light meets them, whatever the order in which they are asked for; a degradation
(`psfbank.degrade`) runs behind the stage that it is listed after:

1. distortion: an ideal pinhole picture is warped, each channel by its own map, so lateral colour comes with it
2. blur: each place gets the effective PSF of the lens and pixel there; a finer source is sampled once, here
3. shading: relative illumination
4. mosaic: each site keeps its colour
5. noise: electrons are drawn, of light in pixels that differ in sensitivity and of dark current; read noise added
6. quantise: whole digital numbers between 0 and the white level; then black back to 0 and white to 1
7. white_balance: gains of R, G and B, clipped where the sensor saturates
8. demosaic
9. colour: the camera's R, G and B to linear sRGB
10. tone: a tone curve; from here on the picture is encoded, no longer light
11. jpeg: compressed and decompressed

The picture that goes in is what the last stages would make of an ideal camera's: where "white_balance" or "colour" is
on, it is taken back to the camera's own colours before the lens. That is how weak channels come out noisier. Beyond its
edges a picture goes on as its mirror image, in the warp as in the blur.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from psfbank import isp
from psfbank.blur import SpatiallyVaryingBlur
from psfbank.degrade import Degradation
from psfbank.errors import ImageError
from psfbank.model import Calibration
from psfbank.pixelmap import PixelMap
from psfbank.resample import resample, shrink
from psfbank.sensor import Sensor, cfa_sites, mosaic
from psfbank.simulate.describe import described
from psfbank.simulate.stages import Stage, chosen
from psfbank.simulate.window import Window, pinhole_map, window_of

Image = npt.NDArray[np.float32]
NO_LIGHT = -1e-3  # darker than this is no rounding of 0
SAMPLE, READOUT = "sample", "readout"  # steps of a plan beside the stages: a finer source sampled; noise and DN at once
MANY_PIXELS = 1 << 19  # that are worth threads
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Field:
    """What stages need to know of every pixel of a window; None or empty for those that are off."""

    window: Window
    maps: tuple[PixelMap, ...]
    blurs: tuple[SpatiallyVaryingBlur, ...]
    shading: Image | None
    sensitivity: Image | None


class Simulator:
    """A camera: what it makes of a sharp picture. Picklable; threads may share one.

    Parameters
    ----------
    cal : Calibration
        What is known of the camera at one setting.
    stages : sequence of str or Degradation, optional
        Of `STAGES`, and degradations between them. "all", the default, stands for all that the calibration has data
        for (a warning names the others), white balance and colours where `development` is given; not tone and jpeg.
    source_scale : int
        Samples of the picture a sensor pixel. Without blur they are brought down by a low-pass filter.
    size_px : (H, W), optional
        Of the sensor. By default the picture covers it all; a smaller one is taken as its middle.
    cfa : str, optional
        Colours of the top-left 2 x 2 sites, "mono" or "RGB"; by default "RGGB", or "mono" for a monochrome calibration.
    exposure : float
        White of the picture, 1, comes to this share of the white level.
    development : isp.Development, optional
        White balance, colour matrix and tone curve; a camera whose colours are those of sRGB when not given.
    sensor : Sensor, optional
        Of this calibration's noise and this mosaic, with what a noise model leaves open; by default `Sensor`'s own.
    demosaic : "malvar", "bilinear", "edge_aware" or "menon"
    mode : "scatter" or "gather"
        Of the blur.
    jpeg_quality, jpeg_subsampling : int, str
        As of `isp.encode_jpeg`.
    skip_missing : bool
        Leave stages out that are named and have no data, with a warning.
    workers : int, optional
        Threads; the result does not depend on it.

    Raises
    ------
    ValueError
        When there is no such stage, or one needs another that is not there: "demosaic" needs "mosaic", "jpeg" "tone".
    MissingPartError
        When a stage is asked for by name and the calibration has no data for it.
    """

    def __init__(
        self,
        cal: Calibration,
        stages: Sequence[Stage] | None = None,
        source_scale: int = 1,
        size_px: tuple[int, int] | None = None,
        cfa: str | None = None,
        exposure: float = 1.0,
        development: isp.Development | None = None,
        sensor: Sensor | None = None,
        demosaic: isp.Method = "malvar",
        mode: Literal["scatter", "gather"] = "scatter",
        jpeg_quality: int = 95,
        jpeg_subsampling: isp.Subsampling = "4:2:0",
        skip_missing: bool = False,
        workers: int | None = None,
    ) -> None:
        if source_scale < 1 or not exposure > 0:
            raise ValueError("`source_scale` and `exposure` must be positive")
        self.cal, self.source_scale, self.size_px = cal, source_scale, size_px
        parts = (cal.psf_grid, cal.distortion, cal.illumination, cal.noise)
        known = next((part.channels for part in parts if part is not None), None)
        self.cfa = cfa or ("mono" if known is not None and len(known) == 1 else "RGGB")
        self.channels = ("Y",) if self.cfa == "mono" else ("R", "G", "B")
        self.stages = chosen(cal, self.cfa, stages, development is not None, skip_missing)
        self.exposure, self.development = exposure, development or isp.Development()
        self.demosaic, self.mode = demosaic, mode
        self.jpeg_quality, self.jpeg_subsampling = jpeg_quality, jpeg_subsampling
        self.workers = workers or os.cpu_count() or 1
        self.sensor = sensor or (None if cal.noise is None else Sensor(cal.noise, self.cfa))
        if cal.noise is not None and "noise" in self.stages and np.isnan(cal.noise.read_noise_e).any():
            log.warning("the read noise of this calibration is unknown: simulated without where it is")
        self._before = _leading(self.stages)
        self._plan, self._undone = self._planned(), self._camera_light()
        self._blurs: tuple[SpatiallyVaryingBlur, ...] = ()
        self._fields: dict[Window, _Field] = {}

    @property
    def encoded(self) -> bool:
        """Whether pictures come out through a tone curve rather than as light."""
        return "tone" in self.stages

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator, origin: tuple[int, int] | None = None) -> Image:
        """Take a picture.

        Parameters
        ----------
        image : (s H, s W, 3) float, or (s H, s W) for a monochrome camera
            Linear light, white = 1, s samples a pixel; what is brighter than white saturates where it is quantised.
        rng : Generator
            Of all that is random.
        origin : (y, x), optional
            Row and column of the sensor where a picture smaller than it begins; in its middle by default. Such a crop
            has the PSFs, shading, colour sites and sensitivities of its place.

        Returns
        -------
        (H, W, 3) float32
            Linear light, white = 1, or encoded 0..1 behind "tone"; (H, W) of a monochrome camera, or of a mosaic that
            is not demosaiced.

        Raises
        ------
        ImageError
            When the picture has the wrong channels or size, or holds NaN or negative light.
        """
        light = self._admitted(image)
        for degradation in self._before:
            # noise, and splines beside sharp edges, swing below nothing
            light = self._admitted(np.maximum(degradation(light, rng), np.float32(0)))
        window = window_of((light.shape[0], light.shape[1]), self.source_scale, self.size_px, origin)
        field = self._field(window)
        if "white_balance" in self.stages or "colour" in self.stages:
            light = isp.camera_light(light, self._undone)
        if self.exposure != 1:
            light = light * np.float32(self.exposure)
        for k, stage in enumerate(self._plan):
            if isinstance(stage, str):
                light = self._taken(stage, light, field, rng)
            else:
                light = self._degraded(stage, light, rng, last=k == len(self._plan) - 1)
        return np.asarray(light[..., 0] if light.shape[2:] == (1,) else light, dtype=np.float32)

    def describe(self) -> list[str]:
        """Name every stage in its order, with its numbers, a line each."""
        return described(self)

    def _planned(self) -> list[Stage]:
        """Stages behind the degradations of the source itself, and where a finer source is sampled if nothing blurs."""
        plan = list(self.stages[len(self._before) :])
        if self.source_scale > 1 and "blur" not in plan:
            behind = next((k for k, s in enumerate(plan) if isinstance(s, str) and s != "distortion"), len(plan))
            plan.insert(behind, SAMPLE)
        if "noise" in plan and plan[plan.index("noise") + 1 :][:1] == ["quantise"]:
            at = plan.index("noise")
            plan[at : at + 2] = [READOUT]
        return plan

    def _taken(self, stage: str, light: Image, field: _Field, rng: np.random.Generator) -> Image:
        """Take one stage of `STAGES`."""
        gains = np.asarray(self.development.gains) * self.development.brightness
        match stage:
            case "distortion":
                shape = light.shape[0], light.shape[1]
                return _by_channel(
                    lambda c, plane: resample(plane, field.maps[c].at, shape, workers=self.workers), light
                )
            case "blur":
                return _by_channel(lambda c, plane: field.blurs[c].forward(plane), light)
            case "sample":
                return shrink(light, self.source_scale)
            case "shading":
                return light if field.shading is None else light * field.shading
            case "mosaic":
                return np.asarray(mosaic(light, self.cfa, (field.window.y, field.window.x)), dtype=np.float32)
            case "noise" | "quantise" | "readout":
                return self._read(stage != "quantise", stage != "noise", light, field, rng)
            case "white_balance":
                return isp.white_balance(light, gains, self._pattern(field.window) if light.ndim == 2 else None, 1.0)
            case "demosaic":
                return isp.demosaic(light, self._pattern(field.window), self.demosaic)
            case "colour":
                return np.asarray(isp.apply_matrix(light, self.development.matrix))
            case "tone":
                return np.asarray(isp.tone_map(light, self.development.tone))
        grey_or_rgb = light[..., 0] if light.shape[2:] == (1,) else light
        return np.asarray(isp.jpeg(grey_or_rgb, self.jpeg_quality, self.jpeg_subsampling))

    def _read(self, noise: bool, quantise: bool, light: Image, field: _Field, rng: np.random.Generator) -> Image:
        """Read the sensor out, and subtract its black level."""
        assert self.sensor is not None  # noqa: S101 stages without data are not taken
        origin = field.window.y, field.window.x
        threads = ThreadPoolExecutor(self.workers) if self.workers > 1 and light.size > MANY_PIXELS else nullcontext()
        with threads as executor:
            dn = self.sensor(
                light, rng, origin=origin, noise=noise, quantise=quantise, sensitivity=field.sensitivity,
                executor=executor,
            )  # fmt: skip
        return self.sensor.to_linear(dn, origin)

    def _degraded(self, degradation: Degradation, light: Image, rng: np.random.Generator, last: bool) -> Image:
        out = degradation(light, rng)
        if out.shape != light.shape and not last:
            raise ImageError(
                f"{degradation.describe()} changes the size of the picture between the camera's stages",
                remedy="List it before them or behind them all",
            )
        return out

    def _pattern(self, window: Window) -> str:
        """Colours of the top-left 2 x 2 sites of a window."""
        return "".join("RGB"[k] for k in cfa_sites(self.cfa, (2, 2), (window.y, window.x)).ravel())

    def _camera_light(self) -> isp.Development:
        """Choose what is undone of the development before the lens: no more than the stages that are taken do."""
        off: dict[str, object] = {}
        if "white_balance" not in self.stages:
            off |= {"gains": (1.0, 1.0, 1.0), "brightness": 1.0}
        if "colour" not in self.stages:
            off |= {"matrix": isp.Development().matrix}
        return replace(self.development, **off)  # type: ignore[arg-type]

    def _admitted(self, image: npt.ArrayLike) -> Image:
        given = np.asarray(image)
        light = np.asarray(given, dtype=np.float32)
        wanted = "(H, W)" if self.cfa == "mono" else "(H, W, 3)"
        if light.ndim == 2 and self.cfa == "mono":
            light = light[..., None]
        if light.ndim != 3 or light.shape[2] != len(self.channels):
            raise ImageError(f"this camera takes a picture of {wanted}, got {np.shape(image)}")
        if given.dtype.kind in "iu":
            raise ImageError("the picture holds whole numbers", remedy="Divide them by their white: light is 0 to 1")
        low, high = light.min(initial=0.0), light.max(initial=0.0)  # NaN where there is one
        if not np.isfinite(low + high):
            raise ImageError(f"the picture holds {int(np.sum(~np.isfinite(light)))} values that are not finite")
        if low < NO_LIGHT:
            raise ImageError(f"the picture holds light below nothing, down to {low:.3g}", remedy="Clip it at 0")
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
        shading = sensitivity = None
        if "distortion" in self.stages and cal.distortion is not None:
            maps = tuple(pinhole_map(cal.distortion, c, window, scale) for c in self.channels)
        if "blur" in self.stages and cal.psf_grid is not None:
            if not self._blurs:
                self._blurs = tuple(
                    SpatiallyVaryingBlur(cal.psf_grid, (1, 1), c, self.mode, scale, self.workers) for c in self.channels
                )
            blurs = tuple(b.crop(window.y, window.x, window.height, window.width) for b in self._blurs)
        if "shading" in self.stages and cal.illumination is not None:
            x, y = window.x + np.arange(float(window.width)), window.y + np.arange(float(window.height))
            planes = [cal.illumination.over(x, y, c).astype(np.float32) for c in self.channels]
            shading = np.stack(planes, axis=-1)
        if "noise" in self.stages and self.sensor is not None:
            shape = (window.height, window.width) + (() if "mosaic" in self.stages else (len(self.channels),))
            sensitivity = self.sensor.sensitivity(shape, (window.y, window.x))
        return _Field(window, maps, blurs, shading, sensitivity)


def _leading(stages: tuple[Stage, ...]) -> tuple[Degradation, ...]:
    """Degradations of the source itself: those before the first stage of the camera."""
    leading = []
    for stage in stages:
        if isinstance(stage, str):
            break
        leading.append(stage)
    return tuple(leading)


def _by_channel(work: Callable[[int, Image], Image], light: Image) -> Image:
    # OpenCV splits and merges many times faster than strided copies do
    planes = [work(c, np.asarray(plane, dtype=np.float32)) for c, plane in enumerate(cv2.split(light))]
    return np.asarray(cv2.merge(planes), dtype=np.float32).reshape(*planes[0].shape, len(planes))
