"""The demosaic of Menon, Andriani and Calvagno (2007); the only importer of colour-demosaicing, an extra."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from psfbank.errors import ImageError


def menon(mosaic: npt.NDArray[np.float32], cfa: str) -> npt.NDArray[np.float32]:
    """Demosaic along the direction in which the colour differences vary less, decided a pixel, then refine.

    Parameters
    ----------
    mosaic : (H, W) float32
        Linear light.
    cfa : str
        Colours of the top-left 2 x 2 sites, "RGGB".

    Returns
    -------
    (H, W, 3) float32

    Raises
    ------
    ImageError
        When colour-demosaicing is not installed.
    """
    try:
        from colour_demosaicing import demosaicing_CFA_Bayer_Menon2007
    except ImportError as error:
        raise ImageError(
            "demosaicing by Menon's method needs colour-demosaicing",
            remedy="Install it with: pip install 'psfbank[menon]', or choose another method",
        ) from error
    return np.asarray(demosaicing_CFA_Bayer_Menon2007(mosaic, cfa), dtype=np.float32)
