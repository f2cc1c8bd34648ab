"""At the edges: closed or full streams, signals, no home, few cores, wrong files; nothing foreign comes out."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from conftest import ROOT, python
from hypothesis import given
from hypothesis import strategies as st

import sopro_np
from sopro_np import cores
from sopro_np.cli.main import main
from sopro_np.engine import open_model
from sopro_np.errors import SoproError, SoproWarning, UsageError, VoiceError
from sopro_np.files import Replacement, replacing
from sopro_np.wav import check_target

Shell = Callable[..., subprocess.CompletedProcess[bytes]]
SHORT = "--max-frames 4 --seed 1"


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voices") / "me.voice.safetensors"
    tiny.voice("v1.5").save(path)
    return path


@pytest.fixture
def sh(tmp_path: Path, voice: Path) -> Shell:
    """A line of the shell, in an empty folder: `$s` is sopro-np, `$v` a voice."""

    def call(line: str, **settings: str | None) -> subprocess.CompletedProcess[bytes]:
        own = {"PYTHONPATH": str(ROOT), "SOPRO_NP_MODEL": str(tiny.model_file("v1.5")), "v": str(voice)}
        own |= {"s": f"{sys.executable} -m sopro_np", "SOPRO_NP_CACHE": str(tmp_path / "cache")}
        merged: dict[str, str | None] = {**os.environ, **own, **settings}
        environment = {name: value for name, value in merged.items() if value is not None}
        return subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environment, capture_output=True, check=False)

    return call


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize(
    "streams", [">&-", "2>&-", "<&-", ">&- 2>&- <&-", "2>/dev/full", ">/dev/full", ">&- 2>/dev/full"]
)
def test_a_finished_file_is_a_success_whoever_listens(sh: Shell, streams: str, tmp_path: Path) -> None:
    whole = sh(f"$s say Hello. --voice $v {SHORT} -o whole.wav")
    assert whole.returncode == 0, whole.stderr
    assert sh(f"$s say Hello. --voice $v {SHORT} -o x.wav {streams}").returncode == 0
    assert (tmp_path / "x.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()
    assert not list(tmp_path.glob(".*.part"))


def test_a_note_never_lands_in_the_audio(sh: Shell) -> None:
    """Whatever is opened first after a closed descriptor takes its number."""
    plain = sh(f"$s say Hello. --raw -o - --voice $v {SHORT} --threads 10000 -q")
    assert plain.returncode == 0 and plain.stdout and not plain.stderr
    for streams in ("2>&-", "<&- 2>&-", "2>/dev/full"):
        done = sh(f"$s say Hello. --raw -o - --voice $v {SHORT} --threads 10000 {streams}")
        assert (done.returncode, done.stdout) == (0, plain.stdout)


@pytest.mark.parametrize(
    "command",
    ["info --json", "info", "doctor", f"say Hello. --voice $v {SHORT} -o -", "--help", "say --help", "--version"],
)
@pytest.mark.parametrize("stream", [">/dev/full", ">&-"])
def test_what_was_asked_for_and_cannot_be_written_is_a_failure(sh: Shell, command: str, stream: str) -> None:
    if "help" in command + stream or "version" in command:
        stream = ">/dev/full"
    done = sh(f"$s {command} {stream}")
    assert done.returncode == 1
    assert b"standard output" in done.stderr and b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") <= 3
    assert sh(f"$s {command} {stream} 2>&-").returncode == 1


def test_a_reader_that_goes_is_no_failure(sh: Shell) -> None:
    done = sh("($s info --json; echo $? >code) | true; cat code")
    assert done.stdout.strip() == b"0" and not done.stderr


def test_no_audio_for_a_terminal(sh: Shell) -> None:
    done = sh(f'script -qec "$s say Hello. --voice $v {SHORT} -o -" /dev/null </dev/null')
    if done.returncode == 127:
        pytest.skip("no `script`")
    assert done.returncode == 2 and b"terminal" in done.stdout and b"RIFF" not in done.stdout


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_a_signal_leaves_nothing_behind(name: str, tmp_path: Path, voice: Path) -> None:
    command = [sys.executable, "-m", "sopro_np", "say", "Hello.", "--voice", str(voice), "--stream", "-o", "x.wav"]
    command += ["--max-frames", "400", "--min-gen-frames", "400", "--no-guard", "--ops", "numpy"]
    own = {**os.environ, "PYTHONPATH": str(ROOT), "SOPRO_NP_MODEL": str(tiny.model_file("v1.5"))}
    with subprocess.Popen(command, cwd=tmp_path, env=own, stderr=subprocess.PIPE) as child:
        while not list(tmp_path.glob(".*.part")):
            assert child.poll() is None, child.stderr
            time.sleep(0.01)
        child.send_signal(getattr(signal, name))
        assert child.wait() == (130 if name == "SIGINT" else 128 + getattr(signal, name))
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- notes


def test_threads_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "usable", lambda: 2)
    with pytest.warns(SoproWarning, match=r"threads = 100000: .*cores"):
        assert open_model(tiny.model_file("v1"), 100000, "numpy").threads == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_model(tiny.model_file("v1"), 2, "numpy").threads == 2


def test_notes_are_said_once_and_not_with_q(sh: Shell) -> None:
    line = f"$s say Hello. --voice $v {SHORT} --threads 10000"
    done = sh(line)
    assert done.returncode == 0 and done.stderr.count(b"note: threads = 10000") == 1
    assert not sh(f"{line} -q").stderr
    failed = sh("$s say Hello. --voice nobody -q")
    assert failed.returncode == 2 and b"nobody" in failed.stderr, "errors are no notes"


def test_the_embedded_model_speaks_up_only_when_it_speaks(sh: Shell) -> None:
    alone: dict[str, str | None] = {"SOPRO_NP_MODEL": None}
    assert sh(f"$s say Hello. {SHORT}", **alone).stderr.count(b"note: no model was given") == 1
    for command in (f"say Hello. {SHORT} -q", "info", "doctor"):
        done = sh(f"$s {command}", **alone)
        assert done.returncode == 0 and not done.stderr, command


# ---------------------------------------------------------------- cores


def group(root: Path, lines: str, mounts: str, files: dict[str, str]) -> Path:
    """A made-up machine: /proc/self/cgroup, /proc/self/mountinfo and files below /sys."""
    for name, text in {"proc/self/cgroup": lines, "proc/self/mountinfo": mounts, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 32 0:30 {shown} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"


@given(limits=st.lists(st.none() | st.integers(1000, 10**6), min_size=1, max_size=5), period=st.integers(1000, 10**6))
def test_quota_v2_is_the_smallest_of_all_levels(
    limits: list[int | None], period: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = [f"g{i}" for i in range(len(limits))]
    files = {
        f"sys/fs/cgroup/{'/'.join(names[: i + 1])}/cpu.max": f"{'max' if limit is None else limit} {period}\n"
        for i, limit in enumerate(limits)
    }
    root = group(tmp_path_factory.mktemp("v2"), f"0::/{'/'.join(names)}\n", V2, files)
    wanted = min((limit / period for limit in limits if limit is not None), default=None)
    assert cores.quota(root) == wanted


@pytest.mark.parametrize(
    ("own", "shown", "place"),
    [
        ("/a", "/", "a/"),  # on the machine itself
        ("/docker/1", "/docker/1", ""),  # in a container that sees its own group as the root
        ("/docker/1", "/", ""),  # one whose group cannot be seen
        ("/../..", "/", ""),  # a namespace below
    ],
)
def test_quota_v1(own: str, shown: str, place: str, tmp_path: Path) -> None:
    folder = f"sys/fs/cgroup/cpu,cpuacct/{place}"
    files = {f"{folder}cpu.cfs_quota_us": "150000\n", f"{folder}cpu.cfs_period_us": "100000\n"}
    root = group(tmp_path, f"5:memory:/x\n4:cpu,cpuacct:{own}\n", V1.format(shown=shown), files)
    assert cores.quota(root) == 1.5


@pytest.mark.parametrize("content", ["", "max 100000", "-1 100000", "x", "1", "100000 0"])
def test_no_quota(content: str, tmp_path: Path) -> None:
    assert cores.quota(tmp_path / "nothing") is None
    assert cores.quota(group(tmp_path, "0::/\n\n:::\n", V2 + "bad\n\n", {"sys/fs/cgroup/cpu.max": content})) is None


@given(affinity=st.integers(1, 64), most=st.none() | st.floats(0.01, 64))
def test_usable_cores(affinity: int, most: float | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cores, "allowed", lambda: affinity)
        patch.setattr(cores, "quota", lambda: most)
        assert 1 <= cores.usable() <= affinity
        assert most is None or cores.usable() <= max(1, most)
        assert most is not None or cores.usable() == affinity
        assert cores.why().startswith(f"{cores.usable()} of ")


# ---------------------------------------------------------------- no home


NOBODY = """
import os, pwd, sys
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
os.environ.pop("HOME", None)
from sopro_np.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_an_unknown_user_without_a_home(tmp_path: Path) -> None:
    """What is stored nowhere works, and says what it lacks where something must be stored."""
    settings = dict.fromkeys(("SOPRO_NP_CACHE", "SOPRO_NP_VOICES", "XDG_CACHE_HOME", "XDG_DATA_HOME"), "")
    settings |= {"PYTHONPATH": str(ROOT), "SOPRO_NP_MODEL": ""}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return python("-c", NOBODY, *arguments, cwd=tmp_path, **settings)

    done = run("say", "Hello.", "--voice", "ross", *SHORT.split())
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sopro.wav").exists()
    done = run("doctor")
    assert done.returncode == 0 and "there is no home directory" in done.stdout, done.stderr
    for name, said in (("v1", "sopro-np download v1"), ("nothing", "downloaded: none")):
        done = run("say", "Hello.", "--model", name)
        assert done.returncode == 2 and said in done.stderr


