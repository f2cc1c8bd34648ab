"""The facade: a model file opened, voices made, text spoken. Everything else is below, everything user-facing above."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sopro_np import ops as operations
from sopro_np.audio import MAX_SECONDS, centre_crop, read_reference
from sopro_np.batch import TOGETHER, advance_together
from sopro_np.config import MimiConfig, SoproConfig
from sopro_np.errors import AudioError, FormatError, ModelError, UsageError
from sopro_np.locate import find_voice
from sopro_np.mimi.codec import Mimi, build_mimi
from sopro_np.model.build import Model, build_model
from sopro_np.ops import current, using
from sopro_np.ops.context import computing
from sopro_np.options import Options
from sopro_np.session import Session
from sopro_np.tensorfile import TensorFile
from sopro_np.tokenizer import Tokenizer
from sopro_np.voice import Voice, check_fingerprints, load_voice, make_voice
from sopro_np.weights import Weights

Reference = str | Path | bytes | BinaryIO
STREAM_LOOKAHEAD = 16  # default of `stream` for models that look ahead; docs/STREAMING.md has the table


class Sopro:
    """A loaded model. Weights are shared and read-only: any number of voices and streams may use one object.

    `read`: how tensors are taken from the file (a study may take them in another format than they lie there).
    """

    def __init__(
        self, path: str | Path, threads: int | None = None, read: Callable[[TensorFile], Weights] = Weights
    ) -> None:
        self.path = Path(path)
        self.threads = threads
        self.ops = current()  # packs the weights, and is used for all that is computed with them
        self.file = file = TensorFile(path)
        if file.metadata.get("format") != "sopro_np":
            raise FormatError(
                f"{path}: a safetensors file, but not one made by tools/convert_weights.py: convert it first"
            )
        if file.metadata.get("format_version") != "1":
            version = file.metadata.get("format_version")
            raise FormatError(f"{path}: format version {version!s:.20}, this program reads 1")
        architecture = file.json("architecture")
        if not isinstance(architecture, dict) or set(architecture) - {"sopro", "mimi"}:
            raise FormatError(f"{path}: the architecture in the metadata is not understood")
        self._model: Model | None = None
        self._mimi: Mimi | None = None
        self._tokenizer: Tokenizer | None = None
        try:
            self._read(architecture, read(file))
        except FormatError as error:
            message = str(error)
            raise FormatError(message if str(path) in message else f"{path}: {message}") from None

    def _read(self, architecture: dict[str, Any], weights: Weights) -> None:
        """Build the parts that the file holds; every tensor must belong to one of them."""
        file = self.file
        if "sopro" in architecture:
            self._model = build_model(weights.scope("sopro"), SoproConfig.from_dict(architecture["sopro"]))
        if "mimi" in architecture:
            self._mimi = build_mimi(weights.scope("mimi"), MimiConfig.from_dict(architecture["mimi"]))
        if any(name.startswith("tokenizer.") for name in file.header):
            names = [n for n in file.header if n.startswith("tokenizer.")]
            self._tokenizer = Tokenizer({n: file[n] for n in names})
            weights.used.update(names)
        weights.assert_all_used()
        self._check_together()
        self.fingerprints = _fingerprints(file.json("sources"), architecture)

    def _check_together(self) -> None:
        if self._model and self._tokenizer and self._tokenizer.vocab_size > self._model.text.vocabulary:
            raise FormatError(
                f"{self.path}: the tokenizer has {self._tokenizer.vocab_size} entries, "
                f"the text encoder {self._model.text.vocabulary}: they do not belong together"
            )
        if self._model and self._mimi:
            s, m = self._model.config, self._mimi.config
            if s.codebooks > m.codebooks or s.code_values > m.code_values:
                raise FormatError(f"{self.path}: the codec has fewer codes than the model writes")

    # ------------------------------------------------------------ parts

    def _part(self, part: Any, name: str, option: str) -> Any:
        if part is None:
            raise ModelError(f"{self.path}: has no {name}; convert it again with {option}")
        return part

    @property
    def model(self) -> Model:
        """The acoustic model."""
        return self._part(self._model, "acoustic model", "--sopro")

    @property
    def mimi(self) -> Mimi:
        """The codec."""
        return self._part(self._mimi, "codec", "--mimi")

    @property
    def tokenizer(self) -> Tokenizer:
        return self._part(self._tokenizer, "tokenizer", "--tokenizer")

    @property
    def sample_rate(self) -> int:
        """Of everything this model says, in Hz."""
        return self.mimi.config.sample_rate

    # ------------------------------------------------------------ voices

    def voice(self, ref: Reference | np.ndarray, seconds: float | None = None) -> Voice:
        """Recording -> voice. `ref`: audio file, its bytes, or float samples (n,) at `sample_rate`.

        At most `seconds` from the middle are used (default: what the model was trained with). Samples are taken as
        they are otherwise; a file is also mixed to mono, trimmed, resampled and checked.
        """
        mimi, config = self.mimi, self.model.config
        limit = min(config.reference_seconds, MAX_SECONDS) if seconds is None else seconds
        if not isinstance(limit, int | float) or not 0 < limit <= MAX_SECONDS:
            raise UsageError(f"seconds = {limit!r} must be more than 0 and at most {MAX_SECONDS:g}")
        if isinstance(ref, np.ndarray):
            if ref.dtype.kind != "f" or ref.ndim != 1 or len(ref) < mimi.config.hop:
                raise AudioError(
                    f"samples must be floats (n,) in -1..1, n at least {mimi.config.hop}; give a file otherwise"
                )
            wav = ref.astype(np.float32)
            if not np.isfinite(wav).all():
                raise AudioError("the reference has samples that are not numbers (NaN or infinity)")
            wav = centre_crop(wav, max(1, round(limit * mimi.config.frame_rate)) * mimi.config.hop)
        else:
            wav = read_reference(ref, mimi.config.sample_rate, limit, mimi.config.frame_rate)
        with computing(self.ops, self.threads):
            codes = mimi.encode(wav)[:, : config.codebooks]
        return self.voice_from_codes(codes)

    def voice_from_codes(self, codes: np.ndarray) -> Voice:
        """Reference codes (R, Q) -> voice."""
        with self._making_voice():
            return make_voice(self.model, codes, self.fingerprints)

    def load_voice(self, name: str | Path) -> Voice:
        """A file written by `Voice.save`, or (without any folder) the name of a kept or an embedded voice."""
        path = find_voice(name, self.path) if Path(name).name == str(name) else name
        with self._making_voice():
            return load_voice(path, self.model, self.fingerprints)

    @contextmanager
    def _making_voice(self) -> Iterator[None]:
        """Afterwards the parts that listen are let go: a quarter of the file, not needed to speak."""
        with computing(self.ops, self.threads):
            yield
            operations.release()
        for part in ("mimi.encoder.", "mimi.encoder_transformer.", "mimi.quantizer.", "sopro.voice."):
            self.file.forget(part)

    # ------------------------------------------------------------ speech

    def session(
        self,
        text: str,
        voice: Voice,
        options: Options,
        sampler: Callable[[np.ndarray], int] | None = None,
    ) -> Session:
        """One utterance, to be iterated block by block."""
        _check(text, voice)
        if self._mimi is not None:
            self._mimi.check_length(options.max_frames)
        check_fingerprints(voice.fingerprints, self.fingerprints, "this voice")
        return Session(self.model, voice, self.tokenizer.encode(text), options, sampler=sampler, threads=self.threads)

    def codes(self, text: str, voice: Voice, **options: Any) -> np.ndarray:
        """Text -> codes (frames, codebooks) int64."""
        blocks = list(self.session(text, voice, _options(options)).blocks())
        return np.concatenate(blocks) if blocks else np.zeros((0, self.model.config.codebooks), np.int64)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes (frames, q) -> float32 waveform, not clipped."""
        codes = np.asarray(codes)
        if codes.ndim != 2:
            raise UsageError(f"codes of shape {codes.shape} cannot be decoded: (frames, codebooks) are needed")
        with computing(self.ops, self.threads):
            return self.mimi.decode(codes, self.mimi.fresh(len(codes)))

    def chunks(self, session: Session, options: Options) -> Iterator[np.ndarray]:
        """Audio of a session, `chunk_frames` frames at a time (the last piece may be shorter)."""
        mimi = self.mimi
        state = mimi.fresh(options.max_frames + 1)  # the end code may come one step later
        waiting = np.zeros((0, self.model.config.codebooks), np.int64)
        for block in session.blocks():
            waiting = np.concatenate([waiting, block])
            while len(waiting) >= options.chunk_frames:
                yield self._speak(waiting[: options.chunk_frames], state)
                waiting = waiting[options.chunk_frames :]
        if len(waiting):
            yield self._speak(waiting, state)

    def _speak(self, codes: np.ndarray, state: Any) -> np.ndarray:
        with computing(self.ops, self.threads):
            wav = self.mimi.decode(codes, state)
        if not np.isfinite(wav).all():
            raise ModelError(f"{self.path}: the codec computed NaN or infinity: its weights are broken")
        return np.clip(wav, -1, 1)

    def stream(self, text: str, voice: Voice, **options: Any) -> Iterator[np.ndarray]:
        """Text -> float32 chunks in [-1, 1], the first one long before the last word is decided.

        A causal model streams exactly what `synthesize` returns. One that looks ahead does so with a finite
        `lookahead` (default 16 frames), and equals `synthesize` with the same value.
        """
        if "lookahead" not in options and self.model.nar.looks_ahead:
            options["lookahead"] = STREAM_LOOKAHEAD
        o = _options(options)
        return self.chunks(self.session(text, voice, o), o)

    def synthesize(self, text: str, voice: Voice, **options: Any) -> np.ndarray:
        """Text -> float32 waveform (samples,) in [-1, 1]."""
        o = _options(options)
        return self._whole(self.session(text, voice, o), o)

    def synthesize_many(self, texts: Iterable[str], voice: Voice | Sequence[Voice], **options: Any) -> list[np.ndarray]:
        """Texts -> the waveforms that `synthesize` gives for each, in less time. `voice`: for all, or one for each.

        Up to 16 texts at a time share the steps of the first codebook. `seed` holds for every text.
        """
        if isinstance(texts, str):
            raise UsageError("texts must be a list of texts, not one text")
        texts, o = list(texts), _options(options)
        voices = list(voice) if isinstance(voice, Sequence) else [voice] * len(texts)
        if len(voices) != len(texts):
            raise UsageError(f"{len(texts)} texts and {len(voices)} voices: give one voice for all, or one for each")
        pairs = list(zip(texts, voices, strict=True))
        for pair in pairs:  # before hours of work on the others
            _check(*pair)
        spoken: list[np.ndarray] = []
        for first in range(0, len(pairs), TOGETHER):
            sessions = [self.session(*pair, o) for pair in pairs[first : first + TOGETHER]]
            advance_together(sessions)
            spoken += [self._whole(session, o) for session in sessions]
        return spoken

    def _whole(self, session: Session, options: Options) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.float32), *self.chunks(session, options)])


