"""Hold one calibration against another, to tell whether they show the same lens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from psfbank.arrays import FloatArray, channel_index
from psfbank.compare.difference import FREEDOM, Difference, against_sigma, against_tolerance, both_sigmas
from psfbank.compare.maps import distortion_apart_px, freedom_of, lateral_apart_px, places, shading_apart
from psfbank.compare.psfs import on_common_nodes, relative_distance
from psfbank.errors import ComparisonError
from psfbank.metrics import field_mtf
from psfbank.model import Calibration, Camera, NoiseModel

DIRECTIONS = ("sagittal", "tangential")
OF_LENS = ("psf", "mtf50", "distortion", "lateral colour", "shading")
SHADING_TOLERANCE = 0.02
TURN = "distortion.turn_rad"
LEVEL_TOLERANCE = 0.002  # of the range from black to white

Found = list[tuple[Difference, dict[str, FloatArray]]]


@dataclass(frozen=True)
class _Quantity:
    """One number of a sensor: two sessions differ by a share of it, or by the least that can be told."""

    name: str
    unit: str
    share: float
    least: float


NOISE = {
    "gain_dn_per_e": _Quantity("gain", "DN/e-", 0.05, 0.0),
    "read_noise_e": _Quantity("read noise", "e-", 0.1, 0.2),
    "dark_e_per_s": _Quantity("dark current", "e-/s", 0.3, 0.1),
    "prnu": _Quantity("PRNU", "1", 0.3, 0.003),
}
LEVELS = {"black_dn": "black level", "white_dn": "white level"}


@dataclass(frozen=True, eq=False)
class Comparison:
    """All differences of two calibrations; `left_out` says which parts could not be compared, and why.

    `maps` holds the differences as arrays, second minus first: "psf.relative_l2.G" (Ty, Tx) at "psf.x_px", "psf.y_px";
    "mtf50_sagittal.G" there too; "distortion.G" and "lateral.R" (Ny, Nx, 2), "shading.G" (Ny, Nx) at "field.x_px",
    "field.y_px"; beside each its ".sigma" where one is known; "distortion.turn_rad" (3,), the rotation of the frame
    that was removed.
    """

    differences: tuple[Difference, ...]
    left_out: tuple[str, ...]
    maps: Mapping[str, FloatArray]

    def __post_init__(self) -> None:
        object.__setattr__(self, "maps", MappingProxyType(dict(self.maps)))

    @property
    def turn_deg(self) -> float:
        """Angle between the frames of the two distortion maps, which no picture of targets tells; NaN without maps."""
        return float(np.degrees(np.linalg.norm(self.maps[TURN]))) if TURN in self.maps else float("nan")

    @property
    def same(self) -> bool | None:
        """Whether nothing differs by more than errors explain; None where it cannot be told, as errors are unknown."""
        if any(each.differs for each in self.differences):
            return False
        return None if self._undecided else True

    @property
    def _undecided(self) -> list[str]:
        return list(dict.fromkeys(d.quantity for d in self.differences if d.differs is None and np.isfinite(d.rms)))

    @property
    def verdict(self) -> str:
        """One line: the same lens or not, and what tells."""
        differing = list(dict.fromkeys(each.quantity for each in self.differences if each.differs))
        if any(name.startswith(OF_LENS) for name in differing):
            return f"not the same lens, or not in the same state: more than errors explain in {', '.join(differing)}"
        if undecided := self._undecided:
            lens = f"undecided: neither bank states the errors of {', '.join(undecided)}"
        elif any(each.quantity.startswith(OF_LENS) for each in self.differences):
            lens = "the same lens within errors"
        else:
            lens = "undecided about the lens: both banks hold noise alone"
        return f"{lens}; the sensor or its ISO speed differs in {', '.join(differing)}" if differing else lens


@dataclass(frozen=True, eq=False)
class _Pair:
    one: Calibration
    other: Calibration
    channels: tuple[str, ...]
    size_px: tuple[int, int]


def compare(camera: Camera, one: Calibration, other_camera: Camera, other: Calibration) -> Comparison:
    """Compare two calibrations wherever both are defined.

    Differences are judged against the errors that both calibrations state. The RMS of (difference / sigma) over the
    field is about 1 where nothing differs; errors are smooth over the field, so few degrees of freedom let it vary, and
    it must stay below what chance exceeds in one of 10000 pairs. Every single place must stay below 5 sigma. Shading
    and noise state no errors: they are held to what two sessions of one camera differ by. Where one side does not know
    its errors, the other's stand for them.

    Parameters
    ----------
    camera, other_camera : Camera
    one, other : Calibration

    Returns
    -------
    Comparison

    Raises
    ------
    ComparisonError
        When the sensors differ in size, or share no channel, or the calibrations no part.
    """
    size_px = camera.size_px
    if size_px != other_camera.size_px:
        sizes = " and ".join(f"{width} x {height}" for height, width in (size_px, other_camera.size_px))
        raise ComparisonError(f"the sensors have {sizes} pixels", remedy="Compare banks of one resolution")
    channels = tuple(c for c in camera.channels if c in other_camera.channels)
    if not channels:
        raise ComparisonError("the sensors share no channel: one has colours, the other has not")
    pair = _Pair(one, other, channels, size_px)
    parts: dict[str, tuple[str, Callable[[_Pair], Found]]] = {
        "PSF": ("psf_grid", _psfs),
        "distortion": ("distortion", _distortion),
        "shading": ("illumination", _shading),
        "noise": ("noise", _noise),
    }
    found: Found = []
    left_out = []
    for words, (part, work) in parts.items():
        lacking = [which for which, of in (("first", one), ("second", other)) if getattr(of, part) is None]
        if lacking:
            left_out.append(f"{words}: not in the {' nor in the '.join(lacking)}")
        else:
            found += work(pair)
    if not found:
        raise ComparisonError(f"there is nothing to compare: {'; '.join(left_out)}")
    maps = {name: values for _, own in found for name, values in own.items()}
    return Comparison(tuple(each for each, _ in found), tuple(left_out), maps)


def _psfs(pair: _Pair) -> Found:
    grids = on_common_nodes(pair.one, pair.other, pair.channels)
    axes = {"psf.x_px": grids[0].x_px, "psf.y_px": grids[0].y_px}
    apart = relative_distance(grids[0].kernels, grids[1].kernels)
    sigma = both_sigmas(*(np.asarray(grid.sigma) for grid in grids))
    fields = [field_mtf(grid, pair.size_px) for grid in grids]
    moved = fields[1].mtf50_cpp - fields[0].mtf50_cpp
    std = both_sigmas(fields[0].mtf50_std_cpp, fields[1].mtf50_std_cpp)
    found: Found = []
    for c, channel in enumerate(pair.channels):
        judged = against_sigma("psf", "relative L2", channel, apart[c], sigma[c])
        found.append((judged, axes | _held(f"psf.relative_l2.{channel}", apart[c], sigma[c])))
    for k, direction in enumerate(DIRECTIONS):
        for c, channel in enumerate(pair.channels):
            values = moved[c, ..., k], std[c, ..., k]
            judged = against_sigma(f"mtf50 {direction}", "cycles/px", channel, *values)
            found.append((judged, _held(f"mtf50_{direction}.{channel}", *values)))
    return found


def _distortion(pair: _Pair) -> Found:
    first, second = pair.one.distortion, pair.other.distortion
    assert first is not None  # noqa: S101 compare looked
    assert second is not None  # noqa: S101
    x_px, y_px = places(pair.size_px)
    xy_px = np.stack(np.meshgrid(x_px, y_px), axis=-1).reshape(-1, 2)
    lead = "G" if "G" in pair.channels else pair.channels[0]

    def vectors(
        quantity: str, name: str, channel: str, apart: FloatArray, sigma: FloatArray, freedom: float = FREEDOM
    ) -> Found:
        # lengths against the length that both errors together have
        length, expected = np.linalg.norm(apart, axis=1), np.linalg.norm(sigma, axis=1)
        shape = len(y_px), len(x_px), 2
        held = _held(f"{name}.{channel}", apart.reshape(shape), sigma.reshape(shape))
        return [(against_sigma(quantity, "px", channel, length, expected, freedom), held)]

    apart, sigma, turn = distortion_apart_px(second, first, xy_px, lead)
    found = vectors("distortion", "distortion", lead, apart, sigma, freedom_of(first, second, xy_px, lead))
    found[0][1].update({"field.x_px": x_px, "field.y_px": y_px, TURN: turn})
    for channel in pair.channels:
        if channel != lead:
            apart, sigma = lateral_apart_px(first, second, xy_px, channel, lead)
            found += vectors("lateral colour", "lateral", channel, apart, sigma)
    return found


def _shading(pair: _Pair) -> Found:
    first, second = pair.one.illumination, pair.other.illumination
    assert first is not None  # noqa: S101 compare looked
    assert second is not None  # noqa: S101
    x_px, y_px = places(pair.size_px)
    found: Found = []
    for channel in pair.channels:
        apart = shading_apart(first, second, x_px, y_px, channel)
        judged = against_tolerance("shading", "relative", channel, apart, SHADING_TOLERANCE)
        found.append((judged, {"field.x_px": x_px, "field.y_px": y_px, f"shading.{channel}": apart}))
    return found


def _noise(pair: _Pair) -> Found:
    first, second = pair.one.noise, pair.other.noise
    assert first is not None  # noqa: S101 compare looked
    assert second is not None  # noqa: S101
    found: Found = []
    for field, quantity in NOISE.items():
        for channel in pair.channels:
            a, b = (_of(noise, field, channel) for noise in (first, second))
            if np.isfinite(b - a):
                tolerance = max(quantity.share * (a + b) / 2, quantity.least)
                judged = against_tolerance(quantity.name, quantity.unit, channel, np.array([b - a]), tolerance)
                found.append((judged, {}))
    for field, name in LEVELS.items():
        for channel in pair.channels:
            span = _of(first, "white_dn", channel) - _of(first, "black_dn", channel)
            apart = np.array([_of(second, field, channel) - _of(first, field, channel)])
            found.append((against_tolerance(name, "DN", channel, apart, LEVEL_TOLERANCE * span), {}))
    return found


def _of(noise: NoiseModel, field: str, channel: str) -> float:
    return float(getattr(noise, field)[channel_index(noise.channels, channel)])


def _held(name: str, apart: FloatArray, sigma: FloatArray) -> dict[str, FloatArray]:
    return {name: apart, f"{name}.sigma": sigma}
