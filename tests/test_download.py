"""`download` against a stand-in of the Hub: what arrives, what is remembered, and twenty ways to fail.

The real huggingface_hub runs in processes of its own. Tests that need no special settings share one: no failure may
spoil what comes after it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hub_standin import Hub, digest, git_sha1
from hub_worker import Worker, repository

from sopro_np.cli.main import main
from sopro_np.engine import open_model
from sopro_np.errors import DownloadError, UsageError
from sopro_np.files import cache_dir
from sopro_np.hub import MIMI, SOPRO, download
from sopro_np.locate import cached_model
from sopro_np.tensorfile import TensorFile

pytest.importorskip("huggingface_hub")
# Later versions (seen: 2.4) start a broken transfer anew, and do not repeat a body that was refused with 5xx.
RESUMES = version("huggingface_hub").startswith("0.")
SOPRO_FILES = ("model.safetensors", "tokenizer.json", "tokenizer_config.json")

Start = Callable[..., Worker]


@pytest.fixture(scope="session")
def checkpoints() -> dict[str, dict[str, bytes]]:
    """Files of the repositories: `v1`, `v1.5`, `other` (v1.5 with other weights) and `mimi`."""
    made = {
        name: repository(arch, seed)
        for name, arch, seed in (("v1", "v1", 1), ("v1.5", "v1.5", 1), ("other", "v1.5", 2))
    }
    return {**made, "mimi": repository("v1", parts=("mimi",))}


@pytest.fixture
def hub(server: Hub, checkpoints: dict[str, dict[str, bytes]]) -> Hub:
    server.repos.clear()
    server.commit(SOPRO, "2026-01-05T10:00:00.000Z", {"README.md": b"soon"})
    server.commit(SOPRO, "2026-01-20T10:00:00.000Z", checkpoints["v1"])
    server.commit(SOPRO, "2026-02-04T10:00:00.000Z", checkpoints["v1.5"])
    server.commit(MIMI, "2025-01-01T10:00:00.000Z", checkpoints["mimi"])
    server.log.clear()
    return server


@pytest.fixture
def start(hub: Hub, tmp_path: Path) -> Iterator[Start]:
    """Starts a process; those of one test share their folders."""
    workers: list[Worker] = []

    def begin(**environment: str) -> Worker:
        workers.append(Worker(tmp_path, environment.pop("endpoint", hub.url), **environment))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.kill()


@pytest.fixture(scope="module")
def shared(server: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Worker]]:
    worker = None

    def begin() -> Worker:
        nonlocal worker
        if worker is None or worker.dead():
            worker = Worker(tmp_path_factory.mktemp("shared"), server.url)
        for folder in (worker.cache, worker.hf_home):
            shutil.rmtree(folder, ignore_errors=True)
        return worker

    yield begin
    if worker:
        worker.kill()


@pytest.fixture
def worker(hub: Hub, shared: Callable[[], Worker]) -> Worker:
    """The shared process, with empty folders."""
    return shared()


def sources(path: Path) -> dict[str, dict[str, Any]]:
    return TensorFile(path).json("sources")  # type: ignore[no-any-return]


# ---------------------------------------------------------------- what arrives


def test_both_generations(hub: Hub, worker: Worker, checkpoints: dict[str, dict[str, bytes]]) -> None:
    """They load, and say by commit and sha256 what they were made from."""
    for generation, index in (("v1", 1), ("v1.5", 2)):
        path = worker.good(generation)
        assert path == worker.cache / f"sopro-{generation}-int8.safetensors"
        model = open_model(path)
        assert model.sample_rate == 24000
        made = sources(path)
        wanted = {
            "sopro": (SOPRO, hub.repos[SOPRO][index], SOPRO_FILES[:1]),
            "tokenizer": (SOPRO, hub.repos[SOPRO][index], SOPRO_FILES[1:]),
            "mimi": (MIMI, hub.repos[MIMI][0], ("config.json", "model.safetensors")),
        }
        for part, (repo, commit, names) in wanted.items():
            assert (made[part]["repo"], made[part]["revision"]) == (repo, commit.id)
            assert made[part]["files"] == {n: hashlib.sha256(commit.files[n]).hexdigest() for n in names}
            assert made[part]["sha256"] == made[part]["files"][made[part]["file"]]
        assert made["sopro"]["generation"] == generation
        assert hub.url not in json.dumps(model.file.metadata)
    fetched = {path.rsplit("/", 1)[1] for _, path, _ in hub.log if "/resolve/" in path}
    assert fetched == {*SOPRO_FILES, "config.json"}


def test_without_the_driver(hub: Hub, start: Start) -> None:
    """Nothing but the call, in a process where nothing of the library was imported before."""
    worker = start(driver="from sopro_np.hub import download; print(download('v1'))")
    open_model(worker.output().strip())


def test_shares_the_cache_of_the_library(hub: Hub, worker: Worker) -> None:
    """The standard layout, by commit; files that lie there already are not fetched."""
    worker.good()
    snapshot = worker.hf_home / "hub/models--samuel-vitorino--sopro/snapshots" / hub.repos[SOPRO][-1].id
    assert {p.name for p in snapshot.iterdir()} == set(SOPRO_FILES)
    hub.log.clear()
    path = worker.good(recipe="fp32")
    assert path.name == "sopro-v1.5-fp32.safetensors"
    assert not [line for line in hub.log if "/resolve/" in line[1] or "/cdn/" in line[1]]


def test_recipe_for_boards(hub: Hub, worker: Worker) -> None:
    """Converted once: what it leaves out is part of the recipe, and asked for again nothing is fetched or made."""
    path = worker.good(recipe="board")
    assert path.name == "sopro-v1.5-board.safetensors" and TensorFile(path).metadata["speak_only"] == "true"
    made = path.stat().st_mtime_ns
    assert worker.good(recipe="board") == path and path.stat().st_mtime_ns == made


def test_offline(hub: Hub, start: Start) -> None:
    """What was downloaded once works without the Hub, in another recipe too; the rest is refused."""
    path = start().good("v1")
    offline = start(HF_HUB_OFFLINE="1")
    hub.log.clear()
    assert offline.good("v1") == path
    open_model(offline.good("v1", recipe="fp16"))
    path.unlink()
    (path.parent / "sopro-v1-fp16.safetensors").unlink()
    offline.bad("HF_HUB_OFFLINE.*--revision", "v1")
    open_model(offline.good("v1", revision=hub.repos[SOPRO][1].id, mimi_revision=hub.repos[MIMI][0].id))
    offline.bad("HF_HUB_OFFLINE", "v1.5")
    offline.bad("HF_HUB_OFFLINE", revision="a" * 40, mimi_revision="b" * 40)
    assert not hub.log


def test_a_special_conversion_is_not_reused(worker: Worker) -> None:
    """What was made with --bos must not pass for what was asked for without it."""
    worker.good(bos=7)
    plain = TensorFile(worker.good())
    assert plain.json("options") == {}
    assert plain.json("sources")["tokenizer"]


def test_again(hub: Hub, worker: Worker, checkpoints: dict[str, dict[str, bytes]]) -> None:
    """Already there: also after a commit that changed no file; converted anew if asked or damaged."""
    path = worker.good()
    before = path.stat()
    assert "already there" in worker.download()["said"][-1]
    new = hub.commit(SOPRO, "2026-08-27T10:00:00.000Z", {**checkpoints["v1.5"], "README.md": b"old"})
    assert "already there" in worker.download()["said"][-1]
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    worker.good(bos=1)
    assert path.stat().st_mtime_ns != before.st_mtime_ns
    assert sources(path)["sopro"]["revision"] == new
    path.write_bytes(path.read_bytes()[:-100])
    open_model(worker.good())


def test_revisions(hub: Hub, worker: Worker) -> None:
    """A commit may be named; one that is not there, or of the other generation, is refused."""
    ids = [commit.id for commit in hub.repos[SOPRO]]
    worker.bad("no such revision.*--revision", revision="b" * 40)
    worker.bad("no such revision.*--mimi-revision", mimi_revision="v9")
    worker.bad(f"{ids[1]} is Sopro v1, not v1.5: .*--revision", revision=ids[1])
    worker.bad(f"{ids[2]} is Sopro v1.5, not v1: .*--revision", "v1", revision=ids[2])
    assert not [line for line in hub.log if f"{MIMI}/resolve" in line[1]], "the codec was fetched in vain"
    assert sources(worker.good("v1", revision=ids[1]))["sopro"]["revision"] == ids[1]
    del hub.repos[SOPRO][:2]
    worker.bad(r"no commit before 2026-02-04, nor after it, .* v1 \(1 looked at\).*--revision", "v1")


def test_changed_source(hub: Hub, worker: Worker, checkpoints: dict[str, dict[str, bytes]]) -> None:
    """Refused with both commits, before more of it than the header is fetched; taken when accepted."""
    path = worker.good()
    old = hub.repos[SOPRO][-1].id
    new = hub.commit(SOPRO, "2026-03-01T10:00:00.000Z", checkpoints["other"])
    hub.log.clear()
    worker.bad(f"model.safetensors is not .*{old}, now {new}.*--accept-changes.*--revision {old}")
    worker.bad("--accept-changes", recipe="fp16")
    assert {line[2] for line in hub.log if "/cdn/" in line[1]} == {"bytes=0-100000"}
    assert worker.good(revision=old) == path
    worker.good(accept_changes=True)
    assert sources(path)["sopro"]["revision"] == new
    worker.good()

    tokens = json.loads(checkpoints["other"]["tokenizer_config.json"])
    changed = {**checkpoints["other"], "tokenizer_config.json": json.dumps({**tokens, "note": 1}).encode()}
    hub.commit(SOPRO, "2026-04-01T10:00:00.000Z", changed)
    worker.bad("tokenizer_config.json is not the file of the first download")
    hub.repos[SOPRO].pop()
    hub.commit(MIMI, "2026-04-01T10:00:00.000Z", {**checkpoints["mimi"], "config.json": b"{}"})
    worker.bad("config.json is not .*--mimi-revision")


# ---------------------------------------------------------------- what goes wrong

MODEL = rf"GET /cdn/{SOPRO}/.*/model.safetensors$"
HEADER = rf"GET /cdn/{SOPRO}/.*/model.safetensors bytes="
HEAD = rf"HEAD /{SOPRO}/resolve/"
FAULTS = {
    "cut body": ("cut", MODEL, "", "try again"),
    "short body": ("short", MODEL, "", "try again"),
    "long body": ("long", MODEL, "", "try again"),
    "flipped bit": ("flip", MODEL, "", "removed, try again"),
    "flipped bit, small": ("flip", "GET .*/tokenizer.json", "", "removed, try again"),
    "wrong etag": ("wrong etag", HEAD, "", "removed, try again"),
    "wrong etag, small": ("wrong etag", "HEAD .*/tokenizer.json", "", "removed, try again"),
    "other commit": ("other commit", HEAD, "", "HF_ENDPOINT"),
    "no file": (404, "HEAD .*/tokenizer_config.json", "EntryNotFound", "tokenizer_config.json.*no such file"),
    "no file, no reason": (404, HEAD, "", "HTTP 404"),
    "no repository": (404, f"api/models/{SOPRO}", "RepoNotFound", "no such repository.*HF_TOKEN"),
    "no codec": (401, f"api/models/{MIMI}", "RepoNotFound", "kyutai/mimi.*no such repository"),
    "bad token": (401, "api/models", "", "HTTP 401.*HF_TOKEN"),
    "gated": (403, HEAD, "GatedRepo", "gated.*HF_TOKEN"),
    "forbidden": (403, MODEL, "", "HTTP 403.*HF_TOKEN"),
    "ill": (503, "api/models", "", "HTTP 503.*later"),
    "ill, files": (500, HEAD, "", "HTTP 500.*later"),
    "ill, bodies": (502, MODEL, "", "HTTP 502.*later"),
    "circle, list": ("circle", "api/models", "", "circles"),
    "circle, head": ("circle", HEAD, "", "circles"),
    "circle, body": ("circle", MODEL, "", "circles"),
    "captive portal": ("not a hub", "", "", "not that of a Hub"),
    "captive portal, files": ("not a hub", "resolve", "", "not that of a Hub"),
    "silence": ("silent", "api/models", "", "in time.*HF_HUB_DOWNLOAD_TIMEOUT"),
    "silence, body": ("stall", MODEL, "", "cannot be reached|in time"),
    "silence, header": ("silent", HEADER, "", "model.safetensors at commit.*in time.*HF_HUB_DOWNLOAD_TIMEOUT"),
    "ill, header": (502, HEADER, "", "HTTP 502.*later"),
    "circle, header": ("circle", HEADER, "", "circles"),
    "cut header": ("cut", HEADER, "", "try again"),
    "captive portal, header": ("not a hub", HEADER, "", "not that of a Hub.*HF_ENDPOINT"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(hub: Hub, worker: Worker, name: str) -> None:
    """One clear line, nothing left, and the next attempt succeeds."""
    kind, where, code, message = FAULTS[name]
    with hub.fault(kind, where, code):
        worker.bad(message)
    assert sources(worker.good())["sopro"]["revision"] == hub.repos[SOPRO][-1].id


def test_silent_list_of_commits(hub: Hub, worker: Worker) -> None:
    """v1 asks for the list, which the library would wait for without end."""
    with hub.fault("silent", "/commits/"):
        worker.bad("list of commits: no answer in time", "v1")
    worker.good("v1")


@pytest.mark.parametrize("where", [HEAD, HEADER, MODEL] if RESUMES else [HEAD, HEADER])
def test_ill_once(hub: Hub, worker: Worker, where: str) -> None:
    """The library tries again by itself; where it does not, we do."""
    with hub.fault(503, where, times=1) as fault:
        worker.good()
        assert fault.times == 0


def test_killed_and_resumed(hub: Hub, start: Start) -> None:
    """The second process asks for the rest only, if the library can."""
    first = start()
    with hub.fault("stall", MODEL):
        first.ask()
        assert hub.stalled.wait(30)
        while not (partial := list(first.hf_home.rglob("*.incomplete"))) or not partial[0].stat().st_size:
            time.sleep(0.01)
        first.kill()
        had = partial[0].stat().st_size
    assert not first.contents()
    hub.log.clear()
    open_model(start().good())
    asked = [line[2] for line in hub.log if "/cdn/" in line[1] and SOPRO in line[1]]
    assert asked == ["bytes=0-100000", f"bytes={had}-" if RESUMES else None], "the header, then the rest"


@pytest.mark.skipif(not RESUMES, reason="this huggingface_hub does not use partial files of earlier processes")
def test_damaged_part_is_not_trusted(hub: Hub, worker: Worker) -> None:
    """A partial file with a wrong byte or too many bytes: found out, removed, fetched anew."""
    model = hub.repos[SOPRO][-1].files["model.safetensors"]
    blobs = worker.hf_home / "hub/models--samuel-vitorino--sopro/blobs"
    blobs.mkdir(parents=True)
    partial = blobs / f"{digest(model)}.incomplete"
    partial.write_bytes(b"?" + model[1:1000])
    worker.bad("removed, try again")
    partial.write_bytes(model + b"?")
    worker.good()


def test_damaged_cache(hub: Hub, start: Start) -> None:
    """A byte that flipped on the disk since is found, offline too."""
    worker = start()
    path = worker.good()
    path.unlink()
    blob = next(worker.hf_home.glob(f"hub/*/blobs/{digest(hub.repos[MIMI][0].files['model.safetensors'])}"))
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    ids = {"revision": hub.repos[SOPRO][-1].id, "mimi_revision": hub.repos[MIMI][0].id}
    start(HF_HUB_OFFLINE="1").bad("removed, try again", **ids)
    worker.good()


def test_full_disk(hub: Hub, worker: Worker) -> None:
    """While fetching, then while converting; what filled it is gone."""
    worker.bad("model.safetensors.*free some space", limit=300_000)
    assert not list(worker.hf_home.rglob("*.incomplete"))
    largest = max(len(c) for commit in (hub.repos[SOPRO][-1], hub.repos[MIMI][0]) for c in commit.files.values())
    worker.bad("sopro-v1.5-fp32.safetensors: cannot be written", limit=largest + 1000, recipe="fp32")
    worker.good(recipe="fp32")


def test_nobody_there(start: Start) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    start(endpoint=f"http://127.0.0.1:{port}").bad("cannot be reached")
    start().good()


def test_cache_cannot_be_made(start: Start) -> None:
    worker = start()
    worker.cache.write_text("a file")
    assert "SOPRO_NP_CACHE" in worker.download()["message"]


# ---------------------------------------------------------------- without a process


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--model NAME`: a generation, or a file of the cache; never a path."""
    monkeypatch.setenv("SOPRO_NP_CACHE", str(tmp_path))
    assert cached_model("v1") is None
    for age, name in enumerate(("sopro-v1.5-int8", "sopro-v1-fp32", "sopro-v1-int4", "mine")):
        (tmp_path / f"{name}.safetensors").touch()
        os.utime(tmp_path / f"{name}.safetensors", (age, age))
    (tmp_path.parent / "outside.safetensors").touch()
    found = {n: p and p.stem for n in ("v1", "v1.5", "mine", "mine.safetensors") for p in [cached_model(n)]}
    assert found == {"v1": "sopro-v1-int4", "v1.5": "sopro-v1.5-int8", "mine": "mine", "mine.safetensors": "mine"}
    for name in ("", "..", "../outside", str(tmp_path / "mine"), "v2", "v*", "min?", ".hidden", "mine\0"):
        assert cached_model(name) is None


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOPRO_NP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir() == Path("/home/me/.cache/sopro_np")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_dir() == Path("/x/sopro_np")
    monkeypatch.setenv("SOPRO_NP_CACHE", "/y")
    assert cache_dir() == Path("/y")


