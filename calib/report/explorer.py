"""What the page shows of a single place in the field, as compact data for its script."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from calib.plots.bank import Measured
from calib.plots.psf import thinned
from calib.plots.style import MAP, palette, tile_edges
from calib.plots.wavefront import term_name
from psfbank.arrays import FloatArray, IntArray
from psfbank.field import resample_kernel
from psfbank.flags import Flag
from psfbank.metrics import radius_of_energy_px, rms_wfe_nm, strehl_ratio
from psfbank.model import PsfGrid, ZernikeField

MOST_ACROSS, MOST_DOWN = 20, 15  # tiles that can be picked: they bound the size of the page
MOST_SAMPLES = 33  # a side of a PSF as shown
ENERGY_SHOWN = 0.95  # of a PSF's light, that its picture holds at least in all tiles where it fits
EVERY = 2  # of the frequencies of an MTF curve


def explorer_data(measured: Measured) -> dict[str, Any]:
    """Gather PSFs, MTF, Zernike terms and figures of the tiles that can be picked.

    Parameters
    ----------
    measured : Measured
        With PSFs.

    Returns
    -------
    dict
        JSON's own types. Lists of tiles run over channels, rows, columns. `sheet` is a grey PNG in base64 that holds
        the PSFs, a tile's at column i and row c Ty + j of its squares of `size` samples, as 255 sqrt(light / peak).
    """
    grid = measured.psf
    rows, columns = thinned(len(grid.y_px), MOST_DOWN), thinned(len(grid.x_px), MOST_ACROSS)
    pick = np.ix_(np.arange(len(grid.channels)), rows, columns)
    field = measured.mtf
    stamps, per_px = _stamps(grid, pick)
    peak = float(stamps.max())
    sheet = np.rint(255 * np.sqrt(stamps / peak)).astype(np.uint8)
    kernels = grid.kernels[pick]
    radii = [
        [radius_of_energy_px(k, s, grid.oversample) for s in (0.5, 0.8)]
        for k in kernels.reshape(-1, *kernels.shape[-2:])
    ]
    return {
        "channels": list(grid.channels),
        "x": _rounded(grid.x_px[columns], 1),
        "y": _rounded(grid.y_px[rows], 1),
        "size": stamps.shape[-1],
        "perPx": per_px,
        "peak": round(peak, 6),
        "sheet": _png(sheet),
        "colours": palette(MAP).tobytes().hex(),
        "frequency": _rounded(field.freq_cpp[::EVERY], 4),
        "mtf": np.rint(1000 * field.mtf[pick][..., ::EVERY]).astype(int).tolist(),
        "mtf50": _rounded(field.mtf50_cpp[pick], 4),
        "mtf50Std": _rounded(field.mtf50_std_cpp[pick], 4),
        "radius": _rounded(np.reshape(radii, (*kernels.shape[:3], 2)), 2),
        "sigma": _rounded(np.asarray(grid.sigma)[pick], 4),
        "observations": np.asarray(grid.n_obs)[pick].tolist(),
        "flags": [[[_words(flag) for flag in row] for row in of] for of in np.asarray(grid.flags)[pick].tolist()],
        "zernike": _zernike(measured.calibration.wavefront, grid.channels, grid.x_px[columns], grid.y_px[rows]),
    }


def field_map(measured: Measured, data: dict[str, Any]) -> str:
    """Draw the tiles that can be picked as an <svg> in the sensor's pixels, coloured by green's mean MTF50."""
    height, width = measured.size_px
    channel = data["channels"].index("G") if "G" in data["channels"] else 0
    values = np.array(data["mtf50"][channel], dtype=np.float64).mean(axis=-1)
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    x, y = tile_edges(np.array(data["x"]), width), tile_edges(np.array(data["y"]), height)
    colours, tiles = palette(MAP), []
    for j, i in np.ndindex(values.shape):
        colour = colours[round(255 * float(np.nan_to_num(values[j, i] / top)))]
        tiles.append(
            f'<rect data-tile="{i},{j}" x="{x[i]:.1f}" y="{y[j]:.1f}" width="{x[i + 1] - x[i]:.1f}" '
            f'height="{y[j + 1] - y[j]:.1f}" fill="#{bytes(colour).hex()}"/>'
        )
    return (
        f'<svg id="field" viewBox="-0.5 -0.5 {width} {height}" tabindex="0" role="application" '
        f'aria-label="tiles of the field; arrow keys move from one to the next">{"".join(tiles)}<rect id="mark"/></svg>'
    )


def _stamps(grid: PsfGrid, pick: tuple[IntArray, ...]) -> tuple[FloatArray, int]:
    """Light per pixel (C, Ty, Tx, k, k) in windows that hold nearly all of it, and the samples a pixel."""
    kernels = grid.kernels[pick]
    flat = kernels.reshape(-1, *kernels.shape[-2:])
    reach_px = max(radius_of_energy_px(k, ENERGY_SHOWN, grid.oversample) for k in flat[:: max(1, len(flat) // 64)])
    half_px = float(np.clip(np.ceil(reach_px), 3, kernels.shape[-1] // 2 / grid.oversample))
    per_px = int(np.clip((MOST_SAMPLES - 1) // (2 * half_px), 1, grid.oversample))
    half = min(round(half_px * per_px), MOST_SAMPLES // 2)
    shown = []
    for kernel in flat:
        sampled = resample_kernel(kernel, grid.oversample, per_px) * per_px**2
        centre = sampled.shape[0] // 2
        middle = slice(max(0, centre - half), centre + half + 1)
        shown.append(sampled[middle, middle])
    return np.reshape(shown, (*kernels.shape[:3], *shown[0].shape)), per_px


def _png(stamps: npt.NDArray[np.uint8]) -> str:
    channels, rows, columns, size, _ = stamps.shape
    sheet = stamps.transpose(0, 1, 3, 2, 4).reshape(channels * rows * size, columns * size)
    _, encoded = cv2.imencode(".png", sheet, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return base64.b64encode(encoded.tobytes()).decode()


def _zernike(
    wavefront: ZernikeField | None, channels: tuple[str, ...], x_px: FloatArray, y_px: FloatArray
) -> dict[str, Any] | None:
    """Coefficients and figures at the wavefront's nodes nearest to places; None without one of these channels."""
    if wavefront is None or wavefront.channels != channels:
        return None
    nearest = [
        np.argmin(np.abs(nodes[:, None] - at), axis=0) for nodes, at in ((wavefront.y_px, y_px), (wavefront.x_px, x_px))
    ]
    pick = np.ix_(np.arange(len(wavefront.channels)), *nearest)
    terms = np.flatnonzero(wavefront.nm[:, 0] >= 2)
    coefficients = wavefront.coefficients_nm[pick]
    strehl = [
        strehl_ratio(c, wavefront.nm, float(w)) for c, w in zip(coefficients, wavefront.wavelength_nm, strict=True)
    ]
    return {
        "channels": list(channels),
        "names": [term_name(*wavefront.nm[k]) for k in terms],
        "nm": _rounded(coefficients[..., terms], 1),
        "stderr": _rounded(wavefront.stderr_nm[pick][..., terms], 1),
        "rms": _rounded(rms_wfe_nm(coefficients, wavefront.nm), 1),
        "strehl": _rounded(np.array(strehl), 3),
    }


def _words(flag: int) -> str:
    return Flag(flag).words().replace("_", " ")


def _rounded(values: FloatArray, digits: int) -> Any:
    return np.round(np.asarray(values, dtype=np.float64), digits).tolist()
