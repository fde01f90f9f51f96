"""The blurred corner: where four cells of a chessboard meet, fitted on the sites of one colour.

I = a + g.x + b erf(n1.(x - x0) / (sqrt(2) s)) erf(n2.(x - x0) / (sqrt(2) s)): the exact image of a corner under a
Gaussian blur that is the same in both directions, when its edges are straight and at right angles, and close to it at
others. Its least squares reach the Cramer-Rao bound, where gradient methods are several times worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from psfbank.arrays import BoolArray, FloatArray

WINDOW_OF_CELL = 0.6  # radius of the window over the distance between opposite edges of a cell; at 1 the next edges lie
WINDOW_PX = (2.5, 12.0)  # at least enough sites to fit; at most what a lens leaves straight
BLUR_PX = (0.3, 6.0)
SEARCH_OF_CELL = 0.25  # how far a fitted corner may lie from where the board was found
LEAST_CONTRAST = 2.5  # of b over the scatter about the fit
WORST_SIGMA_PX = 0.5
SETTLED_PX = 1e-4  # a step of the fit that ends it


@dataclass(frozen=True, eq=False)
class CornerFits:
    """Fitted blurred corners: `xy_px` (M, 2), `sigma_px`, `blur_px`, `contrast` (M,) of b, and which are `good`."""

    xy_px: FloatArray
    sigma_px: FloatArray
    blur_px: FloatArray
    contrast: FloatArray
    good: BoolArray


def fit_corners(
    values: FloatArray, mask: BoolArray, seeds: FloatArray, along: FloatArray, down: FloatArray
) -> CornerFits:
    """Fit the blurred corner at many places of one channel at once, by damped Gauss-Newton.

    Parameters
    ----------
    values : (H, W) float
    mask : (H, W) bool
        Sites to use.
    seeds : (M, 2) float
        Corners to a pixel or two, px.
    along, down : (M, 2) float
        From each corner to the next one along its row and its column, px.

    Returns
    -------
    CornerFits
    """
    half = window_px(along, down)
    xy, data, weight = _windows(values, mask, seeds, half)
    local, edges = xy - seeds[:, None], np.stack([along, down], axis=1)
    parameters = _start(edges, local, data, weight)
    damping = np.full(len(seeds), 1e-3)
    busy = np.arange(len(seeds))
    for _ in range(40):
        tried, cost, step_px = _try_step(parameters[busy], local[busy], data[busy], weight[busy], damping[busy])
        tried[:, :2] = np.clip(tried[:, :2], -2 * half[busy, None], 2 * half[busy, None])
        after = np.sum(weight[busy] * (data[busy] - _corner_model(tried, local[busy])[0]) ** 2, axis=1)
        better = after <= cost
        parameters[busy[better]] = tried[better]
        damping[busy] = np.where(better, damping[busy] / 5, damping[busy] * 10)
        busy = busy[np.where(better, step_px > SETTLED_PX, damping[busy] < 1e4)]
        if not busy.size:
            break
    model, jacobian = _corner_model(parameters, local)
    return _judged(parameters, seeds, edges, data - model, jacobian, weight)


def _try_step(
    parameters: FloatArray, xy: FloatArray, data: FloatArray, weight: FloatArray, damping: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Damped step of each corner: the parameters it leads to, the cost it starts from, and how far it moves."""
    model, jacobian = _corner_model(parameters, xy)
    weighted = jacobian * weight[..., None]
    normal = weighted.transpose(0, 2, 1) @ jacobian
    gradient = weighted.transpose(0, 2, 1) @ (data - model)[..., None]
    diagonal = np.arange(normal.shape[1])
    normal[:, diagonal, diagonal] = normal[:, diagonal, diagonal] * (1 + damping[:, None]) + 1e-12
    step = np.linalg.solve(normal, gradient)[..., 0]
    tried = parameters + step
    tried[:, 8] = np.clip(tried[:, 8], *BLUR_PX)
    return tried, np.sum(weight * (data - model) ** 2, axis=1), np.abs(step[:, :2]).max(axis=1)


def window_px(along: FloatArray, down: FloatArray) -> FloatArray:
    """Radius (M,) of each corner's window: as much of the cells as stays clear of the next edges."""
    long, short = np.linalg.norm(along, axis=1), np.linalg.norm(down, axis=1)
    area = np.abs(along[:, 0] * down[:, 1] - along[:, 1] * down[:, 0])
    return np.asarray(np.clip(WINDOW_OF_CELL * area / np.maximum(np.maximum(long, short), 1e-9), *WINDOW_PX))


