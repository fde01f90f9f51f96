"""Many pictures, side by side: simulated or undistorted, each to a file of its own.

One picture that fails is listed while the others go on. A worker process that dies takes its executor with it: what had
not come back is tried once more, each in a process of its own, so that just the picture that kills is listed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from psfbank.errors import ImageError, PsfBankError
from psfbank.model import DistortionMap
from psfbank.pictures import FORMATS, SUFFIXES, Assume, read_image, remove_unfinished, write_image
from psfbank.simulate import Simulator, fitted
from psfbank.simulate.window import Fit
from psfbank.undistort import Pinhole, undistort

Report = Callable[[str, int, int], None]
MakeExecutor = Callable[[], Executor]
Image = npt.NDArray[np.float32]
LARGEST_CHUNK = 8  # pictures handed to a worker at once: they share one preparation of the field
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """Files that were `written`, and those `kept` that were there already, in the order of their sources."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]


@dataclass(frozen=True)
class _Job:
    """A picture to be worked on; `word` is its name, by which it is seeded."""

    word: str
    source: Path
    target: Path


def simulate_files(
    simulator: Simulator,
    sources: Sequence[Path],
    out: Path,
    *,
    seed: int = 0,
    assume: Assume | None = None,
    fit: Fit = "centre",
    overwrite: bool = False,
    executor: MakeExecutor | None = None,
    report: Report | None = None,
) -> Outputs:
    """Simulate picture files.

    Parameters
    ----------
    simulator : Simulator
    sources : sequence of Path
    out : Path
        A file for a single picture, else a folder, where outputs keep the names and formats of their sources.
    seed : int
        A picture draws what is random from the seed and its own file name: neither the other pictures nor the number of
        workers matter.
    assume : "srgb" or "linear", optional
        See `read_image`; behind a stage "tone", what is sRGB is taken to have gone through the same curve.
    fit : "centre", "crop" or "scale"
        What is done with a picture of another size than the sensor, see `psfbank.simulate.fitted`.
    overwrite : bool
        Replace outputs that exist; in a folder they are kept otherwise. A source is never replaced.
    executor : callable, optional
        Makes an executor that runs pictures side by side; called again where a worker died.
    report : callable, optional
        `report(step, done, total)`.

    Returns
    -------
    Outputs

    Raises
    ------
    ImageError
        When an output would replace something, or pictures cannot be read or do not fit; the other pictures are done.
    """
    run = partial(_simulate_file, simulator, seed, assume, fit)
    return _run("simulate", run, sources, out, overwrite, executor, report)


def undistort_files(
    distortion: DistortionMap,
    view: Pinhole,
    size_px: tuple[int, int],
    sources: Sequence[Path],
    out: Path,
    *,
    assume: Assume | None = None,
    overwrite: bool = False,
    executor: MakeExecutor | None = None,
    report: Report | None = None,
) -> Outputs:
    """Take distortion and lateral colour out of picture files.

    Parameters
    ----------
    distortion : DistortionMap
    view : Pinhole
        Of the new pictures, from `psfbank.undistort.pinhole_view`.
    size_px : (H, W)
        Of the sensor, which the pictures must have too.
    sources, out, assume, overwrite, executor, report
        As in `simulate_files`.

    Returns
    -------
    Outputs

    Raises
    ------
    ImageError
        When an output would replace something, or pictures cannot be read, have another size or are mosaics; the other
        pictures are done.
    """
    run = partial(_undistort_file, distortion, view, size_px, assume)
    return _run("undistort", run, sources, out, overwrite, executor, report)


def own_rng(seed: int, name: str) -> np.random.Generator:
    """Make the generator of a picture, of the seed and its file name: whatever else is simulated does not matter."""
    words = np.frombuffer(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest(), dtype="<u4")
    return np.random.default_rng(np.random.SeedSequence([seed, *map(int, words)]))


def _simulate_file(simulator: Simulator, seed: int, assume: Assume | None, fit: Fit, job: _Job) -> None:
    tone = simulator.development.tone if simulator.encoded else None
    image = read_image(job.source, assume, tone)
    if image.ndim == 2 and len(simulator.channels) == 3:
        image = np.repeat(image[..., None], 3, axis=2)
    if simulator.size_px is not None:
        image = fitted(image, simulator.size_px, simulator.source_scale, fit)
    quality, subsampling = simulator.jpeg_quality, simulator.jpeg_subsampling
    taken = simulator(image, own_rng(seed, job.word))
    write_image(job.target, taken, simulator.encoded, quality, subsampling)


def _undistort_file(
    distortion: DistortionMap, view: Pinhole, size_px: tuple[int, int], assume: Assume | None, job: _Job
) -> None:
    image = read_image(job.source, assume)
    height, width = size_px
    if image.shape[:2] != size_px:
        raise ImageError(
            f"a picture of {image.shape[1]} x {image.shape[0]} does not fit a map of {width} x {height} pixels",
            remedy="Take it as the sensor gave it: not cropped, scaled or turned",
        )
    write_image(job.target, undistort(image, distortion, view).image)


