"""What is said of one capture: what the file holds, which target is in the picture, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from psfbank.arrays import BoolArray, FloatArray, freeze
from psfbank.camera import Matrix
from psfbank.model import Setting


@dataclass(frozen=True)
class Facts:
    """What a file holds: `size_px` (H, W), its samples' type and the bits of them that are used, and how it was taken.

    `black_dn` (C,) and `white_dn` are those that the samples were read with; `own_levels` tells whether they are the
    file's own.
    """

    size_px: tuple[int, int]
    cfa: str
    sample_type: str
    bits_used: int
    black_dn: tuple[float, ...]
    white_dn: float
    own_levels: bool
    exposure_s: float
    setting: Setting
    maker: str
    model: str
    lens: str
    pitch_um: float
    xyz_to_camera: Matrix | None
    sha256: str


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong: its short `name`, what it is, what to try, and whether it makes the capture useless."""

    name: str
    what: str
    remedy: str
    blocks: bool = False

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}" if self.remedy else self.what


@dataclass(frozen=True, eq=False)
class Seen:
    """The target in a picture: its `kind` as capture.toml names it, "" where there is none.

    `xy_px` (N, 2) are the middles of what was detected, `blur_px` (N,) the Gaussian sigma of the blur there, pixel
    included, NaN where it was not measured; `clipped` (N,) tells of light at the white level. `lines_px` (L, 2, 2) are
    edges, sides of cells or outlines, from end to end. `streak_px` (2,) is the length of the motion that would
    explain a blur that is longer in one common direction, as a vector, and `streak_std_px` its uncertainty; NaN where
    that cannot be told. `figures` are numbers by name, with their units; `complaint` is what the
    detector says against it, and `unusable` whether so little could be measured that it is left out.
    """

    kind: str
    xy_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    blur_px: FloatArray = field(default_factory=lambda: np.zeros(0))
    clipped: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    lines_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2, 2)))
    streak_px: FloatArray = field(default_factory=lambda: np.full(2, np.nan))
    streak_std_px: float = float("nan")
    figures: Mapping[str, float] = field(default_factory=dict)
    complaint: str = ""
    unusable: bool = False

    def __post_init__(self) -> None:
        freeze(self, np.float64, xy_px="N,2", blur_px="N", lines_px="L,2,2", streak_px="2")
        freeze(self, bool, clipped="N")


@dataclass(frozen=True, eq=False)
class Inspection:
    """All that is known of one file; `facts` and `seen` are None where it could not be read."""

    path: Path
    facts: Facts | None = None
    seen: Seen | None = None
    light: Mapping[str, float] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    pixels_sha256: str = ""

    @property
    def usable(self) -> bool:
        """Whether nothing stands in the way of calibrating with it."""
        return not any(trouble.blocks for trouble in self.troubles)
