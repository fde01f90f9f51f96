"""What stands against an edge: flags from plain numbers, and what to do about each."""

from __future__ import annotations

from enum import IntFlag

import numpy as np

# tan = 0, 1/4, 1/3, 1/2, 1: after so few rows the sites fall on the same phases of the edge again
CRITICAL_DEG = (0.0, 14.036, 18.435, 26.565, 45.0)
CRITICAL_WITHIN_DEG = 1.0
LEAST_LENGTH_PX = 25.0  # with a sample at each pixel
LEAST_CONTRAST = 0.2  # of Michelson
LEAST_CNR = 10.0
MOST_TURN_DEG = 5.0  # of the edge's direction from end to end
MOST_UNCERTAIN = 0.1  # standard deviation of MTF50 over MTF50


class EdgeFlag(IntFlag):
    """What is known to be wrong with an edge or its measurement; 0 is good."""

    GOOD = 0
    CRITICAL_ANGLE = 1
    SHORT = 2
    LOW_CONTRAST = 4
    LOW_CNR = 8
    CLIPPED = 16
    CONTAMINATED = 32
    CURVED = 64
    GAMMA_SUSPECTED = 128
    UNRELIABLE = 256

    def words(self) -> tuple[str, ...]:
        """Names of the flags that are set, in lower case; none when good."""
        return tuple(f.name.lower() for f in EdgeFlag if f and f in self and f.name)


WHAT_TO_DO = {
    EdgeFlag.CRITICAL_ANGLE: "the edge lies so along the rows and columns that they sample few of its phases: "
    "turn it to 5 or 8 degrees",
    EdgeFlag.SHORT: "the edge is too short for its channel's sites: come nearer, or print it larger",
    EdgeFlag.LOW_CONTRAST: "dark and bright differ little: print darker, or light evenly and without glare",
    EdgeFlag.LOW_CNR: "the noise is high for the step: expose longer, or average frames",
    EdgeFlag.CLIPPED: "samples at the white or the black level cut the profile: change the exposure",
    EdgeFlag.CONTAMINATED: "something else lies within the window: leave more clear space around the edge",
    EdgeFlag.CURVED: "the edge bends: its SFR is an average over directions; use a shorter piece",
    EdgeFlag.GAMMA_SUSPECTED: "8-bit samples that nobody declared linear: export linear 16 bit, or say what they are",
    EdgeFlag.UNRELIABLE: "MTF50 is uncertain by more than a tenth: more light, or a longer edge",
}


def slant_deg(angle_rad: float) -> float:
    """Angle between an edge and the nearer of rows and columns, 0..45 degrees, from any direction of its normal."""
    folded = float(np.degrees(angle_rad)) % 90
    return min(folded, 90 - folded)


def quality_flags(
    *,
    slant_deg: float,
    length_px: float,
    contrast: float,
    cnr: float,
    site_density: float = 1.0,
    turn_deg: float = 0.0,
    mtf50_relative_std: float = float("nan"),
    clipped: bool = False,
    contaminated: bool = False,
    gamma_unknown: bool = False,
) -> EdgeFlag:
    """Tell what stands against one edge in one channel.

    Parameters
    ----------
    slant_deg : float
        0..45, see `slant_deg`.
    length_px : float
    contrast : float
        After Michelson, (bright - dark) / (bright + dark).
    cnr : float
        Step over the standard deviation of the noise.
    site_density : float
        Sites of the channel a pixel: 1, or 1/2 for green and 1/4 for red and blue of a Bayer mosaic.
    turn_deg : float
        How much the edge's direction changes from end to end.
    mtf50_relative_std : float
        Standard deviation of MTF50 over MTF50; NaN where none was estimated.
    clipped : bool
        Samples in the window reach the white or the black level.
    contaminated : bool
        Something else lies inside the window.
    gamma_unknown : bool
        The samples have 8 bits, and nothing says that they are linear light.

    Returns
    -------
    EdgeFlag
    """
    raised = {
        EdgeFlag.CRITICAL_ANGLE: min(abs(slant_deg - c) for c in CRITICAL_DEG) < CRITICAL_WITHIN_DEG,
        EdgeFlag.SHORT: length_px * site_density < LEAST_LENGTH_PX,
        EdgeFlag.LOW_CONTRAST: contrast < LEAST_CONTRAST,
        EdgeFlag.LOW_CNR: cnr < LEAST_CNR,
        EdgeFlag.CLIPPED: clipped,
        EdgeFlag.CONTAMINATED: contaminated,
        EdgeFlag.CURVED: abs(turn_deg) > MOST_TURN_DEG,
        EdgeFlag.GAMMA_SUSPECTED: gamma_unknown,
        EdgeFlag.UNRELIABLE: mtf50_relative_std > MOST_UNCERTAIN,
    }
    flags = EdgeFlag.GOOD
    for flag, holds in raised.items():
        if holds:
            flags |= flag
    return flags
