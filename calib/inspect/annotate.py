"""Draw over a capture what was detected in it, with a strip of words below."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from calib.capture import read_picture
from calib.chessboard.find import luminance
from calib.inspect.facts import Assumed
from calib.inspect.findings import Inspection, Seen
from calib.inspect.run import entry_of, light_in
from calib.manifest import Plan
from psfbank.arrays import FloatArray
from psfbank.errors import ImageError
from psfbank.files import appearing_whole
from psfbank.model import Camera, Capture

LEAST_WIDTH_PX, WIDEST_PX = 1000, 4000  # of the drawing: smaller pictures are enlarged, larger ones made smaller
GOOD, CLIPPED, LINE, MOTION = (80, 200, 60), (60, 60, 235), (230, 160, 40), (40, 170, 250)  # blue, green, red
PAPER, INK, BAD = (250, 250, 250), (40, 40, 40), (40, 40, 200)
STREAKS = 12.0  # times its length that a suspected motion is drawn


def annotated(capture: Capture, camera: Camera, inspection: Inspection) -> npt.NDArray[np.uint8]:
    """Draw what was detected, and below what was found.

    Parameters
    ----------
    capture : Capture
    camera : Camera
    inspection : Inspection
        Of the same picture.

    Returns
    -------
    (H, W, 3) uint8
        Blue, green and red, as OpenCV writes them. Light is shown by its square root, saturated pixels red.
    """
    grey = _shown(luminance(capture.pixels, camera.cfa))
    canvas: npt.NDArray[np.uint8] = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR).astype(np.uint8)
    canvas[np.asarray(capture.saturated)] = CLIPPED
    width = canvas.shape[1]
    times = max(1, -(-LEAST_WIDTH_PX // width)) if width <= WIDEST_PX else WIDEST_PX / width
    how = cv2.INTER_NEAREST if times >= 1 else cv2.INTER_AREA
    canvas = cv2.resize(canvas, None, fx=times, fy=times, interpolation=how).astype(np.uint8)
    if inspection.seen is not None:
        moved = any(trouble.name == "motion" for trouble in inspection.troubles)
        _draw(canvas, inspection.seen, float(times), moved)
    return np.concatenate([canvas, _strip(inspection, canvas.shape[1])])


def _shown(grey: FloatArray) -> npt.NDArray[np.uint8]:
    """Light from the background to what few pixels exceed, by its square root."""
    low, high, brightest = np.percentile(grey, [1, 99, 99.99])
    span = max(float(max(high, brightest / 2) - low), 1e-6)
    return np.asarray(255 * np.sqrt(np.clip((grey - low) / span, 0, 1)), dtype=np.uint8)


def write_annotated(inspection: Inspection, target: Path, assumed: Assumed, plan: Plan | None) -> None:
    """Read an inspected picture once more, and write it as PNG with what was detected; ImageError on failure."""
    picture = read_picture(inspection.path)
    capture, camera, _, _ = light_in(picture, inspection.path, assumed, plan, entry_of(inspection.path, plan))
    ok, blob = cv2.imencode(".png", annotated(capture, camera, inspection))
    if not ok:
        raise ImageError("the drawing cannot be encoded", where=str(target), remedy="Is the picture empty?")
    with appearing_whole(target, ImageError) as file:
        file.write(np.asarray(blob).tobytes())


def _draw(canvas: npt.NDArray[np.uint8], seen: Seen, times: float, moved: bool) -> None:
    def at(xy_px: FloatArray) -> tuple[int, int]:
        x, y = (np.asarray(xy_px) + 0.5) * times - 0.5
        return round(16 * float(x)), round(16 * float(y))  # sixteenths of a pixel

    for first, second in seen.lines_px:
        cv2.line(canvas, at(first), at(second), LINE, 2, cv2.LINE_AA, shift=4)
    radius = round(16 * max(7.0, (5.0 if seen.kind in ("led", "dark") else 2.0) * times))
    for xy, clipped in zip(seen.xy_px, seen.clipped, strict=True):
        cv2.circle(canvas, at(xy), radius, CLIPPED if clipped else GOOD, 1, cv2.LINE_AA, shift=4)
    if seen.kind == "slanted_edge":
        for xy, blur in zip(seen.xy_px, seen.blur_px, strict=True):
            _write(canvas, f"{blur:.2f}", (np.array(at(xy)) // 16) + 6, 0.4, GOOD)
    middle = (np.array(canvas.shape[1::-1]) / times - 1) / 2
    if moved:
        half = STREAKS * seen.streak_px / 2
        cv2.line(canvas, at(middle - half), at(middle + half), MOTION, 3, cv2.LINE_AA, shift=4)


def _strip(inspection: Inspection, width: int) -> npt.NDArray[np.uint8]:
    scale = 0.5
    (alphabet, height), _ = cv2.getTextSize("the quick brown fox 0123456789", cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    letter = -(-alphabet // 28)  # a little more than the mean
    columns, step = max(width // letter - 2, 20), 2 * height
    lines = [(line, colour) for text, colour in _words(inspection) for line in textwrap.wrap(text, columns)]
    strip = np.full((step * (len(lines) + 1), width, 3), PAPER, dtype=np.uint8)
    for i, (line, colour) in enumerate(lines):
        _write(strip, line, np.array([letter, step * (i + 1)]), scale, colour)
    return strip


def _words(inspection: Inspection) -> Iterator[tuple[str, tuple[int, int, int]]]:
    seen = inspection.seen
    verdict = "usable" if inspection.usable else "not usable"
    shown = f", {seen.kind.replace('_', ' ')}" if seen is not None and seen.kind else ""
    yield f"{inspection.path.name}: {verdict}{shown}", INK if inspection.usable else BAD
    if seen is not None and seen.figures:
        told = (f"{name.replace('_', ' ')} {value:.3g}" for name, value in seen.figures.items() if np.isfinite(value))
        yield ", ".join(told), INK
    for trouble in inspection.troubles:
        yield str(trouble), BAD if trouble.blocks else INK


def _write(
    canvas: npt.NDArray[np.uint8], text: str, at_px: npt.NDArray[np.int64], scale: float, colour: tuple[int, int, int]
) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's fonts have no other letters
    place = int(at_px[0]), int(at_px[1])
    cv2.putText(canvas, plain, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
