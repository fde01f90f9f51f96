"""Blur of a lens out of focus, with aberrations, or behind an anti-aliasing filter; the same all over the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from psfbank.arrays import FloatArray, IntArray
from psfbank.degrade import kernels
from psfbank.degrade.stage import Image, admitted, convolved, described, require_within
from psfbank.errors import ImageError
from psfbank.render import MARGIN_PX, PUPIL_SAMPLES, PixelSampling
from psfbank.zernike import Imager, Pupil, noll_terms

FIRST_TERM = 4  # Noll's; one to three are piston and tilt, which blur nothing
RAYS_INSIDE = 0.99  # of the pupil's area; the worst rays come from its very rim
DIFFUSION_PX = 0.25  # sigma of the charge in a pixel; without any, sums over a fine image are no integrals
DIFFRACTION_REACH = 4.0  # lambda N around what geometry says; 95 % of an Airy pattern lie within


@dataclass(frozen=True)
class Defocus:
    """A uniform disc, what geometrical optics makes of a point out of focus behind a round stop."""

    diameter_px: float = 4.0

    def __post_init__(self) -> None:
        require_within(self, diameter_px=(0, 1000))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        return convolved(admitted(image), kernels.disc(self.diameter_px))

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)


@dataclass(frozen=True)
class GaussianBlur:
    """A Gaussian: `sigma_px` along `angle_deg`, from right towards down, and `aspect` times that across it."""

    sigma_px: float = 1.0
    aspect: float = 1.0
    angle_deg: float = 0.0

    def __post_init__(self) -> None:
        require_within(self, sigma_px=(0, 250), aspect=(0, 1), angle_deg=(-360, 360))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        across_px = self.sigma_px * self.aspect
        return convolved(admitted(image), kernels.gaussian(self.sigma_px, across_px, self.angle_deg))

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)


@dataclass(frozen=True)
class OpticalLowPass:
    """The birefringent anti-aliasing filter before a sensor: a point becomes four, `separation_px` apart in x and y.

    Its transfer function is cos(pi d u) cos(pi d v), zero at u = 1 / (2 d) cycles/pixel (Greivenkamp, Applied Optics
    29, 676, 1990), and is applied as such: the cosine transform is the Fourier transform of a picture that goes on as
    its mirror image.
    """

    separation_px: float = 0.8

    def __post_init__(self) -> None:
        require_within(self, separation_px=(0, 100))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        light = admitted(image)
        down, across = (np.cos(np.pi * self.separation_px * np.arange(n) / (2 * n)) for n in light.shape[:2])
        transfer = np.outer(down, across).astype(np.float32).reshape(*light.shape[:2], *(1,) * (light.ndim - 2))
        spectrum = fft.dctn(light, axes=(0, 1))
        return np.asarray(fft.idctn(spectrum * transfer, axes=(0, 1)), dtype=np.float32)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)


@dataclass(frozen=True)
class ZernikeBlur:
    """The effective PSF of a wavefront: coefficients in nm RMS from Noll's fourth term, defocus, on; centred.

    One of `wavelengths_nm` serves all channels; else there is one a channel.
    """

    coefficients_nm: tuple[float, ...] = (80.0,)
    wavelengths_nm: tuple[float, ...] = (550.0,)
    f_number: float = 2.8
    pitch_um: float = 2.0

    def __post_init__(self) -> None:
        require_within(self, coefficients_nm=(-1e5, 1e5), wavelengths_nm=(100, 1e5))
        require_within(self, f_number=(0.3, 200), pitch_um=(0.1, 1000))
        if not self.coefficients_nm or not self.wavelengths_nm:
            raise ValueError("`coefficients_nm` and `wavelengths_nm` of zernike_blur must hold one value at least")

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`; ImageError where channels and wavelengths do not match."""
        light = admitted(image)
        if len(self.wavelengths_nm) == 1:
            return convolved(light, self.kernel())
        if light.ndim == 2 or light.shape[2] != len(self.wavelengths_nm):
            raise ImageError(f"{len(self.wavelengths_nm)} wavelengths of zernike_blur meet a picture {light.shape}")
        blurred = [convolved(light[..., c], self.kernel(c)) for c in range(light.shape[2])]
        return np.stack(blurred, axis=-1)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)

    def kernel(self, channel: int = 0) -> npt.NDArray[np.float64]:
        """Effective PSF (K, K) of a channel: sums to one, centroid at the array centre."""
        nm = noll_terms(FIRST_TERM, FIRST_TERM + len(self.coefficients_nm) - 1)
        coefficients_nm, wavelength_nm = np.array(self.coefficients_nm), self.wavelengths_nm[channel]
        half_px = reach_px(coefficients_nm[None], nm, wavelength_nm, self.f_number, self.pitch_um)
        imager, sampling = rendering(nm, half_px, wavelength_nm, self.f_number, self.pitch_um)
        return sampling.centred(imager.fine_image(coefficients_nm))

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        rms_nm: tuple[float, float] = (20.0, 150.0),
        last_term: int = 15,
        wavelengths_nm: tuple[float, ...] = (550.0,),
        f_number: float = 2.8,
        pitch_um: float = 2.0,
    ) -> ZernikeBlur:
        """Draw a wavefront whose RMS is uniform in a range, its direction among Noll's terms 4 to `last_term` too."""
        direction = rng.standard_normal(max(last_term, FIRST_TERM) - FIRST_TERM + 1)
        drawn = direction * rng.uniform(*rms_nm) / np.linalg.norm(direction)
        return cls(tuple(drawn.tolist()), wavelengths_nm, f_number, pitch_um)


