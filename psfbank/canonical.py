"""JSON with one spelling for one content, so that digests of it mean something."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from psfbank.errors import CorruptBankError


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """Encode as UTF-8 JSON with sorted keys and no spaces; numbers that are not finite become null.

    Parameters
    ----------
    value : mapping
        Of JSON's own types, tuples, mappings, numpy scalars and arrays.

    Returns
    -------
    bytes

    Raises
    ------
    TypeError
        On any other type.
    """
    return json.dumps(
        json_ready(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def json_ready(value: Any) -> Any:
    """Turn mappings, tuples, arrays and numpy scalars into JSON's own types; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return json_ready(value.tolist())
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def parse_json(data: bytes, name: str) -> dict[str, Any]:
    """Decode an object that `canonical_json` wrote; CorruptBankError when it is none."""

    def refuse(token: str) -> Any:
        raise ValueError(f"{token} is not JSON")

    try:
        value = json.loads(data.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise CorruptBankError(f"{name} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise CorruptBankError(f"{name} is not a JSON object")
    return value
