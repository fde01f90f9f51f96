"""Tiles that mirror each other about the axis of a symmetric lens, tied to one wavefront, and the test of it.

Mirrored tiles see mirrored wavefronts, W(-x, y) or W(x, -y), which is the same coefficients but for signs. Real lenses
are decentred a little: nodal aberration theory says that a tilted image adds defocus linear in the field, and a
decentred element adds the same coma everywhere (Thompson, J. Opt. Soc. Am. A 22, 1389 (2005)). Both are free beside the
ties, and an F test says whether the data bear the symmetry that is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import stats

from calib.pointmodel import Optics
from calib.wavefront.diversity import Planes
from calib.wavefront.parameters import Extras, Role, TileImages, pose_tiles, term_name, term_role
from calib.wavefront.problem import Problem, with_ties
from calib.wavefront.starts import flipped, minimise, solve, standard_errors
from calib.wavefront.tile import DEFAULT_EXTRAS, ONE_PLANE, PUPIL_SAMPLES, TileFit, tile_fits
from psfbank.arrays import FloatArray

SAME_PLACE = 0.02  # half diagonals by which mirrored tiles may miss each other
LEAST_P = 1e-3  # probability below which the symmetry is refused


@dataclass(frozen=True)
class MirrorFit:
    """Mirrored tiles fitted with ties and without.

    `tied` and `free` hold a fit a tile. `decentring_nm` and `decentring_stderr_nm` name the free terms beside the ties:
    `tilt_x`, `tilt_y`, nm of defocus per half diagonal, and `coma_x`, `coma_y`, nm. Ties raise chi2 by `delta_chi2` and
    save `ties` parameters; `p_value` is the probability of so much from noise alone.
    """

    tied: tuple[TileFit, ...]
    free: tuple[TileFit, ...]
    decentring_nm: Mapping[str, float]
    decentring_stderr_nm: Mapping[str, float]
    delta_chi2: float
    ties: int
    p_value: float

    @property
    def accepted(self) -> bool:
        """Whether the data bear the symmetry."""
        return self.p_value >= LEAST_P

    @property
    def fits(self) -> tuple[TileFit, ...]:
        """The tied fits where the data bear them, the free ones otherwise."""
        return self.tied if self.accepted else self.free


def mirror_signs(nm: npt.NDArray[np.int32], mirrored_x: bool, mirrored_y: bool) -> npt.NDArray[np.float64]:
    """Signs (J,) that terms take when the pupil is mirrored.

    x -> -x turns the angle a into pi - a: cos(m a) gets (-1)^m, sin(m a) gets -(-1)^m. y -> -y turns it into -a: sines
    change sign. Terms of m < 0 are the sines.
    """
    m = np.asarray(nm)[:, 1]
    parity, sine = np.where(m % 2 == 0, 1.0, -1.0), np.where(m < 0, -1.0, 1.0)
    return np.asarray((parity * sine if mirrored_x else 1.0) * (sine if mirrored_y else 1.0) * np.ones(len(m)))


def require_mirrored(field: FloatArray) -> None:
    """Raise ValueError unless places (T, 2) are (+-x, +-y) with every sign of one axis at every sign of the other."""
    negative = [tuple(place < 0) for place in field]
    both = set(product(*({signs[k] for signs in negative} for k in (0, 1))))
    if not 2 <= len(negative) == len(set(negative)) or set(negative) != both:
        raise ValueError(f"tiles at {field.tolist()} are not two or four that mirror each other about the axes")
    if np.ptp(np.abs(field), axis=0).max() > SAME_PLACE:
        raise ValueError(f"tiles at {field.tolist()} lie at different distances from the axes")


def tie(problem: Problem, field: FloatArray, decentring: bool = True) -> Problem:
    """Tie the terms of mirrored tiles to one wavefront, that of the tile at positive x and y.

    Parameters
    ----------
    problem : Problem
        Of tiles without ties.
    field : (T, 2)
        The tiles' places from the optical axis, half diagonals.
    decentring : bool
        Add a free gradient of defocus and a free constant coma along each axis that the tiles mirror.

    Returns
    -------
    Problem
    """
    require_mirrored(field)
    parameters, optics = problem.parameters.copy(), problem.model.optics
    nm = optics.nm[: problem.fitted]
    terms = [tuple(term) for term in nm.tolist()]
    shortest_nm = float(optics.wavelengths_nm.min())

    def add(name: str, like: str, role: Role) -> None:
        parameters.add(name, value=0.0, min=parameters[like].min, max=parameters[like].max)
        parameters[name].user_data = role

    for n, m in terms:
        add(f"base_{term_name(n, m)}", f"t0_{term_name(n, m)}", term_role(n, shortest_nm))
    free: dict[tuple[int, int], list[str]] = {term: [] for term in terms}
    for axis, coma in enumerate([(3, 1), (3, -1)] if decentring else []):
        if not (field[:, axis] < 0).any() or not (field[:, axis] > 0).any():
            continue
        for term, name in (((2, 0), f"tilt_{'xy'[axis]}"), (coma, f"coma_{'xy'[axis]}")):
            if term in free:
                add(name, f"t0_{term_name(*term)}", Role(flips=term[0] % 2 == 0, start_nm=0.0))
                free[term].append(name)
    for t, place in enumerate(field):
        along = dict(zip(("tilt_x", "tilt_y"), place.tolist(), strict=True))
        for term, sign in zip(terms, mirror_signs(nm, *(place < 0)), strict=True):
            extra = "".join(f" + {along.get(name, 1.0)!r} * {name}" for name in free[term])
            tied = parameters[f"t{t}_{term_name(*term)}"]
            tied.set(min=-np.inf, max=np.inf, expr=f"{sign:.0f} * base_{term_name(*term)}{extra}")
    return with_ties(replace(problem, parameters=parameters))


def fit_mirrored(
    tiles: Sequence[TileImages],
    optics: Optics,
    *,
    rng: np.random.Generator,
    channel: int = 0,
    planes: Planes = ONE_PLANE,
    extras: Extras = DEFAULT_EXTRAS,
    decentring: bool = True,
    starts: int = 8,
    pupil_samples: int = PUPIL_SAMPLES,
) -> MirrorFit:
    """Fit tiles that mirror each other left-right, up-down or both, tied and free, and test the ties.

    Parameters
    ----------
    tiles : sequence of TileImages
        Two to four, at (+-x, +-y) of the optical axis.
    optics, rng, channel, planes, extras, starts, pupil_samples
        As in `fit_tile`. A second stop that is free is each tile's own.
    decentring : bool
        Leave the terms of a decentred lens free beside the ties.

    Returns
    -------
    MirrorFit

    Raises
    ------
    FitFailed
        As `fit_tile` does.
    ValueError
        When the tiles do not mirror each other.
    """
    problem = pose_tiles(tuple(tiles), optics, channel, planes, extras, pupil_samples)
    bound = tie(problem, np.array([tile.field for tile in tiles], dtype=float), decentring)
    tied, tied_twin = solve(bound, rng, starts)
    start = problem.parameters.copy()
    for name, parameter in start.items():
        parameter.value = tied.parameters[name].value
    free = minimise(problem, start)  # from the tied solution, so that its chi2 can only be lower
    free, free_twin = sorted((free, minimise(problem, flipped(free.parameters))), key=lambda found: found.chi2)
    saved = problem.ties.shape[1] - bound.ties.shape[1]
    delta = tied.chi2 - free.chi2
    f_ratio = (delta / saved) / (free.chi2 / problem.degrees_of_freedom)
    errors = standard_errors(tied)
    loose = [name for name in tied.parameters if name.startswith(("tilt_", "coma_"))]
    return MirrorFit(
        tied=tile_fits(bound, tied, tied_twin, planes),
        free=tile_fits(problem, free, free_twin, planes),
        decentring_nm={name: tied.parameters[name].value for name in loose},
        decentring_stderr_nm={name: errors[name] for name in loose},
        delta_chi2=delta,
        ties=saved,
        p_value=float(stats.f.sf(f_ratio, saved, problem.degrees_of_freedom)),
    )
