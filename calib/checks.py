"""Step of a calibration: a few tiles fitted without any model of the field, to check the field's fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from calib.evidence import Evidence
from calib.fieldmodel import Images
from calib.fieldsolver import Problem
from calib.pointmodel import Samples
from calib.session import Journal, in_words
from calib.wavefront import Extras, TileImages, WavefrontFit, fit_tile
from calib.wavefront.parameters import held
from psfbank.arrays import BoolArray, FloatArray
from psfbank.errors import FitFailed

TILE_LIGHTS = 6
STARTS = 8
TILES = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))  # of the picture's width and height


def tile_images(
    problem: Problem, xy_px: FloatArray, usable: BoolArray, size_px: tuple[int, int], tile: tuple[float, float]
) -> TileImages | None:
    """Images in the reference channel of the usable lights nearest to a place; None without points."""
    place = np.array([tile[0] * (size_px[1] - 1), tile[1] * (size_px[0] - 1)])
    of_points = [i for i in problem.images if i.channel == problem.layout.reference and isinstance(i.samples, Samples)]
    if not of_points:
        return None
    images: Images = of_points[0].take(np.flatnonzero(usable[of_points[0].source]))
    nearest = np.argsort(np.hypot(*(xy_px[images.source] - place).T))[:TILE_LIGHTS]
    chosen = images.take(nearest)
    if not isinstance(chosen.samples, Samples) or len(nearest) < TILE_LIGHTS:
        return None
    return TileImages(chosen.samples, xy_px[chosen.source])


def check_tiles(
    fit: WavefrontFit | None, evidence: Evidence | None, rng: np.random.Generator, journal: Journal
) -> None:
    """Fit a few tiles without any model of the field, and note how far they lie from the field's fit.

    A tile in one focus plane does not tell a wavefront from its twin; the nearer of the two is compared.
    """
    if fit is None or evidence is None:
        return
    checks = [found for tile in TILES if (found := _check_tile(fit, evidence.problem, tile, rng)) is not None]
    if checks:
        journal.summary["psf"] |= {"tile_checks": checks}


def _check_tile(
    fit: WavefrontFit, problem: Problem, tile: tuple[float, float], rng: np.random.Generator
) -> dict[str, Any] | None:
    images = tile_images(problem, fit.xy_px, fit.sound, fit.size_px, tile)
    if images is None:
        return None
    reference, terms = problem.layout.reference, problem.layout.terms
    local = fit.local(reference, images.xy_px).mean(axis=0)
    diffusion, x, y, radius, scale = (held(float(v)) for v in local[terms + 2 :])
    extras = Extras(diffusion_px=diffusion, clip_x=x, clip_y=y, clip_radius=radius, scale=scale)
    try:
        alone = fit_tile(images, fit.optics, rng=rng, channel=reference, extras=extras, starts=STARTS)
    except FitFailed as error:
        return {"tile": list(tile), "failed": in_words(error)}
    apart = [c - local[:terms] for c in (alone.coefficients_nm, alone.twin_coefficients_nm)]
    return {
        "tile": list(tile),
        "apart_nm": round(float(min(np.linalg.norm(a) for a in apart)), 2),
        "stderr_nm": round(float(np.linalg.norm(alone.stderr_nm)), 2),
        "reduced_chi2": round(float(alone.reduced_chi2), 3),
        "sign_is_open": bool(alone.ambiguous),
    }
