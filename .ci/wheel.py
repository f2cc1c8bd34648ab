"""Is what `pip install .` has installed what was promised? Run by the Python it was installed for, from anywhere:

    .venv/bin/python -I .ci/wheel.py

Native kernels from a pack, no numba, a voice inside that speaks without any network, a quick start, a small wheel and
environment.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path

FIRST_AUDIO = 0.6  # seconds from the start of the process
SIZE = 97e6  # bytes of site-packages without pip and setuptools
WHEEL = 12e6  # bytes of our own files, deflated as in a wheel
ABSENT = ("numba", "llvmlite", "torch")
SITE = Path(sysconfig.get_path("purelib"))
PROGRAM = Path(sysconfig.get_path("scripts"), "sopro-np")
SAY = """
import sys
def offline(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"asked for the network: {event} {arguments}")
sys.addaudithook(offline)
from sopro_np.cli.main import main
code = main(sys.argv[1:])
found = sorted({name.split(".")[0] for name in sys.modules} & {"numba", "llvmlite", "torch", "cpuinfo"})
sys.exit(f"imported: {found}" if found else code)
"""


def main() -> None:
    for name in ABSENT:
        assert importlib.util.find_spec(name) is None, f"{name} is installed: no proof"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SOPRO_NP_")}
    with tempfile.TemporaryDirectory() as folder:

        def run(*command: str | Path) -> str:
            return subprocess.run(
                command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
            ).stdout

        facts = json.loads(run(PROGRAM, "doctor", "--json"))
        print(f"   {facts['ops']} ops, {facts['kernels']}")
        assert (facts["ops"], facts["kernels"]["source"]) == ("native", "pack")
        assert Path(facts["kernels"]["file"]).is_relative_to(SITE)
        say = ["say", "Hello.", "--ops", "native", "--seed", "1", "--quiet"]
        run(sys.executable, "-I", "-c", SAY, *say, "-o", "hello.wav")
        assert Path(folder, "hello.wav").stat().st_size > 20000
        run(PROGRAM, "voice", "hello.wav", "-o", "me.voice.safetensors")
        run(sys.executable, "-I", "-c", SAY, *say, "--voice", "me.voice.safetensors", "-o", "again.wav")

        starts = []
        for _ in range(5):
            start = time.perf_counter()
            command = [PROGRAM, *say, "--stream", "--raw", "-o", "-"]
            with subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as child:
                assert child.stdout and child.stdout.read(2)
                starts.append(time.perf_counter() - start)
                child.stdout.read()
        print(f"   first audio of a new process after {', '.join(f'{s:.2f}' for s in starts)} s (goal {FIRST_AUDIO})")

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in importlib.metadata.files("sopro_np") or []:
            if part.suffix != ".pyc" and ".." not in part.parts:
                archive.write(part.locate(), part)
    print(f"   our own files as a wheel: {packed.tell() / 1e6:.1f} MB (limit {WHEEL / 1e6:.0f})")
    assert packed.tell() < WHEEL

    own = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")
    files = [f for f in SITE.rglob("*") if f.is_file() and not f.relative_to(SITE).parts[0].startswith(own)]
    size = sum(f.stat().st_size for f in files)
    print(f"   site-packages without pip and setuptools: {size / 1e6:.1f} MB (limit {SIZE / 1e6:.0f})")
    assert size < SIZE


if __name__ == "__main__":
    main()
