"""Time, error and memory of the blur, beside plain convolutions and peers in the same run.

    python tests/bench/bench_blur.py [--quick]

2048 x 2048 float32, kernels of 33 x 33, 9 x 9 nodes, two threads. All are timed in turns, so that a busy moment of the
machine hits all alike; ratios carry from one machine to another, seconds do not. deepinv and regularizepsf are timed
where they can be imported, torch's backend where torch can.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import fft, signal
from timing import Runs, interleaved

from psfbank.blur import SpatiallyVaryingBlur
from psfbank.model import PsfGrid

SIZE, KERNEL, NODES, WORKERS, REPEATS = 2048, 33, 9, 2, 9
PLAIN = "one scipy.fft convolution, cached transfer function"
PATCH = 256  # of the peers, half overlapping
Image = npt.NDArray[np.float32]


def grid_of(shape: tuple[int, int], size: int = KERNEL, nodes: int = NODES) -> PsfGrid:
    """Smooth spots that widen and lengthen towards the corners."""
    y, x = np.mgrid[-1 : 1 : nodes * 1j, -1 : 1 : nodes * 1j][..., None, None]
    at = np.arange(size) - size // 2
    u, v = at / size, at[:, None] / size
    widths = 0.05 + 0.08 * np.hypot(x, y), 0.05 + 0.03 * x**2
    angle = np.arctan2(y, x)
    along, across = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    kernels = np.exp(-((along / widths[0]) ** 2 + (across / widths[1]) ** 2) / 2)[None]
    kernels /= kernels.sum((-2, -1), keepdims=True)
    y_px, x_px = (np.linspace(0, count - 1, nodes) for count in shape)
    return PsfGrid(x_px, y_px, kernels, channels=("Y",))


def say(line: str) -> None:
    """Print a line of the result at once."""
    print(line, flush=True)  # noqa: T201 its result


def compare(runs: Runs, pixels: int, repeats: int, reference: str = PLAIN) -> None:
    """Say how long each takes and how much longer than the reference: best, median, and best in processor time."""
    seconds = interleaved(runs, repeats)
    base = seconds[reference]
    for name, values in seconds.items():
        best, ratio = values.min(axis=0), values.min(axis=0) / base.min(axis=0)
        middle = np.median(values[:, 0]) / np.median(base[:, 0])
        say(
            f"  {name:52s} best {1e3 * best[0]:7.1f} ms, {pixels / best[0] / 1e6:5.1f} MP/s: x {ratio[0]:5.2f}"
            f"   median x {middle:5.2f}   processors {1e3 * best[1]:7.1f} ms: x {ratio[1]:5.2f}"
        )


def plain_convolution(image: Image, kernel: Image) -> Callable[[], Image]:
    shape = tuple(int(fft.next_fast_len(n + kernel.shape[0] - 1, real=True)) for n in image.shape)
    transfer = fft.rfft2(kernel, s=shape)

    def run() -> Image:
        spectrum = fft.rfft2(image, s=shape, workers=WORKERS)
        spectrum *= transfer
        return np.asarray(fft.irfft2(spectrum, s=shape, workers=WORKERS))

    return run


def tensor_runs(scatter: SpatiallyVaryingBlur, image: Image) -> Runs:
    if importlib.util.find_spec("torch") is None:
        say("  torch is not here: its backend is left out")
        return {}
    import torch

    torch.set_num_threads(WORKERS)
    tensor = torch.from_numpy(image)
    return {"scatter forward of a torch tensor": lambda: scatter.forward(tensor)}


def peer_runs(image: Image) -> Runs:
    runs: Runs = {}
    rng = np.random.default_rng(1)
    if importlib.util.find_spec("deepinv") is None:
        say("  deepinv is not here: left out")
    else:
        import torch
        from deepinv.physics import TiledSpaceVaryingBlur

        count = int(np.prod(TiledSpaceVaryingBlur.num_filters(image.shape, (PATCH, PATCH), (PATCH // 2, PATCH // 2))))
        filters = torch.from_numpy(rng.random((1, 1, count, KERNEL, KERNEL), dtype=np.float32))
        tiled = TiledSpaceVaryingBlur(filters=filters, patch_size=PATCH, stride=PATCH // 2)
        tensor = torch.from_numpy(image)[None, None]
        runs["deepinv TiledSpaceVaryingBlur"] = lambda: tiled.A(tensor)
    if importlib.util.find_spec("regularizepsf") is None:
        say("  regularizepsf is not here: left out")
    else:
        from regularizepsf import ArrayPSFTransform
        from regularizepsf.util import IndexedCube, calculate_covering

        corners = [tuple(corner) for corner in calculate_covering(image.shape, PATCH)]
        kernel = np.zeros((len(corners), PATCH, PATCH))
        kernel[:, :KERNEL, :KERNEL] = rng.random((KERNEL, KERNEL))
        transform = ArrayPSFTransform(IndexedCube(corners, fft.fft2(kernel)))
        runs["regularizepsf ArrayPSFTransform.apply"] = lambda: transform.apply(image, workers=WORKERS)
    return runs


def error(grid: PsfGrid, image: Image, blurred: Image, places: int) -> float:
    """Relative L2 error at random places, against sums over the kernel of every source pixel in float64."""
    radius = KERNEL // 2
    light = np.pad(image.astype(np.float64), radius, mode="symmetric")
    at = np.random.default_rng(2).integers(0, image.shape, (places, 2))
    wanted = []
    for row, column in at:
        offsets = np.arange(radius, -radius - 1, -1)  # sample t of a kernel takes light from -t
        down, across = (
            np.array([np.interp(place + offsets, nodes, one) for one in np.eye(len(nodes))])
            for place, nodes in ((row, grid.y_px), (column, grid.x_px))
        )
        seen = light[row : row + KERNEL, column : column + KERNEL][::-1, ::-1]
        wanted.append(np.einsum("ja,ib,jiab,ab->", down, across, grid.kernels[0].astype(np.float64), seen))
    got = blurred[tuple(at.T)]
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def whole_image(repeats: int) -> None:
    say(f"{SIZE} x {SIZE}, {KERNEL} x {KERNEL} kernels, {NODES} x {NODES} nodes, {WORKERS} threads")
    image = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)
    grid = grid_of(image.shape)
    kernel = grid.kernels[0, 0, 0]
    scatter, gather = (
        SpatiallyVaryingBlur(grid, image.shape, mode=mode, workers=WORKERS) for mode in ("scatter", "gather")
    )
    runs: Runs = {
        PLAIN: plain_convolution(image, kernel),
        "scipy.signal.fftconvolve": lambda: signal.fftconvolve(image, kernel, mode="same"),
        "scatter forward": lambda: scatter.forward(image),
        "scatter adjoint": lambda: scatter.adjoint(image),
        "gather forward": lambda: gather.forward(image),
        "gather adjoint": lambda: gather.adjoint(image),
    }
    compare(runs, image.size, repeats)
    ours = {"scatter forward": runs["scatter forward"]}
    for others in (tensor_runs(scatter, image), peer_runs(image)):
        if others:
            compare({**ours, **others}, image.size, max(2, repeats // 3), "scatter forward")

    say(f"  relative error to float64, pixel by pixel: {error(grid, image, scatter.forward(image), 400):.1e}")
    flat = np.ones_like(image)
    ripple, rest = (np.abs(blur.forward(flat) - 1).max() for blur in (scatter, gather))
    say(f"  flat field: gather keeps it to {rest:.1e}, scatter ripples by {ripple:.1e} where PSFs change")
    points = np.zeros_like(image)
    points[KERNEL:-KERNEL, KERNEL:-KERNEL] = image[KERNEL:-KERNEL, KERNEL:-KERNEL]
    total = points.sum(dtype=np.float64)
    say(f"  flux: scatter keeps it to {abs(scatter.forward(points).sum(dtype=np.float64) / total - 1):.1e}")


def sizes(repeats: int) -> None:
    say("time a pixel, scatter forward")
    for height, width in ((1024, 1024), (2048, 2048), (3000, 4000), (4896, 6528), (6000, 8000)):
        image = np.random.default_rng(0).random((height, width), dtype=np.float32)
        blur = SpatiallyVaryingBlur(grid_of(image.shape), image.shape, workers=WORKERS)
        seconds = interleaved({"": lambda blur=blur, image=image: blur.forward(image)}, repeats)[""]
        clock, processors = 1e9 * seconds.min(axis=0) / image.size
        say(f"  {image.size / 1e6:5.1f} MP  best {clock:5.1f} ns, of processors {processors:5.1f} ns")


def windows(count: int) -> None:
    say("crops of 256 x 256 at random places, scatter, one thread: construction and forward, time of the processor")
    rng = np.random.default_rng(3)
    crop = rng.random((256, 256), dtype=np.float32)
    for nodes in (NODES, 2 * NODES - 1):
        blur = SpatiallyVaryingBlur(grid_of((SIZE, SIZE), nodes=nodes), (SIZE, SIZE), workers=1)
        for what in ("first", "again"):
            seconds = []
            for y, x in rng.integers(0, SIZE - 256, (count, 2)):
                start = time.thread_time()
                blur.crop(int(y), int(x), 256, 256).forward(crop)
                seconds.append(time.thread_time() - start)
            say(f"  {nodes} x {nodes} nodes, {what}: median {1e3 * np.median(seconds):.2f} ms")


def small_kernels(repeats: int) -> None:
    say(f"small kernels, {SIZE} x {SIZE}, scatter forward")
    image = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)
    runs: Runs = {PLAIN: plain_convolution(image, grid_of(image.shape).kernels[0, 0, 0])}
    for size in (3, 5, 7, 9, 11, 17):
        blur = SpatiallyVaryingBlur(grid_of(image.shape, size), image.shape, workers=WORKERS)
        runs[f"{size} x {size}"] = lambda blur=blur: blur.forward(image)
    compare(runs, image.size, repeats)


def memory(side: int) -> None:
    """Peak memory of a process of its own that blurs one large image."""
    script = f"import bench_blur; bench_blur.large({side})"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=sys.path[0])
    say(
        f"{side}^2 = {side * side / 1e6:.0f} MP in its own process: peak {done.stdout.strip()} GB with image and result"
    )


def large(side: int) -> None:
    image = np.random.default_rng(0).random((side, side), dtype=np.float32)
    SpatiallyVaryingBlur(grid_of(image.shape), image.shape, workers=WORKERS).forward(image)
    say(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the ratios of the whole image alone")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    asked = parser.parse_args()
    whole_image(asked.repeats)
    if not asked.quick:
        small_kernels(asked.repeats)
        windows(100)
        sizes(3)
        memory(10_000)


if __name__ == "__main__":
    main()
