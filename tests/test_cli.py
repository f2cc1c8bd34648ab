"""`sopro-np`, called in this process: audio to stdout or a file, words to stderr, exit codes 0, 1, 2."""

from __future__ import annotations

import dataclasses
import io
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import sopro_np
from sopro_np.cli.main import build_parser, main, normalise
from sopro_np.errors import SoproError
from sopro_np.options import Options
from sopro_np.wav import pcm16

ARCH = "v1.5"
SHORT = ["--max-frames", "4", "--seed", "1", "--quiet"]
Run = Callable[..., tuple[int, bytes, str]]


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Arguments (and stdin) -> exit code, stdout, stderr; in an empty folder, the tiny model as default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOPRO_NP_MODEL", str(tiny.model_file(ARCH)))
    monkeypatch.setenv("SOPRO_NP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SOPRO_NP_VOICES", str(tmp_path / "voices"))

    def call(*arguments: object, stdin: bytes = b"") -> tuple[int, bytes, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return call


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voices") / "me.voice.safetensors"
    tiny.voice(ARCH).save(path)
    return path


def ref() -> Path:
    return tiny.checkpoint(ARCH) / "ref.wav"


def speech(**options: Any) -> np.ndarray:
    return tiny.model(ARCH).synthesize(tiny.TEXT, tiny.voice(ARCH), **{"seed": 1, "max_frames": 4, **options})


def samples(wav: bytes) -> bytes:
    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24000)
        return file.readframes(file.getnframes())


# --- speaking -----------------------------------------------------------------------------------------------


def test_say_to_a_file_to_stdout_and_raw(run: Run, voice: Path, tmp_path: Path) -> None:
    expected = pcm16(speech())
    code, out, err = run("say", tiny.TEXT, "--voice", voice, *SHORT)
    assert (code, out) == (0, b""), err
    assert samples((tmp_path / "sopro.wav").read_bytes()) == expected
    code, out, err = run("say", tiny.TEXT, "--voice", voice, "-o", "-", *SHORT)
    assert code == 0, err
    assert samples(out) == expected, "the header of a whole utterance is true, even in a pipe"
    code, out, _ = run("say", tiny.TEXT, "--voice", voice, "-o", "-", "--raw", *SHORT)
    assert (code, out) == (0, expected)
    run("say", tiny.TEXT, "--voice", voice, "-o", "x.raw", "--raw", *SHORT)
    assert (tmp_path / "x.raw").read_bytes() == expected
    assert {p.name for p in tmp_path.iterdir()} == {"sopro.wav", "x.raw"}


def test_sources_of_text_and_voice(run: Run, voice: Path, tmp_path: Path) -> None:
    expected = pcm16(speech())
    raw = ["-o", "-", "--raw", *SHORT]
    for arguments, stdin in (
        (["say", "-", "--voice", voice], tiny.TEXT.encode()),
        (["say", tiny.TEXT, "--ref", ref()], b""),
        (["say", tiny.TEXT, "--ref_audio", ref()], b""),
        (["say", tiny.TEXT, f"--ref-audio={ref()}"], b""),
        (["say", tiny.TEXT, "--voice", voice, "--model", tiny.model_file(ARCH)], b""),
        (["say", *raw, "--voice", voice, "--", tiny.TEXT], b""),
    ):
        code, out, err = (
            run(*arguments[:2], *raw, *arguments[2:], stdin=stdin) if "--" not in arguments else run(*arguments)
        )
        assert (code, out) == (0, expected), (arguments, err)
    code, out, err = run("say", tiny.TEXT, *raw, "--voice", voice, "--ops", "numpy", "--threads", "1")
    assert code == 0, err
    steps = np.frombuffer(out, "<i2").astype(int) - np.frombuffer(expected, "<i2")  # NumPy's sums round another way
    assert np.abs(steps).max() <= 1
    (tmp_path / "voices").mkdir()
    tiny.voice(ARCH).save(tmp_path / "voices" / "anna.voice.safetensors")
    assert run("say", tiny.TEXT, "--voice", "anna", *raw)[1] == expected
    code, out, err = run("voice", ref(), "-o", "new.voice.safetensors")
    assert (code, out) == (0, b""), err
    assert run("say", tiny.TEXT, "--voice", "new.voice.safetensors", *raw)[1] == expected


