"""What the matrices of a model multiply, when it speaks: nobody's recordings or texts but a fixed list are needed.

The model says sentences of the list with its own sampled codes. The first voice is made of codes that mean nothing,
every other one of what was said last; so after a sentence or two it is a voice like any. What was said is decoded, and
heard (encoded) if the file can: so the codec's encoder and the reference are seen, too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sopro_np.convert.calibrated import Calibrated, Inputs
from sopro_np.convert.recipe import Recipe
from sopro_np.engine import Sopro
from sopro_np.errors import SoproError, UsageError
from sopro_np.ops.quant import FORMATS, QTensor
from sopro_np.requantise.watch import Seen, Watch, watched

FRAMES = 100  # of a sentence, at most
REFERENCE = 64  # frames of a voice, at most
SENTENCES = (
    "The morning train leaves at seven, and it is never late.",
    "Have you ever seen a whale from so close?",
    "My neighbour grows tomatoes, beans and yellow flowers.",
    "No, I did not say that. I said the very opposite!",
    "Please turn left at the bridge, then go straight for two miles.",
    "In nineteen sixty nine, three men flew to the moon.",
    "Through thick fog the fishing boats came home.",
    "Why should anybody pay for something they do not use?",
    "Judge Walsh quickly fixed six vague, boring pages.",
    "We laughed, we argued, and we danced until the sun came up.",
    "Measure twice, cut once: that is what my father taught me.",
    "It was cold enough to freeze the water in the well.",
    "The choir sang so softly that you could hear the rain.",
    "Oh! You have grown, and your hair is shorter.",
    "Eight hundred and forty two people live in this valley.",
    "Could you pass me the blue jug and a piece of cheese?",
    "An unusual treasure lay beneath the azure lake.",
    "Shut the door behind you, and leave your shoes outside.",
    "Every child in the village knew the sound of that bell.",
    "He thought about it for a while. Then he shook his head.",
    "Fresh bread, butter and honey: nothing tastes better.",
    "The power went out twice, but the show went on.",
    "They voyage north each spring and return with the geese.",
    "Good night, sleep well, and do not worry about tomorrow.",
)  # fmt: skip
REMEDY = "leave --calibrate out"
Tell = Callable[[str], None]


class Collector(Watch):
    """Keeps inputs of the matrices that a recipe gives integers to."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.inputs: dict[str, Inputs] = {}

    def entering(self, name: str, seen: Seen, w: QTensor) -> tuple[np.ndarray, QTensor]:
        form = FORMATS[self.recipe.scheme(name)]
        if form.scheme in ("int8", "int4"):
            inputs = self.inputs.setdefault(name, Inputs(form.asymmetric))
            chosen = inputs.choose(len(seen))
            inputs.add(len(seen), chosen, seen.rows[seen.rows_of(chosen)])
        return seen.rows, w


def calibrated(path: Path, recipe: Recipe, count: int, tell: Tell = lambda line: None) -> Calibrated:
    """Rounding by what the model of a file multiplies while it says `count` sentences. UsageError if it cannot."""
    return Calibrated(inputs(path, recipe, count, tell))


def inputs(path: Path, recipe: Recipe, count: int, tell: Tell = lambda line: None) -> dict[str, Inputs]:
    """Let the model of a file say `count` sentences -> name of a matrix -> what it multiplied.

    UsageError if it cannot speak, or says nothing.
    """
    collector, frames = Collector(recipe), 0
    try:
        with watched(path, None, collector) as tts:
            codes = first_codes(tts)
            for i in range(count):
                voice = tts.voice_from_codes(codes)
                said = tts.codes(SENTENCES[i % len(SENTENCES)], voice, seed=i, max_frames=FRAMES)
                tell(f"calibration: sentence {i + 1} of {count}, {len(said)} frames")
                if len(said):
                    frames, codes = frames + len(said), said[:REFERENCE]
                    hear(tts, said)
    except SoproError as error:
        raise UsageError(f"calibration lets the model speak, and it cannot: {error}; {REMEDY}") from None
    if not frames:
        raise UsageError(f"calibration lets the model speak, and it says nothing; {REMEDY}")
    return collector.inputs


def first_codes(tts: Sopro) -> np.ndarray:
    """Codes (8, Q) of nothing in particular."""
    config = tts.model.config
    return np.random.default_rng(0).integers(0, config.code_values, (8, config.codebooks))


def hear(tts: Sopro, codes: np.ndarray) -> None:
    """Decode codes (T, Q), and encode what comes out, as far as the file can."""
    if "mimi" in tts.fingerprints:
        wav = tts.decode(codes)
        if any(name.startswith("mimi.encoder.") for name in tts.file.header):
            with tts.runtime():
                tts.mimi.encode(wav)
