"""Calibration targets drawn to scale: as PDF and SVG for a printer, as PNG for a printer or a display.

`sheet` says what is drawn on, `drawing` what a drawing is; `points`, `boards` and `patterns` draw one chart to fit,
`screens` all of them for a display; `pdf`, `svg` and `raster` know one format each, `save` goes by a file's suffix.
"""
