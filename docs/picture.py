"""Compose the README's picture: crops of a sharp picture above the same crops as the camera would have taken them.

python docs/picture.py SHARP.png DEGRADED.jpg docs/sharp_and_degraded.png
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

CROPS = ((100, 8), (20, 150), (60, 384))  # row, column of the top-left pixel: a side, the middle, the other side
HEIGHT, WIDTH, ZOOM, GAP = 96, 128, 3, 6


def main(sharp: str, degraded: str, out: str) -> None:
    """Write the crops side by side, sharp above degraded, enlarged without smoothing."""
    rows = []
    for name in (sharp, degraded):
        picture = cv2.imread(name)
        tiles = [
            cv2.resize(picture[y : y + HEIGHT, x : x + WIDTH], None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_NEAREST)
            for y, x in CROPS
        ]
        bordered = [
            cv2.copyMakeBorder(t, GAP, GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255)) for t in tiles
        ]
        rows.append(np.concatenate(bordered, axis=1))
    cv2.imwrite(out, np.concatenate(rows, axis=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
