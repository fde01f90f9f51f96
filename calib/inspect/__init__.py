"""What captures hold, which targets they show, and what is wrong with them."""

from __future__ import annotations

from calib.inspect.facts import Assumed
from calib.inspect.findings import Facts, Inspection, Seen, Trouble
from calib.inspect.run import inspect_file, inspect_files

__all__ = ["Assumed", "Facts", "Inspection", "Seen", "Trouble", "inspect_file", "inspect_files"]
