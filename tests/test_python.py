"""The package as a Python programmer meets it: names, types, voices as values, pickling, messages, `write_wav`."""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import pickle
import subprocess
import sys
import tomllib
import typing
import wave
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import by_each
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import sopro_np
from sopro_np import errors
from sopro_np.cli.main import main
from sopro_np.engine import Sopro, open_model
from sopro_np.errors import ModelError, SoproError, SoproWarning, UsageError
from sopro_np.options import OptionArgs, Options
from sopro_np.voice import Voice

ROOT = Path(__file__).resolve().parents[1]
ENDING = ".voice.safetensors"


def child(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- names --------------------------------------------------------------------------------------------------


def test_everything_for_users_is_seen_and_reached() -> None:
    """`dir`, `__all__`, `import *` and attributes agree; every error is among them, and nothing that is no name."""
    public = {name for name in dir(sopro_np) if not name.startswith("__")} | {"__version__"}
    assert public == set(sopro_np.__all__)
    family = {n for n, e in vars(errors).items() if isinstance(e, type) and issubclass(e, SoproError)}
    wanted = {"load", "synthesize", "write_wav", "Speech", "Voice", "Options", "Sopro", "Job", "OptionArgs"}
    assert family | wanted <= public
    everything: dict[str, Any] = {}
    exec("from sopro_np import *", everything)
    for name in public:
        assert everything[name] is getattr(sopro_np, name)
    with pytest.raises(AttributeError, match="no attribute 'sinthesize'"):
        sopro_np.sinthesize  # noqa: B018


def test_nothing_heavy_is_imported_by_looking() -> None:
    """`import sopro_np` and <TAB> load neither NumPy nor the engine; the first name that needs them does."""
    code = (
        "import sys, json, sopro_np; dir(sopro_np), sopro_np.SoproError; before = sorted(sys.modules);"
        "sopro_np.Options; middle = sorted(sys.modules); sopro_np.load; print(json.dumps([before, middle]))"
    )
    before, middle = json.loads(child(code))
    heavy = {"numpy", "soundfile", "soxr", "sopro_np.engine", "sopro_np.api", "safetensors"}
    assert not heavy & set(before)
    assert "sopro_np.options" in middle and "sopro_np.engine" not in middle


# --- types --------------------------------------------------------------------------------------------------


def test_typed_keywords_are_the_options() -> None:
    """Same names, same types, in the same order; all of them optional."""
    given = typing.get_type_hints(OptionArgs)
    assert list(given) == list(Options.names())
    assert given == {name: kind for name, kind in typing.get_type_hints(Options).items() if name in given}
    assert OptionArgs.__total__ is False
    assert [f.name for f in fields(Options)] == list(given)


def public_methods() -> list[Any]:
    facade = [Sopro.codes, Sopro.speak, Sopro.synthesize, Sopro.stream, Sopro.synthesize_many]
    return [*facade, sopro_np.SpeechBatch.add, sopro_np.synthesize]


@pytest.mark.parametrize("call", public_methods(), ids=lambda call: call.__qualname__)
def test_every_call_with_options_has_them_typed(call: Any) -> None:
    assert call.__annotations__["options"] == "Unpack[OptionArgs]"


MISTAKES = {
    'tts.speak("Hi.", sead=1)': "sead",
    'tts.synthesize("Hi.", top_k="many")': "top_k",
    'tts.stream("Hi.", temprature=1.0)': "temprature",
    'tts.codes("Hi.", None, seeds=[1])': "seeds",
    'tts.synthesize_many(["Hi."], sead=1)': "sead",
    'tts.batch().add("Hi.", sead=1)': "sead",
    'sopro_np.synthesize("Hi.", sead=1)': "sead",
    "sopro_np.synthesize(5)": "str",
    "sopro_np.write_wav()": "write_wav",
    "sopro_np.nothing": "nothing",
}
RIGHT = """
import sopro_np
tts = sopro_np.load("m")
chosen: sopro_np.OptionArgs = {"seed": 1, "top_p": None}
wav = tts.synthesize("Hi.", "ross", **chosen)
job = tts.batch().add("Hi.", seed=1, priority=2, lookahead=None)
sopro_np.write_wav("x.wav", sopro_np.synthesize("Hi.", voice=tts.load_voice("ross"), seed=1))
"""


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed (extra `test`)")
def test_a_type_checker_finds_mistakes(tmp_path: Path) -> None:
    """As a caller's program sees the package: each wrong call is found, and no right one."""
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = True\nfollow_imports = silent\nignore_missing_imports = True\n"
    )
    (tmp_path / "program.py").write_text(RIGHT + "\n".join(MISTAKES) + "\n")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--no-error-summary", "program.py"]
    env = {"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if "error:" in line]
    assert not done.stderr
    first = RIGHT.count("\n") + 1
    by_line = {int(line.split(":")[1]) - first: line for line in found}
    assert sorted(by_line) == list(range(len(MISTAKES))), done.stdout
    for line, word in zip(sorted(by_line), MISTAKES.values(), strict=True):
        assert word in by_line[line]


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "sopro_np" / "py.typed").is_file()


