"""A neural teacher's voice at toy size: texts, analysis, rendering, shards; the teacher where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sopro_np.evaluate.spelling import comparable  # noqa: E402
from tools.train import asr  # noqa: E402
from tools.train.codebooks import Codebooks, build  # noqa: E402
from tools.train.codec import assemble  # noqa: E402
from tools.train.config import load_config  # noqa: E402
from tools.train.growing import read_index  # noqa: E402
from tools.train.sentences import SLOT, forbidden, grammar, held_out  # noqa: E402
from tools.train.sopro import SoproTrainer  # noqa: E402
from tools.train.taught import (  # noqa: E402
    analysis,
    codebooks,
    coded,
    embed,
    features,
    guess,
    hear,
    hibari,
    judge,
    pitch,
    predict,
    render,
    speakers,
    teach,
    texts,
    voice,
    wordnet,
)
from tools.train.vocoder import FRAME, HOPS, RATE  # noqa: E402

HOP = FRAME // analysis.SUB


def config(*overrides: str) -> SimpleNamespace:
    """Without lists that may not be installed."""
    return load_config(None, ("texts.word_lists=[]", *overrides))


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """WordNet's place taken by four examples, one of them held out."""
    found = "a cat sat", "dogs bark at night", f"well, {held_out()[3]}", "cold rain fell"
    monkeypatch.setitem(texts.FINITE, "example", lambda: found)
    monkeypatch.setitem(texts.FINITE, "definition", lambda: found[:1])
    monkeypatch.setattr(wordnet, "available", lambda: True)
    monkeypatch.setattr(texts, "clauses", lambda: np.array(["she said so", f"and {held_out()[5]}"]))
    return found


def test_texts_follow_from_their_number_and_are_never_held_out(three: tuple[str, ...]) -> None:
    cfg = config().texts
    found = [texts.text(i, cfg) for i in range(400)]
    assert found == [texts.text(i, cfg) for i in range(400)]
    assert sum(cfg.shares.values()) == texts.PATTERN
    kinds = [kind for kind, _ in found]
    assert {kind: kinds.count(kind) for kind in cfg.shares if kind not in ("example", "definition", "grammar")} == {
        kind: 4 * share for kind, share in cfg.shares.items() if kind not in ("example", "definition", "grammar")
    }
    assert sorted(text for kind, text in found if kind == "example") == [
        "A cat sat.",
        "Cold rain fell.",
        "Dogs bark at night.",
    ]
    plain = [f" {comparable(text)} " for _, text in found]
    assert not any(f" {sentence} " in text for text in plain for sentence in forbidden())
    assert all(text[0].isupper() and text[-1] in ".?!" and not any(c.isdigit() for c in text) for _, text in found)
    lengths = {len(text.split()) for text in plain}
    assert min(lengths) == 1 and max(lengths) <= cfg.longest_words and len(lengths) > 20


def test_a_held_out_sentence_inside_a_text_forbids_it() -> None:
    cfg = config().texts
    assert texts.allowed("We went home.", cfg)
    assert not texts.allowed(f"He asked, {held_out()[1].upper()} Nobody knew.", cfg)
    assert not texts.allowed("word " * 31, cfg) and not texts.allowed("a" * 201, cfg)


def test_templates_have_their_slots_filled_and_ask_where_they_ask() -> None:
    known, rng = {*grammar()[0], *texts.spoken(), "word", "Name"}, np.random.default_rng(1)
    templates = [t for kind in ("asked", "short", "called") for t in texts.spoken()[kind]]
    assert all(set(SLOT.findall(template)) <= known for template in templates)
    assert all(template.endswith("?") for template in texts.spoken()["asked"])
    assert not any(
        "{" in texts.drawn(kind, rng, ()) for kind in ("asked", "short", "called", "long") for _ in range(50)
    )


def test_writing() -> None:
    assert texts.written("what did i say?") == "What did I say?"
    assert texts.written("so it goes ;", "!") == "So it goes!"


def test_stage_texts_goes_on_where_it_stopped(three: tuple[str, ...], tmp_path: Path) -> None:
    for count in (7, 30):
        texts.make(config(f"texts.utterances={count}"), tmp_path / "a")
    texts.make(config("texts.utterances=30"), tmp_path / "b")
    assert read_index(tmp_path / "a" / "texts") == read_index(tmp_path / "b" / "texts")
    texts.make(config("texts.utterances=30", "texts.seed=8"), tmp_path / "a")
    assert read_index(tmp_path / "a" / "texts") != read_index(tmp_path / "b" / "texts")


