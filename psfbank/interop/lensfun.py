"""Lensfun: a database entry of camera and lens with distortion, lateral colour and vignetting.

Lensfun's radii are about the lens's `<center>`; 1 is half of the picture's shorter side for distortion and lateral
colour, half its diagonal for vignetting, both between the centres of the outermost pixels. All its models go from the
corrected picture to the camera's, as ours: poly5 and ptlens give the distorted radius of an ideal one, `tca` the radius
of red and blue of that of green, `pa` the light at a place of the camera's picture. Lensfun 0.3.4 evaluates ptlens with
approximate square roots where the processor has them, about 1e-4 of the radius off; poly5 is exact.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import least_squares

from psfbank.arrays import FloatArray
from psfbank.errors import ExportError, MissingPartError
from psfbank.interop.loss import Array, Loss, Places, fitted, loss_of, reserved
from psfbank.interop.parametric import AS_GOOD
from psfbank.model import Calibration, Camera, DistortionMap, Illumination

Radial = Literal["poly5", "ptlens"]
TERMS: dict[Radial, tuple[str, ...]] = {"poly5": ("k1", "k2"), "ptlens": ("a", "b", "c")}
FULL_FRAME_MM = math.hypot(36, 24)
WIDEST_RECTILINEAR = math.tan(math.radians(60))  # beyond it, distortion is told against an equidistant projection
FAR_M = 1000.0  # what lensfun's database says for infinity
LIGHT_NODES = 33


@dataclass(frozen=True, eq=False)
class RadialLens:
    """A radial model: `parameters` are its centre (2,) px, its focal length (px) and its coefficients."""

    model: Radial
    kind: Literal["rectilinear", "fisheye"]
    half_px: float
    parameters: Array
    loss: Loss

    @property
    def centre_px(self) -> Array:
        """Centre of all radii, (2,) px."""
        return self.parameters[:2]

    def project(self, rays: FloatArray) -> Array:
        """Rays (N, 2) -> pixels (N, 2), as lensfun maps them."""
        return _projected(self.model, self.kind, self.half_px, self.parameters, rays)


@dataclass(frozen=True, eq=False)
class Vignetting:
    """Light k1, k2, k3 of the model `pa`, and what its correction leaves: RMS and largest, shares of the light."""

    coefficients: Array
    rms: float
    largest: float


def fit_radial(distortion: DistortionMap, size_px: tuple[int, int], channel: str, model: Radial | None) -> RadialLens:
    """Fit the radial models of lensfun, and choose poly5 unless ptlens is clearly better, or the one that is named."""
    if model is not None:
        return _fit(distortion, size_px, channel, model)
    poly5, ptlens = (_fit(distortion, size_px, channel, each) for each in TERMS)
    factor, extra_px = AS_GOOD
    return poly5 if poly5.loss.rms_px <= max(factor * ptlens.loss.rms_px, ptlens.loss.rms_px + extra_px) else ptlens


def _fit(distortion: DistortionMap, size_px: tuple[int, int], channel: str, model: Radial) -> RadialLens:
    places = fitted(distortion, size_px, channel)
    wide = bool(np.linalg.norm(places.rays, axis=1).max() > WIDEST_RECTILINEAR)
    kind: Literal["rectilinear", "fisheye"] = "fisheye" if wide else "rectilinear"
    half_px = (min(size_px) - 1) / 2
    focal_px = float(np.mean(np.diag(distortion.camera_matrix)[:2]))
    start = np.concatenate([distortion.camera_matrix[:2, 2], [focal_px], np.zeros(len(TERMS[model]))])

    def misses(parameters: FloatArray) -> Array:
        return np.asarray((_projected(model, kind, half_px, parameters, places.rays) - places.xy_px).ravel())

    found = least_squares(misses, start, x_scale="jac").x
    held = reserved(distortion, size_px, channel)
    loss = loss_of(lambda rays: _projected(model, kind, half_px, found, rays), held, channel)
    return RadialLens(model, kind, half_px, found, loss)


def _projected(model: Radial, kind: str, half_px: float, parameters: FloatArray, rays: FloatArray) -> Array:
    off = np.linalg.norm(rays, axis=1, keepdims=True)
    shrink = np.arctan(off) / np.maximum(off, 1e-12) if kind == "fisheye" else 1.0
    ideal = rays * shrink * parameters[2] / half_px
    r = np.linalg.norm(ideal, axis=1, keepdims=True)
    if model == "poly5":
        k1, k2 = parameters[3:]
        stretch = 1 + k1 * r**2 + k2 * r**4
    else:
        a, b, c = parameters[3:]
        stretch = 1 - a - b - c + r * (c + r * (b + r * a))
    return np.asarray(parameters[:2] + half_px * ideal * stretch)


def fit_lateral(lens: RadialLens, distortion: DistortionMap, size_px: tuple[int, int], channel: str) -> Array:
    """Fit b, c, v of a colour: its radius is (b r^2 + c r + v) times that of green, about the lens's centre."""
    green = lens.loss.channel
    places = fitted(distortion, size_px, green)
    off = (places.xy_px - lens.centre_px) / lens.half_px
    there = (distortion.project(places.rays, channel) - lens.centre_px) / lens.half_px
    r = np.linalg.norm(off, axis=1)
    design = np.stack([off * r[:, None] ** 2, off * r[:, None], off], axis=-1).reshape(-1, 3)
    return np.asarray(np.linalg.lstsq(design, there.ravel(), rcond=None)[0])


