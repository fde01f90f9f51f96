"""Step of a calibration: what the images say of every tile: chi2, also of those held in reserve, and what is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from calib.evidence import Evidence
from calib.fieldmodel import closed_form, huber_cost
from calib.fieldsolver import CHUNK, Parameters, shapes
from calib.photometry.variance import variance_terms
from calib.pointmodel import Batch, PointModel, Samples, Sampling, Shape
from calib.wavefront import WavefrontFit
from calib.wavefront.joint import FIT_HALF_PX, with_remainder
from calib.wavefront.pose import narrowed
from calib.wavefront.quality import reweighed
from psfbank.arrays import FloatArray, IntArray
from psfbank.model import NoiseModel, PsfEvidence, PsfGrid
from psfbank.seen import WIDEST_RESIDUAL_PX

PEAK_PX = np.arange(-3.0, 3.25, 0.5)  # about a light, where its image's peak is sought


@dataclass(frozen=True)
class Fitted:
    """Some images of one kind and channel and what the model leaves of them.

    `at_px` (B, 2) is where the model sees their sources, `residual` (B, L, O, P) data minus model, `peak` (B,) the
    model's brightest pixel at the flux found, if it were centred on it.
    """

    channel: int
    source: IntArray
    at_px: FloatArray
    samples: Sampling
    residual: FloatArray
    peak: FloatArray


def tile_evidence(
    fit: WavefrontFit | None,
    evidence: Evidence | None,
    noise: NoiseModel | None,
    grid: PsfGrid | None,
    asymmetry: FloatArray | None,
) -> PsfEvidence | None:
    """Sum up by tile how the images agree with the fitted wavefront; None where there is none.

    Parameters
    ----------
    fit : WavefrontFit or None
    evidence : Evidence or None
    noise : NoiseModel or None
        With it the model's own light gives the weights, as it did in the fit.
    grid : PsfGrid or None
        Every image counts for the nearest of its nodes.
    asymmetry : (C, Ty, Tx) float or None
        From `calib.unmodelled.add_remainder`.

    Returns
    -------
    PsfEvidence or None
        Of lights and pieces of charts that are no outliers; its mosaics of residuals are of images of points alone.
    """
    if fit is None or evidence is None or grid is None:
        return None
    tiles = (len(grid.channels), len(grid.y_px), len(grid.x_px))
    nodes = np.stack(np.meshgrid(grid.x_px, grid.y_px), axis=-1).reshape(-1, 2)
    nearest = cKDTree(nodes).query(fit.xy_px)[1]
    loss, samples, images = (np.zeros((2, tiles[0] * len(nodes))) for _ in range(3))  # used, reserved
    width = 2 * min(fit.half_px, FIT_HALF_PX, WIDEST_RESIDUAL_PX // 2) + 1
    left, weight = (np.zeros((tiles[0] * len(nodes), width, width)) for _ in range(2))
    for part in _fitted(fit, evidence, noise):
        tile = part.channel * len(nodes) + nearest[part.source]
        at = fit.reserved[part.source].astype(np.int64), tile
        flat = part.samples.weights.reshape(len(tile), -1)
        known = np.count_nonzero(flat, axis=1)
        np.add.at(loss, at, huber_cost(part.residual.reshape(flat.shape), flat))
        np.add.at(samples, at, known)
        np.add.at(images, at, known > 0)
        if isinstance(part.samples, Samples):
            _deposit(left, weight, part, part.samples, tile)
    chi2 = np.divide(loss, samples, out=np.full_like(loss, np.nan), where=samples > 0).reshape(2, *tiles)
    mosaics = np.divide(left, weight, out=np.zeros_like(left), where=weight > 0)
    return PsfEvidence(
        x_px=grid.x_px,
        y_px=grid.y_px,
        chi2_used=chi2[0],
        chi2_reserved=chi2[1],
        n_reserved=images[1].reshape(tiles).astype(np.int64),
        asymmetry=np.full(tiles, np.nan) if asymmetry is None else asymmetry,
        residual=mosaics.reshape(*tiles, width, width),
        channels=grid.channels,
    )


def _fitted(fit: WavefrontFit, evidence: Evidence, noise: NoiseModel | None) -> Iterator[Fitted]:
    """Go through the images of all sound sources in the focus that is calibrated, a chunk at a time."""
    at = Parameters(fit.vector, fit.xy_px)
    own = replace(evidence.problem, images=tuple(i for i in evidence.problem.images if i.plane == 0))
    problem = narrowed(own, FIT_HALF_PX).of_lights(np.flatnonzero(fit.sound))
    problem = with_remainder(problem, at, fit.remainder)
    if noise is not None:
        problem = reweighed(problem, at, *variance_terms(noise))
    for number, images in enumerate(problem.images):
        model = problem.models[images.channel]
        for start in range(0, len(images.source), CHUNK):
            part = slice(start, start + CHUNK)
            shape, samples = shapes(problem, number, at, part), images.samples.take(part)
            fine = model.fine_images(shape)
            unit = model.sample(fine, shape, samples)
            linear, residual = closed_form(unit, samples)
            peak = linear[:, 0] * _peaks(model, fine, shape)
            yield Fitted(images.channel, images.source[part], shape.xy_px, samples, residual.reshape(unit.shape), peak)


def _peaks(model: PointModel, fine: Batch, shape: Shape) -> npt.NDArray[np.float64]:
    """Brightest value (B,) of images at unit flux wherever a pixel may stand, to half a pixel."""
    axis = np.broadcast_to(PEAK_PX, (len(fine), 1, len(PEAK_PX)))
    centred = replace(shape, xy_px=np.zeros_like(shape.xy_px))
    around = model.sample(fine, centred, Samples(axis, axis, np.zeros(0), np.zeros(0)))
    return np.asarray(around.max((1, 2, 3)), dtype=np.float64)


def _deposit(left: FloatArray, weight: FloatArray, part: Fitted, samples: Samples, tile: IntArray) -> None:
    """Add residuals to the mosaics (T, P, P) of their tiles, about the pixel nearest to each light.

    A residual r over the image's peak p has the inverse variance w p^2: the mean of r / p is sum w p r / sum w p^2. The
    sites of one colour lie elsewhere about every light, and fill a mosaic up together.
    """
    width = left.shape[-1]
    origin_px = np.rint(part.at_px)
    cols, rows = (
        np.rint(at - origin_px[:, axis, None, None]).astype(np.int64) + width // 2
        for axis, at in ((0, samples.cols_px), (1, samples.rows_px))
    )
    peak = part.peak[:, None, None, None]
    index = np.broadcast_arrays(tile[:, None, None, None], rows[..., :, None], cols[..., None, :])
    inside = (samples.weights > 0) & (peak > 0)
    for places in index[1:]:
        inside = inside & (places >= 0) & (places < width)
    at = tuple(places[inside] for places in index)
    np.add.at(left, at, (samples.weights * peak * part.residual)[inside])
    np.add.at(weight, at, (samples.weights * peak**2)[inside])
