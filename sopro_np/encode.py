"""Audio file formats by name: WAV by our own writer, FLAC, Ogg Vorbis, Opus and MP3 encoded while speech goes on."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.errors import AudioError, UsageError
from sopro_np.files import is_stream
from sopro_np.wav import RAW_ENDINGS, WAV_ENDINGS, Target, WavWriter, pcm16

BLOCK = 1 << 14  # samples per call of an encoder: libvorbis keeps a whole call's on the stack
LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

# 64 kbit/s at 24 kHz. Readers of a stream without counts take its length from the first frame's bit rate.
CONSTANT = {"bitrate_mode": "CONSTANT", "compression_level": 0.6}


@dataclass(frozen=True)
class AudioFormat:
    """`name` as people say it, endings of files, libsndfile's format and encoding, sample rates in Hz (none: any),
    what else the encoder is told."""

    name: str
    endings: tuple[str, ...]
    container: str = ""
    encoding: str = ""
    rates: tuple[int, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def is_lossy(self) -> bool:
        """Then a chunk takes milliseconds to encode, else a tenth of one at most."""
        return self.encoding not in ("", "PCM_16")


FORMATS = {
    f.name: f
    for f in (
        AudioFormat("wav", WAV_ENDINGS),
        AudioFormat("flac", (".flac",), "FLAC", "PCM_16"),
        AudioFormat("ogg", (".ogg", ".oga"), "OGG", "VORBIS"),
        AudioFormat("opus", (".opus",), "OGG", "OPUS", OPUS_RATES),
        AudioFormat("mp3", (".mp3",), "MP3", "MPEG_LAYER_III", MP3_RATES, CONSTANT),
        AudioFormat("raw", RAW_ENDINGS),
    )
}


def find_format(target: str | None, given: str | None = None) -> AudioFormat:
    """The format of a file by its name's ending, unless one is `given`. Without either it is WAV.

    UsageError if the ending is that of another format, or of none that can be written.
    """
    if given is not None and given not in FORMATS:
        raise UsageError(f"format {given!r}: there are {', '.join(FORMATS)}")
    named = Path(target or "").name  # the name of a pipe or device says nothing
    ending = "" if target in (None, "-") or is_stream(target or "") else Path(named).suffix.lower()
    by_name = next((f for f in FORMATS.values() if ending in f.endings), None)
    if given is None:
        if not ending:
            return FORMATS["wav"]
        if by_name is None:
            known = ", ".join(e for f in FORMATS.values() for e in f.endings[:1])
            raise UsageError(
                f"{target}: {ending} is no format that can be written; name it {known}, or say which with --format"
            )
        return by_name
    if by_name is not None and by_name.name != given:
        raise UsageError(
            f"{target}: a file named {ending} should not hold {given}; name it {FORMATS[given].endings[0]}"
        )
    return FORMATS[given]


def check_rate(form: AudioFormat, rate: int) -> None:
    """UsageError for a sample rate (Hz) that the format does not know."""
    if form.rates and rate not in form.rates:
        raise UsageError(
            f"{form.name} has no sample rate of {rate} Hz; give --sample-rate {' or '.join(map(str, form.rates))}"
        )
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise UsageError(f"a sample rate of {rate} Hz is outside of {LOWEST_RATE} to {HIGHEST_RATE} Hz")


def open_writer(
    target: Target, form: AudioFormat, sample_rate: int = 24000, *, samples: int | None = None
) -> WavWriter:
    """A writer of this format. `samples`: how many will come, if that is known."""
    if not form.container:
        return WavWriter(target, sample_rate, raw=form.name == "raw", samples=samples)
    return EncodedWriter(target, form, sample_rate)


class EncodedWriter(WavWriter):
    """As WavWriter, with an encoder of libsndfile's in front: complete or not at all, or forwards into a pipe.

    FLAC and MP3 have their length at the beginning: it is put there afterwards in a file, and left unknown in a pipe.
    """

    def __init__(self, target: Target, form: AudioFormat, sample_rate: int = 24000) -> None:
        check_rate(form, sample_rate)
        import soundfile  # here and not above: a WAV needs no encoder

        super().__init__(target, sample_rate, raw=True)
        self._outlet = _Outlet(self)
        self._encoder: Any = None
        try:
            self._encoder = soundfile.SoundFile(
                self._outlet, "w", sample_rate, 1, form.encoding, format=form.container, **form.settings
            )
            self._outlet.check()
        except soundfile.SoundFileError as error:
            self.discard()
            raise AudioError(f"{self.name}: this libsndfile cannot write {form.name} ({error})") from error
        except BaseException:
            self.discard()
            raise

    def write(self, wav: np.ndarray) -> None:
        """Append samples (n,); what the encoder has ready goes out at once."""
        whole = np.frombuffer(pcm16(wav), "<i2")
        for first in range(0, len(whole), BLOCK):
            self._encoder.write(whole[first : first + BLOCK])
            self._outlet.check()

    def close(self) -> None:
        """Encode what is left and put the file in its place."""
        if self._encoder is not None and not self._encoder.closed:
            self._encoder.close()
            self._outlet.check()
        super().close()

    def discard(self) -> None:
        """Give up: an unfinished file disappears."""
        self._outlet.shut = True
        if self._encoder is not None and not self._outlet.inside and not self._encoder.closed:
            self._encoder.close()
        super().discard()

    def put(self, data: bytes, at: int | None) -> None:
        """Encoded bytes: the next ones, or (in a file) others in the place of what stands there."""
        if at is None:
            self._put(data)
        elif self._replacement is not None:
            self._file.seek(at)
            self._file.write(data)
            self._file.seek(0, io.SEEK_END)


class _Outlet:
    """What libsndfile takes for a file. It calls from C, where an exception is lost: it is kept until `check`."""

    def __init__(self, writer: EncodedWriter) -> None:
        self._writer = writer
        self._at = self._end = 0
        self._error: BaseException | None = None
        self._seekable = writer._replacement is not None
        self.inside = self.shut = False  # inside: libsndfile is calling, and must not be closed meanwhile

    def write(self, data: Any) -> int:
        raw = bytes(data)
        if self._error is None and not self.shut:
            self.inside = True
            try:
                if self._at == self._end:
                    self._writer.put(raw if self._seekable or self._at else _without_counts(raw), None)
                else:
                    self._writer.put(raw, self._at)
            except BaseException as error:
                self._error = error
            finally:
                self.inside = False
        self._at += len(raw)
        self._end = max(self._end, self._at)
        return len(raw)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        return b""

    def check(self) -> None:
        """Raise what went wrong while the encoder wrote."""
        if self._error is not None:
            error, self._error = self._error, None
            self._writer.discard()
            raise error


def _without_counts(start: bytes) -> bytes:
    """The beginning of an MP3 without the counts that would be filled in at the end: readers would believe them."""
    if start[:1] == b"\xff":
        start = start.replace(b"Xing", bytes(4), 1).replace(b"Info", bytes(4), 1)
    return start