# --- voices as values ---------------------------------------------------------------------------------------


@given(st.data())
def test_equal_voices_are_those_with_equal_codes(data: st.DataObject) -> None:
    tts = tiny.model("v1")
    config = tts.model.config
    shape = st.tuples(st.integers(1, 3), st.just(config.codebooks))
    draw = shape.flatmap(lambda s: hnp.arrays(np.int64, s, elements=st.integers(0, 2)))
    one, two = data.draw(draw), data.draw(draw)
    a, b = tts.voice_from_codes(one), tts.voice_from_codes(two)
    assert (a == b) is (one.shape == two.shape and bool((one == two).all()))
    assert (a != b) is not (a == b)
    assert a == tts.voice_from_codes(one) and hash(a) == hash(tts.voice_from_codes(one))
    assert len({a, b, tts.voice_from_codes(two)}) == 2 - (a == b)


def test_a_voice_of_another_model_is_another_voice() -> None:
    voice = tiny.voice("v1")
    prints = {**voice.fingerprints, "sopro": "f" * 64}
    other = Voice(voice.codes, voice.speaker, voice.reference_kv, prints)
    assert voice != other and len({voice, other}) == 2
    assert voice != "ross" and voice is not None and voice != voice.codes.tolist()


def test_a_voice_is_shown_in_a_line() -> None:
    voice = tiny.voice("v1")
    rate = tiny.model("v1").mimi.config.frame_rate
    assert voice.seconds == len(voice.codes) / rate
    expected = f"Voice({len(voice.codes) / rate:.1f} s, {voice.codes.shape[1]} codebooks, model "
    assert repr(voice) == expected + voice.fingerprints["sopro"][:6] + ")"


@by_each
def test_nothing_changes_a_voice() -> None:
    """Its arrays are read-only, also after pickling and copying; what it was made from may be written afterwards."""
    tts = tiny.model("v1")
    given_codes = tiny.voice("v1").codes.copy()
    made = tts.voice_from_codes(given_codes)
    before = made.codes.copy()
    given_codes[:] = 0
    assert np.array_equal(made.codes, before)
    direct = Voice(codes := before.copy(), made.speaker, made.reference_kv, prints := dict(made.fingerprints))
    codes[:] = 0
    prints.clear()
    assert direct == made
    same = [pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)]
    for voice in (made, direct, *same):
        for array in (voice.codes, voice.speaker, *(a for kv in voice.reference_kv for a in kv[:2])):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
        with pytest.raises(TypeError):
            voice.fingerprints["sopro"] = ""  # type: ignore[index]
        assert voice == made and hash(voice) == hash(made) and voice.frame_rate == made.frame_rate
    wavs = {tts.synthesize(tiny.TEXT, v, seed=1, max_frames=3).tobytes() for v in (made, *same)}
    assert len(wavs) == 1


# --- a model as a value -------------------------------------------------------------------------------------


def test_a_model_is_shown_by_its_file() -> None:
    with open_model(tiny.model_file("v1"), 2, "numpy") as tts:
        assert repr(tts) == f"Sopro({str(tiny.model_file('v1'))!r}, ops='numpy', threads=2)"
    assert repr(tts).endswith("(closed)")


@by_each
def test_a_pickled_model_opens_its_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another folder is the current one; a closed one, and one whose file is another by now, say so."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(tiny.model_file("v1").read_bytes())
    monkeypatch.chdir(tmp_path)
    tts, voice = open_model("model.safetensors", 1), tiny.voice("v1")
    data = pickle.dumps(tts)
    assert len(data) < 2000
    monkeypatch.chdir(ROOT)
    expected = tts.synthesize(tiny.TEXT, voice, seed=1, max_frames=3)
    with pickle.loads(data) as again, copy.deepcopy(tiny.model("v1")) as copied:
        assert (again.ops, again.threads) == (tts.ops, 1)
        for other in (again, copied):
            assert other.synthesize(tiny.TEXT, voice, seed=1, max_frames=3).tobytes() == expected.tobytes()
    tts.close()
    with pytest.raises(ModelError, match="was closed; load it again"):
        pickle.dumps(tts)
    path.unlink()
    path.write_bytes(tiny.model_file("v1", seed=2).read_bytes())
    with pytest.raises(ModelError, match="not the model that was pickled"):
        pickle.loads(data)


