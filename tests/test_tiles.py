"""A tile's own images bear the f-number that was stated, or say another one."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from calib.fieldsolver import Problem
from calib.pointmodel import Optics, PointModel, Samples, Shape
from calib.session import Journal
from calib.tiles import TILE_LIGHTS, TILES, tile_images, trusted_optics
from calib.wavefront import pose_problem
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


def test_an_f_number_that_contradicts_the_data_is_replaced_and_said(
    points: Points, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(summary={"psf": {}})
    with caplog.at_level(logging.WARNING):
        posed = problem(points, 2.0)
        found, known = trusted_optics(posed, SIZE_PX, optics(2.0), np.random.default_rng(0), journal)
    assert not known
    assert found.f_number == pytest.approx(TRUE_F_NUMBER, rel=0.05)
    assert "the manifest says f/2" in journal.summary["psf"]["f_number_check"]
    assert "Check f_number and pixel_pitch_um" in caplog.text


def test_an_f_number_that_fits_is_kept(points: Points) -> None:
    journal, stated = Journal(summary={"psf": {}}), optics(TRUE_F_NUMBER)
    posed = problem(points, TRUE_F_NUMBER)
    found, known = trusted_optics(posed, SIZE_PX, stated, np.random.default_rng(0), journal)
    assert known
    assert found is stated
    assert "the data agree" in journal.summary["psf"]["f_number_check"]


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