def test_glosses_are_taken_apart() -> None:
    gloss = '(music) a short tune (or part of one) , often sung; "she hummed a tune"; "sweet tunes"- John Keats'
    assert wordnet.parsed("noun", "little_tune(p)", gloss) == (
        "noun", "little tune", "a short tune, often sung", ("she hummed a tune",)
    )  # fmt: skip


@pytest.mark.skipif(not wordnet.available() or not texts.SCOWL.exists(), reason="Debian: wordnet-base, scowl")
def test_wordnet_is_clean() -> None:
    examples, definitions = wordnet.examples(), wordnet.definitions()
    assert len(examples) > 35000 and len(definitions) > 80000
    assert not any(c.isdigit() or c in '"()[]' for text in (*examples[::50], *definitions[::50]) for c in text)


def sung(hertz: float, seconds: float = 1.0) -> np.ndarray:
    """Pulses through a formant of 600 Hz and one of 2400 Hz, as loud as a voice."""
    from scipy.signal import lfilter

    out = np.zeros(int(seconds * RATE))
    out[np.arange(0, len(out), RATE / hertz).astype(int)] = np.sqrt(RATE / hertz)
    for centre, width in ((600, 120), (2400, 250)):
        radius = np.exp(-np.pi * width / RATE)
        out = lfilter([0.1], [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2], out)
    return out


def test_levels_do_not_depend_on_the_pitch() -> None:
    found = []
    for hertz in (140.0, 210.0):
        levels, voicing = analysis.analyse(sung(hertz), np.zeros(RATE), np.full(80, hertz), 240)
        assert voicing[10:70].min() > 0.999
        found.append(levels[10:70].mean(0))
    inside = (analysis.points() > 200) & (analysis.points() < 6000)
    apart = np.abs(found[0] - found[1])[inside]
    assert apart.mean() < 0.1 and apart.max() < 0.5  # at the top of a formant that is narrower than harmonics are apart


def test_noise_of_variance_one_has_level_nought() -> None:
    noise = np.random.default_rng(1).standard_normal(RATE * 2)
    levels, voicing = analysis.analyse(np.zeros(RATE * 2), noise, np.zeros(160), 240)
    assert abs(levels.mean() + 0.1) < 0.1 and voicing.max() == 0  # the mean of a logarithm is below that of the power
    assert np.isfinite(analysis.analyse(np.zeros(RATE), np.zeros(RATE), np.zeros(80), 240)[0]).all()


def test_pitch_is_read_without_mixing_voiced_and_unvoiced() -> None:
    found = analysis.pitch_at(np.array([0, 0, 200, 220, 0.0]), 300, 7, 225)
    assert set(np.flatnonzero(found)) == {3, 4} and 200 <= found[found > 0].min() <= found.max() <= 220
    assert analysis.pitch_at(np.array([200.0]), 300, 9, 225)[2:].max() == 0


def test_phase_is_whole_where_frames_begin_and_bends_follow_a_glide() -> None:
    glide = np.linspace(150, 260, 6 * analysis.SUB)
    periods = pitch.turns(glide)
    bent = pitch.bends(glide, periods)
    phase = pitch.phase(periods, bent)
    assert np.allclose(phase[::FRAME], np.round(phase[::FRAME])) and np.all(np.diff(phase) > 0)
    straight = np.abs(pitch.cents(periods, 0 * bent, glide)).max()
    assert np.abs(pitch.cents(periods, bent, glide)).max() < 65 < straight  # half a period of 12 is 70 cents
    most = pitch.phase(np.full(4, 10.0), np.array([[a, b] for a in (-1, 1) for b in (-1, 1)]) * pitch.MOST)
    assert np.all(np.diff(most) > 0)
    assert pitch.turns(np.zeros(16)).tolist() == [pitch.SILENT] * 2


