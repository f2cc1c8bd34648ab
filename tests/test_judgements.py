"""The judgements beside an independent normaliser fit the sentences and what `normalise` says today.

The other package is not needed: `tools/compare_normalisers.py` runs it and counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sopro_np.text.normalise import normalise
from tools import compare_normalisers as tool

TOOL = Path(tool.__file__)


def test_there_are_enough_sentences_each_once() -> None:
    texts = tool.sentences()
    assert len(texts) == len(set(texts)) >= 500
    own = tool.read("compared.txt")
    assert len(own) == len(set(own)) and set(own) <= set(texts)


def test_every_judgement_is_of_a_sentence_once_with_a_reason() -> None:
    texts = list(map(json.loads, tool.read("judgements.jsonl")))
    assert len({one["text"] for one in texts}) == len(texts)
    assert {one["text"] for one in texts} <= set(tool.sentences())
    assert {one["verdict"] for one in texts} <= set(tool.VERDICTS)
    assert all(one["why"] for one in texts)


def test_ours_is_what_is_said_today() -> None:
    """A rule that changes a judged sentence asks for a new judgement."""
    stale = {t: (one["ours"], now) for t, one in tool.judgements().items() if (now := normalise(t).text) != one["ours"]}
    assert not stale


def test_words_and_conventions() -> None:
    assert tool.words("Go, “NOW” it's 5 – five_x") == ["go", "now", "it's", "5", "five", "x"]
    assert tool.same("the F B I at nine oh five P M") == tool.same("the FBI at nine o five PM")
    assert tool.same("one hundred and two CEOs") == tool.same("one hundred two C E Os")
    assert tool.same("two dollars and five cents") == tool.same("two dollars five cents")
    assert tool.same("bread and butter") != tool.same("bread butter")
    assert tool.same("twenty first") != tool.same("twenty one")


def test_a_python_without_the_other_one_is_named() -> None:
    done = subprocess.run(
        [sys.executable, TOOL, "--other", sys.executable], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "cannot run the other normaliser" in done.stderr and "kitten_text_processing" in done.stderr
