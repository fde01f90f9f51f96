"""What the domain types refuse, and what they promise."""

from __future__ import annotations

import pickle
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from psfbank.bank import PsfBank
from psfbank.errors import MissingPartError
from psfbank.model import (
    Calibration,
    Camera,
    Capture,
    Corners,
    Illumination,
    Points,
    PsfGrid,
    Setting,
    channel_index,
)


def changed(values: Any, index: tuple[int, ...], value: float) -> np.ndarray:
    array = np.array(values)
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("part", "field", "at", "value", "message"),
    [
        ("psf_grid", "kernels", (0, 0, 0, 7, 7), np.nan, "not finite"),
        ("psf_grid", "kernels", (2, 3, 4, 0, 0), -1e-3, "must not be negative"),
        ("psf_grid", "kernels", (1, 2, 3, 0, 0), 1e-3, "must sum to one"),
        ("psf_grid", "x_px", (1,), 1e6, "increase strictly"),
        ("psf_grid", "y_px", (0,), np.nan, "increase strictly"),
        ("wavefront", "coefficients_nm", (0, 0, 0, 0), np.inf, "not finite"),
        ("wavefront", "x_px", (0,), 1e6, "increase strictly"),
        ("distortion", "camera_matrix", (0, 0), np.nan, "not finite"),
        ("distortion", "coefficients", (0, 1, 2, 3), np.inf, "not finite"),
        ("distortion", "knots_x", (0,), 1e6, "increase strictly"),
        ("illumination", "relative", (0, 0, 0), -0.1, "must not be negative"),
        ("illumination", "relative", (0, 0, 0), np.nan, "not finite"),
        ("illumination", "y_px", (2,), -1e6, "increase strictly"),
        ("noise", "gain_dn_per_e", (0,), 0.0, "must be positive"),
        ("noise", "white_dn", (2,), 64.0, "must be positive"),
    ],
)
def test_one_wrong_value_is_refused(
    small_bank: PsfBank, part: str, field: str, at: tuple[int, ...], value: float, message: str
) -> None:
    good = getattr(small_bank.at(), part)

    with pytest.raises(ValueError, match=message):
        replace(good, **{field: changed(getattr(good, field), at, value)})


@pytest.mark.parametrize("part", ["psf_grid", "wavefront", "distortion", "illumination", "noise"])
def test_every_array_is_tied_to_the_others_by_its_shape(small_bank: PsfBank, part: str) -> None:
    good = getattr(small_bank.at(), part)
    arrays = {f.name: v for f in fields(good) if isinstance(v := getattr(good, f.name), np.ndarray)}

    for name, array in arrays.items():
        if name != "valid_region":  # a polygon may have any number of corners
            with pytest.raises(ValueError, match="must have"):
                replace(good, **{name: array[1:]})


@pytest.mark.parametrize("part", ["psf_grid", "wavefront", "distortion", "illumination", "noise"])
def test_arrays_are_read_only_and_stay_so_in_another_process(small_bank: PsfBank, part: str) -> None:
    here = getattr(small_bank.at(), part)
    there = pickle.loads(pickle.dumps(here))  # noqa: S301 - our own bytes
    assert_same_and_read_only(here, there)


def assert_same_and_read_only(here: Any, there: Any) -> None:
    for f in fields(here):
        value, back = getattr(here, f.name), getattr(there, f.name)
        if is_dataclass(value):
            assert_same_and_read_only(value, back)
        elif isinstance(value, np.ndarray):
            assert not value.flags.writeable
            assert not back.flags.writeable
            np.testing.assert_array_equal(back, value)
        else:
            assert back == value


def test_an_even_kernel_has_no_centre() -> None:
    with pytest.raises(ValueError, match="odd width"):
        PsfGrid([0.0], [0.0], np.full((3, 1, 1, 4, 4), 1 / 16))


def test_a_grid_without_evidence_says_so() -> None:
    grid = PsfGrid(np.array([0.0]), np.array([0.0]), np.ones((3, 1, 1, 1, 1)))

    assert np.isnan(grid.sigma).all()
    assert not np.any(grid.n_obs)
    assert not np.any(grid.flags)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cfa": "RGBW"}, "`cfa` must be one of"),
        ({"size_px": (0, 640)}, "both positive"),
        ({"xyz_to_camera": np.eye(4)}, "must have shape"),
        ({"xyz_to_camera": np.full((3, 3), np.nan)}, "not finite"),
        ({"xyz_to_camera": np.ones((3, 3))}, "must be invertible"),
        ({"xyz_to_camera": np.eye(3), "cfa": "mono"}, "a monochrome camera has none"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Camera("ACME", "One", (480, 640)), **change)


def test_a_camera_with_colours_compares_and_hashes() -> None:
    one, other = (Camera("ACME", "One", (480, 640), xyz_to_camera=np.eye(3)) for _ in range(2))  # type: ignore[arg-type]
    assert one == other
    assert hash(one) == hash(other)
    assert one != Camera("ACME", "One", (480, 640))


