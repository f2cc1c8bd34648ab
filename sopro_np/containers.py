"""Audio containers: what a file is, and whether its header may be handed to a decoder.

libsndfile would try 25 formats, some with decoders that had holes. So a file is recognised here by its first bytes,
the codec inside it is looked up in its header, and everything but plain samples, a-law, u-law, FLAC, Vorbis, Opus and
MP3 is refused by name. A WAV is described to libsndfile anew, in 100 bytes that were checked; its other chunks stay
unread.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

from sopro_np.errors import AudioError

REMEDY = "convert it, e.g. with: ffmpeg -i RECORDING -ac 1 -ar 24000 reference.wav"

_CHUNKS = 1000  # more before the samples is an attempt to waste time
_LARGEST_WAV = (1 << 32) - 4096  # what a 32-bit size can say
_WAV_UNKNOWN = 0x7FFF_0000  # a size from here on stands for "unknown": the file was written to a pipe
_WAV_PLAIN = {1: "PCM", 3: "float", 6: "a-law", 7: "u-law"}
_WAV_REFUSED = {
    2: "Microsoft ADPCM",
    0x11: "IMA ADPCM",
    0x31: "GSM 6.10",
    0x40: "G.721 ADPCM",
    0x50: "MPEG",
    0x55: "MP3",
    0xFF: "AAC",
}
_WAV_EXTENSIBLE = 0xFFFE
_AIFC_PLAIN = {b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64"}
_AIFC_PLAIN |= {b"alaw", b"ALAW", b"ulaw", b"ULAW"}
_AU_PLAIN = {1, 2, 3, 4, 5, 6, 7, 27}  # u-law, integers of 8 to 32 bits, floats of 32 and 64, a-law
_CAF_PLAIN = {b"lpcm", b"alaw", b"ulaw"}
_FOREIGN = {  # (offset, magic): name, ffmpeg's name of the demuxer
    (4, b"ftyp"): ("MPEG-4 (m4a, mp4, 3gp)", "mov"),
    (0, b"\x1aE\xdf\xa3"): ("Matroska or WebM", "matroska"),
    (0, b"#!AMR"): ("AMR", "amr"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"): ("Windows Media (wma)", "asf"),
    (0, b"\xff\xf1"): ("AAC", "aac"),
    (0, b"\xff\xf9"): ("AAC", "aac"),
}
_OGG_FOREIGN = {b"Speex   ": "Speex", b"\x7fFLAC": "FLAC", b"\x80theora": "Theora video", b"fishead\0": "Skeleton"}
_REFUSED = {(0, b"FORM"): "IFF", (0, b"RIFX"): "big-endian WAV", (0, b"riff"): "Wave64", (0, b"Creative Voice"): "VOC"}
_NAMES = {b"data", b"fmt ", b"LIST", b"fact", b"bext", b"cue ", b"id3 ", b"ID3 ", b"smpl", b"COMM", b"SSND", b"NAME"}
READ = "WAV, FLAC, Ogg, MP3, AIFF, AU or CAF"


class Section:
    """Some bytes of a seekable file, behind a head of our own: what the decoder may see of it."""

    def __init__(self, file: BinaryIO, start: int, length: int, head: bytes = b"") -> None:
        self.file, self.start, self.head = file, start, head
        self.length = len(head) + max(0, length)
        self.at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = max(0, offset + (0, self.at, self.length)[whence])
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes from here on; fewer only at the end (or where the file itself fails)."""
        left = max(0, self.length - self.at)
        size = left if size < 0 else min(size, left)
        data = self.head[self.at : self.at + size]
        if len(data) < size:
            try:
                self.file.seek(self.start + self.at + len(data) - len(self.head))
                data += self.file.read(size - len(data))
            except (OSError, ValueError):  # in a callback of libsndfile nobody could catch it: the end comes early
                pass
        self.at += len(data)
        return data


@dataclass(frozen=True)
class Recognised:
    """A file that may be decoded: by libsndfile, or by ffmpeg, as the format that it was recognised as."""

    name: str  # for messages
    data: Section
    container: str
    demuxer: str | None = None  # ffmpeg's, if it has to do it


