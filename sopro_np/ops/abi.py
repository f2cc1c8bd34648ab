"""What Python and the kernels agree on: the fields of every kernel's argument block, in order.

A kernel is `void kernel(int64 *fields, int64 chunk)`: it does one of `fields[0]` independent pieces of its work.
Addresses are int64, a float travels as the bits of a float32, an absent array is the address 0. Strides and
offsets are bytes, counts are counts.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

FIELDS = {
    # y = residual + scale * act(x W^T + bias), for rows of x that overlap (a convolution) or not
    "gemm": "chunks row_blocks row_block vector_block strip rows vectors taps steps x x_stride tap_stride "
    "row_scale row_start scale_stride scale_tap w vector_bytes w_scale bias y width act residual "
    "scale",
    # rows of past and x -> int8 rows, their scales and their start values; status becomes 1 at NaN or infinity
    "quantise": "chunks row_block rows past past_rows x width pre q q_stride groups scale start status",
    # the same rows one below the other, through ELU where asked
    "collect": "chunks row_block rows past past_rows x width pre y",
    # rows first.. of w (N, taps*inputs) -> panels of 16
    "pack": "chunks w scale rows first taps inputs panels panel_bytes",
    # rms_norm and layer_norm
    "norm": "chunks row_block rows x width weight shift eps y",
    "match": "chunks row_block rows x a width clamp y",
    "rope": "chunks row_block rows x heads half cos sin y",
    # softmax, and MAPS element by element
    "rows": "chunks row_block rows x width function y",
    # scratch: 16 bytes for every one of `width` numbers rounded up to 16; u the bits of a double
    "draw": "chunks logits width temperature top_k top_p penalty seen seen_count u scratch code",
    # w (taps, width); rows of past, x and zeros
    "depthwise": "chunks row_block rows past past_rows x x_rows width taps dilation w bias residual y",
    "remember": "chunks past past_rows x x_rows width",
    # ids (rows, terms) int64; status becomes 2 at an id outside the table
    "embed": "chunks row_block rows ids terms table table_rows row_bytes scheme scale groups weights "
    "width residual status y",
    # one piece = one head, row_block rows, ATTENTION_ROWS stretches of scores and room for its keys and values;
    # first < 0: not causal
    "attention": "chunks row_blocks row_block rows q k v stride keys d first factor scores scores_stride "
    "piece_stride y",
}
MAPS = ("sigmoid", "gelu")
# Formats of weights and tables.
TABLES = ("fp32", "fp16", "bf16", "int8", "int4")
# Every kernel, and whose fields it takes.
KERNELS = {f"gemm_{scheme}": "gemm" for scheme in TABLES} | {
    "quantise": "quantise", "collect": "collect", "pack_int4": "pack", "pack_int8": "pack", "pack_int16": "pack",
    "pack_int32": "pack", "rms_norm": "norm", "layer_norm": "norm", "match": "match", "rope": "rope",
    "softmax": "rows", "map_rows": "rows", "draw": "draw", "depthwise": "depthwise", "remember": "remember",
    "embed": "embed", "attention": "attention",
}  # fmt: skip
ATTENTION_ROWS = 8  # that a piece works on at a time
ACTS = (None, "gelu", "glu", "tanh")
PRE = (None, "elu")


def offsets(kernel: str) -> Any:
    """Byte offset of every field, by name."""
    names = FIELDS[kernel].split()
    return namedtuple(kernel, names)(*range(0, 8 * len(names), 8))


# Flags of the CPU without which a target must not run, the best target first.
NEEDS: dict[str, dict[str, frozenset[str]]] = {
    "x86_64": {
        "avx512vnni": frozenset(
            ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx2", "fma", "f16c", "bmi2")
        ),
        "avx2": frozenset(("avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "abm")),
        "portable": frozenset(),
    },
    "aarch64": {
        "neon_dot": frozenset(("asimd", "asimddp")),
        "neon": frozenset(("asimd",)),
        "portable": frozenset(),
    },
}
