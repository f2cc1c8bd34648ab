"""Carry out docs/deploy/Dockerfile without Docker: its RUN, COPY and ENV lines in folders with Debian in them.

    mmdebstrap --variant=minbase trixie base
    python tools/image_in_chroot.py base image
    python tools/image_in_chroot.py --run image

As root, on Linux. The first call makes `image`, the file system of the last stage, and tells its size without what slim
images leave out. `--run` starts its ENTRYPOINT and CMD as its USER, on a root that is mounted read-only, with an empty
folder on the VOLUME and a /tmp without exec; asks its HEALTHCHECK, lets it speak, makes a voice, ends it with SIGTERM.
What pip needs to reach an index (its settings, wheels) is named with --bind. Nothing is proven of Docker's own layers
and isolation, nor of the base image itself, which is made of the same packages.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "docs" / "deploy" / "Dockerfile"
NOT_IN_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "var/cache/apt", "var/log")


def instructions(text: str) -> list[tuple[str, str]]:
    """(word, rest) of each instruction of a Dockerfile, lines joined, comments left out."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def chroot(folder: Path, mounts: str, command: list[str], user: str = "0:0", **options: Any) -> subprocess.Popen[str]:
    """A command in a chroot with mounts and processes of its own, which vanish with it; mounts: shell lines."""
    script = f"""
        mount --bind {folder} {folder}
        {mounts}
        mount -t proc proc {folder}/proc
        mount --rbind /dev {folder}/dev
        exec /usr/sbin/chroot --userspec={user} --groups= {folder} "$@"
    """
    whole = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-euc", script, "chroot", *command]
    return subprocess.Popen(whole, text=True, **options)


def build(base: Path, image: Path, binds: list[str]) -> None:
    """All stages, one after the other; the last one becomes `image`."""
    passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()}
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **passed}
    stages: dict[str, Path] = {}
    folder, inside = image, "/"
    for word, rest in instructions(DOCKERFILE.read_text("utf-8")):
        print(f"{word} {rest}", flush=True)
        if word == "FROM":
            name = rest.split(" AS ")[1] if " AS " in rest else ""
            stages[name] = folder = image.with_name(f"{image.name}.{name}") if name else image
            inside = "/"
            subprocess.run(["cp", "-a", "-T", str(base), str(folder)], check=True)
            shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
        elif word == "WORKDIR":
            inside = rest
            (folder / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            *names, target = rest.split()
            start = stages[names.pop(0).removeprefix("--from=")] if names[0].startswith("--from=") else ROOT
            copy(start, names, folder / os.path.join(inside, target).lstrip("/"))
        elif word == "RUN":
            mounts = "\n".join(bind(folder, path) for path in binds)
            command = ["/bin/sh", "-c", f"cd {inside} && {rest}"]
            if chroot(folder, mounts, command, env=environment).wait():
                raise SystemExit(f"failed: {rest}")


def bind(folder: Path, path: str) -> str:
    """Shell lines that show SOURCE[:TARGET] of this machine inside."""
    source, _, target = path.partition(":")
    goal = shlex.quote(f"{folder}{target or source}")
    make = f"mkdir -p {goal}" if Path(source).is_dir() else f"mkdir -p $(dirname {goal}) && touch {goal}"
    return f"{make} && mount --bind {shlex.quote(source)} {goal}"


def copy(start: Path, names: list[str], goal: Path) -> None:
    """As COPY does; without what Dockerfile.dockerignore leaves out."""
    skip = shutil.ignore_patterns("__pycache__", "packs") if start == ROOT else None
    for source in (start / name.lstrip("/") for name in names):
        if source.is_dir():
            shutil.copytree(source, goal, symlinks=True, ignore=skip, dirs_exist_ok=True)
        else:
            goal.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, goal)


def size(image: Path) -> int:
    """Bytes on disk of an image, without what slim images leave out."""
    status = {path: path.lstat() for path in image.rglob("*") if not path.is_symlink() and path.is_file()}
    apart = (*NOT_IN_SLIM, "proc/", "dev/", "sys/")
    kept = {its.st_ino: its for path, its in status.items() if not str(path.relative_to(image)).startswith(apart)}
    return sum(its.st_blocks * 512 for its in kept.values())


def run(image: Path) -> None:
    """Its server, on the Dockerfile's terms. AssertionError where it does not do what it should."""
    steps = instructions(DOCKERFILE.read_text("utf-8"))
    words = dict(steps)  # the last of each kind
    user, volume = words["USER"], words["VOLUME"]
    owner, group = user.split(":")
    environment = dict(part.split("=", 1) for part in shlex.split(words["ENV"]))
    mounts = f"""
        mount -o remount,ro,bind {image}
        mount -t tmpfs -o size=1m,noexec tmpfs {image}/tmp
        mount -t tmpfs -o size=1m,uid={owner},gid={group} tmpfs {image}{volume}
    """
    command = [*json.loads(words["ENTRYPOINT"]), *json.loads(words["CMD"])]
    server = chroot(image, mounts, command, user, env=environment, stderr=subprocess.PIPE)
    assert server.stderr is not None
    try:
        for line in server.stderr:
            print(line, end="", flush=True)
            if "ready" in line:
                break
        health = json.loads(words["HEALTHCHECK"].split("CMD ", 1)[1])
        assert chroot(image, "", health, user, env=environment).wait() == 0
        status = Path(f"/proc/{children(server.pid)}/status").read_text("ascii")
        its = dict(line.split(":\t", 1) for line in status.splitlines())
        assert its["Uid"].split() == [owner] * 4 and not int(its["CapEff"], 16), status
        print(f"uid {owner}, no capabilities, {its['VmRSS'].strip()} resident")
        speech = {"input": "It speaks in a container.", "seed": 1, "response_format": "wav"}
        wav = ask("/v1/audio/speech", json.dumps(speech).encode())
        print(f"spoke {(len(wav) - 44) / 48000:.2f} s")
        parts = {"name": b"me", "consent": b"yes", 'audio_sample"; filename="me.wav': wav}
        form = b"".join(
            b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
            for name, value in parts.items()
        )
        made = ask("/v1/audio/voices", form + b"--x--\r\n", "multipart/form-data; boundary=x")
        assert json.loads(made)["id"] == "me"
        assert ask("/v1/audio/speech", json.dumps({**speech, "voice": "me"}).encode())[:4] == b"RIFF"
        print("made a voice")
        os.kill(children(server.pid), signal.SIGTERM)
        print(server.stderr.read(), end="")
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()


def children(parent: int) -> int:
    """The process that `unshare` started."""
    return int(Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()[0])


def ask(path: str, body: bytes, kind: str = "application/json") -> bytes:
    """A POST to the server in the chroot, which shares this machine's network."""
    request = urllib.request.Request(f"http://127.0.0.1:8000{path}", body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def main() -> int:
    """Build, or run; 0 if it went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="base and image; with --run: image")
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--bind", action="append", default=[], metavar="SOURCE[:TARGET]", help="for pip")
    args = parser.parse_args()
    folders = [folder.resolve() for folder in args.folders]
    if args.run:
        run(*folders)
        return 0
    build(*folders, args.bind)
    print(f"{folders[1]}: {size(folders[1]) / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
