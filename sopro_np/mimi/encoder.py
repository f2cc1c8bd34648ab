"""The half of the codec that hears: wav -> SEANet -> transformer (25 Hz) -> downsample to the frame rate (12.5 Hz)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.config import MimiConfig
from sopro_np.errors import FormatError
from sopro_np.mimi.seanet import Seanet, read_encoder
from sopro_np.mimi.transformer import Rope, Transformer
from sopro_np.ops.quant import QTensor
from sopro_np.weights import Weights

ENCODER_FRAMES = 4  # at a time: the encoder begins where the decoder ends, with its largest activations


@dataclass(frozen=True)
class Downsample:
    """Strided convolution to the frame rate. Its padding repeats the edge, so it needs the whole sequence."""

    weight: QTensor
    stride: int

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x (T, H) -> (ceil(T/stride), H)."""
        left = np.repeat(x[:1], self.weight.taps - self.stride, axis=0)
        right = np.repeat(x[-1:], -len(x) % self.stride, axis=0)
        return ops.conv(np.concatenate([x, right]), self.weight, stride=self.stride, past=left)


@dataclass(frozen=True)
class Encoder:
    """Its three parts, in order. They are used once per voice, so their weights stay as they lie in the file."""

    hop: int  # samples per frame
    seanet: Seanet
    transformer: Transformer
    downsample: Downsample

    @staticmethod
    def read(w: Weights, config: MimiConfig, rope: Rope) -> Encoder:
        """From the scope of the whole codec."""
        h, s = config.width, config.frame_stride
        downsample = Downsample(w.matrix("downsample.weight", h, h, taps=None), s)
        if downsample.weight.taps < s:
            raise FormatError(f"mimi.downsample.weight: {downsample.weight.taps} taps cannot cover a stride of {s}")
        return Encoder(
            config.hop,
            read_encoder(w.scope("encoder", packs=False), config),
            Transformer.read(w.scope("encoder_transformer", packs=False), config, rope),
            downsample,
        )

    def __call__(self, wav: np.ndarray) -> np.ndarray:
        """wav (n,) at the codec's rate -> (ceil(n / hop), H)."""
        with ops.temporary_packing():  # one part's weights at a time
            x = self.convolved(wav)
        with ops.temporary_packing():
            x = self.transformed(x)
        with ops.temporary_packing():
            return self.downsample(x)

    def convolved(self, wav: np.ndarray) -> np.ndarray:
        """wav (n,) -> (T2, H), block by block, so that a long recording needs no more memory than a short one."""
        tails = self.seanet.new_state()
        x = np.ascontiguousarray(wav, np.float32)[:, None]
        step = ENCODER_FRAMES * self.hop
        return np.concatenate([self.seanet(x[a : a + step], tails) for a in range(0, len(x), step)])

    def transformed(self, x: np.ndarray) -> np.ndarray:
        """(T2, H) -> (T2, H)."""
        return self.transformer(x, [self.transformer.new_state(len(x))], [0])
