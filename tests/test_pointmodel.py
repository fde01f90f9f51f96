"""The model of a point's image against the bank's own PSF, against its derivatives, and for which way it moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from calib.pointmodel import EXTRAS, Optics, PointModel, Samples, Shape, to_samples
from psfbank.model import Points
from psfbank.sensor import cfa_sites
from psfbank.zernike import centroid_px, effective_psf, noll_terms

TERMS = noll_terms(4, 11)
OPEN = (0.0, 0.0, 1.1)  # a stop that cuts nothing

Array = npt.NDArray[np.float64]


def optics(wavelengths_nm: tuple[float, ...] = (540.0,)) -> Optics:
    return Optics(TERMS, np.array([wavelengths_nm]), np.ones((1, len(wavelengths_nm))), 2.0, 1.4)


def shape(*terms: tuple[float, ...], clip: tuple[float, float, float] = OPEN, scale: float = 1.0) -> Shape:
    coefficients = np.array([t + (0.0,) * (len(TERMS) - len(t)) for t in terms])
    count = len(terms)
    return Shape(coefficients, np.zeros((count, 2)), np.tile(clip, (count, 1)), 0.28, scale)


def lattice(half_px: int, count: int = 1, oversample: int = 1) -> Samples:
    axis = np.arange(-half_px * oversample, half_px * oversample + 1) / oversample
    at = np.broadcast_to(axis, (count, 1, len(axis)))
    return Samples(at, at, np.zeros(0), np.zeros(0))


def points_of(channel: int, cfa: str, corners: npt.NDArray[np.int64], width: int = 7) -> tuple[Points, Array]:
    """Patches of a random mosaic, and the mosaic."""
    image = np.random.default_rng(0).random((40, 50))
    sites = cfa_sites(cfa, image.shape)
    windows = [np.s_[y : y + width, x : x + width] for x, y in corners]
    count = len(corners)
    zero = np.zeros(count, dtype=np.int64)
    patch = np.array([image[w] for w in windows])
    variance = np.array([np.where(sites[w] == channel, 0.5 + image[w], np.inf) for w in windows])
    return Points(
        corners + width // 2, np.full(count, channel), patch, variance, corners, np.arange(count), zero, zero
    ), image


@pytest.mark.parametrize(
    ("cfa", "channel"), [("mono", 0), *((cfa, c) for cfa in ("RGGB", "BGGR", "GRBG") for c in range(3))]
)
def test_lattices_hold_every_sample_of_their_colour_once_at_its_place(cfa: str, channel: int) -> None:
    corners = np.array([(10, 12), (11, 12), (10, 13), (11, 13), (0, 31)])
    points, image = points_of(channel, cfa, corners)
    samples = to_samples(points)
    lattices = 4 if cfa == "mono" else (1, 2, 1)[channel]
    assert samples.values.shape == samples.weights.shape == (5, lattices, 4, 4)
    assert samples.rows_px.shape == samples.cols_px.shape == (5, lattices, 4)
    sites = cfa_sites(cfa, image.shape)
    for k, (x, y) in enumerate(corners):
        rows, cols = np.broadcast_arrays(samples.rows_px[k][:, :, None], samples.cols_px[k][:, None, :])
        known = samples.weights[k] > 0
        row, col = rows[known].astype(int), cols[known].astype(int)
        expected = {(r, c) for r in range(y, y + 7) for c in range(x, x + 7) if sites[r, c] == channel}
        assert len(row) == len(expected)
        assert set(zip(row.tolist(), col.tolist(), strict=True)) == expected
        np.testing.assert_array_equal(samples.values[k][known], image[row, col])
        np.testing.assert_allclose(samples.weights[k][known], 1 / (0.5 + image[row, col]))


def test_taking_some_samples_keeps_what_belongs_together() -> None:
    samples = to_samples(points_of(1, "RGGB", np.array([(10, 12), (11, 12), (10, 13)]))[0])
    some = samples.take(np.array([2, 0]))
    for name in ("rows_px", "cols_px", "values", "weights"):
        np.testing.assert_array_equal(getattr(some, name), getattr(samples, name)[[2, 0]])


def test_the_image_is_the_banks_effective_psf() -> None:
    clip, terms = (0.2, -0.15, 1.0), (25.0, 10.0, -12.0, 8.0, 14.0, -5.0, 4.0, 9.0)
    spectrum = (500.0, 540.0, 580.0)
    model = PointModel(optics(spectrum), 0, 8.0, 65)
    got = model.render(shape(terms, clip=clip), lattice(8))[0, 0].astype(np.float64)
    expected = effective_psf(
        np.array(terms),
        TERMS,
        wavelengths_nm=np.array(spectrum),
        weights=np.ones(3),
        f_number=2.0,
        pitch_um=1.4,
        half_px=8,
        diffusion_px=0.28,
        clip=clip,
    )
    assert np.linalg.norm(got / got.sum() - expected) < 1e-3 * np.linalg.norm(expected)


def test_an_image_lies_where_its_position_says() -> None:
    model = PointModel(optics(), 0, 8.0)
    at = np.array([(0.0, 0.0), (0.3, 0.0), (0.0, -0.4), (-0.25, 0.45)])
    blurred = replace(shape(*[(20.0,)] * 4), xy_px=at)
    images = model.render(blurred, lattice(8, 4))[:, 0].astype(np.float64)
    np.testing.assert_allclose([centroid_px(image) for image in images], at, atol=0.02)


@pytest.mark.parametrize(("move", "axis"), [((1.0, 0.0), 1), ((0.0, 1.0), 0)])
def test_a_pixel_to_the_right_or_down_moves_the_picture_by_a_pixel(move: tuple[float, float], axis: int) -> None:
    model = PointModel(optics(), 0, 8.0)
    still = shape((20.0, 10.0, 5.0, -15.0, 20.0))
    before = model.render(still, lattice(8))[0, 0]
    after = model.render(replace(still, xy_px=np.array([move])), lattice(8))[0, 0]
    np.testing.assert_allclose(np.roll(before, 1, axis)[2:-2, 2:-2], after[2:-2, 2:-2], atol=1e-5 * before.max())


def test_lattices_of_a_mosaic_see_the_same_image_as_the_full_grid() -> None:
    points, _ = points_of(1, "RGGB", np.array([(10, 12), (11, 12)]))
    model = PointModel(optics(), 0, 4.0)
    blurred = replace(shape((20.0,), (0.0, 15.0)), xy_px=np.array([(13.2, 15.1), (13.9, 14.8)]))
    samples = to_samples(points)
    sparse = model.render(blurred, samples)
    axis = np.broadcast_to(np.arange(50.0), (2, 1, 50))
    whole = model.render(blurred, Samples(axis, axis, np.zeros(0), np.zeros(0)))[:, 0]
    for k, full in enumerate(whole):
        for n in range(2):
            rows, cols = samples.rows_px[k, n].astype(int), samples.cols_px[k, n].astype(int)
            np.testing.assert_allclose(sparse[k, n], full[np.ix_(rows, cols)], atol=1e-6)


def test_flux_does_not_depend_on_the_wavefront_or_the_scale() -> None:
    model = PointModel(optics((520.0, 560.0)), 0, 14.0)
    plain = model.render(shape((0.0,)), lattice(14))[0, 0].sum()
    aberrated = model.render(shape((30.0, 10.0, 0.0, 20.0)), lattice(14))[0, 0].sum()
    assert aberrated == pytest.approx(plain, rel=0.02)


def test_spectral_weights_count_relative_to_one_another() -> None:
    lines = np.array([[500.0, 600.0], [500.0, 600.0], [500.0, 500.0]])
    model = [
        PointModel(Optics(TERMS, lines, np.array(w), 2.0, 1.4), c, 6.0)
        for c, w in ((0, [[2.0, 6.0]] * 3), (1, [[0.25, 0.75]] * 3), (2, [[1.0, 0.0]] * 3))
    ]
    images = [m.render(shape((20.0,)), lattice(6))[0, 0] for m in model]
    np.testing.assert_allclose(images[0], images[1], rtol=1e-5)
    assert model[0].mean_nm == pytest.approx(575.0)
    assert np.abs(images[0] - images[2]).max() > 0.05 * images[2].max()


def finite_difference(model: PointModel, at: Shape, samples: Samples, column: int) -> Array:
    """Central difference of the rendered image by one column of the Jacobian."""
    terms = len(TERMS)
    name = "term" if column < terms else EXTRAS[column - terms]

    def moved(by: float) -> Shape:
        if name == "term":
            return replace(at, coefficients_nm=at.coefficients_nm + by * np.eye(terms)[column])
        if name in ("x_px", "y_px"):
            return replace(at, xy_px=at.xy_px + by * np.eye(2)[("x_px", "y_px").index(name)])
        if name.startswith("clip"):
            return replace(at, clip=at.clip + by * np.eye(3)[("clip_x", "clip_y", "clip_radius").index(name)])
        return replace(at, **{name: getattr(at, name) + by})

    step = {"term": 0.5, "x_px": 5e-3, "y_px": 5e-3, "diffusion_px": 5e-3, "scale": 3e-3}.get(name, 2e-2)
    high, low = (model.render(moved(by), samples).astype(np.float64) for by in (step, -step))
    return np.asarray((high - low) / (2 * step))


def jacobian_errors(wavelengths_nm: tuple[float, ...]) -> dict[str, float]:
    """Largest relative L2 error of each column, two images."""
    model = PointModel(optics(wavelengths_nm), 0, 7.0)
    at = replace(
        shape((30.0, 10.0, -12.0, 8.0, 14.0, -5.0, 4.0, 9.0), (-25.0, 5.0, 5.0, -12.0), clip=(0.25, -0.2, 1.0)),
        xy_px=np.array([(0.2, -0.3), (-0.1, 0.4)]),
    )
    samples = lattice(7, 2)
    image, columns = model.jacobian(at, samples)
    np.testing.assert_allclose(image, model.render(at, samples), rtol=1e-6)
    assert columns.shape == (2, 1, len(TERMS) + len(EXTRAS), 15, 15)
    errors = {}
    for k in range(columns.shape[2]):
        expected = finite_difference(model, at, samples, k)
        worst = [np.linalg.norm(columns[b, 0, k] - expected[b, 0]) / np.linalg.norm(expected[b, 0]) for b in range(2)]
        errors[f"{TERMS[k]}" if k < len(TERMS) else EXTRAS[k - len(TERMS)]] = max(worst)
    return errors


def test_derivatives_of_one_wavelength_are_those_of_the_image() -> None:
    errors = jacobian_errors((540.0,))
    differences = {"scale": 2e-3, "diffusion_px": 2e-3}  # forward steps in float32; the rim of the rendered window
    differences |= dict.fromkeys(("clip_x", "clip_y", "clip_radius"), 0.06)
    for name, error in errors.items():
        limit = differences.get(name, 5e-4)
        assert error < limit, f"{name}: {error:.2g}"


def test_derivatives_of_a_channels_spectrum_are_close_to_those_of_its_mean_wavelength() -> None:
    for name, error in jacobian_errors((520.0, 540.0, 560.0)).items():
        assert error < (0.06 if name.startswith("clip") else 0.03), f"{name}: {error:.2g}"


def test_a_larger_scale_of_diffraction_widens_the_image() -> None:
    model = PointModel(optics(), 0, 12.0)
    at = np.arange(-12, 13)
    width = []
    for scale in (0.9, 1.0, 1.2):
        image = model.render(shape((0.0,), scale=scale), lattice(12))[0, 0].astype(np.float64)
        core = image[8:17, 8:17].sum(0)
        width.append((core @ at[8:17] ** 2) / core.sum())
    assert width == sorted(width)


def test_a_stop_off_axis_makes_a_defocused_image_lean() -> None:
    model = PointModel(optics(), 0, 10.0)
    images = model.render(shape((60.0,), clip=(0.4, 0.0, 0.9)), lattice(10))[0, 0].astype(np.float64)
    x, y = centroid_px(images)
    assert x > 0.2
    assert abs(y) < 1e-3
