"""CSV: one row a number, in the order of the parts of a calibration; what spreadsheets and data frames filter by.

Columns: `table` (psf, edges, distortion, wavefront, illumination, noise), `quantity`, `unit`, `channel`, `x_px`,
`y_px` (empty for what belongs to the whole camera), `value`, `sigma` (one standard deviation, empty where unknown).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator

import numpy as np

from psfbank.arrays import FloatArray
from psfbank.interop.loss import lattice
from psfbank.metrics import field_mtf
from psfbank.model import Calibration, DistortionMap, EdgeResponses, Illumination, NoiseModel, PsfGrid, ZernikeField

COLUMNS = ("table", "quantity", "unit", "channel", "x_px", "y_px", "value", "sigma")
NOISE_UNITS = {
    "gain_dn_per_e": "DN/e-",
    "read_noise_e": "e-",
    "dark_e_per_s": "e-/s",
    "prnu": "1",
    "black_dn": "DN",
    "white_dn": "DN",
}
Row = tuple[str, str, str, str, float, float, float, float]
NOWHERE = math.nan


def csv_text(calibration: Calibration, size_px: tuple[int, int]) -> str:
    """Write a calibration's numbers as CSV.

    Parameters
    ----------
    calibration : Calibration
    size_px : (H, W)

    Returns
    -------
    str
        A line of headings, then a line a number; six digits, empty where not known.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for words, numbers in ((row[:4], row[4:]) for row in rows(calibration, size_px)):
        writer.writerow([*words, *(f"{n:.7g}" if math.isfinite(n) else "" for n in numbers)])
    return file.getvalue()


def rows(calibration: Calibration, size_px: tuple[int, int]) -> Iterator[Row]:
    """Yield the numbers of all parts that there are."""
    if calibration.psf_grid is not None:
        yield from _psf(calibration.psf_grid, size_px)
    if calibration.edges is not None:
        yield from _edges(calibration.edges)
    if calibration.distortion is not None:
        yield from _distortion(calibration.distortion, size_px)
    if calibration.wavefront is not None:
        yield from _wavefront(calibration.wavefront)
    if calibration.illumination is not None:
        yield from _illumination(calibration.illumination)
    if calibration.noise is not None:
        yield from _noise(calibration.noise)


def _nodes(grid: PsfGrid | ZernikeField | Illumination) -> Iterator[tuple[tuple[int, int, int], str, float, float]]:
    for c, j, i in np.ndindex(len(grid.channels), len(grid.y_px), len(grid.x_px)):
        yield (c, j, i), grid.channels[c], float(grid.x_px[i]), float(grid.y_px[j])


def _psf(grid: PsfGrid, size_px: tuple[int, int]) -> Iterator[Row]:
    field = field_mtf(grid, size_px)
    counts, sigma = np.asarray(grid.n_obs), np.asarray(grid.sigma)
    for node, channel, x, y in _nodes(grid):
        for k, direction in enumerate(("sagittal", "tangential")):
            mtf50, std = float(field.mtf50_cpp[(*node, k)]), float(field.mtf50_std_cpp[(*node, k)])
            yield "psf", f"mtf50_{direction}", "cycles/px", channel, x, y, mtf50, std
        yield "psf", "relative_l2_error", "1", channel, x, y, float(sigma[node]), NOWHERE
        yield "psf", "observations", "1", channel, x, y, float(counts[node]), NOWHERE


def _edges(edges: EdgeResponses) -> Iterator[Row]:
    for n in range(len(edges)):
        (x, y), channel = edges.xy_px[n].tolist(), edges.channels[edges.channel[n]]
        normal_deg = math.degrees(edges.angle_rad[n])
        yield "edges", "normal_angle", "deg", channel, x, y, normal_deg, NOWHERE
        value, sigma = float(edges.mtf50_cpp[n]), float(edges.mtf50_std_cpp[n])
        yield "edges", "mtf50", "cycles/px", channel, x, y, value, sigma


def _distortion(distortion: DistortionMap, size_px: tuple[int, int]) -> Iterator[Row]:
    focal_px, centre_px = np.diag(distortion.camera_matrix)[:2].tolist(), distortion.camera_matrix[:2, 2].tolist()
    whole = zip(("fx", "fy", "cx", "cy"), (*focal_px, *centre_px), strict=True)
    yield from (("distortion", name, "px", "", NOWHERE, NOWHERE, value, NOWHERE) for name, value in whole)
    xy_px = lattice(size_px, 0.5)
    for channel in distortion.channels:
        rays, sigma = distortion.unproject(xy_px, channel), distortion.sigma_px(xy_px, channel)
        moved = xy_px - (rays * focal_px + centre_px)
        named = (("ray_x", "1", rays, 0, None), ("ray_y", "1", rays, 1, None))
        for name, unit, values, axis, std in (*named, ("dx", "px", moved, 0, sigma), ("dy", "px", moved, 1, sigma)):
            spread = _column(std, axis, len(xy_px))
            for (x, y), value, each in zip(xy_px.tolist(), values[:, axis].tolist(), spread, strict=True):
                if math.isfinite(value):
                    yield "distortion", name, unit, channel, x, y, value, each


def _column(values: FloatArray | None, axis: int, count: int) -> list[float]:
    return [NOWHERE] * count if values is None else values[:, axis].tolist()


def _wavefront(wavefront: ZernikeField) -> Iterator[Row]:
    for node, channel, x, y in _nodes(wavefront):
        for (n, m), value, std in zip(
            wavefront.nm.tolist(),
            wavefront.coefficients_nm[node].tolist(),
            wavefront.stderr_nm[node].tolist(),
            strict=True,
        ):
            yield "wavefront", f"zernike_{n}_{m}", "nm", channel, x, y, value, std


def _illumination(light: Illumination) -> Iterator[Row]:
    for node, channel, x, y in _nodes(light):
        yield "illumination", "relative", "1", channel, x, y, float(light.relative[node]), NOWHERE


def _noise(noise: NoiseModel) -> Iterator[Row]:
    for name, unit in NOISE_UNITS.items():
        for channel, value in zip(noise.channels, getattr(noise, name).tolist(), strict=True):
            yield "noise", name, unit, channel, NOWHERE, NOWHERE, value, NOWHERE