def test_requests_that_make_no_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"v1, v1\.5"):
        download("v2", cache=tmp_path)
    recipe = tmp_path / "r.json"
    recipe.write_text('{"name": "../up", "rules": [["*", "fp32"]]}')
    with pytest.raises(UsageError, match="file name"):
        download("v1", recipe=str(recipe), cache=tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DownloadError, match=r"pip install 'huggingface_hub>="):
        download("v1", cache=tmp_path)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Only what was given reaches the conversion; the path goes to stdout, the rest to stderr."""
    asked: dict[str, Any] = {}

    def fake(generation: str, progress: Callable[[str], None], **arguments: Any) -> Path:
        progress("warning: something was passed over")
        asked.clear()
        asked.update(arguments, generation=generation)
        return Path("/models/x")

    monkeypatch.setattr("sopro_np.cli.download.download", fake)
    plain = {"recipe": "int8", "revision": None, "mimi_revision": None, "accept_changes": False}
    assert main(["download", "v1"]) == 0
    assert asked == {**plain, "generation": "v1"}
    assert main(["download", "v1.5", "--strict", "--drop", "ema.*", "--allow-unknown-config", "--bos", "0"]) == 0
    options = {"strict": True, "drop": ["ema.*"], "allow_unknown_config": True, "bos": 0}
    assert asked == {**plain, **options, "generation": "v1.5"}
    out, err = capsys.readouterr()
    assert out == "/models/x\n" * 2
    assert "warning: something" in err


def test_git_hash() -> None:
    """Known from git itself: `git hash-object` of an empty file."""
    assert git_sha1(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
