from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank.errors import ColourError
from psfbank.isp import (
    SRGB_TO_XYZ,
    apply_matrix,
    camera_to_srgb,
    daylight_gains,
    known_cameras,
    read_matrices,
    sample_colour_matrix,
    srgb_to_camera,
)

CAMERAS = list(known_cameras())


def test_srgb_has_the_published_matrix() -> None:
    """IEC 61966-2-1, with the four digits that it prints."""
    published = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    np.testing.assert_allclose(SRGB_TO_XYZ, published, atol=6e-5)


@pytest.mark.parametrize("name", CAMERAS)
def test_grey_stays_grey_and_white_white(name: str) -> None:
    matrix = known_cameras()[name]
    np.testing.assert_allclose(srgb_to_camera(matrix).sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(camera_to_srgb(matrix).sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(camera_to_srgb(matrix) @ srgb_to_camera(matrix), np.eye(3), atol=1e-12)


@pytest.mark.parametrize("name", CAMERAS)
def test_a_camera_sees_each_primary_best_in_its_own_channel(name: str) -> None:
    """Of a matrix transposed, or from camera to XYZ, this is not so."""
    matrix = srgb_to_camera(known_cameras()[name])
    assert np.argmax(matrix, axis=1).tolist() == [0, 1, 2]
    assert np.all(np.diag(camera_to_srgb(known_cameras()[name])) > 1)


def test_the_scale_of_a_row_does_not_matter() -> None:
    matrix = known_cameras()[CAMERAS[0]]
    np.testing.assert_allclose(camera_to_srgb(np.diag([2.0, 1.0, 0.5]) @ matrix), camera_to_srgb(matrix), atol=1e-12)


def test_daylight_gains_make_white_grey() -> None:
    matrix = known_cameras()[CAMERAS[1]]
    white = np.asarray(matrix) @ [0.95047, 1.0, 1.08883]  # CIE D65
    balanced = daylight_gains(matrix) * white
    np.testing.assert_allclose(balanced, balanced[1], rtol=2e-4)
    assert daylight_gains(matrix)[1] == 1


def test_srgb_is_the_camera_whose_matrix_is_its_own() -> None:
    np.testing.assert_allclose(camera_to_srgb(np.linalg.inv(SRGB_TO_XYZ)), np.eye(3), atol=1e-12)


def test_a_matrix_acts_on_columns_of_colours() -> None:
    image = np.zeros((2, 3, 3), np.float32)
    image[0, 1] = (1.0, 0.0, 0.0)
    matrix = np.arange(9.0).reshape(3, 3)
    got = apply_matrix(image, matrix)
    assert got[0, 1].tolist() == [0, 3, 6]
    assert got.dtype == np.float32
    assert not got[1].any()


def test_a_channel_that_sees_no_white_is_refused() -> None:
    with pytest.raises(ValueError, match="see white"):
        srgb_to_camera(np.diag([1.0, -1.0, 1.0]))


@given(st.integers(0, 2**32))
def test_a_drawn_camera_lies_among_the_real_ones(seed: int) -> None:
    drawn = sample_colour_matrix(np.random.default_rng(seed))
    matrix = srgb_to_camera(drawn)
    real = np.array([srgb_to_camera(known_cameras()[name]) for name in CAMERAS])
    assert np.all(matrix > real.min(axis=0) - 1e-9)
    assert np.all(matrix < real.max(axis=0) + 1e-9)
    np.testing.assert_allclose(daylight_gains(drawn), 1, atol=1e-9)
    np.testing.assert_array_equal(drawn, sample_colour_matrix(np.random.default_rng(seed)))


def test_one_camera_alone_is_drawn_as_it_is() -> None:
    own = known_cameras()[CAMERAS[2]]
    drawn = sample_colour_matrix(np.random.default_rng(0), [own])
    np.testing.assert_allclose(camera_to_srgb(drawn), camera_to_srgb(own), atol=1e-9)


def test_every_matrix_says_where_it_is_from() -> None:
    table = json.loads((Path(__file__).parents[1] / "psfbank" / "isp" / "cameras.json").read_text("utf-8"))
    assert all(len(entry["source"]) > 20 for entry in table.values())
    assert len(table) == len(CAMERAS) >= 4


NUMBERS = [0.66, -0.21, -0.06, -0.48, 1.3, 0.19, -0.1, 0.16, 0.52]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "# name, matrix\nOwn," + ",".join(map(str, NUMBERS)) + "\n"),
        ("a.json", json.dumps({"Own": NUMBERS})),
        ("a.json", json.dumps({"Own": [NUMBERS[:3], NUMBERS[3:6], NUMBERS[6:], [0, 0, 0]]})),
        ("a.json", json.dumps({"Own": {"xyz_to_camera": NUMBERS, "source": "a chart"}})),
    ],
)
def test_matrices_of_ones_own_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    read = read_matrices(tmp_path / name)
    assert list(read) == ["Own"]
    np.testing.assert_array_equal(read["Own"], np.reshape(NUMBERS, (3, 3)))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "holds no matrix"),
        ("a.csv", "Own,1,2,3\n", "'Own' is no matrix"),
        ("a.csv", "Own,a,b,c,d,e,f,g,h,i\n", "'Own' is no matrix"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[1]", "no object of names"),
        ("a.json", '{"Own": {"matrix": []}}', "'Own' is no matrix"),
        ("a.json", '{"Own": [1, 2, 3, 4, 5, 6, 7, 8, NaN]}', "'Own' is no matrix"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ColourError, match=message):
        read_matrices(tmp_path / name)
    with pytest.raises(ColourError, match="cannot be read"):
        read_matrices(tmp_path / "missing.csv")
