"""What fell short when the program was tried, each fault for its kind; most have their test where the part is tested.

Here: what people wrote (numbers, curly quotes, one word, nothing) as it is said, terminals, and what tools and messages
take for granted.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import signal
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import ROOT, on_kernels, python
from hypothesis import given, settings
from hypothesis import strategies as st
from test_audio import RATE, encoded
from test_cli import ARCH, SHORT, Run, ref, run, voice  # noqa: F401
from test_cli_tools import process
from test_packs import hook  # noqa: F401
from test_recordings import notes, spoken

import sopro_np
from sopro_np import locate
from sopro_np.cli import bench
from sopro_np.errors import AudioError, SoproWarning
from sopro_np.guard import NO_END
from sopro_np.kernels import build
from sopro_np.ops.native import packs
from sopro_np.text.normalise import normalise

# ---------------------------------------------------------------- runaway and length


@pytest.fixture(scope="module")
def tts() -> Iterator[sopro_np.Sopro]:
    """The embedded model, which speaks to everybody who names none."""
    with sopro_np.load(locate.EMBEDDED) as loaded:
        yield loaded


def within_budget(tts: sopro_np.Sopro, text: str, seed: int) -> sopro_np.Speech:
    """Said, no sentence of it beyond its budget, and what was cut is told: in the speech, and as a warning."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", SoproWarning)
        speech = tts.speak(text, seed=seed)
    rate, pace = tts.mimi.config.frame_rate, tts._open.pace
    for sentence in speech.sentences:
        assert round((sentence.end - sentence.start) * rate) <= pace.most(len(sentence.text)), (text, seed)
    cut = [s for s in speech.sentences if s.finish_reason == "cut"]
    assert speech.finish_reason == ("cut" if cut else "stop")
    assert len(speech.check) == len([w for w in told if "sentence " in str(w.message)]) >= len(cut)
    return speech


@on_kernels
@pytest.mark.parametrize("text", ["Sopro", "Hello"])
def test_one_word_is_one_word(text: str, tts: sopro_np.Sopro) -> None:
    """32 s for 7 of 8 seeds, it was."""
    for seed in range(8):
        assert within_budget(tts, text, seed).frames / tts.mimi.config.frame_rate < 4


SIXTEEN = "The old man walked slowly along the river and thought of the winter that was coming."
TWENTY_SIX = (
    "It was late when we came home from the long walk by the sea, and no word was said till the door of it fell shut."
)
LONG = (f"{SIXTEEN} {TWENTY_SIX} Then they sat down by the fire. " * 2)[:300]


@on_kernels
@pytest.mark.parametrize("text", [SIXTEEN, TWENTY_SIX], ids=["16 words", "26 words"])
def test_long_sentences_have_an_end(text: str, tts: sopro_np.Sopro) -> None:
    for seed in (1, 2):
        within_budget(tts, text, seed)


@pytest.mark.parametrize("text", [TWENTY_SIX, LONG, LONG * 5], ids=["26 words", "300 characters", "1500 characters"])
def test_long_texts_are_said(text: str) -> None:
    """Not refused ("split it"), and all of it said."""
    speech = tiny.model("v1").speak(text, tiny.voice("v1"), seed=1, max_frames=2)
    said = "".join(text[slice(*s.span)] for s in speech.sentences)
    assert said.replace(" ", "") == text.replace(" ", "")
    assert len(TWENTY_SIX.split()) == 26 and len(LONG) == 300


def test_what_has_no_end_is_told_by_the_command(run: Run, voice: Path, tmp_path: Path) -> None:  # noqa: F811
    """A note that names the sentence; success, unless somebody asked to be strict."""
    given = ["say", "Sopro", "--voice", voice, "--stop-threshold", "2", "--retries", "0", "--seed", "1"]
    code, _, err = run(*given, "--json", "x.json")
    assert code == 0 and re.search(rf"note: sentence 1 .*{NO_END}", err)
    facts = json.loads((tmp_path / "x.json").read_text())
    assert facts["finish_reason"] == facts["sentences"][0]["finish_reason"] == "cut" and facts["check"]
    assert run(*given, "--strict-check")[0] == 1