def test_stream_is_synthesize_with_the_same_lookahead(run: Run, voice: Path) -> None:
    for extra, options in (
        ([], {}),
        (["--lookahead=2"], {"lookahead": 2}),
        (["--chunk_frames", 1], {"chunk_frames": 1}),
    ):
        code, out, err = run("say", tiny.TEXT, "--voice", voice, "-o", "-", "--raw", "--stream", *SHORT, *extra)
        assert code == 0, err
        stream = tiny.model(ARCH).stream(tiny.TEXT, tiny.voice(ARCH), seed=1, max_frames=4, **options)
        assert out == pcm16(np.concatenate(list(stream)))
    code, out, err = run("say", tiny.TEXT, "--voice", voice, "-o", "-", "--stream", *SHORT)
    assert out[:4] == b"RIFF"
    assert out[40:44] == b"\xff" * 4, "until the stream ends"


def test_synthesize_keeps_the_last_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from sopro_np import api

    opened = []
    real = api.load
    monkeypatch.setattr(api, "_last", None)
    monkeypatch.setattr(api, "load", lambda *a: opened.append(a) or real(*a))
    monkeypatch.setenv("SOPRO_NP_MODEL", str(tiny.model_file(ARCH)))
    for _ in range(2):
        wav = sopro_np.synthesize(tiny.TEXT, ref=ref(), seed=1, max_frames=4)
        assert np.array_equal(wav, speech())
    sopro_np.synthesize(tiny.TEXT, ref=ref().read_bytes(), seed=1, max_frames=4)
    assert len(opened) == 1
    sopro_np.synthesize(tiny.TEXT, ref=ref(), model=tiny.model_file(ARCH, "fp32"), max_frames=2)
    assert len(opened) == 2


# --- options ------------------------------------------------------------------------------------------------

VALUES: dict[str, Any] = {
    "temperature": 0.7, "top_p": 0.5, "top_k": 3, "style_strength": 2.0, "stop_threshold": 0.2,
    "stop_patience": 1, "min_gen_frames": 3, "max_frames": 6, "lookahead": 1, "chunk_frames": 2, "seed": 9,
    "precision": "fine",
}  # fmt: skip


def test_every_option_is_a_flag_and_a_keyword(run: Run, voice: Path) -> None:
    others = {"normalise", "day_first", "lexicon", "lenient", "pause", "paragraph_pause", "guard", "retries"}
    assert set(VALUES) | others == set(Options.names())
    for name, value in VALUES.items():
        expected = pcm16(speech(**{name: value}))
        for spelling in (f"--{name}", f"--{name.replace('_', '-')}"):
            given = ["say", tiny.TEXT, "--voice", voice, "-o", "-", "--raw", *SHORT]
            assert run(*given, f"{spelling}={value}")[1] == expected
            assert run(*given, spelling, value)[1] == expected


def test_flags_have_no_defaults_of_their_own() -> None:
    parsed = vars(build_parser().parse_args(["say", "x"]))
    assert not set(parsed) & set(Options.names())
    assert all(f.default is not dataclasses.MISSING for f in dataclasses.fields(Options))


def test_underscores_in_values_and_texts_stay() -> None:
    argv = ["say", "a_b", "--out_=my_file", "--top_p=a_b", "--", "--x_y"]
    assert normalise(argv) == ["say", "a_b", "--out-=my_file", "--top-p=a_b", "--", "--x_y"]


# --- failures -----------------------------------------------------------------------------------------------

