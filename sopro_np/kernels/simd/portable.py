"""Any 64-bit CPU: plain LLVM vectors, for which the compiler finds whatever instructions there are.

Slow (a fused multiply-add may become a call of libm's `fmaf`), and bit for bit the same as the others.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir

from sopro_np.kernels.simd.target import Target


def dot4(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    """Byte by byte: sign-extend in the 32-bit lane by two shifts, multiply, add."""
    eight, top = (ir.Constant(acc.type, [n] * acc.type.count) for n in (8, 24))
    for _ in range(4):
        product = builder.mul(builder.ashr(builder.shl(x, top), top), builder.ashr(builder.shl(w, top), top))
        acc = builder.add(acc, product)
        x, w = builder.lshr(x, eight), builder.lshr(w, eight)
    return acc


def target(machine: str) -> Target:
    triple = f"{machine}-unknown-linux-gnu"
    cpu = "x86-64" if machine == "x86_64" else "generic"
    return Target("portable", triple, cpu, "", dot4, weight_offset=0, rows=4, vectors=1, half=False)


TARGET = target(platform.machine())
