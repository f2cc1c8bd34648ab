"""Promises to callers that are easily broken by a change elsewhere: each one was, once."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import on_kernels
from threadpoolctl import ThreadpoolController

import sopro_np
from sopro_np import ops
from sopro_np.cli.main import main
from sopro_np.convert.mimi import rope_tables
from sopro_np.engine import open_model
from sopro_np.errors import AudioError, ConvertError, ModelError, SoproError, UsageError
from sopro_np.ops.blas import _controller, blas_threads
from sopro_np.ops.quant import QTensor
from sopro_np.options import Options
from sopro_np.voice import Voice


def blas() -> set[int]:
    """Threads of the BLAS that computes here (other packages bring their own, and may load it at any time)."""
    known = {p["filepath"] for p in _controller().info()}
    pools = [p for p in ThreadpoolController().info() if p["user_api"] == "blas" and p["filepath"] in known]
    assert pools
    return {p["num_threads"] for p in pools}


def test_overlapping_limits_leave_blas_as_it_was() -> None:
    """Two streams that enter and leave out of order: the smallest wish holds, and the original comes back."""
    before = blas()
    first, second = blas_threads(1), blas_threads(1)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert blas() == {1}
    second.__exit__(None, None, None)
    assert blas() == before


def test_streams_of_one_model_beside_each_other() -> None:
    """Threads that share a model say what they would say alone, and BLAS is as before."""
    tts, voice = tiny.model("v1.5"), tiny.voice("v1.5")
    before = blas()
    alone = [tts.codes("Hello.", voice=voice, seed=s, max_frames=12) for s in range(3)]
    together: dict[int, np.ndarray] = {}

    def speak(seed: int) -> None:
        together[seed] = tts.codes("Hello.", voice=voice, seed=seed, max_frames=12)

    threads = [threading.Thread(target=speak, args=(s,)) for s in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(alone[s], together[s]) for s in range(3))
    assert blas() == before


@dataclasses.dataclass(frozen=True)
class Owned(QTensor):
    """A weight that knows who packed it."""

    owner: str = ""


def register(monkeypatch: pytest.MonkeyPatch, name: str) -> Counter[str]:
    """A table of ops that does what the reference does, but only with its own weights -> calls of each operation."""
    calls: Counter[str] = Counter()
    reference = ops.TABLES["numpy"]

    def wrapped(operation: str):
        def function(*given, **named):
            owners = {w.owner for w in (*given, *named.values()) if isinstance(w, Owned)}
            assert owners <= {name} and ops.current() == name
            calls[operation] += 1
            result = reference[operation](*given, **named)
            return Owned(**vars(result), owner=name) if operation == "pack" else result

        return function

    monkeypatch.setitem(ops.TABLES, name, {operation: wrapped(operation) for operation in ops.NAMES})
    return calls


@pytest.mark.parametrize("arch", ["v1", "v1.5"])
def test_models_of_two_implementations_beside_each_other(
    arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each model is computed by what packed it: voices, interleaved streams, threads; and nobody else notices."""
    calls = {name: register(monkeypatch, name) for name in ("left", "right")}
    before = ops.current()
    models = {name: sopro_np.load(tiny.model_file(arch, "fp32"), threads=1, ops=name) for name in calls}
    assert {name: tts.ops for name, tts in models.items()} == {"left": "left", "right": "right"}
    assert all(count["pack"] and set(count) == {"pack"} for count in calls.values())
    tiny.voice(arch, "fp32").save(tmp_path / "v")
    settings = {"seed": 3, "max_frames": 9, "chunk_frames": 2, "min_gen_frames": 99, "stop_threshold": 2.0}

    def one(name: str):
        """Everything that a model does, a step at a time."""
        tts = models[name]
        yield tts.voice(tiny.checkpoint(arch) / "ref.wav").codes
        voice = tts.load_voice(tmp_path / "v")
        yield voice.speaker
        yield tts.voice_from_codes(voice.codes).speaker
        yield from tts.stream("Hello.", voice, **settings)
        codes = tts.codes("Hello.", voice, **settings)
        yield from (codes, tts.decode(codes), tts.synthesize("Hello.", voice, **settings))

    for a, b in zip(one("left"), one("right"), strict=True):
        assert ops.current() == before
        assert np.array_equal(a, b)
    assert {name for name in ops.NAMES if not calls["left"][name]} <= {
        "match_rms",
        "sigmoid",
        "rope",
        "replay",
        "concat",
    }
    assert calls["left"] == calls["right"]
    with ops.using("left"):  # what packed the weights computes, whatever surrounds it
        assert len(list(one("right"))) > 6
        assert ops.current() == "left"
    finished: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: finished.extend(one("right")))
    thread.start()
    thread.join()
    assert len(finished) > 6
    assert all(calls["right"][name] == 3 * count for name, count in calls["left"].items() if name != "pack")
    assert ops.current() == before


