"""The files in docs/deploy, and every command line in the documentation, name options, paths and ports that exist."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from sopro_np.cli import wyoming
from sopro_np.cli.parser import build_parser
from sopro_np.serve.limits import MARGIN, Limits
from tools.image_in_chroot import DOCKERFILE, instructions

DEPLOY = DOCKERFILE.parent
UNIT, DROP_IN = DEPLOY / "sopro-np.service", DEPLOY / "sopro-np-lan.conf"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^```\w+[^\n]*\n(.*?)^```$|((?:^ {4}[^\n]*\n)+)|`(sopro-np [^`\n]*)`", re.M | re.S)
OPERATORS = set("();<>|&")


def parsed(words: list[str]) -> argparse.Namespace:
    """Arguments of a command line, its program first; AssertionError if it is none."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            return build_parser().parse_args(words[1:])
        except SystemExit as end:
            if end.code == 0:  # --help, --version
                return argparse.Namespace()
            raise AssertionError(f"{shlex.join(words)}: {said.getvalue()}") from end


def commands(text: str) -> Iterator[list[str]]:
    """Words of each call of the program in a shell text; not those of a text that is handed to another program."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.lstrip().startswith("docker "):  # there it is the name of an image
            continue
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split, words.commenters = True, ""
        call: list[str] | None = None
        try:
            for word in [*words, ";"]:
                if call is not None and (set(word) <= OPERATORS or word in ("done", "#")):
                    yield call[:-1] if word[0] == ">" and call[-1] in ("1", "2") else call
                    call = None
                elif call is not None:
                    call.append(word)
                elif word.rpartition("/")[2] == "sopro-np":
                    call = [word]
        except ValueError:  # an open quote: no shell line
            continue


def documented() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of each call in the documentation, but for mere names of commands in inline code."""
    for page in PAGES:
        for match in CODE.finditer(page.read_text("utf-8")):
            for call in commands(next(filter(None, match.groups()))):
                if not (match[3] and len(call) <= 2):
                    yield page.name, call


CALLS = list(documented())


def test_commands_of_the_documentation_can_be_called() -> None:
    assert len(CALLS) > 40 and {"serve", "batch", "say"} <= {call[1] for _, call in CALLS}
    for page, call in CALLS:
        try:
            parsed(call)
        except AssertionError as error:
            raise AssertionError(f"{page}: {error}") from None


@pytest.mark.parametrize("line", ["sopro-np serve --prot 1", "x | sopro-np say - --red", "a && b/sopro-np sing"])
def test_a_command_that_cannot_be_called_is_found(line: str) -> None:
    [call] = commands(line)
    with pytest.raises(AssertionError, match="sopro-np"):
        parsed(call)


# ---------------------------------------------------------------- Docker


STEPS = instructions(DOCKERFILE.read_text("utf-8"))
WORDS = dict(STEPS)  # the last of each kind: of the image that is run
ENTRY: list[str] = json.loads(WORDS["ENTRYPOINT"])


def test_the_dockerfile_copies_what_exists_and_is_not_ignored() -> None:
    rules = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    assert "*" in rules
    for word, rest in STEPS:
        if word == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            for source in sources:
                assert (ROOT / source).exists() and source in kept, source
    assert all((ROOT / name).exists() for name in kept)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    copied = " ".join(rest for word, rest in STEPS if word == "COPY")
    assert all(
        name in copied for name in ("hatch_build.py", project["readme"].split("/")[0], *project["license-files"])
    )
    extras = re.findall(r"'\.\[([\w,]+)\]'", WORDS_OF_RUN)
    assert extras and set(extras[0].split(",")) <= set(project["optional-dependencies"])


WORDS_OF_RUN = " ".join(rest for word, rest in STEPS if word == "RUN")


def test_the_image_serves_as_nobody_on_the_ports_that_it_names() -> None:
    args = parsed([*ENTRY, *json.loads(WORDS["CMD"])])
    assert WORDS["USER"] == "65534:65534" and args.i_know
    assert WORDS["EXPOSE"].split() == [str(args.port), str(wyoming.PORT)]
    assert f":{args.port}/readyz" in WORDS["HEALTHCHECK"]
    names = re.findall(r"\bSOPRO_NP_\w+", DOCKERFILE.read_text("utf-8"))
    source = "".join(path.read_text("utf-8") for path in (ROOT / "sopro_np").rglob("*.py"))
    assert names and all(f'"{name}"' in source for name in names)
    assert f"SOPRO_NP_VOICES={WORDS['VOLUME']}" in WORDS["ENV"]


