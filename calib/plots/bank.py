"""The figures of one calibration, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from matplotlib.figure import Figure

from calib.edge_responses import predicted_mtf50_cpp
from calib.plots.distortion import distortion_field, distortion_uncertainty, lateral_colour
from calib.plots.mtf import mtf50_against_height, mtf50_maps, mtf_curves
from calib.plots.psf import encircled_energy_figure, psf_montage
from calib.plots.sensor import photon_transfer, shading_maps
from calib.plots.style import SUFFIXES, require_writable, save_figure
from calib.plots.validation import chi2_maps, edge_agreement, residual_montage
from calib.plots.wavefront import aberration_vectors, wavefront_maps, zernike_bars
from psfbank.arrays import FloatArray
from psfbank.errors import MissingPartError
from psfbank.metrics import FieldMtf, field_mtf
from psfbank.model import (
    Calibration,
    DistortionMap,
    EdgeResponses,
    Illumination,
    NoiseModel,
    PsfEvidence,
    PsfGrid,
    ZernikeField,
)

Part = TypeVar("Part")


@dataclass(frozen=True, eq=False)
class Measured:
    """One calibration of a sensor of `size_px` (H, W), part by part; MissingPartError for a part it does not have."""

    calibration: Calibration
    size_px: tuple[int, int]

    @property
    def psf(self) -> PsfGrid:
        """Its PSFs."""
        return _there(self.calibration.psf_grid, "PSFs", "led")

    @property
    def wavefront(self) -> ZernikeField:
        """Its wavefront."""
        return _there(self.calibration.wavefront, "wavefront", "led")

    @property
    def distortion(self) -> DistortionMap:
        """Its distortion map."""
        return _there(self.calibration.distortion, "distortion map", "chessboard")

    @property
    def illumination(self) -> Illumination:
        """Its shading."""
        return _there(self.calibration.illumination, "shading", "flat")

    @property
    def noise(self) -> NoiseModel:
        """Its noise."""
        return _there(self.calibration.noise, "noise", "flat")

    @property
    def evidence(self) -> PsfEvidence:
        """How its PSFs agree with the images."""
        return _there(self.calibration.evidence, "observations in reserve", "led")

    @property
    def edges(self) -> EdgeResponses:
        """What slanted edges show."""
        return _there(self.calibration.edges, "slanted edges", "slanted_edge")

    @cached_property
    def mtf(self) -> FieldMtf:
        """Modulation transfer of the PSFs at their nodes."""
        return field_mtf(self.psf, self.size_px)

    @cached_property
    def predicted_mtf50_cpp(self) -> FloatArray:
        """MTF50 (N,) of the PSFs along the edges' normals."""
        if self.calibration.psf_grid is None:
            raise MissingPartError("this calibration has no PSFs to compare slanted edges with")
        return predicted_mtf50_cpp(self.calibration, self.edges)


def _there(part: Part | None, name: str, kind: str) -> Part:
    if part is None:
        raise MissingPartError(f"this calibration has no {name}", remedy=f"Calibrate a session with `{kind}` captures")
    return part


def _uncertainty(measured: Measured) -> Figure:
    if measured.distortion.uncertainty is None:
        raise MissingPartError("this distortion map does not say how sure it is", remedy="Calibrate its session again")
    return distortion_uncertainty(measured.distortion, measured.size_px)


def _lateral_colour(measured: Measured) -> Figure:
    if "G" not in measured.distortion.channels or len(measured.distortion.channels) < 2:
        raise MissingPartError("a monochrome camera has no lateral colour")
    return lateral_colour(measured.distortion, measured.size_px)


FIGURES: dict[str, Callable[[Measured], Figure]] = {
    "psf": lambda m: psf_montage(m.psf),
    "encircled-energy": lambda m: encircled_energy_figure(m.psf, m.size_px),
    "mtf50": lambda m: mtf50_maps(m.mtf, m.size_px),
    "mtf": lambda m: mtf_curves(m.mtf, m.size_px),
    "mtf50-height": lambda m: mtf50_against_height(m.mtf, m.size_px),
    "distortion": lambda m: distortion_field(m.distortion, m.size_px),
    "uncertainty": _uncertainty,
    "lateral-colour": _lateral_colour,
    "zernike": lambda m: zernike_bars(m.wavefront, m.size_px),
    "wavefront": lambda m: wavefront_maps(m.wavefront, m.size_px),
    "aberrations": lambda m: aberration_vectors(m.wavefront, m.size_px),
    "noise": lambda m: photon_transfer(m.noise, m.calibration.noise_by_iso),
    "shading": lambda m: shading_maps(m.illumination, m.size_px),
    "chi2": lambda m: chi2_maps(m.evidence, m.size_px),
    "residuals": lambda m: residual_montage(m.evidence),
    "edges": lambda m: edge_agreement(m.edges, m.predicted_mtf50_cpp),
}


def draw_figure(
    kind: str, calibration: Calibration, size_px: tuple[int, int], path: Path, *, overwrite: bool = False
) -> None:
    """Draw one of `FIGURES` of a calibration into a file.

    Parameters
    ----------
    kind : str
    calibration : Calibration
    size_px : (H, W)
        Of the sensor.
    path : Path
        Its suffix is one of `SUFFIXES`.
    overwrite : bool

    Raises
    ------
    MissingPartError
        When nobody captured what the figure shows.
    ReportError
        When the file exists already or cannot be written.
    """
    require_writable(path, overwrite, SUFFIXES)
    save_figure(FIGURES[kind](Measured(calibration, size_px)), path)
