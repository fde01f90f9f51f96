"""Each step measures its part, or says in the journal why the bank will do without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calib.manifest import Entry, Plan
from calib.measure import (
    BAND_NM,
    LARGEST_HALF_PX,
    NOLL_FIRST,
    NOLL_LAST,
    NOMINAL_F_NUMBER,
    NOMINAL_PITCH_UM,
    SMALLEST_HALF_PX,
    find_points,
    measure_noise,
    measure_shading,
    optics_of,
    shot_iso,
    white_dn,
)
from calib.session import KINDS, Journal, Shot
from psfbank.errors import CalibrationError
from psfbank.flags import Flag
from psfbank.model import Camera, Capture, Setting

SIZE_PX = (96, 128)
BLACK_DN, WHITE_DN, GAIN, READ_E = 64.0, 1023.0, 0.25, 3.0
X_PX, Y_PX = np.linspace(0, SIZE_PX[1] - 1, 3), np.linspace(0, SIZE_PX[0] - 1, 3)


def plan(**changes: object) -> Plan:
    camera = Camera("Maker", "Model", SIZE_PX, "RGGB", pitch_um=1.4)
    base = Plan(
        Path("session/capture.toml"),
        Path("session"),
        camera,
        "linear",
        (BLACK_DN,) * 3,
        WHITE_DN,
        Setting(focal_mm=4.0, f_number=1.8),
        (610.0, 540.0, 465.0),
        (),
    )
    return replace(base, **changes)


def shot(kind: str, name: str, pixels: np.ndarray, exposure_s: float = 0.01) -> Shot:
    capture = Capture(pixels, pixels >= 1, f"{kind}/{name}", "0" * 64, exposure_s)
    return Shot(Entry(kind, (Path(name),), Setting(), pitch_mm=40.0 if kind == "led" else None), capture)


def flats_and_darks(levels: tuple[float, ...] = (0.1, 0.3, 0.6), seed: int = 0) -> dict[str, list[Shot]]:
    """Pairs of frames a level, with shot and read noise, darker towards the corners; a pair of darks."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(SIZE_PX)
    falloff = 1 - 0.4 * ((x - 63.5) ** 2 + (y - 47.5) ** 2) / (63.5**2 + 47.5**2)

    def frame(level: float) -> np.ndarray:
        electrons = rng.poisson(level * falloff * (WHITE_DN - BLACK_DN) / GAIN) + rng.normal(0, READ_E, SIZE_PX)
        return np.round(GAIN * electrons) / (WHITE_DN - BLACK_DN)

    shots: dict[str, list[Shot]] = {kind: [] for kind in KINDS}
    shots["flat"] = [shot("flat", f"{level}_{i}.png", frame(level)) for level in levels for i in range(2)]
    shots["dark"] = [shot("dark", f"{i}.png", frame(0.0)) for i in range(2)]
    return shots


NOTHING: dict[str, list[Shot]] = {kind: [] for kind in KINDS}


def test_flats_and_darks_give_noise_and_shading() -> None:
    journal = Journal()
    measured = measure_noise(plan(), flats_and_darks(), journal)
    shading = measure_shading(plan(), flats_and_darks(), X_PX, Y_PX, journal)
    assert measured is not None
    assert shading is not None
    noise = measured.noise
    np.testing.assert_allclose(noise.gain_dn_per_e, GAIN, rtol=0.05)
    np.testing.assert_allclose(noise.read_noise_e, READ_E, rtol=0.1)
    np.testing.assert_allclose(noise.black_dn, BLACK_DN, atol=0.1)
    np.testing.assert_allclose(shading.relative[:, 0, 0], 0.6, atol=0.02)
    assert journal.missing == {}
    assert journal.summary["noise"]["gain_dn_per_e"] == pytest.approx(noise.gain_dn_per_e, abs=1e-6)
    assert journal.summary["shading"]["least"] == pytest.approx(shading.relative.min(), abs=1e-4)


def at_iso(shots: dict[str, list[Shot]], **speeds: float) -> dict[str, list[Shot]]:
    """The shots of some kinds as if taken at ISO speeds."""

    def taken(one: Shot, iso: float) -> Shot:
        capture = replace(one.capture, setting=Setting(iso=iso), name=f"iso{iso:g}/{one.capture.name}")
        return replace(one, capture=capture)

    return {kind: [taken(one, speeds.get(kind, np.nan)) for one in of_kind] for kind, of_kind in shots.items()}


