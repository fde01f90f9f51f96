"""calib: find out what a lens is, from captures of known targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calib.pipeline import calibrate as calibrate

__all__ = ["calibrate"]


def __getattr__(name: str) -> Any:
    # the laboratory's libraries load on first use, so that `psfbank --help` answers at once
    if name != "calibrate":
        raise AttributeError(f"module 'calib' has no attribute {name!r}")
    from calib.pipeline import calibrate

    return calibrate
