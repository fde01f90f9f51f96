"""Bank files: atomic `save`, guarded `load`, and `verify`; the only place that touches HDF5.

The digests find damage and careless edits. They are no signature: whoever can write a file can also write its digests.
"""

from __future__ import annotations

from psfbank.store.isolated import summary_of as summary_of
from psfbank.store.isolated import verify_isolated as verify_isolated
from psfbank.store.reader import BankSummary as BankSummary
from psfbank.store.reader import DatasetSummary as DatasetSummary
from psfbank.store.reader import SettingSummary as SettingSummary
from psfbank.store.reader import load as load
from psfbank.store.reader import verify as verify
from psfbank.store.writer import save as save

__all__ = ["BankSummary", "DatasetSummary", "SettingSummary", "load", "save", "summary_of", "verify", "verify_isolated"]
