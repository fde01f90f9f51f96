"""The table of the bank file, schema psfbank 1.4: every attribute and dataset, and the domain type that holds it.

It drives the writer, the guard, the reader, the manifest and docs/file_format.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from psfbank.model import (
    Axis,
    DistortionMap,
    EdgeResponses,
    Illumination,
    Imaging,
    MapUncertainty,
    NoiseByIso,
    NoiseModel,
    PsfEvidence,
    PsfGrid,
    ZernikeField,
)

SCHEMA = "psfbank"
VERSION = "1.4"
MAX_SETTINGS = 1000


@dataclass(frozen=True)
class Row:
    """One dataset ("psf/kernels") or attribute ("psf@oversample") of the file.

    A path that starts with "/" is the file's own, any other lies below the group of a setting, /settings/NNN. `dtype`
    is a little-endian numpy type, or "text" (fixed-length UTF-8). `dims` names the axes; attributes are scalars.
    `field` is the field of the domain type that it holds; `constant` is a text that never varies. Files of a version
    before `since` have none of it.
    """

    path: str
    dtype: str
    dims: str
    units: str
    long_name: str
    field: str = ""
    constant: str = ""
    since: str = "1.0"

    @property
    def is_attribute(self) -> bool:
        """Whether this row is an attribute of a group."""
        return "@" in self.path

    @property
    def group(self) -> str:
        """The group below the setting ("psf", "zernike/imaging"), or "" for the setting itself."""
        return re.split("[/@](?=[^/@]*$)", self.path)[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return re.split("[/@]", self.path)[-1]

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.dims.split(",")) if self.dims else 0


@dataclass(frozen=True)
class Part:
    """A group of a setting and the field of `Calibration` that it holds; every part is optional, as a whole.

    `parts` are groups inside the group, for fields of the part's own, optional likewise.
    """

    group: str
    field: str
    kind: type
    on_grid: bool
    parts: tuple[Part, ...] = ()


_PARTS_OF_WAVEFRONT = (Part("zernike/imaging", "imaging", Imaging, on_grid=False),)
_PARTS_OF_DISTORTION = (Part("distortion/uncertainty", "uncertainty", MapUncertainty, on_grid=False),)
PARTS = (
    Part("psf", "psf_grid", PsfGrid, on_grid=True),
    Part("zernike", "wavefront", ZernikeField, on_grid=True, parts=_PARTS_OF_WAVEFRONT),
    Part("distortion", "distortion", DistortionMap, on_grid=False, parts=_PARTS_OF_DISTORTION),
    Part("illumination", "illumination", Illumination, on_grid=True),
    Part("noise", "noise", NoiseModel, on_grid=False),
    Part("noise/by_iso", "noise_by_iso", NoiseByIso, on_grid=False),
    Part("evidence", "evidence", PsfEvidence, on_grid=True),
    Part("evidence/edges", "edges", EdgeResponses, on_grid=False),
    Part("axis", "axis", Axis, on_grid=False),
)

TABLE = (
    Row("/@schema", "text", "", "", "name of the schema", constant=SCHEMA),
    Row("/@schema_version", "text", "", "", "major.minor; readers accept every minor version of their major one"),
    Row("/@generator", "text", "", "", "program and version that wrote the file"),
    Row("/@camera_maker", "text", "", "", "maker of the camera", "maker"),
    Row("/@camera_model", "text", "", "", "model of the camera", "model"),
    Row("/@camera_serial", "text", "", "", "serial number of the camera", "serial"),
    Row("/@lens", "text", "", "", "lens", "lens"),
    Row("/@height_px", "<i4", "", "px", "rows of the image"),
    Row("/@width_px", "<i4", "", "px", "columns of the image"),
    Row("/@pitch_um", "<f8", "", "um", "pixel pitch, NaN when unknown", "pitch_um"),
    Row("/@cfa", "text", "", "", "colours of the top-left 2 x 2 sites, or mono, or RGB", "cfa"),
    Row("/@channels", "text", "", "", "channels of the camera, joined by commas"),
    Row("/@content_sha256", "text", "", "", "SHA-256 of the manifest's bytes and of all other attributes"),
    Row("/manifest", "|u1", "P", "1", "UTF-8 JSON {path: {dtype, shape, sha256}} of every other dataset"),
    Row("/xyz_to_camera", "<f8", "3,3", "1", "CIE XYZ to camera R, G, B; since 1.4", since="1.4"),
    Row("@focal_mm", "<f8", "", "mm", "focal length, NaN when unknown", "focal_mm"),
    Row("@f_number", "<f8", "", "1", "f-number, NaN when unknown", "f_number"),
    Row("@focus_m", "<f8", "", "m", "focus distance, infinity allowed, NaN when unknown", "focus_m"),
    Row("@iso", "<f8", "", "1", "ISO speed, NaN when unknown", "iso"),
    Row(
        "@pressure_kpa",
        "<f8",
        "",
        "kPa",
        "pressure in a lens that it moves, NaN when unknown",
        "pressure_kpa",
        "",
        "1.3",
    ),
    Row("grid/x", "<f8", "Tx", "px", "x of the nodes of all that lies on tiles", "x_px"),
    Row("grid/y", "<f8", "Ty", "px", "y of the nodes of all that lies on tiles", "y_px"),
    Row("psf/kernels", "<f4", "C,Ty,Tx,K,K", "1", "effective PSF, centroid on the array centre", "kernels"),
    Row("psf/sigma", "<f4", "C,Ty,Tx", "1", "expected relative L2 error, NaN when unknown", "sigma"),
    Row("psf/n_obs", "<i4", "C,Ty,Tx", "1", "number of observations", "n_obs"),
    Row("psf/flags", "<u2", "C,Ty,Tx", "1", "bits of psfbank.flags.Flag", "flags"),
    Row("psf@oversample", "<i4", "", "1", "samples a pixel", "oversample"),
    Row("psf@channels", "text", "", "", "channels along C", "channels"),
    Row("psf@normalisation", "text", "", "", "each kernel sums to one", constant="unit_sum"),
    Row("psf@content", "text", "", "", "pixel aperture and diffusion included", constant="effective"),
    Row("zernike/coefficients", "<f8", "C,Ty,Tx,J", "nm", "RMS wavefront coefficients, optics only", "coefficients_nm"),
    Row("zernike/stderr", "<f8", "C,Ty,Tx,J", "nm", "standard errors, NaN when unknown", "stderr_nm"),
    Row("zernike/nm", "<i4", "J,2", "1", "radial degree n and azimuthal order m of the terms", "nm"),
    Row("zernike/wavelength", "<f8", "C", "nm", "wavelength", "wavelength_nm"),
    Row("zernike/residual", "<f4", "C,Ty,Tx", "1", "chi2 per sample of the observations nearest to a node", "residual"),
    Row("zernike@f_number", "<f8", "", "1", "f-number of the pupil", "f_number"),
    Row("zernike@channels", "text", "", "", "channels along C", "channels"),
    Row("zernike@normalisation", "text", "", "", "orthonormal over the unit disc", constant="orthonormal"),
    Row("zernike/imaging/wavelengths", "<f8", "C,W", "nm", "spectrum of each channel; since 1.1", "wavelengths_nm"),
    Row("zernike/imaging/weights", "<f8", "C,W", "1", "power at each wavelength; since 1.1", "weights"),
    Row("zernike/imaging/diffusion", "<f8", "C", "px", "sigma of the charge diffusion; since 1.1", "diffusion_px"),
    Row("zernike/imaging/clip", "<f8", "C,Ty,Tx,3", "1", "second stop in pupil radii: x, y, radius; since 1.1", "clip"),
    Row("zernike/imaging@pitch_um", "<f8", "", "um", "pixel pitch that PSFs are rendered with; since 1.1", "pitch_um"),
    Row("distortion/camera_matrix", "<f8", "3,3", "px", "focal lengths and centre", "camera_matrix"),
    Row("distortion/knots_x", "<f8", "Kx", "1", "knots in the x of the stereographic direction", "knots_x"),
    Row("distortion/knots_y", "<f8", "Ky", "1", "knots in the y of the stereographic direction", "knots_y"),
    Row("distortion/coefficients", "<f8", "C,2,Ny,Nx", "px", "B-spline of the displacement in x and y", "coefficients"),
    Row("distortion/valid_region", "<f8", "V,2", "px", "polygon around the data", "valid_region"),
    Row("distortion/rms", "<f8", "C", "px", "2-D residual of the fit, NaN when unknown", "rms_px"),
    Row("distortion@degree", "<i4", "", "1", "degree of the spline", "degree"),
    Row("distortion@channels", "text", "", "", "channels along C", "channels"),
    Row("distortion@direction", "text", "", "", "rays to pixels", constant="ideal_to_distorted"),
    Row("distortion/uncertainty/modes", "<f4", "C,R,2,Ny,Nx", "px", "independent unit deviations; since 1.3", "modes"),
    Row("distortion/uncertainty@heldout_rms", "<f8", "", "px", "of views held out; since 1.3", "heldout_rms_px"),
    Row("illumination/relative", "<f4", "C,Ty,Tx", "1", "relative illumination, 1 at its peak", "relative"),
    Row("illumination@channels", "text", "", "", "channels along C", "channels"),
    Row("noise/gain", "<f8", "C", "DN/e", "system gain K of EMVA 1288", "gain_dn_per_e"),
    Row("noise/read_noise", "<f8", "C", "e", "temporal dark noise", "read_noise_e"),
    Row("noise/dark", "<f8", "C", "e/s", "dark current", "dark_e_per_s"),
    Row("noise/prnu", "<f8", "C", "1", "photo-response non-uniformity", "prnu"),
    Row("noise/black", "<f8", "C", "DN", "black level", "black_dn"),
    Row("noise/white", "<f8", "C", "DN", "white level", "white_dn"),
    Row("noise@channels", "text", "", "", "channels along C", "channels"),
    Row("noise/by_iso/iso", "<f8", "I", "1", "ISO speeds at which noise was calibrated; since 1.4", "iso"),
    Row("noise/by_iso/gain", "<f8", "I,C", "DN/e", "system gain at each; since 1.4", "gain_dn_per_e"),
    Row("noise/by_iso/read_noise", "<f8", "I,C", "e", "temporal dark noise at each; since 1.4", "read_noise_e"),
    Row("noise/by_iso/dark", "<f8", "I,C", "e/s", "dark current at each; since 1.4", "dark_e_per_s"),
    Row("noise/by_iso/prnu", "<f8", "I,C", "1", "non-uniformity at each; since 1.4", "prnu"),
    Row("noise/by_iso/black", "<f8", "I,C", "DN", "black level at each; since 1.4", "black_dn"),
    Row("noise/by_iso/white", "<f8", "I,C", "DN", "white level at each; since 1.4", "white_dn"),
    Row("noise/by_iso@channels", "text", "", "", "channels along C", "channels"),
    Row("evidence/chi2_used", "<f4", "C,Ty,Tx", "1", "chi2 per sample of images used, or NaN; since 1.1", "chi2_used"),
    Row("evidence/chi2_reserved", "<f4", "C,Ty,Tx", "1", "the same of images held back; since 1.1", "chi2_reserved"),
    Row("evidence/n_reserved", "<i4", "C,Ty,Tx", "1", "number of images held back; since 1.1", "n_reserved"),
    Row("evidence/asymmetry", "<f4", "C,Ty,Tx", "1", "rise of chi2 per image if symmetric; since 1.1", "asymmetry"),
    Row("evidence/residual", "<f4", "C,Ty,Tx,P,P", "1", "data - model as share of its peak; since 1.1", "residual"),
    Row("evidence@channels", "text", "", "", "channels along C", "channels"),
    Row("evidence/edges/xy", "<f8", "N,2", "px", "middle of each slanted edge; since 1.2", "xy_px"),
    Row("evidence/edges/angle", "<f8", "N", "rad", "of its normal, to the bright side; since 1.2", "angle_rad"),
    Row("evidence/edges/channel", "<i4", "N", "1", "number of its channel; since 1.2", "channel"),
    Row("evidence/edges/freq", "<f8", "F", "cycles/px", "frequencies along the normal; since 1.2", "freq_cpp"),
    Row("evidence/edges/mtf", "<f4", "N,F", "1", "MTF of lens and pixel; since 1.2", "mtf"),
    Row("evidence/edges/mtf_std", "<f4", "N,F", "1", "standard deviation of it, or NaN; since 1.2", "mtf_std"),
    Row("evidence/edges/mtf50", "<f8", "N", "cycles/px", "where it falls to 1/2, or NaN; since 1.2", "mtf50_cpp"),
    Row("evidence/edges/mtf50_std", "<f8", "N", "cycles/px", "deviation of that; since 1.2", "mtf50_std_cpp"),
    Row("evidence/edges/flags", "<u2", "N", "1", "bits of psfbank.flags.Flag; since 1.2", "flags"),
    Row("evidence/edges@channels", "text", "", "", "channels that numbers stand for", "channels"),
    Row(
        "axis/left_out",
        "<f8",
        "2",
        "px",
        "error of the map that other settings predict, and own held-out error; since 1.3",
        "left_out_px",
    ),
    Row("axis@key", "text", "", "", "setting that varies along the axis", "key"),
    Row("provenance", "|u1", "P", "1", "UTF-8 JSON: how this was measured; no host or user names"),
)
