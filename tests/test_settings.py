"""Sessions at several settings: which setting moves, what goes to which, and how well neighbours predict one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from calib.geometry import DistortionFit, fit_distortion
from calib.manifest import Entry, Plan
from calib.planes import MeasuredMap
from calib.settings import along_axis, axis_of, by_setting, twin
from psfbank.along import between
from psfbank.bank import PsfBank
from psfbank.errors import ManifestError
from psfbank.model import Calibration, Camera, Corners, DistortionMap, Setting
from psfbank.render import FieldRenderer

NAN = float("nan")
X_PX, Y_PX = np.linspace(8.0, 119.0, 5), np.linspace(8.0, 87.0, 4)  # nodes of the small bank
SIZE_PX = (480, 640)
NOISE_PX = 0.03
GRID_MM = np.stack(np.meshgrid(np.arange(11), np.arange(8)), axis=-1).reshape(-1, 2) * 30.0

Array = npt.NDArray[np.float64]


def entry(kind: str, focus_m: float = NAN, focal_mm: float = 4.0) -> Entry:
    return Entry(kind, (Path(f"{kind}.png"),), Setting(focal_mm=focal_mm, f_number=2.0, focus_m=focus_m))


def plan(*entries: Entry) -> Plan:
    camera = Camera("Maker", "Model", SIZE_PX, "mono", pitch_um=1.4)
    setting = Setting(focal_mm=4.0, f_number=2.0)
    return Plan(Path("capture.toml"), Path(), camera, "linear", (64.0,), 1023.0, setting, (540.0,), entries)


def kinds(part: Plan) -> list[tuple[str, float]]:
    return [(e.kind, e.setting.focus_m) for e in part.entries]


def test_one_setting_is_no_axis() -> None:
    assert axis_of(plan(entry("chessboard", 1.0), entry("led", 0.5), entry("dark"))) is None
    assert axis_of(plan(entry("chessboard"), entry("flat"))) is None


def test_the_axis_is_what_charts_differ_in() -> None:
    assert axis_of(plan(entry("chessboard", 1.0), entry("charuco", 0.5))) == "focus_m"
    assert axis_of(plan(entry("chessboard", focal_mm=4.0), entry("chessboard", focal_mm=8.0))) == "focal_mm"
    with pytest.raises(ManifestError, match="focus_m and focal_mm"):
        axis_of(plan(entry("chessboard", 1.0, 4.0), entry("chessboard", 0.5, 8.0)))
    with pytest.raises(ManifestError, match="do not state theirs"):
        axis_of(plan(entry("chessboard", 1.0), entry("chessboard", 0.5), entry("chessboard")))


def test_each_setting_gets_its_own_and_what_all_share() -> None:
    shot = [entry("chessboard", 1.0), entry("chessboard", 0.5), entry("led", 0.5), entry("flat", 1.0), entry("dark")]
    near, far = by_setting(plan(*shot), "focus_m")
    assert (near.setting.focus_m, far.setting.focus_m) == (0.5, 1.0)
    assert kinds(near) == [("chessboard", 0.5), ("led", 0.5), ("flat", 0.5), ("dark", 0.5)]
    assert kinds(far) == [("chessboard", 1.0), ("flat", 1.0), ("dark", 1.0)]


def test_points_between_the_settings_are_planes_of_the_nearer_one() -> None:
    shot = [entry("chessboard", 1.0), entry("chessboard", 0.5), entry("led", 0.6), entry("led", 0.9), entry("led")]
    near, far = by_setting(plan(*shot), "focus_m")
    assert [focus for kind, focus in kinds(near) if kind == "led"] == [0.6, 0.5]
    assert [focus for kind, focus in kinds(far) if kind == "led"] == [0.9, 1.0]


def test_a_wavefront_and_its_twin_make_the_same_images(rendered_bank: PsfBank) -> None:
    cal = rendered_bank.at()
    assert cal.wavefront is not None
    assert cal.wavefront.imaging is not None
    assert cal.psf_grid is not None
    mirrored = twin(cal.wavefront)
    for x, y in ((20.0, 15.0), (100.0, 80.0)):
        one, other = (
            FieldRenderer.of(X_PX, Y_PX, cal.psf_grid.kernels, 3, field, field.imaging).wavefront_kernel(1, x, y)
            for field in (cal.wavefront, mirrored)
            if field.imaging is not None
        )
        np.testing.assert_allclose(other, one, atol=1e-9 * one.max())
    assert np.abs(mirrored.coefficients_nm - cal.wavefront.coefficients_nm).max() > 1


def test_along_an_axis_all_wavefronts_are_of_one_sign(rendered_bank: PsfBank) -> None:
    """Between a wavefront and a neighbour's twin there is nothing: their mean would be sharp."""
    cal = rendered_bank.at()
    assert cal.wavefront is not None
    field = cal.wavefront
    grown = [replace(field, coefficients_nm=g * field.coefficients_nm) for g in (1.0, 1.1, 1.2, 1.3)]
    fields = [twin(grown[0]), grown[1], twin(grown[2]), grown[3]]
    shot = [replace(cal, wavefront=w, setting=Setting(focus_m=f)) for w, f in zip(fields, (1, 2, 3, 4), strict=True)]
    focus_known = {"summary": {"psf": {"signs_are_known": True}}}
    shot[2] = replace(shot[2], provenance=focus_known)
    out = {c.setting.focus_m: c.wavefront for c in along_axis(shot, "focus_m", [None] * 4)}
    for focus_m, grew in zip((1, 2, 3, 4), grown, strict=True):
        got = out[focus_m]
        assert got is not None
        np.testing.assert_allclose(got.coefficients_nm, twin(grew).coefficients_nm)


