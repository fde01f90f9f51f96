"""An axis of an image: cut into spans between nodes, and continued beyond its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import fft

from psfbank.arrays import BoolArray, FloatArray, IntArray

Image = npt.NDArray[np.float32]
Edge = Literal["reflect", "edge", "constant"]
EDGES: tuple[Edge, ...] = get_args(Edge)
TILE_PX = 320  # tiles no longer than this, or than four kernel radii, stay in a processor's cache


@dataclass(frozen=True)
class Weights:
    """The nodes that act on a span, and how much: one or two in a cell.

    `weights` (len(nodes), scale, pixels) are those at each of a pixel's `scale` samples; kernels join the span to a
    window of the other image that goes `reach` pixels further on either side; `size` is the length of the transform.
    """

    nodes: tuple[int, ...]
    weights: Image
    reach: int
    size: int

    def mirrored(self) -> Weights:
        """Weights of the same span read from its end."""
        return Weights(self.nodes, self.weights[..., ::-1], self.reach, self.size)


@dataclass(frozen=True)
class Span:
    """Pixels start..stop-1 of an axis, convolved as one, counted from the first that has a weight."""

    start: int
    stop: int
    weights: Weights


def spans(nodes: FloatArray, count: int, margin: int, scale: int, radius: int, most_cells: int) -> tuple[Span, ...]:
    """Cut an axis of pixels at nodes (T,), and long cells into equal parts.

    Parameters
    ----------
    nodes : (T,) float
        Positions, pixels, increasing; beyond the outermost ones their weights stay what they are there.
    count, margin : int
        Pixels 0..count-1, and as many with a weight beyond either end: none, or the radius.
    scale : int
        Samples a pixel: sample r of pixel m lies at m + (r - (scale - 1) / 2) / scale.
    radius : int
        Of the kernels, pixels.
    most_cells : int
        Of a span that is all there is.

    Returns
    -------
    tuple of Span
        Of one cell each, or a single one of few. A pixel whose samples fall on both sides of a node belongs to
        both cells, with weight zero where a sample is the other cell's.
    """
    pixels = np.arange(-margin, count + margin)
    at = pixels[:, None] + (np.arange(scale) - (scale - 1) / 2) / scale
    ends = np.searchsorted(nodes, at[[0, -1], [0, -1]], side="right") - 1
    cells = np.clip(ends, 0, max(len(nodes) - 2, 0)).tolist()
    if len(at) <= TILE_PX and cells[1] - cells[0] < most_cells:
        # a margin as wide as the kernels keeps what wraps from the image, and nothing beyond it is wanted
        reach = radius - margin
        return (Span(0, len(at), _weights(nodes, cells, at, reach, _transform(len(at) + 2 * reach))),)
    cell = np.clip(np.searchsorted(nodes, at, side="right") - 1, cells[0], cells[1])
    found = []
    for c in range(cells[0], cells[1] + 1):
        begin, end = np.searchsorted(cell[:, -1], c), np.searchsorted(cell[:, 0], c, side="right")
        if begin == end:
            continue
        cuts, size = _parts(int(end - begin), radius)
        for start, stop in zip(begin + cuts[:-1], begin + cuts[1:], strict=True):
            weights = _weights(nodes, [c, c], at[start:stop], radius, size, inside=cell[start:stop] == c)
            found.append(Span(int(start), int(stop), weights))
    return tuple(found)


def _weights(
    nodes: FloatArray, cells: list[int], at: FloatArray, reach: int, size: int, inside: BoolArray | bool = True
) -> Weights:
    """Weights of the nodes around the first to last of cells at places (pixels, scale), none where not `inside`."""
    around = nodes[cells[0] : cells[-1] + 2]
    share = np.array([(np.interp(at, around, one) * inside).T for one in np.eye(len(around))], dtype=np.float32)
    acting = np.flatnonzero(share.any(axis=(1, 2)))
    return Weights(tuple(cells[0] + int(k) for k in acting), share[acting], reach, size)


def _parts(length: int, radius: int) -> tuple[IntArray, int]:
    """Bounds of the equal parts of a cell that together transform the fewest samples, and a part's transform."""
    fewest = -(-length // max(TILE_PX, 4 * radius))
    sizes = {count: _transform(-(-length // count) + 2 * radius) for count in (fewest, fewest + 1)}
    count = min(sizes, key=lambda parts: parts * sizes[parts])
    return np.arange(count + 1) * length // count, sizes[count]


def _transform(length: int) -> int:
    return int(fft.next_fast_len(length, real=True))


@dataclass(frozen=True)
class Axis:
    """An axis of `count` samples, continued by `margin` samples beyond both ends.

    Samples `copies` (n,) of the continued axis are those of the image at `sources` (n,); others beyond it are black.
    """

    count: int
    margin: int
    copies: IntArray
    sources: IntArray

    @classmethod
    def of(cls, count: int, margin: int, edge: Edge) -> Axis:
        """Continue `count` samples as `edge` says."""
        beyond = np.concatenate([np.arange(-margin, 0), np.arange(count, count + margin)])
        if edge == "constant":
            return cls(count, margin, beyond[:0], beyond[:0])
        turned = beyond % (2 * count)  # a mirror image of a mirror image is the image again
        mirrored = np.minimum(turned, 2 * count - 1 - turned)
        return cls(count, margin, beyond + margin, mirrored if edge == "reflect" else np.clip(beyond, 0, count - 1))

    @property
    def extent(self) -> int:
        """Samples of the continued axis."""
        return self.count + 2 * self.margin

    @property
    def core(self) -> slice:
        """Where the image's own samples are."""
        return slice(self.margin, self.margin + self.count)

    def within(self, window: slice) -> tuple[slice, slice, IntArray, IntArray]:
        """Of a window of the continued axis: the image's own samples in it and in the image, and copies likewise."""
        start = min(max(window.start, self.margin), self.margin + self.count)
        stop = max(min(window.stop, self.margin + self.count), start)
        here = (self.copies >= window.start) & (self.copies < window.stop)
        return (
            slice(start - window.start, stop - window.start),
            slice(start - self.margin, stop - self.margin),
            self.copies[here] - window.start,
            self.sources[here],
        )


@dataclass(frozen=True)
class Side:
    """One of the two images that a blur maps onto each other.

    `samples` a pixel along either axis; on the side that is not `weighted` a tile's window reaches beyond its spans.
    """

    rows: Axis
    columns: Axis
    samples: int
    weighted: bool

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the image."""
        return self.rows.count, self.columns.count

    def window(self, span: Span) -> slice:
        """Find the samples of the continued axis that a span's tiles have here."""
        beyond = 0 if self.weighted else 2 * span.weights.reach
        return slice(span.start * self.samples, (span.stop + beyond) * self.samples)

    def read(self, image: npt.NDArray[Any], row: Span) -> Image:
        """Rows of the continued image that the tiles of a span of rows have."""
        window = self.window(row)
        strip = np.zeros((window.stop - window.start, self.columns.extent), dtype=np.float32)
        core = strip[:, self.columns.core]
        own, at, copies, sources = self.rows.within(window)
        core[own] = image[at]
        core[copies] = image[sources]
        strip[:, self.columns.copies] = core[:, self.columns.sources]
        return strip

    def fold(self, strip: Image) -> Image:
        """Add columns of a strip to those that they are copies of: (rows, columns of the image)."""
        core = strip[:, self.columns.core]
        np.add.at(core.T, self.columns.sources, strip[:, self.columns.copies].T)
        return core

    def add(self, image: Image, row: Span, strip: Image) -> None:
        """Transpose of `read`, once a strip is folded: add each row to the one that it is a copy of."""
        own, at, copies, sources = self.rows.within(self.window(row))
        image[at] += strip[own]
        np.add.at(image, sources, strip[copies])


@dataclass(frozen=True)
class Plan:
    """How tiles get from one image to the other: a row of them for each of `rows`, one for each of `columns`.

    They are spread where the source is weighted, else collected; `mirrored` kernels make the transpose.
    """

    source: Side
    target: Side
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    mirrored: bool = False

    def transposed(self) -> Plan:
        """Plan the way back."""
        return Plan(self.target, self.source, self.rows, self.columns, not self.mirrored)


def split(image: Any, samples: int) -> Any:
    """View (..., s H, s W) as (..., s, s, H, W): one image for each sample of a pixel."""
    height, width = image.shape[-2:]
    parts = image.reshape(*image.shape[:-2], height // samples, samples, width // samples, samples)
    return parts.swapaxes(-4, -3).swapaxes(-2, -1).swapaxes(-3, -2)
