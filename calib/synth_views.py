"""Where the targets of a rendered session stand: poses that cover the field of the camera that looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from calib.synth import Lens, rays_of
from calib.targets import Chessboard, LedGrid, NoiseTarget, SlantedSquares, bernoulli_pattern
from psfbank.arrays import FloatArray
from psfbank.errors import OutOfFieldError

LED_PITCH_PX, LED_PITCH_MM, LED_MM = 40.0, 40.0, 0.1

BOARD = Chessboard(columns=9, rows=6, square_mm=25.0)
EDGES = SlantedSquares(columns=9, rows=7, square_mm=50.0, pitch_mm=85.0, angle_deg=5.0)
EDGE_PITCH = 0.1375  # of the squares, in picture widths
BOARD_MARGIN_PX = 6.0  # from a target's outline to the border
CELL_MM, CELL_PX = 1.0, 2.5  # of the noise target: its spectrum's first zero, 0.4 cycles/pixel, moves with the view
NOISE_SHARE, PATTERN_SEED = 0.68, 20  # of the picture's sides that the pattern takes, and of its random cells

# (x, y) of the middle as a fraction of the picture, square as a fraction of its width, tilt, its axis, roll: degrees
BOARD_VIEWS = (
    (0.50, 0.50, 0.080, 3.0, 20.0, 2.0),
    (0.50, 0.50, 0.078, 28.0, 75.0, -4.0),
    (0.15, 0.15, 0.050, 18.0, 120.0, 3.0),
    (0.85, 0.15, 0.050, 20.0, 45.0, -5.0),
    (0.85, 0.85, 0.050, 24.0, 300.0, 6.0),
    (0.15, 0.85, 0.050, 22.0, 225.0, -2.0),
    (0.15, 0.50, 0.056, 32.0, 95.0, 88.0),
    (0.85, 0.50, 0.056, 30.0, 265.0, 93.0),
    (0.50, 0.12, 0.056, 26.0, 10.0, -3.0),
    (0.50, 0.88, 0.056, 34.0, 185.0, 4.0),
)
LED_VIEWS = ((0.0, 0.0, 2.0, 30.0, 1.5), (0.37, 0.21, 4.0, 110.0, -3.0), (-0.23, 0.41, 3.0, 250.0, 5.5))
# as the board's, the scale as a fraction of the full one
NOISE_VIEWS = (
    (0.50, 0.50, 1.00, 2.0, 30.0, 1.5),
    (0.25, 0.30, 0.80, 14.0, 120.0, 4.0),
    (0.75, 0.70, 0.80, 16.0, 300.0, -3.0),
)
EDGE_VIEWS = ((0.0, 0.0, 1.0, 60.0, 0.0), (0.31, 0.42, 2.0, 200.0, 7.0))


def view_pose(
    lens: Lens, middle_mm: FloatArray, middle_px: Sequence[float], px_per_mm: float, turns_deg: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Place a target so that its middle lands on a pixel at a scale.

    Parameters
    ----------
    lens : Lens
    middle_mm, middle_px : (2,) float
        The point of the target, and where its image falls.
    px_per_mm : float
        Scale there, were the target square to the optical axis.
    turns_deg : (tilt, axis, roll)
        Tilt about an in-plane axis at the angle `axis` from x, after a roll in the plane.

    Returns
    -------
    (6,) float64
        Rotation vector, translation in mm.
    """
    tilt, axis, roll = np.radians(turns_deg)
    turn = Rotation.from_rotvec(tilt * np.array([np.cos(axis), np.sin(axis), 0.0]))
    turn = turn * Rotation.from_rotvec([0.0, 0.0, roll])
    ray = lens.distortion.unproject([middle_px])[0]
    depth = lens.distortion.camera_matrix[0, 0] / px_per_mm
    translation = depth * np.array([*ray, 1.0]) - turn.as_matrix()[:, :2] @ middle_mm
    return np.concatenate([turn.as_rotvec(), translation])


def board_poses(lens: Lens) -> list[npt.NDArray[np.float64]]:
    """Poses that cover the field and keep every square of the board in the picture."""
    outline = BOARD.square_mm * np.array([[-1, -1], [BOARD.columns, -1], [-1, BOARD.rows], [BOARD.columns, BOARD.rows]])
    height, width = lens.size_px
    full = min(width, 4 / 3 * height) / BOARD.square_mm
    return [_fitting_pose(lens, outline, BOARD.centre_mm(), full, view) for view in BOARD_VIEWS]


def noise_target(size_px: tuple[int, int]) -> NoiseTarget:
    """Make a target whose pattern nearly fills the picture, cells a few pixels wide; the same for the same size."""
    rows, columns = (int(NOISE_SHARE * n / CELL_PX) for n in size_px)
    return NoiseTarget(bernoulli_pattern(rows, columns, np.random.default_rng(PATTERN_SEED)), CELL_MM)


def noise_poses(lens: Lens, target: NoiseTarget) -> list[npt.NDArray[np.float64]]:
    """Poses that keep the whole target in the picture."""
    outline, full = target.outline_mm(), CELL_PX / CELL_MM
    return [_fitting_pose(lens, outline, target.size_mm / 2, full, view) for view in NOISE_VIEWS]


def _fitting_pose(
    lens: Lens, outline_mm: FloatArray, middle_mm: FloatArray, full_px_per_mm: float, view: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Move a target towards the middle, and only then away from the camera, until its outline is in the picture."""
    height, width = lens.size_px
    limit = np.array([width - 1.0, height - 1.0])
    wanted, scale, turns = np.array(view[:2]), view[2], view[3:]
    for shrink, inwards in product(np.linspace(1.0, 0.5, 11), np.linspace(0.0, 1.0, 41)):
        middle_px = limit * (wanted + inwards * (0.5 - wanted))
        pose = view_pose(lens, middle_mm, middle_px, shrink * scale * full_px_per_mm, turns)
        corners = lens.distortion.project(rays_of(outline_mm, pose), lens.channels[-1])
        if np.all((corners > BOARD_MARGIN_PX) & (corners < limit - BOARD_MARGIN_PX)):
            return pose
    raise OutOfFieldError(f"a target does not fit into {width} x {height} px")


def led_grid(size_px: tuple[int, int]) -> LedGrid:
    """Make a grid that overfills the picture, as a monitor does."""
    rows, columns = (int(1.5 * n / LED_PITCH_PX) + 4 for n in size_px)
    return LedGrid(LED_PITCH_MM, columns, rows, diameter_mm=LED_MM)


def frontal_pose(lens: Lens, pitch_mm: float, pitch_px: float, view: Sequence[float]) -> npt.NDArray[np.float64]:
    """Face a target about square, its middle off the picture's by a part of its pitch: (x, y, tilt, axis, roll)."""
    height, width = lens.size_px
    middle = [(width - 1) / 2 + view[0] * pitch_px, (height - 1) / 2 + view[1] * pitch_px]
    return view_pose(lens, np.zeros(2), middle, pitch_px / pitch_mm, view[2:])
