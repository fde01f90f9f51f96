"""Convolve tiles of an image with small kernels sample by sample, which no transform is quick enough for."""

from __future__ import annotations

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
        self._radius = kernels.shape[-1] // 2

    def spread(self, light: Image, down: Weights, across: Weights) -> Image:
        """See `FourierTiles.spread`."""
        radius = self._radius
        framed = np.pad(light, ((0, 0), (0, 0), (radius, radius), (radius, radius)))
        inner = framed[..., radius : framed.shape[-2] - radius, radius : framed.shape[-1] - radius]
        total = None
        for node, weight_down in zip(down.nodes, down.weights, strict=True):
            for other, weight_across in zip(across.nodes, across.weights, strict=True):
                np.multiply(light, weight_down[:, None, :, None] * weight_across[:, None], out=inner)
                image = self._convolved(framed, node, other)
                total = image if total is None else np.add(total, image, out=total)
        return np.asarray(total)

    def collect(self, light: Image, down: Weights, across: Weights) -> Image:
        """See `FourierTiles.collect`."""
        radius = self._radius
        total = None
        for node, weight_down in zip(down.nodes, down.weights, strict=True):
            for other, weight_across in zip(across.nodes, across.weights, strict=True):
                image = self._convolved(np.ascontiguousarray(light), node, other)
                image = image[..., radius : image.shape[-2] - radius, radius : image.shape[-1] - radius]
                image *= weight_down[:, None, :, None] * weight_across[:, None]
                total = image if total is None else np.add(total, image, out=total)
        return np.asarray(total)

    def _convolved(self, light: Image, node: int, other: int) -> Image:
        """Convolve (p, p, h, w) with p q kernels, black beyond it: (q, q, h, w), added up over the samples of light."""
        kernels = self._mirrored[node, other]
        images = np.array(
            [
                [_correlated(light[i % len(light), j % len(light)], kernel) for j, kernel in enumerate(row)]
                for i, row in enumerate(kernels)
            ]
        )
        return np.asarray(images.sum((0, 1), keepdims=True) if len(light) > 1 else images)


def _correlated(image: Image, kernel: Image) -> Image:
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_CONSTANT))
