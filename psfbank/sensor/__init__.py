"""The sensor: colour sites, photons to electrons, electrons to digital numbers.

DN = round(black + gain (Poisson(e) + read)), clipped to 0 .. white: the linear camera model of EMVA 1288 (release 4.0,
section 2) with its quantisation, where e are the electrons that light frees, in pixels that differ in sensitivity, and
those that come without light. `Sensor` is all of that in one call; the functions are its parts.
"""

from __future__ import annotations

from psfbank.sensor.draws import ReadMixture, digitise, read_out, read_out_gaussian
from psfbank.sensor.pattern import fixed_pattern
from psfbank.sensor.readout import Sensor
from psfbank.sensor.sites import cfa_sites, mosaic

__all__ = [
    "ReadMixture",
    "Sensor",
    "cfa_sites",
    "digitise",
    "fixed_pattern",
    "mosaic",
    "read_out",
    "read_out_gaussian",
]
