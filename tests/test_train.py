"""The training recipe at toy size: resuming, determinism, and its checkpoints in the ordinary converter and engine."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from sopro_np.convert.convert import convert  # noqa: E402
from sopro_np.convert.recipe import load_recipe  # noqa: E402
from sopro_np.engine import open_model  # noqa: E402
from sopro_np.evaluate.spelling import comparable  # noqa: E402
from sopro_np.tensorfile import read_header  # noqa: E402
from tools.train import asr, codebooks, codes, data, evaluate, features, flite, predict, render, sentences, vocoder  # noqa: E402
from tools.train.__main__ import STAGES  # noqa: E402
from tools.train.asr import word_error_rate  # noqa: E402
from tools.train.batched import Batch  # noqa: E402
from tools.train.codec import assemble  # noqa: E402
from tools.train.codes import Coded  # noqa: E402
from tools.train.config import load_config  # noqa: E402
from tools.train.decoder import DecoderTrainer  # noqa: E402
from tools.train.embed import embed, make_model  # noqa: E402
from tools.train.encoder import EncoderTrainer  # noqa: E402
from tools.train.export import export  # noqa: E402
from tools.train.growing import Column, Growing  # noqa: E402
from tools.train.mimi import decode_features, decode_hidden, decode_wave, encode, load_model  # noqa: E402
from tools.train.oracle import SoproV15  # noqa: E402
from tools.train.sopro import SoproTrainer, padded  # noqa: E402
from tools.train.spectra import spectral_loss  # noqa: E402
from tools.train.tokenizer import encode as encode_text  # noqa: E402
from tools.train.training import Trainer  # noqa: E402

needs_flite = pytest.mark.skipif(not flite.available(), reason="flite's library is not installed (Debian: flite)")
TINY = {
    "num_filters": 2, "hidden_size": 16, "upsample_groups": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 16, "codebook_size": 16, "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8, "num_quantizers": 5,
}  # fmt: skip
TINY_SOPRO = {
    "num_codebooks": 5, "stage_E": [5, 5],
    "codebook_size": 16, "d_model": 16, "n_layers_text": 1, "n_layers_ar": 2, "n_layers_nar": 1, "nar_head_dim": 8,
    "sv_student_dim": 8, "pos_emb_max": 64,
}  # fmt: skip


def tiny_config(architecture: str = "sopro_v15") -> SimpleNamespace:
    """Everything at toy size."""
    settings = {
        "codec.frames": 6, "codec.bfloat16": False, "codec.clustered": 40, "codec.semantic": 4,
        "encoder.batch": 2, "encoder.steps": 3, "decoder.batch": 2, "decoder.steps": 3,
        "sopro.batch": 4, "sopro.steps": 3, "sopro.reference_frames": [4, 8], "sopro.shifts": [0.9],
        "sopro.architecture": architecture,
        "data.validation_every": 3,
    }  # fmt: skip
    settings |= {f"codec.mimi.{k}": v for k, v in TINY.items()}
    settings |= {f"sopro.models.{architecture}.{k}": v for k, v in TINY_SOPRO.items()}
    return load_config(None, tuple(f"{k}={json.dumps(v)}" for k, v in settings.items()))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder whose corpus is six chirps, rendered and with codebooks."""
    folder, rng = tmp_path_factory.mktemp("train"), np.random.default_rng(1)
    (folder / "data").mkdir()
    time = np.arange(16000) / 16000
    with open(folder / "data" / "index.jsonl", "w") as index:
        for i in range(6):
            phones = [["pau", 0.2], ["aa", 0.6], ["s", 1.0]]
            index.write(json.dumps(vars(data.Entry("a", "rms", i * 16000, 16000, phones))) + "\n")
    chirps = np.concatenate([np.sin(2 * np.pi * (100 + 20 * i) * time * (1 + 0.1 * time)) for i in range(6)])
    (chirps * 8000).astype(np.int16).tofile(folder / "data" / "audio.i16")
    track = rng.normal(0, 0.1, (6 * 200, flite.WIDTH))
    track[:, 0], track[:, 1:6], track[:, 6] = 110, 0.7, 5
    track.astype(np.float16).tofile(folder / "data" / "track.f16")
    cfg = tiny_config()
    render.make(cfg, folder)
    codebooks.make(cfg, folder)
    codes.make(cfg, folder)
    return folder


