"""Cameras made of physics: the truth behind rendered captures when no bank is given.

`calib.synth_lens` holds their designs. The phone-like one is a wide f/2 lens with barrel distortion, lateral and axial
colour and aberrations that grow with the field about slightly different centres, on 1.4 um pixels with a colour filter
array.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline
from scipy.ndimage import fourier_shift
from scipy.signal.windows import tukey

from calib.synth_lens import PHONE, Layout, LensDesign, ideal_to_distorted, wavefront_nm
from psfbank.arrays import FloatArray
from psfbank.bank import PsfBank
from psfbank.distortion import from_stereographic
from psfbank.field import spline_surface_at
from psfbank.model import Calibration, Camera, DistortionMap, Illumination, NoiseModel, PsfGrid, Setting, ZernikeField
from psfbank.zernike import centroid_px, effective_psf

OVERSAMPLE = 3
RIM_SHARE = 0.1  # of a kernel's width, in which it fades to nothing on its way to its border


def phone_like(
    width: int = 640, height: int = 480, *, tiles: tuple[int, int] = (7, 9), half_px: int = 10, cfa: str = "RGGB"
) -> PsfBank:
    """Build the phone-like camera.

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
    return camera_of(PHONE, width, height, tiles=tiles, half_px=half_px, cfa=cfa)


def camera_of(
    design: LensDesign,
    width: int,
    height: int,
    *,
    tiles: tuple[int, int] = (7, 9),
    half_px: int = 10,
    cfa: str = "RGGB",
) -> PsfBank:
    """Build the camera of any design; parameters as `phone_like`. A monochrome one sees the design's green."""
    layout = Layout(width, height, design.focal_widths)
    camera = Camera("psfbank", design.name, (height, width), cfa, lens=design.lens, pitch_um=design.pitch_um)
    colours, channels = [1] if cfa == "mono" else [0, 1, 2], camera.channels
    nodes_px = layout.nodes(tiles)
    coefficients = {c: wavefront_nm(design, layout, *nodes_px, c) for c in colours}
    kernels, displaced = _kernels(design, layout, nodes_px, coefficients, half_px)
    nm = np.array(list(coefficients.values()))
    mean_nm = np.average(design.wavelengths_nm, axis=1, weights=design.weights)[colours]
    calibration = Calibration(
        setting=Setting(focal_mm=round(layout.focal * design.pitch_um * 1e-3, 4), f_number=design.f_number, iso=100.0),
        psf_grid=PsfGrid(*nodes_px, kernels, OVERSAMPLE, channels=channels),
        wavefront=ZernikeField(
            *nodes_px, nm, np.zeros_like(nm), design.terms, mean_nm, design.f_number, np.zeros(nm.shape[:3]), channels
        ),
        distortion=_distortion(design, layout, nodes_px, dict(zip(colours, displaced, strict=True)), channels),
        illumination=_illumination(layout, nodes_px, channels),
        noise=_noise(design, channels),
        provenance={"made_by": f"calib.synth_camera.{design.name.replace('-', '_')}"},
    )
    return PsfBank(camera, (calibration,))


