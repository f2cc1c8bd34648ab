"""Sound as a page can hold it: a spectrogram as a PNG, samples as FLAC, both as data URIs."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import soundfile

from sopro_np.evaluate.signals import spectrogram

RANGE_DB = 70.0
# Dark to bright, evenly growing luminance (the anchor colours are ours; between them it is linear).
COLOURS = np.array([(8, 8, 32), (62, 20, 100), (148, 40, 105), (222, 84, 66), (250, 164, 50), (252, 252, 190)], float)


def png(pixels: np.ndarray) -> bytes:
    """RGB pixels (height, width, 3) uint8 -> a PNG file (ISO 15948): header, one zlib stream, end."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # filter 0 per row

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def spectrogram_picture(wav: np.ndarray, rate: int, width: int = 480, height: int = 128) -> np.ndarray:
    """wav (n,) -> RGB (height, width, 3): 0 Hz at the bottom, rate/2 at the top, 70 dB from dark to bright."""
    hop = max(1, -(-max(1, len(wav)) // width))
    power = 20 * np.log10(np.maximum(spectrogram(wav, fft=1024, hop=hop), 1e-9))
    level = np.clip((power - power.max()) / RANGE_DB + 1, 0, 1)
    bands = np.linspace(0, level.shape[1], height, endpoint=False).astype(int)
    columns = np.linspace(0, level.shape[0] - 1, width).round().astype(int)
    pooled = np.maximum.reduceat(level, bands, axis=1)  # the loudest bin of a row of pixels: a thin line stays
    shown = pooled[columns, ::-1].T * (len(COLOURS) - 1)
    below = np.minimum(shown.astype(int), len(COLOURS) - 2)
    part = (shown - below)[..., None]
    return (COLOURS[below] * (1 - part) + COLOURS[below + 1] * part).round().astype(np.uint8)


def data_uri(kind: str, data: bytes) -> str:
    """RFC 2397."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def picture_uri(wav: np.ndarray, rate: int) -> str:
    """The spectrogram of wav (n,)."""
    return data_uri("image/png", png(spectrogram_picture(wav, rate)))


def audio_uri(wav: np.ndarray, rate: int) -> str:
    """wav (n,), clipped to [-1, 1] -> FLAC of 16 bit, which every browser plays, at half the size of a WAV."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(wav, -1, 1), rate, format="FLAC", subtype="PCM_16")
    return data_uri("audio/flac", file.getvalue())
