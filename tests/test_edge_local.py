"""What steps of the wrong width leave is added back; noise is not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from edge_charts import Blur, profile_of

from calib.edge.local import add_local
from calib.edge.shape import esf_columns, lsf_columns, otf_columns
from calib.edge.trunk import Estimate, Profile

FREQ_CPP = np.arange(129) / 128
FINE_PX = np.arange(-128, 129) / 8
TOLD = FREQ_CPP < 0.5
LEVELS = 2  # columns: the dark level and the step
TRUE = Blur(0.9, pixel=True)
ANGLE = 0.2

Array = npt.NDArray[np.float64]


def levels_alone(profile: Profile, sigma_px: float, shift_px: float = 0.0) -> Estimate:
    """Fit a step's levels, and no more: an estimate that is linear in the samples and wrong about place and width."""

    def columns(x: Array) -> Array:
        return esf_columns(x - shift_px, sigma_px, np.array([0.0, 1.0]), (), 2)[:, :LEVELS]

    at = columns(profile.x_px)
    of = np.linalg.solve(at.T @ (at * profile.weight[:, None]), at.T * profile.weight)
    transform = otf_columns(FREQ_CPP, sigma_px, (), 2)[:, :LEVELS]
    levels = of @ profile.value
    return Estimate(
        esf=at @ levels,
        esf_of=at @ of,
        otf=transform @ levels,
        otf_of=transform @ of,
        fine_esf=columns(FINE_PX) @ levels,
        fine_lsf=lsf_columns(FINE_PX - shift_px, sigma_px, (), 2)[:, :LEVELS] @ levels,
        spread=np.zeros((1, len(FREQ_CPP)), dtype=np.complex128),
        middle_px=shift_px,
        blur_px=sigma_px,
    )


def true_esf(x: Array) -> Array:
    return TRUE.esf(x, ANGLE)


def off_by(estimate: Estimate) -> float:
    modulus = np.abs(estimate.otf) / estimate.otf[0].real
    return float(np.abs(modulus - TRUE.otf(FREQ_CPP, ANGLE))[TOLD].max())


@pytest.mark.parametrize("share", [0.75, 0.85, 1.15])
@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_a_trunk_of_the_wrong_width_is_mended(share: float, noise: float) -> None:
    profile = profile_of(true_esf, noise)
    trunk = levels_alone(profile, share * 0.945)  # the pixel widens the Gaussian by a little
    found = add_local(profile, trunk, FREQ_CPP, FINE_PX)

    assert off_by(trunk) > 0.08
    assert off_by(found) < 0.02
    np.testing.assert_allclose(found.esf, true_esf(profile.x_px), atol=1e-3 + 4 * noise)
    np.testing.assert_allclose(found.fine_esf, true_esf(FINE_PX), atol=2e-3 + 4 * noise)
    lsf = (true_esf(FINE_PX + 1e-4) - true_esf(FINE_PX - 1e-4)) / 2e-4
    np.testing.assert_allclose(found.fine_lsf, lsf, atol=5e-3 + 4 * noise)


@pytest.mark.parametrize("shift_px", [-0.15, 0.15])
def test_a_trunk_in_the_wrong_place_is_moved_towards_the_right_one(shift_px: float) -> None:
    profile = profile_of(true_esf)
    found = add_local(profile, levels_alone(profile, 0.945, shift_px), FREQ_CPP, FINE_PX)

    assert np.sum(FINE_PX * found.fine_lsf) / np.sum(found.fine_lsf) == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(found.esf, true_esf(profile.x_px), atol=2e-3)
    assert off_by(found) < 0.005, "what is added lies about the same middle as what it is added to"


def test_what_is_added_is_linear_in_the_samples() -> None:
    profile = profile_of(true_esf, 0.003)
    found = add_local(profile, levels_alone(profile, 0.8), FREQ_CPP, FINE_PX)

    np.testing.assert_allclose(found.esf_of @ profile.value, found.esf, atol=1e-9)
    np.testing.assert_allclose(found.otf_of @ profile.value, found.otf, atol=1e-9)


def test_noise_alone_adds_nothing_in_nearly_all_cases() -> None:
    changed = 0
    for seed in range(80):
        profile = profile_of(lambda x: Blur(0.9).esf(x, 0.0), 0.01, seed)
        trunk = levels_alone(profile, 0.9)
        changed += not np.array_equal(add_local(profile, trunk, FREQ_CPP, FINE_PX).otf, trunk.otf)

    assert changed <= 4


def test_a_ripple_that_stands_above_the_noise_is_seen_and_one_below_is_not() -> None:
    """As of a double image, far out where no blurred step reaches."""

    def light(height: float) -> Profile:
        ghost = Blur(1.5)
        return profile_of(lambda x: Blur(0.9).esf(x, 0.0) + height * (ghost.esf(x - 7, 0.0) - 0.5), 0.004)

    for height, seen in ((0.05, True), (1e-4, False)):
        profile = light(height)
        trunk = levels_alone(profile, 0.9)
        found = add_local(profile, trunk, FREQ_CPP, FINE_PX)
        assert np.array_equal(found.esf, trunk.esf) != seen
        left = np.abs(found.esf - light(height).value)[np.abs(profile.x_px - 7) < 2]
        assert np.median(left) < 0.006
