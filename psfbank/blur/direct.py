"""Convolve tiles of an image with small kernels sample by sample, sooner done than any transform."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from psfbank.blur.tiling import Image, Weights

WIDEST = 9  # kernels wider than this, pixels, are convolved by FFT in less time


class DirectTiles:
    """Convolve tiles by `cv2.filter2D`: the same two methods as `FourierTiles`.

    Parameters
    ----------
    kernels : (Ty, Tx, s, s, k, k) float32
    """

    def __init__(self, kernels: Image) -> None:
        self._mirrored = np.ascontiguousarray(kernels[..., ::-1, ::-1])  # filter2D correlates

    def spread(self, light: Image, down: Weights, across: Weights) -> Image:
        """See `FourierTiles.spread`."""
        rows, columns = _within(down), _within(across)
        framed = np.zeros((*light.shape[:2], rows.stop + down.reach, columns.stop + across.reach), dtype=np.float32)
        total = self._black(light, *framed.shape[2:])
        for kernels, share in self._acting(down, across):
            np.multiply(light, share, out=framed[..., rows, columns])
            for onto, image in _convolved(framed, kernels, total):
                onto += image
        return total

    def collect(self, light: Image, down: Weights, across: Weights) -> Image:
        """See `FourierTiles.collect`."""
        rows, columns = _within(down), _within(across)
        total = self._black(light, down.weights.shape[-1], across.weights.shape[-1])
        light = np.ascontiguousarray(light)
        for kernels, share in self._acting(down, across):
            part = np.zeros_like(total)
            for onto, image in _convolved(light, kernels, part):
                onto += image[rows, columns]
            part *= share
            total += part
        return total

    def _acting(self, down: Weights, across: Weights) -> Iterator[tuple[Image, Image]]:
        """Kernels (s, s, k, k) of the nodes of a tile, and their weights (p, p, h, w)."""
        for node, weight_down in zip(down.nodes, down.weights, strict=True):
            for other, weight_across in zip(across.nodes, across.weights, strict=True):
                yield self._mirrored[node, other], weight_down[:, None, :, None] * weight_across[:, None]

    def _black(self, light: Image, height: int, width: int) -> Image:
        samples = self._mirrored.shape[2] // len(light)
        return np.zeros((samples, samples, height, width), dtype=np.float32)


def _within(axis: Weights) -> slice:
    return slice(axis.reach, axis.reach + axis.weights.shape[-1])


def _convolved(light: Image, kernels: Image, total: Image) -> Iterator[tuple[Image, Image]]:
    """Convolve (p, p, h, w), black beyond it, with s x s kernels: a sample of the total and an image for each."""
    for i, j in np.ndindex(*kernels.shape[:2]):
        seen = light[i % len(light), j % len(light)]
        image = cv2.filter2D(seen, -1, kernels[i, j], borderType=cv2.BORDER_CONSTANT)
        yield total[i % len(total), j % len(total)], np.asarray(image)
