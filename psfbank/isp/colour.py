"""A camera's colours and those of sRGB: 3 x 3 matrices of linear light, white kept.

A camera is described by `xyz_to_camera`, from CIE XYZ to its R, G and B: ColorMatrix of DNG 1.4, rgb_xyz_matrix of
LibRaw and rawpy. Here it becomes a matrix between linear sRGB and the white-balanced camera: each row is divided by its
sum, so that what is neutral under D65 is neutral in both.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray, frozen
from psfbank.errors import ColourError

Image = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


def _srgb_to_xyz() -> Matrix:
    """Derive the matrix from the primaries and the white D65 (IEC 61966-2-1): red + green + blue is white at Y = 1."""
    primaries, white = np.array([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]]), np.array([0.3127, 0.3290])
    xyz = np.column_stack([(x / y, 1, (1 - x - y) / y) for x, y in primaries])
    return np.asarray(xyz * np.linalg.solve(xyz, [white[0] / white[1], 1, (1 - white.sum()) / white[1]]))


SRGB_TO_XYZ = _srgb_to_xyz()
XYZ_TO_SRGB = np.linalg.inv(SRGB_TO_XYZ)


def srgb_to_camera(xyz_to_camera: npt.ArrayLike) -> Matrix:
    """Matrix from linear sRGB to the white-balanced camera.

    Parameters
    ----------
    xyz_to_camera : (3, 3) float array_like
        CIE XYZ to camera, at any scale a row.

    Returns
    -------
    (3, 3) float64
        Each row sums to one (Brooks et al., CVPR 2019, section 3).

    Raises
    ------
    ValueError
        When a channel of the camera does not see white.
    """
    matrix = np.asarray(xyz_to_camera, dtype=np.float64) @ SRGB_TO_XYZ
    neutral = matrix.sum(axis=1, keepdims=True)
    if matrix.shape != (3, 3) or not np.all(neutral > 0):
        raise ValueError(f"`xyz_to_camera` must be (3, 3) and see white in every channel, got {matrix.shape}")
    return np.asarray(matrix / neutral)


def camera_to_srgb(xyz_to_camera: npt.ArrayLike) -> Matrix:
    """Matrix from the white-balanced camera to linear sRGB, inverse of `srgb_to_camera`; its rows sum to one, too."""
    return np.asarray(np.linalg.inv(srgb_to_camera(xyz_to_camera)))


def daylight_gains(xyz_to_camera: npt.ArrayLike) -> Matrix:
    """White balance (3,) of R, G and B under D65, green 1: what the camera sees of white, inverted."""
    neutral = np.asarray(xyz_to_camera, dtype=np.float64) @ SRGB_TO_XYZ.sum(axis=1)
    return np.asarray(neutral[1] / neutral)


def apply_matrix(image: FloatArray, matrix: npt.ArrayLike) -> Image:
    """Multiply the colours of every pixel of linear light, (H, W, 3), by a matrix (3, 3); (H, W) by one row of it."""
    return np.asarray(cv2.transform(np.asarray(image, dtype=np.float32), np.asarray(matrix, dtype=np.float32)))


@cache
def known_cameras() -> Mapping[str, Matrix]:
    """Matrices from XYZ of real cameras, by name; `cameras.json` beside this module says where each is from."""
    return _from_json(resources.files("psfbank.isp").joinpath("cameras.json").read_text("utf-8"), "cameras.json")


def read_matrices(path: str | Path) -> Mapping[str, Matrix]:
    """Read matrices of one's own cameras.

    Parameters
    ----------
    path : str or Path
        CSV, a line a camera: its name, then the nine numbers of the matrix from XYZ, row by row. Or JSON, an object of
        names and matrices: nested rows or nine numbers, or an object that holds them as "xyz_to_camera". A fourth row,
        which rawpy's rgb_xyz_matrix has for a second green, is left out.

    Returns
    -------
    dict of str to (3, 3) float64

    Raises
    ------
    ColourError
        When the file cannot be read or holds something else.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ColourError(f"the file cannot be read ({error})", where=str(path), remedy="Check its name") from error
    if path.suffix.lower() == ".json":
        return _from_json(text, str(path))
    rows = [row for row in csv.reader(text.splitlines()) if row and not row[0].startswith("#")]
    return _checked({row[0]: row[1:] for row in rows}, str(path))


def sample_colour_matrix(
    rng: np.random.Generator, matrices: Sequence[npt.ArrayLike] | None = None, cameras: int = 4
) -> Matrix:
    """Draw the matrix of a camera that could be: a random mix of real ones (Brooks et al., CVPR 2019, section 3).

    Parameters
    ----------
    rng : Generator
    matrices : sequence of (3, 3) array_like, optional
        From XYZ; those of `known_cameras` by default.
    cameras : int
        How many of them are mixed, with weights uniform over all that sum to one.

    Returns
    -------
    (3, 3) float64
        From XYZ to a camera that sees D65 as (1, 1, 1).
    """
    table = list(known_cameras().values()) if matrices is None else list(matrices)
    chosen = rng.choice(len(table), size=min(cameras, len(table)), replace=False)
    # mixed after each row has its sum of one: mixtures keep it, and no camera weighs more for its scale
    mix = np.tensordot(rng.dirichlet(np.ones(len(chosen))), [srgb_to_camera(table[i]) for i in chosen], axes=1)
    return np.asarray(mix @ XYZ_TO_SRGB)


def _from_json(text: str, where: str) -> Mapping[str, Matrix]:
    try:
        held = json.loads(text)
    except ValueError as error:
        raise ColourError(f"not JSON ({error})", where=where, remedy="Write CSV, or an object") from error
    if not isinstance(held, dict):
        raise ColourError("holds no object of names and matrices", where=where, remedy='Write {"name": [[...]]}')
    named = {name: m.get("xyz_to_camera") if isinstance(m, dict) else m for name, m in held.items()}
    return _checked(named, where)


def _checked(named: Mapping[str, Any], where: str) -> Mapping[str, Matrix]:
    matrices = {}
    for name, numbers in named.items():
        try:
            matrix = np.asarray(numbers, dtype=np.float64).reshape(-1, 3)
            if len(matrix) not in (3, 4):
                raise ValueError("3 rows of 3 are wanted")
            srgb_to_camera(matrix[:3])
        except (ValueError, TypeError) as error:
            raise ColourError(
                f"{name!r} is no matrix from XYZ to a camera ({error})", where=where, remedy="Give nine numbers"
            ) from error
        matrices[name] = frozen(matrix[:3], np.float64, name, "3,3")
    if not matrices:
        raise ColourError("holds no matrix", where=where, remedy="Give each camera a name and nine numbers")
    return matrices