def parameters(frames: int = 10, hertz: float = 187.5) -> voice.Parameters:
    """A sung vowel, then a hiss."""
    levels, _ = analysis.analyse(sung(hertz), np.zeros(RATE), np.full(frames * 8, hertz), 240)
    voicing = np.repeat([[1.0], [0.0]], frames * 4, 0) * np.ones(analysis.BANDS)
    return voice.Parameters(levels, voicing, np.full(frames, round(hertz * 0.08)), np.zeros((frames, 2)))


def test_what_is_said_has_the_levels_it_was_made_of() -> None:
    given = parameters()
    wave = voice.speech(given)
    assert wave.dtype == np.float32 and len(wave) == 10 * FRAME and np.array_equal(wave, voice.speech(given))
    assert abs(wave[: 5 * FRAME].mean()) < 1e-3 * np.abs(wave).max()
    again, _ = analysis.analyse(wave, 0 * wave, np.repeat([187.5, 0.0], 40), HOP)
    inside = (analysis.points() > 200) & (analysis.points() < 6000)
    assert np.abs(again - given.levels)[10:30, inside].mean() < 0.15
    assert np.abs((again - given.levels)[45:75, inside].mean()) < 0.25
    period = np.correlate(wave[FRAME : 2 * FRAME], wave[FRAME : 2 * FRAME], "full")[FRAME - 1 :]
    assert period[60:300].argmax() + 60 == 128
    other = voice.speech(given, np.zeros(10 * FRAME))
    assert np.abs(other[6 * FRAME : 9 * FRAME]).max() < 1e-6 < np.abs(wave[6 * FRAME : 9 * FRAME]).max()


def test_vectors_and_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SHARP", 1.0)
    rng, given = np.random.default_rng(1), parameters()
    given = given._replace(bends=rng.uniform(-0.2, 0.2, given.bends.shape), turns=rng.integers(5, 30, 10).astype(float))
    found = features.vectors(given)
    assert found.shape == (10, features.WIDTH)
    back = features.heard(found)
    assert np.array_equal(back.turns, given.turns) and np.allclose(back.bends, given.bends, atol=1e-5)
    assert np.allclose(back.voicing, given.voicing, atol=1e-5)
    loud = given.levels > np.log(4 * features.FLOOR)
    assert np.abs(back.levels - given.levels)[loud].mean() < 0.1


