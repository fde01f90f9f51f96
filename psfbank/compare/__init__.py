"""Two calibrations side by side, with units and significance."""

from __future__ import annotations

from psfbank.compare.arrays import save_maps as save_maps
from psfbank.compare.calibrations import Comparison as Comparison
from psfbank.compare.calibrations import compare as compare
from psfbank.compare.difference import Difference as Difference
