"""A model file converted anew, and calibrated by what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import ARCHS
from safetensors.numpy import save_file

from sopro_np.cli.main import main
from sopro_np.convert.convert import convert
from sopro_np.convert.recipe import load_recipe
from sopro_np.engine import Sopro
from sopro_np.errors import FormatError, SoproError, UsageError
from sopro_np.requantise import calibrate
from sopro_np.requantise.file import requantise
from sopro_np.tensorfile import TensorFile
from sopro_np.weights import Weights

CARRIED = ("format", "architecture", "sources", "licenses", "dropped", "passed_over", "filled", "options", "cfg",
           "mimi_config")  # fmt: skip


def same_tensors(a: Path, b: Path) -> bool:
    one, other = TensorFile(a), TensorFile(b)
    assert {n: e["dtype"] for n, e in one.header.items()} == {n: e["dtype"] for n, e in other.header.items()}
    return all(np.array_equal(one[n], other[n]) for n in one.header)


def run(*words: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["convert", *map(str, words)])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("recipe", [r for r in tiny.SCHEMES if r != "fp32"])
@pytest.mark.parametrize("arch", ARCHS)
def test_from_fp32_is_from_the_checkpoint(arch: str, recipe: str, tmp_path: Path) -> None:
    """The same bits, and the metadata that a direct conversion writes."""
    told: list[str] = []
    report = requantise(tiny.model_file(arch, "fp32"), tmp_path / "out", load_recipe(recipe), tell=told.append)
    direct = tiny.model_file(arch, recipe)
    assert same_tensors(report.path, direct)
    assert TensorFile(report.path).metadata == TensorFile(direct).metadata
    assert not told
    reports = tiny.conversion(arch, recipe).tensors
    assert {t.name: (t.snr_db, t.bytes) for t in report.tensors} == {t.name: (t.snr_db, t.bytes) for t in reports}


@pytest.mark.parametrize("arch", ARCHS)
def test_from_int8(arch: str, tmp_path: Path) -> None:
    """What is int8 stays, bit by bit; what becomes int4 is told to have been rounded before; voices fit."""
    source, told = tiny.model_file(arch, "int8"), []
    again = requantise(source, tmp_path / "again", load_recipe("int8"), tell=told.append)
    assert same_tensors(again.path, source) and not told
    smaller = requantise(source, tmp_path / "smaller", load_recipe("int4"), tell=told.append)
    assert len(told) == 1 and "integers already (recipe int8)" in told[0]
    before, after = TensorFile(source), TensorFile(smaller.path)
    assert all(before.metadata.get(key) == after.metadata.get(key) for key in CARRIED)
    voice = tiny.voice(arch, "int8")
    assert Sopro(smaller.path).codes("Yes.", voice, max_frames=3).shape[1] == voice.codes.shape[1]


def test_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits from checkpoints and from a file, better by the outputs than plain rounding; no other file."""
    monkeypatch.setattr(calibrate, "FRAMES", 12)
    part, files = tiny.checkpoint("v1.5"), []
    checkpoints = ("--sopro", tiny.sopro_file("v1.5"), "--mimi", part / "mimi", "--tokenizer", part / "tokenizer")
    for name, words in (("a", checkpoints), ("b", ("--from", tiny.model_file("v1.5", "fp32")))):
        (folder := tmp_path / name).mkdir()
        files.append(folder / "out")
        code, said = run(
            *words, "--recipe", "int4", "--calibrate", 2, "-o", files[-1], "--json", folder / "r", capsys=capsys
        )
        assert code == 0, said
        assert "sentence 2 of 2" in said
        assert sorted(p.name for p in folder.iterdir()) == ["out", "r"]
    assert same_tensors(*files)
    assert not same_tensors(files[0], tiny.model_file("v1.5", "int4"))
    assert TensorFile(files[0]).metadata == TensorFile(files[1]).metadata
    assert TensorFile(files[0]).metadata["rounding"] == "calibrated"
    tensors = json.loads((tmp_path / "a" / "r").read_text())["tensors"]
    judged = [t for t in tensors if t["plain_output_snr_db"] is not None]
    assert {"sopro.ar.head.weight", "mimi.decoder.0.weight"} <= {t["name"] for t in judged}
    assert not {"sopro.codes", "mimi.encoder.0.weight"} & {t["name"] for t in judged}
    gains = [t["output_snr_db"] - t["plain_output_snr_db"] for t in judged if t["output_snr_db"] is not None]
    assert np.mean(gains) > 1


