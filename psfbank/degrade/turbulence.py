"""The air in between: a short exposure through Kolmogorov turbulence, distorted and blurred differently everywhere.

One layer of turbulence is seen through an aperture that wanders over it as the view goes over the field, so all
coefficients have the covariance of Noll (JOSA 66, 207, 1976), and from place to place they change together as those of
overlapping apertures do (Takato and Yamaguchi, JOSA A 12, 958, 1995). The layer is a sum of plane waves drawn over
rings of spatial frequency that widen geometrically (after Charnotskii, JOSA A 30, 479, 2013): no grid of an FFT cuts
off the largest eddies, which hold most of the tilt. A Zernike term sees each wave through its own Fourier transform,
which Noll gives in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import jv

from psfbank.arrays import ComplexArray, FloatArray, IntArray
from psfbank.blur import SpatiallyVaryingBlur
from psfbank.degrade.lens import FIRST_TERM, reach_px, rendering
from psfbank.degrade.stage import Image, admitted, described, require_within
from psfbank.field import cardinal_spline
from psfbank.model import PsfGrid
from psfbank.resample import resample
from psfbank.zernike import noll_terms

KOLMOGOROV = 0.0229  # W = 0.0229 r0^(-5/3) k^(-11/3), rad^2, k in cycles a length (Noll, equation 20)
LOWEST, HIGHEST = 1e-8, 10.0  # cycles an aperture; a hundredth of the tilt's variance is below 5e-7 of the peak's
RINGS, DIRECTIONS = 216, 8
TILT_SPACING, BLUR_SPACING = 0.25, 0.5  # of the nodes, in apertures


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of turbulence at D / r0 = 1: plane waves `frequency` (M, 2), cycles an aperture, `amplitude` (M,) rad."""

    frequency: FloatArray
    amplitude: ComplexArray

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Layer:
        """Draw a layer: in every ring a direction at random in each sector, amplitudes complex normal."""
        edges = np.geomspace(LOWEST, HIGHEST, RINGS + 1)
        # the ring's variance, integral of W 2 pi k dk, shared by its sectors; a real wave has half of |amplitude|^2
        variance = 2 * np.pi * KOLMOGOROV * (edges[:-1] ** (-5 / 3) - edges[1:] ** (-5 / 3)) / (5 / 3) / DIRECTIONS
        angle = np.pi * (np.arange(DIRECTIONS) + rng.random((RINGS, DIRECTIONS))) / DIRECTIONS
        radius = edges[:-1, None] * (edges[1:] / edges[:-1])[:, None] ** rng.random((RINGS, DIRECTIONS))
        normal = rng.standard_normal((2, RINGS, DIRECTIONS))
        amplitude = (normal[0] + 1j * normal[1]) * np.sqrt(variance)[:, None]
        # within a ring W 2 pi k dk goes as k^(-5/3) d(log k): frequencies are uniform in log k, so weigh them so
        mean = (edges[:-1] ** (-5 / 3) - edges[1:] ** (-5 / 3)) / (5 / 3) / np.log(edges[1:] / edges[:-1])
        amplitude = amplitude * np.sqrt(radius ** (-5 / 3) / mean[:, None])
        frequency = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
        return cls(frequency.reshape(-1, 2), amplitude.ravel())

    def coefficients(self, nm: IntArray, x: FloatArray, y: FloatArray) -> npt.NDArray[np.float64]:
        """Zernike coefficients (Ny, Nx, J), rad RMS, seen by apertures centred at x (Nx,), y (Ny,), in apertures."""
        seen = self.amplitude * zernike_transform(nm, self.frequency / 2)
        across, down = (np.exp(2j * np.pi * np.outer(at, k)) for at, k in zip((x, y), self.frequency.T, strict=True))
        return np.stack([((down * one) @ across.T).real for one in seen], axis=-1)


