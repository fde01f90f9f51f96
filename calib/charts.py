"""Charts in captures -> observations of the PSF: how each piece looks sharp, and what the camera saw of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal.windows import hann
from scipy.spatial.transform import Rotation

from calib.chartmodel import DRAWN_FINER, ChartSamples, drawn_half, to_grid
from calib.photometry.variance import pixel_variance
from calib.targets import Chart
from psfbank.arrays import BoolArray, FloatArray
from psfbank.model import Camera, Capture, DistortionMap, NoiseModel
from psfbank.sensor import cfa_sites

WINDOW_PX = 7  # half width of a piece
GRID = 5  # points a side through which the local map from pixels to the chart is fitted
CUBIC = [(i, d - i) for d in range(4) for i in range(d + 1)]


@dataclass(frozen=True)
class ChartView:
    """One capture of a chart whose geometry is known.

    `pose` (6,) as a rotation vector and mm; `height_mm` gives the chart's bow at places (N, 2) mm; `places_mm` (N, 2)
    are the middles of the pieces; the chart is known within `low_mm` and `high_mm` (2,).
    """

    capture: Capture
    chart: Chart
    pose: FloatArray
    height_mm: Callable[[FloatArray], FloatArray]
    places_mm: FloatArray
    low_mm: FloatArray
    high_mm: FloatArray

    def project(self, points_mm: FloatArray, lens: DistortionMap, channel: str) -> npt.NDArray[np.float64]:
        """Places (N, 2) mm of the chart -> pixels (N, 2)."""
        on_chart = np.column_stack([points_mm, self.height_mm(points_mm)])
        placed = Rotation.from_rotvec(np.array(self.pose[:3])).apply(on_chart) + self.pose[3:]
        return lens.project(placed[:, :2] / placed[:, 2:], channel)


@dataclass(frozen=True)
class Drawing:
    """Pieces of charts drawn sharp: `drawing` (N, R, R) about pixels `middle_px` (N, 2), for places `xy_px` (N, 2)."""

    drawing: npt.NDArray[np.float32]
    middle_px: FloatArray
    xy_px: FloatArray

    def take(self, which: npt.NDArray[np.int64] | BoolArray) -> Drawing:
        """Select pieces."""
        return Drawing(self.drawing[which], self.middle_px[which], self.xy_px[which])


def draw(
    view: ChartView, lens: DistortionMap, channel: str, fine_px: FloatArray, window_px: int = WINDOW_PX
) -> tuple[Drawing, BoolArray]:
    """Draw a chart sharp around its pieces.

    Parameters
    ----------
    view : ChartView
    lens : DistortionMap
    channel : str
        Whose geometry is taken.
    fine_px : (F,) float
        Grid of the optical images that the drawing will be seen through.
    window_px : int
        Half width of the data.

    Returns
    -------
    drawing : Drawing
        Of the pieces that lie wholly on the known chart.
    kept : (N,) bool
    """
    step, half = float(fine_px[1] - fine_px[0]), drawn_half(window_px, fine_px)
    xy_px = view.project(view.places_mm, lens, channel)
    middle = np.rint(xy_px)
    cell = step / DRAWN_FINER
    axis = np.arange(-half * DRAWN_FINER, half * DRAWN_FINER + 1) * cell
    reach_px = half * step
    monomials = _monomials(np.stack(np.meshgrid(axis, axis), -1) / reach_px)
    drawings, kept = [], np.zeros(len(xy_px), dtype=bool)
    for k, place in enumerate(view.places_mm):
        to_mm = _local_map(view, lens, channel, place, middle[k], reach_px)
        at = monomials @ to_mm
        kept[k] = bool(np.isfinite(at).all() and (at >= view.low_mm).all() and (at <= view.high_mm).all())
        if kept[k]:
            # a cell's box, seen along the chart's axes: the same second moments
            footprint = cell * np.linalg.norm(to_mm[[2, 1]] / reach_px, axis=0)
            drawings.append(to_grid(view.chart.reflectance(at[..., 0], at[..., 1], footprint)))
    shape = (0, 2 * half + 1, 2 * half + 1)
    drawn = np.stack(drawings) if drawings else np.zeros(shape, dtype=np.float32)
    return Drawing(drawn, middle[kept], xy_px[kept]), kept


def _monomials(uv: FloatArray) -> npt.NDArray[np.float64]:
    return np.stack([uv[..., 0] ** i * uv[..., 1] ** j for i, j in CUBIC], axis=-1)


def _local_map(
    view: ChartView, lens: DistortionMap, channel: str, place_mm: FloatArray, middle_px: FloatArray, reach_px: float
) -> npt.NDArray[np.float64]:
    """Cubic (10, 2) from pixels about a piece's middle, in `reach_px`, to millimetres on the chart."""
    small = 0.01 * float(np.min(view.high_mm - view.low_mm)) * np.array([[0, 0], [1, 0], [0, 1.0]])
    there = view.project(place_mm + small, lens, channel)
    slope = np.linalg.solve((there[1:] - there[0]), (small[1:] - small[0]))  # mm a pixel
    around = np.stack(np.meshgrid(*(np.linspace(-1.0, 1.0, GRID),) * 2), -1).reshape(-1, 2) * reach_px
    guess = place_mm + (middle_px + around - there[0]) @ slope
    seen = (view.project(guess, lens, channel) - middle_px) / reach_px
    return np.asarray(np.linalg.lstsq(_monomials(seen), guess, rcond=None)[0])


