"""What images say of every tile: chi2 of a right and of a wrong model, and where the mosaics show the error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import shift

from calib.evidence import Evidence
from calib.fieldmodel import Layout, local_map, to_shape
from calib.fieldsolver import Problem
from calib.pointmodel import Optics, PointModel, Samples
from calib.psf import tile_nodes
from calib.residuals import tile_evidence
from calib.wavefront import WavefrontFit, field_position, pose_problem
from psfbank.model import NoiseModel, Points, PsfEvidence, PsfGrid
from psfbank.sensor import cfa_sites
from psfbank.zernike import noll_terms

SIZE_PX, HALF_PX, LIGHTS = (96, 128), 7, 160
OPTICS = Optics(noll_terms(4, 8), np.array([[610.0], [540.0], [460.0]]), np.ones((3, 1)), 2.0, 1.4)
LAYOUT = Layout(5, 3, degree=1, reference=1)
GHOST_SHARE, GHOST_PX = 0.06, (1, 4)  # rows down, columns to the right
READ, SHOT, LIGHT = 2e-4, 1e-5, 4.0  # sigma and slope of the noise, flux of a light
GHOSTED = 2  # the tiles from this column on
X_PX, Y_PX = tile_nodes(SIZE_PX, 42.0)
TILES = (3, len(Y_PX), len(X_PX))

Array = npt.NDArray[np.float64]
NOISE = NoiseModel(
    [4.0] * 3, [np.sqrt(READ**2 * 400e3**2 - 1 / 12) / 4.0] * 3, [0.0] * 3, [0.0] * 3, [0.0] * 3, [400e3] * 3
)


def vector() -> Array:
    at = LAYOUT.slices()
    found = np.zeros(at["scale"].stop)
    wave = found[at["wave"]].reshape(5, LAYOUT.shared)
    wave[0], wave[3] = (30.0, 25.0, -10.0), (12.0, 0.0, 20.0)
    found[at["lateral"]] = 0.3
    found[at["diffusion"]], found[at["clip"].stop - 1], found[at["scale"].start] = 0.28, 1.1, 1.0
    return found


def seen(ghost_px: tuple[int, int] | None, rng: np.random.Generator) -> tuple[Points, Array]:
    """Lights on a mosaic, with a fainter copy of itself beside each in the right half of the picture."""
    xy_px = rng.uniform(0, 1, (LIGHTS, 2)) * [SIZE_PX[1] - 1, SIZE_PX[0] - 1]
    corner = np.rint(xy_px).astype(np.int64) - HALF_PX
    rows, cols = ((corner[:, k, None, None] + np.arange(2 * HALF_PX + 1)) for k in (1, 0))
    site = cfa_sites("RGGB", (2, 2))[rows[:, 0, :, None] % 2, cols[:, 0, None, :] % 2]
    parts = []
    for channel in range(3):
        at = Samples(rows.astype(float), cols.astype(float), np.zeros(0), np.zeros(0))
        shape = to_shape(LAYOUT, local_map(LAYOUT, channel, field_position(xy_px, SIZE_PX)) @ vector(), xy_px)
        light = LIGHT * PointModel(OPTICS, channel, HALF_PX).render(shape, at)[:, 0].astype(np.float64)
        if ghost_px is not None:
            right = (xy_px[:, 0] > (X_PX[GHOSTED - 1] + X_PX[GHOSTED]) / 2)[:, None, None]
            copies = np.array([shift(image, ghost_px, order=1) for image in light])
            light = np.where(right, light + GHOST_SHARE * copies, light)
        variance = READ**2 + SHOT * light
        patch = light + rng.normal(0, 1, light.shape) * np.sqrt(variance)
        parts.append((patch, np.where(site == channel, 4 * variance, np.inf)))  # a first guess at the noise
    patch, variance = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    channel, zero = np.repeat(np.arange(3), LIGHTS), np.zeros(3 * LIGHTS, dtype=np.int64)
    lights = np.tile(np.arange(LIGHTS), 3)
    return Points(np.tile(xy_px, (3, 1)), channel, patch, variance, corner[lights], lights, zero, zero), xy_px


def posed(ghost_px: tuple[int, int] | None) -> tuple[WavefrontFit, Problem]:
    """The true wavefront, without the ghost, and the images."""
    points, xy_px = seen(ghost_px, np.random.default_rng(1))
    reserved = np.arange(LIGHTS) % 5 == 0
    told = np.ones((3, LIGHTS))
    fit = WavefrontFit(
        LAYOUT, OPTICS, SIZE_PX, HALF_PX, vector(), 1e-8 * np.eye(len(vector())), xy_px, np.full(LIGHTS, 0.01),
        ~reserved, reserved, np.ones(LIGHTS), 0 * told, told,
    )  # fmt: skip
    return fit, pose_problem(points, OPTICS, SIZE_PX, 3, half_px=HALF_PX, degree=1)


def summed_up(
    fit: WavefrontFit, problem: Problem, noise: NoiseModel | None = NOISE, asymmetry: Array | None = None
) -> PsfEvidence:
    kernels = np.zeros((*TILES, 3, 3))
    kernels[..., 1, 1] = 1.0
    evidence = Evidence(problem, fit.reserved, ("led.png",) * LIGHTS, True)
    found = tile_evidence(fit, evidence, noise, PsfGrid(X_PX, Y_PX, kernels), asymmetry)
    assert found is not None
    return found


def test_a_right_model_has_a_chi2_of_one_and_leaves_nothing() -> None:
    fit, problem = posed(None)
    found = summed_up(fit, problem)
    for channel, samples in enumerate((56, 113, 56)):
        expected = 1 - 2 / samples  # flux and background follow the noise
        assert np.nanmean(found.chi2_used[channel]) == pytest.approx(expected, abs=0.03)
        assert np.nanmean(found.chi2_reserved[channel]) == pytest.approx(expected, abs=0.08)
    assert np.abs(found.residual).max() < 0.01
    np.testing.assert_array_equal(found.n_reserved.sum((1, 2)), fit.reserved.sum())
    assert np.isnan(found.asymmetry).all()


def test_without_a_noise_model_the_first_weights_stay() -> None:
    found = summed_up(*posed(None), noise=None)
    assert np.nanmedian(found.chi2_used) == pytest.approx(0.25, abs=0.02), "the first guess was twice too wide"


def test_a_mosaic_shows_a_ghost_at_its_place_and_in_its_tiles() -> None:
    found = summed_up(*posed(GHOST_PX))
    middle, width = found.residual.shape[-1] // 2, found.residual.shape[-1]
    assert width == 2 * HALF_PX + 1
    there = middle + GHOST_PX[0], middle + GHOST_PX[1]
    for channel in range(3):
        right, left = (found.residual[channel][:, part].mean((0, 1)) for part in (slice(GHOSTED, None), slice(GHOSTED)))
        assert np.unravel_index(right.argmax(), right.shape) == there
        assert 0.3 * GHOST_SHARE < right[there] < 1.2 * GHOST_SHARE, "a share of the model's peak"
        assert np.abs(left).max() < 0.1 * right[there], "only where there is a ghost"
        chi2 = found.chi2_used[channel]
        assert np.nanmin(chi2[:, GHOSTED:]) > 2 > np.nanmax(chi2[:, :GHOSTED])


def test_a_ghost_to_the_left_shows_on_the_left() -> None:
    found = summed_up(*posed((-1, -4)))
    green = found.residual[1][:, GHOSTED:].mean((0, 1))
    assert np.unravel_index(green.argmax(), green.shape) == (HALF_PX - 1, HALF_PX - 4)


def test_the_resistance_to_symmetry_is_handed_on() -> None:
    rise = np.arange(float(np.prod(TILES))).reshape(TILES)
    np.testing.assert_array_equal(summed_up(*posed(None), asymmetry=rise).asymmetry, rise)


def test_outliers_and_other_planes_of_focus_count_for_nothing() -> None:
    fit, problem = posed(None)
    red, green, blue = problem.images
    problem = replace(problem, images=(red, green, replace(blue, plane=1)))
    left = fit.xy_px[:, 0] < (X_PX[0] + X_PX[1]) / 2
    found = summed_up(replace(fit, used=fit.used & ~left, reserved=fit.reserved & ~left), problem)
    assert np.isnan(found.chi2_used[2]).all()
    assert np.isnan(found.chi2_used[:, :, 0]).all()
    assert np.isfinite(found.chi2_used[:2, :, 1:]).all()
    assert found.residual[:2, :, 1:].any(axis=(3, 4)).all()
    assert not found.residual[:, :, 0].any()


def test_without_a_field_there_is_no_evidence() -> None:
    assert tile_evidence(None, None, None, None, None) is None
