"""What the page says beside its figures."""

from __future__ import annotations

CAPTIONS = {
    "psf": (
        "PSFs where they belong in the picture, each stamp up to 10 px wide; left on a linear scale, right on a "
        "logarithmic one over four decades. One scale for all channels."
    ),
    "encircled-energy": (
        "Light within circles about the centroid: at the tile nearest to the middle, half-way out, and outermost."
    ),
    "mtf50": (
        "MTF50 of every tile, lens and pixel together: sagittal across the radius, tangential along it, and one "
        "standard deviation, which follows from the PSFs' own."
    ),
    "mtf": "MTF at four image heights, half the diagonal being 1; the mean of the tiles there.",
    "mtf50-height": (
        "MTF50 of every tile with its error bar, and the mean of each quadrant. The grey band spans the quadrants: "
        "where it is wide the lens is decentred or tilted."
    ),
    "distortion": (
        "Left: from where the scale of the picture's middle would put a point to where it lands; contours tell the "
        "distance in pixels, the dashed outline the region that the calibration saw. Right: local geometric "
        "distortion after ISO 17850, mean and spread over all azimuths."
    ),
    "uncertainty": "One standard deviation of where light lands, the frame's own rotation apart.",
    "lateral-colour": "How far red and blue land from green; contours tell the distance in pixels.",
    "zernike": "Zernike coefficients (n, m) of the optics with their standard errors; piston and tilt blur nothing.",
    "wavefront": (
        "RMS wavefront error without piston and tilt, and the Strehl ratio that it leaves to a full circular pupil."
    ),
    "aberrations": (
        "Astigmatism: a line along the meridian on which the wavefront is highest. Coma: an arrow to its higher side."
    ),
    "noise": "Noise as the calibrated model has it, up to saturation: read noise, photons and PRNU.",
    "shading": "Relative illumination, a contour each tenth.",
    "chi2": (
        "Chi2 per sample of the images that the fit used, and of those held in reserve, which it never saw: 1 where "
        "PSFs and images agree to within the noise. Empty tiles had none."
    ),
    "residuals": "Mean of data minus model about the lights of each tile, 21 px wide: structure means misfit.",
    "edges": "MTF50 that slanted edges show against that of the PSFs at the same places and in the same direction.",
}
SIGNS_OPEN = (
    "The sign of the even terms is not known: turning all of them over gives the same PSF. Frames at several focus "
    "positions would settle it."
)
ABSENT = {
    "psf": "No PSFs: the session had no captures that tell them.",
    "mtf": "No MTF: it is that of the PSFs.",
    "distortion": "No distortion map: the session had no chessboards.",
    "lateral": "No lateral colour: it takes a distortion map of several colours.",
    "wavefront": "No wavefront: none was fitted.",
    "sensor": "Neither noise nor shading: the session had no flats.",
    "validation": "No observations held in reserve and no slanted edges.",
}
