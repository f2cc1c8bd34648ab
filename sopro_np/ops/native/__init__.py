"""The operations on native kernels: the same names and signatures as in ops/reference.py.

door     finds and loads the machine code           jit      compiles it, where there is none
desk     operations -> lists of kernel calls        arena    memory that is used again
team     threads that help
products, rows   the operations                     ../abi   what they and the kernels agree on
"""

from __future__ import annotations

from sopro_np.ops.native import products, rows
from sopro_np.ops.native.choice import draw
from sopro_np.ops.native.desk import capture
from sopro_np.ops.native.door import asked_for, kernels
from sopro_np.ops.native.products import conv, linear, pack, release
from sopro_np.ops.native.rows import (
    attention,
    depthwise_conv,
    embed,
    embed_sum,
    gelu,
    join,
    layer_norm,
    match,
    nearest,
    remember,
    rms_norm,
    rope,
    sigmoid,
    softmax,
)

__all__ = [
    "asked_for", "attention", "capture", "conv", "depthwise_conv", "draw", "embed", "embed_sum", "gelu", "join",
    "kernels", "layer_norm", "linear", "match", "nearest", "pack", "products", "release", "remember", "rms_norm",
    "rope", "rows", "sigmoid", "softmax",
]  # fmt: skip
