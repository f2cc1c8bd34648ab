"""Teacher-forced comparison and the precision study, on tiny random models; and the command line of both."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ARCHS, Tiny
from hypothesis import given
from hypothesis import strategies as st
from tiny import SCHEMES

from sopro_np.cli.main import main
from sopro_np.convert.recipe import BUILT_IN
from sopro_np.errors import UsageError
from sopro_np.evaluate import fidelity, judges, libraries, opinions, quality, recogniser, speaker, whisper, words, world
from sopro_np.evaluate.judges import Judges
from sopro_np.evaluate.quality import Speaker
from sopro_np.evaluate.texts import Text, built_in, read_texts, spoken_form
from sopro_np.ops.quant import QTensor, quantize, quantize_rows
from sopro_np.options import Options
from sopro_np.requantise.watch import watched
from sopro_np.requantise.weights import load_as, matrices
from sopro_np.wav import write_wav
from tools.precision import choose, observe, pages
from tools.precision.growth import depth
from tools.precision.layers import by_layer, layer_of

SHORT = Options(max_frames=9, min_gen_frames=9, seed=3)
RATE = 24000


def a_recording(seconds: float = 0.8) -> np.ndarray:
    return (0.1 * np.random.default_rng(7).standard_normal(round(RATE * seconds))).astype(np.float32)


# ---------------------------------------------------------------- fidelity


@pytest.mark.parametrize("arch", ARCHS)
def test_a_model_is_itself(arch: str, tiny: Callable[..., Tiny]) -> None:
    tts = tiny(arch).tts
    script = fidelity.prepare(tts, "Hello there.", a_recording(), None, SHORT)
    answers = fidelity.run_forced(tts, script)
    assert answers.heard is not None
    assert np.array_equal(answers.heard, script.voice)
    assert np.array_equal(answers.free_running, script.codes)  # left to itself, it says what it said
    found = fidelity.compare(answers, fidelity.run_forced(tts, script))
    assert {k: v for k, v in found.items() if k.endswith("_db")} == dict.fromkeys(
        ("ar_logits_db", "nar_logits_db", "decoder_db"), float("inf")
    )
    assert [found[k] for k in ("voice", "ar", "ar_drawn", "nar", "free_running")] == [100] * 5
    assert found["decoder_lsd"] == 0


@pytest.mark.parametrize("arch", ARCHS)
def test_a_coarser_model_is_farther_away(arch: str, tiny: Callable[..., Tiny]) -> None:
    tts = tiny(arch).tts
    script = fidelity.prepare(tts, "Hello there.", None, tiny(arch).voice.codes.astype(np.int64), SHORT)
    base = fidelity.run_forced(tts, script)
    db = {}
    for recipe in ("fp16", "int8", "int4"):
        found = fidelity.compare(base, fidelity.run_forced(tiny(arch, recipe).tts, script))
        assert np.isnan(found["voice"])  # no recording
        db[recipe] = [found[k] for k in ("ar_logits_db", "nar_logits_db")]
    assert all(a > b > c for a, b, c in zip(db["fp16"], db["int8"], db["int4"], strict=True))


def test_measures_have_definitions(tiny: Callable[..., Tiny]) -> None:
    tts = tiny("v1.5").tts
    script = fidelity.prepare(tts, "Hello there.", a_recording(), None, SHORT)
    answers = fidelity.run_forced(tts, script)
    assert set(fidelity.compare(answers, answers)) < set(fidelity.DEFINITIONS)
    with pytest.raises(UsageError, match="recording or a voice"):
        fidelity.prepare(tts, "Hello.", None, None, SHORT)


# ---------------------------------------------------------------- the study


def tensors(tree: object, found: list[QTensor]) -> list[QTensor]:
    """All matrices of a model, in the order of its fields."""
    if isinstance(tree, QTensor):
        found.append(tree)
    elif isinstance(tree, dict):
        for value in tree.values():
            tensors(value, found)
    elif isinstance(tree, list | tuple):
        for value in tree:
            tensors(value, found)
    elif hasattr(tree, "__dataclass_fields__"):
        for name in tree.__dataclass_fields__:
            tensors(getattr(tree, name), found)
    return found


@pytest.mark.parametrize("recipe", [s for s in SCHEMES if s != "fp32"])
@pytest.mark.parametrize("arch", ARCHS)
def test_requantised_is_what_the_converter_writes(arch: str, recipe: str, tiny: Callable[..., Tiny]) -> None:
    """Every matrix bit for bit: the study measures the files that people will have."""
    path, other = tiny(arch).path, tiny(arch, recipe).path
    ours = load_as(path, BUILT_IN[recipe], ops="numpy")
    theirs = load_numpy(other)
    for part in ("model", "mimi"):
        mine, expected = tensors(getattr(ours, part), []), tensors(getattr(theirs, part), [])
        assert len(mine) == len(expected) > 10
        for a, b in zip(mine, expected, strict=True):
            assert (a.scheme, a.shape, a.taps) == (b.scheme, b.shape, b.taps)
            assert np.array_equal(a.data, b.data)
            assert (a.scale is None) == (b.scale is None) and (a.scale is None or np.array_equal(a.scale, b.scale))


def load_numpy(path: Path):
    from sopro_np.engine import open_model

    return open_model(path, ops="numpy")


def test_study_needs_fp32(tiny: Callable[..., Tiny]) -> None:
    with pytest.raises(UsageError, match="needs a file in fp32"):
        matrices(tiny("v1", "int8").path)


@pytest.mark.parametrize("arch", ARCHS)
def test_layers_hold_every_matrix_once(arch: str, tiny: Callable[..., Tiny]) -> None:
    names = list(matrices(tiny(arch).path))
    layers = by_layer(names)
    assert sorted(m for inside in layers.values() for m in inside) == sorted(names)
    assert all(m.startswith(layer) for layer, inside in layers.items() for m in inside)
    assert len(layers) < len(names) / 1.5
    assert layer_of("sopro.ar.blocks.2.ff_in.weight") == "sopro.ar.blocks.2"
    assert layer_of("mimi.decoder.3.conv.0.weight") == "mimi.decoder.3"
    assert layer_of("mimi.quantizer.acoustic.codebook.4") == "mimi.quantizer.acoustic"
    assert layer_of("sopro.ar.head.weight") == "sopro.ar.head"


@pytest.mark.parametrize("arch", ARCHS)
def test_watching_changes_nothing(arch: str, tiny: Callable[..., Tiny]) -> None:
    path = tiny(arch).path
    plain = load_as(path, BUILT_IN["int8"], ops="numpy")
    script = fidelity.prepare(plain, "Hello there.", a_recording(), None, SHORT)
    expected, watch = fidelity.run_forced(plain, script), observe.Watch(keeps=True)
    with watched(path, BUILT_IN["int8"], watch) as tts:
        found = fidelity.run_forced(tts, script)
        for name in ("heard", "ar", "nar", "wav", "free_running_wav"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    used = set(watch.ranges)
    assert used == set(watch.outputs)
    assert used < set(matrices(path))
    assert {"sopro.ar.head.weight", "mimi.decoder.0.weight", "mimi.encoder.0.weight"} <= used
    ranges = watch.ranges["mimi.encoder.0.weight"].as_dict()
    assert ranges["high"] == pytest.approx(np.abs(a_recording()).max(), rel=0.2)
    assert 0 <= ranges["smallest_row"] <= ranges["median_row"] <= 1 <= ranges["crest"]


def test_depth_of_a_model_against_itself(tiny: Callable[..., Tiny]) -> None:
    path = tiny("v1.5").path
    tts = tiny("v1.5").tts
    script = fidelity.prepare(tts, "Hello there.", a_recording(), None, SHORT)
    assert set(depth(path, [script], BUILT_IN["fp32"], BUILT_IN["fp32"]).values()) == {float("inf")}
    found = depth(path, [script], BUILT_IN["fp32"], BUILT_IN["int8"])
    assert found["sopro.ar.head.weight"] < 60


rows = st.integers(0, 2**32 - 1).map(
    lambda seed: (np.random.default_rng(seed).standard_normal((5, 7)) * 3).astype(np.float32)
)


@given(rows)
def test_frame_symmetric_is_the_engine_s(x: np.ndarray) -> None:
    q, scale = quantize_rows(x)
    found = observe.FORMATS["frame symmetric"](x, None)
    assert np.abs(found - q * scale[:, None]).max() <= 1.01 * scale.max()  # a tie may fall to the other side
    assert (np.abs(found - q * scale[:, None]) < 1e-6).mean() > 0.9


@given(rows, st.floats(-5, 5))
def test_formats_stay_within_half_a_step(x: np.ndarray, shift: float) -> None:
    x = x + np.float32(shift)
    seen = observe.Range()
    seen.add(x)
    for name, quantise in observe.FORMATS.items():
        y = quantise(x, seen)
        symmetric, asymmetric = 2 * np.abs(x).max() / 254, (max(x.max(), 0) - min(x.min(), 0)) / 255
        step = {"float": 0.0}.get(name, asymmetric if "asymmetric" in name else symmetric)
        assert np.abs(y - x).max() <= 0.5 * step * 1.001 + 1e-6 + (step / 2 if "asymmetric" in name else 0)
        assert not quantise(0 * x, seen).any()


@given(st.integers(0, 2**32 - 1), st.sampled_from(["int8", "int4"]), st.floats(-2, 2))
def test_corrected_biases_keep_the_mean(seed: int, scheme: str, shift: float) -> None:
    """Rounding W adds (W - W')E[x] to every output; with the bias corrected the mean error is gone."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((50, 12)) + shift).astype(np.float32)
    weight = quantize(rng.standard_normal((6, 12)).astype(np.float32), "fp32")
    seen = observe.Range()
    seen.add(x)
    errors = []
    for corrects in (False, True):
        watch = observe.Watch("float", corrects=corrects, given={"w": seen})
        y = watch.linear(x, watch.read("w", quantize(weight.data, scheme), weight))
        errors.append(np.abs((y - x @ weight.data.T).mean(axis=0)).max())
    assert errors[1] < 1e-5
    assert errors[1] <= errors[0] + 1e-6


def test_chosen_recipe_keeps_its_budget() -> None:
    """Three layers of equal size: the noisy one is raised, the silent one stays at int4."""
    layers = {name: {f"{name}.weight": [64, 64]} for name in ("a", "b", "c")}
    base = {"voice": 100.0, "ar_logits_db": None, "nar_logits_db": None}
    db = {"a": (10, 30, 80), "b": (25, 45, 80), "c": (80, 80, 90)}
    data = {"layers": layers} | {
        f"alone/{scheme}/{name}": base | {"decoder_db": value}
        for name, values in db.items()
        for scheme, value in zip(choose.LADDER, values, strict=True)
    }
    recipe = next(r for r in choose.choose(data) if r.name == "as int8")
    assert [recipe.scheme(n) for n in layers] == ["int8", "int8", "int4"]
    half = next(r for r in choose.choose(data) if r.name == "half of int8")
    assert [half.scheme(n) for n in layers] == ["fp16", "int8", "int4"]
    assert recipe.rules[-1][0] == "*"


# ---------------------------------------------------------------- texts and the command line


def test_built_in_texts() -> None:
    texts = [t.text for t in built_in()]
    assert len(set(texts)) == 60
    assert all(4 < len(t.split()) < 12 and t[-1] in ".?" for t in texts)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe\x00", "cannot be read"), (b"# only\n\n", "holds no text"), (b"Hi.\tno.wav", "line 1: there is no"),
     (b"Hi.\n\tx.wav\n", "line 2: a recording without a text")],
)  # fmt: skip
def test_texts_that_make_no_sense(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "texts").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_texts(tmp_path / "texts")


