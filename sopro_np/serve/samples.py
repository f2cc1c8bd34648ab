"""Bounds of a recording that a stranger sends, checked before a voice is made of it."""

from __future__ import annotations

import io

from sopro_np.audio import sound_file
from sopro_np.containers import REMEDY, recognise
from sopro_np.errors import AudioError

BYTES = 10 << 20  # as OpenAI's
SECONDS = 120.0
RATE, CHANNELS = 48_000, 2  # so many samples a second at most: a forged rate or more channels shorten the seconds
NAME = "the sample"
_BLOCK = 1 << 16  # frames


class Sample(io.BytesIO):
    """Its bytes, called so in what is said of it."""

    name = NAME


def check_sample(data: bytes, seconds: float = SECONDS, ffmpeg: bool = False) -> None:
    """AudioError unless the bytes of a file are a recording of at most `seconds`, whatever its header says.

    It is decoded as far as the bound and not kept. ffmpeg: foreign containers may pass, to be decoded by it.
    """
    if not data:
        raise AudioError(f"{NAME}: is empty; record a few seconds of speech")
    recording = recognise(NAME, io.BytesIO(data), len(data))
    if recording.demuxer is not None:
        if ffmpeg:
            return  # it is told to stop after so many seconds
        raise AudioError(f"{NAME}: is {recording.container}, which this server does not decode; {REMEDY}")
    import soundfile

    with sound_file(recording) as file:
        most = int(min(seconds * file.samplerate, seconds * RATE * CHANNELS / file.channels))
        too_long = AudioError(f"{NAME}: is longer than {most / file.samplerate:.4g} s; cut out a few seconds of speech")
        if most < file.frames < 1 << 62:  # beyond: unknown
            raise too_long
        total = 0
        try:
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                total += len(block)
                if total > most:
                    raise too_long
        except (soundfile.SoundFileError, ValueError) as error:
            raise AudioError(f"{NAME}: cannot be decoded, it is damaged or cut off; {REMEDY}") from error
