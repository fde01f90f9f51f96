"""What commands say: results on stdout; progress, log and errors on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from calib.progress import Report

# file names and a camera's own words are shown as they are: no brackets or colons read as markup
stdout = Console(highlight=False, markup=False, emoji=False)
stderr = Console(highlight=False, markup=False, emoji=False, stderr=True)
log = logging.getLogger(__name__)

_WIDEST = 1000  # characters
_STYLES = {"warning": "yellow", "error": "bold red"}


class _StderrHandler(logging.Handler):
    """Log records as "level: message" lines, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        prefix = "" if level == "info" else f"{level}: "
        stderr.print(Text.assemble((prefix, _STYLES.get(level, "dim")), self.format(record)), soft_wrap=True)


def set_up_logging(verbose: bool) -> None:
    """Send the log of psfbank and calib to stderr, debug messages and tracebacks only when `verbose`."""
    handler = _StderrHandler()
    for name in ("psfbank", "calib"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def fail(error: BaseException, message: str) -> None:
    """Print one "error: ..." line; the traceback follows when the log shows debug messages."""
    log.debug("traceback", exc_info=error)
    log.error(message)


@contextmanager
def progress() -> Iterator[Report]:
    """Show how far the work inside is: a bar a step on a terminal, a line a step elsewhere.

    Yields
    ------
    Report
        `report(step, done, total)`, to be handed to library code.
    """
    if stderr.is_terminal:
        with _bars() as report:
            yield report
    else:
        begun: set[str] = set()

        def note(step: str, done: int, total: int) -> None:
            if step not in begun:
                begun.add(step)
                log.info(step)

        yield note


@contextmanager
def _bars() -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield report


def print_whole(table: Table) -> None:
    """Print a table as wide as it is, in a narrow window or a pipe too: figures cut short are none."""
    width = stdout.measure(table, options=stdout.options.update(width=_WIDEST)).maximum
    Console(file=stdout.file, width=width, highlight=False, markup=False, emoji=False).print(table)


def print_json(result: Mapping[str, Any]) -> None:
    """Print exactly one JSON object on stdout; arrays become lists, NaN and infinities null."""
    from psfbank.canonical import json_ready

    sys.stdout.write(json.dumps(json_ready(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
