"""Pages of an evaluation: whole in themselves, blind where they must be, and safe whatever a text says."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml as pyyaml
from hypothesis import given
from hypothesis import strategies as st

from sopro_np.errors import UsageError
from sopro_np.evaluate import listening, ratings, report
from sopro_np.evaluate.listening import Stimulus
from sopro_np.evaluate.picture import audio_uri, picture_uri, png, spectrogram_picture
from sopro_np.evaluate.quality import Utterance

RATE = 24000
EVIL = "</script><img src=http://x.test/ onerror=alert(1)> & \"'é"


def tone(hz: float, seconds: float = 0.5) -> np.ndarray:
    return (0.1 * np.sin(2 * np.pi * hz / RATE * np.arange(round(seconds * RATE)))).astype(np.float32)


def read_png(data: bytes) -> np.ndarray:
    """What png() writes, by the standard: signature, chunks with checksums, filter 0."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20))
def test_png_holds_the_pixels(seed: int, height: int, width: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    assert np.array_equal(read_png(png(pixels)), pixels)


@pytest.mark.parametrize("hz", [1500, 6000, 10500])
def test_spectrogram_shows_a_tone_where_it_is(hz: int) -> None:
    picture = spectrogram_picture(tone(hz), RATE).astype(int).sum(axis=2)
    brightest = picture.mean(axis=1).argmax()
    assert abs((1 - brightest / (len(picture) - 1)) * RATE / 2 - hz) < 200


@pytest.mark.parametrize("n", [0, 1, 100, 5000])
def test_short_and_silent_sounds_have_pictures(n: int) -> None:
    assert picture_uri(np.zeros(n, np.float32), RATE).startswith("data:image/png;base64,")


def test_audio_is_the_samples() -> None:
    wav = tone(440)
    head, data = audio_uri(wav, RATE).split(",")
    assert head == "data:audio/flac;base64"
    back, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")
    assert rate == RATE
    assert np.abs(back - wav).max() <= 1 / 32767


class Page(HTMLParser):
    """Visible text, and everything that is loaded."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.loaded, self._hidden = "", [], False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("script", "style")
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")], tag

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else data


def self_contained(html: str) -> Page:
    page = Page(html)
    assert all(source.startswith("data:") for source in page.loaded)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|WebSocket|import\(", html)
    return page


def utterance(text: str, wav: np.ndarray) -> Utterance:
    return Utterance(
        text,
        0,
        "me",
        1,
        wav,
        len(wav) / RATE,
        "stop",
        {"ear": "heard " + text, "other": text},
        ["repeats"],
        {"similarity": 0.9},
    )


def a_result(text: str) -> dict:
    interval = {"mean": 12.0, "low": 10.0, "high": None, "count": 3, "unit": "%"}
    system = {"summary": {"wer_ear": interval}, "utterances": [utterance(text, tone(200)).as_dict()]}
    facts = {"file": text, "recipe": "int8", "bytes": 10**6, "generation": "v1.5", "ops": "numpy"}
    return {
        "model": facts,
        "against": facts,
        "missing": {"similarity": text},
        "definitions": ["WER: words", text],
        "fidelity": {"texts": 2, "frames": 50, "measures": {"ar": {"mean": 99.0, "worst": 98.0},
                                                               "decoder_db": {"mean": None, "worst": None}}},
        "quality": {"texts": 1, "seeds": 1, "voices": [text], "mcd_and_f0_against": "nothing", "options": {},
                    "measures": {"wer_ear": {"unit": "%", "meaning": text}},
                    "systems": {"model": system, "against": system}, "difference": {"wer_ear": interval}},
    }  # fmt: skip


def test_report_is_whole_and_safe() -> None:
    examples = [(EVIL, [("model", utterance(EVIL, tone(300))), ("against", utterance(EVIL, tone(300)[:0]))])]
    page = self_contained(report.page(a_result(EVIL), examples, RATE))
    assert page.text.count(EVIL) >= 6
    assert "12.0 % [10.0, ?]" in page.text
    assert "no error" in page.text
    assert "99.00 %" in page.text
    assert sum(s.startswith("data:audio") for s in page.loaded) == 2


def stimuli() -> list[Stimulus]:
    return [
        Stimulus(EVIL, {"secret-int8": tone(300), "secret-fp32": tone(310)}, tone(320)),
        Stimulus("two", {"secret-int8": tone(400), "secret-fp32": tone(410)}),
        Stimulus("left out", {"secret-int8": tone(400)[:0], "secret-fp32": tone(410)}),
    ]


def test_listening_page_is_blind_and_whole() -> None:
    html = listening.page(stimuli(), RATE, "Which?")
    page = self_contained(html)
    assert "secret" not in html
    found = re.search(r'<script type="application/json" id="trials">(.*?)</script>', html, re.S)
    assert found
    data = json.loads(found[1])
    key = json.loads(base64.b64decode(data["key"]))
    assert key == ["secret-int8", "secret-fp32", "recording", "secret-int8", "secret-fp32"]
    assert len(data["sounds"]) == 5
    kinds = [t["kind"] for t in data["trials"]]
    assert (kinds.count("ab"), kinds.count("abx"), kinds.count("mos")) == (2, 2, 5)
    assert all(len(t["sounds"]) == (1 if t["kind"] == "mos" else 2) for t in data["trials"])
    assert EVIL in [t["text"] for t in data["trials"]]
    assert "Listening test" in page.text
    with pytest.raises(UsageError, match="nothing to listen to"):
        listening.page(stimuli()[2:], RATE, "Which?")


@given(st.floats(1e-4, 1), st.integers(1, 2000))
def test_levelled_sounds_are_equally_loud(gain: float, n: int) -> None:
    wav = np.random.default_rng(n).standard_normal(n).astype(np.float32) * np.float32(gain)
    out = listening.levelled(wav)
    rms, peak = np.sqrt(np.square(out).mean()), np.abs(out).max()
    assert rms == pytest.approx(listening.LOUDNESS, rel=1e-3) or peak == pytest.approx(0.98, rel=1e-3)
    assert peak <= 0.981


_plain = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=6), _plain, min_size=1, max_size=4))
def test_yaml_says_the_same_to_a_reader(value: dict) -> None:
    assert pyyaml.safe_load(listening.yaml(value)) == value


def test_webmushra_export(tmp_path: Path) -> None:
    listening.write_webmushra(tmp_path, stimuli(), RATE)
    experiment = pyyaml.safe_load((tmp_path / "sopro.yaml").read_text("utf-8"))
    order, last = experiment["pages"]
    assert order[0] == "random"
    assert last["type"] == "finish"
    kinds = [page["type"] for page in order[1:]]
    assert kinds == ["mushra", "likert_single_stimulus", "likert_single_stimulus"]
    named = [f for page in order[1:] for f in page["stimuli"].values()] + [order[1]["reference"]]
    assert len(named) == 6
    for name in named:
        assert (tmp_path / name.removeprefix("configs/")).is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        listening.write_webmushra(tmp_path / "file", stimuli(), RATE)


# ---------------------------------------------------------------- what listeners said


def answer(kind: str, a: str, b: str = "", x: str = "", said: str = "A", text: str = "one") -> dict:
    return {"listener": "me", "number": 1, "kind": kind, "text": text, "A": a, "B": b, "X": x, "answer": said}


@given(st.integers(0, 60), st.integers(0, 60))
def test_binomial_tail(hits: int, trials: int) -> None:
    """Against the sum of the recursion of Pascal's triangle."""
    row = [1.0]
    for _ in range(trials):
        row = [(a + b) / 2 for a, b in zip([0.0, *row], [*row, 0.0])]
    assert ratings.at_least(hits, trials) == pytest.approx(sum(row[hits:]), abs=1e-12)


def test_ratings_are_summed_up(tmp_path: Path) -> None:
    rows = [answer("ab", "new", "old"), answer("ab", "old", "new", said="B"), answer("ab", "new", "old", said="no")]
    rows += [answer("abx", "new", "old", x="new", said=s) for s in "AAAB"]
    rows += [answer("mos", "new", said=s, text=t) for s, t in (("5", "one"), ("4", "one"), ("3", "two"))]
    (tmp_path / "a.json").write_text(json.dumps(rows[:4]))
    (tmp_path / "b.json").write_text(json.dumps(rows[4:]))
    found = ratings.summarise(ratings.read_ratings([tmp_path / "a.json", tmp_path / "b.json"]))
    assert (found["listeners"], found["answers"]) == (1, 10)
    assert found["ab"] == {"new / old": {"new": 2, "old": 0, "no difference": 1, "p": 0.5}}
    assert found["abx"] == {"new / old": {"correct": 3, "of": 4, "p": 5 / 16}}
    assert found["mos"]["new"]["mean"] == 4
    assert (found["mos"]["new"]["low"], found["mos"]["new"]["high"]) == (3, 4.5)
    assert ratings.summarise([])["mos"] == {}


@pytest.mark.parametrize("content", ["", "{}", '[{"kind": "ab"}]', "[1]"])
def test_ratings_that_are_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UsageError, match="listening page"):
        ratings.read_ratings([tmp_path / "x.json"])