def observe(
    capture: Capture, drawing: Drawing, camera: Camera, channel: int, noise: NoiseModel | None, first: int
) -> ChartSamples:
    """Cut what the sensor saw of each piece in one channel.

    Parameters
    ----------
    capture : Capture
    drawing : Drawing
        Of what is in this capture, N pieces.
    camera : Camera
    channel : int
    noise : NoiseModel or None
    first : int
        Number of the first piece in the drawings of all captures.

    Returns
    -------
    ChartSamples
        Its `drawing` is this capture's alone; sites outside the picture or saturated have no weight.
    """
    pixels = np.asarray(capture.pixels, dtype=np.float64)
    variance = pixel_variance(capture, camera, noise)
    if pixels.ndim == 3:
        pixels, weights = pixels[..., channel], 1.0 / variance[..., channel]
    else:
        weights = np.where(np.equal(cfa_sites(camera.cfa, pixels.shape), channel), 1.0 / variance, 0.0)
    pad = WINDOW_PX + 1
    pixels, weight = np.pad(pixels, pad), np.pad(weights, pad)
    corner = drawing.middle_px.astype(np.int64)[:, ::-1]
    inside = np.all((corner > -2) & (corner < np.array(weights.shape) + 1), axis=1)
    corner = np.where(inside[:, None], corner, 0) + pad
    span = np.arange(-WINDOW_PX, WINDOW_PX + 1)
    at = corner[:, 0, None, None] + span[:, None], corner[:, 1, None, None] + span
    known = (weight[at] * inside[:, None, None]).reshape(len(corner), -1)
    # the sites of a colour are as many in every piece, give or take a row and a column: the heaviest are taken
    most = int((known > 0).sum(1).max(initial=1))
    order = np.argsort(known <= 0, axis=1, kind="stable")[:, :most]
    rows, cols = (np.broadcast_to(a, (len(span), len(span))).ravel()[order] for a in (span[:, None], span))
    values, weights = (
        np.take_along_axis(a, order, 1)[:, None, :, None] for a in (pixels[at].reshape(known.shape), known)
    )
    numbers = first + np.arange(len(corner))
    return ChartSamples(drawing.drawing, numbers, drawing.middle_px, drawing.xy_px, rows, cols, values, weights)


def join(parts: Sequence[ChartSamples], drawing: npt.NDArray[np.float32]) -> ChartSamples:
    """Join the pieces of several views; `drawing` (M, R, R) is that of all views, one after the other."""
    widest = max(part.rows.shape[1] for part in parts)

    def padded(name: str, axis: int) -> npt.NDArray[np.generic]:
        blocks = []
        for part in parts:
            block = getattr(part, name)
            missing = widest - part.rows.shape[1]
            blocks.append(np.pad(block, [(0, missing if a == axis else 0) for a in range(block.ndim)]))
        return np.concatenate(blocks)

    return ChartSamples(
        drawing,
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("number", "middle_px", "drawn_px")),
        *(padded(name, 1) for name in ("rows", "cols")),
        *(padded(name, 2) for name in ("values", "weights")),
    )


def excitation(drawing: FloatArray, step_px: float) -> npt.NDArray[np.float64]:
    """How strongly charts excite each direction: mean power in 8 sectors of 22.5 degrees, 0.1 to 0.5 cycles/pixel.

    Parameters
    ----------
    drawing : (N, R, R) float
        Pieces drawn sharp.
    step_px : float
        Of the drawings.

    Returns
    -------
    (8,) float64
        Relative to the strongest; the first sector is centred on edges that run down the picture. A PSF is only known
        along directions that were excited.
    """
    size = drawing.shape[1]
    window = np.outer(hann(size), hann(size))
    f = np.fft.fftfreq(size, step_px)
    radius, angle = np.hypot(f[:, None], f), np.arctan2(f[:, None], f)
    sector = np.rint(angle / (np.pi / 8)).astype(np.int64) % 8
    power = np.zeros((size, size))
    for piece in drawing:
        power += np.abs(np.fft.fft2((piece - piece.mean()) * window)) ** 2
    band = (radius > 0.1) & (radius < 0.5)
    found = np.array([power[band & (sector == k)].mean() for k in range(8)])
    return np.asarray(found / found.max())
