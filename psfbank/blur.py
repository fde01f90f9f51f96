"""Blur that changes over the field: every place has its own PSF, mixed bilinearly from the nodes of a grid.

Between nodes only four PSFs act on a place, so the image is cut along the lines of nodes into cells, each cell is
convolved with its four node PSFs under the four bilinear weights, and the cells are added up: exactly the sum over
pixels of interpolated PSFs, at the cost of a few FFTs of small tiles. Two forms:

- scatter, y = sum_n h_n * (w_n x), weights the light where it comes from: each source point is spread by the PSF of its
  own place, so all its light arrives (Flicker and Rigaut, JOSA A 22, 504, 2005). This is what a lens does.
- gather, y = sum_n w_n (h_n * x), weights where light lands (Nagy and O'Leary, SIAM J. Sci. Comput. 19, 1063, 1998):
  a flat field stays flat whatever the PSFs do.

They agree where PSFs are equal, and differ by how much PSFs change within their own width. Beyond its edges the image
goes on as its mirror image, edge pixels repeated (d c b a | a b c d): nothing wraps, and nothing darkens.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import fft

from psfbank.arrays import FloatArray
from psfbank.field import source_kernels
from psfbank.model import PsfGrid, channel_index

Image = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.complex64]
TILE_PX = 320  # tiles no longer than this, or than four kernel radii, stay in a processor's cache
CACHE_BYTES = 256 * 2**20  # of transfer functions; more nodes than fit are transformed anew on each pass


@dataclass(frozen=True)
class _Span:
    """A tile along one axis: pixels start..stop-1 and, for each node acting there, weights (scale, stop - start)."""

    start: int
    stop: int
    nodes: tuple[int, ...]
    weights: Image


def _spans(nodes: FloatArray, first: int, last: int, scale: int, radius: int) -> list[_Span]:
    # A pixel whose fine samples fall on both sides of a node belongs to both cells, with weight zero where a sample is
    # the other cell's.
    fine = np.arange(first * scale, last * scale)
    at = ((fine - (scale - 1) / 2) / scale).reshape(-1, scale)
    cell = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, max(len(nodes) - 2, 0))
    upper = np.minimum(cell + 1, len(nodes) - 1)
    fraction = np.clip((at - nodes[cell]) / np.maximum(nodes[upper] - nodes[cell], 1e-9), 0, 1)
    fraction[upper == cell] = 0
    cells = {c: np.flatnonzero((cell == c).any(axis=1)) for c in np.unique(cell)}
    longest = _tile_length([len(pixels) for pixels in cells.values()], radius)
    spans = []
    for c, pixels in cells.items():
        for part in np.array_split(pixels, -(-len(pixels) // longest)):
            inside = (cell[part] == c).T
            weights = np.stack([np.where(inside, 1 - fraction[part].T, 0), np.where(inside, fraction[part].T, 0)])
            acting = [k for k in (0, 1) if weights[k].any()]
            spans.append(
                _Span(
                    int(part[0]) + first,
                    int(part[-1]) + 1 + first,
                    tuple(int(c) + k for k in acting),
                    weights[acting].astype(np.float32),
                )
            )
    return spans


def _tile_length(cells: list[int], radius: int) -> int:
    """Longest tile for which all tiles of the cells together transform the fewest samples."""

    def cost(length: int) -> int:
        padded = int(fft.next_fast_len(length + 2 * radius, real=True))
        return sum(-(-cell // length) for cell in cells) * padded

    most = min(max(cells), max(TILE_PX, 4 * radius))
    return min(range(min(16, most), most + 1), key=cost)


def _extend(image: Image, pad: int) -> Image:
    return np.pad(image, pad, mode="symmetric")


def _fold(image: Image, pad: int) -> Image:
    """Transpose of `_extend`: what lies in the mirror images is added to the pixels that they mirror."""
    for _ in range(2):
        index = np.pad(np.arange(len(image) - 2 * pad), pad, mode="symmetric")
        core = image[pad : len(image) - pad].copy()
        np.add.at(core, index[:pad], image[:pad])
        np.add.at(core, index[len(index) - pad :], image[len(image) - pad :])
        image = core.T
    return np.ascontiguousarray(image)


class SpatiallyVaryingBlur:
    """Blur an image by the PSFs of a grid, and the exact transpose of that.

    Parameters
    ----------
    psf_grid : PsfGrid
        Nodes at `x_px`, `y_px`, inside or outside the image; beyond the outermost nodes PSFs stay what they are there.
    shape : (H, W)
        Sensor pixels of the blurred image, pixel (0, 0) at x = y = 0.
    channel : str
    mode : "scatter" or "gather"
        See the module's description.
    source_scale : int
        The sharp image is (source_scale H, source_scale W): each of its samples is spread by the PSF at
        `source_scale` samples a pixel, and what results is sampled once, at the centres of the sensor's pixels.
    workers : int, optional
        Threads; by default as many as there are processors. The result does not depend on it.

    Raises
    ------
    ValueError
        When a shape, mode or channel does not exist.
    """

    def __init__(
        self,
        psf_grid: PsfGrid,
        shape: tuple[int, int],
        channel: str = "G",
        mode: Literal["scatter", "gather"] = "scatter",
        source_scale: int = 1,
        workers: int | None = None,
    ) -> None:
        if mode not in ("scatter", "gather"):
            raise ValueError(f"`mode` must be 'scatter' or 'gather', got {mode!r}")
        if len(shape) != 2 or min(shape) < 1 or source_scale < 1:
            raise ValueError(f"`shape` must be (H, W) and `source_scale` be positive, got {shape}, {source_scale}")
        self.shape = (int(shape[0]), int(shape[1]))
        self.mode, self.source_scale = mode, source_scale
        self.source_shape = (self.shape[0] * source_scale, self.shape[1] * source_scale)
        self.workers = workers or os.cpu_count() or 1
        nodes = psf_grid.kernels[channel_index(psf_grid.channels, channel)]
        kernels = source_kernels(nodes, psf_grid.oversample, source_scale).astype(np.float32)
        width = kernels.shape[-1] // source_scale
        self._radius = width // 2
        # sample i = s m + r of the source meets kernel sample s (k - m) + (s - 1 - r) at pixel k: s x s small kernels
        phases = kernels.reshape(*nodes.shape[:2], width, source_scale, width, source_scale)[:, :, :, ::-1, :, ::-1]
        self._kernels = np.ascontiguousarray(phases.transpose(0, 1, 3, 5, 2, 4))
        # scatter cuts the source, mirror images included, into tiles; gather cuts the blurred image
        self._margin = self._radius if mode == "scatter" else 0
        fine = source_scale if mode == "scatter" else 1
        axes = ((psf_grid.y_px, self.shape[0]), (psf_grid.x_px, self.shape[1]))
        self._rows, self._columns = (
            _spans(at, -self._margin, count + self._margin, fine, self._radius) for at, count in axes
        )
        self._size = tuple(
            int(fft.next_fast_len(max(t.stop - t.start for t in spans) + 2 * self._radius, real=real))
            for spans, real in ((self._rows, False), (self._columns, True))
        )
        self._ramp = self._delay()
        self._transfer: dict[int, Spectrum] = {}

    def forward(self, x: npt.ArrayLike) -> Image:
        """Blur: (source_scale H, source_scale W) -> (H, W) float32, linear light."""
        source = self._checked(x, self.source_shape)
        extended = _extend(source, self.source_scale * self._radius)
        if self.mode == "gather":
            return self._collect(extended, adjoint=False)
        edge = 2 * self._radius
        return self._spread(extended, adjoint=False)[edge : edge + self.shape[0], edge : edge + self.shape[1]].copy()

    def adjoint(self, y: npt.ArrayLike) -> Image:
        """Transpose of `forward`, mirrored edges included: (H, W) -> (source_scale H, source_scale W) float32."""
        image = self._checked(y, self.shape)
        if self.mode == "gather":
            extended = self._spread(image, adjoint=True)
        else:
            extended = self._collect(np.pad(image, 2 * self._radius), adjoint=True)
        return _fold(extended, self.source_scale * self._radius)

    @staticmethod
    def _checked(image: npt.ArrayLike, shape: tuple[int, int]) -> Image:
        array = np.asarray(image, dtype=np.float32)
        if array.shape != shape:
            raise ValueError(f"this blur takes an image of {shape}, got {array.shape}")
        return array

    def _delay(self) -> Spectrum:
        # Kernels are stored from sample 0 on; a conjugated transfer function mirrors them about sample 0, a delay by
        # their width puts the mirrored ones back into the same samples.
        rows, columns = self._size
        cycles = fft.fftfreq(rows)[:, None] + fft.rfftfreq(columns)[None]
        return np.asarray(np.exp(-2j * np.pi * 2 * self._radius * cycles), dtype=np.complex64)

    def _transfer_rows(self, nodes: tuple[int, ...]) -> list[Spectrum]:
        """Transfer functions (Tx, scale, scale, Fy, Fx / 2 + 1) of whole rows of nodes."""
        cached = self._transfer  # replaced, never changed: threads may share a blur
        rows = {j: cached[j] if j in cached else self._transformed(j) for j in nodes}
        most = max(2, CACHE_BYTES // rows[nodes[0]].nbytes)
        self._transfer = dict(list({**cached, **rows}.items())[-most:])
        return list(rows.values())

    def _transformed(self, node: int) -> Spectrum:
        used = self._kernels[node, self._columns[0].nodes[0] : self._columns[-1].nodes[-1] + 1]
        return np.asarray(fft.rfft2(used, s=self._size, workers=self.workers))

    def _place(self, row: _Span, column: _Span, spill: int, phases: int) -> tuple[slice, slice]:
        y, x = (
            slice((t.start + self._margin) * phases, (t.stop + self._margin + spill) * phases) for t in (row, column)
        )
        return y, x

    def _spread(self, small: Image, adjoint: bool) -> Image:
        """Weight each tile, convolve it with the PSFs of its nodes, and add up what spills over."""
        here, there = (self.source_scale, 1) if self.mode == "scatter" else (1, self.source_scale)
        reach = 2 * self._radius

        def tile(row: _Span, transfer: list[Spectrum], column: _Span) -> Image:
            block = _split(small[self._place(row, column, 0, here)], here)
            across = fft.rfft(block * column.weights[:, None, :, None, :], n=self._size[1])
            total = np.zeros((there, there, *self._ramp.shape), dtype=np.complex64)
            for a, weights in enumerate(row.weights):
                down = fft.fft(across * weights[:, None, :, None], n=self._size[0], axis=-2, overwrite_x=True)
                for b, spectrum in enumerate(down):
                    kernel = self._kernel(transfer[a], column.nodes[b], adjoint)
                    total += (spectrum * kernel).sum((0, 1), keepdims=True) if here > 1 else spectrum * kernel
            if adjoint:
                total *= self._ramp
            rows = fft.ifft(total, axis=-2, overwrite_x=True)[..., : row.stop - row.start + reach, :]
            return _join(fft.irfft(rows, n=self._size[1])[..., : column.stop - column.start + reach])

        return self._tiled(tile, reach, there)

    def _collect(self, big: Image, adjoint: bool) -> Image:
        """Convolve each tile with the PSFs of its nodes, then weight."""
        here, there = (self.source_scale, 1) if self.mode == "gather" else (1, self.source_scale)
        reach = 2 * self._radius

        def tile(row: _Span, transfer: list[Spectrum], column: _Span) -> Image:
            block = _split(big[self._place(row, column, reach, here)], here)
            spectrum = fft.rfft2(block, s=self._size)
            if adjoint:
                spectrum *= self._ramp
            height, width = row.stop - row.start, column.stop - column.start
            image = np.zeros((there, there, height, width), dtype=np.float32)
            for b, across in enumerate(column.weights):
                rows = np.zeros((there, there, height, self._ramp.shape[1]), dtype=np.complex64)
                for a, down in enumerate(row.weights):
                    product = spectrum * self._kernel(transfer[a], column.nodes[b], adjoint)
                    if here > 1:
                        product = product.sum((0, 1), keepdims=True)
                    columns = fft.ifft(product, axis=-2, overwrite_x=True)[..., reach : reach + height, :]
                    rows += columns * down[:, None, :, None]
                image += fft.irfft(rows, n=self._size[1])[..., reach : reach + width] * across[:, None, :]
            return _join(image)

        return self._tiled(tile, 0, there)

    def _tiled(self, tile: Callable[[_Span, list[Spectrum], _Span], Image], reach: int, phases: int) -> Image:
        """Add up tiles, computed a row of them at a time."""
        height, width = (n + 2 * self._margin + reach for n in self.shape)
        total = np.zeros((height * phases, width * phases), dtype=np.float32)
        with ThreadPoolExecutor(self.workers) as pool:
            for row in self._rows:
                images = pool.map(partial(tile, row, self._transfer_rows(row.nodes)), self._columns)
                for column, image in zip(self._columns, images, strict=True):
                    total[self._place(row, column, reach, phases)] += image
        return total

    def _kernel(self, transfer: Spectrum, node: int, adjoint: bool) -> Spectrum:
        kernel: Spectrum = transfer[node - self._columns[0].nodes[0]]
        return kernel.conj() if adjoint else kernel


def _split(image: Image, scale: int) -> Image:
    """(s H, s W) -> (s, s, H, W), one image for each position within a pixel."""
    height, width = image.shape
    return image.reshape(height // scale, scale, width // scale, scale).transpose(1, 3, 0, 2)


def _join(phases: Image) -> Image:
    """Inverse of `_split`."""
    scale, _, height, width = phases.shape
    return phases.transpose(2, 0, 3, 1).reshape(height * scale, width * scale)
