"""Down-sampling, by the kernels that the field's tools know, and back up.

Pixel k of the coarse picture covers samples s k .. s k + s - 1 of the fine one, for every method and every factor s:
one sparse matrix an axis says how much each sample counts, its rows sum to one, and it goes on as a mirror image beyond
the edges. Widened by the factor, as in Pillow and MATLAB, a kernel holds back what the coarse picture cannot show; at
its own width, as in `cv2.resize`, it only interpolates, and finer detail comes back as alias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy import sparse

from psfbank.arrays import FloatArray
from psfbank.degrade.stage import Image, admitted, described, require_choice, require_within
from psfbank.errors import ImageError

METHODS = ("nearest", "bilinear", "bicubic", "area", "gaussian", "lanczos")
SIGMA = 0.5  # of the Gaussian, in coarse pixels
LARGEST_DENOMINATOR = 64  # of a factor
Array = npt.NDArray[np.float64]


def _keys(x: FloatArray) -> Array:
    """Cubic convolution with a = -1/2 (Keys, IEEE Trans. ASSP 29, 1153, 1981)."""
    x = np.abs(x)
    return np.where(x < 1, (1.5 * x - 2.5) * x**2 + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))


_KERNELS: dict[str, tuple[Callable[[FloatArray], Array], float]] = {  # with their reach in coarse pixels
    "bilinear": (lambda x: np.maximum(1 - np.abs(x), 0), 1.0),
    "bicubic": (_keys, 2.0),
    "gaussian": (lambda x: np.exp(-0.5 * (x / SIGMA) ** 2), 4 * SIGMA),
    "lanczos": (lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0), 3.0),
}


def matrix(size: int, factor: Fraction, method: str, antialias: bool = True) -> sparse.csr_array:
    """Weights that every sample of a line has in every sample of a coarser or finer one.

    Parameters
    ----------
    size : int
        Samples of the line; a whole number of the factor's numerators.
    factor : Fraction
        Samples that become one; below one the line becomes finer.
    method : one of `METHODS`
        "nearest" takes the sample at s k + s / 2, half a sample late when s is even; "area" the mean of what a pixel
        covers; the Gaussian has a sigma of half a coarse pixel.
    antialias : bool
        Widen kernels by the factor where it exceeds one. "nearest" never is, "area" and "gaussian" always.

    Returns
    -------
    (size / factor, size) sparse float32
        Rows sum to one.
    """
    step = float(factor)
    count = int(size / factor)
    centre = (np.arange(count) + 0.5) * step - 0.5
    if method == "nearest":
        taps = np.floor(centre + 0.5 + 1e-9).astype(np.int64)[:, None]
        weights = np.ones(taps.shape)
    else:
        widened = antialias or method in ("area", "gaussian")
        width = max(step, 1.0) if widened else 1.0
        reach = (width + 1) / 2 if method == "area" else _KERNELS[method][1] * width
        taps = np.floor(centre - reach).astype(np.int64)[:, None] + np.arange(int(np.ceil(2 * reach)) + 2)
        off = taps - centre[:, None]
        weights = np.clip(reach - np.abs(off), 0, 1) if method == "area" else _KERNELS[method][0](off / width)
    weights = weights / weights.sum(axis=1, keepdims=True)
    mirrored = np.mod(taps, 2 * size)
    mirrored = np.minimum(mirrored, 2 * size - 1 - mirrored)
    rows = np.broadcast_to(np.arange(count)[:, None], taps.shape)
    entries = (weights.ravel().astype(np.float32), (rows.ravel(), mirrored.ravel()))
    return sparse.csr_array(entries, shape=(count, size))


def resized(image: Image, factor: Fraction, method: str, antialias: bool = True) -> Image:
    """Resize a picture (H, W, ...) whose sides are whole numbers of the factor's numerator, by `matrix`."""
    down, across = (matrix(n, factor, method, antialias) for n in image.shape[:2])
    rest = image.shape[2:]
    fewer_rows = (down @ image.reshape(len(image), -1)).reshape(down.shape[0], image.shape[1], -1)
    turned = np.ascontiguousarray(fewer_rows.transpose(1, 0, 2)).reshape(image.shape[1], -1)
    out = (across @ turned).reshape(across.shape[0], down.shape[0], -1).transpose(1, 0, 2)
    return np.ascontiguousarray(out, dtype=np.float32).reshape(down.shape[0], across.shape[0], *rest)


@dataclass(frozen=True)
class Downsample:
    """Makes a picture coarser by a factor of 1 or more, whole or a fraction; with `back` bicubically fine again.

    Without `back` rows and columns beyond the last whole pixel are cropped, with it they are there again. See `matrix`
    for methods and `antialias`.
    """

    factor: float = 2.0
    method: str = "bicubic"
    antialias: bool = True
    back: bool = False

    def __post_init__(self) -> None:
        require_within(self, factor=(1, 1000))
        require_choice(self, "method", METHODS)

    def __call__(self, image: npt.ArrayLike, rng: np.random.Generator) -> Image:
        """Degrade, as `Degradation`; ImageError when less than a pixel would remain."""
        light = admitted(image)
        factor = Fraction(self.factor).limit_denominator(LARGEST_DENOMINATOR)
        height, width = light.shape[:2]
        block = factor.numerator
        if self.back:
            beyond = [(0, -n % block) for n in (height, width)] + [(0, 0)] * (light.ndim - 2)
            coarse = resized(np.pad(light, beyond, mode="symmetric"), factor, self.method, self.antialias)
            return resized(coarse, 1 / factor, "bicubic")[:height, :width]
        if min(height, width) < block:
            raise ImageError(
                f"a picture of {width} x {height} holds no whole block of {block} for a factor of {factor}",
                remedy="Take a larger picture or a simpler factor",
            )
        whole = light[: height // block * block, : width // block * block]
        return resized(whole, factor, self.method, self.antialias)

    def describe(self) -> str:
        """Give name and parameters, as `Degradation`."""
        return described(self)
