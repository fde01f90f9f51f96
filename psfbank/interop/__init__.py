"""A calibration in the formats of other programs, one small module each, and `export`, which writes any of them.

What a format's model cannot hold is fitted; the loss, pixels between its predictions and our map over the valid region,
is measured at places that the fit did not use.
"""

from __future__ import annotations

from psfbank.interop.export import FORMATS as FORMATS
from psfbank.interop.export import MODELS as MODELS
from psfbank.interop.export import SUFFIXES as SUFFIXES
from psfbank.interop.export import Exported as Exported
from psfbank.interop.export import Format as Format
from psfbank.interop.export import export as export
from psfbank.interop.loss import Loss as Loss