def test_texts_with_recordings(tmp_path: Path) -> None:
    write_wav(tmp_path / "one.wav", a_recording())
    (tmp_path / "texts").write_text("# comment\nOne.\tone.wav\n\nTwo.\n")
    assert [(t.text, t.recording) for t in read_texts(tmp_path / "texts")] == [
        ("One.", tmp_path / "one.wav"),
        ("Two.", None),
    ]


@pytest.fixture
def no_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra `eval` were not installed."""

    def missing(name: str, what: str) -> None:
        raise libraries.MissingLibrary(f"{what} needs {name}: pip install 'sopro_np[eval]'")

    for module in (judges, recogniser, opinions, speaker, whisper, world, words):
        monkeypatch.setattr(module, "library", missing)


@pytest.fixture
def scratch(tmp_path: Path, tiny: Callable[..., Tiny]) -> Path:
    write_wav(tmp_path / "me.wav", a_recording())
    (tmp_path / "texts").write_text("Hello there.\tme.wav\nAnd again.\n")
    return tmp_path


@pytest.mark.usefixtures("no_libraries")
def test_command_without_the_extra(
    scratch: Path, tiny: Callable[..., Tiny], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scratch)
    arguments = ["eval", str(tiny("v1.5", "int8").path), "--against", str(tiny("v1.5").path), "--ref", "me.wav"]
    arguments += ["--texts", "texts", "--seeds", "2", "--max-frames", "8", "--min-gen-frames", "8", "--json", "-"]
    arguments += ["--html", "r.html", "--listen", "l.html", "--webmushra", "w"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert set(result["missing"]) == {
        "wer_pocketsphinx, cer_pocketsphinx",
        "mos_distillmos",
        "mos_dnsmos",
        "similarity",
        "mcd, f0, vuv_error",
    }
    assert "not measured: similarity: speaker similarity needs resemblyzer: pip install" in err
    assert result["fidelity"]["texts"] == 2
    assert 0 < result["fidelity"]["measures"]["nar"]["mean"] <= 100
    model = result["quality"]["systems"]["model"]
    assert len(model["utterances"]) == 4
    assert len(result["quality"]["systems"]["recording"]["utterances"]) == 1
    assert model["summary"]["no_stop"]["mean"] == 100
    assert result["quality"]["difference"]["failures"]["mean"] == 0
    assert (scratch / "r.html").read_text().count("<audio") == 5
    assert (scratch / "l.html").is_file()
    assert (scratch / "w" / "sopro.yaml").is_file()
    assert not list(scratch.glob(".sopro-*"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "whose voice"),
        (["--ref", "none.wav"], 1, "none.wav"),
        (["--ref", "me.wav", "--seeds", "0"], 2, "--seeds 0 must be at least 1"),
        (["--ref", "me.wav", "--texts", "none"], 2, "none: cannot be read"),
        (["--ref", "me.wav", "--html", "no/such/folder.html"], 2, "no such folder"),
        (["--ref", "me.wav", "--html", "me.wav"], 2, "is read by this command"),
        (["--ref", "me.wav", "--only", "fidelity"], 2, "--against another recipe"),
        (["--ref", "me.wav", "--only", "fidelity", "--listen", "x.html"], 2, "sampled speech"),
        (["--ref", "me.wav", "--ref", "me.wav", "--count", "1"], 2, "two voices have one name"),
        (["--ref", "me.wav", "--top-p", "3"], 2, "top_p"),
    ],
)
@pytest.mark.usefixtures("no_libraries")
def test_command_refuses(
    arguments: list[str], code: int, message: str, scratch: Path, tiny: Callable[..., Tiny],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(scratch)
    assert main(["eval", str(tiny("v1.5").path), *arguments]) == code
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("no_libraries")
def test_other_checkpoints_are_judged_but_not_forced(
    scratch: Path, tiny: Callable[..., Tiny], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scratch)
    arguments = ["eval", str(tiny("v1").path), "--against", str(tiny("v1.5").path), "--ref", "me.wav", "--count", "1"]
    assert main([*arguments, "--seeds", "1", "--max-frames", "6", "--json", "-", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "fidelity" not in json.loads(out)
    assert "different checkpoints" in err


@pytest.mark.usefixtures("no_libraries")
def test_the_guard_is_counted(
    scratch: Path, tiny: Callable[..., Tiny], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of random weights that never ends: every sentence is said three times, and then cut."""
    monkeypatch.chdir(scratch)
    (scratch / "two").write_text("Hello there. And hello again, my friend.\nWhy?\n")
    arguments = ["eval", str(tiny("v1").path), "--ref", "me.wav", "--texts", "two", "--seeds", "2", "--json", "-"]
    arguments += ["--stop-threshold", "2", "--html", "r.html"]

    def counted(*more: str) -> dict[str, int]:
        assert main([*arguments, *more]) == 0
        out, err = capsys.readouterr()
        system = json.loads(out)["quality"]["systems"]["model"]
        found = system["guard"]
        assert (
            "guard: {sentences} sentences, {retries} retries, {cuts} cuts, {failures} failures".format(**found) in err
        )
        assert "retries are tries beyond" in err
        for name, total in found.items():
            assert sum(u["guard"][name] for u in system["utterances"]) == total
            assert f"<td class='n'>{total}" in (scratch / "r.html").read_text()
        assert system["summary"]["no_stop"]["mean"] == 100
        return found

    found = counted()
    sentences = found["sentences"]
    assert sentences >= 4 and found == {"sentences": sentences, "retries": 2 * sentences, "cuts": sentences,
                                        "failures": sentences}  # fmt: skip
    assert counted("--retries", "0") == found | {"retries": 0}
    off = {"sentences": sentences, "retries": 0, "cuts": 0, "failures": 0}
    assert counted("--no-guard", "--max-frames", "30") == off
    assert counted("--max-frames", "5") == off, "the caller's own limit is no failure"


