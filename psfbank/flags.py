"""Quality flags: one registry for observations, tiles and captures."""

from __future__ import annotations

from enum import IntFlag


class Flag(IntFlag):
    """What is known to be wrong with an observation, a tile or a capture; 0 is good."""

    GOOD = 0
    SATURATED = 1  # at least one sample at the white level
    LOW_SNR = 2  # too faint to be of use
    NEAR_BORDER = 4  # the footprint leaves the image
    OVERLAPPING = 8  # another source inside the footprint
    OUTLIER = 16  # rejected by its chi2 or its distance from the model
    AT_BOUND = 32  # a fitted parameter sits on its bound
    NOT_CONVERGED = 64  # the fit stopped early
    FILLED = 128  # too few observations: taken from the neighbours
    OUTSIDE_VALID = 256  # outside the region that the data support
    PARTIAL = 512  # only a part of the target was seen
    UNUSABLE = 1024  # the capture could not be used at all
    UNSHARP = 2048  # motion or defocus beyond what the target allows
    CRITICAL_ANGLE = 4096  # an edge whose phases the rows and columns sample again and again
    SHORT = 8192  # too few samples along an edge
    CURVED = 16384  # an edge that changes its direction

    def words(self) -> str:
        """Names of the flags that are set, joined by commas; "good" when none is."""
        return ", ".join(f.name.lower() for f in Flag if f and f in self and f.name) or "good"