# ---------------------------------------------------------------- texts

SAID = {
    "I have 3 cats and 12 dogs.": "I have three cats and twelve dogs.",
    "It costs $1,234.56 or": "It costs one thousand two hundred thirty four dollars and fifty six cents or",
    "The meeting is on 2026-11-28 at 3:30pm":
        "The meeting is on November twenty eighth, twenty twenty six at three thirty P M",
    "We ran 10km in 5°C": "We ran ten kilometers in five degrees Celsius",
    "Dr. Smith vs. Mr. Jones, e.g.": "Doctor Smith versus Mister Jones, for example.",
    "1234567890": "one two three four five six seven eight nine zero",
    "See https://www.example.com now.": "See example dot com now.",
    "Call 555-123-4567.": "Call five five five, one two three, four five six seven.",
    "1/2": "one half",
    "XIV": "fourteen",
    "21st": "twenty first",
    "NASA": "NASA",
}  # fmt: skip


@pytest.mark.parametrize("written", SAID)
def test_what_was_babble_is_said(written: str) -> None:
    """By `speak` itself, not only by the normaliser: what the model hears, piece by piece."""
    speech = tiny.model("v1").speak(written, tiny.voice("v1"), seed=1, max_frames=2)
    heard = " ".join(s.text for s in speech.sentences)
    assert [w.strip(".,").lower() for w in heard.split()] == re.findall(r"\w+", SAID[written].lower())


PLAIN = st.lists(st.sampled_from(["don't", "it's", "we", "say", "hello", "there", "time"]), min_size=1, max_size=5)
BLANKS = [" ", "  ", "\t", "\n", " \u00a0", "\u2009 ", " \u200b", "\u3000", " \u0001 "]
AROUND = ["", " ", "\n\n", "\ufeff", "\u200b", "\u00a0", "\x07", "😀", " \u200e", "\r\n"]


@given(PLAIN, st.data())
@settings(deadline=None)
def test_what_cannot_be_heard_changes_no_sample(words: list[str], data: st.DataObject) -> None:
    """Curly apostrophes and quotes, blanks of all kinds, a BOM, control characters, tags: the same bytes of audio."""
    model, who = tiny.model("v1.5"), tiny.voice("v1.5")
    plain = " ".join(words) + "."
    draw = data.draw
    odd = words[0] + "".join(draw(st.sampled_from(BLANKS)) + word for word in words[1:]) + "."
    for a, b in (
        ("'", draw(st.sampled_from("’'‘ʼ"))),
        ("hello", draw(st.sampled_from(["hello", "he\x02llo", "<b>hello</b>"]))),
    ):
        odd = odd.replace(a, b)
    first, last = draw(st.sampled_from(["", "“", '"'])), draw(st.sampled_from(["", "”", '"']))
    odd = draw(st.sampled_from(AROUND)) + first + odd[:-1] + "." + last + draw(st.sampled_from(AROUND))
    expected, heard = (model.synthesize(text, who, seed=1, max_frames=2) for text in (plain, odd))
    assert heard.tobytes() == expected.tobytes(), (plain, odd, normalise(odd).text)


NOTHING = ["", " ", "😀", "😀 🎉", "\u200b", "\ufeff", "\x07", ".", "?!?!?!", "…", "—", "<br>", "***", "\u00a0\u2003"]
FOREIGN = ["こんにちは", "مرحبا بالعالم", "Привет", "हिन्दी", "Hello 日本"]


