"""The converter stops loudly: a damaged source is a ConvertError that names the thing, no file appears."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny

from sopro_np.convert.convert import convert
from sopro_np.convert.recipe import load_recipe
from sopro_np.engine import open_model
from sopro_np.errors import ConvertError, ModelError, SoproError, TokenizerError

CASES = [(arch, part) for arch in tiny.ARCHS for part in ("sopro", "mimi")][:3]  # Mimi is one for both
each_source = pytest.mark.parametrize(("arch", "part"), CASES)
both = pytest.mark.parametrize("arch", tiny.ARCHS)


def run(source: tiny.Checkpoint, part: str, folder: Path, recipe: str = "fp32", **more: object) -> Path:
    """Write a source and convert it."""
    path = source.write(folder / part)
    where = {part: path if part == "sopro" else path.parent}
    return convert(folder / "out", load_recipe(recipe), **where, **more).path  # type: ignore[arg-type]


def refused(
    source: tiny.Checkpoint, part: str, folder: Path, *words: str, recipe: str = "fp32", strict: bool = False
) -> str:
    with pytest.raises(ConvertError) as caught:
        run(source, part, folder, recipe, strict=strict)
    message = str(caught.value)
    for word in words:
        assert word in message, message
    assert [p.name for p in folder.iterdir()] == [part], "something was left behind"
    return message


# --- tensors ------------------------------------------------------------------------------------------------


@each_source
def test_every_tensor_is_needed(arch: str, part: str, tmp_path: Path) -> None:
    """Dropped one by one: the error names it (what tells the generations apart names the checkpoint).

    Two tensors of v1.5 start as constants upstream (tests/test_tolerance.py): they are needed with `strict` only.
    """
    source = tiny.source(arch, part)
    for name in source.tensors:
        if name.endswith(".initialized"):
            continue
        constant = arch == "v1.5" and name in ("ref_cb_weights", "nar_prev_cb_weights")
        message = refused(source.replaced(**{name: None}), part, tmp_path, strict=constant)
        marker = name in ("stages.B.pre.weight", "nar.pre.weight")
        assert name in message or (marker and "neither generation" in message), (name, message)


@each_source
def test_every_shape_is_checked(arch: str, part: str, tmp_path: Path) -> None:
    """One column more, one row more, one axis more: torch refuses them, too, also with `strict=False`.

    Rows of the text embedding are the tokenizer's size, which is checked where both are converted.
    """
    source = tiny.source(arch, part)
    for name, tensor in source.tensors.items():
        if name.endswith(".initialized"):
            continue
        tensor = np.atleast_1d(tensor)
        changes = {axis: np.concatenate([tensor, tensor.take([0], axis)], axis) for axis in {0, tensor.ndim - 1}}
        if name == "text_enc.embed.emb.weight":
            del changes[0]
        for changed in (*changes.values(), tensor[None]):
            try:
                message = refused(source.replaced(**{name: np.ascontiguousarray(changed)}), part, tmp_path)
            except pytest.fail.Exception:
                pytest.fail(f"{name} {changed.shape} was accepted")
            assert name.rsplit(".", 2)[0] in message, (name, message)


@both
def test_declared_kernels_are_checked(arch: str, tmp_path: Path) -> None:
    source = tiny.source(arch)
    name = "ar.blocks.1.dw.dw.weight"
    refused(source.replaced(**{name: source.tensors[name][..., 1:].copy()}), "sopro", tmp_path, name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("recipe", ["fp32", "int8"])
def test_numbers_must_be_finite(value: float, recipe: str, tmp_path: Path) -> None:
    source = tiny.source("v1")
    for name in ("ar.head.weight", "ar.head.bias", "ar.x_attns.1.gate", "cb_embed.emb.weight"):
        damaged = np.array(source.tensors[name])
        damaged.flat[-1] = value
        refused(source.replaced(**{name: damaged}), "sopro", tmp_path, name, recipe=recipe)


@pytest.mark.parametrize(("recipe", "value"), [("fp16", 7e4), ("bf16", 3.4e38)])
def test_numbers_must_fit_the_format(recipe: str, value: float, tmp_path: Path) -> None:
    source = tiny.source("v1")
    damaged = source.tensors["ar.head.weight"].copy()
    damaged[3, 4] = value
    refused(source.replaced(**{"ar.head.weight": damaged}), "sopro", tmp_path, "sopro.ar.head", recipe=recipe)


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    source = tiny.source("v1")
    wrong = source.tensors["ar.head.weight"].astype(np.int32)
    refused(source.replaced(**{"ar.head.weight": wrong}), "sopro", tmp_path, "ar.head.weight", "I32")


@each_source
def test_unknown_tensors_are_listed_and_can_be_dropped(arch: str, part: str, tmp_path: Path) -> None:
    """Sopro v1 refuses them, as upstream does; the others with strict. --drop leaves them out without a word."""
    extra = {f"ema.{i}.weight": np.ones(3, np.float32) for i in range(30)} | {"step": np.ones(1, np.float32)}
    source = tiny.source(arch, part).replaced(**extra)
    tolerant = (arch, part) != ("v1", "sopro")
    refused(source, part, tmp_path, "31 tensors", "--drop", *extra, strict=tolerant)
    with pytest.raises(ConvertError, match="step"):
        run(source, part, tmp_path, drop=("ema.*",), strict=tolerant)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        out = run(source, part, tmp_path, drop=("ema.*", "step"))
    assert json.loads(tiny.header(out)[1]["dropped"]) == sorted(extra)
    assert not [name for name in tiny.header(out)[0] if "ema." in name or name.endswith("step")]
    if tolerant:
        with pytest.warns(UserWarning, match=r"1 tensor unknown to the model: step; passed over"):
            run(source, part, tmp_path, drop=("ema.*",))


# --- files --------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("suffix", ["pt", "bin", "pth"])
def test_a_pickle_cannot_run_code(suffix: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    marker, path = tmp_path / "marker", tmp_path / f"model.{suffix}"
    state = {n: torch.from_numpy(np.array(t)) for n, t in tiny.source("v1").tensors.items()}
    torch.save({"state_dict": state, "cfg": Evil(marker)}, path)
    with pytest.raises(ConvertError, match="may run code"):
        convert(tmp_path / "out", load_recipe("fp32"), path)
    assert not marker.exists()
    assert not (tmp_path / "out").exists()
    os.system(f"touch {marker}")
    assert marker.exists(), "the trap itself works"


def not_checkpoints() -> Iterator[tuple[str, bytes]]:
    good = tiny.sopro_file("v1").read_bytes()
    yield from (("cut" + str(n), good[:n]) for n in (0, 1, 7, 8, 9, 100, len(good) // 2, len(good) - 1))
    yield from (
        ("longer", good + b"x"),
        ("text", b"hello"),
        ("zip", b"PK\x03\x04" + bytes(99)),
        ("nul", bytes(64)),
    )
    yield "nested", (10**5).to_bytes(8, "little") + b"[" * 10**5
    yield "huge header", (2**62).to_bytes(8, "little") + good[8:]


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    for name, data in not_checkpoints():
        for suffix in ("safetensors", "pt"):
            path = tmp_path / f"x.{suffix}"
            path.write_bytes(data)
            with pytest.raises(ConvertError, match=r"x\.(safetensors|pt)"):
                convert(tmp_path / "out", load_recipe("fp32"), path)
            assert not (tmp_path / "out").exists(), name


def test_parts_in_each_others_place(tmp_path: Path) -> None:
    folder = tiny.checkpoint("v1")
    fp32 = load_recipe("fp32")
    with pytest.raises(ConvertError, match="--mimi"):
        convert(tmp_path / "out", fp32, sopro=folder / "mimi" / "model.safetensors")
    with pytest.raises(ConvertError, match=r"config\.json"):
        convert(tmp_path / "out", fp32, mimi=folder / "sopro")
    with pytest.raises(SoproError, match="tokenizer"):
        convert(tmp_path / "out", fp32, tokenizer=folder / "mimi")
    with pytest.raises((ConvertError, TokenizerError)):
        convert(tmp_path / "out", fp32, tokenizer=folder / "ref.wav")
    for missing in ("none", "x" * 300, "a\0b"):
        with pytest.raises(ConvertError):
            convert(tmp_path / "out", fp32, sopro=tmp_path / missing)
    with pytest.raises(ConvertError, match="nothing to convert"):
        convert(tmp_path / "out", fp32)
    assert not list(tmp_path.iterdir())


def test_parts_that_do_not_fit_together(tmp_path: Path) -> None:
    source = tiny.source("v1")
    fewer = source.replaced(**{"text_enc.embed.emb.weight": source.tensors["text_enc.embed.emb.weight"][:100]})
    path = fewer.write(tmp_path)
    with pytest.raises(ConvertError, match="not of one model"):
        convert(tmp_path / "out", load_recipe("fp32"), path, tokenizer=tiny.checkpoint("v1") / "tokenizer")


MISSING = {
    "s": "--tokenizer",
    "m": "--sopro",
    "t": "--sopro",
    "sm": "--tokenizer",
    "st": "--mimi",
    "mt": "--sopro",
}


@pytest.mark.parametrize("parts", MISSING)
def test_any_subset_converts_and_names_what_is_missing_when_used(parts: str) -> None:
    tts = open_model(tiny.model_file("v1.5", "int8", parts=parts))
    with pytest.raises(ModelError, match=MISSING[parts]):
        tts.synthesize(tiny.TEXT, tiny.voice("v1.5"), max_frames=2)


# --- outputs and recipes ------------------------------------------------------------------------------------


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    out, source = tmp_path / "out", tiny.source("v1")
    out.write_bytes(b"precious")
    damaged = source.tensors["ar.head.weight"].copy()
    damaged[-1] = np.nan  # found while the file is being written
    path = source.replaced(**{"ar.head.weight": damaged}).write(tmp_path)
    with pytest.raises(ConvertError):
        convert(out, load_recipe("fp32"), path)
    assert out.read_bytes() == b"precious"
    assert {p.name for p in tmp_path.iterdir()} == {"out", path.name}


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    own = tiny.source("v1").write(tmp_path / "own")
    mimi = tiny.source("v1", "mimi").write(tmp_path / "mimi")
    before = own.read_bytes()
    os.mkfifo(tmp_path / "fifo")
    for out in (
        own,
        tmp_path,
        tmp_path / "no" / "out",
        tmp_path / "fifo",
        tmp_path / ("x" * 300),
        tmp_path / "a\0",
    ):
        with pytest.raises(ConvertError, match=r"source|ordinary|written|name"):
            convert(out, load_recipe("fp32"), own)
    with pytest.raises(ConvertError, match="source"):
        convert(mimi, load_recipe("fp32"), own, mimi.parent)
    assert own.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"own", "mimi", "fifo"}


RULES = ("3", '[["*"]]', '[["*", 1]]', '[["*", "int2"]]', '["*", "int8"]')


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 10**5, *(f'{{"rules": {r}}}' for r in RULES)])
def test_bad_recipe_files(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(ConvertError, match=r"recipe\.json"):
        load_recipe(str(path))


def test_recipes_that_do_not_exist() -> None:
    for name in ("int7", "x" * 300, "a\0b", ""):
        with pytest.raises(ConvertError, match="int8"):
            load_recipe(name)


def test_the_tool_and_its_report(tmp_path: Path) -> None:
    tool, out, report = tiny.ROOT / "tools" / "convert_weights.py", tmp_path / "out", tmp_path / "report.json"
    command = [sys.executable, str(tool), "--sopro", str(tiny.sopro_file("v1")), "-o", str(out)]
    done = subprocess.run([*command, "--recipe", "int4", "--json", str(report)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    facts = json.loads(report.read_text())
    assert facts["bytes_after"] == out.stat().st_size
    assert facts["bytes_before"] == tiny.sopro_file("v1").stat().st_size
    assert {t["name"] for t in facts["tensors"]} == {t.name for t in tiny.conversion("v1", "int4", parts="s").tensors}
    assert all(t["snr_db"] is None or t["snr_db"] > 10 for t in facts["tensors"])
    assert (facts["passed_over"], facts["filled"], facts["dropped"]) == ({}, [], [])
    assert "warning" not in done.stderr
    failed = subprocess.run([*command, "--recipe", "int9"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert "int9" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_the_tool_tells_what_it_passes_over(tmp_path: Path) -> None:
    """A plain line on stderr, the names in the report; --strict: exit code 1 and no file."""
    tool, out, report = tiny.ROOT / "tools" / "convert_weights.py", tmp_path / "out", tmp_path / "report.json"
    source = tiny.source("v1.5").replaced(ema=np.ones(1, np.float32), ref_cb_weights=None).cfg(lr=1)
    command = [sys.executable, str(tool), "--sopro", str(source.write(tmp_path / "source")), "-o", str(out)]
    failed = subprocess.run([*command, "--strict"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ") and "lr" in failed.stderr and "Traceback" not in failed.stderr
    assert not out.exists()
    done = subprocess.run([*command, "--json", str(report)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    facts = json.loads(report.read_text())
    assert facts["passed_over"] == {"sopro": {"config": ["lr"], "tensors": ["ema"]}}
    assert facts["filled"] == ["ref_cb_weights"]
    warned = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 3
    assert "UserWarning" not in done.stderr
