"""What shapes point images over the whole field: global parameters, and the normal equations of each image.

Every Zernike coefficient is a polynomial in field position; channels share the wavefront (in nm) but for a small
deviation that holds the axial colour; diffusion, the off-axis stop and lateral colour are fitted along.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev

from calib.pointmodel import EXTRAS, PointModel, Sampling, Shape
from psfbank.arrays import FloatArray, IntArray

HUBER_SIGMA = 4.0
MOVE_PX = 1e-2  # step that differentiates by position


def field_polynomials(field: FloatArray, degree: int) -> npt.NDArray[np.float64]:
    """Chebyshev products T_i(x) T_j(y) with i + j <= degree at places (N, 2) in half diagonals: (N, Q)."""
    x, y = (chebyshev.chebvander(field[:, k], degree) for k in (0, 1))
    pairs = [(i, d - i) for d in range(degree + 1) for i in range(d, -1, -1)]
    return np.stack([x[:, i] * y[:, j] for i, j in pairs], axis=1)


@dataclass(frozen=True)
class Layout:
    """Where each group of global parameters stands in the vector."""

    terms: int
    channels: int
    degree: int = 3
    reference: int = 1  # the channel whose wavefront is the shared one
    deviation_degree: int = 1
    planes: int = 1  # of focus; the first is the one that the rest of the session was shot in

    @property
    def shared(self) -> int:
        """Count of field polynomials of the shared wavefront and of lateral colour."""
        return (self.degree + 1) * (self.degree + 2) // 2

    @property
    def deviating(self) -> int:
        """Count of field polynomials of a channel's deviation."""
        return (self.deviation_degree + 1) * (self.deviation_degree + 2) // 2

    def slices(self) -> dict[str, slice]:
        """Return the groups: wave, deviation, lateral, diffusion, clip, focus (by plane), scale (common, others)."""
        others = self.channels - 1
        sizes = {
            "wave": self.terms * self.shared,
            "deviation": others * self.terms * self.deviating,
            "lateral": others * 2 * self.shared,
            "diffusion": self.channels,
            "clip": 4,  # gain, x, y, radius
            "focus": 3 * (self.planes - 1),  # added defocus: in the middle, and its slopes
            "scale": self.channels,  # of diffraction: the common one, then how the other channels differ
        }
        ends = np.cumsum(list(sizes.values()))
        return {name: slice(int(end - size), int(end)) for (name, size), end in zip(sizes.items(), ends, strict=True)}

    def other(self, channel: int) -> int | None:
        """Rank of a channel among those that are not the reference; None for the reference."""
        if channel == self.reference:
            return None
        return channel - (channel > self.reference)


def local_map(layout: Layout, channel: int, field: FloatArray, plane: int = 0) -> npt.NDArray[np.float64]:
    """Linear map (N, J + 7, G) from global parameters to what shapes each image; lights' own positions aside."""
    at, terms = layout.slices(), layout.terms
    count = len(field)
    size = at["scale"].stop
    rows = {name: terms + k for k, name in enumerate(EXTRAS)}
    shared, deviating = field_polynomials(field, layout.degree), field_polynomials(field, layout.deviation_degree)
    out = np.zeros((count, terms + len(EXTRAS), size))
    for j in range(terms):
        start = at["wave"].start + j * layout.shared
        out[:, j, start : start + layout.shared] = shared
    other = layout.other(channel)
    if other is not None:
        for j in range(terms):
            start = at["deviation"].start + (other * terms + j) * layout.deviating
            out[:, j, start : start + layout.deviating] = deviating
        for k, name in enumerate(("x_px", "y_px")):
            start = at["lateral"].start + (other * 2 + k) * layout.shared
            out[:, rows[name], start : start + layout.shared] = shared
    out[:, rows["diffusion_px"], at["diffusion"].start + channel] = 1.0
    gain, x, y, radius = range(at["clip"].start, at["clip"].stop)
    out[:, rows["clip_x"], gain], out[:, rows["clip_x"], x] = field[:, 0], 1.0
    out[:, rows["clip_y"], gain], out[:, rows["clip_y"], y] = field[:, 1], 1.0
    out[:, rows["clip_radius"], radius] = 1.0
    if plane:
        start = at["focus"].start + 3 * (plane - 1)
        out[:, 0, start : start + 3] = np.column_stack([np.ones(count), field])
    out[:, rows["scale"], at["scale"].start] = 1.0
    if other is not None:
        out[:, rows["scale"], at["scale"].start + 1 + other] = 1.0
    return out


def to_shape(layout: Layout, mapped: FloatArray, xy_px: FloatArray) -> Shape:
    """Unpack mapped parameters (N, J + 7) and lights' positions (N, 2)."""
    j = layout.terms
    return Shape(
        coefficients_nm=mapped[:, :j],
        xy_px=xy_px + mapped[:, j : j + 2],
        diffusion_px=float(mapped[0, j + 2]),
        clip=mapped[:, j + 3 : j + 6],
        scale=float(mapped[0, j + 6]),
    )


