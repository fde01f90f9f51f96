"""ChArUco boards drawn in closed form: cells of any width under a Gaussian blur, at any turn and scale."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.special import erf

INK, PAPER = 0.1, 0.8


@dataclass(frozen=True)
class Drawn:
    """A board of `columns` x `rows` inner corners; lengths in squares, the origin at its first inner corner."""

    columns: int
    rows: int
    marker_share: float = 0.75
    dictionary: str = "DICT_5X5_100"
    legacy: bool = False

    def lattice(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges in x and in y, and what lies between them (Y, X): 1 is ink."""
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))
        bits = dictionary.markerSize + 2
        inner = (1 - self.marker_share) / 2 + self.marker_share * np.arange(bits + 1) / bits
        edges = np.concatenate([[0.0], inner])
        x, y = ((np.arange(n + 1)[:, None] + edges).ravel() - 1 for n in (self.columns, self.rows))
        x, y = np.append(x, self.columns), np.append(y, self.rows)
        ink, marker = np.zeros((len(y) - 1, len(x) - 1)), 0
        dark = 0 if not (self.legacy and self.rows % 2 == 1) else 1
        for row in range(self.rows + 1):
            for column in range(self.columns + 1):
                at = np.s_[row * (bits + 2) : (row + 1) * (bits + 2), column * (bits + 2) : (column + 1) * (bits + 2)]
                if (row + column) % 2 == dark:
                    ink[at] = 1
                else:
                    drawn = np.asarray(cv2.aruco.generateImageMarker(dictionary, marker, bits)).reshape(bits, bits)
                    ink[at] = np.pad(drawn < 128, 1)
                    marker += 1
        return x, y, ink

    def corners(self) -> np.ndarray:
        """Places of the inner corners (M, 2), squares."""
        return np.stack(np.meshgrid(np.arange(self.columns), np.arange(self.rows)), axis=-1).reshape(-1, 2)

    def draw(
        self, size: tuple[int, int], origin: np.ndarray, turn: float, cell_px: float, blur_px: float
    ) -> np.ndarray:
        """Picture of the board, blurred by a Gaussian."""
        row, col = np.indices(size)
        x, y = col.ravel() - origin[0], row.ravel() - origin[1]
        along = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
        edges_x, edges_y, ink = self.lattice()
        inside = []
        for at, edges in zip(along, (edges_x, edges_y), strict=True):
            step = 0.5 * (1 + erf((at[:, None] - cell_px * edges) / (np.sqrt(2) * blur_px)))
            inside.append(step[:, :-1] - step[:, 1:])
        covered = np.sum((inside[1] @ ink) * inside[0], axis=1)
        return (PAPER - (PAPER - INK) * covered).reshape(size)

    def draw_tilted(self, size: tuple[int, int], plane: np.ndarray, blur_px: float, finer: int = 5) -> np.ndarray:
        """Picture of the board through a homography from squares to pixels, sampled `finer` times a pixel."""
        y, x = (np.arange(n * finer) for n in size)
        at = np.stack(np.meshgrid(*((n - (finer - 1) / 2) / finer for n in (x, y))), axis=-1).reshape(-1, 1, 2)
        on_board = cv2.perspectiveTransform(at, np.linalg.inv(plane)).reshape(-1, 2)
        edges_x, edges_y, ink = self.lattice()
        column, row = (np.searchsorted(e, c) for e, c in zip((edges_x, edges_y), on_board.T, strict=True))
        covered = np.pad(ink, 1)[row, column].reshape(len(y), len(x))
        covered = cv2.GaussianBlur(covered, (0, 0), blur_px * finer)
        covered = covered.reshape(size[0], finer, size[1], finer).mean(axis=(1, 3))
        return PAPER - (PAPER - INK) * covered


def place(board: Drawn, origin: np.ndarray, turn: float, cell_px: float) -> np.ndarray:
    """Inner corners (M, 2) in the picture."""
    along = np.array([np.cos(turn), np.sin(turn)]) * cell_px
    return origin + board.corners() @ np.array([along, [-along[1], along[0]]])
