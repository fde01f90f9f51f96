"""Time of the ISP's stages, 2048 x 2048 on two threads and a 256 x 256 crop on one: `python tests/bench/bench_isp.py`.

Malvar's demosaic is compared with that of colour-demosaicing in the same run where that is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec

import cv2
import numpy as np
from timing import best

from psfbank import isp

REPEATS = 9


def stages(size: int) -> dict[str, Callable[[], object]]:
    """Every stage on a picture as smooth as a photograph."""
    rng = np.random.default_rng(0)
    noise = rng.random((size, size, 3), dtype=np.float32)
    light = np.clip(0.5 + 4 * (cv2.GaussianBlur(noise, (0, 0), 4) - 0.5) + 0.01 * noise, 0, 1)
    mosaic = np.ascontiguousarray(light[..., 1])
    development = isp.sample_development(rng)
    srgb = isp.Development(development.gains, development.matrix)
    picture = isp.process(light, srgb, np.uint8)
    gains = development.gains

    def developed() -> object:
        balanced = isp.white_balance(mosaic, gains, "RGGB", white=1.0)
        rgb = isp.demosaic(balanced, "RGGB")
        return isp.jpeg(isp.process(rgb, isp.Development(matrix=srgb.matrix), np.uint8))

    return {
        "white balance of a mosaic": lambda: isp.white_balance(mosaic, gains, "RGGB", white=1.0),
        "demosaic malvar": lambda: isp.demosaic(mosaic, "RGGB", "malvar"),
        "demosaic bilinear": lambda: isp.demosaic(mosaic, "RGGB", "bilinear"),
        "demosaic edge_aware": lambda: isp.demosaic(mosaic, "RGGB", "edge_aware"),
        "colour matrix": lambda: isp.apply_matrix(light, srgb.matrix),
        "tone, sRGB, to 8 bits": lambda: isp.tone_map(light, srgb.tone, np.uint8),
        "tone, filmic, to float32": lambda: isp.tone_map(light, isp.Filmic()),
        "process: gains, matrix, tone, to 8 bits": lambda: isp.process(light, srgb, np.uint8),
        "jpeg, quality 90, 4:2:0, there and back": lambda: isp.jpeg(picture, 90),
        "mosaic to decoded JPEG": developed,
        "unprocess of 8 bits": lambda: isp.unprocess(picture, development),
        "unprocess of float32, smoothstep": lambda: isp.unprocess(light, development),
    }


def compare_demosaics() -> None:
    """Print how much faster our Malvar is than the reference's, which works in float64."""
    if find_spec("colour_demosaicing") is None:
        sys.stdout.write("colour-demosaicing is not installed: pip install 'psfbank[menon]' compares with it\n")
        return
    from colour_demosaicing import demosaicing_CFA_Bayer_Malvar2004

    mosaic = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    ours, theirs = best(
        {
            "ours": lambda: isp.demosaic(mosaic, "RGGB", "malvar"),
            "theirs": lambda: demosaicing_CFA_Bayer_Malvar2004(mosaic, "RGGB"),
        },
        REPEATS,
    ).values()
    same = np.abs(isp.demosaic(mosaic, "RGGB") - demosaicing_CFA_Bayer_Malvar2004(mosaic, "RGGB"))[2:-2, 2:-2].max()
    sys.stdout.write(f"Malvar is {theirs / ours:.1f} x as fast as colour-demosaicing's, the same to {same:.1e}\n")


def main() -> None:
    for size, threads in ((2048, 2), (256, 1)):
        cv2.setNumThreads(threads)
        sys.stdout.write(f"{size} x {size}, {threads} threads, OpenCV {cv2.__version__}\n")
        for name, seconds in best(stages(size), REPEATS).items():
            sys.stdout.write(f"  {name:42} {1e3 * seconds:8.2f} ms  {size * size / seconds / 1e6:7.1f} MP/s\n")
    cv2.setNumThreads(2)
    compare_demosaics()


if __name__ == "__main__":
    main()