def test_every_product_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of every integer matrix, and no table: those are looked up."""
    monkeypatch.setattr(calibrate, "FRAMES", 16)
    path, recipe = tiny.model_file("v1", "fp32"), load_recipe("int4")
    found = calibrate.inputs(path, recipe, 1)
    names = {t.name for t in tiny.conversion("v1", "int4").tensors if recipe.scheme(t.name) in ("int4", "int8")}
    tables = {n for n in names if n.endswith(("embed.weight", "codes.weight"))}
    assert set(found) == names - tables
    assert all(len(rows.rows()) for rows in found.values())


# ---------------------------------------------------------------- refusals


def refused(code: int, *words: object, folder: Path, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    found, said = run(*words, "-o", out, capsys=capsys)
    assert (found, list(folder.iterdir())) == (code, []), said
    assert says in said


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part, odd = tiny.checkpoint("v1"), tmp_path / "odd.json"
    odd.write_text(json.dumps({"name": "odd", "rules": [["sopro.*", "int4-128"], ["*", "int8"]]}))
    unknown = tmp_path / "unknown.json"
    unknown.write_text(json.dumps({"name": "x", "rules": [["*", "int4-48"]]}))
    (folder := tmp_path / "folder").mkdir()
    sopro, fp32 = ("--sopro", tiny.sopro_file("v1")), ("--from", tiny.model_file("v1", "fp32"))
    for code, words, says in (
        (2, ("--mimi", part / "mimi", "--calibrate", 2), "no acoustic model and no tokenizer, so it cannot speak"),
        (2, (*sopro, "--calibrate", 2), "no tokenizer, so it cannot speak: add it, or leave --calibrate out"),
        (2, (*fp32, "--calibrate", 0), "--calibrate 0: from 1"),
        (2, (*fp32, *sopro), "--from takes a model file as it is, without --sopro"),
        (2, (*fp32, "--drop", "x", "--strict"), "without --drop, --strict"),
        (2, (*sopro, "--recipe", odd), 'do not divide into groups of 128: choose int4, with groups of 32: a rule ["'),
        (2, (*fp32, "--recipe", odd), "sopro."),
        (2, (*fp32, "--recipe", unknown), "int4-48"),
        (1, ("--from", tiny.sopro_file("v1")), "not one made by `sopro-np convert`"),
        (1, ("--from", folder / "none"), "no such file"),
    ):
        refused(code, *words, folder=folder, says=says, capsys=capsys)


def test_onto_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own"
    own.write_bytes(before := tiny.model_file("v1", "fp32").read_bytes())
    code, said = run("--from", own, "-o", own, capsys=capsys)
    assert code in (1, 2) and str(own) in said
    assert own.read_bytes() == before


def test_a_codec_alone_is_converted_but_not_calibrated(tmp_path: Path) -> None:
    mimi = convert(tmp_path / "mimi", load_recipe("fp32"), mimi=tiny.checkpoint("v1") / "mimi").path
    assert requantise(mimi, tmp_path / "int8", load_recipe("int8")).bytes_after < mimi.stat().st_size
    with pytest.raises(UsageError, match="no acoustic model and no tokenizer"):
        requantise(mimi, tmp_path / "no", load_recipe("int8"), learn=lambda path: pytest.fail("it was asked to speak"))


def test_broken_weights(tmp_path: Path) -> None:
    """NaN in a matrix: the file is refused, whether it is calibrated or not, and nothing is written."""
    data = bytearray(tiny.model_file("v1", "fp32").read_bytes())
    header, start = tiny.header(tiny.model_file("v1", "fp32"))[0], int.from_bytes(data[:8], "little") + 8
    at = start + header["sopro.ar.head.weight"]["data_offsets"][0]
    data[at : at + 4] = np.float32(np.nan).tobytes()
    (path := tmp_path / "nan").write_bytes(data)
    recipe = load_recipe("int4")
    with pytest.raises(SoproError, match="NaN"):
        requantise(path, tmp_path / "out", recipe)
    with pytest.raises(UsageError, match="leave --calibrate out"):
        requantise(path, tmp_path / "out", recipe, lambda file: calibrate.calibrated(file, recipe, 1))
    assert [p.name for p in tmp_path.iterdir()] == ["nan"]
    with pytest.raises(FormatError):
        requantise(tmp_path / "nan2", tmp_path / "out", recipe)


def test_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Calibration needs what a board leaves out, and has it; a board's file stays one under another recipe."""
    folder = tiny.checkpoint("v1.5")
    sources = ("--sopro", tiny.sopro_file("v1.5"), "--mimi", folder / "mimi", "--tokenizer", folder / "tokenizer")
    board, voice = tmp_path / "board.safetensors", tiny.voice("v1.5")
    code, told = run(*sources, "--recipe", "board", "--calibrate", 1, "-o", board, capsys=capsys)
    assert code == 0, told
    requantise(board, tmp_path / "int8.safetensors", load_recipe("int8"))
    for path in (board, tmp_path / "int8.safetensors"):
        metadata = TensorFile(path).metadata
        assert (metadata["speak_only"], metadata["vocabulary"], metadata["format_version"]) == ("true", "latin", "2")
        tts = Sopro(path, threads=1)
        assert len(tts.synthesize(tiny.TEXT, tts.voice_from_codes(voice.codes), seed=1, max_frames=4))
        with pytest.raises(UsageError, match="only speaks"):
            tts.voice(folder / "ref.wav")
    code, told = run("--from", tiny.model_file("v1.5"), "--recipe", "board", "-o", tmp_path / "x", capsys=capsys)
    assert code == 2 and "needs the checkpoints" in told and not (tmp_path / "x").exists()
    only = tmp_path / "only.safetensors"
    code, told = run("--from", tiny.model_file("v1.5"), "--speak-only", "-o", only, capsys=capsys)
    assert code == 0 and TensorFile(only).metadata["speak_only"] == "true"
    assert not any(name.startswith("mimi.encoder") for name in TensorFile(only).header)


def test_int4_of_the_first_version(tmp_path: Path) -> None:
    """Scales of float32 are read as they are; converted anew they become float16, and nothing else changes much."""
    source = TensorFile(tiny.model_file("v1.5", "int4"))
    tensors = {n: np.array(source[n]) for n in source.header}
    scales = [n for n in tensors if n.endswith("_scale") and f"{n.removesuffix('_scale')}_packed" in tensors]
    for name in scales:
        tensors[name] = tensors[name].astype(np.float32) * np.float32(1.0001)
    save_file(tensors, old := tmp_path / "old.safetensors", source.metadata | {"format_version": "1"})
    read = Weights(TensorFile(old), packs=False)
    for name in scales:
        table = read.table(name.removesuffix("_scale").removesuffix(".weight") + ".weight", None, None, None)
        assert table.scheme == "int4" and np.array_equal(table.scale, tensors[name])
    new = TensorFile(requantise(old, tmp_path / "new", load_recipe("int4")).path)
    assert scales and all(new.header[name]["dtype"] == "F16" for name in scales)
    voice = tiny.voice("v1.5")
    for path in (old, new.path):
        assert len(Sopro(path, threads=1).codes("Yes.", voice, max_frames=3))
