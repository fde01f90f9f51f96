"""Convolve tiles of an image with the PSFs of the nodes around, by FFT.

A tile has two windows: one where light is weighted, `radius` pixels inside the other, onto which kernels spread it or
from which they gather it. Weights are a product of one across and one down, so the rows of a tile are transformed once
for each weight across, and only its columns for each of the four nodes; their products are added up before there is
anything to transform back.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from psfbank.blur.tiling import Image, Weights

Spectrum = npt.NDArray[np.complex64]
CACHE_BYTES = 256 * 2**20  # of transfer functions; those of more nodes than fit are made anew when they are needed


class TransferFunctions:
    """Transforms of kernels centred on sample 0, made when first asked for and kept while there is room.

    Parameters
    ----------
    kernels : (Ty, Tx, s, s, k, k) float32
        One kernel for each of the s x s samples of a pixel; k odd.
    """

    def __init__(self, kernels: Image) -> None:
        self.kernels = kernels
        self._made: dict[tuple[int, int, int, int], Spectrum] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type, tuple[Image]]:
        return TransferFunctions, (self.kernels,)

    def __call__(self, row: int, column: int, height: int, width: int) -> Spectrum:
        """Transfer function (s, s, height, width / 2 + 1) of a node for transforms of this size."""
        key = row, column, height, width
        if (made := self._made.get(key)) is not None:
            return made
        made = _transformed(self.kernels[row, column], height, width)
        with self._lock:
            while self._made and (len(self._made) + 1) * made.nbytes > CACHE_BYTES:
                self._made.pop(next(iter(self._made)))
            self._made[key] = made
        return made


def _transformed(kernels: Image, height: int, width: int) -> Spectrum:
    rows = fft.rfft(_centred(kernels, width), axis=-1)
    columns = _centred(np.swapaxes(rows, -1, -2), height)
    return np.ascontiguousarray(np.swapaxes(fft.fft(columns, axis=-1, overwrite_x=True), -1, -2))


def _centred(kernels: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Continue the last axis (2 r + 1,) to `size` samples, its middle on sample 0."""
    radius = kernels.shape[-1] // 2
    centred = np.zeros((*kernels.shape[:-1], size), dtype=kernels.dtype)
    centred[..., : radius + 1] = kernels[..., radius:]
    centred[..., size - radius :] = kernels[..., :radius]
    return centred


class FourierTiles:
    """Convolve tiles by FFT, in buffers that serve one tile after another: one of these for each thread.

    Parameters
    ----------
    transfers : TransferFunctions
    """

    def __init__(self, transfers: TransferFunctions) -> None:
        self._transfers = transfers
        self._radius = transfers.kernels.shape[-1] // 2
        self._buffers: dict[str, npt.NDArray[Any]] = {}

    def spread(self, light: Image, down: Weights, across: Weights) -> Image:
        """Weight a tile, convolve it with the PSFs of its nodes and add them up.

        Parameters
        ----------
        light : (p, p, h, w) float32
            The tile's pixels at each of p x p samples.
        down, across : Weights

        Returns
        -------
        (q, q, h + 2 radius, w + 2 radius) float32
            p q samples a pixel have kernels: p of the light, whose images are added up, or q of the result.
        """
        (height, width), radius = light.shape[2:], self._radius
        rows, columns = slice(radius, radius + height), slice(radius, radius + width)
        weighted = self._buffer("weighted", (len(across.nodes), *light.shape[:3], across.size), np.float32)
        weighted[..., :radius] = weighted[..., columns.stop :] = 0
        np.multiply(light, across.weights[:, None, :, None], out=weighted[..., columns])
        by_row = fft.rfft(weighted)
        spectrum = self._buffer("spectrum", (*by_row.shape[:3], down.size, by_row.shape[-1]), np.complex64)
        total = None
        for node, weight in zip(down.nodes, down.weights, strict=True):
            spectrum[..., :radius, :] = spectrum[..., rows.stop :, :] = 0
            real = spectrum.view(np.float32)  # a real weight is cheaper than one made complex first
            np.multiply(by_row.view(np.float32), weight[:, None, :, None], out=real[..., rows, :])
            transformed = fft.fft(spectrum, axis=-2, overwrite_x=True)
            for part, other in zip(transformed, across.nodes, strict=True):
                product = self._product(part, self._transfers(node, other, down.size, across.size))
                total = product.copy() if total is None else np.add(total, product, out=total)
        back = fft.ifft(total, axis=-2, overwrite_x=True)[..., : height + 2 * radius, :]
        return np.asarray(fft.irfft(back, n=across.size)[..., : width + 2 * radius])

    def collect(self, light: Image, down: Weights, across: Weights) -> Image:
        """Transpose of `spread` with mirrored kernels: convolve with the PSFs of the nodes, weight and add up.

        Parameters
        ----------
        light : (p, p, h + 2 radius, w + 2 radius) float32
        down, across : Weights

        Returns
        -------
        (q, q, h, w) float32
        """
        radius = self._radius
        height, width = (n - 2 * radius for n in light.shape[2:])
        by_row = fft.rfft(light, n=across.size)
        spectrum = fft.fft(by_row, n=down.size, axis=-2, overwrite_x=True)
        images = None
        for other, weight_across in zip(across.nodes, across.weights, strict=True):
            total = None
            for node, weight in zip(down.nodes, down.weights, strict=True):
                product = self._product(spectrum, self._transfers(node, other, down.size, across.size))
                back = fft.ifft(product, axis=-2, overwrite_x=True)[..., radius : radius + height, :].view(np.float32)
                back *= weight[:, None, :, None]
                total = back.copy() if total is None else np.add(total, back, out=total)
            image = fft.irfft(total.view(np.complex64), n=across.size)[..., radius : radius + width]
            image *= weight_across[:, None]
            images = image if images is None else np.add(images, image, out=images)
        return np.asarray(images)

    def _product(self, spectrum: Spectrum, transfer: Spectrum) -> Spectrum:
        """Product in a buffer, added up over the samples of light where there are several."""
        product = np.multiply(spectrum, transfer, out=self._buffer("product", transfer.shape, np.complex64))
        return product.sum((0, 1), keepdims=True) if len(spectrum) > 1 else product

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        count = int(np.prod(shape))
        if name not in self._buffers or self._buffers[name].size < count:
            self._buffers[name] = np.empty(count, dtype)
        return self._buffers[name][:count].reshape(shape)
