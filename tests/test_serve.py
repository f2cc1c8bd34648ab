"""HTTP endpoints: what every client sends is answered as it expects, with the samples that `synthesize` gives."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import tiny as models
from conftest import ARCHS, ROOT, on_kernels
from serving import TEXT, VOICE, Late, Live, decoded, error_of, events, pcm, serving

from sopro_np.model.stop import EndCode
from sopro_np.sampler import Sampler

pytestmark = [on_kernels, pytest.mark.filterwarnings("ignore::sopro_np.errors.SoproWarning")]
FORMATS = {"wav": "audio/wav", "pcm": "audio/pcm", "flac": "audio/flac", "mp3": "audio/mpeg", "opus": "audio/ogg"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("serve") / "voices") as live:
        yield live


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        yield client


# ---------------------------------------------------------------- the same samples


@pytest.mark.parametrize("arch", ARCHS)
def test_pcm_is_what_synthesize_gives_alone_and_beside_fifteen_others(arch: str, tmp_path: Path) -> None:
    texts = [f"Yes {i}." + " And a second sentence." * (i % 8 == 0) for i in range(16)]
    with serving(tmp_path / "voices", arch) as live:

        def ask(i: int) -> bytes:
            priority = ("interactive", "normal", "bulk")[i % 3]
            answer = live.post(input=texts[i], voice=VOICE, seed=i, response_format="pcm", priority=priority)
            assert answer.status_code == 200 and answer.headers["x-sopro-seed"] == str(i)
            return answer.content

        with ThreadPoolExecutor(16) as pool:
            together = list(pool.map(ask, range(16)))
        assert ask(0) == together[0]
        for i, text in enumerate(texts):
            assert together[i] == pcm(live.wav(text, seed=i)), i


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_format_decodes_to_the_speech(live: Live, form: str) -> None:
    answer = live.post(input=TEXT, seed=1, response_format=form)
    assert answer.status_code == 200 and answer.headers["content-type"] == FORMATS[form]
    assert answer.headers["x-sopro-voice"] == VOICE and answer.headers["x-sopro-sample-rate"] == "24000"
    expected = live.wav()
    if form == "pcm":
        assert answer.content == pcm(expected)
        return
    if form == "wav":
        assert answer.content[44:] == pcm(expected)
        return
    samples, rate = decoded(answer.content)
    if form == "flac":
        assert samples.tobytes() == pcm(expected) and rate == 24000
        return
    seconds = len(samples) / rate
    assert abs(seconds - len(expected) / 24000) < 0.2
    loudness = np.sqrt(np.mean(np.square(samples / 32768)))
    assert 0.5 < loudness / np.sqrt(np.mean(np.square(expected))) < 2


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe here")
def test_ffprobe_reads_every_format(live: Live) -> None:
    codecs = {"wav": "pcm_s16le", "flac": "flac", "mp3": "mp3", "opus": "opus"}
    for form, codec in codecs.items():
        data = live.post(input=TEXT, seed=1, response_format=form).content
        command = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name,channels", "-of", "csv=p=0", "-i", "-"]
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        assert done.stdout.decode().split() == [f"{codec},1"] and not done.stderr, done.stderr


def test_audio_comes_while_it_is_made(live: Live) -> None:
    text = " ".join(f"Sentence number {i} of a long text." for i in range(12))
    with (
        live.client() as client,
        client.stream("POST", "/v1/audio/speech", json={"input": text, "seed": 3, "response_format": "pcm"}) as answer,
    ):
        parts = answer.iter_raw()
        first = next(parts)
        assert live.service.scheduler.stats()["running"] == 1  # it goes on
        assert first + b"".join(parts) == pcm(live.wav(text, seed=3))


def test_events_hold_the_same_bytes(live: Live) -> None:
    plain = live.post(input=TEXT, seed=1, response_format="pcm").content
    answer = live.post(input=TEXT, seed=1, response_format="pcm", stream_format="sse")
    assert answer.headers["content-type"] == "text/event-stream"
    *deltas, done, end = events(answer.text)
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == plain
    assert done["type"] == "speech.audio.done" and end == "[DONE]"
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def test_a_seed_is_drawn_and_told(live: Live) -> None:
    answers = [live.post(input=TEXT, response_format="pcm") for _ in range(2)]
    seeds = [int(answer.headers["x-sopro-seed"]) for answer in answers]
    assert seeds[0] != seeds[1]
    assert answers[0].content == pcm(live.wav(seed=seeds[0]))


def test_options_beside_openais_do_what_they_do_in_synthesize(live: Live) -> None:
    options: dict[str, Any] = {"temperature": 0.7, "top_p": 0.8, "style_strength": 0.5}
    answer = live.post(input=TEXT, seed=2, response_format="pcm", **options)
    assert answer.content == pcm(live.wav(seed=2, **options))
    assert answer.content != live.post(input=TEXT, seed=2, response_format="pcm").content


# ---------------------------------------------------------------- voices


def test_voices_are_those_of_the_folder(live: Live) -> None:
    assert live.service.shelf.names() == [VOICE, "two"]
    by_name = live.post(input=TEXT, seed=1, response_format="pcm", voice="two")
    assert by_name.headers["x-sopro-voice"] == "two" and by_name.content == pcm(live.wav(voice="two"))
    assert live.post(input=TEXT, seed=1, response_format="pcm", voice={"id": "two"}).content == by_name.content
    assert live.post(input=TEXT, seed=1, response_format="pcm", voice="TWO").content == by_name.content
    assert by_name.content != live.post(input=TEXT, seed=1, response_format="pcm").content


def test_openais_names_are_the_default_unless_they_are_configured(live: Live, tmp_path: Path) -> None:
    names = """alloy ash ballad coral echo fable onyx nova sage shimmer verse marin cedar""".split()  # noqa: SIM905
    assert len(names) == 13
    for name in names:
        answer = live.post(input="No.", seed=1, response_format="pcm", voice=name)
        assert answer.status_code == 200 and answer.headers["x-sopro-voice"] == VOICE
    with serving(tmp_path / "voices", aliases={"alloy": "two"}) as other:
        assert other.post(input="No.", voice="alloy").headers["x-sopro-voice"] == "two"
        assert other.post(input="No.", voice="nova").headers["x-sopro-voice"] == VOICE


@pytest.mark.parametrize("name", ["nobody", "Alloyy", "ross", "on", "one.voice.safetensors", "two.wav", "bad name!"])
def test_any_other_voice_is_unknown(live: Live, name: str) -> None:
    answer = live.post(input=TEXT, voice=name)
    assert answer.status_code == 404 and error_of(answer)["code"] == "voice_not_found"


def test_a_recording_dropped_into_the_folder_is_a_voice_and_is_gone_with_it(live: Live) -> None:
    path = live.service.shelf.folder / "three.wav"
    assert live.post(input=TEXT, voice="three").status_code == 404
    path.write_bytes((models.checkpoint("v1.5", 5) / "ref.wav").read_bytes())
    with live.client() as client:
        assert "three" in [voice["id"] for voice in client.get("/v1/audio/voices").json()["voices"]]
    assert live.post(input=TEXT, voice="three", seed=1, response_format="pcm").content == pcm(live.wav(voice="two"))
    path.write_bytes(b"RIFF....WAVE, and nothing that can be heard")
    assert live.post(input=TEXT, voice="three").status_code == 400
    path.unlink()
    assert live.post(input=TEXT, voice="three").status_code == 404


# ---------------------------------------------------------------- clients as they are


def test_openai_package(live: Live, client: openai.OpenAI) -> None:
    expected = live.wav(seed=7)
    common: dict[str, Any] = {"model": "tts-1", "voice": "alloy", "input": TEXT, "extra_body": {"seed": 7}}
    assert client.audio.speech.create(response_format="pcm", **common).read() == pcm(expected)
    with client.audio.speech.with_streaming_response.create(response_format="wav", **common) as answer:
        assert b"".join(answer.iter_bytes())[44:] == pcm(expected)
    with client.audio.speech.with_streaming_response.create(
        response_format="pcm", stream_format="sse", **common
    ) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        *deltas, _, _ = events("\n".join(answer.iter_lines()) + "\n")
        assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == pcm(expected)
    assert (
        client.audio.speech.create(**common, instructions="Calmly.", speed=1.0).response.headers["content-type"]
        == "audio/mpeg"
    )
    [model] = client.models.list().data
    assert client.models.retrieve(model.id).id == live.service.model_id


def test_openai_package_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.audio.speech.create(model="x", voice="nobody", input=TEXT)
    with pytest.raises(openai.BadRequestError, match="empty"):
        client.audio.speech.create(model="x", voice="alloy", input="  ")
    with pytest.raises(openai.BadRequestError, match="speed"):
        client.audio.speech.create(model="x", voice="alloy", input=TEXT, speed=1.5)
    with pytest.raises(openai.BadRequestError, match="aac"):
        client.audio.speech.create(model="x", voice="alloy", input=TEXT, response_format="aac")


def test_openai_package_makes_a_voice_and_removes_it(live: Live, client: openai.OpenAI) -> None:
    recording = (models.checkpoint("v1.5", 5) / "ref.wav").read_bytes()
    made = client.audio.voices.create(name="mine", audio_sample=("me.wav", recording, "audio/wav"), consent="cons_1")
    assert (made.id, made.name, made.object, made.type) == ("mine", "mine", "audio.voice", "audio_sample")
    assert made.created_at > 10**9
    spoken = live.post(input=TEXT, seed=1, voice="mine", response_format="pcm").content
    assert spoken == pcm(live.service.tts.synthesize(TEXT, live.service.tts.voice(recording), seed=1))
    with pytest.raises(openai.ConflictError):
        client.audio.voices.create(name="mine", audio_sample=recording, consent="cons_1")
    client.audio.voices.delete("mine")
    assert live.post(input=TEXT, voice="mine").status_code == 404
    with pytest.raises(openai.NotFoundError):
        client.audio.voices.delete("mine")
    with pytest.raises(openai.BadRequestError):
        client.audio.voices.delete("two")  # it lies there as a recording
    assert (live.service.shelf.folder / "two.wav").exists()


CLIENTS: dict[str, tuple[str, dict[str, str], dict[str, Any], str]] = {
    "Open WebUI": ("/v1", {"Authorization": "Bearer sk"}, {"input": TEXT, "voice": "alloy", "model": "tts-1"}, "mpeg"),
    "Open WebUI, without /v1": ("", {"Authorization": "Bearer "}, {"input": TEXT, "voice": VOICE, "model": ""}, "mpeg"),
    "LibreChat": ("/v1", {}, {"input": TEXT, "model": "tts-1", "voice": "nova", "backend": "openai"}, "mpeg"),
    "LibreChat for LocalAI": ("/v1", {}, {"input": TEXT, "model": "two", "backend": "piper"}, "mpeg"),
    "SillyTavern": (
        "/v1",
        {"Authorization": "Bearer "},
        {"input": TEXT, "response_format": "mp3", "voice": "alloy", "speed": 1, "model": "tts-1", "provider": "x"},
        "mpeg",
    ),
    "Home Assistant, batch": (
        "/v1",
        {},
        {"model": "tts-1", "input": TEXT, "voice": "shimmer", "response_format": "mp3", "speed": 1.0, "chime": True},
        "mpeg",
    ),
    "Home Assistant, stream": (
        "/v1",
        {},
        {"model": "tts-1", "input": TEXT, "voice": "shimmer", "response_format": "opus", "speed": 1.0, "extra": [1]},
        "ogg",
    ),
    "Pipecat": (
        "/v1",
        {},
        {"input": TEXT, "model": "gpt-4o-mini-tts", "voice": "alloy", "response_format": "pcm"},
        "pcm",
    ),
    "LiveKit": (
        "/v1",
        {"Accept": "application/octet-stream"},
        {
            "input": TEXT,
            "model": "gpt-4o-mini-tts",
            "voice": "ash",
            "response_format": "mp3",
            "speed": 1.0,
            "stream_format": "sse",
            "instructions": "",
        },
        "event-stream",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_what_a_client_sends_is_answered_as_it_expects(live: Live, name: str) -> None:
    base, headers, body, media = CLIENTS[name]
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)  # sends what it is told
    connection.request(
        "POST", f"{base}/audio/speech", json.dumps(body), {"Content-Type": "application/json", **headers}
    )
    answer = connection.getresponse()
    data = answer.read()
    assert answer.status == 200 and media in answer.headers["content-type"]
    if media == "event-stream":
        found = [event for event in events(data.decode()) if event != "[DONE]"]
        data = b"".join(base64.b64decode(event.get("delta") or event.get("audio", "")) for event in found)
    voice = answer.headers["x-sopro-voice"]
    assert voice == ("two" if "LocalAI" in name else VOICE)
    expected = live.wav(seed=int(answer.headers["x-sopro-seed"]), voice=voice)
    if media == "pcm":
        assert data == pcm(expected)
        return
    samples, rate = decoded(data)
    assert abs(len(samples) / rate - len(expected) / 24000) < 0.2


def test_docs_serving_has_the_requests_of_all_clients() -> None:
    """What stands there is what is sent here."""
    page = (ROOT / "docs" / "SERVING.md").read_text("utf-8")
    told = [json.loads(body) for body in re.findall(r"^ {4}POST /v1/audio/speech (\{.*\})$", page, re.M)]
    sent = [body for name, (_, _, body, _) in CLIENTS.items() if "without /v1" not in name]
    assert told == sent


def test_what_clients_ask_first(live: Live) -> None:
    with live.client() as client:
        for base in ("", "/v1"):
            voices = client.get(f"{base}/audio/voices").json()
            assert voices["voices"] == voices["data"] and [v["id"] for v in voices["voices"]] == [VOICE, "two"]
            assert all(voice["name"] == voice["id"] for voice in voices["voices"])
            for path in ("/models", "/audio/models"):
                models_ = client.get(base + path).json()
                assert models_["data"][0]["id"] == models_["models"][0]["id"] == live.service.model_id
        assert client.get("/").status_code == 200  # LiveKit's prewarming, and the page
        assert "text/html" in client.get("/").headers["content-type"]
        assert client.head("/").status_code == 200


def test_one_connection_serves_many_requests(live: Live) -> None:
    with live.client() as client:
        answers = [client.post("/v1/audio/speech", json={"input": "No.", "seed": i}) for i in range(5)]
        assert [answer.headers["x-sopro-seed"] for answer in answers] == list("01234")


# ---------------------------------------------------------------- health


def test_health_and_metrics(live: Live) -> None:
    with live.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").status_code == 200
        before = client.get("/v1/status").json()
        live.post(input=TEXT)
        text = client.get("/metrics").text
    samples = {}
    for line in text.splitlines():
        if line.startswith("# "):
            assert line.split()[1] in ("HELP", "TYPE") and line.split()[2].startswith("sopro_")
        else:
            name, value = line.rsplit(" ", 1)
            assert name.startswith("sopro_")
            samples[name] = float(value)
    assert samples['sopro_requests_total{outcome="finished"}'] == before["finished"] + 1
    assert samples["sopro_ready"] == 1 and samples["sopro_resident_bytes"] > 1e7 and samples["sopro_arena_bytes"] > 0
    for name in ("queue_wait", "first_audio", "request"):
        counts = [v for k, v in samples.items() if k.startswith(f"sopro_{name}_seconds_bucket")]
        assert counts == sorted(counts) and counts[-1] == samples[f"sopro_{name}_seconds_count"] > 0
    assert samples["sopro_audio_seconds_total"] > 0 and samples["sopro_rtf"] > 0
    assert samples['sopro_http_responses_total{code="200"}'] > 0


def test_while_it_loads_and_while_it_drains_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    warm = threading.Event()
    real = type(models.model("v1.5", "int8", 5)).warm_up
    monkeypatch.setattr(type(models.model("v1.5", "int8", 5)), "warm_up", lambda self: (warm.wait(30), real(self))[1])
    with serving(tmp_path / "voices", ready=False) as live, live.client() as client:
        assert client.get("/healthz").status_code == 200
        for answer in (client.get("/readyz"), client.post("/v1/audio/speech", json={"input": TEXT})):
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
        assert error_of(answer)["code"] == "loading"
        warm.set()
        while client.get("/readyz").status_code != 200:
            pass
        live.service.scheduler.stop_taking()
        assert client.get("/readyz").json()["status"] == "draining"
        answer = client.post("/v1/audio/speech", json={"input": TEXT})
        assert answer.status_code == 503 and error_of(answer)["code"] == "draining"
        assert "retry-after" in answer.headers


def test_a_full_queue_is_429_with_retry_after_and_nothing_is_lost(tmp_path: Path) -> None:
    with serving(tmp_path / "voices", queue=2, width=1) as live:

        async def ask(client: httpx.AsyncClient, seed: int) -> httpx.Response:
            body = {"input": TEXT, "seed": seed, "response_format": "pcm"}
            return await client.post("/v1/audio/speech", json=body)

        async def all_of_them() -> list[httpx.Response]:
            async with httpx.AsyncClient(base_url=live.url, timeout=60) as client:
                return await asyncio.gather(*(ask(client, seed) for seed in range(40)))

        answers = asyncio.run(all_of_them())
        taken = [(seed, answer) for seed, answer in enumerate(answers) if answer.status_code == 200]
        assert len(taken) >= 3 and len(taken) < 40
        for seed, answer in taken:
            assert answer.content == pcm(live.wav(seed=seed))
        for answer in answers:
            if answer.status_code != 200:
                assert answer.status_code == 429 and error_of(answer)["code"] == "queue_full"
                assert 1 <= int(answer.headers["retry-after"]) <= 60
        stats = live.service.scheduler.stats()
        assert stats["finished"] == len(taken) and stats["refused"] == 40 - len(taken)


def test_the_servers_seed_is_for_requests_without_one(tmp_path: Path) -> None:
    with serving(tmp_path / "voices", seed=11) as live:
        assert live.post(input=TEXT, response_format="pcm").content == pcm(live.wav(seed=11))
        assert live.post(input=TEXT, response_format="pcm", seed=12).content == pcm(live.wav(seed=12))


def test_a_model_that_says_nothing_is_no_empty_file(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Late, "new_state", lambda self, options: EndCode(0, 0))
    monkeypatch.setattr(Sampler, "__call__", lambda self, logits: 0)
    for options in ({}, {"response_format": "pcm"}, {"stream_format": "sse"}):
        answer = live.post(input=TEXT, seed=1, **options)
        assert answer.status_code == 500 and error_of(answer)["code"] == "no_audio"


def test_speech_that_breaks_off_is_not_taken_for_whole(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    from sopro_np.serve.speech import Encoder

    real, calls = Encoder.feed, []

    def feed(self: Encoder, wav: np.ndarray) -> bytes:
        calls.append(wav)
        if len(calls) % 2 == 0:
            raise RuntimeError("an encoder that fails")
        return real(self, wav)

    monkeypatch.setattr(Encoder, "feed", feed)
    text = "The first sentence of a text. The second sentence of a text."
    with pytest.raises(httpx.RemoteProtocolError):
        live.post(input=text, seed=1, response_format="pcm")
    calls.clear()
    *_, last = events(live.post(input=text, seed=1, response_format="pcm", stream_format="sse").text)
    assert last["type"] == "error" and last["error"]["type"] == "server_error"
    assert "encoder that fails" not in json.dumps(last)
    live.wait_idle()