# ---------------------------------------------------------------- messages


def test_messages_name_the_right_thing(
    tmp_path: Path, voice: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOPRO_NP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SOPRO_NP_MODEL", raising=False)
    wav, model = tiny.checkpoint("v1.5") / "ref.wav", tiny.model_file("v1.5")
    for arguments, code, said in (
        (["--model", voice], 1, "a voice file, not a model: it is given with --voice"),
        (["--model", wav], 1, "a recording, not a model or voice file: it is given with --ref"),
        (["--model", model, "--voice", wav], 1, "a recording, not a model or voice file: it is given with --ref"),
        (["--model", model, "--voice", model], 1, "not a voice file"),
        (["--model", "v1.5"], 2, "sopro-np download v1.5"),
        (["--model", "nothing"], 2, "neither a file nor a downloaded model"),
        (["--model", "caf\udce9.safetensors"], 2, "neither a file nor a downloaded model"),
        (["--model", model, "--voice", "caf\udce9"], 2, "neither a file nor the name of a voice"),
        (["--model", model, "--ref", "caf\udce9.wav"], 1, "caf"),
        (["--model", model, "--voice", voice, "-o", "no/such/x.wav"], 2, "no such folder"),
    ):
        assert main(["say", "Hello.", *map(str, arguments)]) == code, arguments
        err = capsys.readouterr().err
        assert said in err, (arguments, err)
        assert "whose voice" not in err


def test_undecodable_arguments(sh: Shell) -> None:
    for line in (r"say \"$(printf 'caf\351')\" --voice $v -q", r"info \"$(printf 'caf\351')\"", r"$(printf 'caf\351')"):
        done = sh("$s " + line.replace('\\"', '"'))
        assert done.returncode in (1, 2) and done.stderr and b"Traceback" not in done.stderr, done.stderr


def test_saving_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match=r"there is no folder /nonexistent$"):
        tiny.voice("v1").save("/nonexistent/x")


