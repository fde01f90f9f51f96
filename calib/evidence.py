"""Steps of a calibration: everything that saw the lens, arranged as one problem for the PSF field."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from calib.chartmodel import ChartSamples, drawn_half
from calib.charts import WINDOW_PX, ChartView, Drawing, draw, excitation, join, observe
from calib.edge_pieces import EdgeShot, draw_edges, edge_view, taken_evenly, thinned_edges
from calib.edge_profile import ProfileSamples, joined, profiles_of, thinned_shots, without_pieces
from calib.fieldsolver import Problem
from calib.focus import planes_of
from calib.geometry import DistortionFit
from calib.kernel import reserve
from calib.manifest import Plan
from calib.measure import PointSet, optics_of
from calib.photometry.variance import variance_terms
from calib.planes import Board, NoiseShot, board_targets, reference_channel
from calib.pointmodel import PointModel
from calib.progress import Report, silent
from calib.psf import render_grid
from calib.session import Journal, in_words
from calib.targets import Chessboard
from calib.wavefront import Pieces, WavefrontFit, fit_wavefront, pose_problem
from psfbank.arrays import BoolArray, FloatArray
from psfbank.errors import FitFailed
from psfbank.flags import Flag
from psfbank.model import Capture, NoiseModel, PsfGrid, ZernikeField

log = logging.getLogger(__name__)

CHART_HALF_PX = 10  # of the PSF, where there are no points to say
MOST_PIECES, MOST_BESIDE_POINTS = 800, 300  # more sharpen little, and each costs as much as a light
MOST_EDGES_BESIDE_POINTS = 150  # beside those of other charts
MOST_PROFILES_BESIDE_POINTS = 80  # they reach where no point lies, and sharpen little elsewhere
RESERVED = 0.2
F_NUMBER_TOLERANCE = 0.1  # relative, by which a fitted f-number may differ from the one stated
LEAST_SECTORS = 3  # of 8, in which edges must lie: two directions leave the PSF open between them


@dataclass(frozen=True)
class Evidence:
    """The posed problem; of its sources the reserve (S,) and their captures (S,); whether an f-number was stated."""

    problem: Problem
    reserved: BoolArray
    capture: tuple[str, ...]
    f_number_known: bool


def board_charts(boards: Sequence[Board], geometry: DistortionFit) -> list[ChartView]:
    """Chessboards as charts whose pieces are their inner corners."""
    views = []
    for board, target, pose in zip(boards, board_targets(boards), geometry.poses, strict=False):
        if not np.isfinite(pose).all() or board.detection.flags & Flag.UNSHARP:
            continue
        square = float(board.shot.entry.square_mm or 1.0)
        columns, rows = (int(n) + 1 for n in board.detection.grid.max(axis=0))
        found = np.logical_and.reduce(list(board.detection.found.values()))
        views.append(
            ChartView(
                capture=board.shot.capture,
                chart=Chessboard(columns, rows, square),
                pose=pose,
                height_mm=partial(geometry.board_shape.height_mm, target=target),
                places_mm=board.detection.grid[found] * square,
                low_mm=np.full(2, -square),
                high_mm=np.array([columns, rows]) * square,
            )
        )
    return views


def noise_charts(noise_shots: Sequence[NoiseShot], poses: FloatArray) -> list[ChartView]:
    """Noise targets as charts whose pieces are the blocks that were found."""
    views = []
    for seen, pose in zip(noise_shots, poses, strict=True):
        if np.isfinite(pose).all():
            target, low_mm = seen.view.target, seen.view.target.outline_mm()[0]
            high_mm = target.outline_mm()[2]
            places_mm = seen.view.object_mm
            views.append(ChartView(seen.shot.capture, target, pose, flat, places_mm, low_mm, high_mm))
    return views


def flat(places_mm: FloatArray) -> npt.NDArray[np.float64]:
    """Height (N,) mm of a flat chart."""
    return np.zeros(len(places_mm))


def thinned_views(
    views: Sequence[ChartView],
    geometry: DistortionFit,
    channel: str,
    size_px: tuple[int, int],
    most: int,
    rng: np.random.Generator,
) -> list[ChartView]:
    """Take about `most` of the pieces of all views, evenly over the picture."""
    xy_px = [view.project(view.places_mm, geometry.distortion, channel) for view in views]
    taken = taken_evenly(xy_px, size_px, most, rng)
    return [v if t.all() else replace(v, places_mm=v.places_mm[t]) for v, t in zip(views, taken, strict=True)]


def cut_pieces(
    plan: Plan, seen: Sequence[tuple[Capture, Drawing]], noise: NoiseModel | None
) -> tuple[Pieces, list[str]] | None:
    """Cut what the sensor saw of charts that were drawn sharp, with the capture of each piece; None without pieces."""
    seen = [(capture, drawing) for capture, drawing in seen if len(drawing.xy_px)]
    if not seen:
        return None
    drawn = np.concatenate([d.drawing for _, d in seen])
    first = np.cumsum([0, *(len(d.xy_px) for _, d in seen)])
    parts = [
        [observe(capture, d, plan.camera, c, noise, int(n)) for (capture, d), n in zip(seen, first, strict=False)]
        for c in range(len(plan.camera.channels))
    ]
    pieces = Pieces(np.concatenate([d.xy_px for _, d in seen]), tuple(join(part, drawn) for part in parts))
    return pieces, [capture.name for capture, d in seen for _ in d.xy_px]


def cut_profiles(plan: Plan, shots: Sequence[EdgeShot], noise: NoiseModel | None) -> tuple[Pieces, list[str]] | None:
    """Average the profiles of edges, with the capture of each; None without any."""
    found = [(shot.capture.name, *profiles_of(shot, plan.camera, noise)) for shot in shots if shot.edges]
    names = [name for name, xy_px, _ in found for _ in xy_px]
    if not names:
        return None
    channels = zip(*(profiles for _, _, profiles in found), strict=True)
    return Pieces(np.concatenate([xy_px for _, xy_px, _ in found]), tuple(joined(parts) for parts in channels)), names


def cut_charts(
    plan: Plan,
    views: Sequence[ChartView],
    edge_shots: Sequence[EdgeShot],
    geometry: DistortionFit | None,
    noise: NoiseModel | None,
    fine_px: FloatArray,
    beside_points: bool,
    rng: np.random.Generator,
) -> list[tuple[Pieces, list[str]]]:
    """Draw charts and edges sharp and cut what the sensor saw of them, at most so many, spread evenly.

    Returns
    -------
    list of (Pieces, list of str)
        Those of charts with a geometry, those of edges, and profiles of the edges that have no room for a piece, each
        with its captures; none where no piece lies wholly on what is known.
    """
    size_px, reference = plan.camera.size_px, reference_channel(plan.camera.channels)
    edge_views = [edge_view(shot, fine_px) for shot in edge_shots]
    profiled = [without_pieces(shot, view) for shot, view in zip(edge_shots, edge_views, strict=True)]
    most = [MOST_BESIDE_POINTS, MOST_EDGES_BESIDE_POINTS, MOST_PROFILES_BESIDE_POINTS]
    if not beside_points:  # they share the places, each by its number
        counts = [
            sum(len(v.places_mm) for v in views),
            sum(len(v.along_px) for v in edge_views),
            sum(len(shot.edges) for shot in profiled),
        ]
        most = [round(MOST_PIECES * count / max(sum(counts), 1)) for count in counts]
    cuts = []
    if geometry is not None:
        views = thinned_views(views, geometry, reference, size_px, most[0], rng)
        seen = [(view.capture, draw(view, geometry.distortion, reference, fine_px)[0]) for view in views]
        cuts.append(cut_pieces(plan, seen, noise))
    edge_views = thinned_edges(edge_views, size_px, most[1], rng)
    cuts.append(cut_pieces(plan, [(view.capture, draw_edges(view, fine_px)) for view in edge_views], noise))
    cuts.append(cut_profiles(plan, thinned_shots(profiled, size_px, most[2], rng.spawn(1)[0]), noise))
    return [cut for cut in cuts if cut is not None]


def gather(
    plan: Plan,
    points: PointSet | None,
    boards: Sequence[Board],
    noise_shots: Sequence[NoiseShot],
    edge_shots: Sequence[EdgeShot],
    geometry: DistortionFit | None,
    noise: NoiseModel | None,
    rng: np.random.Generator,
    journal: Journal,
    report: Report = silent,
) -> Evidence | None:
    """Pose the problem of the PSF field from all targets; None when none says enough.

    A fifth of the sources is held in reserve, evenly over the field.
    """
    report("gather", 0, 1)
    half_px = CHART_HALF_PX if points is None else points.images.patch.shape[1] // 2
    size_px, channels = plan.camera.size_px, len(plan.camera.channels)
    journal.summary["psf"] = journal.summary.get("psf", {})
    optics, known = optics_of(plan)
    seen = None if points is None else points.images
    cuts: list[tuple[Pieces, list[str]]] = []
    if plan.encoding == "linear" and (geometry is not None or edge_shots):
        views = []
        if geometry is not None:
            views = board_charts(boards, geometry) + noise_charts(noise_shots, geometry.poses[len(boards) :])
        fine_px = PointModel(optics, 0, half_px).fine_px
        cuts = cut_charts(plan, views, edge_shots, geometry, noise, fine_px, points is not None, rng)
    excited = None
    if cuts:
        drawn = np.concatenate([_drawn(pieces, fine_px) for pieces, _ in cuts])
        excited = excitation(drawn, float(fine_px[1] - fine_px[0]))
    if points is None and not _enough(excited, bool(boards or noise_shots or edge_shots), plan, journal):
        del journal.summary["psf"]
        return None
    problem = pose_problem(
        seen,
        optics,
        size_px,
        channels,
        half_px=half_px,
        pieces=[pieces for pieces, _ in cuts],
        f_number_known=known,
        planes=None if points is None else planes_of(plan, points.entries),
    )
    names = [] if points is None else points.capture_of_lights()
    journal.summary["psf"] |= {"points": len(names)}
    profiles = 0
    if excited is not None:
        names += [name for _, captures in cuts for name in captures]
        profiles = sum(len(p.xy_px) for p, _ in cuts if isinstance(p.channels[0], ProfileSamples))
        journal.summary["psf"] |= {
            "pieces_of_charts": sum(len(p.xy_px) for p, _ in cuts) - profiles,
            "profiles_of_edges": profiles,
            "charts_excite": [round(v, 3) for v in excited],
        }
    report("gather", 1, 1)
    # profiles come last and draw for themselves: which points and pieces are held back does not hang on them
    groups = np.split(problem.detected_px, [len(problem.detected_px) - profiles])
    drawn_by = rng, rng.spawn(1)[0]
    parts = [reserve(xy, size_px, RESERVED, own) for xy, own in zip(groups, drawn_by, strict=True) if len(xy)]
    reserved = np.concatenate(parts)
    return Evidence(problem, reserved, tuple(names), known)


def _drawn(pieces: Pieces, fine_px: FloatArray) -> npt.NDArray[np.float32]:
    """Pieces (N, R, R) or edges as they are without a lens."""
    samples = pieces.channels[0]
    if isinstance(samples, ChartSamples):
        return samples.drawing
    if isinstance(samples, ProfileSamples):
        return samples.drawn(2 * drawn_half(WINDOW_PX, fine_px) + 1)
    raise TypeError(f"{type(samples).__name__} is no piece of a chart")


def _enough(
    excited: npt.NDArray[np.float64] | None,
    charts: bool,
    plan: Plan,
    journal: Journal,
) -> bool:
    """Whether charts alone determine a PSF; says in the journal why not."""
    if excited is None:
        reason = "no capture shows a grid of points or a chart"
        if charts and plan.encoding != "linear":
            reason = "no capture shows a grid of points, and gamma-coded pictures of charts show no PSF; shoot RAW"
        elif charts:
            reason = "no capture shows a grid of points, and the charts are too few, unsharp, or too small"
        journal.lack("psf", reason)
        return False
    sectors = int(np.sum(excited > 0.1 * excited.max()))
    if sectors < LEAST_SECTORS:
        journal.lack(
            "psf",
            f"the charts show edges in {sectors} of 8 directions only, {LEAST_SECTORS} are needed. "
            "Shoot the board or the squares turned by 20 and by 45 degrees as well, or a noise target, or points",
        )
        return False
    return True


def measure_wavefront(
    plan: Plan,
    evidence: Evidence | None,
    noise: NoiseModel | None,
    journal: Journal,
    executor: Executor | None,
    report: Report = silent,
) -> WavefrontFit | None:
    """Fit the wavefront of the whole field to all evidence; None without any, or with too little."""
    if evidence is None:
        return None
    try:
        with threadpool_limits(1, user_api="blas"):  # many small products: BLAS threads would wait for each other
            fit = fit_wavefront(
                evidence.problem,
                plan.camera.size_px,
                reserved=evidence.reserved,
                noise=None if noise is None else variance_terms(noise),
                executor=executor,
                report=report,
            )
    except FitFailed as error:
        journal.lack("psf", in_words(error))
        return None
    journal.summary["psf"] |= fit_summary(fit, evidence)
    scale = float(fit.vector[fit.layout.slices()["scale"].start])
    if evidence.f_number_known and abs(scale - 1) > F_NUMBER_TOLERANCE:
        stated = fit.optics.f_number
        doubt = f"the images want f/{stated * scale:.3g}, capture.toml says f/{stated:.3g}; the images were followed"
        log.warning("%s. Check f_number and pixel_pitch_um", doubt)
        journal.summary["psf"] |= {"f_number_doubt": doubt}
    return fit


def fit_summary(fit: WavefrontFit, evidence: Evidence) -> dict[str, Any]:
    """Put a fit in numbers for the journal, with every source that was rejected."""
    at = fit.layout.slices()
    common = at["scale"].start
    scale, sigma = fit.optics.f_number * np.array([fit.vector[common], np.sqrt(fit.covariance[common, common])])
    rejected = [
        {
            "capture": evidence.capture[k],
            "x_px": round(float(fit.xy_px[k, 0]), 1),
            "y_px": round(float(fit.xy_px[k, 1]), 1),
            "chi2_per_sample": round(float(fit.chi2[k]), 2),
        }
        for k in np.flatnonzero(~fit.used & ~fit.reserved & np.isfinite(fit.chi2))
    ]
    chi2 = {
        name: fit.chi2[which & np.isfinite(fit.chi2)] for name, which in (("", fit.used), ("_reserved", fit.reserved))
    }
    return {
        **{f"chi2_per_sample{name}": round(float(np.median(c)), 4) for name, c in chi2.items() if len(c)},
        "reserved": int(fit.reserved.sum()),
        "rejected": rejected,
        "diffusion_px": [round(float(v), 4) for v in fit.vector[at["diffusion"]]],
        "f_number": round(float(scale), 4),
        "f_number_sigma": round(float(sigma), 4),
        "f_number_declared": evidence.f_number_known,
        "focus_nm": [round(float(v), 2) for v in fit.vector[at["focus"]][::3]],
        "signs_are_known": fit.layout.planes > 1,
        "local_corrections": None if fit.remainder is None else fit.remainder.tightness,
    }


def render_psfs(
    plan: Plan,
    evidence: Evidence | None,
    wavefront: WavefrontFit | None,
    x_px: FloatArray,
    y_px: FloatArray,
    journal: Journal,
) -> tuple[PsfGrid, ZernikeField] | tuple[None, None]:
    """Put the fitted field on the nodes; (None, None) when there is no fit."""
    if evidence is None or wavefront is None:
        return None, None
    psf, zernike = render_grid(wavefront, evidence.problem.images, plan.camera.channels, x_px, y_px)
    journal.summary["psf"] |= {
        "tiles": [len(y_px), len(x_px)],
        "tiles_filled": int(np.sum(np.asarray(psf.flags) & Flag.FILLED != 0)),
        "sigma_median": round(float(np.median(np.asarray(psf.sigma))), 5),
    }
    return psf, zernike
