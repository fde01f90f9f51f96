"""lmfit's parameters of a few tiles' point images: their names, start values, bounds, and what each of them shapes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import lmfit
import numpy as np
import numpy.typing as npt

from calib.pointmodel import EXTRAS, Optics, PointModel, Samples
from calib.wavefront.diversity import Planes
from calib.wavefront.problem import Problem, with_ties
from psfbank.arrays import FloatArray, IntArray
from psfbank.errors import FitFailed

MOVE_PX = 1.5  # how far an image may lie from where it is thought to be
LEAST_SAMPLES = 6  # of an image: flux, background, place, and something to spare
START_WAVES = 0.12  # RMS of a start's defocus; terms of order n get 1 / (n - 1) of it
SHARED = ("diffusion_px", "scale")
OWN = ("clip_x", "clip_y", "clip_radius")  # each tile's


class Within(NamedTuple):
    """A start value and the bounds it is free in; bounds that coincide hold it."""

    start: float
    low: float
    high: float


class Role(NamedTuple):
    """What lmfit's `user_data` says of a parameter: whether the twin has its sign turned, and how wide starts lie."""

    flips: bool
    start_nm: float


def held(value: float) -> Within:
    """Hold at a value."""
    return Within(value, value, value)


DIFFUSION, CENTRED, OPEN, AS_STATED = held(0.25), held(0.0), held(1.1), held(1.0)


@dataclass(frozen=True)
class Extras:
    """What shapes images beside the wavefront.

    `diffusion_px`, charge diffusion; `clip_x`, `clip_y`, `clip_radius`, a second stop that cuts the pupil, in pupil
    radii, each tile's own; `scale`, a factor on lambda N.
    """

    diffusion_px: Within = DIFFUSION
    clip_x: Within = CENTRED
    clip_y: Within = CENTRED
    clip_radius: Within = OPEN
    scale: Within = AS_STATED


@dataclass(frozen=True)
class TileImages:
    """Images of points in one tile and channel.

    Parameters
    ----------
    samples : Samples
        Of N images; mosaic sites, or all pixels.
    xy_px : (N, 2) float
        Where each is thought to be.
    plane : (N,) int, optional
        Number of each image's focus plane; all in plane 0 unless said otherwise.
    field : (x, y)
        The tile's place from the optical axis, in half diagonals.
    """

    samples: Samples
    xy_px: FloatArray
    plane: IntArray | None = None
    field: tuple[float, float] = (0.0, 0.0)

    def planes(self) -> IntArray:
        """Return the number (N,) of each image's focus plane."""
        return np.zeros(len(self.xy_px), dtype=np.int64) if self.plane is None else self.plane


def term_name(n: int, m: int) -> str:
    """Return the name of a term: z3_1, or z3_m1 for m = -1; tile 0's coefficient of it is t0_z3_1."""
    return f"z{n}_{m}" if m >= 0 else f"z{n}_m{-m}"


