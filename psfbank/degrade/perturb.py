"""Lenses like the one that was calibrated: its wavefront changed a little, its PSFs rendered anew.

A unit of the same lens, or the same one a little out of focus, differs from the calibrated one by a smooth field of
aberrations. The change is added to the coefficients at every node, the same nm for all channels, as a path in air or
glass is; what the nodes' kernels hold beyond their own wavefront is kept.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from psfbank.arrays import FloatArray, IntArray
from psfbank.degrade.lens import FIRST_TERM, ray_radii_px
from psfbank.errors import MissingPartError
from psfbank.model import Calibration
from psfbank.optics import ZernikeField
from psfbank.render import FieldRenderer, unit_sum
from psfbank.zernike import noll_terms

DEFOCUS = (2, 0)
SHARE_INSIDE = 0.95  # of the rays of a change that must land within the kernels


def perturbed(
    cal: Calibration,
    rng: np.random.Generator,
    *,
    defocus_nm: float = 0.0,
    tilt_nm: tuple[float, float] = (0.0, 0.0),
    rms_nm: float = 0.0,
    last_term: int = 15,
    degree: int = 2,
    half_px: int | None = None,
) -> Calibration:
    """Make a calibration of a lens that differs from a calibrated one.

    Parameters
    ----------
    cal : Calibration
        With PSFs and a wavefront that they can be rendered from.
    rng : Generator
        Of the random part; the rest does not depend on it.
    defocus_nm : float
        Added to defocus, Noll's fourth term, everywhere; nm RMS.
    tilt_nm : (x, y) float
        A tilt of the field, as of a sensor mounted askew: added to defocus at the outermost nodes to the right and at
        the bottom, subtracted at those opposite.
    rms_nm : float
        RMS of the random part over all nodes, the sum over terms.
    last_term : int
        Random are Noll's terms 4 to this one, each a random polynomial of `degree` over the field.
    degree : int
        0 is the same change all over the field.
    half_px : int, optional
        Half width of the new kernels, pixels; by default the calibration's.

    Returns
    -------
    Calibration
        With the changed wavefront and kernels, each of unit sum and not negative, its centroid at the array centre as
        nearly as the calibration's are; the map of positions stays. What was measured of the old kernels is left out.

    Raises
    ------
    MissingPartError
        When the calibration has no wavefront to render from.
    ValueError
        When the change throws light beyond the kernels.
    """
    grid, wavefront, renderer = cal.psf_grid, cal.wavefront, cal.renderer
    if grid is None or wavefront is None or renderer is None or wavefront.imaging is None:
        raise MissingPartError(
            "this calibration has no wavefront that PSFs could be rendered from",
            remedy="Calibrate a session with `led` captures, f-number and wavelengths, or use `zernike_blur` instead",
        )
    terms = noll_terms(FIRST_TERM, max(FIRST_TERM, last_term if rms_nm else FIRST_TERM))
    across, down = _outward(wavefront.x_px), _outward(wavefront.y_px)
    change = rms_nm * _random_field(across, down, len(terms), degree, rng) if rms_nm else np.zeros(())
    change = np.broadcast_to(change, (len(down), len(across), len(terms))).copy()
    change[..., terms.tolist().index(list(DEFOCUS))] += defocus_nm + tilt_nm[0] * across + tilt_nm[1] * down[:, None]
    size = grid.kernels.shape[-1] if half_px is None else 2 * half_px * grid.oversample + 1
    _require_room(change.reshape(-1, len(terms)), terms, wavefront, size // 2 / grid.oversample)
    changed = _added(wavefront, change, terms)
    blank = np.zeros((*grid.kernels.shape[:3], size, size), dtype=np.float32)
    fresh = FieldRenderer.of(grid.x_px, grid.y_px, blank, grid.oversample, changed, wavefront.imaging)
    kernels = blank.copy()
    for c, j, i in np.ndindex(*kernels.shape[:3]):
        kernel = fresh.wavefront_kernel(c, float(grid.x_px[i]), float(grid.y_px[j]))
        kernels[c, j, i] = unit_sum(kernel + _fitted(renderer.remainder(c, j, i), size))
    told = {"defocus_nm": defocus_nm, "tilt_nm": list(tilt_nm), "rms_nm": rms_nm, "last_term": last_term}
    return replace(
        cal,
        psf_grid=replace(grid, kernels=kernels, n_obs=np.zeros(kernels.shape[:3], dtype=np.int32)),
        wavefront=changed,
        provenance={**cal.provenance, "perturbed": {**told, "degree": degree}},
        evidence=None,
        edges=None,
    )


def _outward(nodes: FloatArray) -> npt.NDArray[np.float64]:
    """Nodes brought to -1 .. 1; a single one to 0."""
    half = max(float(np.ptp(nodes)) / 2, 1e-9)
    return np.asarray((nodes - (nodes[0] + nodes[-1]) / 2) / half)


def _random_field(
    across: FloatArray, down: FloatArray, count: int, degree: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Random polynomials (Ty, Tx, count) over the field, whose sum of squares is one on the mean of the nodes."""
    shares = rng.standard_normal((degree + 1, degree + 1, count))
    shares[np.add.outer(np.arange(degree + 1), np.arange(degree + 1)) > degree] = 0
    legendre = [np.polynomial.legendre.legvander(at, degree) for at in (down, across)]
    change = np.einsum("yp,pqj,xq->yxj", legendre[0], shares, legendre[1], optimize=True)
    return np.asarray(change / np.sqrt(np.mean(np.sum(change**2, axis=-1))))


def _added(wavefront: ZernikeField, change: FloatArray, terms: IntArray) -> ZernikeField:
    """Add coefficients (Ty, Tx, T) of terms (T, 2) to all channels, and the terms that were not there."""
    known = [tuple(term) for term in wavefront.nm.tolist()]
    new = [tuple(term) for k, term in enumerate(terms.tolist()) if tuple(term) not in known and change[..., k].any()]
    nm = np.array(known + new, dtype=np.int32).reshape(-1, 2)
    beyond = ((0, 0), (0, 0), (0, 0), (0, len(new)))
    coefficients = np.pad(wavefront.coefficients_nm, beyond)
    for k, term in enumerate(terms.tolist()):
        if tuple(term) in known + new:
            coefficients[..., (known + new).index(tuple(term))] += change[..., k]
    stderr = np.pad(wavefront.stderr_nm, beyond, constant_values=np.nan)
    return replace(wavefront, nm=nm, coefficients_nm=coefficients, stderr_nm=stderr)


def _require_room(change: FloatArray, terms: IntArray, wavefront: ZernikeField, half_px: float) -> None:
    imaging = wavefront.imaging
    assert imaging is not None  # noqa: S101 the caller has seen it
    radii_px = np.quantile(ray_radii_px(change, terms, wavefront.f_number, imaging.pitch_um), SHARE_INSIDE, axis=1)
    if radii_px.max() > half_px:
        raise ValueError(
            f"this change throws light {radii_px.max():.1f} px to each side, and kernels reach {half_px:.1f}; "
            f"change less, or give `half_px`"
        )


def _fitted(kernel: FloatArray, size: int) -> FloatArray:
    """Kernel (K, K) cut or padded with zeros to (size, size) about its centre."""
    more = (size - kernel.shape[0]) // 2
    return np.pad(kernel, more) if more >= 0 else kernel[-more:more, -more:more]
