"""The first codebook, one frame after the other: what was said so far + the frame's conditioning -> logits.

A step costs the same at frame 1 and at frame 400: the blocks keep conv tails, the text keys and values are
computed once per utterance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sopro_np import ops
from sopro_np.config import SoproConfig
from sopro_np.layers import ConvBlock, CrossAttention, CrossKV, Linear, RMSNorm, read_blocks
from sopro_np.model.utterance import Utterance
from sopro_np.ops.quant import QTensor
from sopro_np.state import Tail
from sopro_np.weights import Weights

Tails = Sequence[Tail] | Sequence[list[Tail]]  # per block; of one utterance, or of each of several
TextKV = Mapping[int, CrossKV] | Mapping[int, list[CrossKV]]  # per attending block, likewise
TEXT_ROOM = 64  # text positions that a step is captured for; twice as many where they do not do


@dataclass
class ArState:
    """Everything generation has heard: conv tails, and the codes (BOS padding, then prefix, then generated)."""

    tails: list[Tail]
    codes: list[int]
    prefix: int  # P, codes that came from the reference
    rows: list[np.ndarray] = field(default_factory=list)  # conditioning of the frames that may be re-run
    frame: int = 0
    _arrays: ops.Arrays | None = None

    def arrays(self, text: Mapping[int, CrossKV]) -> ops.Arrays:
        """What an exact step works in: the tails, and the utterance's text."""
        if self._arrays is None:
            own = [tail.rows for tail in self.tails]
            self._arrays = ops.Arrays(own + [array for kv in text.values() for array in (kv.keys, kv.values)])
        return self._arrays

    def push(self, code: int) -> None:
        """The code chosen for the frame just computed."""
        self.codes.append(code)


@dataclass(frozen=True)
class Autoregressor:
    """Causal ConvBlocks with text attention in between, and a head over the values of codebook 0."""

    table: QTensor  # (Q*V + 1, D); row c is code c of codebook 0, the last row is BOS
    history: np.ndarray  # (K,) weights of the last K codes, newest first
    blocks: tuple[ConvBlock, ...]
    attention: dict[int, CrossAttention]  # block -> text attention after it
    norm: RMSNorm
    head: Linear

    @staticmethod
    def read(w: Weights, config: SoproConfig, table: QTensor) -> Autoregressor:
        attention = w.scope("attention")
        return Autoregressor(
            table,
            w.vector("history", config.ar_history),
            read_blocks(w.scope("blocks"), config.width, config.ar_dilations, causal=True),
            {
                i: CrossAttention.read(attention.scope(i), config.width, config.text_heads, config.attention_bias)
                for i in config.ar_text_attention
            },
            RMSNorm.read(w.scope("norm"), config.width),
            Linear.read(w.scope("head"), config.ar_codes, config.width),
        )

    def text_kv(self, text: np.ndarray) -> dict[int, CrossKV]:
        """Keys and values of the encoded text (S, D), per attending block."""
        return {i: layer.cross_kv(text).with_room(TEXT_ROOM) for i, layer in self.attention.items()}

    def new_state(self, prefix: np.ndarray) -> ArState:
        """State before the first frame. prefix (P,): codes of the reference's codebook 0, P >= 0."""
        bos = self.table.shape[0] - 1
        codes = [bos] * len(self.history) + [int(c) for c in prefix]
        return ArState([block.new_state() for block in self.blocks], codes, len(prefix))

    def step(self, row: np.ndarray, state: ArState, utterance: Utterance) -> np.ndarray:
        """Logits of the next code. row (D,): this frame's conditioning -> (ar_codes,).

        Upstream sums over min(K, n) previous codes when n = P + t + 1 are known, and does not renormalise. So
        while n < K the inputs of *earlier* frames change with every step: those few steps, and the first one
        with all K terms, re-run frames 0..t from a new state. From then on the state is exact, and each step
        is the one before with other numbers.
        """
        if self.exact(state):
            return self.step_together(row[None], [state], [utterance])[-1]
        state.frame += 1
        state.rows.append(row)
        state.tails, state._arrays = [block.new_state() for block in self.blocks], None
        x = self.inputs(np.stack(state.rows), state.codes, min(len(self.history), state.prefix + state.frame))
        return self.logits(x, state.tails, utterance.text_kv)[-1]

    def exact(self, state: ArState) -> bool:
        """Have all K terms been there for a step, so that the tails are what they will stay?"""
        return state.frame >= len(self.history) - state.prefix

    def step_together(self, rows: np.ndarray, states: Sequence[ArState], utterances: Sequence[Utterance]) -> np.ndarray:
        """`step` for B utterances that are exact, with the weights read once: rows (B, D) -> logits (B, ar_codes)."""
        texts = [utterance.text_kv for utterance in utterances]
        ids = np.concatenate([self.windows(state.codes, 1) for state in states])
        for state in states:
            state.frame += 1

        def exact(rows: np.ndarray, ids: np.ndarray, *lengths: int) -> np.ndarray:
            x = ops.embed_sum(ids, self.table, self.history, residual=rows)
            known = [{i: kv._replace(length=n) for i, kv in text.items()} for text, n in zip(texts, lengths)]
            if len(states) == 1:
                return self.logits(x, states[0].tails, known[0])
            tails = [list(streams) for streams in zip(*(state.tails for state in states), strict=True)]
            return self.logits(x, tails, {i: [text[i] for text in known] for i in self.attention})

        arrays = ops.Arrays.joined([state.arrays(text) for state, text in zip(states, texts, strict=True)])
        kvs = [next(iter(text.values()), None) for text in texts]  # of one text all have the same length
        lengths = [(kv.length, len(kv.keys)) if kv else (0, 0) for kv in kvs]
        return ops.replay(self, "step", exact, (rows, ids), arrays, lengths)

    def inputs(self, rows: np.ndarray, codes: list[int], terms: int) -> np.ndarray:
        """Conditioning + the weighted sum of `terms` previous codes, for the newest frames. rows (T, D) -> (T, D).

        `codes` ends with the code before the last row's frame.
        """
        ids = self.windows(codes, len(rows))[:, :terms]
        return ops.embed_sum(ids, self.table, self.history[:terms], residual=rows)

    def windows(self, codes: list[int], frames: int) -> np.ndarray:
        """The K codes before each of the newest frames, newest first -> (frames, K) int64."""
        end, k = len(codes), len(self.history)
        return np.array([codes[i - k : i][::-1] for i in range(end - frames + 1, end + 1)], np.int64)

    def logits(self, x: np.ndarray, tails: Tails, text: TextKV) -> np.ndarray:
        """Inputs (T, D) -> logits (T, ar_codes); advances the tails. With lists of states: T utterances' frames."""
        for i, block in enumerate(self.blocks):
            x = block(x, tails[i])
            if i in self.attention:
                x = self.attention[i](x, text[i])
        return self.head(self.norm(x))
