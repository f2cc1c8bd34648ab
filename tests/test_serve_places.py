"""Where a server is put: disks that are full or read-only, users without rights or home, clocks that are set."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import tiny as models
from conftest import ROOT, on_kernels
from serving import TEXT, VOICE, error_of, pcm, serving, voices_folder

pytestmark = [on_kernels, pytest.mark.filterwarnings("ignore::sopro_np.errors.SoproWarning")]
NOBODY = 65534
MOUNTS = """
mount -t tmpfs -o mode=755 tmpfs /mnt && cp {model} /mnt/model.safetensors && mkdir /mnt/voices
mount -t tmpfs -o size=24k,uid={user},mode=700 tmpfs /mnt/voices
cp {voices}/*.voice.safetensors /mnt/voices
mount -o remount,bind,ro / && mount -o remount,ro /mnt && {last}
exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs "$@"
"""


def why_not() -> str:
    """Why a server cannot be put onto read-only disks here, as nobody; empty if it can."""
    if sys.platform != "linux" or os.geteuid() or not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        return "only root can mount"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "no namespaces here"
    tried = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", sys.executable, "-c", "import sopro_np.serve.app"]
    settings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    if subprocess.run(tried, capture_output=True, env=settings, check=False).returncode:
        return "nobody may not read this checkout or its Python"
    return ""


@contextmanager
def nobody(folder: Path, last: str = "true") -> Iterator[str]:
    """A server of the tiny model as nobody: no home, no rights, every disk read-only but its folder of voices, which
    has 24 KB -> its address. It ends with 0. last: a shell line, run by root when all is mounted."""
    model, voices = models.model_file("v1.5", "int8", 5), voices_folder(folder / "voices")
    script = MOUNTS.format(model=model, voices=voices, user=NOBODY, last=last)
    command = ["unshare", "--mount", "bash", "-euc", script, "bash", sys.executable, "-m", "sopro_np", "serve"]
    command += ["--model", "/mnt/model.safetensors", "--voices", "/mnt/voices", "--voice", VOICE]
    command += ["--port", "0", "--no-wyoming", "--threads", "1"]
    settings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=settings, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said, rest = "", ""
        try:
            while "ready" not in said:
                line = process.stderr.readline()
                assert line, said
                said += line
            yield re.findall(r"(http://\S+)/ ", said)[0]
        finally:
            process.terminate()
            _, rest = process.communicate(timeout=60)
        assert process.returncode == 0 and "Traceback" not in rest, rest


def spoken(folder: Path) -> bytes:
    """What the command's model says, at its own pace."""
    tts = models.model("v1.5", "int8", 5)
    return pcm(tts.synthesize(TEXT, tts.load_voice(folder / "voices" / f"{VOICE}.voice.safetensors"), seed=1))


def says(client: httpx.Client, voice: str = VOICE) -> bytes:
    body = {"input": TEXT, "voice": voice, "seed": 1, "response_format": "pcm"}
    answer = client.post("/v1/audio/speech", json=body)
    assert answer.status_code == 200, answer.text
    return answer.content


def upload(client: httpx.Client, name: str) -> httpx.Response:
    recording = (models.checkpoint("v1.5", 5) / "ref.wav").read_bytes()
    fields = {"name": name, "consent": "yes"}
    return client.post("/v1/audio/voices", data=fields, files={"audio_sample": ("me.wav", recording)})


def names(client: httpx.Client) -> list[str]:
    return [voice["id"] for voice in client.get("/v1/audio/voices").json()["voices"]]


def test_nobody_on_read_only_disks_without_a_home_until_the_last_one_is_full(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    with nobody(tmp_path) as url, httpx.Client(base_url=url, timeout=60) as client:
        expected = spoken(tmp_path)
        assert says(client) == expected
        made: list[str] = []
        while (answer := upload(client, f"new{len(made)}")).status_code == 200:
            made.append(f"new{len(made)}")
            assert len(made) < 24
        assert made and answer.status_code == 500 and "No space left" in error_of(answer)["message"]
        assert names(client) == [VOICE, *made]
        assert says(client) == expected and says(client, made[-1])
        assert client.delete(f"/v1/audio/voices/{made[0]}").status_code == 200
        assert upload(client, "again").status_code == 200  # nothing of what did not fit is left
        assert says(client, "again") == says(client, made[-1])


def test_a_folder_of_voices_that_is_read_only(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    with (
        nobody(tmp_path, "mount -o remount,ro /mnt/voices") as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        answer = upload(client, "new")
        assert answer.status_code == 500 and "Read-only" in error_of(answer)["message"]
        answer = client.delete(f"/v1/audio/voices/{VOICE}")
        assert answer.status_code >= 400 and error_of(answer)
        assert names(client) == [VOICE] and says(client) == spoken(tmp_path)


def test_killed_while_voices_are_written_it_finds_whole_ones_only(tmp_path: Path) -> None:
    """Of a write that was cut off at any byte, nothing speaks and nothing is listed."""
    folder = voices_folder(tmp_path / "voices")
    whole = (folder / f"{VOICE}.voice.safetensors").read_bytes()
    for i, size in enumerate((0, 1, len(whole) // 2, len(whole) - 1, len(whole))):
        (folder / f".sopro-{i}-0badcafe.part").write_bytes(whole[:size])  # as Replacement names them
    with serving(tmp_path / "voices") as live, live.client() as client:
        assert names(client) == [VOICE, "two"]
        assert upload(client, "new").status_code == 200
        assert names(client) == [VOICE, "new", "two"]


# ---------------------------------------------------------------- clocks


def test_a_clock_that_is_set_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock jumps by years at every look at it: requests, deadlines, limits and draining stay as they are."""
    real, looks = time.time, [0]
    jumps = (0.0, 1e9, -1e9, 3600.0, -3600.0, 2.0**31, -0.5)

    def jumping() -> float:
        looks[0] += 1
        return max(0.0, real() + jumps[looks[0] % len(jumps)])

    with serving(tmp_path / "voices") as live, live.client() as client:
        monkeypatch.setattr(time, "time", jumping)
        expected = pcm(live.wav())
        for i in range(2 * len(jumps)):
            body = {"input": TEXT, "seed": 1, "response_format": "pcm", "deadline": 60, "priority": "bulk"}
            answer = client.post("/v1/audio/speech", json=body)
            assert answer.status_code == 200 and answer.content == expected, i
        assert upload(client, "new").status_code == 200 and "new" in names(client)
        text = client.get("/metrics").text
        [total] = re.findall(r"^sopro_request_seconds_sum (\S+)$", text, re.M)
        assert 0 <= float(total) < 600
        monkeypatch.setattr(time, "time", real)
    assert looks[0] > 0
