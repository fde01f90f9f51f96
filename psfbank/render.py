"""Effective PSFs anywhere in the field of view: the wavefront interpolated and rendered, plus what it leaves unsaid.

The PSF half-way between two nodes is not the mean of theirs: where the focus changes sign on the way, both nodes are
blurred and the place between them is sharp. The wavefront changes smoothly, so its coefficients are interpolated
instead. What the nodes' kernels hold beyond their own rendered wavefronts is small, and is mixed as kernels are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import lcm

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

from psfbank.arrays import FloatArray, IntArray
from psfbank.field import cardinal_spline, corner_weights
from psfbank.optics import Imaging, ZernikeField
from psfbank.zernike import Imager, enough_samples, pixel_response

PUPIL_SAMPLES, MOST_PUPIL_SAMPLES = 41, 1025  # a side
MARGIN_PX = 1.0  # of the optical image around a kernel: what diffusion and the pixel bring in
CENTRING_ROUNDS = 4  # the window moves along, so the centroid within it settles


def unit_sum(kernel: FloatArray) -> npt.NDArray[np.float64]:
    """Clip what is negative and bring the sum to one; ValueError when nothing is left."""
    kernel = np.maximum(kernel, 0.0)
    total = kernel.sum()
    if not 0 < total < np.inf:
        raise ValueError("this wavefront sends no light into the kernel's window")
    return np.asarray(kernel / total)


@dataclass(frozen=True, eq=False)
class PixelSampling:
    """Samples fine images (F, F) with pixels, K times K, about any place.

    Both grids lie on multiples of a common fraction of a pixel, so the matrix between them holds few different values:
    `apart_px` (D,) are the distances that occur, `which` (K, F) says where.
    """

    axis_px: FloatArray
    apart_px: FloatArray
    which: IntArray
    step_px: float
    diffusion_px: float

    @classmethod
    def of(cls, size: int, oversample: int, fine_px: FloatArray, diffusion_px: float) -> PixelSampling:
        """Prepare kernels of `size` samples (odd), `oversample` a pixel, from images at `fine_px` (F,)."""
        per_px = lcm(oversample, round(1.0 / (fine_px[1] - fine_px[0])))
        axis_px = (np.arange(size) - size // 2) / oversample
        steps = np.rint((axis_px[:, None] - fine_px) * per_px).astype(np.int64)
        apart_px = np.arange(steps.min(), steps.max() + 1) / per_px
        return cls(axis_px, apart_px, steps - steps.min(), float(fine_px[1] - fine_px[0]), diffusion_px)

    def about(self, fine_image: FloatArray, x_px: float, y_px: float) -> npt.NDArray[np.float64]:
        """Kernel (K, K) whose centre looks at a place of the fine image; ValueError when no light falls into it."""
        across, down = (
            pixel_response(self.apart_px + at, self.diffusion_px)[self.which] * self.step_px for at in (x_px, y_px)
        )
        return unit_sum(down @ fine_image @ across.T)

    def centred(self, fine_image: FloatArray) -> npt.NDArray[np.float64]:
        """Kernel (K, K) with its centroid at the array centre; ValueError when no light falls into it."""
        x_px = y_px = 0.0
        for _ in range(CENTRING_ROUNDS):
            kernel = self.about(fine_image, x_px, y_px)
            column, row = kernel.sum(0) @ self.axis_px, kernel.sum(1) @ self.axis_px
            x_px, y_px = x_px + float(column), y_px + float(row)
        return kernel


def require_affordable(size: int, oversample: int, wavefront: ZernikeField, imaging: Imaging) -> None:
    """Raise ValueError when PSFs of `size` samples need a finer pupil than anyone would wait for."""
    half_px = size // 2 / oversample + MARGIN_PX
    shortest_nm = float(imaging.wavelengths_nm.min())
    samples = enough_samples(PUPIL_SAMPLES, half_px, wavefront.f_number, imaging.pitch_um, shortest_nm)
    if samples > MOST_PUPIL_SAMPLES:
        raise ValueError(
            f"PSFs of {half_px:.0f} px to each side need {samples} samples across the pupil, over {MOST_PUPIL_SAMPLES}"
        )


@dataclass(frozen=True, eq=False)
class FieldRenderer:
    """Renders kernels at any place from kernels (C, Ty, Tx, K, K) at nodes and the wavefront behind them.

    `imagers` and `samplings` are one a channel. `remainders` fills as nodes come into use, at most to the size of
    `kernels`.
    """

    x_px: FloatArray
    y_px: FloatArray
    kernels: FloatArray
    wavefront: ZernikeField
    imaging: Imaging
    spline_x: BSpline
    spline_y: BSpline
    imagers: tuple[Imager, ...]
    samplings: tuple[PixelSampling, ...]
    remainders: dict[tuple[int, int, int], FloatArray] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        x_px: FloatArray,
        y_px: FloatArray,
        kernels: FloatArray,
        oversample: int,
        wavefront: ZernikeField,
        imaging: Imaging,
    ) -> FieldRenderer:
        """Prepare every channel's pupil and sampling; ValueError as `require_affordable`."""
        size = kernels.shape[-1]
        require_affordable(size, oversample, wavefront, imaging)
        imagers = tuple(
            Imager.of(
                wavefront.nm,
                wavelengths_nm=wavelengths_nm,
                weights=weights,
                f_number=wavefront.f_number,
                pitch_um=imaging.pitch_um,
                half_px=size // 2 / oversample + MARGIN_PX,
                samples=PUPIL_SAMPLES,
            )
            for wavelengths_nm, weights in zip(imaging.wavelengths_nm, imaging.weights, strict=True)
        )
        samplings = tuple(
            PixelSampling.of(size, oversample, imager.fine_px, float(diffusion_px))
            for imager, diffusion_px in zip(imagers, imaging.diffusion_px, strict=True)
        )
        splines = cardinal_spline(wavefront.x_px), cardinal_spline(wavefront.y_px)
        return cls(x_px, y_px, kernels, wavefront, imaging, *splines, imagers, samplings)

    def kernel_at(self, channel: int, x: float, y: float) -> npt.NDArray[np.float64]:
        """Kernel (K, K) at a place: sums to one, not negative; at a node the kernel that stands there."""
        kernel = self.wavefront_kernel(channel, x, y)
        for j, i, weight in corner_weights(self.x_px, self.y_px, x, y):
            kernel += weight * self.remainder(channel, j, i)
        return unit_sum(kernel)

    def wavefront_kernel(self, channel: int, x: float, y: float) -> npt.NDArray[np.float64]:
        """Kernel (K, K) of the wavefront alone, centred; places outside the nodes take the border's.

        Coefficients follow cubic splines through the nodes. The second stop is mixed bilinearly: a mix of stops that
        leave some of the pupil open does so too, a spline may overshoot.
        """
        nodes_x, nodes_y = self.wavefront.x_px, self.wavefront.y_px
        along_x = self.spline_x(np.clip(x, nodes_x[0], nodes_x[-1]))
        along_y = self.spline_y(np.clip(y, nodes_y[0], nodes_y[-1]))
        coefficients_nm = along_x @ np.tensordot(along_y, self.wavefront.coefficients_nm[channel], axes=1)
        corners = corner_weights(nodes_x, nodes_y, x, y)
        clip_x, clip_y, radius = sum(weight * self.imaging.clip[channel, j, i] for j, i, weight in corners)
        image = self.imagers[channel].fine_image(coefficients_nm, (float(clip_x), float(clip_y), float(radius)))
        return self.samplings[channel].centred(image)

    def remainder(self, channel: int, j: int, i: int) -> FloatArray:
        """Tell what the kernel (K, K) at a node holds beyond its own rendered wavefront."""
        node = channel, j, i
        if node not in self.remainders:
            rendered = self.wavefront_kernel(channel, float(self.x_px[i]), float(self.y_px[j]))
            self.remainders[node] = np.asarray(self.kernels[node] - rendered, dtype=np.float32)
        return self.remainders[node]
