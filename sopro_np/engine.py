"""The facade: a model file opened, voices made, text spoken. Everything else is below, everything user-facing above."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from sopro_np import ops as operations
from sopro_np.audio import AudioSource
from sopro_np.cores import capped
from sopro_np.errors import ModelError, UsageError
from sopro_np.guard import Guard
from sopro_np.locate import find_voice
from sopro_np.longform import Job
from sopro_np.mimi.codec import Mimi
from sopro_np.model.build import Model
from sopro_np.modelfile import Parts, read_parts
from sopro_np.ops import current, using
from sopro_np.ops.runtime import CLOSED, Runtime
from sopro_np.options import OptionArgs, Options, whole
from sopro_np.pace import Pace
from sopro_np.script import Part, Script, write_script
from sopro_np.session import Session
from sopro_np.speech import Speech, check_text
from sopro_np.speechbatch import SpeechBatch
from sopro_np.tensorfile import TensorFile
from sopro_np.tokenizer import Tokenizer
from sopro_np.voice import Voice, WhoSpeaks, load_voice, make_voice
from sopro_np.voices import LoadedVoices, fitting_voices, reference_codes
from sopro_np.weights import Activations, Weights

TOGETHER = 16  # utterances of `synthesize_many` in one batch
WARM_UP = "Warm up: the quick brown fox jumps over the lazy dog."


class Sopro:
    """A loaded model. Weights are shared and read-only: any number of voices, streams and batches may use one object.

    `threads`: at most that many for large products, and never more than the process has cores. `with` closes it.
    `read`: how tensors are taken from the file (a study may want another format).
    """

    def __init__(
        self, path: str | Path, threads: int | None = None, read: Callable[[TensorFile], Weights] = Weights
    ) -> None:
        self.file = TensorFile(path)  # whose operations pack the weights computes with them
        self.runtime = Runtime(current(), capped(threads), Activations.of(self.file).precision)
        self.path, self._read, self._named = Path(path), read, LoadedVoices()
        self._parts: Parts | None = read_parts(self.file, read(self.file))  # None: closed
        self.fingerprints = self._parts.fingerprints
        self._batches: weakref.WeakSet[SpeechBatch] = weakref.WeakSet()

    # ------------------------------------------------------------ parts

    @property
    def _open(self) -> Parts:
        if self._parts is None:
            raise ModelError(f"{self.path}: {CLOSED}")
        return self._parts

    def _part(self, name: str, what: str, option: str) -> Any:
        if (part := getattr(self._open, name)) is None:
            raise ModelError(f"{self.path}: has no {what}; convert it again with {option}")
        return part

    @property
    def model(self) -> Model:
        """The acoustic model. ModelError if the file has none."""
        return self._part("model", "acoustic model", "--sopro")

    @property
    def mimi(self) -> Mimi:
        """The codec. ModelError if the file has none."""
        return self._part("mimi", "codec", "--mimi")

    @property
    def tokenizer(self) -> Tokenizer:
        """Text -> ids. ModelError if the file has none."""
        return self._part("tokenizer", "tokenizer", "--tokenizer")

    @property
    def ops(self) -> str:
        """Name of the operations that compute this model."""
        return self.runtime.ops

    @property
    def threads(self) -> int | None:
        """At most so many compute; None: as many as there are."""
        return self.runtime.threads

    @property
    def sample_rate(self) -> int:
        """Of everything this model says, in Hz."""
        return self.mimi.config.sample_rate

    @property
    def pace(self) -> Pace:
        """How many frames a text should take."""
        return self._open.pace

    # ------------------------------------------------------------ voices

    def voice(self, ref: AudioSource | np.ndarray, seconds: float | None = None) -> Voice:
        """Recording -> voice. `ref`: audio file, its bytes, a file object, or float samples (n,) at `sample_rate`.

        At most `seconds` are used (default: what the model was trained with), from the middle if somebody speaks there.
        Samples are neither trimmed nor resampled, and checked as a file is. AudioError says why a recording cannot be
        used, UsageError that this file only speaks; what is doubtful is a SoproWarning.
        """
        return self.voice_from_codes(reference_codes(self.model, self.mimi, self.runtime, ref, seconds))

    def voice_from_codes(self, codes: np.ndarray) -> Voice:
        """Reference codes (R, Q), whole numbers from 0, copied -> voice. VoiceError for codes that cannot be."""
        with self.runtime(), operations.temporary_packing():
            return make_voice(self.model, codes, self.fingerprints)

    def load_voice(self, name: str | Path) -> Voice:
        """A voice file, or the name of a voice in the voices folder or of an embedded one (any case) -> voice.

        VoiceError if the file is no voice or belongs to another model; UsageError, with the names, if there is none.
        """
        path = name if isinstance(name, Path | str) and Path(name).name != str(name) else find_voice(name, self.path)
        with self.runtime(), operations.temporary_packing():
            return load_voice(path, self.model, self.fingerprints)

    def voices(self) -> list[str]:
        """Names of the saved voices that fit this model (in the voices folder, or embedded), the default first."""
        return fitting_voices(self.path, self._open.fingerprints)

    def _voice(self, who: WhoSpeaks) -> Voice:
        """A voice that fits; called by name it is loaded once."""
        return self._named.find(who, self.path, self.fingerprints, self.load_voice)

    # ------------------------------------------------------------ speech

    def session(
        self,
        text: str,
        voice: WhoSpeaks,
        options: Options,
        sampler: Callable[[np.ndarray], int] | None = None,
        guard: Guard | None = None,
    ) -> Session:
        """One utterance of a text as it is, to be advanced step by step or iterated block by block."""
        check_text(text)
        who = self._voice(voice)
        if (mimi := self._open.mimi) is not None:
            mimi.check_length(options.max_frames)
        model, ids = self.model, self.tokenizer.encode(text)
        with (runtime := self.runtime.at(options.precision))():
            utterance = model.start(ids, who, options.style_strength)
        return Session(model, utterance, options.seeded(), runtime, sampler, guard)

    def codes(self, text: str, voice: WhoSpeaks, **options: Unpack[OptionArgs]) -> np.ndarray:
        """Text, as it is (not normalised, not split, not judged) -> codes (frames, codebooks) int64."""
        blocks = list(self.session(text, voice, Options.of(options)).blocks())
        return np.concatenate(blocks) if blocks else np.zeros((0, self.model.config.codebooks), np.int64)

    def decode(self, codes: np.ndarray, precision: str | None = None) -> np.ndarray:
        """Codes (frames, q) -> float32 waveform, not clipped. `precision` as in `synthesize`."""
        if isinstance(codes, list | tuple) and any(isinstance(one, np.ndarray) and one.ndim == 2 for one in codes):
            raise UsageError("codes of several sentences are a list: decode each of them alone")
        codes = np.asarray(codes)
        if codes.ndim != 2:
            raise UsageError(f"codes of shape {codes.shape} cannot be decoded: (frames, codebooks) are needed")
        with self.runtime.at(Options(precision=precision).precision)():
            return self.mimi.decode(codes, self.mimi.new_state(len(codes)))

    def batch(self, size: int = 16) -> SpeechBatch:
        """Room for up to `size` utterances at once, which may be joined and removed between any two steps."""
        self._open  # noqa: B018  # or an error
        if (most := whole("size", size, 1)) is None:
            raise UsageError("size must be given a number")
        batch = SpeechBatch(self.runtime, most, self._write)
        self._batches.add(batch)
        return batch

    def _write(self, text: str | Part, voice: WhoSpeaks, options: Options) -> Script:
        """What will be said for a text, and how each sentence of it is begun."""
        who, tokens, tokenizer = self._voice(voice), len(self.model.text.positions), self.tokenizer
        self.mimi.check_length(options.max_frames)
        return write_script(text, options, self.pace, tokenizer, tokens, partial(self.session, voice=who), self.mimi)

    def speak(self, text: str, voice: WhoSpeaks = None, **options: Unpack[OptionArgs]) -> Speech:
        """Text -> Speech: .wav, .codes, .finish_reason, .seed (given or drawn), .frames, .check, .sentences."""
        batch = self.batch(1)
        job = batch.add(text, voice, **options)
        for _ in self.chunks(batch, job):
            pass
        assert job.speech is not None
        return job.speech

    def synthesize(self, text: str, voice: WhoSpeaks = None, **options: Unpack[OptionArgs]) -> np.ndarray:
        """Text -> float32 waveform (samples,) in [-1, 1]."""
        return self.speak(text, voice, **options).wav

    def stream(self, text: str, voice: WhoSpeaks = None, **options: Unpack[OptionArgs]) -> Iterator[np.ndarray]:
        """Text -> float32 chunks in [-1, 1], laid end to end what `synthesize` returns (on kernels bit for bit).

        The first one comes when the first code of every frame of the first sentence is known; earlier with a finite
        `lookahead` (0 to 16): then it equals `synthesize` with the same value.
        """
        batch = self.batch(1)
        job = batch.add(text, voice, keep=False, **options)
        return self.chunks(batch, job)

    def chunks(self, batch: SpeechBatch, job: Job) -> Iterator[np.ndarray]:
        """The audio of a job that is alone in its batch; whoever stops listening removes it."""
        try:
            while not job.done:
                yield from (wav for _, wav in batch.step())
        finally:
            batch.remove(job)
        if job.error is not None:
            raise job.error

    def synthesize_many(
        self, texts: Iterable[str], voice: WhoSpeaks | Sequence[WhoSpeaks] = None, **options: Unpack[OptionArgs]
    ) -> list[np.ndarray]:
        """Texts -> the waveforms that `synthesize` gives for each, in less time. `voice`: for all, or one for each.

        Up to 16 texts at a time are spoken together. `seed` holds for every text.
        """
        if isinstance(texts, str):
            raise UsageError("texts must be a list of texts, not one text")
        if not isinstance(texts, Iterable):
            raise UsageError(f"texts must be a list of texts, not {type(texts).__name__}")
        texts = list(texts)
        one = not isinstance(voice, Sequence) or isinstance(voice, str)
        voices: list[Any] = [voice] * len(texts) if one else list(voice)  # type: ignore[arg-type]
        if len(voices) != len(texts):
            raise UsageError(f"{len(texts)} texts and {len(voices)} voices: give one voice for all, or one for each")
        for text, who in zip(texts, voices, strict=True):  # before hours of work on the others
            check_text(text)
            self._voice(who)
        Options.of(options)
        batch, waiting = self.batch(TOGETHER), list(zip(texts, voices, strict=True))
        jobs: list[Job] = []
        while waiting or len(batch):
            while waiting and len(batch) < TOGETHER:
                jobs.append(batch.add(*waiting.pop(0), **options))
            batch.step()
            if error := next((job.error for job in jobs if job.error is not None), None):
                raise error
        return [job.speech.wav for job in jobs if job.speech is not None]

    # ------------------------------------------------------------ life

    def warm_up(self) -> float:
        """Speak a sentence to nobody: steps are captured, and the weights read from the file -> seconds it took.

        What follows in the same process, on the thread that steps, then begins at full speed.
        """
        start = time.perf_counter()
        config, chunk = self.model.config, Options().chunk_frames
        codes = np.arange(config.codebooks * 4).reshape(4, -1) % config.code_values
        voice, frames = self.voice_from_codes(codes), 4 * chunk
        options: dict[str, Any] = {"min_gen_frames": 10**6, "stop_threshold": 2.0, "seed": 0, "guard": False}
        ways: list[dict[str, Any]] = [{"max_frames": frames}, {"lookahead": 0}]
        for count in dict.fromkeys((1, self.runtime.width)):  # alone, and side by side
            for way in ways:
                batch, heard = self.batch(count), 0
                jobs = [batch.add(WARM_UP, voice, **options, **way) for _ in range(count)]
                while len(batch) and heard < count * frames * self.mimi.config.hop:
                    heard += sum(len(wav) for _, wav in batch.step())
                for job in jobs:
                    if job.error is not None:
                        raise job.error
                    batch.remove(job)
        return time.perf_counter() - start

    def close(self) -> None:
        """Give memory and threads back. Streams and jobs end with an error, as does any other use from now on."""
        self._parts = None
        self._named.clear()
        self.runtime.close()
        for batch in list(self._batches):
            batch.close(ModelError(f"{self.path}: {CLOSED}"))

    def __repr__(self) -> str:
        threads = "" if self.threads is None else f", threads={self.threads}"
        return f"Sopro({str(self.path)!r}, ops={self.ops!r}{threads}){' (closed)' if self._parts is None else ''}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its path: the other side, or a copy, opens the same file anew and shares its pages."""
        self._open  # noqa: B018  # or an error
        return _reopen, (self.path.resolve(), self.threads, self.ops, self._read, self.fingerprints)

    def __enter__(self) -> Sopro:
        self._open  # noqa: B018  # or an error
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_model(path: str | Path, threads: int | None = None, ops: str | None = None) -> Sopro:
    """Open a model file. `threads`: at most that many for large products, and never more than the process has cores.

    `ops`: "numpy" (or "native"), for everything that this model computes; other models keep theirs.
    """
    with using(current() if ops is None else ops):
        return Sopro(path, threads)


def _reopen(
    path: Path, threads: int | None, ops: str, read: Callable[[TensorFile], Weights], fingerprints: dict[str, str]
) -> Sopro:
    """What a pickled Sopro becomes where it is loaded."""
    with using(ops):
        tts = Sopro(path, threads, read)
    if tts.fingerprints != fingerprints:
        raise ModelError(f"{path}: not the model that was pickled, it was made from other checkpoints")
    return tts
