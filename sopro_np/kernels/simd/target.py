"""What a compilation target is: an instruction set, the LLVM words for it, and the tile that fits its registers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Dot = Callable[[Any, Any, Any, Any], Any]  # (IR builder, acc <16 x i32>, x <16 x i32>, w) -> <16 x i32>


@dataclass(frozen=True)
class Target:
    """One instruction set.

    Every vector in a kernel has 16 lanes of 32 bits, whatever the CPU: LLVM splits it into 1, 2 or 4 registers. So
    the order of every sum is the same everywhere, and with it every bit. Only the number of rows and of vectors
    that a tile keeps in registers differs, which no result depends on.
    """

    name: str
    triple: str
    cpu: str
    features: str
    dot4: Dot  # acc + the dot product of 4 bytes of x and 4 bytes of w <16 x i32> in every lane
    weight_offset: int  # added to every stored int8 weight: 128 where the instruction wants it unsigned
    rows: int  # of the largest tile
    vectors: int  # of 16 outputs, of every tile with more than one row
    half: bool  # can it widen 16-bit floats?
    dot2: Dot | None = None  # of int8 weights, if named in abi.WIDE: 2 numbers of 16 bits, 2 bytes of w <32 x i8>