def test_darks_of_other_speeds_than_the_flats_are_left_out_and_named() -> None:
    shots, journal = at_iso(flats_and_darks(), flat=100, dark=100), Journal()
    alone = measure_noise(plan(), shots, Journal())
    shots["dark"] += at_iso(flats_and_darks((), 7), dark=1600)["dark"]
    measured = measure_noise(plan(), shots, journal)
    assert alone is not None
    assert measured is not None
    np.testing.assert_array_equal(measured.noise.read_noise_e, alone.noise.read_noise_e)
    assert measured.iso == 100
    assert measured.by_iso is None
    assert [row["name"] for row in journal.flagged] == ["iso1600/dark/0.png", "iso1600/dark/1.png"]
    assert "of ISO 1600, where no two of 0 flat captures show one level" in journal.flagged[0]["reason"]


def test_samples_shot_at_another_speed_are_weighed_by_its_gain(caplog: pytest.LogCaptureFixture) -> None:
    shots = at_iso({**flats_and_darks(), "led": [shot("led", "0.png", np.zeros(SIZE_PX))]}, flat=400, dark=400, led=100)
    assert shot_iso(plan(), shots) == 100
    assert shot_iso(plan(setting=Setting(iso=64)), NOTHING) == 64
    measured = measure_noise(plan(), shots, Journal())
    assert measured is not None
    assert measured.iso == 400
    assert "measured at ISO 400, the rest was shot at ISO 100" in caplog.text
    np.testing.assert_allclose(measured.weighing(100).gain_dn_per_e, measured.noise.gain_dn_per_e / 4)
    assert measured.weighing(400) is measured.noise
    assert measured.weighing(np.nan) is measured.noise


def test_without_flats_and_darks_there_is_neither() -> None:
    journal = Journal()
    assert measure_noise(plan(), NOTHING, journal) is None
    assert measure_shading(plan(), NOTHING, X_PX, Y_PX, journal) is None
    assert journal.missing == {
        "noise": "the session has no usable flat and no dark captures",
        "shading": "the session has no usable flat captures",
    }
    assert journal.summary == {}


def test_gamma_coded_pictures_keep_shading_and_lack_noise() -> None:
    journal = Journal()
    developed = plan(encoding="srgb")
    assert measure_noise(developed, flats_and_darks(), journal) is None
    assert measure_shading(developed, flats_and_darks(), X_PX, Y_PX, journal) is not None
    assert list(journal.missing) == ["noise"]
    assert "gamma-coded" in journal.missing["noise"]
    assert "RAW" in journal.missing["noise"]


def test_one_flat_a_level_gives_shading_and_no_noise() -> None:
    journal = Journal()
    shots = flats_and_darks()
    shots["flat"] = shots["flat"][::2]
    assert measure_noise(plan(), shots, journal) is None
    assert measure_shading(plan(), shots, X_PX, Y_PX, journal) is not None
    assert journal.missing["noise"].endswith("Capture two or more flats at each of several exposures")


def test_flats_that_saturate_nearly_everywhere_give_no_shading() -> None:
    journal = Journal()
    blown = np.ones(SIZE_PX)
    blown[:8, :8] = 0.9
    assert measure_shading(plan(), {**NOTHING, "flat": [shot("flat", "0.png", blown)]}, X_PX, Y_PX, journal) is None
    assert "Expose the flats less" in journal.missing["shading"]


def test_a_level_that_nothing_tells_is_an_error_with_a_remedy() -> None:
    assert white_dn(plan()) == WHITE_DN
    with pytest.raises(CalibrationError, match=r"no white level is known\. Set \[camera\]\.white_level"):
        white_dn(plan(white_level=None))


def test_optics_follow_the_manifest() -> None:
    optics, known = optics_of(plan())
    assert known
    assert (optics.f_number, optics.pitch_um) == (1.8, 1.4)
    assert len(optics.nm) == NOLL_LAST - NOLL_FIRST + 1
    assert optics.nm[0].tolist() == [2, 0]
    np.testing.assert_allclose(optics.wavelengths_nm.mean(axis=1), [610, 540, 465])
    np.testing.assert_allclose(np.ptp(optics.wavelengths_nm, axis=1), 2 * BAND_NM)


