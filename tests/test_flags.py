import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank.flags import Flag


def test_every_flag_is_one_bit_of_its_own() -> None:
    bits = [int(flag) for flag in Flag if flag]

    assert all(bit.bit_count() == 1 for bit in bits)
    assert len(set(bits)) == len(bits)


def test_a_bank_keeps_every_flag_in_sixteen_bits() -> None:
    assert np.uint16(sum(Flag)) == sum(Flag)


@pytest.mark.parametrize(
    ("flag", "words"),
    [(Flag.GOOD, "good"), (Flag.FILLED, "filled"), (Flag.SATURATED | Flag.LOW_SNR, "saturated, low_snr")],
)
def test_words(flag: Flag, words: str) -> None:
    assert flag.words() == words


@given(st.sets(st.sampled_from([flag for flag in Flag if flag]), min_size=1))
def test_words_name_exactly_the_flags_that_are_set(flags: set[Flag]) -> None:
    combined = Flag(sum(flags))

    assert {Flag[word.upper()] for word in combined.words().split(", ")} == flags


def test_the_values_in_existing_banks_keep_their_meaning() -> None:
    assert [Flag.SATURATED, Flag.OUTLIER, Flag.FILLED, Flag.PARTIAL, Flag.UNSHARP] == [1, 16, 128, 512, 2048]