def test_blas_gets_the_threads_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for steps of one row, which are better off with one."""
    wishes: list[int | None] = []
    monkeypatch.setattr("sopro_np.ops.runtime.blas_threads", lambda n: wishes.append(n) or blas_threads(n))
    for threads in (3, None):
        tts = open_model(tiny.model_file("v1.5"), threads, "numpy")
        with ops.using("numpy"):
            voice = tiny.voice("v1.5")
        threads = tts.threads  # no more than this machine has
        wishes.clear()
        codes = tts.codes(tiny.TEXT, voice, max_frames=3, seed=1)
        assert set(wishes) == {1, threads} and wishes.count(1) >= 3
        wishes.clear()
        tts.decode(codes)
        assert set(wishes) == {threads}


@on_kernels
def test_blas_gets_one_thread_beside_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its idle threads go on turning for a while after a product, on the cores that are to speak next."""
    wishes: list[int | None] = []
    monkeypatch.setattr("sopro_np.ops.native.rows.blas_threads", lambda n: wishes.append(n) or blas_threads(n))
    tts = open_model(tiny.model_file("v1.5"), 3, "native")
    tts.voice(0.1 * np.random.default_rng(1).standard_normal(4 * tts.mimi.config.hop).astype(np.float32))
    assert wishes == [1] * tts.mimi.config.codebooks


def test_a_default_chosen_later_is_for_later_models(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, before = register(monkeypatch, "other"), ops.current()
    tts, voice = tiny.model("v1.5"), tiny.voice("v1.5")
    ops.use("other")
    try:
        tts.codes("Hello.", voice, max_frames=3, seed=1)
        assert not calls
        assert sopro_np.load(tiny.model_file("v1.5")).ops == "other"
    finally:
        ops.use(before)


def test_samples_are_cropped_like_a_file() -> None:
    tts = tiny.model("v1.5")
    noise = 0.1 * np.random.default_rng(0).standard_normal(1920 * 200).astype(np.float32)
    assert len(tts.voice(noise).codes) == 150
    assert len(tts.voice(noise, seconds=2).codes) == 25
    assert np.array_equal(tts.voice(noise, seconds=2).codes, tts.voice(noise[1920 * 87 + 960 : -1920 * 87 - 960]).codes)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda tts, voice: tts.voice(np.arange(10.0)), AudioError),
        (lambda tts, voice: tts.voice(np.arange(96000)), AudioError),
        (lambda tts, voice: tts.voice(None), AudioError),
        (lambda tts, voice: tts.voice(tiny.checkpoint("v1.5") / "ref.wav", seconds=float("nan")), UsageError),
        (lambda tts, voice: tts.voice(tiny.checkpoint("v1.5") / "ref.wav", seconds="5"), UsageError),
        (lambda tts, voice: tts.synthesize(None, voice), UsageError),
        (lambda tts, voice: tts.synthesize("x", "me.voice.safetensors"), UsageError),
        (lambda tts, voice: tts.synthesize("x", voice, temperature=1e-38), UsageError),
        (lambda tts, voice: tts.synthesize("x", voice, max_frames=4050), UsageError),
        (lambda tts, voice: tts.decode(np.zeros((3, 8))), UsageError),
        (lambda tts, voice: tts.decode(None), UsageError),
        (lambda tts, voice: sopro_np.load(5), UsageError),
    ],
)
def test_wrong_arguments_are_our_errors(call, error: type[SoproError]) -> None:
    with pytest.raises(error):
        call(tiny.model("v1.5"), tiny.voice("v1.5"))


def test_numpy_numbers_are_numbers() -> None:
    assert Options(max_frames=np.int64(3), temperature=np.float32(1), seed=np.uint32(7)).max_frames == 3


def test_a_session_speaks_once() -> None:
    session = tiny.model("v1.5").session("Hello.", tiny.voice("v1.5"), Options(max_frames=4, seed=1))
    list(session.blocks())
    with pytest.raises(UsageError, match="already"):
        list(session.blocks())


