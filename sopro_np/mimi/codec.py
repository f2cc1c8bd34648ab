"""The codec as a whole: a recording -> codes, in one go; codes -> waveform, as a stream.

encode:  wav -> SEANet -> transformer (25 Hz) -> downsample -> quantizer -> codes (12.5 Hz)
decode:  codes -> quantizer -> upsample -> transformer (25 Hz) -> SEANet -> wav
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sopro_np import ops
from sopro_np.config import MimiConfig
from sopro_np.errors import FormatError, UsageError
from sopro_np.layers import apart
from sopro_np.mimi.encoder import Encoder
from sopro_np.mimi.quantizer import SplitQuantizer
from sopro_np.mimi.seanet import Seanet, read_decoder
from sopro_np.mimi.transformer import Rope, Transformer
from sopro_np.state import KV, Tail
from sopro_np.weights import Weights

# Frames at a time, also offline. The SEANet's activations are large (8 frames of its last layer: 4 MB) and should
# stay in the cache; the transformer's are small, but its weights (100 MB) are read once per block.
SEANET_FRAMES = 16
TRANSFORMER_FRAMES = 64
KEY_ROOM = 512  # positions that a step of the transformer is captured for; twice as many when they are used up
DROP_FRAMES = 4  # after so many the pages of the codebooks are given back
SPEAKS_ONLY = (
    "this model file only speaks (it was made with --speak-only) and cannot hear a recording: make the voice with the "
    "full file of the same model, elsewhere if need be (`sopro-np voice REC -m FULL -o NAME.voice.safetensors`), and "
    "give that file as the voice (--voice, or in the folder of voices)"
)


@dataclass
class DecoderState:
    """What an exact stream of the decoder remembers: arrays, and how many positions it has heard."""

    upsample: Tail
    transformer: list[KV]
    seanet: list[list[Tail]]
    position: int = 0
    _rooms: dict[int, tuple[list[KV], ops.Arrays]] = field(default_factory=dict)

    @cached_property
    def seanet_arrays(self) -> ops.Arrays:
        """What the SEANet works in."""
        return ops.Arrays(tail.rows for tails in self.seanet for tail in tails)

    def of_room(self, room: int) -> tuple[list[KV], ops.Arrays]:
        """Keys and values of the first so many positions, and what the other half works in with them."""
        if room not in self._rooms:
            kvs = [KV(kv.keys[:room], kv.values[:room]) for kv in self.transformer]
            arrays = [self.upsample.rows, *(array for kv in kvs for array in (kv.keys, kv.values))]
            self._rooms[room] = kvs, ops.Arrays(arrays)
        return self._rooms[room]


@dataclass(frozen=True)
class PhaseFilter:
    """Transposed convolution of every channel by itself: `stride` rows out for one in."""

    weight: np.ndarray  # (m, stride*H): column j*H + c filters channel c for output phase j
    stride: int

    def new_state(self) -> Tail:
        return Tail.zeros(len(self.weight) - 1, self.weight.shape[1] // self.stride)

    def __call__(self, x: np.ndarray, tail: Tail) -> np.ndarray:
        """x (T, H) -> (T*stride, H)."""
        y = ops.depthwise_conv(x, self.weight, past=tail.rows, phases=self.stride)
        tail.push(x)
        return y


@dataclass(frozen=True)
class Mimi:
    """Both directions of the codec. Weights only; `new_state` makes a stream's state."""

    config: MimiConfig
    encoding: Encoder | None  # None: of a file that only speaks
    quantizer: SplitQuantizer
    upsample: PhaseFilter
    decoder_transformer: Transformer
    decoder: Seanet

    # ------------------------------------------------------------ encoding

    @property
    def hears(self) -> bool:
        """Can it encode?"""
        return self.encoding is not None

    @property
    def encoder(self) -> Encoder:
        """The half that hears. UsageError, with the remedy, if the file was made without it."""
        if self.encoding is None:
            raise UsageError(SPEAKS_ONLY)
        return self.encoding

    @property
    def most_frames(self) -> int:
        """Of a recording, in one piece: there are so many positions."""
        return len(self.encoder.transformer.rope.cos) // self.config.frame_stride

    def encode(self, wav: np.ndarray) -> np.ndarray:
        """wav (n,) at `sample_rate` -> codes (ceil(n / hop), Q)."""
        if wav.ndim != 1 or len(wav) == 0:
            raise UsageError(f"a waveform of shape {wav.shape} cannot be encoded: one row of samples is needed")
        x = self.encoder(wav)
        with ops.temporary_packing():
            return self.quantizer.encode(x)

    # ------------------------------------------------------------ decoding

    def new_state(self, frames: int) -> DecoderState:
        """State of a stream of at most `frames` frames."""
        return DecoderState(
            self.upsample.new_state(),
            self.decoder_transformer.new_state(frames * self.config.frame_stride),
            self.decoder.new_state(),
        )

    def check_length(self, frames: int) -> None:
        """Can so many frames follow one another in one stream?"""
        most = len(self.decoder_transformer.rope.cos) // self.config.frame_stride
        if frames > most:
            raise UsageError(f"max_frames = {frames}: the codec has positions for {most} frames in one piece")

    def decode(self, codes: np.ndarray, state: DecoderState) -> np.ndarray:
        """codes (T, q), T >= 0, q leading codebooks -> wav (T * hop,), not clipped.

        The same for any cut: bit for bit on native ops, up to BLAS's rounding on NumPy's (docs/STREAMING.md).
        """
        self.check(codes)
        parts = [np.zeros(0, np.float32)]
        for a in range(0, len(codes), TRANSFORMER_FRAMES):
            parts.append(self.samples(self.features(codes[a : a + TRANSFORMER_FRAMES], [state]), state))
        return np.concatenate(parts)

    def features(self, codes: np.ndarray, states: Sequence[DecoderState]) -> np.ndarray:
        """Codes -> what the SEANet makes sound of; of several streams at once, with the weights read once.

        codes (B*T, q), stream below stream -> (B*T2, H). The same as one by one; `samples` is the other half.
        """
        rows = len(codes) // len(states) * self.config.frame_stride
        room = KEY_ROOM
        for state in states:
            self.decoder_transformer.check(state.transformer, state.position + rows)
            while room < state.position + rows:
                room *= 2
        kvs = [state.of_room(room)[0] for state in states]

        def function(codes: np.ndarray, *firsts: int) -> np.ndarray:
            x = self.quantizer.decode(codes)
            if len(states) == 1:
                x = self.upsample(x, states[0].upsample)
            else:
                x = apart(x, states, lambda rows, state: self.upsample(x[rows], state.upsample))
            return self.decoder_transformer(x, kvs, firsts)

        arrays = ops.Arrays.joined([state.of_room(room)[1] for state in states])
        numbers = [(state.position, len(own[0].keys) - rows) for state, own in zip(states, kvs, strict=True)]
        codes = np.ascontiguousarray(codes, np.int64)
        x = ops.replay(self, f"features of {len(states)}", function, (codes,), arrays, numbers)
        frames = DROP_FRAMES * self.config.frame_stride
        for state in states:
            drops, state.position = state.position // frames, state.position + rows
            if state.position // frames > drops:
                self.quantizer.drop()
        return x

    def samples(self, x: np.ndarray, state: DecoderState) -> np.ndarray:
        """Features of one stream (T2, H) -> wav (T * hop,)."""
        step = SEANET_FRAMES * self.config.frame_stride

        def piece(x: np.ndarray) -> np.ndarray:
            return self.decoder(x, state.seanet)

        parts = [np.zeros(0, np.float32)]
        for a in range(0, len(x), step):
            parts.append(ops.replay(self, "samples", piece, (x[a : a + step],), state.seanet_arrays)[:, 0])
        return np.concatenate(parts)

    def check(self, codes: np.ndarray) -> None:
        """UsageError for what are no codes of this codec."""
        if codes.ndim != 2 or not 1 <= codes.shape[1] <= self.config.codebooks:
            raise UsageError(f"codes of shape {codes.shape} cannot be decoded: (frames, 1..{self.config.codebooks})")
        if codes.dtype.kind not in "iu":
            raise UsageError(f"codes are whole numbers, not {codes.dtype}")
        if codes.size and not 0 <= codes.min() <= codes.max() < self.config.code_values:
            raise UsageError(f"a code lies outside 0..{self.config.code_values - 1}")


def build_mimi(w: Weights, config: MimiConfig, hears: bool = True) -> Mimi:
    """Read every tensor below `w`; a missing, misshapen or left-over one is an error. `hears`: is the encoder there?"""
    _check_config(config)
    rope = Rope.read(w.scope("rope"))
    stride = config.frame_stride
    mimi = Mimi(
        config,
        Encoder.read(w, config, rope) if hears else None,
        SplitQuantizer.read(w.scope("quantizer"), config, hears),
        PhaseFilter(np.ascontiguousarray(w.vector("upsample.weight", stride * config.width, None).T), stride),
        Transformer.read(w.scope("decoder_transformer"), config, rope),
        read_decoder(w.scope("decoder"), config),
    )
    w.assert_all_used()
    return mimi


def _check_config(c: MimiConfig) -> None:
    sizes = (c.sample_rate, c.width, *c.ratios, c.residual_layers, c.dilation_growth, c.layers, c.heads,
             c.codebooks, c.code_values, c.code_width, c.frame_stride)  # fmt: skip
    if min(sizes) < 1 or not c.ratios or not 1 <= c.semantic_codebooks < c.codebooks:
        raise FormatError("the codec's configuration is inconsistent: a size is zero, or no acoustic codebook")
