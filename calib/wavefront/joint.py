"""One wavefront for the whole field of view, fitted to every point image at once, from the centre outwards.

A stack of a tile's images is limited by where each image is thought to lie and by how few samples of one colour a
mosaic holds. A physical model of the whole field shares every photon: published and own measurements put per-tile
stacks at 15 to 25 % relative error where the joint fit reaches 2 %. All points at once would stop in a local minimum,
so the fit starts in the centre, where the lens is best, and grows.
"""

from __future__ import annotations

import logging
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from calib.fieldmodel import Images, Layout, local_map
from calib.fieldsolver import (
    Parameters,
    Problem,
    assemble,
    covariance,
    image_costs,
    minimise,
    position_sigma,
    refine_positions,
)
from calib.pointmodel import Optics, PointModel, to_samples
from calib.progress import Report, silent
from calib.wavefront.remainder import Remainder, fit_remainder
from psfbank.arrays import BoolArray, FloatArray
from psfbank.errors import FitFailed
from psfbank.flags import Flag
from psfbank.model import Points

log = logging.getLogger(__name__)

RINGS = (0.35, 0.6, 0.8, 1.5)  # field radius in half diagonals at each stage
START_DEFOCUS_NM = (60.0, 160.0)  # zero is a saddle: an image says nothing of the sign of its even terms
START_CLIP_GAIN = (0.25, -0.25)  # the off-axis stop may lie before or behind the aperture
START_LIGHTS, CLIP_LIGHTS = 48, 120  # enough to choose between starts
COARSE, FINE = 1e-3, 2e-5  # relative gain below which a stage, and the whole fit, is done
LEAST_LIGHTS = 30
OUTLIER_SIGMA = 6.0
MOST_REJECTED = 0.01  # of the lights, a round
REJECTIONS = 3  # rounds
NEIGHBOURS = 9
PUPIL_SAMPLES = 41


@dataclass(frozen=True)
class WavefrontFit:
    """A fitted field: parameters with their covariance, and what became of every light.

    `vector` (G,) and `covariance` (G, G) follow `layout`; `xy_px` (S, 2) are the lights' geometric positions (the
    reference channel's, before the PSF's own displacement) with `sigma_px` (S,) of a coordinate; `used` (S,) and
    `reserved` (S,), which the fit never saw; `chi2` (S,) per sample. `remainder` is added to the smooth field.
    """

    layout: Layout
    optics: Optics
    size_px: tuple[int, int]
    half_px: int
    vector: FloatArray
    covariance: FloatArray
    xy_px: FloatArray
    sigma_px: FloatArray
    used: BoolArray
    reserved: BoolArray
    chi2: FloatArray
    remainder: Remainder | None = None

    @property
    def sound(self) -> BoolArray:
        """Lights (S,) whose images the model explains: used, or reserved and no outliers."""
        return self.used | (self.reserved & ~outliers(self.chi2, self.xy_px))

    def local(self, channel: int, xy_px: FloatArray) -> npt.NDArray[np.float64]:
        """Work out what shapes images at places (N, 2), px: (N, J + 7), terms, then `calib.pointmodel.EXTRAS`."""
        mapped = local_map(self.layout, channel, field_position(xy_px, self.size_px)) @ self.vector
        if self.remainder is not None:
            mapped[:, : self.layout.terms] += self.remainder.at(xy_px)
        return np.asarray(mapped)

    def spread(self, channel: int, xy_px: FloatArray) -> npt.NDArray[np.float64]:
        """Covariance (N, J + 7, J + 7) of `local`."""
        to_local = local_map(self.layout, channel, field_position(xy_px, self.size_px))
        spread = to_local @ self.covariance @ np.swapaxes(to_local, 1, 2)
        if self.remainder is not None:
            spread[:, : self.layout.terms, : self.layout.terms] += self.remainder.spread(xy_px)
        return np.asarray(spread)