def test_a_batch_and_its_jobs_are_not_pickled() -> None:
    with pytest.raises(UsageError, match="list of texts, not int"):
        tiny.model("v1").synthesize_many(5)  # type: ignore[arg-type]
    tts = tiny.model("v1")
    batch = tts.batch(1)
    job = batch.add("Hi.", tiny.voice("v1"), max_frames=1)
    for thing in (batch, job):
        for take in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(ModelError, match="pickle"):
                take(thing)
    batch.remove(job)


def test_threads_of_the_class_are_capped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sopro_np.cores.usable", lambda: 2)
    with pytest.warns(SoproWarning, match="threads = 99"), Sopro(tiny.model_file("v1"), 99) as tts:
        assert tts.threads == 2


# --- voices by name -----------------------------------------------------------------------------------------


@by_each
def test_names_of_voices_work_at_every_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """With and without the ending, in any case; a file of that name comes first; unknown ones list the known."""
    monkeypatch.setenv("SOPRO_NP_VOICES", str(tmp_path / "voices"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voices").mkdir()
    tts, voice = tiny.model("v1"), tiny.voice("v1")
    voice.save(tmp_path / "voices" / f"Anna{ENDING}")
    expected = tts.synthesize(tiny.TEXT, voice, seed=1, max_frames=3).tobytes()
    for name in ("Anna", "anna", "ANNA", f"anna{ENDING}", f"ANNA{ENDING.upper()}", Path("anna")):
        assert tts.load_voice(name) == voice
        assert tts.synthesize(tiny.TEXT, name, seed=1, max_frames=3).tobytes() == expected
        [wav] = tts.synthesize_many([tiny.TEXT], name, seed=1, max_frames=3)
        assert wav.tobytes() == expected
        model = tiny.model_file("v1")
        options = {"seed": 1, "max_frames": 3, "threads": 1}
        spoken = sopro_np.synthesize(tiny.TEXT, voice=name, model=model, **options)  # type: ignore[arg-type]
        assert spoken.tobytes() == expected
        assert main(["info", str(name)]) == 0
        assert f"frames: {len(voice.codes)}\n" in capsys.readouterr().out
    other = tts.voice_from_codes(voice.codes[:1])
    other.save(tmp_path / "voices" / f"anna{ENDING}")
    assert (tts.load_voice("anna"), tts.load_voice("Anna")) == (other, voice), "spelt as asked for comes first"
    for use in (
        lambda: tts.synthesize(tiny.TEXT, "bob"),
        lambda: tts.load_voice("bob"),
        lambda: sopro_np.synthesize(tiny.TEXT, voice="bob", model=tiny.model_file("v1")),
    ):
        with pytest.raises(UsageError, match=r"'bob' .*Anna, anna.*ross"):
            use()
    assert main(["info", "bob"]) == 2
    error = capsys.readouterr().err
    assert "model 'bob'" in error and "voice 'bob'" in error and "anna" in error


@pytest.mark.parametrize("who", [5, 1.0, b"ross", ["ross"], np.zeros(3), True], ids=repr)
def test_what_is_no_voice_is_named(who: Any) -> None:
    tts = tiny.model("v1")
    for use in (
        lambda: tts.synthesize(tiny.TEXT, who),
        lambda: tts.load_voice(who),
        lambda: sopro_np.synthesize(tiny.TEXT, voice=who, model=tiny.model_file("v1")),
    ):
        with pytest.raises(UsageError, match=f"voice.* not {type(who).__name__}"):
            use()


# --- texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, b"Hello.", ["Hello."], ("Hello.",), 5, 1.5, np.array(["Hello."])], ids=repr)
def test_what_is_no_text_is_named(text: Any, tmp_path: Path) -> None:
    tts, voice = tiny.model("v1"), tiny.voice("v1")
    for use in (
        lambda: tts.synthesize(text, voice),
        lambda: tts.speak(text, voice),
        lambda: list(tts.stream(text, voice)),
        lambda: tts.codes(text, voice),
        lambda: tts.batch().add(text, voice),
        lambda: tts.synthesize_many([text], voice),
        lambda: sopro_np.synthesize(text, model=tmp_path / "not even looked for"),
    ):
        with pytest.raises(UsageError, match=f"not {type(text).__name__}"):
            use()
    remedies: list[tuple[Any, str]] = [(b"Hi.", "decode"), (["Hi."], "synthesize_many")]
    for given_text, remedy in remedies:
        with pytest.raises(UsageError, match=remedy):
            tts.synthesize(given_text, voice)


# --- write_wav ----------------------------------------------------------------------------------------------


def frames(data: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


@given(hnp.arrays(st.sampled_from(["<i2", ">i2", "f2", "f4", "f8"]), st.integers(0, 20)))
def test_wav_holds_what_was_meant(samples: np.ndarray) -> None:
    """int16 comes back as it is, whatever its byte order; floats are clipped and scaled; NaN and infinity refused."""
    file = io.BytesIO()
    if samples.dtype.kind == "i":
        expected = samples
    elif not np.isfinite(samples).all() or (np.abs(samples.astype("f8")) > np.finfo("f4").max).any():
        with pytest.raises(errors.AudioError):
            sopro_np.write_wav(file, samples)
        assert not file.getvalue()
        return
    else:
        expected = np.rint(np.clip(samples.astype("f4"), -1, 1) * np.float32(32767))
    sopro_np.write_wav(file, samples)
    assert np.array_equal(frames(file.getvalue()), expected)


@pytest.mark.parametrize("samples", [
    *(np.zeros(4, kind) for kind in ("i1", "u1", "u2", "i4", "i8", "?", "c8", "U1", "O")),
    np.zeros((2, 4)), np.zeros((4, 1), np.int16), np.float32(0), [0, 1], 0, None, [[0.0], [0.0, 1.0]], "x.wav", b"abcd",
], ids=repr)  # fmt: skip
def test_wav_refuses_what_is_no_speech(samples: Any, tmp_path: Path) -> None:
    """Before a file appears, or an older one is touched, or a byte is in the pipe."""
    path, stream = tmp_path / "x.wav", io.BytesIO()
    path.write_bytes(b"older")
    for target in (path, stream):
        with pytest.raises(UsageError, match=r"float|shape|samples \(n,\)"):
            sopro_np.write_wav(target, samples)
    assert path.read_bytes() == b"older" and not stream.getvalue()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("rate", [0, -1, 1.5, "24000", None, 2**32, True])
def test_wav_refuses_rates_that_cannot_be(rate: Any) -> None:
    with pytest.raises(UsageError, match="sample_rate"):
        sopro_np.write_wav(io.BytesIO(), np.zeros(4), rate)


# --- pages and metadata -------------------------------------------------------------------------------------


def test_the_page_of_the_interface_is_up_to_date() -> None:
    """docs/API.md is what its tool makes of the docstrings, and names everything that is public."""
    command = [sys.executable, str(ROOT / "tools" / "make_api_page.py"), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "API.md").read_text("utf-8")
    for name in set(sopro_np.__all__) - {"__version__", "OptionArgs"}:
        assert f"## {name}\n" in page or f"## class {name}\n" in page or f"| {name} |" in page, name


def test_every_public_call_has_a_docstring() -> None:
    for kind in (Sopro, Voice, sopro_np.Speech, sopro_np.SpeechBatch, sopro_np.Job, Options):
        for name, member in vars(kind).items():
            if not name.startswith("_") and (callable(member) or isinstance(member, property | classmethod)):
                assert member.__doc__, f"{kind.__name__}.{name}"


def test_metadata_of_the_wheel() -> None:
    """A description whose links work anywhere, addresses, and classifiers that agree with the rest of the file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    readme = (ROOT / project["readme"]).read_text("utf-8")
    links = [part.split(")")[0] for part in readme.split("](")[1:]]
    assert links and all(link.startswith("https://") for link in links)
    assert project["urls"] and all(url.startswith("https://") for url in project["urls"].values())
    kinds = {line.split(" :: ")[0] for line in project["classifiers"]}
    wanted = {"Development Status", "Intended Audience", "Operating System", "Programming Language", "Topic", "Typing"}
    assert wanted <= kinds
    versions = [line.rsplit(" :: ", 1)[1] for line in project["classifiers"] if " :: Python :: 3." in line]
    assert versions and f">={versions[0]}" == project["requires-python"]
