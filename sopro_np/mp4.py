"""MPEG-4 files with their index in front, as a reader of a pipe needs it; recorders write it at the end."""

from __future__ import annotations

from sopro_np.containers import Section

_LARGEST_INDEX = 64 << 20  # bytes
_FOLDERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
_OFFSETS = {b"stco": 4, b"co64": 8}  # where samples lie: bytes of an entry


def index_first(data: Section) -> Section:
    """The same file with `moov` before everything that it points into; as it is, if that cannot be done."""
    at = first = 0
    for _ in range(1000):
        data.seek(at)
        head = data.read(16)
        if len(head) < 8:
            return data
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if size < 8 or at + size > data.length:
            return data
        if kind == b"ftyp":
            first = at + size
        if kind == b"moov":
            break
        at += size
    else:
        return data
    if at == first or size > _LARGEST_INDEX:
        return data
    data.seek(0)
    before = data.read(first)
    data.seek(at)
    index = bytearray(data.read(size))
    _move(index, 0, size, size)
    return Section(data.file, data.start + first, at - first, before + bytes(index))


def _move(index: bytearray, start: int, end: int, by: int) -> None:
    """Add `by` to every offset of the boxes from `start` to `end`."""
    at = start
    while at + 8 <= end:
        size, kind = int.from_bytes(index[at : at + 4], "big"), bytes(index[at + 4 : at + 8])
        if size < 8 or at + size > end:
            return
        if kind in _FOLDERS:
            _move(index, at + 8, at + size, by)
        elif width := _OFFSETS.get(kind):
            count = int.from_bytes(index[at + 12 : at + 16], "big")
            last = min(at + 16 + count * width, at + size - width + 1)
            for place in range(at + 16, last, width):
                value = int.from_bytes(index[place : place + width], "big") + by
                index[place : place + width] = (value % (1 << (8 * width))).to_bytes(width, "big")
        at += size
