"""The training recipe at toy size: resuming, determinism, and its checkpoints in the ordinary converter and engine."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import assert_close

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from sopro_np.convert.convert import convert  # noqa: E402
from sopro_np.convert.recipe import load_recipe  # noqa: E402
from sopro_np.engine import load  # noqa: E402
from tools.train import codes, data, flite, sentences  # noqa: E402
from tools.train.__main__ import STAGES  # noqa: E402
from tools.train.asr import word_error_rate  # noqa: E402
from tools.train.codec import Trainer, train  # noqa: E402
from tools.train.config import load_config  # noqa: E402
from tools.train.crops import Crops, delayed, draw  # noqa: E402
from tools.train.export import export  # noqa: E402
from tools.train.mimi import decode_features, decode_hidden, decode_wave, encode, load_model  # noqa: E402
from tools.train.phase import frame_phase  # noqa: E402
from tools.train.sopro import Trainer as SoproTrainer  # noqa: E402
from tools.train.sopro import train as train_sopro  # noqa: E402
from tools.train.spectra import spectral_loss  # noqa: E402
from tools.train.tokenizer import encode as encode_text  # noqa: E402

needs_flite = pytest.mark.skipif(not flite.available(), reason="flite's library is not installed (Debian: flite)")
TINY = {
    "num_filters": 2, "hidden_size": 16, "upsample_groups": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 16, "codebook_size": 16, "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8,
}  # fmt: skip
TINY_SOPRO = {
    "codebook_size": 16, "d_model": 16, "n_layers_text": 1, "n_layers_ar": 2, "n_layers_nar": 1, "nar_head_dim": 8,
    "sv_student_dim": 8, "pos_emb_max": 64,
}  # fmt: skip


def tiny_config(**codec: object) -> SimpleNamespace:
    settings = {
        "batch": 2,
        "seconds": 0.4,
        "unquantised_steps": 2,
        "warmup": 2,
        "waveform_from": 1,
        "codes_until": 3,
        "delay": 960,
        "steps": 4,
        "bfloat16": False,
    }
    settings |= {"weights.predict": 0.1} | {f"mimi.{k}": v for k, v in TINY.items()} | codec
    return load_config(None, tuple(f"codec.{k}={json.dumps(v)}" for k, v in settings.items()))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder whose corpus is six chirps."""
    folder = tmp_path_factory.mktemp("train")
    (folder / "data").mkdir()
    time = np.arange(16000) / 16000
    with open(folder / "data" / "index.jsonl", "w") as index:
        for i in range(6):
            phones = [["pau", 0.2], ["aa", 0.6], ["s", 1.0]]
            index.write(json.dumps(vars(data.Entry("a", "rms", i * 16000, 16000, phones))) + "\n")
    chirps = np.concatenate([np.sin(2 * np.pi * (100 + 20 * i) * time * (1 + 0.1 * time)) for i in range(6)])
    (chirps * 8000).astype(np.int16).tofile(folder / "data" / "audio.i16")
    np.full(6 * 200, 110, np.float16).tofile(folder / "data" / "pitch.f16")
    return folder


def trainer(cfg: SimpleNamespace, work: Path, folder: Path) -> Trainer:
    return Trainer(cfg.codec, folder, data.Corpus(work / "data", cfg.data.validation_every))


