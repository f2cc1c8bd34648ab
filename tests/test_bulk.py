"""`batch`: the same files and the same bytes in one process and in shards; resumed, refused, told."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny
from conftest import ROOT, on_kernels

from sopro_np.bulk.key import chosen_options, file_digest, line_key, line_seed, voice_digest
from sopro_np.bulk.outputs import ljspeech
from sopro_np.bulk.records import Journal
from sopro_np.cli.main import main
from sopro_np.wav import write_wav

FULL = os.environ.get("SOPRO_NP_BULK") == "full"  # as docs/BULK.md tells of it
LINES = 300 if FULL else 60
ARCH = "v1.5"
SHORT = ["--max-frames", "3", "--quiet"]
OPTIONS: dict[str, Any] = {"max_frames": 3}
Batch = Callable[..., int]
Row = dict[str, Any]


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Batch:
    """`sopro-np batch`, in this process, in an empty folder, with the tiny model and its voice."""
    monkeypatch.chdir(tmp_path)
    for name, value in surroundings(tmp_path).items():
        monkeypatch.setenv(name, value)

    def call(*arguments: object, voice: bool = True) -> int:
        who = ["--voice", tmp_path / "me.voice.safetensors"] if voice else []
        try:
            return main([str(a) for a in ("batch", *arguments, *who, *SHORT)])
        except SystemExit as stop:
            return int(stop.code or 0)

    return call


def surroundings(folder: Path) -> dict[str, str]:
    """Environment, in which the tiny model is the default; two voices lie there."""
    tiny.voice(ARCH).save(folder / "me.voice.safetensors")
    tts = tiny.model(ARCH)
    (folder / "voices").mkdir(exist_ok=True)
    tts.voice_from_codes(tiny.voice(ARCH).codes[5:30]).save(folder / "voices" / "anna.voice.safetensors")
    names = {"SOPRO_NP_MODEL": tiny.model_file(ARCH), "SOPRO_NP_CACHE": folder / "cache"}
    return {name: str(path) for name, path in {**names, "SOPRO_NP_VOICES": folder / "voices"}.items()}


def rows(count: int) -> list[Row]:
    """Lines of every kind that is right."""
    made: list[Row] = [{"id": f"a{n:03}", "text": f"This is number {n}."} for n in range(count)]
    for n, row in enumerate(made):
        row |= {"seed": n} if n % 3 == 0 else {}
        row |= {"voice": "anna"} if n % 5 == 0 else {}
        row["text"] += " And more." if n % 7 == 0 else ""
    return made


def write(path: Path, lines: list[Row]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def records(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def said(row: Row, **options: Any) -> bytes:
    """The file that `synthesize` and `write_wav` make of a line."""
    tts, anna = tiny.model(ARCH), tiny.model(ARCH).voice_from_codes(tiny.voice(ARCH).codes[5:30])
    who = anna if "voice" in row else tiny.voice(ARCH)
    seed = row.get("seed", line_seed(0, row["id"]))
    file = io.BytesIO()
    write_wav(file, tts.synthesize(row["text"], who, seed=seed, **{**OPTIONS, **options}), tts.sample_rate)
    return file.getvalue()


@on_kernels
def test_lines_in_one_process_and_in_three_shards(batch: Batch, tmp_path: Path) -> None:
    lines = rows(LINES)
    write(tmp_path / "lines.jsonl", lines)
    assert batch("lines.jsonl", "-o", "whole") == 0
    whole = tree(tmp_path / "whole")
    assert set(whole) == {"manifest.jsonl", "metadata.csv"} | {f"wavs/{line['id']}.wav" for line in lines}
    for line in lines[::6]:  # alone and beside fifteen others: the same bytes
        assert whole[f"wavs/{line['id']}.wav"] == said(line), line
    found = records(tmp_path / "whole" / "manifest.jsonl")
    assert [r["id"] for r in found] == [line["id"] for line in lines]
    for i in (2, 0, 1):
        assert batch("lines.jsonl", "-o", "shards", "--shard", f"{i}/3", "--width", 5 + i) == 0
        own = records(tmp_path / "shards" / f"manifest-{i}-of-3.jsonl")
        assert [r["id"] for r in own] == [line["id"] for line in lines[i::3]]
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "shards" / "wavs").iterdir()}
    assert batch("lines.jsonl", "-o", "shards") == 0
    assert tree(tmp_path / "shards") == whole, "put together they are what one process makes"
    assert times == {p: p.stat().st_mtime_ns for p in times}, "nothing was spoken again"


@on_kernels
def test_a_record_says_what_the_file_is(batch: Batch, tmp_path: Path) -> None:
    line = {"id": "x", "text": "It costs $5 | or\nless.", "voice": "anna", "seed": 2**40}
    write(tmp_path / "lines.jsonl", [line])
    assert batch("lines.jsonl", "-o", "out") == 0
    (record,) = records(tmp_path / "out" / "manifest.jsonl")
    audio = tmp_path / "out" / record["audio_filepath"]
    wav, rate = soundfile.read(audio)
    assert record["duration"] == len(wav) / rate and record["sha256"] == file_digest(audio)
    assert (record["text"], record["voice"], record["seed"]) == (line["text"], "anna", 2**40)
    assert "five dollars" in record["normalized_text"]
    options = chosen_options(OPTIONS, ops="native", format="wav")
    digest = voice_digest(tiny.voice(ARCH).codes[5:30])
    assert record["key"] == line_key(file_digest(tiny.model_file(ARCH)), digest, line["text"], 2**40, options)
    (row,) = csv.reader((tmp_path / "out" / "metadata.csv").open(), delimiter="|", quoting=csv.QUOTE_NONE)
    assert row[:2] == ["x", "It costs $5 or less."] and "five dollars" in row[2] and len(row) == 3


@on_kernels
def test_bad_lines_are_told_and_the_others_done(batch: Batch, tmp_path: Path, capfd: Any) -> None:
    good = {"id": "good", "text": "Fine."}
    bad: list[Row] = [
        {"id": "../../x", "text": "Out."}, {"id": "a", "text": "\u4e2d"}, {"id": "b", "text": "x", "voice": "nobody"},
        {"id": "c", "text": ""}, {"id": "good", "text": "Again."}, {"id": "d", "text": "x", "voice": "lines.jsonl"},
        {"id": "e", "text": "y" * 1_000_000, "seed": -1}, {"id": "f", "text": "x", "voice": "../../etc/passwd"},
    ]  # fmt: skip
    raw = "".join(json.dumps(line) + "\r\n" for line in [bad[0], good, *bad[1:]])
    (tmp_path / "lines.jsonl").write_bytes(b"\xef\xbb\xbf" + raw.encode() + b"\xff\xfe no text\nno json\n")
    assert batch("lines.jsonl", "-o", "out") == 1
    told = capfd.readouterr().err
    assert "line 1: the id '../../x' is no name" in told and "and 5 more: see out/errors.jsonl" in told
    assert set(tree(tmp_path / "out")) == {"errors.jsonl", "manifest.jsonl", "metadata.csv", "wavs/good.wav"}
    found = records(tmp_path / "out" / "errors.jsonl")
    assert [r["line"] for r in found] == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11] and all(r["error"] for r in found)
    assert [r["id"] for r in found] == [None, "a", "b", "c", "good", "d", "e", "f", None, None]
    assert (tmp_path / "out" / "wavs" / "good.wav").read_bytes() == said(good)
    write(tmp_path / "lines.jsonl", [good])
    assert batch("lines.jsonl", "-o", "out") == 0
    assert "errors.jsonl" not in tree(tmp_path / "out"), "what was told is mended"


def test_nothing_to_do_and_wrong_calls(batch: Batch, tmp_path: Path, capfd: Any) -> None:
    lines = write(tmp_path / "lines.jsonl", rows(2)[1:])
    (tmp_path / "empty").write_bytes(b"\xef\xbb\xbf\r\n")
    (tmp_path / "file").write_text("")
    for arguments, code, words in (
        (["empty", "-o", "out"], 2, "nothing to say"),
        (["absent", "-o", "out"], 2, "absent: cannot be read"),
        ([tmp_path, "-o", "out"], 2, "cannot be read"),
        (["a\0b", "-o", "out"], 2, "cannot be read"),
        ([lines, "-o", "file"], 2, "not a folder"),
        ([lines, "-o", ""], 2, "-o = ''"),
        ([lines, "-o", "file/out"], 1, "cannot be written"),
        ([lines, "-o", "/proc/out"], 1, "cannot be written"),
        ([lines, "-o", "out", "--shard", "3/3"], 2, "from 0 to n - 1"),
        ([lines, "-o", "out", "--shard", "0/3", "--tars", "5"], 2, "without --shard"),
        ([lines, "-o", "out", "--width", "0"], 2, "width"),
        ([lines, "-o", "out", "--top-p", "7"], 2, "top_p"),
    ):
        assert batch(*arguments) == code, arguments
        err = capfd.readouterr().err
        assert words in err and "Traceback" not in err, err
    assert batch(lines, "-o", "out", voice=False) == 2 and "whose voice" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_of_others_stay_as_they_are(batch: Batch, tmp_path: Path, capfd: Any) -> None:
    """A corpus is no output: nothing of it is overwritten."""
    lines = write(tmp_path / "lines.jsonl", rows(2))
    corpora: list[dict[str, str]] = [
        {"metadata.csv": "a000|x|x\n", "wavs/a000.wav": "recording"}, {"wavs/a000.wav": "recording"},
        {"manifest.jsonl": '{"audio_filepath": "wavs/a000.wav", "duration": 1, "text": "x"}\n'},
    ]  # fmt: skip
    for number, files in enumerate(corpora):
        corpus = tmp_path / str(number)
        for name, text in files.items():
            (corpus / name).parent.mkdir(parents=True, exist_ok=True)
            (corpus / name).write_text(text)
        assert batch(lines, "-o", corpus) == 1
        assert "name another folder" in capfd.readouterr().err
        assert {name: data.decode() for name, data in tree(corpus).items()} == files
        assert (corpus / "wavs").exists() == ("wavs/a000.wav" in files)
    assert batch(corpus / "manifest.jsonl", "-o", corpus) == 2 and "is written by this" in capfd.readouterr().err


@on_kernels
def test_what_is_done_is_what_has_the_right_key_and_bytes(batch: Batch, tmp_path: Path) -> None:
    lines = rows(6)
    path = write(tmp_path / "lines.jsonl", lines)
    assert batch(path, "-o", "out") == 0
    whole, wavs = tree(tmp_path / "out"), tmp_path / "out" / "wavs"

    def again(*more: object) -> set[str]:
        """Names of the files that the next call writes."""
        before = {p.name: p.stat().st_ino for p in wavs.iterdir()}
        assert batch(path, "-o", "out", *more) == 0
        return {p.name for p in wavs.iterdir() if before.get(p.name) != p.stat().st_ino}

    assert again() == set()
    (wavs / "a001.wav").unlink()
    (wavs / "a002.wav").write_bytes(whole["wavs/a002.wav"][:-2])
    (wavs / "a003.wav").write_bytes(whole["wavs/a003.wav"][:-1] + b"\x7f")
    (wavs / ".sopro-1-abcd.part").write_bytes(b"left by a kill")
    assert again() == {"a001.wav", "a002.wav", "a003.wav"} and tree(tmp_path / "out") == whole
    assert again("--seed", 1) == {f"{line['id']}.wav" for line in lines if "seed" not in line}
    assert again("--seed", 0) == {f"{line['id']}.wav" for line in lines if "seed" not in line}
    assert tree(tmp_path / "out") == whole
    write(path, [{**line, "text": "New."} if n == 1 else line for n, line in enumerate(lines[:5])])
    assert again() == {"a001.wav"}
    manifest = records(tmp_path / "out" / "manifest.jsonl")
    assert [r["id"] for r in manifest] == [line["id"] for line in lines], "what is there is told"
    (wavs / "a005.wav").unlink()
    assert again() == set()
    assert [r["id"] for r in records(tmp_path / "out" / "manifest.jsonl")] == [line["id"] for line in lines[:5]]


@on_kernels
def test_a_file_of_an_older_key_is_never_taken_for_a_newer_one(batch: Batch, tmp_path: Path) -> None:
    """Killed between file and record: the record that is there tells of other bytes."""
    lines = write(tmp_path / "lines.jsonl", rows(2)[1:])
    assert batch(lines, "-o", "out") == 0
    first = tree(tmp_path / "out")
    assert batch(lines, "-o", "out", "--seed", 9) == 0
    (tmp_path / "out" / "manifest.jsonl").write_bytes(first["manifest.jsonl"])
    assert batch(lines, "-o", "out") == 0
    assert tree(tmp_path / "out") == first


@on_kernels
def test_a_torn_record_costs_one_line(batch: Batch, tmp_path: Path) -> None:
    lines = write(tmp_path / "lines.jsonl", rows(4))
    assert batch(lines, "-o", "out", "--shard", "0/1") == 0
    journal = tmp_path / "out" / "manifest-0-of-1.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    ages = {p.name: p.stat().st_ino for p in (tmp_path / "out" / "wavs").iterdir()}
    assert batch(lines, "-o", "out") == 0
    changed = {p.name for p in (tmp_path / "out" / "wavs").iterdir() if ages[p.name] != p.stat().st_ino}
    assert changed == {"a003.wav"} and len(records(tmp_path / "out" / "manifest.jsonl")) == 4


@on_kernels
def test_a_record_that_was_edited_costs_one_line(batch: Batch, tmp_path: Path) -> None:
    """Whatever became of it: no error, no path out of the folder, and the manifest is as it was."""
    lines = write(tmp_path / "lines.jsonl", rows(2)[1:])
    assert batch(lines, "-o", "out", "--tars", "5") == 0
    whole, manifest = tree(tmp_path / "out"), tmp_path / "out" / "manifest.jsonl"
    [record] = records(manifest)
    other = {"id": "x", "key": "k", "sha256": "s", "audio_filepath": record["audio_filepath"]}
    edited = [{name: value for name, value in record.items() if name != left_out}
              for left_out in record if left_out not in ("id", "key", "sha256")]  # fmt: skip
    edited += [{**record, "audio_filepath": path} for path in ("../../x.wav", "wavs/x.wav", ["x"])]
    edited += [{**record, "check": 5}, {**record, "duration": "x"}, {**record, "text": None}]
    for each in edited:
        write(manifest, [each, other])
        assert batch(lines, "-o", "out", "--tars", "5") == 0
        assert tree(tmp_path / "out") == whole, each


@on_kernels
def test_flac_and_other_ways_to_name_a_voice(batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lines.txt").write_text("Hello there.\r\n\r\nBye now, my friend.\n")
    ref = tiny.checkpoint(ARCH) / "ref.wav"
    assert batch("lines.txt", "-o", "out", "--format", "flac", "--ref", ref, voice=False) == 0
    for number, text in ((1, "Hello there."), (3, "Bye now, my friend.")):
        say = ["say", text, "--ref", str(ref), "--seed", str(line_seed(0, text)), "-o", f"{number}.flac", *SHORT]
        assert main(say) == 0
        assert (tmp_path / "out" / "wavs" / f"{number:06}.flac").read_bytes() == Path(f"{number}.flac").read_bytes()
    stdin = io.TextIOWrapper(io.BytesIO(b"a|Hello there.\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert batch("-", "-o", "piped") == 0
    assert (tmp_path / "piped" / "wavs" / "a.wav").read_bytes() == said({"id": "a", "text": "Hello there."})


@on_kernels
def test_tars_are_webdatasets(batch: Batch, tmp_path: Path) -> None:
    lines = [{**line, "id": f"x.{line['id']}"} for line in rows(5)]
    lines[3]["id"] += "y" * (128 - len(lines[3]["id"]))  # more than the oldest kind of tar can name
    path = write(tmp_path / "lines.jsonl", lines)
    assert batch(path, "-o", "out", "--tars", 2) == 0
    tars = sorted((tmp_path / "out" / "tars").iterdir())
    assert [tar.name for tar in tars] == ["000000.tar", "000001.tar", "000002.tar"]
    samples: dict[str, dict[str, bytes]] = {}
    for tar in tars:
        with tarfile.open(tar) as archive:
            for member in archive:
                key, _, ending = member.name.partition(".")
                samples.setdefault(key, {})[ending] = archive.extractfile(member).read()  # type: ignore[union-attr]
    assert list(samples) == [line["id"].replace(".", "_") for line in lines]
    for line, sample in zip(lines, samples.values(), strict=True):
        assert sample["wav"] == (tmp_path / "out" / "wavs" / f"{line['id']}.wav").read_bytes()
        assert sample["txt"].decode() == line["text"] and json.loads(sample["json"])["id"] == line["id"]
    before = tree(tmp_path / "out" / "tars")
    assert batch(path, "-o", "out", "--tars", 2) == 0 and tree(tmp_path / "out" / "tars") == before
    assert batch(path, "-o", "out", "--tars", 10) == 0 and len(tree(tmp_path / "out" / "tars")) == 1
    write(path, [{"id": "a.b", "text": "x"}, {"id": "a_b", "text": "x"}])
    assert batch(path, "-o", "other", "--tars", 10) == 1


def test_one_process_at_a_time(batch: Batch, tmp_path: Path, capfd: Any) -> None:
    lines = write(tmp_path / "lines.jsonl", rows(4))
    (tmp_path / "out").mkdir()
    other = Journal(tmp_path / "out" / "manifest-1-of-2.jsonl")
    for shard in (["--shard", "1/2"], []):
        assert batch(lines, "-o", "out", *shard) == 1
        assert "another process is writing it" in capfd.readouterr().err
    assert batch(lines, "-o", "out", "--shard", "0/2") == 0, "other shards may go on"
    other.close()
    assert batch(lines, "-o", "out") == 0
    assert not list((tmp_path / "out").glob("manifest-*"))


@on_kernels
def test_a_full_disk_ends_it_and_leaves_what_is_whole(batch: Batch, tmp_path: Path) -> None:
    """A limit of files' sizes does what a full disk does: files are whole or not there, and the next call goes on."""
    lines = [{"id": f"a{n}", "text": "Short." if n % 2 else "One. Two. Three. Four. Five. Six."} for n in range(8)]
    path = write(tmp_path / "lines.jsonl", lines)
    assert batch(path, "-o", "whole") == 0
    whole = tree(tmp_path / "whole")
    sizes = sorted(len(data) for name, data in whole.items() if name.startswith("wavs/"))
    command = [sys.executable, "-m", "sopro_np", "batch", str(path), "-o", "out", "--width", "1", *SHORT]
    command += ["--voice", str(tmp_path / "me.voice.safetensors")]
    limit = (sizes[0] + sizes[-1]) // 2

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=lower,
        check=False,
    )
    assert done.returncode == 1 and "cannot write" in done.stderr and "Traceback" not in done.stderr
    for name, data in tree(tmp_path / "out").items():
        assert not name.startswith("wavs/") or data == whole[name]
    assert batch(path, "-o", "out") == 0 and tree(tmp_path / "out") == whole


