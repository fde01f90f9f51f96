"""Point images and pieces of charts, arranged for the solver with models, priors and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from calib.fieldmodel import Images, Layout
from calib.fieldsolver import Problem
from calib.pointmodel import Optics, PointModel, Sampling, to_samples
from psfbank.arrays import FloatArray, IntArray
from psfbank.flags import Flag
from psfbank.model import Points

PUPIL_SAMPLES = 41
LEAST_SAMPLES = 12  # of an image, below which it says nothing


@dataclass(frozen=True)
class Pieces:
    """Pieces of charts, or edges, at places `xy_px` (M, 2): what each channel saw, in the order of the channels."""

    xy_px: FloatArray
    channels: tuple[Sampling, ...]


@dataclass(frozen=True)
class FocusPlanes:
    """Focus of each view: `plane` (V,) its number, 0 the session's own; `focus_nm` what the others add to defocus.

    `focus_nm` is where the fit starts from and what decides the sign of all even terms; half of it is taken on trust.
    """

    plane: tuple[int, ...] = ()
    focus_nm: tuple[float, ...] = ()

    def of(self, view: IntArray) -> IntArray:
        """Plane of images of the views (N,)."""
        return np.asarray(self.plane, dtype=np.int64)[view] if self.plane else np.zeros(len(view), dtype=np.int64)


def field_position(xy_px: FloatArray, size_px: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Places (N, 2), px -> field coordinates: zero at the image's centre, one half diagonal long at its corners."""
    height, width = size_px
    return np.asarray((xy_px - np.array([width - 1, height - 1]) / 2) / (np.hypot(height, width) / 2))


def priors(
    layout: Layout, f_number_known: bool = True, focus_nm: Sequence[float] = ()
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Means and sigmas (G,) of the global parameters: wide where the data speak, narrow where physics is small.

    A coefficient is free within 200 nm, less for higher powers of the field; channels differ by 100 nm of defocus and
    10 nm of other terms; diffusion is near 0.25 px and the second stop near the pupil in size.
    """
    at = layout.slices()
    mean, sigma = np.zeros(at["scale"].stop), np.ones(at["scale"].stop)
    degrees = np.concatenate([np.full(d + 1, d) for d in range(layout.degree + 1)])
    sigma[at["wave"]] = np.tile(200.0 * 0.7**degrees, layout.terms)
    deviation = np.full((layout.channels - 1, layout.terms, layout.deviating), 10.0)
    deviation[:, 0] *= 10.0
    sigma[at["deviation"]] = deviation.ravel()
    sigma[at["lateral"]] = 2.0
    mean[at["diffusion"]], sigma[at["diffusion"]] = 0.25, 0.1
    mean[at["clip"]], sigma[at["clip"]] = (0.0, 0.0, 0.0, 1.1), (0.5, 0.1, 0.1, 0.15)
    for added, slopes in zip(focus_nm, range(at["focus"].start, at["focus"].stop, 3), strict=True):
        mean[slopes], sigma[slopes : slopes + 3] = added, (30.0 + 0.5 * abs(added), 60.0, 60.0)
    common, others = at["scale"].start, slice(at["scale"].start + 1, at["scale"].stop)
    mean[common], sigma[common] = 1.0, 0.05 if f_number_known else 0.5
    sigma[others] = 0.03  # a channel's effective wavelength
    return mean, sigma


def narrowed(problem: Problem, half_px: int, *, plain: bool = False) -> Problem:
    """Return the problem with a window of at most `half_px`, and one wavelength a channel if `plain`.

    Far from its core an image says little that its core does not, at great cost.
    """
    optics = problem.models[0].optics
    if plain:
        mean_nm = np.array([[model.mean_nm] for model in problem.models])
        optics = replace(optics, wavelengths_nm=mean_nm, weights=np.ones_like(mean_nm))
    half_px = min(half_px, problem.models[0].half_px)
    models = tuple(PointModel(optics, c, half_px, PUPIL_SAMPLES) for c in range(len(problem.models)))
    images = tuple(replace(i, samples=i.samples.cropped(half_px)) for i in problem.images)
    return replace(problem, models=models, images=images)


def pose_problem(
    points: Points | None,
    optics: Optics,
    size_px: tuple[int, int],
    channels: int,
    *,
    half_px: int,
    pieces: Sequence[Pieces] = (),
    degree: int = 3,
    f_number_known: bool = True,
    planes: FocusPlanes | None = None,
) -> Problem:
    """Arrange observations, models and priors for the solver; saturated and blended point images are left out.

    Parameters
    ----------
    points : Points or None
    optics : Optics
    size_px : (H, W)
    channels : int
    half_px : int
        Half width of the PSF; that of the points' patches where there are points.
    pieces : sequence of Pieces
        Those of charts drawn for the fine grid of a PSF of that width. Numbered after the lights, one after the other.
    degree : int
        Of the polynomials in field position.
    f_number_known : bool
        False frees the scale of lambda N / pitch.
    planes : FocusPlanes, optional
        In which focus each view of the points was shot; one plane unless said otherwise.
    """
    planes = FocusPlanes() if planes is None else planes
    layout = Layout(len(optics.nm), channels, degree, reference=min(1, channels - 1), planes=len(planes.focus_nm) + 1)
    models = tuple(PointModel(optics, c, half_px, PUPIL_SAMPLES) for c in range(channels))
    places: list[FloatArray] = [np.zeros((0, 2))]
    images = []
    if points is not None:
        detected = np.zeros((int(points.source.max()) + 1, 2))
        detected[points.source] = points.xy_px
        places.append(detected)
        spoilt = points.flags & (Flag.SATURATED | Flag.OVERLAPPING) != 0
        usable = ~spoilt & (np.isfinite(points.variance).sum((1, 2)) >= LEAST_SAMPLES)
        plane_of = planes.of(points.view)
        for plane, c in product(range(layout.planes), range(channels)):
            chosen = points.take((points.channel == c) & (plane_of == plane) & usable)
            field = field_position(chosen.xy_px, size_px)
            images.append(Images(to_samples(chosen), field, chosen.source, c, plane=plane))
    for piece in pieces:
        first = sum(len(p) for p in places)
        places.append(piece.xy_px)
        for c, samples in enumerate(piece.channels):
            enough = np.flatnonzero((samples.weights > 0).sum((1, 2, 3)) >= LEAST_SAMPLES)
            field = field_position(piece.xy_px[enough], size_px)
            images.append(Images(samples.take(enough), field, first + enough, c))
    return Problem(
        layout, models, tuple(images), np.concatenate(places), *priors(layout, f_number_known, planes.focus_nm)
    )
