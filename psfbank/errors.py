"""Every exception psfbank raises on purpose: what happened, where, and what to try."""

from __future__ import annotations


class PsfBankError(Exception):
    """Base of all of psfbank's own errors.

    Parameters
    ----------
    what : str
        What happened, as a sentence without its full stop.
    where : str
        The file, capture, field or dataset it happened in.
    remedy : str
        What the user can try.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what)  # what unpickling calls us with; the rest travels in __dict__

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}. {self.remedy}" if self.remedy else head


class BankFormatError(PsfBankError):
    """A bank file cannot be used."""


class CorruptBankError(BankFormatError):
    """A bank file is damaged: a digest, a shape or a physical invariant does not hold."""


class UnsafeBankError(BankFormatError):
    """A bank file uses an HDF5 feature that psfbank never writes and will not follow."""


class UnsupportedSchemaError(BankFormatError):
    """A bank file has another major schema version, or is no bank at all."""


class CalibrationError(PsfBankError):
    """A session, or a part of it, cannot be calibrated."""


class ManifestError(CalibrationError):
    """capture.toml is wrong: the message names the file, the field and the remedy."""


class CaptureUnusable(CalibrationError):
    """One capture cannot be used: wrong size, unreadable, saturated, black, gamma-coded without saying so."""


class NoTargetFound(CalibrationError):
    """The target that capture.toml announces is not in the picture."""


class FitFailed(CalibrationError):
    """An estimate did not converge, or too little data supports it."""


class MissingPartError(PsfBankError):
    """A calibration is asked for a part that its session did not capture."""


class AmbiguousSettingError(PsfBankError):
    """A bank holds several settings and the request does not single one out."""


class OutOfFieldError(PsfBankError):
    """A place or a setting lies outside what was calibrated."""


class ImageError(PsfBankError):
    """A picture cannot be read, written or taken as linear light."""


class ColourError(PsfBankError):
    """A table of colour matrices cannot be used."""


class ExportError(PsfBankError):
    """A calibration cannot be written in another program's format."""


class ComparisonError(PsfBankError):
    """Two calibrations have nothing in common that could be compared."""


class TargetError(PsfBankError):
    """A chart cannot be drawn: it does not fit its page, or no printer or display can show it."""


class ReportError(PsfBankError):
    """A report cannot be written."""
