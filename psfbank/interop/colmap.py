"""COLMAP: cameras.txt with one camera a channel, the leading one first.

COLMAP counts pixels from the top-left corner of the picture: the centre of the first pixel is (0.5, 0.5), so the
principal point is half a pixel more than ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from psfbank.interop.parametric import Model, Parametric

NAMES: dict[Model, str] = {"brown4": "OPENCV", "fisheye4": "OPENCV_FISHEYE", "rational8": "FULL_OPENCV"}
CORNER_PX = 0.5


def cameras(fits: Sequence[Parametric], size_px: tuple[int, int]) -> str:
    """Write fitted models as the cameras of a text model."""
    height, width = size_px
    lines = ["# Camera list with one line of data per camera:", "#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for number, fit in enumerate(fits, start=1):
        loss = fit.loss
        lines.append(
            f"# camera {number} is channel {loss.channel}: off by {loss.rms_px:.4g} px RMS, {loss.max_px:.4g} at most"
        )
        focal_px, centre_px = np.diag(fit.camera_matrix)[:2], fit.camera_matrix[:2, 2] + CORNER_PX
        parameters = np.concatenate([focal_px, centre_px, fit.coefficients]).tolist()
        lines.append(" ".join([str(number), NAMES[fit.model], str(width), str(height), *map(repr, parameters)]))
    return "\n".join(lines) + "\n"
