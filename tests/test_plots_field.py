"""Figures over the field tell up from down, sagittal from tangential, and one quadrant from another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.quiver import Quiver

from calib.plots.distortion import distortion_field, distortion_uncertainty, even_places, lateral_colour
from calib.plots.mtf import mtf50_against_height, mtf50_maps, mtf_curves
from calib.plots.psf import encircled_energy_figure, mosaic_of, psf_montage, stamp, thinned
from calib.plots.sensor import photon_transfer, shading_maps
from calib.plots.validation import chi2_maps, edge_agreement, residual_montage
from calib.plots.wavefront import aberration_vectors, term_name, wavefront_maps, zernike_bars
from psfbank.bank import PsfBank
from psfbank.metrics import encircled_energy, field_mtf, rms_wfe_nm
from psfbank.model import Calibration, DistortionMap, NoiseModel, PsfGrid, ZernikeField

SIZE_PX = (96, 128)


@pytest.fixture(scope="module")
def cal(small_bank: PsfBank) -> Calibration:
    return small_bank.at()


@pytest.fixture(scope="module")
def grid(cal: Calibration) -> PsfGrid:
    assert cal.psf_grid is not None
    return cal.psf_grid


@pytest.fixture(scope="module")
def distortion(cal: Calibration) -> DistortionMap:
    assert cal.distortion is not None
    return cal.distortion


@pytest.fixture(scope="module")
def wavefront(cal: Calibration) -> ZernikeField:
    assert cal.wavefront is not None
    return cal.wavefront


def arrows(axes: Any) -> Quiver:
    (found,) = (child for child in axes.get_children() if isinstance(child, Quiver))
    return found


@pytest.mark.parametrize(
    ("count", "most", "picked"),
    [
        (5, 9, [0, 1, 2, 3, 4]),
        (17, 9, [0, 2, 4, 6, 8, 10, 12, 14, 16]),
        (7, 3, [0, 3, 6]),
        (8, 3, [0, 3, 6]),
        (1, 4, [0]),
    ],
)
def test_an_even_choice_of_nodes(count: int, most: int, picked: list[int]) -> None:
    assert thinned(count, most).tolist() == picked


def test_a_montage_lays_stamps_where_their_tiles_are(grid: PsfGrid) -> None:
    stamps = np.arange(24.0).reshape(2, 3, 2, 2)
    mosaic = mosaic_of(stamps)
    assert mosaic.shape == (5, 8)
    np.testing.assert_array_equal(mosaic[3:, 3:5], stamps[1, 1])
    assert np.isnan(mosaic[2]).all()
    figure = psf_montage(grid)
    linear, logarithmic = figure.axes[2:4]  # of green
    shown = np.asarray(linear.get_images()[0].get_array())
    expected = mosaic_of(stamp(grid.kernels[1], grid.oversample))
    np.testing.assert_allclose(shown, expected)
    assert linear.get_ylim()[0] > linear.get_ylim()[1]  # rows go down
    assert logarithmic.get_images()[0].norm.vmin == pytest.approx(1e-4 * grid.kernels.max() * 9)


def test_a_stamp_holds_light_per_pixel(grid: PsfGrid) -> None:
    whole = stamp(grid.kernels, grid.oversample, width_px=100)
    np.testing.assert_allclose(whole.sum(axis=(-2, -1)) / 9, 1, rtol=1e-5)
    middle = stamp(grid.kernels, grid.oversample, width_px=2)
    np.testing.assert_array_equal(middle, whole[..., 4:11, 4:11])


def test_encircled_energy_is_that_of_the_named_tile(grid: PsfGrid) -> None:
    panel = encircled_energy_figure(grid, SIZE_PX).axes[0]
    outermost = panel.get_lines()[2]
    assert outermost.get_label().endswith("(8, 8) px")
    radius, energy = outermost.get_data()
    np.testing.assert_allclose(energy, encircled_energy(grid.kernels[0, 0, 0], radius, 3))


def test_maps_of_mtf50_are_by_direction_and_on_one_scale(grid: PsfGrid) -> None:
    field = field_mtf(grid, SIZE_PX)
    figure = mtf50_maps(field, SIZE_PX)
    meshes = [axes.collections[0] for axes in figure.axes[:9]]
    for k, c in ((0, 2), (1, 0)):
        np.testing.assert_allclose(np.asarray(meshes[3 * k + c].get_array()), field.mtf50_cpp[c, :, :, k])
    assert len({mesh.get_clim() for mesh in meshes[:6]}) == 1
    assert meshes[0].get_clim()[0] == 0
    np.testing.assert_allclose(np.asarray(meshes[7].get_array()), field.mtf50_std_cpp[1].max(axis=-1))


def test_curves_are_the_mean_of_their_height(grid: PsfGrid) -> None:
    field = field_mtf(grid, SIZE_PX)
    lines = mtf_curves(field, SIZE_PX).axes[1].get_lines()
    middle = lines[0].get_ydata()
    # two tiles are nearest to the middle, above and below it
    np.testing.assert_allclose(middle, field.mtf[1, 1:3, 2, 0].mean(axis=0))
    assert lines[1].get_linestyle() == "--"


def test_a_decentred_lens_spreads_its_quadrants(grid: PsfGrid) -> None:
    # blur that grows to the right: the quadrants at the right lie below those at the left
    field = field_mtf(grid, SIZE_PX)
    falling = np.broadcast_to(np.linspace(0.4, 0.2, 5)[:, None], field.mtf50_cpp.shape)
    panel = mtf50_against_height(replace(field, mtf50_cpp=falling), SIZE_PX).axes[0]
    means = {line.get_color(): line.get_ydata().mean() for line in panel.get_lines() if line.get_marker() == "o"}
    left_above, right_above, left_below, right_below = means.values()
    assert left_above == pytest.approx(left_below)
    assert right_above == pytest.approx(right_below)
    assert left_above > right_above + 0.05


def test_places_are_even_and_within_the_sensor() -> None:
    x_px, y_px = even_places((90, 150), 15)
    np.testing.assert_allclose(x_px, np.arange(15) * 10 + 4.5)
    np.testing.assert_allclose(y_px, np.arange(9) * 10 + 4.5)


def test_arrows_of_a_barrel_point_inwards(distortion: DistortionMap) -> None:
    found = arrows(distortion_field(distortion, SIZE_PX).axes[0])
    off = np.column_stack([found.X, found.Y]) - [63.5, 47.5]
    moved = np.column_stack([found.U, found.V])
    far = np.linalg.norm(off, axis=1) > 30
    inwards = -np.sum(off * moved, axis=1)[far]
    assert np.all(inwards > 0.95 * np.linalg.norm(off[far], axis=1) * np.linalg.norm(moved[far], axis=1))
    # where they end, light lands
    assert found.pivot == "tip"
    x_px, y_px = even_places(SIZE_PX, 15)
    np.testing.assert_array_equal(np.unique(found.X), x_px)
    np.testing.assert_array_equal(np.unique(found.Y), y_px)


def test_a_lens_that_sees_half_of_all_there_is_has_its_figure_too(distortion: DistortionMap) -> None:
    wide = replace(distortion, camera_matrix=np.array([[40.0, 0, 63.5], [0, 40.0, 47.5], [0, 0, 1]]))
    figure = distortion_field(wide, SIZE_PX)
    figure.draw_without_rendering()
    found = arrows(figure.axes[0])
    assert len(found.X) > 20
    assert np.hypot(found.U, found.V).max() < 128


def test_lateral_colour_points_out_where_a_colour_is_larger(distortion: DistortionMap) -> None:
    red, blue = (arrows(axes) for axes in lateral_colour(distortion, SIZE_PX).axes)
    off = np.column_stack([red.X, red.Y]) - [63.5, 47.5]
    far = np.linalg.norm(off, axis=1) > 20
    for found, sign in ((red, -1), (blue, 1)):
        moved = np.column_stack([found.U, found.V])
        np.testing.assert_allclose(moved[far], sign * 0.002 * off[far], rtol=0.15, atol=5e-3)
    assert red.scale == blue.scale


def test_uncertainty_is_the_maps_own(distortion: DistortionMap) -> None:
    axes = distortion_uncertainty(distortion, SIZE_PX).axes
    # a mode of 0.01 px in x and one in y: sqrt(2) as much, and twice and three times that in green and blue
    for c in range(3):
        np.testing.assert_allclose(
            np.asarray(axes[c].get_images()[0].get_array()), 0.01 * (c + 1) * np.sqrt(2), rtol=1e-3
        )


def test_bars_are_coefficients_with_their_errors(wavefront: ZernikeField) -> None:
    outer = zernike_bars(wavefront, SIZE_PX).axes[1]
    heights = np.array([bar.get_height() for bar in outer.patches]).reshape(3, 4)
    np.testing.assert_allclose(heights, wavefront.coefficients_nm[:, 0, 0])
    assert [label.get_text() for label in outer.get_xticklabels()] == [
        "defocus (2, 0)",
        "coma x (3, 1)",
        "coma y (3, -1)",
        "spherical (4, 0)",
    ]
    assert term_name(7, 5) == "(7, 5)"


def test_maps_of_the_wavefront_are_its_rms_and_strehl_ratio(wavefront: ZernikeField) -> None:
    axes = wavefront_maps(wavefront, SIZE_PX).axes
    rms = rms_wfe_nm(wavefront.coefficients_nm, wavefront.nm)
    np.testing.assert_allclose(np.asarray(axes[2].collections[0].get_array()), rms[2])
    strehl = np.asarray(axes[4].collections[0].get_array())
    np.testing.assert_allclose(strehl, np.exp(-((2 * np.pi * rms[1] / 535) ** 2)), atol=0.02)
    assert axes[4].collections[0].get_clim() == (0, 1)


def test_coma_points_to_its_higher_side_and_astigmatism_along_its_axis(wavefront: ZernikeField) -> None:
    coma = arrows(aberration_vectors(wavefront, SIZE_PX).axes[0])
    off = np.column_stack([coma.X, coma.Y]) - [63.5, 47.5]
    moved = np.column_stack([coma.U, coma.V])
    assert np.all(np.sum(off * moved, axis=1) > 0.99 * np.linalg.norm(off, axis=1) * np.linalg.norm(moved, axis=1))
    tiles = wavefront.coefficients_nm.shape[:3]
    nm = np.array([(2, 2), (2, -2)])
    # cos(2 (t - 30 degrees)) is highest along 30 and 210 degrees, from x towards y
    terms = np.broadcast_to([10 * np.cos(np.pi / 3), 10 * np.sin(np.pi / 3)], (*tiles, 2))
    astigmatic = replace(wavefront, nm=nm, coefficients_nm=terms, stderr_nm=terms)
    lines = arrows(aberration_vectors(astigmatic, SIZE_PX).axes[0])
    np.testing.assert_allclose(np.arctan2(lines.V, lines.U), np.pi / 6)
    assert lines.headlength == 0


def test_photon_transfer_is_the_models(cal: Calibration) -> None:
    noise = NoiseModel([0.25], [2.0], [0.0], [0.01], [64.0], [1064.0], channels=("Y",))
    transfer, ratio = photon_transfer(noise).axes
    signal_dn, std_dn = transfer.get_lines()[0].get_data()
    np.testing.assert_allclose(std_dn**2, 0.25**2 * (4 + signal_dn / 0.25) + (0.01 * signal_dn) ** 2)
    assert signal_dn[-1] == pytest.approx(1000)
    electrons, snr = ratio.get_lines()[0].get_data()
    np.testing.assert_allclose(snr, electrons / np.sqrt(4 + electrons + (0.01 * electrons) ** 2))
    assert cal.noise is not None
    speeds = photon_transfer(cal.noise, cal.noise_by_iso).axes[0]
    assert [line.get_label() for line in speeds.get_lines()][3:] == ["G, ISO 100", "G, ISO 400", "G, ISO 1600"]


def test_shading_is_where_the_light_is(cal: Calibration) -> None:
    assert cal.illumination is not None
    shown = np.asarray(shading_maps(cal.illumination, SIZE_PX).axes[2].get_images()[0].get_array())
    x_px, y_px = even_places(SIZE_PX, 121)
    assert shown[10, 90] == pytest.approx(float(cal.illumination.at(x_px[90], y_px[10], "B")))


def test_chi2_is_about_one_and_empty_where_nothing_was_seen(cal: Calibration) -> None:
    assert cal.evidence is not None
    axes = chi2_maps(cal.evidence, SIZE_PX).axes
    fitted, reserved = axes[0].collections[0], axes[3].collections[0]
    assert np.ma.getmaskarray(fitted.get_array())[0, 0]
    np.testing.assert_allclose(np.asarray(reserved.get_array())[1], cal.evidence.chi2_reserved[0, 1])
    assert sum(fitted.get_clim()) == pytest.approx(2)


def test_residuals_are_percent_of_the_peak_on_one_scale(cal: Calibration) -> None:
    assert cal.evidence is not None
    images = [axes.get_images()[0] for axes in residual_montage(cal.evidence).axes[:3]]
    np.testing.assert_allclose(
        np.asarray(images[1].get_array())[8:15, :7], 100 * cal.evidence.residual[1, 1, 0], rtol=1e-6
    )
    assert len({image.get_clim() for image in images}) == 1


def test_edges_lie_where_psfs_and_they_say(cal: Calibration) -> None:
    assert cal.edges is not None
    predicted = np.array([0.25, 0.27, 0.28, np.nan, 0.31, 0.3])
    axes = edge_agreement(cal.edges, predicted).axes
    dots = axes[0].containers[0].lines[0].get_xydata()
    np.testing.assert_allclose(dots, [[0.25, cal.edges.mtf50_cpp[0]], [0.31, cal.edges.mtf50_cpp[4]]])
    assert axes[2].get_title().startswith("B: 1 edges")
