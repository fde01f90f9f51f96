"""A phone-like camera made of physics: the truth behind rendered captures when no bank is given.

Nothing in it is random. A wide f/2 lens with barrel distortion, lateral and axial colour and aberrations that grow with
the field about slightly different centres, on 1.4 um pixels with a colour filter array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline
from scipy.ndimage import fourier_shift
from scipy.signal.windows import tukey

from psfbank.arrays import FloatArray
from psfbank.bank import PsfBank
from psfbank.distortion import from_stereographic
from psfbank.field import spline_surface_at
from psfbank.model import Calibration, Camera, DistortionMap, Illumination, NoiseModel, PsfGrid, Setting, ZernikeField
from psfbank.zernike import centroid_px, effective_psf, noll_terms

CHANNELS = ("R", "G", "B")
WAVELENGTHS_NM = np.array([[590.0, 615.0, 640.0], [510.0, 535.0, 560.0], [445.0, 465.0, 485.0]])
WEIGHTS = np.array([0.25, 0.5, 0.25])
AXIAL_COLOUR_NM = (20.0, 0.0, -16.0)  # of defocus, by channel
LATERAL_COLOUR = (0.0007, 0.0, -0.0005)  # of the magnification, by channel
F_NUMBER, PITCH_UM, DIFFUSION_PX, OVERSAMPLE = 2.0, 1.4, 0.27, 3
FOCAL_WIDTHS = 0.83  # focal length in picture widths: 74 degrees across the diagonal of a 4:3 picture
RIPPLE_PX = 0.35
RIM_SHARE = 0.1  # of a kernel's width, in which it fades to nothing on its way to its border
TERMS = noll_terms(4, 11)  # defocus, astigmatism x 2, coma x 2, trefoil x 2, spherical


@dataclass(frozen=True)
class _Layout:
    """Where things are on the sensor, pixels."""

    width: int
    height: int

    @property
    def centre(self) -> npt.NDArray[np.float64]:
        """Principal point, a little off the middle."""
        return np.array([0.506 * self.width, 0.491 * self.height]) - 0.5

    @property
    def focal(self) -> float:
        return FOCAL_WIDTHS * self.width

    def nodes(self, tiles: tuple[int, int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Node positions x, y from border to border for (Ty, Tx) of them."""
        return np.linspace(0, self.width - 1, tiles[1]), np.linspace(0, self.height - 1, tiles[0])


def phone_like(
    width: int = 640, height: int = 480, *, tiles: tuple[int, int] = (7, 9), half_px: int = 10, cfa: str = "RGGB"
) -> PsfBank:
    """Build the camera.

    Parameters
    ----------
    width, height : int
        Pixels; the field of view does not change with them.
    tiles : (Ty, Tx)
        Nodes of PSFs and shading.
    half_px : int
        Half width of the PSFs, pixels.
    cfa : str

    Returns
    -------
    PsfBank
        With PSFs (three samples a pixel), wavefront, distortion, shading and noise.
    """
    layout = _Layout(width, height)
    x_px, y_px = layout.nodes(tiles)
    coefficients = np.array([wavefront_nm(layout, x_px, y_px, axial) for axial in AXIAL_COLOUR_NM])
    kernels, displaced = _kernels(coefficients, half_px)
    calibration = Calibration(
        setting=Setting(focal_mm=round(layout.focal * PITCH_UM * 1e-3, 4), f_number=F_NUMBER, iso=100.0),
        psf_grid=PsfGrid(x_px, y_px, kernels, OVERSAMPLE),
        wavefront=ZernikeField(
            x_px, y_px, coefficients, np.zeros_like(coefficients), TERMS,
            WAVELENGTHS_NM[:, 1], F_NUMBER, np.zeros(coefficients.shape[:3]),
        ),
        distortion=_distortion(layout, x_px, y_px, displaced),
        illumination=_illumination(layout, x_px, y_px),
        noise=_noise(),
        provenance={"made_by": "calib.synth_camera.phone_like"},
    )  # fmt: skip
    camera = Camera("psfbank", "phone-like", (height, width), cfa, lens="f/2 wide", pitch_um=PITCH_UM)
    return PsfBank(camera, (calibration,))


