"""Images of points as a camera's pixels see them, and their derivatives by everything that shapes them.

The model of one image: a pupil cut by an off-axis stop, a wavefront in Zernike terms, several wavelengths, the pixel's
aperture and charge diffusion, and a position. All light is treated on a grid finer than the pixel; flux and background
are left to the caller, who solves for them in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from psfbank.arrays import ComplexArray, FloatArray
from psfbank.model import Points
from psfbank.zernike import Pupil, enough_samples, fine_grid, fourier_matrix, optical_image, pixel_response

Batch = npt.NDArray[np.floating[Any]]  # float32 for speed
STEP_PX, STEP_PUPIL, STEP_SCALE = 1e-2, 2e-2, 1e-3  # of finite differences: pixels, pupil radii, relative
EXTRAS = ("x_px", "y_px", "diffusion_px", "clip_x", "clip_y", "clip_radius", "scale")  # columns after the terms


@dataclass(frozen=True)
class Optics:
    """What is known beforehand: terms `nm` (J, 2), `wavelengths_nm` and `weights` (C, W), f-number, pixel pitch."""

    nm: npt.NDArray[np.int32]
    wavelengths_nm: FloatArray
    weights: FloatArray
    f_number: float
    pitch_um: float


@dataclass(frozen=True)
class Shape:
    """What shapes B images of one channel.

    `coefficients_nm` (B, J); `xy_px` (B, 2); `clip` (B, 3), the second stop's centre x, y and radius in pupil radii;
    `diffusion_px`; `scale`, a factor on lambda N / pitch.
    """

    coefficients_nm: FloatArray
    xy_px: FloatArray
    clip: FloatArray
    diffusion_px: float
    scale: float


@dataclass(frozen=True)
class Samples:
    """Data of N images as L lattices of O x O samples (the sites of one colour form lattices of step 2).

    `rows_px`, `cols_px` (N, L, O); `values`, `weights` (N, L, O, O); weights are inverse variances, 0 where unknown.
    """

    rows_px: FloatArray
    cols_px: FloatArray
    values: FloatArray
    weights: FloatArray

    def take(self, which: npt.NDArray[np.int64] | slice) -> Samples:
        """Select images."""
        return Samples(self.rows_px[which], self.cols_px[which], self.values[which], self.weights[which])


def to_samples(points: Points) -> Samples:
    """Pick the lattices that hold data: one of four for R and B of a mosaic, two for G, all four without a mosaic.

    Parameters
    ----------
    points : Points
        Of one channel; patches (N, P, P), P odd.

    Returns
    -------
    Samples
        O = (P + 1) / 2; lattices that lack a last row or column are padded with weight zero.
    """
    pad = ((0, 0), (0, 1), (0, 1))
    values, weights = np.pad(points.patch, pad), np.pad(1.0 / points.variance, pad)
    quarters = [(a, b) for a in (0, 1) for b in (0, 1)]
    filled = np.array([(weights[:, a::2, b::2] > 0).any((1, 2)) for a, b in quarters]).T
    count = int(filled.sum(1).max(initial=1))
    chosen = np.argsort(~filled, axis=1, kind="stable")[:, :count]
    offset = np.array(quarters)[chosen]
    steps = 2 * np.arange((points.patch.shape[1] + 1) // 2)
    rows, cols = (offset[:, :, k, None] + steps for k in (0, 1))
    at = np.arange(len(points))[:, None, None, None], rows[:, :, :, None], cols[:, :, None, :]
    known = weights[at] * np.take_along_axis(filled, chosen, 1)[:, :, None, None]
    first = points.corner_px[:, None, None, :]
    return Samples((rows + first[..., 1]).astype(float), (cols + first[..., 0]).astype(float), values[at], known)


class PointModel:
    """Renders batches of images of one channel.

    Parameters
    ----------
    optics : Optics
    channel : int
    half_px : float
        Half width of what is rendered around each point, pixels.
    pupil_samples : int
        Odd; more are taken where large pixels need them.
    """

    def __init__(self, optics: Optics, channel: int, half_px: float, pupil_samples: int = 41) -> None:
        self.optics = optics
        diffraction = optics.f_number, optics.pitch_um, float(optics.wavelengths_nm.min())
        self.pupil = Pupil.of(enough_samples(pupil_samples, half_px + 1.0, *diffraction))
        self.basis = self.pupil.basis(optics.nm).astype(np.float32)
        self.fine_px = fine_grid(half_px + 1.0, *diffraction)
        self.wavelengths_nm = optics.wavelengths_nm[channel]
        self.weights = optics.weights[channel] / np.sum(optics.weights[channel])
        self.mean_nm = float(self.wavelengths_nm @ self.weights)

    def fine_images(self, shape: Shape) -> Batch:
        """Optical images (B, F, F) on the fine grid, all wavelengths; not normalised."""
        pupil_terms = self._amplitude(shape.clip), self._opd_nm(shape)
        images = [
            np.float32(weight * (self.mean_nm / wavelength) ** 2)
            * self._field(*pupil_terms, wavelength, shape.scale)[1]
            for wavelength, weight in zip(self.wavelengths_nm, self.weights, strict=True)
        ]
        return np.asarray(sum(images), dtype=np.float32)

    def render(self, shape: Shape, at: Samples) -> Batch:
        """Images (B, L, O, O) at the samples' places."""
        return self.sample(self.fine_images(shape), shape, at)

    def sample(self, fine: Batch, shape: Shape, at: Samples) -> Batch:
        """Sample optical images (B, F, F) with pixels: (B, L, O, O)."""
        return self._sampled(fine[:, None], shape, at)[:, :, 0]

    def jacobian(self, shape: Shape, at: Samples) -> tuple[Batch, Batch]:
        """Images (B, L, O, O) and their derivatives (B, L, J + 7, O, O) by the terms (nm) and by `EXTRAS`.

        The terms' derivatives are analytic: with U = F{A exp(2 pi i W / lambda)}, d|U|^2 / dc_j is
        2 Re(conj(U) F{2 pi i / lambda Z_j A exp(2 pi i W / lambda)}). They and the stop's are taken at the mean
        wavelength alone, which alters the way to the minimum but not the minimum.
        """
        images = self.fine_images(shape)
        amplitude, opd_nm = self._amplitude(shape.clip), self._opd_nm(shape)
        field, mono = self._field(amplitude, opd_nm, self.mean_nm, shape.scale)
        fine = [self._term_derivatives(amplitude, opd_nm, field, shape.scale)]
        for k in range(3):
            moved = shape.clip + STEP_PUPIL * np.eye(3)[k]
            higher = self._field(self._amplitude(moved), opd_nm, self.mean_nm, shape.scale)[1]
            fine.append(((higher - mono) / np.float32(STEP_PUPIL))[:, None])
        wider = self._field(amplitude, opd_nm, self.mean_nm, shape.scale * (1 + STEP_SCALE))[1]
        fine.append(((wider - mono) / np.float32(STEP_SCALE))[:, None])
        rendered = self._sampled(images[:, None], shape, at)
        columns = self._sampled(np.concatenate(fine, axis=1), shape, at)
        moves = [
            (self._sampled(images[:, None], changed, at) - rendered) / np.float32(step)
            for changed, step in (
                (replace(shape, xy_px=shape.xy_px + np.array([STEP_PX, 0.0])), STEP_PX),
                (replace(shape, xy_px=shape.xy_px + np.array([0.0, STEP_PX])), STEP_PX),
                (replace(shape, diffusion_px=shape.diffusion_px + STEP_PX), STEP_PX),
            )
        ]
        terms = len(self.basis)
        return rendered[:, :, 0], np.concatenate([columns[:, :, :terms], *moves, columns[:, :, terms:]], axis=2)

    def _opd_nm(self, shape: Shape) -> Batch:
        return np.tensordot(shape.coefficients_nm.astype(np.float32), self.basis, axes=1)

    def _amplitude(self, clip: FloatArray) -> Batch:
        second = self.pupil.circle(clip[:, 0], clip[:, 1], clip[:, 2])
        return np.asarray(self.pupil.circle() * second, dtype=np.float32)

    def _transform(self, wavelength_nm: float, scale: float) -> ComplexArray:
        at_um = self.fine_px * self.optics.pitch_um
        matrix = fourier_matrix(self.pupil, at_um, wavelength_nm * scale, self.optics.f_number)
        return np.asarray(matrix * (self.pupil.step / np.sqrt(np.pi)), dtype=np.complex64)

    def _field(self, amplitude: Batch, opd_nm: Batch, wavelength_nm: float, scale: float) -> tuple[ComplexArray, Batch]:
        return optical_image(amplitude, opd_nm, self._transform(wavelength_nm, scale), wavelength_nm)

    def _term_derivatives(self, amplitude: Batch, opd_nm: Batch, field: ComplexArray, scale: float) -> Batch:
        transform = self._transform(self.mean_nm, scale)
        wave = complex(0.0, 2.0 * np.pi / self.mean_nm)
        pupil_field = amplitude * np.exp(wave * opd_nm)
        varied = transform @ (wave * self.basis * pupil_field[:, None]) @ transform.T
        return np.asarray(2.0 * (field.real[:, None] * varied.real + field.imag[:, None] * varied.imag))

    def _sampled(self, fine: Batch, shape: Shape, at: Samples) -> Batch:
        """Sample fine images (B, V, F, F) with pixels: (B, L, V, O, O)."""
        step = self.fine_px[1] - self.fine_px[0]
        across, down = (
            np.float32(step)
            * pixel_response(
                (positions - shape.xy_px[:, axis, None, None])[..., None] - self.fine_px, shape.diffusion_px
            ).astype(np.float32)
            for axis, positions in ((0, at.cols_px), (1, at.rows_px))
        )
        return np.asarray(down[:, :, None] @ fine[:, None] @ np.swapaxes(across, -1, -2)[:, :, None])