def test_a_line_of_metadata_is_a_line() -> None:
    record = {"id": "a", "text": "a|b\r\nc\u2028d\x85e\x0bf\x1cg", "normalized_text": "| x |"}
    assert ljspeech(record) == "a|a b c d e f g|x\n"
    assert len(ljspeech(record).splitlines()) == 1


def test_progress_tells_how_fast_it_is(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr("sopro_np.cli.batch.watched", lambda: True)
    monkeypatch.setattr("sopro_np.cli.progress.EVERY", 0)
    lines = write(tmp_path / "lines.jsonl", rows(3))
    assert main(["batch", str(lines), "-o", "out", "--voice", "me.voice.safetensors", "--max-frames", "3"]) == 0
    told = capfd.readouterr().err
    steps = told.split("\r")
    assert any("left" in step and "RTF 0." in step and "of 3 lines" in step for step in steps), steps
    assert "out: 3 of 3 lines done; 0:01 of speech" in steps[-1]
    assert np.all([len(step) < 80 for step in steps[:-1]])
    assert main(["batch", str(lines), "-o", "out", "--voice", "me.voice.safetensors", "--max-frames", "3"]) == 0
    assert "out: 3 of 3 lines done; nothing new was spoken" in capfd.readouterr().err


def test_what_is_left_out_is_told_in_the_record(batch: Batch, tmp_path: Path) -> None:
    lines = write(tmp_path / "lines.jsonl", [{"id": "x", "text": "\u4e2d Hello there."}, {"id": "y", "text": "Hello."}])
    assert batch(lines, "-o", "out") == 1
    assert batch(lines, "-o", "out", "--lenient") == 0
    found = {r["id"]: r for r in records(tmp_path / "out" / "manifest.jsonl")}
    assert "left out" in found["x"]["check"][0] and found["x"]["normalized_text"] == "Hello there."
    assert not found["y"]["check"]


HOSTILE = [
    "\ud800",
    "a\0b",
    "x" * 5000,
    "/",
    ".",
    "..",
    "~",
    "/dev/zero",
    "/dev/stdin",
    "lines.jsonl",
    "voices",
    "*",
    "ann",
]


def test_hostile_voices_are_bad_lines(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "wavs.voice.safetensors").mkdir()
    (tmp_path / "empty.voice.safetensors").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo.voice.safetensors")
    made = [f"{name}.voice.safetensors" for name in ("wavs", "empty", "fifo")]
    names = [*HOSTILE, *made, str(tiny.model_file(ARCH)), str(tiny.checkpoint(ARCH) / "ref.wav")]
    given = [{"id": f"a{n}", "text": "Hello.", "voice": name} for n, name in enumerate(names)]
    lines = write(tmp_path / "lines.jsonl", [*given, {"id": "good", "text": "Hello.", "voice": "anna"}])
    assert batch(lines, "-o", "out") == 1
    assert [r["id"] for r in records(tmp_path / "out" / "errors.jsonl")] == [line["id"] for line in given]
    assert [r["id"] for r in records(tmp_path / "out" / "manifest.jsonl")] == ["good"]
