"""How exactly rows are quantised: chosen for an utterance or by a file, and never a matter of how a stream is cut."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import on_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

import sopro_np
from sopro_np.convert.convert import convert
from sopro_np.convert.recipe import load_recipe
from sopro_np.engine import Sopro, open_model
from sopro_np.errors import ConvertError, FormatError
from sopro_np.precision import MODES
from sopro_np.tensorfile import TensorFile

OPTIONS = {"seed": 3, "max_frames": 12, "min_gen_frames": 12, "guard": False}
RULES = [["mimi.decoder.*", "int8-asymmetric"], ["*.ff_out", "int8-asymmetric"], ["sopro.ar.*", "int4"], ["*", "int8"]]


@cache
def mixed(arch: str, precision: str) -> Path:
    """A file with inputs of both kinds, int4 and int8, spoken at this precision."""
    folder = tiny.checkpoint(arch)
    recipe = folder / f"{precision}.json"
    recipe.write_text(json.dumps({"name": f"mixed-{precision}", "rules": RULES, "precision": precision}))
    output = folder / f"mixed-{precision}.safetensors"
    convert(output, load_recipe(str(recipe)), tiny.sopro_file(arch), folder / "mimi", folder / "tokenizer")
    return output


@cache
def opened(arch: str, precision: str, ops: str, threads: int = 1) -> Sopro:
    return open_model(mixed(arch, precision), threads=threads, ops=ops)


@on_kernels
@pytest.mark.parametrize("arch", tiny.ARCHS)
@settings(max_examples=6)
@given(
    modes=st.lists(st.sampled_from(MODES), min_size=2, max_size=4), chunk=st.integers(1, 12), threads=st.integers(1, 2)
)
def test_the_same_bits_alone_in_pieces_and_among_others(arch: str, modes: list[str], chunk: int, threads: int) -> None:
    tts = opened(arch, "fast", "native", threads)
    voice, more = tts.voice(tiny.checkpoint(arch) / "ref.wav"), {"lookahead": 3, **OPTIONS}
    alone = {mode: tts.synthesize(tiny.TEXT, voice, precision=mode, **more) for mode in modes}
    for mode in set(modes):
        pieces = list(tts.stream(tiny.TEXT, voice, precision=mode, **more | {"chunk_frames": chunk}))
        assert np.array_equal(np.concatenate(pieces), alone[mode])
    batch = tts.batch(len(modes))
    jobs = [batch.add(tiny.TEXT, voice, precision=mode, **more) for mode in modes]
    while len(batch):
        batch.step()
    for mode, job in zip(modes, jobs, strict=True):
        assert job.speech is not None and np.array_equal(job.speech.wav, alone[mode])


@on_kernels
@pytest.mark.parametrize("ops", ["numpy", "native"])
def test_sixteen_bits_are_nearer_to_floats(ops: str) -> None:
    """Of the codec's waveform; adaptive is something between (of random weights, whose rows are much alike, either)."""
    exact = open_model(tiny.model_file("v1", "fp32"), threads=1, ops=ops)
    tts = open_model(tiny.model_file("v1", "int8"), threads=1, ops=ops)
    codes = np.random.default_rng(1).integers(0, tts.mimi.config.code_values, (20, tts.mimi.config.codebooks))
    wanted, lost = exact.decode(codes), []
    for mode in MODES:
        with tts.runtime.at(mode)():
            found = tts.mimi.decode(codes, tts.mimi.new_state(len(codes)))
        lost.append(float(np.square(found - wanted).sum()))
    fast, adaptive, fine = lost
    assert adaptive > fine > 0 and fast > 1.5 * fine


@pytest.mark.parametrize("precision", ["fast", "adaptive"])
def test_a_file_says_how_it_is_spoken(precision: str) -> None:
    """As the recipe asks, and a caller may ask for another; also by the names that each matrix has."""
    path = mixed("v1.5", precision)
    noted = json.loads(TensorFile(path).metadata["activations"])
    assert noted["precision"] == precision and "mimi.decoder.0.weight" in noted["asymmetric"]
    assert all(name.startswith("mimi.decoder.") or ".ff_out." in name for name in noted["asymmetric"])
    tts = opened("v1.5", precision, "numpy")
    voice = tts.voice(tiny.checkpoint("v1.5") / "ref.wav")
    said = {mode: tts.synthesize(tiny.TEXT, voice, precision=mode, **OPTIONS) for mode in (None, "fast", "adaptive")}
    assert np.array_equal(said[None], said[precision])
    assert not np.array_equal(said["fast"], said["adaptive"])


@pytest.mark.parametrize(
    "noted", ['"adaptive"', "[1]", '{"precision": "slow"}', '{"asymmetric": [1]}', '{"asymmetric": 5}']
)
def test_damaged_notes_are_refused(noted: str, tmp_path: Path) -> None:
    tensors, metadata, data = tiny.header(mixed("v1", "fast"))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(tiny.pack(tensors, metadata | {"activations": noted}, data))
    with pytest.raises(FormatError, match="activations in the metadata"):
        open_model(path)


def test_what_there_is_no_precision_of(tmp_path: Path) -> None:
    with pytest.raises(sopro_np.UsageError, match="precision = 'slow' must be one of fast, adaptive, fine"):
        sopro_np.synthesize("Hello.", precision="slow")
    recipe = tmp_path / "r.json"
    recipe.write_text(json.dumps({"rules": [["*", "int8"]], "precision": "best"}))
    with pytest.raises(ConvertError, match="unknown precision 'best'; there are fast, adaptive, fine"):
        load_recipe(str(recipe))
