"""Blur that changes over the field: every place has its own PSF, mixed bilinearly from the nodes of a grid.

Between nodes only four PSFs act on a place, so the image is cut along the lines of nodes into cells, each cell is
convolved with its four node PSFs under the four bilinear weights, and the cells are added up: exactly the sum over
pixels of interpolated PSFs, at the cost of a few FFTs of small tiles. Two forms:

- scatter, y = sum_n h_n * (w_n x), weights the light where it comes from: each source point is spread by the PSF of its
  own place, so all its light arrives (Flicker and Rigaut, JOSA A 22, 504, 2005). This is what a lens does. Where PSFs
  change, it moves light from places where they widen to their neighbours, so a flat field comes out with ripples as
  large as the PSFs' change within their own width; it stays flat where they do not change.
- gather, y = sum_n w_n (h_n * x), weights where light lands (Nagy and O'Leary, SIAM J. Sci. Comput. 19, 1063, 1998):
  a flat field stays flat whatever the PSFs do, and the light of a point does not add up exactly where they change.

They agree where PSFs are equal, and are each other's adjoint but for mirrored kernels. What lies beyond an image's
edges is chosen: its mirror image, edge pixels repeated (d c b a | a b c d), its edge pixels, or black. Nothing wraps.

`tiling` cuts axes into spans and says what lies beyond them, `fourier` and `direct` convolve a tile, `operator` moves
tiles between images, and `tensors` does the same with torch.
"""

from psfbank.blur.operator import SpatiallyVaryingBlur

__all__ = ["SpatiallyVaryingBlur"]
