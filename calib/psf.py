"""Point images -> the bank's PSF grid: render the fitted field at the nodes, centre every kernel, count its support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from calib.fieldmodel import Images, to_shape
from calib.fieldsolver import CHUNK
from calib.pointmodel import PointModel, Samples, Shape
from calib.wavefront.joint import WavefrontFit
from calib.wavefront.pose import PUPIL_SAMPLES
from psfbank.arrays import FloatArray
from psfbank.flags import Flag
from psfbank.model import Imaging, PsfGrid, ZernikeField
from psfbank.zernike import centroid_px

LEAST_OBSERVATIONS = 3  # of a tile and channel; below, the kernel rests on its neighbours alone
OVERSAMPLE = 3
# From the root mean square error to what 68 of 100 errors stay below: an error of few shapes that varies from place to
# place has a longer tail than one number's. Measured on two cameras of known truth, 0.53 and 0.58 without it.
COVERAGE = 1.2


def tile_nodes(size_px: tuple[int, int], pitch_px: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Nodes x (Tx,), y (Ty,) from the centre of the first to that of the last pixel, about `pitch_px` apart."""
    height, width = size_px
    columns, rows = (max(3, round((n - 1) / pitch_px) + 1) for n in (width, height))
    return np.linspace(0, width - 1, columns), np.linspace(0, height - 1, rows)


def _lattice(count: int, half_px: int, oversample: int) -> Samples:
    axis = np.arange(-half_px * oversample, half_px * oversample + 1) / oversample
    at = np.broadcast_to(axis, (count, 1, len(axis)))
    return Samples(at, at, np.zeros(0), np.zeros(0))


def shape_at(fit: WavefrontFit, channel: int, xy_px: FloatArray) -> Shape:
    """Work out what shapes the images of points at places (N, 2), px; the images lie about zero."""
    mapped = fit.local(channel, xy_px)
    mapped[:, fit.layout.terms : fit.layout.terms + 2] = 0.0
    return to_shape(fit.layout, mapped, np.zeros((len(xy_px), 2)))


