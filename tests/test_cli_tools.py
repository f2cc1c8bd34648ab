"""`info`, `doctor`, `bench`, and the command as a process of its own: pipes, imports, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from sopro_np import ops
from sopro_np.cli.main import main
from sopro_np.wav import pcm16

ARCH = "v1.5"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voices") / "me.voice.safetensors"
    tiny.voice(ARCH).save(path)
    return path


def process(*arguments: object, **more: object) -> subprocess.Popen[bytes]:
    own = {"PYTHONPATH": str(tiny.ROOT), "SOPRO_NP_MODEL": str(tiny.model_file(ARCH)), "PYTHONUNBUFFERED": ""}
    environment = {**os.environ, **own}
    command = [sys.executable, "-m", "sopro_np", *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen(command, env=environment, **pipes)  # type: ignore[call-overload,no-any-return]


def test_info(voice: Path, capsys: Capture) -> None:
    path = tiny.model_file(ARCH)
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    tensors, metadata, _ = tiny.header(path)
    assert facts["kind"] == "model"
    assert facts["bytes"] == path.stat().st_size
    for key in ("architecture", "sources", "licenses", "recipe", "dropped", "passed_over", "filled"):
        assert facts[key] == json.loads(metadata[key])
    data = sum(b - a for a, b in (e["data_offsets"] for e in tensors.values()))
    assert sum(part["total"] for part in facts["parts"].values()) == data
    assert "arena" not in facts  # which only speaking tells
    assert main(["info", str(path), "--json", "--memory"]) == 0
    arena = json.loads(capsys.readouterr().out)["arena"]
    assert 1000 < arena < 1 << 30 if ops.current() == "native" else "NumPy" in arena
    assert main(["info", str(path), "--memory"]) == 0
    out = capsys.readouterr().out
    for word in (
        "int8",
        "v1.5",
        "Apache-2.0",
        "CC-BY-4.0",
        "mimi",
        "tokenizer",
        "arena",
        facts["sources"]["mimi"]["sha256"],
    ):
        assert word in out
    assert main(["info", str(voice), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [facts["frames"], facts["codebooks"]] == list(tiny.voice(ARCH).codes.shape)
    assert facts["kind"] == "voice"
    assert main(["info", str(voice)]) == 0
    assert str(facts["sopro_sha256"]) in capsys.readouterr().out


def test_info_of_what_was_passed_over(tmp_path: Path, capsys: Capture) -> None:
    """Files of earlier converters do not say; one that says nonsense is damaged. What is said is shown."""
    tensors, metadata, data = tiny.header(tiny.model_file(ARCH))
    path = tmp_path / "model.safetensors"
    path.write_bytes(
        tiny.pack(tensors, {k: v for k, v in metadata.items() if k not in ("passed_over", "filled")}, data)
    )
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["passed_over"], facts["filled"]) == ({}, [])
    said = {
        "passed_over": '{"sopro": {"config": ["lr"]}, "mimi": {"tensors": ["ema"]}}',
        "filled": '["ref_cb_weights"]',
    }
    path.write_bytes(tiny.pack(tensors, {**metadata, **said}, data))
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    for line in ("sopro, config: lr", "mimi, tensors: ema", "initial values: ref_cb_weights"):
        assert line in out
    for key in said:
        for nonsense in ("", "{", "3", "null", '"x"', '{"sopro": 1}', '{"sopro": {"config": 1}}', '[["x"]'):
            path.write_bytes(tiny.pack(tensors, {**metadata, key: nonsense}, data))
            assert main(["info", str(path)]) == 1
            assert key in capsys.readouterr().err


def test_doctor(capsys: Capture) -> None:
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"sopro_np", "python", "cpu", "features", "ops", "packages", "model", "problems"} <= set(facts)
    assert facts["problems"] == []


STAGES = {"ar_s", "nar_s", "mimi_decode_s", "load_s", "voice_s", "first_audio_s"}
KEYS = {
    "model",
    "recipe",
    "ops",
    "threads",
    "frames",
    "runs",
    "audio_s",
    "rtf",
    "ar_frames_per_s",
    "peak_rss_mb",
}


@pytest.mark.parametrize("arch", tiny.ARCHS)
def test_bench(arch: str, capsys: Capture) -> None:
    assert main(["bench", "--model", str(tiny.model_file(arch)), "--frames", "8", "--runs", "1", "--json"]) == 0
    out = capsys.readouterr().out
    facts = json.loads(out)
    assert set(facts) >= STAGES | KEYS
    assert facts["frames"] == 8
    assert facts["audio_s"] == pytest.approx(8 * 0.08)
    stages = facts["ar_s"] + facts["nar_s"] + facts["mimi_decode_s"]
    assert facts["rtf"] == pytest.approx(stages / facts["audio_s"])


@pytest.mark.parametrize("arch", tiny.ARCHS)
def test_bench_of_several_at_once(arch: str, capsys: Capture) -> None:
    """What the figures are made of; Python's share where kernels and Python cannot overlap."""
    arguments = ["bench", "--model", str(tiny.model_file(arch)), "--frames", "9", "--runs", "1", "--batch", "1,3"]
    assert main([*arguments, "--threads", "1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [row["utterances"] for row in facts["rows"]] == [1, 3] and 0 < facts["python_share"] < 1
    assert facts["rows"][0]["bound"] == pytest.approx(1)
    for row in facts["rows"]:
        assert 1 <= row["bound"] < row["utterances"] or row["utterances"] == 1
        assert row["first_audio_of_last_s"] > 0
        for way in ("whole", "streamed"):
            assert row[way]["ratio"] == pytest.approx(row[way]["together"] / row[way]["one_by_one"])
    assert main([*arguments, "--threads", "1"]) == 0
    assert "at once" in capsys.readouterr().err
    for bad in ("0", "x", "1,,2"):
        with pytest.raises(SystemExit, match="2"):
            main([*arguments[:-1], bad])
        assert "--batch" in capsys.readouterr().err


def test_a_process_says_what_the_api_says(voice: Path, tmp_path: Path) -> None:
    arguments = ("--voice", voice, "--max-frames", 4, "--seed", 1, "-o", "-", "--raw")
    child = process("say", "-", *arguments, cwd=tmp_path)
    out, err = child.communicate(tiny.TEXT.encode())
    assert child.returncode == 0, err
    assert out == pcm16(tiny.model(ARCH).synthesize(tiny.TEXT, tiny.voice(ARCH), max_frames=4, seed=1))
    child = process("say", "-", *arguments, cwd=tmp_path)
    out, err = child.communicate(b"caf\xe9")
    assert (child.returncode, out) == (2, b"")
    assert b"UTF-8" in err
    assert b"Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_a_closed_pipe_is_no_failure(stream: list[str], voice: Path) -> None:
    child = process(
        "say", tiny.TEXT, "--voice", voice, "-o", "-", "--max-frames", 300, "--min-gen-frames", 300, *stream
    )
    assert child.stdout is not None and child.stderr is not None
    assert len(child.stdout.read(100)) == 100
    child.stdout.close()
    assert child.stderr.read().count(b"Error") == 0
    assert child.wait() == 0


@pytest.mark.parametrize("arguments", [["info"], ["info", "--json"], ["--version"]])
def test_a_pipe_closed_before_the_first_byte(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    if arguments[0] == "info":
        arguments = [*arguments, str(tiny.model_file(ARCH))]
    child = process(*arguments, stdout=writer)
    os.close(writer)
    assert b"Traceback" not in child.communicate()[1]
    assert child.returncode in (0, 120 if arguments == ["--version"] else 0)


WITHOUT = ("torch", "numba", "llvmlite", "transformers", "tokenizers", "huggingface_hub", "cpuinfo", "pickle")


def test_say_imports_no_framework(voice: Path, tmp_path: Path) -> None:
    """pickle itself is imported by NumPy's own code where NumPy says so, so it is left out there."""
    code = (
        "import sys, numpy; before = set(sys.modules)\n"
        "from sopro_np.cli.main import main\n"
        f"code = main(['say', 'hello', '--voice', {str(voice)!r}, '--max-frames', '2', '--model', "
        f"{str(tiny.model_file(ARCH))!r}, '-o', {str(tmp_path / 'x.wav')!r}, '-q'])\n"
        "print(code, *sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tiny.ROOT)
    code_, *modules = done.stdout.split()
    assert code_ == "0", done.stderr
    assert not {m.split(".")[0] for m in modules} & set(WITHOUT)
    assert "sopro_np.engine" in modules
    assert not [m for m in modules if m.startswith(("sopro_np.convert", "sopro_np.hub", "sopro_np.bench"))]


def test_import_alone_is_instant() -> None:
    """`import sopro_np` and `--help` do not even load NumPy."""
    code = "import sys, sopro_np.cli.main as m; m.build_parser(); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tiny.ROOT).returncode == 0
