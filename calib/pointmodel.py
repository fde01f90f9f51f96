"""Images of points as a camera's pixels see them, and their derivatives by everything that shapes them.

The model of one image: a pupil cut by an off-axis stop, a wavefront in Zernike terms, several wavelengths, the pixel's
aperture and charge diffusion, and a position. All light is treated on a grid finer than the pixel; flux and background
are left to the caller, who solves for them in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from psfbank.arrays import ComplexArray, FloatArray
from psfbank.model import Points
from psfbank.zernike import Pupil, enough_samples, fine_grid, fourier_matrix, optical_image, pixel_response

Batch = npt.NDArray[np.floating[Any]]  # float32 for speed
STEP_PUPIL, STEP_SCALE = 2e-2, 1e-3  # of finite differences: pupil radii, relative
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

    def cropped(self, half_px: int) -> Samples:
        """Leave out what lies farther than about `half_px` from the middle of each lattice."""
        drop = max(0, (self.rows_px.shape[-1] - 1) // 2 - -(-half_px // 2))
        keep = slice(drop, self.rows_px.shape[-1] - drop)
        rows_px, cols_px = self.rows_px[..., keep], self.cols_px[..., keep]
        return Samples(rows_px, cols_px, self.values[..., keep, keep], self.weights[..., keep, keep])

    def sampled(self, fine: Batch, fine_px: FloatArray, xy_px: FloatArray, diffusion_px: float) -> Batch:
        """Sample fine images (B, V, F, F) about places (B, 2), px, with pixels: (B, L, V, O, O)."""
        step = np.float32(fine_px[1] - fine_px[0])
        across, down = (
            step * pixel_response((at - xy_px[:, axis, None, None])[..., None] - fine_px, diffusion_px)
            for axis, at in ((0, self.cols_px), (1, self.rows_px))
        )
        across, down = across.astype(np.float32), down.astype(np.float32)
        return np.asarray(down[:, :, None] @ fine[:, None] @ np.swapaxes(across, -1, -2)[:, :, None])

    def reweighed(self, weights: FloatArray) -> Samples:
        """Return the same data with other weights."""
        return replace(self, weights=weights)

    def linear(self, images: FloatArray) -> npt.NDArray[np.float64]:
        """Stack what the data are a linear combination of, (B, 2, D): the image (B, D), and a background."""
        return np.stack([images, np.ones_like(images)], axis=1)


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


class Sampling(Protocol):
    """Data of N images of something, and how a point's image on the fine grid becomes them: S and H of y = S H k."""

    @property
    def values(self) -> FloatArray:
        """Data (N, L, O, P)."""
        ...

    @property
    def weights(self) -> FloatArray:
        """Inverse variances (N, L, O, P), 0 where unknown."""
        ...

    def take(self, which: npt.NDArray[np.int64] | slice) -> Sampling:
        """Select images."""
        ...

    def sampled(self, fine: Batch, fine_px: FloatArray, xy_px: FloatArray, diffusion_px: float) -> Batch:
        """See fine images (B, V, F, F) of a point as data would: (B, L, V, O, P)."""
        ...

    def cropped(self, half_px: int) -> Sampling:
        """Leave out what a PSF narrower than `half_px` does not reach, where that is possible."""
        ...

    def reweighed(self, weights: FloatArray) -> Sampling:
        """Return the same data, the sensor's own samples having other weights, shaped like `weights`."""
        ...

    def linear(self, images: FloatArray) -> npt.NDArray[np.float64]:
        """Images (B, D) and whatever else the data are a linear combination of: (B, n, D), the image first."""
        ...


