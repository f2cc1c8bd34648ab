"""A process that downloads from the stand-in of the Hub, and the files of a repository.

The real huggingface_hub runs in processes of its own, because it reads its settings at import.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import tiny
from hub_standin import digest

# One request a line on stdin: the arguments of `download`, and a limit for the size of any written file. The
# library's own pauses between attempts are skipped; its blocks of 10 MB are made to fit our small files.
DRIVER = """
import json, resource, sys, time
import huggingface_hub.constants
from sopro_np.errors import SoproError
from sopro_np.hub import download
time.sleep = lambda seconds: None
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1 << 16
for line in sys.stdin:
    limit, arguments = json.loads(line)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    said = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit or soft, hard))
    try:
        answer = {"path": str(download(**arguments, progress=said.append))}
    except SoproError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    print(json.dumps({"path": None, "error": None, "message": "", "said": said, **answer}), flush=True)
"""


class Worker:
    """A process that downloads on request."""

    def __init__(self, folder: Path, endpoint: str, driver: str = DRIVER, **environment: str) -> None:
        self.cache, self.hf_home = folder / "cache", folder / "hf"
        given = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS"))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=(folder / "stderr").open("a"), cwd=tiny.ROOT,
            env={
                **given, "HF_ENDPOINT": endpoint, "HF_HOME": str(self.hf_home), "SOPRO_NP_CACHE": str(self.cache),
                "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1", "NO_PROXY": "127.0.0.1", **environment,
            },
        )  # fmt: skip

    def ask(self, generation: str = "v1.5", limit: int = 0, **arguments: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps([limit, {"generation": generation, **arguments}]) + "\n")
        self._process.stdin.flush()

    def download(self, generation: str = "v1.5", limit: int = 0, **arguments: Any) -> dict[str, Any]:
        """{path, error, message, said}; a traceback instead fails the test."""
        self.ask(generation, limit, **arguments)
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, (self.hf_home.parent / "stderr").read_text()
        return json.loads(line)  # type: ignore[no-any-return]

    def good(self, generation: str = "v1.5", **arguments: Any) -> Path:
        answer = self.download(generation, **arguments)
        assert answer["error"] is None, answer
        return Path(answer["path"])

    def bad(self, pattern: str, generation: str = "v1.5", **arguments: Any) -> None:
        """Refused in one line that matches; nothing of it is left in our cache, no wrong blob in the other."""
        before = self.contents()
        answer = self.download(generation, **arguments)
        assert answer["error"] in ("DownloadError", "ConvertError", "TokenizerError"), answer
        assert re.search(pattern, answer["message"]), answer["message"]
        assert "\n" not in answer["message"], answer["message"]
        assert self.contents() == before
        for blob in self.hf_home.glob("hub/models--*/blobs/*"):
            assert blob.suffix == ".incomplete" or digest(blob.read_bytes()) == blob.name

    def contents(self) -> dict[str, str]:
        """All of our cache."""
        files = self.cache.glob("*") if self.cache.exists() else ()
        return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}

    def output(self) -> str:
        """All that a process of its own driver prints."""
        return self._process.communicate()[0]

    def dead(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def repository(arch: str, seed: int = 1, parts: tuple[str, ...] = ("sopro", "tokenizer")) -> dict[str, bytes]:
    """Name -> content of the files that a published model has (`parts`: or its codec)."""
    folder = tiny.checkpoint(arch, seed)
    return {path.name: path.read_bytes() for part in parts for path in (folder / part).iterdir()}
