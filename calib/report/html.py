"""HTML from text that nobody vouches for: every string is escaped, shortened, and freed of what hides in it."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from psfbank.canonical import json_ready

LONGEST = 240  # characters of one text
DEEPEST = 12  # levels of nested provenance
MOST_CHARACTERS = 200_000  # of one table of provenance, as it is written
# control characters, lone surrogates, and marks that turn the direction of the text around them
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def text(value: object) -> str:
    """Escape any value for an element or a quoted attribute; what cannot be seen becomes a replacement character."""
    words = str(value)
    if len(words) > LONGEST:
        words = f"{words[:LONGEST]} … ({len(words)} characters)"
    return html.escape(_HIDDEN.sub("\N{REPLACEMENT CHARACTER}", words), quote=True)


def number(value: object) -> str:
    """Write a number with four digits, nothing for NaN or None, any other value as `text`."""
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.4g}"
    return "" if value is None else text(value)


def table(head: Sequence[str], rows: Iterable[Sequence[object]], numbers: bool = True) -> str:
    """Make a table; "" without rows. The first cell of a row names it; `numbers` are set flush right."""
    body = "".join(
        f"<tr><th scope=row>{text(first)}</th>{''.join(f'<td>{number(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    if not body:
        return ""
    top = f"<thead><tr>{''.join(f'<th scope=col>{text(cell)}</th>' for cell in head)}</tr></thead>" if head else ""
    kind = "numbers" if numbers else "words"
    return f'<div class=wide><table class="{kind}">{top}<tbody>{body}</tbody></table></div>'


def nested_table(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Make a table of nested values: a row an entry where all have the same keys, else a row a leaf and its path."""
    plain = json_ready(value)
    if (
        isinstance(plain, list)
        and plain
        and all(_is_record(entry) and entry.keys() == plain[0].keys() for entry in plain)
    ):
        return table(list(plain[0]), _fitting(entry.values() for entry in plain), numbers=False)
    return table((), _fitting(_leaves(plain, "", 0)), numbers=False)


def _is_record(entry: Any) -> bool:
    return isinstance(entry, dict) and bool(entry) and not any(isinstance(v, dict | list) for v in entry.values())


def _fitting(rows: Iterable[Iterable[object]]) -> Iterator[Sequence[object]]:
    """Give rows as long as there is room for them."""
    room = MOST_CHARACTERS
    for row in rows:
        cells = list(row)
        room -= sum(len(number(cell)) for cell in cells)
        if room < 0:
            yield "…", "there is more than a page should hold; the bank has it all"
            return
        yield cells


def embedded(value: Mapping[str, Any]) -> str:
    """Write JSON that may stand in a <script> element: no `<` in it can end or open one."""
    words = json.dumps(json_ready(value), separators=(",", ":"), allow_nan=False)
    return words.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, object]]:
    inner: Iterable[tuple[object, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        inner = enumerate(value)
    if depth == DEEPEST or not inner:
        yield path, _brief(value)
        return
    for key, item in inner:
        yield from _leaves(item, f"{path}.{key}" if path else str(key), depth + 1)


def _brief(value: Any) -> object:
    if isinstance(value, list | dict) and value:
        nested = isinstance(value, dict) or any(isinstance(item, list | dict) for item in value)
        return json.dumps(value) if nested else ", ".join("none" if item is None else _plain(item) for item in value)
    return value if isinstance(value, bool | int | float) else value or "none"


def _plain(item: object) -> str:
    return f"{item:.6g}" if isinstance(item, float) else str(item)
