"""What models said before is what they say: every bit, in every recipe, whole, in chunks, and several together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import frozen
import numpy as np
import pytest
import tiny
from conftest import on_kernels

from sopro_np import engine
from sopro_np.engine import Sopro
from sopro_np.locate import EMBEDDED

pytestmark = on_kernels
RECORD = json.loads(frozen.RECORD.read_text())
MODELS = [name for name in RECORD if name != "embedded"]


@pytest.fixture(scope="module", autouse=True)
def small_pieces() -> Iterator[None]:
    """So that even tiny products are shared out among threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sopro_np.ops.native.arguments.PIECE", 500)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frozen")


def loaded(name: str, folder: Path, threads: int) -> Sopro:
    path = folder / f"{name}.safetensors"
    if not path.exists():
        frozen.model_file(*name.rsplit("-", 1), folder)
    return engine.open_model(path, threads, "native")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_frozen_models(name: str, threads: int, folder: Path) -> None:
    tts = loaded(name, folder, threads)
    voices = frozen.voices(tts)
    for lookahead, expected in RECORD[name].items():
        options = {**frozen.OPTIONS, "lookahead": None if lookahead == "None" else int(lookahead)}
        wavs, plain = [], {"normalise": False, "guard": False}
        for text, voice, wanted in zip(frozen.TEXTS, voices, expected, strict=True):
            codes = tts.codes(text, voice, **options)
            wav = tts.decode(codes)
            assert {"codes": frozen.sha(codes), "wav": frozen.sha(wav)} == wanted, text
            wavs.append(tiny.faded(wav))
            for size in (1, 5, 400):
                chunks = list(tts.stream(text, voice, chunk_frames=size, **plain, **options))
                assert np.concatenate(chunks).tobytes() == wavs[-1].tobytes(), (text, size)
        together = tts.synthesize_many(frozen.TEXTS, voices, **plain, **options)
        assert [wav.tobytes() for wav in together] == [wav.tobytes() for wav in wavs]


def test_the_embedded_model() -> None:
    """The file of the time when this was written: when another one takes its place, it moves to tests/data."""
    wanted = RECORD["embedded"]
    path = next(p for p in (EMBEDDED, frozen.RECORD.with_name("demo-1.safetensors")) if p.is_file() and known(p))
    tts = engine.open_model(path, 2, "native")
    voice = tts.load_voice(frozen.EMBEDDED_VOICE)
    for lookahead in frozen.EMBEDDED_LOOKAHEADS:
        said = frozen.said(tts, voice, frozen.EMBEDDED_TEXT, lookahead=lookahead, **frozen.EMBEDDED_OPTIONS)
        assert said == wanted[str(lookahead)]


def known(path: Path) -> bool:
    return frozen.tensors_sha(path) == RECORD["embedded"]["tensors"]
