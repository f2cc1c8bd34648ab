"""Lines to be spoken: whatever a file holds, each line is a task or says what is wrong with it; seeds and keys."""

from __future__ import annotations

import hashlib
import io
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopro_np.bulk import lines as module
from sopro_np.bulk.key import chosen_options, line_key, line_seed, voice_digest
from sopro_np.bulk.lines import ID, BadLine, Line, read_lines
from sopro_np.bulk.shard import Shard
from sopro_np.errors import NothingToSay, UsageError
from sopro_np.options import Options

IDS = st.from_regex(ID, fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(str.strip)


def read(raw: bytes, form: str | None = None, name: str = "x") -> list[Line | BadLine]:
    return read_lines(io.BytesIO(raw), name, form)


@given(
    st.lists(
        st.tuples(IDS, TEXTS, st.none() | st.integers(0, 2**70)),
        min_size=1,
        max_size=8,
        unique_by=lambda t: t[0],
    ),
    st.sampled_from(["\n", "\r\n", "\n\n", "\r\n  \r\n", "\r"]),
    st.booleans(),
    st.booleans(),
)
def test_jsonl_is_read_as_it_was_written(wanted: list[Any], end: str, bom: bool, ascii: bool) -> None:
    rows = [{"id": id, "text": text} | ({} if seed is None else {"seed": seed}) for id, text, seed in wanted]
    raw = b"\xef\xbb\xbf" * bom + end.join(json.dumps(row, ensure_ascii=ascii) for row in rows).encode()
    found = read(raw)
    assert [(line.id, line.text, line.seed, line.name) for line in found if isinstance(line, Line)] == [
        (id, text, seed, id) for id, text, seed in wanted
    ]


@given(st.lists(st.one_of(st.binary(max_size=60), TEXTS.map(str.encode)), max_size=8), st.sampled_from(module.FORMS))
def test_every_line_of_anything_is_a_line_or_a_bad_one(parts: list[bytes], form: str) -> None:
    raw = b"\n".join(parts)
    lines = re.split(rb"\r\n?|\n", raw.removeprefix(b"\xef\xbb\xbf"))
    numbers = [n for n, part in enumerate(lines, 1) if part.strip()]
    try:
        found = read(raw, form)
    except UsageError:
        assert not numbers or raw[:2] in module.UTF16
        return
    assert [line.number for line in found] == numbers
    ids = [line.id for line in found if isinstance(line, Line)]
    assert len(ids) == len(set(ids)) and all(ID.fullmatch(id) for id in ids)
    assert all(line.problem for line in found if isinstance(line, BadLine))


GOOD = '{"id": "good", "text": "Fine."}'
BAD = {
    "not json": "is not JSON",
    '{"id": "a"': "is not JSON",
    "[1, 2]": "must be an object",
    '"a"': "must be an object",
    "null": "must be an object",
    "[" * 100_000: "is not JSON",
    '{"id": "a", "text": "x", "seed": ' + "9" * 5000 + "}": "is not JSON",
    '{"text": "x"}': "has no 'id'",
    '{"id": "a"}': "has no 'text'",
    '{"id": "a", "text": null}': "has no 'text'",
    '{"id": 7, "text": "x"}': "must be a string",
    '{"id": "a", "text": 7}': "must be a string",
    '{"id": "a", "text": ["x"]}': "must be a string",
    '{"id": "a", "text": "x", "voice": 3}': "must be a string",
    '{"id": "a", "text": "x", "voice": ""}': "'voice' is empty",
    '{"id": "a", "text": "x", "seed": "1"}': "whole number",
    '{"id": "a", "text": "x", "seed": -1}': "whole number",
    '{"id": "a", "text": "x", "seed": 1.5}': "whole number",
    '{"id": "a", "text": "x", "seed": true}': "whole number",
    '{"id": "a", "text": "x", "seed": NaN}': "whole number",
    '{"id": "a", "text": "x", "sead": 1}': "unknown 'sead'",
    '{"id": "a", "id": "b", "text": "x"}': "twice",
    '{"id": "a", "text": ""}': "nothing to say",
    '{"id": "a", "text": " \\n"}': "nothing to say",
    '{"id": "a", "text": "\\ud800"}': "lone surrogate",
    "x" * 1_000_000: "is not JSON",
} | {
    json.dumps({"id": id, "text": "x"}): "is no name"
    for id in (
        "", ".", "..", "../a", "/etc/passwd", "a/b", "a\\b", "C:\\a", "a\0b", "-rf", ".hidden", "a b", " a", "a\n", "é",
        "~", "~root", "a" * 129, "\ud800", "$(id)", "`id`", "%2e%2e", "a*", "a|b", "\u202ea", "con:",
    )
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[:40].encode("ascii", "backslashreplace").decode())
def test_a_bad_line_is_told_and_the_others_are_read(bad: str) -> None:
    found = read(f"{bad}\n{GOOD}\n".encode("utf-8", "surrogatepass"), "jsonl")
    assert isinstance(found[0], BadLine) and BAD[bad] in found[0].problem and len(found[0].problem) < 300
    assert found[1] == Line(2, "good", "Fine.", None, None, "good")


def test_bytes_that_are_no_text() -> None:
    found = read(b'{"id": "a", "text": "\xff"}\n' + GOOD.encode())
    assert isinstance(found[0], BadLine) and "UTF-8" in found[0].problem and isinstance(found[1], Line)
    for coding in ("utf-16", "utf-16-be"):
        with pytest.raises(UsageError, match="UTF-16"):
            read(b"\xfe\xff" * (coding == "utf-16-be") + GOOD.encode(coding))
    for nothing in (b"", b"\n", b"\xef\xbb\xbf", b" \r\n\t\n"):
        with pytest.raises(NothingToSay):
            read(nothing)


def test_an_id_stands_once() -> None:
    found = read(f"{GOOD}\n{GOOD}\n".encode() + b'{"id": "bad", "text": ""}\n{"id": "bad", "text": "x"}')
    assert [type(line) for line in found] == [Line, BadLine, BadLine, BadLine]
    assert [line.problem[:35] for line in found if isinstance(line, BadLine)] == [
        "the id 'good' stands in line 1 alre",
        "the text is empty: there is nothing",
        "the id 'bad' stands in line 3 alrea",
    ]


def test_a_line_that_is_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 40)
    for length in (40, 41, 42, 80, 81, 82, 1000):
        found = read(b"x" * length + b"\n" + GOOD.encode() + b"\n" + b"y" * 41, "plain")
        assert isinstance(found[0], Line if length <= 40 else BadLine), length
        assert isinstance(found[1], Line) and found[1].number == 2
        assert isinstance(found[2], BadLine) and "longer than" in found[2].problem