def wavefront_nm(layout: _Layout, x_px: FloatArray, y_px: FloatArray, axial_nm: float) -> npt.NDArray[np.float64]:
    """Zernike coefficients (Ty, Tx, J), nm RMS: Seidel's dependence on the field, each term about its own centre.

    The centres of astigmatism, coma and field curvature part when elements are decentred: nodal aberration theory,
    Thompson, JOSA A 22, 1389 (2005), to its first order.
    """
    half_diagonal = np.hypot(layout.width, layout.height) / 2
    hx, hy = (v / half_diagonal for v in np.meshgrid(x_px - layout.centre[0], y_px - layout.centre[1]))
    h2 = hx**2 + hy**2
    defocus = axial_nm - 14 + 62 * ((hx - 0.08) ** 2 + (hy + 0.05) ** 2) - 26 * h2**2 + 7 * hx
    astigmatism = 92 * (hx + 0.06 + 1j * (hy - 0.04)) ** 2
    coma = (28 + 42 * h2) * (hx - 0.05 + 1j * (hy - 0.07))
    trefoil = 16 * (hx + 1j * hy) ** 3
    by_term = {
        (2, 0): defocus,
        (2, 2): astigmatism.real,
        (2, -2): astigmatism.imag,
        (3, 1): coma.real,
        (3, -1): coma.imag,
        (3, 3): trefoil.real,
        (3, -3): trefoil.imag,
        (4, 0): 15 + 9 * h2,
    }
    return np.stack([by_term[int(n), int(m)] for n, m in TERMS], axis=-1)


