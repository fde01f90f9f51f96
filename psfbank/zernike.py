"""Zernike terms, pupils, and the effective PSF that a wavefront gives; the only importer of prysm.

Pupil coordinates are (x, y) in units of the pupil radius, x right and y down like the image's, so that an OPD rising
towards +x moves the image towards +x. Terms are orthonormal (RMS one over the full circle); OPD is in nm.
"""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt
from scipy.special import erf

from psfbank.arrays import ComplexArray, FloatArray, IntArray


def _prysm_polynomials() -> ModuleType:
    # prysm 0.21.1 asks setuptools' pkg_resources for its own version; setuptools 82 dropped that module, and
    # environments made by uv or Python >= 3.12 hold no setuptools at all. It is lent just for the import.
    lent = "pkg_resources" not in sys.modules
    if lent:
        stand_in = ModuleType("pkg_resources")
        stand_in.get_distribution = importlib.metadata.distribution  # type: ignore[attr-defined]
        sys.modules["pkg_resources"] = stand_in
    try:
        from prysm import polynomials
    finally:
        if lent:
            del sys.modules["pkg_resources"]
    return polynomials  # type: ignore[no-any-return]


_polynomials = _prysm_polynomials()


def noll_terms(first: int, last: int) -> npt.NDArray[np.int32]:
    """(n, m) of Noll's terms `first` to `last`, both included: (J, 2) int32. Noll, JOSA 66, 207 (1976)."""
    return np.array([_polynomials.noll_to_nm(j) for j in range(first, last + 1)], dtype=np.int32)


@dataclass(frozen=True)
class Pupil:
    """A square grid over the pupil: `x`, `y` (P, P) in pupil radii, odd P, and the step between samples."""

    x: FloatArray
    y: FloatArray
    step: float

    @classmethod
    def of(cls, samples: int) -> Pupil:
        """Make a grid of `samples` (odd) points a side that spans the unit circle and half a step around it."""
        if samples % 2 == 0:
            raise ValueError(f"`samples` must be odd, or symmetric aberrations give skewed PSFs; got {samples}")
        step = 2.0 / (samples - 1)
        axis = np.linspace(-1.0, 1.0, samples)
        x, y = np.meshgrid(axis, axis)
        return cls(x, y, step)

    def circle(
        self, centre_x: npt.ArrayLike = 0.0, centre_y: npt.ArrayLike = 0.0, radius: npt.ArrayLike = 1.0
    ) -> FloatArray:
        """Transmission (..., P, P) of a circular stop, its edge graded over one step so that it moves smoothly."""
        dx = self.x - np.asarray(centre_x)[..., None, None]
        dy = self.y - np.asarray(centre_y)[..., None, None]
        inside = np.asarray(radius)[..., None, None] - np.hypot(dx, dy)
        return np.asarray(np.clip(inside / self.step + 0.5, 0.0, 1.0))

    def basis(self, nm: IntArray) -> npt.NDArray[np.float64]:
        """Zernike terms (J, P, P) for a table of (n, m); zero farther out than the graded edge of the circle."""
        radius, angle = np.hypot(self.x, self.y), np.arctan2(self.y, self.x)
        inside = radius <= 1.0 + self.step
        terms = [_polynomials.zernike_nm(int(n), int(m), radius, angle, norm=True) for n, m in nm]
        return np.asarray([np.where(inside, t, 0.0) for t in terms])


def fourier_matrix(pupil: Pupil, x_um: FloatArray, wavelength_nm: float, f_number: float) -> ComplexArray:
    """Kernel (X, P) of the separable transform from a pupil to the image plane (a matrix Fourier transform).

    Soummer et al., Optics Express 15, 15935 (2007): U = E A E^T with E = exp(-2 pi i x p / (2 lambda N)).
    """
    axis = pupil.x[0]
    phase = -np.pi * np.outer(x_um, axis) / (wavelength_nm * 1e-3 * f_number)
    return np.asarray(np.exp(1j * phase))


def pixel_response(x_px: FloatArray, diffusion_px: float) -> npt.NDArray[np.float64]:
    """Response of a pixel to light at a distance: a unit box blurred by a Gaussian of sigma `diffusion_px`."""
    scale = np.sqrt(2.0) * max(diffusion_px, 1e-3)
    return np.asarray(0.5 * (erf((x_px + 0.5) / scale) - erf((x_px - 0.5) / scale)))


def pixel_matrix(out_px: FloatArray, fine_px: FloatArray, diffusion_px: float) -> npt.NDArray[np.float64]:
    """Matrix (O, F) that samples a fine image with pixels: integrates over the aperture and the diffusion."""
    step = fine_px[1] - fine_px[0]
    return np.asarray(pixel_response(out_px[:, None] - fine_px[None], diffusion_px) * step)


def fine_grid(half_px: float, f_number: float, pitch_um: float, shortest_nm: float) -> npt.NDArray[np.float64]:
    """Positions (F,), px, odd count, fine enough that sampling the optical image with pixels is exact quadrature.

    The image holds nothing above 1 / (lambda N); the pixel's response is small above 1.25 cycles/pixel. The sum of
    both must stay below the sampling rate.
    """
    cutoff_cpp = pitch_um / (shortest_nm * 1e-3 * f_number)
    oversample = max(3, int(np.ceil(cutoff_cpp + 1.25)))
    count = int(np.ceil(half_px * oversample))
    return np.arange(-count, count + 1) / oversample


def enough_samples(least: int, half_px: float, f_number: float, pitch_um: float, shortest_nm: float) -> int:
    """Count of pupil samples a side, odd, at least `least`, that keeps replicas out of a window of `half_px`.

    A grid of P points makes the image periodic with (P - 1) lambda N; the nearest replica has to lie half a window
    beyond the window's edge. Large pixels behind a fast lens need many points.
    """
    intervals = 1.5 * half_px * pitch_um / (shortest_nm * 1e-3 * f_number)
    return max(least, 2 * int(np.ceil(intervals / 2)) + 1)