def test_fidelity_is_unguarded(tiny: Callable[..., Tiny]) -> None:
    """The script is as long as the model says, whatever its text should take."""
    tts, voice = tiny("v1").tts, tiny("v1").voice.codes.astype(np.int64)
    options = Options(stop_threshold=2, max_frames=60, seed=1)
    assert len(fidelity.prepare(tts, "Oh.", None, voice, options).codes) == 60
    assert len(tts.speak("Oh.", tiny("v1").voice, stop_threshold=2, max_frames=60, seed=1).codes) < 60


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.usefixtures("no_libraries")
def test_recordings_of_texts_may_be_what_phones_make(
    scratch: Path, tiny: Callable[..., Tiny], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared at the rate at which they were recorded, like a WAV."""
    monkeypatch.chdir(scratch)
    command = ["ffmpeg", "-v", "error", "-i", "me.wav", "-ar", "16000", "-c:a", "aac", "phone.m4a"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (scratch / "texts").write_text("Hello there.\tphone.m4a\n")
    arguments = ["eval", str(tiny("v1").path), "--ref", "me.wav", "--texts", "texts", "--seeds", "1", "--json", "-"]
    assert main([*arguments, "--max-frames", "4", "-q"]) == 0
    quality = json.loads(capsys.readouterr().out)["quality"]
    assert quality["mcd_at"] == 16000 and len(quality["systems"]["recording"]["utterances"]) == 1


@pytest.mark.usefixtures("no_libraries")
@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("quiet", [True, False])
def test_progress_on_a_terminal(
    terminal: bool, quiet: bool, scratch: Path, tiny: Callable[..., Tiny], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from sopro_np.cli import evaluate, progress

    monkeypatch.chdir(scratch)
    monkeypatch.setattr(evaluate, "watched", lambda: terminal)
    monkeypatch.setattr(progress, "EVERY", 0)
    arguments = ["eval", str(tiny("v1.5", "int8").path), "--against", str(tiny("v1.5").path), "--ref", "me.wav"]
    arguments += ["--texts", "texts", "--seeds", "2", "--max-frames", "4", *(["-q"] if quiet else [])]
    assert main(arguments) == 0
    drawn = [int(part.split("%")[0]) for part in capsys.readouterr().err.split("\r") if "%  " in part[:9]]
    if quiet or not terminal:
        assert not drawn
    else:
        assert drawn == sorted(drawn) and drawn[0] == 0 and drawn[-1] == 100
        assert len(drawn) == 1 + 2 + 2 * 2 * 4 + 1  # at once; scripts; spoken and measured; a recording


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("It costs $1,234.56 [pause 0.5] or 3/4/2026.", {}, "It costs one thousand"),
        ("It is 3/4/2026.", {"day_first": True}, "April third"),
        ("It is 3/4/2026.", {"normalise": False}, "It is 3/4/2026."),
        ("Kubernetes is here.", {"lexicon": {"kubernetes": "coo ber net ees"}}, "Kubernetes is here."),
        ("日本 is Japan.", {"lenient": True}, "is Japan."),
    ],
)
def test_what_an_asr_should_hear(text: str, options: dict[str, object], expected: str) -> None:
    found = spoken_form(text, options)
    assert expected in found
    assert "[" not in found


def test_errors_are_counted_against_the_spoken_form(tiny: Callable[..., Tiny]) -> None:
    """Somebody who hears every word of the spoken form makes no mistake."""
    pytest.importorskip("jiwer")
    text, heard = "Dr. Smith paid $5 on 3/4/2026.", "doctor smith paid five dollars on march fourth twenty twenty six"
    tts, who = tiny("v1.5").tts, Speaker("me", tiny("v1.5").voice, np.zeros(9, np.float32))
    spoken = quality.speak(tts, [Text(text)], [who], [1], {"max_frames": 4, "day_first": False})
    quality.measure(spoken, RATE, {}, lambda u: None, Judges({"ear": lambda wav, rate: heard}), RATE)  # type: ignore[arg-type]
    assert spoken[0].measures["word_errors_ear"] == 0 and spoken[0].measures["words"] == len(heard.split())


def test_study_runs_from_one_command(
    scratch: Path, tiny: Callable[..., Tiny], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers, activations, depth, drift and pages, with measures that need libraries left out."""
    from tools.precision import measure, study

    monkeypatch.setattr(measure, "analyse", lambda wav, rate: None)
    monkeypatch.setattr(fidelity, "mcds", lambda analysed, other, rate: {"decoder_mcd": 0.0, "free_running_mcd": 0.0})
    few = ("sopro.ar.blocks.0", "sopro.nar.0.heads", "mimi.decoder.0", "mimi.encoder.0")
    monkeypatch.setattr(study, "by_layer", lambda names: {k: v for k, v in by_layer(names).items() if k in few})
    docs = scratch / "docs"
    docs.mkdir()
    marked = "".join(f"<!-- study: {name} -->\nold\n<!-- end -->\n" for name in pages.SECTIONS)
    (docs / "QUANT.md").write_text(f"text\n{marked}more\n")
    arguments = [str(tiny("v1.5").path), "--ref", str(scratch / "me.wav"), "--count", "1", "--no-wer", "--drift", "40"]
    arguments += ["-o", str(scratch / "study.json"), "--docs", str(docs), "--max-frames", "6"]
    monkeypatch.setattr("sys.argv", ["study.py", *arguments])
    assert study.main() == 0
    page = (docs / "QUANT.md").read_text()
    assert page.startswith("text\n<!-- study: about -->\n1 sentences, 7 frames")
    assert "old" not in page
    assert "| int8 |" in page
    assert "| `mimi.decoder.0` | int4 | 100.0 | 100.0 | exact |" in page
    figures = sorted(f.stem for f in (docs / "figures").glob("*.svg"))
    assert figures == [
        "quant-ar-logits",
        "quant-decoder",
        "quant-depth",
        "quant-drift",
        "quant-nar-logits",
        "quant-voice",
    ]
    for figure in (docs / "figures").glob("*.svg"):
        ElementTree.parse(figure)
    assert page.endswith("<!-- end -->\nmore\n")
    before = (scratch / "study.json").stat().st_mtime_ns
    assert study.main() == 0  # everything is there already
    assert (scratch / "study.json").stat().st_mtime_ns == before
    monkeypatch.setattr("sys.argv", ["study.py", *arguments, "--max-frames", "7"])
    assert study.main() == 1
    assert "of another model" in capsys.readouterr().err
