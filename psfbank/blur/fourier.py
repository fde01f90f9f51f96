"""Convolve tiles of an image with the PSFs of the nodes around, by FFT.

A tile has two windows: one where light is weighted, `radius` pixels inside the other, onto which kernels spread it or
from which they gather it. Weights are a product of one across and one down, so the rows of a tile are transformed once
for each weight across, and only its columns for each of the four nodes; their products are added up before there is
anything to transform back.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
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
    kept_as : callable, optional
        Puts a transform where it is wanted, such as on another device.
    """

    def __init__(self, kernels: Image, kept_as: Callable[[Spectrum], Any] = np.asarray) -> None:
        self.kernels, self._kept_as = kernels, kept_as
        self._made: dict[tuple[int, int, int, int], Any] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type, tuple[Image, Callable[[Spectrum], Any]]]:
        return TransferFunctions, (self.kernels, self._kept_as)

    def __call__(self, row: int, column: int, height: int, width: int) -> Any:
        """Transfer function (s, s, height, width / 2 + 1) of a node for transforms of this size."""
        key = row, column, height, width
        if (made := self._made.get(key)) is not None:
            return made
        made = self._kept_as(_transformed(self.kernels[row, column], height, width))
        with self._lock:  # two threads may make the same: only one is kept
            if key not in self._made:
                self._made[key] = made
                self._bytes += made.nbytes
            while self._bytes > CACHE_BYTES and len(self._made) > 1:
                oldest = self._made.pop(next(iter(self._made)))
                self._bytes -= oldest.nbytes
        return made


def _transformed(kernels: Image, height: int, width: int) -> Spectrum:
    """Transform (s, s, 2 r + 1, 2 r + 1) kernels, their middle put on sample 0: first the rows that are not zero."""
    radius = kernels.shape[-1] // 2
    rows = np.zeros((*kernels.shape[:-1], width), dtype=np.float32)
    rows[..., : radius + 1], rows[..., width - radius :] = kernels[..., radius:], kernels[..., :radius]
    by_row = fft.rfft(rows)
    columns = np.zeros((*by_row.shape[:-2], height, by_row.shape[-1]), dtype=np.complex64)
    columns[..., : radius + 1, :], columns[..., height - radius :, :] = by_row[..., radius:, :], by_row[..., :radius, :]
    return np.asarray(fft.fft(columns, axis=-2, overwrite_x=True))


class FourierTiles:
    """Convolve tiles by FFT, in buffers that serve one tile after another: not two threads at once.

    Parameters
    ----------
    transfers : TransferFunctions
    """

    def __init__(self, transfers: TransferFunctions) -> None:
        self._transfers = transfers
        self._buffers: dict[str, npt.NDArray[Any]] = {}

    def __reduce__(self) -> tuple[type, tuple[TransferFunctions]]:
        return FourierTiles, (self._transfers,)

    def spread(self, light: Image, down: Weights, across: Weights) -> Image:
        """Weight a tile, convolve it with the PSFs of its nodes and add them up.

        Parameters
        ----------
        light : (p, p, h, w) float32
            The tile's pixels at each of p x p samples.
        down, across : Weights

        Returns
        -------
        (q, q, h + 2 reach, w + 2 reach) float32
            p q samples a pixel have kernels: p of the light, whose images are added up, or q of the result.
        """
        height, width = light.shape[2:]
        rows, columns = slice(down.reach, down.reach + height), slice(across.reach, across.reach + width)
        # one weight and node after another: all that is in use at a time fits a processor's cache
        weighted = self._buffer("weighted", (*light.shape[:3], across.size), np.float32)
        weighted[..., : columns.start] = weighted[..., columns.stop :] = 0
        spectrum = self._buffer("spectrum", (*light.shape[:2], down.size, across.size // 2 + 1), np.complex64)
        inside = spectrum.view(np.float32)[..., rows, :]  # a real weight is cheaper than one made complex first
        total = None
        for other, weight_across in zip(across.nodes, across.weights, strict=True):
            np.multiply(light, weight_across[:, None], out=weighted[..., columns])
            by_row = fft.rfft(weighted).view(np.float32)
            for node, weight in zip(down.nodes, down.weights, strict=True):
                spectrum[..., : rows.start, :] = spectrum[..., rows.stop :, :] = 0
                np.multiply(by_row, weight[:, None, :, None], out=inside)
                transformed = fft.fft(spectrum, axis=-2, overwrite_x=True)
                transfer = self._transfers(node, other, down.size, across.size)
                product = self._product(transformed, transfer, "total" if total is None else "product")
                total = product if total is None else np.add(total, product, out=total)
        back = fft.ifft(total, axis=-2, overwrite_x=True)[..., : height + 2 * down.reach, :]
        return np.asarray(fft.irfft(back, n=across.size)[..., : width + 2 * across.reach])

    def collect(self, light: Image, down: Weights, across: Weights) -> Image:
        """Transpose of `spread` with mirrored kernels: convolve with the PSFs of the nodes, weight and add up.

        Parameters
        ----------
        light : (p, p, h + 2 reach, w + 2 reach) float32
        down, across : Weights

        Returns
        -------
        (q, q, h, w) float32
        """
        height, width = down.weights.shape[-1], across.weights.shape[-1]
        rows, columns = slice(down.reach, down.reach + height), slice(across.reach, across.reach + width)
        spectrum = self._buffer("spectrum", (*light.shape[:2], down.size, across.size // 2 + 1), np.complex64)
        spectrum[..., light.shape[2] :, :] = 0
        spectrum[..., : light.shape[2], :] = fft.rfft(light, n=across.size)
        spectrum = fft.fft(spectrum, axis=-2, overwrite_x=True)
        phases = self._phases(light)
        total = np.zeros((*phases, height, width), dtype=np.float32)
        by_row = self._buffer("by_row", (*phases, height, spectrum.shape[-1]), np.complex64)
        for other, weight_across in zip(across.nodes, across.weights, strict=True):
            by_row[...] = 0
            for node, weight in zip(down.nodes, down.weights, strict=True):
                product = self._product(spectrum, self._transfers(node, other, down.size, across.size), "product")
                back = fft.ifft(product, axis=-2, overwrite_x=True)[..., rows, :]
                real = back.view(np.float32)  # as above
                real *= weight[:, None, :, None]
                by_row += back
            image = fft.irfft(by_row, n=across.size)[..., columns]
            image *= weight_across[:, None]
            total += image
        return total

    def _phases(self, light: Image) -> tuple[int, int]:
        """Say how many samples a pixel has what becomes of light."""
        count = self._transfers.kernels.shape[2] // len(light)
        return count, count

    def _product(self, spectrum: Spectrum, transfer: Spectrum, buffer: str) -> Spectrum:
        """Product, added up over the samples of light where there are several."""
        product = np.multiply(spectrum, transfer, out=self._buffer(buffer, transfer.shape, np.complex64))
        return np.asarray(product.sum((0, 1), keepdims=True)) if len(spectrum) > 1 else product

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        count = math.prod(shape)
        if name not in self._buffers or self._buffers[name].size < count:
            self._buffers[name] = np.empty(count, dtype)
        return self._buffers[name][:count].reshape(shape)