def lens(rays: Array, focus_m: float) -> Array:
    d = 1 / focus_m
    r2 = np.sum(rays**2, axis=1, keepdims=True)
    px = (520 + 10 * d + 0.6 * d**2) * rays * (1 - (0.1 + 0.02 * d) * r2) + np.array([321.0, 238.0])
    return px + 0.3 * np.sin(px[:, ::-1] / 90 + 0.2 * d)


def boards(focus_m: float, seed: int, count: int = 12) -> Corners:
    """Tilted boards over the field, seen through the lens at one focus."""
    rng = np.random.default_rng(seed)
    local = np.column_stack([GRID_MM - GRID_MM.mean(axis=0), np.zeros(len(GRID_MM))])
    image, found = [], []
    while len(image) < count:
        turn = Rotation.from_euler("xyz", rng.uniform([-0.6, -0.6, -0.3], [0.6, 0.6, 0.3]))
        away = rng.uniform(330, 560)
        p = turn.apply(local) + away * np.append(rng.uniform([-0.42, -0.3], [0.42, 0.3]), 1.0)
        px = lens(p[:, :2] / p[:, 2:], focus_m) + rng.normal(0, NOISE_PX, (len(p), 2))
        inside = np.all((px > -0.5) & (px < np.array(SIZE_PX[::-1]) - 0.5), axis=1)
        if inside.sum() > 40:
            image.append(px)
            found.append(inside)
    return Corners(np.tile(GRID_MM, (count, 1, 1)), np.array(image), np.array(found))


def left_by(fit: DistortionFit, corners: Corners, distortion: DistortionMap) -> float:
    return MeasuredMap(fit.distortion, fit, corners, (0,) * len(corners.found)).residual_rms_px(distortion)


def test_a_setting_left_out_is_predicted_as_well_as_its_own_views() -> None:
    """Boards at five focus distances: the map that four predict for the fifth serves it almost as its own does."""
    focus_m = (0.4, 0.55, 0.9, 2.0, np.inf)
    seen = {f: boards(f, seed) for seed, f in enumerate(focus_m)}
    fits = {f: fit_distortion(corners, SIZE_PX) for f, corners in seen.items()}
    told = {f: {"summary": {"distortion": {"heldout_rms_px": fit.heldout_rms_px}}} for f, fit in fits.items()}
    bare = [Calibration(Setting(focus_m=f), distortion=fits[f].distortion, provenance=told[f]) for f in focus_m]
    misses = [partial(left_by, fits[f], seen[f]) for f in focus_m]
    marked = along_axis(bare, "focus_m", misses)
    assert [c.setting.focus_m for c in marked] == sorted(focus_m, reverse=True)
    left_out = {c.setting.focus_m: c.axis.left_out_px for c in marked if c.axis is not None}
    assert np.isnan([left_out[0.4][0], left_out[np.inf][0]]).all()
    for f in focus_m[1:-1]:
        assert left_out[f][1] == pytest.approx(fits[f].heldout_rms_px)
        predicted = between([c for c in marked if c.setting.focus_m != f], "focus_m", f).distortion
        assert predicted is not None
        assert left_out[f][0] == pytest.approx(left_by(fits[f], seen[f], predicted))
        assert left_out[f][0] < 1.2 * fits[f].heldout_rms_px