@dataclass(frozen=True)
class RandomZernike:
    """A `ZernikeBlur` of its own for every picture, its wavefront of `rms_nm` drawn over Noll's terms up to a last."""

    rms_nm: float = 80.0
    last_term: int = 15
    wavelengths_nm: tuple[float, ...] = (550.0,)
    f_number: float = 2.8
    pitch_um: float = 2.0

    def __post_init__(self) -> None:
        require_within(self, rms_nm=(0, 1e5), last_term=(FIRST_TERM, 500))
        ZernikeBlur((self.rms_nm,), self.wavelengths_nm, self.f_number, self.pitch_um)  # checks the rest

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        given = self.wavelengths_nm, self.f_number, self.pitch_um
        return ZernikeBlur.random(rng, (self.rms_nm, self.rms_nm), self.last_term, *given)(image, rng)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)


def ray_radii_px(
    coefficients_nm: FloatArray, nm: IntArray, f_number: float, pitch_um: float
) -> npt.NDArray[np.float64]:
    """Distance (N, R) px from the ideal image at which rays over the pupil land, of wavefronts (N, J) of terms `nm`.

    A ray from pupil radius p lands 2 N dW/dp from its ideal place.
    """
    pupil = Pupil.of(PUPIL_SAMPLES)
    within = np.hypot(pupil.x, pupil.y) <= 1
    slopes_nm = np.gradient(np.tensordot(coefficients_nm, pupil.basis(nm), axes=1), pupil.step, axis=(-2, -1))
    return np.asarray(np.hypot(*slopes_nm)[:, within] * (2e-3 * f_number / pitch_um))


def reach_px(coefficients_nm: FloatArray, nm: IntArray, wavelength_nm: float, f_number: float, pitch_um: float) -> int:
    """Half width of kernels that hold what wavefronts (N, J) scatter: nearly all rays, and diffraction around them."""
    diffraction_px = DIFFRACTION_REACH * wavelength_nm * 1e-3 * f_number / pitch_um
    rays_px = np.quantile(ray_radii_px(coefficients_nm, nm, f_number, pitch_um), RAYS_INSIDE, axis=1).max()
    return int(np.ceil(rays_px + diffraction_px)) + 1


def rendering(
    nm: IntArray, half_px: int, wavelength_nm: float, f_number: float, pitch_um: float
) -> tuple[Imager, PixelSampling]:
    """Prepare what turns coefficients (J,) of terms `nm` into kernels that reach `half_px` pixels to each side."""
    imager = Imager.of(
        nm,
        wavelengths_nm=np.array([wavelength_nm]),
        weights=np.ones(1),
        f_number=f_number,
        pitch_um=pitch_um,
        half_px=half_px + MARGIN_PX,
        samples=PUPIL_SAMPLES,
    )
    return imager, PixelSampling.of(2 * half_px + 1, 1, imager.fine_px, DIFFUSION_PX)
