"""OpenCV: a FileStorage of camera matrix and distortion coefficients, with the node names of its calibration sample.

OpenCV's pixels are ours: (0, 0) is the centre of the top-left one. The nodes without a suffix are those of the leading
channel; those of the others carry their names, so that lateral colour is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2

from psfbank.interop.parametric import Model, Parametric

MODELS: tuple[Model, ...] = ("brown5", "fisheye4", "rational8", "thin_prism12")


def file_storage(fits: Sequence[Parametric], size_px: tuple[int, int], suffix: str) -> str:
    """Write fitted models as OpenCV's YAML, XML or JSON.

    Parameters
    ----------
    fits : sequence of Parametric
        One a channel, the leading one first.
    size_px : (H, W)
    suffix : str
        ".yml", ".yaml", ".xml" or ".json".

    Returns
    -------
    str
    """
    file = cv2.FileStorage(suffix, cv2.FILE_STORAGE_WRITE | cv2.FILE_STORAGE_MEMORY)
    lead = fits[0]
    file.write("image_width", size_px[1])
    file.write("image_height", size_px[0])
    file.write("distortion_model", lead.model)
    file.write("fisheye_model", int(lead.model == "fisheye4"))
    file.write("channel", lead.loss.channel)
    for fit in fits:
        suffix = "" if fit is lead else f"_{fit.loss.channel}"
        file.write(f"camera_matrix{suffix}", fit.camera_matrix)
        file.write(f"distortion_coefficients{suffix}", fit.coefficients[None])
        file.write(f"loss_rms_px{suffix}", fit.loss.rms_px)
        file.write(f"loss_max_px{suffix}", fit.loss.max_px)
    return str(file.releaseAndGetString())
