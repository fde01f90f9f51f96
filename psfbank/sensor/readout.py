"""A whole readout in one call: relative light to digital numbers, and back."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray, by_constructor
from psfbank.model import NoiseModel
from psfbank.sensor.draws import Image, ReadMixture, digitise, read_out, read_out_gaussian
from psfbank.sensor.pattern import fixed_pattern
from psfbank.sensor.sites import cfa_sites

BLOCK_SAMPLES = 1 << 16  # drawn at once: what a core's cache holds of the four arrays that meet
Place = tuple[int, int]


@dataclass(frozen=True)
class _Sites:
    """Values of two rows of samples (2, n), from which all others repeat."""

    full_e: Image
    gain: Image
    black: Image
    white: Image
    read_e: Image
    dark_e: Image
    prnu: Image


@dataclass(frozen=True, eq=False)
class Sensor:
    """What turns light into numbers: a noise model, the mosaic, and what a noise model leaves open.

    Parameters
    ----------
    noise : NoiseModel
        Read noise, dark current and PRNU count as none where they are NaN.
    cfa : str
        Colours of the top-left 2 x 2 sites, or "mono", or "RGB" where every pixel has all.
    shot : "exact" or "gaussian"
        `read_out` or, in half the time, `read_out_gaussian`; `psfbank.sensor.draws` says how far that is off.
    exposure_s : float
        For which dark current is gathered.
    full_well_e : float
        Electrons that a pixel holds; infinite where the white level comes first.
    mixture : ReadMixture, optional
        Of the read noise, which is Gaussian without.
    row_noise_e, column_noise_e : float
        RMS electrons that all samples of a row or column share, drawn anew for each picture, beside the read noise.
    prnu_seed : int, optional
        Of the pattern of sensitivities, this sensor's own; all pixels are alike when None.

    Raises
    ------
    ValueError
        When a number is negative, or the mosaic has other channels than the noise model.
    """

    noise: NoiseModel
    cfa: str = "RGGB"
    shot: Literal["exact", "gaussian"] = "exact"
    exposure_s: float = 0.0
    full_well_e: float = math.inf
    mixture: ReadMixture | None = None
    row_noise_e: float = 0.0
    column_noise_e: float = 0.0
    prnu_seed: int | None = 0

    __reduce__ = by_constructor

    def __post_init__(self) -> None:
        if self.shot not in ("exact", "gaussian"):
            raise ValueError(f"`shot` must be 'exact' or 'gaussian', got {self.shot!r}")
        if min(self.exposure_s, self.row_noise_e, self.column_noise_e) < 0 or not self.full_well_e > 0:
            raise ValueError("`exposure_s` and noises must not be negative, and `full_well_e` be positive")
        if self.cfa != "RGB" and cfa_sites(self.cfa, (2, 2)).max() >= len(self.noise.channels):
            raise ValueError(f"a mosaic {self.cfa!r} needs noise of three channels, got {len(self.noise.channels)}")

    def __call__(
        self,
        light: FloatArray,
        rng: np.random.Generator,
        *,
        origin: Place = (0, 0),
        noise: bool = True,
        quantise: bool = True,
        sensitivity: Image | None = None,
        executor: Executor | None = None,
    ) -> Image:
        """Read a window of the sensor out.

        Parameters
        ----------
        light : (H, W) float, or (H, W, C) where every pixel has all colours
            Expected light, black 0 and white 1, at most.
        rng : Generator
            Its state alone decides what is drawn, for one shape of `light`.
        origin : (y, x)
            Row and column of the sensor at which the window begins: they decide colours and sensitivities.
        noise : bool
            Off: the expected electrons themselves, of pixels all alike.
        quantise : bool
            Off: neither rounded nor held between 0 and the white level.
        sensitivity : float32, shape of `light`, optional
            What the method of that name gives for this window, to spare drawing it for every picture.
        executor : Executor, optional
            Threads for blocks of rows; the result does not depend on it.

        Returns
        -------
        float32, shape of `light`
            DN, black level included.
        """
        flat = np.ascontiguousarray(light, dtype=np.float32).reshape(len(light), -1)
        sites = self._sites(light.shape, origin)
        if noise and sensitivity is None:
            sensitivity = self.sensitivity(light.shape, origin)
        seen = None if sensitivity is None or not noise else sensitivity.reshape(flat.shape)
        rows = max(2, BLOCK_SAMPLES // (2 * flat.shape[1]) * 2)  # even, so that all blocks begin at one phase
        starts = range(0, len(flat), rows)
        lines_e = self._lines(light.shape, rng) if noise else (None, None)
        seeds = rng.integers(1 << 63, size=(len(starts), 2)) if noise else np.empty((len(starts), 0))
        dn = np.empty_like(flat)

        def block(start: int, seed: npt.NDArray[np.int64]) -> None:
            here = np.s_[start : start + rows]
            signal_e = flat[here] * _repeated(sites.full_e, flat[here])
            if noise:
                own_rng = np.random.Generator(np.random.SFC64(seed.tolist()))
                signal_e = self._drawn(signal_e, sites, None if seen is None else seen[here], own_rng)
                for lines, part in zip(lines_e, (here, np.s_[:]), strict=True):
                    signal_e += 0 if lines is None else lines[part]
            gain, black, white = (_repeated(values, signal_e) for values in (sites.gain, sites.black, sites.white))
            dn[here] = digitise(signal_e, gain, black, white) if quantise else black + gain * signal_e

        for _ in (map if executor is None else executor.map)(block, starts, seeds):
            pass  # whatever a block raised is raised here
        return dn.reshape(light.shape)

    def sensitivity(self, shape: tuple[int, ...], origin: Place = (0, 0)) -> Image | None:
        """Relative sensitivity of every sample of a window, one on average; None when all are alike."""
        if self.prnu_seed is None or not np.any(np.nan_to_num(self.noise.prnu) > 0):
            return None
        pattern = fixed_pattern((shape[0], shape[1]), origin, self.prnu_seed)
        flat = np.repeat(pattern, shape[2], axis=1) if len(shape) == 3 else pattern
        prnu = self._sites(shape, origin).prnu
        seen: Image = np.maximum(1 + flat * _repeated(prnu, flat), np.float32(0))
        return seen.reshape(shape)

    def to_linear(self, dn: FloatArray, origin: Place = (0, 0)) -> Image:
        """Bring digital numbers to linear light, black 0 and white 1; noise below black stays negative."""
        sites = self._sites(dn.shape, origin)
        light = np.array(dn, dtype=np.float32).reshape(len(dn), -1)
        for row in range(2):
            light[row::2] -= sites.black[row]
            light[row::2] /= sites.white[row] - sites.black[row]
        return light.reshape(dn.shape)

    def _drawn(self, signal_e: Image, sites: _Sites, seen: Image | None, rng: np.random.Generator) -> Image:
        if seen is not None:
            signal_e *= seen
        if sites.dark_e.any():
            signal_e += _repeated(sites.dark_e, signal_e)
        draw = read_out if self.shot == "exact" else read_out_gaussian
        return draw(signal_e, _repeated(sites.read_e, signal_e), rng, self.full_well_e, self.mixture)

    def _lines(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Image | None, Image | None]:
        """Electrons that the samples of each row (H, 1), and of each column (1, n), share; None where that is off."""
        row, column = None, None
        if self.row_noise_e:
            row = np.float32(self.row_noise_e) * rng.standard_normal((shape[0], 1), dtype=np.float32)
        if self.column_noise_e:
            column = np.float32(self.column_noise_e) * rng.standard_normal((1, shape[1]), dtype=np.float32)
            column = np.repeat(column, math.prod(shape[2:]), axis=1)
        return row, column

    def _sites(self, shape: tuple[int, ...], origin: Place) -> _Sites:
        noise = self.noise
        gain, black, white = noise.gain_dn_per_e, noise.black_dn, noise.white_dn
        read_e, dark_e_per_s, prnu = (np.nan_to_num(v) for v in (noise.read_noise_e, noise.dark_e_per_s, noise.prnu))
        full_e, dark_e = (white - black) / gain, dark_e_per_s * self.exposure_s
        values = np.array([full_e, gain, black, white, read_e, dark_e, prnu], dtype=np.float32)
        if len(shape) == 3:
            if shape[2] != len(noise.channels):
                raise ValueError(f"`light` must have the {len(noise.channels)} channels of the noise, got {shape[2]}")
            return _Sites(*np.tile(values[:, None], (1, 2, shape[1])))
        return _Sites(*values[:, cfa_sites(self.cfa, (2, shape[1]), origin)])


def _repeated(two_rows: Image, like: Image) -> Image:
    """Repeat two rows down an array's height."""
    return np.tile(two_rows, ((len(like) + 1) // 2, 1))[: len(like)]
