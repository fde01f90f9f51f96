"""Lens designs made of physics, each the numbers of one camera; nothing in them is random.

A design says how the wavefront, the stop, the distortion and the colour errors depend on the place in the picture.
`calib.synth_camera` turns one into a camera.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.zernike import noll_terms

RIPPLE = ((1.1, 0.4, 0.7, 0.0), (0.9, 2.0, 1.2, 1.0))  # of x and y: cycles and phase along each axis


@dataclass(frozen=True)
class Spot:
    """A patch of the field where a free-form surface is worse than its neighbourhood, with a short transition.

    `centre` in picture widths and heights, `radius_px`, and what it adds to the wavefront: ((n, m), nm) pairs.
    """

    centre: tuple[float, float]
    radius_px: float
    added_nm: tuple[tuple[tuple[int, int], float], ...]

    def strength(self, layout: Layout, x_px: FloatArray, y_px: FloatArray) -> npt.NDArray[np.float64]:
        """Weight 0 to 1 at the nodes (Ty, Tx): a super-Gaussian, 0.9 to 0.1 in a third of the radius."""
        x, y = np.meshgrid(x_px - self.centre[0] * layout.width, y_px - self.centre[1] * layout.height)
        return np.asarray(np.exp(-np.log(2.0) * (np.hypot(x, y) / self.radius_px) ** 8))


@dataclass(frozen=True)
class LensDesign:
    """The numbers of a camera; colours are R, G, B. The defaults are the phone-like camera's.

    A wavefront's amplitudes are nm RMS where the field is one half diagonal high. `axial_colour_nm` is of defocus;
    `lateral_colour` of the magnification; `radial` holds the distortion's r^2 and r^4 coefficients (r = tan of the
    field angle; negative is barrel); `clip_gain` moves a second stop of `clip_radius` across the pupil, in pupil
    radii a half diagonal (0: no such stop); `higher_nm` adds terms by (n, m) that grow as the field's |m|-th power;
    `wavefront_gain` scales all but the axial colour.
    """

    name: str = "phone-like"
    lens: str = "f/2 wide"
    f_number: float = 2.0
    pitch_um: float = 1.4
    focal_widths: float = 0.83  # focal length in picture widths: 74 degrees across the diagonal of a 4:3 picture
    radial: tuple[float, float] = (-0.13, 0.032)
    ripple_px: float = 0.35
    wavelengths_nm: tuple[tuple[float, ...], ...] = (
        (590.0, 615.0, 640.0),
        (510.0, 535.0, 560.0),
        (445.0, 465.0, 485.0),
    )
    weights: tuple[float, ...] = (0.25, 0.5, 0.25)
    axial_colour_nm: tuple[float, ...] = (20.0, 0.0, -16.0)
    lateral_colour: tuple[float, ...] = (0.0007, 0.0, -0.0005)
    defocus_nm: tuple[float, float, float, float] = (-14.0, 62.0, -26.0, 7.0)  # constant, curvature, its square, tilt
    astigmatism_nm: float = 92.0
    coma_nm: tuple[float, float] = (28.0, 42.0)
    trefoil_nm: float = 16.0
    spherical_nm: tuple[float, float] = (15.0, 9.0)
    higher_nm: tuple[tuple[tuple[int, int], float], ...] = ()
    wavefront_gain: float = 1.0
    last_noll: int = 11
    clip_gain: float = 0.0
    clip_radius: float = 1.1
    diffusion_px: float = 0.27
    gain_dn_per_e: float = 0.25
    read_noise_e: float = 2.8
    black_dn: float = 64.0
    white_dn: float = 1023.0
    spot: Spot | None = None

    @property
    def terms(self) -> npt.NDArray[np.int32]:
        """(n, m) of the wavefront's terms: Noll's 4, defocus, to `last_noll`."""
        return noll_terms(4, self.last_noll)


PHONE = LensDesign()
TELE = LensDesign(
    name="tele-like", lens="f/2.8 tele", f_number=2.8, pitch_um=2.4, focal_widths=1.8, radial=(0.24, -0.1),
    axial_colour_nm=(34.0, 0.0, 26.0), lateral_colour=(-0.0009, 0.0, 0.0011), defocus_nm=(22.0, -80.0, 30.0, -9.0),
    astigmatism_nm=-120.0, coma_nm=(-45.0, -60.0), trefoil_nm=30.0, spherical_nm=(-40.0, -15.0), clip_gain=0.22,
    diffusion_px=0.2, gain_dn_per_e=0.6, read_noise_e=3.5, black_dn=256.0, white_dn=4095.0,
)  # fmt: skip
WIDE = LensDesign(
    name="wide-like", lens="f/1.8 wide", f_number=1.8, pitch_um=1.0, focal_widths=0.866, radial=(-0.2, 0.05),
    axial_colour_nm=(28.0, 0.0, -24.0), lateral_colour=(0.0011, 0.0, -0.0008), defocus_nm=(10.0, 95.0, -50.0, 12.0),
    astigmatism_nm=110.0, coma_nm=(20.0, 70.0), trefoil_nm=35.0, spherical_nm=(25.0, 20.0),
    higher_nm=(((4, 2), 22.0), ((5, 1), 14.0), ((4, 4), 10.0)), last_noll=17, clip_gain=-0.3, diffusion_px=0.33,
    gain_dn_per_e=0.4, read_noise_e=1.9,
)  # fmt: skip
DESIGNS = {"phone": PHONE, "tele": TELE, "wide": WIDE}
SPOT = Spot((0.36, 0.62), 90.0, (((2, 0), 45.0), ((2, 2), -50.0), ((3, -1), 35.0)))


def with_spot(design: LensDesign) -> LensDesign:
    """Return the design with a local spot of another quality."""
    return replace(design, spot=SPOT)


@dataclass(frozen=True)
class Layout:
    """Where things are on the sensor, pixels."""

    width: int
    height: int
    focal_widths: float

    @property
    def centre(self) -> npt.NDArray[np.float64]:
        """Principal point, a little off the middle."""
        return np.array([0.506 * self.width, 0.491 * self.height]) - 0.5

    @property
    def focal(self) -> float:
        """Focal length, pixels."""
        return self.focal_widths * self.width

    def nodes(self, tiles: tuple[int, int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Node positions x, y from border to border for (Ty, Tx) of them."""
        return np.linspace(0, self.width - 1, tiles[1]), np.linspace(0, self.height - 1, tiles[0])

    def field(self, x_px: FloatArray, y_px: FloatArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Field position (Ty, Tx) twice, in half diagonals from the principal point."""
        half_diagonal = np.hypot(self.width, self.height) / 2
        hx, hy = (v / half_diagonal for v in np.meshgrid(x_px - self.centre[0], y_px - self.centre[1]))
        return hx, hy


def wavefront_nm(
    design: LensDesign, layout: Layout, x_px: FloatArray, y_px: FloatArray, channel: int
) -> npt.NDArray[np.float64]:
    """Zernike coefficients (Ty, Tx, J), nm RMS: Seidel's dependence on the field, each term about its own centre.

    The centres of astigmatism, coma and field curvature part when elements are decentred: nodal aberration theory,
    Thompson, JOSA A 22, 1389 (2005), to its first order.
    """
    hx, hy = layout.field(x_px, y_px)
    h2 = hx**2 + hy**2
    astigmatism = design.astigmatism_nm * (hx + 0.06 + 1j * (hy - 0.04)) ** 2
    coma = (design.coma_nm[0] + design.coma_nm[1] * h2) * (hx - 0.05 + 1j * (hy - 0.07))
    trefoil = design.trefoil_nm * (hx + 1j * hy) ** 3
    by_term = {
        (2, 2): astigmatism.real,
        (2, -2): astigmatism.imag,
        (3, 1): coma.real,
        (3, -1): coma.imag,
        (3, 3): trefoil.real,
        (3, -3): trefoil.imag,
        (4, 0): design.spherical_nm[0] + design.spherical_nm[1] * h2,
    }
    for (n, m), amplitude in design.higher_nm:
        turned = amplitude * (hx + 1j * hy) ** m
        by_term[n, m], by_term[n, -m] = turned.real, turned.imag
    by_term = {nm: design.wavefront_gain * value for nm, value in by_term.items()}
    constant, curvature, fourth, tilt = (design.wavefront_gain * amplitude for amplitude in design.defocus_nm)
    focus = design.axial_colour_nm[channel] + constant
    by_term[2, 0] = focus + curvature * ((hx - 0.08) ** 2 + (hy + 0.05) ** 2) + fourth * h2**2 + tilt * hx
    if design.spot is not None:
        strength = design.spot.strength(layout, x_px, y_px)
        for nm, amplitude in design.spot.added_nm:
            by_term[nm] = by_term.get(nm, 0.0) + amplitude * strength
    return np.stack([by_term.get((int(n), int(m)), np.zeros_like(h2)) for n, m in design.terms], axis=-1)


def ideal_to_distorted(design: LensDesign, layout: Layout, rays: FloatArray, channel: int) -> npt.NDArray[np.float64]:
    """Chief rays (N, 2) -> pixels (N, 2): radial polynomial, lateral colour, decentring and a ripple."""
    r2 = np.sum(np.square(rays), axis=1, keepdims=True)
    magnified = 1.0 + design.lateral_colour[channel] * (1.0 + 1.4 * r2)
    xy = layout.focal * magnified * rays * (1.0 + design.radial[0] * r2 + design.radial[1] * r2**2) + layout.centre
    xy += layout.focal * r2 * np.array([0.0006, -0.0009])  # a prism's worth of decentring
    u, v = (2.0 * np.pi * xy / [layout.width, layout.height]).T
    (fx, px, gx, qx), (fy, py, gy, qy) = RIPPLE
    ripple = np.column_stack([np.sin(fx * u + px) * np.cos(gx * v + qx), np.sin(fy * v + py) * np.cos(gy * u + qy)])
    return np.asarray(xy + design.ripple_px * ripple)
