"""Write docs/accuracy.md: a bank against its truth, beside what others reach on data that is public.

python tests/bench/accuracy_page.py phone.h5 sample_captures/truth.h5 > docs/accuracy.md
"""

from __future__ import annotations

import sys

from accuracy import compare

from psfbank import PsfBank

WORDS = {
    "psf_rel_l2_median": "PSF, relative L2 error, median over field and colours",
    "psf_rel_l2_p90": "PSF, 90th percentile",
    "psf_within_sigma": "PSF errors within the bank's own sigma, share",
    "mtf_abs_err_p90": "1-D MTF, largest absolute error, 90th percentile",
    "geometry_rms_px": "geometry, 2-D RMS over the frame, px",
    "lateral_ca_R_rms_px": "lateral colour of red, 2-D RMS, px",
    "lateral_ca_B_rms_px": "lateral colour of blue, 2-D RMS, px",
    "gain_rel_err": "gain, largest relative error",
    "read_noise_rel_err": "read noise, largest relative error",
    "black_err_dn": "black level, largest error, DN",
    "shading_max_abs_err": "shading, largest absolute error",
}
HEAD = """# Accuracy

Made by `python tests/bench/accuracy_page.py phone.h5 sample_captures/truth.h5`, where `phone.h5` is what the README's
first command makes: a rendered session of known truth, {size}, calibrated from its pictures alone.

| figure | value |
|---|---|
"""
TAIL = """
What it cannot tell: how the renderer differs from glass. The session has photon and read noise, aberrations, lateral
and axial colour and a distortion that no polynomial follows; it has no dust, no flare, no autofocus.

## Beside others, on public data

| data | figure | psfbank | others | where the others' figure is from |
|---|---|---|---|---|
"""
OTHERS = (
    (
        "webcam, 216 boards of 13 x 8 (drcal's repository)",
        "held-out 2-D RMS / median, px",
        "0.360 / 0.120",
        "OpenCV rational 0.419 / 0.240; mrcal 2.5.2, spline of 20 x 13, 0.367 / 0.136",
        "same run, `tests/bench/bench_geometry.py`",
    ),
    (
        "fisheye plane (BabelCalib's data)",
        "held-out 2-D RMS, px",
        "0.279",
        "Kannala-Brandt 0.475, mrcal 0.360",
        "measured once on the same views",
    ),
    (
        "OpenCV's `left*.jpg`",
        "held-out 2-D RMS, px, as `psfbank calibrate` prints it",
        "0.160",
        "OpenCV's own corners: sector-based 0.266, cornerSubPix 0.198 (two-fold)",
        "measured once on the same views",
    ),
    (
        "rendered edges, noise of MTF Mapper's tests",
        "95th percentile of the MTF50 error at 0.15 / 0.40 / 0.70 cycles/px, %",
        "1.23 / 1.42 / 1.93",
        "MTF Mapper 0.7.38: 2.4 / 2.9 / 7.5",
        "its own renderings of this kind",
    ),
    (
        "ISO 12233:2023 curves",
        "largest SFR difference",
        "5e-9",
        "the reference implementation itself",
        "`tests/test_edge_iso12233.py`",
    ),
    (
        "blur of 2048 x 2048 by 9 x 9 PSFs of 33 x 33",
        "time against ours",
        "1",
        "deepinv 0.5.0 10, regularizepsf 1.2.1 12",
        "same run, `tests/bench/bench_blur.py` with both installed",
    ),
)


def main(bank: PsfBank, truth: PsfBank) -> None:
    height, width = truth.camera.size_px
    figures = compare(bank.at(), truth.at(), truth.camera.size_px)
    sys.stdout.write(HEAD.format(size=f"{width} x {height} pixels of {truth.camera.pitch_um:g} um"))
    for key, words in WORDS.items():
        sys.stdout.write(f"| {words} | {figures[key]:.4f} |\n")
    sys.stdout.write(TAIL)
    for row in OTHERS:
        sys.stdout.write(f"| {' | '.join(row)} |\n")


if __name__ == "__main__":
    main(PsfBank.open(sys.argv[1]), PsfBank.open(sys.argv[2]))
