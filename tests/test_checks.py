"""Single tiles, fitted on their own, against the field; and the f-number that the images want."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from calib.checks import TILE_LIGHTS, TILES, check_tiles, tile_images
from calib.evidence import Evidence
from calib.fieldsolver import Problem
from calib.pointmodel import Optics, PointModel, Samples, Shape
from calib.session import Journal
from calib.wavefront import fit_wavefront, pose_problem
from psfbank.flags import Flag
from psfbank.model import Points
from psfbank.zernike import noll_terms

SIZE_PX, HALF_PX, LIGHTS = (96, 128), 7, 40
TRUE_F_NUMBER = 2.8
READ_NOISE = 0.002

Array = npt.NDArray[np.float64]


def optics(f_number: float) -> Optics:
    return Optics(noll_terms(4, 8), np.array([[540.0]]), np.ones((1, 1)), f_number, 1.4)


@pytest.fixture(scope="module")
def points() -> Points:
    rng = np.random.default_rng(3)
    xy_px = rng.uniform(10, 85, (LIGHTS, 2)) * [1.3, 1.0]
    corner = np.rint(xy_px).astype(np.int64) - HALF_PX
    rows, cols = ((corner[:, k, None, None] + np.arange(2 * HALF_PX + 1)).astype(float) for k in (1, 0))
    model = PointModel(optics(TRUE_F_NUMBER), 0, HALF_PX)
    terms = np.tile([40.0, 10.0, -5.0, 12.0, 6.0], (LIGHTS, 1))
    shape = Shape(terms, xy_px, np.tile([0.0, 0.0, 1.1], (LIGHTS, 1)), 0.25, 1.0)
    light = model.render(shape, Samples(rows, cols, np.zeros(0), np.zeros(0)))[:, 0].astype(np.float64)
    patch = light / light.max() + rng.normal(0, READ_NOISE, light.shape)
    zero = np.zeros(LIGHTS, dtype=np.int64)
    variance = np.full(patch.shape, READ_NOISE**2)
    return Points(xy_px, zero, patch, variance, corner, np.arange(LIGHTS), zero, zero)


def problem(points: Points, f_number: float) -> Problem:
    return pose_problem(points, optics(f_number), SIZE_PX, 1, half_px=HALF_PX)


@pytest.mark.parametrize("stated", [TRUE_F_NUMBER, 2.0])
def test_the_field_finds_the_f_number_whatever_was_stated(points: Points, stated: float) -> None:
    posed = pose_problem(points, optics(stated), SIZE_PX, 1, half_px=HALF_PX, degree=0)
    fit = fit_wavefront(posed, SIZE_PX)
    found = stated * fit.vector[fit.layout.slices()["scale"].start]
    assert found == pytest.approx(TRUE_F_NUMBER, rel=0.03)


def test_tiles_fitted_alone_bear_the_field_out(points: Points) -> None:
    posed = pose_problem(points, optics(TRUE_F_NUMBER), SIZE_PX, 1, half_px=HALF_PX, degree=0)
    fit = fit_wavefront(posed, SIZE_PX)
    journal = Journal(summary={"psf": {}})
    seen = Evidence(posed, np.zeros(LIGHTS, dtype=bool), ("led.png",) * LIGHTS, True)
    check_tiles(fit, seen, np.random.default_rng(0), journal)
    checks = journal.summary["psf"]["tile_checks"]
    assert [check["tile"] for check in checks] == [list(tile) for tile in TILES]
    for check in checks:
        assert check["apart_nm"] < 5 * check["stderr_nm"]
        assert check["reduced_chi2"] == pytest.approx(1, abs=0.15)
        assert check["sign_is_open"], "one focus plane does not tell the twin"


def test_a_tile_takes_the_usable_lights_nearest_to_it(points: Points) -> None:
    usable = np.arange(LIGHTS) % 3 != 0
    images = tile_images(problem(points, 2.8), points.xy_px, usable, SIZE_PX, TILES[0])
    assert images is not None
    apart = np.hypot(*(points.xy_px - [63.5, 47.5]).T)
    nearest = np.flatnonzero(usable)[np.argsort(apart[usable])[:TILE_LIGHTS]]
    np.testing.assert_array_equal(images.xy_px, points.xy_px[nearest])


def test_too_few_lights_make_no_tile(points: Points) -> None:
    few = points.take(np.arange(TILE_LIGHTS - 1))
    assert tile_images(problem(few, 2.8), few.xy_px, np.ones(len(few), dtype=bool), SIZE_PX, TILES[0]) is None
    spoilt = replace(points, flags=np.full(LIGHTS, int(Flag.SATURATED)))
    assert tile_images(problem(spoilt, 2.8), points.xy_px, np.ones(LIGHTS, dtype=bool), SIZE_PX, TILES[0]) is None
