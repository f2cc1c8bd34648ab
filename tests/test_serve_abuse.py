"""What a server must survive: strangers, broken and endless requests, clients that leave, names that are paths.

In hypothesis' profile `deep` 1,200 bodies of each kind, and 100 clients that leave, instead of 75 and 10.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import os
import re
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import tiny as models
from conftest import on_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import TEXT, VOICE, Live, error_of, everything, pcm, raw, serving

from sopro_np.serve.connection import RECEIVE, Connection
from sopro_np.serve.limits import Limits
from sopro_np.serve.request import MEDIA

pytestmark = [on_kernels, pytest.mark.filterwarnings("ignore::sopro_np.errors.SoproWarning")]
FIELDS = """model input voice response_format speed stream_format instructions seed temperature top_p style_strength
lenient priority deadline""".split()  # noqa: SIM905
DEEP = os.environ.get("SOPRO_NP_HYPOTHESIS") == "deep"
MANY, LEAVING = (1000, 100) if DEEP else (60, 10)  # fuzzed requests; clients that leave
LONG = "This is a sentence of a long text. " * 100
SPEECH = "POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("abuse") / "voices", width=4, queue=8) as live:
        yield live


def still_speaks(live: Live) -> None:
    """It is idle, and says what it says alone."""
    live.wait_idle()
    answer = live.post(input=TEXT, seed=1, response_format="pcm")
    assert answer.status_code == 200 and answer.content == pcm(live.wav())


# ---------------------------------------------------------------- bodies


BODIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "invalid_json"),
    "a byte": (b"{", "invalid_json"),
    "no JSON": (b"input=Hello", "invalid_json"),
    "a list": (b"[]", "invalid_json"),
    "not UTF-8": (b'{"input": "\xff"}', "invalid_json"),
    "nested": (b"[" * 60000, "invalid_json"),
    "nested objects": (b'{"input":' * 7000, "invalid_json"),
    "NaN": (b'{"input": "Hello", "temperature": NaN}', "invalid_json"),
    "a long number": (b'{"input": "Hello", "seed": ' + b"9" * 5000 + b"}", "invalid_json"),
    "no input": (b"{}", "missing"),
    "input null": (b'{"input": null}', "missing"),
    "input a number": (b'{"input": 5}', "invalid_type"),
    "input a list": (b'{"input": ["Hello"]}', "invalid_type"),
    "input empty": (b'{"input": ""}', "empty_input"),
    "input blank": (b'{"input": " \\n\\t "}', "empty_input"),
    "nothing to say": (b'{"input": "?!"}', "empty_input"),
    "a surrogate": (b'{"input": "\\ud800"}', "invalid_value"),
    "too long": (json.dumps({"input": "a" * 4097}).encode(), "string_above_max_length"),
    "voice a number": (b'{"input": "Hello", "voice": 1}', "invalid_type"),
    "voice without id": (b'{"input": "Hello", "voice": {"name": "x"}}', "invalid_type"),
    "aac": (b'{"input": "Hello", "response_format": "aac"}', "unsupported_format"),
    "format a list": (b'{"input": "Hello", "response_format": ["mp3"]}', "invalid_type"),
    "no stream format": (b'{"input": "Hello", "stream_format": "x"}', "invalid_value"),
    "speed": (b'{"input": "Hello", "speed": 1.25}', "unsupported_value"),
    "speed true": (b'{"input": "Hello", "speed": true}', "unsupported_value"),
    "seed below 0": (b'{"input": "Hello", "seed": -1}', "invalid_value"),
    "seed a text": (b'{"input": "Hello", "seed": "1"}', "invalid_value"),
    "seed beyond": (b'{"input": "Hello", "seed": 9223372036854775808}', "invalid_value"),
    "temperature": (b'{"input": "Hello", "temperature": 1e9}', "invalid_value"),
    "infinite": (b'{"input": "Hello", "temperature": 1e999}', "invalid_value"),
    "temperature of 400 digits": (b'{"input": "Hello", "temperature": 1' + b"0" * 400 + b"}", "invalid_value"),
    "speed of 400 digits": (b'{"input": "Hello", "speed": 1' + b"0" * 400 + b"}", "unsupported_value"),
    "deadline of 400 digits": (b'{"input": "Hello", "deadline": 1' + b"0" * 400 + b"}", "invalid_value"),
    "top_p": (b'{"input": "Hello", "top_p": [1]}', "invalid_value"),
    "priority": (b'{"input": "Hello", "priority": "urgent"}', "invalid_value"),
    "deadline": (b'{"input": "Hello", "deadline": 0}', "invalid_value"),
    "deadline infinite": (b'{"input": "Hello", "deadline": 1e999}', "invalid_value"),
}


def test_an_error_names_its_field_and_its_remedy_works(live: Live) -> None:
    wrong = {"voice": "nobody", "priority": "URGENT", "input": "?!", "speed": 2, "response_format": "PCM", "seed": 0.5}
    for field, value in wrong.items():
        assert error_of(live.post(**{"input": TEXT, field: value}))["param"] == field
    answer = live.post(input=f"{TEXT} \u4f60\u597d", seed=1, response_format="pcm")
    assert answer.status_code == 400 and "(lenient=True)" in error_of(answer)["message"]
    answer = live.post(input=f"{TEXT} \u4f60\u597d", seed=1, response_format="pcm", lenient=True)
    assert answer.status_code == 200 and answer.content == pcm(live.wav())
    assert live.post(input=TEXT, lenient="yes").status_code == 400


@pytest.mark.parametrize("name", sorted(BODIES))
def test_what_cannot_be_said_is_400_and_says_why(live: Live, name: str) -> None:
    body, code = BODIES[name]
    with live.client() as client:
        answer = client.post("/v1/audio/speech", content=body)
    assert answer.status_code == 400 and error_of(answer)["code"] == code
    assert error_of(answer)["type"] == "invalid_request_error"


def test_fields_of_others_are_ignored_and_nulls_are_defaults(live: Live) -> None:
    given = {**dict.fromkeys(FIELDS), "user": "x", "max_frames": "many", "extra_body": {"a": [1, None]}, "seed": 1}
    answer = live.post(**{**given, "input": TEXT})
    assert answer.status_code == 200 and answer.headers["content-type"] == "audio/mpeg"


def test_paths_and_methods_that_do_not_exist(live: Live) -> None:
    with live.client() as client:
        for method, path, status in (
            ("GET", "/v1/nothing", 404),
            ("GET", "/v1/audio/speech", 405),
            ("PUT", "/v1/audio/voices", 405),
            ("POST", "/v1/chat/completions", 404),
            ("GET", "/v1/models/other", 404),
            ("DELETE", "/v1/audio/voices/nobody", 404),
            ("GET", "/static/../app.py", 404),
        ):
            answer = client.request(method, path)
            assert answer.status_code == status, path
            error_of(answer)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
bodies = st.dictionaries(st.sampled_from(FIELDS), json_values | st.sampled_from([*MEDIA, VOICE, "bulk", "sse", 1.0]))


@settings(max_examples=MANY)
@given(body=bodies | bodies.map(lambda body: {**body, "input": "No."}))
def test_any_json_has_an_answer(live: Live, body: Any) -> None:
    answer = live.post(**body)
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code != 200:
        error_of(answer)


@settings(max_examples=MANY)
@given(body=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: ('{"input": "' + text).encode()))
def test_any_bytes_have_an_answer(live: Live, body: bytes) -> None:
    for path in ("/v1/audio/speech", "/v1/audio/voices"):
        answer = live.shared.post(path, content=body)
        assert answer.status_code == 400, answer.text
        error_of(answer)


@settings(max_examples=MANY)
@given(request=st.binary(max_size=400) | st.binary(max_size=100).map(lambda rest: SPEECH.encode() + rest))
def test_any_bytes_on_a_connection_do_no_harm(live: Live, request: bytes) -> None:
    with raw(live) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = everything(connection)
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert not answer.startswith(b"HTTP/1.1 500")


def test_what_stops_being_http_is_told_so_or_hung_up_on(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    """Before, while and after it is answered; it is no failure of ours, that a log would tell of."""
    head = "{} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for line, bad, answers in (
        ("NO REQUEST AT ALL", "", [400]),
        ("POST /v1/audio/speech", "-1\r\n", [400]),
        ("POST /v1/nothing", "-1\r\n", [404]),
        ("GET /healthz", "-1\r\n", [200]),
        ("GET /", "5\r\nabcde-1\r\n", [200]),
        ("GET /healthz", "0\r\n\r\n\0\r\n\r\n", [200, 400]),
    ):
        with raw(live) as connection:
            connection.sendall(head.format(line).encode())
            time.sleep(0.1)  # most are answered meanwhile
            with contextlib.suppress(OSError):
                connection.sendall(bad.encode())
            answer = everything(connection)
        assert [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", answer)] == answers, (line, bad)
        if answers[-1] == 400:
            assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
    assert "Traceback" not in caplog.text
    still_speaks(live)


# ---------------------------------------------------------------- sizes and times


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_gigabyte_that_is_declared_is_not_waited_for(live: Live) -> None:
    for size in ("1073741824", "9" * 30):
        for path in ("speech", "voices"):
            with raw(live) as connection:
                connection.sendall(
                    f"POST /v1/audio/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
                )
                assert status_of(everything(connection)) in (400, 413)
    still_speaks(live)


def test_a_body_without_end_is_cut_off(live: Live) -> None:
    sent, piece = 0, b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with raw(live) as connection:
        connection.sendall((SPEECH + "Transfer-Encoding: chunked\r\n\r\n").encode())
        with contextlib.suppress(ConnectionError):
            while sent < 64 << 20:
                connection.sendall(piece)
                sent += len(piece)
        assert sent < 16 << 20  # what fits into buffers of the system
    still_speaks(live)


def test_chunks_of_one_byte_are_counted_as_bytes(live: Live) -> None:
    body = json.dumps({"input": TEXT, "seed": 1, "response_format": "pcm"})
    chunks = "".join(f"1\r\n{byte}\r\n" for byte in body) + "0\r\n\r\n"
    with raw(live) as connection:
        connection.sendall((SPEECH + "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks).encode())
        answer = everything(connection)
    assert status_of(answer) == 200


def test_headers_without_end_are_refused(live: Live) -> None:
    with raw(live) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(SPEECH.encode())
        for i in range(10_000):
            connection.sendall(f"X-{i}: {'x' * 1000}\r\n".encode())
        pytest.fail("10 MB of headers were read")
    still_speaks(live)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"POST /v1/audio/speech HTTP",
        (SPEECH + "X: y\r\n").encode(),
        (SPEECH + "Content-Length: 100\r\n\r\n{").encode(),
        (SPEECH + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n").encode(),
    ],
)
def test_a_request_has_to_arrive_in_time(live: Live, start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RECEIVE + 5 <= 20
    monkeypatch.setattr(Connection, "receive_seconds", 0.5)
    with raw(live) as connection:
        connection.sendall(start)
        connection.settimeout(0.05)
        answer, until = b"", time.monotonic() + 20
        while time.monotonic() < until:  # a byte now and then keeps nothing open
            try:
                if not (part := connection.recv(1 << 16)):
                    break
                answer += part
            except TimeoutError:
                pass
            except ConnectionError:
                break
            with contextlib.suppress(ConnectionError):
                if start:
                    connection.sendall(b"x")
        else:
            pytest.fail("it is still open")
    if start and not answer:
        return  # what came too late was answered by a reset, and that hid the answer
    assert status_of(answer) == 408 and b'"error"' in answer


def test_a_second_request_on_a_connection_has_to_arrive_in_time(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    with raw(live) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(Connection, "receive_seconds", 0.3)
        connection.sendall(b"GET /healthz HT")
        assert status_of(everything(connection)) == 408


def test_speech_takes_longer_than_a_request_may(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "receive_seconds", 0.05)
    answer = live.post(input=LONG[:1000], seed=1, response_format="pcm")
    assert answer.content == pcm(live.wav(LONG[:1000]))


def test_a_reader_that_does_not_read_is_let_go(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "stalled_seconds", 0.3)
    body = json.dumps({"input": LONG, "response_format": "wav"})
    connection = socket.socket()
    with connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", live.port))
        connection.sendall((SPEECH + f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
        until = time.monotonic() + 60
        while not live.service.scheduler.stats()["running"]:
            assert time.monotonic() < until
        while live.service.scheduler.stats()["memory_estimate_bytes"]:
            assert time.monotonic() < until, "its audio is still held"
            time.sleep(0.05)
        assert len(everything(connection)) < 2 * 24000 * 60  # of more than two minutes
    still_speaks(live)


def test_connections_are_bounded(tmp_path: Path) -> None:
    with serving(tmp_path / "voices", limits=Limits(connections=3)) as live, contextlib.ExitStack() as stack:
        held = [stack.enter_context(raw(live)) for _ in range(3)]
        while len(held) < 6:
            held.append(stack.enter_context(raw(live)))
            held[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = everything(held[-1])
            assert status_of(answer) == 503 and b"retry-after" in answer.lower()
        held[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status_of(everything(held[0])) == 200  # those that are in are served
        silent = [stack.enter_context(raw(live)) for _ in range(8)]
        assert any(not everything(connection) for connection in silent[-2:])  # beyond twice as many: closed at once


def test_two_hundred_at_once(live: Live) -> None:
    async def ask(client: httpx.AsyncClient, seed: int) -> httpx.Response:
        body = {"input": "No.", "seed": seed, "response_format": "pcm"}
        return await client.post("/v1/audio/speech", json=body)

    async def all_of_them() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=live.url, timeout=120, limits=limits) as client:
            return await asyncio.gather(*(ask(client, seed) for seed in range(200)))

    answers = asyncio.run(all_of_them())
    spoken = {seed: answer for seed, answer in enumerate(answers) if answer.status_code == 200}
    assert len(spoken) >= 12 and {answer.status_code for answer in answers} <= {200, 429}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)
    for seed, answer in list(spoken.items())[:10]:
        assert answer.content == pcm(live.wav("No.", seed=seed))
    still_speaks(live)


# ---------------------------------------------------------------- clients that leave


def test_clients_that_leave_in_the_middle_leave_nothing_behind(live: Live) -> None:
    scheduler = live.service.scheduler
    before = scheduler.stats()["cancelled"]
    for i in range(LEAVING):
        body = {"input": LONG, "seed": i, "response_format": ("pcm", "mp3", "flac", "opus", "wav")[i % 5]}
        with live.client() as client, client.stream("POST", "/v1/audio/speech", json=body) as answer:
            assert answer.status_code == 200
            next(answer.iter_raw())
        live.wait_idle(10)
    assert scheduler.stats()["cancelled"] == before + LEAVING and len(scheduler._batch) == 0
    still_speaks(live)


def test_a_client_that_leaves_while_it_waits_leaves_the_queue(live: Live) -> None:
    scheduler = live.service.scheduler
    body = json.dumps({"input": LONG, "priority": "bulk"})
    request = (SPEECH + f"Content-Length: {len(body)}\r\n\r\n{body}").encode()
    with contextlib.ExitStack() as stack:
        for _ in range(8):  # 3 of 4 places are for bulk work
            stack.enter_context(raw(live)).sendall(request)
        until = time.monotonic() + 20
        while scheduler.stats()["waiting"] < 5:
            assert time.monotonic() < until
            time.sleep(0.01)
    live.wait_idle(10)
    still_speaks(live)


# ---------------------------------------------------------------- names

NAMES = """
../one ..\\one ../../etc/passwd /etc/passwd ....//....//etc/passwd %2e%2e%2fone ..%2fone ..%252fone ..%c0%afone
one/ one/.. ./one ~/one ~root file:///etc/passwd http://127.0.0.1/ http://169.254.169.254/latest/meta-data/
https://example.org/x.wav ftp://127.0.0.1/x gopher://127.0.0.1:1/x hf://kyutai/tts-voices/x.wav s3://bucket/x
data:audio/wav;base64,UklGRg== //127.0.0.1/x \\\\127.0.0.1\\x [::1] 127.0.0.1:8000 localhost @127.0.0.1 one@127.0.0.1
con nul aux.wav one.voice.safetensors one.wav two.wav one.safetensors .one one. ..one * ? one* $HOME ${HOME} `id`
$(id) ;id |id &id <one> "one" 'one' {one} one#two one?two=1 file:one jar:file:one! php://filter/x -
""".split()  # noqa: SIM905
NAMES += ["one\0", "one\0.wav", "one\n", "\none", " one", "one ", "one two", "öne", "ｏne", "оne", "a" * 65, "a" * 5000]

EVENTS = ("open", "socket.getaddrinfo", "socket.connect", "subprocess.Popen", "os.mkdir")
watched: list[tuple[str, str]] | None = None


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if watched is not None and event in EVENTS:
        watched.append((event, repr(arguments)))


sys.addaudithook(watch)


def test_names_that_are_paths_or_addresses_are_names_of_nobody(live: Live) -> None:
    global watched
    assert len(NAMES) >= 50
    recording = (models.checkpoint("v1.5", 5) / "ref.wav").read_bytes()
    before = sorted(live.service.shelf.folder.iterdir())
    watched = []
    try:
        with live.client() as client:
            for name in NAMES:
                for voice in (name, {"id": name}):
                    answer = client.post("/v1/audio/speech", json={"input": TEXT, "voice": voice})
                    assert answer.status_code == 404 and error_of(answer)["code"] == "voice_not_found", name
                if name not in ("con", "nul", "localhost", "-"):  # fine as names of voices
                    files = {"audio_sample": recording}
                    answer = client.post("/v1/audio/voices", data={"name": name, "consent": "yes"}, files=files)
                    assert answer.status_code == 400, name
                target = "".join(f"%{byte:02x}" for byte in name.encode())
                answer = client.delete(f"/v1/audio/voices/{target}")
                assert answer.status_code == 404, name
        seen = list(watched)
    finally:
        watched = None
    own = (str(live.service.shelf.folder), "127.0.0.1", "ref.wav")
    seen = [(event, what) for event, what in seen if not any(part in what for part in own)]
    assert not [event for event, _ in seen if event != "open"], seen
    assert not [what for _, what in seen if any(name.strip("./\\ \0\n") in what for name in NAMES if len(name) > 8)]
    assert sorted(live.service.shelf.folder.iterdir()) == before


WORDS = " ".join(("a", "secret", "text"))  # so that no line of code holds it


def test_a_fault_of_ours_is_told_without_its_words(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError(WORDS)

    with monkeypatch.context() as patched:
        patched.setattr(live.service.scheduler, "submit", broken)
        answer = live.post(input="Nobody should read this.")
    assert answer.status_code == 500 and error_of(answer)["code"] == "internal_error"
    with monkeypatch.context() as patched:
        patched.setattr(live.service.scheduler._batch, "step", broken)
        answer = live.post(input="Nobody should read this.")
    assert answer.status_code == 500 and error_of(answer)["code"] == "internal_error"
    assert "ZeroDivisionError" in caplog.text and "in broken" in caplog.text
    assert WORDS not in caplog.text + answer.text and "Nobody" not in caplog.text
    still_speaks(live)


# ---------------------------------------------------------------- uploads


def upload(live: Live, data: bytes, name: str = "new", **fields: str) -> httpx.Response:
    with live.client() as client:
        fields = {"name": name, "consent": "yes", **fields}
        return client.post("/v1/audio/voices", data=fields, files={"audio_sample": ("x.wav", data)})


def flac(seconds: float, rate: int = 24000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((int(seconds * rate), channels), np.int16), rate, format="FLAC")
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("me.wav", bytes(1 << 22))
    return file.getvalue()


def test_recordings_that_are_none_or_too_long_are_refused(live: Live) -> None:
    good = (models.checkpoint("v1.5", 5) / "ref.wav").read_bytes()
    longer = flac(121)
    assert len(longer) < 100_000  # a bomb: 11 MB of samples
    forged = bytearray(longer)
    forged[18:26] = forged[18:21] + bytes([forged[21] & 0xF0]) + bytes(4)  # its length: not known
    bad = {
        "empty": b"",
        "text": b"no recording at all " * 100,
        "silence": flac(3),
        "a bomb": longer,
        "a bomb with a forged length": bytes(forged),
        "many channels": flac(62, 48000, 8),
        "zip": archive(),
        "m4a": b"\0\0\0\x18ftypM4A \0\0\0\0" + bytes(5000),
        "webm": b"\x1aE\xdf\xa3" + bytes(5000),
        "cut off": good[:30],
        "pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
    }
    for name, data in bad.items():
        answer = upload(live, data)
        assert answer.status_code == 400, (name, answer.text)
        assert error_of(answer)["code"] in ("invalid_audio", "missing"), name
    assert live.service.shelf.names() == [VOICE, "two"]
    still_speaks(live)


def test_a_form_has_a_name_a_recording_and_consent(live: Live) -> None:
    good = (models.checkpoint("v1.5", 5) / "ref.wav").read_bytes()
    for fields in ({"name": ""}, *({"consent": no} for no in ("", "no", " False", "off", "null", "undefined", "N"))):
        answer = upload(live, good, **fields)
        assert answer.status_code == 400 and error_of(answer)["code"] == "missing"
    with live.client() as client:
        fields = {"name": "new", "consent": "yes"}
        kinds = ("multipart/form-data", "multipart/form-data; boundary=x", "multipart/form-data; boundary=", "x")
        answers = [
            client.post("/v1/audio/voices", data=fields),
            client.post("/v1/audio/voices", data={**fields, "audio_sample": "text"}, files={"other": b"x"}),
            *(client.post("/v1/audio/voices", content=b"--x", headers={"Content-Type": kind}) for kind in kinds),
            client.post("/v1/audio/voices", data=fields, files=[(f"f{i}", b"x") for i in range(20)]),
            client.post("/v1/audio/voices", data={f"a{i}": "x" for i in range(50)}, files={"audio_sample": good}),
        ]
    for answer in answers:
        assert answer.status_code == 400, answer.text
        error_of(answer)
    assert live.service.shelf.names() == [VOICE, "two"]


def test_uploads_are_bounded_in_size_and_number(live: Live) -> None:
    head = "POST /v1/audio/voices HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with raw(live) as connection:
        connection.sendall(f"{head}Content-Length: {64 << 20}\r\n\r\n".encode())
        assert status_of(everything(connection)) == 413
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(raw(live)).sendall(f"{head}Content-Length: 1000\r\n\r\n--x".encode())
        until = time.monotonic() + 10
        while (answer := upload(live, b"x")).status_code != 429:
            assert time.monotonic() < until
        assert "retry-after" in answer.headers
    until = time.monotonic() + 10
    while (answer := upload(live, b"x")).status_code == 429:
        assert time.monotonic() < until
    assert answer.status_code == 400


@pytest.mark.parametrize("declared", [True, False])
def test_sixty_four_megabytes_that_are_really_sent(live: Live, declared: bool) -> None:
    """They are not read to their end, and take no memory."""
    head = "POST /v1/audio/voices HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    size = f"Content-Length: {64 << 20}\r\n\r\n" if declared else "Transfer-Encoding: chunked\r\n\r\n"
    block, sent = bytes(1 << 20), 0
    with raw(live) as connection:
        connection.sendall((head + size).encode())
        with contextlib.suppress(OSError):  # the other side has had enough
            while sent < 64 << 20:
                connection.sendall(block if declared else b"100000\r\n" + block + b"\r\n")
                sent += len(block)
        with contextlib.suppress(OSError):
            answer = everything(connection)
            assert not answer or status_of(answer) == 413
    assert sent < 32 << 20
    still_speaks(live)


def test_a_full_disk_leaves_no_half_a_voice(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    good = (models.checkpoint("v1.5", 5) / "ref.wav").read_bytes()

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(live.service.shelf.folder.iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        answer = upload(live, good)
    assert answer.status_code == 500 and "No space left" in error_of(answer)["message"]
    assert sorted(live.service.shelf.folder.iterdir()) == before
    assert upload(live, good).status_code == 200
    with live.client() as client:
        assert client.delete("/v1/audio/voices/new").status_code == 200


# ---------------------------------------------------------------- keys and origins


def test_a_key_opens_everything_and_without_it_only_lists_are_open(tmp_path: Path) -> None:
    keys = ("first-secret", "second-secret")
    with serving(tmp_path / "voices", keys=keys) as live, live.client() as client:
        lists = [base + path for base in ("", "/v1") for path in ("/models", "/audio/voices", "/audio/models")]
        for path in (*lists, "/", "/healthz", "/readyz"):
            assert client.get(path).status_code == 200, path
        closed = [
            ("POST", "/v1/audio/speech"),
            ("POST", "/audio/speech"),
            ("POST", "/v1/audio/voices"),
            ("DELETE", "/v1/audio/voices/two"),
            ("GET", "/metrics"),
            ("GET", "/v1/status"),
            ("GET", "/v1/models/x"),
            ("GET", "/nothing"),
            ("OPTIONS", "/v1/audio/speech"),
        ]
        wrong = ("", "Bearer", "Bearer ", "Bearer x", "Bearer first-secre", "Bearer first-secret2", "first-secret",
                 "Basic first-secret", "Bearer first-secret second-secret", "Bearer \xff")  # fmt: skip
        for method, path in closed:
            for given in wrong:
                request = client.build_request(method, path)
                if given:
                    request.headers.raw.append((b"authorization", given.strip().encode("latin-1")))
                answer = client.send(request)
                assert answer.status_code == 401, (method, path, given)
                assert error_of(answer)["code"] == "invalid_api_key" and answer.headers["www-authenticate"] == "Bearer"
        for key in keys:
            headers = {"Authorization": f"Bearer {key}"}
            assert client.get("/metrics", headers=headers).status_code == 200
            assert client.post("/v1/audio/speech", headers=headers, json={"input": "No."}).status_code == 200
        assert client.get("/metrics", headers={"Authorization": f"bearer {keys[0]}"}).status_code == 200


def test_pages_of_other_origins_make_no_work(live: Live) -> None:
    with live.client() as client:
        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{live.port + 1}", "http://[", "x"):
            headers = {"Origin": origin, "Content-Type": "text/plain"}
            for path in ("/v1/audio/speech", "/v1/audio/voices"):
                answer = client.post(path, headers=headers, content=json.dumps({"input": TEXT}))
                assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
        own = client.post("/v1/audio/speech", headers={"Origin": live.url}, json={"input": "No."})
        assert own.status_code == 200 and "access-control-allow-origin" not in own.headers


def test_a_page_that_had_its_name_lead_here_makes_no_work(live: Live, tmp_path: Path) -> None:
    """DNS rebinding: such a page and its requests have one origin. With keys it does not know them."""
    body = {"input": "No."}

    def of_page(its: Live, name: str, **headers: str) -> int:
        host = f"{name}:{its.port}"
        with its.client() as client:
            headers = {"Host": host, "Origin": f"http://{host}", **headers}
            return client.post("/v1/audio/speech", headers=headers, json=body).status_code

    for name in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "local.evil", "evil.example."):
        assert of_page(live, name) == 403, name
    for name in (
        "localhost",
        "LOCALHOST",
        "127.0.0.1",
        "192.168.1.20",
        "[::1]",
        "sopro",
        "pi.local",
        "host.docker.internal",
    ):
        assert of_page(live, name) == 200, name
    with serving(tmp_path / "voices", keys=("long-secret",)) as its:
        assert of_page(its, "speech.example", Authorization="Bearer long-secret") == 200


def test_an_origin_that_is_named_may_use_it(tmp_path: Path) -> None:
    friend = "https://friend.example"
    with serving(tmp_path / "voices", cors=(friend,), keys=("long-secret",)) as live, live.client() as client:
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
        answer = client.options("/v1/audio/speech", headers={"Origin": friend, **asks})
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == friend
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()
        headers = {"Origin": friend, "Authorization": "Bearer long-secret"}
        answer = client.post("/v1/audio/speech", headers=headers, json={"input": "No."})
        assert answer.status_code == 200 and "X-Sopro-Seed" in answer.headers["access-control-expose-headers"]
        refused = client.post("/v1/audio/speech", headers={"Origin": friend}, json={"input": "No."})
        assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == friend
        other = client.post("/v1/audio/speech", headers={**headers, "Origin": "https://other.example"}, json={})
        assert other.status_code == 403


def test_memory_is_bounded_by_estimate(tmp_path: Path) -> None:
    from sopro_np.options import Options
    from sopro_np.serve.estimate import need, total_bytes

    with serving(tmp_path / "voices", width=1, memory=1 << 40) as live:
        scheduler = live.service.scheduler
        scheduler.memory = total_bytes([need(live.service.tts, len(LONG), Options())] * 2, 1)
        with live.client() as client, contextlib.ExitStack() as stack:
            body = {"input": LONG, "response_format": "pcm"}
            for _ in range(2):
                threading.Thread(target=_hold, args=(live, body, stack), daemon=True).start()
            until = time.monotonic() + 20
            while scheduler.stats()["memory_estimate_bytes"] < scheduler.memory:
                assert time.monotonic() < until
                time.sleep(0.01)
            answer = client.post("/v1/audio/speech", json=body)
            assert answer.status_code == 429 and "memory" in error_of(answer)["message"]
            assert "retry-after" in answer.headers
        live.wait_idle()
        scheduler.memory = 1
        answer = live.post(**body)
        assert answer.status_code == 400 and "MiB" in error_of(answer)["message"]


def _hold(live: Live, body: dict[str, Any], stack: contextlib.ExitStack) -> None:
    text = json.dumps(body)
    connection = stack.enter_context(raw(live))
    connection.sendall((SPEECH + f"Content-Length: {len(text)}\r\n\r\n{text}").encode())
