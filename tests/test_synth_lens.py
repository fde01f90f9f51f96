"""Lens designs: each departs from the others the way its numbers say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calib.synth_camera import camera_of, phone_like
from calib.synth_lens import DESIGNS, PHONE, SPOT, Layout, Spot, ideal_to_distorted, wavefront_nm, with_spot

LAYOUT = Layout(640, 480, PHONE.focal_widths)
NODES_PX = LAYOUT.nodes((13, 17))


def at(design, n, m, channel=1, nodes=NODES_PX):
    column = [tuple(nm) for nm in design.terms.tolist()].index((n, m))
    return wavefront_nm(design, LAYOUT, *nodes, channel)[..., column]


def test_the_phone_like_camera_is_the_default_design():
    one, other = phone_like(96, 72, tiles=(2, 3), half_px=4), camera_of(PHONE, 96, 72, tiles=(2, 3), half_px=4)
    np.testing.assert_array_equal(one.at().psf_grid.kernels, other.at().psf_grid.kernels)
    assert one.camera == other.camera


@pytest.mark.parametrize("name", ["tele", "wide"])
def test_a_named_camera_carries_its_own_numbers(name):
    design = DESIGNS[name]
    bank = camera_of(design, 128, 96, tiles=(3, 4), half_px=5, cfa="GRBG")
    calibration = bank.at()
    assert (bank.camera.pitch_um, bank.camera.cfa) == (design.pitch_um, "GRBG")
    assert calibration.setting.f_number == calibration.wavefront.f_number == design.f_number
    assert calibration.noise.white_dn[0] == design.white_dn
    corners = np.array([[0.0, 0.0], [127.0, 0.0], [0.0, 95.0], [127.0, 95.0]])
    assert np.isfinite(calibration.distortion.unproject(corners, "B")).all()


@pytest.mark.parametrize(("name", "sign"), [("phone", -1), ("wide", -1), ("tele", 1)])
def test_barrel_pulls_in_and_pincushion_pushes_out(name, sign):
    design = DESIGNS[name]
    layout = Layout(640, 480, design.focal_widths)
    edge = np.array([[0.5 / design.focal_widths, 0.0]])
    stretched = (ideal_to_distorted(design, layout, edge, 1) - layout.centre)[0, 0] / (layout.focal * edge[0, 0])
    assert sign * (stretched - 1) > 0.01


def test_a_monochrome_camera_has_one_channel_and_sees_the_designs_green():
    mono = camera_of(PHONE, 96, 72, tiles=(2, 3), half_px=4, cfa="mono").at()
    colour = phone_like(96, 72, tiles=(2, 3), half_px=4).at()
    assert mono.psf_grid.channels == ("Y",)
    np.testing.assert_array_equal(mono.psf_grid.kernels[0], colour.psf_grid.kernels[1])
    np.testing.assert_array_equal(mono.distortion.coefficients[0], colour.distortion.coefficients[1])
    assert mono.wavefront.wavelength_nm == pytest.approx([535.0])


def test_gain_scales_the_wavefront_and_leaves_axial_colour():
    doubled = replace(PHONE, wavefront_gain=2.0)
    np.testing.assert_allclose(at(doubled, 3, 1), 2 * at(PHONE, 3, 1))
    np.testing.assert_allclose(at(doubled, 2, 0, 0) - at(doubled, 2, 0, 1), PHONE.axial_colour_nm[0])


def test_higher_terms_grow_as_their_power_of_the_field_and_turn_with_it():
    design = replace(PHONE, higher_nm=(((4, 2), 20.0),), last_noll=15)
    x, y = LAYOUT.centre + 200.0 * np.array([np.cos(0.3), np.sin(0.3)])
    cos, sin = (at(design, 4, m, nodes=(np.array([x]), np.array([y])))[0, 0] for m in (2, -2))
    assert np.hypot(cos, sin) == pytest.approx(20.0 * (200 / 400) ** 2)
    assert np.arctan2(sin, cos) == pytest.approx(0.6)


def test_a_spot_changes_its_place_alone():
    plain, spotted = (at(design, 2, 2) for design in (PHONE, with_spot(PHONE)))
    change = spotted - plain
    gx, gy = np.meshgrid(*NODES_PX)
    away = np.hypot(gx - SPOT.centre[0] * 640, gy - SPOT.centre[1] * 480)
    np.testing.assert_allclose(change[away < 0.5 * SPOT.radius_px], -50.0, rtol=5e-3)
    np.testing.assert_allclose(change[away > 1.5 * SPOT.radius_px], 0.0, atol=1e-6)


def test_a_spots_edge_lies_at_its_radius():
    spot = Spot((0.0, 0.0), 30.0, ())
    across = spot.strength(LAYOUT, np.array([0.0, 25.0, 30.0, 36.0]), np.array([0.0]))[0]
    assert across[[0, 2]] == pytest.approx([1.0, 0.5])
    assert across[1] > 0.8
    assert across[3] < 0.1


def test_a_stop_that_moves_across_the_pupil_widens_the_image_on_the_side_it_cuts():
    """A pupil cut along x passes less of the high frequencies along x; on the axis a wider stop cuts nothing."""
    clear = replace(PHONE, wavefront_gain=0.0)
    cut = replace(clear, clip_gain=0.6, clip_radius=1.05)
    ours, theirs = (camera_of(d, 96, 72, tiles=(3, 3), half_px=6).at().psf_grid.kernels[1] for d in (cut, clear))

    def mtf(kernel, axis):
        return np.abs(np.fft.rfft(kernel.sum(axis)))[8]

    loss = [mtf(ours[1, 2], axis) / mtf(theirs[1, 2], axis) for axis in (0, 1)]
    assert loss[0] < 0.95 * loss[1]
    np.testing.assert_allclose(ours[1, 1], theirs[1, 1], atol=1e-6)
