"""Speech is written whole or not at all, to files, streams and pipes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from test_audio import RATE, voice

from sopro_np import audio
from sopro_np.errors import AudioError, UsageError
from sopro_np.wav import WavWriter, pcm16, wav_header, write_wav


@given(st.lists(st.integers(-32767, 32767)))
def test_pcm16_round_trip(values: list[int]) -> None:
    wav = np.array(values, np.float64) / 32767
    assert np.frombuffer(pcm16(wav.astype(np.float32)), "<i2").tolist() == values


def test_pcm16_clips_and_rounds_half_to_even() -> None:
    wav = np.array([-9, -1, -0.5, 0, 0.5, 1, 9], np.float32)
    # Half of 32767 is 16383.5, which goes to the even 16384.
    assert np.frombuffer(pcm16(wav), "<i2").tolist() == [-32767, -32767, -16384, 0, 16384, 32767, 32767]
    assert pcm16(np.zeros(0)) == b""
    with pytest.raises(AudioError, match="NaN"):
        pcm16(np.array([0.0, np.nan]))
    with pytest.raises(UsageError, match="mono"):
        pcm16(np.zeros((2, 3)))


def chunks() -> list[np.ndarray]:
    return np.split(voice()[:, 0], [100, 100, 5000])


def read_wav(path: Path | io.BytesIO) -> np.ndarray:
    with wave.open(path if isinstance(path, io.BytesIO) else str(path)) as file:
        assert file.getparams()[:3] == (1, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


EXPECTED = np.frombuffer(pcm16(voice()[:, 0]), "<i2")


def test_chunks_and_whole_give_the_same_file(tmp_path: Path) -> None:
    write_wav(tmp_path / "whole.wav", voice()[:, 0])
    with WavWriter(str(tmp_path / "chunks.wav")) as writer:
        for chunk in chunks():
            writer.write(chunk)
            assert not (tmp_path / "chunks.wav").exists()
    assert (tmp_path / "whole.wav").read_bytes() == (tmp_path / "chunks.wav").read_bytes()
    assert np.array_equal(read_wav(tmp_path / "whole.wav"), EXPECTED)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chunks.wav", "whole.wav"]
    assert (tmp_path / "whole.wav").stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_raw_is_samples_only(tmp_path: Path) -> None:
    write_wav(tmp_path / "speech.raw", voice()[:, 0], raw=True)
    assert (tmp_path / "speech.raw").read_bytes() == EXPECTED.tobytes()


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(b"old")
    writer = WavWriter(path)
    with pytest.raises(AudioError, match="NaN"), writer:
        writer.write(np.append(voice()[:, 0], np.float32(np.nan)))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.wav").write_bytes(b"old")
    (tmp_path / "link.wav").symlink_to("real.wav")
    write_wav(tmp_path / "link.wav", voice()[:, 0])
    assert (tmp_path / "link.wav").is_symlink()
    assert np.array_equal(read_wav(tmp_path / "real.wav"), EXPECTED)


def test_a_stream_is_written_in_order() -> None:
    """A file object is never sought: a WAV of unknown length, which our own reader and others understand."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation("seek")

    pipe = Pipe()
    with WavWriter(pipe) as writer:
        for chunk in chunks():
            writer.write(chunk)
    data = pipe.getvalue()
    assert data[:44] == wav_header(RATE, None)
    assert data[40:44] == data[4:8] == b"\xff" * 4
    assert data[44:] == EXPECTED.tobytes()
    assert audio.read_reference(data).size == RATE
    assert len(soundfile.read(io.BytesIO(data))[0]) == RATE

    known = io.BytesIO()
    write_wav(known, voice()[:, 0])
    assert np.array_equal(read_wav(io.BytesIO(known.getvalue())), EXPECTED)


def test_standard_output_and_its_loss() -> None:
    code = "import numpy as np; from sopro_np.wav import write_wav; write_wav('-', np.full({n}, 0.5), raw=True)"
    command = [sys.executable, "-u", "-c"]
    done = subprocess.run([*command, code.format(n=100_000)], capture_output=True, check=True)
    assert done.stdout == b"\x00\x40" * 100_000
    assert done.stderr == b""
    process = subprocess.Popen([*command, code.format(n=10**6)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert b"BrokenPipeError" in process.stderr.read()
    assert process.wait() != 0
    process.stderr.close()


def test_a_named_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    write_wav(path, voice()[:, 0])
    reader.join(timeout=10)
    assert path.is_fifo()
    assert np.array_equal(read_wav(io.BytesIO(received[0])), EXPECTED)


def test_bad_targets_are_refused(tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "missing" / "speech.wav", "nul\0.wav"):
        with pytest.raises(UsageError, match="cannot write"):
            write_wav(target, voice()[:, 0])
    if Path("/dev/full").exists():
        with pytest.raises(AudioError, match=r"cannot write /dev/full: No space left"):
            write_wav("/dev/full", voice()[:, 0])
    assert list(tmp_path.iterdir()) == []


def test_reading_and_writing_load_nothing_big() -> None:
    """A voice that was saved needs no decoder, so importing must not load one."""
    code = "import sys, sopro_np.audio, sopro_np.wav; print({'soundfile', 'soxr'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