def _kernels(coefficients_nm: FloatArray, half_px: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centred kernels (C, Ty, Tx, K, K) and the displacements (C, Ty, Tx, 2), px, that were taken out of them."""
    size = 2 * half_px * OVERSAMPLE + 1
    kernels = np.empty((*coefficients_nm.shape[:3], size, size))
    displaced = np.empty((*coefficients_nm.shape[:3], 2))
    for at in np.ndindex(coefficients_nm.shape[:3]):
        psf = effective_psf(
            coefficients_nm[at], TERMS, wavelengths_nm=WAVELENGTHS_NM[at[0]], weights=WEIGHTS, f_number=F_NUMBER,
            pitch_um=PITCH_UM, half_px=half_px + 2, oversample=OVERSAMPLE, diffusion_px=DIFFUSION_PX,
        )  # fmt: skip
        kernels[at], displaced[at] = centred(psf, 2 * OVERSAMPLE, OVERSAMPLE)
    return kernels, displaced


def centred(psf: FloatArray, trim: int, oversample: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Move a PSF until what is left after trimming and fading its rim has its centroid at the centre.

    A kernel that ended in a step would hold frequencies that no lens passes.

    Parameters
    ----------
    psf : (k, k) float
        Sampled finely enough for a Fourier shift.
    trim : int
        Samples cut from each side.
    oversample : int
        Samples a pixel.

    Returns
    -------
    kernel : (k - 2 trim,) * 2 float64
        Sums to one, not negative.
    displacement_px : (2,) float64
        Where its centroid was, (x, y).
    """
    spectrum = np.fft.fft2(psf)
    displacement = np.zeros(2)
    kernel = psf
    rim = tukey(len(psf) - 2 * trim, RIM_SHARE)
    fade = np.outer(rim, rim)
    for _ in range(6):  # the cut moves the centroid a little: a contraction
        moved = fourier_shift(spectrum, -displacement[::-1] * oversample)
        kernel = np.maximum(np.fft.ifft2(moved).real[trim:-trim, trim:-trim], 0.0) * fade
        displacement += centroid_px(kernel, oversample)
    return kernel / kernel.sum(), displacement


def _ideal_to_distorted(layout: _Layout, rays: FloatArray, channel: int) -> npt.NDArray[np.float64]:
    """Chief rays (N, 2) -> pixels (N, 2): barrel polynomial, lateral colour, decentring and a ripple."""
    r2 = np.sum(np.square(rays), axis=1, keepdims=True)
    magnified = 1.0 + LATERAL_COLOUR[channel] * (1.0 + 1.4 * r2)
    xy = layout.focal * magnified * rays * (1.0 - 0.13 * r2 + 0.032 * r2**2) + layout.centre
    xy += layout.focal * r2 * np.array([0.0006, -0.0009])  # a prism's worth of decentring
    u, v = (2.0 * np.pi * xy / [layout.width, layout.height]).T
    ripple = np.column_stack([np.sin(1.1 * u + 0.4) * np.cos(0.7 * v), np.sin(0.9 * v + 2.0) * np.cos(1.2 * u + 1.0)])
    return np.asarray(xy + RIPPLE_PX * ripple)


def _distortion(layout: _Layout, x_px: FloatArray, y_px: FloatArray, displaced: FloatArray) -> DistortionMap:
    """Fit the spline to the formula plus the PSFs' displacement, by least squares: where centroids land."""
    half_x, half_y = (0.62 * np.array([layout.width, layout.height]) / layout.focal).tolist()
    knots_x, knots_y = _uniform_knots(half_x, 16), _uniform_knots(half_y, 13)
    ux, uy = np.linspace(-half_x, half_x, 90), np.linspace(-half_y, half_y, 72)
    u = np.stack(np.meshgrid(ux, uy), axis=-1).reshape(-1, 2)
    # a tensor grid of samples: the normal equations separate into one pseudo-inverse an axis
    solve_x = np.linalg.pinv(BSpline.design_matrix(ux, knots_x, 3).toarray())
    solve_y = np.linalg.pinv(BSpline.design_matrix(uy, knots_y, 3).toarray())
    coefficients = []
    for c in range(len(CHANNELS)):
        xy = _ideal_to_distorted(layout, from_stereographic(u), c)
        rest = xy - (layout.focal * u + layout.centre)
        for axis in range(2):
            move = spline_surface_at(x_px, y_px, displaced[c, ..., axis], xy[:, 0], xy[:, 1])
            coefficients.append(solve_y @ (rest[:, axis] + move).reshape(len(uy), len(ux)) @ solve_x.T)
    right, bottom = layout.width - 1.0, layout.height - 1.0
    return DistortionMap(
        camera_matrix=np.array([[layout.focal, 0, layout.centre[0]], [0, layout.focal, layout.centre[1]], [0, 0, 1]]),
        knots_x=knots_x,
        knots_y=knots_y,
        coefficients=np.reshape(coefficients, (len(CHANNELS), 2, len(knots_y) - 4, len(knots_x) - 4)),
        valid_region=np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]]),
        rms_px=np.zeros(len(CHANNELS)),
    )


def _uniform_knots(half: float, count: int) -> npt.NDArray[np.float64]:
    """Knots of `count` cubic B-splines whose common support is -half .. half."""
    step = 2 * half / (count - 3)
    return np.asarray(-half + step * (np.arange(count + 4) - 3.0))


def _illumination(layout: _Layout, x_px: FloatArray, y_px: FloatArray) -> Illumination:
    """Natural fall-off, cos^4 of the field angle softened by the lens design, about a centre of its own per channel."""
    relative = []
    for shift in (-0.004, 0.0, 0.005):  # microlenses: each colour's peak lies a little elsewhere
        gx, gy = np.meshgrid(x_px - layout.centre[0] - shift * layout.width, y_px - layout.centre[1])
        nodes = (1.0 + (gx**2 + gy**2) / layout.focal**2) ** -1.7
        fine = spline_surface_at(x_px, y_px, nodes, *np.meshgrid(*layout.nodes((241, 321))))
        relative.append(nodes / fine.max())
    return Illumination(x_px, y_px, np.array(relative))


def _noise() -> NoiseModel:
    """Ten bits, 3 800 electrons at full scale."""
    gain, read, dark, prnu, black, white = (
        np.full(len(CHANNELS), value) for value in (0.25, 2.8, 6.0, 0.0, 64.0, 1023.0)
    )
    return NoiseModel(gain, read, dark, prnu, black, white, CHANNELS)
