"""How long work tells how far it is: `report(step, done, total)`."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """Report nothing."""