def recognise(name: str, file: BinaryIO, size: int) -> Recognised:
    """What the `size` bytes of a seekable file are. AudioError for other things, unknown codecs, cut off samples."""
    data = Section(file, 0, size)
    head = data.read(4096)
    if head.startswith(b"ID3") and len(head) > 10:  # an ID3v2 tag; its length has 7 bits per byte
        tag = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        data.seek(10 + tag)
        head = data.read(4096)
        zeros = len(head) - len(head.lstrip(b"\0"))
        start = 10 + tag + zeros
        data = Section(file, start, size - start)
        head = data.read(4096)
    if head[8:12] == b"WAVE" and head[:4] in (b"RIFF", b"RF64"):
        return Recognised(name, _wav(name, data), "WAV")
    if head[8:12] in (b"AIFF", b"AIFC") and head[:4] == b"FORM":
        _check_aiff(name, data, head[8:12] == b"AIFC")
        return Recognised(name, data, "AIFF")
    if head[:4] == b".snd":
        _check_au(name, data, head)
        return Recognised(name, data, "AU")
    if head[:4] == b"caff":
        _check_caf(name, data)
        return Recognised(name, data, "CAF")
    if head.startswith(b"fLaC"):
        return Recognised(name, data, "FLAC")
    if head.startswith(b"OggS"):
        return _ogg(name, data, head)
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE6 == 0xE2:  # MPEG frame sync, layer III
        return Recognised(name, _mp3(data, head), "MP3")
    if name.endswith(".safetensors"):
        raise AudioError(f"{name}: is a voice or a model, not a recording; load a voice with --voice or load_voice()")
    for (offset, magic), (container, demuxer) in _FOREIGN.items():
        if head.startswith(magic, offset):
            return Recognised(name, data, container, demuxer)
    for (offset, magic), container in _REFUSED.items():
        if head.startswith(magic, offset):
            raise AudioError(f"{name}: is {container}, not {READ}; {REMEDY}")
    raise AudioError(f"{name}: is not {READ}; name another file or {REMEDY}")


def _ogg(name: str, data: Section, head: bytes) -> Recognised:
    """By the codec that its first packet names; libsndfile is given what it can decode."""
    packet = head[27 + head[26] :] if len(head) > 26 else b""
    if len(packet) < 8 or packet.startswith((b"\x01vorbis", b"OpusHead")):
        return Recognised(name, data, "OGG")
    for magic, codec in _OGG_FOREIGN.items():
        if packet.startswith(magic):
            return Recognised(name, data, f"Ogg with {codec} inside", "ogg")
    raise AudioError(f"{name}: is an Ogg with {_label(packet[:4])} inside, only Vorbis and Opus are read; {REMEDY}")


def _mp3(data: Section, head: bytes) -> Section:
    """With the true size where its first frame says one: libmpg123 speaks to stderr, past us, if that is another.

    Whether all is there is seen by the number of samples, which stands beside it and is left as it is.
    """
    if _at(data, max(0, data.length - 128), 3) == b"TAG":  # ID3v1
        data = Section(data.file, data.start, data.length - 128)
        head = head[: data.length]
    at = max(head.find(b"Xing", 4, 200), head.find(b"Info", 4, 200))
    if at < 0 or not int.from_bytes(head[at + 4 : at + 8], "big") & 2:
        return data
    place = at + 8 + 4 * (head[at + 7] & 1)  # the number of frames may stand before it
    new = head[:place] + struct.pack(">I", min(data.length, 0xFFFFFFFF)) + head[place + 4 :]
    return Section(data.file, data.start + len(head), data.length - len(head), new) if len(new) == len(head) else data


def _wav(name: str, data: Section) -> Section:
    """Its samples behind a header of our own. A size of zero at the end of the chunks means: to the end of the file."""
    layout, large = b"", 0
    for kind, size, body in _chunks(data, "<I"):
        if kind == b"ds64":  # RF64: sizes of 64 bits
            large = int.from_bytes(_at(data, body + 8, 8), "little")
        if kind == b"fmt " and not layout:
            layout = _at(data, body, min(size, 40))
            encoding = int.from_bytes(layout[:2], "little")
            if encoding == _WAV_EXTENSIBLE:
                encoding = int.from_bytes(layout[24:26], "little")
            if encoding not in _WAV_PLAIN:
                label = _WAV_REFUSED.get(encoding, f"encoding {encoding:#x}")
                raise AudioError(f"{name}: is a WAV with {label} inside, {_only()}; {REMEDY}")
        if kind == b"data":
            if not layout:
                raise AudioError(f"{name}: is damaged (no format before the samples); {REMEDY}")
            there = data.length - body
            if size == 0xFFFFFFFF and large:
                size = large
                _check_whole(name, size, there)
            elif size >= _WAV_UNKNOWN and size > there:
                size = there
            elif size == 0 and there and not _more_chunks(data, body):
                size = there  # a recorder that never went back to fill it in
            _check_whole(name, size, there)
            if size > _LARGEST_WAV:
                raise AudioError(f"{name}: has more than 4 GiB of samples; cut out a few seconds of speech")
            layout += bytes(len(layout) % 2)
            chunks = b"WAVEfmt " + struct.pack("<I", len(layout)) + layout + b"data" + struct.pack("<I", size)
            header = b"RIFF" + struct.pack("<I", len(chunks) + size) + chunks
            return Section(data.file, data.start + body, size, header)
    raise AudioError(f"{name}: is cut off (no samples after the header); copy it again")