class Teacher:
    """Says every letter for two steps; a text of more than one sentence it does not say."""

    def phonemes(self, text: str) -> str:
        return "" if "." in text[:-1] else text.lower()

    def say(self, phonemes: str, speed: float = 1.0) -> hibari.Spoken:
        durations = np.array([7, *[2] * len(phonemes), 2])
        hops = int(durations.sum()) * 2
        spectra = np.zeros((5, 601, hops), np.float32)
        return hibari.Spoken(*spectra, np.full(hops, 200, np.float32), f"|{phonemes}|", durations)


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A work folder with texts, and the toy teacher in the other's place."""
    monkeypatch.setattr(hibari, "Hibari", Teacher)
    monkeypatch.setattr(
        hibari, "branches", lambda said: (sung(200, len(said.pitch) / 80), 0 * sung(200, len(said.pitch) / 80))
    )
    (tmp_path / "texts").mkdir()
    lines = [
        {"kind": "toy", "text": t, "words": 1, "start": i}
        for i, t in enumerate(("ab.", "a. b.", "abcde.", "b.", "abc."))
    ]
    (tmp_path / "texts" / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_lessons_grow_in_shards_and_speech_begins_with_a_frame(taught: Path) -> None:
    for count in (3, 5):
        teach.make(config(f"teacher.utterances={count}", "teacher.shard=2"), taught)
    lessons = teach.Lessons(taught / "teacher" / "heart")
    assert [entry["text"] for _, entry in lessons.entries] == ["ab.", "a. b.", "abcde.", "b.", "abc."]
    assert [lesson.frames for lesson in lessons] == [4, 0, 6, 3, 5]  # silence 3, letters 2 each, silence 2: in thirds
    first = lessons[0]
    assert first.durations.tolist() == [3, 2, 2, 2, 2] and first.symbols == "|ab.|"
    fresh = teach.taught(Teacher(), "ab.")
    assert fresh is not None and np.allclose(fresh.levels, first.levels, atol=0.01)
    assert np.allclose(fresh.voicing, first.voicing, atol=1 / 255)
    before = (taught / "teacher" / "heart" / "000" / "levels.f16").stat().st_mtime_ns
    teach.make(config("teacher.utterances=5", "teacher.shard=2"), taught)
    assert before == (taught / "teacher" / "heart" / "000" / "levels.f16").stat().st_mtime_ns


TINY = (
    "taught.codec.mimi.num_quantizers=3", "taught.codec.mimi.codebook_size=2", "taught.codec.mimi.codebook_dim=3",
    "taught.codec.mimi.vector_quantization_hidden_dimension=3", "taught.codec.semantic=2",
    "taught.speakers=[[0.6, 0.9, 1.0]]", "taught.data.validation_every=3", "taught.codec.frames=4",
    "taught.codec.bfloat16=false", "taught.decoder.batch=2", "taught.decoder.steps=3",
    "taught.decoder.acoustic_share=[0.5, 0.25, 0.25]", "taught.sopro.batch_frames=12", "taught.sopro.steps=3",
    "taught.sopro.reference_frames=[4, 8]", *(
        f"taught.codec.mimi.{name}={value}" for name, value in (
            ("num_filters", 4), ("num_residual_layers", 1), ("hidden_size", 8), ("upsample_groups", 8),
            ("num_hidden_layers", 1), ("num_attention_heads", 2), ("num_key_value_heads", 2), ("head_dim", 4),
            ("intermediate_size", 8),
        )
    ),
    *(
        f"taught.sopro.models.sopro_v15.{name}={value}" for name, value in (
            ("num_codebooks", 3), ("codebook_size", 2), ("d_model", 16), ("n_layers_text", 1), ("n_layers_ar", 2),
            ("n_layers_nar", 1), ("nar_head_dim", 8), ("stage_B", [2, 2]), ("stage_C", [3, 3]), ("stage_D", [4, 3]),
            ("stage_E", [4, 3]), ("sv_student_dim", 4),
        )
    ),
)  # fmt: skip


def learnt(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lessons of the toy teacher, and codebooks of them."""
    teach.make(config("teacher.utterances=5"), work)
    monkeypatch.setattr(codebooks, "UNSEEN", 1)
    codebooks.make(config(*TINY).taught, work)


@pytest.mark.parametrize("stage", [render, coded])
def test_networks_learn_from_lessons_and_go_on_where_they_stopped(
    stage: ModuleType, taught: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt(taught, monkeypatch)
    stage.make(config(*TINY).taught, taught)
    for steps in (2, 3):
        stage.train(config(*TINY, f"taught.decoder.steps={steps}", f"taught.sopro.steps={steps}").taught, taught)
    printed = capsys.readouterr().out
    assert "2/2" in printed and "3/3" in printed and printed.count("validation") == 2 and "nan" not in printed


def test_what_is_rendered_is_what_the_codes_say(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt(taught, monkeypatch)
    cfg = config(*TINY).taught
    render.make(cfg, taught)
    books, held = Codebooks.load(taught), render.Renderings(taught, 3, 3)
    entry = held.entries[2]
    codes = torch.from_numpy(held.rows[entry["start"] : entry["start"] + entry["frames"]].astype(np.int64))
    wave = (voice.speech(features.heard(books.said(codes).numpy())) * render.GAIN).clip(-1, 1)
    crop = held.draw([2], entry["frames"] + 2, np.random.default_rng(0))
    assert np.abs(crop.wanted[: len(wave)] - wave).max() < 1e-4 and not crop.wanted[len(wave) :].any()
    assert crop.codes.shape == (entry["frames"] + 2, 3) and crop.tonal.shape == ((entry["frames"] + 2) * HOPS,)


def test_what_was_learnt_becomes_a_model_with_its_voices(
    taught: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = config(*TINY, 'taught.embed.people={"clara": 0}', "taught.decoder.steps=1", "taught.sopro.steps=1")
    learnt(taught, monkeypatch)
    for stage in (render, coded):
        stage.make(cfg.taught, taught)
        stage.train(cfg.taught, taught)
    predict.make(cfg.taught, taught)
    found = np.fromfile(taught / "predicted" / "codes.u16", np.uint16).reshape(-1, 3)
    given = render.Renderings(taught, 3, 3).rows
    assert found.shape == given.shape and np.array_equal(found[:, 0], given[:, 0])  # the first codebook is given
    tuning = "taught.decoder.folder=tuned", "taught.decoder.init_from=decoder", "taught.decoder.predicted=1.0"
    render.train(config(*TINY, *tuning, "taught.decoder.steps=1").taught, taught)
    assemble(cfg.taught, taught)
    embed.embed(cfg.taught, taught)
    settings = (
        f"judge.model={json.dumps(str(taught / 'embed' / 'demo.safetensors'))}", "judge.sentences=1",
        'judge.conditions=["decoder", "decoder@0.6,0.9", "speech@clara"]', 'judge.recognisers=["stub"]',
    )  # fmt: skip
    monkeypatch.setitem(asr.RECOGNISERS, "stub", lambda: lambda wave, rate: str(len(wave)))
    for _ in range(2):  # a decoder may have learnt more since: it is heard again
        judge.judge(config(*TINY, *settings), taught)
    printed = capsys.readouterr().out
    assert "of the variance left" in printed and printed.count("decoder 1/1") == 2
    assert printed.count("judge: speech@clara: stub") == 2 and printed.count("judge: decoder") == 4
    assert "clara.voice.safetensors" in printed


def test_long_texts_are_several_held_out_sentences() -> None:
    assert judge.asked(3, 1) == [texts.written(text) for text in held_out()[:3]]
    first, second = held_out()[:2]
    assert judge.asked(3, 2)[0] == texts.written(f"{first.rstrip('.?!')}, and {second}")
    assert len(judge.asked(7, 3)) == 3


def test_gains_give_what_is_said_the_deviation_of_what_was_coded() -> None:
    x = torch.from_numpy(np.random.default_rng(1).normal(0, 1, (4000, 12)).astype(np.float32))
    books = build(x, 8, 4, 3, 4, 1, pitches=features.PITCHES)
    books.gains = codebooks.gains(books, x)
    deviations = books.said(books.codes(books.components(x))).std(0) / x.std(0)
    free = (books.gains > 1) & (books.gains < codebooks.MOST)
    assert free.sum() > 4 and np.allclose(deviations[free], 1, atol=0.01)
    assert (books.gains[-features.PITCHES :] == 1).all() and books.gains.max() <= codebooks.MOST


def test_a_speaker_has_its_formants_and_its_pitch_elsewhere() -> None:
    levels = -np.square((analysis.points()[None] - 2000) / 300)
    lesson = teach.Taught(levels, np.full((1, analysis.BANDS), 0.4), np.array([200.0]), "", np.zeros(0, int))
    moved = speakers.said_by(lesson, speakers.Speaker(0.6, 0.8))
    assert abs(analysis.points()[moved.levels[0].argmax()] - 1600) < 60 and moved.pitch[0] == 120
    assert np.allclose(moved.voicing, 0.4) and speakers.said_by(lesson, speakers.Speaker()) is lesson
    cfg = config().taught
    drawn = np.bincount([speakers.speaker_of(i, cfg) for i in range(2000)], minlength=len(cfg.speakers)) / 2000
    assert np.abs(drawn - [share for _, _, share in cfg.speakers]).max() < 0.03


def test_letters_are_placed_where_their_words_are_said() -> None:
    symbols = "|ab, cd ef.|"
    durations = np.array([3, 3, 3, 6, 3, 3, 6, 3, 3, 6, 3, 3])
    found = coded.places("Ab, cd-ef.", "Ab, cd ef.", symbols.replace(" ef", "ef"), np.delete(durations, 7), 14)
    assert np.isfinite(found).all() and found[1] < 3 and found[-1] > 10 and np.all(np.diff(found) >= 0)
    found = coded.places("Ab, cd ef.", "Ab, cd ef.", symbols, durations, 15)
    assert 1 <= found[1] < found[2] <= 3 and 5 <= found[6] <= 7 and 8 <= found[10] <= 10
    assert np.isnan(coded.places("Ab cd.", "Ab cd.", symbols, durations, 15)).all()


def test_codebooks_and_judges_of_a_toy_teacher(
    taught: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = *TINY, "guess.every=1", "guess.steps=3", "guess.validate_every=2", "guess.width=8"
    learnt(taught, monkeypatch)
    assert "lost of the variance" in capsys.readouterr().out
    guess.make(config(*small), taught)
    assert capsys.readouterr().out.count("unseen") == 4
    monkeypatch.setitem(asr.RECOGNISERS, "stub", lambda: lambda wave, rate: "the quick brown fox")
    monkeypatch.setitem(judge.OPINIONS, "rms", lambda: lambda wave, rate: float(np.sqrt(np.mean(wave**2))))
    settings = (
        "judge.sentences=1", 'judge.recognisers=["stub"]', 'judge.opinions=["rms"]', "judge.keep=true",
        'judge.conditions=["voice@0.6,0.9", "vectors+4", "codes", "codes1+random", "guess", "guessed"]',
    )  # fmt: skip
    judge.judge(config(*small, *settings), taught)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "judge: voice@0.6,0.9: stub 5 of 9 words wrong, 0.5556" and len(lines) == 12
    assert len(json.loads((taught / "judged.json").read_text())) == 6
    assert (taught / "judged" / "codes1+random" / "000.wav").stat().st_size > 10000
    with pytest.raises(SystemExit, match="no condition"):
        judge.judge(config(*small, 'judge.conditions=["nothing"]', "judge.recognisers=[]"), taught)


@pytest.mark.skipif(not hibari.available(), reason="hibari-tts or onnx is not installed")
def test_the_teacher_says_how_long_everything_takes() -> None:
    teacher = hibari.Hibari()
    said = teacher.say(teacher.phonemes("Hello there."))
    assert (
        len(said.symbols) == len(said.durations) and said.durations.sum() * hibari.STEP == len(said.pitch) * hibari.HOP
    )
    tonal, other = hibari.branches(said)
    exact = hibari.waveform(said)
    assert np.sum((tonal + other - exact) ** 2) < 0.02 * np.sum(exact**2)
    assert teacher.phonemes("One. Two.") == ""
    lesson = teach.taught(teacher, "Hello there.")
    assert lesson is not None and lesson.durations[0] == teach.STEPS
    sung = judge.melody(teacher)
    assert sung(exact, "Hello there.") > 0.99 > 0.9 > sung(exact[::-1].copy(), "Hello there.")
    assert sung(np.zeros(RATE), "Hello there.") == 0
    assert lesson.levels[:4].max() < lesson.levels[8:].max() - 3


@pytest.mark.skipif(not hibari.available(), reason="hibari-tts or onnx is not installed")
def test_an_encoder_hears_other_speakers_before_it_names_them(tmp_path: Path) -> None:
    teacher = hibari.Hibari()
    said = teacher.say(teacher.phonemes("Nobody knows."))
    late = 3 * hibari.HOP
    wave, found = hear.heard(hear.moved(said, speakers.Speaker(0.6, 0.9)), late)
    assert abs(np.sqrt(np.mean(wave**2)) - hear.LEVEL) < 0.01
    assert len(wave) == len(found) * FRAME and not wave[:late].any() and wave.any()
    own = features.heard(hear.heard(said, late)[1])
    sung = own.voicing.reshape(len(found), -1).max(1) > 0.9
    ratio = features.heard(found).turns[sung] / own.turns[sung]
    assert sung.sum() > 4 and abs(np.median(ratio) - 0.6) < 0.05
    silent = features.heard(found).levels.max(1) < np.log(0.01)
    assert silent[: late * analysis.SUB // FRAME].all()
    (tmp_path / "texts").mkdir()
    lines = [json.dumps({"text": t, "words": 1, "start": i}) for i, t in enumerate(("Yes.", "One. Two.", "No.", "Go."))]
    (tmp_path / "texts" / "index.jsonl").write_text("\n".join(lines) + "\n")
    cfg = config(*TINY, "taught.encoder.batch=2", "taught.encoder.steps=2").taught
    hear.make(cfg, tmp_path)
    held = hear.Hearings(tmp_path, 3)
    assert held.train == [2] and held.validation == [0, 3]
    vectors = torch.from_numpy(held.vectors[:].astype(np.float32))
    build(vectors, 3, 2, 3, 2, 1, pitches=features.PITCHES).save(tmp_path)
    hear.train(cfg, tmp_path)
    assert (tmp_path / "encoder" / "weights.pt").exists()


def test_settings_of_the_taught_voice_are_laid_over_the_others() -> None:
    cfg = load_config(None, ("taught.sopro.steps=5", "taught.sopro.dropout=0.3", "sopro.clip=7"))
    assert cfg.taught.sopro.steps == 5 != cfg.sopro.steps and cfg.taught.sopro.dropout == 0.3 != cfg.sopro.dropout
    assert cfg.taught.sopro.clip == cfg.sopro.clip == 7 and cfg.taught.speakers
    with pytest.raises(SystemExit, match="no such key"):
        load_config(None, ("taught.sopro.step=5",))


def sopro(work: Path, *settings: str) -> SoproTrainer:
    cfg = config(*TINY, *settings).taught
    return SoproTrainer(cfg.sopro, work / "sopro", coded.CodedLessons(work, 3, 248))


def test_every_utterance_is_seen_as_often_however_long(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt(taught, monkeypatch)
    coded.make(config(*TINY).taught, taught)
    trainer = sopro(taught, "taught.sopro.batch_frames=60")
    trainer.coded.entries = [{"frames": n} for n in (10, 10, 10, 10, 20, 40, 40, 10)] * 20
    trainer.by_length = sorted(range(160), key=lambda i: trainer.coded.entries[i]["frames"])
    trainer.until = np.cumsum([trainer.coded.entries[i]["frames"] for i in trainer.by_length])
    batches = [trainer.draw(np.random.default_rng(i)) for i in range(3000)]
    seen = np.bincount(np.concatenate(batches), minlength=160)
    lengths = np.array([e["frames"] for e in trainer.coded.entries])
    often = [seen[lengths == n].mean() for n in (10, 40)]
    assert 0.6 < often[1] / often[0] < 1.7  # batches of one size would see the short ones as often as the long ones ...
    assert max(sum(lengths[b]) for b in batches) <= 160 and min(map(len, batches)) >= 2  # ... at four times the cost


def test_who_missed_the_end_is_taught_to_stop_at_once(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt(taught, monkeypatch)
    coded.make(config(*TINY).taught, taught)
    trainer = sopro(taught, "taught.sopro.after=0.5", "taught.sopro.end=3", "taught.sopro.dropout=0")
    batch, end = trainer.batch([2, 4], np.random.default_rng(1)), trainer.model.eos
    assert batch.frames.tolist() == [6, 5]
    text, pool = trainer.batched.text(batch)
    cond = trainer.batched.condition(pool, batch.ref, 6)
    given = batch.codes[..., 0]
    found = trainer.batched.first_codes(batch, cond, given, text).loss
    repeated = given.clone()
    repeated[1, 5] = given[1, 4]
    shares = trainer.batched.ar(cond, repeated, text, batch.spoken)[0].log_softmax(-1)
    wanted = [[*given[0].tolist(), end], [*given[1, :5].tolist(), end, end]]
    weights = torch.tensor([[1.0] * 6 + [3.0], [1.0] * 5 + [3.0, 0.5]])
    errors = -shares.gather(2, torch.tensor(wanted)[..., None])[..., 0]
    assert torch.allclose(found, (errors * weights).sum() / weights.sum(), atol=1e-5)


def test_codes_alone_and_half_precision_are_enough_to_learn(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt(taught, monkeypatch)
    coded.make(config(*TINY).taught, taught)
    exact = sopro(taught, "taught.sopro.dropout=0")
    before = [exact.train_step() for _ in range(2)]
    (taught / "codes" / "components.f16").unlink()
    mixed = sopro(taught, "taught.sopro.dropout=0", "taught.sopro.mixed=true")
    after = [mixed.train_step() for _ in range(2)]
    for one, other in zip(before, after, strict=True):
        assert other["ar"] != one["ar"] and abs(other["ar"] / one["ar"] - 1) < 0.05
        assert all(map(np.isfinite, other.values()))
    codes = mixed.coded.codes(2)
    assert torch.equal(mixed.coded.components(2), mixed.books.rows(codes[None])[1][0])
    assert next(mixed.model.parameters()).dtype == torch.float32


def test_a_last_full_stop_may_be_missing(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt(taught, monkeypatch)
    coded.make(config(*TINY).taught, taught)
    lengths = [
        sopro(taught, f"taught.sopro.unfinished={share}").batch([2], np.random.default_rng(1)).lengths.item()
        for share in (0.0, 1.0)
    ]
    assert lengths == [len("abcde.") + 2, len("abcde") + 2]
