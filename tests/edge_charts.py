"""Slanted edges and dark squares in closed form: Gaussian optics and, where wanted, a square pixel, of known OTF.

Along the normal of an edge at an angle a square pixel is a box of |cos| convolved with one of |sin|: its share of the
OTF is sinc(f cos) sinc(f sin), and the edge spread function is the normal density's third integral, differenced over
both boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr

from calib.edge import Edge
from calib.edge.trunk import Profile

LEAST_BOX = 1e-3  # an edge along the rows or columns sees a pixel of one box: the other may not be nought
PIXELS = 6  # behind each sample of a profile

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Blur:
    """A Gaussian of this sigma, seen by square pixels that fill their pitch or by points."""

    sigma_px: float
    pixel: bool = False

    def esf(self, x_px: Array, angle_rad: float) -> Array:
        if not self.pixel:
            return np.asarray(ndtr(x_px / self.sigma_px))
        one, other = boxes(angle_rad)
        return sum(
            a * b * third_integral(x_px + a * one / 2 + b * other / 2, self.sigma_px) for a in (-1, 1) for b in (-1, 1)
        ) / (one * other)

    def otf(self, freq_cpp: Array, angle_rad: float) -> Array:
        optics = np.exp(-2 * (np.pi * self.sigma_px * freq_cpp) ** 2)
        one, other = boxes(angle_rad) if self.pixel else (0.0, 0.0)
        return np.asarray(optics * np.sinc(one * freq_cpp) * np.sinc(other * freq_cpp))

    def mtf50_cpp(self, angle_rad: float) -> float:
        return float(brentq(lambda f: self.otf(f, angle_rad) - 0.5, 1e-4, 0.99, xtol=1e-12))


def boxes(angle_rad: float) -> tuple[float, float]:
    return max(abs(np.cos(angle_rad)), LEAST_BOX), max(abs(np.sin(angle_rad)), LEAST_BOX)


def third_integral(x: Array, sigma: float) -> Array:
    """Integrate the normal density three times."""
    density = np.exp(-0.5 * (x / sigma) ** 2) / np.sqrt(2 * np.pi)
    return 0.5 * ((x**2 + sigma**2) * ndtr(x / sigma) + sigma * x * density)


def gaussian_px(mtf50_cpp: float) -> float:
    """The width of a Gaussian that halves the contrast at a frequency."""
    return float(np.sqrt(np.log(2) / 2) / (np.pi * mtf50_cpp))


def blur_of(mtf50_cpp: float, angle_rad: float, pixel: bool = True) -> Blur:
    """Gaussian optics that have this MTF50 across an edge, the pixel's part included."""
    if not pixel:
        return Blur(gaussian_px(mtf50_cpp))
    sigma = brentq(lambda s: Blur(s, True).otf(mtf50_cpp, angle_rad) - 0.5, 1e-3, 5 / mtf50_cpp, xtol=1e-14)
    return Blur(float(sigma), True)


def sites(angle_rad: float, middle_px: Array, length_px: float = 80.0, reach_px: float = 30.0) -> tuple[Array, Array]:
    """Places (N, 2) of the sites around an edge through `middle_px`, and their distances (N,) along its normal."""
    half = int(np.hypot(length_px / 2, reach_px)) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1] + np.rint(middle_px)[::-1, None, None]
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    across = cos * (x - middle_px[0]) + sin * (y - middle_px[1])
    along = cos * (y - middle_px[1]) - sin * (x - middle_px[0])
    near = (np.abs(across) < reach_px) & (np.abs(along) < length_px / 2)
    return np.stack([x[near], y[near]], axis=-1), across[near]


def edge_about(middle_px: Array, angle_rad: float, blur_px: float, length_px: float = 80.0) -> Edge:
    """What detection would say of an edge, a little wrong."""
    return Edge(
        xy_px=middle_px + np.array([0.02, -0.03]),
        angle_rad=angle_rad + 1e-3,
        bend_per_px=0.0,
        length_px=length_px,
        contrast=0.7,
        blur_px=1.1 * blur_px,
        sigma_px=0.02,
        sigma_rad=1e-3,
        along_px=np.array([-length_px / 2, length_px / 2]),
        clear_px=np.full(2, 60.0),
    )


def square(size_px: tuple[int, int], middle_px: Array, side_px: float, turn_rad: float, blur: Blur) -> Array:
    """Share of ink (H, W) of a square that is turned: exact where not two of its sides are near."""
    y, x = np.mgrid[: size_px[0], : size_px[1]].astype(float)
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    x, y = x - middle_px[0], y - middle_px[1]
    ink = np.ones(size_px)
    for d in (cos * x + sin * y, cos * y - sin * x):
        ink *= blur.esf(d + side_px / 2, turn_rad) - blur.esf(d - side_px / 2, turn_rad)
    return ink


def profile_of(
    esf: Callable[[Array], Array], noise: float = 0.0, seed: int = 0, places_px: Array | None = None
) -> Profile:
    """Samples of an edge spread function, close at the edge and wider apart beyond, as of several pixels each."""
    x = 3 * np.sinh(np.linspace(-3, 3, 500)) if places_px is None else places_px
    values = esf(x) + np.random.default_rng(seed).normal(0, noise, len(x))
    weight = np.full(len(x), max(noise, 1e-4) ** -2)
    return Profile(x, values, weight, PIXELS * len(x), float((PIXELS - 1) * len(x)))