def _windows(
    values: FloatArray, mask: BoolArray, seeds: FloatArray, half: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Coordinates (M, n, 2), values (M, n) and Gaussian weights (M, n) of the sites about each corner."""
    reach = int(np.ceil(half.max(initial=1.0)))
    offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2), axis=-1).reshape(-1, 2)
    at = np.rint(seeds).astype(int)[:, None] + offsets
    inside = np.all((at >= 0) & (at < np.array(values.shape[::-1])), axis=2)
    x, y = (np.where(inside, at[..., k], 0) for k in range(2))
    distance = np.linalg.norm(at - seeds[:, None], axis=2) / half[:, None]
    use = inside & mask[y, x] & (distance < 1)
    return at.astype(np.float64), values[y, x].astype(np.float64), np.where(use, np.exp(-2 * distance**2), 0.0)


def _start(edges: FloatArray, xy: FloatArray, data: FloatArray, weight: FloatArray) -> FloatArray:
    """Parameters (M, 9): x0, y0 about the seed, a, gx, gy, b, the two normals' angles, blur."""
    out = np.zeros((len(edges), 9))
    out[:, 6:8], out[:, 8] = np.arctan2(edges[:, :, 1], edges[:, :, 0]) + np.pi / 2, 1.0
    linear = _corner_model(out, xy)[1][..., 2:6]
    normal = np.einsum("mni,mn,mnj->mij", linear, weight, linear, optimize=True) + 1e-9 * np.eye(4)
    right = np.einsum("mni,mn->mi", linear, weight * data)
    out[:, 2:6] = np.linalg.solve(normal, right[..., None])[..., 0]
    return out


def _corner_model(parameters: FloatArray, xy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Blurred corners (M, n) and their derivatives (M, n, 9) at coordinates (M, n, 2) about the seeds."""
    x0, base, gradient, b = parameters[:, :2], parameters[:, 2:3], parameters[:, 3:5], parameters[:, 5:6]
    blur = parameters[:, 8:9]
    local = xy - x0[:, None]
    edge, slope, across, normals = [], [], [], []
    for k in (6, 7):
        normal = np.stack([np.cos(parameters[:, k]), np.sin(parameters[:, k])], axis=1)
        along = np.stack([-normal[:, 1], normal[:, 0]], axis=1)
        distance = np.einsum("mnk,mk->mn", local, normal)
        edge.append(erf(distance / (np.sqrt(2) * blur)))
        slope.append(np.sqrt(2 / np.pi) / blur * np.exp(-0.5 * (distance / blur) ** 2))
        across.append((distance, np.einsum("mnk,mk->mn", local, along)))
        normals.append(normal)
    product = edge[0] * edge[1]
    model = base + np.einsum("mnk,mk->mn", xy, gradient) + b * product
    first, second = b * slope[0] * edge[1], b * edge[0] * slope[1]
    jacobian = np.empty((*model.shape, 9))
    for k in range(2):
        jacobian[..., k] = -first * normals[0][:, None, k] - second * normals[1][:, None, k]
    jacobian[..., 2], jacobian[..., 3:5], jacobian[..., 5] = 1.0, xy, product
    jacobian[..., 6], jacobian[..., 7] = first * across[0][1], second * across[1][1]
    jacobian[..., 8] = -(first * across[0][0] + second * across[1][0]) / blur
    return model, jacobian


def _judged(
    parameters: FloatArray,
    seeds: FloatArray,
    edges: FloatArray,
    left: FloatArray,
    jacobian: FloatArray,
    weight: FloatArray,
) -> CornerFits:
    """Add standard deviations, by the sandwich estimator as the weights are a window, and a verdict."""
    count = (weight > 0).sum(axis=1)
    freedom = np.maximum(count - 9, 1) / np.maximum(count, 1)
    scatter = np.sum(weight * left**2, axis=1) / np.maximum(weight.sum(axis=1), 1e-12) / freedom
    weighted = jacobian * weight[..., None]
    inverse = np.linalg.inv(weighted.transpose(0, 2, 1) @ jacobian + 1e-12 * np.eye(9))
    middle = weighted.transpose(0, 2, 1) @ weighted
    covariance = inverse @ middle @ inverse * scatter[:, None, None]
    sigma = np.sqrt(np.maximum(covariance[:, 0, 0] + covariance[:, 1, 1], 0) / 2)
    cell = np.linalg.norm(edges, axis=2).min(axis=1)
    contrast = np.abs(parameters[:, 5])
    good = (
        (count >= 2 * 9)
        & (sigma < WORST_SIGMA_PX)
        & (np.linalg.norm(parameters[:, :2], axis=1) < SEARCH_OF_CELL * cell)
        & (contrast > LEAST_CONTRAST * np.sqrt(scatter))
        & (parameters[:, 8] < BLUR_PX[1])
    )
    return CornerFits(seeds + parameters[:, :2], sigma, parameters[:, 8], parameters[:, 5], good)


def clipping_imbalance(saturated: BoolArray, mask: BoolArray, seeds: FloatArray, half: FloatArray) -> FloatArray:
    """How far clipped sites pull the window's centre of mass, (M,), relative to the window.

    A corner whose two light cells clip alike keeps its point symmetry, hence its place; one whose cells clip
    differently is moved.
    """
    xy, clipped, weight = _windows(saturated.astype(np.float32), mask, seeds, half)
    pull = np.einsum("mn,mnk->mk", weight * clipped, xy - seeds[:, None])
    return np.asarray(np.linalg.norm(pull, axis=1) / np.maximum(weight.sum(axis=1), 1e-9) / half)