@pytest.mark.parametrize(
    ("changes", "f_number", "pitch_um"),
    [
        ({"setting": Setting(focal_mm=4.0)}, NOMINAL_F_NUMBER, 1.4),
        ({"camera": Camera("Maker", "Model", SIZE_PX, "RGGB")}, 1.8, NOMINAL_PITCH_UM),
    ],
    ids=["no f-number", "no pitch"],
)
def test_unknown_optics_are_nominal_and_their_scale_is_free(
    changes: dict[str, object], f_number: float, pitch_um: float
) -> None:
    optics, known = optics_of(plan(**changes))
    assert not known
    assert (optics.f_number, optics.pitch_um) == (f_number, pitch_um)


def points(spacing_px: float, size_px: tuple[int, int] = SIZE_PX) -> np.ndarray:
    """Picture of a square grid of small lights on a dim background."""
    y, x = (np.arange(spacing_px / 2 + 0.3, n - spacing_px / 2, spacing_px) for n in size_px)
    rows, cols = (np.arange(n) for n in size_px)
    light = np.zeros(size_px)
    for cy in y:
        for cx in x:
            light += 0.5 * np.exp(-0.5 * ((rows[:, None] - cy) ** 2 + (cols - cx) ** 2) / 0.9**2)
    return light + np.random.default_rng(0).normal(0, 0.001, size_px)


def test_points_of_all_views_are_cut_alike() -> None:
    journal, told = Journal(), []
    shots = [shot("led", f"{i}.png", points(spacing)) for i, spacing in enumerate((24.0, 20.0))]
    found = find_points(plan(), shots, None, journal, lambda *step: told.append(step))
    assert found is not None
    assert [len(view.xy_px) for view in found.views] == [15, 24]
    assert found.images.patch.shape == (3 * 39, 2 * SMALLEST_HALF_PX + 1, 2 * SMALLEST_HALF_PX + 1)
    assert [entry.pitch_mm for entry in found.entries] == [40.0, 40.0]
    assert journal.summary["psf"] == {"led_frames": 2}
    assert told == [("find points", 1, 2), ("find points", 2, 2)]


def test_patches_stay_apart_and_no_larger_than_a_psf() -> None:
    size_px = (240, 320)
    camera = Camera("Maker", "Model", size_px, "RGGB", pitch_um=1.4)
    for spacing, half_px in ((25.0, 10), (48.0, LARGEST_HALF_PX)):
        found = find_points(plan(camera=camera), [shot("led", "0.png", points(spacing, size_px))], None, Journal())
        assert found is not None
        assert found.images.patch.shape[1] == 2 * half_px + 1
        assert 2 * half_px + 1 < spacing


def test_points_in_each_others_tails_are_flagged_and_serve() -> None:
    journal = Journal()
    found = find_points(plan(), [shot("led", f"{d:.0f}.png", points(d)) for d in (12.0, 20.0)], None, journal)
    assert found is not None
    assert len(found.views) == 2
    (flagged,) = journal.flagged
    assert (flagged["name"], flagged["flag"]) == ("led/12.png", Flag.OVERLAPPING.words())
    assert "stand nearer" in flagged["reason"]


def test_a_frame_without_a_grid_is_flagged_and_the_others_serve() -> None:
    journal = Journal()
    dark = np.random.default_rng(1).normal(0.0, 0.001, SIZE_PX)
    shots = [shot("led", "dark.png", dark), shot("led", "good.png", points(20.0))]
    found = find_points(plan(), shots, None, journal)
    assert found is not None
    assert len(found.views) == len(found.entries) == 1
    (flagged,) = journal.flagged
    assert (flagged["name"], flagged["flag"]) == ("led/dark.png", Flag.UNUSABLE.words())
    assert "Darken the room" in flagged["reason"]
    assert journal.missing == {}


def test_frames_without_a_grid_of_points_give_none() -> None:
    black = shot("led", "dark.png", np.random.default_rng(1).normal(0.0, 0.001, SIZE_PX))
    for shots in ([], [black]):
        assert find_points(plan(), shots, None, Journal()) is None
