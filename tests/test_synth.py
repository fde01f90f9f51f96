"""Rendering: light lands where the distortion says, spread by the PSF of its place, and sessions read back."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import erf
from typer.testing import CliRunner

from calib import calibrate
from calib.commands import app
from calib.manifest import Entry, Plan, load_plan
from calib.noise_target import find
from calib.synth import Lens, plane_of, point_patch, rays_of, render_chart, render_points, samples_from_means
from calib.synth_camera import centred, phone_like
from calib.synth_session import FLAT_LEVELS, KINDS, LED_PEAK, SHOTS, expose, shading_of, shots, write_session
from calib.synth_views import BOARD, NOISE_VIEWS, board_poses, noise_poses, noise_target, view_pose
from calib.targets import INK, WHITE, Chessboard, LedGrid, read_pattern
from psfbank.bank import PsfBank
from psfbank.errors import MissingPartError
from psfbank.model import Calibration, NoiseByIso, PsfGrid
from psfbank.sensor import cfa_sites
from psfbank.zernike import centroid_px

HEIGHT, WIDTH = 240, 320


@pytest.fixture(scope="module")
def bank() -> PsfBank:
    return phone_like(WIDTH, HEIGHT, tiles=(4, 5), half_px=6)


@pytest.fixture(scope="module")
def lens(bank) -> Lens:
    return Lens.of(bank.at(), bank.camera.size_px)


@pytest.fixture(scope="module")
def gaussian_lens(lens) -> Lens:
    """The same geometry with one Gaussian PSF, sigma 0.8 px, everywhere: edges then have closed forms."""
    axis = np.arange(-18, 19) / 3
    line = np.exp(-(axis**2) / (2 * 0.8**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    kernels = np.broadcast_to(kernel, (3, 2, 2, 37, 37))
    return replace(lens, psf_grid=PsfGrid([0.0, WIDTH - 1.0], [0.0, HEIGHT - 1.0], kernels, oversample=3))


def facing(lens, px_per_mm, turns=(0.0, 0.0, 0.0), middle_px=(150.0, 110.0)):
    return view_pose(lens, np.zeros(2), middle_px, px_per_mm, turns)


def test_plane_of_inverts_rays_of():
    pose = np.array([0.3, -0.2, 0.9, 10.0, -20.0, 300.0])
    points = np.random.default_rng(1).uniform(-80, 80, (40, 2))
    np.testing.assert_allclose(plane_of(rays_of(points, pose), pose), points, atol=1e-9)


def test_a_view_puts_its_middle_on_the_pixel_at_the_scale(lens):
    pose = facing(lens, 1.2, middle_px=(160.0, 118.0))
    (x, y), (x1, y1) = lens.distortion.project(rays_of(np.array([[0.0, 0.0], [1.0, 0.0]]), pose))
    assert (x, y) == pytest.approx((160, 118), abs=1e-6)
    assert np.hypot(x1 - x, y1 - y) == pytest.approx(1.2, rel=0.02)
    assert x1 > x


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_point_centroids_fall_on_their_projections(gaussian_lens, channel):
    """A PSF wide enough for its samples: of a sharper one, the centroid of samples wanders with the pixel phase."""
    grid = LedGrid(pitch_mm=40.0, columns=7, rows=5, diameter_mm=0.5)
    pose = facing(gaussian_lens, 1.0, (12.0, 40.0, 5.0))
    image = render_points(gaussian_lens, grid, pose)[channel]
    want = gaussian_lens.distortion.project(rays_of(grid.points_mm(), pose), "RGB"[channel])
    errors = []
    for x, y in want:
        left, top = round(x) - 9, round(y) - 9
        if min(left, top) >= 0 and left + 19 <= WIDTH and top + 19 <= HEIGHT:
            cut = image[top : top + 19, left : left + 19]
            dx, dy = centroid_px(cut)
            errors.append(np.hypot(left + 9 + dx - x, top + 9 + dy - y))
            assert cut.sum() == pytest.approx(1, abs=1e-6)
    assert len(errors) > 12
    assert max(errors) < 0.002


def test_points_carry_the_psf_of_their_place(lens):
    """A whole-pixel position shows the kernel itself: neither mirrored nor turned."""
    kernel = lens.psf_grid.at(20.0, 15.0, "G", 3)
    patch = point_patch(kernel, 3, (0.0, 0.0))
    half = (kernel.shape[0] // 2) // 3
    centre, middle = kernel.shape[0] // 2, patch.shape[0] // 2
    picked = kernel[centre - 3 * half :: 3, centre - 3 * half :: 3][: 2 * half + 1, : 2 * half + 1]
    got = patch[middle - half : middle + half + 1, middle - half : middle + half + 1]
    np.testing.assert_allclose(got, picked / picked.sum(), atol=1e-4)
    assert np.abs(got - got[:, ::-1]).max() > 0.01


def test_a_disc_widens_a_point_by_its_second_moment():
    line = np.exp(-((np.arange(-30, 31) / 3) ** 2) / 2)
    kernel = np.outer(line, line) / line.sum() ** 2
    axis = np.arange(23) - 11

    def second_moment(patch):
        return float(patch.sum(0) @ axis**2)

    widened = second_moment(point_patch(kernel, 3, (0.0, 0.0), 2.0)) - second_moment(point_patch(kernel, 3, (0.0, 0.0)))
    assert widened == pytest.approx(2.0**2 / 16, rel=0.01)  # of a disc along one axis


def test_a_straight_edge_has_its_closed_form(gaussian_lens):
    """Far from corners a blurred edge is an erf of the distance to the projected edge, through the mean level."""
    board = Chessboard(columns=3, rows=2, square_mm=60.0)
    pose = facing(gaussian_lens, 1.0, (0.0, 0.0, 7.0), (120.0, 90.0))
    image = render_chart(gaussian_lens, board, pose)[1]
    points = np.column_stack([np.zeros(50), np.linspace(-45, -15, 50)])  # on the edge above the first corner
    on_edge = gaussian_lens.distortion.project(rays_of(points, pose))
    row = round(float(on_edge[25, 1]))
    edge_x = np.poly1d(np.polyfit(on_edge[:, 1], on_edge[:, 0], 3))
    distance = (np.arange(WIDTH) - edge_x(row)) / np.hypot(1, edge_x.deriv()(row))
    near = np.abs(distance) < 6
    want = INK + (WHITE - INK) * 0.5 * (1 + erf(distance[near] / (0.8 * np.sqrt(2))))
    np.testing.assert_allclose(image[row, near], want, atol=6e-4)


def test_chessboard_corners_are_saddles_in_the_right_order(gaussian_lens):
    """The first square is inked, at the top left: a mirrored or turned board fails."""
    pose = facing(gaussian_lens, 1.0, (15.0, 70.0, 4.0), (120.0, 90.0))
    board = Chessboard(columns=4, rows=3, square_mm=25.0)
    image = render_chart(gaussian_lens, board, pose)[1]

    def level(moved):
        xy = gaussian_lens.distortion.project(rays_of(board.corners_mm() + moved, pose))
        return image[tuple(np.rint(xy[:, ::-1]).astype(int).T)].reshape(3, 4)

    odd = np.indices((3, 4)).sum(axis=0) % 2
    np.testing.assert_allclose(level([-10, -10]), np.where(odd, WHITE, INK), atol=0.01)
    np.testing.assert_allclose(level([10, 10]), np.where(odd, WHITE, INK), atol=0.01)
    np.testing.assert_allclose(level([10, -10]), np.where(odd, INK, WHITE), atol=0.01)
    np.testing.assert_allclose(level([-10, 10]), np.where(odd, INK, WHITE), atol=0.01)


def test_samples_from_means_undoes_the_box_of_a_fine_pixel():
    """cos(2 pi f x) averaged over a third of a pixel, at half a cycle a pixel, comes back to within 0.1 %."""
    for freq_cpp, tolerance in ((0.25, 1e-4), (0.5, 1.2e-3)):
        x = (np.arange(120) - 1) / 3
        means = np.cos(2 * np.pi * freq_cpp * x) * np.sinc(freq_cpp / 3)
        got = samples_from_means(np.tile(means, (7, 1)).astype(np.float32))[3]
        np.testing.assert_allclose(got[5:-5], np.cos(2 * np.pi * freq_cpp * x)[5:-5], atol=tolerance)


def test_red_and_blue_differ_by_the_lateral_colour(lens):
    image = render_points(lens, LedGrid(40.0, 7, 5), facing(lens, 1.0))
    centroids = [(c * np.indices(c.shape)).sum((1, 2)) / c.sum() for c in image]
    assert np.abs(centroids[0] - centroids[2]).max() > 1e-3


def test_boards_stay_inside_and_reach_the_corners(lens):
    reached = np.concatenate([lens.distortion.project(rays_of(BOARD.corners_mm(), p)) for p in board_poses(lens)])
    assert reached.min() > 0
    assert np.all(reached < [WIDTH, HEIGHT])
    for corner in ([0, 0], [WIDTH, 0], [0, HEIGHT], [WIDTH, HEIGHT]):
        assert np.hypot(*(reached - corner).T).min() < 0.2 * WIDTH


def test_boards_tilt_about_several_axes(lens):
    normals = np.array([Rotation.from_rotvec(p[:3]).as_matrix()[:2, 2] for p in board_poses(lens)])
    assert np.linalg.matrix_rank(np.cov(normals.T)) == 2
    tilt_deg = np.degrees(np.arcsin(np.hypot(*normals.T)))
    assert np.sum((tilt_deg > 15) & (tilt_deg < 35)) >= 8


def test_led_frames_peak_below_full_scale(bank):
    shot = next(shots(bank))
    noise = bank.at().noise
    capacity = (noise.white_dn - noise.black_dn)[0] / noise.gain_dn_per_e[0]
    assert shot.electrons.max() == pytest.approx(LED_PEAK * capacity)


def test_exposure_takes_each_site_from_its_own_channel(bank):
    light = np.ones((3, HEIGHT, WIDTH)) * np.array([1.0, 2.0, 3.0])[:, None, None]
    electrons = expose(light, bank.at(), bank.camera, 0.5)
    sites = cfa_sites("RGGB", (HEIGHT, WIDTH))
    ratio = [electrons[sites == c].mean() for c in range(3)]
    np.testing.assert_allclose(np.divide(ratio, ratio[1]), [0.6 / 2, 1, 0.7 * 3 / 2])


def test_a_bank_without_psfs_cannot_be_rendered(bank):
    bare = Calibration(distortion=bank.at().distortion)
    with pytest.raises(MissingPartError, match="PSFs and distortion"):
        Lens.of(bare, (HEIGHT, WIDTH))


def test_the_camera_is_physical(bank):
    cal = bank.at()
    grid = cal.psf_grid
    shifts = [centroid_px(k, 3) for k in grid.kernels.reshape(-1, *grid.kernels.shape[-2:])]
    assert np.abs(shifts).max() < 1e-4
    waves = np.linalg.norm(cal.wavefront.coefficients_nm[1], axis=-1) / 535
    assert waves.min() < 0.07 < 0.2 < waves.max() < 0.3
    corner = np.array([[0.0, 0.0], [WIDTH - 1.0, HEIGHT - 1.0]])
    rays = cal.distortion.unproject(corner)
    angle = np.degrees(np.arctan(np.hypot(*rays.T)))
    assert 70 < angle.sum() < 82
    gy, gx = np.mgrid[:HEIGHT, :WIDTH]
    shade = cal.shading(gx, gy)
    assert shade.max() == pytest.approx(1, abs=2e-3)
    assert 0.4 < shade.min() < 0.55


def test_centring_returns_what_it_took_out():
    axis = np.arange(-33, 34) / 3
    gy, gx = np.meshgrid(axis + 0.4, axis - 0.7, indexing="ij")
    kernel, moved = centred(np.exp(-(gx**2 + gy**2) / 2), 6, 3)
    assert moved == pytest.approx((0.7, -0.4), abs=1e-3)
    assert centroid_px(kernel, 3) == pytest.approx((0, 0), abs=1e-6)


SESSION_SIZE = (144, 192)


@pytest.fixture(scope="module")
def tiny() -> PsfBank:
    return phone_like(*SESSION_SIZE[::-1], tiles=(3, 4), half_px=5)


@pytest.fixture(scope="module")
def session(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    return folder, write_session(tiny, folder, np.random.default_rng(4), dng=("dark", "flat"))


def entry_of(plan: Plan, kind: str) -> Entry:
    return plan.entries[KINDS.index(kind)]


def test_a_session_loads_as_a_plan(session, tiny):
    folder, files = session
    plan = load_plan(folder)
    assert [entry.kind for entry in plan.entries] == list(KINDS)
    assert sum(len(entry.files) for entry in plan.entries) == SHOTS == len(files) - 3
    assert plan.camera.size_px == SESSION_SIZE
    assert plan.setting.known() == pytest.approx(tiny.at().setting.known())
    assert entry_of(plan, "chessboard").columns == BOARD.columns
    truth = PsfBank.open(folder / "truth.h5").at()
    np.testing.assert_array_equal(truth.psf_grid.kernels, tiny.at().psf_grid.kernels)


def test_the_noise_target_of_a_session_is_found_in_its_captures(session, tiny):
    """As seen: a session so small that its pattern is of few cells."""
    folder, _ = session
    plan, lens = load_plan(folder), Lens.of(tiny.at(), tiny.camera.size_px)
    entry = entry_of(plan, "noise_target")
    target = noise_target(SESSION_SIZE)
    np.testing.assert_array_equal(read_pattern(entry.pattern), target.pattern)
    for file, pose in zip(entry.files, noise_poses(lens, target), strict=True):
        view = find(plan.read(entry, file), plan.camera, entry)
        miss = view.image_px - lens.distortion.project(rays_of(view.object_mm, pose))
        assert np.sqrt(np.mean(miss**2)) < 0.3  # coma parts a pattern's place from the centroid's


def test_a_dng_reads_back_to_the_level_it_was_written_at(session, tiny):
    pytest.importorskip("rawpy")
    folder, _ = session
    plan = load_plan(folder)
    flats = entry_of(plan, "flat")
    assert all(file.suffix == ".dng" for file in flats.files)
    brightest = plan.read(flats, flats.files[-1])
    assert brightest.setting.iso == 100
    want = expose(shading_of(tiny.at(), tiny.camera), tiny.at(), tiny.camera, FLAT_LEVELS[-1]).mean()
    noise = tiny.at().noise
    scale = float(noise.gain_dn_per_e[0] / (noise.white_dn - noise.black_dn)[0])
    assert brightest.pixels.mean() == pytest.approx(want * scale, rel=2e-3)


def test_flat_pairs_follow_the_noise_model(session, tiny):
    """Photon transfer, EMVA 1288: half the variance of a difference is gain x signal + read noise + rounding."""
    folder, _ = session
    plan, noise = load_plan(folder), tiny.at().noise
    files = entry_of(plan, "flat").files
    gain, read = noise.gain_dn_per_e[1], noise.read_noise_e[1]
    span = (noise.white_dn - noise.black_dn)[1]
    for first, second in zip(files[::2], files[1::2], strict=True):
        a, b = (plan.read(entry_of(plan, "flat"), f).pixels.astype(np.float64) * span for f in (first, second))
        variance = np.var(a - b) / 2
        want = gain * np.mean(a + b) / 2 + (gain * read) ** 2 + 1 / 12
        assert variance == pytest.approx(want, rel=0.035)  # 27 648 pixels: 0.9 % one sigma


def test_a_bank_of_several_iso_speeds_makes_flats_and_darks_at_each(tiny, tmp_path):
    """Of 6912 sites a frame of red and blue a gain is known to 1.1 %, a read noise to 0.9 %, one sigma."""
    iso = np.array([100.0, 400.0, 1600.0])
    gain = iso[:, None] / 100 * tiny.at().noise.gain_dn_per_e
    one = np.ones((3, 3))
    by_iso = NoiseByIso(iso, gain, np.hypot(1.5, 1.2 / gain), 0 * one, 0 * one, 256 * one, 4095 * one)
    bank = PsfBank(tiny.camera, (replace(tiny.at(), noise=by_iso.at(100), noise_by_iso=by_iso),))
    write_session(bank, tmp_path, np.random.default_rng(5))
    plan = load_plan(tmp_path)
    assert sum(len(entry.files) for entry in plan.entries) == SHOTS + 16
    assert [(e.kind, e.setting.iso) for e in plan.entries[6:]] == [(k, i) for i in iso[1:] for k in ("flat", "dark")]
    found = calibrate(replaced_entries(plan, "flat", "dark")).at()
    assert found.setting.iso == 100
    for speed in (100, 200, 400, 1600):
        there, true = found.noise_by_iso.at(speed), by_iso.at(speed)
        np.testing.assert_allclose(there.gain_dn_per_e, true.gain_dn_per_e, rtol=0.045)
        np.testing.assert_allclose(there.read_noise_e, true.read_noise_e, rtol=0.035)


def replaced_entries(plan: Plan, *kinds: str) -> Path:
    """The session without its other kinds of capture."""
    head, *tables = plan.path.read_text("utf-8").split("[[capture]]")
    kept = [table for table in tables if any(f'kind = "{kind}"' in table for kind in kinds)]
    plan.path.write_text("[[capture]]".join([head, *kept]), "utf-8")
    return plan.path


def test_noise_that_nobody_measured_is_none(tiny, tmp_path):
    (cal,) = tiny.calibrations
    unknown = replace(cal.noise, dark_e_per_s=np.full(3, np.nan), read_noise_e=np.full(3, np.nan))
    write_session(PsfBank(tiny.camera, (replace(cal, noise=unknown),)), tmp_path, np.random.default_rng(4))
    dark, flat = (
        cv2.imread(str(tmp_path / f), cv2.IMREAD_UNCHANGED) for f in ("dark/dark_0.png", "flat/flat_30_0.png")
    )
    assert np.all(dark == cal.noise.black_dn[0])
    assert flat[1::2, ::2].std() > 5


def test_a_bank_of_developed_pictures_cannot_be_rendered(tiny):
    with pytest.raises(MissingPartError, match="RAW"):
        next(shots(PsfBank(replace(tiny.camera, cfa="RGB"), tiny.calibrations)))


def test_the_same_seed_gives_the_same_files(session, tiny, tmp_path):
    _, files = session
    again = write_session(tiny, tmp_path, np.random.default_rng(4), dng=("dark", "flat"))
    for one, other in zip(files, again, strict=True):
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (one, other)]
        assert digests[0] == digests[1], one.name


def test_an_unknown_kind_is_refused(bank, tmp_path):
    with pytest.raises(ValueError, match="must name kinds"):
        write_session(bank, tmp_path, np.random.default_rng(0), dng=("chart",))


def test_the_sample_captures_are_small_and_whole():
    folder = Path(__file__).parents[1] / "sample_captures"
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    assert sum(sizes) < 8_000_000
    assert max(sizes) < 3_000_000
    plan, truth = load_plan(folder), PsfBank.open(folder / "truth.h5")
    assert plan.camera.size_px == truth.camera.size_px
    assert sum(len(entry.files) for entry in plan.entries) == SHOTS - len(NOISE_VIEWS)  # a pattern does not compress


def test_the_sample_camera_is_the_one_that_is_computed_today():
    """`truth.h5` follows from the code: a change of the camera asks for new samples."""
    kept = PsfBank.open(Path(__file__).parents[1] / "sample_captures" / "truth.h5").at()
    height, width = load_plan(Path(__file__).parents[1] / "sample_captures").camera.size_px
    now = phone_like(width, height).at()
    np.testing.assert_allclose(kept.psf_grid.kernels, now.psf_grid.kernels, atol=1e-6)
    np.testing.assert_allclose(kept.distortion.coefficients, now.distortion.coefficients, atol=1e-4)
    np.testing.assert_allclose(kept.noise.gain_dn_per_e, now.noise.gain_dn_per_e)


def test_the_command_says_what_it_wrote(tiny, tmp_path, monkeypatch):
    written = {}

    def stand_in(truth, folder, rng, *, dng, report):
        folder.mkdir()
        report("rendering", 1, 1)
        (folder / "capture.toml").write_text("x" * 1500)
        written.update(size=truth.camera.size_px, dng=tuple(dng), draw=rng.integers(1 << 30))
        return [folder / "capture.toml"]

    monkeypatch.setattr("calib.synth_session.write_session", stand_in)
    tiny.save(tmp_path / "tiny.h5")
    arguments = ["synth", str(tmp_path / "out"), "--bank", str(tmp_path / "tiny.h5"), "--dng", "dark", "--seed", "3"]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0
    assert "1 files, 0.00 MB" in answer.stdout
    assert written == {"size": SESSION_SIZE, "dng": ("dark",), "draw": np.random.default_rng(3).integers(1 << 30)}
    assert CliRunner().invoke(app, arguments).exit_code == 2  # not empty
    assert CliRunner().invoke(app, ["synth", str(tmp_path / "new"), "--dng", "chart"]).exit_code == 2


@pytest.mark.parametrize(
    ("asked", "name", "cfa"), [([], "phone-like", "RGGB"), (["--lens", "tele", "--cfa", "mono"], "tele-like", "mono")]
)
def test_the_command_makes_up_the_lens_that_is_asked_for(asked, name, cfa, tmp_path, monkeypatch):
    made = []

    def stand_in(truth, folder, rng, *, dng, report):
        made.append(truth.camera)
        return []

    monkeypatch.setattr("calib.synth_session.write_session", stand_in)
    size = ["--width", "320", "--height", "240"]
    assert CliRunner().invoke(app, ["synth", str(tmp_path / "out"), *size, *asked]).exit_code == 0
    assert (made[0].model, made[0].cfa, made[0].size_px) == (name, cfa, (240, 320))