def lateral_loss(
    lens: RadialLens, bcv: FloatArray, distortion: DistortionMap, size_px: tuple[int, int], channel: str
) -> Loss:
    """Loss of a colour after distortion and lateral colour."""
    held: Places = reserved(distortion, size_px, channel)

    def project(rays: FloatArray) -> Array:
        off = lens.project(rays) - lens.centre_px
        r = np.linalg.norm(off, axis=1, keepdims=True) / lens.half_px
        return np.asarray(lens.centre_px + off * (bcv[0] * r**2 + bcv[1] * r + bcv[2]))

    return loss_of(project, held, channel)


def fit_vignetting(light: Illumination, size_px: tuple[int, int], centre_px: FloatArray, channel: str) -> Vignetting:
    """Fit 1 + k1 r^2 + k2 r^4 + k3 r^6 to one channel's illumination, up to its level; the loss is between nodes."""
    height, width = size_px
    half_diagonal_px = math.hypot(width - 1, height - 1) / 2

    def at(nodes: int) -> tuple[Array, Array]:
        x, y = (np.linspace(0, n - 1, nodes) for n in (width, height))
        r2 = ((x - centre_px[0]) ** 2 + (y[:, None] - centre_px[1]) ** 2).ravel() / half_diagonal_px**2
        return np.stack([np.ones_like(r2), r2, r2**2, r2**3], axis=-1), light.over(x, y, channel).ravel()

    design, seen = at(LIGHT_NODES)
    found = np.linalg.lstsq(design / seen[:, None], np.ones_like(seen), rcond=None)[0]
    design, seen = at(LIGHT_NODES - 1)
    off = np.abs(seen / (design @ found) - 1)
    return Vignetting(found[1:] / found[0], float(np.sqrt(np.mean(off**2))), float(off.max()))


def database(
    camera: Camera,
    calibration: Calibration,
    lens: RadialLens | None,
    lateral: dict[str, FloatArray],
    light: Vignetting | None,
) -> str:
    """Write a lensfun database of one camera and its lens.

    Parameters
    ----------
    camera : Camera
    calibration : Calibration
        For its setting.
    lens : RadialLens, optional
    lateral : dict of str to (3,) float
        `fit_lateral` of R and B; empty where there is none.
    light : Vignetting, optional

    Returns
    -------
    str
        XML.

    Raises
    ------
    ExportError, MissingPartError
        When the bank does not know what lensfun must: pixel pitch, focal length, f-number.
    """
    if not math.isfinite(camera.pitch_um):
        raise ExportError(
            "lensfun counts in crop factors, and this bank does not know its pixel pitch",
            remedy="Give pixel_pitch_um in the [camera] section of capture.toml",
        )
    height, width = camera.size_px
    crop = FULL_FRAME_MM / (math.hypot(width, height) * camera.pitch_um * 1e-3)
    focal_mm = _focal_mm(calibration, camera, lens)
    root = ET.Element("lensdatabase", version="1")
    body = ET.SubElement(root, "camera")
    glass = ET.SubElement(root, "lens")
    mount = f"fixed {_plain(camera.maker)} {_plain(camera.model)}".strip()
    ET.SubElement(ET.SubElement(root, "mount"), "name").text = mount
    root[:] = [root[2], body, glass]
    for element, model in ((body, camera.model), (glass, camera.lens or camera.model)):
        for name, text in (("maker", camera.maker), ("model", model), ("mount", mount), ("cropfactor", f"{crop:.6g}")):
            ET.SubElement(element, name).text = _plain(text) or "unknown"
    ET.SubElement(glass, "aspect-ratio").text = f"{max(width, height)}:{min(width, height)}"
    ET.SubElement(glass, "type").text = "rectilinear" if lens is None else lens.kind
    if lens is not None:
        middle = np.array([width - 1, height - 1]) / 2
        x, y = ((lens.centre_px - middle) / lens.half_px).tolist()
        ET.SubElement(glass, "center", x=f"{x:.9g}", y=f"{y:.9g}")
    measured = ET.SubElement(glass, "calibration")
    if lens is not None:
        _add_distortion(measured, lens, lateral, focal_mm)
    if light is not None:
        setting = calibration.setting
        distance = setting.focus_m if math.isfinite(setting.focus_m) else FAR_M
        terms = {f"k{k}": f"{value:.9g}" for k, value in enumerate(light.coefficients, start=1)}
        place = {"focal": f"{focal_mm:.6g}", "aperture": f"{setting.f_number:g}", "distance": f"{distance:g}"}
        ET.SubElement(measured, "vignetting", {"model": "pa", **place, **terms})
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _add_distortion(measured: ET.Element, lens: RadialLens, lateral: dict[str, FloatArray], focal_mm: float) -> None:
    values = lens.parameters[3:]
    terms = {name: f"{value:.9g}" for name, value in zip(TERMS[lens.model], values, strict=True)}
    measured.append(ET.Comment(f" the corrected picture has a focal length of {lens.parameters[2]:.9g} px "))
    ET.SubElement(measured, "distortion", {"model": lens.model, "focal": f"{focal_mm:.6g}", **terms})
    if lateral:
        colours = {
            f"{name}{channel.lower()}": f"{value:.9g}"
            for channel, bcv in lateral.items()
            for name, value in zip("bcv", bcv, strict=True)
        }
        ET.SubElement(measured, "tca", {"model": "poly3", "focal": f"{focal_mm:.6g}", **colours})


def _focal_mm(calibration: Calibration, camera: Camera, lens: RadialLens | None) -> float:
    if math.isfinite(calibration.setting.focal_mm):
        return calibration.setting.focal_mm
    if lens is not None:
        return float(lens.parameters[2]) * camera.pitch_um * 1e-3
    raise MissingPartError(
        "this calibration knows no focal length, to which lensfun ties its corrections",
        remedy="Give focal_length_mm in capture.toml",
    )


def _plain(text: str) -> str:
    """Text without the control characters that XML cannot hold."""
    return re.sub(r"[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text).strip()
