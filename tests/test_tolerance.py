"""As tolerant as upstream, and no more: every case through `convert` and through `download` on the stand-in Hub.

What upstream's loaders pass over (unknown config keys; in v1.5 and Mimi unknown tensors; two tensors that start as
constants) is told, recorded, shown by `info` and refused with `strict`; the weights are those of the plain source.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hub_standin import Hub
from hub_worker import Worker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sources import Sources

from sopro_np.cli.main import main
from sopro_np.convert.convert import Report, convert
from sopro_np.convert.mimi_cfg import read_config
from sopro_np.convert.recipe import load_recipe
from sopro_np.convert.sopro import plan_sopro
from sopro_np.errors import ConvertError, SoproError
from sopro_np.hub import MIMI, SOPRO
from sopro_np.tensorfile import TensorFile
from sopro_np.tokenizer import Tokenizer

Change = Callable[[Sources], Any]
Q = 8  # codebooks of the tiny models
EXTRA = {
    "ema.ar.head.weight": np.ones((3, 2), np.float32), "step": np.array(7, np.int64), "mask": np.ones(4, bool),
    "half": np.ones(3, np.float16), "eighth": ("F8_E4M3", (4,), bytes(4)), "empty": ("F32", (0,), b""),
}  # fmt: skip
FURTHER = {
    "README.md": b"# hello", ".gitattributes": b"*", "config.json": b'{"model_type": "sopro"}', "optimizer.pt": b"PK",
    "pytorch_model.bin": b"PK", "other.safetensors": bytes(99), "voices/me.wav": b"RIFF",
}  # fmt: skip


def newer_config(s: Sources) -> None:
    """As transformers 5 writes it: rotation in a record, `dtype`, nulls for defaults, no old names."""
    for key in ("rope_theta", "use_cache", "_frame_rate", "architectures"):
        s.config.pop(key)
    s.config |= {
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "tie_word_embeddings": True,
        "transformers_version": "5.8.0", "head_dim": None, "upsampling_ratios": None, "frame_rate": None,
    }  # fmt: skip


def older_rope(s: Sources) -> None:
    s.config |= {"rope_scaling": {"type": "default", "rope_theta": 10000.0}, "rope_parameters": None}


def no_ends(s: Sources) -> None:
    """tokenizer_config.json without bos and eos, as it is for a tokenizer that has none."""
    del s.tokenizer["tokenizer_config.json"]["bos_token"], s.tokenizer["tokenizer_config.json"]["eos_token"]


def special_tokens_map(s: Sources, beside_decoder: bool = False) -> None:
    """The older file names the ends; as a text, or as a record."""
    config = s.tokenizer["tokenizer_config.json"]
    flags = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
    s.tokenizer["special_tokens_map.json"] = {
        "bos_token": config["bos_token"], "eos_token": {"content": config["eos_token"], **flags},
        "additional_special_tokens": ["<|eot_id|>"],
    }  # fmt: skip
    no_ends(s)
    if not beside_decoder:
        del config["added_tokens_decoder"]


def newer_tokenizer_config(s: Sources) -> None:
    """As transformers 5 writes it."""
    config = s.tokenizer["tokenizer_config.json"]
    del config["added_tokens_decoder"]
    config |= {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "extra_special_tokens": ["<|eot_id|>"]}


def newer_tokenizer_json(s: Sources) -> None:
    """Merges as pairs, null where nothing is set, a switch that we do not know and that is off."""
    top = s.tokenizer["tokenizer.json"]
    top["model"]["merges"] = [merge.split(" ") for merge in top["model"]["merges"]]
    top["model"]["cache_capacity"] = None
    top["added_tokens"][0]["experimental"] = False


@dataclass
class Taken:
    """A change of the sources that is taken. `like`: the change that gives the same weights without any tolerance."""

    arch: str
    change: Change
    passed_over: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    filled: list[str] = field(default_factory=list)
    like: Change = lambda s: None


TAKEN = {
    "v1 config": Taken("v1", lambda s: s.cfg.update(lr=1, warmup=2), {"sopro": {"config": ["lr", "warmup"]}}),
    "v1.5 config": Taken(
        "v1.5", lambda s: s.cfg.update(use_stop_head=True), {"sopro": {"config": ["use_stop_head"]}}
    ),
    "v1.5 tensors": Taken("v1.5", lambda s: s.sopro.update(EXTRA), {"sopro": {"tensors": sorted(EXTRA)}}),
    "v1.5 with a rest of v1": Taken(
        "v1.5",
        lambda s: s.sopro.update({"stages.B.pre.weight": np.ones((2, 2), np.float32)}),
        {"sopro": {"tensors": ["stages.B.pre.weight"]}},
    ),
    "v1.5 without weights of the reference": Taken(
        "v1.5", lambda s: s.sopro.pop("ref_cb_weights"), filled=["ref_cb_weights"],
        like=lambda s: s.sopro.update(ref_cb_weights=np.linspace(1.0, 0.1, Q, dtype=np.float32)),
    ),
    "v1.5 without weights of known codes": Taken(
        "v1.5", lambda s: s.sopro.pop("nar_prev_cb_weights"), filled=["nar_prev_cb_weights"],
        like=lambda s: s.sopro.update(nar_prev_cb_weights=np.zeros(Q, np.float32)),
    ),
    "all at once": Taken(
        "v1.5",
        lambda s: (
            s.cfg.update(seed=1), s.sopro.update(EXTRA), s.sopro.pop("ref_cb_weights"),
            s.config.update(new=1), s.mimi.update(EXTRA), no_ends(s),
        ),
        {
            "sopro": {"config": ["seed"], "tensors": sorted(EXTRA)},
            "mimi": {"config": ["new"], "tensors": sorted(EXTRA)},
            "tokenizer": {"missing": ["bos_token", "eos_token"]},
        },
        ["ref_cb_weights"],
        like=lambda s: (s.sopro.update(ref_cb_weights=np.linspace(1.0, 0.1, Q, dtype=np.float32)), no_ends(s)),
    ),
    "Mimi config": Taken("v1", lambda s: s.config.update(new_key=None), {"mimi": {"config": ["new_key"]}}),
    "Mimi tensors": Taken("v1", lambda s: s.mimi.update(EXTRA), {"mimi": {"tensors": sorted(EXTRA)}}),
    "Mimi of newer transformers": Taken("v1", newer_config),
    "Mimi with the older rope": Taken("v1", older_rope),
    "Mimi in shards": Taken("v1", lambda s: setattr(s, "shards", 3)),
    "Mimi in one shard": Taken("v1.5", lambda s: setattr(s, "shards", 1)),
    "fp16": Taken("v1.5", lambda s: s.as_dtype("F16"), like=lambda s: s.as_dtype("F16")),
    "bf16": Taken("v1", lambda s: s.as_dtype("BF16"), like=lambda s: s.as_dtype("BF16")),
    "further files": Taken("v1.5", lambda s: s.others.update(FURTHER | {"config.json": s.mimi_files()["config.json"]})),
    "special_tokens_map": Taken("v1", special_tokens_map),
    "special_tokens_map beside added_tokens_decoder": Taken("v1", lambda s: special_tokens_map(s, True)),
    "no bos and eos": Taken("v1.5", no_ends, {"tokenizer": {"missing": ["bos_token", "eos_token"]}}, like=no_ends),
    "tokenizer_config of newer transformers": Taken("v1.5", newer_tokenizer_config),
    "tokenizer.json of newer tokenizers": Taken(
        "v1", newer_tokenizer_json,
        {"tokenizer": {"settings": ["model: cache_capacity", "added token '<|begin_of_text|>': experimental"]}},
    ),
}  # fmt: skip


def changed(arch: str, change: Change) -> Sources:
    sources = Sources(arch)
    change(sources)
    return sources


def tensors(path: Path) -> tuple[Any, bytes]:
    """What a file holds beside its metadata."""
    entries, _, data = tiny.header(path)
    return entries, data


def tokenizer(path: Path) -> Tokenizer:
    file = TensorFile(path)
    return Tokenizer({name: file[name] for name in file.header if name.startswith("tokenizer.")})


def told(report: Report) -> list[str]:
    """All names that a person must have been told."""
    return [*report.filled, *(n for kinds in report.passed_over.values() for names in kinds.values() for n in names)]


def convert_quietly(sources: Sources, folder: Path, **more: Any) -> tuple[Report, list[str]]:
    lines: list[str] = []
    return convert(folder / "out", load_recipe("int8"), **sources.write(folder), tell=lines.append, **more), lines


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Converted to the weights of the plain source; told, recorded and shown by name."""
    case = TAKEN[name]
    report, lines = convert_quietly(changed(case.arch, case.change), tmp_path / "case")
    plain, _ = convert_quietly(changed(case.arch, case.like), tmp_path / "plain")
    assert tensors(report.path) == tensors(plain.path)
    assert (report.passed_over, report.filled) == (case.passed_over, case.filled)
    metadata = TensorFile(report.path).metadata
    assert json.loads(metadata["passed_over"]) == report.as_dict()["passed_over"] == case.passed_over
    assert json.loads(metadata["filled"]) == report.as_dict()["filled"] == case.filled
    assert len(lines) == sum(map(len, case.passed_over.values())) + bool(case.filled)
    for line in lines:
        assert "--strict refuses" in line and "upstream" in line
    for word in told(report):
        assert any(word in line for line in lines), word
    assert main(["info", str(report.path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["passed_over"], facts["filled"], facts["dropped"]) == (case.passed_over, case.filled, [])
    assert main(["info", str(report.path)]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in told(report))


@pytest.mark.parametrize("name", TAKEN)
def test_strict(name: str, tmp_path: Path) -> None:
    """What is told otherwise is an error that names all of one kind; what needs no tolerance is converted as before."""
    case, sources = TAKEN[name], changed(TAKEN[name].arch, TAKEN[name].change)
    if not case.passed_over and not case.filled:
        report, lines = convert_quietly(sources, tmp_path, strict=True)
        assert not lines and TensorFile(report.path).json("options") == {}, "strict changes nothing in the file"
        return
    with pytest.raises(ConvertError, match="--strict") as caught:
        convert_quietly(sources, tmp_path, strict=True)
    kinds = [names for kinds in case.passed_over.values() for names in kinds.values()] + [case.filled]
    assert any(names and all(name in str(caught.value) for name in names) for names in kinds)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_strict_with_the_older_options(tmp_path: Path) -> None:
    """--drop and --allow-unknown-config say what may differ all the same."""
    sources = changed("v1.5", lambda s: (s.cfg.update(seed=1), s.sopro.update(EXTRA)))
    options = {"allow_unknown_config": True, "drop": tuple(EXTRA)}
    report, lines = convert_quietly(sources, tmp_path, strict=True, **options)
    assert report.dropped == sorted(EXTRA)
    assert report.passed_over == {"sopro": {"config": ["seed"]}}
    assert len(lines) == 1


def test_the_library_warns(tmp_path: Path) -> None:
    """Without a receiver of lines: Python's warnings, at the caller's line; nothing where nothing is passed over."""
    with pytest.warns(UserWarning, match="1 config key unknown to the model: seed; passed over") as caught:
        arguments = changed("v1", lambda s: s.cfg.update(seed=1)).write(tmp_path / "a")
        convert(tmp_path / "out", load_recipe("fp32"), **arguments)
    assert [w.filename for w in caught if w.category is UserWarning] == [__file__]  # others: of what is collected now
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        convert(tmp_path / "out", load_recipe("fp32"), **Sources("v1").write(tmp_path / "b"))


def test_ids_without_bos_and_eos(tmp_path: Path) -> None:
    """As upstream: neither stands around a text; a text of which nothing remains is refused."""
    both, neither = (
        tokenizer(convert_quietly(changed("v1.5", change), tmp_path / str(i))[0].path)
        for i, change in enumerate((lambda s: None, no_ends))
    )
    assert both.encode(tiny.TEXT)[1:-1].tolist() == neither.encode(tiny.TEXT).tolist()
    assert (neither.bos, neither.eos) == (None, None)
    with pytest.raises(SoproError, match="no character"):
        neither.encode("")
    given, lines = convert_quietly(changed("v1.5", no_ends), tmp_path / "given", bos=0, eos=497)
    assert tokenizer(given.path).encode("").tolist() == [0, 497] and not lines
    assert TensorFile(given.path).json("options") == {"bos": 0, "eos": 497}


TOKENIZERS = ("v1 config", "special_tokens_map", "no bos and eos", "tokenizer.json of newer tokenizers")


def test_ids_are_those_of_transformers(tmp_path: Path) -> None:
    """Of the tokenizers above that its installed version can load; the ends, too."""
    transformers = pytest.importorskip("transformers")
    ends = []
    for name in TOKENIZERS:
        sources, folder = changed(TAKEN[name].arch, TAKEN[name].change), tmp_path / name
        ours = tokenizer(convert_quietly(sources, folder)[0].path)
        theirs = transformers.AutoTokenizer.from_pretrained(_tokenizer_only(sources, folder / "tokenizer"))
        assert (ours.bos, ours.eos) == (theirs.bos_token_id, theirs.eos_token_id), name
        ids = theirs("Hello <|eot_id|>you.", add_special_tokens=False)["input_ids"]
        assert ours.encode("Hello <|eot_id|>you.").tolist() == [i for i in (ours.bos, *ids, ours.eos) if i is not None]
        ends.append(ours.bos)
    assert ends == [496, 496, None, 496]


def _tokenizer_only(sources: Sources, folder: Path) -> Path:
    folder.mkdir()
    for name, content in sources.tokenizer.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def test_defaults_of_a_newer_mimi_config() -> None:
    def read(**given: Any) -> dict[str, Any]:
        return read_config(given, Path("config.json"))[0]

    assert read(codebook_dim=None, hidden_size=64)["codebook_dim"] == 64
    assert read(rope_parameters={"rope_theta": 500.0})["rope_theta"] == 500
    assert read(rope_theta=400.0, rope_parameters={"rope_type": "default"})["rope_theta"] == 400
    for rope in ({"rope_type": "yarn"}, {"type": "linear", "factor": 2}, {"full_attention": {}}, [1], "x",
                 {"partial_rotary_factor": 0.5}):  # fmt: skip
        for key in ("rope_parameters", "rope_scaling"):
            with pytest.raises(ConvertError, match="rope_parameters"):
                read(**{key: rope})


# ---------------------------------------------------------------- what upstream refuses


def resize(part: str, name: str, axis: int = 0) -> Change:
    """One row (or column) more."""

    def change(s: Sources) -> None:
        tensor = getattr(s, part)[name]
        getattr(s, part)[name] = np.concatenate([tensor, tensor.take([0], axis)], axis)

    return change


def shard(**entries: str) -> Change:
    """An index in which tensors lie elsewhere."""

    def change(s: Sources) -> None:
        s.shards = 2
        files = {name: f"model-{1 + i % 2:05}-of-00002.safetensors" for i, name in enumerate(sorted(s.mimi))}
        s.index = {"weight_map": files | {name.replace("__", "."): file for name, file in entries.items()}}

    return change


LINEAR = {"rope_type": "linear", "factor": 2.0}
REFUSED: dict[str, tuple[str, Change, str]] = {
    "v1 with one more": ("v1", lambda s: s.sopro.update(step=np.ones(1, np.float32)), "1 tensor.*v1.*step.*--drop"),
    "v1 with more": ("v1", lambda s: s.sopro.update(EXTRA), "6 tensors .*ema.ar.head.weight.*step"),
    "v1 with less": ("v1", lambda s: s.sopro.pop("ar.norm.weight"), "ar.norm.weight is missing"),
    "v1 with another size": ("v1", resize("sopro", "ar.head.bias"), "ar.head.bias has shape"),
    "v1 with another kernel": ("v1", resize("sopro", "text_enc.layers.0.dw.dw.weight", 2), "text_enc.layers.0.dw.dw"),
    "v1.5 with less": ("v1.5", lambda s: s.sopro.pop("nar.mix.B"), "nar.mix.B is missing"),
    "v1.5 without a gate": ("v1.5", lambda s: s.sopro.pop("ar.x_attns.1.gate"), "ar.x_attns.1.gate is missing"),
    "v1.5 with another size": ("v1.5", resize("sopro", "ref_cb_weights"), "ref_cb_weights has shape"),
    "v1.5 with more stages": ("v1.5", resize("sopro", "nar.stage_emb.weight"), "nar.stage_emb.weight has shape"),
    "v1.5 with a wider adapter": ("v1.5", resize("sopro", "nar.adapter.mlp.0.weight"), "nar.adapter.mlp.0.weight has"),
    "v1.5 with a wider speaker": ("v1.5", resize("sopro", "token2sv.emb.weight", 1), "token2sv.emb.weight has shape"),
    "Mimi with less": ("v1", lambda s: s.mimi.pop("downsample.conv.weight"), "downsample.conv.weight is missing"),
    "Mimi with another size": ("v1", resize("mimi", "upsample.conv.weight"), "upsample.conv.weight has shape"),
    "Mimi with another rope": ("v1", lambda s: s.config.update(rope_parameters=LINEAR), "rope_parameters"),
    "shard elsewhere": ("v1", shard(upsample__conv__weight="../model.safetensors"), "safetensors' is not the name"),
    "shard that is no such": ("v1", shard(upsample__conv__weight="model.bin"), "'model.bin' is not the name"),
    "shard without it": ("v1", shard(one__more="model-00001-of-00002.safetensors"), "one.more should lie in"),
    "index without a map": ("v1", lambda s: (setattr(s, "shards", 2), s.index.update(weight_map=[])), "weight_map"),
    "tokenizer of another version": (
        "v1", lambda s: s.tokenizer["tokenizer.json"].update(version="2.0"), "version '2.0'"
    ),
    "tokenizer with a new setting": (
        "v1", lambda s: s.tokenizer["tokenizer.json"]["model"].update(surprise=1), "unknown settings.*surprise"
    ),
    "tokenizer of a class with defaults": (
        "v1", lambda s: (no_ends(s), s.tokenizer["tokenizer_config.json"].update(tokenizer_class="GPT2Tokenizer")),
        "no bos_token.*--bos ID --eos ID",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    """One line that names the thing; nothing is written."""
    arch, change, message = REFUSED[name]
    with pytest.raises(SoproError, match=message) as caught:
        convert_quietly(changed(arch, change), tmp_path)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_a_shard_that_is_not_there(tmp_path: Path) -> None:
    arguments = changed("v1", lambda s: setattr(s, "shards", 2)).write(tmp_path)
    (tmp_path / "mimi" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ConvertError, match=r"00002\.safetensors: no such file"):
        convert(tmp_path / "out", load_recipe("fp32"), mimi=arguments["mimi"])


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    arguments = changed("v1", lambda s: setattr(s, "shards", 2)).write(tmp_path)
    first, second = sorted(arguments["mimi"].glob("*.safetensors"))
    shutil.copy(first, second)
    with pytest.raises(ConvertError, match="and in another file"):
        convert(tmp_path / "out", load_recipe("fp32"), mimi=arguments["mimi"])


def test_the_fingerprint_is_of_every_shard(tmp_path: Path) -> None:
    """A voice made with one codec must not pass for one of another: the index alone does not tell them apart."""
    prints = set()
    for i, change in enumerate((lambda s: None, lambda s: s.mimi.update({"decoder.layers.0.conv.bias": ONES}))):
        sources = changed("v1", change)
        sources.shards = 2
        report, _ = convert_quietly(sources, tmp_path / str(i))
        prints.add(report.sources["mimi"]["sha256"])
        read = sum(p.stat().st_size for p in (tmp_path / str(i) / "mimi").glob("model*"))
        assert report.bytes_before > read
    assert len(prints) == 2


ONES = np.ones_like(Sources("v1").mimi["decoder.layers.0.conv.bias"])


def test_the_output_must_not_be_a_shard(tmp_path: Path) -> None:
    arguments = changed("v1", lambda s: setattr(s, "shards", 2)).write(tmp_path)
    for own in sorted(arguments["mimi"].iterdir()):
        with pytest.raises(ConvertError, match="is a source of this conversion"):
            convert(own, load_recipe("fp32"), mimi=arguments["mimi"])


# ---------------------------------------------------------------- torch as the judge


@pytest.mark.parametrize("arch", tiny.ARCHS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_takes_what_torch_takes(arch: str, data: st.DataObject, tmp_path: Path) -> None:
    """Tensors left out, added or stretched: `load_state_dict`, strict for v1 alone, decides; so do we.

    But for what would keep a random initial value: there upstream goes on, and we do not.
    """
    pytest.importorskip("torch")
    source = tiny.source(arch)
    names = st.sampled_from(sorted(source.tensors))
    tensors = dict(source.tensors)
    for _ in range(data.draw(st.integers(1, 2))):
        match data.draw(st.sampled_from(["drop", "constant", "add", "stretch"])):
            case "drop":
                tensors.pop(data.draw(names), None)
            case "constant":
                tensors.pop(data.draw(st.sampled_from(CONSTANTS)), None)
            case "add":
                tensors[data.draw(st.sampled_from(["x", "stages.C.x", "nar.x"]))] = np.ones(2, np.float32)
            case "stretch":
                name = data.draw(names)
                if name in tensors and tensors[name].ndim and not name.startswith("text_enc.embed"):  # see below
                    axis = data.draw(st.integers(0, tensors[name].ndim - 1))
                    tensors[name] = np.concatenate([tensors[name], tensors[name].take([0], axis)], axis)
    path = tiny.Checkpoint(tensors, source.metadata).write(tmp_path)
    try:
        ours = set(plan_sopro(path).filled)
    except ConvertError:
        ours = None
    assert ours == _missing_for_torch(arch, tensors, json.loads(source.metadata["cfg"]))


CONSTANTS = ("ref_cb_weights", "nar_prev_cb_weights")


def _missing_for_torch(arch: str, tensors: dict[str, np.ndarray], cfg: dict[str, Any]) -> set[str] | None:
    """Names of constants that keep their initial values, or None: refused. The vocabulary is the tokenizer's, not
    the checkpoint's: that the rows of the embedding fit is checked where both are converted."""
    import torch

    from tools.oracle import ARCHITECTURES

    kind = ARCHITECTURES[f"sopro_{arch.replace('.', '')}"]
    model = kind(kind.config_type.from_dict(cfg), len(tiny.source(arch).tensors["text_enc.embed.emb.weight"]))
    state = {name: torch.from_numpy(np.array(array)) for name, array in tensors.items()}
    try:
        missing = set(model.load_state_dict(state, strict=arch == "v1").missing_keys)
    except RuntimeError:
        return None
    return missing if missing <= set(CONSTANTS) else None


# ---------------------------------------------------------------- through the Hub


@pytest.fixture
def worker(process: Worker) -> Worker:
    for folder in (process.cache, process.hf_home):
        shutil.rmtree(folder, ignore_errors=True)
    return process


def publish(hub: Hub, sources: Sources) -> None:
    """One commit of both repositories, at a time when either generation could be there."""
    hub.repos.clear()
    hub.log.clear()
    hub.commit(SOPRO, "2026-02-03T10:00:00.000Z", sources.sopro_files())
    hub.commit(MIMI, "2025-01-01T10:00:00.000Z", sources.mimi_files())


@pytest.mark.parametrize("name", TAKEN)
def test_downloaded(name: str, server: Hub, worker: Worker, tmp_path: Path) -> None:
    """The file that `convert` makes, and the same told as progress; nothing is fetched that is not needed."""
    case = TAKEN[name]
    sources = changed(case.arch, case.change)
    publish(server, sources)
    answer = worker.download(case.arch)
    assert answer["error"] is None, answer
    report, lines = convert_quietly(sources, tmp_path)
    assert tensors(Path(answer["path"])) == tensors(report.path)
    metadata = TensorFile(answer["path"]).metadata
    assert (json.loads(metadata["passed_over"]), json.loads(metadata["filled"])) == (case.passed_over, case.filled)
    warned = [line.removeprefix("warning: ") for line in answer["said"] if line.startswith("warning: ")]
    assert [line.partition(": ")[2] for line in warned] == [line.partition(": ")[2] for line in lines]
    fetched = {path.rsplit("/", 1)[1] for method, path, _ in server.log if "/resolve/" in path and method == "HEAD"}
    known = {*sources.tokenizer, "model.safetensors", "config.json", *(n for n in sources.mimi_files() if "model" in n)}
    assert fetched <= known - {"pytorch_model.bin"}
    if case.passed_over or case.filled:
        worker.bad("--strict", case.arch, strict=True)
    assert "already there" in worker.download(case.arch)["said"][-1]


@pytest.mark.parametrize("name", REFUSED)
def test_not_downloaded(name: str, server: Hub, worker: Worker) -> None:
    arch, change, message = REFUSED[name]
    publish(server, changed(arch, change))
    worker.bad(message, arch)


def test_shards_and_the_map_are_pinned(server: Hub, worker: Worker) -> None:
    """Each file of a part is remembered; works offline; a changed shard, or a file that was not there, is refused."""
    sources = changed("v1.5", lambda s: (setattr(s, "shards", 2), special_tokens_map(s)))
    publish(server, sources)
    made = TensorFile(worker.good()).json("sources")
    assert set(made["mimi"]["files"]) == set(sources.mimi_files())
    assert set(made["tokenizer"]["files"]) == set(sources.tokenizer)
    offline = Worker(worker.cache.parent, server.url, HF_HUB_OFFLINE="1")
    server.log.clear()
    assert TensorFile(offline.good(recipe="fp16")).json("sources")["mimi"]["files"] == made["mimi"]["files"]
    assert not server.log
    offline.kill()
    files = sources.mimi_files()
    shard = sorted(name for name in files if name.startswith("model-"))[1]
    sources.mimi = {name: array * 2 for name, array in sources.mimi.items()}
    server.commit(MIMI, "2026-03-01T10:00:00.000Z", {**files, shard: sources.mimi_files()[shard]})
    worker.bad(f"{shard} is not the file of the first download.*--accept-changes", recipe="fp32")
    server.repos[MIMI].pop()
    publish(server, Sources("v1.5"))
    worker.good(accept_changes=True)
    sources = Sources("v1.5")
    sources.tokenizer["special_tokens_map.json"] = {}
    server.commit(SOPRO, "2026-03-01T10:00:00.000Z", sources.sopro_files())
    worker.bad("special_tokens_map.json is not the file of the first download", recipe="fp32")
