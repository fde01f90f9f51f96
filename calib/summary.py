"""What a bank holds, as one plain dict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from calib.edge.measure import orientation
from calib.edge_responses import predicted_mtf50_cpp
from psfbank import distortion_figures as figures
from psfbank.arrays import FloatArray
from psfbank.bank import PsfBank
from psfbank.flags import Flag
from psfbank.metrics import rms_wfe_nm
from psfbank.model import (
    Axis,
    Calibration,
    Camera,
    DistortionMap,
    EdgeResponses,
    Illumination,
    NoiseByIso,
    NoiseModel,
    PsfEvidence,
    PsfGrid,
    ZernikeField,
)

CAPTURED = ("psf", "wavefront", "distortion", "illumination", "noise")
PARTS = (*CAPTURED, "evidence", "edges")
ACROSS = ("horizontal", "vertical", "diagonal")
LABELS = {
    "n_obs": "observations",
    "coverage": "tiles with data of their own",
    "sigma_median": "expected relative PSF error, median",
    "rms_nm_median": "wavefront RMS, median [nm]",
    "wavelength_nm": "wavelength [nm]",
    "rms_px": "distortion residual RMS [px]",
    "lateral_rms_px": "lateral colour RMS [px]",
    "lateral_max_px": "lateral colour, largest [px]",
    "lateral_max_percent": "the same [% of half the diagonal]",
    "corner_min": "illumination, darkest corner",
    "corner_max": "illumination, brightest corner",
    "gain_dn_per_e": "gain [DN/e-]",
    "read_noise_e": "read noise [e-]",
    "dark_e_per_s": "dark current [e-/s]",
    "prnu": "PRNU",
    "black_dn": "black level [DN]",
    "white_dn": "white level [DN]",
    "chi2_used_median": "chi2 per sample, median",
    "chi2_reserved_median": "chi2 per sample held in reserve, median",
    "asymmetry_median": "rise of chi2 per image if symmetric, median",
    "measured": "slanted edges measured",
    "mtf50_sagittal_cpp": "MTF50 sagittal, median [cycles/px]",
    "mtf50_tangential_cpp": "MTF50 tangential, median [cycles/px]",
    "mtf50_off_median_cpp": "|MTF50 of the PSF - that|, median [cycles/px]",
    "mtf50_off_p90_cpp": "|MTF50 of the PSF - that|, 90 % [cycles/px]",
}


def bank_summary(bank: PsfBank) -> dict[str, Any]:
    """Say what a bank holds in plain numbers and words; a part that nobody captured is None."""
    camera = bank.camera
    fields = ("maker", "model", "serial", "lens", "size_px", "pitch_um", "cfa", "channels")
    return {
        "camera": {name: getattr(camera, name) for name in fields},
        "calibrations": [calibration_summary(calibration, camera) for calibration in bank.calibrations],
    }


def calibration_summary(
    calibration: Calibration, camera: Camera, predicted_cpp: FloatArray | None = None
) -> dict[str, Any]:
    """Say what one calibration holds in plain numbers and words, part by part.

    `predicted_cpp` (N,) is `predicted_mtf50_cpp` of its edges, for who has it already.
    """
    summaries: dict[str, Callable[[Any], dict[str, Any]]] = {
        "psf": _psf,
        "wavefront": _wavefront,
        "distortion": lambda part: _distortion(part, calibration, camera),
        "illumination": lambda part: _illumination(part, camera),
        "noise": _noise,
        "evidence": _evidence,
        "edges": lambda part: _edges(part, calibration, camera, predicted_cpp),
    }
    parts = {name: getattr(calibration, "psf_grid" if name == "psf" else name) for name in PARTS}
    return {
        "setting": calibration.setting.known(),
        "axis": None if calibration.axis is None else _axis(calibration.axis),
        **{name: None if part is None else summaries[name](part) for name, part in parts.items()},
        "noise_by_iso": None if calibration.noise_by_iso is None else _noise_by_iso(calibration.noise_by_iso),
        "provenance": {key: _brief(value) for key, value in calibration.provenance.items()},
    }


def _axis(axis: Axis) -> dict[str, Any]:
    predicted, own = axis.left_out_px
    return {"key": axis.key, "left_out_px": float(predicted), "heldout_px": float(own)}


def _by_channel(channels: tuple[str, ...], values: Any) -> dict[str, Any]:
    return dict(zip(channels, values, strict=True))


def _psf(grid: PsfGrid) -> dict[str, Any]:
    flags = np.asarray(grid.flags)
    filled = (flags & Flag.FILLED) != 0
    counts = [{f.name.lower(): int(np.sum((c & f) != 0)) for f in Flag if f.name and np.any(c & f)} for c in flags]
    return {
        "tiles": [len(grid.y_px), len(grid.x_px)],
        "kernel_px": grid.kernels.shape[-1] / grid.oversample,
        "oversample": grid.oversample,
        "by_channel": {
            "n_obs": _by_channel(grid.channels, np.sum(np.asarray(grid.n_obs), axis=(1, 2))),
            "coverage": _by_channel(grid.channels, 1 - filled.mean(axis=(1, 2))),
            "sigma_median": _by_channel(grid.channels, np.median(np.asarray(grid.sigma), axis=(1, 2))),
        },
        "flags": _by_channel(grid.channels, counts),
    }


def _wavefront(wavefront: ZernikeField) -> dict[str, Any]:
    rms_nm = np.median(rms_wfe_nm(wavefront.coefficients_nm, wavefront.nm), axis=(1, 2))
    return {
        "tiles": [len(wavefront.y_px), len(wavefront.x_px)],
        "terms": len(wavefront.nm),
        "f_number": wavefront.f_number,
        "by_channel": {
            "wavelength_nm": _by_channel(wavefront.channels, wavefront.wavelength_nm),
            "rms_nm_median": _by_channel(wavefront.channels, rms_nm),
        },
    }


def _distortion(distortion: DistortionMap, calibration: Calibration, camera: Camera) -> dict[str, Any]:
    size_px, heights = camera.size_px, np.linspace(0.05, 1, 20)
    local_percent, _ = figures.local_geometric_distortion_percent(distortion, size_px, heights)
    worst = int(np.argmax(np.nan_to_num(np.abs(local_percent))))
    lateral = [figures.chromatic_displacement(distortion, size_px, c) for c in distortion.channels]
    of_colour = {
        f"lateral_{name}": [
            math.nan if c in "GY" else getattr(d, name) for c, d in zip(distortion.channels, lateral, strict=True)
        ]
        for name in ("rms_px", "max_px", "max_percent")
    }
    told = calibration.provenance.get("summary")
    told = told.get("distortion") if isinstance(told, Mapping) else None
    return {
        "registration": isinstance(told, Mapping) and "registration_to_rays" in told,
        "focal_px": distortion.camera_matrix.diagonal()[:2],
        "centre_px": distortion.camera_matrix[:2, 2],
        "spline": distortion.coefficients.shape[2:],
        "fov_deg": dict(zip(ACROSS, figures.field_of_view_deg(distortion, size_px), strict=True)),
        "tv_percent": dict(zip(ACROSS[:2], figures.tv_distortion_percent(distortion, size_px), strict=True)),
        "iso_17850_worst": {"percent": local_percent[worst], "height": heights[worst]},
        "by_channel": {
            name: _by_channel(distortion.channels, values)
            for name, values in {"rms_px": distortion.rms_px, **of_colour}.items()
        },
    }


def _illumination(illumination: Illumination, camera: Camera) -> dict[str, Any]:
    bottom, right = camera.size_px[0] - 1, camera.size_px[1] - 1
    corners = [illumination.at([0, right, 0, right], [0, 0, bottom, bottom], c) for c in illumination.channels]
    return {
        "tiles": [len(illumination.y_px), len(illumination.x_px)],
        "by_channel": {
            "corner_min": _by_channel(illumination.channels, [values.min() for values in corners]),
            "corner_max": _by_channel(illumination.channels, [values.max() for values in corners]),
        },
    }


def _noise(noise: NoiseModel) -> dict[str, Any]:
    names = ("gain_dn_per_e", "read_noise_e", "dark_e_per_s", "prnu", "black_dn", "white_dn")
    return {"by_channel": {name: _by_channel(noise.channels, getattr(noise, name)) for name in names}}


def _noise_by_iso(noise: NoiseByIso) -> list[dict[str, Any]]:
    return [{"iso": iso, **_noise(noise.at(iso))} for iso in noise.iso.tolist()]


def _evidence(evidence: PsfEvidence) -> dict[str, Any]:
    return {
        "residual_px": evidence.residual.shape[-1],
        "by_channel": {
            f"{name}_median": _by_channel(
                evidence.channels, [_known_percentile(v, 50) for v in getattr(evidence, name)]
            )
            for name in ("chi2_used", "chi2_reserved", "asymmetry")
        },
    }


def _edges(
    edges: EdgeResponses, calibration: Calibration, camera: Camera, predicted_cpp: FloatArray | None
) -> dict[str, Any]:
    found = np.asarray(edges.mtf50_cpp)
    off = np.abs((predicted_mtf50_cpp(calibration, edges) if predicted_cpp is None else predicted_cpp) - found)
    towards = np.array(
        [orientation(xy, float(a), camera.size_px) for xy, a in zip(edges.xy_px, edges.angle_rad, strict=True)]
    )
    of_channel = [edges.channel == c for c in range(len(edges.channels))]
    rows = {
        "measured": [int(which.sum()) for which in of_channel],
        **{
            f"mtf50_{name}_cpp": [_known_percentile(found[which & (towards == name)], 50) for which in of_channel]
            for name in ("sagittal", "tangential")
        },
        "mtf50_off_median_cpp": [_known_percentile(off[which], 50) for which in of_channel],
        "mtf50_off_p90_cpp": [_known_percentile(off[which], 90) for which in of_channel],
    }
    return {"by_channel": {name: _by_channel(edges.channels, values) for name, values in rows.items()}}


def _known_percentile(values: FloatArray, percent: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.percentile(known, percent)) if known.size else math.nan


def _brief(value: Any) -> Any:
    return f"{len(value)} entries" if isinstance(value, (Mapping, list, tuple)) else value
