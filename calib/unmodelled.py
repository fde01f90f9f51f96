"""Step of a calibration: what no wavefront explains, added to the kernels where held-out images ask for it.

The wavefront is interpolated between nodes in its coefficients, a remainder in kernel space. So that the remainder does
not take up what bilinear kernels do to a wavefront, each image is first relieved of the difference between the
wavefront's own PSF at its place and the mix of its nodes' kernels.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from calib.chartmodel import ChartSamples
from calib.evidence import Evidence
from calib.fieldmodel import Images, closed_form
from calib.kernel import KernelFit, Observations, refine, reserve
from calib.kernel.observe import mixing
from calib.pointmodel import Samples, Sampling
from calib.progress import Report, silent
from calib.psf import render_kernels
from calib.sampling import ChartSampling, Operator, PointSampling
from calib.session import Journal
from calib.wavefront import WavefrontFit
from psfbank.arrays import FloatArray
from psfbank.model import PsfGrid
from psfbank.zernike import fine_grid

CHUNK = 64  # images whose kernels are rendered at once
MOST_PIECES = 100
CERTAIN = 2.0  # standard errors by which a remainder must gain: the wavefront is physics, a remainder is not


def observed(images: Images, fit: WavefrontFit, grid: PsfGrid) -> Observations:
    """Arrange images of one kind and channel for the kernel problem, relieved of what bilinear kernels misrender."""
    seen, count = images.samples, len(images.source)
    lights_px = fit.xy_px[images.source]
    parts = [slice(k, min(k + CHUNK, count)) for k in range(0, count, CHUNK)]
    rendered = [render_kernels(fit, images.channel, lights_px[part], grid.oversample) for part in parts]
    own = np.concatenate([kernels.astype(np.float32) for kernels, _ in rendered])
    lateral = fit.local(images.channel, lights_px)[:, fit.layout.terms : fit.layout.terms + 2]
    sampling = _sampling(seen, lights_px + lateral + np.concatenate([d for _, d in rendered]), grid)
    mix = mixing(np.asarray(grid.x_px), np.asarray(grid.y_px), lights_px)
    nodes = grid.kernels[images.channel].reshape(mix.shape[1], -1)
    relieved = []
    for part in parts:
        pair = np.stack([own[part], (mix[part] @ nodes).reshape(own[part].shape)], axis=1)
        exact, mixed = np.moveaxis(sampling.take(part).forward(pair).astype(np.float64), 1, 0)
        taken = seen.take(part)
        linear = closed_form(exact[:, None, :, None], taken)[0]
        uneven = np.einsum("bn,bnd->bd", linear[:, 2:], taken.linear(exact)[:, 2:])
        relieved.append(taken.values.reshape(exact.shape) - uneven - linear[:, :1] * (exact - mixed))
    weights = seen.weights.reshape(count, -1)
    return Observations(sampling, np.concatenate(relieved), weights, lights_px, images.source, images.channel)


def _sampling(seen: Sampling, centroids_px: FloatArray, grid: PsfGrid) -> Operator:
    """See centred kernels at the images' centroids."""
    size = grid.kernels.shape[-1]
    if isinstance(seen, ChartSamples):
        drawn = ChartSampling.of(seen.drawing[seen.number], seen.rows, seen.cols, size, grid.oversample)
        return drawn.moved(centroids_px - seen.drawn_px)
    if isinstance(seen, Samples):
        return PointSampling.of(seen, centroids_px, size, grid.oversample)
    raise TypeError(f"no kernel is seen through {type(seen).__name__}")


def of_the_grids_sampling(images: Images, fit: WavefrontFit, grid: PsfGrid) -> bool:
    """Whether the kernel problem can use them: points, and charts drawn on a grid as fine as theirs."""
    shortest_nm = float(fit.optics.wavelengths_nm.min())
    fine_px = fine_grid(fit.half_px + 1.0, fit.optics.f_number, fit.optics.pitch_um, shortest_nm)
    same_grid = round(1.0 / float(fine_px[1] - fine_px[0])) == grid.oversample
    return isinstance(images.samples, Samples) or (isinstance(images.samples, ChartSamples) and same_grid)


def add_remainder(
    grid: PsfGrid | None,
    fit: WavefrontFit | None,
    evidence: Evidence | None,
    rng: np.random.Generator,
    journal: Journal,
    executor: Executor | None = None,
    report: Report = silent,
) -> tuple[PsfGrid | None, FloatArray | None]:
    """Add to a wavefront's kernels what the images ask for beyond them; the same grid where they do not.

    Parameters
    ----------
    grid : PsfGrid or None
        The wavefront's kernels at the nodes; without them there is nothing to add to.
    fit : WavefrontFit or None
    evidence : Evidence or None
    rng : Generator
    journal : Journal
        Takes the weights chosen, what they gained, and how much the images resist symmetry.
    executor : Executor, optional
    report : callable

    Returns
    -------
    grid : PsfGrid or None
    asymmetry : (C, Ty, Tx) float64 or None
        Rise of chi2 per image when every kernel is replaced by its centrally symmetric part, NaN for tiles without
        images; None where no image could be asked.
    """
    if grid is None or fit is None or evidence is None:
        return None, None
    report("remainder", 0, 1)
    images, sound = [part for part in evidence.problem.images if part.plane == 0], fit.sound
    points = [part for part in images if isinstance(part.samples, Samples)]
    if not points:  # charts speak of a kernel at many times the cost
        sound = sound & reserve(fit.xy_px, fit.size_px, min(0.99, MOST_PIECES / len(sound)), rng)
    sets = []
    for part in points or images:
        kept = part.take(np.flatnonzero(sound[part.source]))
        if len(kept.source) and of_the_grids_sampling(kept, fit, grid):
            sets.append(observed(kept, fit, grid))
    if not sets:
        return grid, None
    reserved = np.flatnonzero(fit.reserved)
    with threadpool_limits(1, user_api="blas"):
        found = refine(grid, sets, fit.size_px, rng, reserved=reserved, certain=CERTAIN, executor=executor)
    journal.summary["psf"] |= summary(found)
    report("remainder", 1, 1)
    asymmetry = rise_per_image(found)
    if math.isinf(found.penalties.delta):
        return grid, asymmetry
    return replace(grid, kernels=found.grid.kernels), asymmetry


def summary(found: KernelFit) -> dict[str, object]:
    """Put the kernel problem in numbers for the journal; an infinite weight is None."""
    weights = {name: None if math.isinf(w) else w for name, w in asdict(found.penalties).items()}
    resists = rise_per_image(found)
    resists = resists[np.isfinite(resists)]
    return {
        "remainder": None if math.isinf(found.penalties.delta) else weights,
        "remainder_gain": round(float(found.trials[0].error - min(t.error for t in found.trials)), 5),
        "resists_symmetry": round(float(np.median(resists)), 3) if len(resists) else None,
    }


def rise_per_image(found: KernelFit) -> npt.NDArray[np.float64]:
    """How much the images resist central symmetry, by tile (C, Ty, Tx): rise of chi2 per image used; NaN for none."""
    total, count = np.asarray(found.tiles.asymmetry_used), np.asarray(found.tiles.n_obs)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
