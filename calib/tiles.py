"""Images of single tiles, and what they say of the f-number that was stated."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from calib.fieldmodel import Images
from calib.fieldsolver import Problem
from calib.pointmodel import Optics, Samples
from calib.session import Journal, in_words
from calib.wavefront import Extras, TileImages, Within, check_f_number
from psfbank.arrays import BoolArray, FloatArray
from psfbank.errors import FitFailed

log = logging.getLogger(__name__)

TILE_LIGHTS = 6
STARTS = 4
TILES = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))  # of the picture's width and height
DIFFUSION = Within(0.25, 0.1, 0.4)


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


def trusted_optics(
    problem: Problem, size_px: tuple[int, int], optics: Optics, rng: np.random.Generator, journal: Journal
) -> tuple[Optics, bool]:
    """Say whether the points in the picture's middle bear the stated f-number; if not, return the one they want.

    Returns
    -------
    optics : Optics
    known : bool
        False where the data contradict the manifest: the scale of diffraction is then to be fitted.
    """
    everything = np.ones(len(problem.detected_px), dtype=np.bool_)
    images = tile_images(problem, problem.detected_px, everything, size_px, TILES[0])
    if images is None:
        return optics, True
    try:
        test = check_f_number(
            images,
            optics,
            rng=rng,
            channel=problem.layout.reference,
            extras=Extras(diffusion_px=DIFFUSION),
            starts=STARTS,
        )
    except FitFailed as error:
        log.info("the stated f-number is not checked: %s", in_words(error))
        return optics, True
    journal.summary["psf"] |= {"f_number_check": str(test)}
    if not test.contradicts:
        return optics, True
    log.warning("%s; it is fitted. Check f_number and pixel_pitch_um in capture.toml", test)
    return replace(optics, f_number=test.wanted), False
