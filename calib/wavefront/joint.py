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
from itertools import product

import numpy as np
import numpy.typing as npt

from calib.fieldmodel import Layout, local_map
from calib.fieldsolver import (
    Parameters,
    Problem,
    assemble,
    covariance,
    minimise,
    refine_positions,
)
from calib.pointmodel import Optics
from calib.progress import Report, silent
from calib.wavefront.pose import field_position, narrowed
from calib.wavefront.quality import light_chi2, light_excess, misfit, outliers, reweighed
from calib.wavefront.remainder import Remainder, fit_remainder
from psfbank.arrays import BoolArray, FloatArray
from psfbank.errors import FitFailed

log = logging.getLogger(__name__)

RINGS = (0.35, 0.6, 0.8, 1.5)  # field radius in half diagonals at each stage
START_DEFOCUS_NM, START_SPHERICAL_NM = (25.0, 80.0, 160.0), (-25.0, 25.0)
SAME_NM = 5.0  # starts that end nearer to each other are one
SURVIVORS = 3
START_SCALES = (1.0, 0.7, 1.4)  # of lambda N: the others where the f-number is not stated, or seems wrong
POOR = 1.5  # chi2 per sample
F_NUMBER_DOUBT = 0.2  # relative standard deviation from which an f-number counts as unknown
START_CLIP_GAIN = (0.25, -0.25)  # the off-axis stop may lie before or behind the aperture
START_LIGHTS, CHOICE_LIGHTS, GROW_LIGHTS = 36, 100, 250  # enough to start, to choose between starts, to grow
GROW_HALF_PX, FIT_HALF_PX = 8, 10  # of the PSF while it grows, and while it is fitted
MOST_LIGHTS = 600  # that the smooth field is fitted to: more lights sharpen a few hundred numbers little
START, COARSE, FINE = 3.0, 25.0, 3.0  # gain in chi2 below which a start, a stage, and the whole fit is done
LEAST_LIGHTS = 30
REJECTIONS = 3  # rounds


