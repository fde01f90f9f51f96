"""Slanted edges of a picture -> SFR of each in every channel, on the channel's own sites."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from calib.capture import read_picture
from calib.edge.accurate import sfr_accurate
from calib.edge.find import edge_in_region, find_edges
from calib.edge.fit import FOR_SFR, Edge
from calib.edge.iso12233 import sfr_iso12233
from calib.edge.quality import EdgeFlag, quality_flags, slant_deg
from calib.edge.response import Response, crossing_cpp, overshoot, plateaus
from calib.edge.window import REACH_PX, window_of
from calib.picture import Picture
from psfbank.arrays import BoolArray, FloatArray
from psfbank.errors import CaptureUnusable, FitFailed, NoTargetFound, PsfBankError
from psfbank.isp import srgb_decode
from psfbank.model import Camera, Capture
from psfbank.sensor import cfa_sites

log = logging.getLogger(__name__)

Region = tuple[int, int, int, int]
Mode = Literal["accurate", "iso"]
SHARE_FOR_ISO = 0.6  # of an edge's length, that a region of the standard's holds: corners stay out
CLEAR_FOR_ISO = 0.7  # of what is clear, on either side
SAGITTAL_DEG, TANGENTIAL_DEG = 60.0, 30.0  # between an edge's normal and the radius: beyond, below
CENTRE = 0.05  # of the picture's diagonal: nearer to its middle an edge has no such direction


@dataclass(frozen=True, eq=False)
class MeasuredEdge:
    """SFR of one edge in one channel.

    `xy_px` (2,) is the edge's middle, `ends_px` (2, 2) are its ends, `angle_rad` is the direction of its normal, which
    points to the bright side, from x towards y. `contrast` after Michelson; `cnr` is the step over the noise.
    `orientation` tells whether the edge resolves along the radius from the picture's middle ("tangential") or across it
    ("sagittal"), "oblique" in between. `lateral_px` are shifts of the LSF's centroid along the normal, "R-G" and "B-G".
    """

    capture: str
    channel: str
    mode: Mode
    xy_px: FloatArray
    angle_rad: float
    ends_px: FloatArray
    length_px: float
    contrast: float
    cnr: float
    response: Response
    flags: EdgeFlag
    orientation: str
    lateral_px: Mapping[str, float]
    size_px: tuple[int, int]

    @property
    def mtf50_cpp(self) -> float:
        """Frequency at which the SFR falls to a half, cycles/pixel; NaN where it never does."""
        return crossing_cpp(self.response.freq_cpp, self.response.sfr, 0.5)

    @property
    def mtf20_cpp(self) -> float:
        """Frequency at which the SFR falls to a fifth, cycles/pixel."""
        return crossing_cpp(self.response.freq_cpp, self.response.sfr, 0.2)

    @property
    def mtf10_cpp(self) -> float:
        """Frequency at which the SFR falls to a tenth, cycles/pixel."""
        return crossing_cpp(self.response.freq_cpp, self.response.sfr, 0.1)

    @property
    def overshoot(self) -> float:
        """Share of the step by which the ESF leaves the range between its plateaus."""
        return overshoot(self.response.esf)


def measure_picture(
    path: Path,
    *,
    roi: Region | Literal["full"] | None = None,
    mode: Mode = "accurate",
    channels: Sequence[str] | None = None,
    cfa: str | None = None,
    black_dn: float | None = None,
    white_dn: float | None = None,
    encoding: Literal["as-stored", "srgb", "linear"] = "as-stored",
) -> tuple[MeasuredEdge, ...]:
    """Measure the slanted edges of a picture file.

    Parameters
    ----------
    path : Path
    roi : (x, y, width, height) or "full", optional
        Region that holds one edge, px; "full" is the whole picture. All edges are looked for when None.
    mode : {"accurate", "iso"}
        "iso": the steps of ISO 12233:2023.
    channels : sequence of str, optional
        Those that are measured; all when None.
    cfa : str, optional
        Colours of a mosaic's sites, "RGGB"; a RAW file's own, or what the file's channels say, when None.
    black_dn, white_dn : float, optional
        DN without light and of saturation; a RAW file's own, or 0 and the largest code, when None.
    encoding : {"as-stored", "srgb", "linear"}
        "srgb" is decoded. Pictures of 8 bits that nobody declares are taken as stored, and flagged.

    Returns
    -------
    tuple of MeasuredEdge

    Raises
    ------
    CaptureUnusable
        When the file is no picture, holds NaN, or lacks a channel that is asked for.
    NoTargetFound
        When there is no edge in it.
    """
    picture, where = read_picture(path), str(path)
    capture, camera = light_of(picture, cfa, black_dn, white_dn, encoding, where)
    unknown = [name for name in channels or () if name not in camera.channels]
    if unknown:
        raise CaptureUnusable(
            f"it has no channel {unknown[0]}", where=where, remedy=f"Its channels are {', '.join(camera.channels)}"
        )
    gamma_unknown = picture.dn.dtype == np.uint8 and encoding == "as-stored"
    try:
        found = measure_capture(capture, camera, roi=roi, mode=mode, channels=channels, gamma_unknown=gamma_unknown)
    except PsfBankError as error:
        raise type(error)(error.what, where=where, remedy=error.remedy) from error
    return found


def measure_capture(
    capture: Capture,
    camera: Camera,
    *,
    roi: Region | Literal["full"] | None = None,
    mode: Mode = "accurate",
    channels: Sequence[str] | None = None,
    gamma_unknown: bool = False,
) -> tuple[MeasuredEdge, ...]:
    """Measure the slanted edges of a linear capture; parameters, returns and raises as of `measure_picture`."""
    wanted = camera.channels if channels is None else tuple(channels)
    height, width = camera.size_px
    region: Region | None = (0, 0, width, height) if roi == "full" else roi
    reference = camera.channels.index("G") if "G" in camera.channels else 0
    planes = [_plane(capture, camera, k) for k in range(len(camera.channels))]
    saturated = np.asarray(capture.saturated)
    if region is None:
        edges = tuple(sorted(find_edges(capture, camera, FOR_SFR), key=lambda e: (e.xy_px[1], e.xy_px[0])))
    else:
        values, use = planes[reference]
        edges = (edge_in_region(values, use, saturated, region, where=capture.name, limits=FOR_SFR),)
    measured: list[MeasuredEdge] = []
    for edge in edges:
        place = _Place(capture.name, edge, camera, region, roi == "full", gamma_unknown)
        measure = _by_the_standard if mode == "iso" else _accurate
        with threadpool_limits(1, user_api="blas"):  # many small products: BLAS threads would wait for each other
            measured += measure(place, planes, saturated, wanted)
    if not measured:
        raise NoTargetFound(
            f"none of the {len(edges)} edges could be measured",
            where=capture.name,
            remedy="Leave white around each edge; in ISO mode, give a region that one edge crosses from side to side",
        )
    asked = len(edges) * len(wanted)
    if len(measured) < asked:
        log.warning(
            "%s: %d of %d responses of edges, each in one channel, could not be measured; --verbose lists them",
            capture.name,
            asked - len(measured),
            asked,
        )
    return tuple(measured)


def orientation(xy_px: FloatArray, angle_rad: float, size_px: tuple[int, int]) -> str:
    """Name the direction that an edge resolves: along the radius from the picture's middle, across it, or between.

    Parameters
    ----------
    xy_px : (2,) float
        The edge's middle.
    angle_rad : float
        Direction of its normal, from x towards y.
    size_px : (H, W)

    Returns
    -------
    str
        "tangential", "sagittal" or "oblique"; "" near the middle, where there is no such direction.
    """
    radius = xy_px - (np.array(size_px[::-1]) - 1) / 2
    distance = float(np.hypot(*radius))
    if distance < CENTRE * np.hypot(*size_px):
        return ""
    along = abs(float(radius @ [np.cos(angle_rad), np.sin(angle_rad)]))
    apart = np.degrees(np.arccos(np.clip(along / distance, 0, 1)))
    return "tangential" if apart < TANGENTIAL_DEG else "sagittal" if apart > SAGITTAL_DEG else "oblique"


@dataclass(frozen=True, eq=False)
class _Place:
    """An edge of a capture and what is known around it."""

    capture: str
    edge: Edge
    camera: Camera
    region: Region | None
    whole: bool
    gamma_unknown: bool

    def measured(
        self, channel: str, mode: Mode, response: Response, levels: tuple[float, float], noise: float, flags: EdgeFlag
    ) -> MeasuredEdge:
        """Say what was found in one channel."""
        edge, (dark, bright) = self.edge, levels
        return MeasuredEdge(
            capture=self.capture,
            channel=channel,
            mode=mode,
            xy_px=edge.xy_px,
            angle_rad=edge.angle_rad,
            ends_px=edge.at(np.array([-0.5, 0.5]) * edge.length_px),
            length_px=edge.length_px,
            contrast=_contrast(dark, bright),
            cnr=(bright - dark) / noise if noise > 0 else float("inf"),
            response=response,
            flags=flags,
            orientation="" if self.whole else orientation(edge.xy_px, edge.angle_rad, self.camera.size_px),
            lateral_px={},
            size_px=self.camera.size_px,
        )


def _accurate(
    place: _Place, planes: Sequence[tuple[FloatArray, BoolArray]], saturated: BoolArray, wanted: Sequence[str]
) -> list[MeasuredEdge]:
    """Measure an edge in the wanted channels, and how far the LSFs of the others lie from that of green."""
    edge, found, position = place.edge, [], dict[str, float]()
    for name, (values, use) in zip(place.camera.channels, planes, strict=True):
        if name not in wanted:
            continue
        window = window_of(values, use, saturated, edge, place.region)
        try:
            sfr = sfr_accurate(window.values, window.xy_px, edge)
        except FitFailed as error:  # one edge of many, or one channel: the caller says so when none is left
            log.debug("%s: %s, channel %s: %s", place.capture, error.where, name, error.what)
            continue
        position[name] = sfr.centroid_px
        mtf50 = crossing_cpp(sfr.response.freq_cpp, sfr.response.sfr, 0.5)
        levels = (sfr.dark, sfr.dark + sfr.step)
        flags = quality_flags(
            slant_deg=slant_deg(edge.angle_rad),
            length_px=edge.length_px,
            contrast=_contrast(*levels),
            cnr=sfr.step / sfr.noise,
            site_density=float(np.mean(use)),
            turn_deg=float(np.degrees(sfr.line.turn_rad)),
            mtf50_relative_std=sfr.response.mtf50_std_cpp / mtf50 if np.isfinite(mtf50) else np.inf,
            clipped=window.clipped,
            contaminated=window.contaminated or sfr.contaminated,
            gamma_unknown=place.gamma_unknown,
        )
        found.append(place.measured(name, "accurate", sfr.response, levels, sfr.noise, flags))
    shifts = {f"{c}-G": position[c] - position["G"] for c in ("R", "B") if {c, "G"} <= position.keys()}
    return [replace(one, lateral_px=shifts) for one in found]


def _by_the_standard(
    place: _Place, planes: Sequence[tuple[FloatArray, BoolArray]], saturated: BoolArray, wanted: Sequence[str]
) -> list[MeasuredEdge]:
    """Measure an edge in the wanted channels with the standard's steps, in an upright region around it."""
    edge, found = place.edge, []
    x, y, wide, high = place.region or _upright(edge, place.camera.size_px)
    for name, (values, use) in zip(place.camera.channels, planes, strict=True):
        if name not in wanted:
            continue
        cut = np.s_[y : y + high, x : x + wide]
        samples, stride = _regular(values[cut], use[cut])
        try:
            response = _per_pixel(sfr_iso12233(samples), stride)
        except PsfBankError as error:
            if place.region is not None:
                raise
            log.debug("%s: edge at %.0f, %.0f, channel %s: %s", place.capture, *edge.xy_px, name, error.what)
            continue
        levels = plateaus(response.esf)
        noise = float(np.std(np.diff(response.esf[: max(2, len(response.esf) // 8)])) / np.sqrt(2))
        flags = quality_flags(
            slant_deg=slant_deg(edge.angle_rad),
            length_px=edge.length_px,
            contrast=_contrast(*levels),
            cnr=(levels[1] - levels[0]) / noise if noise > 0 else float("inf"),
            site_density=float(np.mean(use)),
            turn_deg=float(np.degrees(abs(edge.bend_per_px) * edge.length_px)),
            clipped=bool((saturated[cut] & use[cut]).any()),
            gamma_unknown=place.gamma_unknown,
        )
        found.append(place.measured(name, "iso", response, levels, noise, flags))
    return found


def light_of(
    picture: Picture,
    cfa: str | None,
    black_dn: float | Sequence[float] | None,
    white_dn: float | None,
    encoding: str,
    where: str,
) -> tuple[Capture, Camera]:
    """Light of a picture as far as it is known, and the camera that its file tells of."""
    dn = picture.dn
    own = picture.cfa if cfa is None else cfa
    if cfa is not None and dn.ndim == 3 and picture.cfa != "mono":
        raise CaptureUnusable(
            f"the picture has three channels, a mosaic {cfa} has one", where=where, remedy="Leave --cfa out"
        )
    dn = dn[..., 0] if dn.ndim == 3 and own != "RGB" else dn
    if not np.isfinite(dn).all():
        bad = int(np.sum(~np.isfinite(dn)))
        raise CaptureUnusable(f"{bad} samples are NaN or infinite", where=where, remedy="Export it again")
    camera = Camera(picture.maker, picture.model, (dn.shape[0], dn.shape[1]), own)
    black, white = _levels(picture, black_dn, white_dn)
    saturated = np.greater_equal(dn, white - 0.5 if np.issubdtype(dn.dtype, np.integer) else white)
    black_sites = black[cfa_sites(own, camera.size_px)] if dn.ndim == 2 and len(black) > 1 else black
    pixels: FloatArray = (dn - black_sites) / (white - black_sites)
    if encoding == "srgb":
        pixels = srgb_decode(pixels)
    saturated = saturated if dn.ndim == 2 else saturated.any(axis=-1)
    return Capture(pixels, saturated, Path(where).name, picture.sha256), camera


def _levels(
    picture: Picture, black_dn: float | Sequence[float] | None, white_dn: float | None
) -> tuple[npt.NDArray[np.float64], float]:
    """Black (C,) and white, DN: those given, a RAW file's own, or 0 and the largest code."""
    black: Any = black_dn if black_dn is not None else picture.black_dn if picture.black_dn is not None else 0.0
    if white_dn is None and picture.white_dn is not None:
        white = picture.white_dn
    elif white_dn is None:
        integer = np.issubdtype(picture.dn.dtype, np.integer)
        white = float(np.iinfo(picture.dn.dtype).max) if integer else max(1.0, float(picture.dn.max()) + 1e-6)
    else:
        white = white_dn
    return np.atleast_1d(np.asarray(black, dtype=np.float64)), float(white)


def _plane(capture: Capture, camera: Camera, channel: int) -> tuple[npt.NDArray[np.float64], BoolArray]:
    """Values (H, W) of one channel, and which of them are its own sites."""
    pixels = np.asarray(capture.pixels, dtype=np.float64)
    if pixels.ndim == 3:
        return pixels[..., channel], np.ones(camera.size_px, dtype=bool)
    return pixels, np.asarray(cfa_sites(camera.cfa, camera.size_px) == channel)


def _upright(edge: Edge, size_px: tuple[int, int]) -> Region:
    """Lay an upright region around the clear part of an edge, that the edge crosses from side to side."""
    clear = edge.along_px[edge.clear_px >= np.median(edge.clear_px)]
    half = min(SHARE_FOR_ISO * edge.length_px / 2, float(np.abs(clear).max(initial=1.0)))
    reach = min(CLEAR_FOR_ISO * float(np.median(edge.clear_px)), REACH_PX)
    ends = edge.at(np.array([-half, half]))
    low, high = ends.min(axis=0), ends.max(axis=0)
    across = int(abs(edge.normal[1]) > abs(edge.normal[0]))  # the axis that the edge's normal is nearer to
    low[across], high[across] = low[across] - reach, high[across] + reach
    first = np.maximum(np.ceil(low), 0).astype(int)
    last = np.minimum(np.floor(high), np.array(size_px[::-1]) - 1).astype(int)
    wide, tall = np.maximum(last - first + 1, 0)
    return int(first[0]), int(first[1]), int(wide), int(tall)


def _regular(values: FloatArray, use: BoolArray) -> tuple[npt.NDArray[np.float64], int]:
    """Take one channel's samples on a square grid, of two greens in a cell the first; and the grid's pitch, px."""
    if use.all():
        return np.asarray(values, np.float64), 1
    row, column = np.unravel_index(int(np.argmax(use[:2, :2])), (2, 2)) if use[:2, :2].any() else (0, 0)
    return np.asarray(values[row::2, column::2], np.float64), 2


def _per_pixel(response: Response, stride: int) -> Response:
    """Response of samples `stride` px apart, in cycles per pixel of the picture."""
    return replace(
        response,
        freq_cpp=response.freq_cpp / stride,
        x_px=response.x_px * stride,
        lsf=response.lsf / stride,
    )


def _contrast(dark: float, bright: float) -> float:
    return (bright - dark) / (abs(bright) + abs(dark))