def planned(sources: Sequence[Path], out: Path, overwrite: bool = False) -> Outputs:
    """Tell which outputs would be written, and which kept; ImageError as `simulate_files`, and nothing is touched."""
    jobs, kept = _planned(sources, out, overwrite)
    return Outputs(tuple(job.target for job in jobs), kept)


def _planned(sources: Sequence[Path], out: Path, overwrite: bool) -> tuple[list[_Job], tuple[Path, ...]]:
    targets = _targets(sources, out)
    to_folder = bool(targets) and targets[0] != out
    _guard(sources, targets, overwrite or to_folder)
    there = {target for target in targets if to_folder and not overwrite and target.exists()}
    jobs = [_Job(s.name, s, t) for s, t in zip(sources, targets, strict=True) if t not in there]
    return jobs, tuple(target for target in targets if target in there)


def _run(
    step: str,
    work: Callable[[_Job], None],
    sources: Sequence[Path],
    out: Path,
    overwrite: bool,
    executor: MakeExecutor | None,
    report: Report | None,
) -> Outputs:
    """Do what is not done yet if all targets may be written, then raise what failed."""
    jobs, kept = _planned(sources, out, overwrite)
    if kept:
        log.info(
            "%d of %d outputs are there already and were kept (--overwrite makes them anew)", len(kept), len(sources)
        )
    for folder in {job.target.parent for job in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    errors: dict[Path, PsfBankError] = {}
    attempt = partial(_attempted, work)
    outcomes = map(attempt, jobs) if executor is None else _side_by_side(attempt, jobs, executor)
    for done, (job, error) in enumerate(zip(jobs, outcomes, strict=True), 1):
        if error is not None:
            errors[job.source] = error
        if report is not None:
            report(step, done, len(jobs))
    if len(errors) == 1:
        raise next(iter(errors.values()))
    if errors:
        raise ImageError(f"{len(errors)} of {len(sources)} pictures failed:\n" + "\n".join(map(str, errors.values())))
    return Outputs(tuple(job.target for job in jobs), kept)


def _attempted(work: Callable[[_Job], None], job: _Job) -> PsfBankError | None:
    """Work on one picture; an error of its own is returned, so that the other pictures go on."""
    try:
        work(job)
    except ImageError as error:
        return error if error.where else ImageError(error.what, where=str(job.source), remedy=error.remedy)
    return None


def _side_by_side(
    attempt: Callable[[_Job], PsfBankError | None], jobs: Sequence[_Job], make: MakeExecutor
) -> Iterator[PsfBankError | None]:
    """Outcomes in the order of the jobs; jobs that a worker's death took along are tried once more, one at a time."""
    done = 0
    try:
        with _stopping(make()) as executor:
            chunk = max(1, min(LARGEST_CHUNK, len(jobs) // 16))
            for outcome in executor.map(attempt, jobs, chunksize=chunk):
                yield outcome
                done += 1
        return
    except BrokenExecutor:
        log.warning("a worker died: the %d pictures that had not come back are tried once more", len(jobs) - done)
    for job in jobs[done:]:
        remove_unfinished(job.target)  # the pool ends its other workers in the midst of their work
        yield _alone(attempt, job, make)


def _alone(attempt: Callable[[_Job], PsfBankError | None], job: _Job, make: MakeExecutor) -> PsfBankError | None:
    try:
        with _stopping(make()) as executor:
            return executor.submit(attempt, job).result()
    except BrokenExecutor:
        return ImageError(
            "the worker that simulated it died",
            where=str(job.source),
            remedy="Is there memory enough for one picture of this size in each worker? Fewer --jobs need less",
        )


@contextmanager
def _stopping(executor: Executor) -> Iterator[Executor]:
    """Shut an executor down; on an interrupt or an error without beginning what still waits in it."""
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()


def _targets(sources: Sequence[Path], out: Path) -> list[Path]:
    if out.suffix and not out.is_dir():
        if len(sources) > 1:
            raise ImageError(
                f"{len(sources)} pictures cannot go into one file", where=str(out), remedy="Name a folder instead"
            )
        if out.suffix.lower() not in SUFFIXES:
            raise ImageError(f"cannot write {out.suffix}", where=str(out), remedy=FORMATS)
        return [out]
    return [out / (source.name if source.suffix.lower() in SUFFIXES else f"{source.stem}.png") for source in sources]


def _guard(sources: Sequence[Path], targets: Sequence[Path], may_exist: bool) -> None:
    inputs = {source.resolve() for source in sources}
    seen: dict[Path, Path] = {}
    for source, target in zip(sources, targets, strict=True):
        if target.resolve() in inputs:
            raise ImageError("the output would replace an input", where=str(target), remedy="Choose another place")
        if target in seen:
            raise ImageError(f"{seen[target]} and {source} would both be written here", where=str(target))
        if target.exists() and not may_exist:
            raise ImageError("the output exists", where=str(target), remedy="Say --overwrite to replace it")
        seen[target] = source
