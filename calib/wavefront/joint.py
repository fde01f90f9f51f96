"""One wavefront for the whole field of view, fitted to every point image at once, from the centre outwards.

A stack of a tile's images is limited by where each image is thought to lie and by how few samples of one colour a
mosaic holds. A physical model of the whole field shares every photon: published and own measurements put per-tile
stacks at 15 to 25 % relative error where the joint fit reaches 2 %. All points at once would stop in a local minimum,
so the fit starts in the centre, where the lens is best, and grows.
"""

from __future__ import annotations

import logging
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calib.fieldmodel import Images, Layout
from calib.fieldsolver import Parameters, Problem, assemble, covariance, image_costs, minimise
from calib.pointmodel import Optics, PointModel, to_samples
from calib.progress import Report, silent
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
MOST_REJECTED = 0.02  # of the lights, a round
PUPIL_SAMPLES = 41


@dataclass(frozen=True)
class WavefrontFit:
    """A fitted field: parameters with their covariance, and what became of every light.

    `vector` (G,) and `covariance` (G, G) follow `layout`; `xy_px` (S, 2) are the lights' geometric positions (the
    reference channel's, before the PSF's own displacement) with `sigma_px` (S,) of a coordinate; `used` (S,); `chi2`
    (S,) per sample.
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
    chi2: FloatArray

    def field(self, xy_px: FloatArray) -> npt.NDArray[np.float64]:
        """Field position (N, 2) in half diagonals from the image's centre."""
        return field_position(xy_px, self.size_px)


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


def outliers(chi2: FloatArray) -> BoolArray:
    """Lights (S,) whose chi2 stands out, at most `MOST_REJECTED` of them, the worst first."""
    known = chi2[np.isfinite(chi2)]
    limit = np.median(known) + OUTLIER_SIGMA * 1.4826 * np.median(np.abs(known - np.median(known)))
    most = np.sort(known)[-max(1, int(MOST_REJECTED * len(known)))]
    return np.asarray((chi2 > limit) & (chi2 >= most), dtype=np.bool_)


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
    executor: Executor | None = None,
    report: Report = silent,
) -> WavefrontFit:
    """Fit a problem that is posed, from the centre outwards; see `fit_wavefront`."""
    if len(problem.lights()) < LEAST_LIGHTS:
        raise FitFailed(
            f"{len(problem.lights())} point images without saturation, {LEAST_LIGHTS} are needed",
            remedy="Shoot more LED frames, or expose them less",
        )
    radii = np.sort(np.hypot(*field_position(problem.detected_px, size_px).T))
    first = max(RINGS[0], float(radii[min(LEAST_LIGHTS, len(radii)) - 1]))
    total = len(RINGS) + 3
    report("wavefront", 0, total)
    at = start_at_centre(problem, first, executor)
    for done, radius in enumerate(RINGS, start=1):
        report("wavefront", done, total)
        if radius < first:
            continue
        ring = problem.within(max(radius, first))
        if done == len(RINGS) - 1:
            at = choose_clip(ring, at, executor)
        at, _ = minimise(ring, at, executor=executor, tolerance=COARSE if done < len(RINGS) else FINE)
    used = np.isin(np.arange(len(problem.detected_px)), problem.lights())
    for done in range(2):
        report("wavefront", len(RINGS) + 1 + done, total)
        bad = outliers(np.where(used, light_chi2(problem, at, executor), np.nan))
        if not bad.any():
            break
        log.info("rejected %d point images by their chi2", int(bad.sum()))
        used = used & ~bad
        at, _ = minimise(problem.of_lights(np.flatnonzero(used)), at, executor=executor, tolerance=FINE)
    chi2 = light_chi2(problem, at, executor)
    normal = assemble(problem.of_lights(np.flatnonzero(used)), at, executor)
    sigma_px = np.sqrt(np.trace(np.linalg.inv(normal.light_matrix), axis1=1, axis2=2) / 2)
    report("wavefront", total, total)
    return WavefrontFit(
        problem.layout, optics, size_px, half_px, at.vector, covariance(normal), at.xy_px, sigma_px, used, chi2
    )
