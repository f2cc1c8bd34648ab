"""`say` and its friends: formats, effects, players, lines, quiet, voices by name, help."""

from __future__ import annotations

import argparse
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
import tiny
from hypothesis import given
from hypothesis import strategies as st
from test_cli import ARCH, SHORT, Run, ref, run, samples, speech, voice  # noqa: F401
from test_cli_tools import process

from sopro_np.cli import player
from sopro_np.cli.main import build_parser
from sopro_np.cli.parser import FORMATS
from sopro_np.cli.progress import Progress, clock, line
from sopro_np.convert.recipe import BUILT_IN
from sopro_np.effects import loudness
from sopro_np.encode import FORMATS as WRITTEN
from sopro_np.options import Options
from sopro_np.wav import pcm16

# --- formats and effects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [[], ["--stream"]])
@pytest.mark.parametrize("form", ["flac", "ogg", "opus", "mp3"])
def test_formats(form: str, stream: list[str], run: Run, voice: Path, tmp_path: Path) -> None:  # noqa: F811
    given = ["say", tiny.TEXT, "--voice", voice, *SHORT, *stream]
    assert run(*given, "-o", f"x.{form}")[:2] == (0, b"")
    info = soundfile.info(tmp_path / f"x.{form}")
    assert (info.format, info.subtype) == (WRITTEN[form].container, WRITTEN[form].encoding)
    code, out, err = run(*given, "-o", "-", "--format", form)
    assert (code, out[:2]) == (0, (tmp_path / f"x.{form}").read_bytes()[:2]), err
    assert run(*given, "--format", form)[0] == 0
    assert {p.name for p in tmp_path.iterdir()} == {f"x.{form}", f"sopro.{form}"}


@pytest.mark.parametrize("rate", [8000, 24000, 44100])
def test_rate_and_gain_whole_and_streamed(rate: int, run: Run, voice: Path) -> None:  # noqa: F811
    given = ["say", tiny.TEXT, "--voice", voice, "-o", "-", "--raw", *SHORT, "--sample-rate", rate, "--gain=-6"]
    given += ["--lookahead", 2, "--chunk-frames", 1]
    whole, streamed = run(*given), run(*given, "--stream")
    wav = speech(lookahead=2, chunk_frames=1)
    wav = soxr.resample(wav, 24000, rate, quality="HQ") if rate != 24000 else wav
    assert whole[:2] == streamed[:2] == (0, pcm16(wav * np.float32(10 ** (-6 / 20))))


def test_loudness_is_what_was_asked_for(run: Run, voice: Path, tmp_path: Path) -> None:  # noqa: F811
    given = ["say", tiny.TEXT, "--voice", voice, "--seed", 1, "--max-frames", 20, "--min-gen-frames", 20]
    assert run(*given, "--normalise-loudness=-40")[0] == 0
    wav, rate = soundfile.read(tmp_path / "sopro.wav")
    assert loudness(wav, rate) == pytest.approx(-40, abs=0.3)
    code, _, err = run(*given, "--normalise-loudness", "0")
    assert code == 0 and "clipped" in err
    assert np.abs(soundfile.read(tmp_path / "sopro.wav")[0]).max() == pytest.approx(1, abs=1e-3)
    assert "clipped" in run(*given, "--gain", "90")[2]


