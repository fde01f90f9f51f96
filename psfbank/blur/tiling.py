"""An axis of an image: cut into spans between nodes, and continued beyond its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import fft

from psfbank.arrays import FloatArray, IntArray

Image = npt.NDArray[np.float32]
Edge = Literal["reflect", "edge", "constant"]
PAD_MODES: dict[Edge, Literal["symmetric", "edge", "constant"]] = {
    "reflect": "symmetric",
    "edge": "edge",
    "constant": "constant",
}
TILE_PX = 320  # tiles no longer than this, or than four kernel radii, stay in a processor's cache
NOTHING = -1


@dataclass(frozen=True)
class Weights:
    """The one or two nodes that act on a span, and how much.

    `weights` (len(nodes), scale, pixels) at each of a pixel's `scale` samples; `size` is the length of a transform that
    holds the span and what a kernel spreads beyond it.
    """

    nodes: tuple[int, ...]
    weights: Image
    size: int

    def mirrored(self) -> Weights:
        """Weights of the same span read from its end."""
        return Weights(self.nodes, self.weights[..., ::-1], self.size)


@dataclass(frozen=True)
class Span:
    """Pixels start..stop-1 of an axis, convolved as one, counted from the first that has a weight."""

    start: int
    stop: int
    weights: Weights


def spans(nodes: FloatArray, first: int, last: int, scale: int, radius: int) -> tuple[Span, ...]:
    """Cut pixels first..last-1 at nodes (T,), and long cells into equal parts.

    Parameters
    ----------
    nodes : (T,) float
        Positions, pixels, increasing; beyond the outermost ones their weights stay what they are there.
    first, last : int
    scale : int
        Samples a pixel: sample r of pixel m lies at m + (r - (scale - 1) / 2) / scale.
    radius : int
        Of the kernels, pixels.

    Returns
    -------
    tuple of Span
        A pixel whose samples fall on both sides of a node belongs to both cells, with weight zero where a sample is the
        other cell's.
    """
    at = ((np.arange(first * scale, last * scale) - (scale - 1) / 2) / scale).reshape(-1, scale)
    cell = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, max(len(nodes) - 2, 0))
    upper = np.minimum(cell + 1, len(nodes) - 1)
    fraction = np.clip((at - nodes[cell]) / np.maximum(nodes[upper] - nodes[cell], 1e-9), 0, 1)
    fraction[upper == cell] = 0
    found = []
    for c in range(int(cell[0, 0]), int(cell[-1, -1]) + 1):
        begin, end = np.searchsorted(cell[:, -1], c), np.searchsorted(cell[:, 0], c, side="right")
        if begin == end:
            continue
        cuts, size = _parts(int(end - begin), radius)
        for start, stop in zip(begin + cuts[:-1], begin + cuts[1:], strict=True):
            inside, share = (cell[start:stop] == c).T, fraction[start:stop].T
            weights = np.stack([np.where(inside, 1 - share, 0), np.where(inside, share, 0)]).astype(np.float32)
            acting = [k for k in (0, 1) if weights[k].any()]
            acts = Weights(tuple(c + k for k in acting), weights[acting], size)
            found.append(Span(int(start), int(stop), acts))
    return tuple(found)


def _parts(length: int, radius: int) -> tuple[IntArray, int]:
    """Bounds of the equal parts of a cell that together transform the fewest samples, and a part's transform."""
    fewest = -(-length // max(TILE_PX, 4 * radius))
    sizes = {
        count: int(fft.next_fast_len(-(-length // count) + 2 * radius, real=True)) for count in (fewest, fewest + 1)
    }
    count = min(sizes, key=lambda parts: parts * sizes[parts])
    return np.arange(count + 1) * length // count, sizes[count]


@dataclass(frozen=True)
class Axis:
    """An axis of `count` samples, continued by `margin` samples beyond both ends.

    `index` (count + 2 margin,) says which sample of the image each is a copy of, or `NOTHING` where it is black.
    """

    count: int
    margin: int
    index: IntArray

    @classmethod
    def of(cls, count: int, margin: int, edge: Edge) -> Axis:
        """Continue `count` samples as `edge` says."""
        fill: dict[str, Any] = {"constant_values": NOTHING} if edge == "constant" else {}
        return cls(count, margin, np.pad(np.arange(count), margin, mode=PAD_MODES[edge], **fill))

    def inner(self, first: int, last: int) -> tuple[slice, slice]:
        """Of samples first..last-1 those that are the image's own: where they are among them, and in the image."""
        start = min(max(first, self.margin), self.margin + self.count)
        stop = max(min(last, self.margin + self.count), start)
        return slice(start - first, stop - first), slice(start - self.margin, stop - self.margin)

    def outer(self, first: int, last: int) -> tuple[IntArray, IntArray]:
        """Of samples first..last-1 the copies: where they are among them, and what of the image they copy."""
        at = np.arange(first, last)
        beyond = ((at < self.margin) | (at >= self.margin + self.count)) & (self.index[first:last] != NOTHING)
        return at[beyond] - first, self.index[first:last][beyond]

    def read(self, image: npt.NDArray[Any], first: int, last: int, part: Image) -> None:
        """Fill `part` with samples first..last-1 of the continued image, along the first dimension of both."""
        here, there = self.inner(first, last)
        copies, sources = self.outer(first, last)
        part[here] = image[there]
        part[copies] = image[sources]

    def add(self, image: Image, first: int, last: int, part: Image) -> None:
        """Transpose of `read`: add each sample to the one that it is a copy of."""
        here, there = self.inner(first, last)
        copies, sources = self.outer(first, last)
        image[there] += part[here]
        np.add.at(image, sources, part[copies])


@dataclass(frozen=True)
class Side:
    """One of the two images that a blur maps onto each other.

    `samples` a pixel along either axis; a tile's window on this side goes `spill` pixels further than its spans.
    """

    rows: Axis
    columns: Axis
    samples: int
    spill: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the image."""
        return self.rows.count, self.columns.count

    def window(self, span: Span) -> slice:
        """Find the samples of the continued axis that a span's tiles have here."""
        return slice(span.start * self.samples, (span.stop + self.spill) * self.samples)

    def read(self, image: npt.NDArray[Any], row: Span) -> Image:
        """Rows of the continued image that the tiles of a span of rows have."""
        window, (first, count) = self.window(row), (self.columns.margin, self.columns.count)
        strip = np.zeros((window.stop - window.start, len(self.columns.index)), dtype=np.float32)
        core = strip[:, first : first + count]
        self.rows.read(image, window.start, window.stop, core)
        copies, sources = self.columns.outer(0, len(self.columns.index))
        strip[:, copies] = core[:, sources]
        return strip

    def fold(self, strip: Image) -> Image:
        """Add up the columns of a strip that are copies of the same one of the image: (rows, columns of the image)."""
        core = strip[:, self.columns.margin : self.columns.margin + self.columns.count]
        copies, sources = self.columns.outer(0, len(self.columns.index))
        np.add.at(core.T, sources, strip[:, copies].T)
        return core

    def add(self, image: Image, row: Span, strip: Image) -> None:
        """Transpose of `read`, of a strip that is folded already."""
        window = self.window(row)
        self.rows.add(image, window.start, window.stop, strip)


def split(image: Any, samples: int) -> Any:
    """View (..., s H, s W) as (..., s, s, H, W): one image for each sample of a pixel."""
    height, width = image.shape[-2:]
    parts = image.reshape(*image.shape[:-2], height // samples, samples, width // samples, samples)
    return parts.swapaxes(-4, -3).swapaxes(-2, -1).swapaxes(-3, -2)
