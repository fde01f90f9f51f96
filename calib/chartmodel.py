"""Pieces of flat charts as a camera's pixels see them: what chessboards, noise targets and edges tell of a PSF.

The light that falls on a pixel is the sharp chart, blurred by the optics, the pixel and charge diffusion. The sharp
chart is drawn around every piece on the fine grid of the optical image, by area, through the fitted geometry; what is
left of registration is a shift that the fit finds for each piece, as it finds the position of a light.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import firwin, resample_poly

from calib.pointmodel import Batch
from psfbank.arrays import FloatArray, IntArray
from psfbank.zernike import pixel_response

MARGIN_PX = 3  # drawn beyond what the optical image reaches: half a pixel, diffusion, the shift, the filter's end
DRAWN_FINER = 2  # cells of a drawing along a step of the fine grid, before it is filtered to that grid


def drawn_half(window_px: int, fine_px: FloatArray) -> int:
    """Half width, in steps of the fine grid, of the drawing that data `window_px` off its middle depend on."""
    oversample = round(1.0 / float(fine_px[1] - fine_px[0]))
    return (window_px + MARGIN_PX) * oversample + len(fine_px) // 2


def to_grid(drawing: FloatArray) -> npt.NDArray[np.float32]:
    """Filter a drawing (D R - 1, D R - 1), `DRAWN_FINER` = D, to the fine grid: (R, R) float32.

    A chart's edges hold all frequencies; sampled as they are, those near the grid's rate would come back as low ones.
    """
    taps = firwin(8 * DRAWN_FINER + 1, 1 / DRAWN_FINER, window=("kaiser", 4.0))
    half = resample_poly(drawing, 1, DRAWN_FINER, axis=0, window=taps, padtype="line")
    return np.asarray(resample_poly(half, 1, DRAWN_FINER, axis=1, window=taps, padtype="line"), dtype=np.float32)


@dataclass(frozen=True)
class ChartSamples:
    """Data of N pieces of charts at D sites each.

    `drawing` (M, R, R) is the chart's reflectance on the fine grid, free of frequencies beyond it, R odd, its middle on
    the pixel `middle_px` (N, 2); piece k is `drawing[number[k]]`, drawn for the place `drawn_px` (N, 2). `rows`, `cols`
    (N, D) are sites from the middle pixel; `values`, `weights` (N, 1, D, 1), the weights inverse variances.
    """

    drawing: npt.NDArray[np.float32]
    number: IntArray
    middle_px: FloatArray
    drawn_px: FloatArray
    rows: IntArray
    cols: IntArray
    values: FloatArray
    weights: FloatArray

    def take(self, which: npt.NDArray[np.int64] | slice) -> ChartSamples:
        """Select pieces."""
        own = (getattr(self, name)[which] for name in self.__dataclass_fields__ if name != "drawing")
        return ChartSamples(self.drawing, *own)

    def sampled(self, fine: Batch, fine_px: FloatArray, xy_px: FloatArray, diffusion_px: float) -> Batch:
        """See the chart through point images (B, V, F, F), the pieces at places (B, 2), px: (B, 1, V, D, 1).

        With I the optical image and C the chart behind pixel and diffusion, a pixel at p holds the integral over r of
        I(r) C(p - r).
        """
        step = float(fine_px[1] - fine_px[0])
        oversample, reach = round(1.0 / step), len(fine_px) // 2
        # averaging over cells has the variance of a box, which the diffusion makes room for
        blur_px = float(np.sqrt(max(diffusion_px**2 - (step / DRAWN_FINER) ** 2 / 12, 0.0)))
        size, margin = self.drawing.shape[1], MARGIN_PX * oversample
        half = size // 2 - margin
        apart = np.arange(-2 * margin - 2 * half, 2 * half + 2 * margin + 1) * step
        row, column = np.arange(size - 2 * margin)[:, None] + margin, np.arange(size)
        shift = xy_px - self.drawn_px
        across, down = (  # responses depend on distances alone
            (step * pixel_response(apart - shift[:, k, None], blur_px)).astype(np.float32)[:, row - column + size - 1]
            for k in (0, 1)
        )
        chart = down @ self.drawing[self.number] @ np.swapaxes(across, 1, 2)
        rows, cols = (at * oversample + half - reach for at in (self.rows, self.cols))
        turned = np.float32(step**2) * fine[:, :, ::-1, ::-1].reshape(*fine.shape[:2], -1)
        out = np.empty((len(fine), 1, fine.shape[1], self.rows.shape[1], 1), dtype=np.float32)
        for k, piece in enumerate(chart):
            windows = sliding_window_view(piece, (len(fine_px), len(fine_px)))[rows[k], cols[k]]
            out[k, 0, :, :, 0] = turned[k] @ windows.reshape(len(windows), -1).T
        return out

    def cropped(self, half_px: int) -> ChartSamples:
        """Keep all: a narrower PSF reaches every site of a chart."""
        return self

    def reweighed(self, weights: FloatArray) -> ChartSamples:
        """Return the same data with other weights."""
        return replace(self, weights=weights)

    def linear(self, images: FloatArray) -> npt.NDArray[np.float64]:
        """Stack what the data are a linear combination of, (B, 4, D): the image, even, and uneven light, and a floor.

        Illumination that varies over a piece multiplies the image with a plane.
        """
        half = max(1, int(np.abs(self.rows).max(initial=1)))
        return np.stack([images, np.ones_like(images), images * self.cols / half, images * self.rows / half], axis=1)
