"""Damaged voice files, and `info` on whatever it is given: an error of ours, or they work."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from test_hostile_files import Case, check, configs, containers, little_memory, metadata

from sopro_np.cli.main import main

__all__ = ["little_memory"]  # a fixture for every test here, too


def voices() -> Iterator[Case]:
    """Damaged voice files of the v1 model."""
    codes = tiny.voice("v1").codes
    meta = {"format": "sopro_np.voice", "version": "1"}
    meta |= {f"{part}_sha256": digest for part, digest in tiny.voice("v1").fingerprints.items()}

    def file(array: np.ndarray, dtype: str = "U16", name: str = "codes", **changes: Any) -> bytes:
        entry = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [0, array.nbytes]}
        changed = {k: v for k, v in {**meta, **changes}.items() if v is not None}
        return tiny.pack({name: entry}, changed, array.tobytes())

    yield "good", file(codes)
    for label, array in (
        ("no frames", codes[:0]), ("no codebooks", codes[:, :0]), ("fewer codebooks", codes[:, :-1]),
        ("flat", codes[0]), ("too large", codes + 60000), ("at the edge", codes * 0 + 64),
        ("three axes", codes[None]), ("very long", np.zeros((10**6, codes.shape[1]), np.uint16)),
    ):  # fmt: skip
        yield label, file(np.ascontiguousarray(array.astype(np.uint16)))
    yield "I16", file(codes.view(np.int16), "I16")
    yield "negative", file(codes.astype(np.int16) * -1, "I16")
    yield "F32", file(codes.astype(np.float32), "F32")
    yield "another name", file(codes, name="code")
    for key in meta:
        for value in (None, "", "x", "0" * 64, "NaN"):
            yield f"{key} = {value}", file(codes, **{key: value})


def test_voice_files(tmp_path: Path) -> None:
    good = tmp_path / "good"
    tiny.voice("v1").save(good)
    cases = [*voices(), *containers(good, "codes")]
    assert len(cases) >= 40
    tts, path = tiny.model("v1"), tmp_path / "x.voice.safetensors"

    def use(path: Path) -> None:
        tts.codes("a", tts.load_voice(path), max_frames=2, seed=1)

    refused = [check(case, path, use) for case in cases]
    assert not refused[0], "the good one"
    assert sum(refused) > 0.8 * len(cases)


def test_info_survives_them_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.safetensors"
    good = tmp_path / "good"
    tiny.voice("v1").save(good)
    model = tiny.model_file("v1")
    some = itertools.islice(configs(model), 0, None, 7)
    for label, content in itertools.chain(metadata(model), some, voices(), containers(good, "codes")):
        path.write_bytes(content)
        code = main(["info", str(path)])
        out, err = capsys.readouterr()
        assert (code, bool(out), bool(err)) in ((0, True, False), (1, False, True)), (label, code, out, err)
