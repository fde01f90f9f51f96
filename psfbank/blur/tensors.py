"""The same blur of torch tensors: on their device, in float32, differentiable. The only module that imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, fft

from psfbank.blur.fourier import Spectrum, TransferFunctions
from psfbank.blur.tiling import Axis, Image, Plan, Side, Span, Weights, split


def on_device(device: str, values: Spectrum | Image) -> Tensor:
    """Copy an array to a device."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def mapped(image: Tensor, plan: Plan, transfers: TransferFunctions) -> Tensor:
    """Follow a plan from one image to the other.

    Parameters
    ----------
    image : (..., h, w) tensor
        Of the plan's source.
    plan : Plan
    transfers : TransferFunctions
        On the image's device.

    Returns
    -------
    (..., H, W) float32 tensor
        On the same device. Its gradient with respect to the image is the transposed plan, as is that one's.
    """
    return _Mapped.apply(image.to(torch.float32), plan, transfers)


class _Mapped(torch.autograd.Function):  # type: ignore[misc]  # untyped
    """A linear map, whose gradient is its transpose: nothing needs to be remembered for it."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, plan: Plan, transfers: TransferFunctions) -> Tensor:
        ctx.plan, ctx.transfers = plan, transfers
        total = image.new_zeros((*image.shape[:-2], *plan.target.shape))
        for row in plan.rows:
            strip = _strip(image, plan, row, transfers)
            copies, sources = _continued(plan.target.rows, plan.target.window(row), image.device)
            total.index_add_(-2, sources, strip.index_select(-2, copies))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Mapped.apply(gradient, ctx.plan.transposed(), ctx.transfers), None, None


def _strip(image: Tensor, plan: Plan, row: Span, transfers: TransferFunctions) -> Tensor:
    source, target = plan.source, plan.target
    light = _read(_read(image, source.rows, source.window(row), -2), source.columns, _all(source), -1)
    window = target.window(row)
    strip = image.new_zeros((*image.shape[:-2], window.stop - window.start, target.columns.extent))
    convolve = _spread if source.weighted else _collect
    for column in plan.columns:
        block, place = (
            split(part[..., side.window(column)], side.samples) for part, side in ((light, source), (strip, target))
        )
        if plan.mirrored:
            turned = convolve(block.flip((-2, -1)), row.weights.mirrored(), column.weights.mirrored(), transfers)
            place += turned.flip((-2, -1))
        else:
            place += convolve(block, row.weights, column.weights, transfers)
    copies, sources = _continued(target.columns, _all(target), image.device)
    folded = image.new_zeros((*strip.shape[:-1], target.columns.count))
    return folded.index_add_(-1, sources, strip.index_select(-1, copies))


def _all(side: Side) -> slice:
    return slice(0, side.columns.extent)


def _continued(axis: Axis, window: slice, device: Any) -> tuple[Tensor, Tensor]:
    """Places in a window of a continued axis that are not black, and the image's samples that they are."""
    own, at, copies, sources = axis.within(window)
    here, there = (
        np.concatenate([np.arange(own.start, own.stop), copies]),
        np.concatenate([np.arange(at.start, at.stop), sources]),
    )
    return torch.from_numpy(here).to(device), torch.from_numpy(there).to(device)


def _read(image: Tensor, axis: Axis, window: slice, dim: int) -> Tensor:
    copies, sources = _continued(axis, window, image.device)
    shape = list(image.shape)
    shape[dim] = window.stop - window.start
    return image.new_zeros(shape).index_copy_(dim, copies, image.index_select(dim, sources))


def _spread(light: Tensor, down: Weights, across: Weights, transfers: TransferFunctions) -> Tensor:
    """See `FourierTiles.spread`; the tile is put at sample 0, and its result turned to start where it reaches to."""
    total: Any = None
    for share, transfer in _acting(light, down, across, transfers):
        product = fft.rfft2(light * share, s=(down.size, across.size)) * transfer
        if share.shape[0] > 1:
            product = product.sum((-4, -3), keepdim=True)
        total = product if total is None else total.add_(product)
    image = fft.irfft2(total, s=(down.size, across.size)).roll((down.reach, across.reach), (-2, -1))
    return image[..., : light.shape[-2] + 2 * down.reach, : light.shape[-1] + 2 * across.reach]


def _collect(light: Tensor, down: Weights, across: Weights, transfers: TransferFunctions) -> Tensor:
    """See `FourierTiles.collect`."""
    rows, columns = (slice(axis.reach, axis.reach + axis.weights.shape[-1]) for axis in (down, across))
    spectrum = fft.rfft2(light, s=(down.size, across.size))
    total: Any = None
    for share, transfer in _acting(light, down, across, transfers):
        product = spectrum * transfer
        if light.shape[-3] > 1:
            product = product.sum((-4, -3), keepdim=True)
        image = fft.irfft2(product, s=(down.size, across.size))[..., rows, columns] * share
        total = image if total is None else total.add_(image)
    return total


def _acting(
    light: Tensor, down: Weights, across: Weights, transfers: TransferFunctions
) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights (p, p, h, w) of the nodes of a tile, and their transfer functions (s, s, Fy, Fx / 2 + 1)."""
    device = str(light.device)
    weights_down, weights_across = on_device(device, down.weights), on_device(device, across.weights)
    for node, weight_down in zip(down.nodes, weights_down, strict=True):
        for other, weight_across in zip(across.nodes, weights_across, strict=True):
            share = weight_down[:, None, :, None] * weight_across[:, None]
            yield share, transfers(node, other, down.size, across.size)
