"""Tone curves: linear light to the values that a picture stores, and back.

A curve takes 0 to 0 and 1 to 1, rises strictly, and clips what lies outside; `encode` and `decode` are its formula.
`tone_map` and `tone_unmap` apply it to pictures: light is looked up in a table of 65 536 entries by its square root,
which spreads the shadows as the curves do: it errs by 0.8 of the 65 535 steps of the full scale at most, by 1.5 in the
steeper shadows of `Filmic()`. Whole numbers of 8 or 16 bits are decoded exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.isp.demosaic import STRIP_PIXELS, Image

_LAST = 65535


def srgb_encode(linear: FloatArray) -> Image:
    """Linear light -> sRGB values, both 0..1, clipped (IEC 61966-2-1)."""
    light = np.clip(np.asarray(linear, dtype=np.float32), 0, 1)
    return np.where(light <= np.float32(0.0031308), 12.92 * light, 1.055 * light ** np.float32(1 / 2.4) - 0.055).astype(
        np.float32
    )


def srgb_decode(encoded: FloatArray) -> Image:
    """SRGB values 0..1 -> linear light (IEC 61966-2-1)."""
    value = np.asarray(encoded, dtype=np.float32)
    curved = ((np.maximum(value, 0) + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.where(value <= np.float32(0.04045), value / np.float32(12.92), curved).astype(np.float32)


@dataclass(frozen=True)
class Srgb:
    """The curve of sRGB alone (IEC 61966-2-1): what is shown is proportional to the light."""

    def encode(self, linear: FloatArray) -> FloatArray:
        """Light 0..1 -> values 0..1."""
        return srgb_encode(linear)

    def decode(self, encoded: FloatArray) -> FloatArray:
        """Values 0..1 -> light 0..1."""
        return srgb_decode(np.clip(encoded, 0, 1))


@dataclass(frozen=True)
class Smoothstep:
    """The curve of sRGB, then 3 v^2 - 2 v^3 for contrast: the tone of Brooks et al. (CVPR 2019, section 3)."""

    def encode(self, linear: FloatArray) -> FloatArray:
        """Light 0..1 -> values 0..1."""
        value = srgb_encode(linear)
        return np.asarray(value * value * (3 - 2 * value), dtype=np.float32)

    def decode(self, encoded: FloatArray) -> FloatArray:
        """Values 0..1 -> light 0..1; the cubic's root is 1/2 - sin(asin(1 - 2 y) / 3)."""
        value = np.clip(np.asarray(encoded, dtype=np.float64), 0, 1)
        return srgb_decode(0.5 - np.sin(np.arcsin(1 - 2 * value) / 3))