@dataclass(frozen=True)
class WavefrontFit:
    """A fitted field: parameters with their covariance, and what became of every light.

    `vector` (G,) and `covariance` (G, G) follow `layout`; `xy_px` (S, 2) are the lights' geometric positions (the
    reference channel's, before the PSF's own displacement) with `sigma_px` (S,) of a coordinate; `used` (S,) and
    `reserved` (S,), which the fit never saw; `chi2` (S,) per sample. `excess` and `signal` (C, S) tell the misfit, see
    `calib.wavefront.quality`. `remainder` is added to the smooth field.
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
    excess: FloatArray
    signal: FloatArray
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

    def misfit(self, channel: int, xy_px: FloatArray) -> npt.NDArray[np.float64]:
        """Relative L2 error (N,) of the PSF at places (N, 2), px, that the images show beyond their noise."""
        told = self.sound & (self.signal[channel] > 0)
        return misfit(self.excess[:, told], self.signal[:, told], self.xy_px[told], channel, xy_px)

    def spread(self, channel: int, xy_px: FloatArray) -> npt.NDArray[np.float64]:
        """Covariance (N, J + 7, J + 7) of `local`."""
        to_local = local_map(self.layout, channel, field_position(xy_px, self.size_px))
        spread = to_local @ self.covariance @ np.swapaxes(to_local, 1, 2)
        if self.remainder is not None:
            spread[:, : self.layout.terms, : self.layout.terms] += self.remainder.spread(xy_px)
        return np.asarray(spread)


def thinned(problem: Problem, count: int) -> Problem:
    """Return the problem of about `count` of its lights, evenly taken."""
    lights = problem.lights()
    return problem.of_lights(lights[:: max(1, len(lights) // count)])


def starting_points(problem: Problem, scale: float = 1.0) -> list[FloatArray]:
    """Global parameters (G,) to start from: defocus, and spherical aberration of either sign against it.

    Zero is a saddle, and the common sign of all even terms is free (the twin); but the sign of one even term against
    another is physics, and a fit that starts on the wrong side bends everything else to it.
    """
    nm, wave = problem.models[0].optics.nm, problem.layout.slices()["wave"]
    spherical = np.flatnonzero((nm == (4, 0)).all(axis=1))
    starts = []
    # several planes of focus tell the common sign as well
    signs = (1.0,) if problem.layout.planes == 1 else (1.0, -1.0)
    defocused = [sign * amount for sign, amount in product(signs, START_DEFOCUS_NM)]
    for defocus, sphere in product(defocused, START_SPHERICAL_NM if len(spherical) else (0.0,)):
        vector = problem.prior_mean.copy()
        vector[problem.layout.slices()["scale"].start] = scale
        vector[wave.start] = defocus
        vector[wave.start + spherical * problem.layout.shared] = sphere
        starts.append(vector)
    return starts


def start_at_centre(problem: Problem, radius: float, executor: Executor | None) -> Parameters:
    """Try many starts on a few central lights, and the best of them on more, farther out; keep the best."""
    few = thinned(problem.within(radius), START_LIGHTS)
    stated = problem.prior_sigma[problem.layout.slices()["scale"].start] < F_NUMBER_DOUBT
    tried = []
    for scale in START_SCALES:
        tried += [
            minimise(few, Parameters(vector, problem.detected_px), executor=executor, tolerance=START)
            for vector in starting_points(problem, scale)
        ]
        cost = min(cost for _, cost in tried)
        if stated and cost < POOR * sum(int(np.count_nonzero(i.samples.weights)) for i in few.images):
            break  # the stated f-number explains the images
    wave = problem.layout.slices()["wave"]
    distinct: list[tuple[Parameters, float]] = []
    for result in sorted(tried, key=lambda result: result[1]):
        if all(np.abs(result[0].vector - other.vector)[wave].max() > SAME_NM for other, _ in distinct):
            distinct.append(result)
    more = thinned(problem.within(max(radius, RINGS[1])), CHOICE_LIGHTS)
    grown = [minimise(more, at, executor=executor, tolerance=START) for at, _ in distinct[:SURVIVORS]]
    return min(grown, key=lambda result: result[1])[0]


def choose_clip(problem: Problem, at: Parameters, executor: Executor | None) -> Parameters:
    """Start the off-axis stop on either side of the aperture, keep what explains the images better."""
    gain = problem.layout.slices()["clip"].start
    results = [minimise(problem, at, executor=executor, tolerance=COARSE)]
    for start in START_CLIP_GAIN:
        vector = at.vector.copy()
        vector[gain], vector[gain + 3] = start, 1.0  # wider than the pupil it would cut nothing, and not move
        results.append(minimise(problem, Parameters(vector, at.xy_px), executor=executor, tolerance=COARSE))
    return min(results, key=lambda result: result[1])[0]


def with_remainder(problem: Problem, at: Parameters, remainder: Remainder | None) -> Problem:
    """Return the problem whose images carry the remainder at their lights."""
    if remainder is None:
        return problem
    images = (replace(i, added_nm=remainder.at(at.xy_px[i.source])) for i in problem.images)
    return replace(problem, images=tuple(images))


def fit_wavefront(
    problem: Problem,
    size_px: tuple[int, int],
    *,
    reserved: BoolArray | None = None,
    noise: tuple[FloatArray, FloatArray] | None = None,
    executor: Executor | None = None,
    report: Report = silent,
) -> WavefrontFit:
    """Fit the wavefront of the whole field.

    Parameters
    ----------
    problem : Problem
        From `pose_problem`.
    size_px : (H, W)
    reserved : (S,) bool, optional
        Lights and pieces of charts that the fit must not see; only their positions are found, at the end.
    noise : two arrays (C,), optional
        Slope and floor of a sample's variance; with them the model's own light gives the weights, once it fits.
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
        With fewer than `LEAST_LIGHTS` lights.

    References
    ----------
    Gauss-Newton with analytic derivatives of modal phase retrieval; polynomial coefficients over the field as in
    nodal aberration theory (Shack and Thompson, Proc. SPIE 251, 1980).
    """
    sources = np.arange(len(problem.detected_px))
    reserved = np.zeros(len(sources), dtype=np.bool_) if reserved is None else reserved
    everything = narrowed(problem, FIT_HALF_PX)
    training = everything.of_lights(sources[~reserved])
    if len(training.lights()) < LEAST_LIGHTS:
        raise FitFailed(
            f"{len(training.lights())} images of points or corners without saturation, {LEAST_LIGHTS} are needed",
            remedy="Shoot more LED frames or boards, or expose them less",
        )
    steps = len(RINGS) + REJECTIONS + 2
    at = _grow(narrowed(training, GROW_HALF_PX, plain=True), size_px, steps, executor, report)
    at = minimise(thinned(training, MOST_LIGHTS), at, executor=executor, tolerance=FINE)[0]
    at = replace(at, xy_px=refine_positions(everything, at, executor)[0])
    if noise is not None:
        everything = reweighed(everything, at, *noise)
        training = everything.of_lights(sources[~reserved])
    remainder: Remainder | None = None
    used = np.isin(sources, training.lights())
    for done in range(REJECTIONS + 1):
        report("wavefront", len(RINGS) + 1 + done, steps)
        part = with_remainder(training.of_lights(sources[used]), at, remainder)
        at = minimise(thinned(part, MOST_LIGHTS), at, executor=executor, tolerance=FINE)[0]
        at = replace(at, xy_px=refine_positions(part, at, executor)[0])
        remainder = fit_remainder(part, at, size_px, remainder, executor)
        part = with_remainder(part, at, remainder)
        bad = outliers(np.where(used, light_chi2(part, at, executor), np.nan), at.xy_px)
        if done == REJECTIONS or not (bad.any() or (remainder and not done)):
            break
        log.info("round %d: %d lights rejected by their chi2", done + 1, int(bad.sum()))
        used = used & ~bad
    complete = with_remainder(everything, at, remainder)
    xy_px, sigma_px = refine_positions(complete, at, executor)
    at = replace(at, xy_px=xy_px)
    normal = assemble(thinned(complete.of_lights(sources[used]), MOST_LIGHTS), at, executor)
    chi2 = light_chi2(complete, at, executor)
    report("wavefront", steps, steps)
    return WavefrontFit(
        problem.layout, problem.models[0].optics, size_px, problem.models[0].half_px, at.vector, covariance(normal),
        xy_px, sigma_px, used, reserved, chi2, *light_excess(complete, at), remainder,
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
        ring = thinned(problem.within(max(radius, first)), GROW_LIGHTS)
        at = minimise(ring, at, executor=executor, tolerance=COARSE)[0]
        if done == len(RINGS):
            at = choose_clip(ring, at, executor)
    return at
