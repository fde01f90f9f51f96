from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfbank.canonical import canonical_json, parse_json
from psfbank.errors import CorruptBankError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), JSON))
def test_json_round_trip(value: dict[str, object]) -> None:
    assert parse_json(canonical_json(value), "x") == value


def test_json_is_canonical() -> None:
    value = {"b": np.float64(0.5), "a": (np.int32(3), np.array([1.0, np.nan])), "c": {"d": float("inf"), "e": "µ"}}
    assert canonical_json(value).decode() == '{"a":[3,[1.0,null]],"b":0.5,"c":{"d":null,"e":"µ"}}'
    with pytest.raises(TypeError):
        canonical_json({"a": object()})


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b'{"a":NaN}', b"\xff", b"[" * 100_000])
def test_json_that_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptBankError, match="JSON"):
        parse_json(data, "/x")
