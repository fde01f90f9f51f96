"""Flats and darks of several ISO speeds, each measured with its own kind."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from calib.photometry.noise import fit_noise
from psfbank.errors import FitFailed
from psfbank.model import Camera, Capture, NoiseByIso, NoiseModel
from psfbank.noise import QUANTITIES

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeasuredNoise:
    """Noise of a session at one ISO speed, NaN where unknown, and at all speeds where there are several.

    `left_out` names the captures that told nothing, and why.
    """

    noise: NoiseModel
    iso: float
    by_iso: NoiseByIso | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    def weighing(self, iso: float) -> NoiseModel:
        """Noise to weigh samples shot at another ISO speed by: as at its own, the gain in proportion to the speed."""
        if math.isnan(iso) or math.isnan(self.iso) or iso == self.iso:
            return self.noise
        return replace(self.noise, gain_dn_per_e=self.noise.gain_dn_per_e * (iso / self.iso))


def measure_by_iso(
    flats: Sequence[Capture],
    darks: Sequence[Capture],
    camera: Camera,
    black_level: npt.ArrayLike,
    white_level: float,
    iso: float = math.nan,
) -> MeasuredNoise:
    """Measure noise at every ISO speed that has flats.

    Parameters
    ----------
    flats, darks, camera, black_level, white_level
        As `fit_noise`. Where frames state several speeds, one that states none belongs to `iso`.
    iso : float
        ISO speed of the session's other captures, NaN where unknown.

    Returns
    -------
    MeasuredNoise
        At `iso` where that was calibrated or lies between speeds that were, else at the calibrated speed next to it;
        at the lowest when `iso` is unknown.

    Raises
    ------
    FitFailed
        When noise could be measured at no speed.
    """
    speeds = sorted({c.setting.iso for c in (*flats, *darks) if not math.isnan(c.setting.iso)})
    if len(speeds) < 2:
        noise = fit_noise(flats, darks, camera, black_level, white_level)
        return MeasuredNoise(noise, speeds[0] if speeds else iso)
    lit, unlit = ([(iso if math.isnan(c.setting.iso) else c.setting.iso, c) for c in shot] for shot in (flats, darks))
    models: dict[float, NoiseModel] = {}
    left_out = {
        c.name: "it does not state its ISO speed, and others state several" for s, c in lit + unlit if math.isnan(s)
    }
    for speed in speeds:
        own_flats, own_darks = ([c for s, c in shot if s == speed] for shot in (lit, unlit))
        try:
            models[speed] = fit_noise(own_flats, own_darks, camera, black_level, white_level)
        except FitFailed as error:
            _log.warning("ISO %g: %s", speed, error)
            left_out |= {c.name: f"of ISO {speed:g}, where {error.what}" for c in (*own_flats, *own_darks)}
    if not models:
        raise FitFailed(
            f"flats and darks of ISO {', '.join(f'{s:g}' for s in speeds)} tell noise at none of these speeds",
            where="flat",
            remedy="Capture two or more flats at each of several exposures, and two darks, at one ISO speed",
        )
    known = np.array(list(models))
    nearest = float(known[0] if math.isnan(iso) else np.clip(iso, known[0], known[-1]))
    if len(models) == 1:
        return MeasuredNoise(models[nearest], nearest, None, left_out)
    rows = {name: np.stack([getattr(model, name) for model in models.values()]) for name in QUANTITIES}
    by_iso = NoiseByIso(known, **rows, channels=camera.channels)
    return MeasuredNoise(by_iso.at(nearest), nearest, by_iso, left_out)
