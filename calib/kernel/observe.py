"""Observations of one channel, how they mix a grid's kernels, and what they say of them: y = f S k + b + n."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from calib.fieldmodel import HUBER_SIGMA
from calib.sampling import Batch, Operator
from psfbank.arrays import FloatArray, IntArray
from psfbank.field import bracket

CHUNK = 128  # images treated at once: their kernels stay in the cache
REWEIGHTED = 2  # times that flux and background are fitted again with Huber's weights


@dataclass(frozen=True)
class Observations:
    """N images of one channel.

    `sampling` is how they see a kernel; `values`, `weights` (N, D) hold the data and their inverse variances, 0 where
    unknown; `xy_px` (N, 2) is where in the field each image lies, `source` (N,) the number of the light or target that
    made it: one source may have an image in every channel.
    """

    sampling: Operator
    values: Batch
    weights: Batch
    xy_px: FloatArray
    source: IntArray
    channel: int

    def __post_init__(self) -> None:
        for name in ("values", "weights"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float32))
        lengths = {len(a) for a in (self.sampling, self.values, self.weights, self.xy_px, self.source)}
        if len(lengths) > 1 or self.values.shape != self.weights.shape:
            raise ValueError(f"observations must agree in number and shape, got {sorted(lengths)} images")
        object.__setattr__(self, "values", np.where(self.weights > 0, self.values, np.float32(0)))  # bad pixels: any
        if not (np.all(np.isfinite(self.values)) and np.all(np.isfinite(self.weights)) and np.all(self.weights >= 0)):
            raise ValueError(
                "`weights` must be finite and not negative, and `values` finite wherever they are positive"
            )

    def __len__(self) -> int:
        return len(self.xy_px)

    def take(self, which: npt.NDArray[Any] | slice) -> Observations:
        """Select images."""
        values, weights, xy_px = (a[which] for a in (self.values, self.weights, self.xy_px))
        return Observations(self.sampling.take(which), values, weights, xy_px, self.source[which], self.channel)

    def without(self, images: npt.NDArray[np.bool_]) -> Observations:
        """Give the images of a mask (N,) no weight."""
        return replace(self, weights=np.where(images[:, None], np.float32(0), self.weights))


def mixing(x_px: FloatArray, y_px: FloatArray, xy_px: FloatArray) -> Any:
    """Weights of every node in the kernels at places (N, 2), bilinear as replay has them: sparse (N, Ty Tx)."""
    axes = []
    for nodes, at in ((y_px, xy_px[:, 1]), (x_px, xy_px[:, 0])):
        axis = np.zeros((len(xy_px), len(nodes)))
        for row, place in zip(axis, at, strict=True):
            low, high, fraction = bracket(nodes, float(place))
            row[low] += 1 - fraction
            row[high] += fraction
        axes.append(axis)
    corners = (axes[0][:, :, None] * axes[1][:, None]).reshape(len(xy_px), len(x_px) * len(y_px))
    return sparse.csr_array(corners.astype(np.float32))


def levels(images: Batch, values: Batch, weights: Batch) -> tuple[Batch, Batch]:
    """Fit flux and background of each image in closed form.

    Parameters
    ----------
    images : (N, D) float32
        Model at unit flux.
    values, weights : (N, D) float32

    Returns
    -------
    flux : (N,) float32
        0 where the data cannot tell.
    residual : (N, D) float32
        Data minus model.
    """
    weighted = weights * images
    one, m1, y1 = (np.sum(a, axis=1, dtype=np.float64) for a in (weights, weighted, weights * values))
    mm, my = (np.einsum("nd,nd->n", weighted, a).astype(np.float64) for a in (images, values))
    known = one > 0
    mean_m, mean_y = (np.divide(a, one, out=np.zeros_like(one), where=known) for a in (m1, y1))
    spread = mm - mean_m * m1
    known &= spread > 1e-6 * mm
    flux = np.divide(my - mean_m * y1, spread, out=np.zeros_like(one), where=known)
    floor = mean_y - flux * mean_m
    residual = values - flux[:, None].astype(np.float32) * images - floor[:, None].astype(np.float32)
    return flux.astype(np.float32), residual


def huber_factor(residual: Batch, weights: Batch) -> Batch:
    """Factors (N, D) on the weights that turn squares into Huber's loss."""
    pull = np.abs(residual) * np.sqrt(weights)
    return np.asarray(np.float32(HUBER_SIGMA) / np.maximum(pull, np.float32(HUBER_SIGMA)))


