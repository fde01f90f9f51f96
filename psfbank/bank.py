"""The bank in memory: one camera, its calibrations, and the choice among them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from types import TracebackType
from typing import Self

from psfbank import store
from psfbank.along import between
from psfbank.arrays import by_constructor
from psfbank.axis import axis_scale
from psfbank.errors import AmbiguousSettingError
from psfbank.model import Calibration, Camera, Setting
from psfbank.noise import SAME
from psfbank.store.reader import PathLike

SETTING_KEYS = tuple(field.name for field in fields(Setting))


@dataclass(frozen=True, eq=False)
class PsfBank:
    """What one camera does to light at each setting that was calibrated; wholly in memory, no file stays open."""

    camera: Camera
    calibrations: tuple[Calibration, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "calibrations", tuple(self.calibrations))
        if not self.calibrations:
            raise ValueError("`calibrations` must hold at least one calibration")

    __reduce__ = by_constructor

    @classmethod
    def open(cls, path: PathLike) -> Self:
        """Read a bank file.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        PsfBank

        Raises
        ------
        BankFormatError
            When there is no such file; its subclasses when the file is damaged, unsafe or of another schema.
        """
        return cls(*store.load(path))

    def save(self, path: PathLike, overwrite: bool = True) -> None:
        """Write a bank file atomically; BankFormatError when it cannot be written, or exists and `overwrite` is off."""
        store.save(path, self.camera, self.calibrations, overwrite=overwrite)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

    def at(self, **setting: float) -> Calibration:
        """Choose the calibration nearest to a setting, or interpolate along an axis that was calibrated as one.

        Focal length, f-number and ISO are compared by their logarithm, focus distances by their reciprocal (dioptres);
        several keys are brought together by dividing each difference by that key's range over the bank (Gower, 1971).
        Where noise was calibrated at several ISO speeds it is interpolated between them, `NoiseByIso.at`; nothing else
        depends on the ISO speed.

        Parameters
        ----------
        **setting : float
            Any of focal_mm, f_number, focus_m, iso, pressure_kpa; none when the bank holds one calibration only.

        Returns
        -------
        Calibration

        Raises
        ------
        AmbiguousSettingError
            When the request does not single one out; it names the choices.
        OutOfFieldError
            Beyond the ends of an axis that was calibrated as one, or the ISO speeds at which noise was.
        TypeError, ValueError
            When a key does not exist, or a value is not positive.
        """
        for key, value in setting.items():
            if key not in SETTING_KEYS:
                raise TypeError(f"`{key}` is not part of a setting; there are {', '.join(SETTING_KEYS)}")
            if (not value > 0 and key != "pressure_kpa") or (math.isinf(value) and key != "focus_m"):
                raise ValueError(f"`{key}` must be positive, got {value}")
        chosen = self._nearest(setting)
        return _at_iso(chosen, setting["iso"]) if "iso" in setting else chosen

    def _nearest(self, setting: dict[str, float]) -> Calibration:
        if len(self.calibrations) == 1:
            return self.calibrations[0]
        keys = {c.axis.key if c.axis else "" for c in self.calibrations}
        if len(keys) == 1 and (key := keys.pop()) in setting:
            return between(self.calibrations, key, setting[key])
        distances = self._distances(setting)
        least = min(distances)
        nearest = [c for c, d in zip(self.calibrations, distances, strict=True) if d <= least + 1e-9]
        if len(nearest) > 1 or math.isinf(least):
            choices = nearest if math.isfinite(least) else self.calibrations
            raise AmbiguousSettingError(
                f"{_words(setting) or 'no setting'} does not single out one of " + "; ".join(map(_describe, choices)),
                remedy=f"Name more of {', '.join(SETTING_KEYS)}",
            )
        return nearest[0]

    def _distances(self, setting: dict[str, float]) -> list[float]:
        total = [0.0] * len(self.calibrations)
        for key, value in setting.items():
            known = [axis_scale(key, getattr(c.setting, key)) for c in self.calibrations]
            there = [k for k in known if not math.isnan(k)]
            spread = (max(there) - min(there) if there else 0.0) or 1.0
            for i, k in enumerate(known):
                total[i] += math.inf if math.isnan(k) else abs(k - axis_scale(key, value)) / spread
        return total


def _at_iso(calibration: Calibration, iso: float) -> Calibration:
    by_iso, setting = calibration.noise_by_iso, calibration.setting
    if by_iso is None or math.isclose(setting.iso, iso, rel_tol=SAME):
        return calibration
    return replace(calibration, setting=replace(setting, iso=iso), noise=by_iso.at(iso))


def _words(setting: dict[str, float]) -> str:
    return " ".join(f"{key}={value:g}" for key, value in setting.items())


def _describe(calibration: Calibration) -> str:
    return _words(calibration.setting.known()) or "an unknown setting"