def _check(text: Any, voice: Any) -> None:
    if not isinstance(text, str) or not text.strip():
        raise UsageError("the text is empty: there is nothing to say")
    if not isinstance(voice, Voice):
        raise UsageError("voice must be a Voice: make one with voice() or load_voice()")


def _options(given: dict[str, Any]) -> Options:
    if unknown := sorted(set(given) - set(Options.names())):
        raise UsageError(f"unknown options {unknown}; there are {', '.join(Options.names())}")
    return dataclasses.replace(Options(), **given)


def _fingerprints(sources: Any, architecture: dict[str, Any]) -> dict[str, str]:
    """Part -> sha256 of the checkpoint it was made from: what ties a voice to its model."""
    try:
        prints = {part: sources[part]["sha256"] for part in architecture}
    except (KeyError, TypeError):
        prints = {"sources": None}
    if not all(isinstance(digest, str) for digest in prints.values()):
        raise FormatError("the metadata 'sources' must hold a sha256 for every part")
    return prints


def open_model(path: str | Path, threads: int | None = None, ops: str | None = None) -> Sopro:
    """Open a model file. `threads`: at most that many for large products.

    `ops`: "numpy" (or "native"), for everything that this model computes; other models keep theirs.
    """
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise UsageError(f"threads = {threads!r} must be a whole number, at least 1")
    with using(ops or current()):
        return Sopro(path, threads)