@dataclass(frozen=True)
class Images:
    """Images of one kind and channel: samples, field position (N, 2) in half diagonals, number of the source (N,).

    A source is a light, or a place on a chart: what has a position of its own, shared by its images in all channels.
    `added_nm` (N, J) is added to the coefficients that the global parameters give; `plane` is the focus they share.
    """

    samples: Sampling
    field: FloatArray
    source: IntArray
    channel: int
    added_nm: FloatArray | float = 0.0
    plane: int = 0

    def take(self, which: npt.NDArray[np.int64]) -> Images:
        """Select images."""
        added = self.added_nm if isinstance(self.added_nm, float) else self.added_nm[which]
        return replace(
            self, samples=self.samples.take(which), field=self.field[which], source=self.source[which], added_nm=added
        )


def closed_form(images: FloatArray, samples: Sampling) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Best flux, background and whatever else the data depend on linearly, image by image.

    Parameters
    ----------
    images : (B, L, O, P)
        Model at unit flux.
    samples : Sampling

    Returns
    -------
    linear : (B, n) float64
        Flux first.
    residual : (B, D) float64
        Data minus model, D = L O P.
    """
    count = len(images)
    model, w, y = (np.reshape(a, (count, -1)).astype(np.float64) for a in (images, samples.weights, samples.values))
    columns = samples.linear(model)
    weighted = columns * w[:, None]
    linear = solve_scaled(weighted @ np.swapaxes(columns, 1, 2), weighted @ y[..., None])[..., 0]
    return linear, y - (linear[:, None] @ columns)[:, 0]


def solve_scaled(matrix: FloatArray, right: FloatArray) -> npt.NDArray[np.float64]:
    """Solve small symmetric systems (B, n, n) x = (B, n, m) whose unknowns differ by orders of magnitude."""
    scale = 1.0 / np.sqrt(np.maximum(np.diagonal(matrix, axis1=1, axis2=2), 1e-300))[..., None]
    ridge = 1e-12 * np.eye(matrix.shape[1])  # an image without data gets zeros
    return np.asarray(scale * np.linalg.solve(matrix * scale * np.swapaxes(scale, 1, 2) + ridge, scale * right))


def huber_weights(residual: FloatArray, weights: FloatArray) -> npt.NDArray[np.float64]:
    """Weights (B, D) reduced where |residual| exceeds `HUBER_SIGMA` standard deviations."""
    pull = np.abs(residual) * np.sqrt(weights)
    return np.asarray(weights * np.minimum(1.0, HUBER_SIGMA / np.maximum(pull, 1e-12)))


def huber_cost(residual: FloatArray, weights: FloatArray) -> npt.NDArray[np.float64]:
    """Huber's loss of each image (B,), twice: the sum of squares for small residuals."""
    pull = np.abs(residual) * np.sqrt(weights)
    return np.asarray(np.where(pull < HUBER_SIGMA, pull**2, HUBER_SIGMA * (2 * pull - HUBER_SIGMA)).sum(1))


def normal_equations(
    model: PointModel, shape: Shape, samples: Sampling
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Gauss-Newton terms of each image with what is linear in the data (flux, background) projected out.

    Returns
    -------
    matrix : (B, L, L), gradient : (B, L), cost : (B,)
        L = J + 7 local parameters.
    """
    image, derivative = model.jacobian(shape, samples)
    columns = np.swapaxes(derivative, 1, 2).reshape(len(image), derivative.shape[2], -1).astype(np.float64)
    return _projected(image, columns, samples)


def position_equations(
    model: PointModel, shape: Shape, samples: Sampling
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Gauss-Newton matrix (B, 2, 2) and gradient (B, 2) of each image by its position alone, at little cost."""
    fine = model.fine_images(shape)
    image = model.sample(fine, shape, samples)
    columns = [
        (model.sample(fine, replace(shape, xy_px=shape.xy_px + step), samples) - image) / np.float32(MOVE_PX)
        for step in MOVE_PX * np.eye(2)
    ]
    stacked = np.stack([c.reshape(len(image), -1) for c in columns], axis=1).astype(np.float64)
    matrix, gradient, _ = _projected(image, stacked, samples)
    return matrix, gradient


def _projected(
    image: FloatArray, columns: FloatArray, samples: Sampling
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Matrix (B, L, L), gradient (B, L) and cost (B,) for derivatives (B, L, D) of images at unit flux."""
    count = len(image)
    linear, residual = closed_form(image, samples)
    raw = samples.weights.reshape(count, -1)
    w = huber_weights(residual, raw)
    columns = columns * linear[:, :1, None]
    nuisance = samples.linear(image.reshape(count, -1).astype(np.float64))
    weighted = nuisance * w[:, None]
    inner = weighted @ np.swapaxes(nuisance, 1, 2)
    cross = weighted @ np.swapaxes(columns, 1, 2)
    columns = columns - np.swapaxes(solve_scaled(inner, cross), 1, 2) @ nuisance
    matrix = (columns * w[:, None]) @ np.swapaxes(columns, 1, 2)
    return matrix, (columns @ (w * residual)[..., None])[..., 0], huber_cost(residual, raw)
