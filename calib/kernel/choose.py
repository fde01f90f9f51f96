"""Weights of the penalties by the error on observations held back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from calib.kernel.observe import Fidelity, Observations, chi2, robust_levels
from calib.kernel.penalty import Penalties
from calib.kernel.register import register
from calib.kernel.solve import Descent
from calib.sampling import Batch
from psfbank.arrays import FloatArray

DELTAS = (math.inf, 1e3, 1e2, 1e1, 1.0, 0.1)  # the base alone; remainders within 3, 10, 32 ... % of the base
PER_DELTA = {"tiles": 16.0, "channels": 4.0, "symmetry": 1.0}  # at first, in units of `delta`
FACTORS = {  # tried afterwards, one after the other, the other weights staying
    "delta": (0.1,),
    "tiles": (1 / 8, 8.0),
    "channels": (8.0,),
    "symmetry": (16.0,),
    "band": (4.0,),
}
ITERATIONS = 40  # of a trial: enough to tell weights apart
CERTAIN = 1.0  # standard errors by which a remainder must beat the base (Breiman et al., CART, 1984)


@dataclass(frozen=True)
class Trial:
    """Weights tried, their error on the reserve (chi2 per sample), and the standard error of its gain on the base."""

    penalties: Penalties
    error: float
    gain_sigma: float


def reserve(
    xy_px: FloatArray, size_px: tuple[int, int], share: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Hold back a share of lights, evenly over the field.

    Lights are put in the order of square cells of about 1 / `share` lights each, walked to and fro and at random
    within; every (1 / `share`)-th is held back, from a random start.

    Parameters
    ----------
    xy_px : (S, 2) float
        One place a light; all its channels go together.
    size_px : (H, W)
    share : float
        Between 0 and 1.
    rng : Generator

    Returns
    -------
    (S,) bool
        True where held back: within one of `share` times S of them.
    """
    if not 0 <= share < 1:
        raise ValueError(f"`share` must be at least 0 and less than 1, got {share}")
    count = len(xy_px)
    cell_px = math.sqrt(size_px[0] * size_px[1] / max(1.0, share * count))
    column, row = np.floor(np.asarray(xy_px) / cell_px).astype(np.int64).T if count else np.zeros((2, 0), np.int64)
    walked = np.where(row % 2 == 0, column, -column)
    order = np.lexsort((rng.random(count), walked, row))
    due = np.floor(np.arange(count + 1) * share + rng.random())
    mask = np.zeros(count, dtype=np.bool_)
    mask[order] = np.diff(due) > 0
    return mask


def image_chi2(
    observations: Observations, kernels: Batch, x_px: FloatArray, y_px: FloatArray, executor: Executor | None = None
) -> npt.NDArray[np.float64]:
    """Huber's chi2 of each image (N,) under kernels (C, Ty, Tx, K, K), flux and background at their best."""
    nodes = kernels[observations.channel].reshape(-1, *kernels.shape[-2:])
    images = Fidelity(observations, x_px, y_px, executor).images(nodes)
    return chi2(robust_levels(images, observations)[1], observations.weights)


def held_out(
    reserved: Sequence[Observations], kernels: Batch, x_px: FloatArray, y_px: FloatArray, sigma_px: float
) -> npt.NDArray[np.float64]:
    """Chi2 of every reserved image, set after set, points registered anew."""
    out = [np.zeros(0)]
    for seen in reserved:
        moved = register(seen, kernels[seen.channel], x_px, y_px, sigma_px)
        out.append(image_chi2(moved, kernels, x_px, y_px))
    return np.concatenate(out)


def choose_penalties(
    descent: Descent,
    x_px: FloatArray,
    y_px: FloatArray,
    reserved: Sequence[Observations],
    sigma_px: float = 0.0,
    certain: float = CERTAIN,
) -> tuple[Penalties, tuple[Trial, ...], Batch]:
    """Try weights, first of the remainder's size, then how it varies, and keep what predicts the reserve best.

    Parameters
    ----------
    descent : Descent
        Of the observations that are not held back.
    x_px, y_px : (Tx,), (Ty,) float
    reserved : sequence of Observations
    sigma_px : float
        Standard deviation of the points' positions; 0 takes them as given.
    certain : float
        Standard errors by which a remainder must beat the base.

    Returns
    -------
    Penalties
        `delta` is infinite where no remainder is better than the base by `certain` standard errors.
    trials : tuple of Trial
        Everything tried, in order; the base alone first.
    kernels : (C, Ty, Tx, K, K) float32
        Near to the solution under the weights chosen: each trial starts from the best one before it.
    """
    samples = max(1, sum(int(np.count_nonzero(seen.weights)) for seen in reserved))
    source = np.concatenate([np.zeros(0, np.int64), *(seen.source for seen in reserved)])
    group = np.unique(source, return_inverse=True)[1]  # a light's channels share its errors
    base_chi2 = held_out(reserved, descent.base, x_px, y_px, sigma_px)
    trials: list[Trial] = []
    kernels = {}

    def attempt(penalties: Penalties, start: Batch) -> Trial:
        found = descent.solve(penalties, start, ITERATIONS)
        errors = held_out(reserved, found, x_px, y_px, sigma_px)
        gains = np.bincount(group, base_chi2 - errors, 1)
        sigma = float(np.std(gains, ddof=1)) * math.sqrt(len(gains)) if len(gains) > 1 else math.inf
        trial = Trial(penalties, float(errors.sum()) / samples, sigma / samples)
        trials.append(trial)
        kernels[penalties] = found
        return trial

    attempt(_weights(DELTAS[0]), descent.base)
    for delta in DELTAS[1:]:
        trial = attempt(_weights(delta), kernels[trials[-1].penalties])
        if trial.error > min(t.error for t in trials[:-1]):
            break
    best = min(trials, key=lambda t: t.error)
    if trials[0].error - best.error <= certain * best.gain_sigma:
        return trials[0].penalties, tuple(trials), descent.base
    for name, factors in FACTORS.items():
        for factor in factors:
            changed = replace(best.penalties, **{name: getattr(best.penalties, name) * factor})
            attempt(changed, kernels[best.penalties])
        best = min(trials, key=lambda t: t.error)
    return best.penalties, tuple(trials), kernels[best.penalties]


def _weights(delta: float) -> Penalties:
    return Penalties(delta=delta, **{name: delta * ratio for name, ratio in PER_DELTA.items()})