@pytest.mark.parametrize("text", [*NOTHING, *FOREIGN], ids=ascii)
def test_what_cannot_be_said_is_an_error_and_no_file(
    text: str, run: Run, voice: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    """As an argument and from standard input, whole or streamed; nothing is made up."""
    for stream in ([], ["--stream"]):
        code, out, err = run("say", text, "--voice", voice, *SHORT, *stream)
        assert (code, out) == (2, b"") and err
    code, out, err = run("say", "-", "--voice", voice, *SHORT, stdin=text.encode())
    assert (code, out) == (2, b"")
    assert text not in FOREIGN or re.search(r"U\+[0-9A-F]{4}", err)
    assert not list(tmp_path.iterdir())


@on_kernels
def test_a_run_of_letters_is_bounded_and_told(tts: sopro_np.Sopro) -> None:
    text = "a" * 200
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SoproWarning)
        speech = tts.speak(text, seed=1, retries=0)
    pace = tts._open.pace
    assert speech.frames <= sum(pace.most(len(s.text)) for s in speech.sentences)
    assert speech.finish_reason == "stop" or speech.check


# ---------------------------------------------------------------- command line


@pytest.mark.parametrize("name", ["ross", "ROSS", "Ross.voice.safetensors", "stella"])
def test_embedded_voices_by_name(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    code, out, err = run("info", name, "--json")
    assert (code, err) == (0, "") and json.loads(out)["kind"] == "voice"
    monkeypatch.delenv("SOPRO_NP_MODEL")
    code, out, err = run("say", "Hello.", "--voice", name, "-o", "-", "--raw", *SHORT)
    assert (code, err) == (0, "") and out
    assert run("say", "Hello.", "--voice", name, "-o", "-", "--raw", *SHORT, "--model", "demo") == (0, out, "")


def test_the_bench_prints_figures_not_pages(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    kernels = [{"kernel": f"k{i}", "shape": "all", "seconds": i / 7} for i in range(200)]
    found = {"rtf": 0.1, "ops": "native", "roofline": {"kernels": kernels, "peaks": {"int8": 1.0}}}
    monkeypatch.setattr(bench, "bench", lambda *_: dict(found))
    monkeypatch.setattr(bench, "count_events", lambda *_: (dict.fromkeys("abcd", 1), ""))
    code, out, _ = run("bench", "--json", "--perf")
    assert code == 0 and json.loads(out) == {**found, "perf": dict.fromkeys("abcd", 1)} and out.count(b"\n") < 10


def test_every_setting_is_in_the_readme() -> None:
    """Variables that the package reads; SOPRO_NP_BUILD_TARGET is between two processes of its own."""
    sources = [*(ROOT / "sopro_np").rglob("*.py"), ROOT / "hatch_build.py"]
    read = {name for path in sources for name in re.findall(r"SOPRO_NP_[A-Z]+(?:_[A-Z]+)*", path.read_text("utf-8"))}
    readme = (ROOT / "README.md").read_text("utf-8")
    assert {"SOPRO_NP_VOICES", "SOPRO_NP_CACHE", "SOPRO_NP_MODEL"} <= read
    assert [name for name in sorted(read - {"SOPRO_NP_BUILD_TARGET"}) if name not in readme] == []
    assert "~/.local/share/sopro_np" in readme, "where voices are kept"


def read_until(terminal: int, pattern: bytes) -> bytes:
    """What a terminal shows until it shows that."""
    seen = b""
    while not re.search(pattern, seen):
        new = os.read(terminal, 1 << 12)
        assert new, seen
        seen += new
    return seen


def test_a_terminal_is_told_how_to_end_its_text(voice: Path, tmp_path: Path) -> None:  # noqa: F811
    terminal, end = os.openpty()
    given = ["--voice", voice, "--max-frames", 4, "--seed", 1, "-o", "x.wav"]
    with process("say", "-", *given, stdin=end, stderr=end, cwd=tmp_path) as child:
        assert b"type what to say" in read_until(terminal, rb"Ctrl-D[^\n]*\n")
        os.write(terminal, b"Hello.\n\x04")
        assert child.wait() == 0
    os.close(end)
    os.close(terminal)
    assert (tmp_path / "x.wav").exists()


def test_progress_is_seen_while_it_speaks(voice: Path, tmp_path: Path) -> None:  # noqa: F811
    """The pipe of its audio is full and nobody reads: it cannot be at its end when percent and the time left appear."""
    terminal, end = os.openpty()
    given = ["--voice", voice, "--max-frames", 200, "--min-gen-frames", 200, "--no-guard", "--stream", "--raw"]
    with process("say", "Hello there, all of you.", *given, "-o", "-", stderr=end, cwd=tmp_path) as child:
        seen = read_until(terminal, rb"% +[\d:]+ left")
        share = re.search(rb"(\d+) % +[\d:]+ left", seen)
        assert share and int(share[1]) < 100 and child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.wait() == 130
    os.close(end)
    os.close(terminal)


def test_an_evaluation_says_how_far_it_is(
    run: Run, voice: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    """Every stage in a line; on a terminal percent and time left over all of them; with -q nothing of it."""
    given = ["eval", "--voice", voice, "--count", 2, "--seeds", 2, "--max-frames", 3, "--json", "e.json"]
    given += ["--against", tiny.model_file(ARCH, "fp32")]
    stages = ["fidelity", "model: 2 texts x 2 seeds", "against: 2 texts x 2 seeds"]
    stages += ["model: measuring", "against: measuring"]
    monkeypatch.setattr("sopro_np.cli.evaluate.watched", lambda: True)
    monkeypatch.setattr("sopro_np.cli.progress.EVERY", 0)
    code, _, err = run(*given)
    assert code == 0 and [line for line in err.splitlines() if line in stages] == stages
    shares = [int(n) for n in re.findall(r"\r *(\d+) %  ", err)]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 100 and len(set(shares)) > 12
    code, _, err = run("eval", "--voice", voice, "--count", 1, "--seeds", 1, "--max-frames", 3, "-q")
    assert code == 0 and "\r" not in err and "model: " not in err


FIGURES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
RECORDS = st.dictionaries(st.text(), FIGURES | st.lists(FIGURES, max_size=3), max_size=4)


@given(st.dictionaries(st.text(), FIGURES | RECORDS | st.lists(RECORDS, max_size=9), max_size=5))
def test_figures_of_the_bench_take_a_line_each(result: dict[str, Any]) -> None:
    """1362 lines, it was: whatever a figure holds; of a list of records a line each."""
    text = bench._json(result)
    assert json.loads(text) == result
    rows = [len(v) + 1 for v in result.values() if isinstance(v, list) and v]
    assert text.count("\n") <= len(result) + sum(rows) + 2


COMMANDS_WITH_A_MODEL = {
    "say": ["say", "Hello.", "--model"],
    "voice": ["voice", "{ref}", "-o", "v", "--model"],
    "voices": ["voices", "--model"],
    "bench": ["bench", "--model"],
    "bench --batch": ["bench", "--batch", "1", "--model"],
    "eval": ["eval"],
    "eval --against": ["eval", "{model}", "--voice", "{voice}", "--against"],
}


@pytest.mark.parametrize("command", COMMANDS_WITH_A_MODEL.values(), ids=list(COMMANDS_WITH_A_MODEL))
def test_every_command_says_what_its_model_is_instead(
    command: list[str], run: Run, voice: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    places = {"{ref}": ref(), "{model}": tiny.model_file(ARCH), "{voice}": voice}
    given = [places.get(word, word) for word in command]
    for wrong, code, said in (
        (voice, 1, "a voice file, not a model: it is given with --voice"),
        (ref(), 1, "a recording, not a model or voice file"),
        (tiny.sopro_file(ARCH), 1, "convert it first"),
        ("v1.5", 2, "sopro-np download v1.5"),
        ("caf\udce9", 2, "neither a file nor a downloaded model"),
    ):
        got, out, err = run(*given, wrong)
        assert (got, out) == (code, b"") and said in err, (wrong, err)
    assert not list(tmp_path.iterdir())


def test_arguments_in_another_encoding_are_named(run: Run, voice: Path) -> None:  # noqa: F811
    for command in (["say", "--voice", voice, "caf\udce9"], ["text", "caf\udce9"]):
        code, out, err = run(*command)
        assert (code, out) == (2, b"") and "character 3 of the text is not UTF-8 (the byte E9)" in err


WRITERS = {
    "say -o": ["say", "Hello.", "--voice", "{voice}", *SHORT, "-o"],
    "say --srt": ["say", "Hello.", "--voice", "{voice}", *SHORT, "--srt"],
    "say --vtt": ["say", "Hello.", "--voice", "{voice}", *SHORT, "--vtt"],
    "say --json": ["say", "Hello.", "--voice", "{voice}", *SHORT, "--json"],
    "voice -o": ["voice", "{ref}", "-o"],
    "eval --json": ["eval", "--voice", "{voice}", "--count", "1", "--json"],
    "eval --html": ["eval", "--voice", "{voice}", "--count", "1", "--html"],
    "eval --listen": ["eval", "--voice", "{voice}", "--count", "1", "--listen"],
    "convert -o": ["convert", "--sopro", "{source}", "-o"],
    "convert --json": ["convert", "--sopro", "{source}", "-o", "new", "--json"],
}


@pytest.mark.parametrize("command", WRITERS.values(), ids=list(WRITERS))
def test_no_command_replaces_a_read_only_file(
    command: list[str], run: Run, voice: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    """Nor is anything else written; root, who may write everything, is no exception."""
    kept = tmp_path / "kept.wav"
    kept.write_bytes(b"kept")
    kept.chmod(0o444)
    places = {"{ref}": ref(), "{source}": tiny.sopro_file(ARCH), "{voice}": voice}
    code, out, err = run(*(places.get(word, word) for word in command), "kept.wav")
    assert code in (1, 2) and not out and "kept.wav" in err and "read-only" in err
    assert kept.read_bytes() == b"kept" and list(tmp_path.iterdir()) == [kept]


def test_no_message_names_what_is_not_in_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Scripts in tools/ are there in a checkout alone: its one mention asks for the file first."""
    for path in (ROOT / "sopro_np").rglob("*.py"):
        if not re.search(r"(tools|tests)/\w", source := path.read_text("utf-8")):
            continue
        tree = ast.parse(source)
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                assert not re.search(r"(tools|tests)/\w", node.value) or path.name == "packs.py", node.value
    assert "tools/build_kernels.py" in packs.remedy()
    monkeypatch.setattr(packs, "PACKAGE", tmp_path / "site-packages" / "sopro_np")
    assert "tools" not in packs.remedy()


WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
sys.argv = sys.argv[2:]
sys.path[0] = sys.argv[0].rpartition("/")[0] or "."
if sys.argv[0].endswith(".py"):
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    runpy.run_module(sys.argv[0], run_name="__main__")
"""
LIBRARIES = ["numba", "llvmlite", "torch", "transformers", "tokenizers", "scipy", "jiwer", "huggingface_hub"]


@pytest.mark.parametrize(
    "command",
    [
        "tools/board_estimate.py",
        "tools/build_kernels.py --target aarch64/neon -o packs",
        "tools/bench_vs_torch.py --arch v1",
        "tools.train sopro",
        "tools.train data",
    ],
)
def test_tools_without_their_libraries(command: str, tmp_path: Path) -> None:
    """A line that names the library and how it is installed, before any work; no traceback."""
    words = [str(ROOT / word) if word.endswith(".py") else word for word in command.split()]
    done = python("-c", WITHOUT, ",".join(LIBRARIES), *words, cwd=tmp_path, PYTHONPATH=str(ROOT))
    last = (done.stderr + done.stdout).strip().splitlines()[-1]
    assert done.returncode not in (0, -signal.SIGSEGV) and "Traceback" not in done.stderr
    assert "is not installed: pip install" in last and any(name in last for name in LIBRARIES)
    assert not list(tmp_path.iterdir())


HELP = """
import runpy, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
for tool in sys.argv[2:]:
    sys.argv, sys.path[0] = [tool, "--help"], tool.rpartition("/")[0]
    try:
        runpy.run_path(tool, run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            sys.exit(f"{tool}: {stop.code}")
"""


def test_help_of_tools_without_their_libraries(tmp_path: Path) -> None:
    """But for board_estimate.py, which takes no arguments."""
    tools = [path for path in sorted((ROOT / "tools").glob("*.py")) if path.name != "board_estimate.py"]
    done = python("-c", HELP, ",".join(LIBRARIES), *tools, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert [name for path in tools if f"usage: {(name := path.name)}" not in done.stdout] == []


def test_a_build_without_numba_does_not_send_for_a_linker(
    hook: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    """`pip install --no-build-isolation`: what is missing is named, and how to get it; `ld` would not help."""
    find = importlib.util.find_spec
    monkeypatch.setattr(packs, "PACKS", tmp_path)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    for name in ("numba", "llvmlite"):
        with monkeypatch.context() as patch:
            patch.setattr(importlib.util, "find_spec", lambda n, *a, name=name: None if n == name else find(n, *a))
            data, [said] = hook("standard")
        assert data == {"force_include": {}, "pure_python": True}
        assert f"{name} is not installed" in said and "--no-build-isolation" in said and "pip install 'numba" in said
        assert "linker" not in said and "binutils" not in said


# ---------------------------------------------------------------- recordings


def test_what_passed_without_a_word_is_told() -> None:
    """0.16 s of voice, white noise alone, a voice of 50 times full scale."""
    rng = np.random.default_rng(1)
    for wav, word in (
        (spoken(6.0)[: round(0.16 * RATE)], "s of speech"),
        (0.2 * rng.standard_normal(4 * RATE), "noisy"),
        (np.clip(50 * spoken(3.0), -1, 1), "clipped"),
    ):
        wav = wav.astype(np.float32)
        for source in (wav, encoded(wav[:, None])):
            try:
                told = " ".join(notes(source))
            except AudioError as error:
                told = str(error)
            assert word in told, told


@given(st.floats(9, 1e30), st.sampled_from([1, -1]))
@settings(deadline=None, max_examples=10)
def test_integers_in_floats_are_no_speech(scale: float, sign: int) -> None:
    wav = spoken(1.0)
    with pytest.raises(AudioError, match="scale it"):
        tiny.model("v1").voice((sign * scale / np.abs(wav).max() * wav).astype(np.float32))


def test_seventy_seconds_are_a_reference(run: Run, tmp_path: Path) -> None:  # noqa: F811
    """Of which the model hears what it can."""
    (tmp_path / "long.wav").write_bytes(encoded(np.tile(spoken(7.0, 8000), 10)[:, None], rate=8000))
    code, out, err = run("say", "Hello.", "--ref", "long.wav", "-o", "-", "--raw", "--max-frames", 2, "--seed", 1)
    assert code == 0 and out and "70 s long" in err
    assert run("voice", "long.wav", "-o", "v")[0] == 0


# ---------------------------------------------------------------- what worked well


@on_kernels
@pytest.mark.parametrize("arch", tiny.ARCHS)
def test_eight_threads_on_one_model(arch: str) -> None:
    model, who = tiny.model(arch), tiny.voice(arch)
    expected = [model.synthesize(tiny.TEXT, who, seed=seed, max_frames=6).tobytes() for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        heard = pool.map(lambda seed: model.synthesize(tiny.TEXT, who, seed=seed, max_frames=6).tobytes(), range(8))
        assert list(heard) == expected


def test_a_stream_at_the_defaults_is_the_whole() -> None:
    """README says so of every text; with NumPy up to rounding, on kernels to the bit."""
    for arch in tiny.ARCHS:
        model, who = tiny.model(arch), tiny.voice(arch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SoproWarning)
            whole = model.synthesize("Hello there. And more.", who, seed=3)
            parts = np.concatenate(list(model.stream("Hello there. And more.", who, seed=3)))
        assert parts.tobytes() == whole.tobytes()
