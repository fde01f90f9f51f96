"""What a chart is drawn on: a page of paper with rulers along two sides, or the pixels of a display."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calib.prints.drawing import Label, Shapes, fitting_size, rectangles
from psfbank.arrays import FloatArray
from psfbank.errors import TargetError

PAGES_MM = {  # width and height, upright: ISO 216, and ANSI
    "A4": (210.0, 297.0),
    "A3": (297.0, 420.0),
    "A2": (420.0, 594.0),
    "A1": (594.0, 841.0),
    "A0": (841.0, 1189.0),
    "Letter": (215.9, 279.4),
}
LEAST_PAGE_MM, MOST_PAGE_MM = 140.0, 5000.0  # the rulers need the one, PDF ends a little beyond the other
MOST_PIXELS_A_SIDE = 16_384  # of a display
MARGIN_MM = 10.0  # most printers reach to 4 or 6
RULER_MM, RULER_WIDTH_MM = 100.0, 3.0
TEXT_MM, LINE_MM, GAP_MM = 3.0, 6.0, 2.0
FIT = 1e-9  # relative, of a length that fits but for rounding


@dataclass(frozen=True)
class Sheet:
    """A page, or a display when `pixel_mm` is not zero; x runs right and y down from the top left corner."""

    name: str
    width_mm: float
    height_mm: float
    pixel_mm: float = 0.0

    @property
    def is_display(self) -> bool:
        """Whether lengths are whole pixels."""
        return self.pixel_mm > 0

    @property
    def margin_mm(self) -> float:
        """Blank border around what is inked; a display needs none."""
        return 0.0 if self.is_display else MARGIN_MM

    @property
    def free_mm(self) -> npt.NDArray[np.float64]:
        """Width and height (2,) of the part from the top left corner that rulers and text leave."""
        if self.is_display:
            return np.array([self.width_mm, self.height_mm])
        aside = MARGIN_MM + RULER_WIDTH_MM + GAP_MM
        return np.array([self.width_mm - aside, self.height_mm - aside - LINE_MM])

    @property
    def inked_mm(self) -> npt.NDArray[np.float64]:
        """Width and height (2,) of what may be inked: the free part within its margins."""
        return np.asarray(self.free_mm - 2 * self.margin_mm)

    def rounded_down(self, length_mm: float) -> float:
        """Largest length not above this that reads well; on a display, of whole pixels."""
        step = self.pixel_mm or (5.0 if length_mm >= 30 else 1.0 if length_mm >= 5 else 0.1)
        return float(np.floor(length_mm / step * (1 + FIT)) * step)

    def nearest(self, length_mm: float) -> float:
        """Nearest length that can be shown: on a display whole pixels, one at least."""
        return max(1, round(length_mm / self.pixel_mm)) * self.pixel_mm if self.is_display else length_mm

    def largest(self, ink: FloatArray, rim: float) -> float:
        """Largest unit, mm, with which a chart fits that is `ink` (2,) units large inside a white rim of `rim` units.

        Only the ink must stay within the margins: a rim is blank as they are.
        """
        ink = np.asarray(ink, dtype=np.float64)
        unit = float(min(np.min(self.inked_mm / ink), np.min(self.free_mm / (ink + 2 * rim))))
        rounded = self.rounded_down(unit)
        if not rounded > 0:
            raise self._too_large("so many parts")
        return rounded

    def origin_mm(self, ink_mm: FloatArray, rim_mm: float, what: str) -> npt.NDArray[np.float64]:
        """Top left corner (2,) of a chart in the middle of the free part.

        Parameters
        ----------
        ink_mm : (2,) float
            Its width and height without the white rim of `rim_mm`.
        rim_mm : float
        what : str
            What to call it when it does not fit.

        Raises
        ------
        TargetError
            When it does not fit.
        """
        ink_mm = np.asarray(ink_mm, dtype=np.float64)
        if np.any(ink_mm > self.inked_mm * (1 + FIT)) or np.any(ink_mm + 2 * rim_mm > self.free_mm * (1 + FIT)):
            rim = f" and a white rim of {rim_mm:.4g} mm" if rim_mm else ""
            raise self._too_large(f"{what} of {ink_mm[0]:.4g} x {ink_mm[1]:.4g} mm{rim}")
        corner = (self.free_mm - ink_mm) / 2
        return np.asarray(np.floor(corner / self.pixel_mm + 0.5) * self.pixel_mm if self.is_display else corner)

    def _too_large(self, what: str) -> TargetError:
        width, height = self.inked_mm
        remedy = "Give fewer or smaller parts"
        if not self.is_display:
            remedy += (
                ", a larger --page, or turn it (--portrait)"
                if self.width_mm > self.height_mm
                else (", a larger --page, or leave out --portrait")
            )
        return TargetError(f"{what} do not fit: {width:.4g} x {height:.4g} mm are free", where=self.name, remedy=remedy)

    def rulers(self) -> Shapes:
        """Rulers of 100 mm below and at the right, in steps of 10 mm, from outer edge to outer edge; none on a display.

        Printers scale along their feed and across it by different errors: both are to be checked.
        """
        if self.is_display:
            return Shapes()
        step, half = RULER_MM / 10, RULER_WIDTH_MM / 2
        start, turn = step * np.arange(10), half * (np.arange(10) % 2)
        bottom, right = (length - MARGIN_MM - RULER_WIDTH_MM for length in (self.height_mm, self.width_mm))
        across = rectangles(MARGIN_MM + start, bottom + turn, step, half)
        down = rectangles(right + turn, MARGIN_MM + start, half, step)
        return Shapes(quads_mm=np.concatenate([across, down]))

    def labels(self, text: str) -> tuple[Label, ...]:
        """Write a line of text above the ruler, and beside it what the ruler is for; nothing on a display."""
        if self.is_display:
            return ()
        width = self.width_mm - 2 * MARGIN_MM
        base = self.height_mm - MARGIN_MM - RULER_WIDTH_MM - GAP_MM
        beside = f"{RULER_MM:g} mm each: print at 100 %"
        left = MARGIN_MM + RULER_MM + GAP_MM
        return (
            Label(MARGIN_MM, base, fitting_size(text, TEXT_MM, width), text),
            Label(left, base + GAP_MM + 2.2, fitting_size(beside, TEXT_MM, width - RULER_MM - GAP_MM), beside),
        )


def page(name: str, portrait: bool = False) -> Sheet:
    """Take a page by its name, or by its size in millimetres as "300x200", lying unless `portrait`.

    Raises
    ------
    TargetError
        When there is no such page, or it is too small or too large.
    """
    known = {word.lower(): (word, size) for word, size in PAGES_MM.items()}
    if name.lower() in known:
        word, (width, height) = known[name.lower()]
    elif found := re.fullmatch(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)", name):
        word, (width, height) = f"{name} mm,", sorted(map(float, found.groups()))
    else:
        choices = ", ".join(PAGES_MM)
        raise TargetError(f"no page is called {name}", remedy=f"Choose from {choices}, or give its size, like 300x200")
    if width < LEAST_PAGE_MM or height > MOST_PAGE_MM:
        raise TargetError(
            f"a page of {width:g} x {height:g} mm is too {'small' if width < LEAST_PAGE_MM else 'large'}",
            remedy=f"Its sides must be between {LEAST_PAGE_MM:g} and {MOST_PAGE_MM:g} mm",
        )
    if portrait:
        return Sheet(f"{word} portrait", width, height)
    return Sheet(f"{word} landscape", height, width)


def display(width_px: int, height_px: int, pixel_um: float) -> Sheet:
    """Take a display of so many pixels, whose distance from one to the next is `pixel_um`.

    Raises
    ------
    TargetError
        When no display is like that.
    """
    if not 100 <= min(width_px, height_px) <= max(width_px, height_px) <= MOST_PIXELS_A_SIDE:
        raise TargetError(
            f"a display of {width_px} x {height_px} pixels is none to show charts on",
            remedy=f"Its sides must be between 100 and {MOST_PIXELS_A_SIDE} pixels",
        )
    if not 1 <= pixel_um <= 20_000:
        raise TargetError(
            f"pixels of {pixel_um:g} um are none of a display",
            remedy="Measure the width of the lit area and divide it by the number of pixels along it",
        )
    pixel_mm = pixel_um / 1000
    return Sheet(
        f"{width_px} x {height_px} pixels of {pixel_um:g} um", width_px * pixel_mm, height_px * pixel_mm, pixel_mm
    )
