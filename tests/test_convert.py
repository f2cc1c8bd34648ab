"""What a converted file holds: names, layouts and formats (docs/MODEL.md), errors within the format's bounds.

The formats are decoded here from the raw bytes, by the rules of compressed-tensors, not by the package.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from sopro_np.convert.convert import TABLES, convert
from sopro_np.convert.recipe import Recipe, load_recipe
from sopro_np.convert.sopro import plan_sopro
from sopro_np.errors import ConvertError

KINDS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "|i1", "I32": "<i4", "I64": "<i8", "U8": "|u1"}
MIXED = {
    "name": "mixed",
    "rules": [["*.attention.*", "bf16"], ["sopro.ar.*", "int4"], ["mimi.*", "fp16"], ["*", "int8"]],
}
both = pytest.mark.parametrize("arch", tiny.ARCHS)


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Every tensor as it lies in the file (BF16 as its bits)."""
    entries, _, data = tiny.header(path)
    return {
        name: np.frombuffer(data[slice(*e["data_offsets"])], KINDS[e["dtype"]]).reshape(e["shape"])
        for name, e in entries.items()
    }


def from_bits(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def unpack(words: np.ndarray, count: int) -> np.ndarray:
    """(n, words) int32 -> (n, count): eight values a word, lowest nibble first, stored as q + 8."""
    nibbles = [(words.view(np.uint32) >> np.uint32(4 * i)) & 15 for i in range(8)]
    return np.stack(nibbles, -1).reshape(len(words), -1)[:, :count].astype(np.int64) - 8


def decode(file: dict[str, np.ndarray], dtypes: dict[str, str], name: str) -> tuple[str, np.ndarray, np.ndarray]:
    """A weight of a file -> (scheme, float64 values (rows, columns), the largest permitted error of each)."""
    if name not in file:
        words, scale, shape = (file[f"{name}_{part}"] for part in ("packed", "scale", "shape"))
        rows, taps, inputs = (shape[0], 1, shape[1]) if len(shape) == 2 else shape
        per_tap = words.reshape(rows * taps, -1)
        assert per_tap.shape[1] == -(-inputs // 8)
        q = unpack(per_tap, inputs)
        s = np.repeat(scale.reshape(rows * taps, -1), 32, axis=1)[:, :inputs].astype(np.float64)
        bound = np.where((q == -8) | (q == 7), np.inf, np.abs(s) / 2)  # beyond the ends it may be more
        return "int4", (q * s).reshape(rows, -1), bound.reshape(rows, -1)
    data, kind = file[name], dtypes[name]
    if kind == "I8":
        scale = file[f"{name}_scale"].astype(np.float64)
        assert scale.shape == (len(data), 1)
        assert data.min() >= -127
        return "int8", data * scale, np.broadcast_to(scale / 2, data.shape)
    if kind == "BF16":
        values = from_bits(data).astype(np.float64)
        return "bf16", values, np.abs(values) * 2.0**-8
    values = data.astype(np.float64)
    half_ulp = np.maximum(np.abs(values) * 2.0**-11, 2.0**-25) if kind == "F16" else np.zeros(data.shape)
    return {"F16": "fp16", "F32": "fp32"}[kind], values, half_ulp


@pytest.mark.parametrize("recipe", [*tiny.SCHEMES, "file"])
@both
def test_every_weight_is_within_its_formats_error(arch: str, recipe: str, tmp_path: Path) -> None:
    chosen = recipe
    if recipe == "file":
        (tmp_path / "mixed.json").write_text(json.dumps(MIXED))
        chosen = str(tmp_path / "mixed.json")
        folder = tiny.checkpoint(arch)
        report = convert(tmp_path / "out", load_recipe(chosen), tiny.sopro_file(arch), folder / "mimi")
    else:
        report = tiny.conversion(arch, recipe)
    rules = load_recipe(chosen)
    reference, file = arrays(tiny.model_file(arch, "fp32")), arrays(report.path)
    dtypes = {n: e["dtype"] for n, e in tiny.header(report.path)[0].items()}
    seen = set()
    for tensor in report.tensors:
        scheme, values, bound = decode(file, dtypes, tensor.name)
        assert scheme == rules.scheme(tensor.name) == tensor.scheme
        error = np.abs(values - reference[tensor.name])
        assert (error <= bound * (1 + 1e-5) + 1e-12).all(), (tensor.name, error.max())
        assert error.max() == pytest.approx(tensor.max_error, rel=1e-3, abs=1e-9)
        snr, plain = (np.inf if db is None else db for db in (tensor.snr_db, tensor.plain_snr_db))
        assert snr >= plain - 0.01
        suffixes = {"int8": ("", "_scale"), "int4": ("_packed", "_scale", "_shape")}.get(scheme, ("",))
        seen |= {tensor.name + suffix for suffix in suffixes}
        assert tensor.bytes == sum(file[tensor.name + suffix].nbytes for suffix in suffixes)
    for name in set(file) - seen:  # norms, biases, filters: as they are, under every recipe; positions as it says
        kind = np.dtype("float16" if rules.tables == "fp16" and name in TABLES else reference[name].dtype)
        assert file[name].dtype == kind, name
        assert np.array_equal(file[name], reference[name].astype(kind)), name
    whole = {n for n in reference if recipe != "file" or not n.startswith("tokenizer.")}
    assert whole == set(file) - seen | {t.name for t in report.tensors}
    assert len({t.scheme for t in report.tensors}) == {"int8": 2, "int4": 3, "file": 4}.get(recipe, 1)


def test_layouts() -> None:
    """Linear [out, in]; convolution tap-major; transposed [stride*out, 2*in]; depthwise [C, K]."""
    file = arrays(tiny.model_file("v1.5", "fp32"))
    sopro, mimi = tiny.source("v1.5").tensors, tiny.source("v1.5", "mimi").tensors
    gate = "text_enc.layers.0.glu.pro.weight"
    assert np.array_equal(file["sopro.text.blocks.0.gate.weight"], sopro[gate])
    assert np.array_equal(file["sopro.text.blocks.0.conv.weight"], sopro["text_enc.layers.0.dw.dw.weight"][:, 0])
    conv = mimi["encoder.layers.3.conv.weight"]  # (out, in, K)
    assert np.array_equal(file["mimi.encoder.3.weight"].reshape(len(conv), -1, conv.shape[1]), conv.transpose(0, 2, 1))
    w = mimi["decoder.layers.2.conv.weight"]  # (in, out, 2*stride)
    stride = w.shape[2] // 2
    rows = file["mimi.decoder.2.weight"].reshape(stride, w.shape[1], 2, w.shape[0])
    for phase in range(stride):
        assert np.array_equal(rows[phase, :, 1], w[:, :, phase].T), "the present row"
        assert np.array_equal(rows[phase, :, 0], w[:, :, phase + stride].T), "the row before"
    packed = arrays(tiny.model_file("v1.5", "int4"))
    ff = "sopro.text.blocks.0.ff_in.weight"
    assert packed[f"{ff}_shape"].tolist() == list(file[ff].shape)
    assert ff not in packed
    book = mimi["quantizer.semantic_residual_vector_quantizer.layers.0.codebook.embed_sum"]
    usage = mimi["quantizer.semantic_residual_vector_quantizer.layers.0.codebook.cluster_usage"]
    expected = book / np.maximum(usage, 1e-5)[:, None]
    assert np.allclose(file["mimi.quantizer.semantic.codebook.0"], expected, rtol=1e-6)


@both
def test_metadata(arch: str) -> None:
    folder, report = tiny.checkpoint(arch), tiny.conversion(arch)
    _, metadata, _ = tiny.header(report.path)
    assert metadata["cfg"] == tiny.header(tiny.sopro_file(arch))[1]["cfg"], "verbatim"
    assert json.loads(metadata["mimi_config"]) == json.loads((folder / "mimi" / "config.json").read_text())
    sources = json.loads(metadata["sources"])
    files = {"sopro": tiny.sopro_file(arch), "mimi": folder / "mimi" / "model.safetensors"}
    for part, path in {**files, "tokenizer": folder / "tokenizer" / "tokenizer.json"}.items():
        assert sources[part]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert sources[part]["file"] == path.name
    licenses = json.loads(metadata["licenses"])
    assert (licenses["sopro"], licenses["mimi"]) == ("Apache-2.0", "CC-BY-4.0")
    assert set(licenses) == {"sopro", "mimi", "tokenizer"}
    assert json.loads(metadata["dropped"]) == []
    config = json.loads(metadata["quantization_config"])
    assert config["quant_method"] == "compressed-tensors"
    (group,) = config["config_groups"].values()
    assert config["format"] == group["format"] == "int-quantized"
    assert group["weights"] == {
        "num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False,
    }  # fmt: skip
    assert group["input_activations"]["strategy"] == "token"
    assert config["ignore"] == [p for p, s in json.loads(metadata["recipe"])["rules"] if s == "fp16"]
    four = json.loads(tiny.header(tiny.model_file(arch, "int4"))[1]["quantization_config"])
    groups = {g["format"]: g["weights"] for g in four["config_groups"].values()}
    assert groups["pack-quantized"]["num_bits"] == 4
    assert groups["pack-quantized"]["group_size"] == 32
    assert four["format"] == "mixed-precision"
    assert "tokenizer" not in json.dumps({k: v for k, v in metadata.items() if k not in ("sources", "licenses")})


def test_tensors_are_aligned_when_mapped() -> None:
    path = tiny.model_file("v1.5", "int4")
    entries, _, data = tiny.header(path)
    start = path.stat().st_size - len(data)
    assert start % 64 == 0
    for name, entry in entries.items():
        assert entry["data_offsets"][0] % np.dtype(KINDS[entry["dtype"]]).itemsize == 0, name


def content(path: Path) -> tuple[Any, str, bytes]:
    """What a file says, without the names and digests of its sources."""
    entries, metadata, data = tiny.header(path)
    return entries, metadata["architecture"], data


@both
def test_converting_twice_gives_the_same_bytes(arch: str, tmp_path: Path) -> None:
    folder = tiny.checkpoint(arch)
    arguments = (tiny.sopro_file(arch), folder / "mimi", folder / "tokenizer")
    convert(tmp_path / "again", load_recipe("int8"), *arguments)
    assert (tmp_path / "again").read_bytes() == tiny.model_file(arch).read_bytes()


@pytest.mark.parametrize("part", ["sopro", "mimi"])
@both
def test_the_sources_container_does_not_matter(arch: str, part: str, tmp_path: Path) -> None:
    """F16, F64 and .pt / .bin with the same values give the same file as F32 safetensors."""
    torch = pytest.importorskip("torch")
    half = {n: t.astype(np.float16) for n, t in tiny.source(arch, part).tensors.items()}
    made = []
    for kind in (np.float16, np.float32, np.float64, "bin"):
        source = tiny.source(arch, part)
        folder = tmp_path / str(kind)
        source.tensors = {n: t.astype(np.float32 if kind == "bin" else kind) for n, t in half.items()}
        path = source.write(folder)
        if kind == "bin":
            path.unlink()
            path = folder / "pytorch_model.bin"
            state = {n: torch.nn.Parameter(torch.from_numpy(t)) for n, t in source.tensors.items()}
            cfg = {"cfg": source.metadata["cfg"]} if part == "sopro" else {}
            torch.save({"state_dict": state, **cfg} if cfg else state, path)
        where = {part: path if part == "sopro" else folder}
        made.append(content(convert(folder / "out", load_recipe("int8"), **where).path))
    assert all(m == made[0] for m in made[1:])


def test_bf16_sources_are_widened_exactly(tmp_path: Path) -> None:
    source = tiny.source("v1")
    bits = {n: (t.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) for n, t in source.tensors.items()}
    entries, data = {}, b""
    for name, array in bits.items():
        span = [len(data), len(data) + array.nbytes]
        entries[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": span}
        data += array.tobytes()
    (tmp_path / "bf16.safetensors").write_bytes(tiny.pack(entries, source.metadata, data))
    source.tensors = {n: from_bits(b).reshape(b.shape) for n, b in bits.items()}
    a = convert(tmp_path / "a", load_recipe("fp32"), tmp_path / "bf16.safetensors")
    b = convert(tmp_path / "b", load_recipe("fp32"), source.write(tmp_path / "f32"))
    assert content(a.path) == content(b.path)


MEMORY = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sopro_np.convert.convert import convert
from sopro_np.convert.recipe import load_recipe
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) / 1024
convert(Path(sys.argv[3]), load_recipe(sys.argv[5]), Path(sys.argv[4]))
before = peak()
convert(Path(sys.argv[3]), load_recipe(sys.argv[5]), Path(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_memory_does_not_grow_with_the_model(recipe: str, tmp_path: Path) -> None:
    """A source of 130 MB needs less than half of that on top of what a tiny one needs."""
    source = tiny.source("v1.5")
    width = source.tensors["text_enc.embed.emb.weight"].shape[1]
    rows = np.random.default_rng(1).standard_normal((1_000_000, width), np.float32)
    big = source.replaced(**{"text_enc.embed.emb.weight": rows}).write(tmp_path / "big")
    arguments = [str(p) for p in (tiny.ROOT, big, tmp_path / "out", tiny.sopro_file("v1.5"))]
    done = subprocess.run([sys.executable, "-c", MEMORY, *arguments, recipe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 60


def test_recipes_choose_by_the_first_match() -> None:
    recipe = Recipe("x", (("sopro.ar.head", "fp16"), ("sopro.ar.*", "int4"), ("*", "int8")))
    names = {m.name: recipe.scheme(m.name) for m in plan_sopro(tiny.sopro_file("v1")).matrices}
    assert names["sopro.ar.head.weight"] == "fp16"
    assert names["sopro.ar.blocks.0.gate.weight"] == "int4"
    assert names["sopro.text.embed.weight"] == "int8"
    with pytest.raises(ConvertError, match=r"no rule matches sopro\.ar\.head"):
        Recipe("x", (("mimi.*", "fp16"),)).scheme("sopro.ar.head.weight")


@pytest.mark.parametrize("arch", tiny.ARCHS)
def test_every_matrix_says_what_it_is_made_of(arch: str) -> None:
    """The report maps our names to the checkpoint's; together with vectors, every name of the source is met."""
    names = set(tiny.source(arch).tensors) | set(tiny.source(arch, "mimi").tensors)
    for matrix in tiny.conversion(arch, "fp32", parts="sm").tensors:
        found = fnmatch.filter(names, matrix.source)
        assert found and (len(found) == 1 or "heads" in matrix.name), matrix
