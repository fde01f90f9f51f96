"""What a picture file holds, before anything in it is looked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from calib.inspect.findings import Facts, Trouble
from calib.picture import Picture

BITS = (10, 12, 14, 16, 32)  # of the samples that cameras write into files of 16 bits, and 32
PHASES_DIFFER = 0.04  # relative, of the mean light on the four sites of a mosaic; on a grey picture they agree
GREENS_AGREE = 0.5  # of that difference, by which the two greens differ at most
GAMMA = 'Say --assume-srgb, or encoding = "srgb" in capture.toml; better, save RAW'

Encoding = Literal["as-stored", "srgb", "linear"]


@dataclass(frozen=True)
class Assumed:
    """What is known of pictures that do not say it themselves; None where nobody does.

    `black_dn` is one level for all channels, or one each; `kind` is the target, "" where it is to be found out.
    """

    cfa: str | None = None
    black_dn: float | tuple[float, ...] | None = None
    white_dn: float | None = None
    encoding: Encoding = "as-stored"
    kind: str = ""


def settle(picture: Picture, assumed: Assumed) -> tuple[Assumed, list[Trouble]]:
    """Fill what nobody says of a picture by what is likely, for looking at it, and say so.

    Parameters
    ----------
    picture : Picture
    assumed : Assumed

    Returns
    -------
    Assumed
        Colours, levels and encoding that the picture is read with.
    list of Trouble
        One for everything that had to be guessed.
    """
    if picture.white_dn is not None:
        return Assumed(kind=assumed.kind), []
    troubles = []
    encoding, cfa, black, white = assumed.encoding, assumed.cfa, assumed.black_dn, assumed.white_dn
    if picture.dn.dtype == np.uint8 and encoding == "as-stored":
        what = "8 bits a sample are gamma-coded as a rule, and nothing says that these are not"
        troubles.append(Trouble("gamma unknown", what, GAMMA, blocks=True))
        encoding = "srgb"
    if cfa is None and picture.cfa == "mono" and (pattern := mosaic_pattern(picture.dn)):
        what = f"it looks like a mosaic, {pattern} or {pattern[::-1]}, and was looked at as the first"
        troubles.append(Trouble("mosaic", what, f"Say --cfa {pattern}, or cfa in capture.toml"))
        cfa = pattern
    if encoding == "srgb":
        return Assumed(cfa, 0.0, float(np.iinfo(picture.dn.dtype).max), encoding, assumed.kind), troubles
    if white is None and np.issubdtype(picture.dn.dtype, np.unsignedinteger):
        white = float(2 ** next(b for b in BITS if 2**b > int(picture.dn.max())) - 1)
        what = f"nothing tells the black and the white level: {black or 0:g} and {white:g} DN were assumed"
        remedy = "Say --black-level and --white-level, or the same in capture.toml; RAW files bring their own"
        troubles.append(Trouble("levels unknown", what, remedy))
    return Assumed(cfa, black, white, encoding, assumed.kind), troubles


def mosaic_pattern(dn: npt.NDArray[Any]) -> str:
    """Say which of RGGB and GRBG a grey picture (H, W) looks like, "" where its four sites show one light.

    Two sites on a diagonal agree, the greens; the others differ from them. Red is not told from blue.
    """
    plane = dn[..., 0] if dn.ndim == 3 else dn
    means = [float(np.mean(plane[y::2, x::2], dtype=np.float64)) for y in (0, 1) for x in (0, 1)]
    floor = float(np.percentile(plane, 1))
    top_left, top_right, bottom_left, bottom_right = (max(mean - floor, 1e-9) for mean in means)
    spread = max(means) - min(means)
    if spread < PHASES_DIFFER * (float(np.mean(means)) - floor + 1e-9) or spread < 1:
        return ""
    if abs(top_right - bottom_left) < GREENS_AGREE * spread:
        return "RGGB"
    return "GRBG" if abs(top_left - bottom_right) < GREENS_AGREE * spread else ""


def bits_used(dn: npt.NDArray[Any], white_dn: float) -> int:
    """Bits of the samples up to white, by the step between them; 0 of floating-point samples."""
    if not np.issubdtype(dn.dtype, np.unsignedinteger):
        return 0
    values = np.flatnonzero(np.bincount(dn.ravel())) if dn.dtype.itemsize <= 2 else np.unique(dn)
    step = int(np.gcd.reduce(np.diff(values))) if len(values) > 1 else 1
    return math.ceil(math.log2(max(int(values[-1]), int(white_dn)) // step + 1))


def facts_of(picture: Picture, settled: Assumed, white_dn: float, black_dn: tuple[float, ...]) -> Facts:
    """Gather what a file holds, and the levels that it is read with."""
    return Facts(
        size_px=(picture.dn.shape[0], picture.dn.shape[1]),
        cfa=settled.cfa or picture.cfa,
        sample_type=str(picture.dn.dtype),
        bits_used=bits_used(picture.dn, white_dn),
        black_dn=black_dn,
        white_dn=white_dn,
        own_levels=picture.white_dn is not None,
        exposure_s=picture.exposure_s,
        setting=picture.setting,
        maker=picture.maker,
        model=picture.model,
        lens=picture.lens,
        pitch_um=picture.pitch_um,
        xyz_to_camera=picture.xyz_to_camera,
        sha256=picture.sha256,
    )
