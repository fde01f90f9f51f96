"""The operator: moves tiles between the sharp image and the blurred one, a row of tiles at a time."""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from psfbank.blur.direct import WIDEST, DirectTiles
from psfbank.blur.fourier import FourierTiles, Spectrum, TransferFunctions
from psfbank.blur.tiling import EDGES, Axis, Edge, Image, Plan, Side, Span, Weights, spans, split
from psfbank.errors import ImageError
from psfbank.field import source_kernels
from psfbank.model import PsfGrid, channel_index


class Tiles(Protocol):
    """What convolves a tile: `FourierTiles` or `DirectTiles`."""

    def spread(self, light: Image, down: Weights, across: Weights) -> Image:
        """See `FourierTiles.spread`."""

    def collect(self, light: Image, down: Weights, across: Weights) -> Image:
        """See `FourierTiles.collect`."""


class SpatiallyVaryingBlur:
    """Blur an image by the PSFs of a grid, and the exact transpose of that.

    Parameters
    ----------
    psf_grid : PsfGrid
        Nodes at `x_px`, `y_px`, inside or outside the image; beyond the outermost nodes PSFs stay what they are there.
    shape : (H, W)
        Sensor pixels of the blurred image, pixel (0, 0) at x = y = 0. Any size, smaller than a kernel too.
    channel : str
    mode : "scatter" or "gather"
        See the package's description.
    source_scale : int
        The sharp image is (source_scale H, source_scale W): each of its samples is spread by the PSF at
        `source_scale` samples a pixel, and what results is sampled once, at the centres of the sensor's pixels.
    workers : int, optional
        Threads; by default as many as there are processors. The result does not depend on it.
    edge : "reflect", "edge" or "constant"
        What lies beyond the sharp image: its mirror image, edge samples repeated (d c b a | a b c d), as often as a
        kernel wider than the image asks for; its edge samples; or black. In scatter mode light from beyond has the PSF
        of the place it comes from.

    Raises
    ------
    ValueError
        When a shape, mode, edge or channel does not exist.
    """

    def __init__(
        self,
        psf_grid: PsfGrid,
        shape: tuple[int, int],
        channel: str = "G",
        mode: Literal["scatter", "gather"] = "scatter",
        source_scale: int = 1,
        workers: int | None = None,
        edge: Edge = "reflect",
    ) -> None:
        if mode not in ("scatter", "gather"):
            raise ValueError(f"`mode` must be 'scatter' or 'gather', got {mode!r}")
        if edge not in EDGES:
            raise ValueError(f"`edge` must be one of {', '.join(map(repr, EDGES))}, got {edge!r}")
        if len(shape) != 2 or min(shape) < 1 or source_scale < 1:
            raise ValueError(f"`shape` must be (H, W) and `source_scale` be positive, got {shape}, {source_scale}")
        self.mode, self.source_scale, self.edge = mode, source_scale, edge
        self.workers = workers or os.cpu_count() or 1
        nodes = psf_grid.kernels[channel_index(psf_grid.channels, channel)]
        kernels = _by_sample(source_kernels(nodes, psf_grid.oversample, source_scale), source_scale)
        self.radius_px = kernels.shape[-1] // 2
        self._transfers = TransferFunctions(kernels)
        self._new: Callable[[], Tiles] = partial(FourierTiles, self._transfers)
        self._most_cells = 3  # of a window that is one tile: all windows of its size share transfer functions
        if kernels.shape[-1] <= WIDEST:
            self._new, self._most_cells = partial(DirectTiles, kernels), 1  # nothing to share
        self._devices: dict[str, TransferFunctions] = {}  # of torch
        self._idle: list[Tiles] = []  # a thread takes one for as long as it works
        self._x_px, self._y_px = psf_grid.x_px, psf_grid.y_px
        self._lay_out(0, 0, (int(shape[0]), int(shape[1])))

    def crop(self, y: int, x: int, height: int, width: int) -> SpatiallyVaryingBlur:
        """Blur of a window of the sensor, pixel (0, 0) of its images at (x, y) of this one's.

        It shares kernels and transfer functions with this blur and costs next to nothing; only nodes that act on the
        window are ever transformed. Beyond the window's edges lies what `edge` says, as beyond an image's: to blur with
        what the picture itself holds there, crop `radius_px` wider.

        Parameters
        ----------
        y, x : int
            Pixels; the window may lie beyond the image that this blur was made for.
        height, width : int

        Returns
        -------
        SpatiallyVaryingBlur
        """
        if min(height, width) < 1:
            raise ValueError(f"a window must have at least one pixel, got {height} x {width}")
        part = copy.copy(self)
        part._lay_out(self._y0 + y, self._x0 + x, (height, width))
        return part

    def forward(self, x: Any) -> Any:
        """Blur.

        Parameters
        ----------
        x : (source_scale H, source_scale W) real
            Linear light; a torch tensor (..., source_scale H, source_scale W) makes one on the same device.

        Returns
        -------
        (H, W) float32

        Raises
        ------
        ValueError
            When the image has another shape.
        ImageError
            When it holds a value that is not finite; a tensor, perhaps on another device, is not searched for them.
        """
        return self._mapped(x, self._plan)

    def adjoint(self, y: Any) -> Any:
        """Transpose of `forward`, edges included: (H, W) -> (source_scale H, source_scale W) float32."""
        return self._mapped(y, self._plan.transposed())

    def _lay_out(self, y0: int, x0: int, shape: tuple[int, int]) -> None:
        scale, radius, scatter = self.source_scale, self.radius_px, self.mode == "scatter"
        self._y0, self._x0, self.shape = y0, x0, shape
        self.source_shape = (shape[0] * scale, shape[1] * scale)
        # light is weighted where it comes from, beyond the edges too, or where it lands
        margin = radius if scatter and self.edge != "constant" else 0
        axes = ((self._y_px - y0, shape[0]), (self._x_px - x0, shape[1]))
        rows, columns = (
            spans(nodes, count, margin, scale if scatter else 1, radius, self._most_cells) for nodes, count in axes
        )

        def side(samples: int, weighted: bool, edge: Edge) -> Side:
            beyond = (margin if weighted else margin + cut[0].weights.reach for cut in (rows, columns))
            down, across = (Axis.of(n * samples, px * samples, edge) for n, px in zip(shape, beyond, strict=True))
            return Side(down, across, samples, weighted)

        # beyond the blurred image there is nothing to weight or to keep
        self._plan = Plan(side(scale, scatter, self.edge), side(1, not scatter, "constant"), rows, columns)

    def _mapped(self, image: Any, plan: Plan) -> Any:
        shape = plan.source.shape
        if _is_tensor(image) and tuple(image.shape[-2:]) == shape:
            from psfbank.blur import tensors  # torch is there: it made the image

            return tensors.mapped(image, plan, self._transfers_on(image.device, tensors.on_device))
        if np.shape(image) != shape:
            raise ValueError(f"this blur takes an image of {shape}, got {tuple(np.shape(image))}")
        array = np.asarray(image)
        total = np.zeros(plan.target.shape, dtype=np.float32)
        strips = _in_order(partial(self._strip, array, plan), plan.rows, self.workers)
        for row, strip in zip(plan.rows, strips, strict=True):
            plan.target.add(total, row, strip)
        return total

    def _strip(self, image: npt.NDArray[Any], plan: Plan, row: Span) -> Image:
        """Compute what a row of tiles adds to the rows of the target that it has a share in."""
        source, target = plan.source, plan.target
        light = source.read(image, row)
        if not np.isfinite(light).all():
            raise ImageError(
                f"the image holds {int(np.sum(~np.isfinite(image)))} values that are not finite",
                remedy="Replace them before the blur, which would spread each over its neighbours",
            )
        window = target.window(row)
        strip = np.zeros((window.stop - window.start, target.columns.extent), dtype=np.float32)
        try:
            tiles = self._idle.pop()
        except IndexError:
            tiles = self._new()
        convolve = tiles.spread if source.weighted else tiles.collect
        for column in plan.columns:
            block, place = (
                split(part[:, side.window(column)], side.samples) for part, side in ((light, source), (strip, target))
            )
            if plan.mirrored:  # tile and weights are turned by half a turn, and the result back
                turned = convolve(block[..., ::-1, ::-1], row.weights.mirrored(), column.weights.mirrored())
                place += turned[..., ::-1, ::-1]
            else:
                place += convolve(block, row.weights, column.weights)
        self._idle.append(tiles)
        return target.fold(strip)

    def _transfers_on(self, device: Any, on_device: Callable[[str, Spectrum], Any]) -> TransferFunctions:
        name = str(device)
        if name not in self._devices:
            self._devices[name] = TransferFunctions(self._transfers.kernels, partial(on_device, name))
        return self._devices[name]


def _is_tensor(image: Any) -> bool:
    return any(base.__module__.split(".")[0] == "torch" for base in type(image).__mro__)


def _by_sample(kernels: npt.NDArray[np.float64], scale: int) -> Image:
    """(Ty, Tx, scale k, scale k) -> (Ty, Tx, scale, scale, k, k): a kernel for each sample of a pixel.

    Sample i = s m + r of the source meets sample s (n - m) + (s - 1 - r) of a kernel at pixel n.
    """
    return np.ascontiguousarray(split(kernels, scale)[:, :, ::-1, ::-1], dtype=np.float32)


def _in_order(function: Callable[[Span], Image], rows: Sequence[Span], workers: int) -> Iterator[Image]:
    """Map by threads, never far ahead of who takes the results."""
    if min(workers, len(rows)) == 1:
        yield from map(function, rows)
        return
    with ThreadPoolExecutor(min(workers, len(rows))) as pool:
        waiting: deque[Future[Image]] = deque()
        for row in rows:
            waiting.append(pool.submit(function, row))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
