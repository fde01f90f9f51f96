"""How well a fitted field explains its images: chi2, weights that the model itself gives, outliers, and its misfit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from calib.fieldmodel import Images, closed_form, huber_cost
from calib.fieldsolver import CHUNK, Parameters, Problem, image_costs, shapes
from psfbank.arrays import BoolArray, FloatArray

OUTLIER_SIGMA = 6.0
MOST_REJECTED = 0.01  # of the lights, a round
NEIGHBOURS = 9
POOL = 40  # lights whose misfit is averaged


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
    if len(known) == 0:
        return out
    near = cKDTree(xy_px[known]).query(xy_px[known], k=min(NEIGHBOURS, len(known)))[1].reshape(len(known), -1)
    excess = chi2[known] - np.median(chi2[known][near], axis=1)
    limit = OUTLIER_SIGMA * 1.4826 * np.median(np.abs(chi2[known] - np.median(chi2[known])))
    worst = known[np.argsort(-excess)][: max(1, int(MOST_REJECTED * len(known)))]
    out[known[excess > limit]] = True
    return out & np.isin(np.arange(len(chi2)), worst)


def _fitted(problem: Problem, number: int, at: Parameters) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
    """Chunks of the images `number`: what the model makes of each (B, D), what is left, and its flux's part (B, D)."""
    images = problem.images[number]
    for start in range(0, len(images.source), CHUNK):
        part = slice(start, start + CHUNK)
        samples = images.samples.take(part)
        unit = problem.models[images.channel].render(shapes(problem, number, at, part), samples)
        linear, residual = closed_form(unit, samples)
        flat = unit.reshape(len(unit), -1)
        yield samples.values.reshape(len(unit), -1) - residual, residual, linear[:, :1] * flat


def reweighed(problem: Problem, at: Parameters, shot: FloatArray, floor: FloatArray) -> Problem:
    """Weigh every sample by the light that the model expects there, not by the noisy light that was seen.

    Parameters
    ----------
    problem : Problem
    at : Parameters
        A good fit.
    shot, floor : (C,) float
        Slope and floor of the variance, from `calib.photometry.variance.variance_terms`; a channel whose floor is not
        known keeps its weights.
    """
    return replace(problem, images=tuple(_reweighed(problem, k, at, shot, floor) for k in range(len(problem.images))))


def _reweighed(problem: Problem, number: int, at: Parameters, shot: FloatArray, floor: FloatArray) -> Images:
    images = problem.images[number]
    slope, least = float(shot[images.channel]), float(floor[images.channel])
    if not np.isfinite(slope + least) or len(images.source) == 0:
        return images
    light = np.concatenate([model for model, _, _ in _fitted(problem, number, at)])
    variance = slope * np.maximum(light, 0.0) + least
    weights = images.samples.weights
    known = np.where(weights > 0, 1.0 / variance.reshape(weights.shape), 0.0)
    return replace(images, samples=images.samples.reweighed(known))


def light_excess(problem: Problem, at: Parameters) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sum what chi2 has above its expectation, and the power of the signal, by channel and light: (C, S) each.

    With residual r of flux f, weights w and a PSF k that is off by d: E[sum w r^2] = D - p + f^2 sum w d^2 for D
    samples and p parameters that follow the noise: what is linear in the data, and the light's share of its position.
    The signal's power is f^2 sum w k^2.
    """
    shape = (problem.layout.channels, len(problem.detected_px))
    excess, signal = np.zeros(shape), np.zeros(shape)
    images_of = np.bincount(np.concatenate([i.source for i in problem.images]), minlength=shape[1])
    for number, images in enumerate(problem.images):
        if len(images.source) == 0:
            continue
        weights = images.samples.weights.reshape(len(images.source), -1)
        parts = list(_fitted(problem, number, at))
        residual, image = (np.concatenate([part[k] for part in parts]) for k in (1, 2))
        follow = images.samples.linear(image).shape[1] + 2.0 / images_of[images.source]
        np.add.at(excess[images.channel], images.source, huber_cost(residual, weights) - (weights > 0).sum(1) + follow)
        np.add.at(signal[images.channel], images.source, (weights * image**2).sum(1))
    return excess, signal


def misfit(
    excess: FloatArray, signal: FloatArray, lights_px: FloatArray, channel: int, xy_px: FloatArray
) -> npt.NDArray[np.float64]:
    """Relative L2 error (N,) of a channel's PSF at places (N, 2), px, by what its lights' chi2 has too much.

    If a PSF's error d lies where the PSF k does, sum d^2 / sum k^2 is about the excess over the signal's power. One
    light's noise hides its excess: those of the `POOL` nearest are put together, with as many average ones.

    Parameters
    ----------
    excess, signal : (C, S) float
        From `light_excess`.
    lights_px : (S, 2) float
    channel : int
    xy_px : (N, 2) float
    """
    usual = max(float(excess.sum()), 0.0) / max(float(signal.sum()), 1e-300)
    added = POOL * float(signal[channel].mean())
    near = cKDTree(lights_px).query(xy_px, k=min(POOL, len(lights_px)))[1].reshape(len(xy_px), -1)
    above, power = (values[channel][near].sum(1) for values in (excess, signal))
    return np.asarray(np.sqrt(np.maximum(above + usual * added, 0.0) / np.maximum(power + added, 1e-300)))
