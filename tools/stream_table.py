"""How much does a finite lookahead cost? Codes and audio of a stream against offline, per lookahead.

    python tools/stream_table.py MODEL --ref ref.wav

The first codebook is the same in both (causal), so the same frames are compared. Agreement is counted over the
codebooks that the NAR stages fill. "heard after" is the audio that must be generated before the first block of
a stream can be fixed: (block + lookahead) frames of 80 ms at the published frame rate.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sopro_np.bench.stages import TEXT, forced, random_voice
from sopro_np.engine import Sopro, open_model
from sopro_np.errors import SoproError
from sopro_np.evaluate.signals import snr
from sopro_np.session import BLOCK_FRAMES

TEXTS = (
    TEXT,
    "Could you tell me where the nearest station is, please?",
    "It was raining when we left, but by noon the sky had cleared.",
)
LOOKAHEADS = (0, 2, 4, 6, 8, 12, 16, 24, 32, 64, 128)


def table(tts: Sopro, ref: str | None, frames: int, seeds: int) -> list[tuple[int, float, float]]:
    """(lookahead, share of equal codes, SNR of the decoded audio in dB) per value, over texts and seeds."""
    voice = tts.voice(ref) if ref else random_voice(tts)
    cases = [(text, seed) for text in TEXTS for seed in range(seeds)]

    def codes(text: str, seed: int, lookahead: int | None) -> np.ndarray:
        options = forced(tts, frames, lookahead=lookahead, seed=seed)
        return np.concatenate(list(tts.session(text, voice, options).blocks()))

    offline = [codes(text, seed, None) for text, seed in cases]
    waves = [tts.decode(c) for c in offline]
    rows = []
    for lookahead in LOOKAHEADS:
        equal, ratios = [], []
        for (text, seed), whole, wave in zip(cases, offline, waves, strict=True):
            mine = codes(text, seed, lookahead)
            equal.append(float((mine[:, 1:] == whole[:, 1:]).mean()))
            ratios.append(snr(wave, tts.decode(mine)))
        rows.append((lookahead, float(np.mean(equal)), float(np.median(ratios))))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--ref", help="recording of the voice (default: random codes)")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    try:
        tts = open_model(args.model, threads=1)
        frame_s = tts.mimi.config.hop / tts.sample_rate
        print("| lookahead | heard after | equal codes | SNR against offline |\n|---|---|---|---|")
        for lookahead, equal, ratio in table(tts, args.ref, args.frames, args.seeds):
            after = (BLOCK_FRAMES + lookahead) * frame_s
            print(f"| {lookahead} | {after:.2f} s | {100 * equal:.1f} % | {ratio:.1f} dB |")
    except SoproError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
