"""Degradations beside the bank: each a small frozen dataclass, seeded, parameterised, to be composed as one likes.

A degradation is called with a picture in linear light and a random generator, and describes itself in a line that
`parse` makes it from again. Those that draw something (`CameraShake`, `Turbulence`, noise) draw it anew at every call;
`parse("defocus:diameter_px=2..8")` draws parameters as well. `perturbed` makes of a calibration one of a similar lens,
whose PSFs change over the field as the calibrated ones do.

Beyond its edges a picture goes on as its mirror image. Nothing is clipped but by quantisation and JPEG.
"""

from __future__ import annotations

from psfbank.degrade.catalogue import CATALOGUE, Varied, parse
from psfbank.degrade.compress import Jpeg
from psfbank.degrade.geometry import Barrel, Fisheye, Pincushion
from psfbank.degrade.lens import Defocus, GaussianBlur, OpticalLowPass, RandomZernike, ZernikeBlur
from psfbank.degrade.motion import CameraShake, LinearMotion, ObjectMotion, SpinBlur, ZoomBlur, region_moved
from psfbank.degrade.noise import GaussianNoise, ImpulseNoise, PoissonNoise, Quantisation, SpeckleNoise
from psfbank.degrade.perturb import perturbed
from psfbank.degrade.sampling import Downsample
from psfbank.degrade.stage import Degradation
from psfbank.degrade.turbulence import Turbulence

__all__ = [
    "CATALOGUE",
    "Barrel",
    "CameraShake",
    "Defocus",
    "Degradation",
    "Downsample",
    "Fisheye",
    "GaussianBlur",
    "GaussianNoise",
    "ImpulseNoise",
    "Jpeg",
    "LinearMotion",
    "ObjectMotion",
    "OpticalLowPass",
    "Pincushion",
    "PoissonNoise",
    "Quantisation",
    "RandomZernike",
    "SpeckleNoise",
    "SpinBlur",
    "Turbulence",
    "Varied",
    "ZernikeBlur",
    "ZoomBlur",
    "parse",
    "perturbed",
    "region_moved",
]