def _more_chunks(data: Section, at: int) -> bool:
    """Does a row of chunks lead from here to the end? Then an empty one was really empty."""
    for _ in range(_CHUNKS):
        head = _at(data, at, 8)
        if not _is_name(head[:4]) or len(head) < 8:
            break
        at += 8 + int.from_bytes(head[4:], "little")
        at += at % 2
    return at in (data.length, data.length + 1)


def _check_aiff(name: str, data: Section, compressed: bool) -> None:
    common = False
    for kind, size, body in _chunks(data, ">I"):
        if kind == b"COMM":
            common = True
            codec = _at(data, body + 18, 4) if compressed and size >= 22 else b"NONE"
            if codec not in _AIFC_PLAIN:
                raise AudioError(f"{name}: is an AIFF with {_label(codec)} inside, {_only()}; {REMEDY}")
        if kind == b"SSND":
            _check_whole(name, size, data.length - body)
            if common:
                return
    raise AudioError(f"{name}: is cut off (no samples after the header); copy it again")


def _check_au(name: str, data: Section, head: bytes) -> None:
    start, size, encoding = struct.unpack(">III", head[4:16].ljust(12, b"\0"))
    if encoding not in _AU_PLAIN:
        raise AudioError(f"{name}: is an AU with encoding {encoding} inside, {_only()}; {REMEDY}")
    if size < _WAV_UNKNOWN:
        _check_whole(name, size, data.length - start)


def _check_caf(name: str, data: Section) -> None:
    at, known = 8, False
    for _ in range(_CHUNKS):
        head = _at(data, at, 12)
        if len(head) < 12:
            break
        kind, size = head[:4], int.from_bytes(head[4:], "big", signed=True)
        if kind == b"desc":
            known, codec = True, _at(data, at + 20, 4)
            if codec not in _CAF_PLAIN:
                raise AudioError(f"{name}: is a CAF with {_label(codec)} inside, {_only()}; {REMEDY}")
        if kind == b"data" and known:
            if size != -1:  # which means: to the end
                _check_whole(name, size, data.length - at - 12)
            return
        if size < 0:
            break
        at += 12 + size
    raise AudioError(f"{name}: is cut off (no samples after the header); copy it again")


def _chunks(data: Section, size_format: str) -> list[tuple[bytes, int, int]]:
    """(name, size, where its content begins) of the chunks after the first 12 bytes, up to the samples.

    A chunk of odd length is followed by a byte of padding, which some writers forget: then the next name stands
    one byte earlier.
    """
    found, at = [], 12
    for _ in range(_CHUNKS):
        head = _at(data, at, 8)
        if len(head) < 8:
            break
        kind, size = head[:4], struct.unpack(size_format, head[4:])[0]
        found.append((kind, size, at + 8))
        if kind == b"data" or (kind == b"SSND" and any(name == b"COMM" for name, _, _ in found)):
            break
        at += 8 + size
        if size % 2:
            at += _padding(_at(data, at, 5))
    return found


def _padding(names: bytes) -> int:
    """0 if a name begins here already. If one may also begin a byte later: known ones decide, then the standard."""
    return 0 if names[:4] in _NAMES or (_is_name(names[:4]) and not _is_name(names[1:])) else 1


def _is_name(kind: bytes) -> bool:
    return len(kind) == 4 and all(32 <= byte < 127 for byte in kind)


def _at(data: Section, at: int, size: int) -> bytes:
    data.seek(at)
    return data.read(size)


def _check_whole(name: str, size: int, there: int) -> None:
    if size > there:
        raise AudioError(f"{name}: is cut off ({size - max(0, there)} of {size} bytes are missing); copy it again")


def _label(codec: bytes) -> str:
    known = {b"ima4": "IMA ADPCM", b"alac": "Apple Lossless", b"aac ": "AAC", b"GSM ": "GSM 6.10", b".mp3": "MP3"}
    return known.get(codec, f"codec {codec.decode('latin-1')!r}")


def _only() -> str:
    return "only PCM, float, a-law and u-law are read"