def test_kinds_of_files() -> None:
    lj = b"LJ001-0001|Hello there.|Hello there.\r\nLJ001-0002| Bye. \r\n"
    assert [(line.id, line.text) for line in read(lj) if isinstance(line, Line)] == [
        ("LJ001-0001", "Hello there."), ("LJ001-0002", "Bye."),
    ]  # fmt: skip
    plain = b" Hello there. \n\nBye | now.\n"
    assert read(plain) == [
        Line(1, "000001", "Hello there.", None, None, "Hello there."),
        Line(3, "000003", "Bye | now.", None, None, "Bye | now."),
    ]
    assert isinstance(read(b"no bar\n", "ljspeech")[0], BadLine)
    assert isinstance(read(b"../a|text\nb|text\n")[0], BadLine), "one hostile id makes no plain text of it"
    assert isinstance(read(b"plain text\n", name="x.jsonl")[0], BadLine)
    assert isinstance(read(f"oops\n{GOOD}\n{GOOD}".encode())[0], BadLine)


@given(st.integers(0, 2**64), TEXTS)
def test_seeds_of_lines_follow_the_published_rule(seed: int, name: str) -> None:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
    assert line_seed(seed, name) == int("".join(digest[i : i + 2] for i in (6, 4, 2, 0)), 16)


@given(st.text(max_size=30), st.integers(0, 2**64), st.floats(0.01, 3), st.booleans())
def test_keys_follow_the_published_rule(text: str, seed: int, temperature: float, guard: bool) -> None:
    given_options = {"temperature": temperature, "guard": guard, "seed": 5}
    chosen = chosen_options(given_options, ops="native", format="wav")
    assert set(chosen) == set(Options.names()) - {"seed", "precision"} | {"ops", "format"}
    assert chosen_options({**given_options, "precision": "fine"}, ops="native", format="wav") == {
        **chosen, "precision": "fine"
    }  # fmt: skip
    names = ",".join(f'"{name}":{json.dumps(chosen[name])}' for name in sorted(chosen))
    expected = f'[1,"{"0" * 64}","v",{json.dumps(text)},{seed},{{{names}}}]'
    assert line_key("0" * 64, "v", text, seed, chosen) == hashlib.sha256(expected.encode()).hexdigest()
    assert chosen_options({**given_options, "top_k": 50}, ops="native", format="wav") == chosen, "defaults are values"


def test_a_key_is_of_all_that_counts() -> None:
    options = chosen_options({}, ops="native", format="wav")
    base: dict[str, Any] = {"model": "m", "voice": "v", "text": "t", "seed": 1, "options": options}
    others = [{"model": "n"}, {"voice": "w"}, {"text": "t "}, {"seed": 2}]
    others += [{"options": {**options, name: "other"}} for name in options]
    keys = {line_key(**{**base, **other}) for other in ({}, *others)}
    assert len(keys) == len(others) + 1
    codes = np.arange(6, dtype=np.uint16).reshape(2, 3)
    expected = hashlib.sha256(b"2 3\n" + b"".join(bytes([i, 0]) for i in range(6))).hexdigest()
    assert voice_digest(codes) == voice_digest(codes.astype(np.int64)) == expected
    assert voice_digest(codes.reshape(3, 2)) != expected


@given(st.integers(1, 50), st.integers(0, 200))
def test_shards_share_the_lines(count: int, lines: int) -> None:
    shards = [Shard.parse(f"{i}/{count}") for i in range(count)]
    assert sorted(k for shard in shards for k in range(lines) if shard.has(k)) == list(range(lines))
    sizes = [sum(map(shard.has, range(lines))) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    "given", ["", "1", "3/3", "-1/3", "0/0", "1/2/3", "a/b", " 0/3", "0/3\n", "0.0/3", "٠/٣", "1e0/3"]
)
def test_what_is_no_shard(given: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        Shard.parse(given)
