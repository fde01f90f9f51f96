"""Degradations by name, made from text, and drawn from ranges.

Text is `name` or `name:parameter=value,parameter=value`; a tuple's values stand between slashes, and two numbers with
two dots between them are a range: `camera_shake:length_px=5..20,anxiety=0.3` has a length of its own for every picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from psfbank.degrade.compress import Jpeg
from psfbank.degrade.geometry import Barrel, Fisheye, Pincushion
from psfbank.degrade.lens import Defocus, GaussianBlur, OpticalLowPass, RandomZernike, ZernikeBlur
from psfbank.degrade.motion import CameraShake, LinearMotion, ObjectMotion, SpinBlur, ZoomBlur
from psfbank.degrade.noise import GaussianNoise, ImpulseNoise, PoissonNoise, Quantisation, SpeckleNoise
from psfbank.degrade.sampling import Downsample
from psfbank.degrade.stage import Degradation, Image, as_text, name_of
from psfbank.degrade.turbulence import Turbulence

CATALOGUE: dict[str, type[Degradation]] = {
    "defocus": Defocus,
    "gaussian_blur": GaussianBlur,
    "zernike_blur": ZernikeBlur,
    "random_zernike": RandomZernike,
    "optical_low_pass": OpticalLowPass,
    "camera_shake": CameraShake,
    "linear_motion": LinearMotion,
    "object_motion": ObjectMotion,
    "spin_blur": SpinBlur,
    "zoom_blur": ZoomBlur,
    "turbulence": Turbulence,
    "downsample": Downsample,
    "barrel": Barrel,
    "pincushion": Pincushion,
    "fisheye": Fisheye,
    "gaussian_noise": GaussianNoise,
    "poisson_noise": PoissonNoise,
    "impulse_noise": ImpulseNoise,
    "speckle_noise": SpeckleNoise,
    "quantisation": Quantisation,
    "jpeg": Jpeg,
}
_TRUTH = {"true": True, "false": False}
_READERS: dict[Any, Callable[[str], Any]] = {float: float, int: int, bool: _TRUTH.__getitem__}


@dataclass(frozen=True)
class Varied:
    """A degradation whose parameters are drawn anew for every picture; `draw` gives the one that a picture gets.

    `fixed` holds values, `ranges` pairs (low, high): uniform between them, whole numbers both ends included.
    """

    kind: type[Degradation]
    fixed: Mapping[str, Any]
    ranges: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if not low <= high:
                raise ValueError(f"`{name}` of {name_of(self.kind)} runs from {low:g} down to {high:g}")
        for end in (0, 1):  # what a parameter may be is an interval
            self.kind(**self.fixed, **{name: self._value(name, both[end]) for name, both in self.ranges.items()})

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`."""
        return self.draw(rng)(image, rng)

    def draw(self, rng: np.random.Generator) -> Degradation:
        """Draw the parameters."""
        hints = get_type_hints(self.kind)
        drawn: dict[str, Any] = {}
        for name, (low, high) in self.ranges.items():
            whole = hints[name] is int
            drawn[name] = int(rng.integers(int(low), int(high), endpoint=True)) if whole else rng.uniform(low, high)
        return self.kind(**self.fixed, **drawn)

    def describe(self) -> str:
        """Give name, parameters and ranges, as `Degradation`."""
        told = {
            **{k: as_text(v) for k, v in self.fixed.items()},
            **{k: f"{a}..{b}" for k, (a, b) in self.ranges.items()},
        }
        return f"{name_of(self.kind)}:" + ",".join(f"{name}={value}" for name, value in told.items())

    def _value(self, name: str, number: float) -> float | int:
        return int(number) if get_type_hints(self.kind)[name] is int else number


def parse(text: str) -> Degradation:
    """Make a degradation from text.

    Parameters
    ----------
    text : str
        See the module's description; what a degradation's `describe` gives makes it again.

    Returns
    -------
    Degradation
        A `Varied` one where a parameter is a range.

    Raises
    ------
    ValueError
        When there is no such degradation or parameter, naming those that there are, or a value is no such value.
    """
    name, _, rest = text.strip().partition(":")
    if name not in CATALOGUE:
        raise ValueError(f"no degradation {name!r}; there are {', '.join(CATALOGUE)}")
    kind = CATALOGUE[name]
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]  # every one is a dataclass
    fixed: dict[str, Any] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for item in rest.split(",") if rest else []:
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in known or not equals:
            raise ValueError(f"{item!r} sets no parameter of {name}; it has {', '.join(known)}, as in `{known[0]}=...`")
        if key in fixed or key in ranges:
            raise ValueError(f"{name} is given `{key}` twice")
        if ".." in value and hints[key] in (float, int):
            low, high = (_read(name, key, end, hints[key]) for end in value.split("..", 1))
            ranges[key] = (low, high)
        else:
            fixed[key] = _read(name, key, value, hints[key])
    return Varied(kind, fixed, ranges) if ranges else kind(**fixed)


def _read(name: str, key: str, value: str, hint: Any) -> Any:
    """Read a value; words, of `str` or `Literal`, are left to the degradation to check."""
    try:
        if get_origin(hint) is tuple:
            return tuple(float(one) for one in value.split("/"))
        return _READERS.get(hint, str)(value)
    except (ValueError, KeyError):
        wanted = "numbers with slashes between them" if get_origin(hint) is tuple else f"of type {hint.__name__}"
        raise ValueError(f"`{key}` of {name} must be {wanted}, got {value!r}") from None
