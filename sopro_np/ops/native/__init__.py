"""The operations on native kernels: the same names and signatures as in ops/reference.py.

cpu        which targets this CPU can run             commands   command lists: kernel calls, run by one native call
packs, jit machine code from a file, or compiled      launcher   operations -> calls on a list
loader     finds and loads it                         capture    steps kept and replayed, as a CUDA graph
threads    workers that help                          arena      memory that is used again
matmul, rows, sampling the operations                 arguments  arrays, floats and rows as a kernel takes them
"""

from __future__ import annotations

from sopro_np.ops.native.capture import replay
from sopro_np.ops.native.loader import asked_for, kernels
from sopro_np.ops.native.matmul import conv, linear, pack, temporary_packing
from sopro_np.ops.native.rows import (
    argmax_rows,
    attention,
    concat,
    depthwise_conv,
    embed,
    embed_sum,
    gelu,
    layer_norm,
    match_rms,
    nearest_row,
    push_history,
    rms_norm,
    rope,
    sigmoid,
    softmax,
    write_rows,
)
from sopro_np.ops.native.sampling import sample

__all__ = [
    "argmax_rows", "asked_for", "attention", "concat", "conv", "depthwise_conv", "embed", "embed_sum", "gelu",
    "kernels", "layer_norm", "linear", "match_rms", "nearest_row", "pack", "push_history", "replay", "rms_norm", "rope",
    "sample", "sigmoid", "softmax", "temporary_packing", "write_rows",
]  # fmt: skip