@dataclass(frozen=True)
class Filmic:
    """A film's toe and shoulder, then the curve of sRGB (Hable, "Uncharted 2: HDR Lighting", GDC 2010).

    h(x) = (x (A x + C B) + D E) / (x (A x + B) + D F) - E / F, and light is shown as h(white x) / h(white): `white` is
    how many times brighter the sensor's white is than what Hable calls 1. A `shoulder`, B `linear`, C `angle`, D `toe`
    strength, E and F `toe_numerator` and `toe_denominator`; the defaults are his.
    """

    white: float = 11.2
    shoulder: float = 0.15
    linear: float = 0.5
    angle: float = 0.1
    toe: float = 0.2
    toe_numerator: float = 0.02
    toe_denominator: float = 0.3

    def __post_init__(self) -> None:
        if min(self.__dict__.values()) <= 0:
            raise ValueError("each number of a filmic curve must be positive")
        # the sign of h' is that of A B (1 - C) x^2 + 2 A D (F - E) x + B D (C F - E)
        if self.angle * self.toe_denominator <= self.toe_numerator or self.angle >= 1:
            raise ValueError("a filmic curve needs toe_numerator / toe_denominator < angle < 1, otherwise it falls")

    def encode(self, linear: FloatArray) -> FloatArray:
        """Light 0..1 -> values 0..1."""
        light = np.clip(np.asarray(linear, dtype=np.float64), 0, 1)
        return srgb_encode(self._shown(light * self.white) / self._shown(np.array(self.white)))

    def decode(self, encoded: FloatArray) -> FloatArray:
        """Values 0..1 -> light 0..1: the positive root of a quadratic in x."""
        shown = np.asarray(srgb_decode(np.clip(encoded, 0, 1)), dtype=np.float64)
        level = shown * self._shown(np.array(self.white)) + self.toe_numerator / self.toe_denominator
        square = self.shoulder * (1 - level)
        half = self.linear * (self.angle - level) / 2
        constant = np.minimum(self.toe * (self.toe_numerator - self.toe_denominator * level), 0)
        root = np.sqrt(half * half - square * constant)
        # of the two forms of the root, the one that adds: the other loses its digits
        x = np.where(half > 0, -constant / (half + root), (root - half) / square)
        return np.asarray(np.clip(x / self.white, 0, 1), dtype=np.float32)

    def _shown(self, x: FloatArray) -> FloatArray:
        upper = x * (self.shoulder * x + self.angle * self.linear) + self.toe * self.toe_numerator
        lower = x * (self.shoulder * x + self.linear) + self.toe * self.toe_denominator
        return np.asarray(upper / lower - self.toe_numerator / self.toe_denominator)


Tone = Srgb | Smoothstep | Filmic


def tone_map(linear: Image, tone: Tone, dtype: type[np.float32] | type[np.uint8] = np.float32) -> npt.NDArray[Any]:
    """Apply a tone curve to a picture, by table.

    Parameters
    ----------
    linear : (H, W) or (H, W, C) float32
        Light; below 0 and above 1 is clipped.
    tone : Srgb, Smoothstep or Filmic
    dtype : float32 or uint8

    Returns
    -------
    shape of `linear`, float32 0..1 or uint8 0..255, rounded
    """
    light = np.asarray(linear, dtype=np.float32)
    rows = light.reshape(len(light), -1)
    table = _table(tone, np.dtype(dtype))
    values = np.empty(rows.shape, dtype=dtype)
    step = max(STRIP_PIXELS // max(rows.shape[1], 1), 1)
    for top in range(0, len(rows), step):
        root = np.clip(rows[top : top + step], 0, 1)
        np.sqrt(root, out=root)
        index = (root * np.float32(_LAST) + np.float32(0.5)).astype(np.uint16)
        np.take(table, index, out=values[top : top + step], mode="clip")
    return values.reshape(light.shape)


def tone_unmap(encoded: npt.NDArray[Any], tone: Tone) -> Image:
    """Turn the values of a picture back into light, exactly.

    Parameters
    ----------
    encoded : (H, W) or (H, W, C) uint8, uint16 or float
        Whole numbers are shares of the largest one; floats are 0..1, clipped.
    tone : Srgb, Smoothstep or Filmic

    Returns
    -------
    float32, shape of `encoded`
        Light, 0..1.
    """
    if encoded.dtype in (np.uint8, np.uint16):
        table = _inverse_table(tone, int(np.iinfo(encoded.dtype).max))
        return np.take(table, encoded) if encoded.dtype == np.uint16 else np.asarray(cv2.LUT(encoded, table))
    return np.asarray(tone.decode(encoded), dtype=np.float32)


@lru_cache(maxsize=16)
def _table(tone: Tone, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    root = np.arange(_LAST + 1) / _LAST
    values = np.asarray(tone.encode(root * root), dtype=np.float64)
    table = np.rint(values * 255).astype(dtype) if dtype == np.uint8 else values.astype(dtype)
    table.flags.writeable = False
    return table


@lru_cache(maxsize=16)
def _inverse_table(tone: Tone, white: int) -> Image:
    table = np.array(tone.decode(np.arange(white + 1) / white), dtype=np.float32)
    table.flags.writeable = False
    return table
