"""`sopro-np serve` as a process: it starts, tells, drains on a signal with exit code 0, and refuses what is unsafe."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import tiny as models
from conftest import ROOT, on_kernels
from serving import TEXT, VOICE, pcm, quick, voices_folder

from sopro_np.cli.serve import _address
from sopro_np.errors import UsageError
from sopro_np.serve.announce import own_address
from sopro_np.serve.auth import read_keys
from sopro_np.serve.run import bind

pytestmark = [on_kernels, pytest.mark.filterwarnings("ignore::sopro_np.errors.SoproWarning")]
LONG = "This is a sentence of a long text. " * 30


class Process:
    """A server of the tiny model; `said`: its stderr so far."""

    def __init__(self, folder: Path, *arguments: str, port: int = 0, **settings: str | None) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment = {k: v for k, v in {**environment, **settings}.items() if v is not None}
        model = str(models.model_file("v1.5", "int8", 5))
        command = [sys.executable, "-m", "sopro_np", "serve", "--model", model, "--voices", str(folder)]
        command += ["--voice", VOICE, "--port", str(port), *arguments]
        self.said = ""
        self.process = subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True)

    def wait_for(self, pattern: str) -> re.Match[str]:
        assert self.process.stderr is not None
        while not (found := re.search(pattern, self.said)):
            line = self.process.stderr.readline()
            assert line, f"it ended: {self.said}"
            self.said += line
        return found

    @property
    def url(self) -> str:
        return self.wait_for(r"(http://\S+)/ ")[1]

    def ends(self, seconds: float = 60) -> int:
        _, rest = self.process.communicate(timeout=seconds)
        self.said += rest
        return self.process.returncode


@contextmanager
def server(folder: Path, *arguments: str, **settings: Any) -> Iterator[Process]:
    process = Process(voices_folder(folder), *arguments, **settings)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
            process.process.communicate()


def run(*arguments: str, code: str = "from sopro_np.cli.main import main; raise SystemExit(main())") -> tuple[int, str]:
    """Exit code and stderr of a command that does not get as far as serving."""
    command = [sys.executable, "-c", code, "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert "Traceback" not in done.stderr and not done.stdout
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_0(tmp_path: Path, number: signal.Signals) -> None:
    with server(tmp_path / "voices", "--width", "1", "--threads", "1") as it:
        it.wait_for("serve: ready")
        with httpx.Client(base_url=it.url, timeout=60) as client:
            body = {"input": LONG, "seed": 1, "response_format": "pcm"}
            with client.stream("POST", "/v1/audio/speech", json=body) as answer:
                parts = answer.iter_raw()
                heard = next(parts)
                it.process.send_signal(number)
                it.wait_for("draining")
                with httpx.Client(base_url=it.url) as other:
                    refused = other.post("/v1/audio/speech", json={"input": TEXT})
                    assert refused.status_code == 503 and refused.json()["error"]["code"] == "draining"
                heard += b"".join(parts)
        assert it.ends() == 0
    assert "Traceback" not in it.said
    assert "sentence" not in it.said  # what was said is nobody's business
    assert heard == spoken(tmp_path / "voices")


def spoken(folder: Path) -> bytes:
    """What the command's model (at its own pace) says."""
    tts = models.model("v1.5", "int8", 5)
    voice = tts.load_voice(folder / f"{VOICE}.voice.safetensors")
    return pcm(tts.synthesize(LONG, voice, seed=1))


def test_killed_and_started_anew_on_its_port(tmp_path: Path) -> None:
    with server(tmp_path / "voices") as it:
        port = int(it.url.rsplit(":", 1)[1])
        with server(tmp_path / "voices", port=port) as second:
            assert second.ends() == 2 and f"port {port}" in second.said and "--port" in second.said
        it.wait_for("serve: ready")
        it.process.kill()
        it.process.wait()
        with server(tmp_path / "voices", "--log", "text", port=port, HOME=None) as again:
            again.wait_for("serve: ready")
            answer = httpx.post(f"{again.url}/v1/audio/speech", json={"input": TEXT, "seed": 5}, timeout=60)
            assert answer.status_code == 200
            again.wait_for(re.escape(TEXT))
            again.process.terminate()
            assert again.ends() == 0


def test_every_piece_of_sound_is_sent_at_once() -> None:
    """No connection collects small pieces until the last one is acknowledged (Nagle), which takes 40 ms."""
    with bind("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname(), 10):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_the_address_that_is_told_is_one_to_type(host: str) -> None:
    """Never that of all addresses, unless there is no network."""
    try:
        listening = bind(host, 0)
    except UsageError:
        pytest.skip("no IPv6 here")
    with listening:
        told = _address(listening)
        address, port = told.rstrip("/").rsplit(":", 1)
        with suppress(UsageError):
            assert own_address(host) == address.strip("[]") or host == "127.0.0.1"
        with socket.create_connection((address.strip("[]"), int(port)), 10):
            pass


def test_it_listens_before_the_model_is_warm(tmp_path: Path) -> None:
    with server(tmp_path / "voices") as it:
        port = int(it.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), 10):
            pass
        it.process.terminate()
        assert it.ends() == 0


def test_ended_twice_it_does_not_wait(tmp_path: Path) -> None:
    with server(tmp_path / "voices", "--width", "1") as it:
        it.wait_for("serve: ready")
        body = {"input": LONG * 3, "response_format": "pcm"}
        with (
            httpx.Client(base_url=it.url, timeout=60) as client,
            client.stream("POST", "/audio/speech", json=body) as a,
        ):
            next(a.iter_raw())
            it.process.terminate()
            it.wait_for("draining")
            it.process.terminate()
            assert it.ends(20) == 0


