"""Weights -> panels of 16 outputs, the order in which products read them.

A panel holds, for every step along the inputs, the 16 outputs' weights side by side; zeros where there is no weight.
"""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.functions import inline
from sopro_np.kernels.simd import tile
from sopro_np.kernels.simd.vector import (
    load_i8,
    load_i16,
    load_i32,
    load_real,
    store_i8,
    store_i16,
    store_i32,
    store_real,
)

OFFSET, WIDE = tile.TARGET.weight_offset, tile.TARGET.dot2 is not None
F = np.float32


@inline
def panel(args, piece):
    """(first row of w, rows there are, where the panel lies) for panel `piece`."""
    at = args.panels + piece * args.panel_bytes
    return args.first + 16 * piece, args.rows - 16 * piece, at


def make_pack(load_weight, store_weight, size: int):
    """A kernel for weights of so many bytes. Panel `piece`: 16 rows of w (N, columns) -> (columns, 16)."""

    def pack(args, piece):
        first, rows, out = panel(args, piece)
        columns = args.taps * args.inputs
        w = args.w + size * columns * first
        for j in range(16):
            for c in range(columns):
                value = 0
                if j < rows:
                    value = load_weight(w + size * (j * columns + c))
                store_weight(out + size * (16 * c + j), value)

    return pack


pack_int16, pack_int32 = make_pack(load_i16, store_i16, 2), make_pack(load_i32, store_i32, 4)


def pack_int8(args, piece):
    """Panel `piece`: 16 rows of w (N, taps*inputs) -> (taps, inputs/4, 16, 4) bytes, zeros where there is no weight.

    For a target that is WIDE: (taps, inputs/4, 2, 16, 2). With `sums` every tap begins with its 16 sums of weights.
    """
    first, rows, out = panel(args, piece)
    taps, inputs = args.taps, args.inputs
    steps = (inputs + 3) // 4
    head = 64 if args.sums != 0 else 0
    w = args.w + taps * inputs * first
    for j in range(16):
        for k in range(taps):
            at, total = out + k * (head + 64 * steps), 0
            for c in range(4 * steps):
                value = 0
                if j < rows and c < inputs:
                    value = load_i8(w + (j * taps + k) * inputs + c)
                total += value
                place = 64 * (c // 4) + (32 * (c // 2 % 2) + 2 * j + c % 2 if WIDE else 4 * j + c % 4)
                store_i8(at + head + place, value + OFFSET)
            if head != 0:
                store_i32(at + 4 * j, total)


def pack_int4(args, piece):
    """Panel `piece`: 16 rows of w (N, taps*ceil(inputs/8)) words -> per tap and group 16 scales, then 4 x 16 words for
    every 32 inputs of the group.

    Byte b of a packed word: nibble b of the stored word in the lower half, nibble b + 4 in the upper half.
    """
    first, rows, out = panel(args, piece)
    taps, inputs = args.taps, args.inputs
    words, lines = (inputs + 7) // 8, args.group // 8
    groups = (words + lines - 1) // lines
    for k in range(taps):
        for g in range(groups):
            for j in range(16):
                scale = F(0)
                if j < rows:
                    scale = load_real(args.scale + 4 * (((first + j) * taps + k) * groups + g))
                store_real(out + 4 * j, scale)
                for i in range(lines):
                    for b in range(4):
                        value = 0
                        if j < rows and lines * g + i < words:
                            w = args.w + 4 * (((first + j) * taps + k) * words + lines * g + i)
                            word = load_i32(w)
                            value = (word >> (4 * b)) & 15 | ((word >> (4 * b + 16)) & 15) << 4
                        store_i8(out + 64 + 64 * i + 4 * j + b, value)
            out += 64 + 64 * lines
