from __future__ import annotations

import numpy as np
import pytest

from psfbank.bank import PsfBank
from psfbank.degrade import perturbed
from psfbank.errors import MissingPartError
from psfbank.model import Calibration, ZernikeField
from psfbank.simulate import Simulator
from psfbank.zernike import centroid_px


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def wavefronts(cal: Calibration, bank: PsfBank) -> tuple[ZernikeField, ZernikeField]:
    before = bank.at().wavefront
    assert before is not None
    assert cal.wavefront is not None
    return cal.wavefront, before


def change(cal: Calibration, bank: PsfBank) -> dict[tuple[int, int], np.ndarray]:
    """What was added to each term, (C, Ty, Tx)."""
    after, before = wavefronts(cal, bank)
    known = {tuple(nm): before.coefficients_nm[..., k] for k, nm in enumerate(before.nm.tolist())}
    return {
        tuple(nm): after.coefficients_nm[..., k] - known.get(tuple(nm), 0.0) for k, nm in enumerate(after.nm.tolist())
    }


def test_no_change_gives_the_same_kernels(rendered_bank: PsfBank) -> None:
    cal, before = perturbed(rendered_bank.at(), rng()), rendered_bank.at().psf_grid
    assert cal.psf_grid is not None
    assert before is not None
    np.testing.assert_allclose(cal.psf_grid.kernels, before.kernels, atol=1e-6)


def test_a_random_change_has_the_rms_that_was_asked_for(rendered_bank: PsfBank) -> None:
    cal = perturbed(rendered_bank.at(), rng(), rms_nm=15.0, last_term=11)
    added = np.stack(list(change(cal, rendered_bank).values()))
    np.testing.assert_allclose(np.sqrt(np.mean(np.sum(added**2, axis=0), axis=(1, 2))), 15.0)
    np.testing.assert_allclose(added[:, 0], added[:, 2], err_msg="a path is the same for all colours")
    assert added.shape[0] == 8
    assert np.all(np.ptp(added, axis=(2, 3))[:, 0] > 0), "each term changes over the field"


def test_a_change_of_degree_zero_is_the_same_everywhere(rendered_bank: PsfBank) -> None:
    cal = perturbed(rendered_bank.at(), rng(), rms_nm=10.0, last_term=8, degree=0)
    for added in change(cal, rendered_bank).values():
        np.testing.assert_allclose(np.ptp(added), 0, atol=1e-9)


def test_defocus_and_a_tilted_field_add_up(rendered_bank: PsfBank) -> None:
    added = change(perturbed(rendered_bank.at(), rng(), defocus_nm=5.0, tilt_nm=(4.0, -3.0)), rendered_bank)
    defocus = added.pop((2, 0))[0]
    np.testing.assert_allclose(defocus[[0, 0, -1, -1], [0, -1, 0, -1]], [5 - 4 + 3, 5 + 4 + 3, 5 - 4 - 3, 5 + 4 - 3])
    for other in added.values():
        np.testing.assert_allclose(other, 0, atol=1e-12)


def test_a_term_that_the_wavefront_lacks_is_added(rendered_bank: PsfBank) -> None:
    after, before = wavefronts(perturbed(rendered_bank.at(), rng(), rms_nm=5.0, last_term=6), rendered_bank)
    assert after.nm[: len(before.nm)].tolist() == before.nm.tolist()
    assert {(2, 2), (2, -2)} <= {tuple(nm) for nm in after.nm.tolist()}
    assert np.isnan(after.stderr_nm[..., len(before.nm) :]).all()


@pytest.mark.parametrize("seed", range(3))
def test_kernels_stay_kernels(rendered_bank: PsfBank, seed: int) -> None:
    cal = perturbed(rendered_bank.at(), rng(seed), rms_nm=15.0, defocus_nm=8.0)
    grid = cal.psf_grid
    assert grid is not None
    np.testing.assert_allclose(grid.kernels.sum((-2, -1)), 1, atol=1e-5)
    centroids = [centroid_px(kernel, 3) for kernel in grid.kernels.reshape(-1, 15, 15)]
    np.testing.assert_allclose(centroids, 0, atol=0.02)
    np.testing.assert_allclose(cal.psf(51, 40), cal.psf(51, 40, "G"))
    assert cal.evidence is None
    assert cal.edges is None
    assert cal.provenance["perturbed"]["rms_nm"] == 15.0
    assert cal.provenance["command"] == "synthetic"


def test_defocus_widens_where_the_lens_was_sharp(rendered_bank: PsfBank) -> None:
    def peak(cal: Calibration) -> float:
        assert cal.psf_grid is not None
        return float(cal.psf_grid.kernels[1, 2, 2].max())

    assert peak(perturbed(rendered_bank.at(), rng(), defocus_nm=60.0)) < 0.95 * peak(rendered_bank.at())


def test_the_same_seed_makes_the_same_lens(rendered_bank: PsfBank) -> None:
    cal = rendered_bank.at()
    kernels = [perturbed(cal, rng(s), rms_nm=12.0).psf_grid.kernels for s in (1, 1, 2)]  # type: ignore[union-attr]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.any(kernels[0] != kernels[2])


def test_a_changed_lens_can_be_simulated(rendered_bank: PsfBank) -> None:
    cal = perturbed(rendered_bank.at(), rng(), rms_nm=15.0)
    image = rng(1).random((96, 128, 3))
    blurred = [Simulator(one, ("blur",))(image, rng()) for one in (cal, rendered_bank.at())]
    assert 1e-4 < np.abs(blurred[0] - blurred[1]).max() < 0.3


def test_a_wider_window_holds_a_stronger_change(rendered_bank: PsfBank) -> None:
    with pytest.raises(ValueError, match="give `half_px`"):
        perturbed(rendered_bank.at(), rng(), defocus_nm=300.0)
    cal = perturbed(rendered_bank.at(), rng(), defocus_nm=300.0, half_px=10)
    assert cal.psf_grid is not None
    assert cal.psf_grid.kernels.shape[-1] == 61


def test_without_a_wavefront_there_is_nothing_to_change(small_bank: PsfBank) -> None:
    with pytest.raises(MissingPartError, match="zernike_blur"):
        perturbed(small_bank.at(), rng(), defocus_nm=10.0)
