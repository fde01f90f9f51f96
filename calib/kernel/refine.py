"""A grid of kernels and what was observed -> the grid that the observations support, with its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from calib.kernel.choose import CERTAIN, Trial, choose_penalties, reserve
from calib.kernel.observe import Fidelity, Observations, mixing, robust_levels
from calib.kernel.penalty import Penalties
from calib.kernel.register import centred, register
from calib.kernel.report import Outlier, TileReport, find_outliers, report_tiles
from calib.kernel.solve import Descent
from calib.sampling import Batch
from psfbank.arrays import BoolArray, FloatArray, IntArray
from psfbank.flags import Flag
from psfbank.model import PsfGrid

ROUNDS = 4  # of rejection and registration before the weights are chosen
ROUND_ITERATIONS = 15
FIRST = Penalties(delta=10.0, tiles=160.0, channels=40.0, symmetry=10.0)  # while outliers are sought
LEAST_OBSERVATIONS = 3  # of a tile and channel; below, the kernel rests on its neighbours and the base


@dataclass(frozen=True)
class KernelFit:
    """Kernels fitted to observations, and what became of these.

    `grid` has its kernels centred, `displacement_px` (C, Ty, Tx, 2) says where their centroids lay; `penalties` were
    chosen among `trials`; `outliers` were left out; `tiles` tells how well each tile is known; `reserved` (one mask a
    set) marks images held back; `observations` are the sets given, their points moved to where they were found.
    """

    grid: PsfGrid
    displacement_px: FloatArray
    penalties: Penalties
    trials: tuple[Trial, ...]
    outliers: tuple[Outlier, ...]
    tiles: TileReport
    reserved: tuple[BoolArray, ...]
    observations: tuple[Observations, ...]


def refine(
    base: PsfGrid,
    observations: Sequence[Observations],
    size_px: tuple[int, int],
    rng: np.random.Generator,
    *,
    share: float = 0.2,
    reserved: IntArray | None = None,
    position_sigma_px: float = 0.0,
    certain: float = CERTAIN,
    executor: Executor | None = None,
) -> KernelFit:
    """Add to a grid's kernels what observations ask for beyond them.

    Parameters
    ----------
    base : PsfGrid
        Kernels to start from and to fall back on: a wavefront model's, or one plain kernel everywhere.
    observations : sequence of Observations
        Any number of sets; images of one source in several sets are held back together.
    size_px : (H, W)
    rng : Generator
        Picks the reserve.
    share : float
        Of the sources, held back.
    reserved : (R,) int, optional
        Numbers of the sources to hold back, where they were chosen before.
    position_sigma_px : float
        Standard deviation of the points' positions as given; 0 takes them as exact.
    certain : float
        Standard errors by which the reserve must prefer a remainder; a physical base deserves more of them.
    executor : Executor, optional
        Threads; the result does not depend on it.

    Returns
    -------
    KernelFit
        The base itself, re-centred, where no remainder predicts the reserve better.
    """
    x_px, y_px = np.asarray(base.x_px), np.asarray(base.y_px)
    if reserved is None:
        held = _held_back(observations, size_px, share, rng)
    else:
        held = [np.isin(seen.source, reserved) for seen in observations]
    kept = [seen.take(~mask) for seen, mask in zip(observations, held, strict=True)]
    descent, bad, found = _rejected(base, kept, position_sigma_px, executor)
    outliers = [replace(o, index=int(np.flatnonzero(~held[k])[o.index])) for k, o in found]
    aside = [seen.take(mask) for seen, mask in zip(observations, held, strict=True)]
    penalties, trials, kernels = choose_penalties(descent, x_px, y_px, aside, position_sigma_px, certain)
    kernels, displacement = centred(descent.solve(penalties, kernels), base.oversample)
    sets = []
    for seen in observations:
        shift = mixing(x_px, y_px, seen.xy_px) @ displacement[seen.channel].reshape(-1, 2)
        centre = replace(seen, sampling=seen.sampling.moved(shift))
        sets.append(register(centre, kernels[seen.channel], x_px, y_px, position_sigma_px))
    kept = [seen.take(~mask).without(out) for seen, mask, out in zip(sets, held, bad, strict=True)]
    aside = [seen.take(mask) for seen, mask in zip(sets, held, strict=True)]
    tiles = report_tiles(kernels, x_px, y_px, kept, aside)
    filled = np.where(tiles.n_obs < LEAST_OBSERVATIONS, int(Flag.FILLED), 0)
    flags = np.asarray(base.flags, dtype=np.int64) & ~int(Flag.FILLED) | filled
    grid = replace(base, kernels=kernels, n_obs=tiles.n_obs, flags=flags)
    return KernelFit(grid, displacement, penalties, trials, tuple(outliers), tiles, tuple(held), tuple(sets))


def _rejected(
    base: PsfGrid, observations: Sequence[Observations], sigma_px: float, executor: Executor | None
) -> tuple[Descent, list[npt.NDArray[np.bool_]], list[tuple[int, Outlier]]]:
    """Reject a few images a round under a loose fit, points registered; what is left is posed as a problem.

    Returns
    -------
    descent : Descent
    masks : list of (N,) bool
        Images of each set that are out.
    outliers : list of (int, Outlier)
        With the number of the set.
    """
    x_px, y_px = np.asarray(base.x_px), np.asarray(base.y_px)
    used, out = list(observations), [np.zeros(len(seen), dtype=np.bool_) for seen in observations]
    outliers: list[tuple[int, Outlier]] = []

    def posed() -> Descent:
        return Descent(base.kernels, base.oversample, x_px, y_px, used, executor)

    descent, kernels = posed(), np.asarray(base.kernels)
    for _ in range(ROUNDS):
        kernels = descent.solve(FIRST, kernels, ROUND_ITERATIONS)
        before = len(outliers)
        for k, seen in enumerate(used):
            moved = register(seen, kernels[seen.channel], x_px, y_px, sigma_px)
            mask, found = find_outliers(moved, _squares(moved, kernels, x_px, y_px, executor), out[k])
            out[k] |= mask
            outliers += [(k, o) for o in found]
            used[k] = moved.without(mask)
        if len(outliers) == before and sigma_px == 0:
            break
        descent = posed()
    return descent, out, outliers


def _held_back(
    observations: Sequence[Observations], size_px: tuple[int, int], share: float, rng: np.random.Generator
) -> list[npt.NDArray[np.bool_]]:
    """Masks (N,), one a set, of the images of sources held back."""
    every = np.concatenate([np.zeros(0, np.int64), *(seen.source for seen in observations)])
    sources, first = np.unique(every, return_index=True)
    places = np.concatenate([np.zeros((0, 2)), *(seen.xy_px for seen in observations)])[first]
    chosen = sources[reserve(places, size_px, share, rng)]
    return [np.isin(seen.source, chosen) for seen in observations]


def _squares(
    seen: Observations, kernels: Batch, x_px: FloatArray, y_px: FloatArray, executor: Executor | None
) -> npt.NDArray[np.float32]:
    """Squared residuals (N, D) in units of the variance, flux and background fitted robustly."""
    images = Fidelity(seen, x_px, y_px, executor).images(kernels[seen.channel].reshape(-1, *kernels.shape[-2:]))
    return np.asarray(robust_levels(images, seen)[1] ** 2 * seen.weights)