def robust_levels(images: Batch, observed: Observations) -> tuple[Batch, Batch, Batch]:
    """Flux (N,), residual and weights (N, D) of images at unit flux, the weights reduced as Huber's loss asks."""
    robust = observed.weights
    _, residual = levels(images, observed.values, robust)
    for _ in range(REWEIGHTED):
        robust = observed.weights * huber_factor(residual, observed.weights)
        flux, residual = levels(images, observed.values, robust)
    return flux, residual, robust


def chi2(residual: Batch, weights: Batch) -> npt.NDArray[np.float64]:
    """Huber's loss of each image (N,), twice: the sum of squares for small residuals."""
    pull = np.abs(residual) * np.sqrt(weights)
    near = np.minimum(pull, np.float32(HUBER_SIGMA))
    return np.asarray(np.sum(near * (2 * pull - near), axis=1, dtype=np.float64))


class Fidelity:
    """What observations of one channel say of the kernels at a grid's nodes.

    Parameters
    ----------
    observations : Observations
    x_px, y_px : (Tx,), (Ty,) float
        Nodes, pixels.
    executor : Executor, optional
        Threads that treat chunks of images; results do not depend on it.
    """

    def __init__(
        self, observations: Observations, x_px: FloatArray, y_px: FloatArray, executor: Executor | None = None
    ) -> None:
        self.nodes = len(x_px) * len(y_px)
        across = np.searchsorted(x_px, observations.xy_px[:, 0])
        order = np.lexsort((across, np.searchsorted(y_px, observations.xy_px[:, 1])))  # neighbours share their kernels
        self.order = order
        mix = mixing(x_px, y_px, observations.xy_px)
        self.chunks = [
            (rows, observations.take(rows), *_used_nodes(mix[rows]))
            for rows in (order[k : k + CHUNK] for k in range(0, len(order), CHUNK))
        ]
        self.shape = observations.values.shape
        self._map: Callable[..., Iterator[Any]] = map if executor is None else executor.map

    def images(self, kernels: Batch) -> Batch:
        """Images (N, D) at unit flux that kernels (T, K, K) at the nodes make."""
        out = np.zeros(self.shape, dtype=np.float32)

        def work(chunk: tuple[Any, ...]) -> tuple[Any, Batch]:
            rows, observed, nodes, mix = chunk
            return rows, _seen(observed, mix, kernels[nodes])

        for rows, part in self._map(work, self.chunks):
            out[rows] = part
        return out

    def gradient(self, kernels: Batch) -> tuple[Batch, Batch]:
        """Half of the loss's gradient by kernels (T, K, K), flux and background at their best; and the fluxes (N,)."""

        def work(chunk: tuple[Any, ...]) -> tuple[Any, Any, Batch, Batch]:
            rows, observed, nodes, mix = chunk
            images = _seen(observed, mix, kernels[nodes])
            flux, residual, robust = robust_levels(images, observed)
            return rows, nodes, _deposited(observed, mix, -flux[:, None] * robust * residual), flux

        return self._gathered(work, kernels)

    def curvature(self, vectors: Batch, flux: Batch) -> Batch:
        """Apply the loss's second derivative at fixed fluxes (N,), squares for Huber's loss, to vectors (T, K, K)."""

        def work(chunk: tuple[Any, ...]) -> tuple[Any, Any, Batch, Batch]:
            rows, observed, nodes, mix = chunk
            images = _seen(observed, mix, vectors[nodes]) * observed.weights * flux[rows, None] ** 2
            return rows, nodes, _deposited(observed, mix, images), flux[rows]

        return self._gathered(work, vectors)[0]

    def _gathered(self, work: Callable[[tuple[Any, ...]], Any], like: Batch) -> tuple[Batch, Batch]:
        total, flux = np.zeros_like(like), np.zeros(self.shape[0], dtype=np.float32)
        for rows, nodes, part, fluxes in self._map(work, self.chunks):
            total[nodes] += part
            flux[rows] = fluxes
        return total, flux


def _used_nodes(mix: Any) -> tuple[npt.NDArray[np.int64], Batch]:
    nodes = np.unique(mix.indices)
    return nodes, mix[:, nodes].toarray()


def _seen(observed: Observations, mix: Batch, kernels: Batch) -> Batch:
    """Images (B, D) of mixtures (B, M) of kernels (M, K, K)."""
    width = kernels.shape[-1]
    mixed = (mix @ kernels.reshape(len(kernels), -1)).reshape(-1, 1, width, width)
    return observed.sampling.forward(mixed)[:, 0]


def _deposited(observed: Observations, mix: Batch, values: Batch) -> Batch:
    """Transpose of `_seen`: (M, K, K)."""
    kernels = observed.sampling.adjoint(values)
    width = kernels.shape[-1]
    return np.asarray((mix.T @ kernels.reshape(len(kernels), -1)).reshape(-1, width, width))
