"""The wavefront of one tile and channel from a few images of points, in one focus plane or in several.

What the joint fit of the whole field starts from and is checked against: it needs no model of the field, and says how
well each coefficient is known, and whether its sign is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from calib.fieldmodel import closed_form
from calib.pointmodel import Optics, PointModel, Shape
from calib.wavefront.diversity import Planes, parabolic_planes
from calib.wavefront.parameters import (
    OWN,
    SHARED,
    Extras,
    TileImages,
    Within,
    clean,
    half_width,
    pose_tiles,
    term_name,
    with_terms_of,
)
from calib.wavefront.problem import Problem, read
from calib.wavefront.starts import Solution, solve
from psfbank.arrays import BoolArray, FloatArray

PUPIL_SAMPLES = 41
ONE_PLANE = parabolic_planes([0.0])
DEFAULT_EXTRAS = Extras()
SAME_SIGMA = 3.0  # solutions none of whose coefficients differ by more are one
AMBIGUOUS_CHI2 = 16.0  # data that prefer a solution by less (4 sigma) do not tell it from its twin
SCALES = Within(1.0, 0.6, 1.7)  # of the f-number where it is in doubt
F_NUMBER_TOLERANCE, F_NUMBER_SIGMA = 0.1, 3.0


@dataclass(frozen=True)
class TileFit:
    """A tile's wavefront, how well it is known, and its mirror twin.

    `coefficients_nm` and `stderr_nm` (J,) and `correlation` (J, J) follow the table `nm` (J, 2). `extras` and
    `extras_stderr` name what else shapes the images (`diffusion_px`, `scale`, `clip_x`, `clip_y`, `clip_radius`;
    errors are 0 where held), `focus` (P,) the planes in their unit, `xy_px` (N, 2) the places of those images that
    `used` (all images) marks. `reduced_chi2` is `chi2` over `samples` less all that was fitted; standard errors are
    those of the noise, times its square root where that is above one. `twin_coefficients_nm` (J,) is where the fit
    from the mirrored wavefront ended, `twin_cost_ratio` its chi2 over the fit's; `ambiguous` says that it is another
    wavefront, which the data do not tell from this one. Fits of several tiles share chi2, samples and twin.
    """

    nm: npt.NDArray[np.int32]
    coefficients_nm: FloatArray
    stderr_nm: FloatArray
    correlation: FloatArray
    extras: Mapping[str, float]
    extras_stderr: Mapping[str, float]
    focus: FloatArray
    xy_px: FloatArray
    used: BoolArray
    chi2: float
    reduced_chi2: float
    samples: int
    success: bool
    twin_coefficients_nm: FloatArray
    twin_cost_ratio: float
    ambiguous: bool


def fit_tile(
    images: TileImages,
    optics: Optics,
    *,
    rng: np.random.Generator,
    channel: int = 0,
    planes: Planes = ONE_PLANE,
    extras: Extras = DEFAULT_EXTRAS,
    starts: int = 8,
    pupil_samples: int = PUPIL_SAMPLES,
) -> TileFit:
    """Fit one tile's Zernike coefficients to its images.

    Parameters
    ----------
    images : TileImages
    optics : Optics
        Terms without piston and tilt; wavelengths, f-number, pixel pitch.
    rng : Generator
        Draws the starts.
    channel : int
        Row of the optics' wavelengths.
    planes : Planes
        Focus of each plane; one plane unless said otherwise.
    extras : Extras
        What else is free, and within what bounds.
    starts : int
        At most; fewer where one explains the data to their noise.
    pupil_samples : int
        Odd.

    Returns
    -------
    TileFit

    Raises
    ------
    FitFailed
        Without light or enough known samples, and where the model cannot hold the data: see `solve`.
    """
    problem = pose_tiles((images,), optics, channel, planes, extras, pupil_samples)
    return tile_fits(problem, *solve(problem, rng, starts), planes)[0]


def tile_fits(problem: Problem, best: Solution, twin: Solution, planes: Planes) -> tuple[TileFit, ...]:
    """Sum up what was found, tile by tile."""
    nm = problem.model.optics.nm[: problem.fitted]
    column = {name: k for k, name in enumerate(problem.names)}
    covariance = problem.ties @ best.covariance @ problem.ties.T
    sigma = np.sqrt(np.diag(covariance))
    value, mirrored = (read(solution.parameters, problem.names) for solution in (best, twin))
    tiles = sum(name.endswith("_clip_x") for name in problem.names)
    terms = np.array([[column[f"t{t}_{term_name(n, m)}"] for n, m in nm.tolist()] for t in range(tiles)])
    differs = bool((np.abs(value - mirrored)[terms] > SAME_SIGMA * sigma[terms]).any())
    undecided = twin.chi2 - best.chi2 < AMBIGUOUS_CHI2 * max(1.0, best.reduced_chi2)
    places = np.array([[column[f"{axis}{k}_px"] for axis in "xy"] for k in range(len(problem.samples.values))])

    def fit(t: int) -> TileFit:
        at = terms[t]
        named = {name: column[f"t{t}_{name}"] for name in OWN} | {name: column[name] for name in SHARED}
        scale = np.where(sigma[at] > 0, sigma[at], 1.0)
        return TileFit(
            nm=nm,
            coefficients_nm=value[at],
            stderr_nm=sigma[at],
            correlation=covariance[np.ix_(at, at)] / np.outer(scale, scale),
            extras={name: float(value[k]) for name, k in named.items()},
            extras_stderr={name: float(sigma[k]) for name, k in named.items()},
            focus=value[[column[f"focus_{k}"] for k in range(len(planes.at))]],
            xy_px=value[places],
            used=problem.used,
            chi2=best.chi2,
            reduced_chi2=best.reduced_chi2,
            samples=int(problem.known.sum()),
            success=best.converged,
            twin_coefficients_nm=mirrored[at],
            twin_cost_ratio=twin.chi2 / best.chi2,
            ambiguous=differs and undecided,
        )

    return tuple(fit(t) for t in range(tiles))


def predict(
    fit: TileFit,
    images: TileImages,
    optics: Optics,
    *,
    channel: int = 0,
    planes: Planes = ONE_PLANE,
    pupil_samples: int = PUPIL_SAMPLES,
) -> npt.NDArray[np.float64]:
    """Render what a fitted tile makes of images at given places and in given planes, at the best flux and background.

    Parameters
    ----------
    fit : TileFit
    images : TileImages
        Their `xy_px` are taken as they are, their data only give fluxes and backgrounds.
    optics, channel, pupil_samples
        Those of the fit.
    planes : Planes
        Which the images' numbers refer to; not necessarily those of the fit.

    Returns
    -------
    (N, L, O, O) float64
    """
    count, samples = len(images.xy_px), clean(images.samples)
    model = PointModel(with_terms_of(optics, planes), channel, half_width(samples, images.xy_px), pupil_samples)
    nm = model.optics.nm.tolist()
    coefficients_nm = np.zeros((count, len(nm)))
    coefficients_nm[:, : len(fit.nm)] = fit.coefficients_nm
    coefficients_nm[:, [nm.index(term) for term in planes.nm.tolist()]] += np.outer(
        planes.at[images.planes()], planes.unit_nm
    )
    clip = np.tile([fit.extras[name] for name in OWN], (count, 1))
    shape = Shape(coefficients_nm, images.xy_px, clip, fit.extras["diffusion_px"], fit.extras["scale"])
    residual = closed_form(model.render(shape, samples), samples)[1]
    return np.asarray(samples.values - residual.reshape(samples.values.shape))


@dataclass(frozen=True)
class FNumberTest:
    """The f-number that was stated, the one that the data want, and its standard error."""

    stated: float
    wanted: float
    stderr: float

    @property
    def contradicts(self) -> bool:
        """Whether the data contradict what was stated, by a tenth and by several standard errors."""
        off = abs(self.wanted - self.stated)
        return off > F_NUMBER_TOLERANCE * self.stated and off > F_NUMBER_SIGMA * self.stderr

    def __str__(self) -> str:
        verb = "the data want" if self.contradicts else "the data agree:"
        return f"{verb} f/{self.wanted:.2g} +- {self.stderr:.1g}, the manifest says f/{self.stated:.2g}"


def check_f_number(
    images: TileImages,
    optics: Optics,
    *,
    rng: np.random.Generator,
    channel: int = 0,
    planes: Planes = ONE_PLANE,
    extras: Extras = DEFAULT_EXTRAS,
    starts: int = 8,
) -> FNumberTest:
    """Fit with the scale of lambda N free, and compare the f-number with the one that was stated.

    The second fit starts from the first one's f-number, so that the model's grids fit it too. Charge diffusion and a
    wide diffraction pattern look alike: hold the diffusion where it is known. In one focus plane aberrations trade with
    the f-number as well, and what is found may lie farther off than its standard error says: several planes, or the
    fit of a whole field, decide.

    Parameters
    ----------
    images, optics, rng, channel, planes, extras, starts
        As in `fit_tile`.

    Returns
    -------
    FNumberTest

    Raises
    ------
    FitFailed
        As `fit_tile` does.
    """
    loose, f_number, stderr = replace(extras, scale=SCALES), optics.f_number, 0.0
    for _ in range(2):
        guess = replace(optics, f_number=f_number)
        fit = fit_tile(images, guess, rng=rng, channel=channel, planes=planes, extras=loose, starts=starts)
        stderr = f_number * fit.extras_stderr["scale"]
        f_number *= fit.extras["scale"]
    return FNumberTest(optics.f_number, f_number, stderr)
