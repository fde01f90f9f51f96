"""What became of the observations: outliers, and how well every tile is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from calib.kernel.choose import image_chi2
from calib.kernel.observe import Observations, mixing
from calib.kernel.penalty import turned
from calib.sampling import Batch
from psfbank.arrays import FloatArray, IntArray

NEIGHBOURS = 8
OUTLIER_SIGMA = 6.0
TIMES_NEIGHBOURS = 2.5  # a kernel still wrong misfits all images of its part of the field alike
MOST_REJECTED = 0.01  # of the images, a round
ONE_SAMPLE = 0.8  # share of the excess chi2 that makes a single sample its cause


@dataclass(frozen=True)
class Outlier:
    """An image left out: its set's channel, its rank in the set, its source, chi2 per sample, and the reason."""

    channel: int
    index: int
    source: int
    chi2: float
    reason: str


@dataclass(frozen=True)
class TileReport:
    """How well tiles are known, each (C, Ty, Tx), by the images nearest to each node; NaN where there are none.

    `n_obs` counts the images used; `chi2_used`, `chi2_reserved` are per sample; `asymmetry_used` and
    `asymmetry_reserved` are the rise of chi2, summed over the images, when every kernel is replaced by its symmetric
    part: how much the data resist central symmetry. What noise alone brings about in the first is absent from the last.
    """

    n_obs: IntArray
    chi2_used: FloatArray
    chi2_reserved: FloatArray
    asymmetry_used: FloatArray
    asymmetry_reserved: FloatArray


def find_outliers(
    observations: Observations, squares: FloatArray, already: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], tuple[Outlier, ...]]:
    """Find images that fit far worse than others and than their neighbours, at most `MOST_REJECTED` of them.

    Parameters
    ----------
    observations : Observations
    squares : (N, D) float
        Squared residuals in units of their variance.
    already : (N,) bool
        Images that are out already.

    Returns
    -------
    mask : (N,) bool
        The new ones.
    outliers : tuple of Outlier
        The worst first.
    """
    samples = np.count_nonzero(observations.weights, axis=1)
    good = np.flatnonzero((samples > 0) & ~already)
    mask = np.zeros(len(observations), dtype=np.bool_)
    if len(good) <= NEIGHBOURS:
        return mask, ()
    reduced = squares[good].sum(1, dtype=np.float64) / samples[good]
    median = np.median(reduced)
    limit = median + OUTLIER_SIGMA * 1.4826 * np.median(np.abs(reduced - median))
    near = cKDTree(observations.xy_px[good]).query(observations.xy_px[good], NEIGHBOURS + 1)[1][:, 1:]
    bad = np.flatnonzero((reduced > limit) & (reduced > TIMES_NEIGHBOURS * np.median(reduced[near], axis=1)))
    worst = bad[np.argsort(-reduced[bad], kind="stable")][: max(1, int(MOST_REJECTED * len(good)))]
    mask[good[worst]] = True
    return mask, tuple(_outlier(observations, int(good[k]), squares[good[k]], reduced[k], median) for k in worst)


def _outlier(observations: Observations, index: int, squares: FloatArray, reduced: float, usual: float) -> Outlier:
    excess = squares.sum() - usual * np.count_nonzero(squares)
    reason = "one sample stands out" if squares.max() > ONE_SAMPLE * excess else "another shape than its neighbours'"
    return Outlier(observations.channel, index, int(observations.source[index]), float(reduced), reason)


def report_tiles(
    kernels: Batch,
    x_px: FloatArray,
    y_px: FloatArray,
    used: Sequence[Observations],
    reserved: Sequence[Observations],
) -> TileReport:
    """Sum up chi2 and resistance to symmetry by tile; images without weight count for nothing."""
    symmetric = (kernels + turned(kernels)) / 2
    shape = kernels.shape[:3]
    columns = []
    for sets in (used, reserved):
        fitted, rise, samples, count = (np.zeros(shape) for _ in range(4))
        for seen in sets:
            nearest = np.asarray(mixing(x_px, y_px, seen.xy_px).toarray().argmax(1))
            known = np.count_nonzero(seen.weights, axis=1)
            loss = image_chi2(seen, kernels, x_px, y_px)
            more = image_chi2(seen, symmetric, x_px, y_px) - loss
            for out, values in ((fitted, loss), (rise, more), (samples, known), (count, known > 0)):
                out[seen.channel] += np.bincount(nearest, values, shape[1] * shape[2]).reshape(shape[1:])
        mean = np.divide(fitted, samples, out=np.full(shape, np.nan), where=samples > 0)
        columns.append((count.astype(np.int64), mean, np.where(count > 0, rise, np.nan)))
    (n_obs, chi2_used, asymmetry_used), (_, chi2_reserved, asymmetry_reserved) = columns
    return TileReport(n_obs, chi2_used, chi2_reserved, asymmetry_used, asymmetry_reserved)