def test_broken_logits_are_refused() -> None:
    tts = tiny.model("v1.5")
    voice = tiny.voice("v1.5")
    broken = Voice(voice.codes, voice.speaker * np.nan, voice.reference_kv, voice.fingerprints)
    with pytest.raises(SoproError, match="NaN"):
        list(tts.session("Hello.", broken, Options(seed=1)).blocks())


def test_outputs_never_replace_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOPRO_NP_MODEL", str(tiny.model_file("v1.5")))
    recording = tmp_path / "me.wav"
    recording.write_bytes((tiny.checkpoint("v1.5") / "ref.wav").read_bytes())
    before = recording.read_bytes()
    assert main(["voice", str(recording), "-o", str(recording)]) == 2
    assert main(["say", "hi", "--ref", str(recording), "-o", str(recording)]) == 2
    assert recording.read_bytes() == before
    saved = tmp_path / "me.voice.safetensors"
    tiny.voice("v1.5").save(saved)
    before = saved.read_bytes()
    assert main(["say", "hi", "--voice", str(saved), "-o", str(saved)]) == 2
    assert saved.read_bytes() == before


def test_a_terminated_stream_leaves_nothing(tmp_path: Path) -> None:
    voice = tmp_path / "v"
    tiny.voice("v1.5").save(voice)
    command = [sys.executable, "-m", "sopro_np", "say", "Hello.", "--voice", str(voice), "--stream", "--quiet"]
    command += ["--model", str(tiny.model_file("v1.5")), "--min-gen-frames", "500", "--max-frames", "500", "--no-guard"]
    command += ["--chunk-frames", "1", "-o", str(tmp_path / "out.wav")]
    process = subprocess.Popen(command, cwd=tiny.ROOT)
    while process.poll() is None and not list(tmp_path.glob(".sopro-*")):
        threading.Event().wait(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert [p.name for p in tmp_path.iterdir()] == ["v"]


def test_v1_stages_must_fill_the_codebooks_in_order(tmp_path: Path) -> None:
    source = tiny.source("v1")
    for changes in ({"stage_C": [6, 7], "stage_D": [4, 5]}, {"stage_D": [6, 6]}):
        with pytest.raises(ConvertError, match="in order"):
            tiny.convert(tmp_path / "x", tiny.load_recipe("fp32"), source.cfg(**changes).write(tmp_path))


def test_rope_scaling_is_not_ignored(tmp_path: Path) -> None:
    source = tiny.source("v1.5", "mimi")
    for changes in ({"rope_parameters": {"rope_type": "linear", "factor": 4}}, {"rope_scaling": {"factor": 2}}):
        with pytest.raises(ConvertError, match="rope"):
            tiny.convert(tmp_path / "x", tiny.load_recipe("fp32"), mimi=source.cfg(**changes).write(tmp_path).parent)


@pytest.mark.parametrize("head_dim", [16, 34, 64, 128])
def test_rope_tables_round_like_torch(head_dim: int) -> None:
    torch = pytest.importorskip("torch")
    inverse = 1.0 / (10000.0 ** (torch.arange(0, head_dim, 2).float() / head_dim))
    angle = (torch.arange(64).float()[:, None] * inverse).numpy().astype(np.float64)
    cos, sin = rope_tables(64, head_dim, 10000.0)
    assert np.array_equal(cos, np.cos(angle).astype(np.float32))
    assert np.array_equal(sin, np.sin(angle).astype(np.float32))


def test_too_long_for_the_codec_is_said_before() -> None:
    mimi = tiny.model("v1.5").mimi
    most = len(mimi.decoder_transformer.rope.cos) // mimi.config.frame_stride
    mimi.check_length(most)
    with pytest.raises((UsageError, ModelError), match=str(most)):
        mimi.check_length(most + 1)


def test_unused_requests_are_refused(tmp_path: Path) -> None:
    source = tiny.sopro_file("v1.5")
    with pytest.raises(ConvertError, match="--drop nothing"):
        tiny.convert(tmp_path / "x", tiny.load_recipe("fp32"), source, drop=("nothing*",))
    with pytest.raises(ConvertError, match="--tokenizer"):
        tiny.convert(tmp_path / "x", tiny.load_recipe("fp32"), source, bos=1)
