"""Frames of points at several focus distances: who may differ, by how much, and that they tell every sign."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from calib.fieldmodel import Layout, local_map, to_shape
from calib.focus import added_defocus_nm, own_focus_m, planes_of, require_one_lens
from calib.manifest import Entry, Plan
from calib.pointmodel import Optics, PointModel, Samples
from calib.wavefront import FocusPlanes, field_position, fit_wavefront, pose_problem
from psfbank.errors import ManifestError
from psfbank.model import Camera, Points, Setting
from psfbank.zernike import noll_terms

SIZE_PX, HALF_PX, LIGHTS, PEAK_E = (96, 128), 7, 36, 20_000.0
OPTICS = Optics(noll_terms(4, 11), np.array([[540.0]]), np.ones((1, 1)), 2.0, 1.4)
FOCUS_NM = (150.0, -150.0)  # of the second and third frame, from the first
NAN = float("nan")

Array = npt.NDArray[np.float64]


def entry(kind: str, focus_m: float = NAN, f_number: float = 2.0, frames: int = 1) -> Entry:
    files = tuple(Path(f"{kind}_{k}.png") for k in range(frames))
    return Entry(kind, files, Setting(focal_mm=4.0, f_number=f_number, focus_m=focus_m))


def plan(*entries: Entry, **changes: object) -> Plan:
    camera = Camera("Maker", "Model", SIZE_PX, "mono", pitch_um=1.4)
    setting = Setting(focal_mm=4.0, f_number=2.0)
    whole = Plan(Path("capture.toml"), Path(), camera, "linear", (64.0,), 1023.0, setting, (540.0,), entries)
    return replace(whole, **changes)


def test_only_points_may_differ_in_focus() -> None:
    require_one_lens(plan(entry("led", 1.0), entry("led", 0.5), entry("chessboard", 1.0), entry("flat", 1.0)))
    with pytest.raises(ManifestError, match=r"capture\.toml: 2 different settings .* one by one"):
        require_one_lens(plan(entry("chessboard", 1.0), entry("flat", 0.5)))
    with pytest.raises(ManifestError, match="2 different settings"):
        require_one_lens(plan(entry("led", 1.0), entry("led", 1.0, f_number=2.8)))


def test_the_sessions_focus_is_that_of_its_boards_or_of_most_points() -> None:
    assert own_focus_m(plan(entry("led", 1.0, frames=5), entry("chessboard", 0.5))) == 0.5
    assert own_focus_m(plan(entry("led", 1.0), entry("led", 0.5, frames=3))) == 0.5
    assert np.isnan(own_focus_m(plan(entry("led"), entry("flat"))))


def test_views_are_sorted_into_planes() -> None:
    leds = [entry("led", 1.0), entry("led", 0.5), entry("led", 2.0), entry("led")]
    given = plan(*leds, entry("chessboard", 1.0))
    planes = planes_of(given, leds)
    assert planes.plane == (0, 1, 2, 0)
    assert planes.focus_nm == tuple(added_defocus_nm(given.setting, focus, 1.0) for focus in (0.5, 2.0))
    np.testing.assert_array_equal(planes.of(np.array([2, 1, 1, 3])), [2, 1, 1, 0])
    assert planes_of(plan(*leds[:1]), leds[:1]) == FocusPlanes()
    with pytest.raises(ManifestError, match="focal_length_mm or f_number is not known"):
        planes_of(replace(given, setting=Setting(f_number=2.0)), leds)


def test_defocus_is_that_of_a_thin_lens() -> None:
    setting = Setting(focal_mm=4.0, f_number=2.0)
    moved_mm = 4.0**2 * (1 / 500 - 1 / 1000)  # f^2 (1 / s - 1 / s'), far from the lens
    expected = -moved_mm * 1e6 / (8 * 4.0) / (2 * np.sqrt(3))
    assert added_defocus_nm(setting, 0.5, 1.0) == pytest.approx(expected, rel=0.02)
    assert added_defocus_nm(setting, 1.0, 0.5) == pytest.approx(-expected, rel=0.02)
    assert added_defocus_nm(setting, float("inf"), 1e9) == pytest.approx(0, abs=1e-3)


@pytest.fixture(scope="module")
def truth() -> Array:
    """Every even term has the sign that a start with positive defocus would not choose."""
    layout = Layout(8, 1, degree=1, reference=0, planes=3)
    at, vector = layout.slices(), np.zeros(layout.slices()["scale"].stop)
    wave = vector[at["wave"]].reshape(8, layout.shared)
    wave[:, 0] = -35.0, 12.0, -9.0, 14.0, -8.0, 5.0, 6.0, -22.0
    wave[0, 1:] = 15.0, -10.0
    vector[at["diffusion"]], vector[at["clip"].stop - 1], vector[at["scale"].start] = 0.28, 1.1, 1.0
    vector[at["focus"]] = [*(1.2 * FOCUS_NM[0], 8.0, -5.0), *(0.9 * FOCUS_NM[1], 0.0, 6.0)]
    return vector


def three_frames(truth: Array) -> Points:
    rng = np.random.default_rng(4)
    layout = Layout(8, 1, degree=1, reference=0, planes=3)
    xy_px = rng.uniform(8, 87, (3 * LIGHTS, 2)) * [1.36, 1.0]
    view = np.repeat(np.arange(3), LIGHTS)
    corner = np.rint(xy_px).astype(np.int64) - HALF_PX
    rows, cols = ((corner[:, k, None, None] + np.arange(2 * HALF_PX + 1)).astype(float) for k in (1, 0))
    light = np.empty((3 * LIGHTS, 2 * HALF_PX + 1, 2 * HALF_PX + 1))
    for plane in range(3):
        own = view == plane
        mapped = local_map(layout, 0, field_position(xy_px[own], SIZE_PX), plane) @ truth
        samples = Samples(rows[own], cols[own], np.zeros(0), np.zeros(0))
        light[own] = PointModel(OPTICS, 0, HALF_PX).render(to_shape(layout, mapped, xy_px[own]), samples)[:, 0]
    electrons = PEAK_E * light / light.max((1, 2), keepdims=True)
    patch = (rng.poisson(electrons) + rng.normal(0, 3.0, light.shape)) / PEAK_E
    zero = np.zeros(len(xy_px), dtype=np.int64)
    detected = xy_px + rng.normal(0, 0.1, xy_px.shape)
    variance = (electrons + 9.0) / PEAK_E**2
    return Points(detected, zero, patch, variance, corner, np.arange(len(xy_px)), view, zero)


def test_three_planes_of_focus_tell_every_sign_and_magnitude(truth: Array) -> None:
    planes = FocusPlanes((0, 1, 2), FOCUS_NM)
    problem = pose_problem(three_frames(truth), OPTICS, SIZE_PX, 1, half_px=HALF_PX, degree=1, planes=planes)
    fit = fit_wavefront(problem, SIZE_PX)
    nodes = np.stack(np.meshgrid(np.linspace(10, 117, 4), np.linspace(10, 85, 3)), -1).reshape(-1, 2)
    found = fit.local(0, nodes)[:, :8]
    want = (local_map(fit.layout, 0, field_position(nodes, SIZE_PX)) @ truth)[:, :8]
    rms_waves = np.linalg.norm(found - want, axis=1) / 540.0
    assert np.median(rms_waves) <= 0.005
    focus = fit.layout.slices()["focus"]
    assert fit.vector[focus][::3] == pytest.approx(truth[focus][::3], abs=4.0)