@pytest.fixture
def copy(work: Path, tmp_path: Path) -> Path:
    """A folder that sees the same corpus, for training in."""
    folder = tmp_path / "work"
    folder.mkdir()
    for part in work.iterdir():
        (folder / part.name).symlink_to(part)
    return folder


def sopro_trainer(cfg: SimpleNamespace, work: Path) -> SoproTrainer:
    return SoproTrainer(cfg.sopro, work / "sopro", Coded(work, cfg))


@pytest.mark.parametrize("kind", [EncoderTrainer, DecoderTrainer, sopro_trainer])
def test_resumed_training_gives_the_same_weights(
    kind: Callable[[SimpleNamespace, Path], Trainer], copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = tiny_config()
    first = kind(cfg, copy)
    untrained = {name: tensor.clone() for name, tensor in first.modules.state_dict().items()}
    for _ in range(2):
        assert all(np.isfinite(value) for value in first.train_step().values())
    changed = [name for name, tensor in first.modules.state_dict().items() if not torch.equal(tensor, untrained[name])]
    assert len(changed) > len(untrained) / 3  # what works at 24 kHz stays
    first.checkpoints.save(first.step)
    first.train_step()
    second = kind(cfg, copy)
    assert second.step == 2
    second.run()
    assert "3/3" in capsys.readouterr().out
    for (name, a), b in zip(first.modules.state_dict().items(), second.modules.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_trained_files_go_through_the_converter(copy: Path) -> None:
    """The saved folder: transformers computes what the trainers compute, and the engine what transformers does."""
    cfg = tiny_config()
    encoder, decoder, sopro = EncoderTrainer(cfg, copy), DecoderTrainer(cfg, copy), sopro_trainer(cfg, copy)
    for trainer in (encoder, decoder, sopro):
        trainer.run()
    assemble(cfg, copy)
    convert(copy / "codec.safetensors", load_recipe("fp32"), mimi=copy / "codec" / "mimi")
    engine = open_model(copy / "codec.safetensors", threads=1)
    model = load_model(copy / "codec" / "mimi").eval()
    wave = torch.from_numpy(np.random.default_rng(1).normal(0, 0.1, (1, 1920 * 5)).astype(np.float32))
    with torch.inference_mode():
        books = codebooks.Codebooks.load(copy)
        ours = books.codes(encoder.components(wave))
        found = model.encode(wave[:, None]).audio_codes.mT
        assert torch.equal(ours, found)
        expected = model.decode(found.mT).audio_values[0, 0].numpy()
        assert_close("decoder's waveform", decoder.speak(books.rows(found))[0].numpy(), expected)
        hidden = decode_hidden(model, model.quantizer.decode(found.mT))
        assert_close("waveform", decode_wave(model, decode_features(model, hidden))[0].numpy(), expected)
        z = model.encoder_transformer(model.encoder(wave[:, None]).transpose(1, 2))[0]
        assert_close("latents", encode(model, wave).numpy(), model.downsample(z.transpose(1, 2)).numpy())
    assert np.array_equal(engine.mimi.encode(wave[0].numpy()), found[0].numpy())
    assert_close("engine's waveform", engine.decode(found[0].numpy()), expected)
    export(cfg, copy)
    convert(copy / "half.safetensors", load_recipe("fp32"), mimi=copy / "export" / "codec")
    assert_close("half precision", open_model(copy / "half.safetensors").decode(found[0].numpy()), expected, 1e-2)
    make_model(cfg, copy, copy / "model.safetensors")
    tts = open_model(copy / "model.safetensors", threads=1)
    speech = json.loads(read_header(copy / "export" / "sopro" / "model.safetensors")[1]["speech"])
    lessons = sopro.coded.entries
    assert speech == tts.file.json("speech") and speech["longest"] == 1  # the lessons are all "a"
    assert min(e["frames"] for e in lessons) <= speech["start"] <= max(e["frames"] for e in lessons)
    assert set(tts.file.json("licenses").values()) == {"Apache-2.0"}
    assert np.allclose(tts.model.ar.head.bias, cfg.embed.sharpness * sopro.model.ar.head.bias.detach().numpy())
    assert tts.tokenizer.encode("A cat?").tolist() == encode_text(sopro.tokenizer, "A cat?")
    voice = tts.voice_from_codes(sopro.coded.codes(1).numpy())
    assert len(tts.synthesize("a cat.", voice=voice, max_frames=5, seed=1)) % 1920 == 0


@pytest.mark.parametrize("architecture", ["sopro_v1", "sopro_v15"])
def test_batches_compute_what_single_utterances_do(copy: Path, architecture: str) -> None:
    """The trainer's padded passes against the torch oracle's, utterance by utterance."""
    trainer = sopro_trainer(tiny_config(architecture), copy)
    model, batched = trainer.model.eval(), trainer.batched
    long, short = trainer.coded.codes(1), trainer.coded.codes(2)[:7]
    ids = [torch.tensor([1, 5, 9, 12, 8, 2]), torch.tensor([1, 7, 2])]
    ref = torch.stack((long[:6], long[4:10]))
    batch = Batch(
        padded(ids), torch.tensor([6, 3]), padded([long, short]), torch.zeros(2, len(long), 8),
        torch.tensor([len(long), 7]), ref, torch.zeros(2, 14)
    )  # fmt: skip
    with torch.inference_mode():
        text, pool = batched.text(batch)
        cond = batched.condition(pool, ref, len(long))
        given = (batch.codes[..., 0], text, batch.spoken)
        logits, weights = batched.ar(cond, given[0], ref, *given[1:]) if architecture == "sopro_v1" else batched.ar(
            cond, *given
        )  # fmt: skip
    assert all(torch.allclose(w.sum(-1), torch.ones(())) and not w[1, :, :, 3:].any() for w in weights)
    for i, codes_ in enumerate((long, short)):
        alone, sequence = model.prepare(ids[i], ref[i], len(codes_))
        assert_close("conditioning", cond[i, : len(alone)].numpy(), alone.numpy())
        assert_close("AR", logits[i, : len(alone)].numpy(), ar_alone(model, alone, sequence, codes_, ref[i]).numpy())
        for stage, before in batched.stages():
            groups = {s: slice(0, 0) for s in model.stage_books} | {stage: slice(0, 2)}
            with torch.inference_mode():
                heads = batched.nar(cond[:, : len(long)], batch.codes, groups, batch.inside)[stage]
                wanted = model.nar_logits(
                    stage, alone[: len(codes_)], model.previous_codes(codes_[:, before], before)
                )  # fmt: skip
            for head, expected in zip(heads, wanted, strict=True):
                assert_close("NAR", head[i, : len(codes_)].numpy(), expected.numpy())


@pytest.mark.parametrize("architecture", ["sopro_v1", "sopro_v15"])
def test_stages_go_on_from_what_those_before_find(copy: Path, architecture: str) -> None:
    """Item by item the oracle's refinement; items that do not follow keep what they were given."""
    trainer = sopro_trainer(tiny_config(architecture), copy)
    model, numbers = trainer.model.eval(), [1, 2, 4, 5]
    batch = trainer.batch(numbers, np.random.default_rng(1))
    groups, follows = trainer.shares(4), torch.tensor([True, True, True, True])
    assert [items.stop - items.start for items in groups.values()] == [1] * 4
    with torch.inference_mode():
        _, pool = trainer.batched.text(batch)
        cond = trainer.batched.condition(pool, batch.ref, batch.codes.shape[1])[:, : batch.codes.shape[1]]
        known = trainer.followed(batch, cond, batch.codes, groups, follows)
        assert torch.equal(trainer.followed(batch, cond, batch.codes, groups, ~follows), batch.codes)
    for i, (_, before) in enumerate(trainer.batched.stages()):
        frames = int(batch.frames[i])
        found = model.nar_refine(cond[i, :frames], batch.codes[i, :frames, 0])
        assert torch.equal(known[i, :frames, before], found[:, before])
    assert not torch.equal(known, batch.codes)


def test_the_code_with_the_least_distance_is_the_next_of_a_chain() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randn(16, 5, generator=generator) for _ in range(4)]
    books, x = codebooks.Codebooks(torch.zeros(5), torch.eye(5), torch.eye(5), rows), torch.randn(
        20, 5, generator=generator
    )  # fmt: skip
    found = books.codes(x)
    rest = books.left(x, found, range(1, 3))
    assert torch.allclose(books.distances(rest, 3), torch.cdist(rest, rows[3]) ** 2, atol=1e-4)
    assert torch.equal(books.distances(rest, 3).argmin(-1), found[:, 3])


def ar_alone(model: Any, cond: Any, text: Any, codes_: Any, ref: Any) -> Any:
    """The oracle's logits (rows, V) of one utterance, the codes before each given; v1's by its window, step by step."""
    if model.extra_frames == SoproV15.extra_frames:
        return model.ar_forward(model.ar_inputs(cond, torch.cat((codes_[:, 0], torch.tensor([0])))), text)
    prefix = model.prefix(ref)
    windows = (model.ar_window(cond, prefix, codes_[:t, 0]) for t in range(len(codes_)))
    return torch.stack([model.ar_logits(window, text) for window in windows])


def test_v1_learns_to_stop(copy: Path) -> None:
    """The stop head is trained, and what comes out speaks in the engine."""
    cfg = tiny_config("sopro_v1")
    trainer = sopro_trainer(cfg, copy)
    before = trainer.model.stop_head.proj.weight.clone()
    trainer.run()
    assert not torch.equal(before, trainer.model.stop_head.proj.weight)
    EncoderTrainer(cfg, copy).export()
    DecoderTrainer(cfg, copy).export()
    assemble(cfg, copy)
    make_model(cfg, copy, copy / "model.safetensors")
    tts = open_model(copy / "model.safetensors", threads=1)
    assert tts.file.json("architecture")["sopro"]["stop"] == "head"
    voice = tts.voice_from_codes(trainer.coded.codes(1).numpy())
    assert len(tts.synthesize("a cat.", voice=voice, max_frames=5, seed=1)) % 1920 == 0


def test_interrupted_renderings_and_codes_are_the_same(work: Path, copy: Path) -> None:
    cfg = tiny_config()
    for make, folder, names in (
        (render.make, "render", ("audio.i16", "vectors.f16")),
        (codes.make, "codes", ("codes.u16",)),
    ):
        (copy / folder).unlink()
        (copy / folder).mkdir()
        index = (work / folder / "index.jsonl").read_text()
        kept = 2
        (copy / folder / "index.jsonl").write_text("".join(index.splitlines(True)[:kept]) + '{"numb')
        for name in names:
            whole = (work / folder / name).read_bytes()
            (copy / folder / name).write_bytes(whole[: len(whole) // 2] + b"junk" * 3)
        make(cfg, copy)
        for name in (*names, "index.jsonl"):
            assert (copy / folder / name).read_bytes() == (work / folder / name).read_bytes(), name


def test_phase_is_whole_where_frames_begin() -> None:
    turns = np.array([8, 9, 9, 14, 5])
    phase = vocoder.turns_within(turns)
    assert np.allclose(phase[::1920], np.concatenate(([0], np.cumsum(turns)[:-1])))
    assert np.all(np.diff(phase) > 0)
    assert abs(np.diff(phase)[1920 * 3 - 1] - 9 / 1920) < 1e-4  # a frame ends at its own pitch
    times, periods = vocoder.pulses(phase)
    assert len(times) == turns.sum() and np.all(periods > 0)


@given(st.floats(0.85, 1.2), st.integers(0, 3))
def test_the_vocoder_says_its_parameters(shift: float, seed: int) -> None:
    """The spectrum of what it says is the envelope, where there is no voicing; pitch is the periods' where there is."""
    rng = np.random.default_rng(seed)
    cepstra = np.zeros((64, 25))
    cepstra[:, :8] = np.concatenate(([-3.0], rng.normal(0, 0.3, 7)))
    found = features.Parameters(cepstra, np.zeros(64), np.full((64, 5), 0.9), np.full(4, 10.0))
    spectrum = found.spectrum(shift)
    noise = vocoder.speech(spectrum, found.voiced, found.strengths, found.turns, shift)
    power = np.abs(np.fft.rfft(noise[1920 : 3 * 1920].reshape(2, -1), axis=1) / np.sqrt(1920)) ** 2
    f = np.fft.rfftfreq(1920, 1 / 24000)
    for low, high in ((300, 1200), (1200, 3000), (3000, 6000)):
        band = (f > low) & (f < high)
        wanted = np.interp(f[band], np.fft.rfftfreq(vocoder.SIZE, 1 / 24000), spectrum[0].real)
        assert abs(np.log(power[:, band].mean()) - np.log(np.mean(np.exp(2 * wanted)))) < 0.5
    tone = vocoder.speech(spectrum, np.ones(64), found.strengths, found.turns, shift)
    middle = tone[1920 : 3 * 1920]
    assert np.allclose(middle[:1920], middle[1920:], atol=1e-3)  # the same in every frame
    periodic = np.abs(np.fft.rfft(middle[:1920]))
    assert periodic[10:100:10].sum() > 3 * np.delete(periodic[5:100], np.arange(5, 95, 10)).sum() / 9


def test_vectors_are_heard_again() -> None:
    """What codes stand for, and the way back."""
    rng = np.random.default_rng(3)
    track = np.zeros((80, flite.WIDTH), np.float32)
    track[:, 0], track[:, 1:6], track[:, 6] = 120, 0.8, 6
    track[:, 7:14] = rng.normal(0, 0.3, 7)
    track[:40, 0] = 0
    found = features.at_times(track, 1 / 32768, render.hop_times(6, 0.0), 1.0)
    rows = features.vectors(found, 1.0)
    assert rows.shape == (6, features.WIDTH)
    spectrum, _, strengths, turns = features.heard(rows)
    assert turns.tolist() == found.turns.tolist() == [10] * 6  # 9.6 periods of 120 Hz in 80 ms
    assert np.allclose(strengths, found.strengths * found.voiced[:, None], atol=1e-5)
    f = np.fft.rfftfreq(vocoder.SIZE, 1 / 24000)
    band = (f > 100) & (f < 7000)
    error = spectrum.real[:70, band] - found.spectrum(1.0).real[:70, band]
    assert np.abs(error).mean() < 0.15
    assert found.cepstra[-1, 0] < -10  # silence beyond the end


def test_crops_pair_the_original_with_what_is_wanted(work: Path) -> None:
    held = render.Renderings(work, 3)
    assert held.train == [1, 2, 4, 5] and held.validation == [0, 3]
    entry = held.entries[1]
    crop = held.crop(1, 2, 4)
    assert crop.wanted.shape == crop.original.shape == (4 * 1920,) and crop.vectors.shape == (4, features.WIDTH)
    whole = held.crop(1, 0, entry.frames)
    assert np.array_equal(whole.wanted[2 * 1920 : 6 * 1920], crop.wanted)
    assert np.abs(whole.original[2 * 1920 + 200 : 6 * 1920 - 200] - crop.original[200:-200]).max() < 0.02
    assert whole.begins and not crop.begins
    onset = int(entry.onset * 24000)
    assert np.abs(whole.original[: max(0, onset - 40)]).max(initial=0) < 0.02
    assert np.abs(whole.original[onset + 200 : onset + 2000]).max() > 0.05


def test_codebooks_leave_less_and_less() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 20)) + 2
    rows[:, -1] = rng.normal(size=400)  # the pitch goes its own way
    x = torch.from_numpy(rows.astype(np.float32))
    books = codebooks.build(x, 5, 16, 4, 4, 1)
    found = books.components(x)
    assert (found @ books.basis.T + books.mean - x).abs().max() < 1e-3  # five dimensions need five components
    given = books.codes(found)
    lost = [(found - books.rows(given[None], torch.tensor([n]))[1][0]).square().mean().item() for n in range(4)]
    assert lost == sorted(lost, reverse=True) and lost[3] < 0.3 * lost[0]
    pitch = torch.zeros(1, 20)
    pitch[0, -1] = 5.0
    assert (pitch @ books.basis @ books.semantic).norm() < 0.3 * (pitch @ books.basis).norm()
    sung = codebooks.build(x, 5, 16, 4, 5, 1, melody=0.5)
    assert abs((pitch @ sung.basis @ sung.semantic).norm() - 2.5) < 0.6


def test_references_are_as_long_as_asked(work: Path) -> None:
    """However short the speaker's utterances are."""
    coded = Coded(work, tiny_config())
    for frames in (1, 40, 300):
        assert coded.reference(1, frames, np.random.default_rng(frames)).shape == (frames, 5)


def test_places_in_the_text() -> None:
    """Within a word the place moves evenly; in the silence before a word it waits."""
    entry = data.Entry("a cat.", "rms", 0, 16000, [["pau", 0.2], ["ax", 0.3], ["pau", 0.5], ["k", 0.8]], [])
    entry.words = [["a", 0.3], ["cat", 0.8]]
    found = codes.places(entry, np.array([0.25, 0.5, 0.65, 0.8]))
    assert np.allclose(found, [1.5, 3.0, 4.5, 6.0], atol=1e-3)
    entry.words = [["a", 0.3]]
    assert codes.places(entry, np.array([0.5])) is None


def test_batches_depend_on_the_seed_alone(work: Path) -> None:
    held = render.Renderings(work, 3)
    a, b, c = (held.draw(held.train, 5, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(a.wanted, b.wanted) and np.array_equal(a.original, b.original)
    assert not np.array_equal(a.wanted, c.wanted)


def test_spectral_loss_knows_phase_and_level() -> None:
    """Nothing for equal waves; log 2 between levels at twice the amplitude; phase counts where speech is tonal."""
    torch.manual_seed(1)
    wave, tonal = 0.1 * torch.randn(1, 4800), torch.ones(1, 40)
    complex_, level = spectral_loss(wave, wave, tonal, 256)
    assert complex_ < 0.02 and level < 1e-6
    complex_, level = spectral_loss(2 * wave, wave, tonal, 256)
    assert 0.7 < complex_ < 1.1 and abs(level.item() - np.log(2)) < 1e-2
    complex_, level = spectral_loss(-wave, wave, tonal, 256)
    assert complex_ > 1.4 and level < 1e-6
    assert spectral_loss(0 * wave, wave, tonal, 256)[1] > 3
    tonal[:, 20:] = 0
    half = torch.cat((wave[:, :2400], -wave[:, 2400:]), 1)
    assert spectral_loss(half, wave, tonal, 256)[0] < 0.2 < 1 < spectral_loss(half, wave, 1 - tonal, 256)[0]


def test_texts_are_deterministic_and_never_held_out() -> None:
    cfg = load_config(None, ("data.word_lists=[]",)).data
    texts = [sentences.sentence(i, cfg) for i in range(200)]
    assert texts == [sentences.sentence(i, cfg) for i in range(200)]
    assert len(set(texts)) > 180 and max(map(len, texts)) <= cfg.longest
    forbidden = sentences.forbidden()
    assert len(sentences.held_out()) == 100 and len(forbidden) > 150 and not forbidden & set(map(comparable, texts))
    categories, templates = sentences.grammar()
    for template in templates:
        assert set(sentences.SLOT.findall(template)) <= {*categories, "word"}, template
    assert not forbidden & set(map(comparable, templates))


def test_the_decoder_can_be_tuned_on_predicted_codes(copy: Path) -> None:
    """`predict` computes what Sopro finds, whatever interrupted it; the second leg says that instead of the data."""
    cfg = tiny_config()
    sopro_trainer(cfg, copy).run()
    DecoderTrainer(cfg, copy).export()
    predict.make(cfg, copy)
    path = copy / "predicted" / "codes.u16"
    whole = path.read_bytes()
    index = copy / "predicted" / "index.jsonl"
    index.write_text("".join(index.read_text().splitlines(True)[:2]))
    path.write_bytes(whole[:100])
    predict.make(cfg, copy)
    assert path.read_bytes() == whole
    first, entry = DecoderTrainer(cfg, copy), render.Renderings(copy, 3).entries[2]
    cfg.decoder.folder, cfg.decoder.init_from, cfg.decoder.predicted = "tuned", "decoder", 1.0
    tuned = DecoderTrainer(cfg, copy)
    assert tuned.predicted is not None and len(tuned.predicted) == tuned.held.frames
    rows = torch.from_numpy(tuned.held.vectors[entry.start : entry.start + entry.frames].astype(np.float32))
    true, found = tuned.books.codes(tuned.books.components(rows)), tuned.predicted[entry.start :][: entry.frames]
    assert np.array_equal(found[:, 0], true[:, 0]) and not np.array_equal(found, true)  # the first codebook is given
    assert torch.equal(tuned.modules[0][0].weight, first.modules[0][0].weight)
    asked = [t.losses(t.held.train, np.random.default_rng(1), 2)["mel"].item() for t in (first, tuned)]
    assert asked[0] != asked[1]
    path.write_bytes(whole[:-40])
    with pytest.raises(SystemExit, match="predict"):
        DecoderTrainer(cfg, copy)


def test_what_was_made_from_something_else_is_made_anew(tmp_path: Path) -> None:
    column = Column("a.u16", np.uint16, 2)
    for source, expected in (("one", 3), ("one", 6), ("two", 3)):
        with Growing(tmp_path, "n", column, source=source) as files:
            for _ in range(3):
                files.add({"n": 1}, np.full(2, files.count))
            assert files.count == files.total == expected
        assert np.fromfile(tmp_path / "a.u16", np.uint16).tolist() == [i for i in range(expected) for _ in range(2)]


@needs_flite
def test_embedded_voices_are_flites_codes(copy: Path) -> None:
    cfg = tiny_config()
    EncoderTrainer(cfg, copy).export()
    DecoderTrainer(cfg, copy).export()
    sopro_trainer(cfg, copy).run()
    assemble(cfg, copy)
    cfg.embed.folder, cfg.embed.voices = str(copy / "assets"), {"low": ["rms", 0.9]}
    embed(cfg, copy)
    tts = open_model(copy / "assets" / "demo.safetensors", threads=1)
    voice = tts.load_voice(copy / "assets" / "low.voice.safetensors")
    assert 40 < len(voice.codes) < 80  # about 5 s
    assert len(tts.synthesize("a cat.", voice=voice, max_frames=5, seed=1)) % 1920 == 0


@needs_flite
def test_interrupted_data_are_the_same_data(tmp_path: Path) -> None:
    cfg = load_config(None, ("data.utterances=3", "data.word_lists=[]"))
    for name in ("whole", "cut"):
        data.make(cfg, tmp_path / name)
        cfg.data.utterances = 2
    for name, junk in (("audio.i16", b"xx"), ("track.f16", b"yy"), ("index.jsonl", b'{"text": "unfin')):
        with open(tmp_path / "cut" / "data" / name, "ab") as file:
            file.write(junk)
    cfg.data.utterances = 3
    data.make(cfg, tmp_path / "cut")
    for name in ("audio.i16", "track.f16", "index.jsonl"):
        whole, cut = (tmp_path / folder / "data" / name for folder in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes(), name
    corpus = data.Corpus(tmp_path / "cut" / "data", 50)
    assert corpus.validation == [0] and corpus.train == [1, 2]
    assert 0.005 < corpus.samples(1).std() < 0.5
    pitch = corpus.track(1)[:, 0]
    assert 50 < np.median(pitch[pitch > 0]) < 300


def test_every_stage_is_there() -> None:
    for module, function in STAGES.values():
        assert callable(getattr(importlib.import_module(f"tools.train.{module}"), function))


def test_word_error_rate_is_of_all_words() -> None:
    pairs = [("The cat sat.", "the cat sat"), ("the cat sat", "a cat sat down"), ("the cat", "")]
    assert word_error_rate(pairs) == (0 + 2 + 2) / 8


def test_a_finished_model_is_measured_without_having_trained_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`evaluate` needs no work folder; a recogniser that hears everything finds no errors, opinions are averaged."""
    texts = iter(sentences.held_out()[:2])
    monkeypatch.setitem(asr.RECOGNISERS, "pocketsphinx", lambda: lambda wav, rate: next(texts))
    monkeypatch.setitem(evaluate.OPINIONS, "seconds", lambda: lambda wav, rate: len(wav) / rate)
    monkeypatch.setattr(evaluate, "source", lambda text, voice, shift: np.ones(2400, np.float32))
    monkeypatch.setattr(evaluate, "pitch_track", lambda wav, rate: np.full(3, 100.0))
    settings = ('evaluate.voices=["rms"]', 'evaluate.conditions=["source"]', "evaluate.sentences=2")
    settings += ('evaluate.opinions=["seconds"]',)
    evaluate.evaluate(load_config(None, settings), tmp_path / "work")
    assert json.loads((tmp_path / "work" / "evaluation.json").read_text()) == {
        "source rms 1 2": {"pocketsphinx": 0.0, "seconds": 0.1, "pitch": 100.0}
    }