def zernike_transform(nm: IntArray, frequency: FloatArray) -> npt.NDArray[np.complex128]:
    """Mean over the unit circle of each term times exp(2 pi i k r): (J, M), of frequencies (M, 2) in cycles a radius.

    Noll, equation 8: sqrt(n + 1) J_(n+1)(2 pi k) / (pi k), times (-1)^((n-m)/2) i^m sqrt(2) cos or sin(m angle).
    """
    k, angle = np.hypot(*frequency.T), np.arctan2(frequency[:, 1], frequency[:, 0])
    terms = []
    for n, signed in nm.tolist():
        m = abs(signed)
        around = 1.0 if m == 0 else np.sqrt(2) * (np.cos(m * angle) if signed > 0 else np.sin(m * angle))
        radial = np.sqrt(n + 1) * jv(n + 1, 2 * np.pi * k) / (np.pi * k)
        terms.append((-1) ** ((n - m) // 2) * 1j**m * around * radial)
    return np.array(terms, dtype=np.complex128)


@dataclass(frozen=True)
class Turbulence:
    """Turbulence of strength D / r0 seen by a lens; each picture has air of its own.

    `decorrelation_px` is how far apart points lie in the picture whose light crosses the layer a whole aperture apart.
    f-number, pixel pitch and wavelength say how many pixels a wavefront is worth; every channel has the same, as air
    has hardly any dispersion. Zernike terms from `FIRST_TERM` to `last_term` blur, by effective PSFs at nodes half an
    aperture apart; tilts, Noll's second and third term, displace.
    """

    d_over_r0: float = 3.0
    decorrelation_px: float = 150.0
    wavelength_nm: float = 550.0
    f_number: float = 8.0
    pitch_um: float = 4.0
    last_term: int = 36

    def __post_init__(self) -> None:
        require_within(self, d_over_r0=(0, 50), decorrelation_px=(8, 1e7), last_term=(FIRST_TERM, 200))
        require_within(self, wavelength_nm=(100, 1e5), f_number=(0.3, 200), pitch_um=(0.1, 1000))

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        light = admitted(image)
        height, width = light.shape[:2]
        layer = Layer.drawn(rng)
        # gathered, as radiance is conserved: a bright sky stays bright
        blur = SpatiallyVaryingBlur(self._grid(layer, (height, width)), (height, width), "Y", "gather", workers=1)
        x_px, y_px, displacement = self.displacement_px(layer, (height, width))
        along_x, along_y = cardinal_spline(x_px), cardinal_spline(y_px)

        def positions(y: FloatArray, x: FloatArray) -> FloatArray:
            down, across = along_y(np.clip(y, y_px[0], y_px[-1])), along_x(np.clip(x, x_px[0], x_px[-1]))
            moved = np.einsum("yj,jic,xi->yxc", down, displacement, across, optimize=True)
            return np.asarray(np.stack(np.meshgrid(x, y), axis=-1) - moved)

        planes = light[..., None] if light.ndim == 2 else light
        blurred = (blur.forward(np.ascontiguousarray(planes[..., c])) for c in range(planes.shape[2]))
        out = [resample(plane, positions, (height, width)) for plane in blurred]
        return np.stack(out, axis=-1).reshape(light.shape)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)

    def displacement_px(
        self, layer: Layer, shape: tuple[int, int]
    ) -> tuple[FloatArray, FloatArray, npt.NDArray[np.float64]]:
        """Where the image of each place is moved to: nodes x (Nx,), y (Ny,) px, and displacements (Ny, Nx, 2) px.

        A wavefront a 2 x of Noll's second term moves the image by 4 N a.
        """
        x_px, y_px = self._nodes(shape, TILT_SPACING)
        tilt_nm = self._coefficients_nm(layer, noll_terms(2, 3), x_px, y_px)
        return x_px, y_px, 4 * self.f_number * tilt_nm * 1e-3 / self.pitch_um

    def _grid(self, layer: Layer, shape: tuple[int, int]) -> PsfGrid:
        x_px, y_px = self._nodes(shape, BLUR_SPACING)
        nm = noll_terms(FIRST_TERM, self.last_term)
        coefficients_nm = self._coefficients_nm(layer, nm, x_px, y_px)
        lens = self.wavelength_nm, self.f_number, self.pitch_um
        imager, sampling = rendering(nm, reach_px(coefficients_nm.reshape(-1, len(nm)), nm, *lens), *lens)
        kernels = [[sampling.centred(imager.fine_image(node)) for node in row] for row in coefficients_nm]
        return PsfGrid(x_px, y_px, np.array([kernels]), channels=("Y",))

    def _nodes(self, shape: tuple[int, int], spacing: float) -> tuple[FloatArray, FloatArray]:
        counts = [max(2, int(np.ceil(n / (spacing * self.decorrelation_px))) + 1) for n in shape]
        y_px, x_px = (np.linspace(-0.5, n - 0.5, count) for n, count in zip(shape, counts, strict=True))
        return x_px, y_px

    def _coefficients_nm(
        self, layer: Layer, nm: IntArray, x_px: FloatArray, y_px: FloatArray
    ) -> npt.NDArray[np.float64]:
        radians = layer.coefficients(nm, x_px / self.decorrelation_px, y_px / self.decorrelation_px)
        return np.asarray(radians * (self.d_over_r0 ** (5 / 6) * self.wavelength_nm / (2 * np.pi)))
