from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from psfbank.blur import SpatiallyVaryingBlur
from psfbank.blur.tiling import Edge
from psfbank.errors import ImageError
from psfbank.field import kernel_at, source_kernels
from psfbank.model import PsfGrid

Mode = Literal["scatter", "gather"]
SHARED = Path(os.environ.get("PSFBANK_SHARED", Path(__file__).parents[2] / "shared"))
MODES: tuple[Mode, Mode] = ("scatter", "gather")
EDGES: tuple[Edge, ...] = ("reflect", "edge", "constant")
NUMPY_PAD: dict[Edge, Any] = {"reflect": "symmetric", "edge": "edge", "constant": "constant"}


@pytest.fixture(params=["fourier", "direct"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either way of convolving a tile, whatever the size of the kernels."""
    monkeypatch.setattr("psfbank.blur.operator.WIDEST", 0 if request.param == "fourier" else 99)
    return str(request.param)


def random_grid(
    rng: np.random.Generator, x_px: npt.ArrayLike, y_px: npt.ArrayLike, size: int, oversample: int = 1
) -> PsfGrid:
    x, y = np.asarray(x_px, float), np.asarray(y_px, float)
    kernels = rng.random((1, len(y), len(x), size, size)) ** 4
    return PsfGrid(x, y, kernels / kernels.sum((-2, -1), keepdims=True), oversample, channels=("Y",))


def constant_grid(kernel: npt.NDArray[np.float64], oversample: int = 1) -> PsfGrid:
    return PsfGrid(np.zeros(1), np.zeros(1), kernel[None, None, None] / kernel.sum(), oversample, channels=("Y",))


def pixel_by_pixel(
    grid: PsfGrid, image: npt.NDArray[np.float64], shape: tuple[int, int], mode: Mode, scale: int, edge: Edge
) -> npt.NDArray[np.float64]:
    """Sum over the light of every source sample, what lies beyond the edges included, in the plainest way there is."""
    kernels = source_kernels(grid.kernels[0], grid.oversample, scale)
    width = kernels.shape[-1]
    pad = scale * (width // scale // 2)
    light = np.pad(image, pad, mode=NUMPY_PAD[edge])
    out = np.zeros(shape)
    for row, column in np.ndindex(*shape):
        seen = light[scale * row : scale * row + width, scale * column : scale * column + width]
        here = kernel_at(grid.x_px, grid.y_px, kernels, column, row)
        for i, j in np.ndindex(width, width):
            if mode == "scatter":
                x = (scale * column + j - pad - (scale - 1) / 2) / scale
                y = (scale * row + i - pad - (scale - 1) / 2) / scale
                here = kernel_at(grid.x_px, grid.y_px, kernels, x, y)
            out[row, column] += seen[i, j] * here[width - 1 - i, width - 1 - j]
    return out


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("scale", "oversample", "edge"),
    [(1, 1, "reflect"), (1, 3, "edge"), (1, 1, "constant"), (2, 1, "edge"), (3, 3, "constant"), (4, 1, "reflect")],
)
def test_blur_is_the_sum_over_pixels(mode: Mode, scale: int, oversample: int, edge: Edge) -> None:
    rng = np.random.default_rng(scale)
    shape = (7, 10)  # nodes inside, outside, off the pixels, and an image that goes on beyond them on the right
    grid = random_grid(rng, [-3.0, 4.3, 7.9], [1.2, 6.0], 5 * oversample // 2 * 2 + 1, oversample)
    image = rng.random((shape[0] * scale, shape[1] * scale))

    got = SpatiallyVaryingBlur(grid, shape, "Y", mode, scale, edge=edge).forward(image)
    want = pixel_by_pixel(grid, image, shape, mode, scale, edge)
    assert got.dtype == np.float32
    assert np.linalg.norm(got - want) <= 1e-6 * np.linalg.norm(want)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(MODES),
    st.integers(1, 4),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 4), st.integers(1, 5)),
    st.sampled_from([1, 3, 7, 11, 15]),
    st.sampled_from(EDGES),
    st.integers(0, 2**32 - 1),
)
def test_adjoint_is_the_transpose(
    mode: Mode, scale: int, shape: tuple[int, int], nodes: tuple[int, int], size: int, edge: Edge, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    y_px, x_px = (np.cumsum(rng.uniform(3, 40, n)) - 20 for n in nodes)
    blur = SpatiallyVaryingBlur(random_grid(rng, x_px, y_px, size), shape, "Y", mode, scale, edge=edge)
    x, y = rng.random(blur.source_shape), rng.random(shape)

    there, back = np.vdot(blur.forward(x), y), np.vdot(x, blur.adjoint(y))
    assert there == pytest.approx(back, rel=1e-5)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("mode", MODES)
def test_one_kernel_everywhere_is_an_ordinary_convolution(mode: Mode) -> None:
    rng = np.random.default_rng(1)
    kernel, image = rng.random((7, 7)), rng.random((40, 61))
    got = SpatiallyVaryingBlur(constant_grid(kernel), image.shape, "Y", mode).forward(image)

    want = ndimage.convolve(image, kernel / kernel.sum(), mode="reflect")
    np.testing.assert_allclose(got, want, rtol=2e-6)
    mirrored = ndimage.convolve(image, kernel[::-1, ::-1] / kernel.sum(), mode="reflect")
    assert np.abs(got - mirrored).max() > 1e-2


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_point_becomes_the_kernel_of_its_place_unmirrored(mode: Mode, scale: int) -> None:
    rng = np.random.default_rng(2)
    grid = random_grid(rng, [5.0, 25.0], [5.0, 25.0], 5 * scale // 2 * 2 + 1, scale)
    blur = SpatiallyVaryingBlur(grid, (31, 31), "Y", mode, scale)
    image = np.zeros(blur.source_shape)
    image[5 * scale + scale // 2, 25 * scale + scale // 2] = 1.0  # at the right upper node, for odd scales exactly

    radius = 2
    got = blur.forward(image)[5 - radius : 6 + radius, 25 - radius : 26 + radius]
    kernel = source_kernels(grid.kernels[0, 0, 1], scale, scale)
    pad = (kernel.shape[0] - scale * (2 * radius + 1)) // 2
    kernel = kernel[pad : len(kernel) - pad, pad : len(kernel) - pad]
    first = scale - 1 - scale // 2
    want = kernel[first::scale, first::scale]
    mirrored = want[::-1, ::-1]
    distance = np.linalg.norm(got - want)
    # beside the node the neighbours' kernels have a share: exact only for scatter at an odd scale
    assert distance < (1e-6 if mode == "scatter" and scale % 2 else 0.2) * np.linalg.norm(want)
    assert np.linalg.norm(got - mirrored) > 0.5 * np.linalg.norm(want)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_fine_point_lands_where_it_is_with_the_width_of_its_psf(scale: int) -> None:
    at = (np.arange(81) - 40) / 5
    sigma_px, shape = 0.8, (33, 35)
    gaussian = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * sigma_px**2))
    blur = SpatiallyVaryingBlur(constant_grid(gaussian, 5), shape, "Y", source_scale=scale)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for row, column in [(16 * scale, 17 * scale), (16 * scale + scale - 1, 17 * scale + scale // 2)]:
        source = np.zeros(blur.source_shape)
        source[row, column] = scale**2
        image = blur.forward(source).astype(float)
        x_px, y_px = ((i - (scale - 1) / 2) / scale for i in (column, row))
        total = image.sum()
        assert total == pytest.approx(1.0, abs=2e-3)
        assert (image * x).sum() / total == pytest.approx(x_px, abs=1e-3)
        assert (image * y).sum() / total == pytest.approx(y_px, abs=1e-3)
        assert np.sqrt((image * (x - x_px) ** 2).sum() / total) == pytest.approx(sigma_px, abs=1e-3)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("shape", [(5, 4), (60, 37)])
def test_a_flat_field_stays_flat_to_its_edges(scale: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    flat = np.full((shape[0] * scale, shape[1] * scale), 0.7)
    varying = SpatiallyVaryingBlur(random_grid(rng, [3.0, 20.0], [4.0, 9.0], 9), shape, "Y", "gather", scale)
    constant = SpatiallyVaryingBlur(constant_grid(rng.random((9, 9))), shape, "Y", "scatter", scale)

    for blur in (varying, constant):
        np.testing.assert_allclose(blur.forward(flat), 0.7, rtol=1e-6)


@pytest.mark.usefixtures("engine")
def test_scatter_keeps_the_light_of_every_point() -> None:
    rng = np.random.default_rng(4)
    blur = SpatiallyVaryingBlur(random_grid(rng, [0.0, 17.5, 60.0], [0.0, 40.0], 9), (50, 61), "Y")
    points = np.zeros((50, 61))
    points[rng.integers(10, 40, 9), rng.integers(10, 50, 9)] = 1.0

    assert blur.forward(points).sum(dtype=float) == pytest.approx(points.sum(), rel=1e-6)


def test_neither_the_tiling_nor_the_cache_nor_the_threads_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    grid, image = random_grid(rng, [0.0, 60.0, 140.0], [0.0, 50.0, 90.0, 170.0], 11), rng.random((171, 150))
    one = SpatiallyVaryingBlur(grid, image.shape, "Y", workers=1)
    first = one.forward(image)

    np.testing.assert_array_equal(SpatiallyVaryingBlur(grid, image.shape, "Y", workers=4).forward(image), first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).forward(image), first)  # noqa: S301 our own bytes
    monkeypatch.setattr("psfbank.blur.fourier.CACHE_BYTES", 1)
    uncached = SpatiallyVaryingBlur(grid, image.shape, "Y", workers=1)
    np.testing.assert_array_equal(uncached.forward(image), first)
    np.testing.assert_array_equal(uncached.forward(image), first)
    monkeypatch.setattr("psfbank.blur.tiling.TILE_PX", 24)
    np.testing.assert_allclose(SpatiallyVaryingBlur(grid, image.shape, "Y").forward(image), first, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_a_large_blur_agrees_with_sums_in_double_precision(mode: Mode) -> None:
    rng = np.random.default_rng(6)
    shape, radius = (420, 391), 16
    grid = random_grid(rng, [20.0, 150.0, 300.0], [0.0, 130.0, 270.0, 400.0], 2 * radius + 1)
    image = rng.random(shape)
    got = SpatiallyVaryingBlur(grid, shape, "Y", mode).forward(image)

    light = np.pad(image, radius, mode="symmetric")
    back = np.arange(radius, -radius - 1, -1)  # sample t of a kernel takes light from -t
    for row, column in [(0, 0), (419, 390), (130, 150), *rng.integers(0, 390, (40, 2))]:
        beside = back if mode == "scatter" else 0 * back
        down, across = (
            np.array([np.interp(place + beside, at, one) for one in np.eye(len(at))])
            for place, at in ((row, grid.y_px), (column, grid.x_px))
        )
        seen = light[row : row + 2 * radius + 1, column : column + 2 * radius + 1][::-1, ::-1]
        want = np.einsum("ja,ib,jiab,ab->", down, across, grid.kernels[0].astype(float), seen)
        assert got[row, column] == pytest.approx(want, rel=1e-6)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [1, 2])
def test_a_window_is_blurred_as_its_part_of_the_sensor_is(mode: Mode, scale: int) -> None:
    rng = np.random.default_rng(7)
    grid = random_grid(rng, [10.0, 70.0, 130.0, 200.0], [0.0, 64.0, 128.0], 11 * scale // 2 * 2 + 1, scale)
    whole = SpatiallyVaryingBlur(grid, (140, 210), "Y", mode, scale)
    image = rng.random(whole.source_shape)
    blurred, r = whole.forward(image), whole.radius_px

    for y, x, height, width in [(0, 0, 140, 210), (31, 50, 60, 90), (100, 7, 40, 40), (5, 60, 130, 30)]:
        window = whole.crop(3, 4, 100, 100).crop(y - 3, x - 4, height, width)
        assert (window.shape, window.source_shape) == ((height, width), (height * scale, width * scale))
        part = image[y * scale : (y + height) * scale, x * scale : (x + width) * scale]
        np.testing.assert_allclose(
            window.forward(part)[r:-r, r:-r], blurred[y : y + height, x : x + width][r:-r, r:-r], atol=2e-6
        )
    elsewhere = whole.crop(y + 9, x, height, width).forward(part)
    assert np.abs(elsewhere[r:-r, r:-r] - window.forward(part)[r:-r, r:-r]).max() > 1e-4


def test_threads_may_share_a_blur_and_its_windows() -> None:
    rng = np.random.default_rng(8)
    whole = SpatiallyVaryingBlur(random_grid(rng, [0.0, 50.0, 100.0], [0.0, 50.0, 100.0], 13), (120, 120), "Y")
    windows = [(int(y), int(x), 40, 40) for y, x in rng.integers(0, 80, (40, 2))]
    images = rng.random((40, 40, 40))
    alone = [whole.crop(*at).forward(image) for at, image in zip(windows, images, strict=True)]

    fresh = pickle.loads(pickle.dumps(whole))  # noqa: S301 our own bytes
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda at, image: fresh.crop(*at).forward(image), windows, images))
    np.testing.assert_array_equal(together, alone)


def test_any_kind_of_number_is_taken_and_none_is_changed() -> None:
    rng = np.random.default_rng(9)
    blur = SpatiallyVaryingBlur(random_grid(rng, [0.0, 30.0], [0.0, 30.0], 11), (30, 40), "Y")
    image = rng.integers(0, 1000, (40, 30), dtype=np.uint16).T
    before = image.copy()

    np.testing.assert_array_equal(blur.forward(image), blur.forward(image.astype(np.float64)))
    np.testing.assert_array_equal(image, before)
    for value in (np.nan, np.inf, -np.inf):
        broken = image.astype(np.float32)
        broken[3, 4] = value
        with pytest.raises(ImageError, match="1 values that are not finite"):
            blur.forward(broken)
        with pytest.raises(ImageError, match="1 values that are not finite"):
            blur.adjoint(broken)


def test_wrong_requests_are_refused_in_words() -> None:
    grid = constant_grid(np.ones((3, 3)))
    with pytest.raises(ValueError, match="'scatter' or 'gather'"):
        SpatiallyVaryingBlur(grid, (8, 8), mode="wrap")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'reflect', 'edge', 'constant'"):
        SpatiallyVaryingBlur(grid, (8, 8), edge="wrap")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one pixel, got 0 x 4"):
        SpatiallyVaryingBlur(grid, (8, 8)).crop(0, 0, 0, 4)
    with pytest.raises(ValueError, match="source_scale"):
        SpatiallyVaryingBlur(grid, (8, 8), source_scale=0)
    with pytest.raises(ValueError, match=r"takes an image of \(16, 16\), got \(8, 8\)"):
        SpatiallyVaryingBlur(grid, (8, 8), source_scale=2).forward(np.zeros((8, 8)))


@pytest.mark.parametrize(("mode", "least_db"), [("scatter", 75), ("gather", 100)])
def test_a_reference_camera_is_replayed_from_its_true_psfs(mode: Mode, least_db: float) -> None:
    folder = SHARED / "truth" / "camera_a"
    if not folder.is_dir():
        pytest.skip("the reference camera is not here")
    truth = np.load(folder / "truth.npz")
    kernels = truth["psf_fine"][:1].astype(float)
    kernels /= kernels.sum((-2, -1), keepdims=True)
    grid = PsfGrid(truth["node_x"], truth["node_y"], kernels, int(truth["oversample"]), channels=("R",))
    red = np.s_[..., 2]  # OpenCV reads blue, green, red
    sharp = cv2.imread(str(folder / "scene" / "sharp.png"), cv2.IMREAD_UNCHANGED)[red] / np.float32(255)
    want = cv2.imread(str(folder / "scene" / "blurred.png"), cv2.IMREAD_UNCHANGED)[red] / 65535
    got = SpatiallyVaryingBlur(grid, want.shape, "R", mode, source_scale=3).forward(sharp)
    inner = np.s_[24:-24, 24:-24]  # that camera sees more of the scene beyond its edges than the picture holds
    assert -10 * np.log10(np.mean((got[inner] - want[inner]) ** 2)) >= least_db


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(("scale", "shape"), [(1, (90, 410)), (2, (20, 31)), (3, (4, 3))])
def test_tensors_are_blurred_alike_and_differentiably(
    mode: Mode, edge: Edge, scale: int, shape: tuple[int, int]
) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(10)
    grid = random_grid(rng, [3.0, 40.0, 90.0, 120.0], [0.0, 50.0, 77.0], 15)
    blur = SpatiallyVaryingBlur(grid, shape, "Y", mode, scale, edge=edge)
    x, y = rng.random((2, *blur.source_shape)), rng.random(shape)

    tensor = torch.from_numpy(x).requires_grad_()
    blurred = blur.forward(tensor)
    (blurred * torch.from_numpy(y)).sum().backward()
    assert blurred.dtype == torch.float32
    for channel in range(2):
        np.testing.assert_allclose(blurred[channel].detach(), blur.forward(x[channel]), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(tensor.grad[channel], blur.adjoint(y), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(blur.adjoint(torch.from_numpy(y)), blur.adjoint(y), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="takes an image of"):
        blur.forward(torch.zeros(5, 5))
    assert pickle.loads(pickle.dumps(blur)).forward(tensor).shape == (2, *shape)  # noqa: S301 our own bytes