def _kernels(
    design: LensDesign,
    layout: Layout,
    nodes_px: tuple[FloatArray, FloatArray],
    coefficients_nm: Mapping[int, FloatArray],
    half_px: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centred kernels (C, Ty, Tx, K, K) and the displacements (C, Ty, Tx, 2), px, that were taken out of them."""
    hx, hy = layout.field(*nodes_px)
    size = 2 * half_px * OVERSAMPLE + 1
    kernels = np.empty((len(coefficients_nm), *hx.shape, size, size))
    displaced = np.empty((len(coefficients_nm), *hx.shape, 2))
    for c, (colour, by_node) in enumerate(coefficients_nm.items()):
        for at in np.ndindex(hx.shape):
            stop = float(design.clip_gain * hx[at]), float(design.clip_gain * hy[at]), design.clip_radius
            psf = effective_psf(
                by_node[at], design.terms, wavelengths_nm=np.array(design.wavelengths_nm[colour]),
                weights=np.array(design.weights), f_number=design.f_number, pitch_um=design.pitch_um,
                half_px=half_px + 2, oversample=OVERSAMPLE, diffusion_px=design.diffusion_px,
                clip=stop if design.clip_gain else None,
            )  # fmt: skip
            kernels[c][at], displaced[c][at] = centred(psf, 2 * OVERSAMPLE, OVERSAMPLE)
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


def _distortion(
    design: LensDesign,
    layout: Layout,
    nodes_px: tuple[FloatArray, FloatArray],
    displaced: Mapping[int, FloatArray],
    channels: tuple[str, ...],
) -> DistortionMap:
    """Fit the spline to the formula plus the PSFs' displacement, by least squares: where centroids land."""
    half_x, half_y = (0.62 * np.array([layout.width, layout.height]) / layout.focal).tolist()
    knots_x, knots_y = _uniform_knots(half_x, 16), _uniform_knots(half_y, 13)
    ux, uy = np.linspace(-half_x, half_x, 90), np.linspace(-half_y, half_y, 72)
    u = np.stack(np.meshgrid(ux, uy), axis=-1).reshape(-1, 2)
    # a tensor grid of samples: the normal equations separate into one pseudo-inverse an axis
    solve_x = np.linalg.pinv(BSpline.design_matrix(ux, knots_x, 3).toarray())
    solve_y = np.linalg.pinv(BSpline.design_matrix(uy, knots_y, 3).toarray())
    coefficients = []
    for colour, moved_px in displaced.items():
        xy = ideal_to_distorted(design, layout, from_stereographic(u), colour)
        rest = xy - (layout.focal * u + layout.centre)
        for axis in range(2):
            move = spline_surface_at(*nodes_px, moved_px[..., axis], xy[:, 0], xy[:, 1])
            coefficients.append(solve_y @ (rest[:, axis] + move).reshape(len(uy), len(ux)) @ solve_x.T)
    right, bottom = layout.width - 1.0, layout.height - 1.0
    return DistortionMap(
        camera_matrix=np.array([[layout.focal, 0, layout.centre[0]], [0, layout.focal, layout.centre[1]], [0, 0, 1]]),
        knots_x=knots_x,
        knots_y=knots_y,
        coefficients=np.reshape(coefficients, (len(channels), 2, len(knots_y) - 4, len(knots_x) - 4)),
        valid_region=np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]]),
        rms_px=np.zeros(len(channels)),
        channels=channels,
    )


def _uniform_knots(half: float, count: int) -> npt.NDArray[np.float64]:
    """Knots of `count` cubic B-splines whose common support is -half .. half."""
    step = 2 * half / (count - 3)
    return np.asarray(-half + step * (np.arange(count + 4) - 3.0))


def _illumination(layout: Layout, nodes_px: tuple[FloatArray, FloatArray], channels: tuple[str, ...]) -> Illumination:
    """Natural fall-off, cos^4 of the field angle softened by the lens design, about a centre of its own per channel."""
    x_px, y_px = nodes_px
    relative = []
    for shift in (-0.004, 0.0, 0.005)[: len(channels)]:  # microlenses: each colour's peak lies a little elsewhere
        gx, gy = np.meshgrid(x_px - layout.centre[0] - shift * layout.width, y_px - layout.centre[1])
        nodes = (1.0 + (gx**2 + gy**2) / layout.focal**2) ** -1.7
        fine = spline_surface_at(x_px, y_px, nodes, *np.meshgrid(*layout.nodes((241, 321))))
        relative.append(nodes / fine.max())
    return Illumination(x_px, y_px, np.array(relative), channels)


def _noise(design: LensDesign, channels: tuple[str, ...]) -> NoiseModel:
    """Alike in all channels; six electrons a second of dark current, every pixel equally sensitive."""
    values = design.gain_dn_per_e, design.read_noise_e, 6.0, 0.0, design.black_dn, design.white_dn
    gain, read, dark, prnu, black, white = (np.full(len(channels), value) for value in values)
    return NoiseModel(gain, read, dark, prnu, black, white, channels)
