"""The kernel problem: fields of non-parametric kernels from linear observations y = f S k + b + n."""

from __future__ import annotations

from calib.kernel.choose import Trial, choose_penalties, reserve
from calib.kernel.observe import Observations
from calib.kernel.penalty import Penalties
from calib.kernel.refine import KernelFit, refine
from calib.kernel.report import Outlier, TileReport
from calib.kernel.solve import solve_kernels

__all__ = [
    "KernelFit",
    "Observations",
    "Outlier",
    "Penalties",
    "TileReport",
    "Trial",
    "choose_penalties",
    "refine",
    "reserve",
    "solve_kernels",
]
