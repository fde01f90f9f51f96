"""The same blur of torch tensors: on their device, in float32, differentiable. The only module that imports torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fft
from torch.nn.functional import pad

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
    """See `FourierTiles.spread`."""
    device = str(light.device)
    height, width = light.shape[-2:]
    weights_down, weights_across = on_device(device, down.weights), on_device(device, across.weights)
    by_row = [fft.rfft(pad(light * weight[:, None], (across.reach, 0)), n=across.size) for weight in weights_across]
    total: Any = 0
    for node, weight in zip(down.nodes, weights_down, strict=True):
        for other, rows in zip(across.nodes, by_row, strict=True):
            spectrum = fft.fft(pad(rows * weight[:, None, :, None], (0, 0, down.reach, 0)), n=down.size, dim=-2)
            total = total + _product(spectrum, transfers(node, other, down.size, across.size))
    back = fft.ifft(total, dim=-2)[..., : height + 2 * down.reach, :]
    return fft.irfft(back, n=across.size)[..., : width + 2 * across.reach]


def _collect(light: Tensor, down: Weights, across: Weights, transfers: TransferFunctions) -> Tensor:
    """See `FourierTiles.collect`."""
    device = str(light.device)
    rows, columns = (slice(axis.reach, axis.reach + axis.weights.shape[-1]) for axis in (down, across))
    weights_down, weights_across = on_device(device, down.weights), on_device(device, across.weights)
    spectrum = fft.fft(fft.rfft(light, n=across.size), n=down.size, dim=-2)
    total: Any = 0
    for other, weight_across in zip(across.nodes, weights_across, strict=True):
        by_row: Any = 0
        for node, weight in zip(down.nodes, weights_down, strict=True):
            product = _product(spectrum, transfers(node, other, down.size, across.size))
            by_row = by_row + fft.ifft(product, dim=-2)[..., rows, :] * weight[:, None, :, None]
        total = total + fft.irfft(by_row, n=across.size)[..., columns] * weight_across[:, None]
    return total


def _product(spectrum: Tensor, transfer: Tensor) -> Tensor:
    product = spectrum * transfer
    return product.sum((-4, -3), keepdim=True) if spectrum.shape[-3] > 1 else product
