"""Captures of a monochrome camera with known faults, as files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter, shift

from calib.inspect import Assumed
from calib.targets import Chessboard, SlantedSquares

BLACK, WHITE, GAIN = 256, 4095, 0.25  # DN, and DN an electron
KNOWN = Assumed("mono", BLACK, WHITE)
SIZE = (192, 256)
FINE = 3


def taken(light: np.ndarray, seed: int = 0, read_dn: float = 3.0) -> np.ndarray:
    """DN of a picture of light (H, W), 1 at white, with photon noise and read noise."""
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(np.clip(light, 0, None) * (WHITE - BLACK) / GAIN)
    dn = BLACK + GAIN * electrons + rng.normal(0, read_dn, light.shape)
    return np.clip(np.rint(dn), 0, WHITE).astype(np.uint16)


def saved(path: Path, dn: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), dn)
    return path


def places() -> tuple[np.ndarray, np.ndarray]:
    """Middles x, y of fine pixels, px."""
    y, x = (np.indices((SIZE[0] * FINE, SIZE[1] * FINE)) + 0.5) / FINE - 0.5
    return x, y


def seen(scene: np.ndarray, blur_px: float, streak_px: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Blur a fine scene by a Gaussian and a motion, and let pixels average it."""
    soft = gaussian_filter(scene, blur_px * FINE, mode="nearest")
    if any(streak_px):
        steps = np.linspace(-0.5, 0.5, 13)
        moves = [(FINE * s * streak_px[1], FINE * s * streak_px[0]) for s in steps]
        soft = np.mean([shift(soft, move, order=1, mode="nearest") for move in moves], axis=0)
    rows, columns = (n // FINE for n in scene.shape)
    return soft.reshape(rows, FINE, columns, FINE).mean(axis=(1, 3))


@cache
def points(
    blur_px: float = 0.7, streak_px: tuple[float, float] = (0.0, 0.0), peak: float = 0.6, pitch_px: float = 19.7
) -> np.ndarray:
    scene = np.zeros((SIZE[0] * FINE, SIZE[1] * FINE))
    for cx in np.arange(9.3, SIZE[1] - 8, pitch_px):
        for cy in np.arange(10.1, SIZE[0] - 8, pitch_px):
            scene[round((cy + 0.5) * FINE), round((cx + 0.5) * FINE)] = 1
    light = seen(scene, blur_px, streak_px)
    return peak * light / light.max()


def charted(reflectance: Callable[..., np.ndarray], px_a_mm: float = 1.0, turn_deg: float = 0.0) -> np.ndarray:
    x, y = places()
    x, y = x - SIZE[1] / 2, y - SIZE[0] / 2
    cos, sin = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    return reflectance((cos * x + sin * y) / px_a_mm, (cos * y - sin * x) / px_a_mm, 1 / FINE / px_a_mm)


@cache
def board(blur_px: float = 0.7, streak_px: tuple[float, float] = (0.0, 0.0), columns: int = 7) -> np.ndarray:
    chart = Chessboard(columns, 5, 24.0)
    middle = chart.centre_mm()
    scene = charted(
        lambda x, y, w: chart.reflectance(x + middle[0], y + middle[1], np.full((*x.shape, 2), w)), 1.0, 7.0
    )
    return 0.7 * seen(scene, blur_px, streak_px)


@cache
def squares(blur_px: float = 0.7, streak_px: tuple[float, float] = (0.0, 0.0), angle_deg: float = 6.0) -> np.ndarray:
    chart = SlantedSquares(4, 3, 32.0, 60.0, angle_deg)
    scene = charted(lambda x, y, w: chart.reflectance(x, y, np.full((*x.shape, 2), w)))
    return 0.7 * seen(scene, blur_px, streak_px)


def flat(level: float) -> np.ndarray:
    y, x = np.indices(SIZE)
    r2 = ((x - SIZE[1] / 2) ** 2 + (y - SIZE[0] / 2) ** 2) / (SIZE[0] ** 2 + SIZE[1] ** 2) * 4
    return level * (1 - 0.4 * r2)


def sharpened(light: np.ndarray) -> np.ndarray:
    """Unsharp masking, as cameras do."""
    return np.clip(light + 1.0 * (light - gaussian_filter(light, 1.0)), 0, 1)


def gamma_coded(dn: np.ndarray) -> np.ndarray:
    """The same picture with the curve of exponent 1 / 2.4 that nobody tells of."""
    light = np.clip((dn.astype(float) - BLACK) / (WHITE - BLACK), 0, 1)
    return np.rint(BLACK + (WHITE - BLACK) * light ** (1 / 2.4)).astype(np.uint16)