def test_compose_runs_that_image_hardened() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    servers = {name: its for name, its in compose["services"].items() if its["image"] == "sopro-np"}
    assert len(servers) == 2
    for its in servers.values():
        args = parsed([*ENTRY, *its["command"]])
        assert its["read_only"] and its["cap_drop"] == ["ALL"] and its["user"] == WORDS["USER"]
        assert int(its["stop_grace_period"].rstrip("s")) > args.drain
        assert its["mem_limit"] == "1g" and args.memory < 1000
        assert (DEPLOY / its["build"]["context"]).resolve() == ROOT
        assert ROOT / its["build"]["dockerfile"] == DOCKERFILE
        assert [volume.split(":")[1] for volume in its["volumes"]] == [WORDS["VOLUME"]]
        for port in its.get("ports", []):
            host, _, inside = port.rsplit(":", 2)
            assert host == "127.0.0.1" and inside in WORDS["EXPOSE"].split()
        if not args.i_know:
            assert args.api_key_file == f"/run/secrets/{its['secrets'][0]}" and args.no_wyoming
            assert its["secrets"][0] in compose["secrets"]
    caddy = compose["services"]["caddy"]
    assert all(name in servers for name in caddy["depends_on"])
    assert caddy["environment"]["SOPRO_SERVER"].split(":")[0] in servers
    assert (DEPLOY / caddy["volumes"][0].split(":")[0]).exists()


def test_caddy_lets_the_largest_request_pass() -> None:
    text = (DEPLOY / "Caddyfile").read_text("utf-8")
    [size] = re.findall(r"max_size (\d+)MB", text)
    assert int(size) * 10**6 > Limits().sample_bytes + MARGIN
    assert f"127.0.0.1:{parsed(['sopro-np', 'serve']).port}" in text and "health_uri /readyz" in text


@pytest.mark.skipif(shutil.which("caddy") is None, reason="no caddy here")
def test_caddy_takes_its_file() -> None:
    command = ["caddy", "adapt", "--adapter", "caddyfile", "--config", str(DEPLOY / "Caddyfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "127.0.0.1:8000" in done.stdout, done.stderr


# ---------------------------------------------------------------- systemd


def options(path: Path) -> dict[str, str]:
    """Settings of a unit; of one that is given twice the last."""
    lines = [line for line in path.read_text("utf-8").splitlines() if "=" in line and line[0] not in "#["]
    return dict(line.split("=", 1) for line in lines)


def test_the_unit_leaves_time_and_memory_enough() -> None:
    its, lan = options(UNIT), options(DROP_IN)
    args, far = parsed(shlex.split(its["ExecStart"])), parsed(shlex.split(lan["ExecStart"]))
    assert int(its["TimeoutStopSec"]) > args.drain and its["MemoryMax"] == "1G" and args.memory < 1000
    assert args.voices == far.voices == f"/var/lib/{its['StateDirectory']}"
    assert far.api_key_file == "${CREDENTIALS_DIRECTORY}/" + lan["LoadCredential"].split(":")[0]
    assert its["DynamicUser"] == "yes" and its["ProtectSystem"] == "strict" and its["NoNewPrivileges"] == "yes"
    assert its["IPAddressDeny"] == "any" and not args.i_know and far.no_wyoming


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("lan", [False, True])
def test_systemd_takes_the_unit(tmp_path: Path, lan: bool) -> None:
    def place(source: Path, target: Path) -> None:
        target.parent.mkdir(exist_ok=True)
        target.write_text(source.read_text("utf-8").replace("/opt/sopro/bin/sopro-np", "/bin/true"), "utf-8")

    place(UNIT, tmp_path / UNIT.name)
    if lan:
        place(DROP_IN, tmp_path / f"{UNIT.name}.d" / "lan.conf")
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or UNIT.name in line]
    assert done.returncode == 0 and not ours, done.stderr
