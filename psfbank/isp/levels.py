"""Black level and white balance: digital numbers to linear light whose greys are grey."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray
from psfbank.sensor import cfa_sites

Image = npt.NDArray[np.float32]


def subtract_black(dn: FloatArray, black_dn: npt.ArrayLike, white_dn: npt.ArrayLike) -> Image:
    """Bring digital numbers to linear light, black 0 and white 1; noise below black stays negative."""
    black = np.asarray(black_dn, dtype=np.float32)
    return np.asarray((dn - black) / (np.asarray(white_dn, dtype=np.float32) - black), dtype=np.float32)


def white_balance(image: FloatArray, gains: npt.ArrayLike, cfa: str | None = None, white: float | None = None) -> Image:
    """Multiply each colour by its gain.

    Parameters
    ----------
    image : (H, W, 3) or (H, W) float
        Linear light, RGB or a mosaic.
    gains : (3,) float
        Of R, G and B; for an image that is no mosaic, anything that broadcasts against it.
    cfa : str, optional
        Colours of the top-left 2 x 2 sites of a mosaic, "RGGB".
    white : float, optional
        What is brighter is clipped to it. A channel saturates at 1 before its gain, so that without a common limit
        overexposed places take the colour of the gains.

    Returns
    -------
    float32, shape of `image`
    """
    gains = np.asarray(gains, dtype=np.float32)
    if cfa is None:
        balanced = np.asarray(image * gains, dtype=np.float32)
    else:
        balanced = np.empty(image.shape, dtype=np.float32)
        for row, of_row in enumerate(gains[cfa_sites(cfa, (2, image.shape[1]))]):
            np.multiply(image[row::2], of_row, out=balanced[row::2], casting="same_kind")
    return balanced if white is None else np.minimum(balanced, np.float32(white), out=balanced)
