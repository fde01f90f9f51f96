"""Array types, and the guards that every domain type applies to its arrays."""

from __future__ import annotations

from dataclasses import fields
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
ComplexArray = npt.NDArray[np.complexfloating[Any, Any]]
IntArray = npt.NDArray[np.integer[Any]]
BoolArray = npt.NDArray[np.bool_]


def frozen(values: npt.ArrayLike, dtype: npt.DTypeLike, name: str, shape: str) -> npt.NDArray[Any]:
    """Copy `values` into a read-only array of the wanted shape.

    Parameters
    ----------
    values : array_like
    dtype : dtype
        Type of the copy.
    name : str
        Name used in the message.
    shape : str
        The shape in words, "C,Ty,Tx,K,K" or "N,2": a number fixes an axis, a word that comes twice ties two.

    Returns
    -------
    ndarray
        C-contiguous and read-only.

    Raises
    ------
    ValueError
        When the shape differs.
    """
    array = np.array(values, dtype=dtype, order="C")
    words, sizes = shape.split(","), dict[str, int]()
    wanted = [
        int(word) if word.isdigit() else sizes.setdefault(word, n) for word, n in zip(words, array.shape, strict=False)
    ]
    if array.ndim != len(words) or list(array.shape) != wanted:
        raise ValueError(f"`{name}` must have shape ({shape}), got {array.shape}")
    array.flags.writeable = False
    return array


def freeze(instance: Any, dtype: npt.DTypeLike, **shapes: str) -> None:
    """Replace array fields of a frozen dataclass by `frozen` copies; keywords are fields and their shapes in words."""
    for name, shape in shapes.items():
        object.__setattr__(instance, name, frozen(getattr(instance, name), dtype, name, shape))


def require_shape(array: npt.NDArray[Any], name: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `array` has exactly this shape."""
    if array.shape != shape:
        raise ValueError(f"`{name}` must have shape {shape}, got {array.shape}")


def require_finite(array: npt.NDArray[Any], name: str) -> None:
    """Raise ValueError when `array` holds a NaN or an infinity."""
    if not np.all(np.isfinite(array)):
        raise ValueError(f"`{name}` holds {int(np.sum(~np.isfinite(array)))} values that are not finite")


def require_increasing(array: npt.NDArray[Any], name: str) -> None:
    """Raise ValueError unless a 1-D array is finite and increases strictly."""
    if array.size == 0 or not np.all(np.isfinite(array)) or not np.all(np.diff(array) > 0):
        raise ValueError(f"`{name}` must be finite, increase strictly and hold at least one value")


def channel_index(channels: tuple[str, ...], channel: str) -> int:
    """Position of a channel; the only channel of a monochrome camera answers to every name."""
    if len(channels) == 1:
        return 0
    if channel not in channels:
        raise ValueError(f"no channel {channel!r}; there are {', '.join(channels)}")
    return channels.index(channel)


def by_constructor(instance: Any) -> tuple[type, tuple[Any, ...]]:
    """Pickle a dataclass as a call of its constructor, as its `__reduce__`.

    Plain pickling would skip the checks and hand back writeable arrays.
    """
    values = (getattr(instance, f.name) for f in fields(instance))
    return type(instance), tuple(dict(v) if isinstance(v, MappingProxyType) else v for v in values)
