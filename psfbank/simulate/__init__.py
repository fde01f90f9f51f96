"""A camera: what it makes of a sharp picture."""

from __future__ import annotations

from psfbank.simulate.simulator import Simulator
from psfbank.simulate.stages import STAGES
from psfbank.simulate.window import Window, fitted, pinhole_map, window_of

__all__ = ["STAGES", "Simulator", "Window", "fitted", "pinhole_map", "window_of"]
