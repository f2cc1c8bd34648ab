"""Where something is written to: refused before any work, or written, and an error of ours that names it."""

from __future__ import annotations

import io
import os
import socket
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from test_cli import ARCH, SHORT, Run, ref, run, voice  # noqa: F401

from sopro_np.encode import find_format, open_writer
from sopro_np.errors import SoproError, SoproWarning, UsageError
from sopro_np.wav import OTHERS, check_target, pcm16, write_wav

LONG = "x" * 300
UNUSABLE = [".", "new/", LONG, f"{LONG}/x.wav", "file/x.wav", "no/x.wav", "ring", "socket", ""]


@pytest.fixture
def things(tmp_path: Path) -> None:
    """A file, a ring of links and a socket in the current folder of `run`."""
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "ring").symlink_to("ring")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "socket"))


@pytest.mark.parametrize(
    ("option", "name"),  # an empty name asks for no subtitles
    [(option, name) for option in ("-o", "--srt", "--json") for name in UNUSABLE if name or option == "-o"],
)
def test_unusable_names_are_refused_before_work(
    option: str,
    name: str,
    things: None,
    run: Run,  # noqa: F811
    voice: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {p.name for p in tmp_path.iterdir()}
    monkeypatch.setattr("sopro_np.cli.say.open_model", lambda *a: pytest.fail("worked"))
    code, out, err = run("say", "hello", "--voice", voice, option, name)
    assert (code, out) == (2, b"") and name[:80] in err and len(err) < 500, err
    assert {p.name for p in tmp_path.iterdir()} == before and (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.parametrize("name", [*UNUSABLE, "-", "/dev/null"])
def test_a_voice_needs_a_usable_name(name: str, things: None, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("sopro_np.cli.voices.open_model", lambda *a: pytest.fail("worked"))
    code, out, err = run("voice", ref(), "-o", name)
    assert (code, out) == (2, b"") and name[:80] in err, err


def test_a_conversion_needs_usable_names(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("sopro_np.convert.convert.convert", lambda *a, **b: pytest.fail("worked"))
    for names in (["-o", LONG], ["-o", "x", "--json", LONG], ["-o", "x", "--json", "no/such/r"], ["-o", "."]):
        assert run("convert", "--sopro", tiny.sopro_file(ARCH), *names)[0] == 2
    assert not list(tmp_path.iterdir())


@given(st.text(min_size=1, max_size=300))
def test_any_name_is_refused_or_left_alone(name: str) -> None:
    try:
        check_target(f"no-such-folder/{name}")
    except UsageError as error:
        assert len(str(error)) < 600
    else:
        assert os.path.normpath(f"no-such-folder/{name}").count("no-such-folder") == 0, "it leads out of it again"


def test_pipes_and_devices_are_written(run: Run, voice: Path, tmp_path: Path) -> None:  # noqa: F811
    os.mkfifo(tmp_path / "pipe")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    given = ["say", tiny.TEXT, "--voice", voice, *SHORT]
    code, out, err = run(*given, "--srt", "pipe", "--json", "/dev/null", "--vtt", "x.vtt")
    reader.join(timeout=10)
    assert (code, out) == (0, b""), err
    assert b"-->" in received[0] and (tmp_path / "pipe").is_fifo()
    assert run(*given, "-o", "/dev/null", "--json", "/dev/null") == (0, b"", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_a_full_device_is_a_failure_that_keeps_the_audio(run: Run, voice: Path, tmp_path: Path) -> None:  # noqa: F811
    code, _, err = run("say", tiny.TEXT, "--voice", voice, *SHORT, "-o", "x.wav", "--srt", "/dev/full")
    assert code == 1 and "/dev/full: cannot be written: No space" in err
    assert (tmp_path / "x.wav").stat().st_size > 44


@pytest.mark.parametrize("rate", [0, -1, 7999, 192_001])
def test_rates_are_refused_before_work(
    rate: int,
    run: Run,  # noqa: F811
    voice: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sopro_np.cli.say.open_model", lambda *a: pytest.fail("worked"))
    code, _, err = run("say", "hello", "--voice", voice, f"--sample-rate={rate}")
    assert code == 2 and str(rate) in err


def test_what_python_gives_by_mistake_is_named() -> None:
    tts, codes = tiny.model(ARCH), tiny.voice(ARCH).codes
    with pytest.raises(UsageError, match="decode each"):
        tts.decode([codes, codes[:1]])  # type: ignore[arg-type]
    with pytest.raises(SoproError, match="masked"):
        tts.voice(np.ma.masked_array(np.ones(24000, np.float32)))


# --- write_wav ------------------------------------------------------------------------------------------------

WAV = np.linspace(-1, 1, 100, dtype=np.float32)


@pytest.mark.parametrize("target", [None, 5, b"x.wav", [], io.StringIO(), object()], ids=repr)
def test_what_is_no_target_is_named(target: Any) -> None:
    with pytest.raises(UsageError, match="binary mode"):
        write_wav(target, WAV)


@pytest.mark.parametrize("ending", [*OTHERS, ".MP3", ".raw"])
def test_no_wav_by_another_name(ending: str, tmp_path: Path) -> None:
    for target in (tmp_path / f"x{ending}", str(tmp_path / f"x{ending}")):
        with pytest.raises(UsageError, match=f"{ending.lower()} should not hold WAV"):
            write_wav(target, WAV)
    with pytest.raises(UsageError, match="should not hold samples without"):
        write_wav(tmp_path / "x.wav", WAV, raw=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x", "x.WAV", "x.wave", "v1.5", "x.mp3.wav"])
def test_other_names_are_no_formats(name: str, tmp_path: Path) -> None:
    write_wav(tmp_path / name, WAV)
    assert (tmp_path / name).read_bytes()[:4] == b"RIFF"


def test_the_remedy_for_other_formats_works(tmp_path: Path) -> None:
    file = str(tmp_path / "x.mp3")
    with open_writer(file, find_format(file)) as writer:
        writer.write(WAV)
    assert Path(file).read_bytes()[:1] == b"\xff"


@given(st.lists(st.floats(-8, 8, width=32), max_size=20))
def test_what_is_clipped_is_told(samples: list[float]) -> None:
    file, wav = io.BytesIO(), np.array(samples, np.float32)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write_wav(file, wav, raw=True)
    assert file.getvalue() == pcm16(wav)
    assert [w.category for w in told] == [SoproWarning] * bool((np.abs(wav) > 1).any())


def test_files_that_take_nothing_give_our_error(tmp_path: Path) -> None:
    closed = io.BytesIO()
    closed.close()
    with (
        tempfile.NamedTemporaryFile("w", dir=tmp_path) as text,
        open(os.devnull, "rb") as read_only,
    ):
        for file in (closed, text, read_only):
            with pytest.raises(SoproError):
                write_wav(file, WAV)  # type: ignore[arg-type]
