from __future__ import annotations

import numpy as np
import pytest

from psfbank import isp
from psfbank.degrade import Jpeg


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def picture() -> np.ndarray:
    y, x = np.mgrid[:64, :80]
    return np.stack([0.5 + 0.4 * np.sin(x / 9), 0.5 + 0.4 * np.cos(y / 7), (x + y) / 160], axis=-1)


def test_linear_light_is_compressed_as_it_would_be_shown() -> None:
    linear = picture().astype(np.float32)
    shown = isp.jpeg(isp.srgb_encode(linear), 60, "4:2:0")
    np.testing.assert_allclose(Jpeg(60)(linear, rng()), isp.srgb_decode(shown), atol=1e-6)
    np.testing.assert_allclose(Jpeg(60, toned=True)(isp.srgb_encode(linear), rng()), shown, atol=1e-6)


def test_lower_quality_is_worse() -> None:
    noisy = np.clip(picture() + 0.1 * rng().standard_normal((64, 80, 3)), 0, 1)
    error = [np.abs(Jpeg(q, "4:4:4")(noisy, rng()) - noisy).mean() for q in (5, 40, 100)]
    assert error[0] > 1.2 * error[1] > 2 * error[2]
    assert error[2] < 0.01


@pytest.mark.parametrize("quality", [-1, 101])
def test_there_is_no_such_quality(quality: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        Jpeg(quality)