def optical_image(
    amplitude: FloatArray, opd_nm: FloatArray, transform: ComplexArray, wavelength_nm: float
) -> tuple[ComplexArray, FloatArray]:
    """Field and intensity of a point's image.

    Parameters
    ----------
    amplitude, opd_nm : (..., P, P) float
        Pupil transmission, and optical path difference in nm.
    transform : (F, P) complex
        From `fourier_matrix`.
    wavelength_nm : float

    Returns
    -------
    field, intensity : (..., F, F)
        Not normalised.
    """
    pupil_field = amplitude * np.exp(complex(0.0, 2.0 * np.pi / wavelength_nm) * opd_nm)
    field = transform @ pupil_field @ transform.T
    return field, np.square(field.real) + np.square(field.imag)


@dataclass(frozen=True, eq=False)
class Imager:
    """Turns wavefronts into images of points on a grid finer than the pixel: one pupil, one spectrum.

    `basis` (J, P, P) and `aperture` (P, P) lie on `pupil`; `transforms` (W, F, P) lead from there to `fine_px` (F,),
    one for each of `wavelengths_nm` (W,), which count by their `weights` (W,).
    """

    pupil: Pupil
    basis: FloatArray
    aperture: FloatArray
    fine_px: FloatArray
    wavelengths_nm: FloatArray
    weights: FloatArray
    transforms: ComplexArray

    @classmethod
    def of(
        cls,
        nm: IntArray,
        *,
        wavelengths_nm: FloatArray,
        weights: FloatArray,
        f_number: float,
        pitch_um: float,
        half_px: float,
        samples: int,
    ) -> Imager:
        """Prepare images that reach `half_px` pixels to each side; `samples` (odd) of the pupil a side, or more."""
        shortest_nm = float(np.min(wavelengths_nm))
        pupil = Pupil.of(enough_samples(samples, half_px, f_number, pitch_um, shortest_nm))
        fine_px = fine_grid(half_px, f_number, pitch_um, shortest_nm)
        transforms = [fourier_matrix(pupil, fine_px * pitch_um, float(w), f_number) for w in wavelengths_nm]
        return cls(pupil, pupil.basis(nm), pupil.circle(), fine_px, wavelengths_nm, weights, np.array(transforms))

    def fine_image(
        self, coefficients_nm: FloatArray, clip: tuple[float, float, float] | None = None
    ) -> npt.NDArray[np.float64]:
        """Optical image (F, F), not normalised, of coefficients (J,) or (W, J) behind a second stop (x, y, radius)."""
        amplitude = self.aperture * (1.0 if clip is None else self.pupil.circle(*clip))
        opd_nm = np.broadcast_to(
            np.tensordot(coefficients_nm, self.basis, axes=1), (len(self.wavelengths_nm), *self.aperture.shape)
        )
        image = np.zeros((len(self.fine_px), len(self.fine_px)))
        spectrum = zip(opd_nm, self.transforms, self.wavelengths_nm, self.weights, strict=True)
        for opd, transform, wavelength, weight in spectrum:
            # a unit of light spreads over an area that grows with the wavelength squared
            image += weight / wavelength**2 * optical_image(amplitude, opd, transform, float(wavelength))[1]
        return image


def effective_psf(
    coefficients_nm: FloatArray,
    nm: IntArray,
    *,
    wavelengths_nm: FloatArray,
    weights: FloatArray,
    f_number: float,
    pitch_um: float,
    half_px: int,
    oversample: int = 1,
    diffusion_px: float = 0.0,
    clip: tuple[float, float, float] | None = None,
    samples: int = 65,
) -> npt.NDArray[np.float64]:
    """Effective PSF of a wavefront: optics, pixel aperture and charge diffusion, several wavelengths.

    Parameters
    ----------
    coefficients_nm : (J,) or (W, J) float
        Zernike coefficients, nm RMS; a row a wavelength when they differ (axial colour).
    nm : (J, 2) int
        The (n, m) of each coefficient.
    wavelengths_nm, weights : (W,) float
        Spectrum of the channel; the weights need not sum to one.
    f_number, pitch_um : float
    half_px : int
        Half width of the result, pixels.
    oversample : int
        Samples a pixel.
    diffusion_px : float
        Sigma of the charge diffusion.
    clip : (centre_x, centre_y, radius), optional
        A second stop in pupil radii that cuts the pupil off axis.
    samples : int
        Pupil samples a side, odd; more are taken where a large window needs them.

    Returns
    -------
    (k, k) float64
        k = 2 half_px oversample + 1; sums to one. Not centred: coma displaces the centroid.
    """
    imager = Imager.of(
        nm,
        wavelengths_nm=wavelengths_nm,
        weights=weights,
        f_number=f_number,
        pitch_um=pitch_um,
        half_px=half_px + 2.0,
        samples=samples,
    )
    out_px = np.arange(-half_px * oversample, half_px * oversample + 1) / oversample
    sampling = pixel_matrix(out_px, imager.fine_px, diffusion_px)
    psf = sampling @ imager.fine_image(coefficients_nm, clip) @ sampling.T
    return np.asarray(psf / psf.sum())


def centroid_px(kernel: FloatArray, oversample: int = 1) -> tuple[float, float]:
    """Intensity centroid (x, y) of a kernel (K, K) about its centre, pixels."""
    axis = (np.arange(kernel.shape[0]) - kernel.shape[0] // 2) / oversample
    total = kernel.sum()
    return float(kernel.sum(0) @ axis / total), float(kernel.sum(1) @ axis / total)
