"""One self-contained HTML page of a calibration: opens offline, prints, reads in the light and in the dark."""

from calib.report.page import report_html, write_report
from calib.report.verdict import Verdict, WorstTile

__all__ = ["Verdict", "WorstTile", "report_html", "write_report"]
