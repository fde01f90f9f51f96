"""Chessboards and ChArUco boards: found on a grey picture, measured on each colour's own sites."""

from __future__ import annotations

from calib.chessboard.board import BoardDetection, detect, to_corners
from calib.chessboard.centroid import to_centroids
from calib.chessboard.charuco import detect_charuco
from calib.chessboard.corner import CornerFits, fit_corners

__all__ = [
    "BoardDetection",
    "CornerFits",
    "detect",
    "detect_charuco",
    "fit_corners",
    "to_centroids",
    "to_corners",
]
