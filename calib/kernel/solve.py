"""The kernel problem: min fidelity + penalties over kernels that sum to one and are nowhere negative.

FISTA (Beck & Teboulle, SIAM J. Imaging Sci. 2, 183, 2009) with adaptive restart (O'Donoghue & Candes, Found. Comput.
Math. 15, 715, 2015) in a diagonal metric: a bright core has a hundred times the noise variance of its tails, and a step
that suits both must be another for every sample. The projection on the simplex is exact in that metric.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from calib.kernel.observe import Fidelity, Observations
from calib.kernel.penalty import Penalties, Penalty
from calib.sampling import Batch
from psfbank.arrays import FloatArray

ITERATIONS = 150
TOLERANCE = 1e-3  # of the remainder so far: a smaller step ends the descent
POWER_ROUNDS = 12
MARGIN = 1.1  # on the power method's estimate of the largest curvature
LEAST_CURVATURE = 0.03  # of a node's mean: samples that few images saw
METRIC_PX = 0.4  # over which curvature is averaged; more would lend the core the tails' small variance


def project_simplex(kernels: Batch, metric: Batch) -> npt.NDArray[np.float32]:
    """Nearest kernels that sum to one and are nowhere negative.

    The minimiser of sum d (x - v)^2 is max(v - t / d, 0); Newton's method on the sum, which is convex in t, meets the
    right t from below after as many steps as the set of positive samples changes (Michelot, J. Optim. Theory Appl. 50,
    195, 1986).

    Parameters
    ----------
    kernels : (..., K, K) float32
        v.
    metric : (..., K, K) float32
        d, positive.

    Returns
    -------
    (..., K, K) float32
    """
    shape = kernels.shape
    flat, inverse = kernels.reshape(-1, shape[-1] ** 2), 1 / metric.reshape(-1, shape[-1] ** 2)
    out = np.empty(flat.shape, dtype=np.float32)
    for k, (v, reach) in enumerate(zip(flat, inverse, strict=True)):
        some_v, some_reach, count = v, reach, len(v) + 1
        while len(some_v) < count:
            count = len(some_v)
            level = (some_v.sum() - 1) / some_reach.sum()
            positive = some_v > level * some_reach
            some_v, some_reach = some_v[positive], some_reach[positive]
        moved = v - level * reach
        np.maximum(moved, 0, out=moved)
        out[k] = moved / moved.sum(dtype=np.float64)
    return out.reshape(shape)


class Descent:
    """Everything of one kernel problem but its penalties' weights: the data, the base, and the data's curvature.

    Parameters
    ----------
    base : (C, Ty, Tx, K, K) float
        Kernels that the penalties pull to; sum to one, not negative.
    oversample : int
        Samples a pixel.
    x_px, y_px : (Tx,), (Ty,) float
        Nodes, pixels.
    observations : sequence of Observations
        Any number of sets, of any channel.
    executor : Executor, optional
        Threads; the result does not depend on it.
    """

    def __init__(
        self,
        base: FloatArray,
        oversample: int,
        x_px: FloatArray,
        y_px: FloatArray,
        observations: Sequence[Observations],
        executor: Executor | None = None,
    ) -> None:
        self.base = np.asarray(base, dtype=np.float32)
        self.oversample = oversample
        self.sets = [(seen.channel, Fidelity(seen, x_px, y_px, executor)) for seen in observations if len(seen)]
        self.flux = [fidelity.gradient(self._of(self.base, c))[1] for c, fidelity in self.sets]
        curvature = self.curvature(np.ones_like(self.base))  # as sums of rows; few images leave gaps between sites
        curvature = gaussian_filter(curvature, (0, 0, 0, METRIC_PX * oversample, METRIC_PX * oversample))
        level = LEAST_CURVATURE * curvature.mean((-2, -1), keepdims=True)
        self.metric = np.maximum(curvature, np.maximum(level, np.finfo(np.float32).tiny * 1e6))
        self.metric *= self._largest_ratios()

    def _of(self, kernels: Batch, channel: int) -> Batch:
        return np.asarray(kernels[channel].reshape(-1, *kernels.shape[-2:]))

    def gradient(self, kernels: Batch) -> Batch:
        """Half of the fidelity's gradient (C, Ty, Tx, K, K)."""
        out = np.zeros_like(kernels)
        for c, fidelity in self.sets:
            out[c] += fidelity.gradient(self._of(kernels, c))[0].reshape(out[c].shape)
        return out

    def curvature(self, vectors: Batch) -> Batch:
        """Apply the fidelity's second derivative, the same shape."""
        out = np.zeros_like(vectors)
        for (c, fidelity), flux in zip(self.sets, self.flux, strict=True):
            out[c] += fidelity.curvature(self._of(vectors, c), flux).reshape(out[c].shape)
        return out

    def _largest_ratios(self) -> Batch:
        """Largest curvature of each node in units of the metric (C, Ty, Tx, 1, 1).

        The power method with every node's vector normalised by itself: where it settles, H v = diag(ratio) v with a
        vector in every node, so that no curvature exceeds one once the metric takes the ratios. A node seen by a
        single image so costs no other node its speed.
        """
        root = np.sqrt(self.metric)
        vector = np.sqrt(self.base) * root  # any start with light everywhere near the core
        for _ in range(POWER_ROUNDS):
            norm = np.linalg.norm(vector, axis=(-2, -1), keepdims=True)
            vector = np.divide(vector, norm, out=np.zeros_like(vector), where=norm > 0)
            vector = self.curvature(vector / root) / root
        norm = np.linalg.norm(vector, axis=(-2, -1), keepdims=True)
        return np.where(norm > 0, np.float32(MARGIN) * norm, np.float32(1))

    def solve(
        self, penalties: Penalties, start: Batch | None = None, iterations: int = ITERATIONS
    ) -> npt.NDArray[np.float32]:
        """Minimise under the weights given.

        Parameters
        ----------
        penalties : Penalties
        start : (C, Ty, Tx, K, K) float32, optional
            Where to begin; the base by default. Where it already breaks sharply between tiles, it may go on so.
        iterations : int
            At most.

        Returns
        -------
        (C, Ty, Tx, K, K) float32
            Each kernel sums to one and is nowhere negative.
        """
        if math.isinf(penalties.delta):
            return self.base.copy()
        penalty = Penalty(self.base, self.oversample, penalties)
        metric = self.metric + penalty.bound()
        here = ahead = self.base if start is None else start
        penalty.relax(here - self.base)
        momentum = 1.0
        for _ in range(iterations):
            slope = self.gradient(ahead) + penalty.gradient(ahead - self.base)
            there = project_simplex(ahead - slope / metric, metric)
            step = there - here
            if np.vdot(metric * (ahead - there), step) > 0:
                momentum = 1.0
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = there + np.float32((momentum - 1) / following) * step
            here, momentum = there, following
            if np.linalg.norm(step) <= TOLERANCE * np.linalg.norm(here - self.base):
                break
        return here


def solve_kernels(
    base: FloatArray,
    oversample: int,
    x_px: FloatArray,
    y_px: FloatArray,
    observations: Sequence[Observations],
    penalties: Penalties,
    executor: Executor | None = None,
) -> npt.NDArray[np.float32]:
    """Solve one kernel problem at given weights; parameters and result are those of `Descent` and its `solve`."""
    return Descent(base, oversample, x_px, y_px, observations, executor).solve(penalties)