WRONG = [3, 3.5, b"x", [], ["x"], {}, object(), "", "a\0b", True]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_wrong_types_get_an_error_of_ours(wrong: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOPRO_NP_MODEL", str(tiny.model_file("v1")))
    monkeypatch.chdir(tmp_path)
    tts, speaker = tiny.model("v1"), tiny.voice("v1")
    calls: list[Callable[[], object]] = [
        lambda: sopro_np.Sopro(wrong),  # type: ignore[arg-type]
        lambda: tts.load_voice(wrong),  # type: ignore[arg-type]
        lambda: tts.voice(wrong),  # type: ignore[arg-type]
        lambda: tts.synthesize("Hi.", wrong),  # type: ignore[arg-type]
        lambda: sopro_np.load(ops=wrong),  # type: ignore[arg-type]
        lambda: sopro_np.synthesize("Hi.", voice=wrong),  # type: ignore[arg-type]
        lambda: sopro_np.synthesize("Hi.", voice=speaker, ops=wrong),  # type: ignore[arg-type]
        lambda: speaker.save(wrong),  # type: ignore[arg-type]
    ]
    if wrong != "":
        calls.append(lambda: sopro_np.load(wrong))  # type: ignore[arg-type]
    if wrong is not True and wrong != 3:
        calls += [
            lambda: sopro_np.load(threads=wrong),  # type: ignore[arg-type]
            lambda: sopro_np.synthesize("Hi.", voice=speaker, threads=wrong),  # type: ignore[arg-type]
        ]
    for i, call in enumerate(calls):
        with pytest.raises(SoproError):
            call()
            pytest.fail(f"call {i} took {wrong!r}")
    assert not list(tmp_path.iterdir())


def test_a_read_only_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "kept.wav"
    path.write_bytes(b"kept")
    path.chmod(0o444)
    with pytest.raises(UsageError, match="read-only"):
        check_target(str(path))
    with pytest.raises(VoiceError, match="read-only"), replacing(path, VoiceError) as f:
        f.write(b"new")
    with pytest.raises(PermissionError, match="read-only"):
        Replacement(path)
    assert path.read_bytes() == b"kept" and list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_doctor_finds_a_missing_model_and_shows_cores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOPRO_NP_MODEL", "/nonexistent/model")
    assert main(["doctor", "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert any("SOPRO_NP_MODEL '/nonexistent/model'" in problem for problem in facts["problems"])
    assert facts["usable cores"] == cores.why()


# ---------------------------------------------------------------- remedies, other processes


def test_no_message_sends_anybody_to_an_index_for_this_package() -> None:
    """`pip install sopro_np` from an index would install whatever somebody puts there under that name."""
    for folder in ("sopro_np", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text("utf-8")
            assert "pip install sopro" not in text and "pip install 'sopro" not in text, path
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "hatch_build.py"):
        assert "pip install sopro" not in path.read_text() and "pip install 'sopro" not in path.read_text(), path


def test_processes_of_the_bench_find_the_standard_library_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of packages may hold an obsolete `typing`; a new process must not prefer it."""
    from sopro_np.bench.processes import _spawn

    (tmp_path / "typing.py").write_text("raise ImportError('obsolete')\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    code = "import typing, sopro_np.engine; print(); print(json.dumps(sys.path))"
    assert json.loads(_spawn(code, [])[1]) == sys.path


@pytest.mark.parametrize("name", ["numba", "llvmlite"])
def test_tools_say_what_they_lack(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tools import board_estimate

    find = board_estimate.importlib.util.find_spec
    monkeypatch.setattr(board_estimate.importlib.util, "find_spec", lambda n: None if n == name else find(n))
    with pytest.raises(SystemExit, match=f"{name} is not installed: pip install 'numba"):
        board_estimate.main()
