"""What Python and the kernels agree on: the fields of every kernel's argument block, in order, and some numbers.

A kernel is `void kernel(int64 *fields, int64 piece)`: it does one of `fields[0]` independent pieces of its work.
Addresses are int64, a float travels as the bits of a float32, an absent array is the address 0. Strides and
offsets are bytes, counts are counts.
"""

from __future__ import annotations

FIELDS = {
    # y = residual + scale * act(x W^T + bias), for rows of x that overlap (a convolution) or not
    # group: inputs that share an int4 scale, in 32; row_zero: what a row of int8 is short of its zero, 0 = nothing;
    # low: bytes from x to the rows of low bytes (from row_scale and row_start: low_scale, low_start), 0 = none
    "gemm": "pieces row_blocks row_block panel_block strip rows panels taps steps group x x_stride tap_stride "
    "row_scale row_start row_zero scale_stride scale_tap low low_scale low_start w panel_bytes w_scale bias y width "
    "act residual scale",
    # rows of past and x -> int8 rows, their scales and their start values; status becomes 1 at NaN or infinity.
    # A row whose squares sum up to less than `limit` gets low bytes
    "quantise": "pieces row_block rows past past_rows x width pre q q_stride groups group scale start asymmetric zero "
    "limit low low_scale low_start status",
    # the same rows one below the other, through ELU where asked
    "concat_rows": "pieces row_block rows past past_rows x width pre y",
    # rows first.. of w (N, taps*inputs) -> panels of 16
    "pack": "pieces w scale rows first taps inputs group sums panels panel_bytes",
    # rms_norm and layer_norm
    "norm": "pieces row_block rows x width weight shift eps y",
    "match_rms": "pieces row_block rows x a width clamp y",
    "rope": "pieces row_block rows x heads half cos sin y",
    # softmax, and MAPS element by element
    "rows": "pieces row_block rows x width function y",
    # scratch: 16 bytes for every one of `width` numbers rounded up to 16; u the bits of a double
    "sample": "pieces logits width temperature top_k top_p penalty seen seen_count u scratch code",
    # w (taps, phases * width); rows of past, x and zeros; `phases` rows of y for each of them
    "depthwise": "pieces row_block rows past past_rows x x_rows width taps dilation phases w bias residual y",
    "push_history": "pieces past past_rows x x_rows width",
    # ids (rows, terms) int64, its rows `ids_stride` apart; status becomes 2 at an id outside the table
    "embed": "pieces row_block rows ids ids_stride terms table table_rows row_bytes scheme scale groups group weights "
    "width residual status y",
    # x (rows, heads, width); y[t, h] = offsets[h] + place of the largest (int64); status becomes 1 at NaN or infinity
    "argmax": "pieces status row_block rows x heads width offsets y y_stride",
    # one piece = one head, row_block rows, ATTENTION_ROWS stretches of scores and room for its keys and values;
    # first < 0: not causal
    "attention": "pieces row_blocks row_block rows q k v stride keys d first factor scores scores_stride "
    "piece_stride y",
}
MAPS = ("sigmoid", "gelu")
# Formats of weights and tables.
TABLES = ("fp32", "fp16", "bf16", "int8", "int4")
# Every kernel, and whose fields it takes.
KERNELS = {f"gemm_{scheme}": "gemm" for scheme in TABLES} | {
    "quantise": "quantise", "concat_rows": "concat_rows", "pack_int4": "pack", "pack_int8": "pack",
    "pack_int16": "pack", "pack_int32": "pack", "rms_norm": "norm", "layer_norm": "norm", "match_rms": "match_rms",
    "rope": "rope", "softmax": "rows", "map_rows": "rows", "sample": "sample", "argmax_rows": "argmax",
    "depthwise": "depthwise", "push_history": "push_history", "embed": "embed", "attention": "attention",
}  # fmt: skip
ATTENTION_ROWS = 8  # that a piece works on at a time
# Targets whose int8 products take activations as 16-bit numbers (of the same 8 bits), and weights in pairs of inputs.
WIDE = ("avx2",)
ACTS = (None, "gelu", "glu", "tanh")
PRE = (None, "elu")

# erf(x) = x P(x^2) / Q(x^2) on |x| <= 3.92 (beyond, it is 1 in float32): a rational fitted to math.erf at
# Chebyshev nodes by reweighted least squares. Largest relative error in float32: 3.5e-7.
ERF_LIMIT = 3.92
ERF_P = (1.128379146604086, 0.19037607118139457, 0.05274475983362787, 0.003764335229108016,
          0.0002848575239030305, 2.0503616624883496e-06)  # fmt: skip
ERF_Q = (1.0, 0.502049147284621, 0.11409659948998035, 0.014966639533461563,
          0.0011622320474850279, 3.8093258233612685e-05)  # fmt: skip