def test_resumed_training_gives_the_same_weights(work: Path, tmp_path: Path) -> None:
    cfg = tiny_config()
    whole = trainer(cfg, work, tmp_path / "whole")
    for _ in range(4):
        whole.train_step()
    first = trainer(cfg, work, tmp_path / "cut")
    for _ in range(3):
        first.train_step()
    first.checkpoints.save(first.step)
    second = trainer(cfg, work, tmp_path / "cut")
    assert second.step == 3
    second.train_step()
    for (name, a), b in zip(whole.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_trained_codec_goes_through_the_converter(work: Path, tmp_path: Path) -> None:
    """The saved folder: transformers computes what the trainer computes, and the engine what transformers does."""
    cfg = tiny_config()
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "data").symlink_to(work / "data")
    train(cfg, folder)
    convert(tmp_path / "codec.safetensors", load_recipe("fp32"), mimi=folder / "codec" / "mimi")
    engine = load(tmp_path / "codec.safetensors", threads=1)
    model = load_model(folder / "codec" / "mimi").eval()
    wave = torch.from_numpy(np.random.default_rng(1).normal(0, 0.1, (1, 1920 * 5)).astype(np.float32))
    with torch.inference_mode():
        z = encode(model, wave)
        x = model.encoder_transformer(model.encoder(wave[:, None]).transpose(1, 2))[0]
        assert_close("latents", z.numpy(), model.downsample(x.transpose(1, 2)).numpy())
        codes = model.encode(wave[:, None]).audio_codes
        expected = model.decode(codes).audio_values[0, 0].numpy()
        hidden = decode_hidden(model, model.quantizer.decode(codes))
        ours = decode_wave(model, decode_features(model, hidden))[0].numpy()
    assert_close("trainer's waveform", ours, expected)
    assert np.array_equal(engine.mimi.encode(wave[0].numpy()), codes[0].T.numpy())
    assert_close("engine's waveform", engine.decode(codes[0].T.numpy()), expected)
    export(cfg, folder)
    convert(tmp_path / "half.safetensors", load_recipe("fp32"), mimi=folder / "export" / "codec")
    assert_close("half precision", load(tmp_path / "half.safetensors").decode(codes[0].T.numpy()), expected, 1e-2)
    other = trainer(tiny_config(init_from=str(folder / "export" / "codec")), work, tmp_path / "next")
    assert other.step == 0 and other.rounding
    assert torch.equal(other.model.upsample.conv.weight, model.upsample.conv.weight.half().float())