def test_other_machines_are_let_in_only_with_a_key_or_knowingly(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.org"):
        code, said = run("--host", host)
        assert code == 2 and "--api-key-file" in said and "--i-know" in said
    keys = tmp_path / "keys"
    keys.write_text("# of the kitchen\n\nlong-enough-secret\n")
    with server(tmp_path / "voices", "--host", "0.0.0.0", "--api-key-file", str(keys)) as it:
        port = int(it.url.rsplit(":", 1)[1])
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 401
        headers = {"Authorization": "Bearer long-enough-secret"}
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers).status_code == 200
        assert "secret" not in it.said
    with server(tmp_path / "voices", "--host", "0.0.0.0", "--i-know") as it:
        assert it.url


def test_key_files_that_hold_no_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    for content in (
        b"",
        b"\n \n# only words\n",
        b"short\n",
        b"two words in one\n",
        b"\xff\xfe\n",
        "schlüssel-lang\n".encode(),
    ):
        file.write_bytes(content)
        code, said = run("--api-key-file", str(file))
        assert code == 2 and "--api-key-file" in said, content
    code, said = run("--api-key-file", str(tmp_path / "absent"))
    assert code == 2 and "No such file" in said


def test_keys_as_windows_writes_them(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"\xef\xbb\xbffirst-secret\r\nsecond-secret\r\n")
    assert read_keys(tmp_path / "keys") == ("first-secret", "second-secret")


def test_a_default_and_aliases_by_any_name_of_a_voice(tmp_path: Path) -> None:
    """What is no voice yet is told at once; and an address may have its brackets."""
    aliases = ("--alias", "me=TWO", "--alias", "later=nobody", "--alias", "loop=pool", "--alias", "pool=loop")
    with server(tmp_path / "voices", "--voice", VOICE.upper(), "--host", "[::1]", *aliases) as it:
        it.wait_for("serve: ready")
        answers = [httpx.post(f"{it.url}/audio/speech", json={"input": TEXT, "seed": 1, **voice}, timeout=60)
                   for voice in ({}, {"voice": "me"}, {"voice": "echo"}, {"voice": "later"})]  # fmt: skip
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404], it.said
    assert [answer.headers["x-sopro-voice"] for answer in answers[:3]] == [VOICE, "two", VOICE]
    assert "speaks as one, two" in it.said
    assert re.findall("--alias (.*?): there is no voice", it.said) == [
        "later=nobody", "loop=pool", "pool=loop"]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "65536"),
        ("--port", "-1"),
        ("--queue", "-1"),
        ("--memory", "0"),
        ("--width", "0"),
        ("--characters", "0"),
        ("--connections", "0"),
        ("--seed", "-1"),
        ("--drain", "-1"),
        ("--drain", "nan"),
        ("--alias", "alloy"),
        ("--alias", "=one"),
        ("--api-key-file", ""),  # $KEYS of a script that forgot it
        ("--voices", "", "--port", "0"),
        ("--cors", ""),
        ("--cors", "page.example"),
        ("--cors", "https://page.example/"),
        ("--cors", "https://Page.example"),
        ("--no-http", "--host", "0.0.0.0"),
        ("--voice", "nobody", "--port", "0"),
        ("--voices", __file__, "--port", "0"),
        ("--model", "absent", "--port", "0"),
        ("--host", "256.256.256.256", "--i-know"),
    ],
)
def test_wrong_options_are_said_before_anything_is_served(arguments: tuple[str, ...]) -> None:
    code, said = run(*arguments)
    assert code == 2 and said.strip()


def test_what_may_be_a_mistake_is_told(tmp_path: Path) -> None:
    """A folder and a voice may come later, so neither is an error."""
    with server(tmp_path / "voices", "--alias", "alloy=nobody", "--alias", f"echo={VOICE}") as it:
        it.wait_for("ready")
        assert "alloy=nobody: there is no voice 'nobody'" in it.said and "echo" not in it.said
    code, said = run("--voices", str(tmp_path / "later"), "--voice", "nobody", "--port", "0")
    assert code == 2 and "later: not there yet" in said


def test_without_the_extra_it_says_what_to_install() -> None:
    for absent in ("starlette", "uvicorn", "python_multipart"):
        code, said = run(code=f"import sys; sys.modules[{absent!r}] = None\n"
                              "from sopro_np.cli.main import main; raise SystemExit(main())")  # fmt: skip
        assert code == 2 and "pip install starlette" in said


def test_the_core_does_not_import_the_server() -> None:
    program = "import sys, sopro_np, sopro_np.cli.main, sopro_np.engine\n" \
              "assert not {'starlette', 'uvicorn', 'anyio', 'h11', 'sopro_np.serve'} & set(sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_a_folder_that_cannot_be_written_still_serves(tmp_path: Path) -> None:
    from sopro_np.errors import VoiceError
    from sopro_np.serve.voices import VoiceShelf

    shelf = VoiceShelf(quick("v1.5"), Path("/proc/no-such-folder"))
    assert shelf.names() == []
    with pytest.raises(VoiceError, match="cannot be made"):
        shelf.add("new", (models.checkpoint("v1.5", 5) / "ref.wav").read_bytes())
