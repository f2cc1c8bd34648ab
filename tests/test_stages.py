"""Stages of the normaliser are passed over only where none of their rules would fire."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopro_np.text import markup
from sopro_np.text import normalise as normalising
from sopro_np.text.normalise import LINE_EXAMPLES, Normaliser, pipeline
from sopro_np.text.rule import Stage

DATA = Path(__file__).resolve().parent / "data"


@cache
def written() -> list[str]:
    """Everything that the tests of the normaliser have to read."""
    lines = [line for name in ("spoken", "spoken_blind") for line in (DATA / f"{name}.jsonl").open(encoding="utf-8")]
    texts = [json.loads(line)["text"] for line in lines] + (DATA / "compared.txt").read_text("utf-8").split("\n")
    texts += [text for rule in (*pipeline(False), *pipeline(True)) for text, _ in rule.examples]
    return texts + [text for text, _ in LINE_EXAMPLES]


class Watched(normalising._Pass):
    """Applies every rule, and complains about one that fires where its stage would have been passed over."""

    def run(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            concerned = stage.concerns(self.text.text)
            for rule in stage.rules:
                edits = self.text.edits(rule.pattern, rule.replace)
                assert concerned or not edits, f"{rule.name}: {self.text.text!r}"
                self.apply(rule.name, edits)
            if not stage.rules:
                edits = markup.line_edits(self.text.text)
                assert concerned or not edits, f"line: {self.text.text!r}"
                self.apply("line", edits)


def watch(texts: Sequence[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalising, "_Pass", Watched)
        for day_first in (False, True):
            reader = Normaliser(day_first=day_first, lenient=True)
            for text in texts:
                reader.block(text)


def test_what_people_write() -> None:
    watch(written())


@given(st.integers(0, 2**32))
def test_the_same_words_in_any_order(seed: int) -> None:
    draw = random.Random(seed)
    words = " ".join(written()).split(" ")
    watch([" ".join(draw.choices(words, k=draw.randint(1, 8))) for _ in range(20)])


@given(st.text(st.sampled_from("aBI. ,?!'\n-1/\ue000N") | st.characters(), max_size=12))
def test_any_characters(text: str) -> None:
    watch([text])


def test_plain_words_concern_hardly_any_stage() -> None:
    """Else a cold start would compile every rule for the sake of a greeting."""
    plain = "Hello from a very small machine, and goodbye."
    assert sum(len(stage.rules) for stage in normalising.stages(False) if stage.concerns(plain)) < 20
