"""Points a second through a spline map beside OpenCV's models, same run: `python tests/bench/bench_distortion.py`.

A million points inside the field of a 20 x 14 map, processor time of one thread. cv2.projectPoints takes the same rays
through the pinhole with eight coefficients (the rational model); cv2.undistortPoints takes them back by its five fixed
steps, whose round trip is printed beside ours. Ratios carry from one machine to another, points a second do not.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.interpolate import NdBSpline
from timing import Runs, interleaved

from psfbank.model import DistortionMap

COUNT, REPEATS = 1_000_000, 5
SIZE, FOCAL_PX = (1080, 1920), 1000.0
SPANS_X, SPANS_Y = 17, 11  # 20 x 14 functions
RATIONAL = np.array([-0.05, 0.01, 1e-4, -5e-5, 0.001, 0.02, 0.005, 0.0])
EXACT_POINTS = 20_000  # compared with scipy's NdBSpline


def spline_map(rng: np.random.Generator) -> DistortionMap:
    """A map with waves of 2 px over 90 x 62 degrees of stereographic directions."""
    knots = [reach / n * (2 * np.arange(-3, n + 4) - n) for reach, n in ((1.0, SPANS_X), (0.6, SPANS_Y))]
    matrix = np.array([[FOCAL_PX, 0, 959.5], [0, FOCAL_PX, 539.5], [0, 0, 1]])
    corners = [[0, 0], [1919, 0], [1919, 1079], [0, 1079]]
    waves = rng.normal(0, 2.0, (1, 2, SPANS_Y + 3, SPANS_X + 3))
    return DistortionMap(matrix, knots[0], knots[1], waves, np.array(corners, float), np.array([0.1]), ("Y",))


def points_a_second(runs: Runs) -> dict[str, float]:
    """Points a second of processor time, of each at its best."""
    return {name: COUNT / seconds[:, 1].min() for name, seconds in interleaved(runs, REPEATS).items()}


def main() -> None:
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    lens = spline_map(rng)
    u = rng.uniform([-1.0, -0.6], [1.0, 0.6], (COUNT, 2))
    rays = u / (1 - np.sum(u**2, axis=1, keepdims=True) / 4)
    xy_px = lens.project(rays)
    some = slice(0, EXACT_POINTS)
    waves = NdBSpline((lens.knots_y, lens.knots_x), np.moveaxis(lens.coefficients[0], 0, -1), 3)(u[some, ::-1])
    exact = FOCAL_PX * u[some] + lens.camera_matrix[:2, 2] + waves
    print(f"largest error against scipy's NdBSpline {np.abs(xy_px[some] - exact).max():.1e} px")  # noqa: T201
    print(f"largest error of the round trip       {np.abs(lens.project(lens.unproject(xy_px)) - xy_px).max():.1e} px")  # noqa: T201

    points, still = np.column_stack([rays, np.ones(COUNT)]), np.zeros(3)
    theirs = cv2.projectPoints(points, still, still, lens.camera_matrix, RATIONAL)[0].reshape(-1, 1, 2)
    back = cv2.undistortPoints(theirs, lens.camera_matrix, RATIONAL).reshape(-1, 2)
    again = cv2.projectPoints(np.column_stack([back, np.ones(COUNT)]), still, still, lens.camera_matrix, RATIONAL)[0]
    print(f"that of cv2.undistortPoints           {np.abs(again.reshape(theirs.shape) - theirs).max():.1e} px")  # noqa: T201
    rates = points_a_second(
        {
            "cv2.projectPoints, 8 coefficients": lambda: cv2.projectPoints(
                points, still, still, lens.camera_matrix, RATIONAL
            ),
            "DistortionMap.project": lambda: lens.project(rays),
            "cv2.undistortPoints, 8 coefficients": lambda: cv2.undistortPoints(theirs, lens.camera_matrix, RATIONAL),
            "DistortionMap.unproject": lambda: lens.unproject(xy_px),
        }
    )
    for ours, reference in (("project", "cv2.projectPoints"), ("unproject", "cv2.undistortPoints")):
        other = f"{reference}, 8 coefficients"
        for name in (other, f"DistortionMap.{ours}"):
            print(f"{name:36s} {rates[name] / 1e6:6.2f} M points/s  x {rates[name] / rates[other]:.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
