"""Exports are read back by the programs that they are for, and predict what our map says within their printed loss."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from lenses import spline_map
from scipy.ndimage import map_coordinates

from psfbank.errors import ExportError, MissingPartError
from psfbank.interop import FORMATS, SUFFIXES, Exported, Loss, export
from psfbank.interop.parametric import Parametric
from psfbank.interop.ros import camera_info
from psfbank.metrics import field_mtf
from psfbank.model import Calibration, Camera, DistortionMap, Illumination, NoiseModel, Setting

Array = npt.NDArray[np.float64]
SIZE_PX = 480, 640
CAMERA_MATRIX = np.array([[410.0, 0, 331.0], [0, 402.0, 228.0], [0, 0, 1]])
BARREL = np.array([-0.22, 0.05, 0.003, -0.002, -0.004])  # 40 px in the corners, and nothing about it is symmetric
SHIFT = {"R": 1.0015, "G": 1.0, "B": 0.999}
CAMERA = Camera("Maker", "Strong", SIZE_PX, "RGGB", lens="wide", pitch_um=2.0)
SETTING = Setting(focal_mm=0.8, f_number=2.0, iso=100)


def opencv_px(rays: Array, matrix: Array, terms: Array, fisheye: bool = False) -> Array:
    points = np.column_stack([rays, np.ones(len(rays))]).reshape(-1, 1, 3)
    project = cv2.fisheye.projectPoints if fisheye else cv2.projectPoints
    return project(points, np.zeros(3), np.zeros(3), matrix, terms)[0].reshape(-1, 2)


def barrel(scale: float) -> Callable[[Array], Array]:
    return lambda rays: scale * (opencv_px(rays, CAMERA_MATRIX, BARREL) - CAMERA_MATRIX[:2, 2]) + CAMERA_MATRIX[:2, 2]


def rippled(scale: float) -> Callable[[Array], Array]:
    """A lens that no formula holds."""

    def lens(rays: Array) -> Array:
        px = barrel(scale)(rays)
        return px + 0.25 * np.sin(px[:, ::-1] / 45)

    return lens


@pytest.fixture(scope="module")
def strong() -> DistortionMap:
    return spline_map({c: barrel(s) for c, s in SHIFT.items()}, CAMERA_MATRIX, SIZE_PX, 1.35, knots=40)


@pytest.fixture(scope="module")
def rough() -> DistortionMap:
    return spline_map({c: rippled(s) for c, s in SHIFT.items()}, CAMERA_MATRIX, SIZE_PX, 1.35, knots=40)


@pytest.fixture(scope="module")
def fisheye() -> DistortionMap:
    matrix, terms = np.array([[300.0, 0, 322.0], [0, 303.0, 236.0], [0, 0, 1]]), np.array([-0.03, 0.006, -0.001, 0.0])
    return spline_map(lambda rays: opencv_px(rays, matrix, terms, fisheye=True), matrix, SIZE_PX, 1.6, knots=40)


def seen(distortion: DistortionMap, channel: str = "G") -> tuple[Array, Array]:
    """Pixels at random, and the rays that our map has there."""
    xy_px = np.random.default_rng(1).uniform(0, np.array(SIZE_PX[::-1]) - 1.0, (2000, 2))
    rays = distortion.unproject(xy_px, channel)
    assert np.isfinite(rays).all()
    return xy_px, rays


def held_to(done: Exported, off_px: Array, channel: str = "G", reader_px: float = 0.0) -> None:
    """What a reader predicts is off by the loss that was printed: not by more, and not by much less."""
    loss = next(each for each in done.losses if each.channel == channel)
    off_px = np.linalg.norm(off_px, axis=1)
    rms = np.sqrt(np.mean(off_px**2))
    assert 0.8 * loss.rms_px - reader_px <= rms <= 1.2 * loss.rms_px + reader_px
    assert off_px.max() <= 1.2 * loss.max_px + reader_px


def nodes(path: Path, *names: str) -> list[Array]:
    file = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    return [file.getNode(name).mat() for name in names]


@pytest.mark.parametrize("suffix", [".yml", ".xml", ".json"])
def test_opencv_reads_its_own_model_exactly(strong: DistortionMap, tmp_path: Path, suffix: str) -> None:
    done = export(CAMERA, Calibration(distortion=strong), "opencv", tmp_path / f"a{suffix}")

    assert done.model == "brown5"
    for channel, end in (("G", ""), ("R", "_R"), ("B", "_B")):
        matrix, terms = nodes(done.path, f"camera_matrix{end}", f"distortion_coefficients{end}")
        xy_px, rays = seen(strong, channel)
        np.testing.assert_allclose(opencv_px(rays, matrix, terms), xy_px, atol=0.005)
    np.testing.assert_allclose(matrix / [[SHIFT["B"]], [SHIFT["B"]], [1]], matrix / 0.999, rtol=1)
    np.testing.assert_allclose(nodes(done.path, "distortion_coefficients")[0].ravel(), BARREL, atol=1e-3)
    assert max(loss.max_px for loss in done.losses) < 0.005
    assert {loss.coverage for loss in done.losses} == {1.0}


def test_opencv_is_off_by_what_the_export_says(rough: DistortionMap, tmp_path: Path) -> None:
    done = export(CAMERA, Calibration(distortion=rough), "opencv", tmp_path / "a.yml", channel="R")
    matrix, terms = nodes(done.path, "camera_matrix", "distortion_coefficients")
    xy_px, rays = seen(rough, "R")

    held_to(done, opencv_px(rays, matrix, terms) - xy_px, "R")
    assert 0.1 < done.losses[0].rms_px < 0.3


def test_a_wrong_convention_would_be_seen(rough: DistortionMap, tmp_path: Path) -> None:
    """Half a pixel, swapped axes, or the way back instead of the way there, are far beyond the loss."""
    done = export(CAMERA, Calibration(distortion=rough), "opencv", tmp_path / "a.yml")
    matrix, terms = nodes(done.path, "camera_matrix", "distortion_coefficients")
    xy_px, rays = seen(rough)
    inverse = rays - (opencv_px(rays, np.eye(3), terms) - rays)
    wrong = {
        "half a pixel": opencv_px(rays, matrix, terms) + 0.5,
        "axes": opencv_px(rays[:, ::-1], matrix, terms),
        "tangential terms": opencv_px(rays, matrix, terms[:, [0, 1, 3, 2, 4]]),
        "direction": inverse * np.diag(matrix)[:2] + matrix[:2, 2],
    }

    for name, px in wrong.items():
        with pytest.raises(AssertionError):
            held_to(done, px - xy_px)
        assert np.linalg.norm(px - xy_px, axis=1).max() > 0.4, name


def test_a_fisheye_gets_a_fisheye_model(fisheye: DistortionMap, tmp_path: Path) -> None:
    done = export(CAMERA, Calibration(distortion=fisheye), "opencv", tmp_path / "a.yml")
    matrix, terms = nodes(done.path, "camera_matrix", "distortion_coefficients")
    xy_px, rays = seen(fisheye, "Y")

    assert done.model == "fisheye4"
    held_to(done, opencv_px(rays, matrix, terms, fisheye=True) - xy_px, "Y")
    assert done.losses[0].max_px < 0.05
    assert cv2.FileStorage(str(done.path), cv2.FILE_STORAGE_READ).getNode("fisheye_model").real() == 1


def test_more_terms_where_the_lens_needs_them(tmp_path: Path) -> None:
    terms = np.array([0.5, -0.3, 0.002, -0.001, 0.02, 0.9, -0.2, 0.03])
    lens = spline_map(lambda rays: opencv_px(rays, CAMERA_MATRIX, terms), CAMERA_MATRIX, SIZE_PX, 1.35, knots=40)
    calibration = Calibration(distortion=lens)

    chosen = export(CAMERA, calibration, "opencv", tmp_path / "a.yml")
    named = export(CAMERA, calibration, "opencv", tmp_path / "b.yml", model="brown5")
    assert (chosen.model, named.model) == ("rational8", "brown5")
    assert chosen.losses[0].rms_px < 0.5 * named.losses[0].rms_px


def test_ros_reads_it_back(rough: DistortionMap, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    done = export(CAMERA, Calibration(distortion=rough), "ros", tmp_path / "a.yaml")
    told = yaml.safe_load(done.path.read_text("utf-8"))
    xy_px, rays = seen(rough)

    def matrix(name: str) -> Array:
        return np.array(told[name]["data"], dtype=float).reshape(told[name]["rows"], told[name]["cols"])

    terms = matrix("distortion_coefficients")
    held_to(done, opencv_px(rays, matrix("camera_matrix"), terms) - xy_px)
    assert (told["image_width"], told["image_height"], told["camera_name"]) == (640, 480, "Maker_Strong")
    assert (told["distortion_model"], done.model, terms.shape) == ("plumb_bob", "plumb_bob", (1, 5))
    np.testing.assert_array_equal(matrix("rectification_matrix"), np.eye(3))
    np.testing.assert_array_equal(matrix("projection_matrix")[:, :3], matrix("camera_matrix"))
    assert [note.split(": ")[1][:4] for note in done.notes] == ["R is", "B is"]


@pytest.mark.parametrize("model", ["brown4", "rational8", "fisheye4"])
def test_colmap_reads_it_back(rough: DistortionMap, tmp_path: Path, model: str) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    done = export(CAMERA, Calibration(distortion=rough), "colmap", tmp_path / "cameras.txt", model=model)
    for name in ("images.txt", "points3D.txt"):
        (tmp_path / name).touch()
    cameras = pycolmap.Reconstruction(str(tmp_path)).cameras

    for number, channel in enumerate("GRB", start=1):
        xy_px, rays = seen(rough, channel)
        found = cameras[number].img_from_cam(np.column_stack([rays, np.ones(len(rays))])) - 0.5
        held_to(done, found - xy_px, channel)
        assert cameras[number].model.name == done.model


def lensfun_modifier(path: Path, light: bool = False) -> object:
    lensfunpy = pytest.importorskip("lensfunpy")
    database = lensfunpy.Database(xml=path.read_text("utf-8"), load_common=False)
    (camera,) = database.find_cameras("Maker", "Strong")
    (lens,) = database.find_lenses(camera, "Maker", "wide")
    modifier = lensfunpy.Modifier(lens, camera.crop_factor, SIZE_PX[1], SIZE_PX[0])
    flags = lensfunpy.ModifyFlags.VIGNETTING if light else lensfunpy.ModifyFlags.ALL
    modifier.initialize(0.8, 2.0, 1000.0, scale=1.0, targeom=lens.type, pixel_format=np.float64, flags=flags)
    return modifier


@pytest.mark.parametrize(("model", "reader_px"), [("poly5", 0.02), ("ptlens", 0.25)])
def test_lensfun_reads_distortion_and_lateral_colour_back(
    rough: DistortionMap, tmp_path: Path, model: str, reader_px: float
) -> None:
    """Lensfun says where each colour of a corrected picture's pixels lies; the ray there is that of a pinhole camera.

    The pinhole camera's centre is `center`, its focal length stands in a comment.
    """
    done = export(CAMERA, Calibration(SETTING, distortion=rough), "lensfun", tmp_path / "a.xml", model=model)
    at = lensfun_modifier(done.path).apply_subpixel_geometry_distortion()
    lens = lensfun_xml(done.path)
    focal_px = float(done.path.read_text("utf-8").split("focal length of ")[1].split(" px")[0])
    half_px = (SIZE_PX[0] - 1) / 2
    centre_px = (np.array(SIZE_PX[::-1]) - 1) / 2 + half_px * np.array([lens["x"], lens["y"]])
    rows, columns = np.mgrid[20:460:7, 20:620:7].reshape(2, -1)
    rays = (np.column_stack([columns, rows]) - centre_px) / focal_px
    for k, channel in enumerate("RGB"):
        ours = rough.project(rays, channel)
        off_px = at[rows, columns, k] - ours
        within = np.all((ours > 0) & (ours < np.array(SIZE_PX[::-1]) - 1.0), axis=1)
        loss = next(each for each in done.losses if each.channel == channel)
        assert within.mean() > 0.9
        off_px = np.linalg.norm(off_px[within], axis=1)
        assert np.sqrt(np.mean(off_px**2)) <= 1.1 * loss.rms_px + reader_px
        assert off_px.max() <= 1.2 * loss.max_px + reader_px
        assert np.linalg.norm(at[rows, columns, k] - np.column_stack([columns, rows]), axis=1).max() > 15
    colours = np.linalg.norm(at[..., 0, :] - at[..., 2, :], axis=-1)
    assert colours.max() > 0.5


def test_lensfun_tells_a_fisheye_against_equal_angles(fisheye: DistortionMap, tmp_path: Path) -> None:
    done = export(CAMERA, Calibration(SETTING, distortion=fisheye), "lensfun", tmp_path / "a.xml")
    at = lensfun_modifier(done.path).apply_geometry_distortion()
    lens, half_px = lensfun_xml(done.path), (SIZE_PX[0] - 1) / 2
    focal_px = float(done.path.read_text("utf-8").split("focal length of ")[1].split(" px")[0])
    centre_px = (np.array(SIZE_PX[::-1]) - 1) / 2 + half_px * np.array([lens["x"], lens["y"]])
    rows, columns = np.mgrid[40:440:9, 60:580:9].reshape(2, -1)
    off = (np.column_stack([columns, rows]) - centre_px) / focal_px
    angle = np.linalg.norm(off, axis=1, keepdims=True)
    ours = fisheye.project(off * np.tan(angle) / angle, "Y")

    assert "<type>fisheye</type>" in done.path.read_text("utf-8")
    assert angle.max() > np.radians(50)
    off_px = np.linalg.norm(at[rows, columns] - ours, axis=1)
    assert np.sqrt(np.mean(off_px**2)) < 1.1 * done.losses[0].rms_px + 0.02 < 1.5
    assert off_px.max() < 1.1 * done.losses[0].max_px + 0.02


def lensfun_xml(path: Path) -> dict[str, float]:
    root = ET.fromstring(path.read_text("utf-8"))  # noqa: S314 our own file
    found: dict[str, float] = {}
    for name in ("center", "distortion"):
        (element,) = root.iter(name)
        found |= {key: float(value) for key, value in element.attrib.items() if key != "model"}
    return found


def shaded() -> Illumination:
    x, y = np.linspace(0, 639, 9), np.linspace(0, 479, 7)
    light = (1 + ((x - 331) ** 2 + (y[:, None] - 228) ** 2) / 500**2) ** -2
    return Illumination(x, y, np.stack([light / light.max()] * 3))


@pytest.mark.parametrize("with_map", [True, False])
def test_lensfun_takes_the_shading_out(strong: DistortionMap, tmp_path: Path, with_map: bool) -> None:
    calibration = Calibration(SETTING, distortion=strong if with_map else None, illumination=shaded())
    done = export(CAMERA, calibration, "lensfun", tmp_path / "a.xml")
    columns, rows = np.meshgrid(np.arange(640.0), np.arange(480.0))
    picture = np.repeat(shaded().at(columns, rows)[..., None], 3, axis=-1)
    lensfun_modifier(done.path, light=True).apply_color_modification(picture)

    off = picture / picture[228, 331] - 1
    told = float(done.notes[-1].split("RMS, ")[1].split(" %")[0]) / 100
    assert np.abs(off).max() < 1.3 * told + 1e-3 < 0.2
    assert (len(done.losses) > 0) == with_map
    assert ("no distortion" in done.notes[0]) != with_map


def st_of(path: Path) -> Array:
    if path.suffix == ".exr":
        openexr = pytest.importorskip("OpenEXR")
        with openexr.File(str(path)) as file:
            assert "bottom-left" in file.header()["comments"]
            return np.asarray(file.channels()["RGBA"].pixels, dtype=np.float64)
    return tifffile.imread(path).astype(np.float64)


@pytest.mark.parametrize("suffix", [".exr", ".tif"])
def test_an_st_map_leads_both_ways(rough: DistortionMap, tmp_path: Path, suffix: str) -> None:
    """What Nuke does: look up (S, T), from the bottom left corner, pixel centres at half-integers."""
    done = export(CAMERA, Calibration(distortion=rough), "stmap", tmp_path / f"a{suffix}")
    st = st_of(done.path)
    columns, rows = np.meshgrid(np.arange(640.0), np.arange(480.0))
    distorted = np.stack([columns, rows], axis=-1)
    height, width = SIZE_PX
    source = np.stack([st[..., 0] * width - 0.5, height - 1 - (st[..., 1] * height - 0.5)], axis=-1)
    back = np.stack([st[..., 2] * width - 0.5, height - 1 - (st[..., 3] * height - 0.5)], axis=-1)
    ideal = (distorted - CAMERA_MATRIX[:2, 2]) / np.diag(CAMERA_MATRIX)[:2]

    np.testing.assert_allclose(source.reshape(-1, 2), rough.project(ideal.reshape(-1, 2)), atol=1e-3)
    rays = rough.unproject(distorted.reshape(-1, 2))
    np.testing.assert_allclose(back.reshape(-1, 2), rays * np.diag(CAMERA_MATRIX)[:2] + CAMERA_MATRIX[:2, 2], atol=1e-3)
    assert done.losses[0].max_px < 0.01
    picture = np.sin(columns / 40) + np.cos(rows / 30)
    there = map_coordinates(picture, [source[..., 1], source[..., 0]], order=3, mode="nearest")
    again = map_coordinates(there, [back[..., 1], back[..., 0]], order=3, mode="nearest")
    known = np.all((back > 1) & (back < np.array([638, 478])), axis=-1)
    assert known.mean() > 0.7
    assert np.abs(again - picture)[known].max() < 0.01
    assert np.abs(there - picture)[known].max() > 0.5


def test_an_st_map_is_large_enough_for_several_blocks_of_any_size(strong: DistortionMap, tmp_path: Path) -> None:
    small = Camera("Maker", "Odd", (33, 47), "RGGB")
    done = export(
        small,
        Calibration(distortion=replace(strong, camera_matrix=np.diag([400, 400, 1]))),
        "stmap",
        tmp_path / "a.exr",
    )
    assert st_of(done.path).shape == (33, 47, 4)
    np.testing.assert_array_equal(
        st_of(done.path),
        st_of(
            export(
                small,
                Calibration(distortion=replace(strong, camera_matrix=np.diag([400, 400, 1]))),
                "stmap",
                tmp_path / "a.tif",
            ).path
        ),
    )


def test_csv_is_a_number_a_row(small_bank: object, tmp_path: Path) -> None:
    calibration = small_bank.at()
    done = export(small_bank.camera, calibration, "csv", tmp_path / "a.csv")
    rows = list(csv.DictReader(io.StringIO(done.path.read_text("utf-8"))))

    assert {row["table"] for row in rows} == {"psf", "edges", "distortion", "wavefront", "illumination", "noise"}
    field = field_mtf(calibration.psf_grid, small_bank.camera.size_px)
    found = {
        (row["quantity"], row["channel"], float(row["x_px"]), float(row["y_px"])): (
            row["value"],
            row["sigma"],
            row["unit"],
        )
        for row in rows
        if row["table"] == "psf"
    }
    value, sigma, unit = found["mtf50_tangential", "B", round(field.x_px[3], 4), round(field.y_px[1], 5)]
    assert float(value) == pytest.approx(field.mtf50_cpp[2, 1, 3, 1], rel=1e-6)
    assert float(sigma) == pytest.approx(field.mtf50_std_cpp[2, 1, 3, 1], rel=1e-6)
    assert unit == "cycles/px"
    noise = {(row["quantity"], row["channel"]): row["value"] for row in rows if row["table"] == "noise"}
    assert float(noise["gain_dn_per_e", "B"]) == 0.26
    terms = [row for row in rows if row["quantity"] == "zernike_3_-1"]
    assert [float(row["value"]) for row in terms[:3]] == pytest.approx(
        calibration.wavefront.coefficients_nm[0, 0, :3, 2], rel=1e-6
    )
    places = {(row["channel"], row["x_px"], row["y_px"]): {} for row in rows if row["quantity"] == "ray_x"}
    for row in rows:
        if row["table"] == "distortion" and row["channel"]:
            places[row["channel"], row["x_px"], row["y_px"]][row["quantity"]] = float(row["value"])
    for (channel, x, y), at in list(places.items())[::50]:
        there = calibration.distortion.project([[at["ray_x"], at["ray_y"]]], channel)
        np.testing.assert_allclose(there, [[float(x), float(y)]], atol=1e-3)


def test_json_holds_everything_but_kernels(small_bank: object, tmp_path: Path) -> None:
    calibration = small_bank.at()
    done = export(small_bank.camera, calibration, "json", tmp_path / "a.json")
    told = json.loads(done.path.read_text("utf-8"), parse_constant=pytest.fail)

    assert told["camera"]["model"] == "Small"
    assert "kernels" not in told["psf_grid"]
    assert told["setting"] == {"focal_mm": 4.2, "f_number": 2.0, "focus_m": None, "iso": 100.0, "pressure_kpa": None}
    for part, name in (("psf_grid", "sigma"), ("distortion", "coefficients"), ("wavefront", "nm"), ("noise", "prnu")):
        np.testing.assert_allclose(told[part][name], getattr(getattr(calibration, part), name), rtol=1e-6)
    assert told["distortion"]["uncertainty"]["heldout_rms_px"] == 0.06
    assert told["provenance"]["seed"] == 0
    assert told["evidence"]["chi2_used"][0][0][0] is None


def test_npz_holds_arrays_that_make_the_parts_again(small_bank: object, tmp_path: Path) -> None:
    calibration = small_bank.at()
    export(small_bank.camera, calibration, "npz", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as held:
        np.testing.assert_array_equal(held["psf_grid.kernels"], calibration.psf_grid.kernels)
        noise = NoiseModel(*(held[f"noise.{f}"] for f in NoiseModel.__dataclass_fields__ if f != "channels"))
        np.testing.assert_array_equal(noise.gain_dn_per_e, calibration.noise.gain_dn_per_e)
        assert tuple(held["distortion.channels"]) == ("R", "G", "B")
        assert json.loads(str(held["provenance"]))["seed"] == 0
        assert str(held["camera.lens"]) == "f/2 Ω"


@pytest.mark.parametrize("to", FORMATS)
def test_what_a_bank_lacks_is_named_or_left_out(tmp_path: Path, to: str) -> None:
    noise = NoiseModel(*np.ones((5, 1)), white_dn=[2.0], channels=("Y",))
    camera = Camera("Maker", "Bare", SIZE_PX, "mono")
    path = tmp_path / f"a{SUFFIXES[to][0]}"
    if to in ("csv", "json", "npz"):
        assert export(camera, Calibration(noise=noise), to, path).path.stat().st_size > 100
    else:
        with pytest.raises(MissingPartError, match=r"no distortion map|neither a distortion map nor shading"):
            export(camera, Calibration(noise=noise), to, path)
        assert not path.exists()


def test_what_cannot_be_written_says_why(strong: DistortionMap, tmp_path: Path) -> None:
    calibration = Calibration(SETTING, distortion=strong)
    there = tmp_path / "there.yml"
    there.write_text("mine")
    for path, how, words in (
        (there, {}, "exists.*--overwrite"),
        (tmp_path / "none" / "a.yml", {}, "cannot be written: No such file or directory"),
        (tmp_path / "a.tif", {}, r"opencv goes into \.yml"),
        (tmp_path / "a.yml", {"model": "plumb_bob"}, "no model 'plumb_bob'. There are brown5"),
    ):
        with pytest.raises(ExportError, match=words):
            export(CAMERA, calibration, "opencv", path, **how)
    with pytest.raises(ExportError, match=r"no model 'brown5'\. Leave"):
        export(CAMERA, calibration, "csv", tmp_path / "a.csv", model="brown5")
    with pytest.raises(ExportError, match=r"pixel pitch.*pixel_pitch_um"):
        export(replace(CAMERA, pitch_um=np.nan), calibration, "lensfun", tmp_path / "a.xml")
    tiny = replace(strong, valid_region=np.array([(0.0, 0), (9, 0), (0, 9)]))
    with pytest.raises(ExportError, match="too little of the picture"):
        export(CAMERA, Calibration(distortion=tiny), "opencv", tmp_path / "a.yml")
    assert there.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["there.yml"]
    export(CAMERA, calibration, "opencv", there, overwrite=True)
    assert nodes(there, "camera_matrix")[0].shape == (3, 3)


def test_a_cameras_own_words_do_no_harm(strong: DistortionMap, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    nasty = replace(CAMERA, maker='<x a="1">&\x00\n: [', model="*!!python/object {", lens="]]>\x1b[31m\ud800")
    calibration = Calibration(SETTING, distortion=strong)
    ros = export(nasty, calibration, "ros", tmp_path / "a.yaml")
    xml = export(nasty, calibration, "lensfun", tmp_path / "a.xml")

    assert yaml.safe_load(ros.path.read_text("utf-8"))["camera_name"] == "x_a_1_python_object"
    assert lensfun_xml(xml.path)["k1"] < 0


def test_a_lens_beyond_a_right_angle_says_what_is_left_out(tmp_path: Path) -> None:
    """200 degrees: rays as x/z end at 90 from the axis, and a pinhole picture shows a part of that."""
    knots, edges = np.linspace(-4, 4, 24), np.array([(0.0, 0), (639, 0), (639, 479), (0, 479)])
    matrix = np.array([[150.0, 0, 319.5], [0, 150, 239.5], [0, 0, 1]])
    wide = DistortionMap(matrix, knots, knots, np.zeros((1, 2, 20, 20)), edges, np.full(1, 0.1), ("Y",))
    for to, model in (("opencv", "fisheye4"), ("ros", "equidistant"), ("colmap", "OPENCV_FISHEYE"), ("stmap", "")):
        done = export(CAMERA, Calibration(distortion=wide), to, tmp_path / f"a{SUFFIXES[to][0]}")
        assert done.model == model
        assert done.losses[0].max_px < 0.01
        assert 0.3 < done.losses[0].coverage < 0.9
    assert "px RMS" in done.notes[0]
    assert float(done.notes[0].split("RMS, ")[1].split(" px")[0]) < 0.05


def test_ros_floats_are_floats_to_yaml(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    loss = Loss("G", 0.1, 0.2)
    fit = Parametric("brown5", np.diag([1e-7, 1e22, 1.0]), np.array([-1e-05, 3e-320, 1.5e-8, 0, 1]), loss)
    told = yaml.safe_load(camera_info(fit, CAMERA))

    for name, values in (("camera_matrix", fit.camera_matrix), ("distortion_coefficients", fit.coefficients)):
        assert {type(value) for value in told[name]["data"]} == {float}
        assert told[name]["data"] == values.ravel().tolist()
