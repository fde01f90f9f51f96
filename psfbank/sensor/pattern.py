"""What makes one pixel of a sensor unlike the next, the same in every picture."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

TILE_PX = 64  # a tile is drawn whole, however little of it is wanted
MOST_TILES = 2048  # that are kept for the next crop of the same sensor: 32 MiB


def fixed_pattern(shape: tuple[int, int], origin: tuple[int, int] = (0, 0), seed: int = 0) -> npt.NDArray[np.float32]:
    """Draw a window of a sensor's own pattern: a Gaussian number of unit variance for each pixel.

    Tiles of the sensor have a stream each, of a counter-based generator keyed by the seed and the tile's place (Salmon
    et al., SC 2011), so that a window holds the same numbers as the whole sensor does there.

    Parameters
    ----------
    shape : (H, W)
        Of the window, pixels.
    origin : (y, x)
        Row and column of the sensor at which it begins.
    seed : int
        Tells one sensor from another.

    Returns
    -------
    (H, W) float32

    Raises
    ------
    ValueError
        When the window begins outside the sensor.
    """
    if min(origin) < 0:
        raise ValueError(f"`origin` must lie on the sensor, got {origin}")
    (top, bottom), (left, right) = ((start, start + size) for start, size in zip(origin, shape, strict=True))
    rows, columns = range(top // TILE_PX, -(-bottom // TILE_PX)), range(left // TILE_PX, -(-right // TILE_PX))
    drawn = np.block([[_tile(seed, row, column) for column in columns] for row in rows])
    return np.array(
        drawn[top - rows.start * TILE_PX :, left - columns.start * TILE_PX :][: shape[0], : shape[1]], order="C"
    )


@lru_cache(maxsize=MOST_TILES)
def _tile(seed: int, row: int, column: int) -> npt.NDArray[np.float32]:
    stream = np.random.Generator(np.random.Philox(key=[seed, row << 32 | column]))
    tile = stream.standard_normal((TILE_PX, TILE_PX), dtype=np.float32)
    tile.flags.writeable = False
    return tile
