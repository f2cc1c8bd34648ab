"""Words for threads: memory that several look at, and the call of a kernel by its address."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from sopro_np.kernels.simd.llvm import call
from sopro_np.kernels.simd.vector import I32, I64, INT, TARGET, A, pointer, word


@word(types.int64, A)
def load_atomic(b: Any, at: Any) -> Any:
    return b.load_atomic(pointer(b, at, I64), "acquire", 8)


@word(types.void, A, INT)
def store_atomic(b: Any, at: Any, value: Any) -> Any:
    b.store_atomic(value, pointer(b, at, I64), "release", 8)


@word(types.void, A, INT)
def add_atomic(b: Any, at: Any, value: Any) -> Any:
    b.atomic_rmw("add", pointer(b, at, I64), value, "acq_rel")


@word(types.boolean, A, INT, INT)
def swap_atomic(b: Any, at: Any, old: Any, new: Any) -> Any:
    """Put `new` where `old` stands; did it stand there?"""
    return b.extract_value(b.cmpxchg(pointer(b, at, I64), old, new, "acq_rel", "acquire"), 1)


@word(types.void)
def pause(b: Any) -> Any:
    """Tell the core that this is a waiting loop."""
    if TARGET.triple.startswith("x86_64"):
        call(b, "llvm.x86.sse2.pause", ir.VoidType())
    else:
        call(b, "llvm.aarch64.hint", ir.VoidType(), I32(1))  # yield


@word(types.void, A, A, INT)
def call_kernel(b: Any, kernel: Any, fields: Any, piece: Any) -> Any:
    kind = ir.FunctionType(ir.VoidType(), [I64, I64])
    b.call(b.inttoptr(kernel, kind.as_pointer()), [fields, piece])
