import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from psfbank.arrays import frozen, require_finite, require_increasing, require_shape


def test_frozen_cannot_be_written_to() -> None:
    array = frozen([[1, 2]], np.float64, "xy_px", "N,2")

    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 3


def test_frozen_is_a_copy_that_the_caller_cannot_change() -> None:
    given_array = np.zeros((2, 2))

    array = frozen(given_array, np.float64, "xy_px", "N,2")
    given_array[:] = 7

    assert given_array.flags.writeable
    assert not array.any()


@given(npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=2), elements=st.floats(-1e6, 1e6, width=32)))
def test_frozen_keeps_values_and_makes_them_contiguous(values: np.ndarray) -> None:
    array = frozen(values.T, np.float64, "pixels", "H,W")

    assert array.dtype == np.float64
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, values.T)


def test_frozen_names_the_array_and_the_shape_it_wants() -> None:
    with pytest.raises(ValueError, match=r"`kernels` must have shape \(C,Ty,Tx,K,K\), got \(3, 5, 5\)"):
        frozen(np.zeros((3, 5, 5)), np.float32, "kernels", "C,Ty,Tx,K,K")


@pytest.mark.parametrize(
    ("values", "shape"),
    [(np.zeros((4, 3)), "N,2"), (np.zeros((3, 2)), "3,3"), (np.zeros((2, 5, 6)), "N,P,P"), (0, "N")],
)
def test_frozen_refuses_another_shape(values: np.ndarray, shape: str) -> None:
    with pytest.raises(ValueError, match="`patch` must have shape"):
        frozen(values, np.float64, "patch", shape)


def test_require_shape() -> None:
    require_shape(np.zeros((2, 3)), "flags", (2, 3))
    with pytest.raises(ValueError, match=r"`flags` must have shape \(3, 2\), got \(2, 3\)"):
        require_shape(np.zeros((2, 3)), "flags", (3, 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_require_finite(bad: float) -> None:
    require_finite(np.zeros(3), "relative")
    with pytest.raises(ValueError, match="`relative` holds 2 values that are not finite"):
        require_finite(np.array([0.0, bad, bad]), "relative")


@pytest.mark.parametrize("values", [[], [1.0, 1.0], [2.0, 1.0], [0.0, np.nan], [np.nan], [0.0, np.inf]])
def test_require_increasing_refuses(values: list[float]) -> None:
    with pytest.raises(ValueError, match="`x_px` must be finite, increase strictly"):
        require_increasing(np.array(values), "x_px")


@given(st.sets(st.floats(-1e6, 1e6), min_size=1))
def test_require_increasing_accepts_sorted_places(values: set[float]) -> None:
    require_increasing(np.array(sorted(values)), "x_px")
