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
        frame = ((0, 0), (0, 0), 2 * (down.reach,), 2 * (across.reach,))
        parts = (self._convolved(np.pad(light * share, frame), nodes) for nodes, share in self._acting(down, across))
        return np.asarray(sum(parts))

    def collect(self, light: Image, down: Weights, across: Weights) -> Image:
        """See `FourierTiles.collect`."""
        rows, columns = (slice(axis.reach, axis.reach + axis.weights.shape[-1]) for axis in (down, across))
        light = np.ascontiguousarray(light)
        acting = self._acting(down, across)
        return np.asarray(sum(self._convolved(light, nodes)[..., rows, columns] * share for nodes, share in acting))

    def _acting(self, down: Weights, across: Weights) -> Iterator[tuple[Image, Image]]:
        """Kernels (s, s, k, k) of the nodes of a tile, and their weights (p, p, h, w)."""
        for node, weight_down in zip(down.nodes, down.weights, strict=True):
            for other, weight_across in zip(across.nodes, across.weights, strict=True):
                yield self._mirrored[node, other], weight_down[:, None, :, None] * weight_across[:, None]

    @staticmethod
    def _convolved(light: Image, kernels: Image) -> Image:
        """Convolve (p, p, h, w), black beyond it, with s x s kernels: (s / p, s / p, h, w)."""
        images = np.array(
            [
                [
                    cv2.filter2D(light[i % len(light), j % len(light)], -1, kernel, borderType=cv2.BORDER_CONSTANT)
                    for j, kernel in enumerate(row)
                ]
                for i, row in enumerate(kernels)
            ]
        )
        return np.asarray(images.sum((0, 1), keepdims=True) if len(light) > 1 else images)