def test_a_map_of_another_degree_is_refused_rather_than_read_as_a_cubic(small_bank: PsfBank) -> None:
    lens = small_bank.at().distortion
    assert lens is not None
    with pytest.raises(ValueError, match="`degree` must be 3"):
        replace(lens, degree=2, knots_x=lens.knots_x[1:], knots_y=lens.knots_y[1:])


def test_the_only_channel_of_a_monochrome_camera_answers_to_every_name() -> None:
    channels = Camera("ACME", "Mono", (480, 640), cfa="mono").channels

    assert [channel_index(channels, name) for name in ("Y", "G")] == [0, 0]
    with pytest.raises(ValueError, match="no channel 'IR'; there are R, G, B"):
        channel_index(("R", "G", "B"), "IR")


def test_channels_are_not_swapped(small_bank: PsfBank) -> None:
    calibration = small_bank.at()

    for index, name in enumerate("RGB"):
        node = calibration.psf(calibration.psf_grid.x_px[1], calibration.psf_grid.y_px[2], name, oversample=3)
        np.testing.assert_allclose(node, calibration.psf_grid.kernels[index, 2, 1], atol=1e-7)


def test_a_setting_knows_what_it_knows() -> None:
    assert Setting(f_number=1.8, focus_m=float("inf")).known() == {"f_number": 1.8, "focus_m": float("inf")}


@pytest.mark.parametrize("change", [{"iso": 0.0}, {"f_number": -2.0}, {"focal_mm": float("inf")}, {"focus_m": -1.0}])
def test_a_setting_that_cannot_be_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Setting(**change)


def test_missing_parts_are_named_with_a_remedy() -> None:
    with pytest.raises(MissingPartError, match=r"no PSFs.*`led`"):
        Calibration().psf(0, 0)
    with pytest.raises(MissingPartError, match=r"no shading.*`flat`"):
        Calibration().shading(0, 0)


def test_provenance_cannot_be_changed_afterwards() -> None:
    given = {"seed": 1}
    calibration = Calibration(provenance=given)
    given["seed"] = 2

    assert calibration.provenance == {"seed": 1}
    with pytest.raises(TypeError):
        calibration.provenance["seed"] = 3


def test_a_capture_and_its_saturation_cover_the_same_pixels() -> None:
    assert Capture(np.zeros((4, 6, 3)), np.zeros((4, 6), bool), "a.dng", "").pixels.dtype == np.float32
    with pytest.raises(ValueError, match=r"`saturated` must have shape \(4, 6\)"):
        Capture(np.zeros((4, 6)), np.zeros((6, 4), bool), "a.dng", "")
    with pytest.raises(ValueError, match=r"\(H, W\) or \(H, W, C\)"):
        Capture(np.zeros(4), np.zeros(4, bool), "a.dng", "")


def test_corners_that_were_not_found_may_be_nan_and_others_not() -> None:
    image_px = np.array([[[1.0, 2.0], [np.nan, np.nan]]])

    Corners(np.zeros((1, 2, 2)), image_px, np.array([[True, False]]))
    with pytest.raises(ValueError, match="`image_px` holds 2 values"):
        Corners(np.zeros((1, 2, 2)), image_px, np.array([[True, True]]))


def test_points_are_taken_together() -> None:
    patch = np.arange(27.0).reshape(3, 3, 3)
    numbers = np.arange(3)
    points = Points(np.zeros((3, 2)), numbers, patch, patch, np.zeros((3, 2)), numbers, numbers, numbers)

    some = points.take(np.array([True, False, True]))

    assert len(some) == 2
    np.testing.assert_array_equal(some.patch, patch[[0, 2]])
    np.testing.assert_array_equal(some.flags, [0, 2])
    with pytest.raises(ValueError, match="`flags` must hold 3 observations, got 2"):
        replace(points, flags=numbers[:2])


def test_illumination_needs_no_more_than_its_nodes() -> None:
    tilted = Illumination(np.array([0.0, 10.0]), np.array([0.0, 20.0]), np.array([[[0.2, 0.4], [0.6, 0.8]]]), ("Y",))

    np.testing.assert_allclose(tilted.at([0, 10, 5, 99], [0, 20, 10, 99]), [0.2, 0.8, 0.5, 0.8], atol=1e-6)


def test_illumination_over_rows_and_columns_is_that_at_their_crossings(small_bank: PsfBank) -> None:
    light = small_bank.at().illumination
    assert light is not None
    columns, rows = np.array([-3.0, 0.7, 41.2, 200.0]), np.array([5.5, 33.3, 90.0])
    np.testing.assert_allclose(light.over(columns, rows, "B"), light.at(columns, rows[:, None], "B"), rtol=1e-12)
