"""Damaged and lying model and voice files: an error of ours that names the file or the thing, or they work.

Never another exception, a hang, or memory that the file's own size does not explain.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from sopro_np.engine import open_model
from sopro_np.errors import SoproError

Case = tuple[str, bytes]
Change = Callable[[dict[str, Any], dict[str, Any]], None]
SIZES = [0, 1, 7, 8, 9, 100, 1000, 10**4]
HUGE = 10**6  # bytes of a header that is too deep


def rebuilt(path: Path, change: Change, data: bytes | None = None) -> bytes:
    """The file with its tensors' entries and metadata changed by `change(tensors, metadata)`."""
    tensors, metadata, own = tiny.header(path)
    change(tensors, metadata)
    return tiny.pack(tensors, metadata, own if data is None else data)


def setter(name: str, field: str, value: object) -> Change:
    return lambda tensors, _: tensors[name].__setitem__(field, value)


def metadata_setter(key: str, value: object) -> Change:
    return lambda _, metadata: metadata.__setitem__(key, value) if value is not None else metadata.pop(key, None)


def containers(path: Path, name: str) -> Iterator[Case]:
    """Damage that does not depend on what the tensors mean; `name` is a tensor of the file."""
    good = path.read_bytes()
    size = int.from_bytes(good[:8], "little")
    for n in [*SIZES, size, size + 7, size + 8, size + 9, len(good) // 2, len(good) - 1]:
        yield f"cut at {n}", good[:n]
    yield "longer", good + b"\0"
    rng = np.random.default_rng(1)
    for position in [*range(8), *rng.integers(8, 8 + size, 40)]:
        yield (
            f"bit {position}",
            good[:position] + bytes([good[position] ^ 1 << rng.integers(8)]) + good[position + 1 :],
        )
    for n in (0, 1, size - 1, size + 1, 2**31, 2**40, 2**63, 2**64 - 1):
        yield f"header of {n} bytes", n.to_bytes(8, "little") + good[8:]
    for label, text in (
        ("nested", b"[" * HUGE), ("object", b'{"a":' * HUGE), ("list", b"[]"), ("null", b"null"),
        ("utf", b"\xff{}"), ("empty", b"{}"), ("blank", b"    "), ("text", b"hello"), ("number", b"1e999"),
        ("twice", b'{"a":%b,"a":%b}' % ((b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}',) * 2)),
    ):  # fmt: skip
        yield f"header is {label}", len(text).to_bytes(8, "little") + text
    entry = tiny.header(path)[0][name]
    a, b = entry["data_offsets"]
    lies: list[tuple[str, Any]] = [
        *(("data_offsets", v) for v in ([0, b], [a, a], [b, a], [a, b + 4], [a + 4, b], [-4, b], [a, 2**63], [a], "x")),
        *(("data_offsets", [a + 2**40, b + 2**40]) for _ in range(1)),
        *(("shape", v) for v in ([], [0], [-1], [2**40, 2**40], [2**63], [1.5], "x", None, [[1]], [1] * 40)),
        *(("dtype", v) for v in ("F64", "F4", "U64", "BOOL", "Q8", "", None, 7, "F8_E4M3", "C64")),
    ]
    for field, value in lies:
        yield f"{field} = {value}", rebuilt(path, setter(name, field, value))
    yield "no dtype", rebuilt(path, lambda tensors, _: tensors[name].pop("dtype"))
    yield "a key more", rebuilt(path, setter(name, "more", 1))
    yield "entry is a list", rebuilt(path, lambda tensors, _: tensors.__setitem__(name, []))
    for value in ([], "x", {"a": 1}, {"a": {}}, 3):
        tensors, _, data = tiny.header(path)
        yield f"metadata = {value}", tiny.pack(tensors, value, data)  # type: ignore[arg-type]


def configs(path: Path) -> Iterator[Case]:
    """Every key of both records missing and with values that cannot be."""
    architecture = json.loads(tiny.header(path)[1]["architecture"])
    values = (
        -1,
        2**31 - 1,
        2**24,
        10**400,
        float("nan"),
        float("inf"),
        1e30,
        "x",
        None,
        True,
        [],
        [[]],
        {},
        0,
    )
    for part, record in architecture.items():
        for key in record:
            others = {k: v for k, v in record.items() if k != key}
            changed = [others, *({**record, key: v} for v in values)]
            if isinstance(record[key], list):
                changed += [{**record, key: v} for v in (record[key] * 2, [2**31 - 1], [-1], ["x"], [10**9] * 5)]
            elif type(record[key]) is int:
                changed += [{**record, key: v} for v in (record[key] + 1, 2 * record[key], 3, 1000)]
            for n, other in enumerate(changed):
                text = json.dumps({**architecture, part: other})
                yield f"{part}.{key} {n}", rebuilt(path, metadata_setter("architecture", text))
        more = json.dumps({**architecture, part: {**record, "new": 1}})
        yield f"{part} has a new key", rebuilt(path, metadata_setter("architecture", more))
        fewer = json.dumps({k: v for k, v in architecture.items() if k != part})
        yield f"no {part}", rebuilt(path, metadata_setter("architecture", fewer))
    stages = [[[0, 1]], [[1, 1]], [[1], [1]], [[99]], [[]], [[1], []], [[7]], [[1.5]], [1, 2], [["1"]]]
    for value in stages:
        other = {**architecture, "sopro": {**architecture["sopro"], "stages": value}}
        yield f"stages {value}", rebuilt(path, metadata_setter("architecture", json.dumps(other)))


def metadata(path: Path) -> Iterator[Case]:
    for key in ("format", "format_version", "architecture", "sources"):
        for text in (
            None,
            "",
            "x",
            "2",
            "[]",
            "{",
            "{}",
            '{"sopro": 1}',
            '{"sopro": {}}',
            "null",
            "[" * HUGE,
            "NaN",
        ):
            yield f"{key} = {text!s:.20}", rebuilt(path, metadata_setter(key, text))


def tensors_changed(path: Path, names: list[str]) -> Iterator[Case]:
    """Single tensors missing, misshapen, of another type, or too many."""
    tensors, meta, data = tiny.header(path)
    for name in names:
        entry = tensors[name]
        a, b = entry["data_offsets"]
        kept = {n: e for n, e in tensors.items() if n != name}
        moved = {
            n: {**e, "data_offsets": [x - (b - a if x >= b else 0) for x in e["data_offsets"]]} for n, e in kept.items()
        }
        yield f"{name} missing", tiny.pack(moved, meta, data[:a] + data[b:])
        yield f"{name} renamed", tiny.pack({**kept, name + "x": entry}, meta, data)
        for shape in (
            [*entry["shape"], 1],
            [1, *entry["shape"]],
            entry["shape"][::-1],
            [int(np.prod(entry["shape"]))],
        ):
            if shape != entry["shape"]:
                yield f"{name} {shape}", tiny.pack({**kept, name: {**entry, "shape": shape}}, meta, data)
        empty = {
            "dtype": entry["dtype"],
            "shape": [0, *entry["shape"][1:]],
            "data_offsets": [len(data) - b + a] * 2,
        }
        yield f"{name} empty", tiny.pack({**moved, name: empty}, meta, data[:a] + data[b:])
        for old, new in (
            ("F32", "I32"),
            ("I8", "U8"),
            ("F16", "BF16"),
            ("I32", "F32"),
            ("U8", "I8"),
            ("F16", "I16"),
        ):
            if entry["dtype"] == old:
                yield f"{name} {new}", tiny.pack({**kept, name: {**entry, "dtype": new}}, meta, data)
        if entry["dtype"] == "F32":
            for value in (np.nan, np.inf):
                bad = np.full(1, value, "<f4").tobytes()
                yield f"{name} {value}", tiny.pack(tensors, meta, data[: b - 4] + bad + data[b:])
    extra = {
        **tensors,
        "sopro.more": {"dtype": "U8", "shape": [3], "data_offsets": [len(data), len(data) + 3]},
    }
    yield "an unused tensor", tiny.pack(extra, meta, data + b"abc")


def tokenizers(path: Path) -> Iterator[Case]:
    """Arrays of the tokenizer filled with what cannot be."""
    tensors, meta, data = tiny.header(path)
    for name in [n for n in tensors if n.startswith("tokenizer.")]:
        a, b = tensors[name]["data_offsets"]
        for fill in (b"\0", b"\xff", b"\x7f", b"\x01"):
            yield f"{name} {fill!r}", tiny.pack(tensors, meta, data[:a] + fill * (b - a) + data[b:])
        swapped = data[a:b][::-1]
        yield f"{name} reversed", tiny.pack(tensors, meta, data[:a] + swapped + data[b:])


def check(case: Case, path: Path, use: Callable[[Path], object]) -> bool:
    """True if it was refused, properly; False if it worked. MemoryError is a failure, see `little_memory`."""
    label, content = case
    path.write_bytes(content)
    try:
        use(path)
        return False
    except SoproError as error:
        message = str(error)
        names = (
            path.name,
            "tensor",
            "tokenizer",
            "Config",
            "configuration",
            "text",
            "frame",
            "code",
            "voice",
        )
        assert any(name in message for name in names), f"{label}: {message}"
        assert len(message) < 2000, f"{label}: {len(message)} characters"
    except Exception as error:
        pytest.fail(f"{label}: {type(error).__name__}: {error}")
    return True


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """No more than 256 MiB beyond what the process has: what asks for more gets a MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), before[1]))
    with np.errstate(all="ignore"):  # numbers from nowhere may overflow
        yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def speak(path: Path) -> None:
    """Load, and say a word in the voice of some noise."""
    tts = open_model(path, threads=1)
    voice = tts.voice(0.1 * np.random.default_rng(1).standard_normal(3000).astype(np.float32))
    tts.synthesize("a b", voice, max_frames=3, seed=1)


GROUPS: dict[str, Callable[[str], Iterator[Case]]] = {
    "container": lambda arch: containers(tiny.model_file(arch), "sopro.ar.head.bias"),
    "config": lambda arch: configs(tiny.model_file(arch)),
    "metadata": lambda arch: metadata(tiny.model_file(arch)),
    "tokenizer": lambda arch: tokenizers(tiny.model_file(arch)),
}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("arch", tiny.ARCHS)
def test_model_files(group: str, arch: str, tmp_path: Path) -> None:
    refused = [check(case, tmp_path / "m.safetensors", speak) for case in GROUPS[group](arch)]
    assert len(refused) >= 45
    assert sum(refused) > len(refused) * (0.3 if group == "tokenizer" else 0.6), "most of them are refused"


@pytest.mark.parametrize("recipe", ["fp16", "int8", "int4"])
def test_tensors_of_model_files(recipe: str, tmp_path: Path) -> None:
    """A sample of every kind: which ones changes with the recipe."""
    path = tiny.model_file("v1.5", recipe)
    names = [n for n in tiny.header(path)[0] if not n.startswith("tokenizer.")]
    names = names[:: len(names) // 14]
    refused = [check(case, tmp_path / "m.safetensors", speak) for case in tensors_changed(path, names)]
    assert len(refused) >= 80
    assert sum(refused) > 0.8 * len(refused)
