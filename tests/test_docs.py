"""The code blocks of README and docs run, and what the pages name exists.

```sh and ```python blocks of a page run in order in one scratch folder, where the Quickstart's words were spoken and
README's block that makes `demo/` has run. A second word after the language says why a block is left out here:
`network`, or `long` (run with SOPRO_NP_DOCS=long). CI runs the Quickstart's own two; here without installation.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Tiny

from sopro_np.options import Options
from sopro_np.tensorfile import read_header

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(language, word after it, text) of every fenced block."""
    return [(m[1], m[2].strip(), m[3]) for m in BLOCK.finditer(page.read_text("utf-8"))]


def quickstart() -> list[str]:
    section = re.search(r"^## Quickstart$(.*?)^## ", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    assert section, "README has no section Quickstart"
    return [m[3] for m in BLOCK.finditer(section[1])]


def run(command: list[str], folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "OPENBLAS_NUM_THREADS": "1"}
    env.pop("SOPRO_NP_MODEL", None)
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tools/, the Quickstart's hello.wav, and `demo/` as README makes it."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "tools").symlink_to(ROOT / "tools")
    commands = [c for c in quickstart()[0].replace("\\\n", " ").split("&&") if "venv" not in c and "pip " not in c]
    assert len(commands) == 1, "say"
    [demo] = [text for _, _, text in blocks(ROOT / "README.md") if "-o demo" in text]
    for command in (commands[0], demo):
        run(["bash", "-euo", "pipefail", "-c", command], folder)
    assert (folder / "hello.wav").stat().st_size > 20000
    return folder


def test_quickstart_is_two_commands() -> None:
    first, second = quickstart()
    assert "pip install ." in first
    assert "sopro-np say" in first
    assert "pip install '.[test]'" in second
    assert "pytest" in second


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run(page: Path, scratch: Path) -> None:
    skipped = {"network"} if os.environ.get("SOPRO_NP_DOCS") == "long" else {"network", "long"}
    for language, word, text in blocks(page):
        if text in quickstart() or word in skipped or "-o demo" in text:
            continue
        assert language in ("sh", "python"), f"{page.name}: a block of {language!r} would go untested: indent it"
        command = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        run(command, scratch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    paths = set(re.findall(r"\b((?:sopro_np|tests|tools|docs)/[\w/-]*\w(?:\.\w+)?)", text))
    missing = [p for p in sorted(paths) if not (ROOT / p).exists()]
    assert not missing
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert not [link for link in links if not (page.parent / link).exists()]


def test_model_page_names_every_tensor(tiny: Callable[..., Tiny]) -> None:
    """Every tensor of both generations' files is covered by a name in docs/MODEL.md."""
    page = (ROOT / "docs" / "MODEL.md").read_text("utf-8")
    for arch in ("v1", "v1.5"):
        for name in read_header(tiny(arch, "int8").path)[0]:
            parts = [p for p in re.sub(r"_scale$", "", name).split(".")[1:] if not p.isdigit()]
            assert all(re.search(rf"\b{re.escape(p)}\b", page) for p in parts), name


def test_readme_options_are_the_options() -> None:
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert f"`{' '.join(Options.names())}`" in text