def test_trained_sopro_goes_through_the_converter(work: Path, tmp_path: Path) -> None:
    """Codes, training cut in two, and a file of codec, Sopro and tokenizer that speaks."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "data").symlink_to(work / "data")
    settings = {"steps": 2, "batch": 2, "reference_frames": [3, 6], "shifts": [0.9], "init_from": ""}
    settings |= {f"model.{k}": v for k, v in TINY_SOPRO.items()}
    cfg = tiny_config()
    cfg.sopro = load_config(None, tuple(f"sopro.{k}={json.dumps(v)}" for k, v in settings.items())).sopro
    train(cfg, folder)
    codes.make(cfg, folder)
    whole = (folder / "codes" / "codes.u16").read_bytes()
    (folder / "codes" / "codes.u16").write_bytes(whole + b"junk")
    codes.make(cfg, folder)
    assert (folder / "codes" / "codes.u16").read_bytes() == whole
    coded = codes.Coded(folder, cfg)
    cut = SoproTrainer(cfg.sopro, tmp_path / "cut", coded)
    cut.train_step()
    cut.checkpoints.save(cut.step)
    cut = SoproTrainer(cfg.sopro, tmp_path / "cut", coded)
    cut.train_step()
    train_sopro(cfg, folder)
    convert(
        tmp_path / "model.safetensors", load_recipe("int8"), folder / "sopro" / "model.safetensors",
        folder / "codec" / "mimi", folder / "sopro" / "tokenizer",
    )  # fmt: skip
    trained = SoproTrainer(cfg.sopro, folder / "sopro", coded)
    assert trained.step == 2
    for (name, a), b in zip(trained.model.state_dict().items(), cut.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    tts = load(tmp_path / "model.safetensors", threads=1)
    assert tts.tokenizer.encode("A cat?").tolist() == encode_text(trained.tokenizer, "A cat?")
    voice = tts.voice_from_codes(coded.codes(1).numpy())
    assert len(tts.synthesize("a cat.", voice=voice, max_frames=5, seed=1)) % 1920 == 0


def test_places_in_the_text() -> None:
    """Within a word the place moves evenly; in the silence before a word it waits."""
    entry = data.Entry("a cat.", "rms", 0, 16000, [["pau", 0.2], ["ax", 0.3], ["pau", 0.5], ["k", 0.8]], [])
    entry.words = [["a", 0.3], ["cat", 0.8]]
    found = codes.places(entry, np.array([0.25, 0.5, 0.65, 0.8]))
    assert np.allclose(found, [1.5, 3.0, 4.5, 6.0], atol=1e-3)
    entry.words = [["a", 0.3]]
    assert codes.places(entry, np.array([0.5])) is None


def test_batches_depend_on_the_seed_alone(work: Path) -> None:
    cfg = tiny_config()
    corpus = data.Corpus(work / "data", 50)
    a, b, c = (draw(corpus, corpus.train, cfg.codec, np.random.default_rng(s), 3) for s in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a.wave, c.wave)
    assert a.wave.shape == (3, 9600) and a.phones.shape == (3, 20) and a.pitch.shape == (3, 40)


def test_delay_shifts_all_targets_alike() -> None:
    crops = Crops(torch.ones(1, 9600), torch.ones(1, 20, dtype=torch.long), torch.ones(1, 40))
    for part, silent in zip(delayed(crops, 960), (960, 2, 4), strict=True):
        assert not part[0, :silent].any() and part[0, silent:].all()


def test_frame_phase_makes_whole_turns() -> None:
    pitch = torch.tensor([[0.0] * 3 + [110.0] * 5 + [0.0] * 8])
    wave, voiced = frame_phase(pitch)
    turns = torch.atan2(wave[0, :40, 1], wave[0, :40, 0]).numpy() / (2 * np.pi)
    steps = np.diff(np.unwrap(turns, period=1))
    assert np.allclose(steps, 9 / 40, atol=1e-5)  # 110 Hz makes 8.8 periods of 80 ms: 9
    assert abs(turns[0] - 4.5 / 40) < 1e-5  # the first one starts with the frame
    assert voiced[0].tolist() == [0.0] * 15 + [1.0] * 25 + [0.0] * 40


def test_spectral_loss_and_its_gradient() -> None:
    """Nothing for equal waves, log 2 for twice the amplitude; the handwritten gradient is the numerical one."""
    torch.manual_seed(1)
    wave = torch.randn(1, 640)
    assert spectral_loss(wave, wave, 256)[0] < 1e-6
    for loss in spectral_loss(2 * wave, wave, 256):
        assert abs(loss.item() - np.log(2)) < 1e-3
    x, step = wave.clone().requires_grad_(), torch.randn(1, 640)
    spectral_loss(x, wave.roll(7), 256)[0].backward()
    high, low = (spectral_loss(wave + e * step, wave.roll(7), 256)[0].item() for e in (1e-3, -1e-3))
    assert abs((x.grad * step).sum().item() - (high - low) / 2e-3) < 2e-2


def test_texts_are_deterministic_and_never_held_out() -> None:
    cfg = load_config(None, ("data.word_lists=[]",)).data
    texts = [sentences.sentence(i, cfg) for i in range(200)]
    assert texts == [sentences.sentence(i, cfg) for i in range(200)]
    assert len(set(texts)) > 180 and max(map(len, texts)) <= cfg.longest
    forbidden = sentences.forbidden()
    assert len(forbidden) == 100 and not forbidden & set(map(sentences.normalise, texts))
    categories, templates = sentences.grammar()
    for template in templates:
        assert set(sentences.SLOT.findall(template)) <= set(categories), template
    assert not forbidden & set(map(sentences.normalise, templates))


@needs_flite
def test_interrupted_data_are_the_same_data(tmp_path: Path) -> None:
    cfg = load_config(None, ("data.utterances=3", "data.word_lists=[]"))
    for name in ("whole", "cut"):
        data.make(cfg, tmp_path / name)
        cfg.data.utterances = 2
    for name, junk in (("audio.i16", b"xx"), ("pitch.f16", b"yy"), ("index.jsonl", b'{"text": "unfin')):
        with open(tmp_path / "cut" / "data" / name, "ab") as file:
            file.write(junk)
    cfg.data.utterances = 3
    data.make(cfg, tmp_path / "cut")
    for name in ("audio.i16", "pitch.f16", "index.jsonl"):
        whole, cut = (tmp_path / folder / "data" / name for folder in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes(), name
    corpus = data.Corpus(tmp_path / "cut" / "data", 50)
    assert corpus.validation == [0] and corpus.train == [1, 2]
    assert 0.005 < corpus.samples(1).std() < 0.5
    assert 50 < np.median(corpus.pitches(1)[corpus.pitches(1) > 0]) < 300


def test_every_stage_is_there() -> None:
    for module, function in STAGES.values():
        assert callable(getattr(importlib.import_module(f"tools.train.{module}"), function))


def test_word_error_rate_is_of_all_words() -> None:
    pairs = [("The cat sat.", "the cat sat"), ("the cat sat", "a cat sat down"), ("the cat", "")]
    assert word_error_rate(pairs) == (0 + 2 + 2) / 8
