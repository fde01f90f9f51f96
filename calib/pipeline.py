"""A session of captures in, one PSF bank out: the page that reads as the flow."""

from __future__ import annotations

import logging
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import numpy as np

from calib.checks import check_tiles
from calib.edge_pieces import find_edges_of
from calib.edge_responses import measure_edges
from calib.evidence import gather, measure_wavefront, render_psfs
from calib.focus import own_focus_m, require_one_lens
from calib.manifest import Plan, load_plan
from calib.measure import find_points, measure_noise, measure_shading, shot_iso
from calib.planes import (
    MeasuredMap,
    beside_charts,
    centre_boards,
    find_boards,
    find_noise_targets,
    measure_distortion,
    read_detections,
    sharp_geometry,
)
from calib.progress import Report, silent
from calib.psf import tile_nodes
from calib.residuals import tile_evidence
from calib.session import Journal, provenance, read_session
from calib.settings import along_axis, axis_of, by_setting
from calib.unmodelled import add_remainder
from psfbank.bank import PsfBank
from psfbank.errors import CalibrationError
from psfbank.model import Calibration

log = logging.getLogger(__name__)

TILES_A_DIAGONAL, SMALLEST_TILE_PX = 20, 60.0


def calibrate(
    session: str | Path, *, seed: int = 0, executor: Executor | None = None, report: Report = silent
) -> PsfBank:
    """Calibrate one camera from a session of captures.

    Parameters
    ----------
    session : str or Path
        Directory that holds capture.toml, or the file.
    seed : int
        Of the choice of what is held in reserve.
    executor : Executor, optional
        Threads for the heavy steps; the result does not depend on it.
    report : callable
        Told (step, done, total).

    Returns
    -------
    PsfBank
        One calibration, or one for each setting at which charts were shot; a part that nobody captured is None, and
        its provenance says so.

    Raises
    ------
    ManifestError
        When capture.toml is wrong, or describes several lenses.
    CalibrationError
        When no part at all could be measured.
    """
    plan = load_plan(session)
    key = axis_of(plan)
    if key is None:
        return PsfBank(plan.camera, (_calibrated(plan, seed, executor, report)[0],))
    settings = []
    for part in by_setting(plan, key):
        log.info("%s = %g", key, getattr(part.setting, key))
        try:
            settings.append(_calibrated(part, seed, executor, report))
        except CalibrationError as error:  # one setting of several: the others stand
            log.warning("%s = %g: %s", key, getattr(part.setting, key), error)
    if not settings:
        raise CalibrationError(f"nothing could be measured at any {key}", where=str(plan.path))
    misses = [None if measured is None else measured.residual_rms_px for _, measured in settings]
    return PsfBank(plan.camera, along_axis([calibration for calibration, _ in settings], key, misses))


def _calibrated(
    plan: Plan, seed: int, executor: Executor | None, report: Report
) -> tuple[Calibration, MeasuredMap | None]:
    """Calibrate one setting of the lens; its map stands beside it with the corners that it was fitted to."""
    journal = Journal()
    require_one_lens(plan)
    shots = read_session(plan, journal, report)
    diagonal_px = float(np.hypot(*plan.camera.size_px))
    x_px, y_px = tile_nodes(plan.camera.size_px, max(diagonal_px / TILES_A_DIAGONAL, SMALLEST_TILE_PX))

    sensor = measure_noise(plan, shots, journal)
    noise = None if sensor is None else sensor.weighing(shot_iso(plan, shots))
    shading = measure_shading(plan, shots, x_px, y_px, journal)
    points = find_points(plan, shots["led"], noise, journal, report)
    boards = find_boards(plan, shots["chessboard"], journal, report)
    coded = find_boards(plan, shots["charuco"], journal, report)
    detected = read_detections(plan, journal)
    targets = find_noise_targets(plan, shots["noise_target"], journal, report)
    responses = measure_edges(plan, shots["slanted_edge"], journal, executor, report)
    edges = find_edges_of(plan, shots["slanted_edge"], journal, report)
    charted = sharp_geometry(plan, boards, targets, beside_charts(plan, coded, detected), journal)
    rng = np.random.default_rng(seed)
    evidence = gather(plan, points, boards, targets, edges, charted, noise, rng, journal, report)
    wavefront = measure_wavefront(plan, evidence, noise, journal, executor, report)
    psf, zernike = render_psfs(plan, evidence, wavefront, x_px, y_px, journal)
    check_tiles(wavefront, evidence, rng, journal)
    psf, asymmetry = add_remainder(psf, wavefront, evidence, rng, journal, executor, report)
    boards = centre_boards(plan, [*boards, *coded], psf, report)
    measured = measure_distortion(plan, points, wavefront, boards, targets, detected, journal, report)

    distortion = None if measured is None else measured.distortion
    if all(part is None for part in (noise, shading, psf, distortion, responses)):
        raise CalibrationError(
            "nothing could be measured; " + "; ".join(f"no {part}: {why}" for part, why in journal.missing.items()),
            where=str(plan.path),
        )
    seen = tile_evidence(wavefront, evidence, noise, psf, asymmetry)
    iso = plan.setting.iso if sensor is None else sensor.iso  # nothing but noise depends on it
    setting = replace(plan.setting, focus_m=own_focus_m(plan), iso=iso)
    parts = (psf, zernike, distortion, shading, None if sensor is None else sensor.noise)
    told = {**provenance(plan, journal), "seed": seed}
    by_iso = None if sensor is None else sensor.by_iso
    return Calibration(setting, *parts, told, seen, responses, noise_by_iso=by_iso), measured