SAY = ["say", "hello"]
FAILURES: list[tuple[list[Any], int, str]] = [
    ([*SAY, "--voice", "{voice}", "--model", "none.safetensors"], 2, "none.safetensors"),
    ([*SAY, "--voice", "{voice}", "--model", "x" * 300], 2, "xxx"),
    ([*SAY, "--voice", "{voice}", "--model", "{ref}"], 1, "ref.wav"),
    ([*SAY, "--voice", "{voice}", "--model", "{voice}"], 1, "me.voice"),
    ([*SAY, "--voice", "{voice}", "--model", "{source}"], 1, "convert"),
    ([*SAY, "--voice", "nobody"], 2, "nobody"),
    ([*SAY, "--voice", "y" * 300], 2, "yyy"),
    ([*SAY, "--voice", "{other}"], 1, "another sopro checkpoint"),
    ([*SAY, "--voice", "{ref}"], 1, "ref.wav"),
    ([*SAY, "--ref", "none.wav"], 1, "none.wav"),
    ([*SAY, "--ref", "{voice}"], 1, "me.voice"),
    ([*SAY], 2, "--ref"),
    ([*SAY, "--ref", "a", "--voice", "b"], 2, "--ref"),
    (["say", "", "--voice", "{voice}"], 2, "empty"),
    (["say", " \n\t", "--voice", "{voice}"], 2, "empty"),
    (["say", "-", "--voice", "{voice}"], 2, "empty"),
    (["say", "--voice", "{voice}"], 2, "TEXT"),
    ([*SAY, "--voice", "{voice}", "-o", "no/such/x.wav"], 2, "no/such/x.wav"),
    ([*SAY, "--voice", "{voice}", "-o", "."], 2, "folder"),
    ([*SAY, "--voice", "{voice}", "--threads", "0"], 2, "threads"),
    ([*SAY, "--voice", "{voice}", "--ops", "magic"], 2, "magic"),
    *(([*SAY, "--voice", "{voice}", f"--{name}", value], 2, name[:3])
      for name in VALUES for value in ("x", "-1", "nan")),
    ([*SAY, "--voice", "{voice}", "--max-frames", "9999", "--min-gen-frames", "9999"], 2, "max_frames"),
    ([*SAY, "--voice", "{voice}", "--unknown"], 2, "--unknown"),
    (["voice", "{ref}", "-o", "no/such/v"], 2, "no/such/v"),
    (["voice", "{ref}", "-o", "v", "--seconds", "0"], 2, "seconds"),
    (["voice", "none.wav", "-o", "v"], 1, "none.wav"),
    (["info", "none"], 2, "none"),
    (["info", "{ref}"], 1, "ref.wav"),
    (["info", "{source}"], 1, "model.safetensors"),
    (["bench", "--frames", "1"], 2, "--frames"),
    ([], 2, "COMMAND"),
    (["sing"], 2, "sing"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "word"), FAILURES, ids=lambda v: str(v)[-40:])
def test_failures(arguments: list[str], code: int, word: str, run: Run, voice: Path, tmp_path: Path) -> None:
    other = tmp_path.parent / "other.voice.safetensors"
    tiny.voice(ARCH, seed=2).save(other)
    places = {"{voice}": voice, "{ref}": ref(), "{source}": tiny.sopro_file(ARCH), "{other}": other}
    got, out, err = run(*(places.get(a, a) for a in arguments))
    assert (got, out) == (code, b""), err
    assert word in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_without_any_model(run: Run, voice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOPRO_NP_MODEL")
    monkeypatch.setattr("sopro_np.locate.EMBEDDED", Path("nowhere"))
    code, out, err = run("say", "hello", "--voice", voice)
    assert (code, out) == (2, b"")
    for word in ("--model", "SOPRO_NP_MODEL", "download"):
        assert word in err
    for name in VALUES:
        with pytest.raises(SoproError, match=name):
            tiny.model(ARCH).synthesize("a", tiny.voice(ARCH), **{name: "x"})
