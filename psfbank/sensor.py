"""The sensor: colour sites, photons to electrons, electrons to digital numbers.

DN = round(black + gain (Poisson(e) + N(0, read))), clipped to 0 .. white: the linear camera model of EMVA 1288
(release 4.0, section 2) with its quantisation. Dark current and PRNU are known to the bank and are not drawn here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.model import CFA_PATTERNS


def cfa_sites(cfa: str, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Tell which colour every pixel of a mosaic sees.

    Parameters
    ----------
    cfa : str
        Colours of the top-left 2 x 2 sites in reading order, "RGGB", or "mono".
    shape : (H, W)
        Pixels.

    Returns
    -------
    (H, W) int64
        0, 1, 2 for R, G, B; zeros for a monochrome sensor.

    Raises
    ------
    ValueError
        When `cfa` names no mosaic.
    """
    if cfa == "mono":
        return np.zeros(shape, dtype=np.int64)
    if cfa not in CFA_PATTERNS or cfa == "RGB":
        raise ValueError(f"`cfa` must name a 2 x 2 mosaic or be 'mono', got {cfa!r}")
    unit = np.array(["RGB".index(colour) for colour in cfa], dtype=np.int64).reshape(2, 2)
    height, width = shape
    return np.tile(unit, ((height + 1) // 2, (width + 1) // 2))[:height, :width]


def mosaic(image: FloatArray, cfa: str) -> FloatArray:
    """Keep of every pixel the colour that its site sees: (H, W, 3) -> (H, W)."""
    sites = cfa_sites(cfa, (image.shape[0], image.shape[1]))
    return np.take_along_axis(image, sites[..., None], axis=2)[..., 0]


def read_out(signal_e: FloatArray, read_noise_e: npt.ArrayLike, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw what a sensor reads of an expected signal: Poisson shot noise, then Gaussian read noise.

    Parameters
    ----------
    signal_e : float array
        Expected electrons; below zero counts as none.
    read_noise_e : float array_like
        RMS electrons; broadcasts against `signal_e`.
    rng : Generator

    Returns
    -------
    float32, shape of `signal_e`
        Electrons; reads of the dark fall on both sides of zero.
    """
    collected = rng.poisson(np.maximum(signal_e, 0.0))
    noise = rng.standard_normal(signal_e.shape, dtype=np.float32) * np.asarray(read_noise_e, dtype=np.float32)
    return np.asarray(collected + noise, dtype=np.float32)


def digitise(
    signal_e: FloatArray, gain_dn_per_e: npt.ArrayLike, black_dn: npt.ArrayLike, white_dn: npt.ArrayLike
) -> npt.NDArray[np.float32]:
    """Convert electrons to whole digital numbers between 0 and the white level.

    Parameters
    ----------
    signal_e : float array
        Electrons.
    gain_dn_per_e, black_dn, white_dn : float array_like
        Broadcast against `signal_e`.

    Returns
    -------
    float32, shape of `signal_e`
        Whole numbers; floats hold those of every sensor, up to 24 bits, exactly.
    """
    dn = np.rint(np.asarray(black_dn) + np.asarray(gain_dn_per_e) * signal_e)
    return np.asarray(np.clip(dn, 0, white_dn), dtype=np.float32)