class PointModel:
    """Renders batches of images of one channel.

    Parameters
    ----------
    optics : Optics
    channel : int
    half_px : int
        Half width of what is rendered around each point, pixels.
    pupil_samples : int
        Odd; more are taken where large pixels need them.
    """

    def __init__(self, optics: Optics, channel: int, half_px: int, pupil_samples: int = 41) -> None:
        self.optics = optics
        self.half_px = half_px
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

    def render(self, shape: Shape, at: Sampling) -> Batch:
        """Images (B, L, O, O) at the samples' places."""
        return self.sample(self.fine_images(shape), shape, at)

    def sample(self, fine: Batch, shape: Shape, at: Sampling) -> Batch:
        """Sample optical images (B, F, F) with pixels: (B, L, O, O)."""
        return self._sampled(fine[:, None], shape, at)[:, :, 0]

    def jacobian(self, shape: Shape, at: Sampling) -> tuple[Batch, Batch]:
        """Images (B, L, O, O) and their derivatives (B, L, J + 7, O, O) by the terms (nm) and by `EXTRAS`.

        With U = F{A exp(2 pi i W / lambda)} and V_g = F{g A exp(2 pi i W / lambda)}, d|U|^2 / dc_j is
        2 Re(conj(U) V_g) with g = 2 pi i / lambda Z_j, and so is the slope of the image with g = -2 pi i times the
        pupil's spatial frequencies; a wider diffusion s adds s times the image's Laplacian. All but the image itself is
        taken at the mean wavelength alone, which alters the way to the minimum but not the minimum.
        """
        images = self.fine_images(shape)
        amplitude, opd_nm = self._amplitude(shape.clip), self._opd_nm(shape)
        field, mono = self._field(amplitude, opd_nm, self.mean_nm, shape.scale)
        fine = [images[:, None], self._derivatives(amplitude, opd_nm, field, shape)]
        for k in range(3):
            moved = shape.clip + STEP_PUPIL * np.eye(3)[k]
            higher = self._field(self._amplitude(moved), opd_nm, self.mean_nm, shape.scale)[1]
            fine.append(((higher - mono) / np.float32(STEP_PUPIL))[:, None])
        wider = self._field(amplitude, opd_nm, self.mean_nm, shape.scale * (1 + STEP_SCALE))[1]
        fine.append(((wider - mono) / np.float32(STEP_SCALE * shape.scale))[:, None])
        columns = self._sampled(np.concatenate(fine, axis=1), shape, at)
        return columns[:, :, 0], columns[:, :, 1:]

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

    def _derivatives(self, amplitude: Batch, opd_nm: Batch, field: ComplexArray, shape: Shape) -> Batch:
        """Differentiate the optical image by the terms, the position and the diffusion: (B, J + 3, F, F)."""
        transform = self._transform(self.mean_nm, shape.scale)
        wave = complex(0.0, 2.0 * np.pi / self.mean_nm)
        turn = -np.pi * self.optics.pitch_um / (self.mean_nm * 1e-3 * shape.scale * self.optics.f_number)
        slopes = 1j * turn * np.stack([self.pupil.x, self.pupil.y])
        factors = np.concatenate([wave * self.basis, slopes, np.sum(slopes**2, axis=0, keepdims=True)])
        pupil_field = amplitude * np.exp(wave * opd_nm)
        varied = transform @ (factors.astype(np.complex64) * pupil_field[:, None]) @ transform.T
        columns = 2.0 * (field.real[:, None] * varied.real + field.imag[:, None] * varied.imag)
        columns[:, -1] += 2.0 * np.sum(np.square(varied[:, -3:-1].real) + np.square(varied[:, -3:-1].imag), axis=1)
        columns[:, -3:-1] *= -1.0  # a place to the right takes the image with it
        columns[:, -1] *= np.float32(shape.diffusion_px)
        return np.asarray(columns, dtype=np.float32)

    def _sampled(self, fine: Batch, shape: Shape, at: Sampling) -> Batch:
        """Sample fine images (B, V, F, F) with pixels: (B, L, V, O, O)."""
        return at.sampled(fine, self.fine_px, shape.xy_px, shape.diffusion_px)