def edge_slope(nm: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Steepest slope (J,) of each term, per pupil radius: R_n^m has the slope (n (n + 2) - m^2) / 2 at the edge."""
    n, m = np.asarray(nm, float).T
    norm = np.sqrt(np.where(m == 0, n + 1, 2 * (n + 1)))
    return np.asarray(norm * np.maximum((n * (n + 2) - m**2) / 2, np.abs(m)))


def slope_limit_nm(model: PointModel, half_px: float) -> float:
    """Slope of a wavefront, nm per pupil radius, whose rays reach the window's edge or that the pupil undersamples.

    A slope dW/drho moves a ray by 2 N dW/drho; a phase may change by half a wave from one pupil sample to the next.
    """
    optics = model.optics
    window = half_px * optics.pitch_um * 1e3 / (2 * optics.f_number)
    return float(min(window, optics.wavelengths_nm.min() / (2 * model.pupil.step)))


def clean(samples: Samples) -> Samples:
    """Give samples that are not finite the weight zero, and those of weight zero the value zero."""
    known = np.isfinite(samples.values) & np.isfinite(samples.weights) & (samples.weights > 0)
    return replace(samples, values=np.where(known, samples.values, 0.0), weights=np.where(known, samples.weights, 0.0))


def half_width(samples: Samples, xy_px: FloatArray) -> int:
    """Half width of the window about each place that holds all known samples, pixels."""
    known = samples.weights > 0
    down = np.abs(samples.rows_px - xy_px[:, 1, None, None])[known.any(3)]
    across = np.abs(samples.cols_px - xy_px[:, 0, None, None])[known.any(2)]
    return int(np.ceil(max(down.max(), across.max())))


def with_terms_of(optics: Optics, planes: Planes) -> Optics:
    """Add the terms of defocus that the fit itself has not."""
    have = {tuple(term) for term in optics.nm.tolist()}
    more = [term for term in planes.nm.tolist() if tuple(term) not in have]
    return replace(optics, nm=np.array([*optics.nm.tolist(), *more], dtype=np.int32))


def pose_tiles(
    tiles: tuple[TileImages, ...], optics: Optics, channel: int, planes: Planes, extras: Extras, pupil_samples: int
) -> Problem:
    """Arrange images, parameters and the model.

    Raises
    ------
    FitFailed
        When no image holds enough known samples, or a plane's defocus reaches beyond the window.
    ValueError
        When an image is in a plane that `planes` does not hold.
    """
    parts = [clean(tile.samples) for tile in tiles]
    fields = ("rows_px", "cols_px", "values", "weights")
    samples = Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))
    xy_px, plane = (np.concatenate(arrays) for arrays in zip(*((t.xy_px, t.planes()) for t in tiles), strict=True))
    tile = np.repeat(np.arange(len(tiles)), [len(t.xy_px) for t in tiles])
    if plane.size and not 0 <= plane.min() <= plane.max() < len(planes.at):
        raise ValueError(f"images are in planes {plane.min()} to {plane.max()}, there are {len(planes.at)}")
    used = (samples.weights > 0).sum((1, 2, 3)) >= LEAST_SAMPLES
    missing = sorted(set(range(len(tiles))) - set(tile[used].tolist()))
    if missing:
        raise FitFailed(
            f"no point image with {LEAST_SAMPLES} known samples"
            + (f" in tile{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}" if len(tiles) > 1 else ""),
            remedy="Shoot more points there, or expose them less where they are saturated",
        )
    samples, xy_px, plane, tile = samples.take(np.flatnonzero(used)), xy_px[used], plane[used], tile[used]
    half_px = half_width(samples, xy_px)
    model = PointModel(with_terms_of(optics, planes), channel, half_px, pupil_samples)
    limit_nm = slope_limit_nm(model, half_px)
    _require_planes_within(planes, plane, limit_nm)
    parameters = _parameters(optics, len(tiles), extras, xy_px, limit_nm)
    for k, at in enumerate(planes.at):
        free = planes.free if k != planes.reference and k in plane else 0.0
        _add(parameters, f"focus_{k}", Within(at, at - free, at + free))
    names, terms = tuple(parameters), len(optics.nm)
    mapping = _mapping(model, terms, names, planes, tile, plane)
    return with_ties(Problem(model, samples, parameters, names, mapping, np.zeros((0, 0)), used, terms))


def _require_planes_within(planes: Planes, plane: IntArray, limit_nm: float) -> None:
    slope_nm = float(np.abs(planes.unit_nm) @ edge_slope(planes.nm))
    beyond = [int(k) for k in np.unique(plane) if abs(planes.at[k]) * slope_nm > limit_nm]
    if beyond:
        raise FitFailed(
            f"planes {', '.join(map(str, beyond))} are so far out of focus that their light leaves the window",
            remedy="Leave them out, or cut larger windows around the points",
        )


def term_role(n: int, wavelength_nm: float) -> Role:
    """Return the role of a coefficient of order n >= 2."""
    return Role(flips=n % 2 == 0, start_nm=START_WAVES * wavelength_nm / (n - 1))


def _add(parameters: lmfit.Parameters, name: str, within: Within, flips: bool = False) -> None:
    if within.low < within.high:
        parameters.add(name, value=within.start, min=within.low, max=within.high)
    else:
        parameters.add(name, value=within.start, vary=False)
    parameters[name].user_data = Role(flips, 0.0)


def _parameters(optics: Optics, tiles: int, extras: Extras, xy_px: FloatArray, limit_nm: float) -> lmfit.Parameters:
    parameters = lmfit.Parameters()
    for t in range(tiles):
        for (n, m), bound in zip(optics.nm.tolist(), limit_nm / edge_slope(optics.nm), strict=True):
            name = f"t{t}_{term_name(n, m)}"
            _add(parameters, name, Within(0.0, -bound, bound))
            parameters[name].user_data = term_role(n, float(optics.wavelengths_nm.min()))
        for name in OWN:
            _add(parameters, f"t{t}_{name}", getattr(extras, name), flips=name != "clip_radius")
    for name in SHARED:
        _add(parameters, name, getattr(extras, name))
    for k, place in enumerate(xy_px):
        for axis, at in zip("xy", place, strict=True):
            _add(parameters, f"{axis}{k}_px", Within(at, at - MOVE_PX, at + MOVE_PX))
    return parameters


def _mapping(
    model: PointModel, fitted: int, names: tuple[str, ...], planes: Planes, tile: IntArray, plane: IntArray
) -> npt.NDArray[np.float64]:
    """Linear map from named parameters to terms and `EXTRAS` of each image; see `Problem`."""
    nm = model.optics.nm.tolist()
    column = {name: k for k, name in enumerate(names)}
    row = {name: len(nm) + k for k, name in enumerate(EXTRAS)}
    mapping = np.zeros((len(tile), len(nm) + len(EXTRAS), len(names)))
    defocus = [nm.index(term) for term in planes.nm.tolist()]
    for k, (t, p) in enumerate(zip(tile, plane, strict=True)):
        for j, (n, m) in enumerate(nm[:fitted]):
            mapping[k, j, column[f"t{t}_{term_name(n, m)}"]] = 1.0
        mapping[k, defocus, column[f"focus_{p}"]] = planes.unit_nm
        for name in OWN:
            mapping[k, row[name], column[f"t{t}_{name}"]] = 1.0
        for name in SHARED:
            mapping[k, row[name], column[name]] = 1.0
        for axis in "xy":
            mapping[k, row[f"{axis}_px"], column[f"{axis}{k}_px"]] = 1.0
    return mapping