def test_faster(run: Run, voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    pytest.importorskip("python_stretch")  # in the extra `test`
    given = ["say", tiny.TEXT, "--voice", voice, "--speed", 1.25, "-o", "-", "--raw", "--json", "x.json", *SHORT]
    code, out, err = run(*given)
    assert code == 0 and len(out) == 2 * round(len(speech()) / 1.25), err
    [sentence] = json.loads((tmp_path / "x.json").read_text())["sentences"]
    assert sentence["end"] == pytest.approx(len(out) / 2 / 24000, abs=1e-3)
    monkeypatch.setitem(sys.modules, "python_stretch.Signalsmith", None)
    code, out, err = run(*given)
    assert (code, out) == (1, b"") and "pip install python-stretch" in err


REFUSED = [
    (["-o", "x.m4a"], ".m4a"),
    (["-o", "x.aac"], ".flac"),
    (["-o", "x.mp3", "--raw"], "raw"),
    (["-o", "x.wav", "--format", "mp3"], "mp3"),
    (["--raw", "--format", "mp3"], "--raw"),
    (["-o", "x.opus", "--sample-rate", "44100"], "48000"),
    (["--sample-rate", "5"], "8000"),
    (["--gain", "nan"], "--gain"),
    (["--gain", "1", "--normalise-loudness=-16"], "--gain"),
    (["--normalise-loudness=-16", "--stream"], "--stream"),
    (["--normalise-loudness", "3"], "LUFS"),
    (["--speed", "1.5", "--stream"], "--stream"),
    (["--speed", "3"], "0.5 to 2"),
    (["--speed", "nan"], "0.5 to 2"),
    (["--file", "none.txt"], "TEXT"),
    (["--lines"], "--lines"),
    (["--sentences"], "--sentences"),
    (["-o", "-", "--json", "-"], "two things"),
    (["-o", "x", "--srt", "./x"], "two things"),
    (["--vtt", "no/such/x.vtt"], "no such folder"),
]


@pytest.mark.parametrize(("more", "word"), REFUSED, ids=lambda v: str(v)[-40:])
def test_refused_before_work(
    more: list[str],
    word: str,
    run: Run,  # noqa: F811
    voice: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sopro_np.cli.say._spoken", lambda *a: pytest.fail("worked"))
    code, out, err = run("say", "hello", "--voice", voice, *more)
    assert (code, out) == (2, b"") and word in err, err
    assert not list(tmp_path.iterdir())


def test_raw_without_a_name_is_no_wav(run: Run, voice: Path, tmp_path: Path) -> None:  # noqa: F811
    assert run("say", tiny.TEXT, "--voice", voice, "--raw", *SHORT)[0] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["sopro.raw"]
    assert (tmp_path / "sopro.raw").read_bytes() == pcm16(speech())


def test_no_audio_onto_a_terminal(run: Run, voice: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, out, err = run("say", tiny.TEXT, "--voice", voice, "-o", "-", *SHORT)
    assert (code, out) == (2, b"") and "terminal" in err


# --- players --------------------------------------------------------------------------------------------------


@pytest.fixture
def path_of_players(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """(name, shell script) -> a folder that is all of PATH, with such a player in it."""
    folder = tmp_path_factory.mktemp("players")
    monkeypatch.setenv("PATH", str(folder))

    def add(name: str, script: str) -> Path:
        (folder / name).write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        (folder / name).chmod(0o755)
        return folder

    return add


@pytest.mark.parametrize("name", list(player.PIPES))
def test_players_get_the_samples(
    name: str,
    path_of_players: Callable[..., Path],
    run: Run,  # noqa: F811
    voice: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = path_of_players(name, 'cat > "$(dirname "$0")/heard"; echo "$@" > "$(dirname "$0")/told"')
    for stream in ([], ["--stream"]):
        code, out, err = run("say", tiny.TEXT, "--voice", voice, "--play", *SHORT, *stream)
        assert (code, out) == (0, b""), err
        assert (folder / "heard").read_bytes() == pcm16(speech())
        assert "24000" in (folder / "told").read_text()
        assert not list(tmp_path.iterdir()), "nothing is written"
    assert run("say", tiny.TEXT, "--voice", voice, "--play", "-o", "x.wav", *SHORT)[0] == 0
    assert samples((tmp_path / "x.wav").read_bytes()) == (folder / "heard").read_bytes()


def test_a_player_of_files(path_of_players: Callable[..., Path], run: Run, voice: Path) -> None:  # noqa: F811
    folder = path_of_players("afplay", 'cp "$1" "$(dirname "$0")/heard"; echo "$1" > "$(dirname "$0")/told"')
    assert run("say", tiny.TEXT, "--voice", voice, "--play", *SHORT)[0] == 0
    assert samples((folder / "heard").read_bytes()) == pcm16(speech())
    assert not Path((folder / "told").read_text().strip()).parent.exists()


def test_players_that_fail(path_of_players: Callable[..., Path], run: Run, voice: Path) -> None:  # noqa: F811
    given = ["say", tiny.TEXT, "--voice", voice, "--play"]
    code, _, err = run(*given, *SHORT)
    assert code == 2 and "no player found" in err
    for script in ("cat > /dev/null; exit 3", "exit 3"):
        path_of_players("aplay", script)
        code, out, err = run(*given, "--max-frames", 60, "--min-gen-frames", 60, "-q")
        assert (code, out) == (1, b"") and "aplay ended" in err and "exit code 3" in err


@pytest.mark.parametrize("script", ["cat > /dev/null; exit 3", "exit 3", "exit 0"])
def test_a_player_that_fails_leaves_the_files(
    script: str,
    path_of_players: Callable[..., Path],
    run: Run,  # noqa: F811
    voice: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    path_of_players("aplay", script)
    given = ["say", tiny.TEXT, "--voice", voice, "--seed", 1, "--max-frames", 60, "--min-gen-frames", 60, "-q"]
    code, out, err = run(*given, "--play", "-o", "x.wav", "--srt", "x.srt")
    assert (code, out) == (1, b"") and "aplay ended" in err and "x.wav" in err, err
    assert "-->" in (tmp_path / "x.srt").read_text()
    heard = (tmp_path / "x.wav").read_bytes()
    assert run(*given, "-o", "x.wav")[0] == 0 and (tmp_path / "x.wav").read_bytes() == heard
    assert {p.name for p in tmp_path.iterdir()} == {"x.wav", "x.srt"}


@pytest.mark.parametrize("content", ["", "no program\n", "#!/no/such/shell\n", "\x7fELF"])
def test_what_cannot_be_started_is_no_player(
    content: str,
    path_of_players: Callable[..., Path],
    run: Run,  # noqa: F811
    voice: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = path_of_players("ffplay", 'cat > "$(dirname "$0")/heard"')
    for name in ("pw-play", "aplay"):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    given = ["say", tiny.TEXT, "--voice", voice, "--play", *SHORT]
    assert run(*given)[0] == 0 and (folder / "heard").read_bytes() == pcm16(speech())
    (folder / "ffplay").unlink()
    code, _, err = run(*given, "-o", "x.wav")
    assert code == 1 and "aplay cannot be started" in err and "without --play" in err
    assert not list(tmp_path.iterdir())


def test_a_player_of_files_that_cannot_be_started(
    path_of_players: Callable[..., Path],
    run: Run,  # noqa: F811
    voice: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = path_of_players("afplay", "")
    (folder / "afplay").write_text("no program\n")
    code, _, err = run("say", tiny.TEXT, "--voice", voice, "--play", "-o", "x.wav", *SHORT)
    assert code == 1 and "afplay cannot be started" in err and "is in x.wav" in err
    assert samples((tmp_path / "x.wav").read_bytes()) == pcm16(speech())


# --- texts ----------------------------------------------------------------------------------------------------


def test_words_without_quotes_are_one_text(run: Run, voice: Path) -> None:  # noqa: F811
    raw = ["--voice", voice, "-o", "-", "--raw", *SHORT]
    assert run("say", *raw, "Hello", "there")[1] == run("say", *raw, "Hello there")[1] != b""
    code, _, err = run("say", "Hello", *raw, "there")
    assert code == 2 and "quotes" in err
    code, _, err = run("say", *raw)
    assert code == 2 and "--file" in err and "quotes" in err


@pytest.mark.parametrize("content", [b"%s", b"\xef\xbb\xbf%s\r\n", b"%s\n"])
def test_a_file_of_text(content: bytes, run: Run, voice: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "text.txt").write_bytes(content % tiny.TEXT.encode())
    assert run("say", "--file", "text.txt", "--voice", voice, "-o", "-", "--raw", *SHORT)[1] == pcm16(speech())


@pytest.mark.parametrize("content", [None, b"", b" \n", b"caf\xe9", b"\xff\xfeh\x00i\x00", b"x" * 101])
def test_files_that_are_no_text(
    content: bytes | None,
    run: Run,  # noqa: F811
    voice: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sopro_np.cli.texts.MAX_TEXT_BYTES", 100)
    monkeypatch.setattr("sopro_np.cli.texts.MAX_LINE_BYTES", 100)
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    for lines in ([], ["--lines"], *([["--sentences"]] if content != b"x" * 101 else [])):
        code, out, err = run("say", "--file", "text.txt", "--voice", voice, *lines)
        assert (code, out) == (2, b"") and "text.txt" in err
        assert {p.name for p in tmp_path.iterdir()} <= {"text.txt"}


def pause() -> bytes:
    return bytes(2 * round(Options().pause * 24000))


ENDS = [("--lines", (b"\n", b"\r\n\n", b"\n")), ("--sentences", (b"\n", b" A", b"B\n"))]


@pytest.mark.parametrize(("each", "ends"), ENDS)
def test_texts_are_spoken_while_the_pipe_is_open(
    each: str,
    ends: tuple[bytes, ...],
    voice: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    expected = pcm16(speech())
    child = process("say", each, "--stream", "--raw", "-o", "-", "--voice", voice, *SHORT, cwd=tmp_path)
    assert child.stdin is not None and child.stdout is not None
    before = b""
    for i, end in enumerate(ends):
        child.stdin.write(tiny.TEXT.encode() + end)
        child.stdin.flush()
        if i < 2:
            heard = child.stdout.read(len(before + expected))
            assert heard == before + expected, "the next one was not written yet"
        before = pause()
    out, err = child.communicate(b"last")
    assert child.returncode == 0 and out and not err


def test_lines_without_words_are_left_out(run: Run, voice: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "text.txt").write_text(f"{tiny.TEXT}\n***\n\n{tiny.TEXT}\n")
    given = ["say", "--lines", "--file", "text.txt", "--voice", voice, "--seed", 1, "--max-frames", 4]
    code, out, err = run(*given, "-o", "-", "--raw", "--srt", "x.srt", "--json", "x.json")
    assert (code, out) == (0, pcm16(speech()) + pause() + pcm16(speech())) and "***" in err
    facts = json.loads((tmp_path / "x.json").read_text())
    first, second = facts["sentences"]
    assert first["written"] == second["written"] == tiny.TEXT and facts["frames"] == 2 * len(speech()) // 1920
    assert second["span"] == [len(tiny.TEXT) + 1, 2 * len(tiny.TEXT) + 1]
    assert second["end"] == pytest.approx(len(out) / 2 / 24000)
    assert second["start"] == pytest.approx(second["end"] - first["end"])
    assert (tmp_path / "x.srt").read_text().count("-->") == 2
    assert json.loads(run(*given, "--json", "-", "-q")[1]) == facts
    (tmp_path / "text.txt").write_text("***\n---\n")
    code, _, err = run(*given)
    assert code == 2 and "nothing to say" in err


BAD = ["\u4f60\u597d", "[pause 99]", "caf\udce9"]


@pytest.mark.parametrize("bad", BAD, ids=ascii)
def test_a_line_that_cannot_be_said_does_not_end_the_others(
    bad: str,
    run: Run,  # noqa: F811
    voice: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    content = f"{tiny.TEXT}\n{bad}\n{tiny.TEXT}\n".encode(errors="surrogateescape")
    (tmp_path / "text.txt").write_bytes(content)
    given = ["say", "--lines", "--file", "text.txt", "--voice", voice, "--seed", 1, "--max-frames", 4]
    for stream in ([], ["--stream"]):
        code, out, err = run(*given, "-o", "-", "--raw", "--srt", "x.srt", *stream)
        assert (code, out) == (1, pcm16(speech()) + pause() + pcm16(speech()))
        assert "note: left out: line 2" in err and "sopro-np: all was said but line 2\n" in err
    assert (tmp_path / "x.srt").read_text().count("-->") == 2
    assert run(*given, "-q") == (1, b"", "sopro-np: all was said but line 2\n")
    (tmp_path / "text.txt").write_bytes(f"***\n{bad}\n".encode(errors="surrogateescape"))
    code, _, err = run(*given, "-o", "y.wav")
    assert code == 2 and "nothing to say" in err and not (tmp_path / "y.wav").exists()


def test_what_is_wrong_with_the_options_is_no_fault_of_a_line(run: Run, voice: Path) -> None:  # noqa: F811
    given = ["say", "--lines", "--voice", voice, "--max-frames", 10**6]
    code, _, err = run(*given, stdin=b"Hello.\nHello.\n")
    assert code == 2 and "frames" in err and "left out" not in err


def test_many_bad_lines_are_counted(run: Run, voice: Path) -> None:  # noqa: F811
    given = ["say", "--lines", "--voice", voice, *SHORT]
    code, _, err = run(*given, stdin=("\u4f60\n" * 9 + "Hello.\n").encode())
    assert code == 1 and err.endswith("all was said but line 1, line 2, line 3, line 4, line 5 and 4 more\n")


@pytest.mark.parametrize("each", ["--lines", "--sentences"])
def test_a_line_may_ask_for_silence(each: str, run: Run, voice: Path) -> None:  # noqa: F811
    given = ["say", each, "--voice", voice, "-o", "-", "--raw", *SHORT]
    hello, second = pcm16(speech()), bytes(2 * 24000)
    for text, expected in (
        ("{0}\n\n[pause 1]\n\n{0}\n", hello + second + hello),
        ("[pause 500ms] [pause]\n\n{0}\n\n[pause 1]", second + hello + second),
        ("{0}\n\n[pause 0]\n\n{0}", hello + hello),
    ):
        assert run(*given, stdin=text.format(tiny.TEXT).encode()) == (0, expected, "")
    code, out, _ = run(*given, stdin=b"[pause 1]\n")
    assert code == 2 and not out.strip(b"\0")


@pytest.mark.parametrize("text", [["-"], ["--file", "-"], ["--lines"], ["--sentences"]])
def test_text_and_recording_cannot_both_be_piped(
    text: list[str],
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sopro_np.cli.say.open_model", lambda *a: pytest.fail("worked"))
    code, _, err = run("say", *text, "--ref", "-", stdin=b"Hello.")
    assert code == 2 and "cannot both come from standard input" in err


# --- words on stderr --------------------------------------------------------------------------------------------


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_progress_lines(done: float, total: float, elapsed: float) -> None:
    match = re.fullmatch(r" *(\d+) % {2}(?:([\d:]+) left)?", line(done, total, elapsed))
    assert match and 0 <= int(match[1]) <= 100
    if done >= total > 0:
        assert match[1] == "100" and match[2] == "0:00"


def test_progress_from_the_first_step_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    progress = Progress(True)
    progress.update(1, 4)
    assert "25 %" in stderr.getvalue() and "left" in stderr.getvalue()
    progress.clear()
    assert stderr.getvalue().endswith("\r")
    Progress(False).update(1, 2)
    assert stderr.getvalue().count("%") == 1
    assert [clock(s) for s in (0, 65, 3600, 3671)] == ["0:00", "1:05", "1:00:00", "1:01:11"]


def test_a_terminal_sees_progress_before_audio(
    run: Run,  # noqa: F811
    voice: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[float] = []
    fake = SimpleNamespace(update=lambda done, total: seen.append(done / total), clear=lambda: None)
    monkeypatch.setattr("sopro_np.cli.say.Progress", lambda shown: fake)
    assert run("say", tiny.TEXT, "--voice", voice, *SHORT)[0] == 0
    assert len(seen) >= 4, "every step is told"
    assert 0 < seen[0] < seen[-1] <= 1


def test_quiet_means_quiet(run: Run, voice: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    from sopro_np import locate

    given = ["say", "hello", "--max-frames", "2", "--seed", "7"]
    _, _, err = run(*given, "--voice", voice)
    assert "note: " in err and "seed 7" in err
    assert run(*given, "--voice", voice, "-q") == (0, b"", "")
    monkeypatch.delenv("SOPRO_NP_MODEL")
    for arguments in ([*given, "-q"], [*given, "-q", "--model", "demo"], ["info"], ["voices"], ["info", "demo"]):
        locate._say_that_it_is_embedded.cache_clear()
        code, _, err = run(*arguments)
        assert (code, err) == (0, ""), arguments


# --- voices -----------------------------------------------------------------------------------------------------


def test_a_voice_is_kept_by_name(run: Run, tmp_path: Path) -> None:  # noqa: F811
    assert run("voice", ref(), "--name", "me")[:2] == (0, b"")
    assert [p.name for p in (tmp_path / "voices").iterdir()] == ["me.voice.safetensors"]
    assert run("say", tiny.TEXT, "--voice", "me", "-o", "-", "--raw", *SHORT)[1] == pcm16(speech())
    assert run("voices") == (0, b"me\n", "")
    found = json.loads(run("voices", "--json")[1])
    assert found == {
        "voices": [{"name": "me", "file": str(tmp_path / "voices" / "me.voice.safetensors"), "default": False}]
    }
    code, _, err = run("voice", ref(), "--name", "me")
    assert code == 2 and "--force" in err
    assert run("voice", ref(), "--name", "me", "--force", "-q") == (0, b"", "")
    assert run("voices", "--model", "demo")[1].split() == [b"ross", b"angus", b"stella"]
    for name in ("../me", "a/b", "", ".", "-x", "a\0", str(tmp_path / "x")):
        code, _, err = run("voice", ref(), f"--name={name}")
        assert code == 2 and "--name" in err
    assert run("voice", ref(), "--name", "a", "-o", "b")[0] == run("voice", ref())[0] == 2
    assert {p.name for p in tmp_path.iterdir()} == {"voices"}


def test_names_that_differ_in_case_are_one_name(run: Run, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "voices"
    assert run("voice", ref(), "--name", "me", "-q") == (0, b"", "")
    for name in ("Me", "ME", "mE.VOICE.safetensors"):
        code, _, err = run("voice", ref(), "--name", name)
        assert code == 2 and "me.voice.safetensors" in err and "--force" in err
    assert run("voice", ref(), "--name", "Me", "--force", "-q") == (0, b"", "")
    assert [p.name for p in folder.iterdir()] == ["me.voice.safetensors"]


def test_a_voice_of_ones_own_hides_the_embedded_one_in_any_case(run: Run, tmp_path: Path) -> None:  # noqa: F811
    code, _, err = run("voice", ref(), "--name", "Ross")
    assert code == 0 and "not the embedded one" in err
    own = str(tmp_path / "voices" / "Ross.voice.safetensors")
    for name in ("ross", "Ross", "ROSS"):
        assert json.loads(run("info", name, "--json")[1])["file"] == own
    assert run("voices") == (0, b"Ross\n", "")
    assert run("voices", "--model", "demo")[1].split() == [b"angus", b"stella"], "it is one of another model"


def test_damaged_files_among_the_voices_are_told(run: Run, voice: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "voices"
    folder.mkdir()
    whole = voice.read_bytes()
    broken = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no voice", "model": None, "folder": None}
    for name, content in broken.items():
        path = folder / f"{name}.voice.safetensors"
        if content is not None:
            path.write_bytes(content)
        elif name == "model":
            path.symlink_to(tiny.model_file(ARCH))
        else:
            path.mkdir()
    (folder / "good.voice.safetensors").write_bytes(whole)
    tiny.voice("v1").save(folder / "other.voice.safetensors")
    code, out, err = run("voices")
    assert (code, out) == (0, b"good\n")
    assert {name for name in broken if f"{name}.voice.safetensors" in err} == set(broken) - {"folder"}
    assert "other" not in err, "a voice of another model is a good voice"
    assert json.loads(run("voices", "--json")[1])["voices"][0]["name"] == "good"


# --- convert, help, completion ------------------------------------------------------------------------------------


def test_convert_is_the_tool(run: Run, tmp_path: Path) -> None:  # noqa: F811
    code, out, err = run("convert", "--sopro", tiny.sopro_file(ARCH), "--recipe", "int4", "-o", "x", "--json", "r.json")
    assert (code, out) == (0, b"") and "MB" in err
    assert json.loads((tmp_path / "r.json").read_text())["bytes_after"] == (tmp_path / "x").stat().st_size
    for more, status in ((["--recipe", "int9"], 2), (["--json", "y"], 2), (["--json", "no/such/r"], 2)):
        code, _, err = run("convert", "--sopro", tiny.sopro_file(ARCH), "-o", "y", *more)
        assert code == status and "sopro-np: " in err


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    [action] = [a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    yield from action.choices.items()


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_help_is_complete(name: str, run: Run) -> None:  # noqa: F811
    parser = dict(commands())[name]
    for action in parser._actions:
        assert action.help and action.help.strip(), action.dest
        if action.default not in (None, False, [], argparse.SUPPRESS):
            assert str(action.default) in action.help, f"{action.dest}: the default is not said"
    for spelling in (["help", name], [name, "--help"]):
        code, out, err = run(*spelling)
        assert (code, err) == (0, "")
    examples = re.findall(r"sopro-np .*", out.decode().split("examples:\n")[1])
    assert len(examples) == 2
    for example in examples:
        words = shlex.split(re.split(r" [>|]", example)[0])
        assert words[1] == name
        build_parser().parse_args(words[1:])


def test_help_of_everything_and_of_nothing(run: Run) -> None:  # noqa: F811
    assert run("help")[1] == run("--help")[1] != b""
    code, _, err = run("help", "sing")
    assert code == 2 and "sing" in err
    assert set(BUILT_IN) <= set(re.findall(r"\w+", run("help", "convert")[1].decode()))
    assert set(FORMATS) == set(WRITTEN)


def test_completion(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, out, err = run("completion", "bash")
    assert (code, out) == (1, b"") and "pip install shtab" in err
    monkeypatch.undo()
    shtab = pytest.importorskip("shtab")  # in the extra `test`
    for shell in ("bash", "zsh", "fish", "tcsh"):
        assert shell in shtab.SUPPORTED_SHELLS
        script = run("completion", shell)[1].decode()
        assert "normalise-loudness" in script
        if shell == "bash":
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)
