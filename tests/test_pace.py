"""How fast a model speaks: measured on lessons, kept in files, and never taken from one that makes no sense."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from sopro_np.cli.main import main
from sopro_np.convert.convert import convert
from sopro_np.convert.recipe import load_recipe
from sopro_np.engine import open_model
from sopro_np.errors import ConvertError, FormatError
from sopro_np.locate import EMBEDDED
from sopro_np.modelfile import read_parts
from sopro_np.pace import MOST_FRAMES, Pace
from sopro_np.tensorfile import TensorFile, read_header
from sopro_np.weights import Weights
from tools.train import pace

LESSONS = st.lists(st.tuples(st.integers(1, 300), st.integers(1, MOST_FRAMES)), min_size=1, max_size=300)
MEASURED = Pace(7.5, 0.64, 0.8, 2.25, 72)


def pace_of(path: Path) -> Pace:
    file = TensorFile(path)
    return read_parts(file, Weights(file)).pace


@given(LESSONS)
def test_the_bounds_hold_the_lessons(lessons: list[tuple[int, int]]) -> None:
    """Whatever they are: at most 1 % lie outside, and what was measured is what a file may hold."""
    found = pace.measure(*zip(*lessons, strict=True))
    outside = [not found.least(n) <= frames <= found.most(n) for n, frames in lessons]
    assert sum(outside) <= 0.01 * len(lessons)
    assert found.longest == max(n for n, _ in lessons)
    assert Pace.read(json.loads(json.dumps(dataclasses.asdict(found))), 12.5) == found


@given(st.floats(2, 20), st.floats(0.3, 2), st.integers(0, 2**32))
def test_odd_lessons_do_not_move_the_line(start: float, each: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = rng.integers(3, 150, 600)
    frames = np.maximum(1, np.rint((start + each * n) * rng.uniform(0.9, 1.1, len(n)))).astype(int)
    frames[::20] = 399  # some never end
    found = pace.measure(n.tolist(), frames.tolist())
    for characters in (10, 75, 150):
        assert found.expected(characters) == pytest.approx(start + each * characters, rel=0.06, abs=1)


@pytest.mark.parametrize("lessons", [([], []), ([0], [3]), ([3], [0]), ([3, 4], [5])])
def test_no_lessons(lessons: tuple[list[int], list[int]]) -> None:
    with pytest.raises(ValueError, match="lessons"):
        pace.measure(*lessons)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A Sopro checkpoint in upstream's format."""
    path = tmp_path / "model.safetensors"
    path.write_bytes((tiny.checkpoint("v1.5") / "sopro" / "model.safetensors").read_bytes())
    return path


@pytest.mark.parametrize("recipe", ["fp32", "int8", "int4"])
def test_from_a_checkpoint_into_every_model_made_of_it(
    recipe: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, old, start = checkpoint.read_bytes(), *read_header(checkpoint)[::2]
    pace.write(checkpoint, MEASURED)
    header, metadata, moved = read_header(checkpoint)
    assert checkpoint.read_bytes()[moved:] == before[start:] and header == old and "cfg" in metadata
    model = convert(tmp_path / "out.safetensors", load_recipe(recipe), checkpoint, strict=True).path
    assert pace_of(model) == MEASURED
    assert main(["info", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["speech"] == dataclasses.asdict(MEASURED)
    assert main(["info", str(model)]) == 0
    assert "up to 72 characters" in capsys.readouterr().out


HOSTILE = ["", "{", "[]", "null", '{"start": 1}', '"x"', "[" * 100_000, *(
    json.dumps(dataclasses.asdict(MEASURED) | odd)
    for odd in ({"low": 3}, {"high": 0}, {"longest": 0}, {"each": -1}, {"each": 10**400}, {"start": True}, {"more": 1},
                {"start": float("nan")}, {"high": float("inf")}, {"each": "1"}, {"each": None})
)]  # fmt: skip


def with_speech(path: Path, text: str) -> None:
    header, metadata, start = read_header(path)
    raw = path.read_bytes()[start:]
    top = json.dumps({"__metadata__": metadata | {"speech": text}, **header}).encode()
    path.write_bytes(len(top).to_bytes(8, "little") + top + raw)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: t[:30])
def test_a_checkpoint_whose_pace_makes_no_sense(text: str, checkpoint: Path, tmp_path: Path) -> None:
    """As anything that upstream does not read: told, passed over, and refused if so asked."""
    with_speech(checkpoint, text)
    told: list[str] = []
    out = tmp_path / "out.safetensors"
    report = convert(out, load_recipe("fp32"), checkpoint, tell=told.append)
    assert pace_of(out) == Pace.unmeasured(12.5)
    if text != "null":
        assert any("speech" in line for line in told)
        assert report.passed_over["sopro"]["metadata"] == ["speech"]
        with pytest.raises(ConvertError, match="speech"):
            convert(tmp_path / "strict.safetensors", load_recipe("fp32"), checkpoint, strict=True)


@pytest.mark.parametrize("text", [t for t in HOSTILE if t != "null"], ids=lambda t: t[:30])
def test_a_model_file_whose_pace_makes_no_sense(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(tiny.model_file("v1.5").read_bytes())
    with_speech(path, text)
    with pytest.raises(FormatError, match="speech"):
        open_model(path)
    assert main(["info", str(path)]) == 1
    assert "speech" in capsys.readouterr().err


def test_lessons_that_are_not_here(tmp_path: Path, checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    assert pace.of_lessons(tmp_path) is None
    pace.write(checkpoint, None)
    assert checkpoint.read_bytes() == before


def test_the_embedded_model_knows_its_pace() -> None:
    """Its lessons had at most 72 characters; on more it is lost."""
    found = pace_of(EMBEDDED)
    assert found.longest == 72
    assert found.most(len("Sopro.")) < 30, "a word takes two seconds, not half a minute"
