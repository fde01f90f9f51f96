"""OpenEXR: one picture of 32-bit floats, scan lines packed sixteen at a time with zlib; nothing else of the format.

The layout is that of the OpenEXR file format, version 2: a magic number, attributes, the offsets of the blocks, blocks.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np

from psfbank.arrays import FloatArray

MAGIC = 20000630
LINES = 16  # a block of the ZIP compression
ZIP, FLOAT, INCREASING = 3, 2, 0


def exr_bytes(channels: Mapping[str, FloatArray], **texts: str) -> bytes:
    """Pack planes as an OpenEXR file.

    Parameters
    ----------
    channels : mapping of str to (H, W) float
        By name: R, G, B, A.
    **texts : str
        String attributes of the header.

    Returns
    -------
    bytes
    """
    names = sorted(channels)  # the format wants them so
    planes = np.stack([np.asarray(channels[name], dtype="<f4") for name in names], axis=1)  # (H, C, W)
    height, _, width = planes.shape
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    listed = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", FLOAT, 0, 1, 1) for name in names) + b"\0"
    attributes = [
        ("channels", "chlist", listed),
        ("compression", "compression", bytes([ZIP])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", bytes([INCREASING])),
        ("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0.0, 0.0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
        *((name, "string", text.encode()) for name, text in texts.items()),
    ]
    header = struct.pack("<ii", MAGIC, 2) + b"".join(_attribute(*each) for each in attributes) + b"\0"
    blocks = []
    for row in range(0, height, LINES):
        packed = _packed(planes[row : row + LINES].tobytes())
        blocks.append(struct.pack("<ii", row, len(packed)) + packed)
    first = len(header) + 8 * len(blocks)
    offsets = first + np.cumsum([0, *map(len, blocks[:-1])])
    return header + offsets.astype("<u8").tobytes() + b"".join(blocks)


def _attribute(name: str, kind: str, value: bytes) -> bytes:
    return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value


def _packed(raw: bytes) -> bytes:
    """Bytes of even places first, each as its step from the one before plus 128, deflated; raw if that is less."""
    values = np.frombuffer(raw, dtype=np.uint8)
    parted = np.concatenate([values[0::2], values[1::2]]).astype(np.int16)
    stepped = parted.copy()
    stepped[1:] = parted[1:] - parted[:-1] + 128
    packed = zlib.compress((stepped & 0xFF).astype(np.uint8).tobytes(), 1)
    return packed if len(packed) < len(raw) else raw