def field_position(xy_px: FloatArray, size_px: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Places (N, 2), px -> field coordinates: zero at the image's centre, one half diagonal long at its corners."""
    height, width = size_px
    return np.asarray((xy_px - np.array([width - 1, height - 1]) / 2) / (np.hypot(height, width) / 2))


def priors(layout: Layout, f_number_known: bool = True) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
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
    common, others = at["scale"].start, slice(at["scale"].start + 1, at["scale"].stop)
    mean[common], sigma[common] = 1.0, 0.05 if f_number_known else 0.5
    sigma[others] = 0.03  # a channel's effective wavelength
    return mean, sigma


def pose_problem(
    points: Points, optics: Optics, size_px: tuple[int, int], channels: int, *, degree: int, f_number_known: bool
) -> Problem:
    """Arrange points, models and priors for the solver; saturated images are left out."""
    half_px = points.patch.shape[1] // 2
    layout = Layout(len(optics.nm), channels, degree, reference=min(1, channels - 1))
    detected = np.zeros((int(points.source.max()) + 1, 2))
    detected[points.source] = points.xy_px
    images = []
    for c in range(channels):
        chosen = points.take((points.channel == c) & (points.flags & Flag.SATURATED == 0))
        images.append(Images(to_samples(chosen), field_position(chosen.xy_px, size_px), chosen.source, c))
    models = tuple(PointModel(optics, c, half_px, PUPIL_SAMPLES) for c in range(channels))
    return Problem(layout, models, tuple(images), detected, *priors(layout, f_number_known))


def thinned(problem: Problem, count: int) -> Problem:
    """Return the problem of about `count` of its lights, evenly taken."""
    lights = problem.lights()
    return problem.of_lights(lights[:: max(1, len(lights) // count)])


def start_at_centre(problem: Problem, radius: float, executor: Executor | None) -> Parameters:
    """Try several starts on a few central lights, keep the one that explains them best."""
    few = thinned(problem.within(radius), START_LIGHTS)
    results = []
    for defocus_nm in START_DEFOCUS_NM:
        vector = problem.prior_mean.copy()
        vector[problem.layout.slices()["wave"].start] = defocus_nm
        results.append(minimise(few, Parameters(vector, problem.detected_px), executor=executor, tolerance=COARSE))
    return min(results, key=lambda result: result[1])[0]


def choose_clip(problem: Problem, at: Parameters, executor: Executor | None) -> Parameters:
    """Start the off-axis stop on either side of the aperture, keep what explains the images better."""
    few = thinned(problem, CLIP_LIGHTS)
    gain = problem.layout.slices()["clip"].start
    results = [minimise(few, at, executor=executor, tolerance=COARSE)]
    for start in START_CLIP_GAIN:
        vector = at.vector.copy()
        vector[gain] = start
        results.append(minimise(few, Parameters(vector, at.xy_px), executor=executor, tolerance=COARSE))
    return min(results, key=lambda result: result[1])[0]


def light_chi2(problem: Problem, at: Parameters, executor: Executor | None) -> npt.NDArray[np.float64]:
    """Huber's loss of each light (S,) per sample, all channels; NaN for lights without images."""
    loss, samples = (np.zeros(len(problem.detected_px)) for _ in range(2))
    for images, costs in zip(problem.images, image_costs(problem, at, executor), strict=True):
        np.add.at(loss, images.source, costs)
        np.add.at(samples, images.source, (images.samples.weights > 0).sum((1, 2, 3)))
    return np.divide(loss, samples, out=np.full_like(loss, np.nan), where=samples > 0)


def outliers(chi2: FloatArray, xy_px: FloatArray) -> BoolArray:
    """Lights (S,) whose chi2 stands out from those around them, at most `MOST_REJECTED` of them, the worst first.

    A place where every light fits badly speaks of the lens, not of the lights.
    """
    known = np.flatnonzero(np.isfinite(chi2))
    out = np.zeros(len(chi2), dtype=np.bool_)
    near = cKDTree(xy_px[known]).query(xy_px[known], k=min(NEIGHBOURS, len(known)))[1]
    excess = chi2[known] - np.median(chi2[known][near], axis=1)
    limit = OUTLIER_SIGMA * 1.4826 * np.median(np.abs(chi2[known] - np.median(chi2[known])))
    worst = known[np.argsort(-excess)][: max(1, int(MOST_REJECTED * len(known)))]
    out[known[excess > limit]] = True
    return out & np.isin(np.arange(len(chi2)), worst)


def with_remainder(problem: Problem, at: Parameters, remainder: Remainder | None) -> Problem:
    """Return the problem whose images carry the remainder at their lights."""
    if remainder is None:
        return problem
    images = (replace(i, added_nm=remainder.at(at.xy_px[i.source])) for i in problem.images)
    return replace(problem, images=tuple(images))


def fit_wavefront(
    points: Points,
    optics: Optics,
    size_px: tuple[int, int],
    channels: int,
    *,
    degree: int = 3,
    f_number_known: bool = True,
    executor: Executor | None = None,
    report: Report = silent,
) -> WavefrontFit:
    """Fit the wavefront of the whole field.

    Parameters
    ----------
    points : Points
        Images of all channels.
    optics : Optics
        Terms, wavelengths, f-number and pixel pitch.
    size_px : (H, W)
    channels : int
    degree : int
        Of the polynomials in field position.
    f_number_known : bool
        False frees the scale of lambda N / pitch.
    executor : Executor, optional
        Threads for the rendering; the result does not depend on it.
    report : callable
        Told (step, done, total).

    Returns
    -------
    WavefrontFit

    Raises
    ------
    FitFailed
        With fewer than `LEAST_LIGHTS` lights that are not saturated.

    References
    ----------
    Gauss-Newton with analytic derivatives of modal phase retrieval; polynomial coefficients over the field as in
    nodal aberration theory (Shack and Thompson, Proc. SPIE 251, 1980).
    """
    problem = pose_problem(points, optics, size_px, channels, degree=degree, f_number_known=f_number_known)
    return fit_posed(problem, optics, size_px, points.patch.shape[1] // 2, executor=executor, report=report)


def fit_posed(
    problem: Problem,
    optics: Optics,
    size_px: tuple[int, int],
    half_px: int,
    *,
    reserved: BoolArray | None = None,
    executor: Executor | None = None,
    report: Report = silent,
) -> WavefrontFit:
    """Fit a problem that is posed, from the centre outwards; see `fit_wavefront`."""
    sources = np.arange(len(problem.detected_px))
    reserved = np.zeros(len(sources), dtype=np.bool_) if reserved is None else reserved
    everything, problem = problem, problem.of_lights(sources[~reserved])
    if len(problem.lights()) < LEAST_LIGHTS:
        raise FitFailed(
            f"{len(problem.lights())} point images without saturation, {LEAST_LIGHTS} are needed",
            remedy="Shoot more LED frames, or expose them less",
        )
    steps = len(RINGS) + REJECTIONS + 2
    at = _grow(problem, size_px, steps, executor, report)
    remainder: Remainder | None = None
    used = np.isin(sources, problem.lights())
    for done in range(REJECTIONS + 1):
        report("wavefront", len(RINGS) + 1 + done, steps)
        part = with_remainder(problem.of_lights(sources[used]), at, remainder)
        if done:
            at, _ = minimise(part, at, executor=executor, tolerance=FINE)
        remainder = fit_remainder(part, at, size_px, remainder, executor)
        part = with_remainder(part, at, remainder)
        bad = outliers(np.where(used, light_chi2(part, at, executor), np.nan), at.xy_px)
        if done == REJECTIONS or not (bad.any() or (remainder and not done)):
            break
        log.info("rejected %d point images by their chi2", int(bad.sum()))
        used = used & ~bad
    final = with_remainder(problem.of_lights(sources[used]), at, remainder)
    normal = assemble(final, at, executor)
    aside = with_remainder(everything.of_lights(sources[~used]), at, remainder)
    xy_px, sigma_px = refine_positions(aside, at, executor)
    at = replace(at, xy_px=xy_px)
    sigma_px = np.where(used, position_sigma(normal.light_matrix), sigma_px)
    chi2 = light_chi2(with_remainder(everything, at, remainder), at, executor)
    report("wavefront", steps, steps)
    return WavefrontFit(
        problem.layout, optics, size_px, half_px, at.vector, covariance(normal), at.xy_px, sigma_px, used, reserved,
        chi2, remainder,
    )  # fmt: skip


def _grow(
    problem: Problem, size_px: tuple[int, int], steps: int, executor: Executor | None, report: Report
) -> Parameters:
    """Fit the smooth field from the centre outwards."""
    radii = np.sort(np.hypot(*field_position(problem.detected_px[problem.lights()], size_px).T))
    first = max(RINGS[0], float(radii[min(LEAST_LIGHTS, len(radii)) - 1]))
    report("wavefront", 0, steps)
    at = start_at_centre(problem, first, executor)
    for done, radius in enumerate(RINGS, start=1):
        report("wavefront", done, steps)
        if radius < first:
            continue
        ring = problem.within(max(radius, first))
        if done == len(RINGS) - 1:
            at = choose_clip(ring, at, executor)
        at, _ = minimise(ring, at, executor=executor, tolerance=COARSE if done < len(RINGS) else FINE)
    return at
