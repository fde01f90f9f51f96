"""Real stars behind an atmosphere, which no wavefront describes: a field fitted to some predicts the others."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from calib.kernel import Observations, refine, reserve
from calib.kernel.choose import image_chi2
from calib.kernel.register import register
from calib.sampling import PointSampling
from psfbank.model import PsfGrid

SHARED = Path(os.environ.get("PSFBANK_SHARED", Path(__file__).parents[2] / "shared"))
STARS = SHARED / "real/stars/rubin_stars.fits"
COUNT, PATCH = 31, 25
SIZE_PX = (4000, 4072)
NODES_X_PX, NODES_Y_PX = np.array([0.0, 4071.0]), np.array([2950.0, 3999.0])
OVERSAMPLE = 2  # the stars are 3.9 pixels wide
SIZE = 2 * (PATCH // 2) * OVERSAMPLE + 1
POSITION_SIGMA_PX = 0.3

pytestmark = pytest.mark.skipif(not STARS.exists(), reason="no shared star stamps here")


def read_stars() -> Observations:
    """The file's only row: stamps, weights, positions as doubles, stamp borders as 64-bit integers, big-endian."""
    row = np.dtype(
        [
            ("image", ">f8", (COUNT, PATCH, PATCH)),
            ("weight", ">f8", (COUNT, PATCH, PATCH)),
            ("xy", ">f8", (2, COUNT)),
            ("border", ">i8", (4, COUNT)),  # xmin, xmax, ymin, ymax
        ]
    )
    stars = np.frombuffer(STARS.read_bytes(), dtype=row, count=1, offset=2 * 2880)[0]
    xy_px = stars["xy"].T.astype(np.float64)
    rows, cols = (stars["border"][k][:, None, None] + np.arange(float(PATCH)) for k in (2, 0))
    values, weights = (stars[name].reshape(COUNT, -1).astype(np.float64) for name in ("image", "weight"))
    return Observations(
        PointSampling.at(rows, cols, xy_px, SIZE, OVERSAMPLE), values, weights, xy_px, np.arange(COUNT), channel=0
    )


def seeing(width_px: float) -> PsfGrid:
    """A round Moffat profile, the usual first guess of an atmosphere's, everywhere."""
    r2 = ((np.arange(SIZE) - SIZE // 2) / OVERSAMPLE) ** 2
    kernel = (1 + (r2[:, None] + r2) / width_px**2) ** -4.0
    kernels = np.broadcast_to(kernel / kernel.sum(), (1, 2, 2, SIZE, SIZE))
    return PsfGrid(NODES_X_PX, NODES_Y_PX, kernels, OVERSAMPLE, channels=("Y",))


def reduced_chi2(stars: Observations, grid: PsfGrid) -> float:
    """Per degree of freedom; position, flux and background of each star are fitted, the kernel is given."""
    kernels = np.asarray(grid.kernels)
    moved = register(stars, kernels[0], NODES_X_PX, NODES_Y_PX, POSITION_SIGMA_PX)
    chi2 = image_chi2(moved, kernels, NODES_X_PX, NODES_Y_PX).sum()
    return float(chi2 / (np.count_nonzero(stars.weights) - 4 * len(stars)))


@pytest.fixture(scope="module")
def stars() -> Observations:
    return read_stars()


def best_width(stars: Observations) -> float:
    return min((2.5, 3.0, 3.5, 4.0, 4.5, 5.0), key=lambda width: reduced_chi2(stars, seeing(width)))


@pytest.mark.parametrize("seed", range(4))
def test_24_stars_predict_the_7_left_out(stars: Observations, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left_out = reserve(stars.xy_px, SIZE_PX, 7 / COUNT, rng)
    assert left_out.sum() == 7
    seen, hidden = stars.take(~left_out), stars.take(left_out)
    start = seeing(best_width(seen))
    fit = refine(start, [seen], SIZE_PX, rng, position_sigma_px=POSITION_SIGMA_PX)
    predicted = reduced_chi2(hidden, fit.grid)
    assert predicted <= 1.3
    assert predicted < reduced_chi2(hidden, start)  # the field has learnt more than a width
    mirrored = np.asarray(fit.grid.kernels)[..., ::-1, :].swapaxes(-1, -2)
    turned = PsfGrid(NODES_X_PX, NODES_Y_PX, mirrored, OVERSAMPLE, channels=("Y",))
    assert predicted < reduced_chi2(hidden, turned)  # and knows which way it points
