"""Calibrations along an axis -> the calibration between them: one tensor-product spline over field and setting.

Maps are linear in focal length, centre and coefficients once they share their knots, so an interpolating B-spline
through the settings (cubic where there are four, of the highest order that fewer allow) makes of them a tensor product
in x, y and setting. Wavefronts are interpolated likewise and rendered, as they are between the tiles of a field;
kernels mixed over settings would be blurred where the focus passes through its best. Beyond the outermost settings
there is no answer: nothing that was measured speaks of what lies there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import make_interp_spline

from psfbank import distortion as maps
from psfbank.arrays import FloatArray
from psfbank.axis import axis_scale
from psfbank.errors import AmbiguousSettingError, OutOfFieldError
from psfbank.model import Calibration, DistortionMap, Illumination, PsfGrid
from psfbank.optics import ZernikeField
from psfbank.render import FieldRenderer, unit_sum

DEGREE = 3  # of the spline over settings
SAMPLES_A_KNOT = 3  # at which a map is looked at to bring it to other knots
SAME = 1e-9  # of the axis: settings as near as this are one

log = logging.getLogger(__name__)
Part = TypeVar("Part")


def between(calibrations: Sequence[Calibration], key: str, value: float) -> Calibration:
    """Interpolate calibrations of one camera at a setting between theirs.

    Parameters
    ----------
    calibrations : sequence of Calibration
        At different values of `key`.
    key : str
        One of `psfbank.axis.AXIS_KEYS`.
    value : float

    Returns
    -------
    Calibration
        The one of that setting where there is one. Else its provenance says between which it lies and how well
        neighbours predict a setting that was left out; noise is the nearest setting's.

    Raises
    ------
    OutOfFieldError
        Beyond the outermost settings.
    AmbiguousSettingError
        When two calibrations stand at one value.
    """
    ordered = sorted(calibrations, key=lambda c: axis_scale(key, getattr(c.setting, key)))
    places = np.array([axis_scale(key, getattr(c.setting, key)) for c in ordered])
    at = axis_scale(key, value)
    span = float(np.ptp(places))
    if np.any(np.diff(places) <= SAME * span):
        raise AmbiguousSettingError(f"two calibrations stand at the same {key}", remedy="Name more of the setting")
    nearest = int(np.argmin(np.abs(places - at)))
    if abs(places[nearest] - at) <= SAME * span:
        return ordered[nearest]
    if not places[0] < at < places[-1]:
        known = sorted(float(getattr(c.setting, key)) for c in ordered)
        raise OutOfFieldError(
            f"{key} = {value:g} lies beyond {known[0]:g} .. {known[-1]:g}, the settings that were calibrated",
            remedy="Calibrate a setting beyond it, or name the outermost one",
        )
    smooth, linear = weights(places, at), weights(places, at, degree=1)
    maps_there, lights = _all([c.distortion for c in ordered]), _all([c.illumination for c in ordered])
    grid, wavefront = _psfs(ordered, smooth, linear, nearest, key)
    return replace(
        ordered[nearest],
        setting=replace(ordered[nearest].setting, **{key: value}),
        psf_grid=grid,
        wavefront=wavefront,
        distortion=None if maps_there is None else mixed_map(maps_there, smooth),
        illumination=None if lights is None else _mixed_light(lights, linear),
        provenance={"interpolated": _told(ordered, linear, key, value)},
        evidence=None,
        edges=None,
        axis=None,
    )


def weights(places: FloatArray, at: float, degree: int = DEGREE) -> npt.NDArray[np.float64]:
    """Share (S,) of each setting in what an interpolating spline through all gives at a place of the axis."""
    order = min(degree, len(places) - 1)
    return np.asarray(make_interp_spline(places, np.eye(len(places)), k=order)(at))


def mixed_map(parts: Sequence[DistortionMap], shares: FloatArray) -> DistortionMap:
    """Mix maps of one camera by shares (S,) that sum to one, on the knots of the one with the largest."""
    first = parts[int(np.argmax(shares))]
    matrix = np.tensordot(shares, np.stack([p.camera_matrix for p in parts]), 1)
    coefficients = np.tensordot(shares, np.stack([_on_knots(p, first) for p in parts]), 1)
    region = np.asarray(first.valid_region, dtype=np.float32)
    for part in parts:
        _, common = cv2.intersectConvexConvex(region, np.asarray(part.valid_region, dtype=np.float32))
        region = region if common is None else np.asarray(common, dtype=np.float32).reshape(-1, 2)
    rms_px = np.max(np.stack([p.rms_px for p in parts]), axis=0)
    return replace(first, camera_matrix=matrix, coefficients=coefficients, valid_region=region, rms_px=rms_px)


def _on_knots(part: DistortionMap, other: DistortionMap) -> npt.NDArray[np.float64]:
    """Coefficients (C, 2, Ny, Nx) of a map's displacement on the knots of another."""
    same = (part.knots_x, part.knots_y), (other.knots_x, other.knots_y)
    if all(a.shape == b.shape and np.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*same, strict=True)):
        return np.asarray(part.coefficients, dtype=np.float64)
    axes = [np.linspace(k[3], k[-4], SAMPLES_A_KNOT * len(k)) for k in (other.knots_x, other.knots_y)]
    u = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    pinhole = u * np.diag(part.camera_matrix)[:2] + part.camera_matrix[:2, 2]
    to_x, to_y = (
        np.linalg.pinv(maps.basis_matrix(k, at)) for k, at in zip((other.knots_x, other.knots_y), axes, strict=True)
    )
    moved = [
        (maps.project_stereographic(u, part.camera_matrix, part.knots_x, part.knots_y, c)[0] - pinhole)
        .reshape(len(axes[1]), len(axes[0]), 2)
        .transpose(2, 0, 1)
        for c in part.coefficients
    ]
    return np.asarray(to_y @ np.stack(moved) @ to_x.T)