def render_kernels(
    fit: WavefrontFit, channel: int, xy_px: FloatArray, oversample: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Render effective PSFs, their centroids moved to the array centre.

    Parameters
    ----------
    fit : WavefrontFit
    channel : int
    xy_px : (N, 2) float
        Places, pixels.
    oversample : int
        Samples a pixel.

    Returns
    -------
    kernels : (N, K, K) float64
        K = 2 half_px oversample + 1; not negative, sum to one.
    displacement_px : (N, 2) float64
        Where the centroid lies from the geometric image point: a part of the distortion.
    """
    model = PointModel(fit.optics, channel, fit.half_px, PUPIL_SAMPLES)
    shape = shape_at(fit, channel, xy_px)
    displacement = np.zeros((len(xy_px), 2))
    at = _lattice(len(xy_px), fit.half_px, oversample)
    fine = model.fine_images(shape)
    for _ in range(4):  # the window moves along, so the centroid within it settles in a few rounds
        moved = replace(shape, xy_px=-displacement)
        kernels = np.maximum(model.sample(fine, moved, at)[:, 0].astype(np.float64), 0.0)
        kernels /= kernels.sum((1, 2), keepdims=True)
        displacement = displacement + np.array([centroid_px(k, oversample) for k in kernels])
    return kernels, displacement


def count_support(
    fit: WavefrontFit, images: Sequence[Images], x_px: FloatArray, y_px: FloatArray
) -> npt.NDArray[np.int64]:
    """Count the images (C, Ty, Tx) nearest to each node that the fit used."""
    nodes = cKDTree(np.stack(np.meshgrid(x_px, y_px), axis=-1).reshape(-1, 2))
    counts = np.zeros((fit.layout.channels, nodes.n), dtype=np.int64)
    for part in images:
        nearest = nodes.query(fit.xy_px[part.source[fit.used[part.source]]])[1]
        np.add.at(counts, (part.channel, nearest), 1)
    return counts.reshape(-1, len(y_px), len(x_px))


def relative_sigma(fit: WavefrontFit, channel: int, xy_px: FloatArray) -> npt.NDArray[np.float64]:
    """Propagate the fit's covariance to the expected relative L2 error (N,) of kernels of unit sum, centroid at zero.

    With D the kernel's derivatives by the local parameters and C their covariance, E|dk|^2 = trace(D C D^T).
    """
    model = PointModel(fit.optics, channel, fit.half_px, PUPIL_SAMPLES)
    at = _lattice(len(xy_px), fit.half_px, 1)
    centred = replace(shape_at(fit, channel, xy_px), xy_px=-render_kernels(fit, channel, xy_px, 1)[1])
    image, derivative = model.jacobian(centred, at)
    spread = fit.spread(channel, xy_px)
    columns = derivative[:, 0].reshape(*spread.shape[:2], -1).astype(np.float64)
    flat = image.reshape(len(xy_px), 1, -1).astype(np.float64)
    kernel = flat / flat.sum(2, keepdims=True)
    columns = (columns - kernel * columns.sum(2, keepdims=True)) / flat.sum(2, keepdims=True)
    places = np.stack(np.meshgrid(at.cols_px[0, 0], at.rows_px[0, 0]), -1).reshape(-1, 2)
    shift, moves = columns @ places, slice(fit.layout.terms, fit.layout.terms + 2)
    columns = columns - shift @ np.linalg.solve(shift[:, moves], columns[:, moves])  # move every centroid back
    power = np.einsum("nlk,nmk,nlm->n", columns, columns, spread)
    return np.asarray(np.sqrt(np.maximum(power, 0.0) / np.sum(kernel**2, axis=(1, 2))))


def render_grid(
    fit: WavefrontFit, images: Sequence[Images], channels: tuple[str, ...], x_px: FloatArray, y_px: FloatArray
) -> tuple[PsfGrid, ZernikeField]:
    """Put the fitted field on a grid of nodes.

    Parameters
    ----------
    fit : WavefrontFit
    images : sequence of Images
        The observations, to count each tile's support.
    channels : tuple of str
    x_px, y_px : (Tx,), (Ty,) float
        Nodes, pixels.

    Returns
    -------
    PsfGrid
        Its sigma, below which about 68 of 100 errors stay, is what the fit's covariance says and what the images show
        beyond their noise. Flagged FILLED where fewer than `LEAST_OBSERVATIONS` images lie nearest to a node.
    ZernikeField
        Coefficients with standard errors; `residual` is chi2 per sample of the images nearest to each node. A channel
        whose scale of diffraction differs from the common one has another effective wavelength: its wavelengths carry
        the factor, and its coefficients as well, since what is seen is their ratio.
    """
    nodes = np.stack(np.meshgrid(x_px, y_px), axis=-1).reshape(-1, 2)
    tiles = (len(y_px), len(x_px))
    optics = fit.optics
    scale = float(fit.vector[fit.layout.slices()["scale"]][0])
    kernels, sigma, coefficients, stderr, shapes = [], [], [], [], []
    for c in range(len(channels)):
        rendered = render_kernels(fit, c, nodes, OVERSAMPLE)[0]
        kernels.append(rendered.reshape(*tiles, *rendered.shape[1:]))
        sigma.append(COVERAGE * np.hypot(relative_sigma(fit, c, nodes), fit.misfit(c, nodes)).reshape(tiles))
        shape = shape_at(fit, c, nodes)
        shapes.append(shape)
        coefficients.append(shape.scale / scale * shape.coefficients_nm.reshape(*tiles, -1))
        variance = np.diagonal(fit.spread(c, nodes), axis1=1, axis2=2)[:, : fit.layout.terms]
        stderr.append(shape.scale / scale * np.sqrt(np.maximum(variance, 0.0)).reshape(*tiles, -1))
    counts = count_support(fit, images, x_px, y_px)
    flags = np.where(counts < LEAST_OBSERVATIONS, int(Flag.FILLED), 0)
    grid = PsfGrid(x_px, y_px, np.array(kernels), OVERSAMPLE, np.array(sigma), counts, flags, channels)
    imaging = Imaging(
        wavelengths_nm=np.array([s.scale / scale for s in shapes])[:, None] * optics.wavelengths_nm,
        weights=optics.weights,
        diffusion_px=np.array([max(s.diffusion_px, 0.0) for s in shapes]),
        clip=np.array([s.clip.reshape(*tiles, 3) for s in shapes]),
        pitch_um=optics.pitch_um,
    )
    field = ZernikeField(
        x_px,
        y_px,
        np.array(coefficients),
        np.array(stderr),
        optics.nm,
        np.average(imaging.wavelengths_nm, axis=1, weights=imaging.weights),
        optics.f_number * scale,
        _tile_chi2(fit, nodes, len(channels)).reshape(-1, *tiles),
        channels,
        imaging,
    )
    return grid, field


def _tile_chi2(fit: WavefrontFit, nodes: FloatArray, channels: int) -> npt.NDArray[np.float64]:
    nearest = cKDTree(nodes).query(fit.xy_px)[1]
    known = fit.used & np.isfinite(fit.chi2)
    total = np.bincount(nearest[known], fit.chi2[known], len(nodes))
    count = np.bincount(nearest[known], minlength=len(nodes))
    mean = np.divide(total, count, out=np.full(len(nodes), np.nan), where=count > 0)
    return np.tile(mean, channels)


def image_centroids(fit: WavefrontFit, channel: int, lights_px: FloatArray) -> npt.NDArray[np.float64]:
    """Centroids (N, 2) of lights' images in one channel, pixels: position, lateral colour, PSF's displacement."""
    lateral = slice(fit.layout.terms, fit.layout.terms + 2)
    centroids = []
    for xy_px in np.array_split(lights_px, -(-len(lights_px) // CHUNK)):
        moved = xy_px + fit.local(channel, xy_px)[:, lateral]
        centroids.append(moved + render_kernels(fit, channel, xy_px, 1)[1])
    return np.concatenate(centroids)
