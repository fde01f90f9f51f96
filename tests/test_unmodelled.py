"""What no wavefront explains: a ghost beside every image is found, and nothing is where there is nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import shift

from calib.evidence import Evidence
from calib.fieldmodel import Layout, local_map, to_shape
from calib.pointmodel import Optics, PointModel, Samples
from calib.psf import render_grid, tile_nodes
from calib.session import Journal
from calib.unmodelled import add_remainder
from calib.wavefront import WavefrontFit, field_position, pose_problem
from psfbank.arrays import FloatArray
from psfbank.model import Points, PsfGrid
from psfbank.zernike import noll_terms

SIZE_PX, HALF_PX, LIGHTS, NOISE = (96, 128), 7, 140, 2e-4
OPTICS = Optics(noll_terms(4, 8), np.array([[540.0]]), np.ones((1, 1)), 2.0, 1.4)
LAYOUT = Layout(5, 1, degree=1, reference=0)
GHOST_SHARE, GHOST_PX = 0.06, (2.0, -3.0)  # rows, columns

Array = npt.NDArray[np.float64]


def vector() -> Array:
    at = LAYOUT.slices()
    found = np.zeros(at["scale"].stop)
    wave = found[at["wave"]].reshape(5, LAYOUT.shared)
    wave[0], wave[3] = (30.0, 25.0, -10.0), (12.0, 0.0, 20.0)
    found[at["diffusion"]], found[at["clip"].stop - 1], found[at["scale"].start] = 0.28, 1.1, 1.0
    return found


def seen(ghost_share: float) -> tuple[Points, Array]:
    """Lights on every pixel of a monochrome sensor, each with a fainter copy of itself beside it."""
    rng = np.random.default_rng(1)
    xy_px = rng.uniform(0, 1, (LIGHTS, 2)) * [SIZE_PX[1] - 1, SIZE_PX[0] - 1]
    corner = np.rint(xy_px).astype(np.int64) - HALF_PX
    rows, cols = ((corner[:, k, None, None] + np.arange(2 * HALF_PX + 1)).astype(float) for k in (1, 0))
    model = PointModel(OPTICS, 0, HALF_PX)
    shape = to_shape(LAYOUT, local_map(LAYOUT, 0, field_position(xy_px, SIZE_PX)) @ vector(), xy_px)
    light = model.render(shape, Samples(rows, cols, np.zeros(0), np.zeros(0)))[:, 0].astype(np.float64)
    copies = np.array([shift(image, GHOST_PX, order=1) for image in light])
    patch = (1 - ghost_share) * light + ghost_share * copies + rng.normal(0, NOISE, light.shape)
    zero = np.zeros(LIGHTS, dtype=np.int64)
    return Points(xy_px, zero, patch, np.full(patch.shape, NOISE**2), corner, np.arange(LIGHTS), zero, zero), xy_px


def calibrated(ghost_share: float) -> tuple[PsfGrid, PsfGrid, FloatArray, Journal]:
    points, xy_px = seen(ghost_share)
    problem = pose_problem(points, OPTICS, SIZE_PX, 1, half_px=HALF_PX, degree=1)
    reserved = np.arange(LIGHTS) % 5 == 0
    told = np.ones((1, LIGHTS))
    fit = WavefrontFit(
        LAYOUT, OPTICS, SIZE_PX, HALF_PX, vector(), 1e-8 * np.eye(len(vector())), xy_px, np.full(LIGHTS, 0.01),
        ~reserved, reserved, np.ones(LIGHTS), 0 * told, told,
    )  # fmt: skip
    base, _ = render_grid(fit, problem.images, ("Y",), *tile_nodes(SIZE_PX, 50.0))
    journal = Journal(summary={"psf": {}})
    evidence = Evidence(problem, reserved, ("led.png",) * LIGHTS, True)
    found, asymmetry = add_remainder(base, fit, evidence, np.random.default_rng(0), journal)
    assert found is not None
    assert asymmetry is not None
    return base, found, asymmetry, journal


def ghosted(base: PsfGrid) -> Array:
    """Kernels that truly made the images, centred roughly: the ghost's moment is taken out."""
    step = base.oversample
    back = GHOST_SHARE * np.array(GHOST_PX)
    kernels = base.kernels[0].astype(np.float64)
    both = (1 - GHOST_SHARE) * kernels + GHOST_SHARE * shift(kernels, (0, 0, *(step * np.array(GHOST_PX))), order=1)
    return np.asarray(shift(both, (0, 0, *(-step * back)), order=3))


def test_a_ghost_becomes_a_remainder_at_its_place() -> None:
    base, found, asymmetry, journal = calibrated(GHOST_SHARE)
    truth = ghosted(base)
    norm = np.linalg.norm(truth, axis=(2, 3))
    before, after = (np.linalg.norm(k[0] - truth, axis=(2, 3)) / norm for k in (base.kernels, found.kernels))
    assert np.median(after) < 0.5 * np.median(before)
    assert journal.summary["psf"]["remainder"]["delta"] > 0
    assert journal.summary["psf"]["remainder_gain"] > 0
    middle = base.kernels.shape[-1] // 2
    there = tuple(middle + round(base.oversample * move) for move in GHOST_PX)
    mirrored = tuple(2 * middle - k for k in there)
    added = (found.kernels - base.kernels)[0].mean((0, 1))
    assert added[there] > 5 * abs(added[mirrored]), "the ghost is on one side"
    np.testing.assert_allclose(found.kernels.sum((3, 4)), 1, atol=1e-5)
    assert asymmetry.shape == found.kernels.shape[:3]
    assert np.nanmedian(asymmetry) > 10, "a ghost on one side resists symmetry"
    assert found.kernels.min() >= 0


def test_images_that_the_wavefront_explains_leave_the_kernels_alone() -> None:
    base, found, _, journal = calibrated(0.0)
    assert found is base
    assert journal.summary["psf"]["remainder"] is None


def test_without_a_field_there_is_nothing_to_add_to() -> None:
    assert add_remainder(None, None, None, np.random.default_rng(0), Journal()) == (None, None)
