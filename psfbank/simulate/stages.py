"""The stages of a camera: their order, what each needs, and which of them a simulation takes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from psfbank.degrade import Degradation
from psfbank.errors import MissingPartError
from psfbank.model import Calibration

STAGES = (
    *("distortion", "blur", "shading", "mosaic", "noise", "quantise"),
    *("white_balance", "demosaic", "colour", "tone", "jpeg"),
)
Stage = str | Degradation
ALL = "all"  # stands for what is taken by default, where other stages are named beside it

_PART = {
    "distortion": "distortion",
    "blur": "psf_grid",
    "shading": "illumination",
    "noise": "noise",
    "quantise": "noise",
}
_CAPTURES = {"distortion": "chessboard", "blur": "led", "shading": "flat", "noise": "flat", "quantise": "flat"}
_WITHOUT_MOSAIC = {
    "mono": {"mosaic", "demosaic", "white_balance", "colour"},
    "RGB": {"mosaic", "demosaic"},
}
_NEEDS = {"demosaic": "mosaic", "jpeg": "tone"}
_IF_DEVELOPED = ("white_balance", "colour")
_IF_NAMED = ("tone", "jpeg")
log = logging.getLogger(__name__)


def in_order(stages: Sequence[Stage], some: bool = False) -> tuple[Stage, ...]:
    """Put stages into the order in which light meets them, each degradation behind the stage that it was listed after.

    These are but `some` of the stages where one that needs another may find it among the rest.

    Raises
    ------
    ValueError
        When there is no such stage, one stands twice, or one needs another that is not there.
    """
    groups: dict[str, list[Stage]] = {"": []}
    last = ""
    for stage in stages:
        if not isinstance(stage, str):
            groups[last].append(stage)
            continue
        if stage not in STAGES:
            raise ValueError(f"no stage {stage!r}; there are {', '.join(STAGES)}")
        if stage in groups:
            raise ValueError(f"stage {stage!r} is named twice")
        groups[stage], last = [stage], stage
    for stage, needed in _NEEDS.items():
        if stage in groups and needed not in groups and not (some and needed not in _IF_NAMED):
            raise ValueError(f"stage {stage!r} needs stage {needed!r}")
    return tuple(stage for name in ("", *STAGES) for stage in groups.get(name, ()))


def chosen(
    cal: Calibration, cfa: str, stages: Sequence[Stage] | None, developed: bool, skip_missing: bool
) -> tuple[Stage, ...]:
    """Choose the stages of a simulation.

    Parameters
    ----------
    cal : Calibration
    cfa : str
        Of the sensor.
    stages : sequence of str or Degradation, optional
        "all" among them stands for all that the calibration has data for, but "tone" and "jpeg"; that is the default.
    developed : bool
        Whether white balance and colours are known; without, they are no default.
    skip_missing : bool
        Leave out, with a warning, what the calibration has no data for; else that is an error.

    Raises
    ------
    ValueError
        As `in_order`.
    MissingPartError
        When a stage that is named has no data, or no meaning for this sensor.
    """
    missing = [name for name, part in _PART.items() if getattr(cal, part) is None]
    beside = _WITHOUT_MOSAIC.get(cfa, set())
    off = {*beside, *_IF_NAMED, *(() if developed else _IF_DEVELOPED)}
    asked = [ALL] if stages is None else list(stages)
    if ALL in asked:
        at, skip_missing = asked.index(ALL), True
        asked[at : at + 1] = [stage for stage in STAGES if stage not in off and stage not in asked]
    ordered = in_order(asked)
    for stage in ordered:
        if not isinstance(stage, str):
            continue
        if stage in missing and not skip_missing:
            raise MissingPartError(
                f"this calibration has no data for stage {stage!r}",
                remedy=f"Leave it out (--skip-missing), or calibrate a session with `{_CAPTURES[stage]}` captures",
            )
        if stage in beside:
            raise MissingPartError(
                f"stage {stage!r} has no meaning for this camera, which is {cfa}", remedy="Leave it out"
            )
    if absent := [stage for stage in ordered if stage in missing]:
        log.warning("this calibration has no data for %s: simulated without", ", ".join(map(str, absent)))
    return tuple(stage for stage in ordered if stage not in missing)