def _mixed_light(parts: Sequence[Illumination], shares: FloatArray) -> Illumination | None:
    """Mix relative illumination by shares (S,); None where the settings' nodes differ."""
    first = parts[int(np.argmax(shares))]
    if not all(_same_nodes(part, first) for part in parts):
        return None
    relative = np.tensordot(shares, np.stack([part.relative for part in parts]), 1)
    return replace(first, relative=relative / relative.max(axis=(-2, -1), keepdims=True))


def _psfs(
    ordered: Sequence[Calibration], smooth: FloatArray, linear: FloatArray, nearest: int, key: str
) -> tuple[PsfGrid | None, ZernikeField | None]:
    """PSFs and wavefront between settings; the nearest setting's where a part of them cannot be rendered."""
    grids, fields = _all([c.psf_grid for c in ordered]), _all([c.wavefront for c in ordered])
    renderers = _all([c.renderer for c in ordered])
    if grids is None or fields is None or renderers is None or not _alike(grids, fields):
        if ordered[nearest].psf_grid is not None:
            log.warning("PSFs are those of %s = %g", key, getattr(ordered[nearest].setting, key))
        return ordered[nearest].psf_grid, ordered[nearest].wavefront
    wavefront = _mixed_wavefront(fields, smooth, linear)
    first = grids[nearest]
    imaging = wavefront.imaging
    assert imaging is not None  # noqa: S101 it was mixed from renderable ones
    renderer = FieldRenderer.of(first.x_px, first.y_px, first.kernels, first.oversample, wavefront, imaging)
    kernels = np.empty(first.kernels.shape, dtype=np.float32)
    for c, j, i in np.ndindex(*kernels.shape[:3]):
        kernel = renderer.wavefront_kernel(c, float(first.x_px[i]), float(first.y_px[j]))
        for share, other in zip(linear, renderers, strict=True):
            if share:
                kernel += share * other.remainder(c, j, i)
        kernels[c, j, i] = unit_sum(kernel)
    sigma = np.max([np.asarray(g.sigma) for g, share in zip(grids, linear, strict=True) if share], axis=0)
    n_obs = np.zeros(kernels.shape[:3], dtype=np.int32)  # nothing was seen at this setting
    return replace(first, kernels=kernels, sigma=sigma, n_obs=n_obs), wavefront


def _mixed_wavefront(fields: Sequence[ZernikeField], smooth: FloatArray, linear: FloatArray) -> ZernikeField:
    """Interpolate coefficients by the spline; what must stay in bounds is mixed of the two settings beside."""
    first = fields[int(np.argmax(linear))]
    imagings = _all([field.imaging for field in fields])
    imaging = first.imaging
    if imagings is not None and imaging is not None:
        diffusion_px = np.tensordot(linear, np.stack([one.diffusion_px for one in imagings]), 1)
        clip = np.tensordot(linear, np.stack([one.clip for one in imagings]), 1)
        waves = np.tensordot(linear, np.stack([one.wavelengths_nm for one in imagings]), 1)
        imaging = replace(imaging, diffusion_px=diffusion_px, clip=clip, wavelengths_nm=waves)
    stderr = np.sqrt(np.tensordot(smooth**2, np.stack([f.stderr_nm for f in fields]) ** 2, 1))
    return replace(
        first,
        coefficients_nm=np.tensordot(smooth, np.stack([f.coefficients_nm for f in fields]), 1),
        stderr_nm=stderr,
        wavelength_nm=linear @ np.stack([f.wavelength_nm for f in fields]),
        f_number=float(linear @ [f.f_number for f in fields]),
        imaging=imaging,
    )


def _alike(grids: Sequence[PsfGrid], fields: Sequence[ZernikeField]) -> bool:
    """Whether kernels and wavefronts of all settings stand at the same nodes, of as many terms and wavelengths."""
    first, field = grids[0], fields[0]
    return all(
        _same_nodes(grid, first)
        and grid.kernels.shape == first.kernels.shape
        and grid.oversample == first.oversample
        and _same_nodes(other, field)
        and np.array_equal(other.nm, field.nm)
        and other.imaging is not None
        and field.imaging is not None
        and other.imaging.wavelengths_nm.shape == field.imaging.wavelengths_nm.shape
        for grid, other in zip(grids, fields, strict=True)
    )


def _same_nodes(one: PsfGrid | Illumination | ZernikeField, other: PsfGrid | Illumination | ZernikeField) -> bool:
    return (
        one.channels == other.channels and np.array_equal(one.x_px, other.x_px) and np.array_equal(one.y_px, other.y_px)
    )


def _all(parts: Sequence[Part | None]) -> list[Part] | None:
    """Return the parts when none is missing."""
    there = [part for part in parts if part is not None]
    return there if len(there) == len(parts) else None


def _told(ordered: Sequence[Calibration], linear: FloatArray, key: str, value: float) -> dict[str, object]:
    """Say between which settings a calibration lies, and how far neighbours missed a setting that was left out."""
    beside = [c for c, share in zip(ordered, linear, strict=True) if share]
    missed = [float(c.axis.left_out_px[0]) for c in ordered if c.axis is not None]
    known = [m for m in missed if np.isfinite(m)]
    return {
        "key": key,
        "value": value,
        "between": [float(getattr(c.setting, key)) for c in beside],
        "left_out_px": max(known) if known else None,
    }
